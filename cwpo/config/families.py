"""Recognises families of models by name."""

FAMILIES = {"opt": "OPT", "qwen": "Qwen", "llama": "Llama"}


def family(model: str) -> str:
    """Returns "opt", "qwen" or "llama" if the last part of the path begins with it, else that part in lower case."""
    last = model.rsplit("/", 1)[-1].lower()
    return next((key for key in FAMILIES if last.startswith(key)), last)
