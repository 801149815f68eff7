"""Turns files and texts into pairs, tokens and batches.

Main entry points: `sources.load_pairs`, `own.convert`, `rows` (PairReader, read_prompts), `files.records`, `encoding`,
`batching` (collators), `packing`, `splits` and `toy`.
"""
