"""Checkpoints of a configuration that cannot serve."""

import pytest
from architectures import architecture
from config.test_schema import composed
from tiny import save, tiny_tokenizer

from cwpo.checks.checkpoints import checkpoint_problems


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
    problems = checkpoint_problems(composed(*words.format(tmp_path).split()), ask_hub=True)
    assert [problem.key for problem in problems] == ([refused] if refused else [])
    assert all(
        "of type granite, for which transformers has no sequence classifier" in problem.text for problem in problems
    )


@pytest.mark.parametrize(
    ("words", "refused"), [("127", False), ("128", True), ("128 until=assess", False), ("128 until=generate", True)]
)
def test_samples_that_leave_no_prompt_any_room_are_refused(tmp_path, words, refused):
    tokenizer = tiny_tokenizer()
    save(architecture("opt", vocab_size=len(tokenizer), max_position_embeddings=128), tmp_path, tokenizer)
    problems = checkpoint_problems(
        composed(f"pair.strong={tmp_path}", *f"generation.max_new_tokens={words}".split()), ask_hub=True
    )
    assert len(problems) == refused and all("has 128 tokens; use fewer" in problem.text for problem in problems)
