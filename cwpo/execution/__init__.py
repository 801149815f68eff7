"""Runs stages: in this process, in worker processes, level by level on a cluster, or one stage in several processes.

Other packages import `workers.run_arms`, `levels.run_levels`, `cluster` (launchers) and `node.Settings`.
"""
