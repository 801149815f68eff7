"""What a label and votes mean, and that a number alone means nothing unless our own form or `positive` says it."""

import numpy as np
import pytest

from cwpo.data.labels import NO_MEANING, vote_share
from cwpo.errors import WrongRow

NULL = float("nan")


@pytest.mark.parametrize(
    ("label", "votes", "share", "count"),
    [
        ("a", None, 1.0, 1),
        (" B ", None, 0.0, 1),
        ("model_b", None, 0.0, 1),
        ("tie (bothbad)", None, 0.5, 1),
        (0, None, 1.0, 1),
        ("1", None, 0.0, 1),
        (1.0, None, 0.0, 1),
        (np.float64(0.0), None, 1.0, 1),
        (" 0.0", None, 1.0, 1),
        (None, None, NULL, 0),
        ("", None, NULL, 0),
        (NULL, None, NULL, 0),
        (None, ["a", "a", "b"], 2 / 3, 3),
        (None, "a|b, b", 1 / 3, 3),
        (None, ["a", "tie"], 0.75, 2),
        (None, ["a", None, "b", NULL, ""], 0.5, 2),  # a null vote is an absent vote
        ("b", ["a", "a"], 1.0, 2),  # votes take precedence
        ("b", [], 0.0, 1),
        ("b", [None], 0.0, 1),
    ],
)
def test_share_of_votes(label, votes, share, count):
    assert vote_share(label, votes) == (pytest.approx(share, nan_ok=True), count)


@pytest.mark.parametrize("label", [1, 1.0, "1", "1.0", True, "true", "True", np.True_, np.int64(1)])
@pytest.mark.parametrize(("positive", "share"), [("a", 1.0), ("b", 0.0)])
def test_positive_says_what_1_and_true_mean_and_0_and_false_the_other(label, positive, share):
    assert vote_share(label, None, positive) == (share, 1)
    other = {True: False, "true": "false", "True": "False", "1": "0", "1.0": "0.0"}.get(label, type(label)(0))
    assert vote_share(other, None, positive) == (1 - share, 1)
    assert vote_share(None, [label, label, other], positive)[0] == pytest.approx((2 * share + (1 - share)) / 3)


@pytest.mark.parametrize(("label", "counts"), [(True, True), ("false", True), (1, False), ("0", False), (0.0, False)])
def test_a_number_without_a_meaning_is_asked_about(label, counts):
    for cast, problem in (
        ((label, None), f"have a label {NO_MEANING}"),
        ((None, ["a", label]), f"have a vote {NO_MEANING}"),
    ):
        with pytest.raises(WrongRow) as refused:
            vote_share(*cast, counts=counts)
        assert refused.value.problem == problem


@pytest.mark.parametrize(
    ("label", "votes"), [("c", None), (2, None), (0.5, None), (["a"], None), (None, ["a", "x"]), (None, 3)]
)
def test_values_that_are_no_votes(label, votes):
    with pytest.raises(WrongRow, match="have votes that are no list" if votes == 3 else "names no response"):
        vote_share(label, votes)
