"""Writes results/own: tables, a figure and a page about annotators on real pairs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from cwpo.bench.real_numbers import LONGER, alignment_rows, annotator_rows, defaults_rows, seed_rows
from cwpo.own.folder import replace_folder
from cwpo.pages import markdown_records
from cwpo.store.store import git_commit

COLORS = ("#0072B2", "#D55E00", "#009E73", "#8a8a8a", "#CC79A7")
ADVICE = {
    "weights": "use all, with weights",
    "top": "most confident {:.0%}",
    "more_labels": "label more",
    "do_not_use": "do not use",
}
DIGITS = 4
# Columns of the tables on the page: heading -> format of a row; numbers with an interval are texts, see _texts.
ANNOTATORS = {
    "data": "{data}",
    "annotator": "{annotator}",
    "train, test pairs": "{sizes}",
    "accuracy": "{accuracy}",
    "most confident 30 %": "{accuracy_top30}",
    "minus longer wins": "{minus_longer}",
    "right more confident": "{right_more_confident}",
    "correlation with vote margin": "{vote_correlation}",
    "advice": "{advice}",
}
CALIBRATION = {
    "data": "{data}",
    "annotator": "{annotator}",
    "temperature": "{temperature:.2f}",
    "calibration error before, after": "{ece_before:.3f}, {ece_after:.3f}",
    "log-loss before, after": "{log_loss_before:.3f}, {log_loss_after:.3f}",
    "change of log-loss": "{log_loss_change}",
}
DEFAULTS = {
    "data": "{data}",
    "defaults": "{annotator}",
    "test pairs": "{n_test:,}",
    "accuracy": "{accuracy}",
    "most confident 30 %": "{accuracy_top30}",
    "calibration error": "{ece_before:.3f}",
    "log-loss": "{log_loss_before:.3f}",
    "accuracy, after - before": "{after_minus_before}",
}
ALIGNMENT = {
    "arm": "{arm}",
    "seeds": "{seeds}",
    "pairs": "{n_train:.0f}",
    "labels right": "{labels_right:.3f}",
    "mean weight": "{mean_weight:.3f}",
    "likelihood before": "{likelihood_before}",
    "after": "{likelihood_after}",
    "change": "{likelihood_change}",
    "implicit reward": "{implicit}",
}
SIGNED = ("minus_longer", "after_minus_before", "likelihood_change")  # differences, shown with a sign
DIFFERENCES = {"implicit-reward accuracy on the same pairs": "{arms}", "difference": "{implicit}"}


def write_report(
    tested: pd.DataFrame,
    aligned: pd.DataFrame | None,
    cfg: Any,
    out: Path,
    absent: Sequence[str] = (),
    defaults: pd.DataFrame | None = None,
) -> None:
    """Writes a CSV file for each table, coverage.png and README.md into `out`, which is replaced once all are written.

    `tested`, `aligned`, `defaults`: the rows that real.examine, align_arms and by_defaults returned; None leaves a
    section out. `absent`: the names of measurements that are not computed yet; the page lists them.
    """
    new = out.with_name(f".{out.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    rows, curves = (table.round(DIGITS) for table in annotator_rows(tested))
    tables = {"annotators": rows, "coverage": curves, "seeds": seed_rows(tested)}
    parts = [_head(cfg)]
    if absent:
        note = "Rows of fewer than three seeds have fewer test pairs."
        parts.append(f"Not computed yet: {'; '.join(absent)}. {note}")
    parts += [_annotators(rows), _calibration(rows)]
    if aligned is not None:
        arms, gaps = (table.round(DIGITS) for table in alignment_rows(aligned))
        tables |= {"alignment": arms, "alignment_differences": gaps}
        parts.append(_alignment(arms, gaps, cfg))
    if defaults is not None:
        tables["defaults"] = defaults_rows(defaults)
        parts.append(_defaults(tables["defaults"], cfg))
    for name, table in tables.items():
        table.round(DIGITS).to_csv(new / f"{name}.csv", index=False)
    _coverage_figure(curves, new / "coverage.png")
    (new / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    replace_folder(new, out)


def _head(cfg: Any) -> str:
    training = cfg.annotate.annotator.training
    return f"""# Annotators on real pairs

`python scripts/own_results.py` writes this folder; commit {git_commit() or "unknown"}. Models of 260,000 parameters, Bradley-Terry on one label per pair (of UKP and PandaLM one of the votes, drawn at random), {training.epochs:g} epoch at {training.learning_rate:g}; responses cut to 256 tokens and prompts to their last 128 (aidreams260k: half its context of 128 each). `words` is logistic regression on word counts of the whole responses. Judged against the gold label: UKP's from 5 votes, PandaLM's from 3, elsewhere the one human label. Three seeds, each with another third of the debates (UKP) or prompts as its test, no debate or prompt on both sides; pooled. In brackets 95 % intervals that take the pairs of one debate or prompt as one draw.

Nothing was tuned on the test pairs. The learning rate was examined on UKP's training debates of seed 0 only."""


def _annotators(rows: pd.DataFrame) -> str:
    shown = _texts(rows.assign(minus_longer=rows["minus_longer"].where(rows["annotator"] != LONGER)), ANNOTATORS)
    for row in shown:
        row["sizes"] = ", ".join(f"{row[name]:,.0f}" for name in ("n_train", "n_test") if pd.notna(row[name]))
        row["advice"] = ADVICE.get(row["advice"], "").format(row["advice_coverage"])
    return f"""## Accuracy

{markdown_records(ANNOTATORS, shown, left=2)}

*longer wins*: its confidence is the gap in length. *right more confident*: probability that a right label has more confidence than a wrong one, .5 is chance. *advice*: the verdict that `scripts/annotate.py` gives for such numbers, wanting .65.

![Accuracy of the most confident pairs](coverage.png)"""


def _calibration(rows: pd.DataFrame) -> str:
    shown = _texts(rows[rows["temperature"].notna()], CALIBRATION, signed=True)
    return f"""## Calibration

Temperatures are fitted on one half of the debates or prompts and tested on the other.

{markdown_records(CALIBRATION, shown, left=2)}"""


def _defaults(rows: pd.DataFrame, cfg: Any) -> str:
    return f"""## Defaults of scripts/annotate.py

{cfg.strong} on {cfg.defaults_pairs} labels (responses cut to {cfg.align_response} tokens), three seeds pooled, without a temperature. *before*: 5 epochs at 1e-5, the paper's. *after*: the learning rate follows the model's size, and held-out labels decide when to stop.

{markdown_records(DEFAULTS, _texts(rows, DEFAULTS), left=2)}"""


def _alignment(arms: pd.DataFrame, gaps: pd.DataFrame, cfg: Any) -> str:
    return f"""## One whole run on UKP

{cfg.strong} annotates and is aligned. The annotator of the table above labels training pairs that it has not learned from; by its labels or by one vote they go through SFT and PreferenceTrainer ({cfg.align.objective}, responses cut to {cfg.align_response} tokens). On held-out pairs with a gold label: how often the better response is more likely than the worse, before (SFT) and after, and how often its likelihood has grown more (implicit-reward accuracy; .5 is chance).

{markdown_records(ALIGNMENT, _texts(arms, ALIGNMENT))}

{markdown_records(DIFFERENCES, _texts(gaps, DIFFERENCES, signed=True))}"""


def _texts(rows: pd.DataFrame, columns: Mapping[str, str], signed: bool = False) -> list[dict[str, Any]]:
    """Returns the rows as dicts for a table on the page; `columns` maps each heading to a format, such as "{accuracy}".

    If a format is a single field, {name}, a missing value becomes "", and a value with an interval (the fields
    name_low and name_high) becomes "value [low, high]". These three numbers get a sign if `name` is in SIGNED or
    `signed` is set.
    """
    shown = rows.to_dict("records")
    for name in (form[1:-1] for form in columns.values()):
        style = "+.3f" if signed or name in SIGNED else ".3f"
        for row in shown:
            if pd.isna(row.get(name)):
                row[name] = ""
            elif f"{name}_low" in row:
                row[name] = f"{row[name]:{style}} [{row[f'{name}_low']:{style}}, {row[f'{name}_high']:{style}}]"
    return shown


def _coverage_figure(curves: pd.DataFrame, file: Path) -> None:
    names = list(dict.fromkeys(curves["data"]))
    columns = min(2, len(names))
    height = -(-len(names) // columns)
    size = (4.2 * columns, 3.2 * height)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(height, columns, squeeze=False, sharex=True)
    shown = list(dict.fromkeys(curves["annotator"]))
    for axis, name in zip(axes.flat, names):
        for color, annotator in zip(COLORS, shown):
            own = curves[(curves["data"] == name) & (curves["annotator"] == annotator)]
            part = own[own["by"] == ("length gap" if annotator == LONGER else "confidence")]
            axis.plot(100 * part["coverage"], part["mean"], color=color, marker="o", markersize=3, label=annotator)
            axis.fill_between(100 * part["coverage"], part["low"], part["high"], color=color, alpha=0.1)
        axis.axhline(0.5, color="#bbbbbb", linewidth=1)
        axis.set_title(name, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("most confident pairs kept, %")
    for row in axes:
        row[0].set_ylabel("agreement with gold")
    axes[0][0].legend(fontsize=8, frameon=False)
    figure.savefig(file, dpi=120, metadata={"Software": None})
