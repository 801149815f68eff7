"""Checks that each model and data set of an experiment is available and of the right kind, and that tokenizers fit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cwpo.checks.checkpoints import given_a_head
from cwpo.config.assets import is_hub_id, named_models
from cwpo.config.schema import MODEL_GOLDS, Config
from cwpo.data.hub import LAYOUTS, split_files, split_names
from cwpo.errors import InputError
from cwpo.models.folders import repo_files

GATED = ("meta-llama/",)  # the hub gives these models only to users who accepted the licence
BEGIN_WITH_BOS = ("opt", "llama")  # model families that were trained only on texts with BOS in front


def models_of(cfg: Config) -> Iterator[tuple[str, str, str | None]]:
    """Yields (config key, folder or hub id, revision) of every model that a settled arm reads, except world/ ones, and
    except gold.path with gold=trained."""
    reads = {"gold.path": cfg.gold.name in MODEL_GOLDS, "embedding.path": cfg.until == "embed"}
    for key, (path, revision) in named_models(cfg).items():
        if reads.get(key, True) and not path.startswith("world/"):
            yield key, path, revision


def model_problems(key: str, path: str, revision: str | None, cfg: Config) -> list[str]:
    """Returns what the first failing check finds: files, config or head, or the tokenizer of a weak or strong model."""
    from cwpo.models.annotator import classifier_problem
    from cwpo.models.folders import checkpoint_problem
    from cwpo.models.policy import hub_problem, policy_problem
    from cwpo.models.reward_models import gold_problem

    problem = checkpoint_problem(path, key) or hub_problem(path, revision, key)
    if problem:
        closed = "gated" in problem.lower() or "401" in problem or "403" in problem
        licence = "accept its licence on the hub and set HF_TOKEN; " if closed else ""
        fix = f"{licence}{fetching(path, revision)}, or set {key}=<folder of a copy>"
        return [f"{problem.rstrip('.')}; {fix}" if is_hub_id(path) else problem]
    if key == "embedding.path":  # a model of any kind
        return []
    if key in ("gold.path", "online.reward_model"):
        wrong = gold_problem(path, revision, key, seq2seq=key == "gold.path" and cfg.gold.name == "steamshp")
        return [wrong] if wrong else []
    wrong = (classifier_problem if key in given_a_head(cfg) else policy_problem)(path, revision, key)
    if wrong:
        return [wrong]
    return tokenizer_problems(key, path, revision, chat=key == "pair.strong" and cfg.pair.strong_chat)


def fetching(path: str, revision: str | None, more: str = "") -> str:
    """Returns the fix for a model or data set that is not in the hub's cache: the command that downloads it."""
    at = f" --revision {revision}" if revision else ""
    return f"where there is a network: hf download {path}{more}{at}"


def tokenizer_problems(key: str, path: str, revision: str | None, chat: bool) -> list[str]:
    """Returns the problems of a tokenizer: no EOS, no BOS where the family needs it, BOS twice, no usable template."""
    from cwpo.data.batching import encode_prompts
    from cwpo.models.policy import load_tokenizer, read_config

    try:
        tokenizer = load_tokenizer(path, revision, chat=chat)
        config = read_config(path, revision, key)
    except InputError as error:
        return [f"{key}: {problem}" for problem in error.problems]
    problems = []
    ids = encode_prompts(tokenizer, ["x"])[0]
    bos = tokenizer.bos_token_id
    if config.model_type in BEGIN_WITH_BOS and (bos is None or ids[:1] != [bos]):
        problems.append(
            f"{key}={path}: its tokenizer puts no BOS before a text, which a model of the family {config.model_type} expects; "
            "save it again with add_bos_token"
        )
    if bos is not None and ids[:2] == [bos, bos]:
        problems.append(
            f"{key}={path}: its tokenizer puts BOS before a text twice; correct its chat template or post-processor"
        )
    return problems


def data_problems(cfg: Config) -> list[str]:
    """Returns the problems of a published data set: it cannot be reached, or a split has no files. Reads no file."""
    layout = LAYOUTS[str(cfg.data.layout)]
    path, problems = cfg.data.path, []
    local = Path(path).expanduser()
    folders: list[Any] = [*cfg.data.folders] or [None]
    for folder in folders:
        names = None if local.is_dir() else repo_files(path, cfg.data.revision, "dataset")
        if names is None and not local.is_dir():
            return [
                f"data.path={path} cannot be reached, and is not in the cache at revision {cfg.data.revision}; "
                f"{fetching(path, cfg.data.revision, ' --repo-type dataset')}, or set data.path=<folder of its files>"
            ]
        for split in (layout.train, layout.test):
            there: Any = split_files(local, folder, split) if names is None else split_names(names, folder, split)
            if not there:
                problems.append(f"data.path={path} has no split {folder + '/' if folder else ''}{split}")
    return problems
