"""The paper's tables and ours, filled from results/*.csv and written as Markdown, CSV and LaTeX."""
