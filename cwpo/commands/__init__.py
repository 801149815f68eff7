"""Starts the commands in scripts/ and explains their errors; does the work of run, plan, reproduce, store, lock_assets.

Only scripts/ imports this package: `entry.entry`, `entry.job` and the functions that do the work.
"""
