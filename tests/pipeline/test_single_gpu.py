"""scale=single_gpu: its headline experiment on tiny copies in the published layouts, and preflight without a hub."""

import subprocess
import sys

import pandas as pd
import paper_copies
import pytest

from cwpo.config.commands import PreflightConfig
from cwpo.config.schema import CONF
from cwpo.config.update_sizes import sizes_of
from cwpo.errors import InputError
from cwpo.pipeline.arms import expand
from cwpo.planning.preflight.report import preflight

ARMS = ["human", "human_all", "ws_dpo", "ws_bt", "cw_po", "filter"]


def test_the_headline_experiment_is_what_it_says():
    arms = expand(["experiment=headline", "scale=single_gpu"], look=False)
    assert len(arms) == 2 * 2 * len(ARMS) * 3
    assert list(dict.fromkeys(arm.cfg.method.name for arm in arms)) == ARMS
    for arm in arms:
        cfg = arm.cfg
        assert (cfg.data.pairs, cfg.data.test_pairs, cfg.data.length_rule) == (8000, 500, "characters")
        assert (cfg.lora.enabled, cfg.lora.r, cfg.generation.max_new_tokens) == (True, 8, 128)
        assert (cfg.sft.epochs, cfg.alignment.epochs) == (1, 3)
        assert cfg.alignment.learning_rate == sizes_of(cfg).matched
        assert cfg.method.name != "filter" or cfg.method.selection.value == 0.3
        assert max(map(cfg.plan.parameters.get, (cfg.pair.weak, cfg.pair.strong))) < 2


def test_preflight_without_a_hub_lists_what_is_missing_with_its_fix(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("cwpo.planning.preflight.report.gpus", list)
    with pytest.raises(InputError) as refused:
        preflight(PreflightConfig(experiment="core", scale="single_gpu", store=str(tmp_path / "store")))
    problems = sorted(refused.value.problems)
    models = ["facebook/opt-125m", "facebook/opt-1.3b", "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B"]
    models.append("Skywork/Skywork-Reward-V2-Qwen3-1.7B")
    expected = [(f"={name} is not pinned", "scripts/lock_assets.py") for name in models]
    expected += [(f"={name} is neither", f"hf download {name} --revision ") for name in models]
    expected += [("data.path=Anthropic/hh-rlhf", "hf download Anthropic/hh-rlhf --repo-type dataset")]
    expected += [("no GPU is here", "gpu_gib=80")]
    assert len(problems) == len(expected)
    for part, fix in expected:
        assert any(part in problem and fix in problem for problem in problems), (part, problems)


@pytest.mark.slow
def test_the_headline_experiment_runs_from_the_command(tmp_path):
    made = {
        "models.opt_125m": paper_copies.opt(tmp_path / "opt-125m"),
        "models.opt_1_3b": paper_copies.opt(tmp_path / "opt-1.3b"),
        "models.qwen_0_5b": paper_copies.qwen(tmp_path / "qwen-0.5b"),
        "models.qwen_1_5b": paper_copies.qwen(tmp_path / "qwen-1.5b"),
        "reward_models.skywork": paper_copies.skywork_qwen(tmp_path / "skywork"),
        "data.path": paper_copies.published_folder(tmp_path / "data", 30, 6),
    }
    words = ["generation.max_new_tokens=8", *(f"{key}={path}" for key, path in made.items())]
    words += [f"annotator.{name}.epochs=1" for name in ("training", "sft_training", "dpo_training")]
    command = [sys.executable, str(CONF.parent / "scripts" / "reproduce.py"), "scale=single_gpu", "seeds=[0]"]
    command += [f"store={tmp_path}/store", f"results={tmp_path}/results", f"overrides={words}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    rows = pd.read_csv(tmp_path / "results" / "single_gpu" / "runs.csv")
    assert len(rows) == 2 * 2 * len(ARMS) and set(rows["experiment"]) == {"headline"}
    assert rows["gra"].between(0, 1).all() and rows["n_eval"].eq(6).all()
    assert (tmp_path / "results" / "single_gpu" / "tables").is_dir()
