"""Loads models and computes log-probs, scores, samples and gold rewards with them.

Main entry points: `policy` (load_policy, load_tokenizer), `annotator`, `packed`, `logprobs`, `generation`, `gold`.
"""
