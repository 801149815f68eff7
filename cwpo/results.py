"""The columns of the result files under results/<scale>/. Reads and writes these files without losing rows."""

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import ArrayLike, NDArray

from cwpo.atomic import new_file
from cwpo.errors import CwpoError
from cwpo.plain import visible

RUN_COLUMNS = (
    "experiment scale data weak strong annotator method objective weighting keep_fraction human_fraction seed gra tie_rate "
    "gra_se reward_mean reward_sft_mean annotator_accuracy_human annotator_accuracy_gold label_accuracy_gold n_train n_eval "
    "train_seconds run_key git_commit"
).split()
ANNOTATOR_COLUMNS = (
    "experiment scale data weak annotator scoring human_fraction own_share poison_fraction seed accuracy_human accuracy_gold "
    "accuracy_gold_top30 accuracy_gold_bottom30 human_gold_agreement n_train n_eval train_seconds run_key git_commit"
).split()
# details.csv: settings and measurements of an arm that are not in runs.csv; blank where they do not apply.
DETAIL_COLUMNS = (
    "experiment run_key data_pairs label_flip unlabeled_fraction own_share poison_fraction sft_labels equal_steps scoring threshold "
    "learning_rate point kl kl_se margin_agreement train_accuracy mean_weight human_gold_agreement mean_length mean_length_sft truncated_share "
    "truncated_share_sft annotator_seconds"
).split()
# Values of the column `point`, the learning rate at which an arm runs. "matched": the rate common to all arms;
# "own_best": the arm's best rate; "both": a rate that is both; blank: another rate, or a scale without these two.
MATCHED, OWN_BEST, BOTH = "matched", "own_best", "both"
# Each experiment has a file of its own, because the same run key gives other rewards on another processor.
REWARD_COLUMNS = "run_key prompts rewards rewards_sft kl".split()
# Histogram of an annotator's confidence on the unlabeled pairs, 20 bins: the number of pairs, and of labels that agree
# with the human and with the gold label.
CONFIDENCE_COLUMNS = "run_key data weak annotator seed low high pairs agree_human agree_gold".split()
# Responses to a few test prompts (Tables 14, 15), and pairs on which annotator and human label disagree (18, 19).
SAMPLE_COLUMNS = "run_key data strong method seed prompt_id prompt response_sft response reward_sft reward".split()
DISAGREEMENT_COLUMNS = (
    "run_key data weak seed band pair_id confidence prompt preferred_by_weak preferred_by_human gold_weak gold_human"
).split()
# Hidden states of responses, as x and y on the first two principal components of the labeled ones (Figure 6).
EMBEDDING_COLUMNS = "data strong seed source pair_id x y".split()


# Text of models and humans. Control characters become escapes, as in \\x0d: CSV readers take some for line ends.
WRITTEN = ("prompt", "response", "response_sft", "preferred_by_weak", "preferred_by_human")
TEXT = (*"run_key prompt_id pair_id git_commit experiment prompts rewards rewards_sft point".split(), *WRITTEN)
IDENTITY = ("experiment", "run_key", "prompt_id", "pair_id", "low")  # the columns that identify a row with a run key
POINTS = ["data", "strong", "seed", "source"]  # the columns that identify a group of rows without a run key
NAME = re.compile(r"(?!\.)[^/\\\x00-\x1f]{1,100}")  # a valid name of an experiment
UNROUNDED = ("learning_rate",)  # 6 decimals would lose digits of 2.5e-7
PACKED = 6  # level of compression; the highest, 9, takes six times as long for 3 % smaller files
AGAIN = "restore a copy, or delete it and give the commands that wrote it again; finished stages come from the store"
UNREADABLE = (
    pd.errors.EmptyDataError,
    pd.errors.ParserError,
    UnicodeDecodeError,
    OverflowError,
    EOFError,
    gzip.BadGzipFile,
    zlib.error,
)


class ResultsError(CwpoError, ValueError):
    """Raised for a result file that is damaged, comes from another version, or holds rows that belong elsewhere."""

    exit_code = 2


def read_rows(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Reads a result file. The table has the columns in the order of `columns`; blank cells are missing values.

    Raises ResultsError if the file is damaged, has other columns than `columns`, repeats a row, holds rows of another
    scale than its folder is named after, or has an experiment whose name is not allowed as a file name.
    """
    text = dict.fromkeys((*TEXT, "kl") if columns == REWARD_COLUMNS else TEXT, str)  # in REWARD_COLUMNS kl is a list
    try:
        # Only blanks are missing values: "null" and "NA" may be the text of a model.
        frame = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
    except UNREADABLE as error:
        raise ResultsError(f"{path} is empty or damaged ({str(error).rstrip('.')}); {AGAIN}") from error
    missing = [name for name in columns if name not in frame]
    unknown = [name for name in frame if name not in columns]
    if missing or unknown:
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(unknown)
        raise ResultsError(f"{path} comes from another schema version: it {' and '.join(parts)}; {AGAIN}")
    identity = [name for name in IDENTITY if name in columns] if "run_key" in columns else [*POINTS, "pair_id"]
    repeated = frame.index[frame.duplicated(identity, keep=False)]
    if len(repeated):
        lines = ", ".join(str(i + 2) for i in repeated[:10])
        raise ResultsError(
            f"{path} has the same {' and '.join(identity)} more than once: lines {lines}; delete the extra rows"
        )
    if "experiment" in columns:
        wrong = [name for name in map(str, frame["experiment"].unique()) if not NAME.fullmatch(name)]
        if wrong:
            raise ResultsError(
                f"{path} has the experiment {wrong[0]!r}, which cannot be a file's name; rename it: "
                "1 to 100 characters, no slash, no dot at the start"
            )
    if "scale" in columns and len(frame) and set(frame["scale"]) != {path.parent.name}:
        raise ResultsError(
            f"{path} mixes scales: {', '.join(sorted(set(map(str, frame['scale']))))}; only {path.parent.name} belongs there; "
            "move the other rows to the folder of their own scale"
        )
    return frame[list(columns)]


@dataclass(frozen=True)
class RunRewards:
    """Gold rewards of one run, sorted by prompt id: of the aligned model and of its SFT model, each (N,).

    `prompts` is a digest of the prompt ids: runs with equal digests have the same prompts. `kl`, (N,), is
    log π(y) − log π_ref(y) of the aligned model's own response y to each prompt, in nats; None if it was not measured.
    """

    prompts: str
    reward: NDArray[np.float64]
    reward_sft: NDArray[np.float64]
    kl: NDArray[np.float64] | None = None

    @staticmethod
    def of(
        prompt_ids: Sequence[str], reward: ArrayLike, reward_sft: ArrayLike, kl: ArrayLike | None = None
    ) -> "RunRewards":
        order = np.argsort(np.asarray(prompt_ids))
        digest = hashlib.sha256("\n".join(sorted(prompt_ids)).encode()).hexdigest()[:16]
        ordered: Any = (None if x is None else np.asarray(x, float)[order] for x in (reward, reward_sft, kl))
        return RunRewards(digest, *ordered)

    @cached_property
    def means(self) -> tuple[float, float]:
        """GRA in [0, 1], and the mean gold reward of the aligned model."""
        return float(np.mean(self.reward > self.reward_sft)), float(self.reward.mean())

    @cached_property
    def relative(self) -> bool:
        """Whether each prompt's two rewards sum to 1: they are P(better than the other), not comparable across runs."""
        return bool(np.allclose(self.reward + self.reward_sft, 1))

    def has_mean(self, mean: float) -> bool:
        """Whether the mean reward of the aligned model is `mean`, up to rounding."""
        return _near(self.reward, mean)

    def has_mean_kl(self, mean: float) -> bool:
        return self.kl is not None and _near(self.kl, mean)

    def row(self, run_key: str) -> dict[str, str | None]:
        """Returns a row of REWARD_COLUMNS. An array becomes one text, numbers with 6 significant digits.

        If kl was not measured, the row has None for it.
        """
        columns = (self.reward, self.reward_sft, self.kl)
        numbers = (None if x is None else " ".join(_written(x)) for x in columns)
        return dict(zip(REWARD_COLUMNS, (run_key, self.prompts, *numbers), strict=True))

    @staticmethod
    def parse(row: Mapping[str, str | float | None]) -> "RunRewards":
        given = (row[name] for name in REWARD_COLUMNS[2:])
        numbers: Any = (np.array(x.split(), dtype=np.float64) if isinstance(x, str) else None for x in given)
        return RunRewards(str(row["prompts"]), *numbers)


def rounded(values: ArrayLike) -> NDArray[np.float64]:
    """Returns N numbers, (N,), rounded to 6 significant digits, as in rewards/, so that equal rewards are equal."""
    return np.array(_written(values), dtype=np.float64)


def _written(values: ArrayLike) -> list[str]:
    return [f"{value:.6g}" for value in np.asarray(values, float)]


def _near(values: NDArray[np.float64], mean: float) -> bool:
    return bool(np.isclose(values.mean(), mean, rtol=1e-4, atol=1e-4))


def rewards_file(folder: Path, experiment: str) -> Path:
    """Returns the path of the gold rewards of an experiment's runs; `folder` is results/<scale>/."""
    return folder / "rewards" / f"{experiment}.csv.gz"


def write_rows(path: Path, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Replaces the file: rows sorted, floats to 6 decimals, missing values blank. Equal rows give equal bytes."""
    with _turn(path):
        _write(path, frame, columns)


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Locks a result file inside the block, so that one process writes it at a time. Makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def _write(path: Path, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    order = [name for name in columns if name not in ("git_commit", "train_seconds", "annotator_seconds")]
    plain = {name: frame[name].map(visible, na_action="ignore") for name in WRITTEN if name in columns}
    ordered = frame[list(columns)].assign(**plain).sort_values(order, kind="stable", na_position="first")
    ordered = ordered.round({name: 6 for name in columns if name not in UNROUNDED})
    data = ordered.to_csv(index=False, lineterminator="\n").encode()
    with (
        new_file(path) as partial,
        partial.open("wb") as file,
        gzip.GzipFile("", "wb", PACKED, file, mtime=0) if path.suffix == ".gz" else nullcontext(file) as stream,
    ):
        stream.write(data)


def give_way(path: Path, rows: pd.DataFrame, columns: Sequence[str], numbers: Sequence[str]) -> bool:
    """Removes all rows of the experiments in `rows` from the file if it contradicts `rows`. Returns whether it does.

    The file contradicts `rows` if one of its rows has the same experiment and run_key as a row of `rows`, but another
    number in one of the columns `numbers`. Then another machine or version made the file, and its rows must not be
    mixed with `rows`.
    """
    if not path.is_file():
        return False
    with _turn(path):
        old = read_rows(path, columns)
        arm = ["experiment", "run_key"]
        both = old.merge(rows[[*arm, *numbers]], on=arm, suffixes=("", "_now"))
        pairs = [(both[name].astype(float), both[f"{name}_now"].astype(float)) for name in numbers]
        same = np.all([np.isclose(then, now, rtol=0, atol=2e-6, equal_nan=True) for then, now in pairs], axis=0)
        if not same.all():
            _write(path, old[~old["experiment"].isin(rows["experiment"])], columns)
    return not same.all()


def replace_rows(path: Path, rows: pd.DataFrame, columns: Sequence[str], *, experiment: str | None = None) -> None:
    """Adds rows to the file. They replace rows with the same run_key (and experiment, if the file has this column).

    In a file without run_key, they replace rows of the same data, strong model, seed and source. If `experiment` is
    given, all old rows of that experiment are removed too. One process writes at a time, so two sweeps lose nothing.
    """
    with _turn(path):
        if path.is_file():
            old = read_rows(path, columns)
            if experiment is not None:
                old = old[old["experiment"] != experiment]
            identity = [name for name in ("experiment", "run_key") if name in columns] or POINTS
            taken = set(rows[identity].itertuples(index=False, name=None))
            old = old[[row not in taken for row in old[identity].itertuples(index=False, name=None)]]
            rows = pd.concat([frame for frame in (old, rows) if len(frame)] or [rows], ignore_index=True)
        _write(path, rows, columns)


def prune(folder: Path) -> None:
    """Removes from details.csv and rewards/ the rows of arms that runs.csv no longer names.

    Another sweep may add an arm meanwhile, always to runs.csv first. So runs.csv is read last; otherwise the rows of
    the new arm would look as if runs.csv did not name it.
    """
    left = {experiment for experiment, _ in _arms(folder / "details.csv", DETAIL_COLUMNS) - _named(folder)}
    for experiment in sorted(left):  # details and rewards are entered together
        path = rewards_file(folder, experiment)
        with _turn(path):
            if not path.is_file():  # the process was killed between the two files
                continue
            frame = read_rows(path, REWARD_COLUMNS)
            named = frame["run_key"].isin({key for name, key in _named(folder) if name == experiment})
            if not named.any():
                path.unlink()
            elif not named.all():
                _write(path, frame[named], REWARD_COLUMNS)
    if left:
        path = folder / "details.csv"
        with _turn(path):
            frame, named = read_rows(path, DETAIL_COLUMNS), _named(folder)
            _write(path, frame[[arm in named for arm in zip(frame["experiment"], frame["run_key"])]], DETAIL_COLUMNS)


def _named(folder: Path) -> set[tuple[str, str]]:
    return _arms(folder / "runs.csv", RUN_COLUMNS)


def _arms(path: Path, columns: Sequence[str]) -> set[tuple[str, str]]:
    if not path.is_file():
        return set()
    rows = read_rows(path, columns)
    return set(zip(rows["experiment"], rows["run_key"]))
