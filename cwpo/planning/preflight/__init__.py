"""Finds what would stop an experiment before a GPU-hour is spent; `make preflight` runs this. Loads no weights."""
