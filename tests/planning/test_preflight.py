"""What preflight finds: all at once, each with its fix, and nothing where nothing is wrong."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import paper_copies
import pytest
from config.test_schema import composed
from transformers import AutoModelForCausalLM, OPTConfig

from cwpo.config.commands import PreflightConfig
from cwpo.config.schema import CONF, LoraConfig, TrainingConfig
from cwpo.errors import InputError
from cwpo.planning.preflight import report
from cwpo.planning.preflight.found import data_problems, tokenizer_problems
from cwpo.planning.preflight.machine import credential_problems, disk_of
from cwpo.planning.preflight.memory import GIB, Shape, sampling_need, shape_of, stage_needs, training_need
from cwpo.planning.preflight.report import preflight


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> list[str]:
    """Overrides for table 3 with the small pair on HH-RLHF's harmless part, everything here."""
    root = tmp_path_factory.mktemp("local")
    made = {
        "models.opt_125m": paper_copies.opt(root / "opt-125m"),
        "models.opt_1_3b": paper_copies.opt(root / "opt-1.3b"),
        "reward_models.skywork": paper_copies.skywork(root / "skywork"),
        "data.path": paper_copies.published_folder(root / "data", 9, 3),
    }
    return ["pair=opt_small", "data=harmless", *(f"{key}={path}" for key, path in made.items())]


def settings(store, *overrides: str, **changes) -> PreflightConfig:
    given = {"experiment": "table3", "store": str(store), "gpu_gib": 80.0, "disk_gib": 500.0}
    return PreflightConfig(**given | changes, overrides=list(overrides))


def test_where_nothing_is_wrong_it_says_what_will_be_needed(local, tmp_path, capsys):
    preflight(settings(tmp_path, *local))
    said = capsys.readouterr().out
    assert "ready: 2 arms a seed" in said  # without update_sizes, both operating points are one arm
    assert all(stage in said for stage in ("train_annotator", "sft", "align", "reference", "generate", "evaluate"))


def test_every_problem_is_in_one_list_each_with_its_fix(local, tmp_path, monkeypatch):
    """Bare of a network, a GPU, a disk and keys, with a judge and an instruct model of the hub."""
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(report, "gpus", list)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    words = [*local, "pair=qwen_to_llama", "gold=openai", "gold.model=some-judge", "logger=wandb", "logger.mode=online"]
    with pytest.raises(InputError) as refused:
        preflight(settings(tmp_path, *words, gpu_gib=None))
    problems = refused.value.problems
    assert len(problems) == len(set(problems))
    for part, fix in {
        "pair.weak=Qwen/Qwen2.5-0.5B is not pinned": "python scripts/lock_assets.py",
        "pair.strong=meta-llama/Llama-3.1-8B-Instruct is not pinned": "python scripts/lock_assets.py",
        "pair.strong=meta-llama/Llama-3.1-8B-Instruct is neither": "that the hub or its cache can give",
        "meta-llama/Llama-3.1-8B-Instruct: the hub asks who you are": "set HF_TOKEN",
        "logger.mode=online needs a key": "set WANDB_API_KEY",
        "gold=openai needs a key": "set OPENAI_API_KEY",
        "no GPU is here": "gpu_gib=80",
    }.items():
        assert any(part in problem and fix in problem for problem in problems), (part, problems)


@pytest.mark.soak
def test_the_command_ends_with_code_2_and_loads_nothing(tmp_path):
    script = str(CONF.parent / "scripts" / "preflight.py")
    words = ["experiment=table3", f"store={tmp_path}", 'overrides=["pair=opt_small","data=harmless"]']
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, env=env, cwd=tmp_path, check=False
    )
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines) and len(lines) >= 5
    assert "facebook/opt-1.3b" in done.stdout and "refs/pr/25" in done.stdout  # the table of assets
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_an_arm_of_human_labels_reads_the_weak_tokenizer(local, tmp_path):
    weak = paper_copies.opt(tmp_path / "opt-125m")
    for file in weak.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(InputError, match=r"pair.weak=\S+ has no tokenizer"):
        preflight(settings(tmp_path, *local, f"models.opt_125m={weak}", "method=human"))


def test_only_figure_6_reads_the_encoder(local, tmp_path):
    """experiment=figure6 embeds responses, table21 does not."""
    words = [*local, "method=online_cw_po", f"tables.figure6_embedding={tmp_path / 'missing'}"]
    with pytest.raises(InputError, match=r"embedding.path=\S+missing"):
        preflight(settings(tmp_path, *words, experiment="figure6"))
    encoder = paper_copies.opt(tmp_path / "encoder")
    words[-1] = f"tables.figure6_embedding={encoder}"
    preflight(settings(tmp_path, *words, experiment="figure6"))
    preflight(settings(tmp_path, *words, "embedding.path=bert/missing", "allow_unpinned=true", experiment="table21"))


def test_wrong_settings_are_told_first(local, tmp_path):
    with pytest.raises(InputError, match="objective.beta=-1.0 must be positive"):
        preflight(settings(tmp_path, *local, "objective.beta=-1"))


# --- memory and disk -------------------------------------------------------------------------------------------------

SHAPE = Shape(
    parameters=10**9,
    linear=(("fc", 1000, 3000), ("q_proj", 1000, 1000)),
    layers=10,
    hidden=1000,
    vocabulary=50_000,
    cache=20_000,
    chosen=("q_proj",),
)


LAYER = 2 * (3000 + 1000) / 10 + 10 * 1000  # what the linear layers give, and beside it; per token, in 16 bits


def test_memory_of_full_training_by_hand():
    need = training_need("train_annotator", "m", SHAPE, TrainingConfig(gradient_checkpointing=False), tokens=100)
    assert need.weights == 4 * 10**9 / GIB
    assert need.training == 12 * 10**9 / GIB  # gradients and two moments
    assert need.activations == pytest.approx(100 * 10 * 2 * (LAYER + 8 * 1000) / GIB)  # one number: no logits
    assert need.total == pytest.approx(need.weights + need.training + 1.1 * need.activations)
    autocast = training_need("align", "m", SHAPE, TrainingConfig(precision="bfloat16"), tokens=100)
    assert autocast.weights == 6 * 10**9 / GIB  # and copies in 16 bits


@pytest.mark.parametrize(("targets", "adapters"), [("all-linear", 8 * 6000), ("peft", 8 * 2000)])
@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_memory_of_adapters_by_hand(targets, adapters, dtype, size):
    lora = LoraConfig(enabled=True, r=8, targets=targets, base_dtype=dtype)
    training = TrainingConfig(gradient_checkpointing=True, precision="bfloat16")
    need = training_need("align", "m", SHAPE, training, 100, lora)
    assert SHAPE.adapters(lora) == adapters
    assert need.weights == pytest.approx((size * 10**9 + 4 * adapters) / GIB)
    assert need.training == 12 * adapters / GIB
    working = max(100 * 1.75 * LAYER, 12 * 100 * 50_000)
    assert need.activations == pytest.approx((100 * 10 * size * 1000 + working) / GIB)


@pytest.mark.parametrize(("launch", "share"), [("ddp", 1), ("fsdp", 4)])
def test_memory_of_several_processes_by_hand(launch, share):
    """Only fsdp splits the model; both compute the model's own forward pass, with all its logits."""
    one = training_need("align", "m", SHAPE, TrainingConfig(), 10**4)
    need = training_need("align", "m", SHAPE, TrainingConfig(), 10**4, launch=launch, share=share)
    assert (need.weights, need.training) == (one.weights / share, one.training / share)
    assert need.activations - one.activations == pytest.approx(12 * (10**4 * 50_000 - 2**26) / GIB)


def test_the_advice_to_share_a_model_among_gpus_helps(local, tmp_path, capsys):
    words = ["lora.enabled=false", "lora.save=merged", "annotator=bt", "method=cw_po", "token_budget=2048"]
    words += [f"{part}.micro_batch_size=1" for part in ("sft", "alignment")]
    (arm, *_) = report.settled_arms(settings(tmp_path, *local, *words))
    needs = {need.stage: need for need in stage_needs(arm, {"pair.strong": SHAPE})}
    (arm, *_) = report.settled_arms(settings(tmp_path, *local, *words, "launch=fsdp", "processes=4"))
    shared = {need.stage: need for need in stage_needs(arm, {"pair.strong": SHAPE})}
    for stage in ("sft", "align"):
        assert shared[stage].weights == needs[stage].weights / 4
        assert shared[stage].total < needs[stage].total / 2
    assert shared["reference"] == needs["reference"]  # not a training: on one GPU


def test_memory_of_sampling_by_hand():
    """A batch takes what memory is left, so one response must fit."""
    need = sampling_need("generate", "m", SHAPE, tokens=100)
    kept = 100 * (1.75 * 2 * LAYER + 4 * 20_000) + 24 * 50_000
    assert need.activations == pytest.approx(kept / GIB) and need.training == 0


def test_a_shape_is_that_of_the_model_and_costs_no_memory():
    config = OPTConfig(
        vocab_size=50_272, hidden_size=5120, ffn_dim=20_480, num_hidden_layers=40, num_attention_heads=40
    )
    config.word_embed_proj_dim = 5120
    shape = shape_of(config, AutoModelForCausalLM)
    assert 12.8e9 < shape.parameters < 13.0e9
    assert shape.adapters(LoraConfig(r=8)) == 40 * 8 * (4 * 2 * 5120 + 2 * (5120 + 20_480))
    assert shape.adapters(LoraConfig(r=8, targets="peft")) == 40 * 8 * 2 * 2 * 5120
    assert (shape.layers, shape.hidden, shape.cache) == (40, 5120, 2 * 40 * 5120)


def test_a_gpu_that_is_too_small_is_told_with_the_parts(local, tmp_path):
    with pytest.raises(InputError) as refused:
        preflight(settings(tmp_path, *local, gpu_gib=1e-6))
    stages = {problem.partition(" of ")[0]: problem for problem in refused.value.problems}
    assert "lower token_budget" in stages["sft"] and "lora.enabled=true" in stages["sft"]
    assert "lora" not in stages["train_annotator"]  # all its weights are trained
    assert "smaller reward model" in stages["evaluate"]


def test_where_no_gpu_is_needed_none_is_missed(local, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "gpus", list)
    preflight(settings(tmp_path, *local, "device=cpu", gpu_gib=None))
    preflight(settings(tmp_path, "pair=opt_small", "data=harmless", scale="toy", gpu_gib=None))
    assert capsys.readouterr().out.count("ready: ") == 2


def test_the_largest_need_of_all_arms_counts(local, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(report, "_show", lambda arms, assets, needs: shown.append({n.stage: n.total for n in needs}))
    for lengths in ("512", "512,16", "16,512"):
        preflight(settings(tmp_path, *local, "token_budget=null", f"data.max_tokens={lengths}"))
    assert shown[0] == shown[1] == shown[2]


def test_an_experiment_about_annotators_needs_no_room_for_the_strong_model(local, tmp_path, capsys):
    words = ["seed=0", "annotator=bt", "annotator.scoring=likelihood"]
    preflight(settings(tmp_path, *local, *words, experiment="table6"))
    said = capsys.readouterr().out
    assert "train_annotator" in said and not any(f" {stage} " in said for stage in ("sft", "align", "generate"))


def test_a_disk_that_is_too_small_is_told(local, tmp_path):
    with pytest.raises(InputError, match=r"store=.* will take about .* for one seed, but 0 GiB are free"):
        preflight(settings(tmp_path, *local, disk_gib=1e-9))


def test_models_and_stages_on_one_disk_must_fit_together(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "store_gib", lambda nodes, shapes: 1.0)
    models = {("pair.strong", "some/model"): SHAPE}  # 1.9 GiB to fetch
    problems = [list(report._disk_problems(settings(tmp_path, disk_gib=gib), [], [], models)) for gib in (2.5, 3.5)]
    assert [len(found) for found in problems] == [1, 0] and "will take about 3 GiB" in problems[0][0]


def test_free_disk_is_that_of_the_nearest_folder(tmp_path):
    (free, disk), (there, same) = disk_of(tmp_path / "not" / "yet"), disk_of(tmp_path)
    assert free == pytest.approx(there, rel=0.01) and disk == same


# --- tokenizers, data, credentials -------------------------------------------------------------------------------------


def test_an_opt_tokenizer_without_bos_is_told(tmp_path):
    folder = paper_copies.opt(tmp_path / "opt")
    assert tokenizer_problems("pair.weak", str(folder), None, chat=False) == []
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"add_bos_token": False}))
    (problem,) = tokenizer_problems("pair.weak", str(folder), None, chat=False)
    assert "puts no BOS before a text" in problem


def test_a_template_with_two_bos_is_told(tmp_path):
    folder = paper_copies.llama(tmp_path / "llama")
    assert tokenizer_problems("pair.strong", str(folder), None, chat=True) == []
    (folder / "chat_template.jinja").write_text("{{ bos_token }}" + paper_copies.LLAMA_CHAT)
    (problem,) = tokenizer_problems("pair.strong", str(folder), None, chat=True)
    assert "puts BOS before a text twice" in problem


def test_a_base_model_that_should_chat_is_told(tmp_path):
    (problem,) = tokenizer_problems("pair.strong", str(paper_copies.opt(tmp_path / "opt")), None, chat=True)
    assert "has no chat template" in problem


def test_data_without_a_split_is_told(tmp_path):
    folder = paper_copies.published_folder(tmp_path, 3, 3)
    cfg = composed("scale=paper", "data=harmless", f"data.path={folder}")
    assert data_problems(cfg) == []
    (folder / "harmless-base" / "test.jsonl.gz").unlink()
    assert data_problems(cfg) == [f"data.path={folder} has no split harmless-base/test"]
    assert "cannot be reached" in data_problems(composed("scale=paper", "data=ufb"))[0]


def test_the_files_of_a_data_set_of_the_hub_are_known_by_name(monkeypatch):
    cfg = composed("scale=paper", "data=ufb")
    names = ["README.md", "data/train_prefs-00000-of-00001.parquet", "data/test_prefs-00000-of-00001.parquet"]
    monkeypatch.setattr("cwpo.planning.preflight.found.repo_files", lambda *asked: names)
    assert data_problems(cfg) == []
    names[2] = "data/test_sft-00000-of-00001.parquet"
    assert data_problems(cfg) == ["data.path=HuggingFaceH4/ultrafeedback_binarized has no split test_prefs"]


def test_credentials_that_are_there_are_no_problem_and_never_told(monkeypatch):
    cfg = SimpleNamespace(
        logger=SimpleNamespace(name="wandb", mode="online"), gold=SimpleNamespace(name="openai"), pair=None
    )
    for name in ("WANDB_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "secret-0123456789")
    monkeypatch.setattr("cwpo.planning.preflight.machine.find_spec", lambda name: True)
    assert credential_problems(cfg, []) == []
    monkeypatch.delenv("OPENAI_API_KEY")
    problems = credential_problems(cfg, [])
    assert len(problems) == 1 and "OPENAI_API_KEY" in problems[0] and "secret" not in problems[0]
