"""Stores how many operations per second this machine reaches with models of several sizes, for plans to read.

`cwpo.bench.calibration` measures these rates. Their file lies in the store, since the same machine fills the store.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cwpo.atomic import write_text

TRAINING, SCORING, SAMPLING = KINDS = ("training", "scoring", "sampling")


@dataclass(frozen=True)
class Rate:
    """Floating-point operations per second with a model of `parameters` parameters; see cwpo.planning.gpu_hours."""

    parameters: float
    training: float
    scoring: float
    sampling: float


@dataclass(frozen=True)
class Calibration:
    """The rates measured on a device, from the smallest model to the largest."""

    device: str
    rates: Sequence[Rate]

    def rate(self, kind: str, parameters: float) -> float:
        """Returns the rate of `kind`, one of KINDS, log-log interpolated over model sizes; constant beyond the ends."""
        sizes = np.log([rate.parameters for rate in self.rates])
        values = np.log([getattr(rate, kind) for rate in self.rates])
        return float(np.exp(np.interp(np.log(parameters), sizes, values)))

    def write(self, store: Path) -> Path:
        path = _file(store)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")
        return path


def calibration_of(store: str | Path) -> Calibration | None:
    """Returns the calibration in a store's folder, or None if there is none."""
    path = _file(Path(store))
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    return Calibration(content["device"], [Rate(**rate) for rate in content["rates"]])


def _file(store: Path) -> Path:
    return store.expanduser() / ".calibration.json"
