"""The whole table of malformed inputs, and docs/bad-input.md made of it.

`PYTHONPATH=src:tests python -m malformed.page` writes the page.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from malformed import entries, label_maps, lists, samples
from malformed.case import Case
from malformed.project import refusal

PAGE = Path(__file__).resolve().parents[2] / "docs/bad-input.md"
SECTIONS = lists.SECTIONS | entries.SECTIONS | label_maps.SECTIONS | samples.SECTIONS
CASES = [case for cases in SECTIONS.values() for case in cases]

HEAD = """# What bad input is told

Before anything slow begins, every stage checks the whole of `params.yaml`, and `prepare` checks every annotation and
every image. It lists all that is wrong in one message and stops; nothing usable is left in `data/prepared/`.

- With `data.on_problem: skip` it goes on without what is broken and lists that in `data/prepared/data_check.json`.
  Mistakes in `params.yaml` and between lists stop it all the same, and so do broken test images: a submission needs
  every row.
- `segpipe check` reads no data and writes nothing. It finds all that is wrong in `params.yaml` at once: keys, files
  that are not there, names of models and augmentations (which takes seconds, as libraries must load), and lists in
  `dvc.yaml` that no longer fit. What DVC says where it comes first stands [at the end](#what-dvc-says-itself).
- `segpipe check DIR` finds all that is wrong with a folder of data, as `prepare` would, and all that is odd
  ([Checking a data set](data.md#checking-a-data-set)). It writes nothing either.
- Of more than 50 problems each kind is shown a few times, with a count of the rest.
- Where lists are at fault, the images are opened all the same, so that one run shows everything.
- A pool without images is no mistake: with `data.unlabeled: []`, or a file whose list of images is empty, there are no
  pseudo labels, and `retrain` says so and keeps the baseline. `data.test` may be left empty, too: the submission then
  has no rows.

Below is what each of {count} mistakes gets in a small sound project whose data lie in `data/raw/mine/`; the line that
counts the problems and the advice at the end are left out. `PYTHONPATH=src:tests python -m malformed.page` writes this
page from the table that the tests run.
"""

DVC_SAYS = {  # what happened, how DVC puts it (tests/test_dvc.py), what to do
    "`dvc repro` where `data.root` is not there": (
        "failed to reproduce 'prepare': [Errno 2] No such file or directory:",
        "`segpipe check` names the key. The message for it above is that of `stages/prepare.py`, which DVC did not "
        "start.",
    ),
    "`dvc exp run -S loss.dcie=0.25`, a misspelt key": (
        "To append to your config use +loss.dcie=0.25: Key 'dcie' is not in struct",
        "Do not use `+`: no key may be added. `params.yaml` has every key there is.",
    ),
    "a stage stopped over a mistake, and its outputs are gone": (
        "failed to reproduce 'sample': failed to run:",
        "Mend what the stage named above that line. `dvc repro` then brings the outputs back from DVC's cache, where "
        "nothing else has changed.",
    ),
}
TAIL = """## What DVC says itself

DVC looks at parameters and files before it starts a stage, and removes the stage's outputs. So there are messages that
this project does not write, with other advice than it would give.

| what happened | DVC's message | what to do |
|---|---|---|
"""


def page() -> str:
    """docs/bad-input.md, every message taken from a real refusal."""
    parts = [HEAD.format(count=len(CASES))]
    for title, cases in SECTIONS.items():
        rows = "\n".join(f"| {case.mistake} | {said(case)} |" for case in cases)
        parts.append(f"## {title}\n\n| mistake | message |\n|---|---|\n{rows}\n")
    rows = [f"| {happened} | `{message}` | {advice} |\n" for happened, (message, advice) in DVC_SAYS.items()]
    return "\n".join([*parts, TAIL + "".join(rows)])


def said(case: Case) -> str:
    """The message of a case as it stands in a table."""
    with tempfile.TemporaryDirectory() as folder:
        message = refusal(Path(folder), case.break_it, case.params)
    return "<br>".join(f"`{line.replace('|', chr(92) + '|')}`" for line in problem_lines(message))


def problem_lines(message: str) -> Iterator[str]:
    """The lines of a message that name a problem; all of it where it has no such lines."""
    lines = message.splitlines()
    listed = [line.strip() for line in lines if line.startswith("  ")]
    yield from listed or lines


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
