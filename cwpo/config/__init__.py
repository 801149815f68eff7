"""The typed configuration: what keys exist (`schema`, `commands`) and which commits of models and data sets are pinned (`assets`)."""
