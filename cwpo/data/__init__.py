"""From files and texts to pairs, tokens and batches.

Others import `sources.load_pairs`, `own.convert`, `rows` (PairReader, read_prompts), `files.records`, `encoding`,
`batching` (collators), `packing`, `splits` and `toy`.
"""
