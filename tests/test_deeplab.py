"""Our DeepLabV3 and DeepLabV3+: strides, dropout by place, and the same values as the plain way to compute them."""

import copy
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from test_models import dropouts
from torch import nn

from segpipe.models.aspp import ASPP, DilatedConv2d
from segpipe.models.atrous import feature_size, rate_warnings, warnings_of_members
from segpipe.models.deeplabv3 import DeepLabV3, SeparableMerge, features_at
from segpipe.models.depthwise import Depthwise, batch_to_space, space_to_batch
from segpipe.params import ModelParams, load_params

PARAMS = load_params(Path(__file__).parent.parent / "params.yaml")
ENCODERS = ["tf_efficientnet_b0", "mobilenetv3_small_100", "resnet10t", "regnetx_002", "convnext_atto"]
OWN = {"output_stride": 16, "atrous_rates": (2, 3), "channels": 12, "low_level_channels": 6, "separable": True}
OWN |= {"dropout_encoder": 0.0, "dropout_levels": (), "dropout_decoder": 0.0, "dropout_projection": 0.0}


def network_of(encoder="test_resnet", **changes):
    torch.manual_seed(0)
    return DeepLabV3(encoder, 3, **OWN | changes)


def random_images(*size):
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))


# Shapes and strides


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_features_have_the_strides_that_are_asked_for_and_logits_the_size_of_the_image(encoder, stride):
    network = network_of(encoder, output_stride=stride).eval()
    low_level, features = network.encoder(random_images(64, 96))
    assert low_level.shape[-2:] == (16, 24)
    assert features.shape[-2:] == (64 // stride, 96 // stride)
    with torch.inference_mode():
        assert network(random_images(64, 96)).shape == (2, 3, 64, 96)
        assert network(random_images(53, 71)).shape == (2, 3, 53, 71), "of any size, for whoever does not pad"


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("low_level_channels", [None, 6])
@pytest.mark.parametrize("separable", [False, True])
def test_a_gradient_reaches_every_parameter_and_nothing_is_left_unused(encoder, low_level_channels, separable):
    network = network_of(encoder, low_level_channels=low_level_channels, separable=separable).train()
    network(random_images(64, 64)).square().mean().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
    assert not any("conv_head" in name for name, _ in network.named_parameters())


@pytest.mark.parametrize("rates", [(), (3,), (1, 2, 3, 4)])
def test_the_pyramid_has_a_branch_for_each_rate_beside_a_1x1_convolution(rates):
    branches = network_of(atrous_rates=rates, separable=False).aspp.branches
    assert [branch[0].dilation[0] for branch in branches] == [1, *rates]
    assert [branch[0].kernel_size[0] for branch in branches] == [1, *[3] * len(rates)]


def test_widths_are_those_that_are_asked_for():
    network = network_of(channels=20, low_level_channels=7)
    assert network.classifier.in_channels == network.aspp.branches[0][0].out_channels == 20
    assert network.skip[0].out_channels == 7


@pytest.mark.parametrize("low_level_channels", [None, 6])
def test_separable_means_that_no_3x3_convolution_of_the_decoder_mixes_channels(low_level_channels):
    def mixing(separable):
        network = network_of(low_level_channels=low_level_channels, separable=separable)
        named = [(name, module) for name, module in network.named_modules() if not name.startswith("encoder")]
        return [
            name
            for name, module in named
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.groups == 1
        ]

    assert mixing(True) == []
    last = "refine.0" if low_level_channels is None else "refine.block.0"
    assert mixing(False) == ["aspp.branches.1.0", "aspp.branches.2.0", last]


@pytest.mark.parametrize(
    ("encoder", "stride", "reason"),
    [
        ("densenet121", 8, r"no features at stride 4 and 8: .* unexpected keyword argument 'output_stride'"),
        ("vgg11", 16, r"no features at stride 4 and 16: timm refuses output_stride 16"),
        ("vit_tiny_patch16_224", 32, r"no features at stride 4 and 32: Input height \(64\) doesn't match model"),
    ],
)
def test_an_encoder_without_such_features_is_refused_with_its_reason(encoder, stride, reason):
    with pytest.raises(ValueError, match=reason):
        features_at(encoder, (4, stride))


# Dropout


def test_each_dropout_stands_at_the_places_of_its_name_and_nowhere_else():
    each = {"dropout_encoder": 0.1, "dropout_decoder": 0.2, "dropout_projection": 0.3}
    decoder = {f"aspp.branches.{number}.{last}": 0.2 for number, last in ((0, 3), (1, 4), (2, 4))}
    decoder |= {"aspp.pooled.3": 0.2}
    rest = {"projection_dropout": 0.3, "encoder_dropout.level5": 0.1}
    plus = {"skip.3": 0.2, "refine.block.3": 0.2}
    assert dropouts(network_of("resnet10t", **each)) == decoder | plus | rest
    assert dropouts(network_of("resnet10t", low_level_channels=None, **each)) == decoder | {"refine.4": 0.2} | rest
    chosen = dropouts(network_of("resnet10t", dropout_encoder=0.1, dropout_levels=(2, 4)))
    assert chosen == {"encoder_dropout.level2": 0.1, "encoder_dropout.level4": 0.1, "projection_dropout": 0.0}


@pytest.mark.parametrize("low_level_channels", [None, 6])
def test_no_dropout_is_on_the_logits(low_level_channels):
    # everything before the classifier is erased: what is left is its bias, in every pixel of every class
    erased = dict.fromkeys(("dropout_encoder", "dropout_decoder", "dropout_projection"), 1.0)
    network = network_of(low_level_channels=low_level_channels, **erased).train()
    with torch.no_grad():
        network.classifier.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        logits = network(random_images(64, 64))
    torch.testing.assert_close(logits, torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1).expand_as(logits))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_encoder_dropout_is_in_what_flows_into_the_next_stage(encoder):
    """With p 1 after one level the image cannot be seen from there on, and can be before."""
    levels = len(timm.create_model(encoder, features_only=True).feature_info.info)
    for level in range(1, levels + 1):
        network = network_of(encoder, dropout_encoder=1.0, dropout_levels=(level,)).encoder.train()
        two = torch.cat([random_images(64, 64)[:1], torch.zeros(1, 3, 64, 64)])
        with torch.no_grad():
            blind = [torch.equal(feature[0], feature[1]) for feature in network(two)]
        low_level = levels - 3  # stride 4
        assert blind == [level <= low_level, True], f"level {level}"


def test_a_level_that_an_encoder_lacks_is_an_error_that_says_what_it_has():
    said = r"model\.dropout\.encoder_stages names level 6; this encoder's feature levels are 1 to 5"
    with pytest.raises(ValueError, match=said):
        network_of("resnet10t", dropout_encoder=0.1, dropout_levels=(2, 6))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_dropout_leaves_names_and_values_of_the_weights_as_timm_has_them(encoder):
    network = network_of(encoder, dropout_encoder=0.5, dropout_levels=(1, 2)).eval()
    plain = timm.create_model(encoder, features_only=True, output_stride=16, out_indices=(-4, -1)).eval()
    plain.load_state_dict(network.encoder.state_dict())
    with torch.inference_mode():
        for own, theirs in zip(network.encoder(random_images(64, 64)), plain(random_images(64, 64)), strict=True):
            torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-5)


def test_a_copy_drops_by_its_own_layers():
    network = network_of(dropout_encoder=1.0, dropout_levels=(2,))
    twin = copy.deepcopy(network).train()
    twin.encoder_dropout["level2"].p = 0.0
    network.train()
    two = torch.cat([random_images(64, 64)[:1], torch.zeros(1, 3, 64, 64)])
    with torch.no_grad():
        of_twin, of_network = twin.encoder(two)[-1], network.encoder(two)[-1]
    assert not torch.equal(of_twin[0], of_twin[1])
    assert torch.equal(of_network[0], of_network[1])
    twin.eval()
    assert not twin.encoder_dropout["level2"].training and network.encoder_dropout["level2"].training


def test_a_compiled_network_drops_as_well():
    network = network_of(dropout_encoder=1.0, dropout_levels=(1,)).train()
    compiled = torch.compile(network.encoder, backend="eager")
    two = torch.cat([random_images(64, 64)[:1], torch.zeros(1, 3, 64, 64)])
    with torch.no_grad():
        assert all(torch.equal(feature[0], feature[1]) for feature in compiled(two))
        assert not any(
            torch.equal(feature[0], feature[1])
            for feature in torch.compile(network.eval().encoder, backend="eager")(two)
        )


# The same values as the plain way


def equal_with_gradients(own, plain, inputs):
    """Outputs of two functions, and gradients of the inputs, agree."""
    results = []
    for function in (own, plain):
        leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
        output = function(*leaves)
        (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)).sum().backward()
        results.append([output, *(leaf.grad for leaf in leaves)])
    for own_value, plain_value in zip(*results, strict=True):
        torch.testing.assert_close(own_value, plain_value)


@given(st.integers(1, 9), st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3, 5]))
@settings(max_examples=60, deadline=None)
def test_a_depthwise_convolution_equals_torchs(dilation, height, width, kernel):
    torch.manual_seed(0)
    own = Depthwise(3, kernel, dilation=dilation).double()
    options = {"padding": dilation * (kernel // 2), "dilation": dilation, "groups": 3}
    images = torch.randn(2, 3, height, width, dtype=torch.float64)
    weight = own.weight
    equal_with_gradients(own, lambda images: F.conv2d(images, weight, **options), [images])
    (of_own,) = torch.autograd.grad(own(images).square().sum(), weight)
    (of_torch,) = torch.autograd.grad(F.conv2d(images, weight, **options).square().sum(), weight)
    torch.testing.assert_close(of_own, of_torch)


@given(st.integers(1, 7), st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_batch_to_space_puts_together_what_space_to_batch_took_apart(factor, height, width):
    images = torch.arange(2 * 3 * height * width).view(2, 3, height, width)
    parts = space_to_batch(images, factor)
    assert torch.equal(batch_to_space(parts, factor, images.shape), images)
    assert torch.equal(parts[0], images[0, :, ::factor, ::factor]), "every factor-th pixel"


@given(st.integers(1, 12), st.integers(1, 8), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_a_dilated_convolution_equals_torchs_where_it_is_a_1x1_one_too(rate, height, width):
    own = DilatedConv2d(2, 3, 3, padding=rate, dilation=rate, bias=False).double()
    images = torch.randn(2, 2, height, width, dtype=torch.float64)
    equal_with_gradients(own, lambda images: F.conv2d(images, own.weight, padding=rate, dilation=rate), [images])


@pytest.mark.parametrize("separable", [False, True])
def test_the_pyramid_equals_one_that_lays_all_parts_side_by_side(separable):
    torch.manual_seed(0)
    aspp = ASPP(5, 4, (2, 9), separable=separable, dropout=0.0).double().eval()
    for module in aspp.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)

    def plain(features):
        pooled = aspp.pooled(F.adaptive_avg_pool2d(features, 1)).expand(-1, -1, *features.shape[-2:])
        return aspp.project(torch.cat([*(branch(features) for branch in aspp.branches), pooled], dim=1))

    equal_with_gradients(aspp, plain, [torch.randn(2, 5, 6, 9, dtype=torch.float64)])


def test_merging_before_enlarging_equals_merging_after_it():
    torch.manual_seed(0)
    merge = SeparableMerge(4, 3, dropout=0.0).double().eval()

    def plain(features, low_level):
        enlarged = F.interpolate(features, size=low_level.shape[-2:], mode="bilinear", align_corners=False)
        return merge.block(merge.pointwise(torch.cat([enlarged, low_level], dim=1)))

    sizes = [(2, 4, 5, 3), (2, 3, 20, 12)]
    equal_with_gradients(merge, plain, [torch.randn(size, dtype=torch.float64) for size in sizes])


# Rates that are no rates


def rates_at(rates, size, stride=32, arch="deeplabv3"):
    model = PARAMS.model.model_dump() | {"arch": arch, "output_stride": stride, "atrous_rates": rates}
    return rate_warnings(ModelParams.model_validate(model), size)


def test_a_rate_as_large_as_the_features_is_said_to_be_a_1x1_convolution():
    [line] = rates_at((6, 12, 16, 18), (512, 512))
    assert line == (
        "each of the rates 16, 18 of model.atrous_rates cannot be told from a 1x1 convolution: at output_stride 32 "
        "images of 512x512 have features of 16x16, and the outer taps of a 3x3 convolution see only padding; "
        "only rates below 16 reach further"
    )
    assert rates_at((6, 12, 18), (512, 512), stride=16) == []


def test_a_rate_as_large_as_one_axis_acts_along_the_other():
    (one_way,) = rates_at((2, 5), (128, 256))
    assert one_way.startswith(
        "rate 5 of model.atrous_rates acts along the width only: at output_stride 32 images of 128x256"
    )
    assert "features of 4x8" in one_way
    both = rates_at((2, 5, 9), (256, 128))
    assert [line.split(" of model")[0] for line in both] == ["rate 9", "rate 5"]
    assert "along the height only" in both[1]


def test_images_of_any_size_and_architectures_without_rates_have_no_warning():
    assert rates_at((99,), None) == rates_at((99,), (64, 64), arch="smp.FPN") == []
    assert len(rates_at((99,), (64, 64), stride=16, arch="smp.DeepLabV3Plus")) == 1


@given(st.integers(1, 12), st.integers(16, 200), st.integers(16, 200), st.sampled_from([8, 16, 32]))
@settings(max_examples=60, deadline=None)
def test_the_warnings_say_what_the_outer_taps_see(rate, height, width, stride):
    rows, columns = feature_size((height, width), stride)
    count = torch.zeros(1, 1, 3, 3)
    count.requires_grad_()
    F.conv2d(torch.ones(1, 1, rows, columns), count, padding=rate, dilation=rate).sum().backward()
    vertical, horizontal = count.grad[0, 0, 0, 1] > 0, count.grad[0, 0, 1, 0] > 0
    said = " ".join(rates_at((rate,), (height, width), stride))
    assert ("a 1x1 convolution:" in said) == (not vertical and not horizontal)
    assert ("height only" in said) == bool(vertical and not horizontal)
    assert ("width only" in said) == bool(horizontal and not vertical)


def test_the_warning_names_the_members_that_it_is_about():
    model = PARAMS.model.model_copy(update={"output_stride": 32, "atrous_rates": (6,)})
    [line] = warnings_of_members(PARAMS.model_copy(update={"model": model}))
    assert line.startswith("member main: rate 6 of model.atrous_rates cannot be told from a 1x1 convolution"), (
        "second has none"
    )
