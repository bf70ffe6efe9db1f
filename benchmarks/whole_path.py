"""233 test images to the finished CSV: `prepare`, `predict` and `ensemble` against the contest's notebooks, one model.

The images are JPEGs of CamVid's number and size; the network is small, with random weights, and both ways look once.
Its own forward passes are timed and taken off: what is compared is all around them. `steps` says where our time goes.
With --memory the private memory of the whole way is measured instead, for two numbers of small images.

    PYTHONPATH=src python benchmarks/whole_path.py
    PYTHONPATH=src python benchmarks/whole_path.py --memory
"""

import argparse
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pandas as pd
import torch
from prediction import Clock, write_model
from turns import seconds, spread

from segpipe.data.prepare.prepare import prepare
from segpipe.data.prepared import Prepared
from segpipe.data.sample.write import write_sample
from segpipe.ensemble.average import Ensemble
from segpipe.ensemble.candidates import Candidate
from segpipe.inference.fold import Work, predict_fold
from segpipe.inference.probs import Predictions
from segpipe.models.checkpoint import load_segmenter
from segpipe.params import Params, load_params
from segpipe.stage import read_json, write_json
from segpipe.submission.layout import layout_of
from segpipe.submission.verify import verify_submission
from segpipe.submission.write import write_submission

IMAGES, HEIGHT, WIDTH = 233, 360, 480
BATCH, SUBMITTED = 3, 256
FEW, MANY, SMALL = 1000, 20_000, 32  # numbers of images and their side, for the memory
KEY = ("baseline", "main", 0)


def draw(folder: Path, images: int, height: int, width: int) -> None:
    """The sample's data set with so many test images of this size."""
    counts = {"train": 2, "val": 2, "test": images, "unlabeled": 1, "judge": 1}
    write_sample(folder, folder / "judge", seed=0, size=max(height, width), **counts)
    listed = read_json(folder / "test.json")
    for image in listed["images"]:
        path = folder / image["file_name"]
        cv2.imwrite(str(path), cv2.imread(str(path))[:height, :width])
        image["height"], image["width"] = height, width
    write_json(folder / "test.json", listed)


def settings(folder: Path, height: int, width: int) -> Params:
    """The defaults, for the data set in `folder` and networks that see its test images as they are, once."""
    params = load_params()
    data = params.data.model_copy(
        update={"root": str(folder), "judge": (), "unlabeled": (), "image_size": (height, width)}
    )
    changed = {"data": data, "predict": params.predict.model_copy(update={"flips": False})}
    return params.model_copy(update=changed)


def fitting_model(folder: Path, params: Params) -> Path:
    """A small network for the classes of the data set in `folder`."""
    prepare(params.data, params.split, folder / "first", processes=1)
    return write_model(folder / "model", params, Prepared(folder / "first", fold=0).classes)


def naive(model: Path, folder: Path, out: Path) -> None:
    """As in the notebooks: three at a time, int64, (3, H, W) images resized beside their masks, all that grows."""
    segmenter, _ = load_segmenter(model)
    # the versions of that time did not look at shapes: an image of (3, H, W) passed for one of W channels
    resize = A.Compose([A.Resize(SUBMITTED, SUBMITTED)], is_check_shapes=False)
    names = [image["file_name"] for image in read_json(folder / "test.json")["images"]]
    found = np.empty((0, SUBMITTED * SUBMITTED), dtype=np.int64)
    with torch.no_grad():
        for start in range(0, len(names), BATCH):
            read = [cv2.cvtColor(cv2.imread(str(folder / name)), cv2.COLOR_BGR2RGB) for name in names[start:][:BATCH]]
            batch = torch.from_numpy(np.stack(read).transpose(0, 3, 1, 2).copy())
            masks = torch.argmax(segmenter(batch), dim=1).numpy()
            pairs = zip(batch.float().numpy() / 255, masks, strict=True)
            resized = [resize(image=image, mask=mask)["mask"] for image, mask in pairs]
            found = np.vstack((found, np.array(resized).reshape(len(resized), -1)))
    frame = pd.DataFrame({"image_id": [], "PredictionString": []})
    for name, row in zip(names, found, strict=True):  # DataFrame.append of that time is concat now
        text = " ".join(str(value) for value in row.tolist())
        frame = pd.concat([frame, pd.DataFrame({"image_id": [name], "PredictionString": [text]})], ignore_index=True)
    frame.to_csv(out, index=False)


def prepare_images(params: Params, model: Path, work: Path) -> None:
    """As the stage `prepare`."""
    prepare(params.data, params.split, work / "prepared", processes=1)


def predict_images(params: Params, model: Path, work: Path) -> None:
    """As the stage `predict`."""
    prepared = Prepared(work / "prepared", fold=0)
    fold = prepared.folds[0]
    indices = [*fold.judge, *fold.tune, *prepared.sets["test"]]
    asked = Work("predict", prepared, indices, params.predict, params.train, work / "predictions")
    predict_fold(asked, model, params.submission.size)


def submit(params: Params, model: Path, work: Path) -> None:
    """As the stage `ensemble` from the choice on."""
    prepared = Prepared(work / "prepared", judge=True)
    ensemble = Ensemble(prepared, {KEY: Predictions(work / "predictions")}, (0,))
    layout = layout_of(params.submission, prepared.classes, None)
    chosen = Candidate("baseline-main", (KEY[:2],))
    maps = ((prepared.entries[index].file_name, labels) for index, labels in ensemble.test_label_maps(chosen))
    verify_submission(work / "out", layout, write_submission(work / "out", layout, maps))


STAGES = (prepare_images, predict_images, submit)


class Watch:
    """The most private memory of this process while it is on, in MiB: mapped files are not counted."""

    def __enter__(self) -> "Watch":
        self.most, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(0.02):
            (line,) = (
                line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")
            )
            self.most = max(self.most, int(line.split()[1]) / 1024)

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


def watched(number: int, images: int, params: Params, model: Path, work: Path) -> None:
    """One stage in a process of its own; prints the most private memory that it took."""
    torch.set_num_threads(params.train.threads)
    with Watch() as watch:
        STAGES[number](params, model, work)
    said = f"{STAGES[number].__name__}, {images} images of {SMALL}x{SMALL}: {watch.most:.0f} MiB at most"
    print(said, flush=True)


def measure_memory() -> None:
    """Every stage with few and with many small images."""
    for images in (FEW, MANY):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            params = settings(folder / "raw", SMALL, SMALL)
            draw(folder / "raw", images, SMALL, SMALL)
            model = fitting_model(folder, params)
            for number in range(len(STAGES)):
                arguments = (number, images, params, model, folder / "work")
                process = multiprocessing.get_context("spawn").Process(target=watched, args=arguments)
                process.start()
                process.join()


def main() -> None:
    """Print where our time goes, the ratio to the notebooks', and the memory by the number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="measure that, not the time")
    arguments = parser.parse_args()
    if arguments.memory:
        measure_memory()
        return
    steps, taken, ratios = Counter[str](), {"naive": [], "segpipe": []}, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        params = settings(folder / "raw", HEIGHT, WIDTH)
        torch.set_num_threads(params.train.threads)
        draw(folder / "raw", IMAGES, HEIGHT, WIDTH)
        model = fitting_model(folder, params)
        for turn in range(arguments.turns):
            work = folder / f"turn-{turn}"
            work.mkdir()
            ways = {
                "naive": lambda work=work: naive(model, folder / "raw", work / "naive.csv"),
                "segpipe": lambda work=work: steps.update(
                    {
                        stage.__name__: seconds(partial(stage, params, model, work), time.process_time)
                        for stage in STAGES
                    }
                ),
            }
            for way, run in ways.items():
                with Clock() as clock:
                    whole = seconds(run, time.process_time)
                taken[way].append(whole - clock.seconds)
            ratios.append(taken["naive"][-1] / taken["segpipe"][-1])
            print(f"forward passes of segpipe's turn: {clock.seconds:.2f} s", flush=True)
    for way, times in taken.items():
        print(f"{way}: {1000 * statistics.median(times) / IMAGES:.1f} ms an image beside the network")
    per_image = {step: 1000 * total / arguments.turns / IMAGES for step, total in steps.items()}
    print("steps, ms an image, forward passes included:", {step: round(ms, 2) for step, ms in per_image.items()})
    print(f"naive / segpipe, beside the network: {spread(ratios, 1)}")


if __name__ == "__main__":
    main()
