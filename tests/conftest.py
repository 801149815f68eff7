"""Shared fixtures: one thread, no network, a world small enough for a pipeline in seconds."""

import gc
import os
from pathlib import Path

import properties
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("MPLBACKEND", "Agg")

from harness.fixtures import undisturbed  # noqa: F401
from harness.state import COUNTS

REPO = Path(__file__).resolve().parent.parent

# A toy arm cut down to seconds. Its numbers mean nothing; its path is the real one.
SMOKE = [
    "world.sequences=2000",
    "models.opt_1_3b=world/opt-32x2",
    "models.qwen_7b=world/qwen2-32x2",
    "data.pairs=120",
    "data.test_pairs=30",
    "evaluation.prompts=30",
    "annotator.training.epochs=1",
    "annotator.sft_training.epochs=1",
    "annotator.dpo_training.epochs=1",
    "alignment.epochs=1",
]


@pytest.fixture(autouse=True, scope="module")
def _libraries_stay() -> None:
    """Lets the full garbage collection at the end of every training skip the loaded libraries, as in the workers."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter) -> None:
    """What the fault tests, the bad values and the properties counted."""
    for line in (*COUNTS, *properties.summary()):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models beside the checkout; tests on real input skip without it."""
    folder = Path(os.environ.get("CWPO_SHARED", REPO.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"real data not found: set CWPO_SHARED or put it at {folder}")
    return folder


@pytest.fixture(scope="session")
def made_up_results(tmp_path_factory) -> Path:
    """A results folder with every experiment at both operating points; nothing in it was measured."""
    from claims_results import complete

    return complete(tmp_path_factory.mktemp("made_up"))


@pytest.fixture(scope="session")
def made_up_loaded(made_up_results):
    """The same, loaded; cached functions of the report compute each table once."""
    from cwpo.report.inputs import load

    return load(made_up_results, "toy")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A random Llama-architecture checkpoint with a byte-level tokenizer, which reads any text."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(["<s>", "</s>", *alphabet])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(alphabet) + 2,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
