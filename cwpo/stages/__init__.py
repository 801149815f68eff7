"""The stages, one per module: each is a pure function of the config keys it declares and of its parent stages' files.

Others import the Stage object of each module, and `base` (Stage, Work).
"""
