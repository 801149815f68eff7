"""scripts/align.py and scripts/compare.py: weighted pairs to an aligned model with its card, and what it answers before and after."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own.test_annotate import composed, run
from safetensors.torch import load_file

from cwpo.data.rows import read_prompts
from cwpo.errors import InputError
from cwpo.models.adapters import base_of, save_adapters
from cwpo.models.folders import TENSORS
from cwpo.models.policy import load_tokenizer
from cwpo.own.align import _test_pairs, margins, preference_accuracy
from cwpo.own.checks import check_align, check_compare
from cwpo.own.compare import _distinct, summary
from cwpo.own.weighted import keep_confident, read_weighted
from cwpo.training.fit import Start, adapted, base_under

SMALL = ["sft.epochs=1", "alignment.epochs=2", "alignment.learning_rate=1e-2", "alignment.batch_size=8"]


def rows(n=24):
    return [
        {
            "prompt": f"Ask {i}?",
            "chosen": f" yes {i}",
            "rejected": f" no {i}",
            "weight": (i + 1) / n,
            "confidence": None if i < 4 else i / n,
            "label_source": "human" if i < 4 else "annotator",
        }
        for i in range(n)
    ]


def saved(path: Path, table) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in table))
    return str(path)


@pytest.fixture(scope="module")
def aligned(tmp_path_factory, tiny_checkpoint) -> Path:
    folder = tmp_path_factory.mktemp("align")
    pd.DataFrame(rows()).to_parquet(folder / "preferences.parquet")
    labels = [
        {"prompt": f"Ask {i}?", "response_a": f" yes {i}", "response_b": f" no {i}", "label": "a"}
        for i in range(30, 50)
    ]
    test = saved(folder / "test.jsonl", labels)
    words = [
        f"preferences={folder}/preferences.parquet",
        f"model={tiny_checkpoint}",
        f"out={folder}/aligned",
        f"test={test}",
    ]
    return run("align", *words, *SMALL)[0]


def test_test_pairs_that_do_not_fit_are_named_as_such(tiny_checkpoint, tmp_path):
    pd.DataFrame(rows()).to_parquet(tmp_path / "preferences.parquet")
    long = [{"prompt": "Ask?", "response_a": " yes" * 600, "response_b": " no", "label": "a"}]
    words = [f"preferences={tmp_path}/preferences.parquet", f"model={tiny_checkpoint}", f"out={tmp_path}/out"]
    test = saved(tmp_path / "test.jsonl", long)
    with pytest.raises(InputError, match=rf"test={test}: 0 of 1 rows can be used"):
        run("align", *words, f"test={test}", *SMALL)


def test_test_pairs_left_out_and_prompts_trained_on_are_counted(tiny_checkpoint, tmp_path):
    pairs = [{"prompt": f"Ask {i}?", "response_a": " yes", "response_b": " no", "label": "a"} for i in range(5)]
    pairs[1] |= {"response_a": " yes" * 600}
    pairs[2] |= {"label": None}
    test, said = saved(tmp_path / "test.jsonl", pairs), []
    cfg = composed("align", "preferences=p", f"model={tiny_checkpoint}", "out=o", f"test={test}")
    assert _test_pairs(cfg, tmp_path, pd.Series(["Ask 0?", "Ask 2?"]), said.append)["row"].tolist() == [1, 4, 5]
    assert said == [
        f"test={test}: 5 rows, 3 labelled pairs to test on; left out: unlabeled 1 (row 3); more_than_128_tokens 1 (row 2)",
        "  the model is trained on the prompts of 1 of them, so it will look better than it is",
    ]


def test_one_of_several_splits_is_chosen_by_the_setting_that_the_message_names(tmp_path):
    from datasets import Dataset, DatasetDict

    DatasetDict({"one": Dataset.from_list(rows(3)), "two": Dataset.from_list(rows(5))}).save_to_disk(tmp_path / "d")
    path = str(tmp_path / "d")
    with pytest.raises(InputError, match="has the splits one, two; choose with preferences_split="):
        read_weighted(path)
    words = [f"preferences={path}", "preferences_split=two", "model=m", "out=o"]
    assert len(read_weighted(path, split=composed("align", *words).preferences_split)[0]) == 5
    with pytest.raises(InputError, match="has the splits one, two; choose with split="):
        list(read_prompts(path, "prompt"))
    cfg = composed("compare", "before=b", "after=a", f"prompts={path}", "split=two", "gold=g", "out=o")
    assert len(list(_distinct(cfg))) == 5


def test_the_aligned_model_is_an_ordinary_checkpoint_with_a_card(aligned, tiny_checkpoint):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (aligned / "sft", aligned))
    AutoTokenizer.from_pretrained(aligned)
    assert any((a != b).any() for a, b in zip(before.parameters(), after.parameters(), strict=True))
    card = (aligned / "README.md").read_text()
    for part in (
        f"| trained from | {tiny_checkpoint} |",
        "| data | preferences.parquet |",
        "| pairs, by label | 20 annotator, 4 human |",
        "| objective | dpo, beta 0.5, 2.0 epochs |",
        "| commit of the code |",
        "| mean weight | 0.5208 |",
        "| implicit-reward accuracy on test pairs |",
    ):
        assert part in card
    assert sorted(p.name for p in aligned.parent.iterdir()) == ["aligned", "preferences.parquet", "test.jsonl"]


def test_adapters_alone_are_aligned_and_compared(aligned, tiny_checkpoint, tmp_path):
    """SFT's adapters lie beside those that alignment went on with; both name the model, whose content is known."""
    pytest.importorskip("peft")
    lora = ["lora.enabled=true", "lora.save=adapters", "lora.base_dtype=bfloat16"]
    words = [f"preferences={aligned.parent}/preferences.parquet", f"model={tiny_checkpoint}", f"out={tmp_path}/out"]
    out, _ = run("align", *words, *SMALL, *lora)
    assert base_of(out) == base_of(out / "sft") and base_of(out).found_from(out) == str(tiny_checkpoint)
    before, after = (load_file(folder / TENSORS) for folder in (out / "sft", out))
    assert before.keys() == after.keys() and any((before[name] != after[name]).any() for name in before)
    assert "library_name: peft" in (out / "README.md").read_text()
    check_compare(
        composed("compare", f"before={out}/sft", f"after={out}", "prompts=p", "gold=oracle", f"out={tmp_path}/c")
    )
    with pytest.raises(InputError, match="holds a LoRA adapter"):
        check_align(composed("align", f"preferences={aligned.parent}/preferences.parquet", f"model={out}", "out=x"))


def test_before_alignment_no_margin_grew_though_the_frozen_weights_are_rounded(tiny_checkpoint, tmp_path):
    pytest.importorskip("peft")
    lora = ["lora.enabled=true", "lora.save=adapters", "lora.base_dtype=bfloat16", "device=cpu"]
    cfg = composed("align", "preferences=p", f"model={tiny_checkpoint}", "out=o", *lora)
    start = Start(tiny_checkpoint)
    untrained = adapted(start, cfg.lora, cfg.seed)
    save_adapters(untrained, base_under(start, cfg.lora, tmp_path / "out"), tmp_path / "out")
    load_tokenizer(tiny_checkpoint).save_pretrained(tmp_path / "out")
    first, last = (
        margins(Start(path), pd.DataFrame(rows(4)), cfg, "cpu") for path in (tiny_checkpoint, tmp_path / "out")
    )
    assert np.array_equal(first, last)


def test_it_learned_what_is_preferred(aligned):
    numbers = json.loads((aligned / "alignment.json").read_text())
    assert numbers["pairs"] == 24 and numbers["dropped"] == {}
    assert numbers["test"]["implicit"]["mean"] > 0.9 and numbers["test"]["implicit"]["n"] == 20


def test_compare_samples_from_both(aligned, tiny_checkpoint, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    reward = AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint, num_labels=1)
    reward.save_pretrained(tmp_path / "reward")
    AutoTokenizer.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "reward")
    data = saved(tmp_path / "p.jsonl", [*rows(12), *rows(12), {"prompt": "x" * 500}])
    words = [
        f"before={aligned}/sft",
        f"after={aligned}",
        f"prompts={data}",
        f"gold={tmp_path}/reward",
        "max_new_tokens=5",
    ]
    out, said = run("compare", *words, f"out={tmp_path}/out")
    numbers = json.loads((out / "comparison.json").read_text())
    assert (numbers["prompts"], numbers["prompts_without_room"]) == (12, 1)
    assert 0 <= numbers["win_rate"]["low"] <= numbers["win_rate"]["mean"] <= numbers["win_rate"]["high"] <= 1
    samples = pd.read_json(out / "samples.jsonl", lines=True)
    assert samples["prompt"].is_unique and len(samples) == 12
    wins = (samples["after_reward"] > samples["before_reward"]).mean() + 0.5 * (
        samples["after_reward"] == samples["before_reward"]
    ).mean()
    assert numbers["win_rate"]["mean"] == pytest.approx(wins)
    assert any("after wins " in line and "cut at max_new_tokens" in line for line in said)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "p.jsonl", "reward"]


def test_summary_by_hand():
    table = pd.DataFrame(
        {"before": ["x", "xy"], "after": ["x", "z"], "before_reward": [1.0, 1.0], "after_reward": [1.0, 3.0]}
    )
    table = table.assign(before_truncated=[True, False], after_truncated=False)
    found = summary(table)
    assert (found["win_rate"]["mean"], found["tie_rate"], found["reward_difference"]["mean"]) == (0.75, 0.5, 1.0)
    assert found["truncated"] == {"before": 0.5, "after": 0.0}
    won = summary(pd.concat([table[1:]] * 3))["win_rate"]
    assert won["low"] < 0.5 and won["high"] == won["mean"] == 1.0  # three wins of three are too few to tell
    with pytest.raises(InputError, match="1 of 4 rewards are NaN or infinite"):
        summary(table.assign(after_reward=[math.nan, 1.0]))


def test_preference_accuracy_by_hand():
    found = preference_accuracy(np.array([1.0, -1.0, -1.0, 2.0]), np.array([2.0, 1.0, -2.0, 2.0]), np.arange(4))
    means = {name: value["mean"] for name, value in found.items()}
    assert means == {"likelihood_before": 0.5, "likelihood_after": 0.75, "likelihood_change": 0.25, "implicit": 0.625}


def test_only_the_most_confident_and_all_of_peoples_labels(tmp_path):
    table, _ = read_weighted(saved(tmp_path / "p.jsonl", rows()))
    kept = keep_confident(table, 0.25, "p.jsonl")
    assert kept["label_source"].value_counts().to_dict() == {"annotator": 5, "human": 4}
    assert kept["confidence"].min() == 19 / 24
    assert len(keep_confident(table, 1.0, "p.jsonl")) == 24
    certain = table.assign(confidence=[None] * 4 + [1.0] * 20, margin=[None] * 4 + [*range(40, 60)])
    assert keep_confident(certain, 0.25, "p.jsonl")["margin"].dropna().tolist() == [55, 56, 57, 58, 59]
    with pytest.raises(InputError, match="keep=0.5 chooses by confidence, and no row of p.jsonl has one"):
        keep_confident(table.assign(confidence=None), 0.5, "p.jsonl")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weight": None}, "row 2 (None) has a weight that is not a finite number of at least 0"),
        ({"weight": -1}, "row 2 (-1) has a weight that is not a finite"),
        ({"weight": True}, "row 2 (True) has a weight that is not a finite"),
        ({"chosen": 3}, "row 2 (3) has a chosen that is neither text nor"),
    ],
)
def test_wrong_rows_are_named(change, said, tmp_path):
    table = rows(4)
    table[1] |= change
    with pytest.raises(InputError) as error:
        read_weighted(saved(tmp_path / "p.jsonl", table))
    assert said in str(error.value)


def test_weights_are_never_assumed(tmp_path):
    bare = [{k: v for k, v in row.items() if k != "weight"} for row in rows(3)]
    with pytest.raises(InputError, match="row 1 lacks the column weight; .*Weights are never assumed"):
        read_weighted(saved(tmp_path / "p.jsonl", bare))


def test_unusable_rows_are_counted(tmp_path):
    table = [*rows(3), {**rows(1)[0]}, {**rows(1)[0], "chosen": " "}, {**rows(1)[0], "chosen": " no 0"}]
    kept, done = read_weighted(saved(tmp_path / "p.jsonl", table))
    assert len(kept) == 3
    assert done.dropped == {"repeated": [4], "empty_response": [5], "identical_responses": [6]}
