"""Recognises families of models by name."""

HEAD_SIZE = 16  # dimension of an attention head in the synthetic world's models
FAMILIES = {"opt": "OPT", "qwen": "Qwen", "llama": "Llama"}


def last_part(model: str) -> str:
    """Returns the last part of a hub id or path, which may end in a slash."""
    return model.rstrip("/").rsplit("/", 1)[-1]


def family(model: str) -> str:
    """Returns "opt", "qwen" or "llama" if the last part of `model` begins with it, else that part in lower case."""
    last = last_part(model).lower()
    return next((key for key in FAMILIES if last.startswith(key)), last)
