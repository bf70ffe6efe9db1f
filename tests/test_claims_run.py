"""One run of a claim with a second round: which states its parts keep, and when there is no second round to score."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from test_claims_plan import ARMS, write_claims

from segpipe.claims import run as run_module
from segpipe.claims.load import load_plan
from segpipe.claims.run import _trained, _work_folder
from segpipe.state import FOLDER, open_state

CLASSES = SimpleNamespace(names=("Sky", "Road"), colors=((0, 0, 0), (1, 1, 1)))
PREPARED = SimpleNamespace(pool=lambda: (3, 4), folds={0: SimpleNamespace(tune=(2,))}, classes=CLASSES)


@pytest.fixture
def plan(tmp_path):
    return load_plan(write_claims(tmp_path / "claims", arms=ARMS | {"a": {"retrain": {"epochs": 1}}}))


@pytest.fixture
def works(tmp_path, monkeypatch):
    """Trainings that only finish a state under their stage's name; what teachers were asked is in the list."""

    def train(job, *_):
        with open_state(f"{job.run} {job.round}", job.stage, writes=True, root=tmp_path) as state:
            state.finish({})

    asked = []
    monkeypatch.setattr(run_module, "train_member", train)
    monkeypatch.setattr(run_module, "teach", lambda work, *_, **__: asked.append(work))
    monkeypatch.setattr(run_module, "make_pseudo_labels", lambda *_: None)
    monkeypatch.setattr(run_module, "PseudoLabels", lambda _: SimpleNamespace(indices=(3,)))
    monkeypatch.setattr(run_module, "describe_run", lambda *_: None)
    return asked


def trained(plan, key, folder):
    run = plan.runs[key]
    return _trained(plan, plan.run_params(run), PREPARED, run, folder)


@pytest.mark.parametrize("by_dvc", [True, False])
def test_a_run_keeps_the_states_of_its_rounds_and_no_other_run_takes_them_away(
    plan, works, tmp_path, monkeypatch, by_dvc
):
    for seed in (0, 1):
        monkeypatch.setenv("DVC_STAGE", f"claims/dvc.yaml:run_twice@sample-2-a-{seed}")
        if not by_dvc:
            monkeypatch.delenv("DVC_STAGE")
        assert trained(plan, f"sample-2-a-{seed}", tmp_path / "run") == tmp_path / "run/retrain"
    assert {path.name for path in (tmp_path / FOLDER).iterdir()} == {
        f"sample-2-a-{seed} {name}" for seed in (0, 1) for name in ("baseline", "retrain")
    }
    assert [work.stage for work in works] == ["sample-2-a-0 teach", "sample-2-a-1 teach"]


def test_further_teachers_are_baselines_of_seeds_that_no_run_of_the_claim_has(tmp_path, works, monkeypatch):
    arms = ARMS | {"a": {"teachers": 3, "retrain": {"epochs": 1}}}
    plan = load_plan(write_claims(tmp_path / "claims", arms=arms))
    asked = []
    monkeypatch.setattr(run_module, "teach", lambda work, fold, folders, **_: asked.append([str(f) for f in folders]))
    seeds = []
    train = run_module.train_member
    monkeypatch.setattr(
        run_module, "train_member", lambda job, *rest: seeds.append(job.params.seed) or train(job, *rest)
    )
    trained(plan, "sample-2-a-1", tmp_path / "run")
    assert seeds == [1, 1001, 2001, 1]  # three baselines, and the student of the first
    assert asked == [[str(tmp_path / "run" / name) for name in ("baseline", "teacher-1", "teacher-2")]]


def test_a_run_whose_pool_gave_no_label_has_no_second_round_to_score(plan, works, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "PseudoLabels", lambda _: SimpleNamespace(indices=()))
    with pytest.raises(ValueError, match=r'sample-2-a-0: of the pool no pseudo label is kept \({"threshold": "'):
        trained(plan, "sample-2-a-0", tmp_path / "run")


def test_what_a_run_trained_stays_only_where_it_was_asked_for_and_replaces_what_stood_there(plan, tmp_path):
    run = plan.runs["sample-2-a-0"]
    old, other = tmp_path / "kept" / run.key / "baseline/old", tmp_path / "kept/mine"
    old.parent.mkdir(parents=True)
    old.touch()
    other.touch()
    with _work_folder(run, tmp_path / "kept") as folder:
        assert folder == tmp_path / "kept" / run.key
        assert not old.exists() and other.exists()
        (folder / "baseline").mkdir(parents=True)
    assert (folder / "baseline").is_dir()
    with _work_folder(run, None) as passing:
        pass
    assert not Path(passing).exists()
