"""Names and texts from strangers: none leaves its folder, none is markup, none commands a terminal."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from config.test_schema import composed
from hypothesis import strategies as st
from omegaconf import OmegaConf
from properties import ODD, holds

from cwpo.checks.settings import check_config
from cwpo.commands import entry
from cwpo.commands.checks import check_command
from cwpo.commands.entry import plain_words
from cwpo.errors import InputError
from cwpo.models.folders import checkpoint_problem
from cwpo.own.compare import page as samples_page
from cwpo.pages import environment, markdown_html, markdown_table
from cwpo.plain import CONTROL, shown, visible
from cwpo.results import RUN_COLUMNS, ResultsError, read_rows, write_rows

OUTSIDE = ["../x", "..", "/etc/x", "a/../../x", "a/b", "..\\x", ".hidden", "x\x00y", "~/x", "a\nb"]
SCRIPT = "<script>alert(1)</script>"
TERMINAL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202etxt\x08\r"


# --- folders ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config():
    return composed()


REVISIONS = ["../../x", "a b", "main;ls", "$(id)", "x\ny", "a/../b"]
FOLDERS = ["/etc", "../x", "a/../../x", "~/x"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *itertools.product(["name", "scale_name"], OUTSIDE),
        *(("pair.weak_revision", revision) for revision in REVISIONS),
        *(("data.folders", [folder]) for folder in FOLDERS),
    ],
)
def test_names_that_become_files_stay_in_their_folder(config, key, value):
    cfg = config.copy()
    OmegaConf.update(cfg, key, value)
    with pytest.raises(InputError) as refused:
        check_config(cfg)
    assert any(line.startswith(key) for line in refused.value.problems)


@pytest.mark.parametrize("name", OUTSIDE)
def test_scales_and_experiments_of_commands_are_names(name, tmp_path):
    import config_fuzz

    for command, key in (("report", "scale"), ("reproduce", "scale"), ("reproduce", "experiment")):
        cfg = config_fuzz.base(command)
        cfg[key] = name
        with pytest.raises(InputError):
            check_command(cfg, command)


@pytest.mark.parametrize(
    "name", [name for name in OUTSIDE if "\x00" not in name and "\n" not in name and name != "~/x"]
)
def test_an_experiment_of_a_strangers_results_is_a_name(tmp_path, name):
    row = dict.fromkeys(RUN_COLUMNS) | {"experiment": name, "scale": "toy", "run_key": "k"}
    write_rows(tmp_path / "toy" / "runs.csv", pd.DataFrame([row]), RUN_COLUMNS)
    if re.search(r"[/\\]", name) or name.startswith("."):
        with pytest.raises(ResultsError, match="no slash, no dot at the start"):
            read_rows(tmp_path / "toy" / "runs.csv", RUN_COLUMNS)


@pytest.mark.parametrize("name", ["../../etc", "a/../b", "org/../x", "a//b", "a/b/c", "org/.hidden", "-rf"])
def test_a_hub_id_is_an_id(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert "does not exist" in (checkpoint_problem(name, "model") or "")


# --- markup -------------------------------------------------------------------------------------------------------

MARKUP = [SCRIPT, TERMINAL, "<img src=x onerror=alert(1)>", "](javascript:alert(1))", "[a", "`", "**", "&lt;"]
TEXT = st.text(max_size=30) | st.lists(st.sampled_from([*ODD, *MARKUP]), max_size=6).map("".join)


@holds(TEXT)
def test_an_escaped_text_is_neither_markup_nor_control(text):
    escaped = environment().from_string("{{ text }}").render(text=text)
    assert not re.search(r"[<>\"']", escaped) and not CONTROL.search(escaped)


def test_every_template_escapes():
    names = [name for name in environment().list_templates() if name.endswith(".jinja")]
    assert len(names) >= 5 and environment().autoescape is True
    trusted = [line for name in names for line in source(name).splitlines() if re.search(r"safe\b|Markup", line)]
    assert len(trusted) == 2 and all(re.search(r"(rule|page\.html) \| safe", line) for line in trusted)


def source(template: str) -> str:
    loader = environment().loader
    assert loader is not None
    return loader.get_source(environment(), template)[0]


@holds(TEXT)
def test_a_text_in_a_markdown_table_stays_in_its_cell(text):
    html = markdown_html(markdown_table(["a", "b"], [[text, "end"]]))
    assert html.count("<tr>") == 2 and html.count("<th ") + html.count("<td") == 4


@holds(TEXT)
def test_markdown_of_results_makes_no_tags_of_texts(text):
    made = markdown_html(f"| a |\n|---|\n| {text} |\n\n{text}\n", label="t", folder="x")
    assert not CONTROL.search(made)
    assert not re.search(
        r"<(script|img|iframe|svg|style|object)|javascript:[^<]*['\"]|\son\w+\s*=(?=[^<]*>)",
        re.sub(r">[^<]*<", "><", made),
    )


def test_samples_of_a_model_are_shown_as_text():
    texts = {"prompt": SCRIPT, "before": TERMINAL + "</div><b>", "after": "<img src=x onerror=alert(1)>"}
    table = pd.DataFrame([texts | {"before_reward": 0.0, "after_reward": 1.0}])
    interval = {"mean": 0.5, "low": 0.4, "high": 0.6}
    numbers = {"before": f"model{SCRIPT}", "after": "m", "gold": "oracle", "tie_rate": 0.0}
    numbers |= {"win_rate": interval, "reward_difference": interval}
    numbers |= {"prompts": 1} | {name: {"before": 1.0, "after": 1.0} for name in ("characters", "truncated")}
    page = samples_page(table, numbers)
    assert "<script" not in page and "<img" not in page and "<b>" not in page and not CONTROL.search(page)
    assert page.count("&lt;script&gt;") == 2 and "\\x1b]0;owned" in page


# --- terminals ----------------------------------------------------------------------------------------------------


@holds(st.text(max_size=40) | TEXT)
def test_what_is_shown_commands_no_terminal_and_stays_readable(text):
    made = shown(text)
    assert not CONTROL.search(made)
    assert CONTROL.sub("", text) == text or made != text
    if not CONTROL.search(text):
        assert visible(text) == text
    made.encode()


@pytest.mark.parametrize(
    "error",
    [InputError(f"row 3: unknown label {TERMINAL!r} {TERMINAL}"), InputError([f"a{TERMINAL}", "b\nerror: forged"])],
)
def test_a_message_about_a_strangers_text_is_plain(error, capsys):
    with pytest.raises(SystemExit), plain_words():
        raise error
    said = capsys.readouterr().err
    assert not CONTROL.search(said) and "\\x1b" in said
    assert said.count("\nerror: ") + said.startswith("error: ") == len(error.problems)  # no forged line


def test_a_traceback_about_a_strangers_text_is_plain(capsys):
    try:
        raise ZeroDivisionError(TERMINAL)
    except ZeroDivisionError as error:
        entry._say_traceback(type(error), error, error.__traceback__)
    assert not CONTROL.search(capsys.readouterr().err)


def test_a_message_about_a_file_of_ten_megabytes_is_short(tmp_path):
    from cwpo.data.own import convert

    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "' + "x" * 10_000_000)
    with pytest.raises(InputError) as refused:
        convert(str(file), tmp_path / "out.parquet")
    assert len(str(refused.value)) < 500
    assert len(shown("y" * 10_000_000)) < 5_000
    assert np.char.count(shown("a\nb\nc"), "\n") == 2
