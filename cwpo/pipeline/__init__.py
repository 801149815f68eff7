"""From a configuration to arms, their stages, and the result rows of finished arms.

Others import `arms` (Arm, expand, distinct), `graph` (Node, STAGES), `experiments` and `record`.
"""
