"""Lightning Fabric, set up in one place: device, precision, threads, seed."""

import torch
from lightning_fabric import Fabric

from segpipe.params import TrainParams

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}


def start_engine(params: TrainParams, seed: int) -> Fabric:
    """A Fabric on one device (its own default would take every GPU), with torch's threads and seed set.

    The thread count is a parameter because sums over another number of threads round otherwise.
    """
    torch.set_num_threads(params.threads)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    return Fabric(accelerator="auto", devices=1, precision=PRECISIONS[params.precision])
