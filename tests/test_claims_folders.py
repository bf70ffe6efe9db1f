"""Claims on data that not everyone has stand in a folder of their own beside the others, in `claims/`."""

import hashlib
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc_project import command
from test_claims import write_results
from test_claims_plan import CLAIM, write_claims
from typer.testing import CliRunner

from segpipe.claims.folder import ClaimsFolder, find_claims
from segpipe.claims.load import load_plan
from segpipe.claims.page import claims_page
from segpipe.claims.status import claims_status
from segpipe.claims.verdicts import draw_verdicts
from segpipe.claims.wiring import check_claims_wired, expected_pipeline, wire_claims
from segpipe.cli import app
from segpipe.params import read_yaml
from segpipe.provenance.trace import trace
from segpipe.stage import write_json

ROOT = Path(__file__).resolve().parent.parent
MINE = Path("claims/mine")
PHOTOS = {
    "datasets": {"photos": {"data": {"root": "data/raw/mine"}}},
    "claims": {"first": CLAIM | {"dataset": "photos"}},
}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A project with claims on the sample, wired, and claims on one's own photographs in claims/mine."""
    for name in ("src", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    write_claims(Path("claims"))
    wire_claims(load_plan())
    write_mine()
    return tmp_path


def write_mine(**changes: object) -> None:
    write_claims(MINE, **PHOTOS | changes)
    (MINE / "base.yaml").unlink()


def outputs(stages: dict) -> set[str]:
    """What the stages write; `${...}` stands as it is."""
    parts = [stage.get("do", stage) for stage in stages.values()]
    return {next(iter(out)) if isinstance(out, dict) else out for part in parts for out in part["outs"]}


def stages_of(path: Path) -> dict:
    return expected_pipeline(load_plan(path))["stages"]


def test_a_folder_without_a_base_builds_on_that_of_claims_and_one_with_its_own_on_that():
    run = next(iter(load_plan(MINE).runs.values()))
    assert load_plan(MINE).run_params(run).loss.dice == 0.25
    assert load_plan(MINE).base == load_plan().base
    assert stages_of(MINE)["run"]["do"]["params"][0].keys() == {"claims/base.yaml"}
    (MINE / "base.yaml").write_text(yaml.safe_dump(load_plan().base | {"seed": 7}), encoding="utf-8")
    assert load_plan(MINE).base["seed"] == 7
    assert stages_of(MINE)["run"]["do"]["params"][0].keys() == {"claims/mine/base.yaml"}


def test_its_stages_work_in_the_top_folder_on_files_of_its_own():
    stages = stages_of(MINE)
    assert list(stages) == ["data-photos", "run", "verdicts"], "it draws no sample"
    parts = [stages["data-photos"], stages["run"]["do"], stages["verdicts"]]
    assert all((MINE / part["wdir"]).resolve() == Path.cwd() for part in parts)
    assert stages["data-photos"]["deps"][-1] == "data/raw/mine"
    assert stages["run"]["do"]["deps"] == ["data/claims-mine/${item.dataset}"]
    assert {"claims/mine/claims.yaml", "claims/base.yaml", "claims/mine/runs/photos-2-a-0.json"} <= set(
        stages["verdicts"]["deps"]
    )
    assert outputs(stages) == {
        "data/claims-mine/photos",
        "claims/mine/runs/${key}.json",
        "claims/mine/verdicts.json",
        "docs/claims-mine.md",
    }


def test_no_two_folders_share_an_output_whatever_their_data_sets_are_called():
    write_mine(datasets={"mine": {}}, claims={"first": CLAIM | {"dataset": "mine"}})
    write_claims(Path("claims"), datasets={"mine": {}}, claims={"first": CLAIM | {"dataset": "mine"}})
    one, other = outputs(stages_of(Path("claims"))), outputs(stages_of(MINE))
    assert not [(a, b) for a in one for b in other if Path(a) in (Path(b), *Path(b).parents)]
    assert not [(a, b) for a in one for b in other if Path(b) in Path(a).parents]


def test_prepared_data_of_every_folder_is_kept_out_of_git():
    prepared = ClaimsFolder(MINE).prepared("photos")
    subprocess.run(["git", "check-ignore", "--quiet", f"{prepared}/images.bin"], cwd=ROOT, check=True)


def test_the_commands_of_claims_itself_name_no_folder():
    assert "--claims" not in Path("claims/dvc.yaml").read_text(encoding="utf-8")
    commands = [part.get("do", part)["cmd"] for part in stages_of(MINE).values()]
    assert len(commands) == 3 and all(" --claims claims/mine " in each for each in commands)


def test_its_commands_are_understood_and_read_its_claims():
    """Each comes as far as the first thing that is missing here, which is something of this folder's."""
    stages = stages_of(MINE)
    wire_claims(load_plan(MINE))
    found = {}
    for name in ("data-photos", "run", "verdicts"):
        cmd = stages[name].get("do", stages[name])["cmd"]
        # a run that nobody asks for, as another would train
        cmd = cmd.replace("${key}", "photos-2-none-0").replace("${item.dataset}", "photos")
        words = shlex.split(cmd.removeprefix("PYTHONPATH=src python "))
        found[name] = command(Path.cwd(), "python", *words, check=False, PYTHONPATH="src").stdout
    assert "data/raw/mine" in found["data-photos"]
    assert "claims/mine/claims.yaml: asks for no run 'photos-2-none-0'" in found["run"]
    assert "run `segpipe claims claims/mine`, then" in found["run"]
    assert "claims/mine: 4 problems\n  claims/mine/runs/photos-2-a-0.json: missing; `dvc repro " in found["verdicts"]


def test_the_page_names_its_own_files():
    plan = load_plan(MINE)
    write_results(plan, plan.folder.runs, {"a": 900, "b": 800})
    verdicts = draw_verdicts(plan, plan.folder.runs)
    page = claims_page(verdicts, plan.folder)
    assert page.startswith("# Claims and verdicts: mine\n")
    for file in ("claims/mine/dvc.yaml", "claims/mine/runs/", "claims/mine/claims.yaml", "git log -- claims/mine/runs"):
        assert f"`{file}`" in page
    assert "overrides of `claims/base.yaml`" in page
    assert "claims/runs" not in page and "**Supported.**" in page
    write_json(plan.folder.verdicts, verdicts)
    assert "first: 4 of 4 runs, supported" in claims_status(plan)
    (plan.folder.runs / "photos-2-a-0.json").rename(plan.folder.runs / "old.json")
    said = claims_status(plan)
    assert "1 run is missing or of other parameters: `dvc repro claims/mine/dvc.yaml` makes it" in said
    assert "claims/mine/runs: no claim needs old any more" in said


def test_a_run_is_known_by_the_same_digest_in_every_folder():
    write_mine(datasets={"sample": {}}, claims={"first": CLAIM})
    first, mine = load_plan(), load_plan(MINE)
    assert {key: first.fingerprint(run) for key, run in first.runs.items()} == {
        key: mine.fingerprint(run) for key, run in mine.runs.items()
    }


def test_wiring_twice_changes_nothing_more_and_one_folder_nothing_of_another():
    before = Path("claims/dvc.yaml").read_bytes()
    assert wire_claims(load_plan(MINE))
    assert not wire_claims(load_plan(MINE))
    check_claims_wired(load_plan(MINE))
    assert Path("claims/dvc.yaml").read_bytes() == before
    write_mine(claims={"first": CLAIM | {"dataset": "photos", "seeds": [0, 1, 2]}})
    with pytest.raises(ValueError, match=r"claims/mine/dvc\.yaml: .*run `segpipe claims claims/mine`, then"):
        check_claims_wired(load_plan(MINE))


def test_the_drawn_sample_is_drawn_by_one_folder_and_read_by_the_others():
    write_mine(datasets={"sample": {}}, claims={"first": CLAIM})
    assert "data/claims/raw/sample" in outputs(stages_of(Path("claims")))
    assert "data/claims/raw/sample" in stages_of(MINE)["data-sample"]["deps"]
    assert "data/claims/raw/sample" not in outputs(stages_of(MINE))


def test_a_sample_that_claims_does_not_draw_or_draws_otherwise_is_refused():
    write_mine(datasets={"sample": {}}, claims={"first": CLAIM})
    base = read_yaml(Path("claims/base.yaml"))
    smaller = base | {"sample": base["sample"] | {"train": 8}}
    (MINE / "base.yaml").write_text(yaml.safe_dump(smaller), encoding="utf-8")
    with pytest.raises(ValueError, match=r"claims/mine/base\.yaml: sample: differs from that of claims/base\.yaml"):
        expected_pipeline(load_plan(MINE))
    (MINE / "base.yaml").unlink()
    write_claims(Path("claims"), **PHOTOS)
    wire_claims(load_plan())
    with pytest.raises(ValueError, match=r"but claims/dvc\.yaml does not draw it, as no claim of claims/claims\.yaml"):
        expected_pipeline(load_plan(MINE))


@pytest.mark.parametrize("given", ["claims/mine", "claims/mine/", "./claims/../claims/mine", "{here}/claims/mine"])
def test_a_folder_may_be_named_in_any_way(given, project):
    assert find_claims(Path(given.format(here=project))) == MINE
    assert find_claims(Path("claims/")) == Path("claims")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "claims/none",
            "claims/none/claims.yaml: not found; write it, or name a folder that has one: claims, cl",
        ),
        ("mine", "mine: is no folder of claims; expected claims, or a folder in it such as claims/mine"),
        ("claims/a/b", "claims/a/b: is no folder of claims"),
        ("claims/a b", "claims/a b: is no folder of claims"),
        ("..", "..: is no folder of claims"),
    ],
)
def test_what_is_no_folder_of_claims_is_refused_before_anything_is_written(given, said):
    result = CliRunner().invoke(app, ["claims", given])
    assert isinstance(result.exception, ValueError)
    assert str(result.exception).startswith(said)
    assert not Path("claims/none").exists()


def test_away_from_the_projects_top_folder_that_is_what_is_said(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"claims/mine/claims\.yaml: not found; run the command in the top folder"):
        find_claims(MINE)


def test_the_command_wires_the_folder_it_is_given():
    result = CliRunner().invoke(app, ["claims", "claims/mine"])
    assert result.exception is None, result.output
    assert result.output.startswith(
        "claims/mine/dvc.yaml: rewritten to fit claims.yaml\nfirst: 0 of 4 runs, no verdict\n"
    )
    assert "`dvc repro claims/mine/dvc.yaml` makes them" in result.output


def test_what_its_runs_left_is_on_record():
    file = Path("claims/mine/verdicts.json")
    file.write_text("{}\n", encoding="utf-8")
    out = {"path": file.as_posix(), "md5": hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest(), "size": 3}
    lock = {"schema": "2.0", "stages": {"verdicts": {"cmd": "x", "outs": [out]}}}
    Path("claims/mine/dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False), encoding="utf-8")
    place = trace(file).place
    assert place is not None and (place.lock, place.stage) == ("claims/mine/dvc.lock", "verdicts")
