"""The parts of a claim: statement, comparison, and the smallest effect that matters."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cwpo.report.claims.measures import ARM, Measure, Term, Where, contrast

POINTS = "points"
# Start of a claim's id -> where the paper makes the claim. Any other id itself names the table or figure.
PLACES = {
    "table3_cw30": "Table 3, Figure 1",
    "figure2": "Figure 2, Tables 10, 11",
    "figure3_cw20": "Figure 3 right, Table 3",
    "figure3_left": "Figure 3 left",
    "figure3_right": "Figure 3 right",
}


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, in our words, and the comparison that tests it.

    The claim is that the effect, `measure(evidence, number)` in `unit`, is above `value` (with `below`: below it).
    `floor` is the smallest effect that matters, in the same unit: the margin of the verdict is half the paper's effect,
    but at least `floor`. `number`: the result that is compared, e.g. "gra". `second`: another result to compare, by
    `second_measure` if given, else by `measure`. `paper`: the measure of the paper's effect; None: `measure`. `remark`
    tells readers what to keep in mind. `arms`: the claim compares aligned models, not annotators. `plain`: the effect
    is simply the result of arm "a" minus that of arm "b"; other claims are about slopes, maxima and the like.
    """

    id: str
    statement: str
    test: str
    measure: Measure
    number: str = "gra"
    unit: str = POINTS
    value: float = 0.0
    below: bool = False
    floor: float = 0.5
    second: str | None = "reward"
    second_measure: Measure | None = None
    paper: Measure | None = None
    remark: str = ""
    arms: bool = True
    plain: bool = False

    @property
    def where(self) -> str:
        """The paper's tables and figures that make the claim, derived from its id."""
        named = next((words for start, words in PLACES.items() if self.id.startswith(start)), None)
        return named or re.sub(r"(table|figure)(\d+)_.*", r"\1 \2", self.id).capitalize()

    def distance(self, effect: float) -> float:
        """How far an effect is from `value` in the claimed direction; below 0 on the other side."""
        return self.value - effect if self.below else effect - self.value


def better(
    id: str, statement: str, a: Where, b: Where, *, test: str, match: tuple[str, ...] = ARM, remark: str = ""
) -> Claim:
    """Returns the claim that arm `a` is above arm `b` in GRA; mean gold reward is shown beside it."""
    measure = contrast([Term(1, "a", a), Term(-1, "b", b)], match=match)
    return Claim(id, statement, f"GRA of {test}", measure, plain=True, remark=remark)


def arm(experiment: str, method: str, **more: object) -> dict[str, object]:
    """Returns the conditions that select the arms of one method in an experiment."""
    return {"experiment": experiment, "method": method, **more}
