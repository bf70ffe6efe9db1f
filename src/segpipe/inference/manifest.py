"""What a folder of predictions says of itself: by which models it was made, and which images are finished.

    predicted.json   models, how they looked at the images, code and libraries: written before the first label map
    predicted.csv    a row for each finished image: its name, SHA-256 of its file and of its label map

A row is written after the image's files, so that a run which was killed leaves no row without them.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segpipe.sources import file_digest
from segpipe.stage import read_json, write_json

SAID, ROWS = "predicted.json", "predicted.csv"


class Manifest:
    """The manifest in `out`, a new one or that of an earlier run of the same `identity`.

    Raises ValueError where the folder holds something else, or was made by other models: nothing of it is touched.
    """

    def __init__(self, out: Path, identity: dict[str, Any]) -> None:
        self._rows = out / ROWS
        if (out / SAID).is_file():
            _refuse_others(out, identity)
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(
                f"{out}: is not empty and has no {SAID}, so what lies there was not made by this command; give another "
                "--out, or remove it"
            )
        else:
            write_json(out / SAID, identity)
        self._finished = dict(self._read())

    def is_finished(self, name: str, image: Path, label_map: Path) -> bool:
        """Whether an earlier run made this very label map of this very image."""
        digests = self._finished.get(name)
        return digests is not None and label_map.is_file() and digests == (file_digest(image), file_digest(label_map))

    def add(self, name: str, image_digest: str, label_map: Path) -> None:
        """The image's files are written."""
        with self._rows.open("a", encoding="utf-8", errors="surrogatepass", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow((name, image_digest, file_digest(label_map)))

    def _read(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """Rows that are whole; the last one of each image counts."""
        if not self._rows.is_file():
            return
        with self._rows.open(encoding="utf-8", errors="surrogatepass", newline="") as file:
            content = file.read()
        if content and not content.endswith("\n"):  # killed amid a row: the next one must not be glued to it
            content = content[: content.rfind("\n") + 1]
            self._rows.write_text(content, encoding="utf-8", errors="surrogatepass", newline="")
        for row in csv.reader(io.StringIO(content, newline="")):
            if len(row) == 3:
                yield row[0], (row[1], row[2])


def _refuse_others(out: Path, identity: dict[str, Any]) -> None:
    try:
        said = read_json(out / SAID)
    except ValueError as error:
        raise ValueError(f"{out / SAID}: is damaged ({error}); remove {out}, or give another --out") from error
    other = [key for key in identity if said.get(key) != identity[key]]
    if other:
        raise ValueError(
            f"{out}: holds predictions made with other {', '.join(other)} ({SAID} says which), and one folder must not "
            "mix them; give another --out, or remove it"
        )
