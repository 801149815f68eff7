"""Reads and writes checkpoints that hold only LoRA adapters and name the frozen base model that the adapters change.

The folder of the adapters holds PEFT's two files and base.json (BASE). base.json, not PEFT's config, says where the
base model is, and gives r, alpha and target layers of the adapters. If the base is in the same store, its path is
relative to the folder of the adapters, so that the store can be moved.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cwpo.atomic import write_text
from cwpo.errors import InputError
from cwpo.models.folders import ADAPTER, BASE, TENSORS
from cwpo.models.heads import without_adapters
from cwpo.store.manifest import MANIFEST
from cwpo.store.store import fingerprint

IN_STORE = "../../../"  # from the adapters' folder <store>/<stage>/<key>/model to the store


@dataclass(frozen=True)
class Base:
    """Where a frozen base model is, and the dtype that it is loaded in, "float32" or "bfloat16".

    `path` is a folder, or a hub id with the commit `revision` (None: the branch main). `content` is a hash of the
    folder's files; it is None for a hub id and for a folder in the same store as the adapters.
    """

    path: str
    revision: str | None
    content: str | None
    dtype: str

    @staticmethod
    def of(path: str | Path, revision: str | None, dtype: str, out: Path) -> "Base":
        """Returns the Base of the model at `path`, for adapters that will be written to the folder `out`."""
        folder = Path(path).expanduser()
        if not folder.is_dir():
            return Base(str(path), revision, None, dtype)
        folder = folder.resolve()
        if folder.parts[:-3] == out.resolve().parts[:-3] and (folder.parent / MANIFEST).is_file():
            return Base(IN_STORE + "/".join(folder.parts[-3:]), None, None, dtype)
        return Base(str(folder), None, fingerprint(folder), dtype)

    def found_from(self, adapters: Path) -> str:
        """Returns the hub id or absolute folder of the base of the adapters in the folder `adapters`.
        Raises InputError if the base's folder is missing, or if its files no longer have the hash `content`."""
        if self.path.startswith(IN_STORE):
            folder = (adapters.resolve() / self.path).resolve()
        elif self.content is not None:
            folder = Path(self.path)
        else:
            return self.path
        if not folder.is_dir():
            raise InputError(f"the adapters in {adapters} belong to the model in {folder}, which is gone; put it back")
        if self.content is not None and fingerprint(folder) != self.content:
            raise InputError(
                f"the adapters in {adapters} belong to the model that was in {folder}; its files have changed since: put the old "
                "ones back, or train again"
            )
        return str(folder)


def is_adapters(path: str | Path) -> bool:
    """Whether `path` is a folder with LoRA adapters that cwpo trained."""
    return (Path(path).expanduser() / BASE).is_file()


def base_of(adapters: str | Path) -> Base:
    """Returns the Base that base.json in the folder `adapters` gives. Raises InputError if that file cannot be read."""
    return Base(**read_note(adapters)["base"])


def save_adapters(model: Any, base: Base, folder: Path) -> None:
    """Writes a PEFT model's adapters, its base's config and base.json to `folder`. Equal adapters give equal bytes."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    settings, inner = model.peft_config["default"], without_adapters(model)
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, folder / TENSORS)
    inner.config.save_pretrained(folder)
    shown = settings.to_dict() | {"base_model_name_or_path": base.path, "revision": base.revision}
    write_text(folder / ADAPTER, json.dumps(shown, indent=1, sort_keys=True, default=sorted) + "\n")  # sorts sets
    lora = {"r": settings.r, "alpha": settings.lora_alpha, "targets": sorted(settings.target_modules)}
    write_text(folder / BASE, json.dumps({"base": asdict(base), "lora": lora}, indent=1) + "\n")


def read_note(folder: str | Path) -> dict[str, Any]:
    """Returns the content of base.json in `folder`: {"base": fields of Base, "lora": r, alpha and targets of add_lora}.

    Raises InputError if base.json is missing or damaged.
    """
    file = Path(folder).expanduser() / BASE
    try:
        note = json.loads(file.read_text(encoding="utf-8"))
        Base(**note["base"]), note["lora"]["targets"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} cannot be read: {error!r}; the adapters in its folder need it: restore it, or train again"
        ) from error
    return note
