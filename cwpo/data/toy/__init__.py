"""The synthetic world (scale=toy): generated text, its true reward, noisy preferences, and a tokenizer."""

from cwpo.data.toy.gold import gold_reward, gold_rewards
from cwpo.data.toy.tokenizer import build_tokenizer
from cwpo.data.toy.world import DATASETS, WORLD_VERSION, WorldDataset, pretraining_texts, sample_pairs

__all__ = [
    "DATASETS",
    "WORLD_VERSION",
    "WorldDataset",
    "build_tokenizer",
    "gold_reward",
    "gold_rewards",
    "pretraining_texts",
    "sample_pairs",
]
