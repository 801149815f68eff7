"""Samples with vLLM, faster than sample_responses, in a separate process and Python environment.

The processes exchange JSON lines. Samples have the same distribution as those of sample_responses. Equal seeds still
give different samples, because vLLM draws its own noise. The default dtype, bfloat16, rounds the logits.
"""

import functools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from cwpo.data.encoding import Text, encode_prompts, sampled
from cwpo.errors import InputError
from cwpo.models.adapters import is_adapters
from cwpo.models.policy import export

WORKER = Path(__file__).with_name("vllm_worker.py")
LOOK = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"


class EngineFailed(RuntimeError):
    """vLLM failed, or did not answer every prompt."""


@functools.cache
def vllm_problem(python: str | None) -> str | None:
    """Returns why `python`, the interpreter that generation.engine=vllm starts, cannot run vLLM; None if it can."""
    if python is None:
        return "generation.engine=vllm needs generation.python=<path to the Python of an environment that has vllm>"
    program = shutil.which(os.path.expanduser(python))
    if program is None:
        return f"generation.python={python} is no program; name the Python of an environment that has vllm"
    try:
        code = subprocess.run([program, "-c", LOOK], capture_output=True, timeout=60, check=False).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"generation.python={python} cannot be run: {error}"
    if code:
        return f"generation.python={python} has no vllm; pip install vllm there, or use generation.engine=transformers"
    return None


def sample_by_vllm(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Text],
    seeds: Sequence[int],
    *,
    temperature: float,
    max_new_tokens: int,
    context: int | None,
    python: str,
    top_k: int = 0,
    dtype: str = "bfloat16",
) -> list[dict[str, Any]]:
    """Samples a response to each prompt from the checkpoint in `folder`. Returns the dicts of `encoding.sampled`.

    vLLM reserves memory for the longest prompt + `max_new_tokens`, but for no more than `context` tokens (None: no
    limit). Raises InputError if `python` has no vllm, and EngineFailed, with the path of the log, if vllm fails.
    """
    problem = vllm_problem(python)
    if problem:
        raise InputError(problem)
    ids = encode_prompts(tokenizer, prompts)
    place = Path(tempfile.mkdtemp(prefix="cwpo-vllm-"))
    if is_adapters(folder):
        export(folder, folder := place / "model", "float32")
    file = place / "answers.jsonl"
    longest = max(map(len, ids)) + max_new_tokens  # contexts of 131,072 tokens may not fit beside the weights
    requests = [{"ids": row, "seed": seed >> 1} for row, seed in zip(ids, seeds, strict=True)]  # vllm takes 63 bits
    (place / "prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in requests), encoding="utf-8")
    job = {
        "model": str(folder),
        "dtype": dtype,
        "context": min(longest, context or longest),
        "temperature": temperature,
        "top_k": top_k or -1,  # vllm's value for "all tokens"
        "max_new_tokens": max_new_tokens,
        "eos": tokenizer.eos_token_id,
        "prompts": str(place / "prompts.jsonl"),
        "answers": str(file),
    }
    (place / "job.json").write_text(json.dumps(job), encoding="utf-8")
    with (place / "log.txt").open("wb") as log:
        words = [str(shutil.which(os.path.expanduser(python))), str(WORKER), str(place / "job.json")]
        code = subprocess.run(words, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    answers = [json.loads(line) for line in file.open(encoding="utf-8")] if file.is_file() else []
    if code or len(answers) != len(prompts):
        log_lines = (place / "log.txt").read_text(errors="replace").strip().splitlines() or ["its log is empty"]
        raise EngineFailed(
            f"vllm answered {len(answers)} of {len(prompts)} prompts: {log_lines[-1]}; log: {place / 'log.txt'}"
        )
    shutil.rmtree(place)
    return sampled(tokenizer, prompts, ids, [_tokens(answer, tokenizer.eos_token_id) for answer in answers])


def _tokens(answer: dict[str, Any], eos: int) -> tuple[list[int], bool]:
    """Returns the sampled tokens without EOS, and whether EOS came. EngineFailed if vllm stopped for another reason."""
    ids, finish = answer["ids"], answer["finish"]
    if finish not in ("stop", "length"):
        raise EngineFailed(f"vllm ended a response with finish_reason {finish}; use generation.engine=transformers")
    while ids and ids[-1] == eos:
        ids = ids[:-1]
    return ids, finish == "stop"
