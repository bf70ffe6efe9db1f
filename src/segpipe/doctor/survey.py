"""The whole examination: the environment first, then one process for each member. Imports no torch itself."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from segpipe.doctor.environment import disk_report, machine_report, package_report, tree_report
from segpipe.doctor.finding import Finding
from segpipe.doctor.machine import Machine, read_machine
from segpipe.doctor.measured import Measured, data_share, judge
from segpipe.doctor.packages import probe_torch
from segpipe.doctor.parameters import parameter_problems
from segpipe.params import Params, load_params

Say = Callable[[str, str], None]  # member, step


@dataclass
class Survey:
    """What was found so far; `sections` by title, `members` what was measured of each or why it could not be."""

    machine: Machine
    params: Params | None = None
    probe: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, list[Finding]] = field(default_factory=dict)
    members: dict[str, Measured | str] = field(default_factory=dict)
    advice: dict[str, list[Finding]] = field(default_factory=dict)

    @property
    def findings(self) -> list[Finding]:
        """All of them."""
        return [finding for part in (self.sections, self.advice) for listed in part.values() for finding in listed]

    @property
    def sound(self) -> bool:
        """Whether nothing will fail, warnings aside."""
        return all(finding.verdict != "bad" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """For machines: findings by section, and for each member its numbers or its error."""
        members = {}
        for name, measured in self.members.items():
            known = {"error": measured} if isinstance(measured, str) else measured.to_json() | _shares(measured)
            members[name] = known | {"findings": [asdict(finding) for finding in self.advice[name]]}
        sections = {title: [asdict(finding) for finding in listed] for title, listed in self.sections.items()}
        return {"sound": self.sound, "environment": sections, "members": members}


def examine_environment() -> Survey:
    """Packages, this tree, machine, parameters and disks: seconds, most of them for importing torch."""
    survey = Survey(read_machine(), probe=probe_torch())
    problems = ""
    try:
        survey.params = load_params()
        # where torch is broken, that has its own line
        problems = "\n".join(parameter_problems(survey.params, libraries="error" not in survey.probe))
    except ValueError as error:
        problems = str(error)
    survey.sections["packages"] = package_report(survey.probe)
    survey.sections["this tree"] = [*tree_report(), _params_finding(survey.params, problems)]
    survey.sections["machine"] = machine_report(survey.machine, survey.probe, survey.params)
    if survey.params:
        survey.sections["disks"] = disk_report(survey.params)
    return survey


def measure_members(survey: Survey, say: Say, *, seconds: float, passes: int) -> Iterator[str]:
    """Measure every member and judge it; gives each name when done. Nothing where torch or params.yaml is broken."""
    if survey.params is None or "error" in survey.probe:
        return
    gpus = survey.probe["gpus"]
    for name in survey.params.member_names:
        survey.members[name] = measured = measure_member(name, say, seconds=seconds, passes=passes)
        if isinstance(measured, str):
            survey.advice[name] = [Finding("member", "bad", measured, _advice(measured, name))]
        else:
            survey.advice[name] = judge(measured, survey.machine, gpus[0]["memory"] if gpus else None)
        yield name


def measure_member(name: str, say: Say, *, seconds: float, passes: int) -> Measured | str:
    """Its numbers, or why it could not be measured: its own process takes the blame, and the memory, with it."""
    words = [sys.executable, "-m", "segpipe.doctor.trial", name, str(seconds), str(passes)]
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=complaints, text=True) as process,
    ):
        outcome: Measured | str | None = None
        for line in process.stdout or ():
            said = json.loads(line) if line.startswith("{") else {}
            if "at" in said:
                say(name, said["at"])
            elif "measured" in said:
                outcome = Measured.from_json(said["measured"])
            elif "error" in said:
                outcome = said["error"]
        code = process.wait()
        complaints.seek(0)
        last = (complaints.read().strip().splitlines() or [""])[-1]
    if outcome is not None:
        return outcome
    if code == -signal.SIGKILL:
        return "the process was killed, most likely because memory ran out"
    return f"its process ended with code {code}: {last}"


def _advice(error: str, name: str) -> str:
    if "memory" in error:
        return "lower train.batch_size or data.image_size"
    return f"mend params.yaml; `python -m segpipe.doctor.trial {name} 1 1` shows all of it"


def _params_finding(params: Params | None, problems: str) -> Finding:
    if params is None or problems:
        return Finding("params.yaml", "bad", problems, "mend it, then run `segpipe check`")
    return Finding("params.yaml", "ok", f"valid; members {', '.join(params.member_names)}")


def _shares(measured: Measured) -> dict[str, dict[str, float]]:
    return {"data_share": {precision: data_share(measured, precision) for precision in measured.both}}
