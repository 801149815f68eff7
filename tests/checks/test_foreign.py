"""Checkpoints, data sets and configuration files from strangers are data: nothing in them runs.

Whatever would run here makes a file; the tests look for it. A control test sees to it that the traps work.
"""

import ast
import json
import pickle
import sys
from pathlib import Path

import pytest
from conftest import REPO
from tiny import tiny_model, tiny_tokenizer

from cwpo.checks.foreign import refuse_code
from cwpo.commands import entry
from cwpo.config.schema import CONF
from cwpo.data.files import records
from cwpo.errors import InputError
from cwpo.models.folders import checkpoint_problem
from cwpo.models.policy import hub_problem, load_policy, load_tokenizer, read_config, read_tokenizer
from cwpo.models.reward_models import HuggingFace
from cwpo.pipeline.arms import expand, one_choice

SCRIPT = "import pathlib\npathlib.Path({trap!r}).touch()\n"


class Trap:
    """Pickled, it makes the file `path` when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (exec, (SCRIPT.format(trap=self.path),))


@pytest.fixture
def trap(tmp_path):
    """The file that a stranger's code would make; at the end it must not be there."""
    path = tmp_path / "it-ran"
    yield path
    assert not path.exists()


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def edit(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_the_traps_work(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "a")))
    exec(SCRIPT.format(trap=str(tmp_path / "b")))
    assert (tmp_path / "a").exists() and (tmp_path / "b").exists()


# --- pickle -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_a_checkpoint_of_pickles_is_refused(checkpoint, trap, name):
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / name).write_bytes(pickle.dumps(Trap(trap)))
    assert "only pickle weights" in checkpoint_problem(str(checkpoint), "pair.weak")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_policy(checkpoint)


def test_a_pickle_called_safetensors_is_refused(checkpoint, trap):
    (checkpoint / "model.safetensors").write_bytes(pickle.dumps(Trap(trap)))
    with pytest.raises(InputError, match="cannot be loaded"):
        load_policy(checkpoint)


@pytest.mark.parametrize("shard", ["evil.bin", "evil.safetensors", "../evil.bin"])
def test_an_index_that_leads_to_a_pickle_is_refused(checkpoint, trap, shard):
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / shard).write_bytes(pickle.dumps(Trap(trap)))
    (checkpoint / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"lm_head.weight": shard}})
    )
    with pytest.raises(InputError, match="cannot be loaded"):
        load_policy(checkpoint)


def test_pickles_beside_the_weights_are_never_looked_at(checkpoint, trap):
    names = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "pytorch_model.bin", "state.pkl")
    for name in names:
        (checkpoint / name).write_bytes(pickle.dumps(Trap(trap)))
    load_policy(checkpoint)
    load_tokenizer(checkpoint)


# --- code of a model's own ----------------------------------------------------------------------------------------


def test_a_model_with_code_of_its_own_is_refused(checkpoint, trap):
    (checkpoint / "modeling_evil.py").write_text(SCRIPT.format(trap=str(trap)))
    evil = {"AutoConfig": "modeling_evil.Config", "AutoModelForCausalLM": "modeling_evil.Model"}
    edit(checkpoint / "config.json", auto_map=evil, model_type="evil")
    assert "Python code of its own" in hub_problem(str(checkpoint), None, "pair.weak")
    for load in (read_config, load_policy):
        with pytest.raises(InputError, match="code of its own"):
            load(checkpoint)
    with pytest.raises(InputError, match="code of its own"):
        HuggingFace(str(checkpoint), None, batch_size=2, device="cpu")


def test_a_known_model_with_code_beside_it_is_loaded_without_that_code(checkpoint, trap):
    """transformers has the architecture itself, so that is what is used."""
    (checkpoint / "modeling_evil.py").write_text(SCRIPT.format(trap=str(trap)))
    edit(checkpoint / "config.json", auto_map={"AutoModelForCausalLM": "modeling_evil.Model"})
    assert type(load_policy(checkpoint)).__module__.startswith("transformers.")


def test_a_tokenizer_with_code_of_its_own_is_refused_or_not_run(checkpoint, trap):
    (checkpoint / "tokenization_evil.py").write_text(SCRIPT.format(trap=str(trap)))
    evil = {"AutoTokenizer": ["tokenization_evil.Slow", "tokenization_evil.Fast"]}
    edit(checkpoint / "tokenizer_config.json", auto_map=evil, tokenizer_class="EvilTokenizer")
    (checkpoint / "config.json").unlink()
    with pytest.raises(InputError, match="tokenizer of .* cannot be loaded"):
        read_tokenizer(checkpoint)


def test_an_attention_kernel_from_the_hub_is_refused(checkpoint):
    names = ("_attn_implementation", "attn_implementation")
    edit(checkpoint / "config.json", **dict.fromkeys(names, "stranger/kernel"))
    with pytest.raises(InputError, match="code from the hub, which is never run here"):
        read_config(checkpoint)


def test_an_adapter_that_names_another_model_is_refused(checkpoint):
    (checkpoint / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "stranger/model"}))
    assert "LoRA adapter" in checkpoint_problem(str(checkpoint), "model")


def test_trust_remote_code_is_no_key():
    for word in ("trust_remote_code=true", "+trust_remote_code=true", "+pair.trust_remote_code=true"):
        with pytest.raises(Exception) as refused:
            expand([word])
        assert "trust_remote_code" in str(refused.value)


# --- data sets ----------------------------------------------------------------------------------------------------


def test_a_data_set_with_a_script_does_not_run_it(tmp_path, trap, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(SCRIPT.format(trap=str(trap)))
    with pytest.raises(InputError, match="neither a file, a datasets folder"):
        list(records(str(folder)))
    with pytest.raises(InputError, match="a table.s name must end in"):
        list(records(str(folder / "evil.py")))


def test_pickled_tables_are_no_tables(tmp_path, trap):
    for name in ("p.pkl", "p.pickle", "p.parquet", "p.jsonl", "p.csv", "p.jsonl.gz"):
        file = tmp_path / name
        file.write_bytes(pickle.dumps(Trap(trap)))
        with pytest.raises(InputError):
            list(records(str(file)))


# --- configuration ------------------------------------------------------------------------------------------------

FILES = {
    "a python tag": 'data: !!python/object/apply:os.system ["touch {trap}"]',
    "a python name": "data: !!python/name:os.system",
    "an alias bomb": "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
    "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]",
    "a target": "method:\n  _target_: os.system\n  command: touch {trap}",
    "a partial target": "method: [{{x: {{_target_: os.system, _partial_: true}}}}]",
    "a logging factory": "hydra:\n  job_logging:\n    handlers:\n      x: {{(): os.system, command: touch {trap}}}",
    "a logging class": "x: {{handlers: {{y: {{class: os.system}}}}}}",
    "a callback": "hydra:\n  callbacks:\n    x: {{a: 1}}",
    "a launcher": "hydra:\n  launcher: {{a: 1}}",
    "a package": "# @package hydra.callbacks\nx: 1",
    "a default into hydra": "defaults:\n  - data@hydra.launcher: harmless",
    "the environment of a job": "hydra:\n  job:\n    env_set: {{LD_PRELOAD: x.so}}",
    "a folder to write to": "hydra:\n  run:\n    dir: {trap}",
    "a folder of sweeps": "hydra:\n  sweep:\n    dir: ../../x",
    "a resolver": "name: ${{oc.env:HOME}}",
    "a resolver put together": "a: oc\nname: ${{${{a}}.env:HOME}}",
    "a resolver in a sweep": "hydra:\n  sweeper:\n    params:\n      name: ${{oc.env:HOME}}",
    "no yaml": "a: [",
    "other bytes": "\udcff",
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_could_start_code_is_refused_before_hydra_reads_it(tmp_path, trap, capsys, monkeypatch, kind):
    folder = tmp_path / "theirs"
    (folder / "experiment").mkdir(parents=True)
    file = folder / "experiment" / "evil.yaml"
    file.write_bytes(FILES[kind].format(trap=trap).encode(errors="surrogateescape"))
    monkeypatch.setattr(sys, "argv", ["run.py", "--config-dir", str(folder), "experiment=evil"])
    with pytest.raises(SystemExit) as ended:
        entry.entry(lambda: pytest.fail("Hydra would have read it"))()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and f"error: {file}" in said and "Traceback" not in said


@pytest.mark.parametrize("flag", ["--config-dir", "--config-d", "--config-p", "-cd"])
def test_the_beginning_of_a_flag_is_that_flag(tmp_path, flag):
    (tmp_path / "evil.yaml").write_text("hydra:\n  callbacks:\n    x:\n      _target_: builtins.print\n")
    for words in ([flag, str(tmp_path)], [f"{flag}={tmp_path}"]):
        with pytest.raises(InputError, match="names a Python object to call"):
            refuse_code(words)


def test_a_relative_config_path_begins_at_the_script(tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "config.yaml").write_text("hydra:\n  callbacks:\n    x:\n      _target_: builtins.print\n")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "run.py")])
    with pytest.raises(InputError, match="names a Python object to call"):
        refuse_code(["-cp", "theirs"])


@pytest.mark.parametrize(
    "words",
    [
        ["--config-path=pkg://evil"],
        ["--config-name=../../evil"],
        ["-cn", "../../evil"],
        ["--experimental-rerun", "config.pickle"],
        ["--exp=config.pickle"],
        ["hydra/sweeper=../../evil"],
    ],
)
def test_words_that_make_hydra_read_other_files_are_refused(words):
    with pytest.raises(InputError, match="nobody has checked|is refused"):
        refuse_code(words)


def test_a_file_of_theirs_stays_in_its_folder(tmp_path):
    (tmp_path / "mine.yaml").write_text("defaults:\n  - data: ../../evil\n")
    with pytest.raises(InputError, match="leads out of the folder of configuration files"):
        refuse_code([f"--config-dir={tmp_path}"])


@pytest.mark.parametrize(
    "word", ["data=../../evil", "+experiment=a,../evil", "data@data='../evil'", "hydra/launcher=../x"]
)
def test_a_choice_stays_in_conf(word):
    with pytest.raises(InputError, match="leads out of conf/"):
        one_choice([word])
    one_choice(["store=../store", "name=a..b", "data.path=../pairs.jsonl"])


def test_a_file_that_sets_values_is_welcome(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nname: mine\nhydra:\n  sweeper:\n    params:\n      seed: 0,1\n"
    )
    refuse_code(["--config-dir", str(tmp_path), "experiment=mine"])
    refuse_code([f"--config-dir={tmp_path}"])
    refuse_code(["-cd", str(CONF)])


@pytest.mark.parametrize(
    "word",
    [
        "+data._target_=os.system", "+x={_target_: os.system}", "hydra.launcher._target_=os.system",
        "hydra.sweeper._target_=os.system", "+hydra.callbacks.x.a=1", "hydra/callbacks=evil",
        "hydra.job_logging.handlers.console.class=os.system", "hydra/job_logging=evil",
        "hydra.hydra_logging.root.level=DEBUG", "hydra.searchpath=[file:///tmp/evil]", "++hydra.job.env_set.LD_PRELOAD=x.so",
        "+experiment@hydra.launcher=table1", "+experiment@hydra=table1",
    ],
)  # fmt: skip
def test_a_word_that_could_start_code_is_refused(word):
    with pytest.raises(InputError, match="is refused: it would let Hydra import and call"):
        refuse_code([word])


# --- our own source -----------------------------------------------------------------------------------------------

SOURCES = sorted([*(REPO / "cwpo").rglob("*.py"), *(REPO / "scripts").glob("*.py"), *(REPO / ".ci").glob("*.py")])
COPIES = "pickle.loads(pickle.dumps(cfg, pickle.HIGHEST_PROTOCOL))"  # a configuration of our own, in memory
FORBIDDEN = {
    "os.system", "os.popen", "eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "marshal.loads",
    "joblib.load", "dill.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "shelve.open", "pandas.read_pickle",
    "pd.read_pickle", "subprocess.getoutput", "subprocess.getstatusoutput", "torch.hub.load", "importlib.import_module",
    "hydra.utils.instantiate", "hydra.utils.call", "instantiate",
}  # fmt: skip


def calls(file: Path):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}, node


def wrong(file: Path) -> list[str]:
    found = []
    for name, named, node in calls(file):
        where = f"{file.relative_to(REPO) if file.is_relative_to(REPO) else file.name}:{node.lineno} {name}"
        if name in FORBIDDEN and ast.unparse(node) != COPIES:
            found.append(where)
        if "shell" in named and named["shell"] != "False":
            found.append(f"{where} with a shell")
        lists = all(isinstance(a, ast.List | ast.Name) for a in node.args[:1])
        if name.startswith("subprocess.") and not lists:
            found.append(f"{where} without a list of arguments")
        if name in ("torch.load",) and named.get("weights_only") != "True":
            found.append(f"{where} of pickles")
        if name == "yaml.load" and [ast.unparse(a) for a in node.args[1:]] != ["LOADER"]:
            found.append(f"{where} with any loader")
        if {named.get(key, "False") for key in ("allow_pickle", "trust_remote_code")} != {"False"}:
            found.append(f"{where} of code")
        if name.startswith("Auto") and name.endswith(".from_pretrained") and "trust_remote_code" not in named:
            found.append(f"{where} leaves trust_remote_code to others")
    return found


def test_nothing_of_ours_can_start_a_strangers_code():
    assert len(SOURCES) > 100
    assert [line for file in SOURCES for line in wrong(file)] == []


@pytest.mark.parametrize(
    "line",
    [
        "os.system('x')", "subprocess.run('ls', shell=True)", "subprocess.run('ls')", "subprocess.run(f'ls {x}')",
        "torch.load(p)", "torch.load(p, weights_only=False)", "yaml.load(t, yaml.Loader)", "np.load(p, allow_pickle=True)",
        "pickle.loads(b)", "AutoModel.from_pretrained(p)", "AutoModel.from_pretrained(p, trust_remote_code=True)",
        "kind.from_pretrained(p, trust_remote_code=x)", "eval(x)",
    ],
)  # fmt: skip
def test_the_look_at_our_source_sees(tmp_path, line):
    file = tmp_path / "bad.py"
    file.write_text(line)
    assert wrong(file)
