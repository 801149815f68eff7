"""Everything that can be wrong with a configuration, a checkpoint or a stranger's file, reported before any work.

Others import `settings` (check_config, check_settings), `checkpoints`, `reading` (wrong_type) and `foreign` (refuse_code).
"""
