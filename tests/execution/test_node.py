"""One stage and the local files that it reads."""

import dataclasses
import json

import pytest

from cwpo.errors import InputError
from cwpo.execution.node import Settings, run_node
from cwpo.pipeline.arms import expand


def test_nothing_is_kept_that_was_read_from_files_that_changed(tiny_checkpoint, tmp_path):
    """A stage's key names the content that its files had when the command began, perhaps hours before the stage."""
    rows = [{"prompt": f"q{i}", "response_a": f"yes {i}", "response_b": "no", "label": "a"} for i in range(20)]
    text, pairs = "".join(json.dumps(row) + "\n" for row in rows), tmp_path / "pairs.jsonl"
    pairs.write_text(text)
    models = [f"{key}={tiny_checkpoint}" for key in ("pair.weak", "pair.strong", "gold.path")]
    words = ["data=jsonl", f"data.path={pairs}", *models, "gold=trained", "method=human", f"store={tmp_path / 'store'}"]
    (arm,) = expand(words)
    node, settings = arm.nodes["prepare"], Settings.of(arm.cfg)

    def change(work):
        pairs.write_text(text.replace("yes", "aye"))
        return {}

    while_it_runs = dataclasses.replace(node, stage=dataclasses.replace(node.stage, run=change))
    for each in (while_it_runs, node):  # at the second the file has changed before
        with pytest.raises(InputError, match=r"pairs.jsonl changed while this command ran"):
            run_node(each, settings)
    pairs.write_text(text)  # the same content at another time is no change
    assert run_node(node, settings)
