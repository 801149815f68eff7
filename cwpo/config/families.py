"""Families of models, told by their names."""

FAMILIES = {"opt": "OPT", "qwen": "Qwen", "llama": "Llama"}


def family(model: str) -> str:
    """opt, qwen or llama from the last part of a model's name; that part, in lower case, for others."""
    last = model.rsplit("/", 1)[-1].lower()
    return next((key for key in FAMILIES if last.startswith(key)), last)
