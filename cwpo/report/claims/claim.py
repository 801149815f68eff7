"""The parts of a claim: statement, comparison, and the smallest effect that matters."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cwpo.report.claims.measures import ARM, Measure, Where, contrast

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
    """A statement of the paper, in our words, and the comparison that tests it, `test` in words and `measure` as code.

    `measure` computes the effect from the column `number`, e.g. "gra". The claim is that the effect is above `value`,
    or below it if `below` is set. `floor` is the smallest effect that matters: the verdict's margin is half the paper's
    effect, but at least `floor`. All effects are in `unit`. `paper`, by default `measure`, computes the paper's effect.
    `second` names another column; `second_measure`, by default `measure`, computes its effect, shown beside the first.
    `remark` is for readers. `table` is the frame of Evidence that the measures read. `plain`: whether the effect is
    simply the number of arm "a" minus that of arm "b", and not a slope, a maximum or the like.
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
    table: str = "arms"
    plain: bool = False

    @property
    def of_arms(self) -> bool:
        """Whether aligned models are compared, not annotators."""
        return self.table == "arms"

    @property
    def where(self) -> str:
        """The paper's tables and figures that make the claim, derived from its id."""
        named = next((words for start, words in PLACES.items() if self.id.startswith(start)), None)
        return named or re.sub(r"(table|figure)(\d+)_.*", r"\1 \2", self.id).capitalize()

    def distance(self, effect: float) -> float:
        """How far `effect` is from `value` in the claimed direction; negative on the other side of `value`."""
        return self.value - effect if self.below else effect - self.value


def better(
    id: str, statement: str, a: Where, b: Where, *, test: str, match: tuple[str, ...] = ARM, remark: str = ""
) -> Claim:
    """Returns the claim that arm `a` has a higher GRA than arm `b`. Their mean gold rewards are compared too."""
    measure = contrast([(1, a)], [(1, b)], match=match)
    return Claim(id, statement, f"GRA of {test}", measure, plain=True, remark=remark)


def arm(experiment: str, method: str, **more: object) -> dict[str, object]:
    """Returns conditions, column -> value, that select one method's arms in an experiment; `more` adds conditions."""
    return {"experiment": experiment, "method": method, **more}
