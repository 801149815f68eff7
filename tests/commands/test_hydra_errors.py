"""Arguments that Hydra's grammar cannot read: each message names the argument and the fix, in our words."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from cwpo.commands.hydra_errors import explain

QUOTE = "close all brackets and quotes, and quote a text"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("name=a b c?(", f"; {QUOTE} that holds brackets, quotes, = , or :, as in 'name=\"two (words)\"'"),
        ("data.pairs=(3", f"; {QUOTE}"),
        ("seed==3", f"; {QUOTE}"),
        ("name='abc", f"; {QUOTE}"),
        ("method=cw_po method=x", f"; {QUOTE}"),
        ("name=f(x)", f": Hydra takes it for a call of a function (Unknown function 'f'); {QUOTE}"),
        ("seed=1,", ": a value is missing beside a comma; remove the comma"),
        ("seed=,1", ": a value is missing beside a comma"),
        ("method=a,,b", ": a value is missing beside a comma"),
        ("overrides=[a=1,b:{]", "; close all brackets and quotes, and quote each element that holds ="),
        ("seed", "; write key=value"),
        ("a b=3", "; write key=value"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_fix(word, said):
    with pytest.raises(OverrideParseException) as refused:
        OverridesParser.create().parse_overrides([word])
    message = explain(refused.value)
    assert message.startswith(f"cannot read {word!r}{said}") and "expecting" not in message
