import json

import pytest

from segpipe.data.lineage import Lineage

SEEN = Lineage(learned_from=frozenset({"h1", "h2"}), tuned_on=frozenset({"h3"}))
IMAGES = [("a.jpg", "h1"), ("b.jpg", "h2"), ("c.jpg", "h3"), ("d.jpg", "h4")]
LEARNED, TUNED, NEW = IMAGES[:2], IMAGES[2:3], IMAGES[3:]


@pytest.mark.parametrize("refuse", [SEEN.refuse_tuning_on, SEEN.refuse_judging_on])
def test_images_learned_from_are_refused_for_choices_and_for_judging_by_name(refuse):
    with pytest.raises(ValueError, match=r"^main-0 learned from 2 of the images .*, such as a\.jpg, b\.jpg; its score"):
        refuse([*NEW, *LEARNED], "main-0")


def test_images_tuned_on_may_serve_further_choices_but_not_judge():
    SEEN.refuse_tuning_on(TUNED, "main-0")
    with pytest.raises(ValueError, match=r"^main-0 was tuned on 1 of the images that it would be judged on, .* c\.jpg"):
        SEEN.refuse_judging_on(TUNED, "main-0")


def test_unseen_images_are_refused_for_nothing():
    for images in (NEW, []):
        SEEN.refuse_tuning_on(images, "main-0")
        SEEN.refuse_judging_on(images, "main-0")


def test_images_given_one_by_one_are_checked_against_both_lists():
    with pytest.raises(ValueError, match="was tuned on"):
        SEEN.refuse_judging_on(iter(TUNED), "main-0")


def test_the_content_counts_and_not_the_name():
    SEEN.refuse_judging_on([("a.jpg", "h9")], "main-0")
    with pytest.raises(ValueError, match=r"renamed\.jpg"):
        SEEN.refuse_judging_on([("renamed.jpg", "h1")], "main-0")


def test_of_many_images_all_are_counted_and_three_named():
    many = Lineage(frozenset(f"h{i}" for i in range(9)), frozenset())
    with pytest.raises(ValueError) as error:
        many.refuse_tuning_on([(f"{i}.jpg", f"h{i}") for i in range(9)], "x")
    assert "learned from 9 of" in str(error.value) and "such as 0.jpg, 1.jpg, 2.jpg; " in str(error.value)


def test_a_union_has_seen_what_either_has_seen():
    other = Lineage(frozenset({"h2", "h5"}), frozenset({"h6"}))
    assert SEEN | other == Lineage(frozenset({"h1", "h2", "h5"}), frozenset({"h3", "h6"})) == other | SEEN
    assert SEEN | Lineage(frozenset(), frozenset()) == SEEN


def test_json_gives_it_back_and_equal_lineages_are_equal_bytes():
    value = SEEN.to_json()
    assert value == {"learned_from": ["h1", "h2"], "tuned_on": ["h3"]}
    assert Lineage.from_json(json.loads(json.dumps(value))) == SEEN
    again = Lineage(frozenset(["h2", "h1"]), frozenset({"h3"}))
    assert json.dumps(again.to_json()) == json.dumps(value)
