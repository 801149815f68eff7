"""The experiments that a name stands for, and their seeds."""

from collections.abc import Sequence

from cwpo.config.schema import CONF
from cwpo.errors import InputError, nearest

CORE = "table1 table3 table4 table5 table6 table13 figure2 figure3_left figure3_right figure4 figure7".split()
CORE_SEEDS = (0, 1, 2)  # the experiments behind headline claims name ten


def experiments(name: str) -> list[str]:
    """The experiments that core, all, or a comma-separated list stands for."""
    existing = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
    if name == "all":
        return existing
    names = CORE if name == "core" else [part.strip() for part in name.split(",") if part.strip()]
    unknown = [
        f"experiment={part} does not exist; {nearest(part, ['core', 'all', *existing])}"
        for part in names
        if part not in existing
    ]
    if unknown or not names:
        raise InputError(unknown or "experiment= names nothing; use core, all, or names of conf/experiment")
    return names


def seeds_of(experiment: str, given: object) -> list[int] | None:
    """The given seeds, else three for the core; None stands for the seeds in the experiments' files."""
    if given is not None:
        seeds = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else []
        if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
            raise InputError(f"seeds={given} must be a list of whole numbers from 0, e.g. seeds=[0,1,2]")
        return seeds
    return list(CORE_SEEDS) if experiment == "core" else None
