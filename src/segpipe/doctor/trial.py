"""One member, built and trained for a few updates with the project's own code, in a process of its own.

    python -m segpipe.doctor.trial MEMBER SECONDS PASSES

reads params.yaml of the current folder and prints one JSON object a line: `{"at": ...}` as it goes on, at the end
`{"measured": ...}` or `{"error": ...}`. Writes nothing but temporary files.
"""

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from segpipe.data.dataset import EpochBatches, make_loader
from segpipe.data.prepared import Prepared
from segpipe.data.store import PackedArrays, PackedWriter
from segpipe.doctor.extent import PREPARED, Extent, network_size, prepared_fits, read_extent
from segpipe.doctor.machine import read_machine
from segpipe.doctor.measured import Measured, Spread
from segpipe.doctor.memory import peak_memory
from segpipe.doctor.trainee import Clocked, Trainee
from segpipe.models.build import architecture
from segpipe.models.checkpoint import STAGES_OF_TRAINING, Segmenter, new_segmenter
from segpipe.params import MemberParams, Params, load_params
from segpipe.training.engine import pseudo_per_batch, usable_precisions
from segpipe.training.job import labeled_part

SLOW = 3.0  # an update that takes this many times the seconds of a pass is measured once
AHEAD = 3  # a loader this many times as fast as the model cannot be the limit
LOADS = 20  # batches of a pass that only loads: one alone takes milliseconds


@dataclass(frozen=True)
class Images:
    """Training images in stores: the prepared ones, or noise of the same size."""

    images: PackedArrays
    targets: PackedArrays
    indices: Sequence[int]
    source: str
    padded_to: tuple[int, int] | None  # height, width to which smaller images get a margin

    def short_epoch(self, params: MemberParams, updates: int) -> DataLoader:
        """The real loader over as many images as `updates` take."""
        count = updates * params.train.batch_size
        indices = list(itertools.islice(itertools.cycle(self.indices), count))
        parts = [labeled_part(self.images, self.targets, indices, params, self.padded_to)]
        return make_loader(parts, EpochBatches(parts, params.seed), params.train.workers)


def measure(params: Params, name: str, seconds: float, passes: int, scratch: Path) -> Measured:
    """Measure member `name`; each pass takes about `seconds`, and at least one update.

    Raises ValueError for a member that cannot be built.
    """
    member, extent = params.member(name), read_extent(params)
    if extent is None:
        raise ValueError(
            f"{params.data.root}: no sound data to take image size and classes from; run `dvc repro prepare`"
        )
    description = architecture(member.model, extent.num_classes)
    say("building")
    segmenter = new_segmenter(description).to(memory_format=torch.channels_last)
    gmac = forward_gmac(segmenter, network_size(params, extent))
    images = open_images(params, extent, member, scratch)
    batch = next(iter(images.short_epoch(member, 1)))
    ours = member.train.precision
    say(f"{ours}: memory and first updates")
    trainees: dict[str, Trainee] = {ours: Trainee(segmenter, member, ours)}
    batch = trainees[ours].fabric.to_device(batch)
    memory, rate = peak_memory(trainees[ours], segmenter, batch)
    for precision in [name for name in ("fp32", "bf16") if name in usable_precisions() and name != ours]:
        say(f"{precision}: first updates")
        fresh = new_segmenter(description).to(memory_format=torch.channels_last)
        trainees[precision] = Trainee(fresh, member, precision)
        trainees[precision].rate([batch] * 2, 1, 1)
    update_seconds = member.train.batch_size / rate
    passes = passes if update_seconds < SLOW * seconds else 1
    updates = max(round(seconds / update_seconds), 1)
    rates = alternate(trainees, images, batch, updates, passes)
    return Measured(
        member=name,
        architecture=f"{description['arch']} on {description['encoder']}",
        image_size=tuple(batch[0].shape[-2:]),
        batch_size=member.train.batch_size,
        precision=ours,
        threads=member.train.threads,
        workers=member.train.workers,
        device=trainees[ours].fabric.device.type,
        source=images.source,
        **parameter_counts(segmenter),
        gmac=gmac,
        memory=memory,
        retrain_images=member.train.batch_size + pseudo_per_batch(member),
        # the chosen weights and those of three earlier times, of both rounds
        checkpoints=memory.weights * (1 + len(STAGES_OF_TRAINING)) * 2 * len(params.split.train_folds),
        data=Spread.of(rates["data"]),
        model={precision: Spread.of(rates[f"{precision} model"]) for precision in trainees},
        both={precision: Spread.of(rates[f"{precision} both"]) for precision in trainees},
        more_threads=on_all_cores(trainees[ours], batch, updates, passes),
        updates=updates,
        passes=passes,
    )


def alternate(
    trainees: dict[str, Trainee], images: Images, batch: Any, updates: int, passes: int
) -> dict[str, list[float]]:
    """Rates of every pass by what was timed. The kinds take turns, so that a busy neighbour disturbs them alike."""
    rates: dict[str, list[float]] = {}
    member = next(iter(trainees.values())).params
    for number in range(1, passes + 1):
        say(f"pass {number} of {passes}: data only")
        loads = max(updates, LOADS)
        loading = loading_rate(images, member, loads)
        rates.setdefault("data", []).append(loading)
        for precision, trainee in trainees.items():
            say(f"pass {number} of {passes}: {precision}, model only")
            learning = trainee.rate([batch] * (updates + 1), updates, 1)
            rates.setdefault(f"{precision} model", []).append(learning)
            say(f"pass {number} of {passes}: {precision}, data and model")
            # what loader processes hold ready when the clock starts would flatter them, where they are the limit
            skip = 1 + (2 * member.train.workers if loading < AHEAD * learning else 0)
            loader = images.short_epoch(member, updates + skip)
            rates.setdefault(f"{precision} both", []).append(trainee.rate(loader, updates, skip))
    return rates


def on_all_cores(trainee: Trainee, batch: Any, updates: int, passes: int) -> Spread | None:
    """The model alone with a thread for each core; None where train.threads says just that, or a GPU does the work."""
    cores = read_machine().threads
    if trainee.fabric.device.type != "cpu" or cores == trainee.params.train.threads:
        return None
    say(f"{cores} threads, model only")
    torch.set_num_threads(cores)
    return Spread.of([trainee.rate([batch] * (updates + 1), updates, 1) for _ in range(passes)])


def loading_rate(images: Images, params: MemberParams, loads: int) -> float:
    """Images per second of `loads` batches that nobody trains on."""
    skip = 1 + 2 * params.train.workers
    clocked = Clocked(images.short_epoch(params, loads + skip), loads + skip, skip)
    for _ in clocked:
        pass
    return loads * params.train.batch_size / (time.perf_counter() - clocked.started)


def open_images(params: Params, extent: Extent, member: MemberParams, scratch: Path) -> Images:
    """The first fold's training images where prepared data fit params.yaml, else a few of noise in `scratch`."""
    if prepared_fits(params, PREPARED):
        fold = params.split.train_folds[0]
        prepared = Prepared(PREPARED, fold=fold)
        train = prepared.folds[fold].train
        source = f"training images of fold {fold}"
        return Images(prepared.images, prepared.target_store(train), train, source, prepared.image_size)
    height, width = network_size(params, extent)
    generator, count = np.random.default_rng(0), 2 * member.train.batch_size
    with PackedWriter(scratch / "images") as images, PackedWriter(scratch / "targets") as targets:
        for _ in range(count):
            images.add(generator.integers(0, 256, (height, width, 3), np.uint8))
            # coarse blocks: every class in a batch, as in annotations
            blocks = generator.integers(0, extent.num_classes, (height // 16 + 1, width // 16 + 1), np.uint8)
            targets.add(np.kron(blocks, np.ones((16, 16), np.uint8))[:height, :width])
    source = "images of noise (no prepared data fit params.yaml)"
    return Images(PackedArrays(scratch / "images"), PackedArrays(scratch / "targets"), range(count), source, None)


def forward_gmac(segmenter: nn.Module, size: tuple[int, int]) -> float:
    """1e9 multiply-accumulates of one image's forward pass; torch counts each as two operations."""
    segmenter.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        segmenter(torch.zeros(1, 3, *size, dtype=torch.uint8))
    return counter.get_total_flops() / 2 / 1e9


def parameter_counts(segmenter: Segmenter) -> dict[str, int]:
    """Numbers of trained values in the encoder, and in all that follows it."""
    encoder_layers = cast(nn.Module, segmenter.network.encoder)
    total = sum(parameter.numel() for parameter in segmenter.parameters())
    encoder = sum(parameter.numel() for parameter in encoder_layers.parameters())
    return {"encoder_parameters": encoder, "decoder_parameters": total - encoder}


def say(where: str) -> None:
    """A line of progress."""
    print(json.dumps({"at": where}), flush=True)


def main() -> None:
    """One member; what is wrong with it becomes one line, anything else keeps its traceback."""
    name, seconds, passes = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    try:
        with tempfile.TemporaryDirectory() as scratch:
            measured = measure(load_params(), name, seconds, passes, Path(scratch))
        print(json.dumps({"measured": measured.to_json()}), flush=True)
    except ValueError as error:
        print(json.dumps({"error": str(error)}), flush=True)
    except RuntimeError as error:  # of torch: its out-of-memory error is one, and on a CPU it has no type of its own
        if "memory" not in str(error):
            raise
        print(json.dumps({"error": f"out of memory: {error}"}), flush=True)


if __name__ == "__main__":
    main()
