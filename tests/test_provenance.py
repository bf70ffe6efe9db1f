"""`segpipe provenance`: a small project with a hand-written dvc.lock, in git; folders are listed by DVC itself."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from segpipe.cli import app
from segpipe.provenance.content import cache_folder, listing_of, md5_of
from segpipe.provenance.locks import chain_of, read_lock

FILES = {
    "src/segpipe/a.py": "a = 1\n",
    "stages/ensemble.py": "import segpipe.a\n",
    "data/raw/mine/train.json": "{}",
    "data/prepared/table.json": "[]",
    "data/models/baseline/main-0/model.json": "{1}",
    "data/submission/submission.csv": "image_id,PredictionString\nb.jpg,0 1\n",
    "data/submission/selection.json": "{2}",
}
CHAIN = {  # stage: what it reads, what it writes
    "prepare": (["data/raw/mine", "src/segpipe/a.py"], ["data/prepared"]),
    "baseline@main-0": (["data/prepared", "src/segpipe/a.py"], ["data/models/baseline/main-0"]),
    "ensemble": (["data/models/baseline/main-0", "data/prepared", "stages/ensemble.py"], ["data/submission"]),
}


def git(*arguments: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *author, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def write_files(files: dict[str, str]) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


def write_lock(epochs: int) -> None:
    """dvc.lock as `dvc repro` would write it of what lies there."""

    def entries(paths: list[str]) -> list[dict]:
        return [{"path": path, "hash": "md5", "md5": md5_of(Path(path)), "size": 1} for path in paths]

    stages = {
        name: {
            "cmd": f"python {name}",
            "deps": entries(deps),
            "params": {"params.yaml": {"train": {"epochs": epochs}} if "@" in name else {"seed": 0}},
            "outs": entries(outs),
        }
        for name, (deps, outs) in CHAIN.items()
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Two runs, each committed: the second has another model, submission and code."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    Path(".gitignore").write_text("/data/\n")
    write_files(FILES)
    write_lock(epochs=9)
    git("add", "."), git("commit", "-qm", "First run")
    write_files({"src/segpipe/a.py": "a = 2\n", "data/models/baseline/main-0/model.json": "{3}"})
    Path("old.csv").write_bytes(Path("data/submission/submission.csv").read_bytes())
    write_files({"data/submission/submission.csv": "image_id,PredictionString\nb.jpg,1 1\n"})
    write_lock(epochs=12)
    git("add", "dvc.lock", "src"), git("commit", "-qm", "Second run")
    return tmp_path


def ask(*arguments: str) -> dict:
    """The answer as JSON, with the exit code."""
    result = CliRunner().invoke(app, ["provenance", *arguments, "--json"], catch_exceptions=False)
    return json.loads(result.output) | {"code_of_exit": result.exit_code}


def test_a_submission_is_traced_to_commit_code_parameters_data_and_models(project):
    found = ask("data/submission/submission.csv")
    assert found["code_of_exit"] == 0
    assert found["written_by"]["stage"] == "ensemble" and found["written_by"]["inside"] == "submission.csv"
    assert found["commits"] == [
        {"hash": git("rev-parse", "HEAD"), "time": git("log", "-1", "--format=%cI"), "subject": "Second run"}
    ]
    assert found["stages"] == ["prepare", "baseline@main-0", "ensemble"]
    assert found["params"]["baseline@main-0"] == {"train": {"epochs": 12}}
    raw = {"path": "data/raw/mine", "md5": md5_of(Path("data/raw/mine")), "size": 1, "files": None, "drawn_by": None}
    assert found["data"] == [raw]
    assert [model["md5"] for model in found["models"]] == [md5_of(Path("data/models/baseline/main-0"))]
    assert found["code"] == {"commit": git("rev-parse", "HEAD"), "files": 2, "differing": []}
    assert found["in_head_lock"] and found["in_working_tree_lock"] and found["modified_now"] == []


def test_a_folder_is_traced_by_all_that_is_in_it(project):
    found = ask("data/models/baseline/main-0")
    assert found["written_by"]["stage"] == "baseline@main-0" and found["written_by"]["inside"] is None
    write_files({"data/models/baseline/main-0/notes.txt": "mine"})
    assert ask("data/models/baseline/main-0")["written_by"] is None


def test_a_copy_of_an_earlier_submission_is_found_in_history_by_dvcs_listing(project):
    first = ask("old.csv")
    assert first["written_by"] is None and first["code_of_exit"] == 1
    assert "have no listing in DVC's cache" in first["notes"][0]
    write_files({"copies/submission.csv": Path("old.csv").read_text(), "copies/selection.json": "{2}"})
    repo = Repo.init(no_scm=True)
    repo.add("copies")
    repo.close()
    found = ask("old.csv")
    assert found["written_by"]["stage"] == "ensemble" and found["written_by"]["inside"] == "submission.csv"
    assert [commit["subject"] for commit in found["commits"]] == ["First run"]
    assert found["params"]["baseline@main-0"] == {"train": {"epochs": 9}}
    assert found["code"]["differing"] == [] and not found["in_head_lock"] and not found["in_working_tree_lock"]


def test_code_that_was_not_committed_as_it_ran_is_named(project):
    write_files({"stages/ensemble.py": "import segpipe.a  # tried\n"})
    write_lock(epochs=13)
    write_files({"stages/ensemble.py": "import segpipe.a  # mended\n"})
    git("add", "dvc.lock", "stages"), git("commit", "-qm", "Third run")
    write_files({"src/segpipe/a.py": "a = 3\n"})
    found = ask("data/submission")  # the same content as in the second run
    assert [commit["subject"] for commit in found["commits"]] == ["Third run", "Second run"]
    assert found["code"]["differing"] == [] and found["modified_now"] == ["src/segpipe/a.py"]
    write_files({"data/submission/submission.csv": "new"})
    write_lock(epochs=14)
    fresh = ask("data/submission")
    assert fresh["commits"] == [] and fresh["code"] is None and fresh["in_working_tree_lock"]
    git("add", "dvc.lock"), git("commit", "-qm", "Fourth run, without its code")
    assert ask("data/submission")["code"]["differing"] == ["src/segpipe/a.py"]


def test_the_first_commit_is_the_earliest_whatever_time_zones_say(project, monkeypatch):
    later, earlier = "2030-01-01T06:00:00 -0500", "2030-01-01T08:00:00 +0900"  # 11:00 and 23:00 the day before, in UTC
    text = Path("dvc.lock").read_text()
    for subject, date in (("Earlier", earlier), ("Later", later)):
        Path("dvc.lock").write_text(f"{text}# {subject}\n")  # the same content of the data in another text of the lock
        monkeypatch.setenv("GIT_COMMITTER_DATE", date)
        git("commit", "-qam", subject)
    assert [commit["subject"] for commit in ask("data/submission")["commits"]] == ["Later", "Earlier", "Second run"]


def test_a_subject_may_hold_what_python_takes_for_the_end_of_a_line(project):
    subject = "Form\x0cfeed, line\u2028separator"
    git("commit", "-q", "--amend", "-m", subject)
    assert [commit["subject"] for commit in ask("data/submission")["commits"]] == [subject]


def test_a_lock_that_does_not_fit_together_is_said(project):
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    lock["stages"]["baseline@main-0"]["outs"][0]["md5"] = "0" * 32 + ".dir"
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    chain = chain_of(read_lock(Path("dvc.lock").read_text()), "ensemble")
    assert [stage.name for stage in chain.stages] == ["prepare", "ensemble"]
    (said,) = chain.stale
    assert said.startswith("ensemble read data/models/baseline/main-0 as ") and "baseline@main-0 since" in said


def test_raw_data_and_code_are_told_to_be_read(project):
    found = ask("data/raw/mine")
    assert found["written_by"] is None and found["read_by"] == ["prepare"]
    text = CliRunner().invoke(app, ["provenance", "data/raw/mine"]).output
    assert "written by: no stage on record; stages that read it as it is: prepare" in text


def test_the_text_has_all_subjects_and_no_escape_of_a_message(project):
    git("commit", "-q", "--allow-empty", "-m", "nothing")
    write_files({"data/submission/submission.csv": "evil"})
    write_lock(epochs=15)
    git("add", "dvc.lock"), git("commit", "-qm", "\x1b[31mred")
    text = CliRunner().invoke(app, ["provenance", "data/submission/submission.csv"]).output
    assert "\x1b" not in text and "red" in text
    for said in ("written by: stage ensemble", "code: 2 files, all as in that commit", "data:", "models:", "  seed: 0"):
        assert said in text
    assert "  train:\n    epochs: 15" in text


def test_without_git_the_lock_alone_is_looked_at(project):
    (project / ".git").rename(project / "elsewhere")
    found = ask("data/submission")
    assert found["written_by"]["stage"] == "ensemble" and found["commits"] == []
    assert found["notes"] == ["this is no git repository: only dvc.lock as it is now was looked at"]


def test_what_is_not_there_is_an_error(project, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"none\.csv: not found"):
        ask("none.csv")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(FileNotFoundError, match=r"dvc\.lock: not found; run the command in the project's top folder"):
        ask("../old.csv")
    with pytest.raises(ValueError, match=r"is no dvc\.lock"):
        read_lock("[1]")


def test_folders_are_hashed_and_listed_as_dvc_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files({"folder/b.txt": "1", "folder/a/b.txt": "2", "folder/a-b.txt": "3", "folder/é.txt": "4\r\n"})
    repo = Repo.init(no_scm=True)
    repo.add("folder")
    repo.close()
    (out,) = yaml.safe_load(Path("folder.dvc").read_text())["outs"]
    assert md5_of(Path("folder")) == out["md5"]
    listed = listing_of(cache_folder(tmp_path), out["md5"])
    contents = {path.relative_to("folder").as_posix(): path.read_bytes() for path in Path("folder").rglob("*.txt")}
    assert listed == {hashlib.md5(content).hexdigest(): name for name, content in contents.items()}
    assert listing_of(cache_folder(tmp_path), "0" * 32 + ".dir") is None


def test_the_cache_is_where_dvcs_configuration_says(tmp_path):
    (tmp_path / ".dvc").mkdir()
    assert cache_folder(tmp_path) == tmp_path / ".dvc" / "cache"
    (tmp_path / ".dvc" / "config.local").write_text("[cache]\n    dir = ../shared\n['remote \"x\"']\n    url = a%b\n")
    assert cache_folder(tmp_path) == tmp_path / ".dvc" / "../shared"


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_any_lock_has_an_end_and_lists_each_stage_once(edges):
    lock = {"stages": {f"s{i}": {"cmd": "x", "deps": [], "outs": [{"path": f"o{i}", "md5": "m"}]} for i in range(6)}}
    for reader, read in edges:
        lock["stages"][f"s{reader}"]["deps"].append({"path": f"o{read}", "md5": "m"})
    names = [stage.name for stage in chain_of(read_lock(json.dumps(lock)), "s0").stages]
    assert len(set(names)) == len(names) and "s0" in names
