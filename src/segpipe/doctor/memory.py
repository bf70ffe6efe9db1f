"""Memory that training takes, measured: of the process on a CPU, of the device on a GPU."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from segpipe.doctor.measured import Memory
from segpipe.doctor.trainee import Trainee


def peak_memory(trainee: Trainee, segmenter: torch.nn.Module, batch: Any) -> tuple[Memory, float]:
    """Memory at the peak of two updates, and the images per second of the second one.

    Two, because only the second finds the optimiser's state and the old gradients in memory beside its activations.
    """
    on_gpu = trainee.fabric.device.type == "cuda"
    weights = tensor_bytes([*segmenter.parameters(), *segmenter.buffers()])
    process = 0 if on_gpu else reset_peak() - weights
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    rate = trainee.rate([batch] * 2, 1, 1)
    peak = torch.cuda.max_memory_allocated() if on_gpu else process_memory("VmHWM")
    gradients = tensor_bytes(p.grad for p in segmenter.parameters() if p.grad is not None)
    optimizer = state_bytes(trainee.learner.optimizer)
    activations = max(peak - process - weights - gradients - optimizer, 0)
    return Memory(weights, gradients, optimizer, activations, process, peak), rate


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """What the optimiser keeps beside the weights: three values for each with MADGRAD, two with AdamW."""
    kept = (value for state in optimizer.state.values() if isinstance(state, dict) for value in state.values())
    return tensor_bytes(value for value in kept if torch.is_tensor(value))


def tensor_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of all tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def reset_peak() -> int:
    """Forget the process's peak of memory so far; return what it holds now, in bytes."""
    with contextlib.suppress(OSError):  # some containers forbid it; the peak then includes the imports, seldom more
        Path("/proc/self/clear_refs").write_text("5")
    return process_memory("VmRSS")


def process_memory(field: str) -> int:
    """`VmRSS` (now) or `VmHWM` (peak) of this process in bytes; unlike getrusage's peak, not the parent's."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no line {field}")
