"""Learning rates that follow the size of the model.

The paper's rates are for OPT-125M and larger. Smaller models want higher ones: measured best are about 5e-4 for annotators
of 10^4 to 10^6 parameters, where the paper has 1e-5, and 1e-4 to 3e-4 for DPO, where it has 5e-6.
"""

from pathlib import Path

PAPER_SIZE = 1.25e8  # parameters of the paper's smallest model
EXPONENT = 0.6
MOST = 50.0


def rate_for(paper: float, parameters: int) -> float:
    """The paper's learning rate times (1.25e8 / parameters)^0.6, between once and 50 times, to two digits."""
    factor = min(MOST, max(1.0, (PAPER_SIZE / max(1, parameters)) ** EXPONENT))
    return float(f"{paper * factor:.1e}")


def parameters_of(path: str | Path, revision: str | None = None) -> int:
    """The number of a causal LM's parameters. Reads its config and no weights."""
    import torch
    from transformers import AutoModelForCausalLM

    from cwpo.models.policy import read_config

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(read_config(path, revision)).num_parameters()
