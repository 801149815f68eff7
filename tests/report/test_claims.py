"""The claims ledger over made-up results: every verdict comes out where it should, from numbers derived by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from claims_results import (
    OPT_LARGE,
    OPT_SMALL,
    QWEN_LARGE,
    QWEN_MID,
    WEAK,
    WS,
    annotator_of,
    confidences,
    grid,
    run_of,
    write,
)

from cwpo.report.claims.evidence import of_paper, of_results
from cwpo.report.claims.ledger import CLAIMS, Entry, judge_all
from cwpo.report.claims.measures import over_best, own_choice_pays
from cwpo.report.claims.outcome import assess
from cwpo.report.claims.rule import VERDICTS, Judged, judge
from cwpo.report.claims.write import _form as form_of
from cwpo.report.claims.write import _with_interval as with_interval
from cwpo.report.claims.write import write_claims
from cwpo.report.inputs import load
from cwpo.report.names import METHOD_NAMES, model_size
from cwpo.results import CONFIDENCE_COLUMNS, ResultsError
from cwpo.statistics import t_interval

BY_ID = {claim.id: claim for claim in CLAIMS}
CELLS = [("hh_rlhf", OPT_LARGE), ("tldr", QWEN_LARGE)]


def outcome_of(folder, name, point="matched"):
    """One claim over the result files in folder/toy."""
    results = load(folder, "toy")
    return assess(BY_ID[name], of_results(results.at(point)), of_paper(results.paper), "toy")


@pytest.fixture(scope="module")
def everything(made_up_results, made_up_loaded):
    """Results of every experiment, and all claims over them."""
    return made_up_results, {entry.claim.id: entry for entry in judge_all(made_up_loaded)}


def run(experiment, pair, data, method, seed, gra, level=1.0, **columns):
    """One run, which wins on the share `gra` of its prompts."""
    (arm,) = grid(experiment, (pair,), (data,), (method,), **{name: (value,) for name, value in columns.items()})
    return run_of(arm, seed, gra, level)


def arms_that_differ(by_seed, *, a="cw_po", b="ws_dpo", point="matched", base=0.5, **details):
    """Two arms of Table 1 that differ by `by_seed` points of GRA in every cell; details_a and details_b go into details.csv."""
    for seed, points in enumerate(by_seed):
        for data, pair in CELLS:
            for method, gra, given in ((b, base, "details_b"), (a, base + points / 100, "details_a")):
                (arm,) = grid("table1", (pair,), (data,), (method,), point=(point,))
                yield run_of(arm, seed, gra, **details.get(given, {}))


def pair_of_arms(folder, by_seed, **more):
    return write(folder, list(arms_that_differ(by_seed, **more)))


# The rule itself.


def test_the_interval_is_t_over_seed_means():
    # mean 2, s = 1, n = 3: half width t(.975, 2) / sqrt(3) = 4.302653 / 1.732051 = 2.484138
    assert t_interval([1, 2, 3]) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
    # n = 2: mean 1, s = sqrt(2), half width 12.706205 * sqrt(2) / sqrt(2)
    assert t_interval([0, 2]) == pytest.approx((1 - 12.706205, 1 + 12.706205), abs=1e-5)


@pytest.mark.parametrize(
    ("by_seed", "verdict"),
    [
        ([4, 5, 6], "reproduced"),  # 5 ± 2.48
        ([2, 2, 2], "reproduced"),  # no spread at all
        ([-4, -5, -6], "opposite"),
        ([-0.3, 0.0, 0.3], "not reproduced"),  # ± 0.75: excludes the margin of 1
        ([-1, 0, 1], "inconclusive"),  # ± 2.48: holds both 0 and the margin
        ([-3, -1, 0.5], "inconclusive"),
        ([5], "inconclusive"),
        ([], "not run"),
        ([0, 0, 0], "not reproduced"),
    ],
)
def test_every_verdict(by_seed, verdict):
    assert judge(by_seed, margin=1).verdict == verdict


def test_a_claim_that_an_effect_is_below_a_value():
    assert judge([2, 3, 4], margin=1, value=6, below=True).verdict == "reproduced"  # 3 ± 2.48 < 6
    assert judge([8, 9, 10], margin=1, value=6, below=True).verdict == "opposite"
    assert judge([5.9, 6.0, 6.1], margin=1, value=6, below=True).verdict == "not reproduced"
    assert judge([4, 6, 8], margin=1, value=6, below=True).verdict == "inconclusive"


def test_bad_effects_are_refused():
    with pytest.raises(ValueError, match="must be finite"):
        judge([1, float("nan")], margin=1)


# Verdicts from result files. The paper's effect is 1.6 points, so the margin is 0.8.


@pytest.mark.parametrize(
    ("by_seed", "verdict"),
    [
        ((5, 6, 7), "reproduced"),
        ((-5, -6, -7), "opposite"),
        ((0, 0, 0), "not reproduced"),
        ((-4, 0, 5), "inconclusive"),
        ((9,), "inconclusive"),
    ],
)
@pytest.mark.parametrize("method", WS)
def test_results_get_the_verdict_they_deserve_at_each_point(tmp_path, by_seed, verdict, method):
    """The verdict's results at one operating point, their reverse at the other."""
    other = {"reproduced": "opposite", "opposite": "reproduced"}.get(verdict, verdict)
    reverse = [-points for points in by_seed]
    runs = [*arms_that_differ(by_seed, b=method), *arms_that_differ(reverse, b=method, point="own_best")]
    folder, name = write(tmp_path, runs), f"table1_dpo_cw_over_{method}"
    for point, values, expected in (("matched", by_seed, verdict), ("own_best", reverse, other)):
        outcome = outcome_of(folder, name, point)
        record = outcome.record()
        assert (record["verdict"], record["verdict_shown"]) == (expected, f"{expected} (toy scale)")
        assert record["effect"] == pytest.approx(np.mean(values), abs=1e-4)
        assert record["by_seed"] == pytest.approx(values)
        paper = (None, 0.5) if method == "ws_bt" else (1.6, 0.8)  # the paper has no arm like ws_bt
        assert (outcome.paper, outcome.margin) == (
            pytest.approx(paper[0]) if paper[0] else None,
            pytest.approx(paper[1]),
        )
        assert (record["runs"], record["prompts"]) == (4 * len(by_seed), 400 * len(by_seed))
        if len(by_seed) == 3:
            assert (record["low"], record["high"]) == pytest.approx(t_interval(values), abs=1e-4)


@pytest.mark.parametrize(("high", "small"), [(0.28, True), (0.45, False)])
def test_an_effect_is_called_small_against_half_of_the_papers_not_against_the_floor(tmp_path, high, small):
    """The paper's effect is 0.6 points, the smallest effect that matters 0.5."""
    outcome = outcome_of(write(tmp_path, []), "figure3_cw20_over_human100")
    found = replace(outcome, judged=Judged("reproduced", high - 0.04, high - 0.08, high))
    assert outcome.margin == 0.5 and any("the size is not" in note for note in found.notes) is small


@pytest.mark.parametrize("point", ["both", None])
def test_runs_at_both_points_or_at_none_count_at_both(tmp_path, point):
    folder = pair_of_arms(tmp_path, (5, 6, 7), point=point)
    found = [outcome_of(folder, "table1_dpo_cw_over_ws_dpo", at).judged for at in ("matched", "own_best")]
    assert found[0] == found[1] and found[0].verdict == "reproduced"
    assert load(folder, "toy").points() == (("matched", "own_best") if point else ("matched",))


def test_mean_gold_reward_stands_beside_gra(tmp_path):
    # 10 points more GRA are 0.2 more reward (see run_of), of which a level of 0.5 less makes -0.3
    runs = []
    for seed in (0, 1, 2):
        runs.append(run("table1", OPT_LARGE, "tldr", "cw_po", seed, 0.6, level=0.5))
        runs.append(run("table1", OPT_LARGE, "tldr", "ws_dpo", seed, 0.5))
    outcome = outcome_of(write(tmp_path, runs), "table1_dpo_cw_over_ws_dpo")
    assert outcome.judged.effect == pytest.approx(10)
    assert outcome.second[1:] == pytest.approx((-0.3, -0.3, -0.3))
    assert "Mean gold reward has the other sign: -0.300 [-0.300, -0.300]." in outcome.notes
    assert outcome.diagnostics["a"]["reward_sft"] == 0.5
    assert "1 of the paper's 6 cells were run." in outcome.notes


WORSE = {"margin_agreement": 0.68, "mean_length": 5.8, "truncated_share": 0.01, "kl": 6.0}
BETTER = WORSE | {"margin_agreement": 0.84}


@pytest.mark.parametrize(
    ("mine", "theirs", "why"),
    [
        (WORSE, BETTER, "its weighted labels agree less with gold (M 0.68 against 0.84)"),
        (BETTER | {"mean_length": 8.0, "truncated_share": 0.27}, WORSE, "run on (8.0 tokens and 27 % unfinished, against 5.8 and 1 %)"),
        (BETTER | {"kl": 3.0}, WORSE, "moved less from its SFT model (KL 3.00 against 6.00 nats)"),
        (BETTER | {"level": 2.0}, WORSE, "its own SFT model, which is the better one (gold reward 2.00 against 1.00)"),
        (BETTER, WORSE, ""),
    ],
)  # fmt: skip
def test_the_opposite_is_said_plainly_with_one_known_reason(tmp_path, mine, theirs, why):
    folder = pair_of_arms(tmp_path, (-5, -6, -7), details_a=mine, details_b=theirs)
    first, *rest = outcome_of(folder, "table1_dpo_cw_over_ws_dpo").notes
    assert first == "The results say the opposite of the paper."
    reasons = [note for note in rest if note.startswith("Known reason")]
    assert len(reasons) == bool(why) and (not why or why in reasons[0])


def test_a_difference_between_model_families_is_said(tmp_path):
    arms = (
        (OPT_LARGE, "cw_po", 0.48),
        (OPT_LARGE, "ws_dpo", 0.5),
        (QWEN_LARGE, "cw_po", 0.58),
        (QWEN_LARGE, "ws_dpo", 0.5),
    )
    runs = [run("table1", pair, "tldr", method, seed, gra) for pair, method, gra in arms for seed in (0, 1, 2)]
    outcome = outcome_of(write(tmp_path, runs), "table1_dpo_cw_over_ws_dpo")
    assert outcome.judged.effect == pytest.approx(3)
    assert "Not the same for all models: world/opt-160x4 -2.00, world/qwen2-160x4 +8.00." in outcome.notes


def test_seeds_without_every_cell_are_left_out_and_counted(tmp_path):
    runs = [
        run("table1", OPT_LARGE, data, method, seed, gra)
        for data, seed in (("tldr", 0), ("ufb", 0), ("tldr", 1), ("ufb", 1), ("tldr", 2))
        for method, gra in (("cw_po", 0.6), ("ws_dpo", 0.5))
    ]
    outcome = outcome_of(write(tmp_path, runs), "table1_dpo_cw_over_ws_dpo")
    assert outcome.record()["seeds"] == [0, 1]
    assert "1 of 5 pairs of cell and seed left out: not every seed has every cell." in outcome.notes


def test_two_runs_of_one_seed_are_never_averaged(tmp_path):
    twice = [run("table1", OPT_LARGE, "tldr", "cw_po", 0, gra) for gra in (0.4, 0.6)]
    for number, made in enumerate(twice):
        for row in made:
            row["run_key"] = f"run{number}"
    with pytest.raises(ResultsError, match=r"run0 \(seed 0\), run1 .*have the same seed"):
        outcome_of(write(tmp_path, twice), "table1_dpo_cw_over_ws_dpo")


# The comparisons.


def test_every_claim_has_an_id_of_its_own_and_says_where_it_stands():
    assert len(BY_ID) == len(CLAIMS) >= 40
    assert all(claim.where.startswith(("Table", "Figure")) and claim.statement.endswith(".") for claim in CLAIMS)
    sources = {claim.id.partition("_")[0] for claim in CLAIMS}
    tables = {f"table{n}" for n in (1, 2, 3, 4, 5, 6, 12, 13, 16, 17, 21, 22, 23, 24, 25, 26)}
    assert sources == tables | {f"figure{n}" for n in (2, 3, 4, 5, 7, 8)}


def test_without_results_every_claim_is_not_run(tmp_path):
    write(tmp_path, [])
    found = judge_all(load(tmp_path, "toy"))
    assert [entry.claim.id for entry in found] == list(BY_ID)
    assert {o.shown for entry in found for o in entry.points.values()} == {"not run (toy scale)"}
    assert {point for entry in found for point in entry.points} == {"matched"}


def test_with_all_results_every_claim_is_tested(everything):
    _, found = everything
    assert all(list(entry.points) == ["matched", "own_best"][: 1 + entry.claim.of_arms] for entry in found.values())
    outcomes = {(name, point): o for name, entry in found.items() for point, o in entry.points.items()}
    verdicts = {where: outcome.judged.verdict for where, outcome in outcomes.items()}
    assert "not run" not in verdicts.values()
    assert {name for (name, _), verdict in verdicts.items() if verdict == "opposite"} == {
        "table6_bt_over_sft_dpo_implicit",
        "table3_saves_seconds",  # an annotator comes on top of alignments that all take 1.5 seconds
    }
    # every cell of the paper was found again in results of the same grid
    short = {n: (o.paper_cells, len(o.measured.effects)) for n, o in outcomes.items() if o.paper_cells}
    assert {n for n, (theirs, ours) in short.items() if ours < theirs} == set()


def test_claims_on_ws_name_which_one_and_stand_for_each():
    for rival in ("ws_dpo", "ws_dpo_likelihood", "ws_bt"):
        told = [
            claim
            for claim in CLAIMS
            if claim.id.endswith(("_" + rival, f"_{rival}_shrinks", f"_{rival}_more_sensitive"))
        ]
        # Tables 1 (three objectives), 2 (twice), 16, 17, 23, 24 (twice), 25, Figure 3
        assert len([claim for claim in told if not claim.id.startswith("table6")]) == 12
        assert all(METHOD_NAMES[rival] in claim.test for claim in told if claim.of_arms)


def test_labels_and_seconds_count_the_annotator(tmp_path):
    """CW-PO has 1.5 s of alignment and 2 s of annotator on 30 % of the labels, Human 3 times 1.5 s on all labels."""
    runs = []
    for seed in (0, 1, 2):
        cw, human = (run("table3", OPT_SMALL, "helpful", method, seed, 0.6) for method in ("cw_po", "human_all"))
        human[0]["train_seconds"] = 4.5
        runs += [cw, human]
    folder = write(tmp_path, runs)
    assert outcome_of(folder, "table3_saves_labels").judged == ("reproduced", 70, 70, 70)
    saved = 100 * (1 - 3.5 / 4.5)
    assert outcome_of(folder, "table3_saves_seconds").judged.effect == pytest.approx(saved)
    for _, detail, _ in runs:
        detail["annotator_seconds"] = None  # the cost of CW-PO is not known
    assert outcome_of(write(tmp_path, runs), "table3_saves_seconds").judged.verdict == "not run"


def test_paper_effects_are_the_papers_numbers(paper):
    def effect(name):
        claim = BY_ID[name]
        return (claim.paper or claim.measure)(getattr(paper, claim.table), claim.number).by_seed.item()

    # Table 3, CW - Human: 3.7 6.3 2.5 12.3 -2.0 2.5 5.3 1.0
    assert effect("table3_cw30_over_human100") == pytest.approx(31.6 / 8)
    # Table 22: 61.3 - 55.1 and 56.6 - 46.2
    assert effect("table22_offline_over_online") == pytest.approx((6.2 + 10.4) / 2)
    # Table 25: WS 70.1 - 62.2, CW 69.3 - 65.1
    assert effect("table25_ws_dpo_more_sensitive") == pytest.approx(7.9 - 4.2)
    # Table 24, own 80 less own 20 %: WS 59.3 - 52.2, 62.4 - 54.8; CW 61.6 - 56.1, 67.1 - 60.5
    assert effect("table24_ws_dpo_more_sensitive") == pytest.approx((7.1 + 7.6) / 2 - (5.5 + 6.6) / 2)
    # Table 5: the best of the others, on all three sets, is C4 (210.3 in all, C2 208.2, C3 205.2); C1 218.0
    assert effect("table5_c1_best") == pytest.approx((218.0 - 210.3) / 3)
    # Table 13, means 60.4 (10 %), 64.8 (30 %), 64.87 (50 %)
    assert effect("table13_flattens") == pytest.approx(2 * 64.8 - 60.4 - 194.6 / 3)
    assert effect("table6_bt_cheapest") == pytest.approx(100 * (1 - 2450 / 3319))
    assert effect("table6_bt_cheaper_than_ws_dpo") == pytest.approx(100 * (1 - 2450 / 4978))
    assert effect("table3_saves_labels") == 70
    assert effect("figure5_cw_wins") == pytest.approx(59.75)


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("paper"), [])
    return of_paper(load(folder, "toy").paper)


def test_the_best_rival_is_chosen_on_the_other_seeds(tmp_path):
    # Seed by seed the two thresholds are .62/.60, .58/.66, .60/.61. Others' means choose: seed 0 the second (.635 against
    # .59), seed 1 the first (.61 against .605), seed 2 the second (.63 against .60): .60, .58, .61 against CW .64.
    runs = []
    for seed, values in enumerate(((0.62, 0.60), (0.58, 0.66), (0.60, 0.61))):
        for share, gra in zip((0.3, 0.4), values):
            runs.append(run("table4", OPT_SMALL, "helpful", "filter", seed, gra, keep_fraction=share))
        runs.append(run("table4", OPT_SMALL, "helpful", "cw_po", seed, 0.64))
    outcome = outcome_of(write(tmp_path, runs), "table4_cw_over_best_threshold")
    assert outcome.record()["by_seed"] == pytest.approx([4, 6, 3])


@pytest.mark.parametrize(("other", "effect"), [((0.70, 0.60), 0.0), ((0.60, 0.72), 5.0)])
def test_a_choice_of_ones_own_pays_only_where_the_best_differs(tmp_path, other, effect):
    # harmless .70/.60 in every seed. helpful the same: nothing to gain. helpful .60/.72: one choice for both is the second
    # (.66 against .65), which costs harmless 10 points and helpful none.
    runs = [
        run("table4", OPT_SMALL, data, "filter", seed, gra, keep_fraction=share)
        for data, values in (("harmless", (0.70, 0.60)), ("helpful", other))
        for share, gra in zip((0.3, 0.4), values)
        for seed in (0, 1, 2)
    ]
    outcome = outcome_of(write(tmp_path, runs), "table4_best_threshold_differs")
    assert outcome.record()["by_seed"] == pytest.approx([effect] * 3)


def test_thresholds_that_never_ran_are_no_rivals(tmp_path):
    runs = [run("table4", OPT_SMALL, "helpful", "filter", seed, 0.5, keep_fraction=0.3) for seed in (0, 1)]
    runs += [run("table4", OPT_SMALL, "helpful", "cw_po", seed, 0.6) for seed in (0, 1)]
    outcome = outcome_of(write(tmp_path, runs), "table4_cw_over_best_threshold")
    assert outcome.judged.effect == pytest.approx(10)
    assert "only 1 of 2 options were run." in outcome.notes


def test_arms_of_two_experiments_are_paired_by_data_models_and_seed(tmp_path):
    runs = [run("figure3_right", OPT_SMALL, "helpful", "cw_po", seed, 0.6, human_fraction=0.2) for seed in range(4)]
    for pair, gra in ((OPT_SMALL, 0.5), (QWEN_MID, 0.1)):
        runs += [run("table3", pair, "helpful", "human_all", seed, gra) for seed in range(3)]
    record = outcome_of(write(tmp_path, runs), "figure3_cw20_over_human100").record()
    assert record["by_seed"] == pytest.approx([10, 10, 10])
    assert record["runs"] == 6


def test_win_rates_count_prompt_by_prompt(tmp_path):
    # Human wins 30 of 100 prompts (reward 2), else 0; CW 50: on 20 prompts CW is better, on 80 they tie: 60 %
    gra = {"human": 0.3, "cw_po": 0.5}
    runs = [run("figure5", QWEN_MID, "tldr", method, seed, gra[method]) for method in gra for seed in (0, 1)]
    outcome = outcome_of(write(tmp_path, runs), "figure5_cw_wins")
    assert outcome.judged == ("reproduced", 60, 60, 60)
    assert outcome.second.effect == pytest.approx(0.4)


def test_annotators_have_accuracy_against_gold_beside(tmp_path):
    base = {"experiment": "table13", "weak": WEAK["opt"], "data": "helpful", "annotator": "bt"}
    rows = [
        annotator_of(base | {"human_fraction": fraction, "accuracy_human": accuracy}, seed)
        | {"accuracy_human": accuracy, "accuracy_gold": 0.5 + fraction}
        for fraction, accuracy in ((0.1, 0.60), (0.3, 0.64), (0.5, 0.65))
        for seed in (0, 1, 2)
    ]
    folder = write(tmp_path, [], rows)
    rises = outcome_of(folder, "table13_rises")
    assert rises.judged.effect == pytest.approx(4)
    assert rises.second.effect == pytest.approx(20)
    assert rises.diagnostics == {}
    assert outcome_of(folder, "table13_flattens").judged.effect == pytest.approx(4 - 1)


def test_confidence_distributions_that_differ_only_as_seeds_do(tmp_path):
    write(tmp_path, [])
    confidences(tmp_path / "toy", (0, 1, 2))
    path = tmp_path / "toy/confidences.csv"
    assert outcome_of(tmp_path, "figure7_confidence_differs").judged.verdict == "reproduced"
    same = pd.read_csv(path)
    same["pairs"] = 10 + (same["low"] * 20).round().astype(int) + 3 * same["seed"]
    same[CONFIDENCE_COLUMNS].to_csv(path, index=False)
    assert outcome_of(tmp_path, "figure7_confidence_differs").judged.verdict != "reproduced"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("facebook/opt-125m", 125e6),
        ("Qwen/Qwen2.5-0.5B", 0.5e9),
        ("meta-llama/Llama-3.1-8B-Instruct", 8e9),
        ("stories260k", 260e3),
        ("world/qwen2-128x4", 128 * 128 * 4),
    ],
)
def test_sizes_are_read_from_names(name, size):
    assert model_size(name) == pytest.approx(size)
    assert np.isnan(model_size("mine"))


def test_a_measure_without_rows_is_empty():
    nothing = of_paper(pd.DataFrame(columns="source weak strong dataset objective method setting metric value".split()))
    wheres = [{"experiment": "table4", "method": "filter", "keep_fraction": share} for share in (0.3, 0.4)]
    for measure in (over_best({"experiment": "table4"}, wheres), own_choice_pays(wheres)):
        assert not len(measure(nothing.arms, "gra").effects)


# What is written.


def test_files_name_every_claim_with_its_scale(everything, tmp_path):
    folder, (_, found) = tmp_path, everything
    write_claims(list(found.values()), folder, "toy")
    data = json.loads((folder / "claims.json").read_text())
    assert [claim["id"] for claim in data["claims"]] == [claim.id for claim in CLAIMS]
    assert sum(data["counts"]["matched"].values()) == len(CLAIMS) > sum(data["counts"]["own_best"].values())
    assert set(data["counts"]["matched"]) == set(VERDICTS)
    text = (folder / "claims.md").read_text()
    for claim in data["claims"]:
        verdicts = [found["verdict"] for found in claim["points"].values()]
        assert set(verdicts) <= set(VERDICTS) and claim["scale"] == "toy"
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {claim['id']} |")]
        assert all(f"| {verdict} (toy scale) |" in line for verdict in verdicts)
    assert "not about models of 13 billion parameters" in text


def test_other_scales_are_not_called_toy(tmp_path, paper):
    results = load(pair_of_arms(tmp_path, (5, 6, 7)), "toy")
    ours = of_results(results)
    outcome = assess(BY_ID["table1_dpo_cw_over_ws_dpo"], ours, paper, "paper")
    assert outcome.shown == "reproduced (paper scale)"
    write_claims([Entry(outcome.claim, {"matched": outcome})], tmp_path, "paper")
    assert "Made by `make report SCALE=paper` from 12 runs" in (tmp_path / "claims.md").read_text()


def test_experiments_of_two_machines_are_not_compared(tmp_path):
    """Figure 3 with Table 3: where they hold one arm with different numbers, other models were trained."""

    def results(gap: float) -> Path:
        runs = []
        for seed in (0, 1, 2):
            (cw,) = grid("figure3_right", (OPT_SMALL,), ("helpful",), ("cw_po",))
            (human,) = grid("table3", (OPT_SMALL,), ("helpful",), ("human_all",))
            runs += [run_of(cw | {"human_fraction": 0.2}, seed, 0.7), run_of(human, seed, 0.6)]
            shared = run_of(cw, seed, 0.65)
            row, detail, rewards = run_of(cw | {"experiment": "table3"}, seed, 0.65 + gap)
            key = {"run_key": shared[0]["run_key"]}
            runs += [shared, (row | key, detail | key, rewards | key)]
        return write(tmp_path, runs)

    assert outcome_of(results(0.0), "figure3_cw20_over_human100").judged.effect == pytest.approx(10)
    apart = outcome_of(results(0.05), "figure3_cw20_over_human100")
    assert apart.judged.verdict == "not run" and "figure3_right and table3 are of different machines" in apart.notes[0]


@pytest.mark.parametrize(
    ("value", "numbers", "shown"),
    [
        (0, (-0.5, -1.02, -0.013), "-0.5 [-1.0, -0.01]"),
        (0, (2.3, 0.046, 4.6), "+2.3 [+0.05, +4.6]"),
        (0, (0.0, -1e-9, 0.0), "+0.0 [+0.0, +0.0]"),
        (50, (52.4, 49.98, 54.0), "52.4 [49.98, 54.0]"),
    ],
)
def test_rounding_does_not_hide_on_which_side_of_its_value_an_interval_ends(value, numbers, shown):
    claim = replace(BY_ID["figure5_cw_wins"], value=value)
    assert with_interval(Judged("opposite", *numbers), form_of(claim)) == shown
