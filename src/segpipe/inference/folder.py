"""`segpipe predict`: the label maps of any images, by one model or the mean of several.

    labels/      a grey PNG of class indices for each image, at its own size; classes.json has the names
    overlays/    the classes in colour over the grey image, where asked for
    predicted.*  what made them, and which are finished (`inference.manifest`)

Images are read, turned upright and brought to the networks' size by the functions that `prepare` uses.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from segpipe.data.map_names import map_name
from segpipe.data.resize import resize_image, stored_size
from segpipe.data.source.images import ImageFault, decode_image
from segpipe.drawing import encode_jpeg, label_overlay
from segpipe.inference.coco import write_coco
from segpipe.inference.identity import identity_of
from segpipe.inference.listing import Listing, list_images
from segpipe.inference.manifest import Manifest
from segpipe.inference.predict import Predictor, best_device, set_threads
from segpipe.inference.probs import to_scored_size, winners
from segpipe.interrupt import interruptible
from segpipe.models.checkpoint import ModelCard, load_segmenter
from segpipe.params import Params, not_allowed, stop_on
from segpipe.progress import Progress, say
from segpipe.sources import file_digest
from segpipe.stage import write_json

LABELS, OVERLAYS = "labels", "overlays"
DEVICES = ("auto", "cpu", "cuda")
WRITTEN_BYTES = 2**30  # of probabilities at the images' own sizes at once, but for one image that needs more


@dataclass
class Outcome:
    """What became of the images; `left_out` says what is wrong with each of those, by name."""

    predicted: int = 0
    taken: int = 0  # from an earlier run
    passed_over: int = 0  # files that are no images
    left_out: dict[str, str] = field(default_factory=dict)

    def summary(self) -> str:
        """In a line."""
        parts = [f"{self.predicted} images predicted"]
        parts += [f"{self.taken} taken from an earlier run"] if self.taken else []
        parts += [f"{self.passed_over} files are no images"] if self.passed_over else []
        return "; ".join([*parts, f"{len(self.left_out)} left out"] if self.left_out else parts)


@dataclass(frozen=True)
class Opened:
    """An image at its own size and at the networks', and the SHA-256 of its file."""

    name: str
    image: np.ndarray
    seen: np.ndarray
    digest: str


def predict_folder(
    models: Sequence[Path],
    place: Path,
    out: Path,
    params: Params,
    *,
    device: str,
    overlays: bool,
    coco: Path | None,
) -> Outcome:
    """Write label maps of the images in `place`, a folder or a list, to `out`; bad images are left out.

    Images are looked at as section `predict` says. What an earlier run finished with the same models and section is
    kept. Raises ValueError for models that cannot be averaged, a device that is not there, and an `out` that holds
    anything else.
    """
    if device not in DEVICES:
        raise ValueError(not_allowed("--device", device, DEVICES))
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: found cuda, and torch finds no GPU here; give cpu, or see `segpipe doctor`")
    chosen = best_device() if device == "auto" else torch.device(device)
    listing = list_images(place, out)
    loaded = {folder: load_segmenter(folder) for folder in models}
    card = _common_card({folder: card for folder, (_, card) in loaded.items()})
    views, threads = params.predict, params.train.threads
    set_threads(threads)
    predictor = Predictor([segmenter for segmenter, _ in loaded.values()], views, card.image_size, device=chosen)
    manifest = Manifest(out, identity_of(models, views, threads=threads, device=chosen, code=__file__))
    job = _Job(predictor, card, listing, out, manifest, overlays)
    outcome = job.run()
    if coco is not None:
        write_coco(coco, job.label_maps(but=outcome.left_out), card.classes)
    return outcome


def _common_card(cards: dict[Path, ModelCard]) -> ModelCard:
    """What all models share; ValueError with every model that is unlike the first."""
    (first, card), *others = cards.items()
    problems = []
    for folder, other in others:
        if other.classes.names != card.classes.names:
            problems.append(
                f"{folder}: knows the classes {list(other.classes.names)}, {first} {list(card.classes.names)}"
            )
        if (other.image_size, other.resize) != (card.image_size, card.resize):
            found, expected = ((c.resize, c.image_size) for c in (other, card))
            problems.append(f"{folder}: sees images by {_size_words(*found)}, {first} by {_size_words(*expected)}")
    stop_on("the models cannot be averaged", problems)
    return card


def _size_words(resize: str, size: tuple[int, int] | None) -> str:
    return "their own size" if size is None else f"{resize} to {size[0]}x{size[1]}"


class _Job:
    """One run over the images of a listing."""

    def __init__(
        self, predictor: Predictor, card: ModelCard, listing: Listing, out: Path, manifest: Manifest, overlays: bool
    ) -> None:
        self.predictor, self.card, self.listing, self.out = predictor, card, listing, out
        self.manifest, self.overlays = manifest, overlays

    def run(self) -> Outcome:
        """Predict what no earlier run finished, batch by batch; the next batch is read meanwhile."""
        write_json(self.out / LABELS / "classes.json", {"names": list(self.card.classes.names)})
        names = list(self.listing.sizes)
        left = [name for name in names if not self._is_finished(name)]
        outcome = Outcome(0, len(names) - len(left), self.listing.passed_over, dict(self.listing.broken))
        if outcome.taken:
            say(f"predict: {outcome.taken} of {len(names)} images were finished before")
        batches = self.predictor.plan([self._seen_size(self.listing.sizes[name]) for name in left])
        with (
            ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads,
            Progress(len(left), "predict", "images") as progress,
            interruptible() as interruption,
        ):
            for batch, reading in self._read_ahead(threads, [[left[i] for i in batch] for batch in batches]):
                if interruption.reason:
                    said = f"{interruption.reason}; {outcome.taken + outcome.predicted} images are finished: "
                    raise SystemExit(f"{said}the same command goes on from there")
                opened = self._sound(batch, reading, outcome)
                self._predict(opened, threads)
                outcome.predicted += len(opened)
                progress.advance(len(batch))
        return outcome

    def label_maps(self, *, but: dict[str, str]) -> Iterator[tuple[str, np.ndarray]]:
        """(name, (H, W) uint8) of all images that were predicted, now or earlier, in the order of the listing."""
        for name in self.listing.sizes:
            if name not in but:
                encoded = np.fromfile(self._label_path(name), np.uint8)
                yield name, cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)

    def _read_ahead(
        self, readers: ThreadPoolExecutor, batches: list[list[str]]
    ) -> Iterator[tuple[list[str], list[Future[Opened]]]]:
        ahead: list[Future[Opened]] = []
        for number, batch in enumerate(batches):
            reading = ahead or [readers.submit(self._open, name) for name in batch]
            following = batches[number + 1] if number + 1 < len(batches) else []
            ahead = [readers.submit(self._open, name) for name in following]
            yield batch, reading

    def _open(self, name: str) -> Opened:
        path = self.listing.root / name
        image = decode_image(path)
        size = stored_size(image.shape[:2], self.card.image_size, self.card.resize)
        return Opened(name, image, resize_image(image, size), file_digest(path))

    def _sound(self, batch: list[str], reading: list[Future[Opened]], outcome: Outcome) -> list[Opened]:
        opened = []
        for name, future in zip(batch, reading, strict=True):
            try:
                opened.append(future.result())
            except (ImageFault, OSError) as fault:  # its header was sound, or it went meanwhile
                outcome.left_out[name] = str(fault).replace(str(self.listing.root / name), name)
        return opened

    def _predict(self, opened: list[Opened], writers: ThreadPoolExecutor) -> None:
        # planned by their headers; a file that was replaced meanwhile may have another size
        for batch in self.predictor.plan([image.seen.shape[:2] for image in opened]):
            answers = self.predictor([opened[i].seen for i in batch])
            writing, held = deque[tuple[Opened, Future[None], int]](), 0
            for i, (probs, _) in zip(batch, answers, strict=True):
                height, width = opened[i].image.shape[:2]
                needed = height * width * probs.shape[-1] * probs.itemsize
                while writing and held + needed > WRITTEN_BYTES:
                    held -= self._finish(*writing.popleft())
                writing.append((opened[i], writers.submit(self._write, opened[i], probs), needed))
                held += needed
            for entry in writing:
                self._finish(*entry)

    def _finish(self, opened: Opened, written: Future[None], held: int) -> int:
        """Wait for the image's files and enter them; the bytes that are free again."""
        written.result()
        self.manifest.add(opened.name, opened.digest, self._label_path(opened.name))
        return held

    def _write(self, opened: Opened, probs: np.ndarray) -> None:
        labels = winners(to_scored_size(probs, opened.image.shape[:2], None))
        if self.overlays:
            overlay = label_overlay(opened.image, labels, self.card.classes)
            self._write_whole(self._overlay_path(opened.name), encode_jpeg(overlay))
        self._write_whole(self._label_path(opened.name), cv2.imencode(".png", labels)[1].tobytes())

    def _write_whole(self, path: Path, content: bytes) -> None:
        """The file at once or not at all, and never outside the output folder, whatever links lie there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.parent.resolve().is_relative_to(self.out.resolve()):
            raise ValueError(f"{path}: a link leads out of {self.out}; remove it, or give another --out")
        part = path.with_name(path.name + ".part")
        part.write_bytes(content)
        part.replace(path)

    def _is_finished(self, name: str) -> bool:
        there = not self.overlays or self._overlay_path(name).is_file()
        return there and self.manifest.is_finished(name, self.listing.root / name, self._label_path(name))

    def _seen_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return stored_size(size, self.card.image_size, self.card.resize) or size

    def _label_path(self, name: str) -> Path:
        return self.out / LABELS / map_name(name)

    def _overlay_path(self, name: str) -> Path:
        return (self.out / OVERLAYS / name).with_suffix(".jpg")
