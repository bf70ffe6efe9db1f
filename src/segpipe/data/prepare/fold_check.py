"""Folds held against the lists before any image is opened: what a file gives, and whether enough groups are there."""

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from segpipe.data.fold_table import FoldRow, read_fold_rows
from segpipe.data.prepare.folds import Labeled, draw_folds
from segpipe.data.source.entries import named_file_fault, normal_name
from segpipe.data.source.lists import LABELED_SOURCES, PARAMS, Files
from segpipe.data.source.problems import Findings, Problem, short
from segpipe.data.source.records import CocoFile
from segpipe.data.split import group_names
from segpipe.params import ALL, DataParams, SplitParams

Rows = Sequence[tuple[int, FoldRow]]  # each with its line


def check_folds(files: Files, findings: Findings, data: DataParams, split: SplitParams) -> dict[str, FoldRow] | None:
    """What `split.file` says of the images of data.train, by name; None without such a file.

    Adds to `findings` what is wrong with it, and what makes folds of these lists impossible whatever the images show.
    """
    # a list of which a part is unreadable, or that is empty, was told before
    whole = all(_read_whole(files[source], getattr(data, source)) for source in LABELED_SOURCES)
    given = None
    if split.file is not None:
        listed = {source: [name for file in files[source] for name in file.file_names] for source in LABELED_SOURCES}
        given, problems = _read_given(Path(data.root), split, listed if whole else None, own_judge=bool(data.judge))
        findings.blocking += problems
        whole = whole and not problems
    try:
        names = {source: [name for file in files[source] for name in _usable(file, data)] for source in files}
        every_name = list(dict.fromkeys(name for listed in names.values() for name in listed))
        scenes = dict(zip(every_name, group_names(every_name, split.group_by), strict=True))
        if whole:
            labeled = [(name, source) for source in LABELED_SOURCES for name in names[source]]
            lists = [source for _, source in labeled]
            images = Labeled.uncounted([name for name, _ in labeled], lists, [scenes[name] for name, _ in labeled])
            draw_folds(images, split, given, own_judge=bool(data.judge))
    except ValueError as error:
        findings.blocking.append(f"{PARAMS}: {error}")
    return given


def _read_whole(files: Sequence[CocoFile], named: str | tuple[str, ...] | None) -> bool:
    asked = 1 if isinstance(named, str) else len(named or ())
    return len(files) == asked and all(file.file_names for file in files)


def _usable(file: CocoFile, data: DataParams) -> Sequence[str]:
    """With `on_problem: stop` every image, as if it were sound: the folds are drawn only where each is."""
    if data.on_problem == "stop":
        return file.file_names
    return tuple(image.file_name for image in file.images if image.id not in file.incomplete)


def _read_given(
    root: Path, split: SplitParams, listed: Mapping[str, Sequence[str]] | None, *, own_judge: bool
) -> tuple[dict[str, FoldRow], list[Problem]]:
    """What the file says of each image of data.train, by the name it has there, and everything that is wrong with it.

    `listed` holds the file names of each list; None where they are not known, and only the file itself is looked at.
    It has to name every training image once; rows of judge images (as `prepare` writes them) are read over.
    """
    assert split.file is not None
    path = root / split.file
    if fault := named_file_fault(root, split.file):
        return {}, [Problem(PARAMS, "split.file", f"{split.file!r} {fault}", f"a CSV file in {root}")]
    rows, faults = read_fold_rows(path)
    problems = [Problem(str(path), *fault) for fault in faults]
    if listed is None or (not rows and faults):
        return {}, problems
    name_of = {normal_name(name): name for name in listed["train"]}
    judged = {normal_name(name) for name in listed["judge"]}
    unplaced = [row for row in rows if normal_name(row[1].file_name) not in judged or row[1].fold is not None]
    problems += _row_problems(path, unplaced, name_of, judged)
    given = {name_of[name]: row for _, row in unplaced if (name := normal_name(row.file_name)) in name_of}
    if not faults:  # a row that could not be read would be told twice
        problems += _missing_images(path, listed["train"], given)
        problems += _fold_problems(path, list(given.values()), split, own_judge=own_judge)
    return given, problems


def _row_problems(
    path: Path, rows: Rows, name_of: Mapping[PurePosixPath, str], judged: Container[PurePosixPath]
) -> Iterator[Problem]:
    """Unknown images, images named twice, and halves that belong to no fold."""
    seen: dict[PurePosixPath, int] = {}
    for line, row in rows:
        name, where = normal_name(row.file_name), f"line {line}"
        if name in judged:
            yield Problem(
                str(path), where, f"{short(row.file_name)} is an image of data.judge, in fold {row.fold}", "no fold"
            )
        elif name not in name_of:
            expected = "an image that data.train lists"
            yield Problem(str(path), where, f"found {short(row.file_name)}", expected)
        elif name in seen:
            expected = f"each image once; it stands in line {seen[name]}"
            yield Problem(str(path), where, f"found {short(row.file_name)} again", expected)
        elif row.half and row.fold is None:
            found = f"{short(row.file_name)} has the half {row.half} and no fold"
            yield Problem(str(path), where, found, "the number of the fold in which it does that")
        seen.setdefault(name, line)


def _missing_images(path: Path, train: Sequence[str], given: dict[str, FoldRow]) -> Iterator[Problem]:
    missing = [name for name in train if name not in given]
    if missing:
        shown = ", ".join(map(short, missing[:3])) + (", ..." if len(missing) > 3 else "")
        found = f"{len(missing)} of {len(train)} images of data.train are not in it ({shown})"
        yield Problem(str(path), "", found, "every one, with an empty fold where each fold learns from it")


def _fold_problems(path: Path, rows: Sequence[FoldRow], split: SplitParams, *, own_judge: bool) -> Iterator[Problem]:
    """Gaps between the numbers, parts that are empty, halves of which only some are given."""
    held = Counter(row.fold for row in rows if row.fold is not None)
    numbers = sorted(held)
    if not numbers:
        yield Problem(str(path), "", "no image has a fold", "a number for each image that a fold holds out, from 0")
        return
    if numbers != [*range(len(numbers))]:
        gap = next(i for i in range(len(numbers) + 1) if i not in held)
        yield Problem(str(path), "", f"no image has fold {gap}, but some have {numbers[-1]}", "numbers without a gap")
    elif beyond := [fold for fold in split.train_folds if fold != ALL and fold not in held]:
        found = f"there is no fold {', '.join(map(str, beyond))}, which split.train_folds names"
        yield Problem(str(path), "", found, f"some of its {len(numbers)} folds, from 0")
    if len(numbers) == 1 and held[numbers[0]] == len(rows):
        yield Problem(str(path), "", "one fold holds every image out", "images that it can learn from")
    yield from _half_problems(path, rows, own_judge=own_judge)


def _half_problems(path: Path, rows: Sequence[FoldRow], *, own_judge: bool) -> Iterator[Problem]:
    for number in sorted({row.fold for row in rows if row.fold is not None}):
        halves = Counter(row.half for row in rows if row.fold == number)
        where = f"fold {number}"
        if own_judge:
            if halves["judge"]:
                found = f"{halves['judge']} of its images have the half judge"
                yield Problem(str(path), where, found, "tune or nothing: with data.judge, all that is held out tunes")
        elif halves[None] and len(halves) > 1:
            found = f"{halves[None]} of {halves.total()} images have no half"
            yield Problem(str(path), where, found, "halves for all of them, or for none to have them drawn")
        elif not halves[None] and len(halves) == 1:
            other = "judge" if halves["tune"] else "tune"
            expected = f"some to {other}" + (", or a data.judge file" if other == "judge" else "")
            yield Problem(str(path), where, f"all of its images {next(iter(halves))}", expected)
