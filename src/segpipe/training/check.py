"""What of params.yaml the libraries or this machine would refuse: all of it, of every member, before data are read.

Run as a program it reads params.yaml of the current folder and prints what it found as a JSON list. The command line
runs it so, in a process of its own: the libraries take seconds to import, and may be what is broken.
"""

import json
import sys
from pathlib import Path

import yaml

from segpipe.data.augment import check_transforms
from segpipe.models.check import model_problems
from segpipe.params import MemberParams, Params, holds, load_params, stop_on
from segpipe.training.engine import check_engine, check_ratio


def check_members(params: Params) -> None:
    """Raise ValueError that lists what `member_problems` finds: a typo must not wait for the stage that meets it."""
    stop_on("params.yaml", member_problems(params))


def member_problems(params: Params) -> list[str]:
    """Architectures, encoders, weights, augmentations, devices, precisions and batches that cannot be, a line each.

    A line begins with the key at which the value stands: `members.<name>.` and the rest of the key where the member
    overrides it. What members share is told once.
    """
    shared = MemberParams.model_validate(params.model_dump(include=set(MemberParams.model_fields)))
    retrains = params.data.unlabeled != ()
    of_all = _problems(shared, retrains)
    lines = []
    for name in params.member_names:
        for line in _problems(params.member(name), retrains):
            key = line.split(":")[0]
            if holds(params.members[name], key.split(".")):
                lines.append(f"members.{name}.{line}")
            else:  # a shared value may be wrong only beside what this member overrides
                lines.append(line if line in of_all else f"{line} (for member {name})")
    return list(dict.fromkeys(lines))


def unlisted_weights(params: Params, stage: str, pipeline: Path = Path("dvc.yaml")) -> list[str]:
    """What to say of files of encoder weights that `stage` of dvc.yaml does not depend on, a line each.

    It can be so where `dvc exp run -S` named them: DVC itself would not see that such a file is replaced.
    """
    deps = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"][stage]["deps"] if pipeline.is_file() else []
    paths = {params.member(name).model.weights_path for name in params.member_names}
    return [
        f"model.encoder_weights: {path} is no dependency of {stage} in {pipeline}: another file under this name would "
        "not train again. `segpipe wire` lists it, once params.yaml names it"
        for path in sorted(path for path in paths if path is not None and path.as_posix() not in deps)
    ]


def _problems(member: MemberParams, retrains: bool) -> list[str]:
    return [
        *model_problems(member.model),
        *check_transforms(member.augment.train, "augment.train"),
        *check_transforms(member.augment.pseudo, "augment.pseudo"),
        *check_engine(member.train),
        *(check_ratio(member) if retrains else ()),
    ]


if __name__ == "__main__":
    json.dump(member_problems(load_params()), sys.stdout)
