"""Labels users' own pairs, aligns models on them and compares models; a report says how far to trust the labels.

Scripts call `annotate.label`, `align.align` and `compare.compare`.
"""
