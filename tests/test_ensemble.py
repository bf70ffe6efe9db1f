import pytest
from coco_folder import GLASS, box, pictures, prepare_folder, split_params, write_folder
from ensemble_stores import SHAPE, ensemble_of, prepare_four, store

from segpipe.data.lineage import Lineage
from segpipe.data.prepared import Prepared
from segpipe.ensemble.average import Ensemble, load_predictions
from segpipe.ensemble.candidates import list_candidates
from segpipe.ensemble.selection import select
from segpipe.params import candidate_names


@pytest.fixture
def prepared(tmp_path):
    return prepare_four(tmp_path)


# Candidates


@pytest.mark.parametrize("members", [("main",), ("main", "second"), ("a", "b", "c")])
def test_the_candidates_are_those_that_params_yaml_may_name(members):
    assert [candidate.name for candidate in list_candidates(members)] == candidate_names(members)


def test_means_are_over_the_members_of_a_round_or_of_both():
    parts = {candidate.name: set(candidate.parts) for candidate in list_candidates(("main", "second"))}
    assert parts["retrain-main"] == {("retrain", "main")}
    assert parts["mean-baseline"] == {("baseline", "main"), ("baseline", "second")}
    assert parts["mean-all"] == parts["mean-baseline"] | parts["mean-retrain"]


def test_stores_are_named_by_the_members_and_never_found_by_what_lies_there(tmp_path, prepared):
    ensemble_of(tmp_path, prepared, {("baseline", "main", 0): [0] * 4})
    store(tmp_path / "predictions" / "baseline-old-0", [1] * 4, [0])
    found = load_predictions(tmp_path / "predictions", ("main",), (0,))
    assert list(found) == [("baseline", "main", 0), ("retrain", "main", 0)]


# Averages


def test_a_mean_averages_probabilities_and_not_labels(tmp_path, prepared):
    # two of three say Background (0.4 for Glass), the third is sure of Glass: (0.4 + 0.4 + 1.0) / 3 = 0.6
    glass = {
        ("baseline", "a", 0): [0.4, 0.4, 0.6, 0.1],
        ("baseline", "b", 0): [0.4, 0.4, 0.6, 0.1],
        ("baseline", "c", 0): [1.0, 0.6, 0.0, 0.1],
    }
    ensemble = ensemble_of(tmp_path, prepared, glass)
    candidates = {candidate.name: candidate for candidate in list_candidates(("a", "b", "c"))}
    test = prepared.sets["test"][0]
    assert ensemble.label_map(candidates["mean-baseline"], test).tolist() == [[1, 0, 0, 0]]
    assert ensemble.label_map(candidates["baseline-a"], test).tolist() == [[0, 0, 1, 0]]
    assert ensemble.label_map(candidates["baseline-c"], test).tolist() == [[1, 1, 0, 0]]
    # the retrained models say Background everywhere: half of the above
    assert ensemble.label_map(candidates["mean-all"], test).tolist() == [[0, 0, 0, 0]]


def test_test_images_are_averaged_over_folds_and_held_out_ones_come_from_the_fold_that_judges_on_them(tmp_path):
    glass = [box(GLASS, 0, 0, 2, 1)]
    train = pictures(*"12345678", annotations=glass, **SHAPE)
    write_folder(tmp_path / "raw", train=train, test=pictures("x", **SHAPE), categories={GLASS: "Glass"})
    folder = prepare_folder(tmp_path / "raw", split=split_params(folds=2), val=None)
    prepared = Prepared(folder, judge=True)
    sure = {("baseline", "main", 0): [0.9, 0.9, 0.2, 0.2], ("baseline", "main", 1): [0.4, 0, 0.9, 0.4]}
    ensemble = ensemble_of(tmp_path, prepared, sure, folds=(0, 1))
    first = list_candidates(("main",))[0]
    # (0.9 + 0.4) / 2, (0.9 + 0) / 2, (0.2 + 0.9) / 2, (0.2 + 0.4) / 2
    assert [(i, m.tolist()) for i, m in ensemble.test_label_maps(first)] == [(8, [[1, 0, 1, 0]])]
    for fold, own in ((0, [[1, 1, 0, 0]]), (1, [[0, 0, 1, 0]])):
        for index in prepared.folds[fold].judge:
            assert ensemble.label_map(first, index).tolist() == own
    assert ensemble.judge_indices == sorted(prepared.folds[0].judge + prepared.folds[1].judge)
    assert len(ensemble.judge_indices) == 4


def test_with_the_fold_all_numbered_folds_score_and_all_alone_is_submitted(tmp_path, prepared):
    sure = {("baseline", "main", 0): [0.9, 0.9, 0.2, 0.2], ("baseline", "main", "all"): [0, 0.1, 0.9, 0]}
    ensemble = ensemble_of(tmp_path, prepared, sure, folds=(0, "all"))
    first = list_candidates(("main",))[0]
    assert [m.tolist() for _, m in ensemble.test_label_maps(first)] == [[[0, 0, 1, 0]]] * 2
    assert ensemble.judge_indices == sorted(prepared.folds[0].judge)
    # truth 1 1 0 0, as fold 0 predicts
    assert ensemble.judge_confusions([first])["baseline-main"].tolist() == [[[2, 0], [0, 2]]] * 2
    said = ensemble.provenance()
    assert (said["scored_folds"], said["submitted_folds"]) == ([0], ["all"])
    assert "Scores are those of the models of fold 0; the submission is predicted by other models" in str(said)


def test_of_all_alone_nothing_is_scored_and_what_is_named_is_submitted(tmp_path, prepared):
    ensemble = ensemble_of(tmp_path, prepared, {("baseline", "main", "all"): [0.9, 0, 0, 0.9]}, folds=("all",))
    candidates = list_candidates(("main",))
    assert ensemble.judge_indices == [] and ensemble.judge_confusions(candidates)["mean-all"].shape == (0, 2, 2)
    assert [m.tolist() for _, m in ensemble.test_label_maps(candidates[0])] == [[[1, 0, 0, 1]]] * 2
    selection = select("baseline-main", candidates, ensemble.judge_confusions(candidates), [])
    assert selection["chosen"] == "baseline-main" and selection["judge_images"] == 0
    assert all(set(row) == {"name", "models"} for row in selection["candidates"])
    with pytest.raises(ValueError, match="no candidate 'best'"):
        select("best", candidates, ensemble.judge_confusions(candidates), [])


def test_each_judge_image_has_a_confusion_matrix_by_hand(tmp_path, prepared):
    ensemble = ensemble_of(tmp_path, prepared, {("baseline", "main", 0): [0.9, 0.2, 0.8, 0.1]})
    candidates = list_candidates(("main",))
    confusions = ensemble.judge_confusions(candidates)
    # truth 1 1 0 0, predicted 1 0 1 0: one pixel of each pair; `retrain` predicts 0 0 0 0
    assert confusions["baseline-main"].tolist() == [[[1, 1], [1, 1]]] * 2
    assert confusions["retrain-main"].tolist() == [[[2, 0], [2, 0]]] * 2


def test_targets_are_scored_at_the_scored_size(tmp_path, prepared):
    for round_ in ("baseline", "retrain"):
        indices = [*prepared.folds[0].judge, *prepared.sets["test"]]
        store(tmp_path / f"{round_}-main-0", [0.9, 0.1, 0.1, 0.9], indices, scored_size=(1, 2))
    ensemble = Ensemble(prepared, load_predictions(tmp_path, ("main",), (0,)), (0,))
    assert ensemble.scored_size == (1, 2)
    # columns 0 and 2 of truth 1 1 0 0 and of prediction 1 0 0 1: both right
    assert ensemble.judge_confusions(list_candidates(("main",)))["baseline-main"].tolist() == [[[1, 0], [0, 1]]] * 2


# Refusals

FIRST = {("baseline", "main", 0): [0.5] * 4}


@pytest.mark.parametrize("seen, how", [("learned_from", "learned from"), ("tuned_on", "was tuned on")])
def test_a_model_that_knows_its_judge_images_is_refused(tmp_path, prepared, seen, how):
    entry = prepared.entries[prepared.folds[0].judge[0]]
    leak = Lineage(**{"learned_from": frozenset(), "tuned_on": frozenset()} | {seen: frozenset({entry.content_hash})})
    with pytest.raises(ValueError, match=f"retrain-main-0 {how} 1 of the images .* {entry.file_name}"):
        ensemble_of(tmp_path, prepared, FIRST, odd=("retrain", "main", 0), lineage=leak)


def test_a_model_of_all_is_refused_where_a_numbered_fold_is_scored(tmp_path, prepared):
    everything = Lineage(frozenset(prepared.hashes(prepared.folds["all"].train)), frozenset())
    with pytest.raises(ValueError, match="baseline-main-0 learned from 2 of the images that it would be judged on"):
        ensemble_of(tmp_path, prepared, FIRST, odd=("baseline", "main", 0), lineage=everything)


def test_a_model_may_know_training_and_tune_images(tmp_path, prepared):
    fold = prepared.folds[0]
    lineage = Lineage(frozenset(prepared.hashes(fold.train)), frozenset(prepared.hashes(fold.tune)))
    ensemble_of(tmp_path, prepared, FIRST, odd=("baseline", "main", 0), lineage=lineage)


def test_predictions_of_different_scored_sizes_are_refused(tmp_path, prepared):
    said = r"different scored sizes .*: None of baseline-main-0; \(1, 2\) of retrain-main-0; run `dvc repro`"
    with pytest.raises(ValueError, match=said):
        ensemble_of(tmp_path, prepared, FIRST, odd=("retrain", "main", 0), scored_size=(1, 2))


def test_predictions_of_other_classes_than_the_data_are_refused_even_if_all_agree(tmp_path, prepared):
    for round_ in ("baseline", "retrain"):
        store(tmp_path / f"{round_}-main-0", [0.5] * 4, [0], classes=["Glass", "Background"])
    said = r"different classes .* \('Background', 'Glass'\) of the prepared data; .* of baseline-main-0, retrain-main-0"
    with pytest.raises(ValueError, match=said):
        Ensemble(prepared, load_predictions(tmp_path, ("main",), (0,)), (0,))


@pytest.mark.parametrize("part, asked", [("judge", "__init__"), ("tune", "require_tune"), ("test", "require_test")])
def test_predictions_that_lack_an_image_are_refused_by_its_name(tmp_path, prepared, part, asked):
    ensemble_of(tmp_path, prepared, FIRST)
    fold, test = prepared.folds[0], prepared.sets["test"]
    groups = {"judge": fold.judge, "tune": fold.tune, "test": test}
    lacking = groups[part][0]
    kept = [index for indices in groups.values() for index in indices if index != lacking]
    store(tmp_path / "predictions/retrain-main-0", [0.5] * 4, kept)
    stores = load_predictions(tmp_path / "predictions", ("main",), (0,))
    name = prepared.entries[lacking].file_name
    with pytest.raises(ValueError, match=f"(?s)run `dvc repro`.*retrain-main-0: none of 1 of 2 images, such as {name}"):
        getattr(Ensemble(prepared, stores, (0,)), asked)(*([prepared, stores, (0,)] if asked == "__init__" else []))


def test_a_model_that_learned_from_tune_images_may_not_be_weighed_on_them(tmp_path, prepared):
    entry = prepared.entries[prepared.folds[0].tune[0]]
    leak = Lineage(frozenset({entry.content_hash}), frozenset())
    ensemble = ensemble_of(tmp_path, prepared, FIRST, odd=("retrain", "main", 0), lineage=leak)
    with pytest.raises(ValueError, match=f"retrain-main-0 learned from 1 of the images .* {entry.file_name}"):
        ensemble.require_tune()
