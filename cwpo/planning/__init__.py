"""Estimates the cost of a sweep, and finds problems that would stop it, before it starts.

Other packages import `plan` and `preflight.report.preflight`.
"""
