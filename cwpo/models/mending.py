"""Repairs a model before training: dropout, 16-bit weights, and generation settings that cannot be saved."""

from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import GenerationConfig

from cwpo.models.heads import without_adapters
from cwpo.models.row_attention import NARROW


def float32_masters(model: nn.Module) -> str | None:
    """Widens trainable 16-bit weights to float32, so that AdamW's small updates are not rounded away.

    Frozen weights are widened too, except in a PEFT model, where they keep their dtype. Returns a message for the user,
    or None if no trainable weight has 16 bits.
    """
    narrow = [p for p in model.parameters() if p.requires_grad and p.dtype in NARROW]
    if not narrow:
        return None
    dtype = str(narrow[0].dtype).removeprefix("torch.")
    if hasattr(model, "get_base_model"):
        for parameter in narrow:
            parameter.data = parameter.data.float()
    else:
        model.float()
    return (
        f"the model's trainable weights are {dtype}, which rounds small updates away: they are trained in float32 now; "
        "bf16=True in the training arguments computes in bfloat16 with float32 weights"
    )


def dropout_off(model: nn.Module) -> dict[str, float]:
    """Sets all dropout, and noise of expert routers, in the model, its adapters and its config to 0. Returns {name: old
    rate} for those above 0."""
    was_on: dict[str, float] = {}

    def switch_off(owner: Any, name: str, shown: str) -> None:
        rate = getattr(owner, name)
        if rate > 0:
            was_on[shown] = rate
            setattr(owner, name, 0.0)

    for path, module in model.named_modules():
        if isinstance(module, _DropoutNd):
            switch_off(module, "p", path.rpartition(".")[2])
        for name in dropout_names(module):
            switch_off(module, name, name)
    for name in dropout_names(model.config):
        if not name.startswith(("classifier", "summary")):  # these belong to heads that a language model does not have
            switch_off(model.config, name, name)
    return was_on


def drops_attention(config: Any) -> bool:
    """Whether the config sets dropout of attention weights to more than 0."""
    return any(getattr(config, name) > 0 for name in dropout_names(config) if "att" in name)


def dropout_names(owner: Any) -> list[str]:
    """Returns the names of a module's or config's attributes that hold a dropout rate, such as `resid_pdrop`, or the size
    of the noise that a router of experts adds in training."""
    numbers = {name: value for name, value in vars(owner).items() if isinstance(value, (int, float))}
    # PhiMoE's router reads this one in evaluation too, so 0 would change its log-probs
    kept = {"router_jitter_noise"} if type(owner).__name__.startswith("Phimoe") else set()
    rates = [name for name, value in numbers.items() if not isinstance(value, bool) and name not in kept]
    return [name for name in rates if "drop" in name or "jitter" in name]


def mend_generation_config(model: nn.Module) -> None:
    """Repairs the model's generation settings if they contradict each other, so that save_pretrained can save them.

    Some published models set a temperature but not do_sample. save_pretrained rejects this combination if any setting
    was changed, so do_sample is switched on. If contradictions remain, all settings but the special tokens are dropped.
    """
    inner = without_adapters(model)
    settings = getattr(inner, "generation_config", None)
    if settings is None or _is_valid(settings):
        return
    settings.do_sample = True
    if not _is_valid(settings):
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        inner.generation_config = GenerationConfig(**{name: getattr(settings, name) for name in names})


def _is_valid(settings: GenerationConfig) -> bool:
    try:
        settings.validate(strict=True)
    except ValueError:
        return False
    return True
