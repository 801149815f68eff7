"""Learning rates that follow the size of the model.

The paper's rates are for OPT-125M and larger. Smaller models need higher rates. The best measured rates are about 5e-4
for annotators of 10^4 to 10^6 parameters (the paper: 1e-5), and 1e-4 to 3e-4 for DPO (the paper: 5e-6).
"""

from pathlib import Path

PAPER_SIZE = 1.25e8  # parameters of the paper's smallest model
EXPONENT = 0.6
MOST = 50.0


def rate_for(paper: float, parameters: int) -> float:
    """Returns the paper's learning rate times clip((1.25e8 / parameters)^0.6, 1, 50), rounded to 2 digits."""
    factor = min(MOST, max(1.0, (PAPER_SIZE / max(1, parameters)) ** EXPONENT))
    return float(f"{paper * factor:.1e}")


def parameters_of(path: str | Path, revision: str | None = None) -> int:
    """Returns the number of parameters of a causal LM, from its config alone; no weights are read."""
    import torch
    from transformers import AutoModelForCausalLM

    from cwpo.models.policy import read_config

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(read_config(path, revision)).num_parameters()
