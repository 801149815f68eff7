"""Values that stages read and that follow from other keys of the configuration."""

from dataclasses import asdict
from typing import Any

from omegaconf import OmegaConf

from cwpo.config.assets import published_path, read_lock
from cwpo.config.schema import CONF, Config, DataConfig

WORLD = "world/"
TEXT_VERSION = (
    2  # how texts become tokens and back, for models other than the world's; raise it when that changes
)
# Settings of published data sets only. Data of the synthetic world have these defaults.
PUBLISHED = {"layout": None, "turns": "all", "length_rule": "longer_pair", "test_prompts": "any"}
SHOWN = ("gold", "paper_counts")  # settings of a data set that no stage reads


def derived_config(cfg: Config, look: bool = True) -> dict[str, Any]:
    """A settled configuration as plain containers, with values that follow from it and without settings that no stage reads.

    Added: world_version (None without the synthetic world), text_version (None where all models are the world's), weak,
    strong, their revisions and strong_chat, holdout, tokenizers, max_tokens and context. With look=False the last three leave the models' own limits out, and no checkpoint
    is looked at.
    """
    plain = asdict(cfg)
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
    plain["text_version"] = None if all(name.startswith(WORLD) for name in _models(cfg)) else TEXT_VERSION
    plain["strong_chat"] = cfg.pair.strong_chat and not cfg.pair.strong.startswith(WORLD)
    plain["data"] = _read_of(plain["data"])
    plain["holdout"] = cfg.gold.holdout if cfg.gold.name == "trained" else 0.0
    plain["tokenizers"], plain["max_tokens"], plain["context"] = (
        _token_limits(cfg) if look else ([], cfg.data.max_tokens, None)
    )
    if plain["method"]["selection"]["kind"] == "all":
        plain["method"]["selection"]["value"] = None

    if plain["method"]["equal_steps"]:
        for part in ("sft", "alignment"):
            plain[part]["epochs"] /= plain["method"]["selection"]["value"]

    if cfg.online.reward != "reward_model":
        plain["online"] |= {"reward_model": None, "reward_revision": None, "reward_chat": False}
    return plain


def _models(cfg: Config) -> list[str]:
    """The models of a run: weak, strong, gold where it is one, and an online arm's reward model."""
    gold = cfg.gold.path if cfg.gold.name not in ("oracle", "judge", "openai") else None
    reward = cfg.online.reward_model if cfg.online.reward == "reward_model" else None
    return [name for name in (cfg.pair.weak, cfg.pair.strong, gold, reward) if name is not None]


def other_data(cfg: Config) -> dict[str, Any]:
    """The config of the data set labeled.other, sized and sourced as the arm's own, at its locked revision."""
    file = OmegaConf.load(CONF / "data" / f"{cfg.labeled.other}.yaml")
    shared = ("source", "pairs", "test_pairs", "test_fraction", "max_tokens", "length_rule", "turns")
    own = {key: getattr(cfg.data, key) for key in shared}
    plain: Any = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(DataConfig), file, own))
    if plain["source"] == "hub":
        entry = read_lock()["datasets"].get(plain["path"], {})
        if plain["path"] == published_path(cfg.data.name):  # it lies where the arm's own data lie
            plain |= {"path": cfg.data.path, "revision": cfg.data.revision}
        plain["revision"] = plain["revision"] or entry.get("revision") or entry.get("ref")
    return _read_of(plain)


def _read_of(data: dict[str, Any]) -> dict[str, Any]:
    """The settings of a data set that its stages read."""
    left_out = (
        SHOWN if data["positive"] is not None else (*SHOWN, "positive")
    )  # keys are as before it existed
    kept = {key: value for key, value in data.items() if key not in left_out}
    return kept | (PUBLISHED if data["source"] == "world" else {})


def _token_limits(cfg: Config) -> tuple[list[list[str | bool | None]], int, int | None]:
    """The tokenizers that every pair must fit, the longest sequence, in tokens, and the models' own limit beside it.

    By the usual rule the longest sequence fits both models; another rule bounds something else, so the models' limit stands
    on its own.
    """
    tokenizers: list[list[str | bool | None]] = []
    limits = []
    for path, revision, chat in (
        (cfg.pair.weak, cfg.pair.weak_revision, False),
        (cfg.pair.strong, cfg.pair.strong_revision, cfg.pair.strong_chat),
    ):
        if path.startswith(WORLD):
            continue  # its texts are short and its tokenizer is the world's own
        from cwpo.models.policy import context_length

        limits.append(context_length(path, revision) or cfg.data.max_tokens)
        spec = [path, revision, *([True] if chat else [])]
        if spec not in tokenizers:
            tokenizers.append(spec)
    if cfg.data.length_rule != "longer_pair" and cfg.data.source != "world":
        return tokenizers, cfg.data.max_tokens, min(limits, default=None)
    return tokenizers, min([cfg.data.max_tokens, *limits]), None
