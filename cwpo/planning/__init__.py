"""Estimates the cost of a sweep, and finds problems that would stop it, before it starts.

Other packages import `plan.make_plan`, `forecast`, `gpu_hours` and `preflight.report.preflight`.
"""
