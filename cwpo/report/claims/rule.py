"""The rule that gives every claim its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cwpo.statistics import t_interval

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
OPPOSITE, INCONCLUSIVE, NOT_RUN = "opposite", "inconclusive", "not run"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, OPPOSITE, INCONCLUSIVE, NOT_RUN)
CONFIDENCE = 0.95
RULE = (
    "A claim says that an effect is above (or below) a value, mostly that a difference is above 0. Per seed the effect is the "
    "mean over all cells of the comparison (data, models, objective) that every seed has; the interval is the 95 % t interval "
    "over these seed means, n − 1 degrees of freedom. A seed draws its own pairs, split, test prompts, training order and "
    "samples, so the spread of the seed means contains them all (published data sets have one set of test prompts for all seeds: "
    "there the interval speaks of these prompts). **reproduced**: the whole interval is on the claimed side. "
    "**opposite**: the whole interval is on the other side. Otherwise the interval contains the value, and the claim is **not "
    "reproduced** if the interval excludes effects as large as the margin, **inconclusive** if it does not, or if there are fewer "
    "than two seeds. The margin is half the paper's effect, at least the smallest effect named with the claim. **not run**: no seed "
    "has all arms of the comparison. The rule speaks of direction: a reproduced effect can be far smaller than the paper's."
)


class Judged(NamedTuple):
    """A verdict (one of VERDICTS), the mean effect over seeds and its interval's ends; None for a missing number."""

    verdict: str
    effect: float | None
    low: float | None
    high: float | None


def judge(by_seed: Sequence[float], *, margin: float, value: float = 0.0, below: bool = False) -> Judged:
    """Applies RULE to one effect per seed. The claim: the effect is above `value`, or below it if `below` is set.

    `margin`: smallest distance from `value` that matters. Raises ValueError unless effects are finite.
    """
    if not len(by_seed):
        return Judged(NOT_RUN, None, None, None)
    effect = float(np.mean(by_seed))
    if not np.isfinite(effect):
        raise ValueError(f"effects must be finite; got {list(by_seed)}")
    if len(by_seed) < 2:
        return Judged(INCONCLUSIVE, effect, None, None)
    low, high = t_interval(by_seed, confidence=CONFIDENCE)
    # How far the ends are from the value in the claimed direction.
    least, most = (value - high, value - low) if below else (low - value, high - value)
    if least > 0:
        verdict = REPRODUCED
    elif most < 0:
        verdict = OPPOSITE
    else:
        verdict = NOT_REPRODUCED if most < margin else INCONCLUSIVE
    return Judged(verdict, effect, low, high)
