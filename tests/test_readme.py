"""The README's commands, run as they stand: only sizes and folders are set to something small and temporary."""

import json
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import REPO, SMOKE
from hydra import compose, initialize_config_dir

from cwpo.config.commands import register
from cwpo.config.schema import CONF

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
    assert sorted(tag for tag, _, _ in BLOCKS) == ["", "", "mine", "own", "trainer"]


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


# Sizes for a model of 10^4 parameters; the commands and the numbers of pairs are the README's.
SMALL = {
    "annotate": [
        "annotator.training.epochs=1",
        "annotator.training.learning_rate=3e-3",
        "folds=2",
        "curve=[]",
    ],
    "align": ["sft.epochs=1", "alignment.epochs=1", "alignment.learning_rate=1e-3", "keep=0.1"],
    "compare": ["most=8", "max_new_tokens=5"],
}


def write_own_pairs(path: Path, labeled: int, unlabeled: int) -> None:
    """The better response has more vowels; a tenth of the labels is wrong."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as lines:
        for i in range(labeled + unlabeled):
            texts = [" " + "".join(rng.choices(letters, k=8)) for letters in ("aeo", "xyz")]
            a_wins = rng.random() < 0.5
            row = dict(zip(("response_a", "response_b"), texts if a_wins else texts[::-1], strict=True))
            if i < labeled:
                row["label"] = "a" if a_wins != (rng.random() < 0.1) else "b"
            lines.write(json.dumps({"prompt": f"Ask {i}?", **row}) + "\n")


def own_commands(tiny_checkpoint: Path) -> list[list[str]]:
    """The three commands for a user's own pairs; the annotator serves as judge, for want of another reward model."""
    named = {"path/or/hub-id": str(tiny_checkpoint), "path/of/reward-model": "labeled/annotator"}
    text = block("mine")
    for old, new in named.items():
        text = text.replace(old, new)
    return [words + SMALL[Path(words[1]).stem] for words in commands(text)]


def check_own_results(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    weighted = pd.read_parquet(folder / "labeled" / "preferences.parquet")
    assert weighted["label_source"].value_counts().to_dict() == {"annotator": 3000, "human": 300}
    report = json.loads((folder / "labeled" / "report.json").read_text())
    assert report["accuracy"]["low"] > 0.7 and report["verdict"]["advice"] in ("weights", "top")
    assert (folder / "labeled" / "report.html").stat().st_size > 10_000
    AutoModelForCausalLM.from_pretrained(folder / "aligned")
    assert "| pairs, by label | 300 annotator, 300 human |" in (folder / "aligned" / "README.md").read_text()
    assert json.loads((folder / "compared" / "comparison.json").read_text())["prompts"] == 8
    assert sorted(p.name for p in folder.iterdir()) == ["aligned", "compared", "labeled", "pairs.jsonl"]


def test_three_commands_from_own_pairs_to_an_aligned_model(tmp_path, tiny_checkpoint, monkeypatch):
    from cwpo.own.align import align
    from cwpo.own.annotate import label
    from cwpo.own.compare import compare

    monkeypatch.chdir(tmp_path)
    write_own_pairs(tmp_path / "pairs.jsonl", 300, 3000)
    register()
    for words, run_command in zip(own_commands(tiny_checkpoint), (label, align, compare), strict=True):
        with initialize_config_dir(str(CONF / "command"), version_base="1.3"):
            run_command(compose(Path(words[1]).stem, overrides=words[2:]), lambda line: None)
    check_own_results(tmp_path)


@pytest.mark.slow
def test_three_commands_in_a_shell(tmp_path, tiny_checkpoint):
    write_own_pairs(tmp_path / "pairs.jsonl", 300, 3000)
    for words in own_commands(tiny_checkpoint):
        script = [sys.executable, str(REPO / words[1]), *words[2:]]
        done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
    check_own_results(tmp_path)


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


def test_the_map_names_every_package():
    tree = README.partition("## Where things are")[2].partition("```text\n")[2].partition("```")[0]
    named = {line.split()[0] for line in tree.splitlines()}
    assert {f"cwpo/{path.parent.name}/" for path in (REPO / "cwpo").glob("*/__init__.py")} <= named
    assert all((REPO / name).exists() for name in named)
