"""Malformed inputs: the sample submission, and what cannot be submitted."""

from typing import Any

from malformed.breaks import written
from malformed.case import Case, params
from malformed.project import COMMITTED

SAMPLE = "data/raw/mine/sample.csv: "
BY_CLASS = COMMITTED["submission"]["rle"]
HEADER = b"image_id,PredictionString\n"


def sample(mistake: str, content: bytes | None, *says: str, **submission: Any) -> Case:
    """A case where `submission.sample` is wrong for the test images x.png and y.png."""
    values = {"submission.sample": "sample.csv", "submission.formats": ["pixels"]}
    values |= {f"submission.{key}": value for key, value in submission.items()}
    return Case(mistake, None if content is None else written("sample.csv", content), says, values)


SECTIONS = {
    "Submissions": [
        sample(
            "no such sample", None, "params.yaml: submission.sample: 'sample.csv' does not exist in data/raw/mine; "
        ),
        sample("no table", b"image_id\nx.png\n", f"{SAMPLE}found columns ['image_id']; expected two, the ids and the "),
        sample("an id twice", HEADER + b"x.png,\ny.png,\nx.png,\n", f"{SAMPLE}an id stands there twice; expected each"),
        sample(
            "a sample of other images",
            HEADER + b"x.png,\nz.png,\n",
            f"{SAMPLE}does not fit the test images by submission.formats: pixels: ",
            "1 id is missing: y.png; 1 id is not of the test set: z.png",
        ),
        sample(
            "a sample with ids of another pattern",
            b"id,rle\n" + b"".join(b"%s_%d,\n" % (stem, index) for stem in (b"x", b"y") for index in (1, 2)),
            f"{SAMPLE}does not fit the test images by submission.formats: rle: ",
            "It fits with submission.rle.rows: image_class and submission.rle.id: '{stem}_{class}'",
            formats=["rle"],
        ),
        params(
            "a sample for two tables",
            "submission",
            COMMITTED["submission"] | {"sample": "sample.csv", "formats": ["pixels", "rle"]},
            "submission: sample: 'sample.csv' says columns, ids and order of one CSV, but formats has pixels and rle ",
        ),
        Case(
            "masks of a class that is not there",
            None,
            ("submission.rle.classes: found 'Glas'; there are ['Background', 'Glass', 'Paper']; did you mean ",),
            {"submission.formats": ["rle"], "submission.rle": BY_CLASS | {"classes": ["Glas"]}},
        ),
        params(
            "ids that name no image",
            "submission.rle",
            BY_CLASS | {"id": "row_{class}"},
            "submission.rle: id: 'row_{class}' does not name the image; expected one of {file_name}, {name}, {stem} in",
        ),
    ]
}
