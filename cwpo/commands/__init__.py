"""The work of some scripts in scripts/, and what all of them share: checks, error messages, quoting of arguments.

Only scripts/ imports from here: `entry.entry`, `entry.job` and the functions that do a script's work.
"""
