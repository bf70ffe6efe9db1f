"""claims.yaml: every mistake is said before anything runs, and what is asked for becomes runs."""

import shutil
from pathlib import Path

import pytest
import yaml

from segpipe.claims.load import load_plan
from segpipe.claims.run import check_arms
from segpipe.claims.wiring import expected_pipeline

ROOT = Path(__file__).resolve().parent.parent
CLAIM = {
    "text": "a is better than b",
    "source": "somebody",
    "dataset": "sample",
    "epochs": 2,
    "seeds": [0, 1],
    "confirm": {"better": "a", "than": "b"},
}
ARMS = {"a": {"loss": {"dice": 0.25}}, "b": None}


def write_claims(folder: Path, **changes: object) -> Path:
    """A folder with the project's base.yaml and a small sound claims.yaml; `changes` replace its parts."""
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "claims/base.yaml", folder / "base.yaml")
    content = {"datasets": {"sample": {}}, "arms": ARMS, "claims": {"first": CLAIM}} | changes
    (folder / "claims.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def test_a_claim_becomes_one_run_for_each_arm_and_seed(tmp_path):
    plan = load_plan(write_claims(tmp_path))
    assert list(plan.runs) == ["sample-2-a-0", "sample-2-b-0", "sample-2-a-1", "sample-2-b-1"]
    params = plan.run_params(plan.runs["sample-2-a-1"])
    assert (params.seed, params.loss.dice, params.train.epochs, params.train.validate_every) == (1, 0.25, 2, 2)
    base = plan.run_params(plan.runs["sample-2-b-1"])
    assert base.loss.dice == 0.5
    # equal terms: nothing else differs
    assert params.model_copy(update={"loss": base.loss}) == base


def test_claims_share_the_runs_they_have_in_common(tmp_path):
    second = CLAIM | {"text": "and again", "seeds": [1, 2]}
    plan = load_plan(write_claims(tmp_path, claims={"first": CLAIM, "second": second}))
    assert len(plan.runs) == 6


def test_the_params_file_of_the_pipeline_has_no_say(tmp_path, monkeypatch):
    folder = write_claims(tmp_path / "claims")
    (tmp_path / "params.yaml").write_text("loss: nonsense\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_plan(folder).runs


def test_both_rounds_of_a_retrained_arm_share_the_epochs(tmp_path, monkeypatch):
    arms = ARMS | {"a": {"retrain": {"epochs": 3}, "pseudo_label": {"confidence": 0.9}}}
    for name in ("src", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    plan = load_plan(write_claims(Path("claims"), arms=arms, claims={"first": CLAIM | {"epochs": 5}}))
    run = plan.runs["sample-5-a-0"]
    params = plan.run_params(run)
    assert (params.train.epochs, params.retrain.epochs, params.pseudo_label.confidence) == (2, 3, 0.9)
    assert plan.is_retrained(run) and not plan.is_retrained(plan.runs["sample-5-b-0"])
    stages = expected_pipeline(plan)["stages"]
    assert list(stages["run"]["foreach"]) == ["sample-5-b-0", "sample-5-b-1"]
    assert list(stages["run_twice"]["foreach"]) == ["sample-5-a-0", "sample-5-a-1"]
    assert "pseudo_label" in stages["run_twice"]["do"]["params"][0]["claims/base.yaml"]
    assert "pseudo_label" not in stages["run"]["do"]["params"][0]["claims/base.yaml"]


def test_an_arm_with_another_data_set_has_epochs_of_its_own(tmp_path):
    arms = ARMS | {"a": {"dataset": "more", "epochs": 1}}
    datasets = {"sample": {}, "more": {"data": {"train": ["train.json", "pool_labels.json"], "unlabeled": []}}}
    plan = load_plan(write_claims(tmp_path, arms=arms, datasets=datasets))
    assert list(plan.runs) == ["more-1-a-0", "sample-2-b-0", "more-1-a-1", "sample-2-b-1"]
    params = plan.run_params(plan.runs["more-1-a-0"])
    assert (params.train.epochs, params.data.train) == (1, ("train.json", "pool_labels.json"))
    assert set(plan.used_datasets) == {"sample", "more"}


def test_an_arm_that_cannot_be_run_says_why_and_has_no_runs(tmp_path):
    model = {"model": {"encoder_weights": "a.safetensors"}}  # what would be run; that there is no such file is no fault
    plan = load_plan(write_claims(tmp_path, arms=ARMS | {"b": {"not_run": "needs a file"} | model}))
    assert list(plan.runs) == ["sample-2-a-0", "sample-2-a-1"]
    check_arms(plan)
    with_file = load_plan(write_claims(tmp_path, arms=ARMS | {"b": model}))
    assert len(with_file.runs) == 4, "without the reason it is run"
    with pytest.raises(ValueError, match=r"arms\.b: model\.encoder_weights: found 'a\.safetensors'"):
        check_arms(with_file)


def pasting(name: str) -> dict:
    return {"augment": {"paste": {"p": 0.5, "classes": [name]}}}


def test_a_class_that_the_embedded_sample_does_not_have_is_told_before_any_run(tmp_path):
    plan = load_plan(write_claims(tmp_path, arms={"a": pasting("Batery"), "b": pasting("Background")}))
    with pytest.raises(ValueError, match="2 problems") as error:
        check_arms(plan)
    assert "arms.a: augment.paste.classes: found 'Batery'; allowed: UNKNOWN, " in str(error.value)
    assert "did you mean Battery?" in str(error.value)
    check_arms(load_plan(write_claims(tmp_path, arms={"a": pasting("Battery"), "b": None})))


def test_class_names_follow_what_the_data_set_makes_of_the_sample(tmp_path):
    data = {"data": {"drop": ["Battery"]}}
    plan = load_plan(write_claims(tmp_path, datasets={"sample": data}, arms={"a": pasting("Battery"), "b": None}))
    with pytest.raises(ValueError, match=r"arms\.a: augment\.paste\.classes: found 'Battery'; allowed: UNKNOWN, "):
        check_arms(plan)


def test_classes_of_other_data_are_unknown_before_they_are_read(tmp_path):
    data = {"data": {"root": "data/raw/mine"}}
    check_arms(load_plan(write_claims(tmp_path, datasets={"sample": data}, arms={"a": pasting("Kelp"), "b": None})))


def claim(**changes: object) -> dict:
    return {"claims": {"first": CLAIM | changes}}


MISTAKES = {
    "an unknown key of an override": (
        {"arms": ARMS | {"a": {"loss": {"dcie": 0.25}}}},
        "arms.a: loss.dcie: unknown key; did you mean loss.dice?",
    ),
    "an impossible value": (
        {"arms": ARMS | {"a": {"optimizer": {"name": "madgrd"}}}},
        "arms.a: optimizer.name: found 'madgrd'; allowed: madgrad, adamw, sgd; did you mean madgrad?",
    ),
    "an unknown section": (
        {"arms": ARMS | {"a": {"los": {"dice": 0.25}}}},
        "arms.a.los: found 'los'; allowed: model, loss, optimizer, scheduler, augment, train, retrain, teach, "
        "pseudo_label, teachers, dataset, epochs; did you mean loss?",
    ),
    "another number of updates": (
        {"arms": ARMS | {"a": {"train": {"epochs": 9}}}},
        "arms.a.train.epochs: all arms of a claim share it; it stands in base.yaml",
    ),
    "other data for one arm": ({"arms": ARMS | {"a": {"data": {"root": "x"}}}}, "arms.a.data: found 'data'; allowed: "),
    "a seed of its own": ({"arms": ARMS | {"a": {"seed": 5}}}, "arms.a.seed: found 'seed'; allowed: "),
    "an arm that is no mapping": (
        {"arms": ARMS | {"a": 3}},
        "arms.a: found 3; expected keys and values beneath",
    ),
    "an arm that no claim uses": ({"arms": ARMS | {"c": {}}}, "arms.c: no claim uses it"),
    "a name that is no file name": (
        {"arms": ARMS | {"a/b": {}}},
        "arms.a/b: becomes part of a file name: use letters, digits and _, and not raw",
    ),
    "epochs without a data set of its own": (
        {"arms": ARMS | {"a": {"epochs": 3}}},
        "arms.a: an arm has `epochs` of its own together with a `dataset` of its own",
    ),
    "epochs that are none": (
        {"arms": ARMS | {"a": {"epochs": 0, "dataset": "sample"}}},
        "arms.a.epochs: found 0; expected a whole number above 0",
    ),
    "a list of data sets of an arm": (
        {"arms": ARMS | {"a": {"epochs": 3, "dataset": ["sample"]}}},
        "arms.a.dataset: found \"['sample']\"; allowed: sample",
    ),
    "an unknown data set of an arm": (
        {"arms": ARMS | {"a": {"epochs": 3, "dataset": "sampel"}}},
        "arms.a.dataset: found 'sampel'; allowed: sample; did you mean sample?",
    ),
    "a second round without its epochs": (
        {"arms": ARMS | {"a": {"retrain": {"init": "scratch"}}}},
        "arms.a.retrain: found {'init': 'scratch'}; expected `epochs`, those of the claim that are the second round's",
    ),
    "a second round that leaves none to the first": (
        {"arms": ARMS | {"a": {"retrain": {"epochs": 2}}}},
        "arms.a.retrain.epochs: found 2; both rounds share the 2 epochs of claims.first, and the first needs one",
    ),
    "thresholds without a second round": (
        {"arms": ARMS | {"a": {"pseudo_label": {"confidence": 0.9}}}},
        "arms.a.pseudo_label: belongs to a second round; give `retrain: epochs` as well",
    ),
    "no reason for not_run": (
        {"arms": ARMS | {"a": {"not_run": True}}},
        "arms.a.not_run: found True; expected the reason in words",
    ),
    "an unknown key of an arm that is not run": (
        {"arms": ARMS | {"a": {"not_run": "why", "loss": {"dcie": 1.0}}}},
        "arms.a: loss.dcie: unknown key; did you mean loss.dice?",
    ),
    "an unknown arm": (
        claim(confirm={"better": "a", "than": "bb"}),
        "claims.first.confirm: found 'bb'; allowed: a, b; did you mean b?",
    ),
    "an unknown data set": (
        claim(dataset="sampel"),
        "claims.first.dataset: found 'sampel'; allowed: sample; did you mean sample?",
    ),
    "one seed": (claim(seeds=[3]), "claims.first.seeds: [3] is too few; give two or more, each once"),
    "a seed twice": (claim(seeds=[1, 1]), "claims.first.seeds: [1, 1] is too few; give two or more, each once"),
    "an unknown key of a claim": (
        claim(sedes=[1]),
        "claims.first.sedes: unknown key; did you mean claims.first.seeds?",
    ),
    "no budget": (claim(epochs=0), "claims.first.epochs: found 0; input should be greater than 0"),
    "an arm against itself": (
        claim(confirm={"better": "a", "than": ["a", "b"]}),
        "claims.first.confirm: compares 'a' with itself",
    ),
    "two forms at once": (
        claim(confirm={"better": "a", "than": "b", "spread": "a", "below": 0.1}),
        "claims.first.confirm: give either `better` and `than`",
    ),
    "a name with a dot, which DVC would read as a path": (
        {"arms": ARMS | {"a.1": {}}},
        "arms.a.1: becomes part of a file",
    ),
    "a name that leads upwards": ({"datasets": {"sample": {}, "..": {}}}, "datasets...: becomes part of a file name"),
    "a name that is a number": ({"arms": ARMS | {1: {}}}, "arms.1: found a name that is no text"),
    "an empty sentence": (claim(text="  "), "claims.first.text: found '  '"),
    "a sentence of two lines": (claim(text="a\nb"), "claims.first.text: found 'a\\nb'"),
    "an arm twice": (claim(confirm={"better": "a", "than": ["b", "b"]}), "claims.first.confirm: names an arm twice"),
    "a margin for a spread": (
        claim(confirm={"spread": "a", "below": 0.1, "by": 0.1}),
        "claims.first.confirm: `by` is a margin between arms",
    ),
    "teachers of no second round": (
        {"arms": ARMS | {"a": {"teachers": 3}}},
        "arms.a.teachers: belongs to a second round; give `retrain: epochs` as well",
    ),
    "no teachers": (
        {"arms": ARMS | {"a": {"teachers": 0, "retrain": {"epochs": 1}}}},
        "arms.a.teachers: found 0; expected a whole number above 0",
    ),
    "half a form": (claim(confirm={"better": "a"}), "claims.first.confirm: give either `better` and `than`"),
    "no claims": ({"claims": {}}, "claims: found {}; expected names"),
    "an unknown part": ({"arm": {}}, "arm: found 'arm'; allowed: datasets, arms, claims; did you mean arms?"),
    "a data set's unknown key": (
        {"datasets": {"sample": {"data": {"rot": "x"}}}},
        "datasets.sample: data.rot: unknown key; did you mean data.root?",
    ),
    "a data set's foreign section": (
        {"datasets": {"sample": {"loss": {"dice": 1.0}}}},
        "datasets.sample.loss: found 'loss'; allowed: data, split, submission",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_where_it_stands(tmp_path, mistake):
    changes, said = MISTAKES[mistake]
    with pytest.raises(ValueError) as error:
        load_plan(write_claims(tmp_path, **changes))
    assert str(error.value).startswith(f"{tmp_path / 'claims.yaml'}: ")
    assert said in str(error.value)


def test_all_mistakes_come_at_once(tmp_path):
    arms = ARMS | {"a": {"loss": {"dcie": 0.25}, "train": {"epochs": 9}}, "c": {}}
    with pytest.raises(ValueError, match="3 problems") as error:
        load_plan(write_claims(tmp_path, arms=arms))
    assert len(str(error.value).splitlines()) == 4


def test_a_name_that_only_the_libraries_know_is_checked_for_every_arm_before_the_first_run(tmp_path):
    arms = {"a": {"model": {"encoder": "resnet10tt"}}, "b": {"augment": {"train": ["HorizontalFlipp"]}}}
    plan = load_plan(write_claims(tmp_path, arms=arms))
    with pytest.raises(ValueError, match="2 problems") as error:
        check_arms(plan)
    assert "arms.a: model.encoder: found 'resnet10tt'" in str(error.value)
    assert "arms.b: augment.train.0: 'HorizontalFlipp' is no albumentations transform" in str(error.value)


def test_a_result_is_known_by_what_claims_yaml_asks_for(tmp_path):
    plan = load_plan(write_claims(tmp_path))
    run = plan.runs["sample-2-a-0"]
    other = load_plan(write_claims(tmp_path, arms=ARMS | {"a": {"loss": {"dice": 0.3}}}))
    assert plan.fingerprint(run) == load_plan(write_claims(tmp_path)).fingerprint(run)
    assert plan.fingerprint(run) != other.fingerprint(run)
    assert plan.fingerprint(plan.runs["sample-2-b-0"]) == other.fingerprint(run.__class__("sample", 2, "b", 0))
