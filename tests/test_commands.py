"""Every command of README and docs is run as it stands on a tiny project, or listed here with what runs it instead."""

import re
import shutil

import pytest
from documented import command_lines
from dvc_project import command, make_tiny_project

# by what a line starts with
ELSEWHERE = {
    "make repro": "installs, then `dvc repro`, which is run below",
    "make test": "this",
    "python3 -m venv": "needs a package index of CPU builds",
    ".venv/bin/pip": "needs a package index of CPU builds",
    ". .venv/bin/activate": "the tests' own environment is active",
    "dvc plots show 'dvclive/": "needs a run with tracking.dvclive; tests/test_tracking.py makes one",
    "for fold in 0 1 2 all": "tests/test_folds.py, on fold 0 and all",
    "dvc repro claims/dvc.yaml": "tests/test_claims_dvc.py, on a claim of one epoch",
    "segpipe claims claims/camvid": "tests/test_claims_folders.py, on claims of a test",
    "dvc repro claims/camvid/dvc.yaml": "needs the CamVid photographs",
    "segpipe score --labels": "tests/test_score.py: it needs label maps and truth of one's own",
    "PYTHONPATH=src python benchmarks/": "minutes, and its figures are this machine's",
    "PYTHONPATH=src python stages/claim_run.py": "minutes; tests/test_claims_run.py",
    "PYTHONPATH=src python docs/gain_pictures.py": "needs the models of 18 runs",
    "torchrun --nnodes": "needs several machines; tests/test_training.py runs two processes on one",
    "mkdir -p data/raw && cp -r <your CamVid": "needs the CamVid photographs",
    "for seed in 0 1 2": "needs the CamVid photographs, and most of an hour",
    "dvc add data/raw/camvid": "needs the CamVid photographs",
    "segpipe predict data/models/retrain/main-0 data/models/retrain": "one member here; tests/test_predict_folder.py",
    "ls ": "needs data of that layout; tests/test_label_maps.py makes some",
    "sed ": "likewise",
    "find ": "likewise",
    'dvc exp run -S "data.classes=': "tests/test_wiring.py: other classes are nothing to compare later runs with",
    "git clone https://github.com/pedropro/TACO": "needs the TACO photographs; tests/test_taco.py draws a few",
    "mkdir -p data/raw && cp -r TACO/data": "needs the TACO photographs",
    "dvc add data/raw/taco": "needs the TACO photographs",
}
# these change what later ones work on, so they come last: another recipe, another data set
LAST = (
    "mkdir -p data/raw && cp -r ~/mine",
    "dvc exp run -S data.root=",
    "segpipe recipe camvid",
    "segpipe recipe taco",
    "segpipe recipe tiny",
)
RUN = sorted(
    (line for line in command_lines() if not line.startswith(tuple(ELSEWHERE))), key=lambda line: line.startswith(LAST)
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A tiny project, nothing run yet, and a home folder with a data set of one's own in `mine`."""
    folder = tmp_path_factory.mktemp("documented") / "project"
    make_tiny_project(folder)
    command(folder, "git", "add", "-A")
    command(folder, "git", "commit", "-qm", "a tiny project")
    return folder


@pytest.mark.parametrize("line", RUN)
def test_a_documented_command_runs(project, line):
    home = project.parent / "home"
    if "~/mine" in line:
        shutil.copytree(project / "data/raw/sample", home / "mine")
    if " photos " in line or " list.txt " in line:
        shutil.rmtree(project / "found", ignore_errors=True)
        shutil.copytree(project / "data/raw/sample/batch_03", project / "photos", dirs_exist_ok=True)
        (project / "list.txt").write_text("\n".join(f"photos/{path.name}" for path in (project / "photos").iterdir()))
    if "git commit" in line:
        with (project / "notes.txt").open("a") as notes:
            notes.write("something to commit\n")
    variables = {"HOME": str(home), "PYTHONPATH": "src", "GIT_EDITOR": "sh -c 'echo An experiment > \"$0\"'"}
    line = re.sub(r"\bsegpipe ", "python -m segpipe.cli ", line)  # the installed one is another tree's
    command(project, "sh", "-c", line, **variables)


def test_what_is_run_elsewhere_is_still_documented():
    unknown = [start for start in ELSEWHERE if not any(line.startswith(start) for line in command_lines())]
    assert not unknown
