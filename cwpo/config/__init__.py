"""The typed configuration: its keys (`schema`, `commands`), rules for values, commits of models and data, the hub."""
