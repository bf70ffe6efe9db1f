"""Golden files of the submission formats.

`cd tests && PYTHONPATH=../src python -m golden.submission [FOLDER]` makes them.
"""

import sys
from pathlib import Path

import numpy as np

from segpipe.labels import ClassTable
from segpipe.params import SubmissionParams
from segpipe.submission.layout import Layout, layout_of
from segpipe.submission.write import write_submission

FOLDER = Path(__file__).parent / "submission"
CLASSES = ClassTable(
    ("Background", "Glass", "Papier mâché"), ((), ("Glass",), ("Paper",)), ((0, 0, 0), (255, 0, 0), (0, 255, 0))
)
MAPS = [
    ("b.jpg", np.array([[0, 1, 2], [2, 1, 0]], np.uint8)),
    ("batch/a, 1.jpg", np.array([[1, 1, 1], [0, 0, 0]], np.uint8)),
]
BY_CLASS = {
    "rows": "image_class",
    "id": "{file_name}_{class}",
    "columns": ["ImageId_ClassId", "EncodedPixels"],
    "classes": [],
}


def submission_params(*formats: str, rle: dict | None = None, png: dict | None = None) -> SubmissionParams:
    """Section `submission` with these formats and changes."""
    raw = {"formats": list(formats), "size": None, "sample": None, "rle": BY_CLASS | (rle or {})}
    return SubmissionParams.model_validate(raw | {"png": png or {"palette": False}})


def layout(*formats: str, **changes: dict) -> Layout:
    """The same with CLASSES put in."""
    return layout_of(submission_params(*formats, **changes), CLASSES, None)


LAYOUTS = {
    "pixels": layout("pixels"),
    "rle": layout("rle"),
    "rle_image": layout("rle", rle={"rows": "image", "id": "{stem}", "columns": ["img", "rle_mask"]}),
    "png": layout("png"),
    "png_palette": layout("png", png={"palette": True}),
}

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for name, form in LAYOUTS.items():
        write_submission(folder / name, form, iter(MAPS))
