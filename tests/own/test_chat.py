"""Own pairs of messages: annotate.py, align.py and compare.py read them by the model's chat template, say so, and agree."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from many_tokenizers import TEMPLATE
from own.test_annotate import run
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from cwpo.errors import InputError
from cwpo.models.reward_models import load_reward

pytestmark = pytest.mark.soak

BY_TEMPLATE, PLAIN = "written by the model's chat template", "plain text, messages as in HH-RLHF"
SYSTEM = {"role": "system", "content": "Be kind."}


@pytest.fixture(scope="module")
def instruct(tmp_path_factory, tiny_checkpoint) -> Path:
    """The tiny checkpoint with a chat template."""
    folder = tmp_path_factory.mktemp("instruct") / "model"
    shutil.copytree(tiny_checkpoint, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """40 pairs of messages, 28 with a label."""
    rng, rows = random.Random(0), []
    for i in range(40):
        good, bad = ("".join(rng.choices(letters, k=8)) for letters in ("aaz", "zza"))
        sides = [[{"role": "assistant", "content": text}] for text in (good, bad)]
        row = {
            "prompt": [SYSTEM, {"role": "user", "content": f"Ask {i}?"}],
            "response_a": sides[i % 2],
            "response_b": sides[1 - i % 2],
        }
        rows.append(row | ({"label": "ab"[i % 2]} if i < 28 else {}))
    file = tmp_path_factory.mktemp("data") / "chat.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


FAST = ["annotator.training.epochs=1", "annotator.training.learning_rate=3e-3", "folds=2", "curve=[]"]


@pytest.fixture(scope="module")
def labeled(tmp_path_factory, instruct, data) -> tuple[Path, list[str]]:
    out = tmp_path_factory.mktemp("labeled") / "out"
    return run("annotate", f"data={data}", f"model={instruct}", f"out={out}", *FAST)


def rendered(tokenizer, row) -> str:
    """The conversation of an annotated row as the template writes it, up to its last EOS."""
    asked = json.loads(row.messages)
    answer = [{"role": "assistant", "content": row.chosen.strip()}]
    return tokenizer.apply_chat_template(asked + answer, tokenize=False).rstrip("\n")


def test_annotate_reads_messages_by_the_template_and_says_so(labeled, instruct):
    out, said = labeled
    assert f"prompts for {instruct}: {BY_TEMPLATE}" in said
    numbers = json.loads((out / "report.json").read_text())
    assert numbers["read_as"] == BY_TEMPLATE and numbers["config"]["chat"] == "true"
    assert BY_TEMPLATE in (out / "README.md").read_text()
    table = pd.read_parquet(out / "preferences.parquet")
    assert json.loads(table["messages"][0])[0] == SYSTEM
    assert table["prompt"][0].startswith("\n\nSystem: Be kind.\n\nHuman: Ask")
    assert table["chosen"].str.match(r" \w").all()


@torch.no_grad()
def test_its_margins_are_those_of_the_rendered_conversations(labeled):
    out, _ = labeled
    tokenizer = AutoTokenizer.from_pretrained(out / "annotator")
    model = AutoModelForSequenceClassification.from_pretrained(out / "annotator").eval()
    table = pd.read_parquet(out / "preferences.parquet").query("label_source == 'annotator'").head(4)

    def score(row) -> float:
        ids = tokenizer(rendered(tokenizer, row), add_special_tokens=False)["input_ids"]
        states = model.model(torch.tensor([ids])).last_hidden_state[0, -1]
        return float(model.score(states)[0])

    for row in table.itertuples():
        gap = score(row) - score(row._replace(chosen=row.rejected))
        assert gap == pytest.approx(row.margin, abs=1e-4)


def test_align_and_compare_read_what_annotate_wrote_and_read(labeled, instruct, data, tmp_path):
    out, _ = labeled
    words = ["sft.epochs=1", "alignment.epochs=1", "sft.batch_size=8", "alignment.batch_size=8"]
    table = f"{out}/preferences.parquet"
    model, said = run("align", f"preferences={table}", f"model={instruct}", f"out={tmp_path}/aligned", *words)
    assert f"prompts for {instruct}: {BY_TEMPLATE}" in said
    assert f"| prompts | {BY_TEMPLATE} |" in (model / "README.md").read_text()
    words = [f"before={model}/sft", f"after={model}", f"prompts={data}", f"gold={out}/annotator", "most=6"]
    compared, said = run("compare", *words, "max_new_tokens=4", f"out={tmp_path}/compared")
    numbers = json.loads((compared / "comparison.json").read_text())
    assert numbers["read_as"] == dict.fromkeys(("before", "after", "gold"), BY_TEMPLATE)
    assert numbers["prompts"] == 6 and numbers["other_tokens"].keys() == {"before", "after"}
    assert f"prompts for {out}/annotator: {BY_TEMPLATE}" in said


@pytest.mark.parametrize("case", ["no template", "chat=false", "turns without EOS"])
def test_without_a_usable_template_messages_are_plain_text(case, tiny_checkpoint, instruct, data, tmp_path):
    model, words = (tiny_checkpoint if case == "no template" else instruct), []
    if case == "chat=false":
        words = ["chat=false"]
    if case == "turns without EOS":
        model = tmp_path / "model"
        shutil.copytree(instruct, model)
        (model / "chat_template.jinja").write_text(TEMPLATE.replace("{{ eos_token }}", "."))
    out, said = run("annotate", f"data={data}", f"model={model}", f"out={tmp_path}/out", *FAST, *words)
    (line,) = (line for line in said if line.startswith("prompts for"))
    assert line.startswith(f"prompts for {model}: {PLAIN}")
    why = {"no template": "has no chat template", "chat=false": "", "turns without EOS": "do not end in its EOS"}
    assert why[case] in line
    assert json.loads((out / "report.json").read_text())["read_as"] == PLAIN
    kept = AutoTokenizer.from_pretrained(out / "annotator").init_kwargs.get("reads_chat")
    assert kept is (None if case == "no template" else False)  # used later, it reads as it was trained


def test_chat_true_without_a_template_is_refused(tiny_checkpoint, data, tmp_path):
    words = [f"data={data}", f"model={tiny_checkpoint}", f"out={tmp_path}/out"]
    with pytest.raises(InputError, match=r"chat=true: the tokenizer of .* has no chat template"):
        run("annotate", *words, "chat=true")
    with pytest.raises(InputError, match=r"chat=maybe is unknown; valid: auto, true, false"):
        run("annotate", *words, "chat=maybe")


# --- reward models -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reward(tmp_path_factory, instruct) -> Path:
    folder = tmp_path_factory.mktemp("reward") / "model"
    shutil.copytree(instruct, folder)
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(instruct, num_labels=1).save_pretrained(folder)
    return folder


@torch.no_grad()
def test_a_chat_reward_model_is_read_by_its_template(reward, tiny_checkpoint):
    gold = load_reward(str(reward), None, batch_size=2, device="cpu")
    assert gold.chat
    tokenizer = AutoTokenizer.from_pretrained(reward)
    model = AutoModelForSequenceClassification.from_pretrained(reward).eval()
    prompts = [[SYSTEM, {"role": "user", "content": "2+2?"}], "\n\nHuman: 2+2?\n\nAssistant:"]
    asked = [prompts[0], prompts[0][1:]]
    expected = []
    for messages in asked:
        text = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": "4"}], tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        expected.append(float(model.score(model.model(torch.tensor([ids])).last_hidden_state[0, -1])[0]))
    assert gold.rewards(prompts, [" 4", " 4"]) == pytest.approx(expected, abs=1e-4)
    assert np.ptp(expected) > 1e-4
    assert not load_reward(str(reward), None, batch_size=2, device="cpu", chat=False).chat


def test_annotate_takes_a_chat_reward_model(reward, data, tmp_path):
    out, said = run("annotate", f"data={data}", f"annotator.path={reward}", f"out={tmp_path}/out")
    assert f"prompts for {reward}: {BY_TEMPLATE}" in said
    table = pd.read_parquet(out / "preferences.parquet").query("label_source == 'annotator'")
    gold = load_reward(str(reward), None, batch_size=2, device="cpu")
    prompts = [json.loads(messages) for messages in table["messages"]]
    gaps = gold.rewards(prompts, table["chosen"].tolist()) - gold.rewards(prompts, table["rejected"].tolist())
    assert gaps == pytest.approx(table["margin"].to_numpy(), abs=1e-4)
