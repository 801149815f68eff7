"""Which files a model on the hub has at a revision, or which of them are cached. Fetches no weights."""

from __future__ import annotations

from pathlib import Path

from cwpo.config.hub import asked_once

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@asked_once
def repo_files(path: str, revision: str | None, kind: str = "model") -> tuple[str, ...] | None:
    """Names of the files of the model or, with kind="dataset", data set `path`; offline, of those in the cache. None where neither can be had."""
    from huggingface_hub import HfApi, constants, snapshot_download

    try:
        if not constants.is_offline_mode():
            return tuple(HfApi().list_repo_files(path, repo_type=kind, revision=revision))
        folder = Path(snapshot_download(path, repo_type=kind, revision=revision, local_files_only=True))
    except Exception:  # the hub client raises many kinds; what it says of a config is told elsewhere
        return None
    return tuple(sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()))


def weights_problem(path: str, revision: str | None, key: str) -> str | None:
    """Why the model's weights cannot be loaded here, as far as the names of its files tell, or None."""
    files = repo_files(path, revision)
    if files is None or any(name.endswith(".safetensors") for name in files):
        return None
    at = f"{key}={path} at revision {revision or 'main'}"
    pickles = [name for name in files if name.endswith(PICKLES)]
    if pickles:
        return (
            f"{at} has only pickle weights ({', '.join(pickles[:3])}), which can run code when loaded; python scripts/lock_assets.py "
            "finds the hub's own conversion to safetensors, where there is one"
        )
    return f"{at} has no *.safetensors weights, or the cache has only part of it; fetch the whole revision"
