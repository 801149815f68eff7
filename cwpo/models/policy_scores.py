"""Responses scored by a language model: by likelihood, or by the implicit reward of one trained by DPO (Eq. 17)."""

from collections.abc import Sequence

from torch import Tensor, nn

from cwpo.models.logprobs import score_sequences


def policy_scores(
    model: nn.Module,
    rows: Sequence[tuple[Sequence[int], int]],
    pad_id: int,
    *,
    reference: nn.Module | None = None,
    beta: float = 1.0,
) -> Tensor:
    """log pi(y|x) of (ids, start) rows, summed over response tokens; (N,), float64, in nats.

    With a `reference`, the implicit reward beta * [log pi(y|x) - log pi_ref(y|x)] instead, in logits.
    """
    scores = score_sequences(model, rows, pad_id).double()
    if reference is None:
        return scores
    return beta * (scores - score_sequences(reference, rows, pad_id).double())
