"""Models and data sets of the hub: pinned in one file, refused unpinned, read offline from a filled cache."""

import functools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import hub_cache
import paper_copies
import pytest
import torch
import yaml
from commands.test_entry import messages, script
from config.test_schema import composed
from omegaconf import OmegaConf

from cwpo.checks import checkpoints
from cwpo.commands import lock_assets
from cwpo.config import assets
from cwpo.config.assets import LOCK, hub_assets, is_hub_id, read_lock, settled
from cwpo.config.commands import LockAssetsConfig
from cwpo.config.schema import CONF
from cwpo.errors import InputError
from cwpo.pipeline.derived import derived_config

COMMIT, OTHER = "0123456789abcdef0123456789abcdef01234567", "f" * 40


def unpinned(cfg) -> list[str]:
    return [str(problem) for problem in checkpoints.unpinned(cfg)]


@functools.cache
def paper(*words: str):
    """A configuration at paper scale, unchecked."""
    return OmegaConf.to_object(composed("scale=paper", *words))


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """A lock of our own; returns a function that writes it."""
    file = tmp_path / "lock.yaml"
    monkeypatch.setattr(assets, "read_lock", lambda: read_lock(file))

    def write(models: dict | None = None, datasets: dict | None = None) -> Path:
        file.write_text("# kept\n" + yaml.safe_dump({"models": models or {}, "datasets": datasets or {}}))
        return file

    write()
    return write


# --- the lock ----------------------------------------------------------------------------------------------------


def test_the_lock_names_all_that_conf_takes_from_the_hub_and_nothing_else():
    named = set(lock_assets.named_assets())
    assert {("models", "facebook/opt-13b"), ("datasets", "stanfordnlp/SHP")} <= named and len(named) == 21
    assert named == {(kind, name) for kind, entries in read_lock().items() for name in entries}


def test_opt_is_taken_from_conversions_to_safetensors():
    entries = read_lock()["models"]
    assert all(entry["ref"].startswith("refs/pr/") for name, entry in entries.items() if "/opt-" in name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: {a/b: {revision: main}}", r"models.a/b.revision=main is not a commit of 40 hex digits"),
        ("models: {a/b: 3}", r"models.a/b must have ref and revision"),
        ("modles: {}", r"must have models and datasets, nothing else"),
        ("models: {", r"cannot be read"),
    ],
)
def test_a_lock_that_is_none_is_an_error(tmp_path, text, message):
    (tmp_path / "lock.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_lock(tmp_path / "lock.yaml")


@pytest.mark.parametrize(
    ("paths", "expected"),
    [(("facebook/opt-125m", "gpt2"), True), (("world/opt-32x1", "/a/b", "a/b/c", None, "."), False)],
)
def test_what_names_something_of_the_hub(paths, expected):
    assert {is_hub_id(path) for path in paths} == {expected}


def test_a_folder_that_is_here_needs_no_pin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("facebook/opt-125m").mkdir(parents=True)
    assert not is_hub_id("facebook/opt-125m")


# --- pins ----------------------------------------------------------------------------------------------------------


def test_every_asset_of_an_arm_is_found_with_the_gold_model_of_its_data():
    arm = settled(paper("data=tldr", "pair=qwen_large", "method=online_rm"))
    assert {asset.key: asset.id for asset in hub_assets(arm)} == {
        "pair.weak": "Qwen/Qwen2.5-0.5B",
        "pair.strong": "Qwen/Qwen2.5-14B",
        "gold.path": "OpenAssistant/reward-model-deberta-v3-large-v2",
        "online.reward_model": "trl-lib/Qwen2-0.5B-Reward",
        "data.path": "CarperAI/openai_summarize_comparisons",
    }


@pytest.mark.parametrize(
    ("data", "gold"),
    [("harmless", "skywork"), ("ufb", "skywork"), ("tldr", "openassistant"), ("shp_askbaking", "steamshp")],
)
def test_each_data_set_is_judged_as_in_the_paper(data, gold):
    assert settled(paper(f"data={data}")).gold.name == gold
    assert settled(paper(f"data={data}", "gold=trl_qwen")).gold.name == "trl_qwen"  # the command line wins


def test_unpinned_assets_are_refused_all_at_once_with_the_fix(lock):
    locked = {name: {"ref": "main", "revision": None} for name in read_lock(LOCK)["models"]}
    lock(locked | {"facebook/opt-125m": {"ref": "refs/pr/35", "revision": COMMIT}}, {"Anthropic/hh-rlhf": {}})
    problems = unpinned(paper("data=harmless"))
    assert [problem.partition(" ")[0] for problem in problems] == [
        "pair.strong=facebook/opt-1.3b",
        "gold.path=Skywork/Skywork-Reward-V2-Llama-3.1-8B",
        "data.path=Anthropic/hh-rlhf",
    ]
    assert all("python scripts/lock_assets.py" in p and "allow_unpinned=true" in p for p in problems)
    assert "set pair.strong_revision=<40 hex digits>" in problems[0]
    assert unpinned(paper("data=harmless", "allow_unpinned=true")) == []
    own = str(unpinned(paper("data=harmless", "pair.strong=my/model"))[0])  # the command would not look it up
    assert "lock_assets" not in own and "set pair.strong_revision=<40 hex digits>, or allow_unpinned=true" in own


def test_a_branch_is_no_pin_and_a_commit_is(lock):
    lock({"facebook/opt-1.3b": {"ref": "main", "revision": None}})
    words = ["data=harmless", "gold=trained"]
    for given, fine in (("main", False), (COMMIT, True)):
        problems = unpinned(paper(*words, f"pair.strong_revision={given}"))
        assert any(p.startswith("pair.strong=") for p in problems) != fine
    assert any(
        "its revision is main, which can move" in p for p in unpinned(paper(*words, "pair.strong_revision=main"))
    )


def test_an_unpinned_arm_does_not_start():
    problems = map(str, checkpoints.checkpoint_problems(paper("data=harmless"), ask_hub=True))
    assert any(p.startswith("pair.strong=facebook/opt-1.3b is not pinned") for p in problems)


def test_the_pinned_revision_enters_the_stage_keys(lock, monkeypatch):
    monkeypatch.setattr("cwpo.models.policy.context_length", lambda path, revision=None: 2048)
    models = {name: {"ref": "main", "revision": COMMIT} for name in ("facebook/opt-125m", "facebook/opt-1.3b")}
    models["Skywork/Skywork-Reward-V2-Llama-3.1-8B"] = {"ref": "main", "revision": COMMIT}
    data = {"Anthropic/hh-rlhf": {"ref": "main", "revision": COMMIT}}
    lock(models, data)
    from cwpo.pipeline.graph import nodes_of

    cfg = paper("data=harmless")
    plain = derived_config(settled(cfg))
    pins = (plain["weak_revision"], plain["strong_revision"], plain["data"]["revision"], plain["gold"]["revision"])
    assert {*pins} == {COMMIT}
    assert plain["tokenizers"] == [["facebook/opt-125m", COMMIT], ["facebook/opt-1.3b", COMMIT]]
    before = {name: node.key for name, node in nodes_of(cfg).items()}

    def changed(kind: dict, name: str) -> set[str]:
        kind[name]["revision"] = OTHER
        lock(models, data)
        after = {role: node.key for role, node in nodes_of(cfg).items()}
        kind[name]["revision"] = COMMIT
        return {role for role in before if before[role] != after[role]}

    assert changed(data, "Anthropic/hh-rlhf") == set(before)
    assert changed(models, "Skywork/Skywork-Reward-V2-Llama-3.1-8B") == {"score_gold", "assess", "evaluate"}
    assert "train_annotator" in changed(models, "facebook/opt-125m")
    lock(models, data)
    assert {name: node.key for name, node in nodes_of(cfg).items()} == before


def test_an_allowed_unpinned_asset_is_taken_from_the_ref_of_the_lock(lock):
    lock({"facebook/opt-1.3b": {"ref": "refs/pr/25", "revision": None}})
    assert settled(paper("data=harmless", "allow_unpinned=true")).pair.strong_revision == "refs/pr/25"


def test_the_synthetic_world_has_no_assets():
    cfg = OmegaConf.to_object(composed())
    assert hub_assets(cfg) == [] and settled(cfg) is cfg


# --- looking commits up --------------------------------------------------------------------------------------------


class Hub:
    """As much of huggingface_hub.HfApi as the lock asks; files by (name, ref)."""

    def __init__(self, files: dict[tuple[str, str], list[str]], pulls: list[tuple[int, str, str]] = ()) -> None:
        self.files, self.pulls, self.asked = files, pulls, []

    def repo_info(self, name, repo_type, revision):
        self.asked.append((name, repo_type, revision))
        if (name, revision) not in self.files:
            raise OSError("404 Client Error")
        siblings = [SimpleNamespace(rfilename=file) for file in self.files[name, revision]]
        return SimpleNamespace(sha=f"{len(self.asked):040x}", siblings=siblings)

    def get_repo_discussions(self, name):
        return [
            SimpleNamespace(num=n, is_pull_request=True, author=author, status=status, git_reference=f"refs/pr/{n}")
            for n, author, status in self.pulls
        ]


def test_a_model_with_safetensors_is_locked_where_it_is():
    hub = Hub({("a/b", "main"): ["config.json", "model.safetensors"]})
    assert lock_assets.look_up(hub, "models", "a/b", "main") == {"ref": "main", "revision": f"{1:040x}"}


def test_pickle_weights_are_replaced_by_the_newest_conversion_of_the_hubs_own_account():
    files = {("a/b", ref): ["pytorch_model.bin"] for ref in ("main", "refs/pr/9")}
    files |= {("a/b", f"refs/pr/{n}"): ["pytorch_model.bin", "model.safetensors"] for n in (3, 4, 7, 8)}
    pulls = [
        (3, "SFconvertbot", "open"),
        (4, "SFconvertbot", "open"),
        (7, "stranger", "open"),
        (8, "SFconvertbot", "closed"),
    ]
    hub = Hub(files, [*pulls, (9, "SFconvertbot", "open")])
    found = lock_assets.look_up(hub, "models", "a/b", "main")
    assert (found["ref"], hub.asked[-1]) == ("refs/pr/4", ("a/b", "model", "refs/pr/4"))


def test_a_model_of_pickles_alone_is_refused():
    hub = Hub({("a/b", "main"): ["pytorch_model.bin"]}, [(7, "stranger", "open")])
    with pytest.raises(InputError, match="a/b has no safetensors weights at main, and .* offers no conversion"):
        lock_assets.look_up(hub, "models", "a/b", "main")


def test_what_is_found_is_written_also_where_something_else_is_not(tmp_path, monkeypatch, capsys):
    named = [("models", "a/b"), ("models", "no/model"), ("datasets", "d/e")]
    monkeypatch.setattr(lock_assets, "named_assets", lambda: iter(named))
    file = tmp_path / "lock.yaml"
    file.write_text(f"# a comment\n# and another\nmodels:\n  a/old: {{ref: main, revision: {OTHER}}}\ndatasets: {{}}\n")
    files = {"a/b": "model.safetensors", "d/e": "train.jsonl", "a/old": "model.safetensors"}
    hub = Hub({(name, "main"): [file] for name, file in files.items()})
    with pytest.raises(InputError, match="no/model at main cannot be looked up: 404") as refused:
        lock_assets.lock_assets(LockAssetsConfig(), hub, file)
    assert len(refused.value.problems) == 1
    lock = read_lock(file)
    assert lock["models"]["a/old"] == {"ref": "main", "revision": OTHER}  # kept, not looked up again
    assert lock["models"]["a/b"]["revision"] and lock["datasets"]["d/e"]["revision"]
    assert lock["models"]["no/model"] == {"ref": "main", "revision": None}
    assert file.read_text().startswith("# a comment\n# and another\nmodels:\n")
    assert "a/b: " in capsys.readouterr().out
    lock_assets.lock_assets(LockAssetsConfig(assets=["a/old"], update=True), hub, file)
    assert read_lock(file)["models"]["a/old"]["revision"] != OTHER


def test_the_shipped_lock_is_written_as_it_is(tmp_path):
    copy = tmp_path / "lock.yaml"
    copy.write_text(LOCK.read_text())
    lock_assets.write_lock(read_lock(LOCK), copy)
    assert copy.read_text() == LOCK.read_text()


def test_without_a_network_the_command_says_so(tmp_path):
    (line,) = messages(script("lock_assets", cwd=tmp_path))
    assert "HF_HUB_OFFLINE is set" in line


# --- offline -------------------------------------------------------------------------------------------------------

CHECK = """
import sys
from types import SimpleNamespace
from cwpo.data.sources import read_pairs
from cwpo.models.policy import hub_problem, load_policy, load_tokenizer
from cwpo.errors import InputError

commit = sys.argv[1]
assert hub_problem("tiny/opt", commit, "m") is None
print(load_policy("tiny/opt", commit).num_parameters(), load_tokenizer("tiny/opt", commit).bos_token)
data = SimpleNamespace(source="hub", name="d", path="tiny/hh", columns={}, revision=commit, layout="hh_rlhf", folders=["harmless-base"])
print(read_pairs(data, 0)[1]["read"])
print(hub_problem("tiny/opt", "f" * 40, "m"))
print(hub_problem("tiny/pickles", commit, "m"))
print(hub_problem("tiny/adapters", commit, "m"))
try:
    load_policy("tiny/pickles", commit)
except InputError as error:
    print(error)
"""


@pytest.mark.soak
def test_a_filled_cache_is_enough_offline(tmp_path):
    hub = tmp_path / "home" / "hub"
    hub_cache.add(hub, "models", "tiny/opt", paper_copies.opt(tmp_path / "opt"), COMMIT)
    hub_cache.add(hub, "datasets", "tiny/hh", paper_copies.published_folder(tmp_path / "data", 9, 3), COMMIT)
    pickles = tmp_path / "pickles"
    paper_copies.opt(pickles)
    (pickles / "model.safetensors").unlink()
    torch.save({}, pickles / "pytorch_model.bin")
    hub_cache.add(hub, "models", "tiny/pickles", pickles, COMMIT)
    (pickles / "adapter_config.json").write_text("{}")
    hub_cache.add(hub, "models", "tiny/adapters", pickles, COMMIT)
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{tmp_path}/home", "PYTHONPATH": str(CONF.parent)}
    env.pop("HF_HUB_CACHE", None)
    words = [sys.executable, "-c", CHECK, COMMIT]
    done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    size, read, missing, pickled, adapters, refused = [line for line in done.stdout.splitlines() if line.strip()]
    assert size.endswith(" </s>") and read == "12"
    assert missing.startswith("m=tiny/opt is neither a folder here nor a model that the hub or its cache can give")
    assert f"at revision {COMMIT} has only pickle weights (pytorch_model.bin)" in pickled
    assert adapters == "m=tiny/adapters holds a LoRA adapter (adapter_config.json); merge it and save the whole model"
    assert "python scripts/lock_assets.py" in pickled and "has only pickle weights" in refused


def test_a_model_in_two_parts_is_pinned_in_both_and_told_once(lock):
    lock({"Qwen/Qwen2.5-7B": {"ref": "main", "revision": COMMIT}})
    cfg = settled(paper("pair=weak_qwen_7b", "data=harmless"))
    assert cfg.pair.weak_revision == cfg.pair.strong_revision == COMMIT
    lock()
    problems = unpinned(paper("pair=weak_qwen_7b", "data=harmless"))
    assert sum("Qwen/Qwen2.5-7B" in problem for problem in problems) == 1


def test_the_data_set_that_labels_are_mixed_with_is_pinned_too(lock):
    lock()
    told = unpinned(paper("data=harmless", "labeled.other=ufb"))
    (other,) = [problem for problem in told if problem.startswith("labeled.other=")]
    assert "HuggingFaceH4/ultrafeedback_binarized is not pinned" in other and "set " not in other
    same = unpinned(paper("data=harmless", "labeled.other=helpful"))
    assert not any(p.startswith("labeled.other=") for p in same)  # of the same repository
