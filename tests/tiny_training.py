"""A member trained in this process on a few tiny images, for tests of what happens in a run."""

import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import torch
from dvc.utils.hydra import apply_overrides

from segpipe.data.prepare.prepare import prepare
from segpipe.data.prepared import Prepared
from segpipe.data.sample.write import write_sample
from segpipe.params import MemberParams, Params, load_params
from segpipe.recipe import apply_recipe
from segpipe.training.job import Job
from segpipe.training.member import train_member
from segpipe.training.tracking.tracker import Tracker, describe_run

ROOT = Path(__file__).resolve().parent.parent
Tiny = tuple[Params, Path]


def make_tiny(folder: Path) -> Tiny:
    """Params of the recipe `tiny`, and its sample prepared in `folder`."""
    shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
    apply_recipe("tiny", folder / "params.yaml", ROOT / "recipes")
    params = load_params(folder / "params.yaml")
    write_sample(folder / "raw", folder / "judge", **params.sample.model_dump())
    prepare(params.data.model_copy(update={"root": str(folder / "raw")}), params.split, folder / "prepared")
    return params, folder / "prepared"


def make_smaller(folder: Path) -> Tiny:
    """The same with a network of 0.1 million weights, and a moving average of them."""
    _, prepared = make_tiny(folder)
    smaller = ["model.encoder=test_efficientnet", "model.decoder_channels=16", "train.ema=0.9"]
    apply_overrides(str(folder / "params.yaml"), smaller)
    return load_params(folder / "params.yaml"), prepared


def job_of(tiny: Tiny, out: Path, **changes: object) -> Job:
    """A baseline of two epochs, the second and the last of them scored; `changes` are keys of section train."""
    params, prepared = tiny
    raw = params.member("main").model_dump(mode="python")
    raw["train"] |= {"epochs": 2, "validate_every": 2} | changes
    return Job(
        round="baseline",
        params=MemberParams.model_validate(raw),
        prepared=Prepared(prepared, fold=0),
        fold=0,
        scored_size=params.submission.size,
        out=out / "model",
    )


def train(tiny: Tiny, out: Path, listeners=(), **changes: object) -> tuple[float, dict[str, bytes]]:
    """Train in the current folder, which keeps the state; the score, and the bytes of every file of the stage."""
    job, threads = job_of(tiny, out, **changes), torch.get_num_threads()
    run = describe_run("baseline", "main", 0, job.params.model_dump(mode="json"), job.prepared.classes)
    try:
        with Tracker(listeners, run) as tracker:
            miou = train_member(job, out / "plots", tracker)
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
    return miou, {path.name: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@contextmanager
def largest_file(size: int):
    """Within the block a file of this process cannot grow beyond `size` bytes, as on a disk with no more room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
