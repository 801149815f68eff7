"""The whole chain, for real, on a world cut down to seconds."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from conftest import SMOKE
from omegaconf import OmegaConf

from cwpo.config.schema import CONF
from cwpo.config.update_sizes import point_of, sizes_of
from cwpo.errors import InputError
from cwpo.execution import workers
from cwpo.execution.node import Settings
from cwpo.execution.workers import Failed, run_arms
from cwpo.pipeline import arms as composition
from cwpo.pipeline import graph
from cwpo.pipeline.arms import Arm, composing, expand
from cwpo.pipeline.derived import TEXT_VERSION
from cwpo.planning.plan import make_plan
from cwpo.store.store import Store


def smoke_arm(store: Path, *overrides: str) -> Arm:
    (made,) = expand([*SMOKE, f"store={store}", *overrides])
    return made


def outputs(made: Arm, store: Path) -> dict[str, str]:
    """sha256 of every file that every stage of the arm wrote."""
    return {
        f"{node.name}/{name}": entry["sha256"]
        for node in made.run
        for name, entry in Store(store).manifest(node.stage.name, node.key)["files"].items()
        if not name.endswith("training_args.bin")
    }


def run(made: Arm, jobs: int = 1) -> int:
    return run_arms([made], Settings.of(made.cfg), jobs=jobs)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def finished(store) -> Arm:
    made = smoke_arm(store)
    assert run(made) == len(made.run)
    return made


def read(made: Arm, store: Path, stage: str, file: str) -> pd.DataFrame:
    return pd.read_parquet(made.nodes[stage].folder(Store(store)) / file)


def test_a_second_run_computes_nothing(finished):
    assert run(finished) == 0


def test_files_have_the_contracted_columns(finished, store):
    columns = {
        "prepare/pairs": "pair_id prompt response_a response_b human_label split domain n_tokens",
        "annotate/annotations": "pair_id score_a score_b label margin confidence",
        "weight/preferences": "pair_id prompt chosen rejected weight label_source margin confidence",
        "reference/reference": "pair_id chosen_logp rejected_logp chosen_tokens rejected_tokens",
        "generate/responses": "prompt_id prompt response model_tag n_tokens truncated",
    }
    for place, expected in columns.items():
        stage, file = f"{place}.parquet".split("/")
        assert list(read(finished, store, stage, file).columns) == expected.split(), stage


def test_annotations_agree_with_their_scores(finished, store):
    table = read(finished, store, "annotate", "annotations.parquet")
    assert (table["margin"] == (table["score_a"] - table["score_b"]).abs()).all()
    assert ((table["label"] == "a") == (table["score_a"] >= table["score_b"])).all()
    assert table["confidence"].between(0, 1, inclusive="left").all()


# Method -> annotator, its rule of scoring where it is a policy, and whether the confidence is the weight.
WEAK = {
    "ws_dpo": ("sft_dpo", "implicit", False),
    "ws_dpo_likelihood": ("sft_dpo", "likelihood", False),
    "cw_dpo_annotator": ("sft_dpo", "implicit", True),
    "ws_bt": ("bt", None, False),
    "cw_po": ("bt", None, True),
}


@pytest.mark.parametrize("method", WEAK)
def test_weak_methods_bring_their_annotator_and_their_weights(store, method):
    annotator, scoring, weighted = WEAK[method]
    made = smoke_arm(store, f"method={method}", "until=weight")
    run(made)
    assert (made.cfg.method.name, made.cfg.annotator.name) == (method, annotator)
    if scoring:
        assert made.nodes["annotate"].config["annotator"]["scoring"] == scoring
    annotations = read(made, store, "annotate", "annotations.parquet").set_index("pair_id")
    pairs = read(made, store, "prepare", "pairs.parquet").set_index("pair_id")
    preferences = read(made, store, "weight", "preferences.parquet").set_index("pair_id")
    assert set(preferences.index) == set(pairs.index[pairs["split"] == "unlabeled"])
    assert (preferences["label_source"] == "weak").all()
    gap = (annotations["score_a"] - annotations["score_b"]).loc[preferences.index]
    better = pairs["response_a"].loc[preferences.index].where(gap >= 0, pairs["response_b"])
    assert (preferences["chosen"] == better).all()
    confidence = 2 / (1 + np.exp(-gap.abs())) - 1
    np.testing.assert_allclose(preferences["weight"], confidence if weighted else 1.0, atol=1e-12)


@pytest.mark.parametrize("split", ["test", "unlabeled"])
def test_the_annotator_is_assessed_on_the_pairs_that_are_named(store, split):
    made = smoke_arm(store, f"annotator.assessed_on={split}", "until=assess")
    run(made)
    pairs = read(made, store, "prepare", "pairs.parquet").set_index("pair_id")
    labels = read(made, store, "annotate", "annotations.parquet").set_index("pair_id")["label"]
    human = pairs.loc[pairs["split"] == split, "human_label"]
    metrics = json.loads((made.nodes["assess"].folder(Store(store)) / "metrics.json").read_text())
    assert metrics["n_eval"] == len(human) == {"test": 30, "unlabeled": 84}[split]
    assert metrics["accuracy_human"] == pytest.approx((labels[human.index] == human).mean())


@pytest.mark.parametrize("method", ["ws_bt", "ws_dpo", "ws_dpo_likelihood", "cw_dpo_annotator"])
def test_a_method_named_for_its_annotator_takes_no_other(store, method):
    with pytest.raises(InputError, match=f"method={method} is named for the labels of"):
        smoke_arm(store, f"method={method}", "annotator=pairrm")


SIZES = (
    "+update_sizes={opt: {matched: 3e-5, own_best: {dpo/cw_po: 3e-4, dpo/human: 3e-5}}, other: {matched: 1e-4}}",
    "alignment.learning_rate=null",
)


@pytest.mark.parametrize(
    ("words", "rate", "point"),
    [
        (["method=human"], 3e-5, "both"),
        (["method=cw_po"], 3e-5, "matched"),
        (["method=cw_po", "operating_point=own_best"], 3e-4, "own_best"),
        (["method=cw_po", "operating_point=own_best", "pair.strong=world/opt-32x1/"], 3e-4, "own_best"),
        (["method=gold", "operating_point=own_best"], 3e-5, "matched"),
        (["method=filter", "operating_point=own_best", "objective=ipo"], 3e-5, "matched"),
        (["method=cw_po", "alignment.learning_rate=1e-4"], 1e-4, None),
    ],
)
def test_an_operating_point_gives_the_learning_rate(store, words, rate, point):
    given = [word for word in SIZES if word.partition("=")[0] not in {w.partition("=")[0] for w in words}]
    (made,) = expand([*SMOKE, f"store={store}", *given, *words])
    assert made.cfg.alignment.learning_rate == made.nodes["align"].config["alignment"]["learning_rate"] == rate
    assert point_of(made.cfg) == point
    other = dataclasses.replace(made.cfg, pair=dataclasses.replace(made.cfg.pair, strong="EleutherAI/pythia-1b"))
    assert sizes_of(other).matched == 1e-4


def test_only_alignment_takes_its_learning_rate_from_an_operating_point(store):
    with pytest.raises(InputError, match="sft.learning_rate has no value; give one"):
        smoke_arm(store, "sft.learning_rate=null")


def test_human_arm_uses_human_labels_and_no_annotator(finished, store):
    made = smoke_arm(store, "method=human", "until=weight")
    run(made)
    pairs = read(made, store, "prepare", "pairs.parquet").set_index("pair_id")
    preferences = read(made, store, "weight", "preferences.parquet")
    for row in preferences.itertuples():
        assert row.chosen == pairs.loc[row.pair_id, f"response_{pairs.loc[row.pair_id, 'human_label']}"]
    assert (preferences["weight"] == 1).all() and preferences["margin"].isna().all()
    assert "train_annotator" not in {node.name for node in made.run}


def test_filter_keeps_the_most_confident(finished, store):
    made = smoke_arm(store, "method=filter", "method.selection.value=0.25", "until=weight")
    run(made)
    kept = read(made, store, "weight", "preferences.parquet")
    everyone = read(finished, store, "weight", "preferences.parquet")
    assert len(kept) == round(0.25 * len(everyone))
    assert kept["confidence"].min() >= everyone["confidence"].nlargest(len(kept)).min()
    assert (kept["weight"] == 1).all()


def test_only_runs_with_real_models_have_a_version_of_their_texts(tiny_checkpoint):
    """So keys of the synthetic world's stages stay, and those of real models change with the way texts become tokens."""
    worlds, weak, gold = (
        expand(words, look=False)[0].nodes
        for words in (
            ["method=cw_po"],
            ["method=cw_po", f"pair.weak={tiny_checkpoint}"],
            ["method=cw_po", "gold=huggingface", f"gold.path={tiny_checkpoint}"],
        )
    )
    tokenising = {name for name, node in worlds.items() if "text_version" in node.stage.reads}
    assert {*"prepare train_annotator annotate sft reference align generate evaluate".split()} <= tokenising
    for name in tokenising:
        assert "text_version" not in worlds[name].hashed
        assert weak[name].hashed["text_version"] == gold[name].hashed["text_version"] == TEXT_VERSION


def test_until_stops_there(tmp_path):
    made = smoke_arm(tmp_path, "until=prepare")
    assert run(made) == 1
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["prepare"]


def test_metrics_match_the_rewards_written(finished, store):
    folder = finished.nodes["evaluate"].folder(Store(store))
    metrics = json.loads((folder / "metrics.json").read_text())
    wide = pd.read_parquet(folder / "rewards.parquet").pivot(index="prompt_id", columns="model_tag", values="reward")
    assert metrics["gra"] == (wide["aligned"] > wide["sft"]).mean()
    assert metrics["tie_rate"] == (wide["aligned"] == wide["sft"]).mean()
    assert metrics["reward_mean"] == pytest.approx(wide["aligned"].mean())
    assert metrics["n_eval"] == 30


def test_models_are_ordinary_checkpoints(finished, store):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    for stage, kind in (("align", AutoModelForCausalLM), ("train_annotator", AutoModelForSequenceClassification)):
        folder = finished.nodes[stage].folder(Store(store)) / "model"
        kind.from_pretrained(folder)
        assert AutoTokenizer.from_pretrained(folder).eos_token_id is not None
        assert not list(folder.glob("*.bin"))


def test_curves_have_the_standard_names(finished, store):
    lines = (finished.nodes["align"].folder(Store(store)) / "metrics.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    rewards = {f"rewards/{name}" for name in ("chosen", "rejected", "margins", "accuracies")}
    assert {"step", "loss", *rewards} <= set(first)
    assert first["step"] == 1 and first["rewards/margins"] == pytest.approx(0, abs=1e-5)  # policy = reference


def test_same_seed_same_bytes_however_often_interrupted(finished, store, tmp_path, monkeypatch):
    made = smoke_arm(tmp_path)
    whole = {node.name: node for node in made.run}

    class Stop(KeyboardInterrupt):
        pass

    def interrupted(stage):
        def work(given):
            (given.out / "half-written").write_text("x")
            raise Stop

        return dataclasses.replace(stage, run=work)

    for name in whole:
        broken = {
            n: dataclasses.replace(node, stage=interrupted(node.stage)) if n == name else node
            for n, node in whole.items()
        }
        with pytest.raises(Stop):
            run_arms([dataclasses.replace(made, run=list(broken.values()))], Settings.of(made.cfg))
        assert not made.nodes[name].done(Store(tmp_path))
        upto = [node for n, node in whole.items() if list(whole).index(n) <= list(whole).index(name)]
        assert run_arms([dataclasses.replace(made, run=upto)], Settings.of(made.cfg)) == 1
    assert outputs(made, tmp_path) == outputs(finished, store)
    assert not list((tmp_path / ".partial").iterdir())


@pytest.mark.soak
def test_workers_go_on_from_what_is_finished(finished, store, tmp_path):
    assert run(smoke_arm(tmp_path, "until=sft")) > 0
    made = smoke_arm(tmp_path)
    left = [node for node in made.run if not node.done(Store(tmp_path))]
    assert 0 < len(left) < len(made.run)
    assert run(made, jobs=2) == len(left)
    assert outputs(made, tmp_path) == outputs(finished, store)


@pytest.mark.soak
def test_an_idle_worker_that_does_not_end_is_ended(tmp_path, monkeypatch):
    collect = workers.Queue.collect
    stopped = []

    def collect_and_stop(queue):
        collect(queue)
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGSTOP)
            stopped.append(psutil.Process(worker.pid))

    monkeypatch.setattr(workers.Queue, "collect", collect_and_stop)
    monkeypatch.setattr(workers, "LEAVING", 0.2)
    assert run(smoke_arm(tmp_path, "until=prepare"), jobs=2) == 1
    assert stopped and not psutil.wait_procs(stopped, timeout=10)[1]


def test_a_failing_stage_is_named_and_keeps_what_was_done(tmp_path, monkeypatch):
    def fail(work):
        raise RuntimeError("out of memory")

    broken = dataclasses.replace(graph.annotate_stage("bt"), run=fail)
    monkeypatch.setattr(graph, "annotate_stage", lambda annotator: broken)
    made = smoke_arm(tmp_path, "until=annotate")
    with pytest.raises(Failed, match=r"stage annotate \(.*\) failed: RuntimeError: out of memory"):
        run(made)
    assert made.nodes["train_annotator"].done(Store(tmp_path))


def test_plan_counts_shared_stages_and_runs_nothing(tmp_path):
    overrides = [*SMOKE, f"store={tmp_path}", "method=human,ws_bt,cw_po"]
    plan = make_plan(expand(overrides), Store(tmp_path))
    assert plan.stages["prepare"] == 1 and plan.naive["prepare"] == 3
    assert plan.stages["sft"] == 2 and plan.stages["align"] == 3
    assert plan.cached.total() == 0 and plan.remaining_seconds() == 0
    assert not any(tmp_path.iterdir())


def test_lora_trains_and_saves_a_plain_model(finished, store):
    pytest.importorskip("peft")
    made = smoke_arm(store, "lora.enabled=true", "objective=ipo")
    run(made)
    folder = made.nodes["align"].folder(Store(store)) / "model"
    assert (folder / "model.safetensors").is_file() and not (folder / "adapter_config.json").exists()


def test_trained_gold_learns_from_pairs_no_arm_sees(finished, store):
    made = smoke_arm(store, "gold=trained", "method=human")
    run(made)
    folder = made.nodes["prepare"].folder(Store(store))
    held_out = set(pd.read_parquet(folder / "held_out.parquet")["pair_id"])
    assert len(held_out) == round(made.cfg.gold.holdout * 120)
    assert not held_out & set(read(made, store, "prepare", "pairs.parquet")["pair_id"])
    trained_on = Store(store).manifest("train_gold", made.nodes["train_gold"].key)["summary"]["n_train"]
    assert trained_on == len(held_out)


def test_an_empty_selection_is_one_clear_error(finished, store):
    made = smoke_arm(store, "method=filter", "method.selection.kind=threshold", "method.selection.value=0.999")
    with pytest.raises(InputError, match=r"threshold=0\.999 keeps 0 of 84 pairs, at least 2 are needed"):
        run(made)


class InterruptedInDel:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)  # the handler runs here, where what it raises is dropped


def _delete_and_wait() -> None:
    broken = InterruptedInDel()
    del broken
    time.sleep(10)


@pytest.mark.soak
def test_an_interrupt_that_python_drops_comes_again(monkeypatch, capfd):
    monkeypatch.setattr(workers, "_worker", workers.Worker(busy=True))
    monkeypatch.setattr(sys, "unraisablehook", workers._unraisable)
    before = signal.signal(signal.SIGINT, workers._interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            _delete_and_wait()
    finally:
        signal.signal(signal.SIGINT, before)
    assert "Traceback" not in capfd.readouterr().err


def test_told_twice_at_once_a_worker_is_interrupted_once(monkeypatch):
    monkeypatch.setattr(workers, "_worker", workers.Worker(busy=True))
    with pytest.raises(KeyboardInterrupt):
        workers._interrupted()
    workers._terminated()
    assert workers._worker.stopped and workers._worker.ending


@pytest.mark.parametrize("override", ["alignment.warmup_steps=3", "alignment.warmup_steps=${seed}"])
def test_arms_of_several_seeds_are_those_of_one_seed_each(override):
    shared = expand(["method=human,cw_po", override], seeds=[1, 2])
    alone = [made for seed in (1, 2) for made in expand(["method=human,cw_po", override], seeds=[seed])]
    assert {made.key for made in shared} == {made.key for made in alone} and len(shared) == 4
    for made in shared:
        assert {node.key for node in made.run} == {node.key for node in Arm.of(OmegaConf.structured(made.cfg)).run}
        steps = made.nodes["align"].config["alignment"]["warmup_steps"]
        assert steps == (3 if override.endswith("3") else made.cfg.seed)


def test_positive_enters_the_key_of_the_data_only_where_it_is_set():
    prepared = [
        expand(["method=human", *more], look=False)[0].nodes["prepare"]
        for more in ([], ["data.positive=a"], ["data.positive=b"])
    ]
    assert "positive" not in prepared[0].config["data"] and prepared[1].config["data"]["positive"] == "a"
    assert len({node.key for node in prepared}) == 3


def test_a_choice_that_writes_less_than_the_usual_one_is_the_same_in_a_sweep(tmp_path, monkeypatch):
    """method=cw_po, the usual choice, also writes the section weighting."""
    folder = shutil.copytree(CONF, tmp_path / "conf")
    (folder / "method" / "mine.yaml").write_text("name: mine\nlabels: weak\n")
    monkeypatch.setattr(composition, "CONF", folder)
    monkeypatch.setattr(composition, "composing", lambda: composing(folder))
    for cached in (composition._written, composition._composed):
        cached.cache_clear()
    weightings = {}
    for words in (["method=mine"], ["method=mine,human"], ["method=human,mine"]):
        made = next(arm for arm in expand([*SMOKE, *words], look=False) if arm.cfg.method.name == "mine")
        weightings[words[0]] = made.cfg.weighting.name, made.key
    for cached in (composition._written, composition._composed):
        cached.cache_clear()
    assert len(set(weightings.values())) == 1


def test_a_swept_selection_keeps_the_swept_values():
    words = ["method=cw_po", "method.selection.kind=all,threshold", "method.selection.value=0.3,0.6"]
    selections = [arm.cfg.method.selection for arm in expand(words)]
    assert [each.kind for each in selections] == ["all", "threshold", "threshold"]
    assert [each.value for each in selections[1:]] == [0.3, 0.6]


def test_a_sweep_over_mappings_keeps_none_of_the_point_before():
    arms = expand(["alignment={learning_rate:0.01},{epochs:5}"], look=False)
    (plain,) = expand([], look=False)
    usual = plain.cfg.alignment
    assert [(arm.cfg.alignment.learning_rate, arm.cfg.alignment.epochs) for arm in arms] == [
        (0.01, usual.epochs),
        (usual.learning_rate, 5),
    ]


def test_a_sweep_may_list_choices_by_pattern_and_add_keys():
    arms = expand(["method=human", "data=glob(h*)", "++seed=3,4"])
    assert {arm.cfg.data.name for arm in arms} == {"harmless", "helpful", "hh_rlhf"} and len(arms) == 6
    assert [arm.point["seed"] for arm in arms] == [3, 4] * 3
    words = ["experiment=table13", "data=harmless", "human_fraction=0.3", "++seed=7"]
    assert [arm.cfg.seed for arm in expand(words)] == [7]
    words = ["method=human", "+data.columns.chosen=good,better"]
    columns = [arm.cfg.data.columns for arm in expand(words, look=False)]
    assert columns == [{"chosen": "good"}, {"chosen": "better"}]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=interval(0,3)", r"seed=interval\(0,3\) has endlessly many values; list some"),
        ("seed=range(3,3)", "seed= names no value to sweep over"),
        ("data=glob(x*)", "data= names no value to sweep over"),
    ],
)
def test_a_sweep_without_a_list_of_values_is_refused(word, message):
    with pytest.raises(InputError, match=message):
        expand(["method=human", word])


def test_several_experiments_in_one_sweep_are_refused():
    with pytest.raises(
        InputError, match="experiment=table5,table13 names several sweeps; run one at a time, or all with make"
    ):
        expand(["experiment=table5,table13"])


@pytest.mark.parametrize("rate", ["0", "-1"])
def test_update_sizes_are_positive(rate):
    with pytest.raises(InputError, match=f"update_sizes.opt.matched={rate}.* must be positive"):
        expand([*SMOKE, f"+update_sizes={{opt: {{matched: {rate}}}}}", "alignment.learning_rate=null"])


def test_equal_steps_leave_an_sft_model_that_learns_from_all_pairs_as_it_is(store):
    arms = {
        (method, labels): smoke_arm(store, f"method={method}", f"method.sft_labels={labels}").nodes
        for method in ("filter", "filter_steps")
        for labels in ("own", "human")
    }
    assert arms["filter", "human"]["sft"].key == arms["filter_steps", "human"]["sft"].key
    assert arms["filter", "own"]["sft"].key != arms["filter_steps", "own"]["sft"].key
    for labels in ("own", "human"):
        assert arms["filter", labels]["align"].key != arms["filter_steps", labels]["align"].key
