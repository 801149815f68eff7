"""The README's commands, run as they stand: only sizes and folders are set to something small and temporary."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO, SMOKE

README = (REPO / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"<!-- test(?:: (\w+))? -->\n```(\w+)\n(.*?)```", README, flags=re.DOTALL)


def block(name: str) -> str:
    (text,) = [text for tag, _, text in BLOCKS if tag == name]
    return text


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def run(words: list[str], folder: Path, extra: list[str]) -> str:
    assert words[0] == "python"
    script = [str(REPO / words[1]), *words[2:], *extra, f"store={folder}/store", f"results={folder}/results"]
    done = subprocess.run([sys.executable, *script], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_are_commands_to_test():
    assert sorted(tag for tag, _, _ in BLOCKS) == ["", "", "own", "trainer"]


@pytest.mark.parametrize(
    "words", [w for tag, _, text in BLOCKS if tag == "" for w in commands(text)], ids=" ".join
)
def test_toy_command(words, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "readme"
    folder.mkdir(exist_ok=True)
    assert run(words, folder, SMOKE)


def test_own_pairs(tmp_path, tiny_checkpoint):
    rows = [
        {"prompt": f"Question {i}?", "chosen": f" Good answer {i}.", "rejected": f" Bad answer {i}, or none."}
        for i in range(60)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (words,) = commands(block("own"))
    words = [re.sub(r"path/or/hub-id", str(tiny_checkpoint), word) for word in words]
    small = ["annotator.training.epochs=1", "alignment.epochs=1", "generation.max_new_tokens=8"]
    shown = run(words, tmp_path, small)
    assert "60 read" in shown and "dropped: none" in shown
    assert (tmp_path / "results" / "toy" / "runs.csv").is_file()


def test_trainer_example(tmp_path, tiny_checkpoint, monkeypatch):
    import torch
    from transformers import AutoModelForCausalLM

    monkeypatch.chdir(tmp_path)
    pairs = [
        {"prompt": "A?", "chosen": f" yes {i}", "rejected": f" no {i}", "weight": i / 10} for i in range(16)
    ]
    code = block("trainer").replace("path/to/sft-model", str(tiny_checkpoint))
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    names: dict = {"pairs": pairs}
    exec(compile(code, "README.md", "exec"), names)
    before = AutoModelForCausalLM.from_pretrained(tiny_checkpoint).state_dict()
    after = names["trainer"].model.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_the_file_tree_names_every_module():
    tree = README.partition("## Where things are")[2].partition("```text\n")[2].partition("```")[0]
    named = {line.split()[0] for line in tree.splitlines()}
    modules = {
        path.relative_to(REPO).as_posix()
        for folder in ("cwpo", "scripts")
        for path in (REPO / folder).rglob("*.py")
        if path.read_text(encoding="utf-8").strip()
    }
    assert {name for name in named if name.endswith(".py")} - {".ci/lock.py"} == modules
    assert all((REPO / name).exists() for name in named - {"results/<scale>/", "runs/"})
