"""Makes results/own: measures annotators on real pairs; on UKP also aligns a model with an annotator's labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from cwpo.atomic import new_file
from cwpo.bench.real_pairs import check_sources, cut, load_source, one_vote
from cwpo.bench.real_report import write_report
from cwpo.bench.words import WordAnnotator
from cwpo.checks.checkpoints import model_problems
from cwpo.errors import InputError
from cwpo.own.align import by_label, fine_tune, margins, optimise
from cwpo.own.crossfit import as_learned, first_fold, fold_counts, folds_by_prompt
from cwpo.own.defaults import usual_settings, with_defaults
from cwpo.own.fit import Annotates, fit_members
from cwpo.own.preferences import preferences
from cwpo.runtime import pick_device, quiet_libraries, use_threads
from cwpo.store.store import fingerprint, stage_key
from cwpo.training.fit import Start

FOLDS = 3  # every group of pairs (see load_source) lies in one fold; seed k tests on fold k
WORDS = "words"
SIDES: dict[str, dict[str, float]] = {"before": {"epochs": 5, "learning_rate": 1e-5}, "after": {}}  # training overrides
READS = {  # kind of measurement -> the keys that it depends on
    "annotator": ["annotate"],
    "alignment": ["annotate", "align", "align_pairs", "align_test_pairs", "align_response"],
    "defaults": ["strong", "defaults_pairs", "align_response"],
}


def measure(cfg: Any, say: Callable[[str], None] = print) -> Path:
    """Writes CSV tables, a figure and README.md to the folder cfg.out (results/own), and returns that folder.

    cfg.store keeps a file for each measurement (kind, data set, annotator, seed). Missing files are computed first,
    unless cfg.finished_only is set. InputError if data files or models are missing, or no annotator has been measured.
    """
    quiet_libraries()
    paths = {f"models.{name}": (path, None) for name, path in cfg.models.items()}
    if problems := [*check_sources(cfg.data, cfg.sources), *map(str, model_problems(paths))]:
        raise InputError(problems)
    use_threads(cfg.threads)
    device = pick_device(cfg.device)
    parts: list[tuple[str, str, str, int, Callable[..., pd.DataFrame]]] = [
        *(
            ("annotator", d, name, k, examine)
            for name in (WORDS, *cfg.models)
            for d in cfg.sources
            for k in range(FOLDS)
        ),
        *(
            ("alignment", "ukp", cfg.strong, k, align_arms)
            for k in range(cfg.align_seeds if "ukp" in cfg.sources else 0)
        ),
        *(("defaults", d, s, k, by_defaults) for d in cfg.sources for s in SIDES for k in range(cfg.defaults_seeds)),
    ]
    finished: dict[str, list[pd.DataFrame]] = {}
    absent: list[str] = []
    for kind, data, name, seed, compute in parts:
        file, title = _file(cfg, kind, data, name, seed), f"{kind}: {data}, {name}, seed {seed}"
        if not file.is_file() and not cfg.finished_only:
            say(title)
            _keep(compute(load_source(data, cfg.data), data, name, seed, cfg, file.with_suffix(".work"), device), file)
        if file.is_file():
            table = pd.read_parquet(file).assign(data=data, annotator=name, seed=seed)
            finished.setdefault(kind, []).append(table)
        else:
            absent.append(title)
    if "annotator" not in finished:
        raise InputError(f"store={cfg.store} holds no finished measurement of an annotator")
    out = Path(cfg.out).expanduser()
    tables = {kind: pd.concat(found) for kind, found in finished.items()}
    write_report(tables["annotator"], tables.get("alignment"), cfg, out, absent, tables.get("defaults"))
    for path in sorted(out.iterdir()):
        say(f"  {path}")
    return out


def split(pairs: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns (training pairs, test pairs): fold `seed` (of FOLDS folds) is the test set; no group is in two folds."""
    fold = folds_by_prompt(pairs["group"].tolist(), FOLDS, 0)
    return pairs[fold != seed], pairs[fold == seed]


def _drawn(pairs: pd.DataFrame, seed: int, train: int | None, test: int | None) -> list[pd.DataFrame]:
    """Returns at most `train` training pairs and at most `test` test pairs (None: all), without ties.

    The column `target` has one vote of each pair, drawn at random.
    """
    parts = split(pairs.assign(target=one_vote(pairs, seed)), seed)
    labels = zip(parts, ("target", "gold"), (train, test), strict=True)
    return [_some(part[part[label] != 0.5], most, seed) for part, label, most in labels]


def _tested(test: pd.DataFrame, gap: np.ndarray, n_train: int) -> pd.DataFrame:
    kept = test[["pair_id", "group", "gold", "share", "n_votes", "target"]].rename(columns={"target": "vote"})
    for side in "ab":
        kept[f"length_{side}"] = test[f"response_{side}"].str.len()
    return kept.assign(gap=gap, n_train=n_train)


def examine(
    pairs: pd.DataFrame, name: str, annotator: str, seed: int, cfg: Any, scratch: Path, device: str
) -> pd.DataFrame:
    """Trains `annotator` on one vote per training pair; returns the test pairs with `gap`, score(a) - score(b)."""
    train, test = _drawn(pairs, seed, cfg.train_pairs.get(name), cfg.test_pairs.get(name))
    if annotator == WORDS:
        return _tested(test, WordAnnotator(train, seed).gaps(test)[0], len(train))
    path = cfg.models[annotator]
    model = _trained(cut(train, path), path, seed, cfg, scratch, device)
    return _tested(test, model.gaps(cut(test, path))[0], len(train))


def by_defaults(
    pairs: pd.DataFrame, name: str, side: str, seed: int, cfg: Any, scratch: Path, device: str
) -> pd.DataFrame:
    """Trains cfg.strong as an annotator on at most cfg.defaults_pairs labels. Returns test pairs as `examine` does.

    `side`: "before" trains with the paper's epochs and learning rate, "after" with the defaults of scripts/annotate.py.
    """
    path = cfg.models[cfg.strong]
    train, test = _drawn(pairs, seed, cfg.defaults_pairs, cfg.test_pairs.get(name))
    train, shown = (cut(part, path, cfg.align_response) for part in (train, test))
    own = {"data": name, "model": path, "seed": seed, "token_budget": cfg.token_budget}
    settings = OmegaConf.merge(usual_settings(), own, {"annotator": {"training": SIDES[side]}})
    if not SIDES[side]:
        settings = with_defaults(settings, device, _quiet)
        fold = folds_by_prompt(train["prompt"].tolist(), fold_counts(len(train), settings)[0], seed)
        parts = train[fold != 0], train[fold == 0]
        learned = first_fold(*parts, settings, scratch, device=device, say=_quiet)
        settings = as_learned(settings, learned)
    model = fit_members(train, settings, scratch / "whole", device=device)
    return _tested(test, model.gaps(shown)[0], len(train))


def align_arms(
    pairs: pd.DataFrame, name: str, strong: str, seed: int, cfg: Any, scratch: Path, device: str
) -> pd.DataFrame:
    """Aligns the model `strong` in three arms. Returns a row per arm and test pair, with facts about the arm.

    The arms train on the same pairs: cw_po with an annotator's labels and C1 weights, ws_bt with these labels and
    weight 1, human with one vote per pair. The annotator is `strong`, trained on other pairs, as in `examine`. `before`
    and `after` are log p(better) - log p(worse) of a test pair's responses, after SFT and after alignment.
    """
    path = cfg.models[strong]
    train, test = _drawn(pairs, seed, None, cfg.align_test_pairs)
    labeled = _some(train, cfg.train_pairs.get(name), seed)
    rest = _some(train[~train["pair_id"].isin(labeled["pair_id"])], cfg.align_pairs, seed).assign(n_votes=0)
    test = by_label(cut(test.assign(target=test["gold"]), path, cfg.align_response))
    folder = _file(cfg, "annotator", name, strong, seed).with_suffix(".work")
    gap = _trained(cut(labeled, path), path, seed, cfg, folder, device).gaps(cut(rest, path))[0]
    rest = cut(rest, path, cfg.align_response)
    tables = {
        "human": preferences(rest.assign(n_votes=1), gap, "uniform"),
        "ws_bt": preferences(rest, gap, "uniform"),
        "cw_po": preferences(rest, gap, "c1"),
    }
    gold = rest["gold"].to_numpy()
    rows = []
    settings = OmegaConf.merge(cfg.align, {"model": path, "seed": seed, "token_budget": cfg.token_budget})
    for arm, table in tables.items():
        before = scratch / ("sft-human" if arm == "human" else "sft-weak")
        if not before.is_dir():
            fine_tune(table, settings, before, device, _quiet)
        optimise(table, Start(before), settings, scratch / arm, device, _quiet)
        scored = [margins(Start(path), test, settings, device) for path in (before, scratch / arm)]
        a_wins = (rest["target"].to_numpy() > 0.5) if arm == "human" else gap >= 0
        decided = gold != 0.5
        facts = {
            "arm": arm,
            "n_labeled": len(labeled),
            "n_train": len(table),
            "labels_right": float((a_wins == (gold > 0.5))[decided].mean()),
            "mean_weight": table["weight"].mean(),
        }
        rows.append(pd.DataFrame({"group": test["prompt"], "before": scored[0], "after": scored[1]}).assign(**facts))
    return pd.concat(rows, ignore_index=True)


def _quiet(line: str) -> None:
    """Discards a progress line."""


def _trained(train: pd.DataFrame, path: str, seed: int, cfg: Any, folder: Path, device: str) -> Annotates:
    settings = OmegaConf.merge(
        cfg.annotate, {"model": path, "ties": "drop", "seed": seed, "token_budget": cfg.token_budget}
    )
    return fit_members(train, settings, folder, device=device)


def _some(pairs: pd.DataFrame, most: int | None, seed: int) -> pd.DataFrame:
    return pairs if most is None or len(pairs) <= most else pairs.sample(n=most, random_state=seed)


def _file(cfg: Any, kind: str, *names: Any) -> Path:
    """Returns the path of one measurement's Parquet file, which need not exist; `names`: data set, annotator, seed.

    Its folder is named after `kind`, a key of READS, and a hash of the settings, data and models that the file needs.
    """
    plain: Any = OmegaConf.to_container(OmegaConf.masked_copy(cfg, ["token_budget", *READS[kind]]))
    plain |= {"train": cfg.train_pairs.get(names[0]), "test": cfg.test_pairs.get(names[0])}
    models = {*names} if kind == "annotator" else {*names, cfg.strong}
    plain |= {
        "content": [
            fingerprint(path) for path in (cfg.data, *(cfg.models[m] for m in sorted(models & set(cfg.models))))
        ]
    }
    folder = f"{kind}-{stage_key('own_results', 1, plain, {})[:8]}"
    return Path(cfg.store).expanduser() / folder / ("-".join(map(str, names)) + ".parquet")


def _keep(table: pd.DataFrame, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with new_file(file) as partial:
        table.to_parquet(partial, index=False)
