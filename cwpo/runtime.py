"""Settings of a process: threads, memory, device, quiet libraries.

None of them is part of a stage's key in the store.
"""

import ctypes
import functools
import gc
import os
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from cwpo.errors import InputError

PRECISIONS = ("float32", "bfloat16")
NATIVE = "native"
PICKED = "CWPO_PICKED_DEVICE"  # environment variable: the GPU that CUDA_VISIBLE_DEVICES has been narrowed to
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
STAND_IN = "adamw_torch"  # replaces optimisers of bitsandbytes

Item = TypeVar("Item")
Result = TypeVar("Result")


def use_threads(threads: int) -> None:
    """Sets the number of CPU threads of this process. On a busy small machine one thread is far faster than two."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["MKL_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)


def in_threads(function: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Returns function(item) for each item, in order. `threads` calls run at a time; torch uses one CPU thread in each.

    Gradients and CPU autocast are on or off in these threads as in the calling thread.
    """
    import torch

    own, dtype = torch.get_num_threads(), torch.get_autocast_dtype("cpu")
    gradients, narrow = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")

    def here(item: Item) -> Result:
        with torch.set_grad_enabled(gradients), torch.autocast("cpu", dtype=dtype, enabled=narrow):
            return function(item)

    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as crew:
            return list(crew.map(here, items))
    finally:
        torch.set_num_threads(own)


def spin_briefly() -> None:
    """Makes waiting threads of libgomp (torch's thread library on Linux) give up their core soon.

    Call it before torch is loaded. By default a waiting thread keeps its core busy. On a shared machine this core may
    be the one that the awaited thread needs. On two cores beside two busy processes, the same work in two threads took
    7.7 s by default and 3.5 s with this setting.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def keep_freed_memory() -> None:
    """Makes glibc, where it is the allocator, keep freed blocks for reuse as long as this process lives.

    By default glibc returns large blocks to the system and gets them back page by page, filled with zeros. This takes a
    fifth of the time of training a model of 10^8 parameters on CPUs, where every step takes and frees the same blocks.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_MAX, 0)


def quiet_libraries() -> None:
    """Turns off the progress bars and the advice of libraries; their errors are still shown."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def stay_loaded() -> None:
    """Speeds up a process that trains many small models: garbage collection skips all objects that exist now.

    Without this, the full collection at the end of every training would scan the loaded libraries.
    """
    import transformers.trainer  # noqa: F401
    from accelerate import accelerator, optimizer

    # accelerate looks for the package lomo on the disk in every step; many steps here take only 5 ms
    for module in (accelerator, optimizer):
        module.is_lomo_available = functools.cache(module.is_lomo_available)
    gc.collect()
    gc.freeze()


@contextmanager
def rare_collections() -> Iterator[None]:
    """Makes garbage collection rare inside the block: for code that makes many small objects and keeps most of them."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 50, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def pick_device(name: str) -> str:
    """Returns "cuda", "mps" or "cpu"; "auto" picks the first that exists. Raises InputError for a missing device.

    For "cuda:<number>" it returns "cuda" and hides all other GPUs from this process and its children.
    """
    if name == "cpu":
        return name
    import torch

    if name != "auto":
        kind, _, number = name.partition(":")
        if os.environ.get(PICKED) == name:  # this process, or the one that started it, has picked it before
            return kind
        there = torch.backends.mps.is_available() if kind == "mps" else torch.cuda.device_count() > int(number or 0)
        if not there:
            raise InputError(f"device={name} is not there: torch finds no such device; use device=auto or device=cpu")
        if number:  # transformers trains on the first GPU that it sees
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu_names()[int(number)]
            os.environ[PICKED] = name
        return kind
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def gpu_names() -> list[str]:
    """Returns the names of the GPUs that this process may use: those in CUDA_VISIBLE_DEVICES, else "0", "1", ..."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return (named.split(",") if named else [str(number) for number in range(count)])[:count]


def free_memory(device: str) -> None:
    """Frees the GPU memory that this process no longer uses; does nothing on CPUs.

    A model trained in 16 bits refers to itself, so it stays until garbage is collected. And torch keeps the memory of
    freed tensors, which other processes on this GPU then lack: vLLM, other workers, and those that `launch` starts.
    """
    if device != "cpu":
        from accelerate.utils.memory import clear_device_cache

        clear_device_cache(garbage_collection=True)


def peak_memory_mb() -> float:
    """Returns the peak resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def products_in(precision: str, device: str) -> str:
    """Returns the dtype of matrix products: `precision`, unless it is "native".

    "native" is "bfloat16" on a CPU that multiplies bfloat16 in hardware, and "float32" elsewhere.
    """
    if precision != NATIVE:
        return precision
    import torch

    capable = torch.cpu.get_capabilities() if device == "cpu" else {}
    return "bfloat16" if capable.get("avx512_bf16") or capable.get("amx_bf16") else "float32"


@contextmanager
def computing_in(precision: str, device: str) -> Iterator[None]:
    """Computes matrix products in `precision` (see products_in) inside the block. Weights keep their dtype."""
    precision = products_in(precision, device)
    if precision == "float32":
        yield
        return
    import torch

    with torch.autocast(device.partition(":")[0], dtype=getattr(torch, precision)):
        yield


@contextmanager
def label_precision(device: str) -> Iterator[None]:
    """Lets CUDA compute float32 products in TF32 inside the block, to score pairs; on other devices nothing changes.

    TF32 flips at most 1 label in 1,000; bfloat16 flips 10 times as many (measured in tests/models/test_precision.py).
    """
    with float32_products(exact=False) if device.startswith("cuda") else nullcontext():
        yield


@contextmanager
def float32_products(*, exact: bool) -> Iterator[None]:
    """Makes torch compute float32 products in float32 inside the block; if not `exact`, in TF32 on GPUs that have it.

    Of torch's two interfaces for this, uses the one that the process has used before, because mixing them is an error.
    """
    import torch

    setting: Callable[[str], None] = torch.set_float32_matmul_precision
    try:
        before, value = torch.get_float32_matmul_precision(), "highest" if exact else "high"
    except RuntimeError:  # TF32 was turned on through torch.backends, as by TrainingArguments(tf32=True)
        products: Any = torch.backends.cuda.matmul
        before, value = products.fp32_precision, "ieee" if exact else "tf32"
        setting = functools.partial(setattr, products, "fp32_precision")
    setting(value)
    try:
        yield
    finally:
        setting(before)


def optimizers() -> list[str]:
    """Returns the names of the optimisers that transformers has."""
    from transformers.training_args import OptimizerNames  # slow to import

    return [optimizer.value for optimizer in OptimizerNames]


def needs_bitsandbytes(optimizer: str) -> bool:
    """Whether `optimizer`, a name in transformers, is an AdamW of bitsandbytes."""
    return "adamw" in optimizer and any(word in optimizer for word in ("paged", "8bit", "bnb"))


def stand_in(optimizers: Iterable[str], device: str, sharded: bool = False) -> str | None:
    """Returns a message that names the `optimizers` that plain AdamW replaces on this device; None if there is none."""
    named = sorted({name for name in optimizers if optimizer_on(device, name, sharded) != name})
    why = "no CUDA device" if not device.startswith("cuda") else "the model is sharded"
    return f"{why}: {STAND_IN} stands in for {', '.join(named)}" if named else None


def optimizer_on(device: str, optimizer: str, sharded: bool = False) -> str:
    """Returns the name of the optimiser to use on this device: `optimizer`, or plain AdamW if that cannot run here.

    The optimisers of bitsandbytes need CUDA and unsharded weights.
    """
    able = device.startswith("cuda") and not sharded
    return STAND_IN if needs_bitsandbytes(optimizer) and not able else optimizer
