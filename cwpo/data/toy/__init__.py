"""The synthetic world (scale=toy): generated text, its true reward, noisy preferences, and a tokenizer."""

from cwpo.data.toy.gold import gold_reward as gold_reward
from cwpo.data.toy.gold import gold_rewards as gold_rewards
from cwpo.data.toy.tokenizer import build_tokenizer as build_tokenizer
from cwpo.data.toy.world import DATASETS as DATASETS
from cwpo.data.toy.world import WORLD_VERSION as WORLD_VERSION
from cwpo.data.toy.world import pretraining_texts as pretraining_texts
from cwpo.data.toy.world import sample_pairs as sample_pairs
