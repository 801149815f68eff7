"""Finds everything wrong with a configuration, its checkpoints or a third party's configuration file, before any work.

Other packages import `settings` (check_config, check_settings), `checkpoints`, `reading` (wrong_type) and `foreign`
(refuse_code).
"""
