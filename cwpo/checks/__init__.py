"""Everything that can be wrong with a configuration, a checkpoint or a stranger's file, found before any work.

Others import `settings` (check_config, nearest), `checkpoints`, `leaves` and `foreign` (refuse_code).
"""
