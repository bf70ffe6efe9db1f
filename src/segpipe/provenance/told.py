"""What is on record of a file, as text and as JSON."""

import yaml

from segpipe.data.source.problems import shown_id, some_ids
from segpipe.provenance.locks import Entry
from segpipe.provenance.trace import Place, Provenance

SHOWN = 5  # files that a line names


def to_text(found: Provenance) -> str:
    """One subject a paragraph; what is not on record is said."""
    lines = [f"{shown_id(str(found.path))}: {found.size} bytes, md5 {found.md5}"]
    lines += [*_origin(found), *_commit_lines(found)]
    if found.chain is not None:
        lines += _code_lines(found)
        lines += ["data:", *(_data_line(entry, stage) for entry, stage in found.data)]
        lines += ["models:", *(f"  {_entry(model)}" for model in found.models)] if found.models else ["models: none"]
        lines += [f"stages, in order: {', '.join(stage.name for stage in found.chain.stages)}"]
        lines += [f"stale: {said}" for said in found.chain.stale]
        lines += ["parameters:", *_params_lines(found.chain.params())]
    return "\n".join([*lines, *(f"note: {note}" for note in found.notes)])


def to_json(found: Provenance) -> dict:
    """The same as a plain dict that `json.dumps` accepts."""
    chain = found.chain
    return {
        "file": str(found.path),
        "md5": found.md5,
        "size": found.size,
        "written_by": _place_json(found.place),
        "also": [_place_json(place) for place in found.others],
        "read_by": found.read_by,
        "in_working_tree_lock": found.in_tree,
        "in_head_lock": found.in_head,
        "commits": [commit.to_json() for commit in found.commits],
        "code": None
        if found.code is None
        else {
            "commit": found.commits[-1].hash,
            "files": found.code.files,
            "differing": list(found.code.differing),
        },
        "modified_now": found.modified,
        "data": [entry.to_json() | {"drawn_by": stage} for entry, stage in found.data],
        "models": [model.to_json() for model in found.models],
        "stages": [] if chain is None else [stage.name for stage in chain.stages],
        "stale": [] if chain is None else list(chain.stale),
        "params": {} if chain is None else chain.params(),
        "notes": found.notes,
    }


def _place_json(place: Place | None) -> dict | None:
    if place is None:
        return None
    return {"lock": place.lock, "stage": place.stage, "inside": place.inside} | place.out.to_json()


def _origin(found: Provenance) -> list[str]:
    if found.place is None:
        read = f"; stages that read it as it is: {', '.join(found.read_by)}" if found.read_by else ""
        return [f"written by: no stage on record{read}"]
    lines = [f"written by: {_where(found.place)}"]
    return lines + [f"the same content: {_where(other)}" for other in found.others]


def _where(place: Place) -> str:
    inside = f"{place.inside} in " if place.inside else ""
    return f"stage {place.stage} of {place.lock}, as {inside}{_entry(place.out)}"


def _commit_lines(found: Provenance) -> list[str]:
    if found.place is None:
        return []
    if not found.commits:
        lines = ["commit: none; only the lock of the working tree has it, which is not committed"]
    else:
        first = found.commits[-1]
        lines = [f"commit: {first.hash} of {first.time}, {shown_id(first.subject)}"]
        rest = found.commits[:-1]
        lines += [f"  still so in {commit.hash[:10]} of {commit.time}" for commit in rest[:SHOWN]]
        lines += [f"  and in {len(rest) - SHOWN} more"] if len(rest) > SHOWN else []
    now = {True: "has it", False: "has another by now"}
    lines.append(
        f"{found.place.lock}: that of HEAD {now[found.in_head]}, that of the working tree {now[found.in_tree]}"
    )
    count, some = len(found.modified), some_ids(found.modified, SHOWN)
    return [*lines, f"working tree: {f'{count} tracked files are modified: {some}' if count else 'clean'}"]


def _code_lines(found: Provenance) -> list[str]:
    assert found.chain is not None
    if found.code is None:
        return [f"code: {len(found.chain.code())} files, held against no commit"]
    if not found.code.differing:
        return [f"code: {found.code.files} files, all as in that commit"]
    count, differing, some = found.code.files, len(found.code.differing), some_ids(found.code.differing, SHOWN)
    return [f"code: {count} files, of which {differing} ran otherwise than in that commit: {some}"]


def _data_line(entry: Entry, stage: str | None) -> str:
    return f"  {_entry(entry)}" + (f", made by stage {stage}" if stage else "")


def _params_lines(params: dict[str, dict]) -> list[str]:
    """Every key once, with the stages that read another value than the first where there are any."""
    merged: dict[str, list[tuple[object, list[str]]]] = {}
    for stage, values in params.items():
        for key, value in values.items():
            same = next((stages for other, stages in merged.setdefault(key, []) if other == value), None)
            if same is None:
                merged[key].append((value, [stage]))
            else:
                same.append(stage)
    lines = []
    for key in sorted(merged):
        for value, stages in merged[key]:
            read_by = f"  # read by {', '.join(stages)}" if len(merged[key]) > 1 else ""
            text = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=110)
            first, *more = text.rstrip("\n").split("\n")
            lines += [f"  {first}{read_by}", *(f"  {line}" for line in more)]
    return lines


def _entry(entry: Entry) -> str:
    files = f", {entry.nfiles} files" if entry.nfiles else ""
    return f"{shown_id(entry.path)} (md5 {entry.md5}, {entry.size} bytes{files})"
