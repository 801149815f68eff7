"""Measurements for the documentation: speed beside TRL's DPOTrainer, and annotators on real human pairs.

Scripts call `report.benchmark`, `real.measure` and `calibration.calibrate`.
"""
