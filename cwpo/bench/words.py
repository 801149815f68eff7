"""A bag-of-words annotator, as a baseline: logistic regression on the difference of two responses' word counts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.sparse import csr_array, vstack
from scipy.special import expit

from cwpo.calibration import log_losses

WORD = re.compile(r"\w+|[^\w\s]")
LEAST = 5  # training responses that must contain a word for it to be used
# Factors of the squared weights; the best one on held-out training pairs is used.
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
HELD_OUT = 0.2  # share of the training pairs that chooses the penalty


class WordAnnotator:
    """Scores a response by the sum over its words of weight(word) * log(1 + count), without an intercept."""

    def __init__(self, pairs: pd.DataFrame, seed: int) -> None:
        """Fits the weights to pairs with response_a, response_b and target (1: response `a` is better, 0: `b`)."""
        texts = [*pairs["response_a"], *pairs["response_b"]]
        counts = Counter(word for text in texts for word in set(_words(text)))
        self.index = {word: i for i, word in enumerate(sorted(w for w, n in counts.items() if n >= LEAST))}
        x, y = self._differences(pairs), pairs["target"].to_numpy(dtype=float)
        held = np.random.default_rng([seed, 7]).random(len(y)) < HELD_OUT
        losses = [log_losses(x[held] @ _fit(x[~held], y[~held], penalty), y[held]).sum() for penalty in PENALTIES]
        self.penalty = PENALTIES[int(np.argmin(losses))]
        self.weights = _fit(x, y, self.penalty)

    def gaps(self, pairs: pd.DataFrame) -> np.ndarray:
        """Returns score(response_a) - score(response_b) in logits, (1, N): one row, for the one model, and N pairs."""
        return np.asarray(self._differences(pairs) @ self.weights)[None]

    def _differences(self, pairs: pd.DataFrame) -> csr_array:
        return self._counts(pairs["response_a"].tolist()) - self._counts(pairs["response_b"].tolist())

    def _counts(self, texts: Sequence[str]) -> csr_array:
        return vstack([self._row(text) for text in texts]).tocsr()

    def _row(self, text: str) -> csr_array:
        counts = Counter(self.index[word] for word in _words(text) if word in self.index)
        values = np.log1p(np.array(list(counts.values()), dtype=float))
        columns = np.array(list(counts), dtype=int)
        shape = (1, max(1, len(self.index)))
        return csr_array((values, (np.zeros(len(columns), dtype=int), columns)), shape=shape)


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _fit(x: csr_array, y: np.ndarray, penalty: float) -> np.ndarray:
    """Returns the weights that minimise summed log-loss + penalty / 2 * sum of squared weights."""

    def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = x @ w
        return float(log_losses(z, y).sum()) + penalty / 2 * float(w @ w), x.T @ (expit(z) - y) + penalty * w

    return minimize(objective, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
