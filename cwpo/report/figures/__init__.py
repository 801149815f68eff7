"""The paper's figures and ours, as PNG and PDF. Each function draws one and returns its files; [] if it has no runs."""

from collections.abc import Callable
from pathlib import Path

from cwpo.report.figures.capacity import capacity
from cwpo.report.figures.controls import controls
from cwpo.report.figures.curves import figure2, figure3_left, figure3_right, figure4, figure8, tuning
from cwpo.report.figures.distributions import figure5, figure6, figure7
from cwpo.report.figures.frontier import frontier
from cwpo.report.figures.regimes import HEAT_MAPS, regimes_sizes
from cwpo.report.inputs import Results

Draw = Callable[[Results, Path], list[Path]]
# Figures of aligned models are given the results at the matched update size, the others all results.
AT_MATCHED: tuple[Draw, ...] = (figure2, figure3_left, figure3_right, figure4, figure5, controls, capacity)
OF_ALL: tuple[Draw, ...] = (figure6, figure7, figure8, frontier, *HEAT_MAPS, regimes_sizes, tuning)
