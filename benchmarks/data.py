"""The data's way to training beside plain ways, as ratios, and what it costs as a set grows.

- preparing: `prepare` on all cores, storing pixels or JPEGs, and a script as one writes it (pycocotools, cv2, PNG files
  of images and masks, one process), on the same 512x512 JPEGs with 8 polygons each;
- an epoch: a shuffled pass over the stores, without augmentation, and the notebooks' loop, which decodes and
  rasterises in every `__getitem__`; both in one process, batches of 16, processor time;
- growth: processor time for each image by one process, and private memory of two with their parent, on 1,000, 5,000
  and 20,000 images of 64x64.

What is compared takes turns; figures are medians of the ratios of one turn (least to most).

    PYTHONPATH=src python benchmarks/data.py
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from drawn import CODECS, SIDE, draw_set, drawn_params
from pycocotools.coco import COCO
from turns import seconds, spread

from segpipe.data.prepare.prepare import prepare
from segpipe.data.source.lists import read_lists
from segpipe.params import load_params

OBJECTS = 8
SMALL_SIDE, SMALL_OBJECTS = 64, 4
COUNTS = (1_000, 5_000, 20_000)


def plain_script(root: Path, out: Path) -> None:
    """Each image and its mask as PNG files at 512x512; the higher class wins a pixel."""
    for list_file in ("train.json", "val.json"):
        coco = COCO(root / list_file)
        labels = {category: index + 1 for index, category in enumerate(sorted(coco.getCatIds()))}
        for folder in ("images", "masks"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        for image_id in coco.getImgIds():
            info = coco.loadImgs(image_id)[0]
            image = cv2.imread(str(root / info["file_name"]))
            mask = np.zeros((info["height"], info["width"]), np.uint8)
            for annotation in coco.loadAnns(coco.getAnnIds(image_id)):
                mask = np.maximum(mask, coco.annToMask(annotation) * np.uint8(labels[annotation["category_id"]]))
            cv2.imwrite(str(out / "images" / f"{image_id}.png"), cv2.resize(image, (SIDE, SIDE)))
            small = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(out / "masks" / f"{image_id}.png"), small)


def folder_bytes(folder: Path) -> int:
    """Of all files beneath it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def compare_preparing(folder: Path, count: int, turns: int) -> None:
    """Print ratios of time and disk; leaves the stores in `folder` for the epochs."""
    root, params = folder / "drawn", load_params()
    draw_set(root, count, SIDE, OBJECTS)
    script = partial(plain_script, root, folder / "script")
    ours = {codec: partial(prepare, *drawn_params(params, root, SIDE, codec), folder / codec) for codec in CODECS}
    rows, work = [], []
    for _ in range(turns):
        alone = {name: partial(way, processes=1) for name, way in ours.items()} | {"script": script}
        work.append({name: seconds(way, time.process_time) for name, way in alone.items()})
        rows.append({name: seconds(way) for name, way in (ours | {"script": script}).items()})
        told = ", ".join(f"{name} {took:.1f} s" for name, took in rows[-1].items())
        print(f"preparing {count} images: {told}", flush=True)
    script_bytes = folder_bytes(folder / "script")
    for codec in CODECS:
        by_clock, by_processor = (spread([row["script"] / row[codec] for row in table]) for table in (rows, work))
        print(
            f"  {codec}: {by_clock} x as fast as the script, {by_processor} x in processor time of one process; "
            f"{folder_bytes(folder / codec) / script_bytes:.2f} of its disk"
        )
    shutil.rmtree(folder / "script")


def private_bytes(pid: int) -> int:
    """Memory that belongs to the process and its children, pages that they share counted once."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            total += 1024 * int(line.split()[1]) if line.startswith("Pss_Anon:") else 0
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return 0
    return total + sum(private_bytes(int(child)) for child in children)


def in_child(root: Path, what: str) -> tuple[float, int]:
    """What `measure_child` prints, and the highest private memory meanwhile."""
    command = [sys.executable, __file__, "--child", what, "--root", str(root)]
    process, highest = subprocess.Popen(command, stdout=subprocess.PIPE, text=True), 0
    while process.poll() is None:
        highest = max(highest, private_bytes(process.pid))
        time.sleep(0.1)
    return json.loads(process.stdout.read().splitlines()[-1]), highest


def measure_child(root: Path, what: str) -> None:
    """Print what the lists take once read (`read`), or the processor time of preparing by one process (`1`) or two."""
    data, split = drawn_params(load_params(), root, SMALL_SIDE, "raw")
    if what == "read":
        before = private_bytes(os.getpid())
        kept = read_lists(data)
        print(json.dumps(private_bytes(os.getpid()) - before if kept else 0))
        return
    with tempfile.TemporaryDirectory(dir=root) as out:
        start = time.process_time()
        prepare(data, split, Path(out), processes=int(what))
        print(json.dumps(time.process_time() - start))


def compare_growth(folder: Path, turns: int) -> None:
    """Print time for each image and private memory, by the number of images."""
    roots = {count: folder / f"small_{count}" for count in COUNTS}
    for count, root in roots.items():
        draw_set(root, count, SMALL_SIDE, SMALL_OBJECTS)
    parsed = {count: in_child(root, "read")[0] for count, root in roots.items()}
    rows = [{count: in_child(root, "1")[0] / count for count, root in roots.items()} for _ in range(turns)]
    memory = {count: in_child(root, "2")[1] for count, root in roots.items()}
    for count in COUNTS:
        relative = spread([row[count] / row[COUNTS[0]] for row in rows])
        cost = statistics.median(row[count] for row in rows)
        print(
            f"{count} images of {SMALL_SIDE}x{SMALL_SIDE}: {cost * 1e3:.2f} ms for each, {relative} x that of "
            f"{COUNTS[0]}; {memory[count] / 1e6:.0f} MB private, {parsed[count] / 1e6:.0f} MB of it the parsed files"
        )
    beyond = {count: memory[count] - parsed[count] for count in COUNTS}
    print(f"memory beyond the parsed files grows by {(beyond[COUNTS[-1]] - beyond[COUNTS[0]]) / 1e6:.0f} MB")


def main() -> None:
    """All of it, or the part that `--only` names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("preparing", "growth"))
    parser.add_argument("--images", type=int, default=600, help="of 512x512")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure_child(arguments.root, arguments.child)
        return
    with tempfile.TemporaryDirectory() as name:
        if arguments.only != "growth":
            compare_preparing(Path(name), arguments.images, arguments.turns)
            epochs = Path(__file__).with_name("epochs.py")  # not imported: every worker process would import torch
            command = [sys.executable, str(epochs), "--folder", name, "--turns", str(arguments.turns)]
            subprocess.run(command, check=True)
        if arguments.only != "preparing":
            compare_growth(Path(name), arguments.turns)


if __name__ == "__main__":
    main()
