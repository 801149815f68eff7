"""Checkpoints of a configuration that cannot serve."""

import pytest
from architectures import architecture
from hydra import compose
from tiny import save, tiny_tokenizer

from cwpo.checks.checkpoints import checkpoint_problems
from cwpo.config.commands import register
from cwpo.pipeline.arms import composing


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("method=cw_po pair.weak={}", "pair.weak"),
        ("method=cw_po annotator=dpo pair.weak={}", None),
        ("method=human pair.weak={}", None),
        ("method=human gold=trained pair.strong={}", "pair.strong"),
        ("method=human gold=trained gold.path={}", "gold.path"),
        ("method=human pair.strong={}", None),
    ],
)
def test_a_model_without_a_sequence_classifier_is_refused_where_it_gets_a_scalar_head(tmp_path, words, refused):
    tokenizer = tiny_tokenizer()
    save(architecture("granite", vocab_size=len(tokenizer)), tmp_path, tokenizer)
    register()
    with composing():
        cfg = compose("config", overrides=words.format(tmp_path).split())
    problems = checkpoint_problems(cfg, ask_hub=True)
    assert [problem.key for problem in problems] == ([refused] if refused else [])
    assert all(
        "of type granite, for which transformers has no sequence classifier" in problem.text for problem in problems
    )
