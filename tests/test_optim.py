"""Optimisers: which parameter learns how fast and decays, and MADGRAD's grouped step against madgrad's own."""

import copy

import pytest
import torch
from madgrad import MADGRAD
from test_schedule import OPTIMIZER, optimizer_params, scheduler_params
from torch import nn
from torch.optim import SGD, AdamW

from segpipe.models.checkpoint import Segmenter
from segpipe.params import OptimizerParams
from segpipe.training.optim import GroupedMADGRAD, build_optimizer
from segpipe.training.schedule import lr_factor, set_learning_rates

DESCRIPTION = {
    "output_stride": 16,
    "atrous_rates": [2],
    "decoder_channels": 8,
    "low_level_channels": 4,
    "separable": False,
    "dropout": {"encoder": 0.0, "encoder_stages": [], "decoder": 0.0, "projection": 0.0},
    "num_classes": 3,
    "encoder": "resnet10t",
}


def segmenter_of(arch: str = "deeplabv3") -> Segmenter:
    return Segmenter(DESCRIPTION | {"arch": arch}, mean=[0.5] * 3, std=[0.25] * 3)


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, 1)
    network = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    network[-1].requires_grad_(False)  # a layer without gradients
    return network


def train(network: nn.Module, optimizer: torch.optim.Optimizer, updates: range) -> None:
    for update in updates:
        images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(update))
        optimizer.zero_grad(set_to_none=True)
        network(images).square().mean().backward()
        optimizer.step()


def same_bits(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(own, others) for own, others in pairs)


class GroupedHere(GroupedMADGRAD):
    grouped_on = "cpu"


# Groups


@pytest.mark.parametrize("arch", ["deeplabv3", "smp.FPN"])
@pytest.mark.parametrize(("factor", "decay_norms"), [(1.0, True), (1.0, False), (0.1, True), (0.1, False)])
def test_every_parameter_is_in_one_group_with_its_rate_and_decay(arch, factor, decay_norms):
    segmenter = segmenter_of(arch)
    params = optimizer_params(lr=0.01, encoder_lr_factor=factor, weight_decay=0.1, decay_norms=decay_norms)
    groups = build_optimizer(segmenter, params).param_groups
    found = {id(parameter): group for group in groups for parameter in group["params"]}
    named = dict(segmenter.named_parameters())
    assert sum(len(group["params"]) for group in groups) == len(found) == len(named)
    for name, parameter in named.items():
        group = found[id(parameter)]
        lr = 0.01 * factor if name.startswith("network.encoder.") else 0.01
        assert (group["lr"], group["initial_lr"]) == (lr, lr), name
        assert group["weight_decay"] == (0.1 if decay_norms or parameter.ndim > 1 else 0.0), name
    assert len(groups) == (1 if factor == 1 else 2) * (1 if decay_norms else 2)
    assert groups[0]["lr"] == 0.01, "the rate that is shown"


def test_frozen_parameters_are_in_no_group():
    network = small_network()
    (group,) = build_optimizer(network, optimizer_params()).param_groups
    assert len(group["params"]) == len(list(network.parameters())) - 2


def test_a_layer_that_encoder_and_decoder_share_is_in_the_encoders_group():
    network = nn.ModuleDict({"encoder": nn.Linear(2, 2, bias=False)})
    network["decoder"] = network["encoder"]
    network["head"] = nn.Linear(2, 3, bias=False)
    rest, encoder = build_optimizer(network, optimizer_params(encoder_lr_factor=0.5)).param_groups
    assert rest["params"] == [network["head"].weight]
    assert encoder["params"] == [network["encoder"].weight]


def test_a_factor_for_a_model_without_an_encoder_is_refused():
    with pytest.raises(ValueError, match=r"encoder_lr_factor: found 0\.1, but Linear has no encoder; expected 1"):
        build_optimizer(nn.Linear(1, 1), optimizer_params(encoder_lr_factor=0.1))


@pytest.mark.parametrize(("name", "kind"), [("madgrad", MADGRAD), ("adamw", AdamW), ("sgd", SGD)])
def test_the_named_optimiser_is_built_with_its_momentum(name, kind):
    optimizer = build_optimizer(nn.Linear(1, 1), optimizer_params(name=name, momentum=0.8))
    assert isinstance(optimizer, kind)
    assert optimizer.param_groups[0].get("momentum") == (None if name == "adamw" else 0.8)


def test_groups_change_no_bit_where_nothing_in_them_differs():
    one, other = small_network(), small_network()
    train(one, build_optimizer(one, optimizer_params(weight_decay=0.0)), range(5))
    train(other, build_optimizer(other, optimizer_params(weight_decay=0.0, decay_norms=False)), range(5))
    assert same_bits(one, other)


def test_the_scheduler_multiplies_the_rate_of_every_group():
    network = nn.ModuleDict({"encoder": nn.Linear(1, 1), "head": nn.Linear(1, 1)})
    optimizer = build_optimizer(network, optimizer_params(lr=0.1, encoder_lr_factor=0.5))
    settings = scheduler_params(name="poly", warmup_updates=1)
    rates = []
    for update in range(3):
        set_learning_rates(optimizer, lr_factor(settings, update, 3, 3))
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert rates == [pytest.approx(pair) for pair in ([0.05, 0.025], [0.1, 0.05], [0.05, 0.025])]


# MADGRAD


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("lr", [0.01, 0.0])
def test_the_grouped_step_has_the_bits_of_madgrads_own(weight_decay, lr):
    one, other = small_network(), small_network()
    own = MADGRAD(one.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)
    grouped = GroupedHere(other.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)
    train(one, own, range(6))
    train(other, grouped, range(6))
    assert same_bits(one, other)
    if lr:
        assert not same_bits(one, small_network()), "it learned"


def test_the_grouped_step_really_is_taken_and_only_where_it_may(monkeypatch):
    taken = []
    step = GroupedMADGRAD._grouped_step
    monkeypatch.setattr(GroupedMADGRAD, "_grouped_step", lambda self, *rest: taken.append(1) or step(self, *rest))
    for form, momentum, expected in ((GroupedHere, 0.9, 2), (GroupedHere, 0.0, 0), (GroupedMADGRAD, 0.9, 0)):
        taken.clear()
        network = small_network()
        train(network, form(network.parameters(), lr=0.01, momentum=momentum), range(2))
        assert len(taken) == expected
    network = small_network()

    def loss_of_noise() -> float:
        loss = network(torch.ones(1, 3, 8, 8)).sum()
        loss.backward()
        return loss.item()

    assert GroupedMADGRAD(network.parameters()).step(loss_of_noise) is not None
    assert not taken, "where a closure makes the gradients, too"


@pytest.mark.parametrize(("first", "then"), [(GroupedHere, MADGRAD), (MADGRAD, GroupedHere), (MADGRAD, MADGRAD)])
def test_a_resumed_madgrad_has_the_bits_of_one_that_never_stopped(tmp_path, first, then):
    whole = small_network()
    optimizer = MADGRAD(whole.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)
    train(whole, optimizer, range(8))
    halted = small_network()
    optimizer = first(halted.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)
    train(halted, optimizer, range(4))
    torch.save({"network": halted.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = small_network(seed=1)
    resumed.load_state_dict(saved["network"])
    optimizer = then(resumed.parameters(), lr=0.5)
    optimizer.load_state_dict(saved["optimizer"])
    train(resumed, optimizer, range(4, 8))
    assert same_bits(whole, resumed)


@pytest.mark.parametrize("name", ["madgrad", "adamw", "sgd"])
def test_the_state_of_every_built_optimiser_loads_without_pickled_code(tmp_path, name):
    whole, halted = small_network(), small_network()
    params = optimizer_params(name=name, weight_decay=0.01, decay_norms=False)
    train(whole, build_optimizer(whole, params), range(6))
    optimizer = build_optimizer(halted, params)
    train(halted, optimizer, range(3))
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    resumed = copy.deepcopy(halted)
    optimizer = build_optimizer(resumed, params)
    optimizer.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    train(resumed, optimizer, range(3, 6))
    assert same_bits(whole, resumed)


@pytest.mark.parametrize(("reset", "kept"), [(False, False), (True, True)])
def test_weights_put_into_a_model_are_undone_unless_madgrads_state_is_reset(reset, kept):
    network = nn.Linear(1, 1, bias=False)
    optimizer = build_optimizer(network, OptimizerParams.model_validate(OPTIMIZER | {"lr": 1e-4}))

    def update() -> None:
        network.weight.grad = torch.full((1, 1), 1e-3)
        optimizer.step()

    update()
    with torch.no_grad():
        network.weight.fill_(100.0)
    if reset:
        optimizer = build_optimizer(network, OptimizerParams.model_validate(OPTIMIZER | {"lr": 1e-4}))
    for _ in range(60):
        update()
    assert (network.weight.item() > 90) == kept
