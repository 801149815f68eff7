"""What stages read that follows from other keys of the configuration."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from cwpo.config import CONF, DataConfig

WORLD = "world/"


def derived_config(cfg: DictConfig, look: bool = True) -> dict[str, Any]:
    """The configuration as plain containers, with what follows from it and without settings that nothing reads.

    Added: world_version (None without the synthetic world), weak, strong and their revisions, holdout, tokenizers and
    max_tokens. With look=False the last two leave the models' own limits out, and no checkpoint is looked at.
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    uses_world = cfg.data.source == "world" or any(
        m.startswith(WORLD) for m in (cfg.pair.weak, cfg.pair.strong)
    )
    if uses_world:
        from cwpo.data.toy import WORLD_VERSION

        plain["world_version"] = WORLD_VERSION
    else:
        plain["world_version"] = None
    plain |= {
        f"{who}{part}": plain["pair"][f"{who}{part}"]
        for who in ("weak", "strong")
        for part in ("", "_revision")
    }
    plain["holdout"] = cfg.gold.holdout if cfg.gold.name == "trained" else 0.0
    plain["tokenizers"], plain["max_tokens"] = _token_limits(cfg) if look else ([], cfg.data.max_tokens)
    if plain["method"]["selection"]["kind"] == "all":
        plain["method"]["selection"]["value"] = None

    if plain["method"]["equal_steps"]:
        for part in ("sft", "alignment"):
            plain[part]["epochs"] /= plain["method"]["selection"]["value"]

    if cfg.online.reward != "reward_model":
        plain["online"] |= {"reward_model": None, "reward_revision": None}
    return plain


def other_data(cfg: DictConfig) -> dict[str, Any]:
    """The config of the data set labeled.other, sized and sourced as the arm's own."""
    file = OmegaConf.load(CONF / "data" / f"{cfg.labeled.other}.yaml")
    own = {key: cfg.data[key] for key in ("source", "pairs", "test_pairs", "test_fraction", "max_tokens")}
    plain: Any = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(DataConfig), file, own))
    return plain


def _token_limits(cfg: DictConfig) -> tuple[list[list[str | None]], int]:
    """The tokenizers that every pair must fit, and the longest sequence that fits both models, in tokens."""
    tokenizers: list[list[str | None]] = []
    limits = [cfg.data.max_tokens]
    for path, revision in (
        (cfg.pair.weak, cfg.pair.weak_revision),
        (cfg.pair.strong, cfg.pair.strong_revision),
    ):
        if path.startswith(WORLD):
            continue  # its texts are short and its tokenizer is the world's own
        from cwpo.models.policy import context_length

        limits.append(context_length(path, revision) or cfg.data.max_tokens)
        if [path, revision] not in tokenizers:
            tokenizers.append([path, revision])
    return tokenizers, min(limits)
