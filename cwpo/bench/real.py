"""The measurement behind results/own: accuracy of annotators on real pairs, and one whole run on UKP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from cwpo.atomic import new_file
from cwpo.bench.real_pairs import check_sources, cut, load_source, one_vote, require
from cwpo.bench.real_report import write_report
from cwpo.bench.words import WordAnnotator
from cwpo.checks.checkpoints import model_problems
from cwpo.own.align import by_label, fine_tune, margins, optimise
from cwpo.own.crossfit import folds_by_prompt
from cwpo.own.fit import Annotates, fit, load_members
from cwpo.own.preferences import preferences
from cwpo.runtime import pick_device, quiet_libraries, use_threads
from cwpo.store.store import stage_key
from cwpo.training.fit import Start

FOLDS = 3  # every group is tested in one of them; fold k is the test of seed k
WORDS = "words"
ARMS = ("human", "ws_po", "cw_po")


def measure(cfg: Any, say: Callable[[str], None] = print) -> Path:
    """Write the tables, figures and README.md of results/own under cfg.out; finished parts are kept in cfg.store."""
    quiet_libraries()
    paths = {f"models.{name}": (path, None) for name, path in cfg.models.items()}
    require([*check_sources(cfg.data, cfg.sources), *map(str, model_problems(paths))])
    use_threads(cfg.threads)
    device = pick_device(cfg.device)
    tested, aligned, absent = [], [], []
    for name, annotator, seed in _parts(cfg):
        file = _file(cfg, "annotator", name, annotator, seed)
        part = f"{name}, {annotator}, seed {seed}"
        if not file.is_file() and not cfg.finished_only:
            say(f"annotator: {part}")
            pairs = load_source(name, cfg.data)
            _keep(examine(pairs, name, annotator, seed, cfg, file.with_suffix(".work"), device), file)
        if file.is_file():
            tested.append(pd.read_parquet(file).assign(data=name, annotator=annotator, seed=seed))
        else:
            absent.append(part)
    for seed in range(cfg.align_seeds if "ukp" in cfg.sources else 0):
        file = _file(cfg, "alignment", "ukp", cfg.strong, seed)
        if not file.is_file() and not cfg.finished_only:
            pairs = load_source("ukp", cfg.data)
            _keep(align_arms(pairs, seed, cfg, file.with_suffix(".work"), device, say), file)
        if file.is_file():
            aligned.append(pd.read_parquet(file).assign(seed=seed))
        else:
            absent.append(f"alignment, seed {seed}")
    require([] if tested else [f"store={cfg.store} holds no finished part of this measurement"])
    out = Path(cfg.out).expanduser()
    write_report(pd.concat(tested), pd.concat(aligned) if aligned else None, cfg, out, absent)
    for path in sorted(out.iterdir()):
        say(f"  {path}")
    return out


def _parts(cfg: Any) -> list[tuple[str, str, int]]:
    """Data set, annotator and seed of every part, the quick ones first."""
    order = [WORDS, *cfg.models]
    return [
        (name, annotator, seed)
        for quick in (True, False)
        for name in cfg.sources
        for annotator in order
        if (annotator == WORDS) == quick
        for seed in range(FOLDS)
    ]


def split(pairs: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pairs to train on and pairs to test on, of different groups."""
    fold = folds_by_prompt(pairs["group"].tolist(), FOLDS, 0)
    return pairs[fold != seed], pairs[fold == seed]


def examine(
    pairs: pd.DataFrame, name: str, annotator: str, seed: int, cfg: Any, scratch: Path, device: str
) -> pd.DataFrame:
    """Gaps of an annotator trained on one vote per pair, for the pairs of other groups that have a gold label."""
    train, test = split(pairs.assign(target=one_vote(pairs, seed)), seed)
    train = _some(train[train["target"] != 0.5], cfg.train_pairs.get(name), seed)
    test = _some(test[test["gold"] != 0.5], cfg.test_pairs.get(name), seed)
    if annotator == WORDS:
        model: Annotates = WordAnnotator(train, seed)
        shown = test
    else:
        path = cfg.models[annotator]
        model = _trained(cut(train, path), path, seed, cfg, scratch, device)
        shown = cut(test, path)
    kept = test[["pair_id", "group", "gold", "share", "n_votes", "target"]].rename(columns={"target": "vote"})
    for side in "ab":
        kept[f"length_{side}"] = test[f"response_{side}"].str.len()
    return kept.assign(gap=model.gaps(shown)[0], n_train=len(train))


def align_arms(
    pairs: pd.DataFrame, seed: int, cfg: Any, scratch: Path, device: str, say: Callable[[str], None]
) -> pd.DataFrame:
    """CW-PO, WS-PO and Human on one split of UKP: margins on held-out gold pairs under the models before and after.

    The annotator is that of `examine`; the arms learn from other training pairs, by its label or by one vote.
    """
    path = cfg.models[cfg.strong]
    train, test = split(pairs.assign(target=one_vote(pairs, seed)), seed)
    train = train[train["target"] != 0.5]
    labeled = _some(train, cfg.train_pairs.get("ukp"), seed)
    rest = _some(train[~train["pair_id"].isin(labeled["pair_id"])], cfg.align_pairs, seed).assign(n_votes=0)
    test = _some(test[test["gold"] != 0.5], cfg.align_test_pairs, seed)
    test = by_label(cut(test.assign(target=test["gold"]), path, cfg.align_response))
    folder = _file(cfg, "annotator", "ukp", cfg.strong, seed).with_suffix(".work")
    gap = _trained(cut(labeled, path), path, seed, cfg, folder, device).gaps(cut(rest, path))[0]
    rest = cut(rest, path, cfg.align_response)
    tables = {
        "human": preferences(rest.assign(n_votes=1), gap, "uniform"),
        "ws_po": preferences(rest, gap, "uniform"),
        "cw_po": preferences(rest, gap, "c1"),
    }
    gold = rest["gold"].to_numpy()
    rows = []
    settings = OmegaConf.merge(cfg.align, {"model": path, "seed": seed, "token_budget": cfg.token_budget})
    for arm, table in tables.items():
        say(f"alignment: ukp, {arm}, seed {seed}")
        before = scratch / ("sft-human" if arm == "human" else "sft-weak")
        if not before.is_dir():
            fine_tune(table, settings, before, device, lambda line: None)
        optimise(table, Start(before), settings, scratch / arm, device, lambda line: None)
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
        rows.append(
            pd.DataFrame({"group": test["prompt"], "before": scored[0], "after": scored[1]}).assign(**facts)
        )
    return pd.concat(rows, ignore_index=True)


def _trained(train: pd.DataFrame, path: str, seed: int, cfg: Any, folder: Path, device: str) -> Annotates:
    settings = OmegaConf.merge(
        cfg.annotate, {"model": path, "ties": "drop", "seed": seed, "token_budget": cfg.token_budget}
    )
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        fit(train, settings, folder, seed=seed, device=device)
    return load_members([folder], settings.annotator.kind, device, cfg.token_budget)


def _some(pairs: pd.DataFrame, most: int | None, seed: int) -> pd.DataFrame:
    return pairs if most is None or len(pairs) <= most else pairs.sample(n=most, random_state=seed)


def _file(cfg: Any, kind: str, *names: Any) -> Path:
    """The file of a finished part; its folder's name is a hash of the settings that the part depends on."""
    own = [] if kind == "annotator" else ["align", "align_pairs", "align_test_pairs", "align_response"]
    plain: Any = OmegaConf.to_container(OmegaConf.masked_copy(cfg, ["annotate", "token_budget", *own]))
    plain |= {"train": cfg.train_pairs.get(names[0]), "test": cfg.test_pairs.get(names[0])}
    folder = f"{kind}-{stage_key('own_results', 1, plain, {})[:8]}"
    return Path(cfg.store).expanduser() / folder / ("-".join(map(str, names)) + ".parquet")


def _keep(table: pd.DataFrame, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with new_file(file) as partial:
        table.to_parquet(partial, index=False)
