"""Finds out what a sweep will cost, and what would stop it, before it starts.

Others import `plan.make_plan`, `forecast`, `gpu_hours` and `preflight.report.preflight`.
"""
