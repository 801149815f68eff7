"""What would stop an experiment, found before a GPU hour is spent on it; `make preflight` runs it. Loads no weights."""
