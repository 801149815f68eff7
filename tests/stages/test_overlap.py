"""Data sets that overlap or lie one after the other: which pairs come from the other set, which prompts are evaluated."""

import hashlib

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from cwpo.stages import generate, mix_labels, mix_unlabeled
from cwpo.stages.base import Work


def table(folder, ids, splits, held_out=()):
    folder.mkdir()
    pd.DataFrame({"pair_id": ids, "split": splits}).to_parquet(folder / "pairs.parquet")
    pd.DataFrame({"pair_id": list(held_out), "split": "held_out"}, dtype=str).to_parquet(folder / "held_out.parquet")
    return folder


def test_no_pair_that_the_arm_labels_or_holds_out_comes_back_from_the_other_set(tmp_path):
    labeled, unlabeled = [f"l{i}" for i in range(10)], [f"u{i}" for i in range(10)]
    own = table(tmp_path / "own", labeled + unlabeled, ["labeled"] * 10 + ["unlabeled"] * 10, ["h0", "h1"])
    theirs = [*unlabeled[:5], "h0", *(f"x{i}" for i in range(10))]
    other = table(tmp_path / "other", [*theirs, "h1", "y"], ["labeled"] * 16 + ["unlabeled"] * 2)
    labels = {"other": "other", "own_share": 0.2, "poison_fraction": 0.0, "unlabeled": "both"}
    config = OmegaConf.create({"seed": 0, "labeled": labels})
    work = Work(tmp_path, config, {"prepare": own, "other": other}, tracker=None)
    assert mix_labels.run(work) == {"labeled": 10, "own": 2}
    mixed = set(pd.read_parquet(tmp_path / "labeled.parquet")["pair_id"])
    assert len(mixed & set(labeled)) == 2 and all(name.startswith("x") for name in mixed - set(labeled))
    mix_unlabeled.run(work)
    pairs = pd.read_parquet(tmp_path / "pairs.parquet")
    assert set(pairs[pairs["split"] == "unlabeled"]["pair_id"]) == {*unlabeled, "y"}


def test_a_part_of_the_test_prompts_is_drawn_from_all_folders(tmp_path, monkeypatch):
    texts = [f"{folder} {number}" for folder in ("harmless", "helpful") for number in range(200)]
    ids = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]
    prepared = table(tmp_path / "prepare", ids, ["test"] * 400)
    pairs = pd.read_parquet(prepared / "pairs.parquet").assign(prompt=texts)
    pairs.to_parquet(prepared / "pairs.parquet")
    drawn = {}

    def instead(work, tokenizer, prompts, settings):
        drawn["prompts"] = prompts
        return prompts.assign(response="r", n_tokens=1, truncated=False, same_tokens=True)

    monkeypatch.setattr(generate, "_by_transformers", instead)
    monkeypatch.setattr("cwpo.models.policy.load_tokenizer", lambda folder: None)
    monkeypatch.setattr("cwpo.models.policy.context_length", lambda folder: None)
    rows = pd.DataFrame({"prompt_id": ids, "prompt": texts})
    monkeypatch.setattr(generate, "with_room", lambda *_: (rows, 0))
    config = {"seed": 0, "model_tag": "sft", "text_version": 1, "evaluation": {"prompts": 100}}
    config["generation"] = {"engine": "transformers", "temperature": 1.0, "top_k": 0, "max_new_tokens": 4}
    generate.run(Work(tmp_path, OmegaConf.create(config), {"prepare": prepared, "model": tmp_path}, tracker=None))
    first = drawn["prompts"]["prompt"].str.startswith("harmless").sum()
    assert len(drawn["prompts"]) == 100 and 30 < first < 70
    assert np.all(np.diff([texts.index(text) for text in drawn["prompts"]["prompt"]]) > 0)
