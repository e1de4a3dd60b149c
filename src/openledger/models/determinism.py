"""Arithmetic that gives the same bits again: what makes an index, a score or a replay checkable by somebody else.

Measured on x86-64 with AVX-512 (torch 2.13, MKL): in float32 with eager attention and one thread, logits and
gradients were bitwise the same in every process, and a sequence's logits did not depend on the batch it was in if it
had 16 tokens or more: shorter ones alone take other kernels on some processors. What must not depend on it is padded.
With two threads, sequences of fewer than about ten tokens and gradients came out with other last bits. So the
pinned path is one thread: run several processes where speed matters. Another kind of processor may round
differently; scores are quantised before they become integers for that reason.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass
class _Process:
    """How many bodies run pinned in this process, and the settings from before the first of them."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    inside: int = 0
    restore: Callable[[], None] = lambda: None


_PROCESS = _Process()


@contextmanager
def pinned(threads: int = 1) -> Iterator[None]:
    """Run the body with deterministic float32 arithmetic, and put every setting back afterwards.

    Inside: deterministic algorithms only, float32 as the default type, autocast off, no TF32, ``threads``
    intra-operation threads. Bodies may run side by side in several threads: what holds for the whole process is put
    back when the last of them ends.

    Args:
        threads: 1 gives the same bits on any number of cores; another number gives the same bits only
            where the same number is set.
    """
    with _PROCESS.lock:
        if _PROCESS.inside == 0:
            _PROCESS.restore = _pin()
        _PROCESS.inside += 1
    count = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.set_num_threads(count)
        with _PROCESS.lock:
            _PROCESS.inside -= 1
            if _PROCESS.inside == 0:
                _PROCESS.restore()


def _pin() -> Callable[[], None]:
    """Set what holds for the whole process; the returned function puts it back."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    default = torch.get_default_dtype()
    precision = torch.get_float32_matmul_precision()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")

    def restore() -> None:
        torch.set_float32_matmul_precision(precision)
        torch.set_default_dtype(default)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
        else:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace

    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    # Every tensor is written before it is read, so filling fresh memory would only cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    return restore
