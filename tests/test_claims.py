"""From results to verdicts and their page, and the claims' own pipeline under DVC."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_claims_plan import ARMS, CLAIM, write_claims

from segpipe.claims.folder import ClaimsFolder, claims_folders
from segpipe.claims.load import load_plan
from segpipe.claims.page import claims_page
from segpipe.claims.results import Result, read_result, write_result
from segpipe.claims.status import claims_status
from segpipe.claims.verdicts import draw_verdicts
from segpipe.claims.wiring import code_digests, expected_pipeline
from segpipe.sources import code_digest
from segpipe.stage import read_json

ROOT = Path(__file__).resolve().parent.parent
IMAGES = tuple(f"batch/{number:04d}.jpg" for number in range(12))


def result(seed: int, right: int, **changes: object) -> Result:
    """Twelve images of two classes, about `right` of 1,000 pixels of each right."""
    hits = right + np.random.default_rng(seed).integers(-5, 5, (len(IMAGES), 2))
    confusions = np.array([[[a, 1000 - a], [1000 - b, b]] for a, b in hits], np.int64)
    given = {
        "code": "c0de",
        "labelling": None,
        "params": "",
        "libraries": {"torch": "2.0"},
        "updates": 4,
        "classes": ("Sky", "Road"),
    }
    return Result(**given | {"images": IMAGES, "groups": IMAGES, "confusions": confusions} | changes)


def write_results(plan, folder: Path, right: dict[str, int], **changes: object) -> None:
    for key, run in plan.runs.items():
        made = result(run.seed, right[run.arm], **{"params": plan.fingerprint(run)} | changes)
        write_result(made, folder / f"{key}.json")


@pytest.fixture
def plan(tmp_path):
    return load_plan(write_claims(tmp_path / "claims"))


def test_a_result_is_read_back_as_it_was_written_one_line_an_image(tmp_path):
    made = result(3, 800)
    write_result(made, tmp_path / "x.json")
    found = read_result(tmp_path / "x.json")
    np.testing.assert_array_equal(found.confusions, made.confusions)
    assert {**found.__dict__, "confusions": 0} == {**made.__dict__, "confusions": 0}
    lines = (tmp_path / "x.json").read_text().splitlines()
    assert sum(line.startswith('["batch/') for line in lines) == len(IMAGES)


def test_the_digest_follows_every_byte_and_name_but_no_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.py", "b.py"):
        Path(name).write_text("x = 1\n")
    digest = code_digest(["a.py", "b.py"])
    assert digest == code_digest([Path("b.py"), "a.py"])
    Path("a.py").write_text("x = 2\n")
    assert code_digest(["a.py", "b.py"]) != digest


@pytest.mark.parametrize(
    ("right", "verdict"), [((900, 800), "supported"), ((800, 900), "refuted"), ((800, 800), "undecided")]
)
def test_a_verdict_follows_the_scores(tmp_path, plan, right, verdict):
    write_results(plan, tmp_path / "runs", dict(zip("ab", right, strict=True)))
    verdicts = draw_verdicts(plan, tmp_path / "runs")
    assert verdicts["claims"][0]["verdict"] == verdict
    page = claims_page(verdicts, plan.folder)
    assert f"**{verdict.capitalize()}" in page
    assert CLAIM["text"] in page
    json.dumps(verdicts, allow_nan=False)


@pytest.mark.parametrize(("seeds", "too_few"), [([0, 1], True), ([0, 1, 2], False)])
def test_a_comparison_of_two_seeds_is_told_to_be_of_too_few(tmp_path, monkeypatch, seeds, too_few):
    spread = CLAIM | {
        "confirm": {"spread": "a", "below": 0.5},
        "seeds": [0, 1],
    }  # holds for two seeds, too
    claims = {"first": CLAIM | {"seeds": seeds}, "noise": spread}
    plan = load_plan(write_claims(tmp_path / "claims", claims=claims))
    write_results(plan, tmp_path / "claims/runs", {"a": 900, "b": 800})
    page = claims_page(draw_verdicts(plan, tmp_path / "claims/runs"), plan.folder)
    assert page.count("**Supported.** With two seeds the 95 % interval") == too_few
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    said = claims_status(plan)
    assert ("too few seeds: first. With two seeds" in said) == too_few and "missing" not in said


@pytest.mark.parametrize(("count", "said"), [(1, "1 run is missing or"), (2, "2 runs are missing or")])
def test_missing_runs_are_counted(tmp_path, plan, monkeypatch, count, said):
    write_results(plan, tmp_path / "claims/runs", {"a": 900, "b": 800})
    for path in sorted((tmp_path / "claims/runs").iterdir())[:count]:
        path.unlink()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    assert said in claims_status(plan)


def test_results_of_other_code_are_told_also_where_it_labelled_the_pool_only(tmp_path, plan, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    code, labelling = code_digests()

    def told(**given: str | None) -> list[str]:
        write_results(plan, tmp_path / "claims/runs", {"a": 900, "b": 800}, **given)
        return [line.split(". ")[0] for line in claims_status(plan).splitlines() if "other code" in line]

    other = "by other code than this tree's"
    assert told(code=code, labelling=labelling) == []
    assert told(code=code, labelling="0ther") == [f"trained on pools labelled {other} ({labelling}): 0ther"]
    assert told(code="0ther", labelling=None) == [f"made {other} ({code}): 0ther"]


def test_every_missing_or_foreign_result_is_named(tmp_path, plan):
    write_results(plan, tmp_path / "runs", {"a": 900, "b": 800})
    (tmp_path / "runs/sample-2-a-0.json").unlink()
    write_result(result(1, 800, params="other"), tmp_path / "runs/sample-2-b-1.json")
    with pytest.raises(ValueError, match="2 problems") as error:
        draw_verdicts(plan, tmp_path / "runs")
    assert "sample-2-a-0.json: missing" in str(error.value)
    assert "sample-2-b-1.json: was made with other parameters" in str(error.value)


def test_runs_of_different_code_decide_nothing_and_the_page_says_so(tmp_path, plan):
    write_results(plan, tmp_path / "runs", {"a": 900, "b": 800})
    run = plan.runs["sample-2-a-0"]
    write_result(result(0, 900, params=plan.fingerprint(run), code="0ther"), tmp_path / "runs" / f"{run.key}.json")
    verdicts = draw_verdicts(plan, tmp_path / "runs")
    assert verdicts["claims"][0]["verdict"] == "undecided"
    assert verdicts["claims"][0]["code"] == ["0ther", "c0de"]
    assert verdicts["claims"][0]["evidence"] == [], "never compared"
    assert "its runs were made by different code or libraries" in claims_page(verdicts, plan.folder)


def test_a_claim_with_an_arm_that_is_not_run_shows_the_others(tmp_path):
    folder = write_claims(tmp_path / "claims", arms=ARMS | {"b": {"not_run": "needs weights", "loss": {"dice": 0.3}}})
    plan = load_plan(folder)
    write_results(plan, tmp_path / "runs", {"a": 900})
    verdicts = draw_verdicts(plan, tmp_path / "runs")
    assert verdicts["claims"][0]["verdict"] == "not run"
    page = claims_page(verdicts, plan.folder)
    assert "Not run (`b`: needs weights)" in page
    assert '| b | {"loss": {"dice": 0.3}}; not run | – | – | – |' in page


def test_arms_that_lack_the_same_share_the_reason_and_a_claim_without_any_run_has_a_page(tmp_path, monkeypatch):
    arms = {name: {"not_run": "needs weights"} for name in "ab"}
    lacking = load_plan(
        write_claims(
            tmp_path / "claims",
            arms=arms | {"c": {}, "d": {}},
            claims={"first": CLAIM, "other": CLAIM | {"confirm": {"better": "c", "than": "d"}}},
        )
    )
    write_results(lacking, tmp_path / "runs", {"c": 900, "d": 800})
    verdicts = draw_verdicts(lacking, tmp_path / "runs")
    assert [claim["verdict"] for claim in verdicts["claims"]] == ["not run", "supported"]
    assert "Not run (`a`, `b`: needs weights)" in claims_page(verdicts, lacking.folder)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    assert "first: 0 of 0 runs, no verdict; not run: a, b" in claims_status(lacking).splitlines()


def test_results_on_other_images_are_refused_by_name(tmp_path, plan):
    write_results(plan, tmp_path / "runs", {"a": 900, "b": 800})
    run = plan.runs["sample-2-b-1"]
    other = tuple(f"other/{name}" for name in IMAGES)
    write_result(result(1, 800, params=plan.fingerprint(run), images=other), tmp_path / f"runs/{run.key}.json")
    with pytest.raises(ValueError, match=r"sample-2-b-1\.json: was scored on other images or classes than"):
        draw_verdicts(plan, tmp_path / "runs")


def test_another_number_of_updates_is_refused_with_both_numbers(tmp_path, plan):
    write_results(plan, tmp_path, {"a": 900, "b": 800})
    more = result(0, 900, params=plan.fingerprint(plan.runs["sample-2-b-0"]), updates=9)
    write_result(more, tmp_path / "sample-2-b-0.json")
    with pytest.raises(ValueError, match=r"claims\.first: sample-2-b-0 made 9 updates and sample-2-a-0 4; choose"):
        draw_verdicts(plan, tmp_path)


def test_pools_that_different_code_labelled_decide_nothing(tmp_path, plan):
    write_results(plan, tmp_path, {"a": 900, "b": 800}, labelling="0ne")
    assert draw_verdicts(plan, tmp_path)["claims"][0]["labelling"] == ["0ne"]
    other = result(0, 900, params=plan.fingerprint(plan.runs["sample-2-a-0"]), labelling="tw0")
    write_result(other, tmp_path / "sample-2-a-0.json")
    mixed = draw_verdicts(plan, tmp_path)["claims"][0]
    assert (mixed["verdict"], mixed["labelling"]) == ("undecided", ["0ne", "tw0"])


def test_the_text_of_a_claim_stays_text(tmp_path):
    hostile = CLAIM | {"text": "a | b <script>alert(1)</script> [x](y) `z`", "source": "<b>"}
    plan = load_plan(write_claims(tmp_path / "claims", claims={"first": hostile}))
    write_results(plan, tmp_path / "runs", {"a": 900, "b": 800})
    page = claims_page(draw_verdicts(plan, tmp_path / "runs"), plan.folder)
    assert "<script>" not in page and "<b>" not in page
    (row,) = [line for line in page.splitlines() if line.startswith("| [a")]
    assert row.count(" | ") == 2, "three cells"


def test_one_refuted_comparison_is_enough_beside_an_arm_that_is_not_run(tmp_path):
    several = CLAIM | {"confirm": {"better": "a", "than": ["b", "c"]}}
    arms = ARMS | {"c": {"not_run": "needs weights"}}
    plan = load_plan(write_claims(tmp_path / "claims", arms=arms, claims={"first": several}))
    write_results(plan, tmp_path / "runs", {"a": 700, "b": 900})
    assert draw_verdicts(plan, tmp_path / "runs")["claims"][0]["verdict"] == "refuted"


def test_a_spread_is_judged_and_shown(tmp_path):
    spread = CLAIM | {"confirm": {"spread": "a", "below": 0.5}}
    plan = load_plan(write_claims(tmp_path / "claims", arms={"a": None}, claims={"noise": spread}))
    write_results(plan, tmp_path / "runs", {"a": 900})
    verdicts = draw_verdicts(plan, tmp_path / "runs")
    assert verdicts["claims"][0]["verdict"] == "supported"
    assert "Standard deviation over seeds of `a`" in claims_page(verdicts, plan.folder)


def test_the_committed_pipelines_verdicts_and_pages_are_those_of_the_committed_claims(monkeypatch):
    monkeypatch.chdir(ROOT)
    folders = claims_folders()
    assert folders[0] == Path("claims")
    for path in folders:
        plan = load_plan(path)
        folder = plan.folder
        committed = yaml.safe_load(folder.pipeline.read_text(encoding="utf-8"))
        assert committed == expected_pipeline(plan), f"run `{folder.command}`"
        if folder.is_first or folder.verdicts.exists():  # claims of another folder may wait for who has the data
            verdicts = draw_verdicts(plan, folder.runs)
            assert read_json(folder.verdicts) == verdicts
            assert folder.page.read_text(encoding="utf-8") == claims_page(verdicts, folder)


def test_each_run_is_one_uncached_result_and_no_claim_is_a_metric():
    stages = yaml.safe_load((ROOT / "claims/dvc.yaml").read_text(encoding="utf-8"))["stages"]
    stages = {name: stage.get("do", stage) for name, stage in stages.items()}
    assert all("metrics" not in stage and "plots" not in stage for stage in stages.values())
    for name in ("run", "run_twice"):
        assert stages[name]["outs"] == [{ClaimsFolder(Path("claims")).result("${key}"): {"cache": False}}]
    assert all(stage["wdir"] == ".." for stage in stages.values())
