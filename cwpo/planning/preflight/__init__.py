"""Finds problems that would stop an experiment, before it uses a GPU; `make preflight` runs this. Loads no weights."""
