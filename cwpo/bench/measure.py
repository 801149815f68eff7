"""Times training by cwpo and by TRL in three configurations (SIDES), and inference. Each run is a new process."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from cwpo.bench.workloads import WORKLOADS, Workload, file_pairs, model_config, random_pairs, words_tokenizer
from cwpo.data.batching import encode_pairs
from cwpo.errors import CwpoError, Problem
from cwpo.models.policy import load_tokenizer
from cwpo.runtime import pick_device
from cwpo.store.store import git_commit, package_versions

TRL = ("trl_default", "trl_best", "trl_kept")
SIDES = ("cwpo", *TRL)
TUNED = ("trl_best", "trl_kept")
DEFAULT_MICRO = 8  # pairs in a micro-batch of TRL's default configuration
AGREE = 1e-4  # largest relative difference between cwpo's and TRL's losses that is allowed


class BenchmarkError(CwpoError, RuntimeError):
    """Raised if a measuring process fails, or if cwpo and TRL compute different losses."""


def compare(name: str, cfg: Any, say: Callable[[str], None]) -> pd.DataFrame:
    """Trains workload `name` with each of cfg.sides; returns a row per run. BenchmarkError if the losses disagree."""
    workload = WORKLOADS[name]
    sides = [side for side in cfg.sides if side not in TRL or importlib.util.find_spec("trl")]
    if len(sides) < len(cfg.sides):
        say("trl is not installed, so only cwpo runs; pip install 'trl==1.16.*'")
    with tempfile.TemporaryDirectory() as folder:
        job, tokens = set_up(workload, cfg, Path(folder), cfg.pairs[name])
        batch = min(cfg.batch_size, cfg.pairs[name])
        job |= {"batch_size": batch}
        if any(side in TRL for side in sides):
            shallow = job | {"shape": job["shape"] | {"num_hidden_layers": 2}}
            difference = run_side(shallow | {"side": "losses"})["difference"]
            say(f"{name}: the losses of cwpo and TRL differ by {difference:.1e} (relative)")
            if not difference < AGREE:
                raise BenchmarkError(f"{name}: cwpo's and TRL's losses differ by {difference:.1e}, more than {AGREE:g}")
        micro = dict.fromkeys(TUNED, _best_micro(name, job, cfg, say)) if {*TUNED} & {*sides} else {}
        peak = run_side(job | {"side": "matmul"})["peak_flops"]
        rows = []
        for repeat in range(cfg.repeats):
            for side in sides:
                done = run_side(job | {"side": side, "micro": micro.get(side)})
                rows.append({"workload": name, "side": side, "repeat": repeat, "micro": micro.get(side)} | done)
                say(
                    f"{name}: run {repeat + 1} of {cfg.repeats}, {side}: {done['seconds']:.1f} s, {done['peak_memory_mb']:.0f} MiB"
                )
    table = pd.DataFrame(rows)
    return table.assign(
        pairs=cfg.pairs[name],
        batch_size=batch,
        useful_tokens=tokens["useful"],
        tokens_per_second=tokens["useful"] / table["seconds"],
        share_of_matmul_peak=tokens["operations"] * batch / cfg.pairs[name] / table["step_seconds"] / peak,
        **machine(cfg),
    )


def _best_micro(name: str, job: dict[str, Any], cfg: Any, say: Callable[[str], None]) -> int:
    """Returns the micro-batch size (in pairs) with which TRL is fastest: one in cfg.trl_micro up to the batch size."""
    sizes = [size for size in cfg.trl_micro if size <= job["batch_size"]]
    if len(sizes) == 1:
        return sizes[0]
    tried = {size: run_side(job | {"side": "trl_best", "micro": size})["seconds"] for size in sizes}
    say(f"{name}: TRL's micro-batches: " + ", ".join(f"{k} pairs {v:.1f} s" for k, v in tried.items()))
    return min(sizes, key=lambda size: tried[size])


def inference(name: str, cfg: Any, say: Callable[[str], None]) -> pd.DataFrame:
    """Times sampling by cwpo and by transformers, and scoring by cwpo, with the model of a workload; returns a row."""
    with tempfile.TemporaryDirectory() as folder:
        job, tokens = set_up(WORKLOADS[name], cfg, Path(folder), cfg.pairs[name])
        row = run_side(job | {"side": "inference", "prompts": cfg.prompts, "new_tokens": cfg.new_tokens})
    row |= {"workload": name, "prompts": min(cfg.prompts, cfg.pairs[name]), "new_tokens": cfg.new_tokens}
    row["scored_tokens_per_second"] = tokens["useful"] / row["scoring_seconds"]
    row["times_transformers"] = row["sampling_seconds"] / row["transformers_sampling_seconds"]
    say(
        f"{name}: sampling {row['sampling_seconds']:.2f} s, {row['times_transformers']:.2f} times transformers' own; "
        f"scoring {row['scored_tokens_per_second']:,.0f} tokens/s"
    )
    return pd.DataFrame([row]).assign(**machine(cfg))


def machine(cfg: Any) -> dict[str, Any]:
    """Returns columns that say where the numbers come from: device, versions of torch and transformers, git commit."""
    import torch

    cuda = pick_device(cfg.device) == "cuda"
    name = torch.cuda.get_device_name() if cuda else _processor()
    threads = cfg.threads or os.cpu_count()
    versions = package_versions()
    return {
        "device": name if cuda else f"{name}, {threads} thread{'s' * (threads != 1)}",
        "torch": versions["torch"],
        "transformers": versions["transformers"],
        "git_commit": git_commit(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def set_up(workload: Workload, cfg: Any, folder: Path, count: int) -> tuple[dict[str, Any], dict[str, float]]:
    """Writes a tokenizer and `count` pairs to `folder`. Returns a job for run_side, and the size of one epoch.

    The size is {"useful": number of tokens, "operations": number of floating-point operations}; see _operations.
    """
    given = cfg.tokenizer is not None and workload.shape["vocab_size"] > 50_000
    tokenizer = load_tokenizer(cfg.tokenizer) if given else words_tokenizer(workload.shape["vocab_size"])
    pairs = (
        file_pairs(cfg.data, tokenizer, count, workload.longest)
        if given and cfg.data
        else random_pairs(workload, count)
    )
    (folder / "pairs.json").write_text(json.dumps(pairs), encoding="utf-8")
    tokenizer.save_pretrained(folder / "tokenizer")
    rows = encode_pairs(tokenizer, *([pair[name] for pair in pairs] for name in ("prompt", "chosen", "rejected")))
    responses = sum(len(row[f"{side}_ids"]) - row["chosen_start"] for row in rows for side in ("chosen", "rejected"))
    useful = responses + sum(row["chosen_start"] for row in rows)
    job = {
        "folder": str(folder / "out"),
        "tokenizer": str(folder / "tokenizer"),
        "shape": workload.shape,
        "lora": workload.lora,
        "dtype": workload.dtype if pick_device(cfg.device) == "cuda" else "float32",
        "pairs": str(folder / "pairs.json"),
        "threads": cfg.threads or os.cpu_count(),
        "device": cfg.device,
        "token_budget": cfg.token_budget,
    }
    return job, {"useful": useful, "operations": _operations(workload, useful, responses)}


def _operations(workload: Workload, useful: int, responses: int) -> float:
    """Returns the floating-point operations of weight matrices in one epoch: 6 per weight and token, or 4 with LoRA.

    A multiply-add counts as two operations. The output layer runs on response tokens only. `useful`: number of tokens
    of prompts and responses, each prompt counted once per pair; `responses`: number of tokens of responses.
    """
    config = model_config(workload.shape)
    width = config.hidden_size
    body = config.num_hidden_layers * (4 * width**2 + 2 * width * config.ffn_dim)
    return (4 if workload.lora else 6) * (body * useful + width * workload.shape["vocab_size"] * responses)


def run_side(job: dict[str, Any]) -> dict[str, Any]:
    """Runs cwpo.bench.sides on a job in a new process; returns the numbers that it writes. BenchmarkError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        path, answer = (Path(folder) / f"{name}.json" for name in ("job", "answer"))
        path.write_text(json.dumps(job | {"answer": str(answer)}), encoding="utf-8")
        environment = os.environ | {
            "OMP_NUM_THREADS": str(job["threads"]),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }
        command = [sys.executable, "-m", "cwpo.bench.sides", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise BenchmarkError(f"{job['side']} failed: {lines[-1]}")
        return json.loads(answer.read_text(encoding="utf-8"))


def _micro_problems(cfg: Any) -> Iterator[Problem]:
    size = cfg.batch_size
    fitting = [micro for micro in cfg.trl_micro if micro <= size]
    uneven = [micro for micro in (*fitting, min(DEFAULT_MICRO, size)) if size % micro]
    if cfg.trl_micro and not fitting:
        yield Problem("trl_micro", f"trl_micro={list(cfg.trl_micro)} has no size up to batch_size={size}; add one")
    elif uneven:
        yield Problem(
            "batch_size",
            f"batch_size={size} is not a multiple of TRL's micro-batches of {uneven[0]} pairs; set another batch_size",
        )


def problems(cfg: Any) -> Iterator[Problem]:
    """Yields a Problem for each benchmark setting that is missing, wrong or in conflict with another."""
    for name in dict.fromkeys([*cfg.workloads, *cfg.inference]):
        if name in WORKLOADS and name not in cfg.pairs:
            yield Problem(f"pairs.{name}", f"pairs.{name} is required: set +pairs.{name}=...")
    if cfg.workloads and cfg.batch_size > 0 and all(micro > 0 for micro in cfg.trl_micro):
        yield from _micro_problems(cfg)
    if cfg.data is not None and not Path(cfg.data).is_file():
        yield Problem("data", f"data={cfg.data} is not a file of pairs")
    elif cfg.data is not None and cfg.tokenizer is None:
        yield Problem(
            "data",
            f"data={cfg.data} needs a tokenizer: set tokenizer=<folder or hub id of one with about 50,000 tokens>",
        )
