"""The commands as a user runs them: what they print, how they end, what they leave behind."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cwpo.commands import entry
from cwpo.errors import InputError
from cwpo.pipeline.arms import CONF, expand
from cwpo.pipeline.experiments import experiments
from cwpo.store.store import StoreError

REPO = CONF.parent


def script(name: str, *words: str, cwd: Path) -> subprocess.CompletedProcess:
    """`python scripts/<name>.py <words>` in the folder `cwd`."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{REPO}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "COLUMNS": "160",
    }
    command = [sys.executable, str(REPO / "scripts" / f"{name}.py"), *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, timeout=300)


def messages(done: subprocess.CompletedProcess) -> list[str]:
    """The error lines of a command that refused its input."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


# --- for real -----------------------------------------------------------------------------------------------------


@pytest.mark.soak
def test_plan_counts_the_seeds_that_reproduce_would_run_and_runs_nothing(tmp_path):
    done = script("plan", "experiment=table13", "data=harmless", "seeds=[7,8]", "jobs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = re.search(r"train_annotator\W+(\d+)\W+(\d+)\W+(\d+)\W+never ran\W+(\d+)", done.stdout)
    assert row.groups() == ("10", "0", "10", "10")  # distinct, cached, to run, if every arm ran alone
    assert "10 arms" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_run_shows_its_configuration_without_running(tmp_path):
    done = script("run", "--cfg", "job", "method=ws_bt", "seed=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\nseed: 3\n" in done.stdout
    assert "name: ws_bt\n" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.soak
def test_sweep_refuses_bad_values_before_its_first_job(tmp_path):
    done = script("run", "-m", "method=human", "human_fraction=0.3,1.5", cwd=tmp_path)
    assert messages(done) == ["error: human_fraction=1.5 must be in (0, 1)"]
    assert list(tmp_path.rglob("manifest.json")) == []


# --- how a command ends -------------------------------------------------------------------------------------------


def end_of(work) -> int:
    with pytest.raises(SystemExit) as ended:
        entry.entry(work)()
    return ended.value.code


def raises(error: BaseException):
    def work() -> None:
        raise error

    return work


def test_bad_input_ends_with_2_and_one_line_for_each_problem(capsys):
    assert end_of(raises(InputError(["one", "two"]))) == 2
    assert capsys.readouterr().err == "error: one\nerror: two\n"


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(capsys):
    assert end_of(raises(KeyboardInterrupt())) == 130
    assert "the same command goes on from there" in capsys.readouterr().err


def test_a_damaged_store_ends_with_1_and_no_traceback(capsys):
    assert end_of(raises(StoreError("runs/store/x is damaged"))) == 1
    assert capsys.readouterr().err == "error: runs/store/x is damaged\n"


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("a bug"), KeyError("a bug")])
def test_a_bug_of_ours_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        entry.entry(raises(error))()


def test_success_ends_quietly(capsys):
    assert entry.entry(lambda: None)() is None
    assert capsys.readouterr().err == ""


# --- names of experiments -----------------------------------------------------------------------------------------


@pytest.mark.soak
def test_core_stands_for_cells_of_the_main_results():
    core = experiments("core")
    assert list(core) == ["table1", "table3", "table6", "table13", "figure2", "figure7", "frontier"]
    assert core["table1"][:2] == ["experiment=table1", "objective=dpo"]
    for words in core.values():
        assert expand(words, [0], look=False)


def test_core_is_what_fits_the_scale():
    assert experiments("core", "single_gpu") == {"headline": ["experiment=headline"]}


def test_all_stands_for_every_file():
    assert set(experiments("all")) == {f.stem for f in (CONF / "experiment").glob("*.yaml")}


def test_several_experiments_separated_by_commas():
    assert list(experiments("table13, figure2")) == ["table13", "figure2"]


@pytest.mark.parametrize("name", ["", " , "])
def test_no_experiment_is_an_error(name):
    with pytest.raises(InputError, match="names nothing"):
        experiments(name)


def test_every_unknown_experiment_is_listed_with_those_that_exist(tmp_path):
    first, second = messages(script("reproduce", "experiment='table1,figur2,nonsense'", cwd=tmp_path))
    assert first.startswith("error: experiment=figur2 does not exist; did you mean figure2?")
    assert second.startswith(
        "error: experiment=nonsense does not exist; valid: core, all, capacity, controls, figure2,"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.soak
def test_sigterm_ends_a_sweep_that_a_script_started_in_the_background(tmp_path):
    """Such a process ignores Ctrl-C, and so would its workers."""
    command = [sys.executable, str(REPO / "scripts/run.py"), "-m", "method=human,ws_bt", "jobs=2"]
    command += [f"store={tmp_path}/store", f"results={tmp_path}/results", "world.sequences=2000000"]
    started = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("store/.partial/*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "the same command goes on from there" in said
    assert not list(tmp_path.glob("store/.partial/*"))


@pytest.mark.parametrize("given", [None, "7"])
def test_waiting_threads_give_up_their_core_unless_one_says_otherwise(given, monkeypatch):
    """libgomp reads the variable once, when torch loads it."""
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if given:
        monkeypatch.setenv("GOMP_SPINCOUNT", given)
    code = (
        "import os, sys; from cwpo.commands.entry import entry; sys.argv[1:] = []; "
        "entry(lambda: print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules))()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert done.stdout.split() == [given or "1000", "False"], done.stderr
