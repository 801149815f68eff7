"""What a configuration means: its arms, the stages of each arm, and the result rows of finished arms.

Others import `arms` (Arm, expand, distinct), `graph` (Node, STAGES), `experiments` and `record`.
"""
