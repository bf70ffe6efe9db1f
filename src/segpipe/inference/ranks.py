"""The processes that share one stage's work, as Lightning Fabric starts them, or torchrun did."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Ranks:
    """This process among those that share the work; `wait` returns when all of them have called it."""

    rank: int
    count: int
    device: torch.device
    wait: Callable[[], None]


def alone(device: torch.device) -> Ranks:
    """One process that shares nothing."""
    return Ranks(0, 1, device, lambda: None)


def num_nodes() -> int:
    """Machines that torchrun runs this stage on."""
    return int(os.environ.get("GROUP_WORLD_SIZE", 1))


def start_fabric(devices: int, precision: Literal["32-true", "bf16-mixed", "16-mixed"]) -> "Fabric":
    """Fabric on `devices` GPUs, or CPU processes where there is none; starts the others, unless torchrun did."""
    from lightning_fabric import Fabric  # takes a second, which one process that predicts need not wait for

    for greeting in ("distributed", "rank_zero"):  # who joins, and of how many; what goes wrong is told elsewhere
        logging.getLogger(f"lightning_fabric.utilities.{greeting}").setLevel(logging.WARNING)
    several = devices * num_nodes() > 1
    fabric = Fabric(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        devices=devices,
        num_nodes=num_nodes(),
        strategy="ddp" if several else "auto",
        precision=precision,
    )
    if several:
        fabric.launch()
    return fabric


def start_ranks(devices: int) -> Ranks:
    """`devices` processes, or as many as torchrun started, on no more GPUs than there are: the result is the same."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    devices = int(os.environ.get("LOCAL_WORLD_SIZE", min(devices, gpus) if gpus else devices))
    if devices * num_nodes() == 1:
        return alone(torch.device("cuda" if gpus else "cpu"))
    fabric = start_fabric(devices, "32-true")
    return Ranks(fabric.global_rank, fabric.world_size, fabric.device, fabric.barrier)
