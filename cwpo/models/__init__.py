"""Loading models and what they compute: log-probs, scores, samples and gold rewards.

Others import `policy` (load_policy, load_tokenizer), `annotator`, `packed`, `logprobs`, `generation` and `gold.load_gold`.
"""
