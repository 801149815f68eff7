"""Functions that do the work of some scripts in scripts/, and what all share: checks, messages, quoted arguments.

Only scripts/ imports from here: `entry.entry`, `entry.job` and the functions that do a script's work.
"""
