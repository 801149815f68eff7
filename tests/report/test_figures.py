"""Figures: they show the tables' numbers, say what has not run, and have the same bytes every time."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from claims_results import OPT_SMALL, PROMPTS, QWEN_MID, grid, run_of, write

from cwpo.report import figures
from cwpo.report.figures import style
from cwpo.report.figures.capacity import _size
from cwpo.report.figures.distributions import _gaps, _histogram
from cwpo.report.inputs import load
from cwpo.report.tables.figure_specs import FIGURE2, FIGURE5
from cwpo.report.tables.grid import AVERAGE, fill
from cwpo.report.tables.regimes import arms, differences

pytestmark = pytest.mark.soak

FIGURES = (*figures.AT_MATCHED, *figures.OF_ALL)


def name_of(draw) -> str:
    return getattr(draw, "__name__", "") or getattr(draw.args[0], "name", draw.args[0])


@pytest.fixture
def drawn(monkeypatch, tmp_path, made_up_loaded):
    """Draws a figure and returns it, open, instead of its files."""

    def draw(function, found=None):
        found = found or made_up_loaded
        found = found.at("matched") if function in figures.AT_MATCHED else found
        kept = []
        monkeypatch.setattr(style.plt, "close", kept.append)
        paths = function(found, tmp_path)
        monkeypatch.undo()
        for path in paths:
            assert path.stat().st_size > 1000
        return kept[0] if kept else None

    yield draw
    plt.close("all")


def said(figure) -> list[str]:
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    titles = [axis.get_title() for axis in figure.axes]
    return [*texts, *titles, figure._suptitle.get_text()]


def series(axis, label: str) -> np.ndarray:
    (found,) = (c for c in axis.containers if c.get_label() == label)
    return found.lines[0].get_ydata()


@pytest.mark.parametrize("draw", FIGURES, ids=name_of)
def test_every_figure_names_scale_and_sizes(drawn, draw):
    figure = drawn(draw)
    head = figure._suptitle.get_text()
    assert "toy scale" in head
    assert "seed" in head and any(word in head for word in ("prompts", "pairs", "responses"))
    labeled = [axis for axis in figure.axes if axis.get_xlabel() or figure._supxlabel is not None]
    assert labeled or draw is figures.figure5


def test_figure_2_draws_the_cells_of_its_table(drawn, made_up_loaded):
    figure = drawn(figures.figure2)
    grid = fill(FIGURE2, made_up_loaded.at("matched"))
    label, cells = grid.sections[0].rows[0]
    axis = figure.axes[0]
    assert axis.get_title().startswith(label)
    top = [cell for cell in cells if cell["method"] != "human"]
    assert series(axis, "top N %") == pytest.approx([cell["gra"] for cell in top])
    hollow = next(line for line in axis.lines if line.get_label() == "top N %, paper")
    assert list(hollow.get_ydata()) == [72.3, 67.9, 67.7, 67.4]  # Table 10, Harmless


def test_figure_5_orders_prompts_and_states_the_tables_win_rate(drawn, made_up_loaded):
    figure = drawn(figures.figure5)
    cells = [
        row[0]
        for section in fill(FIGURE5, made_up_loaded.at("matched")).sections
        for name, row in section.rows
        if name != AVERAGE
    ]
    for axis, cell in zip(figure.axes, cells):
        assert f"win rate {cell['win_rate']:.1f}" in axis.get_title()


def test_figure_5_draws_every_prompt_of_every_objective(tmp_path):
    arms = grid("figure5", (QWEN_MID,), ("tldr",), ("human", "cw_po"), objective=("dpo", "ipo"))
    runs = [run_of(arm, seed, 0.5 + 0.2 * (arm["method"] == "cw_po")) for arm in arms for seed in (0, 1)]
    found = load(write(tmp_path, runs), "toy").at("matched")
    cells = [row[0] for section in fill(FIGURE5, found).sections for _, row in section.rows if "seeds" in row[0]]
    assert [len(_gaps(found, cell)) for cell in cells[:1]] == [2 * 2 * PROMPTS]


def test_figure_7_shows_labels_that_are_mostly_wrong():
    bins = pd.DataFrame({"low": [0.0, 0.05], "high": [0.05, 0.1], "pairs": 100, "agree_gold": [10, 60]})
    assert _histogram(plt.subplots()[1], bins, "Harmless").get_ylim()[0] < 10
    plt.close("all")


def one_run(folder, experiment):
    (arm,) = grid(experiment, (OPT_SMALL,), ("harmless",), ("human",))
    return load(write(folder, [run_of(arm, 0, 0.6)]), "toy")


def test_a_panel_of_which_nothing_ran_says_so(drawn, tmp_path):
    figure = drawn(figures.figure2, one_run(tmp_path, "figure2"))
    assert said(figure).count("not run") == 2 * (3 + 3 - 1)


def test_what_never_ran_is_not_drawn(tmp_path):
    found = one_run(tmp_path, "mine")
    assert not any(draw(found, tmp_path / "figures") for draw in FIGURES)


@pytest.mark.parametrize(
    ("model", "size"),
    [("world/opt-96x3", "1.3B"), ("Qwen/Qwen2.5-1.5B-Instruct", "1.5B"), ("EleutherAI/pythia-160m-deduped", "160m"), ("mine", "mine")],
)  # fmt: skip
def test_models_are_named_by_their_sizes(model, size):
    assert _size(model) == size


def test_the_same_numbers_give_the_same_bytes(tmp_path, made_up_loaded):
    first, second = (figures.figure8(made_up_loaded, tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


# --- when does it work -----------------------------------------------------------------------------------------------


def test_regimes_compare_arms_of_one_regime(tmp_path):
    gra = {"human": 0.5, "ws_bt": 0.6, "cw_po": 0.7}
    axes = {"label_flip": (0.05, 0.3), "data_pairs": (1000,), "learning_rate": (1e-4, 2e-4)}
    runs = [
        run_of(arm, seed, gra[arm["method"]] + 0.1 * (arm["label_flip"] == 0.3) * (arm["method"] == "cw_po"))
        for arm in grid("regimes", (QWEN_MID,), ("helpful",), tuple(gra), **axes)
        for seed in (0, 1)
    ]
    found = load(write(tmp_path, runs), "toy")
    table = differences(found).set_index(["contrast", "label_flip", "learning_rate"])
    assert len(table) == 2 * 2 * 2  # no top 30 % ran
    assert table.loc[("cw_human", 0.05, 1e-4), "difference"] == pytest.approx(0.4)  # a point of GRA is 0.02 of reward
    assert table.loc[("cw_human", 0.3, 1e-4), "difference"] == pytest.approx(0.6)
    assert table.loc[("cw_ws_bt", 0.3, 2e-4), "difference"] == pytest.approx(0.4)
    assert len(arms(found)) == 3 * 2 * 2


def test_heat_maps_frame_what_excludes_zero(drawn, made_up_loaded):
    figure = drawn(figures.HEAT_MAPS[0])
    table = differences(made_up_loaded)
    table = table[table["contrast"] == "cw_human"]
    sure = sum(((table[f"{n}_low"] > 0) | (table[f"{n}_high"] < 0)).sum() for n in ("difference", "gra_difference"))
    assert sum(text.endswith("*") for text in said(figure)) == sure > 0
    assert sum(len(axis.patches) for axis in figure.axes) >= sure
