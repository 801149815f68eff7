"""How fast training is, beside TRL's DPOTrainer on the same work; `scripts/benchmark.py` runs it."""
