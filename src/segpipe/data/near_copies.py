"""`near_copies.csv`: unlabelled images that show the same picture as a labelled one, for the guard of pseudo labels.

| column | |
|---|---|
| `file_name` | of an image, labelled or not |
| `picture` | what it shows: images with the same entry are one picture, the name is the first of theirs |

Only pictures that stand both in a labelled and in an unlabelled list are there. `prepare` finds them by content
(byte-identical files) and by looks (`data.prepare.duplicates`); what is a copy of a copy is a copy.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

FILE = "near_copies.csv"
COLUMNS = ("file_name", "picture")


def mixed_pictures(pictures: Sequence[str], num_labeled: int) -> dict[int, str]:
    """Of the images whose first `num_labeled` are labelled: the picture of each that stands on both sides, by index."""
    both = set(pictures[:num_labeled]) & set(pictures[num_labeled:])
    return {index: picture for index, picture in enumerate(pictures) if picture in both}


def write_near_copies(path: Path, names: Sequence[str], pictures: dict[int, str]) -> None:
    """Write the table of `mixed_pictures`; names may hold anything that a file name can."""
    with path.open("w", encoding="utf-8", errors="surrogatepass", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((names[index], picture) for index, picture in sorted(pictures.items()))


def read_near_copies(path: Path, index: dict[str, int]) -> dict[int, str]:
    """The table by index of the image table, to which `index` leads from file names.

    Raises FileNotFoundError without the file, ValueError where it names an image that the table does not know.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; `dvc repro prepare` makes it")
    with path.open(encoding="utf-8", errors="surrogatepass", newline="") as file:
        rows = list(csv.reader(file))[1:]
    unknown = [row[0] for row in rows if len(row) != len(COLUMNS) or row[0] not in index]
    if unknown:
        raise ValueError(
            f"{path}: no image {unknown[0]!r}; the file was changed: run `dvc checkout` or `dvc repro prepare`"
        )
    return {index[name]: picture for name, picture in rows}
