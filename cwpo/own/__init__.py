"""Users' own pairs and models: label, align and compare, with a report that says what can be trusted.

Others import `annotate.label`, `align.align` and `compare.compare`.
"""
