"""A word of the command line means the text that was typed; a word that means something else is answered with the fix."""

import pytest
from commands.test_entry import messages, script
from hydra import compose

from cwpo.commands.words import as_typed, kind_of, refuse_sweep
from cwpo.config.commands import AlignConfig, AnnotateConfig, ReproduceConfig, register
from cwpo.config.schema import Config
from cwpo.errors import InputError
from cwpo.pipeline.arms import CONF, composing, expand, one_choice


def read(command: str, schema: type, *words: str):
    register()
    with composing(CONF / "command"):
        return compose(command, overrides=as_typed(words, schema))


@pytest.mark.parametrize(
    "text", [*"1e3 007 true off nan a=b a,b it's 数据 50% a:b".split(), "données/é ü.csv", "a b", "x (1)"]
)
def test_a_text_is_the_text_that_was_typed(text):
    keys = ["out", "data", "+columns.prompt", "annotator.path"]
    cfg = read("annotate", AnnotateConfig, *(f"{key}={text}" for key in keys))
    assert [cfg.out, cfg.data, cfg.columns.prompt, cfg.annotator.path] == [text] * 4


@pytest.mark.parametrize(
    "word",
    [*"out=null model=path/to-model_1.0 out='1e3' seed=1e3 data={x} -m out".split(), 'out="a b"', "out=a\\ b",
     "+columns={prompt: q}"],
)  # fmt: skip
def test_other_words_stay_as_they_are(word):
    assert as_typed([word], AnnotateConfig) == [word]


def test_a_sweep_of_a_run_stays_a_sweep():
    words = [
        "until=annotate,weight",
        "store=choice(a,b)",
        "data.path=[a.jsonl,b.jsonl]",
        "method=cw_po,human",
        "store=é",
    ]
    assert as_typed(words, Config) == [*words[:-1], "store='é'"]


@pytest.mark.parametrize("flag", ["-m", "--multi", "--multirun", "hydra.mode=MULTIRUN"])
def test_only_runs_are_swept(flag):
    refuse_sweep([flag, "seed=0,1"], Config)
    refuse_sweep([flag, "seed=0,1", "out=labeled-${seed}"], AnnotateConfig)
    with pytest.raises(InputError, match=f"{flag}: only scripts/run.py sweeps"):
        refuse_sweep(["seed=0,1", "out=x", flag], AnnotateConfig)


def test_the_home_folder_may_begin_a_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert as_typed(["model=~/m", "out=a~b"], AnnotateConfig) == ["model=/home/me/m", "out='a~b'"]
    words = as_typed(["pair.weak=~/a,~/b", "data.path=[~/a.jsonl,b]"], Config)
    assert words == ["pair.weak=/home/me/a,/home/me/b", "data.path=[/home/me/a.jsonl,b]"]
    assert as_typed(['overrides=["pair.weak=~/a"]'], ReproduceConfig) == ['overrides=["pair.weak=/home/me/a"]']


def test_the_kind_of_a_key():
    assert kind_of(AnnotateConfig, "columns.prompt") is kind_of(AnnotateConfig, "model") is str
    assert kind_of(AnnotateConfig, "annotator.training.epochs") is float
    assert kind_of(Config, "method") is not str and kind_of(AnnotateConfig, "no.key") is None
    assert kind_of(AlignConfig, "sft.no") is None


@pytest.mark.parametrize("word", ["method=[cw_po,ws_bt]", "+data=[harmless]", "objective=[dpo,ipo]"])
def test_a_list_where_one_choice_is_meant_is_refused(word):
    with pytest.raises(InputError, match="takes one choice; to run each of several add -m and write"):
        one_choice([word])
    with pytest.raises(InputError, match="takes one choice"):
        expand([word])
    one_choice(["method=cw_po", "data.path=[a,b]", "generation=[x]", "seed=[0,1]"])


@pytest.mark.parametrize(
    ("command", "word", "said"),
    [
        ("run", "data=harmless,helpful", "data=harmless,helpful is several values; add -m to run each of them"),
        ("annotate", "curve=.1,.2", "curve=.1,.2 is several values; write a list as curve=[.1,.2]"),
        ("align", "beta=1,2", "beta=1,2 is several values; beta takes one"),
        ("align", "lora=true", "lora=true cannot be set: lora is a section; set lora.enabled=true"),
        ("annotate", "annotator=bt", "annotator is a section; set one of annotator.kind, annotator.path,"),
    ],
)
def test_the_advice_works(command, word, said, tmp_path):
    assert said in "".join(messages(script(command, word, cwd=tmp_path)))


@pytest.mark.soak
def test_the_name_of_a_file_may_have_any_letters(tmp_path):
    row = '{"prompt": "p", "response_a": "x", "response_b": "y", "label": "a"}\n'
    (tmp_path / "données, ü (1).jsonl").write_text(row, encoding="utf-8")
    done = script("annotate", "data=données, ü (1).jsonl", "show=3", cwd=tmp_path)
    assert done.returncode == 0 and "1 usable pairs, 1 with a label" in done.stdout, done.stderr
