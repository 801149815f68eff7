"""From files and texts to pairs, tokens and batches.

Others import `sources.load_pairs`, `own.convert`, `batching` (encode, collators), `packing`, `splits` and `toy`.
"""
