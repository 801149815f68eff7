"""The stages, one per module: each is a pure function of the config keys it declares and of its parent stages' files.

Other packages import the Stage object of each module, `base` (Stage, Work) and a few constants.
"""
