"""GPU-hours by hand, what `plan` prints, and the table of experiments in conf/README.md."""

import re

import pytest
from conftest import REPO
from harness.commands import TINY
from omegaconf import OmegaConf
from planning.cost_table import GOLD, HEAD, row, table

from cwpo.commands.plan import show_plan
from cwpo.config.schema import CONF
from cwpo.errors import InputError
from cwpo.pipeline.arms import Arm, distinct, expand
from cwpo.planning.calibration import Calibration, Rate, calibration_of
from cwpo.planning.gpu_hours import Sizes, arm_hours, stage_hours
from cwpo.planning.plan import hour_lines, level_lines
from cwpo.store.store import Store

README = (REPO / "conf" / "README.md").read_text(encoding="utf-8")
SKYWORK = 7.5e9
PEAK = 989e12 * 3600  # operations an hour


def paper(*words: str) -> list[Arm]:
    return expand(["scale=paper", *GOLD, *words], seeds=[0], look=False)


def hours(arm: Arm, name: str) -> float:
    return arm_hours(arm)[arm.nodes[name].key]


def test_every_stage_of_an_arm_by_hand():
    (arm,) = paper("method=cw_po", "data=tldr", "pair=opt_large")  # 117,011 + 6,158 pairs, 340 + 37 tokens
    labeled, unlabeled, test = 0.3 * 117011, 0.7 * 117011, 6158
    train, sample = 0.35 * PEAK, 0.02 * PEAK
    expected = {
        # full fine-tuning, 6 a parameter and token, 5 epochs over two responses with their prompts
        "train_annotator": 6 * 0.125e9 * 2 * 377 * labeled * 5 / train,
        "annotate": 2 * 0.125e9 * 2 * 377 * (labeled + unlabeled + test) / train,
        # LoRA 4, activations again 2, 3 epochs
        "sft": 6 * 13e9 * 377 * unlabeled * 3 / train,
        # the prompt once for both responses
        "reference": 2 * 13e9 * (340 + 2 * 37) * unlabeled / train,
        "align": 6 * 13e9 * (340 + 2 * 37) * unlabeled * 5 / train,
        "generate": 2 * 13e9 * test * (340 / train + 512 / sample),
        "generate_sft": 2 * 13e9 * test * (340 / train + 512 / sample),
        "divergence": 2 * 13e9 * (2 * (340 + 512) * test + (340 + 2 * 37) * 2000) / train,
        "score_gold": 2 * SKYWORK * 2 * 377 * (labeled + unlabeled + test) / train,
        "evaluate": 2 * SKYWORK * 2 * (340 + 512) * test / train,
    }
    for name, value in expected.items():
        assert hours(arm, name) == pytest.approx(value), name
    assert {name for name, node in arm.nodes.items() if arm_hours(arm)[node.key] == 0} == {
        "prepare",
        "select",
        "weight",
        "assess",
    }
    assert sum(stage_hours([arm], arm.run).values()) == pytest.approx(sum(expected.values()))


@pytest.mark.soak
def test_settings_that_change_the_work():
    def of(name: str, *words: str) -> float:
        (arm,) = paper("data=harmless", "pair=qwen_mid", *words)
        return hours(arm, name)

    whole = of("align", "method=ws_bt")
    assert of("align", "method=filter", "method.selection.value=0.3") == pytest.approx(0.3 * whole)
    assert of("align", "method=filter_steps") == pytest.approx(whole)
    assert of("align", "method=ws_bt", "lora.enabled=false") == pytest.approx(8 / 6 * whole)
    assert of("align", "method=ws_bt", "alignment.gradient_checkpointing=false") == pytest.approx(4 / 6 * whole)
    assert of("sft", "method=ws_bt", "sft.epochs=6") == pytest.approx(2 * of("sft", "method=ws_bt"))
    assert of("align", "method=ws_bt", "plan.utilisation=0.7") == pytest.approx(whole / 2)
    assert of("align", "method=ws_bt", "human_fraction=0.65") == pytest.approx(whole / 2)
    assert of("align", "method=human_all") == pytest.approx(whole / 0.7)
    bt = of("train_annotator", "method=ws_bt")
    assert of("train_annotator", "method=ws_dpo") > 0.9 * bt
    assert of("online_align", "method=online_cw_po") > 10 * whole  # two long samples for every pair


def test_measured_rates_take_the_place_of_stated_ones(tmp_path):
    """Between two sizes on a line in logarithms, beyond them the nearest; the file is read back as it was."""
    rates = [Rate(1e9, 1e13, 2e13, 1e12), Rate(4e9, 4e13, 2e13, 1e12)]
    Calibration("a card", rates).write(tmp_path / "store")
    measured = calibration_of(tmp_path / "store")
    assert measured == Calibration("a card", rates) and calibration_of(tmp_path) is None
    for size, rate in {1e8: 1e13, 1e9: 1e13, 2e9: 2e13, 4e9: 4e13, 1e11: 4e13}.items():
        assert measured.rate("training", size) == pytest.approx(rate)
    (arm,) = paper("method=cw_po", "data=tldr", "pair=opt_large")
    stated, found = hours(arm, "align"), arm_hours(arm, measured)[arm.nodes["align"].key]
    assert found == pytest.approx(stated * 0.35 * 989e12 / 4e13)
    assert "rates measured on a card" in hour_lines([arm], Store(tmp_path / "store"))[1]


def test_gold_of_the_data_set_is_counted():
    (named,) = expand(["scale=single_gpu", "method=cw_po", "pair=opt_small"], seeds=[0], look=False)
    assert hours(named, "score_gold") > 0 and hours(named, "evaluate") > 0


def test_a_stage_that_arms_share_counts_once():
    both = paper("method=ws_bt,cw_po", "data=harmless", "pair=opt_small")
    one, two = (stage_hours(arms, distinct(arms)) for arms in (both[:1], both))
    assert two["train_annotator"] == one["train_annotator"]
    assert two["sft"] == one["sft"]
    assert two["align"] == pytest.approx(2 * one["align"])


def test_a_model_or_a_data_set_of_unknown_size_is_named():
    with pytest.raises(InputError, match=r"plan.parameters has no my/model"):
        arm_hours(*paper("pair.strong=my/model"))
    (arm,) = paper("data.name=mine")
    with pytest.raises(InputError, match=r"plan.data has no mine; add"):
        Sizes.of(arm.cfg)


def test_what_is_cached_costs_nothing_and_opens_no_level(tmp_path):
    arms = paper("method=human", "data=harmless", "pair=opt_small")
    store = Store(tmp_path)
    before = hour_lines(arms, store)
    assert re.match(r"about \d[\d,.]* GPU-hours left: ", before[0])
    assert before[1].startswith(
        "assumed: GPUs of 989 TFLOP/s, used to 35% in training and scoring and to 2.0% in sampling"
    )
    assert "harmless 35,908 + 1,927 pairs, a prompt of 22 tokens" in before[1]
    levels = level_lines(arms, store)
    for node in distinct(arms):
        if node.name in ("prepare", "select", "sft"):
            node.folder(store).mkdir(parents=True)
            (node.folder(store) / "manifest.json").write_text("{}")
    after = hour_lines(arms, store)
    assert " sft " in before[0] and " sft " not in after[0]
    assert len(level_lines(arms, store)) == len(levels) - 1


def test_plan_prints_levels_and_where_the_scale_says_how_gpu_hours(tmp_path, capsys):
    show_plan([*TINY, "method=human,cw_po", f"store={tmp_path}", "hydra/launcher=submitit_slurm", "plan.tflops=null"])
    said = capsys.readouterr().out
    assert "level 1: " in said and "jobs (" in said and "where the command runs" in said
    assert "GPU-hours" not in said


# The table in conf/README.md


def rows_of_table() -> dict[str, str]:
    part = README.partition("## Every experiment")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines[1:]}


def test_the_table_has_every_experiment():
    assert set(rows_of_table()) == {path.stem for path in (CONF / "experiment").glob("*.yaml")}
    assert f"| {' | '.join(HEAD)} |" in README


def test_the_table_counts_the_seeds_of_each_file():
    for name, line in rows_of_table().items():
        seeds = str(OmegaConf.load(CONF / "experiment" / f"{name}.yaml").hydra.sweeper.params.seed)
        assert line.split(" | ")[5] == str(len(seeds.split(","))), name


@pytest.mark.parametrize("name", ["figure8", "table21", "table25"])
def test_rows_of_the_table_are_what_the_configs_give(name):
    assert rows_of_table()[name] == f"| {' | '.join(row(name))} |"


@pytest.mark.slow
def test_the_whole_table_is_what_the_configs_give():
    assert table() in README
