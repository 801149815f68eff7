"""Computes the values that stages read but no configuration key sets."""

from dataclasses import asdict
from typing import Any

from omegaconf import OmegaConf

from cwpo.config.assets import locked_revision, named_models, published_path
from cwpo.config.schema import CONF, JUDGE_SETTINGS, Config, DataConfig

WORLD = "world/"
# Version of how texts are read, chosen, scored and tokenized outside the synthetic world; raise it when that changes.
TEXT_VERSION = 6
# Settings that only published data sets use. Data of the synthetic world always have these values.
PUBLISHED = {"layout": None, "turns": "all", "length_rule": "longer_pair", "test_prompts": "any"}
SHOWN = ("gold", "paper_counts")  # settings of a data set that no stage reads
# The settings that a choice of these sections reads. A choice that is not listed, such as a user's own, reads all.
READ: dict[str, dict[str, tuple[str, ...]]] = {
    "weighting": dict.fromkeys(("uniform", "c1", "c2"), ("name", "normalize", "permute")),
    "objective": dict.fromkeys(("dpo", "ipo"), ("name", "beta", "average_logps")),
    "gold": {
        "oracle": ("name", *JUDGE_SETTINGS),
        "judge": ("name", "temperature", *JUDGE_SETTINGS),
        "openai": ("name", "model", "asks", "prompt_file", *JUDGE_SETTINGS),
    },
}


def derived_config(cfg: Config, look: bool = True) -> dict[str, Any]:
    """Returns `cfg`, a result of `settled`, as dicts and lists. Adds, at the top level, values that no setting gives.

    world_version is None if data, weak and strong model are all real. text_version is None if all models are of the
    synthetic world. holdout is 0 unless gold=trained. weak, strong, their revisions and strong_chat are those of
    `pair`, but strong_chat is False for a synthetic model. _token_limits gives tokenizers, max_tokens and context;
    look=False reads no checkpoint and sets tokenizers=[], max_tokens=data.max_tokens and context=None. With
    method.equal_steps, more epochs make up for the pairs that are not selected. Settings that no stage reads are left
    out, null or defaults.
    """
    from cwpo.data.toy import WORLD_VERSION

    plain, pair = asdict(cfg), cfg.pair
    uses_world = cfg.data.source == "world" or any(m.startswith(WORLD) for m in (pair.weak, pair.strong))
    models = [path for key, (path, _) in named_models(cfg).items() if key != "embedding.path"]
    tokenizers, max_tokens, context = _token_limits(cfg) if look else ([], cfg.data.max_tokens, None)
    plain |= {
        **{name: getattr(pair, name) for name in ("weak", "strong", "weak_revision", "strong_revision")},
        "strong_chat": pair.strong_chat and not pair.strong.startswith(WORLD),
        "world_version": WORLD_VERSION if uses_world else None,
        "text_version": None if all(path.startswith(WORLD) for path in models) else TEXT_VERSION,
        "data": _read_of(plain["data"]),
        "holdout": cfg.gold.holdout if cfg.gold.name == "trained" else 0.0,
        "tokenizers": tokenizers,
        "max_tokens": max_tokens,
        "context": context,
    }
    selection = plain["method"]["selection"]
    if selection["kind"] == "all":
        selection["value"] = None
    if cfg.method.equal_steps:
        own_sft = ("sft",) if cfg.method.sft_labels == "own" else ()  # else SFT learns from all pairs anyway
        for part in (*own_sft, "alignment"):
            plain[part]["epochs"] /= selection["value"]
    if cfg.online.reward != "reward_model":
        plain["online"] |= {"reward_model": None, "reward_revision": None, "reward_chat": False}
    return plain | _unread(cfg, plain)


def _unread(cfg: Config, plain: dict[str, Any]) -> dict[str, Any]:
    """Returns the sections of `plain` with settings that the choices of `cfg` do not use, here with their defaults."""
    names = {section: plain[section]["name"].partition("_")[0] for section in READ}  # c1 of c1_permuted
    used = {section: READ[section][name] for section, name in names.items() if name in READ[section]}
    if not cfg.lora.enabled:
        used["lora"] = ("enabled",)
    defaults = asdict(Config())
    return {section: defaults[section] | {key: plain[section][key] for key in keys} for section, keys in used.items()}


def other_data(cfg: Config) -> dict[str, Any]:
    """Returns the settings of data set labeled.other; source, sizes, length limits and turns are those of cfg.data."""
    file = OmegaConf.load(CONF / "data" / f"{cfg.labeled.other}.yaml")
    shared = ("source", "pairs", "test_pairs", "test_fraction", "max_tokens", "length_rule", "turns")
    own = {key: getattr(cfg.data, key) for key in shared}
    plain: Any = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(DataConfig), file, own))
    if plain["source"] == "hub":
        locked = locked_revision("datasets", plain["path"])
        if plain["path"] == published_path(cfg.data.name):  # the same hub data set: read from the same place
            plain |= {"path": cfg.data.path, "revision": cfg.data.revision}
        plain["revision"] = plain["revision"] or locked
    return _read_of(plain)


def _read_of(data: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of a data set, `data`, that stages read; with source=world, with the values in PUBLISHED."""
    younger = () if data["positive"] is not None else ("positive",)  # null is left out: older store keys stay valid
    kept = {key: value for key, value in data.items() if key not in (*SHOWN, *younger)}
    return kept | (PUBLISHED if data["source"] == "world" else {})


def _token_limits(cfg: Config) -> tuple[list[list[str | bool | None]], int, int | None]:
    """Returns (tokenizers, max_tokens, context). The tokenizers measure how long pairs are.

    A tokenizer is [model, revision], or [model, revision, True] with its chat template. With length_rule=longer_pair,
    max_tokens bounds whole sequences, so it is at most the smallest context length of the models, and context is None.
    With another rule, max_tokens is data.max_tokens, which bounds something else, for example characters. Then context
    is the smallest context length, or None if no model has one.
    """
    pair = cfg.pair
    specs: list[list[Any]] = [[pair.weak, pair.weak_revision], [pair.strong, pair.strong_revision]]
    specs[1] += [True] if pair.strong_chat else []
    tokenizers, limits = [], []
    for spec in specs:
        if spec[0].startswith(WORLD):
            continue  # its texts are short and its tokenizer is the world's own
        from cwpo.models.policy import context_length

        limit = context_length(*spec[:2])
        limits += [] if limit is None else [limit]
        tokenizers += [spec] if spec not in tokenizers else []
    if cfg.data.length_rule != "longer_pair" and cfg.data.source != "world":
        return tokenizers, cfg.data.max_tokens, min(limits, default=None)
    return tokenizers, min([cfg.data.max_tokens, *limits]), None
