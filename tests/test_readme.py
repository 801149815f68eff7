"""The documentation: README's commands run as printed, with small sizes and temporary folders; the others compose; links lead somewhere."""

import json
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import REPO, SMOKE
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from own.test_annotate import composed

from cwpo.config.commands import register
from cwpo.config.schema import CONF
from cwpo.pipeline.arms import configurations, set_values

README = (REPO / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*REPO.glob("*.md"), *(p for d in ("conf", "cwpo", "results") for p in (REPO / d).rglob("*.md"))])
TEXTS = {str(path.relative_to(REPO)): path.read_text(encoding="utf-8") for path in PAGES}
TAGGED = re.compile(r"<!-- test(?:: (\w+))? -->\n```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = TAGGED.findall(README)


def block(name: str, page: str = "README.md") -> str:
    (text,) = [text for tag, _, text in TAGGED.findall(TEXTS[page]) if tag == name]
    return text


def commands(text: str) -> list[list[str]]:
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run(words: list[str], folder: Path, extra: list[str]) -> str:
    assert words[0] == "python"
    script = [str(REPO / words[1]), *words[2:], *extra, f"store={folder}/store", f"results={folder}/results"]
    done = subprocess.run([sys.executable, *script], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("command", ["annotate", "align", "compare"])
def test_the_defaults_of_own_pairs_are_those_of_the_configuration(command):
    cfg = composed(command)
    table = TEXTS["cwpo/own/README.md"].partition(f"<!-- defaults: {command} -->")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \|", table, re.MULTILINE)
    assert rows and {key: yaml.safe_load(value) for key, value in rows} == {
        key: OmegaConf.select(cfg, key) for key, _ in rows
    }


def test_there_are_commands_to_test():
    assert sorted(tag for tag, _, _ in BLOCKS) == ["", "", "cluster", "mine", "own", "trainer"]


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 220
    assert len(README.split()) <= 2500


def test_other_commands_of_the_readme_are_make_targets():
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    untested = [words for text in bash_blocks(TAGGED.sub("", README)) for words in commands(text)]
    assert untested
    assert [words for words in untested if words[0] != "make" or words[1] not in targets] == []


def bash_blocks(page: str) -> list[str]:
    return re.findall(r"^```bash\n(.*?)```", page, flags=re.DOTALL | re.MULTILINE)


def printed_commands() -> list[str]:
    """Every `python scripts/...` of the documentation that is printed whole, in a block or inline."""
    inline = [text for page in TEXTS.values() for text in re.findall(r"`(python scripts/[^`]+)`", page)]
    blocks = [text for page in TEXTS.values() for text in bash_blocks(page)]
    every = {shlex.join(words) for text in [*blocks, *inline] for words in commands(text)}
    return sorted(c for c in every if c.startswith("python scripts/") and not re.search(r"\.\.\.'?$|<name>", c))


# CONTRIBUTING.md adds these files, and Optuna is an extra; their own tests run the commands.
ADDED = (
    "hydra/sweeper=optuna",
    "weighting=root",
    "objective=hinge",
    "annotator=bt_again",
    "data=forum",
    "gold=referee",
    "forum/pairs",
)


@pytest.mark.parametrize("command", [c for c in printed_commands() if not any(word in c for word in ADDED)])
def test_printed_command_composes(command):
    _, script, *words = shlex.split(command)
    name, words = Path(script).stem, [word for word in words if word != "-m"]
    register()
    if name not in ("run", "plan"):
        composed(name, *words)
        return
    launcher = [word for word in words if word.startswith("hydra")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose("config", overrides=launcher, return_hydra_config=True)
    for cfg, values, _ in configurations([word for word in words if word not in launcher], seeds=[0]):
        set_values(cfg, values)


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS)
def test_every_relative_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (REPO / page).parent / path if path else REPO / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.soak
@pytest.mark.parametrize("words", [w for tag, _, text in BLOCKS if tag == "" for w in commands(text)], ids=" ".join)
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
    "annotate": ["annotator.training.epochs=1", "annotator.training.learning_rate=3e-3", "folds=2", "curve=[]"],
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


def test_labels_for_other_software(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labeled").mkdir()
    rows = {"label_source": ["human", *["annotator"] * 10], "margin": [None, *range(10)]}
    pd.DataFrame(rows).to_parquet("labeled/preferences.parquet")
    names: dict = {}
    exec(compile(block("elsewhere", "cwpo/own/README.md"), "cwpo/own/README.md", "exec"), names)
    assert sorted(names["pairs"]["margin"]) == [7, 8, 9]


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
    for words, run_command in zip(own_commands(tiny_checkpoint), (label, align, compare), strict=True):
        run_command(composed(Path(words[1]).stem, *words[2:]), lambda line: None)
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
    pairs = [{"prompt": "A?", "chosen": f" yes {i}", "rejected": f" no {i}", "weight": i / 10} for i in range(16)]
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
