"""Measures cwpo or TRL in a process of its own, so that peak memory is right: `python -m cwpo.bench.sides JOB.json`."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, TrainerCallback

from cwpo.bench.annotation import annotate
from cwpo.bench.measure import DEFAULT_MICRO, TRL, TUNED
from cwpo.bench.workloads import model_config
from cwpo.data.batching import encode_pairs
from cwpo.models.packed import score_pairs
from cwpo.models.policy import add_lora, load_tokenizer
from cwpo.runtime import keep_freed_memory, peak_memory_mb, pick_device, quiet_libraries, use_threads

BETA = 0.1
WARM = 3  # first steps, which `steady` leaves out because they choose kernels and allocate memory
COMMON: dict[str, Any] = {
    "num_train_epochs": 1,
    "learning_rate": 1e-6,
    "lr_scheduler_type": "constant",
    "save_strategy": "no",
    "logging_steps": 1,
    "report_to": [],
    "disable_tqdm": True,
    "seed": 0,
}
# All options of TRL 1.16 that make it faster. trl_kept also keeps freed memory, as cwpo's trainer does on CPUs.
FASTEST: dict[str, Any] = {
    "precompute_ref_log_probs": True,
    "train_sampling_strategy": "group_by_length",
    "remove_unused_columns": False,  # else TRL drops the column of lengths before it reads it
    "gradient_checkpointing": False,
}


class StepTimes(TrainerCallback):
    """Measures the seconds between the ends of successive optimiser steps. On a GPU, CUDA events avoid any waiting."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        self.marks: list[Any] = []

    def _mark(self, *_: Any, **__: Any) -> None:
        if not self.cuda:
            self.marks.append(time.perf_counter())
            return
        self.marks.append(torch.cuda.Event(enable_timing=True))
        self.marks[-1].record()

    on_train_begin = on_step_end = _mark

    @property
    def seconds(self) -> list[float]:
        pairs = list(zip(self.marks, self.marks[1:]))
        if not self.cuda:
            return [after - before for before, after in pairs]
        torch.cuda.synchronize()
        return [before.elapsed_time(after) / 1000 for before, after in pairs]


def steady(seconds: list[float]) -> float:
    """Returns the median over the steps after the first WARM, or over all steps if there are no more than WARM."""
    return float(np.median(seconds[WARM:] or seconds))


def model_of(job: dict[str, Any], device: str) -> Any:
    """Returns the job's model in float32 (a LoRA base in the job's dtype), with the same weights in every process."""
    torch.manual_seed(0)
    dtype = getattr(torch, job["dtype"]) if job["lora"] else torch.float32
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(model_config(job["shape"]), dtype=dtype)
    return add_lora(model, r=8, alpha=16, dropout=0.0) if job["lora"] else model


def cwpo_trainer(job: dict[str, Any], model: Any, pairs: list[dict[str, Any]]) -> Any:
    """Returns cwpo's PreferenceTrainer on the job's pairs, each with weight 1."""
    from transformers import TrainingArguments

    from cwpo.training.preference import PreferenceTrainer

    args = TrainingArguments(
        output_dir=job["folder"],
        per_device_train_batch_size=job["batch_size"],
        use_cpu=job["device"] == "cpu",
        bf16=job["dtype"] == "bfloat16",
        **COMMON,
    )
    return PreferenceTrainer(
        model=model,
        args=args,
        train_dataset=[{"weight": 1.0} | pair for pair in pairs],
        processing_class=load_tokenizer(job["tokenizer"]),
        objective="dpo",
        beta=BETA,
        token_budget=job["token_budget"],
    )


def trl_trainer(job: dict[str, Any], model: Any, pairs: list[dict[str, Any]], reference: Any = None) -> Any:
    """Returns TRL's DPOTrainer on `pairs`. With LoRA and no `reference`, TRL uses the model with its adapters off."""
    import datasets
    import trl

    micro = min(job.get("micro") or DEFAULT_MICRO, job["batch_size"])
    args = trl.DPOConfig(
        output_dir=job["folder"],
        beta=BETA,
        max_length=None,
        per_device_train_batch_size=micro,
        precompute_ref_batch_size=micro,
        gradient_accumulation_steps=job["batch_size"] // micro,
        use_cpu=job["device"] == "cpu",
        bf16=job["dtype"] == "bfloat16",
        **COMMON,
        **(FASTEST if job["side"] in TUNED else {}),
    )
    tokenizer = load_tokenizer(job["tokenizer"])
    texts = {name: [pair[name] for pair in pairs] for name in ("prompt", "chosen", "rejected")}
    rows = encode_pairs(tokenizer, *texts.values())
    lengths = [max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows]
    trainer = trl.DPOTrainer(
        model=model,
        ref_model=reference,
        args=args,
        train_dataset=datasets.Dataset.from_dict(texts),
        processing_class=tokenizer,
    )
    trainer.train_dataset = trainer.train_dataset.add_column("length", lengths)  # what group_by_length reads
    return trainer


def train(job: dict[str, Any], device: str, pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """Trains one epoch; returns the seconds to build the trainer and to train, peak MiB, loss, number of parameters."""
    model = model_of(job, device)
    started = time.perf_counter()
    trainer = (trl_trainer if job["side"] in TRL else cwpo_trainer)(job, model, pairs)
    times = StepTimes(device)
    trainer.add_callback(times)
    prepared = time.perf_counter()
    result = trainer.train()
    seconds, steps = time.perf_counter() - prepared, times.seconds
    cuda = device.startswith("cuda")
    return {
        "seconds": seconds,
        "preparation_seconds": prepared - started,
        "step_seconds": steady(steps),
        "steps": " ".join(f"{step:.4g}" for step in steps),
        "peak_memory_mb": torch.cuda.max_memory_allocated() / 2**20 if cuda else peak_memory_mb(),
        "loss": result.training_loss,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


@torch.no_grad()
def infer(job: dict[str, Any], device: str, pairs: list[dict[str, Any]]) -> dict[str, float]:
    """Times three tasks: sampling by cwpo, sampling by transformers, scoring by cwpo. Returns each task's seconds and
    number of sampled tokens or scored pairs, and the number of parameters of the model."""
    from cwpo.models.generation import sample_responses

    model, tokenizer = model_of(job, device).eval(), load_tokenizer(job["tokenizer"])
    prompts, most = [pair["prompt"] for pair in pairs][: job["prompts"]], job["new_tokens"]
    texts = ([pair[name] for pair in pairs] for name in ("prompt", "chosen", "rejected"))
    rows, pad_id = encode_pairs(tokenizer, *texts), tokenizer.pad_token_id
    drawn = {"temperature": 0.95, "max_new_tokens": most}

    def ours() -> int:
        seeds = range(len(prompts))
        said = sample_responses(model, tokenizer, prompts, seeds, batch_size=len(prompts), **drawn)
        return sum(row["n_tokens"] for row in said)

    def theirs() -> int:
        tokenizer.padding_side = "left"
        ids = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False).to(device)
        settings = {"do_sample": True, "top_k": 0, "pad_token_id": pad_id}
        said = model.generate(**ids, eos_token_id=tokenizer.eos_token_id, **settings, **drawn)
        return (said.shape[1] - ids["input_ids"].shape[1]) * len(prompts)

    def scores() -> int:
        score_pairs(model, rows, pad_id, job["token_budget"])
        return len(rows)

    measured: dict[str, float] = {"parameters": sum(p.numel() for p in model.parameters())}
    for name, work in {"sampling": ours, "transformers_sampling": theirs, "scoring": scores}.items():
        seconds, measured[f"{name}_count"] = _timed(work, device)
        measured[f"{name}_seconds"] = seconds
    return measured


def _timed(work: Callable[[], int], device: str) -> tuple[float, int]:
    """Runs `work` twice; returns the seconds and the result of the second run."""
    for _ in range(2):
        started = time.perf_counter()
        done = work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
    return time.perf_counter() - started, done


def losses_agree(job: dict[str, Any], pairs: list[dict[str, Any]]) -> float:
    """Returns the largest relative difference of cwpo's and TRL's losses on 4 pairs. Policy and reference differ."""
    plain = job | {"device": "cpu", "dtype": "float32", "token_budget": None, "batch_size": 4, "lora": False}
    pairs, tokenizer = pairs[:4], load_tokenizer(job["tokenizer"])
    model, reference = (model_of(plain, "cpu").eval() for _ in range(2))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter) * 0.1
            parameter.add_(noise * parameter.std() if parameter.numel() > 1 else 0)
    rows = encode_pairs(tokenizer, *([p[name] for p in pairs] for name in ("prompt", "chosen", "rejected")))
    scores = (side.tolist() for side in score_pairs(reference, rows, tokenizer.pad_token_id))
    scored = [pair | {"chosen_logp": c, "rejected_logp": r} for pair, c, r in zip(pairs, *scores, strict=True)]
    ours = cwpo_trainer(plain, model, scored)
    theirs = trl_trainer(plain | {"side": "trl_default", "micro": 1}, model, pairs, reference)
    with torch.no_grad():
        own = ours.row_losses(model, ours.data_collator([ours.train_dataset[i] for i in range(len(pairs))]))
        other = torch.stack([theirs.compute_loss(model, theirs.data_collator([row])) for row in theirs.train_dataset])
    return float(((own - other) / other).abs().max())


def matmul_flops(device: str, dtype: str, size: int = 2048, repeats: int = 8) -> float:
    """Returns operations per second in the fastest of `repeats` size x size matrix products.

    A multiply-add counts as two operations.
    """
    a, b = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        (a @ b)[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Returns the numbers of the job's `side`: annotation, matmul, losses, inference, or training by cwpo or TRL."""
    use_threads(job["threads"])
    quiet_libraries()
    if job["side"] == "annotation":
        return annotate(Path(job["folder"]))
    if job["side"] == "trl_kept":
        keep_freed_memory()
    device = pick_device(job["device"])
    if job["side"] == "matmul":
        return {"peak_flops": matmul_flops(device, job["dtype"])}
    pairs = json.loads(Path(job["pairs"]).read_text(encoding="utf-8"))
    if job["side"] == "losses":
        return {"difference": losses_agree(job, pairs)}
    return (infer if job["side"] == "inference" else train)(job, device, pairs)


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(given["answer"]).write_text(json.dumps(run(given)), encoding="utf-8")
