"""Trainers: thin subclasses of `transformers.Trainer`. `PreferenceTrainer` is the one for other people's scripts."""

from cwpo.training.preference import PreferenceTrainer

__all__ = ["PreferenceTrainer"]
