"""OPT, Qwen2 and Llama as they are published: precision, pickle weights, BOS, EOS and pad tokens, chat templates, dropout."""

import os

import paper_copies
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers import modeling_utils as modeling

from cwpo.data.chat import reads_chat
from cwpo.data.encoding import encode, encode_prompts
from cwpo.errors import InputError
from cwpo.models.annotator import new_annotator
from cwpo.models.policy import load_policy, load_tokenizer

DIALOGUE = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: how?\n\nAssistant:"
FAMILIES = {"opt": paper_copies.opt, "qwen2": paper_copies.qwen, "llama": paper_copies.llama}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {name: make(root / name) for name, make in FAMILIES.items()}


def dtypes(model) -> set[torch.dtype]:
    return {parameter.dtype for parameter in model.parameters()}


# --- float32 masters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_published_in_16_bits_are_trained_in_32(folders, family):
    half = AutoModelForCausalLM.from_pretrained(folders[family])  # what transformers does unless told otherwise
    assert dtypes(half) <= {torch.float16, torch.bfloat16}
    annotator = new_annotator(folders[family], None, pad_id=1, head_std=0.01, seed=0)
    assert dtypes(load_policy(folders[family])) == dtypes(annotator) == {torch.float32}


# --- dropout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_off_in_training_mode_too(folders, family):
    published = AutoConfig.from_pretrained(folders[family])
    assert family != "opt" or published.dropout == 0.1
    for model in (load_policy(folders[family]), new_annotator(folders[family], None, pad_id=1, head_std=0.01, seed=0)):
        model.train()
        ids = torch.arange(5, 15)[None]
        first, second = (model(input_ids=ids).logits for _ in range(2))
        assert torch.equal(first, second)


# --- tokens that begin, end and pad ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "bos", "eos", "pad"), [("opt", 2, 2, 1), ("qwen2", None, 0, 0), ("llama", 0, 1, 1)])
def test_sequences_begin_and_end_as_each_family_was_trained(folders, family, bos, eos, pad):
    tokenizer = load_tokenizer(folders[family])
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (bos, eos, pad)
    ((ids, start),) = encode(tokenizer, [paper_copies.ask(1)], [f" {paper_copies.good(1)}"])
    begins = [] if bos is None else [bos]
    assert ids[: len(begins)] == begins
    assert ids.count(eos) == 1 + begins.count(eos) and ids[-1] == eos
    assert tokenizer.decode(ids[len(begins) : start]) == paper_copies.ask(1)
    assert tokenizer.decode(ids[start:-1]) == f" {paper_copies.good(1)}"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_tokenizer_reads_as_before(folders, family, tmp_path):
    tokenizer = load_tokenizer(folders[family])
    tokenizer.save_pretrained(tmp_path)
    prompts = [paper_copies.ask(1), "", DIALOGUE]
    assert encode_prompts(load_tokenizer(tmp_path), prompts) == encode_prompts(tokenizer, prompts)


# --- chat templates --------------------------------------------------------------------------------------------------


def test_an_instruct_model_reads_prompts_through_its_template_with_one_bos(folders, tmp_path):
    tokenizer = load_tokenizer(folders["llama"], chat=True)
    ((ids, start),) = encode(tokenizer, [DIALOGUE], [" fine, thanks "])
    assert tokenizer.decode(ids[:start]) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nhello<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nhow?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids[start:]) == "fine, thanks<|eot_id|>"
    said = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "how?"},
    ]
    said.append({"role": "assistant", "content": "fine, thanks"})
    assert tokenizer.decode(ids) == tokenizer.apply_chat_template(said, tokenize=False)
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)  # as the stages after SFT load it: nobody tells them
    assert reads_chat(again)
    assert encode(again, [DIALOGUE], [" fine, thanks "]) == [(ids, start)]


def test_a_base_model_with_a_template_does_not_use_it(folders):
    tokenizer = load_tokenizer(folders["qwen2"])
    assert tokenizer.chat_template and not reads_chat(tokenizer)
    assert tokenizer.decode(encode_prompts(tokenizer, [DIALOGUE])[0]) == DIALOGUE


def test_a_model_without_a_template_cannot_chat(folders):
    with pytest.raises(InputError, match="has no chat template"):
        load_tokenizer(folders["opt"], chat=True)


# --- weights that are never loaded -----------------------------------------------------------------------------------


def test_nobody_is_asked_to_convert_pickle_weights(folders, monkeypatch):
    """transformers asks a service of the hub to convert them, in the background, unless this variable says no."""
    monkeypatch.delenv("DISABLE_SAFETENSORS_CONVERSION", raising=False)
    load_policy(folders["opt"])
    assert os.environ["DISABLE_SAFETENSORS_CONVERSION"] == "1"
    assert modeling.is_env_variable_true("DISABLE_SAFETENSORS_CONVERSION")
