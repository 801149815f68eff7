"""scripts/annotate.py, align.py and compare.py from a user's table to an aligned model, with a tiny model; what they refuse."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REPO
from hydra import compose, initialize_config_dir

from cwpo.config.commands import register
from cwpo.config.schema import CONF
from cwpo.errors import InputError
from cwpo.models.reward_models import HuggingFace, load_reward
from cwpo.own.align import align
from cwpo.own.annotate import label
from cwpo.own.compare import compare
from cwpo.own.crossfit import cross_fit, fold_counts, folds_by_prompt
from cwpo.own.fit import load, trained_on
from cwpo.own.folder import NOTE, is_ours
from cwpo.own.preferences import COLUMNS, preferences
from cwpo.weighting import most_confident, scaled_sigmoid

FAST = ["annotator.training.epochs=1", "annotator.training.learning_rate=3e-3", "folds=2", "curve_folds=1"]


def composed(command: str, *words: str):
    register()
    with initialize_config_dir(str(CONF / "command"), version_base="1.3"):
        return compose(command, overrides=list(words))


def run(command: str, *words: str, say=lambda line: None) -> tuple[Path, list[str]]:
    """Runs a command for own pairs; returns its folder and the lines that it prints."""
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        say(line)

    return {"annotate": label, "align": align, "compare": compare}[command](composed(command, *words), tell), said


def write_pairs(path: Path, labeled: int, unlabeled: int, **extra) -> Path:
    """Pairs whose better response has more `a` than `z`; one label in ten is wrong."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as lines:
        for i in range(labeled + unlabeled):
            good, bad = (" " + "".join(rng.choices(letters, k=8)) for letters in ("aaz", "zza"))
            a_wins = rng.random() < 0.5
            row = {"prompt": f"Ask {i}?", "response_a": good if a_wins else bad, "response_b": bad if a_wins else good}
            if i < labeled:
                row["label"] = "a" if a_wins != (rng.random() < 0.1) else "b"
            lines.write(json.dumps(row | extra) + "\n")
    return path


def hidden(folder: Path) -> list[str]:
    """What commands leave beside their results."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.fixture(scope="module")
def labeled(tmp_path_factory, tiny_checkpoint) -> Path:
    """The folder that scripts/annotate.py makes of 120 labels and 200 pairs without."""
    folder = tmp_path_factory.mktemp("own")
    data = write_pairs(folder / "pairs.jsonl", 120, 200)
    out, said = run("annotate", f"data={data}", f"model={tiny_checkpoint}", f"out={folder}/labeled", *FAST)
    assert said[1] == "320 rows, 320 usable pairs, 120 with a label; left out: none"
    assert hidden(folder) == []
    return out


# --- annotate ----------------------------------------------------------------------------------------------------


def test_every_pair_is_there_once_with_its_weight(labeled):
    table = pd.read_parquet(labeled / "preferences.parquet")
    assert list(table.columns) == COLUMNS and len(table) == 320 and table["pair_id"].is_unique
    human = table[table["label_source"] == "human"]
    machine = table[table["label_source"] == "annotator"]
    assert (len(human), len(machine)) == (120, 200)
    assert (human["weight"] == 1).all() and human[["confidence", "margin"]].isna().all(axis=None)
    assert machine["weight"].to_numpy() == pytest.approx(scaled_sigmoid(machine["margin"]))
    assert (machine["confidence"] == machine["weight"]).all()
    assert most_confident(machine["confidence"], 0.3).sum() == 60
    as_lines = [json.loads(line) for line in (labeled / "preferences.jsonl").read_text().splitlines()]
    assert [row["pair_id"] for row in as_lines] == table["pair_id"].tolist()
    assert as_lines[0]["confidence"] is None and as_lines[-1]["margin"] == pytest.approx(machine["margin"].iloc[-1])


def test_labels_and_margins_are_the_annotators(labeled):
    table = pd.read_parquet(labeled / "preferences.parquet")
    machine = table[table["label_source"] == "annotator"].head(20)
    annotator = load(labeled / "annotator", device="cpu")
    pairs = machine.rename(columns={"chosen": "response_a", "rejected": "response_b"})
    assert annotator.gaps(pairs)[0] == pytest.approx(machine["margin"].to_numpy(), abs=1e-5)
    scores = annotator.rewards(machine["prompt"].tolist(), machine["chosen"].tolist())
    assert scores.shape == (20,)


def test_the_annotator_is_an_ordinary_checkpoint_and_gives_the_same_scores_as_gold_reward(labeled):
    from transformers import AutoModelForSequenceClassification

    folder = labeled / "annotator"
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.num_labels == 1
    texts = ["Ask 1?", "Ask 222?"], [" aaz", " zzazza"]
    ours, gold = load(folder, device="cpu"), load_reward(str(folder), None, batch_size=2, device="cpu")
    assert gold.rewards(*texts) == pytest.approx(ours.rewards(*texts), abs=1e-5)
    assert gold.lengths(*texts) == ours.lengths(*texts)


def test_the_report_and_the_card(labeled):
    numbers = json.loads((labeled / "report.json").read_text())
    assert numbers["accuracy"]["n"] == 120 and numbers["input"] == {
        "read": 320,
        "kept": 320,
        "labeled": 120,
        "dropped": {},
    }
    assert [row["n_train"] for row in numbers["learning_curve"]] == [15, 48]
    assert numbers["shift"]["unlabeled_pairs"] == 200
    page, card = (labeled / "report.html").read_text(), (labeled / "README.md").read_text()
    assert numbers["verdict"]["sentence"] in card and numbers["next"][1] in page
    assert "200 pairs of pairs.jsonl had no label" in card


def test_a_finished_annotator_labels_new_pairs_and_is_not_tested_on_what_it_learned(labeled, tmp_path):
    data = write_pairs(tmp_path / "pairs.jsonl", 160, 10)  # its first 120 labels are the annotator's own
    out, _ = run("annotate", f"data={data}", f"annotator.path={labeled}/annotator", f"out={tmp_path}/out")
    numbers = json.loads((out / "report.json").read_text())
    assert (numbers["pairs"], numbers["trained_on_before"]) == (40, 120)
    assert numbers["learning_curve"] == [] and numbers["more_labels"] is None
    assert "120 labelled pairs it had been trained on were left out of the test" in numbers["about"]
    assert not (out / "annotator").exists()
    again = write_pairs(tmp_path / "old.jsonl", 120, 10)
    (line,) = refusal("annotate", [f"data={again}", f"annotator.path={labeled}/annotator", f"out={tmp_path}/no"])
    assert "was trained on the prompts of 120 of the 120 labelled pairs; at least 20 pairs with other prompts" in line
    assert not (tmp_path / "no").exists() and hidden(tmp_path) == []


def test_any_reward_model_by_its_path(tmp_path):
    from tiny import save, tiny_model

    folder = save(tiny_model("llama", labels=1), tmp_path / "reward")
    rows = [
        {"prompt": f"ask {'me ' * i}", "response_a": "bread is good", "response_b": "bad", "label": "ab"[i % 2]}
        for i in range(24)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out, _ = run("annotate", f"data={tmp_path}/pairs.jsonl", f"annotator.path={folder}", f"out={tmp_path}/out")
    report = json.loads((out / "report.json").read_text())
    a_wins = HuggingFace(str(folder), None, batch_size=4, device="cpu")
    gaps = np.subtract(
        *(a_wins.rewards([r["prompt"] for r in rows], [r[f"response_{side}"] for r in rows]) for side in "ab")
    )
    right = [(gap > 0) == (row["label"] == "a") for gap, row in zip(gaps, rows, strict=True)]
    assert report["accuracy"]["mean"] == pytest.approx(np.mean(right))
    assert report["verdict"]["advice"] == "more_labels"


@pytest.mark.parametrize("kind", ["pairrm", "bt"])
def test_other_annotators(kind, tiny_checkpoint, tmp_path):
    """PairRM, and an ensemble of Bradley-Terry annotators on shares of votes."""
    data = write_pairs(tmp_path / "pairs.jsonl", 40, 10)
    with data.open("a") as lines:
        lines.write(json.dumps({"prompt": "Tie?", "response_a": " a", "response_b": " z", "label": "tie"}) + "\n")
    many = ["annotator.members=2", "ties=soft", "calibrate=true"] if kind == "bt" else ["annotator.kind=pairrm"]
    words = [f"data={data}", f"model={tiny_checkpoint}", f"out={tmp_path}/out", "curve=[]", *FAST, *many]
    out, said = run("annotate", *words)
    assert [line[:28] for line in said if "tied" in line] == ["1 of them have tied votes: t"] * (kind == "bt")
    assert len(pd.read_parquet(out / "preferences.parquet")) == 50
    annotator = load(out / "annotator", device="cpu")
    assert (annotator.kind, len(annotator.models)) == (kind, 2 if kind == "bt" else 1)
    if kind == "pairrm":
        with pytest.raises(InputError, match="is a PairRM: it compares two responses and gives no reward"):
            load_reward(str(out / "annotator"), None, batch_size=2, device="cpu")
    pairs = pd.DataFrame({"prompt": ["Ask?"], "response_a": [" aaa"], "response_b": [" zzz"]})
    swapped = pairs.rename(columns={"response_a": "response_b", "response_b": "response_a"})
    gaps = annotator.gaps(pairs)
    assert annotator.gaps(swapped) == pytest.approx(-gaps, abs=1e-5)
    if kind == "bt":
        assert gaps[0] != gaps[1]
        table = pd.read_parquet(out / "preferences.parquet")
        machine = table[table["label_source"] == "annotator"].head(5)
        whole = annotator.gaps(machine.rename(columns={"chosen": "response_a", "rejected": "response_b"}))
        temperature = json.loads((out / "report.json").read_text())["calibration"]["temperature"]
        assert machine["margin"].to_numpy() == pytest.approx(whole.mean(axis=0) / temperature, rel=1e-4)


def test_a_stopped_run_goes_on(tiny_checkpoint, tmp_path, monkeypatch):
    data = write_pairs(tmp_path / "pairs.jsonl", 40, 20)
    words = [f"data={data}", f"model={tiny_checkpoint}", f"out={tmp_path}/out", "curve=[]", *FAST]

    def stop(line: str) -> None:
        if line.startswith("training the annotator on all"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("annotate", *words, say=stop)
    assert not (tmp_path / "out").exists() and len(hidden(tmp_path)) == 1
    out, said = run("annotate", *words)
    assert not [line for line in said if line.startswith("fold ")]
    assert hidden(tmp_path) == []
    first = (out / "preferences.jsonl").read_bytes()
    run("annotate", *words)  # in the place of the first
    assert (out / "preferences.jsonl").read_bytes() == first


# --- what annotate refuses ---------------------------------------------------------------------------------------


def refusal(command, words) -> list[str]:
    with pytest.raises(InputError) as error:
        run(command, *words)
    return error.value.problems


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("annotate", "", ["data is required: set data=...", "out is required: set out=..."]),
        (
            "annotate",
            "data=d out=o",
            ["name a model to train, model=..., or a trained reward model, annotator.path=..."],
        ),
        (
            "annotate",
            "data=d out=o model=./no ties=x weighting=c9 folds=1 annotator.kind=dpo target_accuracy=0.5 curve=[1.5] "
            "annotator.training.scheduler=step",
            ["ties=x is unknown", "weighting=c9 is unknown", "annotator.kind=dpo", "folds=1 must be at least 2"]
            + ["target_acc", "curve", "annotator.training.scheduler", "model=./no does not"],
        ),
        ("align", "", ["model is required: set model=...", "out is required: set out=...", "preferences is required"]),
        (
            "align",
            "preferences=p model=./no out=o objective=kto beta=0 keep=0 flip_rate=0.5 alignment.epochs=0",
            [
                "objective=kto is unknown",
                "beta=0.0 must be positive",
                "alignment.epochs=0.0",
                "keep=0.0",
                "flip_rate=0.5",
            ]
            + ["model=./no does not"],
        ),
        ("compare", "before=./a after=./b prompts=p gold=./c out=o", ["before=./a", "after=./b", "gold=./c"]),
        (
            "compare",
            "before=./a after=./b prompts=p gold=oracle out=o most=1",
            ["most=1 must be at least 2", "before", "after"],
        ),
    ],
)
def test_all_wrong_settings_at_once(command, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problems = refusal(command, words.split())
    assert len(problems) == len(said)
    assert all(any(line.startswith(part) for line in problems) for part in said)
    assert list(tmp_path.iterdir()) == []


def test_bad_tables_leave_nothing(tiny_checkpoint, tmp_path):
    base = [f"model={tiny_checkpoint}", f"out={tmp_path}/out"]
    few = write_pairs(tmp_path / "few.jsonl", 5, 5)
    assert "5 of 10 rows have a usable label, and 20 are needed" in refusal("annotate", [f"data={few}", *base])[0]
    long = write_pairs(tmp_path / "long.jsonl", 30, 5)
    (line,) = refusal("annotate", [f"data={long}", *base, "max_tokens=3"])
    assert (
        "0 of 35 rows have a usable label" in line and "more_than_3_tokens 35 (row 1, 2, 3, 4, 5 and 30 more)" in line
    )
    one = write_pairs(tmp_path / "one.jsonl", 30, 0, prompt="the same?")
    assert (
        "1 different prompts, but folds=3 needs at least 3: one in each fold"
        in refusal("annotate", [f"data={one}", *base])[0]
    )
    three = tmp_path / "three.jsonl"
    lines = (json.loads(line) for line in long.read_text().splitlines())
    three.write_text("".join(json.dumps(row | {"prompt": f"Ask {i % 3}?"}) + "\n" for i, row in enumerate(lines)))
    assert (
        "3 different prompts, but folds=2 needs at least 4"
        in refusal("annotate", [f"data={three}", *base, "folds=2"])[0]
    )
    renamed = tmp_path / "renamed.jsonl"
    renamed.write_text(write_pairs(tmp_path / "whole.jsonl", 30, 5).read_text().replace('"label"', '"better"'))
    (line,) = refusal("annotate", [f"data={renamed}", *base])
    assert "no usable pair has a label (left out: none)" in line
    assert line.endswith("if an unused column (better) holds labels, name it with +columns.label=...")
    labeled = write_pairs(tmp_path / "labeled.jsonl", 30, 0)
    (line,) = refusal("annotate", [f"data={labeled}", *base, "include_labeled=false"])
    assert line.startswith("include_labeled=false: all 30 pairs of data=")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    taken = refusal("annotate", [f"data={few}", f"model={tiny_checkpoint}", f"out={tmp_path}/full"])
    assert taken == [f"out={tmp_path}/full holds other files; name a new folder"]
    assert not (tmp_path / "out").exists() and hidden(tmp_path) == []


def test_the_command_ends_with_one_message(tmp_path):
    command = [sys.executable, str(REPO / "scripts/annotate.py"), "data=no.jsonl", "columns.votes=x", "out=o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr == "error: unknown key columns.votes; to add it write +columns.votes=...\n"
    assert list(tmp_path.iterdir()) == []


def test_wrong_settings_are_answered_without_torch(tmp_path):
    code = """
import sys
from omegaconf import OmegaConf
from cwpo.commands.checks import check_command
from cwpo.config.commands import AnnotateConfig
from cwpo.errors import InputError
try:
    check_command(OmegaConf.structured(AnnotateConfig(data="d", out="o", model="./no", folds=1)), "annotate", ask_hub=False)
except InputError as error:
    print(len(error.problems), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.split()[1] == "False", done.stderr


# --- parts -------------------------------------------------------------------------------------------------------


def test_weights_by_hand():
    pairs = pd.DataFrame(
        {
            "pair_id": list("wxyz"),
            "prompt": "p",
            "response_a": "A",
            "response_b": "B",
            "target": [np.nan, np.nan, 0.2, 0.5],
            "n_votes": [0, 0, 5, 2],
        }
    )
    gap = np.array([2.0, -0.5, 9.0, 9.0])
    table = preferences(pairs, gap, "c1")
    assert table["chosen"].tolist() == ["A", "B", "B"]  # the tie is left out
    assert table["weight"].to_numpy() == pytest.approx([np.tanh(1), np.tanh(0.25), 0.6])
    assert table["margin"].tolist()[:2] == [2.0, 0.5] and np.isnan(table["margin"][2])
    assert preferences(pairs, gap, "c4")["weight"].tolist() == pytest.approx([0.4, 0.1, 0.6])
    assert preferences(pairs, gap, "uniform", include_labeled=False)["weight"].tolist() == [1.0, 1.0]


def test_folds_keep_prompts_together():
    prompts = [f"p{i % 7}" for i in range(70)]
    fold = folds_by_prompt(prompts, 3, seed=0)
    assert pd.Series(fold).groupby(prompts).nunique().max() == 1
    assert sorted(np.bincount(fold)) == [20, 20, 30]
    assert (folds_by_prompt(prompts, 3, seed=0) == fold).all()


@pytest.mark.parametrize(
    ("labels", "words", "folds"),
    [(1000, (), (3, 3)), (1001, (), (5, 1)), (90, ("folds=4",), (4, 4)), (90, ("holdout_above=50",), (5, 1))],
)
def test_many_labels_need_one_fold(labels, words, folds):
    assert fold_counts(labels, composed("annotate", *words)) == folds


def test_no_pair_is_tested_by_an_annotator_that_saw_its_prompt(tmp_path, monkeypatch):
    from cwpo.own import crossfit

    seen: list[tuple[set, set]] = []

    class Spy:
        def __init__(self, train):
            self.train = set(train["prompt"])

        def gaps(self, pairs):
            seen.append((self.train, set(pairs["prompt"])))
            return np.ones((1, len(pairs)))

    def fit(train, cfg, folder, device, progress, held_out=None):
        trained.append(cfg.annotator.training)
        return Spy(train)

    trained: list = []
    losses = {3e-5: [0.6, 0.5, 0.7], 1e-4: [0.7, 0.6], 3e-4: [0.9, 0.9]}
    curves = {f"first-{rate:g}": {"loss": [0.7], "held_out_loss": values} for rate, values in losses.items()}
    monkeypatch.setattr(crossfit, "fit_members", fit)
    monkeypatch.setattr(crossfit, "read_curve", lambda folder: curves[folder.name.replace("3.3e-05", "3e-05")])
    pairs = pd.DataFrame(
        {"pair_id": [str(i) for i in range(60)], "prompt": [f"p{i % 20}" for i in range(60)], "target": 1.0}
    )
    words = ("data=d", "out=o", "folds=4", "tune=true", "annotator.training.learning_rate=1e-4")
    cfg = composed("annotate", *words)
    tested, curve, learned = cross_fit(pairs, cfg, tmp_path, device="cpu", say=lambda _: None)
    assert sorted(tested["pair_id"]) == sorted(pairs["pair_id"])
    known, *held_out = seen  # the first fold's annotator also says what it knows of its own pairs
    assert known[1] <= known[0] and all(not train & test for train, test in held_out)
    assert len(held_out) == 4 + len(cfg.curve)
    assert sorted(curve["n_train"].unique()) == [11, 36]
    assert (learned["learning_rate"], learned["epochs"], learned["train_accuracy"]) == (3.3e-5, 2, 1.0)
    assert {(training.learning_rate, training.epochs) for training in trained[3:]} == {(3.3e-5, 2)}


@pytest.mark.parametrize("prompts", [1, 2])
def test_untied_votes_of_too_few_prompts_are_refused_before_training(prompts, tmp_path):
    untied = pd.DataFrame({"prompt": [f"p{i % prompts}" for i in range(20)], "target": 1.0})
    tied = pd.DataFrame({"prompt": [f"q{i}" for i in range(40)], "target": 0.5})
    pairs = pd.concat([untied, tied], ignore_index=True)
    cfg = composed("annotate", "data=d", "out=o", "ties=soft", "annotator.training.learning_rate=1e-4")
    with pytest.raises(InputError, match="untied votes have too few prompts"):
        cross_fit(pairs, cfg, tmp_path, device="cpu", say=lambda _: None)


def test_prompts_an_annotator_learned_from(labeled, tmp_path):
    assert trained_on(labeled / "annotator", ["Ask 0?", "Ask 119?", "Ask 120?"]).tolist() == [True, True, False]
    assert not trained_on(tmp_path, ["Ask 0?"]).any()
    assert is_ours(str(labeled / "annotator")) and not is_ours(str(tmp_path))
    assert json.loads((labeled / "annotator" / NOTE).read_text()) == {"kind": "bt", "members": 1}


@pytest.mark.slow
def test_a_hundred_thousand_pairs_stream_with_flat_memory(tmp_path):
    """Reading, weighing and writing; four times the pairs take hardly more memory."""
    code = """
import json, sys
from pathlib import Path
import numpy as np
from omegaconf import OmegaConf
from cwpo.data.own import convert
from cwpo.own.preferences import annotate_pairs
from cwpo.runtime import peak_memory_mb

folder, n = Path(sys.argv[1]), int(sys.argv[2])
with (folder / "pairs.jsonl").open("w") as lines:
    for i in range(n):
        lines.write(json.dumps({"prompt": f"{i} " + "p" * 400, "response_a": f"{i}" + "a" * 800, "response_b": f"{i}" + "b" * 800}) + chr(10))

class Constant:
    def gaps(self, pairs):
        return np.ones((1, len(pairs)))

before = peak_memory_mb()
convert(str(folder / "pairs.jsonl"), folder / "pairs.parquet")
cfg = OmegaConf.create({"weighting": "c1", "include_labeled": True})
written = annotate_pairs(folder / "pairs.parquet", folder, Constant(), cfg, 1.0, scratch=folder / "shards", progress=lambda d, t: None)
print(written, peak_memory_mb() - before)
"""
    grown = []
    for n in (25_000, 100_000):
        folder = tmp_path / str(n)
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder), str(n)], capture_output=True, text=True, check=True
        )
        written, memory = done.stdout.split()
        assert int(written) == n
        assert sum(1 for _ in (folder / "preferences.jsonl").open()) == n
        grown.append(float(memory))
    assert grown[1] < grown[0] + 100, grown  # MiB; the files are 200 MB each
