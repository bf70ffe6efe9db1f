import json
import re

import numpy as np
import pandas as pd
import pytest
from coco_folder import GLASS, PAPER, box, pictures, prepare_folder, write_folder

from segpipe.data.lineage import Lineage
from segpipe.data.near_copies import write_near_copies
from segpipe.data.prepared import Prepared
from segpipe.data.pseudo_labels import PseudoLabels
from segpipe.data.store import PackedWriter
from segpipe.labels import IGNORE_INDEX
from segpipe.params import PseudoLabelParams
from segpipe.pseudo.labels import make_pseudo_labels

V = IGNORE_INDEX
SURE, UNSURE = 255, 10
AT_60 = PseudoLabelParams(
    threshold="fixed", confidence=0.6, target_precision=0.9, certainty=0.8, min_share=0.0, fraction=0.5, keep=1.0
)  # 153 of 255
TEACHERS = Lineage(frozenset({"teacher's image"}), frozenset({"teacher's tune image"}))
POOL = ("p", "q", "r")


@pytest.fixture
def prepared(tmp_path):
    """Images of 1 x 5 pixels, classes Glass = 0 and Paper = 1; held-out ones are 0 0 1 1 and an ignored one."""
    held_out = [box(GLASS, 0, 0, 2, 1), box(PAPER, 2, 0, 4, 1)]
    root = tmp_path / "raw"
    shape = {"height": 1, "width": 5}
    write_folder(
        root,
        train=pictures("a", annotations=held_out, **shape),
        val=pictures("c", "d", annotations=held_out, **shape),
        test=pictures("x", **shape),
        pool=pictures(*POOL, **shape),
    )
    return Prepared(prepare_folder(root, background="ignore", unlabeled="pool.json"), fold=0)


def teach(folder, prepared, pool, tune=((0,) * 5, (UNSURE,) * 5), lineage=TEACHERS):
    """What the teachers would write: for each image its classes and confidences of five pixels."""
    with PackedWriter(folder / "classes") as classes, PackedWriter(folder / "confidence") as confidences:
        for predicted, confidence in [*pool, tune]:
            classes.add(np.array([predicted], np.uint8))
            confidences.add(np.array([confidence], np.uint8))
    indices = [*prepared.pool()[: len(pool)], *prepared.folds[0].tune]
    card = {"teachers": ["models/main-0"], "pool": indices[: len(pool)], "tune": indices[len(pool) :]}
    (folder / "card.json").write_text(json.dumps(card | {"lineage": lineage.to_json()}))
    signs = {
        "file_name": [prepared.entries[index].file_name for index in indices],
        "member_agreement": [*[1.0, 0.5, 0.25][: len(pool)], 0.0],
        "checkpoint_agreement": np.nan,
        "mean_confidence": 0.5,
    }
    pd.DataFrame({"index": indices} | signs).to_csv(folder / "images.csv", index=False)
    return folder


def make(tmp_path, prepared, *pool, params=AT_60, **tune):
    """The finished set, the share kept, and the quality table by class."""
    taught = teach(tmp_path / "taught", prepared, pool, **tune)
    made = make_pseudo_labels(prepared, 0, taught, params, tmp_path / "pseudo")
    made.write(tmp_path / "plots")
    quality = pd.read_csv(tmp_path / "plots" / "quality.csv", index_col="class")
    return PseudoLabels(tmp_path / "pseudo"), made.share_kept, quality


def test_labels_and_share_of_the_pool(tmp_path, prepared):
    labels, share, _ = make(
        tmp_path,
        prepared,
        ([0, 0, 1, 1, 1], [SURE, UNSURE, SURE, SURE, UNSURE]),
        ([1, 1, 1, 1, 1], [UNSURE] * 5),
        ([0, 1, 0, 1, 0], [153] * 5),
    )
    assert share == 8 / 15
    names = [prepared.entries[index].file_name for index in labels.indices]
    assert names == ["p.png", "r.png"]  # nothing of q.png is kept, so it is left out
    assert [array.tolist() for array in labels.labels] == [[[0, V, 1, 1, V]], [[0, 1, 0, 1, 0]]]


def test_the_quality_table_by_hand(tmp_path, prepared):
    _, _, quality = make(
        tmp_path,
        prepared,
        ([0, 0, 1, 1, 1], [255, 10, 255, 153, 20]),
        # truth is 0 0 1 1 ignored: of the sure 1s one of two is right, and the one on the ignored pixel does not count
        tune=([0, 1, 1, 0, 1], [SURE, SURE, SURE, UNSURE, SURE]),
    )
    shown = quality[["pixels_kept", "share_of_kept", "kept_of_predicted", "mean_confidence", "tune_precision"]]
    assert shown.loc["Glass"].tolist() == pytest.approx([1, 1 / 3, 1 / 2, 1.0, 1.0])
    assert shown.loc["Paper"].tolist() == pytest.approx([2, 2 / 3, 2 / 3, (1 + 0.6) / 2, 0.5])
    assert quality["share_of_predicted"].tolist() == [0.4, 0.6]
    assert quality["share_of_labeled"].tolist() == [0.5, 0.5]
    assert quality["tune_recall"].tolist() == [0.5, 0.5]  # of two true pixels each
    assert quality["tune_scenes"].tolist() == [1, 1] and quality["threshold"].tolist() == [0.6, 0.6]


def test_a_class_that_nobody_predicts_has_no_precision_rather_than_0(tmp_path, prepared):
    _, _, quality = make(tmp_path, prepared, ([0] * 5, [SURE] * 5), tune=([0] * 5, [SURE] * 5))
    assert quality.loc["Glass", "tune_precision"] == 0.5
    assert quality.loc["Paper", ["kept_of_predicted", "mean_confidence", "tune_precision"]].isna().all()


def test_the_set_has_seen_what_its_teachers_and_itself_saw(tmp_path, prepared):
    labels, _, _ = make(tmp_path, prepared, ([0] * 5, [SURE] * 5), ([0] * 5, [UNSURE] * 5))
    kept, dropped = (prepared.entries[index].content_hash for index in prepared.pool()[:2])
    tune = prepared.hashes(prepared.folds[0].tune)  # per_class takes its thresholds from them
    assert labels.lineage == Lineage(TEACHERS.learned_from | {kept}, TEACHERS.tuned_on | tune)
    assert dropped not in labels.lineage.learned_from


@pytest.mark.parametrize("seen", ["learned_from", "tuned_on"])
def test_answers_of_teachers_that_know_the_judge_images_are_refused_by_name(tmp_path, prepared, seen):
    (judge,) = prepared.folds[0].judge
    known = {"learned_from": frozenset(), "tuned_on": frozenset()} | {seen: frozenset(prepared.hashes([judge]))}
    with pytest.raises(ValueError, match=rf"taught: its teachers .* {prepared.entries[judge].file_name}"):
        make(tmp_path, prepared, ([0] * 5, [SURE] * 5), lineage=Lineage(**known))
    assert not (tmp_path / "pseudo").exists()


NOTHING_KEPT = {
    "pseudo_label.confidence: found 0.6, and the highest confidence in the pool is 0.596: lower it, or choose another "
    "pseudo_label.threshold": AT_60,
    "pseudo_label.target_precision: found 0.9, which tune images promise of no pixel: lower it, or raise "
    "pseudo_label.min_share, which is 0.0": AT_60.model_copy(update={"threshold": "per_class"}),
    "pseudo_label.fraction: found 0.03, which is less than a pixel of every class: raise it, or choose another "
    "pseudo_label.threshold": AT_60.model_copy(update={"threshold": "top_fraction", "fraction": 0.03}),
}


@pytest.mark.parametrize("how", NOTHING_KEPT)
def test_a_threshold_that_keeps_nothing_is_a_warning_and_gives_an_empty_set(tmp_path, prepared, capsys, how):
    wrong = {"tune": ([1, 1, 0, 0, 0], [UNSURE] * 5)}
    labels, share, quality = make(
        tmp_path, prepared, *[([0] * 5, [UNSURE, 152] + [0] * 3)] * 3, params=NOTHING_KEPT[how], **wrong
    )
    warning = f"pseudo_label: warning: nothing of 3 images is kept; {how}; retraining keeps the baseline until then\n"
    assert warning in capsys.readouterr().out
    assert share == 0 and labels.indices == () and len(labels.labels) == 0
    assert labels.lineage.learned_from == TEACHERS.learned_from
    assert quality["pixels_kept"].tolist() == quality["share_of_kept"].tolist() == [0, 0]


def test_an_empty_pool_says_so_and_gives_an_empty_set(tmp_path, prepared, capsys):
    labels, share, _ = make(tmp_path, prepared)
    assert "pseudo_label: warning: there are no unlabelled images" in capsys.readouterr().out
    assert share == 0 and labels.indices == ()


def test_the_confidence_that_is_named_keeps_something(tmp_path, prepared, capsys):
    pool = [([0] * 5, [152] * 5)]
    make(tmp_path, prepared, *pool)
    highest = float(re.search(r"the highest confidence in the pool is (0\.\d+)", capsys.readouterr().out)[1])
    _, share, _ = make(tmp_path / "lower", prepared, *pool, params=AT_60.model_copy(update={"confidence": highest}))
    assert share == 1


def test_a_pool_of_copies_alone_keeps_nothing_and_says_so(tmp_path, prepared, capsys):
    (tune,), pool = prepared.folds[0].tune, prepared.pool()
    names = [entry.file_name for entry in prepared.entries]
    write_near_copies(prepared.path / "near_copies.csv", names, {tune: "one"} | dict.fromkeys(pool, "one"))
    make(tmp_path, prepared, *[([0] * 5, [SURE] * 5)] * 3)
    assert "pseudo_label: warning: all 3 images of the pool are left out" in capsys.readouterr().out


def test_a_set_says_how_much_it_keeps_and_how_much_of_that_should_be_right(tmp_path, prepared, capsys):
    _, share, _ = make(tmp_path, prepared, ([0] * 5, [SURE, SURE, 0, 0, 0]))
    values = pd.read_csv(tmp_path / "plots" / "summary.csv", index_col="name")["value"]
    right = f"{100 * values['expected_precision']:.1f} % of them are expected to be right"
    assert capsys.readouterr().out == f"pseudo_label: kept 40.0 % of the pixels of 1 image; {right}\n" and share == 0.4


def test_thin_evidence_is_said(tmp_path, prepared, capsys):
    per_class = AT_60.model_copy(update={"threshold": "per_class", "min_share": 0.5})
    _, _, quality = make(tmp_path, prepared, ([0, 0, 1, 1, 1], [255, 10, 255, 10, 10]), params=per_class)
    guesses = "warning: fewer than 10 tune scenes show these classes, so their thresholds are guesses: Glass, Paper"
    assert guesses in capsys.readouterr().out
    assert quality["why"].tolist() == [f"min_share; target not reached; of {n} tune scenes" for n in (1, 0)]
    assert quality["pixels_kept"].tolist() == [1, 3]  # half of each at least; two of Paper cannot be told apart


def test_the_most_reliable_images_are_used_and_the_table_says_which(tmp_path, prepared):
    params = AT_60.model_copy(update={"keep": 0.67})
    labels, share, _ = make(tmp_path, prepared, *[([0] * 5, [SURE] * 5)] * 3, params=params)
    assert [prepared.entries[index].file_name for index in labels.indices] == ["p.png", "q.png"]
    assert share == 10 / 15, "of the whole pool"
    images = pd.read_csv(tmp_path / "plots" / "images.csv", keep_default_na=False)
    assert images["image"].tolist() == ["p.png", "q.png", "r.png"]  # the most reliable first
    assert images["left_out"].tolist() == ["", "", "less reliable"]
    assert images["reliability"].tolist() == [1, 0.5, 0] and images["kept"].tolist() == [1, 1, 0]


def test_answers_for_other_images_are_refused(tmp_path, prepared):
    taught = teach(tmp_path / "taught", prepared, [([0] * 5, [SURE] * 5)])
    table = (taught / "images.csv").read_text()
    (taught / "images.csv").write_text(table.replace("p.png", "other.png"))
    with pytest.raises(ValueError, match=r"found answers for 1 images .* such as other\.png; .*dvc repro teach@0"):
        make_pseudo_labels(prepared, 0, taught, AT_60, tmp_path / "pseudo")
    (taught / "images.csv").write_text(table)
    with pytest.raises(ValueError, match="no tune images of fold all"):
        make_pseudo_labels(prepared, "all", taught, AT_60, tmp_path / "pseudo")


def test_a_threshold_changes_no_answer_of_the_teachers(tmp_path, prepared):
    pool = [([0, 0, 1, 1, 1], [255, 150, 255, 153, 20])] * 2
    _, share, _ = make(tmp_path, prepared, *pool)
    written = {path.name: path.read_bytes() for path in (tmp_path / "taught").iterdir()}
    section = AT_60.model_copy(update={"threshold": "top_fraction", "fraction": 0.5})
    other = make_pseudo_labels(prepared, 0, tmp_path / "taught", section, tmp_path / "other")
    assert (share, other.share_kept) == (0.6, 0.5)  # 2 of 4 and 3 of 6, over both images
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "taught").iterdir()}


def test_copies_of_held_out_images_are_no_pseudo_labels_and_are_listed(tmp_path, prepared, capsys):
    (tune,), (_, copy, _) = prepared.folds[0].tune, prepared.pool()
    names = [entry.file_name for entry in prepared.entries]
    write_near_copies(prepared.path / "near_copies.csv", names, {tune: "one", copy: "one"})
    labels, share, quality = make(tmp_path, prepared, *[([0] * 5, [SURE] * 5)] * 3)
    assert [names[index] for index in labels.indices] == ["p.png", "r.png"]
    why = f"near copy of the held-out {names[tune]}"
    said = capsys.readouterr().out
    assert f"1 image is left out, for a student may not see what its fold holds out: q.png ({why})" in said
    images = pd.read_csv(tmp_path / "plots" / "images.csv", keep_default_na=False).set_index("image")
    assert images["left_out"].to_dict() == {"p.png": "", "q.png": why, "r.png": ""}
    assert share == 10 / 15 and quality["kept_of_predicted"]["Glass"] == 1
