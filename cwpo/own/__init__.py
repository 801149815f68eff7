"""Own pairs: label and weight them, and learn from held-out labels how far to trust that; `scripts/annotate.py` runs it."""
