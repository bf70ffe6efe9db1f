"""Learning-rate schedules: by hand, against torch's own, and the floor below which MADGRAD does not listen."""

import subprocess
import sys

import pytest
import torch
from madgrad import MADGRAD
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from segpipe.params import OptimizerParams, SchedulerParams
from segpipe.training.schedule import MADGRAD_EPS, floor_warning, lr_factor, set_learning_rates

SCHEDULER = {
    "name": "constant",
    "warmup_updates": 0,
    "power": 1.0,
    "step_epochs": 2,
    "gamma": 0.5,
    "start_factor": 0.04,
    "final_factor": 0.0,
    "peak_at": 0.3,
}
OPTIMIZER = {
    "name": "madgrad",
    "lr": 0.002,
    "encoder_lr_factor": 1.0,
    "weight_decay": 0.0,
    "decay_norms": True,
    "momentum": 0.9,
}


def scheduler_params(**changes):
    return SchedulerParams.model_validate(SCHEDULER | changes)


def optimizer_params(**changes):
    return OptimizerParams.model_validate(OPTIMIZER | changes)


def factors(total, **changes):
    """Those of all updates; an epoch has 5."""
    params = scheduler_params(**changes)
    return [lr_factor(params, update, 5, total) for update in range(total)]


def rates_of(make_scheduler, total) -> list[float]:
    """What a scheduler of torch sets for a base rate of 1."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler: LRScheduler = make_scheduler(optimizer)
    rates = []
    for _ in range(total):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


def test_warm_up_rises_linearly_from_above_0_to_1():
    assert factors(6, warmup_updates=3) == [0.25, 0.5, 0.75, 1, 1, 1]


def test_constant_stays():
    assert factors(4) == [1, 1, 1, 1]


def test_step_halves_every_two_epochs_of_five_updates():
    assert factors(25, name="step") == [1] * 10 + [0.5] * 10 + [0.25] * 5


def test_step_counts_its_epochs_from_the_start_of_the_run_with_a_warm_up_too():
    assert factors(12, name="step", warmup_updates=1) == [0.5] + [1] * 9 + [0.5] * 2


def test_poly_falls_from_the_end_of_warm_up_to_nearly_0():
    assert factors(5, name="poly") == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert factors(6, name="poly", warmup_updates=1, power=2.0) == pytest.approx([0.5, 1, 0.64, 0.36, 0.16, 0.04])
    assert 0 < factors(1000, name="poly", power=0.9)[-1] < 0.003


@pytest.mark.parametrize("final_factor", [0.0, 0.1])
def test_cosine_is_torchs_cosine_annealing(final_factor):
    expected = rates_of(lambda optimizer: CosineAnnealingLR(optimizer, T_max=40, eta_min=final_factor), 40)
    assert factors(40, name="cosine", final_factor=final_factor) == pytest.approx(expected, abs=1e-12)


def test_cosine_falls_from_the_end_of_warm_up():
    # 4 updates after 2 of warm-up, at 0, 1/4, 1/2, 3/4 of half a turn
    expected = [1 / 3, 2 / 3, 1, 0.8535534, 0.5, 0.1464466]
    assert factors(6, name="cosine", warmup_updates=2) == pytest.approx(expected)


@pytest.mark.parametrize(("total", "peak_at"), [(100, 0.3), (97, 0.25), (7, 0.4), (3, 0.5)])
@pytest.mark.parametrize("final_factor", [0.01, 0.0001])
def test_onecycle_is_torchs_onecycle(total, peak_at, final_factor):
    def make(optimizer):
        return OneCycleLR(
            optimizer,
            max_lr=1.0,
            total_steps=total,
            pct_start=peak_at,
            anneal_strategy="cos",
            cycle_momentum=False,
            div_factor=1 / 0.04,
            final_div_factor=0.04 / final_factor,
        )

    ours = factors(total, name="onecycle", peak_at=peak_at, final_factor=final_factor)
    # torch divides by 0 after its last step, so the last rate is read before it
    assert ours == pytest.approx(rates_of(make, total), abs=1e-12)


def test_onecycle_takes_no_warm_up_and_reaches_its_ends():
    ours = factors(20, name="onecycle", warmup_updates=10, peak_at=0.5)
    assert (ours[0], ours[9], ours[-1]) == pytest.approx((0.04, 1, 0))


@pytest.mark.parametrize(("total", "peak_at"), [(2, 0.5), (1, 0.3), (3, 0.1)])
def test_onecycle_of_a_run_too_short_to_rise_starts_at_its_peak(total, peak_at):
    # torch's divides by zero for the first two
    assert factors(total, name="onecycle", peak_at=peak_at)[0] == 1


@pytest.mark.parametrize("name", ["poly", "step", "constant", "cosine"])
def test_a_warm_up_longer_than_the_run_only_rises(name):
    assert factors(3, name=name, warmup_updates=9) == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("name", ["poly", "cosine", "onecycle"])
def test_past_its_end_a_schedule_stays_at_its_end(name):
    params = scheduler_params(name=name, warmup_updates=2)
    assert lr_factor(params, 10, 5, 10) == lr_factor(params, 11, 5, 10) == pytest.approx(0)


def test_each_groups_rate_is_its_own_times_the_factor_whatever_was_set_before():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 9.0, "initial_lr": rate} for rate in (1.0, 0.1)]
    optimizer = SGD(groups)
    for factor in (0.5, 0.25):
        set_learning_rates(optimizer, factor)
        assert [group["lr"] for group in optimizer.param_groups] == [factor, 0.1 * factor]


def test_madgrads_floor_is_its_eps_added_to_the_rate():
    parameter = torch.nn.Parameter(torch.zeros(1))
    assert MADGRAD([parameter]).param_groups[0]["eps"] == MADGRAD_EPS
    moved = {}
    for lr in (1e-13, 1e-30):
        weight = torch.nn.Parameter(torch.zeros(1))
        weight.grad = torch.ones(1)
        MADGRAD([weight], lr=lr).step()
        moved[lr] = weight.item()
    assert moved[1e-13] == moved[1e-30] != 0


def test_the_floor_is_told_with_the_first_update_below_it_and_the_keys():
    # 0.001, then a tenth after each epoch of 5: 1e-3, 1e-4, 1e-5, 1e-6, 1e-7; rounding aside, the fifth is below
    steps = {"name": "step", "gamma": 0.1, "step_epochs": 1}
    told = floor_warning(optimizer_params(lr=0.0011), scheduler_params(**steps), 5, 50)
    assert told == (
        "madgrad adds 1e-06 to its learning rate, which stays below that from update 21 of 50 on, so that the schedule "
        "has no say in the rest: change optimizer.lr, scheduler.gamma or scheduler.step_epochs"
    )


def test_no_floor_is_told_where_half_of_the_updates_are_above_it():
    steps = scheduler_params(name="step", gamma=0.1, step_epochs=1)
    assert floor_warning(optimizer_params(lr=0.0011), steps, 5, 40) is None
    assert floor_warning(optimizer_params(lr=0.0011), steps, 5, 41) is not None


def test_no_floor_is_told_of_a_warm_up_that_begins_below_it():
    rising = scheduler_params(warmup_updates=30)
    assert floor_warning(optimizer_params(lr=3e-6), rising, 5, 40) is None


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_other_optimisers_have_no_floor(name):
    assert floor_warning(optimizer_params(name=name, lr=1e-9), scheduler_params(), 5, 40) is None


def test_a_rate_below_the_floor_from_the_start_is_told_whatever_the_schedule():
    told = floor_warning(optimizer_params(lr=1e-13), scheduler_params(name="poly"), 5, 40)
    assert "from update 1 of 40 on" in told
    assert told.endswith("change optimizer.lr")


def test_the_floor_of_an_encoder_that_learns_slower_is_told_as_its_own():
    told = floor_warning(optimizer_params(lr=1e-5, encoder_lr_factor=0.01), scheduler_params(), 5, 40)
    assert "the learning rate of the encoder" in told
    assert told.endswith("change optimizer.lr or optimizer.encoder_lr_factor")


def test_the_schedule_needs_no_torch():
    code = "import sys, segpipe.training.schedule; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
