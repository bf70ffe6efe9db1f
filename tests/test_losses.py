"""Losses: by hand on a few pixels, against torch and smp as judges, and the edges that pseudo-labels reach."""

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

import segpipe.losses
from segpipe.labels import IGNORE_INDEX
from segpipe.losses import TERMS, SegmentationLoss, build_loss
from segpipe.params import LossParams

SETTINGS = {"label_smoothing": 0.1, "focal_gamma": 2.0, "tversky_alpha": 0.3, "tversky_beta": 0.7, "average": "present"}
ALL_TERMS = dict.fromkeys(TERMS, 1.0)


def make_loss(weights=None, **changes):
    return SegmentationLoss(weights or ALL_TERMS, **(SETTINGS | changes))


def term(name, logits, targets, **changes):
    return make_loss({name: 1.0}, **changes)(logits, targets)


def random_batch(seed=0, num_classes=5, ignored=0.2):
    """Logits (2, C, 16, 16) and targets with every class present."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, num_classes, 16, 16, generator=generator)
    targets = torch.randint(num_classes, (2, 16, 16), generator=generator)
    targets[torch.rand(targets.shape, generator=generator) < ignored] = IGNORE_INDEX
    return logits, targets


def pixels(probs, target):
    """A batch of one image of one row: (pixels, C) probabilities as logits (1, C, 1, W), and its targets (1, 1, W)."""
    return torch.tensor(probs).log().T[None, :, None, :], torch.tensor(target)[None, None, :]


# By hand. Pixel 1 is class 0 and given 0.8 of it, pixel 2 is class 1 and given 0.6 of it, pixel 3 does not count.
TWO_PIXELS = pixels([[0.8, 0.2], [0.4, 0.6], [0.5, 0.5]], [0, 1, IGNORE_INDEX])


def log_of(*probs):
    return torch.tensor(probs).log()


def test_ce_is_the_mean_over_the_pixels_that_count():
    torch.testing.assert_close(term("ce", *TWO_PIXELS), -log_of(0.8, 0.6).mean())


def test_soft_ce_spreads_the_smoothing_over_all_classes():
    # smoothing 0.1 over two classes: 0.95 on the target, 0.05 on the other
    expected = -(0.95 * log_of(0.8, 0.6) + 0.05 * log_of(0.2, 0.4)).mean()
    torch.testing.assert_close(term("soft_ce", *TWO_PIXELS), expected)


def test_focal_weighs_each_pixel_by_what_is_missing_to_certainty():
    expected = -(torch.tensor([0.2, 0.4]) ** 2 * log_of(0.8, 0.6)).mean()
    torch.testing.assert_close(term("focal", *TWO_PIXELS), expected)


def test_dice_by_hand():
    # class 0: intersection 0.8, predicted 0.8 + 0.4, actual 1; class 1: 0.6, 0.2 + 0.6, 1
    expected = 1 - torch.tensor([2 * 0.8 / (1.2 + 1), 2 * 0.6 / (0.8 + 1)]).mean()
    torch.testing.assert_close(term("dice", *TWO_PIXELS), expected)


def test_jaccard_by_hand():
    expected = 1 - torch.tensor([0.8 / (1.2 + 1 - 0.8), 0.6 / (0.8 + 1 - 0.6)]).mean()
    torch.testing.assert_close(term("jaccard", *TWO_PIXELS), expected)


def test_tversky_alpha_weighs_false_positives_and_beta_misses():
    expected = 1 - torch.tensor([0.8 / (0.8 + 0.3 * 0.4 + 0.7 * 0.2), 0.6 / (0.6 + 0.3 * 0.2 + 0.7 * 0.4)]).mean()
    torch.testing.assert_close(term("tversky", *TWO_PIXELS), expected)


def test_overlap_terms_pool_the_images_of_the_batch_before_dividing():
    # image 1: one pixel of class 0 given 0.9; image 2: one pixel of class 1 given 0.7
    logits = torch.tensor([[0.9, 0.1], [0.3, 0.7]]).log()[:, :, None, None]
    targets = torch.tensor([0, 1])[:, None, None]
    pooled = 1 - torch.tensor([2 * 0.9 / (1.2 + 1), 2 * 0.7 / (0.8 + 1)]).mean()
    torch.testing.assert_close(term("dice", logits, targets), pooled)


THREE_CLASSES = pixels([[0.7, 0.1, 0.2], [0.2, 0.5, 0.3]], [0, 1])  # nothing is of class 2


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky"])
def test_average_present_leaves_out_a_class_that_no_pixel_has(name):
    overlap = segpipe.losses.class_overlap(THREE_CLASSES[0].softmax(1), THREE_CLASSES[1])
    intersection, predicted, actual = (overlap[part][:2] for part in range(3))
    alpha, beta = {"dice": (0.5, 0.5), "jaccard": (1, 1), "tversky": (0.3, 0.7)}[name]
    index = intersection / (intersection + alpha * (predicted - intersection) + beta * (actual - intersection))
    torch.testing.assert_close(term(name, *THREE_CLASSES), 1 - index.mean())


def test_both_ways_to_count_overlaps_give_one_loss_and_one_gradient(monkeypatch):
    outcomes = []
    for way in (segpipe.losses._sums_by_index, segpipe.losses._sums_by_comparison):
        monkeypatch.setattr(segpipe.losses, "_sums_by_index", way)  # the one that a CPU takes
        logits, targets = random_batch()
        logits.requires_grad_()
        loss = make_loss({"dice": 1.0, "jaccard": 0.5})(logits, targets)
        loss.backward()
        outcomes.append((loss.detach(), logits.grad))
    assert outcomes[0][1].abs().sum() > 0
    torch.testing.assert_close(outcomes[1], outcomes[0])


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky"])
def test_average_all_charges_an_absent_class_the_share_of_pixels_falsely_given_to_it(name):
    present = term(name, *THREE_CLASSES, average="present")
    false_positive_share = (0.2 + 0.3) / 2
    expected = (2 * present + false_positive_share) / 3
    torch.testing.assert_close(term(name, *THREE_CLASSES, average="all"), expected)


def test_average_all_teaches_against_false_positives_of_an_absent_class():
    logits = THREE_CLASSES[0].clone().requires_grad_()
    term("dice", logits, THREE_CLASSES[1], average="all").backward()
    assert (logits.grad[:, 2] > 0).all()  # descending lowers its scores


def test_averages_agree_where_every_class_is_present():
    batch = random_batch()
    assert term("dice", *batch, average="all") == term("dice", *batch, average="present")


def test_perfect_predictions_cost_nothing():
    _, targets = random_batch()
    logits = 100.0 * F.one_hot(targets.where(targets != IGNORE_INDEX, 0), 5).movedim(-1, 1)
    terms = make_loss({name: 1.0 for name in TERMS if name != "soft_ce"}).terms(logits, targets)
    assert all(value.abs() < 1e-6 for value in terms.values())


# Second opinions


def test_ce_and_soft_ce_agree_with_torch():
    logits, targets = random_batch()
    torch.testing.assert_close(term("ce", logits, targets), F.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX))
    torch.testing.assert_close(
        term("soft_ce", logits, targets),
        F.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX, label_smoothing=0.1),
    )


@pytest.mark.parametrize(
    ("name", "judge"),
    [
        ("dice", smp.losses.DiceLoss("multiclass", ignore_index=IGNORE_INDEX)),
        ("tversky", smp.losses.TverskyLoss("multiclass", ignore_index=IGNORE_INDEX, alpha=0.3, beta=0.7)),
    ],
)
def test_overlap_terms_agree_with_smp_where_every_class_is_present(name, judge):
    logits, targets = random_batch()
    torch.testing.assert_close(term(name, logits, targets), judge(logits, targets), atol=1e-6, rtol=0)


def test_jaccard_agrees_with_smp_where_every_class_is_present():
    logits, targets = random_batch(ignored=0)  # smp's JaccardLoss knows no ignored pixels
    judge = smp.losses.JaccardLoss("multiclass")
    torch.testing.assert_close(term("jaccard", logits, targets), judge(logits, targets), atol=1e-6, rtol=0)


# Identities


def test_focal_with_gamma_zero_is_ce():
    batch = random_batch()
    torch.testing.assert_close(term("focal", *batch, focal_gamma=0.0), term("ce", *batch))


def test_tversky_is_dice_at_a_half_and_jaccard_at_one():
    batch = random_batch()
    assert term("tversky", *batch, tversky_alpha=0.5, tversky_beta=0.5) == term("dice", *batch)
    assert term("tversky", *batch, tversky_alpha=1.0, tversky_beta=1.0) == term("jaccard", *batch)


def test_smoothed_and_plain_ce_together_are_one_with_less_smoothing():
    batch = random_batch()
    mixed = make_loss({"soft_ce": 0.75, "ce": 0.25})(*batch)
    torch.testing.assert_close(mixed, term("soft_ce", *batch, label_smoothing=0.075))


def test_the_loss_is_the_weighted_sum_of_its_terms():
    batch = random_batch()
    loss = make_loss({"dice": 0.25, "focal": 0.75, "ce": 0.0})
    terms = loss.terms(*batch)
    assert list(terms) == ["focal", "dice"]
    torch.testing.assert_close(loss(*batch), 0.25 * terms["dice"] + 0.75 * terms["focal"])


def test_a_term_is_the_same_alone_and_among_others():
    batch = random_batch()
    for name, value in make_loss().terms(*batch).items():
        assert value == term(name, *batch)


def test_terms_of_weight_zero_are_not_computed(monkeypatch):
    monkeypatch.setattr(segpipe.losses, "class_overlap", lambda *_: pytest.fail("overlaps were computed"))
    make_loss({"ce": 1.0, "dice": 0.0})(*random_batch())
    monkeypatch.undo()
    monkeypatch.setattr(SegmentationLoss, "_pixel_terms", lambda *_: pytest.fail("pixel terms were computed"))
    make_loss({"dice": 1.0, "ce": 0.0})(*random_batch())


# Ignored pixels


@pytest.mark.parametrize("average", ["present", "all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_all_pixels_ignored_gives_zero_loss_and_zero_gradient(dtype, average):
    logits = torch.full((1, 3, 64, 64), 60000.0, dtype=dtype).requires_grad_()  # their sum overflows float16
    targets = torch.full((1, 64, 64), IGNORE_INDEX)
    loss = make_loss(average=average)
    assert list(loss.terms(logits, targets)) == list(TERMS)
    value = loss(logits, targets)
    value.backward()
    assert value == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("average", ["present", "all"])
def test_ignoring_pixels_is_the_same_as_removing_them(average):
    logits, targets = random_batch()
    loss = make_loss(average=average)
    kept = logits.movedim(1, 0)[:, targets != IGNORE_INDEX][None, :, None]  # (1, C, 1, kept pixels)
    removed = loss.terms(kept, targets[targets != IGNORE_INDEX][None, None])
    for name, value in loss.terms(logits, targets).items():
        torch.testing.assert_close(value, removed[name], msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_ignored_pixels_get_no_gradient_and_the_others_a_finite_one(gamma):
    logits, targets = random_batch()
    logits[0, :, 0, 0] = torch.tensor([200.0, 0, 0, 0, 0])  # a probability of exactly 1, on the right class
    targets[0, 0, 0] = 0
    logits.requires_grad_()
    make_loss(focal_gamma=gamma)(logits, targets).backward()
    of_pixel = logits.grad.movedim(1, -1)
    assert (of_pixel[targets == IGNORE_INDEX] == 0).all()
    assert of_pixel.isfinite().all()
    assert of_pixel[targets != IGNORE_INDEX].any()


# Precision and gradients


def test_half_precision_logits_are_computed_in_float32():
    logits, targets = random_batch()
    for dtype in (torch.bfloat16, torch.float16):
        value = make_loss()(logits.to(dtype), targets)
        assert value.dtype == torch.float32
        assert value == make_loss()(logits.to(dtype).float(), targets)


def test_autocast_changes_nothing():
    logits, targets = random_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = make_loss()(logits, targets)
    assert inside == make_loss()(logits, targets)


@pytest.mark.parametrize("average", ["present", "all"])
@pytest.mark.parametrize("name", TERMS)
def test_gradients_agree_with_finite_differences(name, average):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[[0, 1, 1], [2, IGNORE_INDEX, 0]], [[1, IGNORE_INDEX, 0], [2, 2, 1]]])  # class 3 is absent
    assert torch.autograd.gradcheck(lambda scores: term(name, scores, targets, average=average), logits)


def test_the_same_batch_gives_the_same_bits():
    def run():
        logits, targets = random_batch(num_classes=12)
        logits.requires_grad_()
        value = make_loss()(logits, targets)
        value.backward()
        return value, logits.grad

    (first, first_grad), (second, second_grad) = run(), run()
    assert first == second
    assert torch.equal(first_grad, second_grad)


# Errors and construction


def test_wrong_settings_are_reported_all_at_once():
    with pytest.raises(ValueError, match=r"'dcie'.*ce has weight -1.*average is 'some'"):
        SegmentationLoss({"dcie": 1.0, "ce": -1.0}, **(SETTINGS | {"average": "some"}))


def test_a_loss_without_terms_is_refused():
    with pytest.raises(ValueError, match="every term has weight 0"):
        make_loss(dict.fromkeys(TERMS, 0.0))


def test_targets_of_another_size_than_the_logits_are_refused():
    logits, targets = random_batch()
    with pytest.raises(ValueError, match=r"\(2, 5, 16, 16\).*\(2, 15, 16\)"):
        make_loss()(logits, targets[:, 1:])


def test_build_loss_takes_every_parameter_of_the_section():
    values = dict.fromkeys(TERMS, 0.0) | {"soft_ce": 0.75, "tversky": 0.25} | SETTINGS
    assert set(LossParams.model_fields) == set(values)
    batch = random_batch()
    assert build_loss(LossParams(**values))(*batch) == make_loss({"soft_ce": 0.75, "tversky": 0.25})(*batch)
