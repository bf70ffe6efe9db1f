"""Losses: by hand on a few pixels, against torch and smp as judges, and the edges that pseudo-labels reach."""

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from segpipe.labels import IGNORE_INDEX
from segpipe.losses import lovasz, overlap
from segpipe.losses.class_weights import weights_by_count
from segpipe.losses.overlap import class_overlap
from segpipe.losses.weighted_sum import TERMS, SegmentationLoss, build_loss
from segpipe.params import LossParams

SETTINGS = {"label_smoothing": 0.1, "focal_gamma": 2.0, "tversky_alpha": 0.3, "tversky_beta": 0.7, "average": "present"}
OVERLAP_TERMS = ("dice", "jaccard", "tversky", "tanimoto")
ALL_TERMS = dict.fromkeys(TERMS, 1.0)


def make_loss(weights=None, **changes):
    return SegmentationLoss(weights or ALL_TERMS, **({"class_weights": None} | SETTINGS | changes))


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


def test_tanimoto_by_hand():
    # squares: class 0 has 0.8^2 + 0.4^2, class 1 has 0.2^2 + 0.6^2
    expected = 1 - torch.tensor([0.8 / (0.8 + 1 - 0.8), 0.6 / (0.4 + 1 - 0.6)]).mean()
    torch.testing.assert_close(term("tanimoto", *TWO_PIXELS), expected)


def test_lovasz_by_hand():
    # class 0, one pixel of two: errors 0.4 (not of it) and 0.2 (of it). The first mistake makes 1 - 1/2 of the Jaccard
    # loss, the second all: 0.4 * 1/2 + 0.2 * 1/2. Of class 1 the larger error is the one of it: 0.4 * 1 + 0.2 * 0
    torch.testing.assert_close(term("lovasz", *TWO_PIXELS), torch.tensor([0.3, 0.4]).mean())


def test_overlap_terms_pool_the_images_of_the_batch_before_dividing():
    # image 1: one pixel of class 0 given 0.9; image 2: one pixel of class 1 given 0.7
    logits = torch.tensor([[0.9, 0.1], [0.3, 0.7]]).log()[:, :, None, None]
    targets = torch.tensor([0, 1])[:, None, None]
    pooled = 1 - torch.tensor([2 * 0.9 / (1.2 + 1), 2 * 0.7 / (0.8 + 1)]).mean()
    torch.testing.assert_close(term("dice", logits, targets), pooled)


THREE_CLASSES = pixels([[0.7, 0.1, 0.2], [0.2, 0.5, 0.3]], [0, 1])  # nothing is of class 2


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky"])
def test_average_present_leaves_out_a_class_that_no_pixel_has(name):
    sums = class_overlap(THREE_CLASSES[0].softmax(1), THREE_CLASSES[1])
    intersection, predicted, actual = (sums[part][:2] for part in range(3))
    alpha, beta = {"dice": (0.5, 0.5), "jaccard": (1, 1), "tversky": (0.3, 0.7)}[name]
    index = intersection / (intersection + alpha * (predicted - intersection) + beta * (actual - intersection))
    torch.testing.assert_close(term(name, *THREE_CLASSES), 1 - index.mean())


def test_both_ways_to_count_overlaps_give_one_loss_and_one_gradient(monkeypatch):
    outcomes = []
    for way in (overlap._sums_by_index, overlap._sums_by_comparison):
        monkeypatch.setattr(overlap, "_sums_by_index", way)  # the one that a CPU takes
        logits, targets = random_batch()
        logits.requires_grad_()
        loss = make_loss({"dice": 1.0, "jaccard": 0.5})(logits, targets)
        loss.backward()
        outcomes.append((loss.detach(), logits.grad))
    assert outcomes[0][1].abs().sum() > 0
    torch.testing.assert_close(outcomes[1], outcomes[0])


def test_average_all_charges_tanimoto_with_that_of_an_absent_class_s_complement():
    present = term("tanimoto", *THREE_CLASSES, average="present")
    rest = torch.tensor([0.8, 0.7])  # of class 2's complement, which both pixels are of
    complement = 1 - rest.sum() / ((rest**2).sum() + 2 - rest.sum())
    torch.testing.assert_close(term("tanimoto", *THREE_CLASSES, average="all"), (2 * present + complement) / 3)


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky", "lovasz"])
def test_average_all_charges_an_absent_class_the_share_of_pixels_falsely_given_to_it(name):
    present = term(name, *THREE_CLASSES, average="present")
    false_positive_share = (0.2 + 0.3) / 2
    expected = (2 * present + false_positive_share) / 3
    torch.testing.assert_close(term(name, *THREE_CLASSES, average="all"), expected)


@pytest.mark.parametrize("name", [*OVERLAP_TERMS, "lovasz"])
def test_average_all_teaches_against_false_positives_of_an_absent_class(name):
    logits = THREE_CLASSES[0].clone().requires_grad_()
    term(name, logits, THREE_CLASSES[1], average="all").backward()
    assert (logits.grad[:, 2] > 0).all()  # descending lowers its scores


@pytest.mark.parametrize("name", [*OVERLAP_TERMS, "lovasz"])
def test_averages_agree_where_every_class_is_present(name):
    batch = random_batch()
    torch.testing.assert_close(term(name, *batch, average="all"), term(name, *batch, average="present"))


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


def lovasz_of_the_paper(logits, targets):
    """By definition, for few pixels: the growth of the Jaccard loss of the mistakes so far, class by class."""
    valid = targets != IGNORE_INDEX
    probs, of_pixel = logits.softmax(1).movedim(1, 0)[:, valid], targets[valid]
    losses = []
    for index in of_pixel.unique().tolist():
        of_class = of_pixel == index
        errors = (of_class.to(probs) - probs[index]).abs()
        mistaken, before, loss = torch.zeros_like(of_class), 0.0, 0.0
        for pixel in errors.argsort(descending=True, stable=True).tolist():
            mistaken[pixel] = True
            now = 1 - (of_class & ~mistaken).sum().item() / (of_class | mistaken).sum().item()
            loss, before = loss + errors[pixel] * (now - before), now
        losses.append(loss)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_lovasz_agrees_with_its_definition_value_and_gradient(dtype):
    logits, targets = random_batch(num_classes=4)
    targets[targets == 3] = 2  # class 3 is absent
    outcomes = []
    for loss in (lambda *batch: term("lovasz", *batch), lovasz_of_the_paper):
        scores = logits.to(dtype).requires_grad_()
        value = loss(scores, targets)
        value.backward()
        outcomes.append((value.detach(), scores.grad))
    torch.testing.assert_close(*outcomes)


def test_lovasz_agrees_with_smp():
    logits, targets = random_batch()
    judge = smp.losses.LovaszLoss("multiclass", ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(term("lovasz", logits, targets), judge(logits, targets))
    targets = targets.where(targets != 4, 3)  # a class is absent: both take the mean over those present
    torch.testing.assert_close(term("lovasz", logits, targets), judge(logits, targets))


def test_both_ways_to_sort_for_lovasz_agree_also_on_equal_errors(monkeypatch):
    logits, targets = random_batch()
    logits = logits.round()  # many pixels of one probability
    ways = []
    for way in (lovasz._sorted, lovasz._sorted_by_keys):
        monkeypatch.setattr(lovasz, "_sorted_by_keys", way)  # the one that a CPU takes
        scores = logits.clone().requires_grad_()
        term("lovasz", scores, targets).backward()
        ways.append(scores.grad)
    assert ways[0].abs().sum() > 0
    assert torch.equal(*ways)


@pytest.mark.parametrize("name", ["ce", "soft_ce"])
def test_class_weights_mean_what_they_mean_to_torch(name):
    logits, targets = random_batch()
    weights, smoothing = [0.1, 0.0, 1.0, 5.0, 30.0], 0.1 if name == "soft_ce" else 0.0
    expected = F.cross_entropy(
        logits, targets, weight=torch.tensor(weights), ignore_index=IGNORE_INDEX, label_smoothing=smoothing
    )
    torch.testing.assert_close(term(name, logits, targets, class_weights=weights), expected)


# Class weights


def test_focal_is_the_weighted_mean_by_hand():
    weighted = -(torch.tensor([3.0, 1.0]) * torch.tensor([0.2, 0.4]) ** 2 * log_of(0.8, 0.6)).sum() / 4
    torch.testing.assert_close(term("focal", *TWO_PIXELS, class_weights=[3.0, 1.0]), weighted)


@pytest.mark.parametrize("name", ["ce", "soft_ce", "focal"])
def test_equal_class_weights_change_nothing(name):
    batch = random_batch()
    torch.testing.assert_close(term(name, *batch, class_weights=[7.0] * 5), term(name, *batch))


@pytest.mark.parametrize("name", [*OVERLAP_TERMS, "lovasz"])
def test_class_weights_leave_means_over_classes_alone(name):
    batch = random_batch()
    assert term(name, *batch, class_weights=[1.0, 2.0, 3.0, 4.0, 5.0]) == term(name, *batch)


def test_a_batch_of_classes_of_weight_zero_costs_nothing():
    logits, targets = pixels([[0.8, 0.2], [0.4, 0.6]], [0, 0])
    logits.requires_grad_()
    for name in ("ce", "soft_ce", "focal"):
        loss = term(name, logits, targets, class_weights=[0.0, 1.0])
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss == 0 and not gradient.any()


PIXELS, IMAGES = np.array([900, 90, 10, 0]), np.array([10, 5, 1, 0])


def test_inverse_frequency_lets_the_pixels_of_each_class_count_alike():
    weights = weights_by_count("inverse_frequency", PIXELS, IMAGES, beta=0.9)
    assert (weights * PIXELS)[:3] == pytest.approx([1000 / 3] * 3)


def test_effective_number_by_hand():
    # Cui et al.: (1 - 0.5^n) / (1 - 0.5) samples tell something new, n = 10, 5 and 1 images
    raw = 1 / np.array([2 - 2**-9, 2 - 2**-4, 1])
    weights = weights_by_count("effective_number", PIXELS, IMAGES, beta=0.5)
    assert weights[:3] / weights[0] == pytest.approx(raw / raw[0])


@pytest.mark.parametrize("kind", ["inverse_frequency", "effective_number"])
def test_the_mean_weight_of_training_pixels_is_one_and_so_is_that_of_a_class_without_any(kind):
    weights = weights_by_count(kind, PIXELS, IMAGES, beta=0.9)
    assert (weights * PIXELS).sum() / PIXELS.sum() == pytest.approx(1)
    assert weights[3] == 1
    assert weights_by_count(kind, 0 * PIXELS, 0 * IMAGES, beta=0.9).tolist() == [1, 1, 1, 1]


def test_effective_number_goes_from_equal_weights_to_inverse_counts_of_images():
    assert weights_by_count("effective_number", PIXELS, IMAGES, beta=0.0) == pytest.approx([1, 1, 1, 1])
    weights = weights_by_count("effective_number", PIXELS, IMAGES, beta=1 - 1e-9)
    assert weights[:3] / weights[0] == pytest.approx([1, 2, 10], rel=1e-6)


@pytest.mark.parametrize("beta", [0.9, 0.99, 0.999, 0.9999])
def test_effective_number_stays_sensible_for_millions_of_pixels(beta):
    pixels, images = np.array([10**10, 10**8, 10**5]), np.array([50_000, 20_000, 40])
    weights = weights_by_count("effective_number", pixels, images, beta)
    assert weights[0] < weights[2] < 50_000 / 40 * weights[0] and np.isfinite(weights).all()


# Shares of the gradient, and factors


def test_gradient_norms_are_those_of_the_weighted_terms():
    logits, targets = random_batch()
    loss = make_loss({"ce": 0.5, "dice": 2.0})
    loss.scale({"ce": 3.0, "dice": 0.25})
    norms = loss.gradient_norms(logits, targets)
    for norm, name, weight in zip(norms, ("ce", "dice"), (1.5, 0.5), strict=True):
        scores = logits.clone().requires_grad_()
        (weight * term(name, scores, targets)).backward()
        torch.testing.assert_close(norm, scores.grad.norm())
    assert logits.grad is None


def test_factors_multiply_the_weights():
    batch = random_batch()
    loss = make_loss({"ce": 0.5, "dice": 2.0})
    loss.scale({"ce": 3.0, "dice": 0.25})
    assert loss(*batch) == make_loss({"ce": 1.5, "dice": 0.5})(*batch)


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
    monkeypatch.setattr(SegmentationLoss, "_probability_terms", lambda *_: pytest.fail("overlaps were computed"))
    make_loss({"ce": 1.0, "dice": 0.0})(*random_batch())
    monkeypatch.undo()
    monkeypatch.setattr(SegmentationLoss, "_pixel_terms", lambda *_: pytest.fail("pixel terms were computed"))
    make_loss({"dice": 1.0, "ce": 0.0})(*random_batch())


# Ignored pixels


@pytest.mark.parametrize("average", ["present", "all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("class_weights", [None, [0.5, 1.0, 2.0]])
def test_all_pixels_ignored_gives_zero_loss_and_zero_gradient(dtype, average, class_weights):
    logits = torch.full((1, 3, 64, 64), 60000.0, dtype=dtype).requires_grad_()  # their sum overflows float16
    targets = torch.full((1, 64, 64), IGNORE_INDEX)
    loss = make_loss(average=average, class_weights=class_weights)
    assert list(loss.terms(logits, targets)) == list(TERMS)
    value = loss(logits, targets)
    value.backward()
    assert value == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("average", ["present", "all"])
def test_ignoring_pixels_is_the_same_as_removing_them(average):
    logits, targets = random_batch()
    loss = make_loss(average=average, class_weights=[0.5, 1.0, 2.0, 0.0, 1.0])
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
@pytest.mark.parametrize("class_weights", [None, [0.5, 1.0, 2.0, 4.0]])
@pytest.mark.parametrize("name", TERMS)
def test_gradients_agree_with_finite_differences(name, average, class_weights):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[[0, 1, 1], [2, IGNORE_INDEX, 0]], [[1, IGNORE_INDEX, 0], [2, 2, 1]]])  # class 3 is absent
    settings = {"average": average, "class_weights": class_weights}
    assert torch.autograd.gradcheck(lambda scores: term(name, scores, targets, **settings), logits)


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
        make_loss({"dcie": 1.0, "ce": -1.0}, average="some")


def test_a_loss_without_terms_is_refused():
    with pytest.raises(ValueError, match="every term has weight 0"):
        make_loss(dict.fromkeys(TERMS, 0.0))


def test_targets_of_another_size_than_the_logits_are_refused():
    logits, targets = random_batch()
    with pytest.raises(ValueError, match=r"\(2, 5, 16, 16\).*\(2, 15, 16\)"):
        make_loss()(logits, targets[:, 1:])


def test_build_loss_takes_every_parameter_of_the_section():
    values = dict.fromkeys(TERMS, 0.0) | {"soft_ce": 0.75, "tversky": 0.25} | SETTINGS
    elsewhere = {"class_weights": "none", "effective_beta": 0.99, "balance": False}  # what these come to is given
    assert set(LossParams.model_fields) == set(values | elsewhere)
    batch, weights = random_batch(), [1.0, 2.0, 3.0, 4.0, 5.0]
    expected = make_loss({"soft_ce": 0.75, "tversky": 0.25}, class_weights=weights)(*batch)
    assert build_loss(LossParams(**values, **elsewhere), weights)(*batch) == expected
