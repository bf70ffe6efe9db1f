"""One update, on a network small enough to check by hand."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from segpipe.params import MemberParams, load_params
from segpipe.training.engine import start_engine
from segpipe.training.learner import Learner
from segpipe.training.watched import NotFinite

PARAMS = load_params(Path(__file__).resolve().parent.parent / "params.yaml").member("main")


class Tiny(nn.Module):
    """A 1x1 convolution as a segmenter of three classes; `factor` spoils its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Conv2d(3, 3, 1)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.factor = 1.0

    def forward(self, images):
        self.seen += 1
        return self.network(images.float() / 255) * self.factor


def params(*, optimizer: dict | None = None, **train) -> MemberParams:
    settings = {"precision": "fp32", "clip_norm": 0.0, "threads": 1, "devices": 1} | train
    raw = PARAMS.model_dump(mode="python")
    raw["train"] |= settings
    raw["optimizer"] |= {"name": "sgd", "lr": 0.1, "weight_decay": 0.0, "momentum": 0.0} | (optimizer or {})
    raw["scheduler"] |= {"name": "constant", "warmup_updates": 0}
    raw["loss"] |= {"ce": 1.0, "dice": 0.0}
    return MemberParams.model_validate(raw)


def learner_of(member: MemberParams, *, num_labeled: int = 4, pseudo_weight: float = 0.5, ramp: int = 0) -> Learner:
    fabric = start_engine(member.train, 0)
    return Learner(
        fabric,
        Tiny(),
        member,
        updates_per_epoch=5,
        epochs=2,
        num_labeled=num_labeled,
        pseudo_weight=pseudo_weight,
        ramp_updates=ramp,
    )


def batch(count: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, 3, (count, 4, 4), generator=generator, dtype=torch.uint8)


def weights(learner: Learner) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in learner.segmenter.network.parameters()]).clone()


def test_an_update_in_two_passes_is_the_update_of_the_whole_batch():
    images, targets = batch(4)
    whole, halves = learner_of(params()), learner_of(params(accumulate=2), num_labeled=2)
    before = weights(whole)
    whole.update([(images, targets)])
    halves.update([(images[:2], targets[:2]), (images[2:], targets[2:])])
    assert not torch.equal(weights(whole), before)
    torch.testing.assert_close(weights(halves), weights(whole))
    assert whole.updates == halves.updates == 1
    torch.testing.assert_close(halves.loss_sum, whole.loss_sum)


def test_pseudo_labelled_images_count_their_weight():
    images, targets = batch(4)
    both, labelled, pseudo = (learner_of(params(), num_labeled=n) for n in (2, 2, 2))
    both.update([(images, targets)])
    labelled.update([(images[:2], targets[:2])])
    pseudo.update([(images[2:], targets[2:])])
    torch.testing.assert_close(both.loss_sum, labelled.loss_sum + 0.5 * pseudo.loss_sum)


def test_the_weight_of_pseudo_labels_rises_evenly_to_what_it_is():
    ramped = learner_of(params(), num_labeled=2, ramp=4)
    shares = []
    for update in range(6):
        ramped.updates = update
        images, targets = batch(4)
        both, labelled = (ramped._losses(images[:n], targets[:n])[0] for n in (4, 2))
        pseudo = ramped.loss_fn(ramped.segmenter(images)[2:], targets[2:].long())
        shares.append(((both - labelled) / pseudo).item())
    assert shares == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 0.5], abs=1e-5)


def test_gradients_are_clipped_to_their_norm():
    free, clipped = learner_of(params()), learner_of(params(clip_norm=1e-3))
    start = weights(free)
    free.update([batch()])
    clipped.update([batch()])
    assert (weights(free) - start).norm() > 1e-3
    assert (weights(clipped) - start).norm().item() == pytest.approx(0.1 * 1e-3, rel=1e-2)  # lr x norm


def test_dropout_of_an_update_depends_on_its_number_alone():
    """So that a resumed run drops what the uninterrupted one would have dropped."""

    def draws(first: int, disturb: bool) -> list[float]:
        learner = learner_of(params())
        learner.updates = first
        seen = []
        learner.segmenter.network.register_forward_hook(lambda *_: seen.append(torch.rand(()).item()))
        for _ in range(3 - first):
            if disturb:
                torch.rand(7)
            learner.update([batch()])
        return seen

    plain = draws(0, disturb=False)
    assert len(set(plain)) == 3
    assert draws(0, disturb=True) == plain
    assert draws(1, disturb=False) == plain[1:]


def test_the_state_goes_on_to_the_same_bits():
    member = params(ema=0.9, optimizer={"name": "madgrad", "lr": 0.01, "momentum": 0.9})
    straight = learner_of(member)
    for seed in range(4):
        straight.update([batch(seed=seed)])
    first = learner_of(member)
    for seed in range(2):
        first.update([batch(seed=seed)])
    second = learner_of(member)
    second.load_state_dict(first.state_dict())
    for seed in range(2, 4):
        second.update([batch(seed=seed)])
    assert torch.equal(weights(second), weights(straight))
    assert torch.equal(second.averaged.network.weight, straight.averaged.network.weight)
    assert second.mean_loss() == straight.mean_loss()


def test_a_resumed_epoch_tells_the_gradient_shares_of_all_ranks(monkeypatch):
    member = params()
    member = member.model_copy(update={"loss": member.loss.model_copy(update={"dice": 1.0})})
    alone, shared, resumed = (learner_of(member) for _ in range(3))
    alone.update([batch()])
    of_another = torch.tensor([5.0, 1.0])  # rank's norms
    monkeypatch.setattr(
        "segpipe.training.learner.mean_over_ranks",
        lambda value, _: (value + of_another) / 2 if value.shape == of_another.shape else value,
    )
    shared.update([batch()])
    state = shared.state_dict()
    norms = (alone.state_dict()["gradient_norms"] + of_another) / 2
    torch.testing.assert_close(state["gradient_norms"], norms)
    resumed.load_state_dict(state)  # of the first rank, into every rank
    assert [*resumed.term_values().values()][2:] == pytest.approx((norms / norms.sum()).tolist())
    assert resumed.term_values() == shared.term_values()


def test_the_moving_average_is_what_its_formula_says():
    learner = learner_of(params(ema=0.5))
    average = None
    for update in range(4):
        learner.update([batch(seed=update)])
        decay = min(0.5, (1 + update) / (10 + update))
        average = weights(learner) if average is None else decay * average + (1 - decay) * weights(learner)
    averaged = torch.cat([tensor.detach().flatten() for tensor in learner.averaged.network.parameters()])
    torch.testing.assert_close(averaged, average)
    assert learner.averaged.seen == 4 and not torch.equal(averaged, weights(learner))
    assert learner_of(params(ema=0.0)).averaged is None


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_a_loss_that_is_not_finite_stops_before_the_step(clip_norm):
    learner = learner_of(params(clip_norm=clip_norm))
    learner.update([batch()])
    before = weights(learner)
    learner.segmenter.factor = math.nan
    with pytest.raises(NotFinite) as caught:
        learner.update([batch()])
    assert caught.value.update == 1
    assert list(caught.value.values) == ["loss", "ce", "gradient norm"]
    assert all(math.isnan(value) for value in caught.value.values.values())
    assert torch.equal(weights(learner), before) and learner.updates == 1


def test_a_gradient_that_is_not_finite_stops_though_the_loss_is():
    learner = learner_of(params())
    learner.segmenter.network.weight.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(NotFinite) as caught:
        learner.update([batch()])
    assert math.isfinite(caught.value.values["loss"]) and not math.isfinite(caught.value.values["gradient norm"])


def test_skip_leaves_the_update_out_and_goes_on():
    learner = learner_of(params(on_nonfinite="skip", ema=0.9))
    learner.update([batch(seed=0)])
    before, loss = weights(learner), learner.mean_loss()
    learner.segmenter.factor = math.nan
    learner.update([batch(seed=1)])
    assert torch.equal(weights(learner), before)
    assert (learner.updates, learner.skipped, learner.losses, learner.mean_loss()) == (2, 1, 1, loss)
    learner.segmenter.factor = 1.0
    learner.update([batch(seed=2)])
    learner.settle()
    assert not torch.equal(weights(learner), before) and (learner.updates, learner.losses) == (3, 2)


def test_a_device_that_is_not_asked_at_each_update_tells_the_first_bad_one_later():
    """As on a GPU, where asking at each would wait for it."""
    learner = learner_of(params())
    learner.looks_first = False
    learner.update([batch()])
    learner.settle()
    for factor in (math.nan, math.inf, 1.0):
        learner.segmenter.factor = factor
        learner.update([batch()])
    with pytest.raises(NotFinite) as caught:
        learner.settle()
    assert caught.value.update == 1 and math.isnan(caught.value.values["ce"])


def test_an_epoch_of_skipped_updates_has_no_loss():
    learner = learner_of(params(on_nonfinite="skip"))
    learner.segmenter.factor = math.nan
    learner.update([batch()])
    assert math.isnan(learner.mean_loss())


def test_the_rate_follows_the_schedule_by_updates():
    raw = params().model_dump(mode="python")
    raw["scheduler"] |= {"name": "poly", "power": 1.0, "warmup_updates": 0}
    learner = learner_of(MemberParams.model_validate(raw))
    rates = []
    for _ in range(3):
        learner.update([batch()])
        rates.append(learner.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.09, 0.08])  # 10 updates in all
    assert [learner.lr_at(update) for update in range(3)] == rates
