"""The command `lock_assets`: looks up the commits of models and data sets in conf/ and writes them to the lock file."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cwpo.atomic import write_text
from cwpo.config.assets import KINDS, LOCK, is_hub_id, read_lock
from cwpo.config.hub import hub_answers
from cwpo.config.schema import CONF
from cwpo.errors import InputError, first_line

CONVERTER = "SFconvertbot"  # the hub's own account that converts pickle weights
HEADER = re.compile(r"\A(#.*\n)*")
Pin = dict[str, Any]


def lock_assets(cfg: Any, api: Any = None, file: Path = LOCK) -> None:
    """Looks up the commit of each model and data set in conf/ that has none yet, prints it and writes it to `file`.

    With cfg.update, also looks up those that have one. If cfg.assets is not empty, looks up only those that it names.
    Raises InputError at once if the hub is out of reach, and at the end for failed look-ups and unknown names.
    """
    if api is None:
        from huggingface_hub import HfApi, constants

        if constants.is_offline_mode():
            raise InputError("the hub cannot be asked: HF_HUB_OFFLINE is set; unset it on a machine with a network")
        if not hub_answers():
            raise InputError("no commit can be looked up without the hub; run this where the hub can be reached")
        api = HfApi()
    lock = {kind: dict(entries) for kind, entries in read_lock(file).items()}
    for kind, name in named_assets():
        lock[kind].setdefault(name, {"ref": "main", "revision": None})
    unknown = [name for name in cfg.assets if not any(name in lock[kind] for kind in KINDS)]
    problems = [f"assets={name} is not in conf/; for the valid names see {file}" for name in unknown]
    for kind in KINDS:
        for name, entry in lock[kind].items():
            if (cfg.assets and name not in cfg.assets) or (entry.get("revision") and not cfg.update):
                continue
            try:
                pinned = look_up(api, kind, name, entry.get("ref") or "main")
            except InputError as error:
                problems += error.problems
                continue
            before = entry.get("revision")
            change = "" if before in (None, pinned["revision"]) else f" (was {before})"
            lock[kind][name] = pinned
            print(f"{name}: {pinned['revision']} of {pinned['ref']}{change}")
    write_lock(lock, file)
    if problems:
        raise InputError(problems)


def look_up(api: Any, kind: str, name: str, ref: str) -> Pin:
    """Returns {"ref": ref, "revision": commit of ref} for the model or data set `name`; `kind` is one of KINDS.

    If a model has no safetensors at `ref`, the newest open pull request with safetensors takes the place of `ref`. Only
    pull requests by CONVERTER, the hub's own account, count. Raises InputError if there is none, or if the hub cannot
    answer.
    """
    repo_type = {"models": "model", "datasets": "dataset"}[kind]
    sha, files = _commit(api, name, repo_type, ref)
    if kind == "datasets" or any(file.endswith(".safetensors") for file in files):
        return {"ref": ref, "revision": sha}
    for conversion in _conversions(api, name):
        sha, files = _commit(api, name, repo_type, conversion)
        if any(file.endswith(".safetensors") for file in files):
            return {"ref": conversion, "revision": sha}
    raise InputError(
        f"{name} has no safetensors weights at {ref}, and the hub's {CONVERTER} offers no conversion; "
        "name another model, since pickle weights are never loaded"
    )


def named_assets() -> Iterator[tuple[str, str]]:
    """Yields (kind, hub id) of every model and data set on the hub that conf/ names; kind is "models" or "datasets"."""
    for file in (CONF / "config.yaml", *sorted((CONF / "scale").glob("*.yaml"))):
        groups = (_content(file).get(key) or {} for key in ("models", "reward_models"))
        yield from (("models", path) for group in groups for path in group.values() if is_hub_id(path))
    for file in sorted((CONF / "data").glob("*.yaml")):
        path = _content(file).get("path")
        if isinstance(path, str) and is_hub_id(path):
            yield "datasets", path


def _content(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def write_lock(lock: dict[str, dict[str, Pin]], file: Path) -> None:
    """Writes `lock`, {kind: {hub id: entry}}, to `file`, and keeps the comments with which the file begins."""
    old = HEADER.match(file.read_text(encoding="utf-8"))
    lines = [old[0] if old else ""]
    for kind in KINDS:
        lines.append(f"{kind}:\n")
        for name, entry in lock[kind].items():
            entry = {"ref": entry.get("ref") or "main", "revision": entry.get("revision")}
            flow = yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, width=1000).strip()
            lines.append(f"  {name}: {flow}\n")
    write_text(file, "".join(lines))


def _commit(api: Any, name: str, repo_type: str, ref: str) -> tuple[str, list[str]]:
    try:
        info = api.repo_info(name, repo_type=repo_type, revision=ref)
    except Exception as error:  # the hub client raises errors of many types
        raise InputError(f"{name} at {ref} cannot be looked up: {first_line(error)}") from error
    return info.sha, [sibling.rfilename for sibling in info.siblings]


def _conversions(api: Any, name: str) -> list[str]:
    """Returns the refs of a model's open pull requests by CONVERTER, newest first; no other author is trusted."""
    try:
        refs = [
            (each.num, each.git_reference)
            for each in api.get_repo_discussions(name)
            if each.is_pull_request and each.author == CONVERTER and each.status == "open"
        ]
    except Exception as error:
        raise InputError(f"{name}: its pull requests cannot be listed: {first_line(error)}") from error
    return [ref or f"refs/pr/{number}" for number, ref in sorted(refs, reverse=True)]
