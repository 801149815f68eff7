"""Turns a configuration into arms (one per point of a sweep) and their stages, and finished arms into result rows.

Other packages import `arms` (Arm, expand, distinct), `graph` (Node, STAGES), `experiments` and `record`.
"""
