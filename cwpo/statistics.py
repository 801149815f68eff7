from typing import NamedTuple

import numpy as np


class GoldRewardAccuracy(NamedTuple):
    accuracy: float
    tie_rate: float
    standard_error: float


def gold_reward_accuracy(aligned, baseline) -> GoldRewardAccuracy:
    p = float((aligned > baseline).mean())
    return GoldRewardAccuracy(p, float((aligned == baseline).mean()), float(np.sqrt(p * (1 - p) / len(aligned))))
