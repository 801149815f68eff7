"""One module per stage: a pure function of the config keys it declares and of its parents' folders.

Others import the Stage object of each module, and `base` (Stage, Work).
"""
