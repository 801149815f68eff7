"""The experiment store: every finished stage in a folder named by the hash of all its inputs.

Other packages import `store.Store`, `manifest` (StoreError, read_manifest) and `shards`.
"""
