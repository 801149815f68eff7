"""Texts to tokens and back with tokenizers of every kind: what is encoded spells the text, what is sampled joins its prompt."""

import copy
import warnings

import numpy as np
import pytest
from hypothesis import strategies as st
from many_tokenizers import OURS, TEMPLATE, at_hand, byte_level, tokenizer_of, with_template
from properties import TEXT, holds

from cwpo.data.chat import CHAT, chat_problem
from cwpo.data.encoding import encode, encode_pairs, encode_prompts, sampled, text_behind, whole_ids
from cwpo.errors import InputError

PIECES = st.sampled_from(
    [" ", "\n", "a", "ti", "me", "time", " time", "Once upon", "'s", "10", "\n\nAssistant:", "é", "e\u0301", "中文", "👩\u200d🚀", "☃", "  ", "don't",
     ".", "ﬁ", "<tool>", "park with"]
)  # fmt: skip
LONGER = st.lists(PIECES | TEXT, min_size=1, max_size=6).map("".join)
SPELLING = [name for name in at_hand() if name not in OURS]
# These keep every character of every text, so nothing may ever be inexact.
LOSSLESS = [n for n in SPELLING if n.startswith(("byte-level", "GPT-2", "stories", "aidreams"))]
HI = [{"role": "user", "content": "What is 2+2?"}]


def spelt(tokenizer, ids) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def has_special(tokenizer, *texts: str) -> bool:
    return any(token in text for token in tokenizer.all_special_tokens for text in texts)


def encoded(tokenizer, prompt, response):
    """(ids, start, whether a warning told that they are not exact)."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ((ids, start),) = encode(tokenizer, [prompt], [response])
    return ids, start, any("cannot be spelt exactly" in str(w.message) for w in told)


@pytest.mark.parametrize("name", SPELLING)
@holds(LONGER, LONGER)
def test_tokens_spell_prompt_and_response(name, prompt, response):
    """decode(encode(p, r)) = p + r, up to what the tokenizer itself does to p + r; what is inexact is told."""
    tokenizer = tokenizer_of(name)
    ids, _, told = encoded(tokenizer, prompt, response)
    whole = spelt(tokenizer, tokenizer(prompt + response)["input_ids"])
    again = spelt(tokenizer, tokenizer(spelt(tokenizer, ids))["input_ids"])
    assert told or spelt(tokenizer, ids) == whole or again == whole
    if name in LOSSLESS:
        assert not told and (has_special(tokenizer, prompt + response) or spelt(tokenizer, ids) == whole)


@pytest.mark.parametrize("name", at_hand())
@holds(LONGER, LONGER, LONGER)
def test_chosen_rejected_and_samples_share_the_prompts_tokens(name, prompt, chosen, rejected):
    tokenizer = tokenizer_of(name)
    (head,) = encode_prompts(tokenizer, [prompt])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (row,) = encode_pairs(tokenizer, [prompt], [chosen], [rejected])
    for side in ("chosen", "rejected"):
        assert row[f"{side}_start"] == len(head) and row[f"{side}_ids"][: len(head)] == head


@pytest.mark.parametrize("name", at_hand())
@holds(LONGER, LONGER, st.booleans(), st.booleans())
def test_bos_and_eos_come_once(name, prompt, response, begun, ended):
    """Also where the text has them already, as texts that were rendered beforehand do."""
    tokenizer = tokenizer_of(name)
    if has_special(tokenizer, prompt, response, prompt + response):
        return
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    own = bos is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    texts = (bos + prompt if begun and own else prompt), (response + eos if ended else response)
    ids, start, _ = encoded(tokenizer, *texts)
    assert ids[-1] == tokenizer.eos_token_id
    if bos == eos:
        assert ids.count(tokenizer.eos_token_id) == 1 + own
    else:
        assert ids.count(tokenizer.eos_token_id) == 1
        assert ids.count(tokenizer.bos_token_id) == own and (not own or ids[0] == tokenizer.bos_token_id)
    assert whole_ids(tokenizer, [prompt]) == tokenizer([prompt])["input_ids"]
    if own and bos != eos:
        assert whole_ids(tokenizer, [bos + prompt])[0].count(tokenizer.bos_token_id) == 1
    assert 0 <= start < len(ids)


@pytest.mark.parametrize("name", SPELLING)
@holds(LONGER, LONGER)
def test_the_response_is_the_whole_texts_where_its_tokens_begin_with_the_prompts(name, prompt, response):
    tokenizer = tokenizer_of(name)
    if has_special(tokenizer, prompt + response):
        return
    ids, start, _ = encoded(tokenizer, prompt, response)
    (whole,) = tokenizer([prompt + response], add_special_tokens=False)["input_ids"]
    (bare,) = tokenizer([prompt], add_special_tokens=False)["input_ids"]
    if whole[: len(bare)] == bare and bare[-1:] != [tokenizer.unk_token_id]:
        assert ids[start:-1] == whole[len(bare) :] and ids[start - len(bare) : start] == bare


@pytest.mark.parametrize("name", SPELLING)
@holds(LONGER, LONGER)
def test_a_sampled_text_joins_its_prompt(name, prompt, response):
    """The text behind the prompt in the decoded whole; encoding it gives the sampled tokens again, or that is told."""
    tokenizer = tokenizer_of(name)
    ids, start, _ = encoded(tokenizer, prompt, response)
    head, new = ids[:start], ids[start:-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (row,) = sampled(tokenizer, [prompt], [head], [(new, True)])
        again, _, _ = encoded(tokenizer, prompt, row["response"])
    assert spelt(tokenizer, head) + row["response"] == spelt(tokenizer, head + new)
    assert row["same_tokens"] == (again == ids)
    assert (row["n_tokens"], row["truncated"]) == (len(new) + 1, False)
    if name in LOSSLESS and not has_special(tokenizer, prompt + response):
        assert row["same_tokens"]


@pytest.mark.parametrize("name", SPELLING)
@holds(st.integers(0, 2**32 - 1), LONGER)
def test_tokens_drawn_at_random_are_reported_where_they_do_not_come_back(name, seed, prompt):
    tokenizer = tokenizer_of(name)
    (head,) = encode_prompts(tokenizer, [prompt])
    special = set(tokenizer.all_special_ids)
    drawn = [i for i in np.random.default_rng(seed).integers(0, len(tokenizer), 8).tolist() if i not in special]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (row,) = sampled(tokenizer, [prompt], [head], [(drawn, False)])
        again, _, _ = encoded(tokenizer, prompt, row["response"])
    assert row["same_tokens"] == (again[:-1] == head + drawn) and row["truncated"]


# --- values written out --------------------------------------------------------------------------------------------


def pieces(tokenizer, ids) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(ids))


def test_a_worked_example_with_a_sentence_piece_model(shared):
    tokenizer = tokenizer_of("stories260k")
    ((ids, start),) = encode(tokenizer, ["Once upon"], [" a time"])
    assert pieces(tokenizer, ids[:start]) == "<s> ▁Once ▁upon"
    assert ids[:-1] == tokenizer("Once upon a time")["input_ids"]
    ((ids, start),) = encode(tokenizer, ["Once upon a t"], ["ime there"])
    assert ids[:start] == tokenizer("Once upon a t")["input_ids"]
    assert ids[:-1] != tokenizer("Once upon a time there")["input_ids"]  # its tokens merge at the boundary
    assert tokenizer.decode(ids[1:-1]) == "Once upon a time there"


def test_words_sampled_with_a_space_keep_it(shared):
    tokenizer = tokenizer_of("stories260k")
    (head,) = encode_prompts(tokenizer, ["Tom and his mom went"])
    new = tokenizer("to the park", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(new) == "to the park"  # alone
    assert text_behind(tokenizer, head, new) == " to the park"


def test_sampled_words_are_not_cleaned_up():
    tokenizer = copy.deepcopy(tokenizer_of("words"))
    tokenizer.clean_up_tokenization_spaces = True
    tokenizer.add_tokens([","])
    (row,) = sampled(
        tokenizer,
        ["ask"],
        encode_prompts(tokenizer, ["ask"]),
        [(tokenizer("bread , warm", add_special_tokens=False)["input_ids"], True)],
    )
    assert row["response"] == "bread , warm" and row["same_tokens"]


def test_an_inexact_spelling_is_told_with_the_text():
    with pytest.warns(UserWarning, match=r"1 of 2 responses cannot be spelt exactly .* row 1: 'ti' \+ '☃'"):
        encode(tokenizer_of("WordPiece"), ["Once upon", "ti"], [" a time", "☃"])


# --- chat ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in at_hand() if "template" in name])
@holds(st.lists(LONGER, min_size=1, max_size=3), LONGER)
def test_messages_are_one_rendering_of_the_conversation(name, said, reply):
    tokenizer = tokenizer_of(name)
    if has_special(tokenizer, *said, reply, "".join(said) + reply):
        return
    prompt = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
    answer = [{"role": "assistant", "content": reply}]
    ids, start, told = encoded(tokenizer, prompt, answer)
    text = tokenizer.apply_chat_template(prompt + answer, tokenize=False).rstrip("\n")
    (expected,) = tokenizer([text], add_special_tokens=False)["input_ids"]
    opened = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    assert ids[:start] == tokenizer([opened], add_special_tokens=False)["input_ids"][0]
    assert told or spelt(tokenizer, ids) == spelt(tokenizer, expected)
    turns_before = sum(message["role"] is not None for message in prompt)
    assert ids[-1] == tokenizer.eos_token_id and ids.count(tokenizer.eos_token_id) == turns_before + 1
    if tokenizer.bos_token and tokenizer.bos_token in opened:
        assert ids.count(tokenizer.bos_token_id) == 1


def test_a_template_gives_its_own_tokens():
    tokenizer = tokenizer_of("byte-level, template")
    ids, start, _ = encoded(tokenizer, HI, [{"role": "assistant", "content": "4"}])
    assert tokenizer.decode(ids[:start]) == "<s>[user]: What is 2+2?</s>\n[assistant]: "
    assert tokenizer.decode(ids[start:]) == "4</s>"
    assert encoded(tokenizer, HI, " 4 ")[0] == ids  # a text response: templates put no space before it


def test_a_template_that_writes_the_date_writes_the_same_one_every_day():
    tokenizer = with_template(byte_level())
    date = "{% set day = strftime_now('%d %b %Y') if strftime_now is defined %}{{ day }}"  # as in Llama 3.2's template
    tokenizer.chat_template = date + tokenizer.chat_template
    assert tokenizer.decode(encode_prompts(tokenizer, [HI])[0]).startswith("26 Jul 2024")


def test_text_prompts_go_through_the_template_only_when_told():
    tokenizer = with_template(byte_level())
    assert tokenizer.decode(encode_prompts(tokenizer, ["hi"])[0]) == "hi"
    tokenizer.init_kwargs[CHAT] = True
    assert tokenizer.decode(encode_prompts(tokenizer, ["hi"])[0]) == "<s>[user]: hi</s>\n[assistant]: "
    (row,) = sampled(tokenizer, ["hi"], encode_prompts(tokenizer, ["hi"]), [(tokenizer("4")["input_ids"], True)])
    assert row["response"] == " 4" and row["same_tokens"]  # as the pipeline writes `Assistant: 4`


@pytest.mark.parametrize("flag", [None, False])
def test_without_a_template_messages_are_dialogues(flag):
    tokenizer = byte_level()
    if flag is False:
        with_template(tokenizer).init_kwargs[CHAT] = False  # it has one, but the model was trained without
    system = [{"role": "system", "content": "Be kind."}, *HI]
    ids, start, _ = encoded(tokenizer, system, [{"role": "assistant", "content": "4"}])
    assert tokenizer.decode(ids[:start]) == "\n\nSystem: Be kind.\n\nHuman: What is 2+2?\n\nAssistant:"
    assert tokenizer.decode(ids[start:]) == " 4</s>"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (TEMPLATE.replace("{{ eos_token }}", "<|end|>"), "do not end in its EOS token </s>"),
        (TEMPLATE.replace("[assistant]: ", "[bot]: "), "whose answer does not continue its prompt"),
        ("{{ raise_exception('no') }}", "has a chat template that fails: no"),
    ],
)
def test_a_template_that_cannot_serve_is_refused_for_messages(template, problem):
    tokenizer = byte_level()
    tokenizer.chat_template = template
    assert problem in chat_problem(tokenizer)
    with pytest.raises(InputError, match=problem):
        encode(tokenizer, [HI], ["4"])
    assert tokenizer.decode(encode(tokenizer, ["hi"], [" 4"])[0][0]) == "hi 4</s>"  # text needs no template


@pytest.mark.parametrize("answer", ["' ' + m['content'] + eos_token", "' ' + m['content'].strip() + ' ' + eos_token"])
def test_a_template_may_put_spaces_around_an_answer(answer):  # as those of Mistral and Llama 2 do
    tokenizer = byte_level()
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
        f"{{% else %}}{{{{ {answer} }}}}{{% endif %}}{{% endfor %}}"
    )
    assert chat_problem(tokenizer) is None
    ids, start, _ = encoded(tokenizer, HI, "4")
    assert tokenizer.decode(ids[:start]) == "<s>[INST] What is 2+2? [/INST]"
    text = tokenizer.apply_chat_template([*HI, {"role": "assistant", "content": "4"}], tokenize=False)
    assert tokenizer.decode(ids) == text
    (row,) = sampled(tokenizer, [HI], [ids[:start]], [(ids[start:-1], True)])
    assert row["response"].strip() == "4" and row["same_tokens"]


def test_a_conversation_that_the_template_refuses_is_named():
    tokenizer = byte_level()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
        "{% endfor %}" + TEMPLATE
    )
    with pytest.raises(InputError, match=r"row 1: .*messages \(system, user\): no system turns; .*chat=false"):
        encode(tokenizer, [HI, [{"role": "system", "content": "x"}, *HI]], ["4", "4"])
