"""Bad input ends with exit code 2 and a message of the value, the reason and the fix, before any weights are read.

The checkpoints of these tests hold garbage where their weights should be, so a test that got as far as loading them
would fail with another error.
"""

import copy
import json
from pathlib import Path

import pytest
from config.test_schema import composed
from config_fuzz import LLAMA
from omegaconf import OmegaConf
from tiny import tiny_tokenizer

from cwpo.checks.settings import check_config
from cwpo.commands import entry
from cwpo.errors import InputError
from cwpo.execution.node import Settings
from cwpo.execution.workers import run_arms
from cwpo.pipeline.arms import expand


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """The store of these runs is ./runs/store, below the test's own folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def tokenizer_files(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer().save_pretrained(folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def checkpoint(tmp_path, tokenizer_files):
    """Makes folders that look like a checkpoint; a file given as None is left out."""

    def make(name: str, config: dict | None = None, **files: bytes | None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        content = {"config.json": json.dumps(LLAMA | (config or {})).encode(), "model.safetensors": b"no weights"}
        for file, data in {**tokenizer_files, **content, **files}.items():
            if data is not None:
                (folder / file).write_bytes(data)
        return folder

    return make


@pytest.fixture
def refused(capsys):
    """Runs the arms of a command line, which has to be refused; returns the lines of the message."""

    def run(*words: str) -> list[str]:
        def work() -> None:
            arms = expand(words)
            run_arms(arms, Settings.of(arms[0].cfg))

        with pytest.raises(SystemExit) as ended:
            entry.entry(work)()
        said = capsys.readouterr().err
        assert ended.value.code == 2, said
        assert "Traceback" not in said
        assert finished_stages() == []
        return [line.removeprefix("error: ") for line in said.splitlines() if line.startswith("error: ")]

    return run


def finished_stages() -> list[Path]:
    return list(Path("runs").rglob("manifest.json"))


def assert_one(lines: list[str], *parts: str) -> None:
    assert len(lines) == 1, lines
    for part in parts:
        assert part in lines[0]


def good(count: int) -> list[dict]:
    return [{"prompt": f"p{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(count)]


# --- keys and values of the configuration -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("objective=dop", ["objective=dop is unknown", "did you mean dpo?", "valid: dpo, ipo, rdpo"]),
        ("objective=", ["objective= is unknown", "valid: dpo, ipo, rdpo"]),
        ("experiment=tabel1", ["experiment=tabel1 is unknown", "did you mean table1?"]),
        ("method.labls=weak", ["unknown key method.labls", "did you mean method.labels?"]),
        ("foo=1", ["unknown key foo", "valid: against, alignment, allow_unpinned, annotator,"]),
        ("beta=1", ["unknown key beta", "did you mean annotator.beta or objective.beta?"]),
        ("+method.labls=weak", ["+method.labls is not a key", "did you mean method.labels?"]),
        ("data.columns.chosen=better", ["unknown key data.columns.chosen", "+data.columns.chosen=..."]),
        ("seed=abc", ["seed=abc", "seed must be a whole number"]),
        ("lora.enabled=maybe", ["lora.enabled=maybe", "must be true or false"]),
        ("human_fraction=nan", ["human_fraction=nan must be in (0, 1)"]),
        ("method=human weighting=c1", ["weighting=c1", "human labels", "weighting=uniform or method=cw_po"]),
        ("method=human method.selection.kind=threshold method.selection.value=0.5", ["confidence", "method=filter"]),
        (f"results={__file__}", [f"results={__file__} is a file; name a folder"]),
        ("gold=trained gold.holdout=0", ["gold.holdout=0.0 must be in (0, 1)"]),
        ("gold=huggingface", ["gold=huggingface needs gold.path="]),
        ("scale=paper gold.path=a/b", ["gold.path=a/b is not what gold=paper judges by", "reward_models.skywork"]),
        ("~objective", ["objective.name is required"]),
        ("lora.enabled=true generation.precision=bfloat16", ["generation.precision=bfloat16 with lora.enabled=true",
                                                             "use generation.precision=float32"]),
        ("lora.enabled=true lora.base_dtype=bfloat16", ["lora.save=merged with lora.base_dtype=bfloat16", "use lora.save=adapters"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_one_line_says_what_is_wrong(refused, words, parts):
    assert_one(refused(*words.split()), *parts)


@pytest.fixture(scope="module")
def valid_config():
    return composed()


ONLINE = "online.reward=annotator method.name=online_x "


@pytest.mark.parametrize(
    ("values", "message"),
    [
        # one key of each rule: the fuzz test tries every key
        ("method.labels=weka", "method.labels=weka is unknown; did you mean weak?"),
        ("method.selection.kind=top", "method.selection.kind=top is unknown; did you mean top_fraction? valid: all,"),
        ("data.world=harmles", "data.world=harmles is unknown; did you mean harmless?"),
        ("device=gpu", "device=gpu is unknown; did you mean cpu? valid: auto, cpu, cuda"),
        ("alignment.optimizer=adamw", "alignment.optimizer=adamw is unknown; did you mean adamw"),
        ("annotator.name=pairm", "annotator.name=pairm is unknown; did you mean pairrm? valid: bt, dpo,"),
        ("seed=-1", "seed=-1 must be at least 0"),
        ("human_fraction=1", "human_fraction=1.0 must be in (0, 1)"),
        ("objective.beta=inf", "objective.beta=inf must be positive"),
        ("objective.flip_rate=0.5", "objective.flip_rate=0.5 must be in [0, 0.5)"),
        # rules between keys
        ("method.selection.kind=top_fraction method.selection.value=0", "method.selection.value=0.0 must be in (0, 1]"),
        ("method.selection.kind=top_fraction", "method.selection.value=None must be in (0, 1]"),
        ("method.selection.kind=threshold method.selection.value=1", "method.selection.value=1.0 must be in [0, 1)"),
        ("sft.micro_batch_size=7", "sft.micro_batch_size=7 must divide sft.batch_size=64"),
        ("online.reward=annotator", "method.name=cw_po would put an arm with online.reward=annotator among"),
        (ONLINE + "method.labels=human weighting.name=uniform",
         "starts from the SFT model of the weak labels, but method.labels=human"),
        (ONLINE + "method.selection.kind=threshold method.selection.value=0.5",
         "method.selection.kind=threshold chooses among offline pairs"),
        (ONLINE + "weighting.permute=true", "weighting=c1 needs all pairs at once"),
        (ONLINE + "annotator.name=dpo", "needs an annotator that scores single responses with a scalar head, not"),
        ("online.reward=reward_model method.name=online_x online.reward_model=world/opt-32x1",
         "online.reward_model=world/opt-32x1 is a language model and returns no scores"),
        ("pair.weak=world/opt-33x1", "pair.weak=world/opt-33x1 is not a model of the synthetic world"),
        ("pair.strong=world/gpt-32x1", "pair.strong=world/gpt-32x1 is not a model of the synthetic world"),
    ],
)  # fmt: skip
def test_one_line_names_the_value_and_what_is_valid(valid_config, values, message):
    cfg = copy.deepcopy(valid_config)
    for word in values.split():
        OmegaConf.update(cfg, *word.split("="))
    with pytest.raises(InputError) as refused:
        check_config(cfg)
    assert_one(refused.value.problems, message)


def test_synthetic_data_needs_its_sizes(valid_config):
    cfg = copy.deepcopy(valid_config)
    cfg.data.pairs = cfg.data.test_pairs = None
    with pytest.raises(InputError) as refused:
        check_config(cfg)
    assert refused.value.problems == [f"data.{key} is required for synthetic data" for key in ("pairs", "test_pairs")]


def test_all_problems_are_reported_in_one_go(refused):
    lines = refused(
        "human_fraction=2", "objective.beta=0", "until=sfd", "method=human", "weighting=c2", "sft.epochs=-1"
    )
    assert len(lines) == 5
    starts = ("human_fraction=2.0", "objective.beta=0.0", "until=sfd", "weighting=c2", "sft.epochs=-1.0")
    assert {start for start in starts if any(line.startswith(start) for line in lines)} == set(starts)


def test_models_are_looked_at_even_if_values_are_wrong(refused):
    lines = refused("human_fraction=2", "pair.weak=./nowhere", "pair.strong=world/gpt-32x1")
    assert [line.split("=")[0] for line in lines] == ["human_fraction", "pair.strong", "pair.weak"]


def test_real_text_needs_a_gold_model_and_models_that_can_read_it(refused):
    Path("pairs.jsonl").write_text("{}\n")
    gold, models = refused("data=jsonl", "data.path=pairs.jsonl")
    assert "gold=oracle knows only the synthetic world" in gold
    assert "use gold=trained, or gold=huggingface" in gold
    assert "pair.weak=world/opt-32x1 and pair.strong=world/opt-96x3" in models
    assert "set pair.weak and pair.strong to checkpoint folders or hub ids" in models


def test_lora_without_peft_says_what_to_install(refused, monkeypatch):
    monkeypatch.setattr("cwpo.checks.machine.find_spec", lambda name: None)
    assert_one(refused("lora.enabled=true"), "lora.enabled=true needs the package peft", "pip install 'cwpo[lora]'")


# --- models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("pair.weak=./nowhere", ["pair.weak=./nowhere does not exist", "hub id such as facebook/opt-125m"]),
        ("pair.strong=./file", ["is a file; name the folder of the checkpoint"]),
        ("pair.weak=no/such-model allow_unpinned=true", ["pair.weak=no/such-model is neither a folder here nor a model"]),
        ("pair.weak=no/such-model", ["pair.weak=no/such-model is not pinned", "no commit is locked for it", "folder here; set pair.weak_revision=<40"]),
        ("method=online_rm online.reward_model=./none", ["online.reward_model=./none does not exist"]),
    ],
)  # fmt: skip
def test_a_model_that_is_not_there(refused, words, parts):
    Path("file").write_bytes(b"")
    assert_one(refused(*words.split()), *parts)


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ({"config.json": None}, ["is not a checkpoint", "no config.json", "save_pretrained"]),
        ({"model.safetensors": None}, ["no *.safetensors weights"]),
        ({"model.safetensors": None, "pytorch_model.bin": b"pickle"},
         ["only pickle weights (pytorch_model.bin)", "can run code", "save_pretrained"]),
        ({"tokenizer_config.json": None, "tokenizer.json": None}, ["has no tokenizer", "tokenizer.save_pretrained"]),
    ],
)  # fmt: skip
def test_a_folder_that_lacks_something(refused, checkpoint, files, parts):
    folder = checkpoint("weak", **files)
    assert_one(refused(f"pair.weak={folder}"), f"pair.weak={folder}", *parts)


@pytest.mark.parametrize("words", ["gold=huggingface gold.path", "method=online_rm online.reward_model"])
def test_a_reward_model_with_two_scores(refused, checkpoint, words):
    folder = checkpoint("two", {"architectures": ["LlamaForSequenceClassification"], "num_labels": 2})
    lines = refused(*f"{words}={folder}".split())
    assert_one(lines, f"{words.split()[1]}={folder} returns 2 scores", "num_labels=1")


def test_every_bad_model_is_named_and_none_twice(refused):
    lines = refused("pair.weak=./a", "pair.strong=./b", "gold=trained", "data=jsonl", f"data.path={Path(__file__)}")
    assert [line.split(" does not exist")[0] for line in lines] == ["pair.weak=./a", "pair.strong=./b"]


def test_online_real_pairs_need_a_reward_model(refused_data):
    lines = refused_data(*good(1), method="online_rm")
    assert_one(lines, "online.reward=reward_model has no synthetic pairs", "set online.reward_model=<checkpoint")


# --- data ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def refused_data(refused, checkpoint):
    """Runs an arm on the given lines of pairs.jsonl, with checkpoints that would be usable but for their weights."""
    folder = checkpoint("model")

    def run(*lines: str | dict, **overrides: object) -> list[str]:
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        Path("pairs.jsonl").write_text(text, encoding="utf-8")
        models = [f"pair.weak={folder}", f"pair.strong={folder}"]
        words = ["data=jsonl", "data.path=pairs.jsonl", *models, "gold=trained"]
        return refused(*words, *(f"{key}={value}" for key, value in overrides.items()))

    return run


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nowhere.jsonl", "does not exist"),
        (".", "is a folder; name the file in it"),
        ("3", "must be a file, a list of files, or a hub id"),
        ("[]", "must be a file, a list of files, or a hub id"),
        ("null", "is required: a file, a list of files, or a hub id"),
    ],
)
def test_a_data_path_that_is_no_file(refused, path, reason):
    lines = refused("data=jsonl", f"data.path={path}", "gold=trained", "pair.weak=a/b", "pair.strong=a/b")
    assert_one(lines, "data.path", reason)


@pytest.mark.parametrize(
    ("rows", "overrides", "parts"),
    [
        ([], {}, ["data.path=pairs.jsonl is empty"]),
        (["", "  "], {}, ["data.path=pairs.jsonl holds no pairs"]),
        (good(3), {"+data.columns.chozen": "better"}, ["data.columns.chozen does not name a column", "did you mean chosen?"]),
        ([{"prompt": "p", "chosen": "same", "rejected": "same"}] * 5, {},
         ["labeled has 0, unlabeled has 0, test has 0", "identical_responses 5"]),
        ([{"prompt": "word " * 70 + str(i), "chosen": "good", "rejected": "bad"} for i in range(9)], {},
         ["data.max_tokens=64 fits none of the 9 pairs", "9 prompts alone", "longer context"]),
    ],
)  # fmt: skip
def test_pairs_that_cannot_be_used(refused_data, rows, overrides, parts):
    assert_one(refused_data(*rows, **overrides), *parts)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("{'prompt': 1}", ["pairs.jsonl line 3 is not JSON", "column 2"]),
        ({"prompt": "p", "response_a": "x", "response_b": "y", "label": "c"},
         ["pairs.jsonl: row 3 ('c') has a label that names no response", 'write "a", "b" or "tie"']),
        ('{"prompt": "p", "chosen": "\\ud800", "rejected": "r"}',
         ["pairs.jsonl: row 3 ('\\ud800') has a chosen that is neither text nor"]),
    ],
    ids=["not-json", "label", "surrogate"],
)  # fmt: skip
def test_a_bad_line_is_named(refused_data, line, parts):
    assert_one(refused_data(*good(2), line, *good(2)), *parts)


@pytest.mark.parametrize(
    ("overrides", "small"),
    [
        ({"human_fraction": 0.2}, "labeled has 1"),
        ({"human_fraction": 0.9}, "unlabeled has 1"),
        ({"data.test_fraction": 0.01}, "test has 0"),
        ({"gold.holdout": 0.1}, "gold hold-out has 1"),
    ],
)
def test_fewer_than_two_pairs_in_a_split(refused_data, overrides, small):
    rows = [*good(10), {"prompt": "p", "chosen": "", "rejected": "x"}]
    defaults = {"data.test_fraction": 0.3, "gold.holdout": 0.3, "human_fraction": 0.3}
    lines = refused_data(*rows, **(defaults | overrides))
    assert_one(lines, "every split needs at least 2 pairs", small, "read 11, empty_response 1", "give more pairs")


# --- adapters -----------------------------------------------------------------------------------------------------


def test_adapters_are_not_sampled_from_weights_of_16_bits_by_vllm(refused):
    words = ["lora.save=adapters", "generation.engine=vllm", "generation.python=python3"]
    found = refused("lora.enabled=true", "generation.precision=bfloat16", *words)
    assert any("generation.precision=bfloat16 with lora.enabled=true" in line for line in found)
