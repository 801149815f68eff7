"""Made-up results of every experiment of the paper, for tests of the claims and of the page. Nothing here was measured."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from conftest import REPO

from cwpo.results import (
    ANNOTATOR_COLUMNS,
    CONFIDENCE_COLUMNS,
    DETAIL_COLUMNS,
    DISAGREEMENT_COLUMNS,
    EMBEDDING_COLUMNS,
    REWARD_COLUMNS,
    RUN_COLUMNS,
    SAMPLE_COLUMNS,
    RunRewards,
    rewards_file,
    write_rows,
)

PROMPTS = 100
IDS = [f"p{i:03}" for i in range(PROMPTS)]
HH = ("harmless", "helpful", "hh_rlhf")
WEAK = {"opt": "world/opt-32x1", "qwen": "world/qwen2-32x1"}
OPT_13B, QWEN_14B, LLAMA = "world/opt-160x4", "world/qwen2-160x4", "world/llama-128x4"
OPT_1_3B, QWEN_7B, QWEN_3B = "world/opt-96x3", "world/qwen2-128x4", "world/qwen2-128x2"
OPT_SMALL, QWEN_MID = (WEAK["opt"], OPT_1_3B), (WEAK["qwen"], QWEN_7B)
OPT_LARGE, QWEN_LARGE = (WEAK["opt"], OPT_13B), (WEAK["qwen"], QWEN_14B)
SIZES = {"opt": ("96x3", "128x3", "128x4", "192x4"), "qwen2": ("96x2", "96x3", "128x4", "192x4")}
STUDENTS = [(f"world/{name}-32x1", f"world/{name}-{size}") for name in SIZES for size in SIZES[name]]
WS = ("ws_dpo", "ws_dpo_likelihood", "ws_bt")
ARMS = ("human", *WS, "cw_po")
EVERY_ARM = (*ARMS, "cw_dpo_annotator", "filter")
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75)
RATES = (3e-5, 1e-4, 3e-4, 1e-3)

GRA = {
    "human": 0.60,
    "human_all": 0.62,
    "human_labeled": 0.55,
    "ws_dpo": 0.64,
    "ws_dpo_likelihood": 0.52,
    "ws_bt": 0.64,
    "cw_po": 0.70,
    "cw_dpo_annotator": 0.68,
    "filter": 0.66,
    "gold": 0.80,
    "flips": 0.62,
    "online_rm": 0.75,
    "online_ws_po": 0.55,
    "online_cw_po": 0.56,
}
Row = dict[str, Any]


def grid(experiment: str, pairs: Sequence, data: Sequence, methods: Sequence, **more: Sequence) -> Iterator[Row]:
    """Every combination, as conditions of one arm."""
    for (weak, strong), name, method, *values in itertools.product(pairs, data, methods, *more.values()):
        arm = {"experiment": experiment, "weak": weak, "strong": strong, "data": name, "method": method}
        yield {"objective": "dpo", "human_fraction": 0.3, **arm, **dict(zip(more, values))}


def arms() -> Iterator[Row]:
    """One dictionary per arm of the paper, without seeds."""
    table1 = ("hh_rlhf", "tldr", "ufb")
    for name in ("table1", "table17"):
        yield from grid(name, (OPT_LARGE, QWEN_LARGE), table1, ARMS, objective=("dpo", "ipo", "rdpo"))
    yield from grid("table2", STUDENTS, ("hh_rlhf", "tldr"), ARMS)
    yield from grid("table3", (OPT_SMALL, QWEN_MID), (*HH, "tldr"), ("human_all", "cw_po"))
    yield from grid("table4", (OPT_SMALL, QWEN_MID), HH, ("cw_po",))
    yield from grid("table4", (OPT_SMALL, QWEN_MID), HH, ("filter",), keep_fraction=(0.3, 0.4))
    yield from grid("table5", (QWEN_MID,), HH, ("cw_po",), weighting=("c1", "c2", "c3", "c4"))
    cross = ((WEAK["opt"], QWEN_14B), (WEAK["qwen"], OPT_13B), (WEAK["qwen"], LLAMA))
    yield from grid("table16", cross, HH, ARMS)
    online = ("online_rm", "online_ws_po", "online_cw_po")
    yield from grid("table21", ((WEAK["qwen"], QWEN_3B),), ("hh_rlhf", "tldr"), online)
    yield from grid("table22", ((WEAK["qwen"], QWEN_3B),), ("hh_rlhf", "tldr"), ("online_cw_po", "cw_po"))
    shp = tuple(f"shp_ask{name}" for name in ("academia", "baking", "engineers", "philosophy"))
    yield from grid("table23", (QWEN_MID, QWEN_LARGE), shp, ARMS)
    weak = (*WS, "cw_po")
    yield from grid("table24", (QWEN_MID,), ("harmless", "helpful"), weak, own_share=(0.2, 0.5, 0.8))
    yield from grid("table25", (QWEN_MID,), ("harmless",), weak, poison_fraction=(0.05, 0.1, 0.15, 0.2))
    yield from grid("table26", (QWEN_MID,), ("hh_rlhf", "tldr"), ARMS)
    yield from grid("table26", (QWEN_MID,), ("hh_rlhf", "tldr"), ("cw_po",), annotator=("pairrm",))
    yield from grid("figure2", (OPT_SMALL, QWEN_MID), HH, ("human", "ws_bt"))
    yield from grid("figure2", (OPT_SMALL, QWEN_MID), HH, ("filter",), keep_fraction=(0.3, 0.5, 0.75))
    two = ("harmless", "helpful")
    yield from grid("figure3_left", (OPT_SMALL,), two, weak, human_fraction=SHARES)
    yield from grid("figure3_right", (OPT_SMALL,), two, ("cw_po", "human_labeled"), human_fraction=SHARES)
    yield from grid("figure4", (OPT_SMALL,), HH, ("ws_bt", "cw_po"))
    yield from grid("figure4", (OPT_SMALL,), HH, ("filter",), keep_fraction=THRESHOLDS)
    yield from grid("figure5", (QWEN_MID,), (*HH, "tldr"), ("human", "cw_po"))
    yield from grid("capacity", STUDENTS, two, ARMS)
    yield from grid("fresh_models", (OPT_SMALL, QWEN_MID), two, ARMS)
    yield from grid("headline", (OPT_SMALL,), two, (*ARMS, "human_all", "filter"))
    yield from grid("controls", (OPT_SMALL, QWEN_MID), two, ("human",))
    controls = (*EVERY_ARM[1:], "gold", "flips")
    yield from grid("controls", (OPT_SMALL, QWEN_MID), two, controls, sft_labels=("own", "human"))


def over_rates() -> Iterator[Row]:
    """The arms that are swept over update sizes, without seeds, at which they may lie at operating points."""
    pairs, two = (OPT_SMALL, QWEN_MID), ("harmless", "helpful")
    for name in ("frontier", "tuning"):
        for arm in grid(name, pairs, two, EVERY_ARM, learning_rate=RATES):
            best = RATES[1] if arm["method"] == "human" else RATES[2]
            at = [point for point, rate in (("matched", RATES[1]), ("own_best", best)) if arm["learning_rate"] == rate]
            yield arm | {"point": "both" if len(at) == 2 else next(iter(at), None)}
    noise_and_pairs = {"label_flip": (0.05, 0.3), "data_pairs": (750, 1500), "learning_rate": RATES[:2]}
    yield from grid("regimes", (QWEN_MID,), ("helpful",), (*ARMS, "filter"), **noise_and_pairs)


def at_points(arm: Row) -> Iterator[Row]:
    """Human's own best update size is the matched one; the others have another."""
    points = ("both",) if arm["method"].startswith("human") else ("matched", "own_best")
    yield from (arm | {"point": point} for point in points)


def default_gra(arm: Row) -> float:
    """A world in which most of the paper's claims hold."""
    value = GRA[arm["method"]]
    if arm["method"] == "filter" and "keep_fraction" in arm:  # the best threshold differs by data set
        value -= 0.1 * abs(arm["keep_fraction"] - (0.2 if arm["data"] == "harmless" else 0.4))
    value -= {"c2": 0.03, "c3": 0.04, "c4": 0.05}.get(arm.get("weighting", ""), 0)
    sensitivity = 2 if arm["method"] in WS else 1
    value += 0.05 * sensitivity * (arm.get("own_share", 1) - 1)
    value -= 0.2 * sensitivity * arm.get("poison_fraction", 0)
    if arm.get("annotator") == "pairrm":
        value -= 0.03
    if arm["experiment"] == "table2" and arm["method"] == "cw_po":
        value += 0.05 if arm["strong"].endswith(("96x3", "96x2", "opt-128x2")) else 0
    if arm.get("learning_rate"):
        value -= 0.05 * abs(np.log10(arm["learning_rate"] / (RATES[1] if arm["method"] == "human" else RATES[2])))
    value += 0.02 * (arm.get("point") == "own_best")
    return value


def annotators() -> Iterator[Row]:
    """One dictionary per trained annotator, without seeds, with the accuracy that it has on average."""
    for weak, data in itertools.product(WEAK.values(), HH):
        row = {"experiment": "table6", "weak": weak, "data": data, "human_fraction": 0.3}
        yield row | {"annotator": "bt", "accuracy_human": 0.65, "train_seconds": 2.0}
        for scoring, gain in (("likelihood", 0), ("implicit", 0.12)):
            yield row | {"annotator": "dpo", "scoring": scoring, "accuracy_human": 0.54 + gain, "train_seconds": 3}
            yield row | {"annotator": "sft_dpo", "scoring": scoring, "accuracy_human": 0.55 + gain, "train_seconds": 5}
    for rank, size in enumerate(("32x1", "96x2", "96x3", "128x4")):
        for data in ("harmless", "helpful", "tldr"):
            row = {"experiment": "table12", "weak": f"world/qwen2-{size}", "data": data, "human_fraction": 0.3}
            yield row | {"annotator": "bt", "accuracy_human": 0.63 + 0.01 * rank}
    for data, fraction in itertools.product(HH, SHARES):
        row = {"experiment": "table13", "weak": WEAK["opt"], "data": data, "human_fraction": fraction}
        yield row | {"annotator": "bt", "accuracy_human": 0.60 + 0.2 * min(fraction, 0.3)}
    for poison in (0, 0.05, 0.1, 0.15, 0.2):
        row = {"experiment": "figure8", "weak": WEAK["qwen"], "data": "harmless", "human_fraction": 0.3}
        yield row | {"annotator": "bt", "poison_fraction": poison, "accuracy_human": 0.65 - 0.3 * poison}


def noise(*what: object) -> int:
    """-1, 0 or 1, always the same for the same words."""
    return zlib.crc32(repr(what).encode()) % 3 - 1


def run_of(arm: Row, seed: int, gra: float, level: float = 1.0, **details: float) -> tuple[Row, Row, Row]:
    """Rows of runs.csv, details.csv and the rewards of one arm: it wins on exactly the share `gra` of its prompts.

    Mean gold reward is level + 2 gra - 1, that of the SFT model is level.
    """
    wins = round(gra * PROMPTS)
    reward = np.where(np.arange(PROMPTS) < wins, level + 1, level - 1)
    key = f"{zlib.crc32(repr((sorted(arm.items(), key=str), seed)).encode()):08x}{len(arm)}"
    weak = arm["method"] not in ("human", "human_all", "human_labeled", "online_rm")
    kept = 0.3 if arm["method"] == "filter" else 1.0
    defaults = {
        "scale": "toy",
        "annotator": "bt" if weak else None,
        "weighting": "c1" if "cw" in arm["method"] else "uniform" if weak else None,
        "keep_fraction": kept if weak else None,
    }
    measured = {
        "seed": seed,
        "gra": wins / PROMPTS,
        "tie_rate": 0.0,
        "gra_se": 0.05,
        "reward_mean": reward.mean(),
        "reward_sft_mean": level,
        "n_train": 84,
        "n_eval": PROMPTS,
        "train_seconds": 1.5,
        "run_key": key,
        "git_commit": "abc123",
    }
    row = {name: ({**defaults, **arm, **measured}).get(name) for name in RUN_COLUMNS}
    plain = {"margin_agreement": 0.6 + gra / 4, "mean_length": 5.0, "truncated_share": 0.01, "learning_rate": 2e-4}
    plain |= {"truncated_share_sft": 0.01, "train_accuracy": 0.8, "human_gold_agreement": 0.73, "kl_se": 0.05}
    plain |= {"equal_steps": False, "sft_labels": "own", "annotator_seconds": 2.0 if weak else None}
    extra = {name: arm[name] for name in DETAIL_COLUMNS if name in arm}
    detail = dict.fromkeys(DETAIL_COLUMNS) | plain | extra | details | {"experiment": arm["experiment"], "run_key": key}
    detail["kl"] = details.get("kl", 3e4 * detail["learning_rate"])
    kl = detail["kl"] + np.where(np.arange(PROMPTS) % 2, 0.5, -0.5)
    return row, detail, RunRewards.of(IDS, reward, np.full(PROMPTS, level), kl).row(key)


def write_rewards(folder: Path, runs: Sequence[Row], rewards: Sequence[Row]) -> None:
    """The files of REWARD_COLUMNS below results/<scale>/; rows of `rewards` belong to those of `runs`."""
    table = pd.DataFrame(list(rewards), columns=REWARD_COLUMNS)
    for name, rows in table.groupby(pd.Series([row["experiment"] for row in runs], index=table.index, dtype=object)):
        write_rows(rewards_file(folder, str(name)), rows, REWARD_COLUMNS)


def write(folder: Path, runs: Sequence[tuple[Row, Row, Row]], trained: Sequence[Row] = ()) -> Path:
    """Write the result files of scale toy into `folder`/toy, with the paper's numbers beside them."""
    toy = folder / "toy"
    for name, columns, rows in (
        ("runs.csv", RUN_COLUMNS, [run[0] for run in runs]),
        ("details.csv", DETAIL_COLUMNS, [run[1] for run in runs]),
        ("annotators.csv", ANNOTATOR_COLUMNS, list(trained)),
    ):
        write_rows(toy / name, pd.DataFrame(rows, columns=columns), columns)
    write_rewards(toy, [run[0] for run in runs], [run[2] for run in runs])
    (folder / "paper").mkdir(exist_ok=True)
    paper = REPO / "results/paper/paper_results.csv"
    (folder / "paper" / "paper_results.csv").write_bytes(paper.read_bytes())
    return folder


def annotator_of(trained: Row, seed: int) -> Row:
    number = noise(trained, seed)
    row = dict.fromkeys(ANNOTATOR_COLUMNS) | {"scale": "toy", "train_seconds": 2.0, "git_commit": "abc123"} | trained
    row |= {"seed": seed, "n_train": 1200, "n_eval": 1000, "human_gold_agreement": 0.73}
    row["accuracy_human"] = trained["accuracy_human"] + 0.002 * number
    row["accuracy_gold"] = row["accuracy_human"] + 0.1
    row |= {"accuracy_gold_top30": 0.9, "accuracy_gold_bottom30": 0.6}
    row["run_key"] = f"a{zlib.crc32(repr((sorted(trained.items(), key=str), seed)).encode()):08x}"
    return row


def complete(folder: Path, *, seeds: Sequence[int] = (0, 1, 2), gra: Callable[[Row], float] = default_gra) -> Path:
    """Every experiment, with a seed's noise of at most one point of GRA in each arm."""
    given = [at_point for arm in arms() for at_point in at_points(arm)]
    dev = [1000 + seed for seed in seeds]
    each = [
        (arm, seed) for arm in (*given, *over_rates()) for seed in (dev if arm["experiment"] == "tuning" else seeds)
    ]
    runs = [run_of(arm, seed, gra(arm) + 0.01 * noise(arm, seed)) for arm, seed in each]
    write(folder, runs, [annotator_of(row, seed) for row in annotators() for seed in seeds])
    confidences(folder / "toy", seeds)
    texts(folder / "toy")
    points = [
        {
            "data": "hh_rlhf",
            "strong": QWEN_3B,
            "seed": 0,
            "source": source,
            "pair_id": f"e{n}",
            "x": n % 3 + at,
            "y": n % 4,
        }
        for (at, source), n in itertools.product(enumerate(("labeled", "offline", "online_cw_po")), range(12))
    ]
    write_rows(folder / "toy/embeddings.csv", pd.DataFrame(points), EMBEDDING_COLUMNS)
    return folder


def confidences(toy: Path, seeds: Sequence[int]) -> None:
    """Histograms with 20 bins, of another shape for each data set."""
    rows = []
    for (i, data), seed in itertools.product(enumerate(("harmless", "helpful", "hh_rlhf", "tldr", "ufb")), seeds):
        for bin in range(20):
            pairs = 10 + 5 * i * bin + noise(data, seed, bin)
            key = {"run_key": f"c{data}{seed}", "data": data, "weak": WEAK["opt"], "annotator": "bt", "seed": seed}
            rows.append(
                key | {"low": bin / 20, "high": (bin + 1) / 20, "pairs": pairs, "agree_human": 5, "agree_gold": 6}
            )
    write_rows(toy / "confidences.csv", pd.DataFrame(rows), CONFIDENCE_COLUMNS)


SCRIPT = "<script>alert('x')</script> **not bold** | & [link](http://example.org)"


def texts(toy: Path) -> None:
    """Sample responses and disagreements, with text that a page must not take as its own."""
    samples, pairs = [], []
    for data, method, number in itertools.product(("harmless", "tldr"), ARMS, range(2)):
        samples.append(
            {
                "run_key": f"s{data}{method}",
                "data": data,
                "strong": QWEN_7B,
                "method": method,
                "seed": 0,
                "prompt_id": f"p{number}",
                "prompt": f"Could you tell me about lamps, please? ({number})",
                "response_sft": "Lamps give light. Clean the shade with a dry cloth.",
                "response": SCRIPT if method == "cw_po" else "A lamp needs a bulb that fits its socket.",
                "reward_sft": 1.25,
                "reward": 2.5,
            }
        )
    for data, band, number in itertools.product(("harmless", "helpful"), ("low", "high"), range(3)):
        pairs.append(
            {
                "run_key": f"d{data}",
                "data": data,
                "weak": WEAK["opt"],
                "seed": 0,
                "band": band,
                "pair_id": f"q{band}{number}",
                "confidence": 0.05 if band == "low" else 0.95,
                "prompt": "What is a good way to store onions?",
                "preferred_by_weak": "Keep them dry and dark. <b>Never</b> next to potatoes.",
                "preferred_by_human": SCRIPT,
                "gold_weak": 2.0,
                "gold_human": -0.5,
            }
        )
    write_rows(toy / "samples.csv", pd.DataFrame(samples), SAMPLE_COLUMNS)
    write_rows(toy / "disagreements.csv", pd.DataFrame(pairs), DISAGREEMENT_COLUMNS)
