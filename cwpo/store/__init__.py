"""The experiment store: finished stages in folders named by the hash of everything that made them.

Others import `store.Store`, `manifest` (StoreError, read_manifest), `shards` and `digests`.
"""
