"""One side of the benchmark in a process of its own, so that its peak memory is its own: `python -m cwpo.bench.sides JOB`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from cwpo.data.batching import encode_pairs
from cwpo.models.packed import score_pairs
from cwpo.models.policy import add_lora, load_policy, load_tokenizer
from cwpo.runtime import keep_freed_memory, peak_memory_mb, pick_device, quiet_libraries, use_threads

BETA = 0.1
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
# Table 8, without its warm-up, which is as long as the whole curve.
PAPER: dict[str, Any] = {
    "learning_rate": 5e-6,
    "lr_scheduler_type": "cosine",
    "weight_decay": 0.05,
    "activation_checkpointing": True,
}
# TRL 1.16 as it comes but for the dtype, which is the same on both sides; with everything in it that makes it faster; and
# the same in a process that keeps freed memory, as cwpo's trainer makes its own do on CPUs.
TRL_SIDES: dict[str, dict[str, Any]] = {
    "trl_default": {"per_device_train_batch_size": 8},
    "trl_best": {
        "precompute_ref_log_probs": True,
        "train_sampling_strategy": "group_by_length",
        "remove_unused_columns": False,  # else the column of lengths is gone before it is read
        "gradient_checkpointing": False,
    },
}
KEPT = "trl_kept"
TRL_SIDES[KEPT] = TRL_SIDES["trl_best"]


def cwpo_trainer(job: dict[str, Any], model: Any, pairs: list[dict[str, Any]]) -> Any:
    """PreferenceTrainer on the job's weighted pairs."""
    from transformers import TrainingArguments

    from cwpo.training.preference import PreferenceTrainer

    args = TrainingArguments(
        output_dir=job["folder"],
        per_device_train_batch_size=job["batch_size"],
        use_cpu=job["device"] == "cpu",
        bf16=job["dtype"] == "bfloat16",
        **COMMON | (PAPER | {"max_steps": job["steps"]} if job["side"] == "curve" else {}),
    )
    return PreferenceTrainer(
        model=model,
        args=args,
        train_dataset=pairs,
        processing_class=load_tokenizer(job["model"]),
        objective="dpo",
        beta=0.5 if job["side"] == "curve" else BETA,
        token_budget=job["token_budget"],
    )


def trl_trainer(job: dict[str, Any], model: Any, pairs: list[dict[str, Any]], reference: Any = None) -> Any:
    """TRL's DPOTrainer on the same pairs; with LoRA it switches the adapter off for the reference."""
    import datasets
    import trl

    micro = job.get("micro") or TRL_SIDES[job["side"]].get("per_device_train_batch_size", 8)
    micro = min(micro, job["batch_size"])
    settings: dict[str, Any] = TRL_SIDES[job["side"]] | {
        "per_device_train_batch_size": micro,
        "precompute_ref_batch_size": micro,
        "gradient_accumulation_steps": job["batch_size"] // micro,
    }
    args = trl.DPOConfig(
        output_dir=job["folder"],
        beta=BETA,
        max_length=None,
        use_cpu=job["device"] == "cpu",
        bf16=job["dtype"] == "bfloat16",
        **COMMON,
        **settings,
    )
    tokenizer = load_tokenizer(job["model"])
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


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of one epoch, of the reference's log-probs where they are computed beforehand, and peak memory in MiB."""
    use_threads(job["threads"])
    quiet_libraries()
    if job["side"] == KEPT:
        keep_freed_memory()
    device = pick_device(job["device"])
    if job["side"] == "matmul":
        return {"peak_flops": matmul_flops(device, job["dtype"])}
    pairs = json.loads(Path(job["pairs"]).read_text(encoding="utf-8"))
    weights = job.get("weights") or [1.0] * len(pairs)
    pairs = [pair | {"weight": weight} for pair, weight in zip(pairs, weights, strict=True)]
    model = load_policy(job["model"], device=device)
    if job["lora"]:
        model = add_lora(model, r=8, alpha=16, dropout=0.0)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = peak_memory_mb()
    started = time.perf_counter()
    trainer = (trl_trainer if job["side"] in TRL_SIDES else cwpo_trainer)(job, model, pairs)
    prepared = time.perf_counter()
    result = trainer.train()
    seconds = time.perf_counter() - prepared
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = peak_memory_mb()
    curve = [row for row in trainer.state.log_history if "loss" in row]
    return {
        **(
            {"curve": curve, "parameters": sum(p.numel() for p in model.parameters())}
            if job["side"] == "curve"
            else {}
        ),
        "seconds": seconds,
        "preparation_seconds": prepared - started,
        "peak_memory_mb": peak,
        "loaded_memory_mb": before,
        "loss": result.training_loss,
    }


def losses_agree(job: dict[str, Any]) -> float:
    """Largest relative difference of the two sides' losses on four pairs, under a reference that differs from the model."""
    use_threads(job["threads"])
    quiet_libraries()
    pairs = json.loads(Path(job["pairs"]).read_text(encoding="utf-8"))[:4]
    tokenizer = load_tokenizer(job["model"])
    model, reference = (load_policy(job["model"]).eval() for _ in range(2))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                torch.randn_like(parameter) * 0.1 * parameter.std() if parameter.numel() > 1 else 0
            )
    rows = encode_pairs(tokenizer, *([p[name] for p in pairs] for name in ("prompt", "chosen", "rejected")))
    chosen, rejected = score_pairs(reference, rows, tokenizer.pad_token_id)
    weighted = [
        pair | {"weight": 1.0, "chosen_logp": c, "rejected_logp": r}
        for pair, c, r in zip(pairs, chosen.tolist(), rejected.tolist(), strict=True)
    ]
    plain = job | {"device": "cpu", "dtype": "float32", "token_budget": None, "batch_size": 4}
    ours = cwpo_trainer(plain, model, weighted)
    theirs = trl_trainer(plain | {"side": "trl_default", "micro": 1}, model, pairs, reference)
    with torch.no_grad():
        own = ours.row_losses(model, ours.data_collator([ours.train_dataset[i] for i in range(len(pairs))]))
        other = torch.stack(
            [theirs.compute_loss(model, theirs.data_collator([row])) for row in theirs.train_dataset]
        )
    return float(((own - other) / other).abs().max())


def matmul_flops(device: str, dtype: str, size: int = 2048, repeats: int = 8) -> float:
    """Operations a second of a square matrix product: what this machine can do at best, one multiply-add being two."""
    a, b = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        (a @ b)[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answer = {"difference": losses_agree(given)} if given["side"] == "losses" else run(given)
    Path(given["answer"]).write_text(json.dumps(answer), encoding="utf-8")
