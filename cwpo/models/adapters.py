"""Checkpoints that hold LoRA adapters only and name the frozen base model under the adapters.

Beside PEFT's own two files lies base.json (BASE). This file, not PEFT's config, says where the base model is and gives
the adapters' r, alpha and target layers. If the base is in the same store, its path is relative to the folder of the
adapters, so that the store can be moved.
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

IN_STORE = "../../../"  # from <store>/<stage>/<key>/model to the store


@dataclass(frozen=True)
class Base:
    """A frozen base model, loaded in `dtype`: a hub id `path` and its commit `revision`, or a folder `path`.

    `content`: a hash of the files of a folder outside the store, else None.
    """

    path: str
    revision: str | None
    content: str | None
    dtype: str

    @staticmethod
    def of(path: str | Path, revision: str | None, dtype: str, out: Path) -> "Base":
        """Returns the Base for the model at `path`; its adapters will be written to the folder `out`."""
        folder = Path(path).expanduser()
        if not folder.is_dir():
            return Base(str(path), revision, None, dtype)
        folder = folder.resolve()
        if folder.parts[:-3] == out.resolve().parts[:-3] and (folder.parent / MANIFEST).is_file():
            return Base(IN_STORE + "/".join(folder.parts[-3:]), None, None, dtype)
        return Base(str(folder), None, fingerprint(folder), dtype)

    def found_from(self, adapters: Path) -> str:
        """Returns the base's hub id or resolved folder. Raises InputError if that folder is missing or has changed."""
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
    """Whether the folder at `path` holds adapters that cwpo trained."""
    return (Path(path).expanduser() / BASE).is_file()


def base_of(adapters: str | Path) -> Base:
    """Returns the base model that base.json in the folder `adapters` names. Raises InputError if it cannot be read."""
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
    """Returns the content of base.json: {"base": the fields of Base, "lora": arguments r, alpha, targets of add_lora}.

    Raises InputError if the file is missing or damaged.
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
