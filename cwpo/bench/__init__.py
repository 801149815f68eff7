"""Measurements for the documentation: speed beside TRL's DPOTrainer, and annotators on real human pairs.

Others import `report.benchmark` and `real.measure`.
"""
