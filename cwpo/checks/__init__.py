"""Finds everything wrong with a configuration, its checkpoints or a third party's configuration file, before any work.

The entry points are settings.check_config and check_settings, checkpoints.model_problems, and foreign.refuse_code.
"""
