"""The rules of `ensemble.rule`, by hand and by brute force: who is submitted, and what is said of every candidate."""

from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.ensemble.candidates import Candidate, fitted_of, list_candidates
from segpipe.ensemble.cleaning import Cleaning
from segpipe.ensemble.selection import choose, score_rows, select
from segpipe.metrics.holm import holm

RIGHT, HALF, WRONG = ([[2, 0], [0, 2]], [[1, 1], [1, 1]], [[0, 2], [2, 0]])  # mIoU 1, 1/3 and 0
CANDIDATES = list_candidates(("main",))  # baseline-main, retrain-main, mean-all
FITTED = Candidate("weighted", CANDIDATES[-1].parts, weights=(0.75, 0.25))
CLEANED = Candidate("cleaned", CANDIDATES[0].parts, None, Cleaning((0, 25), (100, 0)))
SCENES = ["s1", "s2", "s3"]


def chosen(rule, *matrices):
    confusions = {c.name: np.array([m] * 3) for c, m in zip(CANDIDATES, matrices, strict=True)}
    return select(rule, CANDIDATES, confusions, SCENES)


def test_best_takes_the_highest_score():
    selection = chosen("best", HALF, RIGHT, WRONG)
    assert selection["chosen"] == "retrain-main"
    assert [row["miou"] for row in selection["candidates"]] == [pytest.approx(1 / 3), 1, 0]
    assert selection["headline"] == "chosen as best of 3 on these images" and "optimism" in selection


def test_of_equals_best_takes_the_first():
    assert chosen("best", WRONG, RIGHT, RIGHT)["chosen"] == "retrain-main"
    assert chosen("best", HALF, HALF, HALF)["chosen"] == "baseline-main"


def test_a_named_candidate_is_taken_whatever_its_score():
    selection = chosen("mean-all", RIGHT, RIGHT, WRONG)
    assert (selection["rule"], selection["chosen"]) == ("mean-all", "mean-all")
    assert "headline" not in selection and "optimism" not in selection  # nothing was chosen on these images


def test_an_unknown_rule_names_the_candidates():
    with pytest.raises(ValueError, match=r"no candidate 'mean-al'; .* baseline-main, retrain-main, mean-all"):
        chosen("mean-al", RIGHT, RIGHT, RIGHT)


def test_differences_are_against_the_first_members_baseline_which_alone_is_the_reference():
    selection = chosen("best", HALF, RIGHT, HALF)
    assert selection["reference"] == "baseline-main"
    assert (selection["judge_images"], selection["judge_groups"]) == (3, 3)
    first, better, equal = (row["difference"] for row in selection["candidates"])
    assert [d["difference"] for d in (first, better, equal)] == [0, pytest.approx(2 / 3), 0]
    verdicts = [d["verdict"] for d in (first, better, equal)]
    assert verdicts == ["reference", "undecided: too few scenes", "identical"]


# Fitted candidates and the rule `tested`


def of_scores(correct, *, candidates=(*CANDIDATES, FITTED), images=40, seed=0):
    """Confusions of images of 100 pixels; `correct` is each candidate's share of right ones, drawn image by image."""
    rng = np.random.default_rng(seed)
    confusions = {}
    for candidate, share in zip(candidates, correct, strict=True):
        right = rng.binomial(50, share, size=(images, 2))
        confusions[candidate.name] = np.stack([[[a, 50 - a], [50 - b, b]] for a, b in right])
    return list(candidates), confusions, [f"scene {i}" for i in range(images)]


def test_best_leaves_a_fitted_candidate_that_is_higher_by_chance():
    candidates, confusions, groups = of_scores([0.5, 0.7, 0.6, 0.7])
    confusions["weighted"] = confusions["retrain-main"].copy()
    confusions["weighted"][0] = [[50, 0], [0, 50]]  # better in one scene, equal in 39
    selection = select("best", candidates, confusions, groups)
    scores = {row["name"]: row["miou"] for row in selection["candidates"]}
    assert max(scores, key=scores.get) == "weighted" and selection["chosen"] == "retrain-main"
    assert selection["headline"] == "chosen as best of 3 on these images"


def test_best_takes_a_fitted_candidate_that_is_better_beyond_chance_than_the_best_without():
    candidates, confusions, groups = of_scores([0.5, 0.7, 0.6, 0.8])
    selection = select("best", candidates, confusions, groups)
    assert selection["chosen"] == "weighted"
    *_, row = selection["candidates"]
    assert row["over_best"]["name"] == "retrain-main" and row["over_best"]["verdict"] == "better"
    assert "significantly better than retrain-main, the best of 3 unfitted candidates" in selection["headline"]


def test_tested_keeps_the_reference_where_no_other_is_better_beyond_chance():
    candidates, confusions, groups = of_scores([0.6, 0.6, 0.4, 0.6])
    selection = select("tested", candidates, confusions, groups)
    assert selection["chosen"] == "baseline-main" and "optimism" not in selection
    assert selection["headline"] == "kept: none of 3 other candidates is significantly better"


def test_tested_takes_the_highest_of_those_that_are():
    candidates, confusions, groups = of_scores([0.5, 0.7, 0.8, 0.6])
    selection = select("tested", candidates, confusions, groups)
    assert selection["chosen"] == "mean-all"
    assert selection["headline"] == "chosen over baseline-main: 3 of 3 are significantly better"


def test_with_too_few_scenes_nothing_is_beyond_chance():
    candidates, confusions, _ = of_scores([0.5, 0.7, 0.8, 1.0])
    groups = [f"scene {i % 9}" for i in range(40)]
    assert select("tested", candidates, confusions, groups)["chosen"] == "baseline-main"
    assert select("best", candidates, confusions, groups)["chosen"] == "mean-all"


def test_corrected_p_values_decide_and_not_intervals():
    rows = [{"name": "a", "miou": 0.5, "difference": {}}]
    for name, p_holm in (("b", 0.051), ("c", 0.05)):
        better = {"difference": 0.1, "low": 0.05, "high": 0.2, "p_value": 0.02, "num_groups": 20, "verdict": "better"}
        rows.append({"name": name, "miou": 0.6, "difference": better | {"p_holm": p_holm}})
    assert choose("tested", rows)[0] == "c"
    assert choose("tested", rows[:2])[0] == "a"


def test_p_values_are_corrected_for_all_candidates_and_for_the_fitted_ones_apart():
    candidates, confusions, groups = of_scores([0.6, 0.62, 0.6, 0.64, 0.63], candidates=(*CANDIDATES, FITTED, CLEANED))
    rows = score_rows(candidates, confusions, groups)
    differences = [row["difference"] for row in rows[1:]]
    assert [d["p_holm"] for d in differences] == holm([d["p_value"] for d in differences])
    over_best = [row["over_best"] for row in rows if "over_best" in row]
    assert len(over_best) == 2 and [d["p_holm"] for d in over_best] == holm([d["p_value"] for d in over_best])


def test_a_fitted_candidate_comes_back_from_selection_json_as_it_was():
    candidates, confusions, groups = of_scores([0.6] * 5, candidates=(*CANDIDATES, FITTED, CLEANED))
    selection = select("best", candidates, confusions, groups)
    assert fitted_of(selection, ("main",)) == [FITTED, CLEANED]
    assert fitted_of(selection, ("other",)) == []


# Holm's correction


def test_holm_by_hand():
    # sorted: 0.01 x 4, 0.015 x 3, 0.03 x 2 and 0.04 x 1, which may not fall below 0.06
    assert holm([0.04, 0.01, 0.03, 0.015]) == pytest.approx([0.06, 0.04, 0.06, 0.045])
    assert holm([0.5, 0.6]) == [1, 1] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_rejects_what_the_closed_test_of_bonferroni_rejects(p_values):
    """Marcus, Peritz and Gabriel 1976: reject i if every set of hypotheses with i in it is rejected."""
    numbers = range(len(p_values))
    sets = list(chain.from_iterable(combinations(numbers, size) for size in range(1, len(p_values) + 1)))
    closed = [max(min(1, len(s) * min(p_values[i] for i in s)) for s in sets if number in s) for number in numbers]
    assert holm(p_values) == pytest.approx(closed)
