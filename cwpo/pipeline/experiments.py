"""Finds the experiments that a name stands for, and their seeds."""

from collections.abc import Sequence

from omegaconf import OmegaConf

from cwpo.config.schema import CONF
from cwpo.errors import InputError, nearest

Cells = dict[str, tuple[str, ...]]  # {experiment: overrides that leave a part of its sweep}
# The parts of experiments behind the headline verdicts. They take minutes, `all` takes hours.
# One model family only: pretraining the strong models of a second family takes as long as a whole table.
CORE: Cells = {
    "table1": ("objective=dpo", "data=hh_rlhf", "pair=opt_large", "method=human,ws_dpo,cw_po"),
    "table3": ("data=harmless,helpful", "pair=opt_small"),
    "table6": ("pair=opt_small",),
    "table13": (),
    "figure2": (
        "data=harmless,helpful",
        "pair=opt_small",
        "method=human,ws_dpo,ws_bt,filter",
        "method.selection.value=0.3",
    ),
    "figure7": (),
    "frontier": ("pair=opt_small", "method=human,cw_po"),
}
CORE_OF_SCALE: dict[str, Cells] = {"single_gpu": {"headline": ()}}  # where it is not CORE
CORE_SEEDS = (0, 1, 2)  # the files of table3 and figure2 name ten


def experiments(name: str, scale: str = "toy") -> dict[str, list[str]]:
    """Returns {experiment: overrides} for "core", "all" or names joined by commas. InputError if one is unknown."""
    existing = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
    if name == "core":
        return {part: [f"experiment={part}", *cells] for part, cells in CORE_OF_SCALE.get(scale, CORE).items()}
    names = existing if name == "all" else [part.strip() for part in name.split(",") if part.strip()]
    unknown = [
        f"experiment={part} does not exist; {nearest(part, ['core', 'all', *existing])}"
        for part in names
        if part not in existing
    ]
    if unknown or not names:
        raise InputError(unknown or "experiment= names nothing; use core, all, or names of conf/experiment")
    return {part: [f"experiment={part}"] for part in names}


def swept(name: str) -> set[str]:
    """Returns the keys over which an experiment's file sweeps; none if it has no sweep."""
    file = OmegaConf.load(CONF / "experiment" / f"{name}.yaml")
    return set(OmegaConf.select(file, "hydra.sweeper.params") or {})


def seeds_of(experiment: str, given: object) -> list[int] | None:
    """Returns `given`. If it is None: CORE_SEEDS for "core", else None, so that the seeds in conf/experiment/ apply.

    Raises InputError if `given` is not a list of whole numbers from 0.
    """
    if given is not None:
        seeds = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else []
        if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
            raise InputError(f"seeds={given} must be a list of whole numbers from 0, e.g. seeds=[0,1,2]")
        return seeds
    return list(CORE_SEEDS) if experiment == "core" else None
