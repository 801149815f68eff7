"""scale=paper as shipped, with its models and data pointed at tiny local copies: whole arms, whole tables, on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import paper_copies
import pytest

from cwpo.commands.run import against_paper
from cwpo.config.schema import CONF
from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.pipeline.arms import Arm, expand
from cwpo.pipeline.derived import TEXT_VERSION
from cwpo.store.store import Store

pytestmark = pytest.mark.soak

# What makes it quick; nothing else of the shipped configuration is changed but where things are.
QUICK = [
    "annotator.training.epochs=1",
    "sft.epochs=1",
    "alignment.epochs=1",
    "generation.max_new_tokens=8",
    "token_budget=4096",
]


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> list[str]:
    """Overrides that point models, reward models and data at tiny copies."""
    root = tmp_path_factory.mktemp("local")
    made = {
        "models.opt_125m": paper_copies.opt(root / "opt-125m"),
        "models.opt_1_3b": paper_copies.opt(root / "opt-1.3b"),
        "models.opt_13b": paper_copies.opt(root / "opt-13b"),
        "models.qwen_0_5b": paper_copies.qwen(root / "qwen-0.5b"),
        "models.qwen_7b": paper_copies.qwen(root / "qwen-7b"),
        "models.qwen_14b": paper_copies.qwen(root / "qwen-14b"),
        "models.llama_8b": paper_copies.llama(root / "llama-8b"),
        "reward_models.skywork": paper_copies.skywork(root / "skywork"),
        "reward_models.openassistant": paper_copies.openassistant(root / "openassistant"),
        "reward_models.steamshp": paper_copies.steamshp(root / "steamshp"),
        "reward_models.trl_qwen": paper_copies.trl_qwen(root / "trl-qwen"),
        "data.path": paper_copies.published_folder(root / "data"),
    }
    return [*QUICK, *(f"{key}={path}" for key, path in made.items())]


def run(local: list[str], store: Path, *words: str) -> tuple[Arm, Store]:
    (arm,) = expand(["scale=paper", "seed=0", f"store={store}", *local, *words])
    run_arms([arm], Settings.of(arm.cfg))
    return arm, Store(store)


def output(arm: Arm, store: Store, node: str, file: str) -> Path:
    made = arm.nodes[node]
    return made.folder(store) / file


def test_an_arm_of_table_3_runs_as_shipped_with_adapters(local, tmp_path):
    arm, store = run(local, tmp_path, "experiment=table3", "pair=opt_small", "data=harmless", "method=cw_po")
    assert arm.cfg.lora.enabled and arm.cfg.gold.name == "paper"
    manifest = store.manifest("prepare", arm.nodes["prepare"].key)
    kept = manifest["summary"]["kept"]
    assert kept == {"train": 60, "test": 8}
    (line,) = against_paper(kept, arm.cfg.data)
    assert "60 train (paper: 35,908), 8 test (paper: 1,927)" in line
    pairs = pd.read_parquet(output(arm, store, "prepare", "pairs.parquet"))
    assert pairs["split"].value_counts().to_dict() == {"unlabeled": 42, "labeled": 18, "test": 8}
    assert "gold" not in manifest["config"]["data"] and "paper_counts" not in manifest["config"]["data"]
    rewards = pd.read_parquet(output(arm, store, "evaluate", "rewards.parquet"))
    assert len(rewards) == 16 and rewards["reward"].notna().all()
    metrics = json.loads(output(arm, store, "evaluate", "metrics.json").read_text())
    assert metrics["n_eval"] == 8 and metrics["n_train"] == 42 and 0 <= metrics["gra"] <= 1
    assert store.manifest("evaluate", arm.nodes["evaluate"].key)["config"]["gold"]["name"] == "skywork"
    sampled = store.manifest("generate", arm.nodes["generate"].key)
    assert sampled["config"]["text_version"] == TEXT_VERSION and 0 <= sampled["summary"]["other_tokens"] <= 8
    card = (output(arm, store, "align", "model") / "README.md").read_text()
    assert "| prompts | plain text, messages as in HH-RLHF |" in card


@pytest.mark.slow
def test_an_instruct_model_is_trained_and_asked_through_its_chat_template(local, tmp_path):
    from cwpo.data.chat import reads_chat
    from cwpo.data.encoding import encode_prompts
    from cwpo.models.policy import load_tokenizer

    arm, store = run(local, tmp_path, "experiment=table16", "pair=qwen_to_llama", "data=harmless", "method=cw_po")
    for node in ("sft", "align"):
        tokenizer = load_tokenizer(output(arm, store, node, "model"))
        assert reads_chat(tokenizer)
        (ids,) = encode_prompts(tokenizer, ["\n\nHuman: hi\n\nAssistant:"])
        assert tokenizer.decode(ids).startswith(
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
        )


@pytest.mark.slow
def test_shp_is_judged_by_comparison(local, tmp_path):
    arm, store = run(local, tmp_path, "experiment=table23", "pair=qwen_mid", "data=shp_askacademia", "method=cw_po")
    rewards = pd.read_parquet(output(arm, store, "evaluate", "rewards.parquet"))
    wide = rewards.pivot(index="prompt_id", columns="model_tag", values="reward")
    assert ((wide["aligned"] + wide["sft"] - 1).abs() < 1e-9).all()
    metrics = json.loads(output(arm, store, "evaluate", "metrics.json").read_text())
    assert metrics["gra"] == (wide["aligned"] > 0.5).mean()
    gold = pd.read_parquet(output(arm, store, "score_gold", "gold.parquet"))
    assert ((gold["gold_a"] + gold["gold_b"] - 1).abs() < 1e-9).all()


@pytest.mark.slow
def test_online_arms_use_the_chat_reward(local, tmp_path):
    arm, store = run(
        local,
        tmp_path,
        "experiment=table21",
        "data=hh_rlhf",
        "method=online_rm",
        f"models.qwen_3b={_of(local, 'qwen_7b')}",
    )
    made = store.manifest("online_align", arm.nodes["online_align"].key)
    assert made["config"]["online"]["reward_chat"] is True and made["summary"]["n_train"] > 0


def _of(local: list[str], name: str) -> str:
    return next(word.partition("=")[2] for word in local if word.startswith(f"models.{name}="))


def reproduce(local: list[str], folder: Path, *words: str) -> str:
    overrides = ",".join(f'"{word}"' for word in local)
    command = [sys.executable, str(CONF.parent / "scripts" / "reproduce.py"), "scale=paper", "seeds=[0]", "jobs=2"]
    command += [f"store={folder}/store", f"results={folder}/results", f"overrides=[{overrides}]", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("table", "arms"), [("table3", 2 * 4 * 2), ("table1", 2 * 3 * 3 * 3)])
def test_whole_tables_run_from_the_command(local, tmp_path, table, arms):
    assert f"{table} at paper scale: {arms} arms" in reproduce(local, tmp_path, f"experiment={table}")
    rows = pd.read_csv(tmp_path / "results" / "paper" / "runs.csv")
    assert len(rows) == arms
    assert rows["gra"].between(0, 1).all() and set(rows["experiment"]) == {table}
    assert (tmp_path / "results" / "paper" / "tables" / f"{table}.md").is_file()
    assert set(rows["method"]) == ({"human_all", "cw_po"} if table == "table3" else {"human", "ws_bt", "cw_po"})


# --- Table 17: the judge -------------------------------------------------------------------------------------------


@pytest.fixture
def judge(monkeypatch, tmp_path):
    pytest.importorskip("openai")
    from endpoint import KEY, serving

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(lambda question: "Verdict: A" if len(question) % 3 else "nothing to say") as endpoint:
        words = ["experiment=table17", "pair=opt_large", "objective=dpo", "data=ufb", "evaluation.prompts=6"]
        yield (
            endpoint,
            [*words, "gold.model=stub", f"gold.base_url={endpoint.url}", f"gold.cache={tmp_path}/verdicts"],
        )


def test_table_17_asks_the_judge_about_test_responses_alone(local, judge, tmp_path):
    from endpoint import KEY

    endpoint, words = judge
    arm, store = run(local, tmp_path / "store", *words, "method=cw_po")
    assert arm.cfg.gold.name == "openai" and "score_gold" not in arm.nodes
    assert 0 < endpoint.requests <= 12
    metrics = json.loads(output(arm, store, "evaluate", "metrics.json").read_text())
    assert metrics["n_eval"] + metrics["judge_not_judged"] == metrics["judge_comparisons"] == 6
    assert metrics["label_accuracy_gold"] is None and metrics["mean_weight"] is not None
    assess = json.loads(output(arm, store, "assess", "metrics.json").read_text())
    assert assess["accuracy_gold"] is None and 0 <= assess["accuracy_human"] <= 1
    written = [file.read_text() for file in (tmp_path / "store").rglob("manifest.json")]
    assert not any(KEY in text or endpoint.url in text for text in written)
    asked = endpoint.requests
    moved = ["gold.base_url=http://127.0.0.1:9/v1", "gold.concurrency=1", "gold.retries=0", "gold.max_usd=1"]
    (same,) = expand(["scale=paper", "seed=0", f"store={tmp_path}/store", *local, *words, "method=cw_po", *moved])
    assert same.key == arm.key  # how it is asked changes no result
    store.drop("evaluate", arm.nodes["evaluate"].key)
    run_arms([same], Settings.of(same.cfg))
    assert endpoint.requests == asked  # every verdict was kept, so nobody was asked
