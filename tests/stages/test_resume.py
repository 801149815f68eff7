"""Stages that a kill interrupts go on from their last shard and write what an undisturbed run writes."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from cwpo.config.schema import EvaluationConfig, GenerationConfig
from cwpo.models.generation import sample_responses
from cwpo.stages import evaluate, score_gold
from cwpo.stages.base import Work
from cwpo.stages.evaluate import EVALUATE
from cwpo.stages.generate import GENERATE
from cwpo.stages.score_gold import SCORE_GOLD

ROWS = 10


class Gold:
    """The length of a response as its reward, from the call `dies` on a kill."""

    def __init__(self, calls: list[int], dies: int | None) -> None:
        self.calls, self.dies = calls, dies

    def rewards(self, prompts, responses) -> np.ndarray:
        self.calls.append(len(prompts))
        if len(self.calls) == self.dies:
            raise KeyboardInterrupt
        return np.array([len(text) for text in responses], float)


@pytest.fixture
def parents(tmp_path, tiny_checkpoint):
    """The outputs that the three stages read: ROWS test pairs, responses of two models, and no labels."""
    names = [f"p{i}" for i in range(ROWS)]
    texts = pd.DataFrame({"prompt": [f"ask {i}" for i in range(ROWS)], "response_a": "yes", "response_b": "n"})
    pairs = texts.assign(pair_id=names, split="test", human_label="a")
    responses = texts.assign(prompt_id=names, response=[i * "x" for i in range(ROWS)], n_tokens=3)
    (tmp_path / "parents").mkdir()
    pairs.to_parquet(tmp_path / "parents" / "pairs.parquet")
    responses.assign(model_tag="m", truncated=False).to_parquet(tmp_path / "parents" / "responses.parquet")
    weights = pairs.assign(weight=1.0, chosen="yes")[["pair_id", "weight", "chosen"]]
    weights.to_parquet(tmp_path / "parents" / "preferences.parquet")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model").symlink_to(tiny_checkpoint)
    roles = ("prepare", "generate", "generate_sft", "weight")
    return {"model": tmp_path / "model", **dict.fromkeys(roles, tmp_path / "parents")}


CONFIG = OmegaConf.create(
    {
        "generation": GenerationConfig(max_new_tokens=6, batch_size=1),
        "evaluation": EvaluationConfig(),
        "seed": 0,
        "model_tag": "sft",
        "text_version": None,
        "gold": None,
    }
)


STAGES = {
    "generate": (GENERATE, "responses.parquet", [4, 4, 2, 2]),
    "score_gold": (SCORE_GOLD, "gold.parquet", [4, 4, 4, 4, 4, 2, 2]),
    "evaluate": (EVALUATE, "rewards.parquet", [4, 4, 2, 2, 4, 4, 2]),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_killed_stage_goes_on_from_its_last_shard(name, parents, tmp_path, monkeypatch):
    stage, file, asked = STAGES[name]
    calls: list[int] = []

    def run(place: str, dies: int | None) -> bytes:
        gold = Gold(calls, dies)
        monkeypatch.setattr("cwpo.models.gold.load_gold", lambda *a: gold)
        monkeypatch.setattr("cwpo.models.generation.sample_responses", counting(gold))
        (tmp_path / place).mkdir(exist_ok=True)
        tracker = SimpleNamespace(shows=False)
        stage.run(Work(tmp_path / place, CONFIG, parents, tracker, scratch=tmp_path / f"{place}.scratch"))
        return (tmp_path / place / file).read_bytes()

    for module in (score_gold, evaluate):
        monkeypatch.setattr(module, "SHARD", 4)
    whole = run("whole", None)
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        run("killed", 3)
    assert run("killed", None) == whole
    assert calls == asked


def counting(gold: Gold):
    def sample(model, tokenizer, prompts, seeds, **settings):
        gold.rewards(prompts, prompts)
        return sample_responses(model, tokenizer, prompts, seeds, **settings)

    return sample
