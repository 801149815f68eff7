"""What cwpo's worker uses of vllm, on transformers: the same classes, arguments and results, for tiny models on a CPU."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

if os.environ.get("STANDIN_FAILS"):  # before all that takes time
    raise RuntimeError("CUDA out of memory")

import torch
from transformers import AutoModelForCausalLM


@dataclass
class SamplingParams:
    """Arguments and bounds as vllm's; others are a TypeError."""

    temperature: float = 1.0
    top_k: int = -1
    max_tokens: int = 16
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    detokenize: bool = True

    def __post_init__(self) -> None:
        assert self.seed is None or -(2**63) <= self.seed < 2**63


@dataclass
class CompletionOutput:
    token_ids: tuple[int, ...]
    finish_reason: str


@dataclass
class RequestOutput:
    outputs: list[CompletionOutput]


class LLM:
    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        max_model_len: int | None = None,
        load_format: str = "auto",
        trust_remote_code: bool = False,
        generation_config: str = "auto",
        seed: int = 0,
    ) -> None:
        assert load_format == "safetensors" and generation_config == "vllm" and not trust_remote_code
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        self.context = max_model_len
        if os.environ.get("STANDIN_NOTE"):
            note = {"dtype": dtype, "max_model_len": max_model_len, "parent": os.getppid(), "pid": os.getpid()}
            with open(os.environ["STANDIN_NOTE"], "w", encoding="utf-8") as stream:
                json.dump(note, stream)

    def generate(self, prompts: list[dict], params: list[SamplingParams]) -> list[RequestOutput]:
        return [RequestOutput([self._one(p["prompt_token_ids"], s)]) for p, s in zip(prompts, params)]

    @torch.no_grad()
    def _one(self, ids: list[int], settings: SamplingParams) -> CompletionOutput:
        generator = torch.Generator().manual_seed(settings.seed % 2**62)
        drawn: list[int] = []
        while len(drawn) < settings.max_tokens:
            assert self.context is None or len(ids) + len(drawn) <= self.context
            logits = self.model(input_ids=torch.tensor([[*ids, *drawn]])).logits[0, -1].float()
            if settings.top_k > 0:
                logits[logits < logits.topk(settings.top_k).values[-1]] = float("-inf")
            chances = torch.softmax(logits / settings.temperature, dim=-1)
            drawn.append(int(torch.multinomial(chances, 1, generator=generator)))
            if drawn[-1] in settings.stop_token_ids:
                return CompletionOutput(tuple(drawn), "stop")
        return CompletionOutput(tuple(drawn), "length")
