import copy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from segpipe.losses.weighted_sum import TERMS
from segpipe.params import candidate_names, check_params, fitted_names, load_params

COMMITTED = Path(__file__).parent.parent / "params.yaml"
# the tests below change single keys of the committed file, whatever values it holds today
RAW = YAML(typ="safe").load(COMMITTED.read_text(encoding="utf-8"))
TWO_MEMBERS = {"member_names": ["main", "second"], "members": {"main": {}, "second": {}}, "ensemble.rule": "best"}


def changed(changes: dict[str, Any]) -> dict:
    """The committed parameters with the values at these dotted keys."""
    raw = copy.deepcopy(RAW)
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = raw
        for parent in parents:
            section = section[parent]
        section[last] = value
    return raw


def problems(changes: dict[str, Any]) -> list[str]:
    """What is said of these changes, one line a problem, without the head line."""
    with pytest.raises(ValueError) as error:
        check_params(changed(changes))
    head, *lines = str(error.value).split("\n")
    assert head == f"params.yaml: {len(lines)} problem{'s' if len(lines) > 1 else ''}"
    return [line.strip() for line in lines]


def override(override: object) -> dict[str, Any]:
    return TWO_MEMBERS | {"members": {"main": {}, "second": override}}


def test_the_committed_file_loads():
    params = load_params(COMMITTED)
    assert {"sample", "data", "model", "tracking"} <= set(RAW) == set(type(params).model_fields)
    assert params.loss.dice == RAW["loss"]["dice"] and list(params.member_names) == RAW["member_names"]


# Single keys


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("loss.dcie", 0.5, "loss.dcie: unknown key; did you mean loss.dice?"),
        ("model.dropout.decodr", 0.5, "model.dropout.decodr: unknown key; did you mean model.dropout.decoder?"),
        ("los", {}, "los: unknown key; did you mean loss?"),
        ("teach.confidence", 0.5, "teach.confidence: unknown key here; did you mean pseudo_label.confidence?"),
        (
            "teach.zzzzzz",
            0.5,
            "teach.zzzzzz: unknown key; valid here: flips, scales, window, overlap, members, checkpoints, probs",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest_one(key, value, said):
    assert problems({key: value}) == [said]


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("loss.dice", -0.1, "found -0.1; input should be greater than or equal to 0"),
        ("loss.dice", "0.5", "found '0.5'; input should be a valid number"),
        ("loss.dice", True, "found True; input should be a valid number"),
        ("loss.label_smoothing", 1.5, "found 1.5; input should be less than or equal to 1"),
        ("optimizer.lr", 0, "found 0; input should be greater than 0"),
        ("optimizer.lr", float("inf"), "found inf; input should be a finite number"),
        ("optimizer.lr", float("nan"), "found nan; input should be a finite number"),
        ("retrain.ratio", float("inf"), "found inf; input should be a finite number"),
        ("pseudo_label.keep", 0, "found 0; input should be greater than 0"),
        ("pseudo_label.fraction", 0.0, "found 0.0; input should be greater than 0"),
        ("optimizer.name", "adamv", "found 'adamv'; allowed: madgrad, adamw, sgd; did you mean adamw?"),
        ("model.output_stride", 12, "found 12; allowed: 8, 16, 32"),
        ("model.atrous_rates", [2, 0], "found 0; input should be greater than 0"),
        ("train.batch_size", 1, "found 1; input should be greater than or equal to 2"),
        ("train.epochs", 2.5, "found 2.5; input should be a valid integer"),
        ("data.image_size", [128], "found [128]; expected two numbers, height and width"),
        ("predict.scales", [], "found []; value should have at least 1 item"),
        ("predict.scales", [1, 1.0], "[1, 1.0] has a factor twice; name each once"),
        ("teach.scales", [1.0, 5.0], "found 5.0; input should be less than or equal to 4"),
        ("teach.window", [128], "[128] is no window; expected height and width in pixels, train, or nothing"),
        ("teach.members", ["main", "main"], "['main', 'main'] names a member twice; name each once"),
        ("teach.members", 7, "found 7; input should be a valid tuple"),
        ("predict.window", [128, 0], "[128, 0] is no window"),
        ("predict.window", "trian", "'trian' is no window; expected height and width in pixels, train, or nothing"),
        ("predict.overlap", 1.0, "found 1.0; input should be less than or equal to 0.9"),
        ("data.codec", "jpg", "found 'jpg'; allowed: raw, jpeg, auto; did you mean jpeg?"),
        ("data.on_problem", "ignore", "found 'ignore'; allowed: stop, skip"),
        ("split.group_by", "frame", "'frame' has 0 groups in parentheses; expected one, the part that names the scene"),
        ("split.group_by", "(a)(b)", "'(a)(b)' has 2 groups in parentheses; expected one"),
        ("split.group_by", "(a", "'(a' is not a regular expression (missing ), unterminated subpattern"),
    ],
)
def test_an_impossible_value_is_refused_with_what_is_allowed(key, value, said):
    (line,) = problems({key: value})
    place = line.split(": ")[0]
    assert place in (key, f"{key}.1") and line.startswith(f"{place}: {said}")


def test_a_missing_key_is_named():
    raw = changed({})
    del raw["model"]["dropout"]["decoder"]
    with pytest.raises(ValueError, match=r"\n  model\.dropout\.decoder: missing; every key is spelled out"):
        check_params(raw)


def test_a_loss_without_any_term_is_refused():
    (line,) = problems({f"loss.{term}": 0 for term in TERMS})
    assert line.startswith("loss: every term has weight 0")
    assert line.endswith(f"give at least one of {', '.join(TERMS)}")


@pytest.mark.parametrize(
    "name, nearest",
    [("lovas", "lovasz"), ("tanimotto", "tanimoto"), ("cross_focal", "focal"), ("balanced", "balance")],
)
def test_a_wrong_name_of_a_loss_is_told_with_the_nearest(name, nearest):
    assert problems({f"loss.{name}": 1.0}) == [f"loss.{name}: unknown key; did you mean loss.{nearest}?"]


@pytest.mark.parametrize(
    "value, said",
    [
        ("inverse_freqency", "'inverse_freqency' is no way to weigh classes; expected none, inverse_frequency, "),
        ([1, "two"], "[1, 'two'] is no list of numbers from 0 up; expected one for each class, or none, "),
        ([1, -1], "[1, -1] is no list of numbers from 0 up"),
        ([], "[] is no list of numbers from 0 up"),
        (None, "None is no list of numbers from 0 up"),
        ([0, 0], "[0, 0] leaves no class; give at least one a weight above 0"),
    ],
)
def test_class_weights_are_a_word_or_a_list_of_numbers(value, said):
    (line,) = problems({"loss.class_weights": value})
    assert line.startswith(f"loss.class_weights: {said}")
    if isinstance(value, str):
        assert line.endswith("; did you mean inverse_frequency?")


def test_class_weights_may_be_a_list():
    assert check_params(changed({"loss.class_weights": [1, 0.5, 0]})).loss.class_weights == (1.0, 0.5, 0.0)


def test_a_window_of_the_trained_size_needs_images_of_one():
    assert check_params(changed({"predict.window": "train"})).predict.window == "train"
    (line,) = problems({"predict.window": "train", "data.image_size": None})
    assert line.startswith("predict.window, data.image_size: found train with images at their own sizes; give height")


def test_all_problems_come_at_once():
    changes = {"loss.dcie": 1, "train.threads": 0, "split.train_folds": [9], "split.folds": 2, "data.val": None}
    lines = problems(changes | {"members.main": {"sede": 3}})
    assert {line.split(":")[0] for line in lines} == {
        "loss.dcie",
        "train.threads",
        "split.train_folds",
        "members.main.sede",
    }


def test_an_int_may_stand_for_a_float_and_the_sections_are_frozen():
    params = check_params(changed({"loss.dice": 1}))
    assert params.loss.dice == 1
    with pytest.raises(ValidationError, match="frozen"):
        params.loss.dice = 2
    with pytest.raises(ValidationError, match="frozen"):
        params.seed = 2


def test_a_single_pool_file_needs_no_list():
    assert check_params(changed({"data.unlabeled": "pool.json"})).data.unlabeled == ("pool.json",)


# Members


def test_teachers_are_all_members_or_those_that_are_named_in_the_order_of_the_members():
    for named, teachers in (
        (None, ("main", "second")),
        ([], ("main", "second")),
        (["second"], ("second",)),
        ("second", ("second",)),
        (["second", "main"], ("main", "second")),
    ):
        assert check_params(changed(TWO_MEMBERS | {"teach.members": named})).teachers == teachers


def test_teachers_that_are_no_members_are_told_with_the_nearest():
    assert problems(TWO_MEMBERS | {"teach.members": ["secnd", "main", "third"]}) == [
        "teach.members: found 'secnd'; allowed: main, second; did you mean second?",
        "teach.members: found 'third'; allowed: main, second",
    ]
    assert problems({"predict.members": None}) == ["predict.members: unknown key here; did you mean teach.members?"]


def test_a_members_overrides_are_laid_over_the_shared_sections():
    second = {"model": {"arch": "smp.FPN", "dropout": {"decoder": 0.4}}, "loss": {"dice": 0.25}}
    params = check_params(changed(override(second) | {"model.dropout.encoder": 0.2, "loss.ce": 2, "loss.dice": 1}))
    merged = params.member("second")
    assert (merged.model.arch, merged.model.encoder) == ("smp.FPN", RAW["model"]["encoder"])
    assert (merged.model.dropout.encoder, merged.model.dropout.decoder) == (0.2, 0.4)
    assert (merged.loss.ce, merged.loss.dice) == (2, 0.25)
    assert params.member("main").loss.dice == params.loss.dice == 1


def test_a_members_list_replaces_the_shared_one_whole():
    second = {"model": {"atrous_rates": [6]}, "augment": {"train": []}}
    params = check_params(changed(override(second) | {"model.atrous_rates": [2, 4, 6]}))
    assert params.member("second").model.atrous_rates == (6,)
    assert params.member("second").augment.train == ()
    assert params.member("second").augment.pseudo == params.augment.pseudo


@pytest.mark.parametrize(
    "second, said",
    [
        ({"loss": {"dcie": 1}}, "members.second.loss.dcie: unknown key; did you mean members.second.loss.dice?"),
        ({"modle": {}}, "members.second.modle: unknown key; did you mean members.second.model?"),
        ({"data": {}}, "members.second.data: unknown key"),
        ({"loss": {"dice": -1}}, "members.second.loss.dice: found -1; input should be greater than or equal to 0"),
        (
            {"model": {"atrous_rates": [0]}},
            "members.second.model.atrous_rates.0: found 0; input should be greater than 0",
        ),
        (
            {"model": {"dropout": {"encoder_stages": [2, 2]}}},
            "members.second.model.dropout.encoder_stages: [2, 2] names a stage twice; name each once",
        ),
        ({"seed": None}, "members.second.seed: found None; input should be a valid integer"),
    ],
)
def test_a_fault_in_an_override_is_named_where_it_stands(second, said):
    (line,) = problems(override(second))
    assert line.startswith(said)


def test_a_fault_of_a_shared_section_is_not_repeated_for_each_member():
    assert len(problems(override({"loss": {"ce": 1}}) | {"loss.dice": -1})) == 1


def test_an_unknown_member_is_a_key_error():
    with pytest.raises(KeyError, match="no member 'third'; member_names lists main, second"):
        check_params(changed(TWO_MEMBERS)).member("third")


# Keys that must fit one another


THREE = {"data.val": None, "split.folds": 3}
EIGHT = {"retrain.epochs": 8, "retrain.finetune_epochs": 0, "retrain.ramp_epochs": 0}
OF_A_FILE = {"data.val": None, "split.file": "folds.csv"}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"split.folds": 5}, "data.val, split.folds, split.file: data.val and split.folds are set; held-out images"),
        ({"data.val": None}, "data.val, split.folds, split.file: all are empty"),
        ({"split.file": "folds.csv"}, "data.val, split.folds, split.file: data.val and split.file are set"),
        (THREE | {"split.file": "f.csv"}, "data.val, split.folds, split.file: split.folds and split.file are set"),
        (
            OF_A_FILE | {"split.train_folds": [-1, True]},
            "split.train_folds: [-1, True] names -1, True; there are folds 0",
        ),
        (THREE | {"split.train_folds": [0, 3]}, "split.train_folds: [0, 3] names 3; there are folds 0 to 2, and all"),
        (THREE | {"split.train_folds": [-1, "All"]}, "split.train_folds: [-1, 'All'] names -1, 'All'; there are folds"),
        (THREE | {"split.train_folds": [True, 1.0, "0"]}, "split.train_folds: [True, 1.0, '0'] names True, 1.0, '0';"),
        (THREE | {"split.train_folds": "all"}, "split.train_folds: 'all' is no list; write it as `- all`"),
        ({"split.train_folds": [1]}, "split.train_folds: [1] names 1; there is fold 0, and all"),
        ({"split.train_folds": ["all"]}, "ensemble.rule, split.train_folds: found best with all alone"),
        ({"split.train_folds": [0, "all"], "data.test": None}, "split.train_folds, data.test: found all with no"),
        (
            {"split.train_folds": [0, "all"], "pseudo_label.threshold": "per_class"},
            "pseudo_label.threshold, split.train_folds: found per_class with all, which has no tune images",
        ),
        (
            {"retrain.labels": "soft"},
            "retrain.labels, teach.probs: found soft with false, so that no teacher's probabilities are kept; set "
            "teach.probs: true, or retrain.labels: hard",
        ),
        (
            override({"retrain": {"labels": "soft"}}),
            "members.second.retrain.labels, teach.probs: found soft with false, so that no teacher's",
        ),
        (
            {"retrain.labels": "soft", "teach.probs": True, "loss.ce": 0.0},
            "retrain.labels, loss.ce, loss.soft_ce: found soft with a weight of 0 on both, the only terms that use ",
        ),
        (
            override({"loss": {"ce": 0.0}}) | {"retrain.labels": "soft", "teach.probs": True},
            "retrain.labels, members.second.loss.ce, members.second.loss.soft_ce: found soft with a weight of 0",
        ),
        (
            EIGHT | {"retrain.finetune_epochs": 8},
            "retrain.finetune_epochs: found 8, which leaves none of the 8 epochs of retrain.epochs to the pseudo "
            "labels; expected at most 7, or more epochs",
        ),
        (
            EIGHT | {"retrain.finetune_epochs": 3, "retrain.ramp_epochs": 6},
            "retrain.ramp_epochs: found 6, so that the weight of pseudo labels never reaches retrain.pseudo_weight; "
            "expected at most 5, the epochs with pseudo labels (retrain.epochs less retrain.finetune_epochs)",
        ),
        (
            override({"retrain": {"epochs": 2}}) | EIGHT | {"retrain.ramp_epochs": 3},
            "retrain.ramp_epochs: found 3, so that the weight of pseudo labels never reaches retrain.pseudo_weight; "
            "expected at most 2, the epochs with pseudo labels (members.second.retrain.epochs less retrain.",
        ),
        (
            override({"retrain": {"finetune_epochs": 9, "cutmix": 0.5}}) | EIGHT,
            "members.second.retrain.finetune_epochs: found 9, which leaves none of the 8 epochs of retrain.epochs",
        ),
        (override({"retrain": {"epochs": "2"}}) | EIGHT, "members.second.retrain.epochs: found '2'; input should be"),
        (THREE | {"split.train_folds": [1, 1]}, "split.train_folds: found an entry twice"),
        (TWO_MEMBERS | {"member_names": ["main", "main"]}, "member_names: found an entry twice in ['main', 'main']"),
        (TWO_MEMBERS | {"members": {"main": {}}}, "members: no entry for 'second' of member_names; add `second: {}`"),
        (
            {"member_names": ["a-b"], "members": {"a-b": {}}, "ensemble.rule": "best"},
            "member_names: found 'a-b'; a name becomes a folder: use letters, digits and _",
        ),
        (TWO_MEMBERS | {"ensemble.rule": "bset"}, "ensemble.rule: found 'bset'; allowed: best, tested, baseline-main,"),
        (TWO_MEMBERS | {"ensemble.rule": "retrain-man"}, "ensemble.rule: found 'retrain-man'; allowed:"),
    ],
)
def test_keys_must_fit_one_another(changes, said):
    (line,) = problems(changes)
    assert line.startswith(said)


def test_the_weight_of_pseudo_labels_may_rise_over_all_epochs_with_the_pool():
    retrain = check_params(changed(EIGHT | {"retrain.finetune_epochs": 3, "retrain.ramp_epochs": 5})).retrain
    assert retrain.epochs - retrain.finetune_epochs == retrain.ramp_epochs


def test_a_shared_mistake_about_epochs_is_told_once():
    (line,) = problems(override({"retrain": {"cutmix": 0.5}}) | EIGHT | {"retrain.ramp_epochs": 9})
    assert line.startswith("retrain.ramp_epochs: found 9")


def test_folds_are_numbers_and_all():
    folds = [0, 2, "all"]
    assert check_params(changed(THREE | {"split.train_folds": folds})).split.train_folds == tuple(folds)
    alone = {"split.train_folds": ["all"], "ensemble.rule": "mean-all"}
    assert check_params(changed(alone)).split.train_folds == ("all",)


def test_a_rule_may_name_any_candidate():
    for rule in ("best", "tested", "weighted", "cleaned", *candidate_names(("main", "second"))):
        assert check_params(changed(TWO_MEMBERS | {"ensemble.rule": rule})).ensemble.rule == rule


def test_a_rule_may_not_name_what_is_not_fitted():
    for changes in ({"ensemble.fit": "none"}, {"ensemble.min_pixels": [], "ensemble.fill_holes": []}):
        settings = check_params(changed(changes)).ensemble
        (missing,) = {"weighted", "cleaned"} - set(fitted_names(settings))
        (line,) = problems(changes | {"ensemble.rule": missing})
        assert line.startswith(f"ensemble.rule: found '{missing}'; allowed: best, tested, ")
    (line,) = problems({"split.train_folds": ["all"], "ensemble.rule": "weighted"})
    assert line.startswith("ensemble.rule, split.train_folds: found weighted with all alone, of which nothing is")


def test_candidates_of_two_members_are_singles_then_means():
    assert candidate_names(("main", "second")) == [
        "baseline-main",
        "baseline-second",
        "retrain-main",
        "retrain-second",
        "mean-baseline",
        "mean-retrain",
        "mean-all",
    ]


def test_of_one_member_only_the_mean_over_both_rounds_is_not_a_member_itself():
    assert candidate_names(("main",)) == ["baseline-main", "retrain-main", "mean-all"]


# The file


def test_1e_4_is_read_as_a_number(tmp_path):
    path = tmp_path / "params.yaml"
    YAML().dump(changed({"optimizer.lr": "LR"}), path)
    path.write_text(path.read_text().replace("lr: LR", "lr: 1e-4"))
    assert load_params(path).optimizer.lr == 0.0001


@pytest.mark.parametrize(
    "text, said",
    [
        ("loss: {dice: [", "not valid YAML"),
        ("seed: 0\nseed: 1\n", "not valid YAML"),  # DVC would take either
        ("", "found NoneType, expected sections"),
        ("- data\n", "found list, expected sections"),
    ],
)
def test_a_file_that_is_no_mapping_of_sections_is_refused_by_name(tmp_path, text, said):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        load_params(path)
    assert str(error.value).startswith(f"{path}: ") and said in str(error.value)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"params\.yaml: not found; run the command in the project's top folder"):
        load_params(tmp_path / "params.yaml")


# What is submitted

RLE = RAW["submission"]["rle"]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"submission.formats": ["rel"]}, "formats.0: found 'rel'; allowed: pixels, rle, png; did you mean rle?"),
        ({"submission.formats": ["png", "png"]}, "submission: formats: found png twice; name each once"),
        (
            {"submission.formats": ["pixels", "rle"], "submission.sample": "sample.csv"},
            "submission: sample: 'sample.csv' says columns, ids and order of one CSV, but formats has pixels and rle "
            "of pixels and rle; name one of them, or leave sample empty",
        ),
        ({"submission.rle.columns": ["id"]}, "submission.rle.columns: ['id'] is no header; expected the names of two"),
        ({"submission.rle.id": "{file}_{class}"}, "rle.id: '{file}_{class}' names {file}; there are {file_name}, "),
        ({"submission.rle.id": "{stem.__class__}"}, "names {stem.__class__}; there are {file_name}"),
        ({"submission.rle.id": "{stem}_{class"}, "submission.rle.id: '{stem}_{class' has a brace without its partner"),
        ({"submission.rle.id": "{class}"}, "submission.rle: id: '{class}' does not name the image"),
        ({"submission.rle.id": "{stem}"}, "submission.rle: id: '{stem}' names no class (rows: image_class)"),
        ({"submission.rle.rows": "image"}, "names a class, but a row stands for an image (rows: image)"),
        ({"submission.rle.row": "image"}, "submission.rle.row: unknown key; did you mean submission.rle.rows?"),
    ],
)
def test_submissions_that_cannot_be_are_refused(changes, said):
    (found,) = problems({"submission.rle": RLE | {"rows": "image_class", "id": "{file_name}_{class}"}} | changes)
    assert said in found


def test_each_form_of_run_lengths_is_allowed():
    rle = RLE | {"rows": "image", "id": "{stem}", "classes": ["Glass"]}
    changes = {"submission.formats": ["rle"], "submission.sample": "sample.csv", "submission.rle": rle}
    assert check_params(changed(changes)).submission.rle.classes == ("Glass",)
