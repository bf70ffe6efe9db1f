"""Lightning Fabric, all of it in one place: devices, precision, ranks, determinism, threads.

The loop is ours; what a swap of Fabric would change stands here.
"""

import math
import os
import shutil
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from segpipe.inference.ranks import num_nodes, start_fabric
from segpipe.params import MemberParams, TrainParams

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
T = TypeVar("T")


def check_engine(train: TrainParams) -> list[str]:
    """What of section `train` this machine or this launch cannot do, a line each with what would work."""
    problems = []
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus and train.devices > gpus:
        problems.append(f"train.devices: found {train.devices}; this machine has {gpus}: give 1 to {gpus}")
    launched = int(os.environ.get("LOCAL_WORLD_SIZE", train.devices))  # set by torchrun
    if launched != train.devices:
        problems.append(
            f"train.devices: found {train.devices}, but torchrun started {launched} processes on this machine; "
            "make both the same"
        )
    if train.precision not in usable_precisions():
        device, usable = "this GPU" if gpus else "this CPU", " or ".join(usable_precisions())
        problems.append(f"train.precision: found {train.precision}, which {device} cannot compute; give {usable}")
    compiler = os.environ.get("CXX", "g++")
    if train.compile and shutil.which(compiler) is None:
        problems.append(f"train.compile: found true, but there is no compiler {compiler}; install one, or give false")
    problems += _batch_problems(train, num_nodes())
    return problems


def _batch_problems(train: TrainParams, nodes: int) -> list[str]:
    """Whether each rank gets as many images in each of its passes, and two or more."""
    shared_by = {"train.devices": train.devices, "nodes": nodes, "train.accumulate": train.accumulate}
    parts = math.prod(shared_by.values())
    if train.batch_size % parts == 0 and train.batch_size // parts >= 2:
        return []
    advice = [f"train.batch_size {max(-(-train.batch_size // parts), 2) * parts}"]
    for key in ("train.devices", "train.accumulate"):
        others = parts // shared_by[key]
        fewer = [n for n in range(1, shared_by[key]) if train.batch_size % (n * others) == 0]
        if fitting := [str(n) for n in fewer if train.batch_size // (n * others) >= 2]:
            advice.append(f"{key} {' or '.join(fitting)}")
    # a lone node shares nothing and is no key of params.yaml
    where = f"{parts} parts ({' x '.join(key for key, n in shared_by.items() if key != 'nodes' or n > 1)})"
    if train.batch_size % parts:
        why = f"cannot be split evenly into {where}"
    else:
        why = f"leaves one image to each of {where}, and batch normalisation needs two"
    return [f"train.batch_size: found {train.batch_size}, which {why}; set {', or '.join(advice)}"]


def pseudo_per_batch(params: MemberParams) -> int:
    """Pseudo-labelled images in an update of the second round, beside `train.batch_size` labelled ones."""
    return round(params.train.batch_size * params.retrain.ratio)


def check_ratio(params: MemberParams, parts: int | None = None) -> list[str]:
    """What of retrain.ratio cannot be: no image, or not as many in each of an update's `parts` (None: of this launch).

    Says nothing where the labelled images cannot be split either: `check_engine` does.
    """
    train = params.train
    parts = parts or train.devices * num_nodes() * train.accumulate
    count = pseudo_per_batch(params)
    if train.batch_size % parts or (count > 0 and count % parts == 0):
        return []
    why = f"; they cannot be split evenly into {parts} parts (train.devices x train.accumulate)" if count else ""
    fitting = max(-(-count // parts), 1) * parts / train.batch_size
    return [
        f"retrain.ratio: found {params.retrain.ratio}, which makes {count} pseudo-labelled images of "
        f"{train.batch_size} labelled ones in an update{why}; set retrain.ratio {fitting:.4g}"
    ]


def usable_precisions() -> list[str]:
    """Those that this machine's GPU, or CPU where it has none, can train in."""
    if torch.cuda.is_available():
        return ["fp32", *(["bf16"] if torch.cuda.is_bf16_supported(including_emulation=False) else []), "fp16"]
    # what oneDNN's convolutions ask
    return ["fp32", *(["bf16"] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else [])]


def start_engine(params: TrainParams, seed: int) -> Fabric:
    """Fabric on `devices` GPUs, or as many CPU processes where there is none, with torch's threads and seed set.

    With more than one device this process starts the others, unless torchrun did. The thread count is a parameter
    because sums over another number of threads round otherwise. Fabric by itself would take every GPU.
    """
    torch.set_num_threads(params.threads)
    torch.manual_seed(seed)
    exact = params.deterministic or not torch.cuda.is_available()
    if exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when its first handle is made
    torch.use_deterministic_algorithms(exact, warn_only=True)
    torch.backends.cudnn.benchmark = not exact  # tries algorithms and takes the fastest, another one another time
    return start_fabric(params.devices, PRECISIONS[params.precision])


def split_batch(params: MemberParams, fabric: Fabric) -> int:
    """In how many parts an update's batch is computed: by each rank, in each of its accumulated passes."""
    return fabric.world_size * params.train.accumulate


def share_of(items: Sequence[T], fabric: Fabric) -> Sequence[T]:
    """This rank's items: all ranks together have each of them once."""
    return items[fabric.global_rank :: fabric.world_size]


def sum_over_ranks(array: np.ndarray, fabric: Fabric) -> np.ndarray:
    """The sum of every rank's int64 `array`, exact, on every rank."""
    if fabric.world_size == 1:
        return array
    total = fabric.all_reduce(fabric.to_device(torch.from_numpy(array)), reduce_op="sum")
    return total.cpu().numpy()


def mean_over_ranks(value: torch.Tensor, fabric: Fabric) -> torch.Tensor:
    """The mean of every rank's `value`."""
    return value if fabric.world_size == 1 else fabric.all_reduce(value, reduce_op="mean")


def align_buffers(module: nn.Module, fabric: Fabric) -> None:
    """Give every rank the buffers of the first: batch statistics differ, and only the first rank's are written."""
    if fabric.world_size > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0)


def scaler_state(fabric: Fabric) -> dict[str, Any]:
    """What fp16 keeps between updates; empty for other precisions."""
    return fabric.strategy.precision.state_dict()


def load_scaler_state(fabric: Fabric, state: dict[str, Any]) -> None:
    """The inverse of `scaler_state`."""
    if state:
        fabric.strategy.precision.load_state_dict(state)
