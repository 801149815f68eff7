"""The typed configuration: its keys (`schema`, `commands`) and pinned commits of models and data sets (`assets`)."""
