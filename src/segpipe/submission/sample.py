"""The sample submission that a contest gives: columns, and perhaps ids in their order."""

from dataclasses import dataclass
from pathlib import Path

from segpipe.data.source.entries import named_file_fault
from segpipe.params import SubmissionParams
from segpipe.submission.rows import CsvFile


@dataclass(frozen=True)
class Sample:
    """The header of a sample submission and its ids in order; there may be none."""

    path: Path
    columns: tuple[str, str]
    ids: tuple[str, ...]


def read_sample(path: Path) -> Sample:
    """The sample submission at `path`; ValueError where it is missing or no CSV of two columns with ids, each once."""
    if not path.is_file():
        raise ValueError(f"{path}: not found; expected a sample submission")
    with CsvFile(path) as file:
        rows = list(file.rows(keep_text=False))
        columns = file.columns
    if len(columns) != 2 or not all(columns):
        raise ValueError(f"{path}: found columns {list(columns)}; expected two, the ids and the predictions")
    faults = [f"{path}: line {row.line}: {row.fault}" for row in rows if row.fault]
    ids = [row.id for row in rows if not row.fault]
    if len(set(ids)) < len(ids):
        faults.append(f"{path}: an id stands there twice; expected each once")
    if faults:
        raise ValueError("\n".join(faults[:10]))
    return Sample(path, (columns[0], columns[1]), tuple(ids))


def sample_of(submission: SubmissionParams, root: Path) -> Sample | None:
    """The sample that params.yaml names, in the folder `root`; None where it names none. Raises ValueError as above."""
    if not submission.sample:
        return None
    if fault := named_file_fault(root, submission.sample):
        expected = "expected the contest's sample submission, a CSV in it"
        raise ValueError(f"params.yaml: submission.sample: {submission.sample!r} {fault}; {expected}")
    return read_sample(root / submission.sample)
