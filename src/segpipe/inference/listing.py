"""Which images `segpipe predict` is given: those of a folder, or those that a text file lists."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segpipe.data.map_names import shared_names
from segpipe.data.source.images import ImageFault, image_size
from segpipe.params import stop_on

# files of other names are images where their content says so, and else none that was meant
SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))


@dataclass(frozen=True)
class Listing:
    """Images by name, relative to `root`, with (height, width) each; what is broken, a line each; what is no image."""

    root: Path
    sizes: dict[str, tuple[int, int]]
    broken: dict[str, str]
    passed_over: int


def list_images(place: Path, out: Path) -> Listing:
    """The images of the folder `place`, nested and in order of their names, or those that the text file `place` lists.

    A list names one image a line, relative to its own folder. What lies in `out` and hidden files are no input.
    Raises ValueError with all that is wrong: nothing there, names that lead outside, two images for one label map.
    """
    if place.is_dir():
        if place.resolve().is_relative_to(out.resolve()):
            raise ValueError(f"--out: {out} holds the images; give a folder that does not")
        root, names = place, sorted(_names_in(place, out))
    elif place.is_file():
        root, names = place.parent, _names_listed(place)
    else:
        raise FileNotFoundError(f"{place}: not found; expected a folder of images, or a text file that lists some")
    sizes, broken, passed_over = {}, {}, 0
    for name in names:
        try:
            sizes[name] = image_size(root / name, name)
        except ImageFault as fault:
            if place.is_dir() and PurePosixPath(name).suffix.lower() not in SUFFIXES:
                passed_over += 1
            else:
                broken[name] = str(fault)
    if not sizes and not broken:
        raise ValueError(f"{place}: holds no image; expected {', '.join(sorted(SUFFIXES))} or what else OpenCV reads")
    said = "would both be written to {}; rename one, or list one of them"
    several = shared_names([*sizes, *broken])
    stop_on(str(place), [f"{' and '.join(names)} {said.format(label_map)}" for label_map, names in several])
    return Listing(root, sizes, broken, passed_over)


def _names_in(folder: Path, out: Path) -> Iterator[str]:
    own = out.resolve()
    for file in folder.rglob("*"):
        name = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if not hidden and file.is_file() and not file.parent.resolve().is_relative_to(own):
            yield name.as_posix()


def _names_listed(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file}: is no text in UTF-8; expected a folder, or a text file with an image a line"
        ) from error
    names, problems = dict[str, int](), []
    for number, line in enumerate(lines, start=1):
        if not (name := line.strip()):
            continue
        path = PurePosixPath(name)
        if not path.parts or "\0" in name:
            problems.append(f"line {number}: {name!r} is no file's name; expected an image, relative to {file.parent}")
        elif path.is_absolute() or ".." in path.parts:
            problems.append(f"line {number}: {name!r} leads out of {file.parent}; put the list above all of its images")
        elif (first := names.setdefault(path.as_posix(), number)) != number:
            problems.append(f"line {number}: {name!r} stands in line {first}, too; list each image once")
    stop_on(str(file), problems)
    return list(names)
