"""One training epoch with all that surrounds the network, as ratios.

All four train the same network (FPN on ResNet-18, the same initial weights), with the same images, loss, optimiser
(AdamW), batch size and augmentation (a mirror image), at 192x256, batch 8:

- naive: the loop of the contest's notebooks: fp32, no process, masks drawn from annotations in every `__getitem__`;
- competent: a plain PyTorch loop: two processes that stay, masks drawn once, channels last, bf16 where it is faster;
- segpipe: this pipeline's loop on prepared data, with its guard, clipping off;
- limit: forward, backward, step on a batch in memory, in segpipe's precision.

They take turns in one process; figures are medians of the ratios of one turn. Images are those of a COCO folder
(`--root` with `--list`), or drawn scenes of 480 px.

    PYTHONPATH=src python benchmarks/training.py
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from loops import competent_loader, naive_loader, plain_step, run_epoch
from torch.utils.data import DataLoader

from segpipe.data.augment import Augment
from segpipe.data.dataset import EpochBatches, make_loader
from segpipe.data.prepare.prepare import prepare
from segpipe.data.prepared import Prepared
from segpipe.data.sample.write import write_sample
from segpipe.models.build import architecture
from segpipe.models.checkpoint import Segmenter, new_segmenter
from segpipe.params import MemberParams, Params, load_params
from segpipe.training.engine import start_engine, usable_precisions
from segpipe.training.evaluate import Tune, evaluate
from segpipe.training.job import labeled_part
from segpipe.training.learner import Learner

FLIP = [{"HorizontalFlip": {"p": 0.5}}]
SIZE, BATCH = (192, 256), 8
COUNTS = {"seed": 2021, "train": 96, "val": 32, "test": 1, "unlabeled": 1, "judge": 1, "size": 480}


def settings(params: Params, precision: str) -> MemberParams:
    """Those of the default member, but for what is the same in all loops here."""
    raw = params.member(params.member_names[0]).model_dump(mode="python")
    raw["model"] |= {"arch": "smp.FPN", "encoder": "resnet18"}
    raw["model"]["dropout"] |= {"encoder": 0.0, "decoder": 0.0, "projection": 0.2}
    raw["optimizer"] |= {"name": "adamw", "lr": 1e-3}
    raw["scheduler"] |= {"name": "constant", "warmup_updates": 0}
    raw["augment"]["train"] = FLIP
    raw["train"] |= {"batch_size": BATCH, "precision": precision, "clip_norm": 0.0, "devices": 1, "accumulate": 1}
    return MemberParams.model_validate(raw)


def timed(action: Callable[[], int]) -> float:
    """Images per second."""
    start = time.perf_counter()
    return action() / (time.perf_counter() - start)


class Loops:
    """Each loop's epoch as a call that returns its number of images."""

    def __init__(self, root: Path, list_file: str, prepared: Prepared, member: MemberParams, competent_bf16: bool):
        self.member, num_classes = member, prepared.classes.num_classes
        self.fabric = start_engine(member.train, member.seed)
        torch.manual_seed(0)
        first = new_segmenter(architecture(member.model, num_classes))
        augment = Augment(FLIP, 0, "flip")
        self.naive_images = naive_loader(root, list_file, SIZE, augment, BATCH)
        self.competent_images = competent_loader(root, list_file, SIZE, augment, BATCH, workers=2)
        train = prepared.folds[0].train
        part = labeled_part(prepared.images, prepared.target_store(train), train, member, prepared.image_size)
        self.batches = EpochBatches([part], 0)
        self.own_images = make_loader([part], self.batches, member.train.workers)
        bf16 = member.train.precision == "bf16"
        self.naive_own, self.competent_own, alone = (self._copy(first, num_classes) for _ in range(3))
        self.competent_own.to(memory_format=torch.channels_last)
        alone.to(memory_format=torch.channels_last)
        plain, better = self.naive_own, self.competent_own
        self.naive_step = plain_step(plain, member, bf16=False, network=plain.network)
        self.competent_step = plain_step(better, member, bf16=competent_bf16, network=better.network)
        self.limit_step = plain_step(alone, member, bf16=bf16, network=alone)
        self.own = self._copy(first, num_classes).to(memory_format=torch.channels_last)
        self.learner = Learner(
            self.fabric,
            self.own,
            member,
            updates_per_epoch=self.batches.updates,
            epochs=100,
            num_labeled=BATCH,
            pseudo_weight=0.0,
        )
        self.in_memory = [next(iter(self.own_images))] * self.batches.updates

    def _copy(self, segmenter: Segmenter, num_classes: int) -> Segmenter:
        twin = new_segmenter(architecture(self.member.model, num_classes))
        twin.load_state_dict(segmenter.state_dict())
        return twin

    def naive(self) -> int:
        """The notebooks' epoch."""
        return run_epoch(self.naive_step, self.naive_images)

    def competent(self) -> int:
        """A plain loop's epoch."""
        return run_epoch(self.competent_step, self.competent_images, channels_last=True)

    def segpipe(self) -> int:
        """This pipeline's epoch."""
        self.batches.epoch += 1
        self.learner.start_epoch()
        count = 0
        for batch in self.own_images:
            self.learner.update([batch])
            count += len(batch[0])
        self.learner.mean_loss()
        return count

    def limit(self) -> int:
        """As many updates on one batch in memory."""
        return run_epoch(self.limit_step, self.in_memory)


def scoring_share(loops: Loops, prepared: Prepared) -> float:
    """Scoring of tune images at their own size, relative to the forward passes alone."""
    indices = prepared.folds[0].tune
    images = torch.stack([torch.from_numpy(prepared.images[i].transpose(2, 0, 1).copy()) for i in indices[:16]])

    def forwards() -> int:
        with torch.inference_mode():
            for _ in range(0, len(indices), 16):
                loops.own(images)
        return len(indices)

    def scored() -> int:
        evaluate(loops.own, Tune(prepared, indices, None))
        return len(indices)

    loops.own.eval()
    pairs = [(timed(forwards), timed(scored)) for _ in range(4)][1:]
    return statistics.median(forward / scoring for forward, scoring in pairs)


def loading(loader: DataLoader) -> float:
    """Images per second of one pass that trains nothing."""
    return timed(lambda: run_epoch(lambda *_: None, loader))


def measure(params: Params, root: Path, list_file: str, prepared: Prepared, turns: int, precision: str) -> None:
    """Print every turn and the medians."""
    loops = Loops(root, list_file, prepared, settings(params, precision), precision == "bf16")
    kinds = {"naive": loops.naive, "competent": loops.competent, "segpipe": loops.segpipe, "limit": loops.limit}
    rows = []
    for turn in range(turns + 1):
        row = {name: timed(action) for name, action in kinds.items()}
        said = ", ".join(f"{name} {rate:.1f}" for name, rate in row.items())
        print(f"{precision} turn {turn}: {said} images/s{'' if turn else ' (not counted)'}", flush=True)
        rows.append(row)
    for other in ("naive", "competent", "limit"):
        ratios = [row["segpipe"] / row[other] for row in rows[1:]]
        print(
            f"{precision}: segpipe / {other}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    print(f"{precision}: scoring / its forward passes: {scoring_share(loops, prepared):.2f}")
    rates = {name: loading(getattr(loops, f"{name}_images")) for name in ("naive", "competent", "own")}
    print("loading alone: " + ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items()) + " images/s")


def prepare_images(root: Path | None, list_file: str, val: str, folder: Path, counts: dict[str, int]) -> Prepared:
    """Fold 0 of the COCO files in `root`, or of so many drawn scenes, prepared in `folder`."""
    params = load_params()
    if root is None:
        root = folder / "sample"
        write_sample(root, folder / "judge", **counts)
    data = {"root": str(root), "train": (list_file,), "val": (val,), "judge": None, "unlabeled": ()}
    data |= {"test": None, "image_size": SIZE}
    split = params.split.model_copy(update={"folds": None, "group_by": None})
    prepare(params.data.model_copy(update=data), split, folder / "prepared")
    return Prepared(folder / "prepared", fold=0)


def main() -> None:
    """Measure in each precision that this CPU has."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="a COCO folder; drawn scenes without it")
    parser.add_argument("--list", default="train.json")
    parser.add_argument("--val", default="val.json")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--precision", choices=usable_precisions(), action="append")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.root or Path(folder) / "sample"
        prepared = prepare_images(arguments.root, arguments.list, arguments.val, Path(folder), COUNTS)
        for precision in arguments.precision or usable_precisions():
            measure(load_params(), root, arguments.list, prepared, arguments.turns, precision)


if __name__ == "__main__":
    main()
