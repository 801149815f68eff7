"""The paper's figures and ours, as PNG and PDF. Each function draws one, or returns [] if none of its runs exist."""

from cwpo.report.figures.confidences import figure7
from cwpo.report.figures.controls import controls
from cwpo.report.figures.curves import figure2, figure3_left, figure3_right, figure4, figure8, tuning
from cwpo.report.figures.embeddings import figure6
from cwpo.report.figures.prompts import figure5
from cwpo.report.figures.regimes import regimes_cw_human, regimes_cw_ws, regimes_sizes, regimes_top_ws

FIGURES = (
    *(figure2, figure3_left, figure3_right, figure4, figure5, figure6, figure7, figure8),
    *(regimes_cw_human, regimes_cw_ws, regimes_top_ws, regimes_sizes, controls, tuning),
)
