from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from segpipe.data.lineage import Lineage
from segpipe.labels import ClassTable
from segpipe.models.build import architecture
from segpipe.models.check import model_problems
from segpipe.models.checkpoint import (
    ModelCard,
    Segmenter,
    load_segmenter,
    load_weights,
    new_segmenter,
    read_card,
    save_weights,
    write_card,
)
from segpipe.models.dropout import SMP_PROJECTION
from segpipe.models.names import OWN, SMP_ARCHITECTURES
from segpipe.models.sizes import input_size
from segpipe.params import ModelParams, load_params

COMMITTED = load_params(Path(__file__).parent.parent / "params.yaml").model.model_dump()
NO_DROPOUT = {"encoder": 0.0, "encoder_stages": [], "decoder": 0.0, "projection": 0.0}
ENCODER = "test_resnet"  # timm's own for tests: 0.5 M weights
CLASSES = ClassTable(
    ("Background", "Glass", "Paper"), ((), ("Glass",), ("Paper",)), ((0, 0, 0), (255, 0, 0), (0, 255, 0))
)
LIBRARIES = {"python": "3.11.7", "torch": "2.11.0", "madgrad": None}


def model_params(**changes):
    own = {"arch": "deeplabv3", "encoder": ENCODER, "encoder_weights": None, "output_stride": 16}
    own |= {"atrous_rates": (2, 4, 6), "decoder_channels": 16}
    own |= {"dropout": NO_DROPOUT}
    return ModelParams.model_validate(COMMITTED | own | changes)


def segmenter_of(num_classes=3, **changes):
    torch.manual_seed(0)
    return new_segmenter(architecture(model_params(**changes), num_classes))


def dropouts(network):
    """Probabilities by name of the layer."""
    kind = nn.modules.dropout._DropoutNd
    return {name: module.p for name, module in network.named_modules() if isinstance(module, kind)}


def random_images(*size, seed=0):
    return torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


# smp's


@pytest.mark.parametrize("stride", [8, 16])
def test_smp_deeplab_takes_stride_rates_and_channels_from_params_yaml(stride):
    changes = {"output_stride": stride, "atrous_rates": (5, 7, 11), "decoder_channels": 24, "separable": True}
    changes |= {"dropout": NO_DROPOUT | {"projection": 0.3}}
    network = segmenter_of(arch="smp.DeepLabV3", **changes).network
    dilations = {module.dilation[0] for module in network.decoder.modules() if isinstance(module, nn.Conv2d)}
    assert dilations == {1, 5, 7, 11}
    assert network.encoder.eval()(torch.rand(1, 3, 64, 64))[-1].shape[-2:] == (64 // stride, 64 // stride)
    assert network.segmentation_head[0].in_channels == 24
    assert any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in network.decoder.aspp.modules())
    assert dropouts(network.decoder) == {"aspp.project.3": 0.3} and dropouts(network.segmentation_head) == {}


@pytest.mark.parametrize("arch", sorted(SMP_PROJECTION))
def test_projection_dropout_reaches_the_one_layer_that_smp_has_for_it(arch):
    encoder = "vit_tiny_patch16_224" if arch == "smp.DPT" else ENCODER
    network = segmenter_of(arch=arch, encoder=encoder, dropout=NO_DROPOUT | {"projection": 0.3}).network
    assert [*dropouts(network.decoder).values(), *dropouts(network.segmentation_head).values()] == [0.3]
    assert set(dropouts(segmenter_of(arch=arch, encoder=encoder).network).values()) == {0.0}


def test_dropout_that_an_architecture_of_smp_has_not_is_refused_by_place():
    everywhere = {"encoder": 0.1, "encoder_stages": [], "decoder": 0.2, "projection": 0.3}
    with pytest.raises(ValueError) as error:
        segmenter_of(arch="smp.Unet", dropout=everywhere)
    head, *lines = str(error.value).split("\n")
    assert head == "params.yaml: 3 problems"
    assert [line.split(";")[0] for line in lines] == [
        "  model.dropout.encoder: found 0.1",
        "  model.dropout.decoder: found 0.2",
        "  model.dropout.projection: found 0.3",
    ]
    with pytest.raises(ValueError, match=r"1 problem\n  model\.dropout\.decoder: found 0\.2; smp\.FPN has no dropout"):
        segmenter_of(arch="smp.FPN", dropout=everywhere | {"encoder": 0.0})


@pytest.mark.parametrize("arch", sorted(set(SMP_ARCHITECTURES) - set(SMP_PROJECTION)))
def test_no_other_architecture_of_smp_has_dropout_that_params_yaml_could_not_set(arch):
    assert dropouts(segmenter_of(arch=arch, encoder="resnet18").network) == {}


# Sizes


def test_every_architecture_of_the_library_is_one_of_ours():
    assert set(SMP_ARCHITECTURES) == {f"smp.{kind.__name__}" for kind in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    assert len(SMP_ARCHITECTURES) >= 12


@pytest.mark.parametrize("arch", [*OWN, *SMP_ARCHITECTURES])
@pytest.mark.parametrize("stride", [8, 16])
def test_logits_are_as_large_as_the_image_where_the_stride_does_not_divide_it(arch, stride):
    segmenter = segmenter_of(arch=arch, output_stride=stride).eval()
    with torch.inference_mode():
        assert segmenter(random_images(37, 50)).shape == (2, 3, 37, 50)


@pytest.mark.parametrize(
    ("arch", "encoder"),
    [
        ("smp.DPT", "test_vit"),  # patches of 16 pixels, and a decoder that halves once more
        ("smp.Unet", "swin_tiny_patch4_window7_224"),  # made for 224 x 224, and told to take any size
        ("smp.Segformer", "smp.mit_b0"),
        ("smp.FPN", "test_convnext"),
    ],
)
def test_transformers_take_any_size_too(arch, encoder):
    segmenter = segmenter_of(arch=arch, encoder=encoder).eval()
    with torch.inference_mode():
        assert segmenter(random_images(37, 50)).shape == (2, 3, 37, 50)


@pytest.mark.parametrize(
    ("arch", "encoder", "stride", "expected"),
    [
        ("deeplabv3", ENCODER, 8, (16, 16)),
        ("deeplabv3", ENCODER, 32, (32, 32)),
        ("smp.DeepLabV3", ENCODER, 8, (8, 8)),
        ("smp.DeepLabV3Plus", ENCODER, 16, (16, 16)),
        ("smp.PSPNet", ENCODER, 8, (8, 8)),
        ("smp.Unet", ENCODER, 8, (32, 32)),
        ("smp.PAN", ENCODER, 8, (16, 128)),  # its attention halves what is left of 128 pixels three times
        ("smp.DPT", "test_vit", 8, (32, 32)),
    ],
)
def test_the_size_that_a_network_takes_is_found_by_trying(arch, encoder, stride, expected):
    takes = input_size(architecture(model_params(arch=arch, encoder=encoder, output_stride=stride), 3))
    assert (takes.stride, takes.least) == expected


def test_padding_is_the_mean_colour_below_and_to_the_right():
    description = architecture(model_params(), 3)
    torch.manual_seed(0)
    segmenter = Segmenter(description, [0.2, 0.4, 0.6], [0.2, 0.2, 0.2]).eval()  # 51, 102 and 153 of 255
    images = random_images(37, 50)
    padded = torch.tensor([51, 102, 153], dtype=torch.uint8).view(1, 3, 1, 1).repeat(2, 1, 48, 64)
    padded[..., :37, :50] = images
    with torch.inference_mode():
        torch.testing.assert_close(segmenter(images), segmenter(padded)[..., :37, :50])


# Names


def test_unknown_names_come_at_once_with_the_nearest_ones():
    with pytest.raises(ValueError) as error:
        segmenter_of(arch="deeplabv33", encoder="regnetx_02", encoder_weights="nowhere.safetensors")
    _, arch, encoder, weights = str(error.value).split("\n")
    assert arch.startswith("  model.arch: found 'deeplabv33'; nearest: deeplabv3")
    assert encoder.startswith("  model.encoder: found 'regnetx_02'; nearest: ") and "regnetx_002" in encoder
    assert weights.startswith("  model.encoder_weights: found 'nowhere.safetensors', no such file (looked for it from")


def test_an_encoder_that_an_architecture_cannot_use_is_an_error_with_the_librarys_reason():
    with pytest.raises(ValueError, match=r"model: deeplabv3 cannot be built on densenet121: .*output_stride"):
        segmenter_of(encoder="densenet121")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arch": "smp.Unet", "encoder": "test_vit"}, "cannot be built on test_vit: Unsupported model downsampling"),
        ({"arch": "smp.Linknet", "encoder": "smp.mit_b0"}, "Encoder `mit_b0` is not supported for Linknet"),
        ({"arch": "smp.DPT", "encoder": "smp.mit_b0"}, "Only Timm encoders are supported for DPT"),
        ({"arch": "smp.Unet", "encoder": "maxvit_tiny_tf_224"}, "cannot run on maxvit_tiny_tf_224 with images of any"),
        ({"arch": "smp.DeepLabV3", "output_stride": 32}, "support output stride 8 or 16, got 32"),
        ({"arch": "smp.DeepLabV3", "atrous_rates": (2, 4)}, "it takes three atrous_rates, found [2, 4]"),
        ({"encoder": "vgg11"}, "refuses output_stride 16 for it; choose model.output_stride 32 or another encoder"),
        ({"encoder": "smp.mit_b0"}, "model.encoder: deeplabv3 takes timm's encoders, found smp's own smp.mit_b0"),
    ],
)
def test_what_the_library_refuses_is_one_line_with_its_reason_before_data_are_read(changes, said):
    [line] = model_problems(model_params(**changes))
    assert line.startswith("model") and said in line


@pytest.mark.parametrize(
    ("key", "found", "nearest"),
    [
        ("arch", "Unet", "smp.Unet"),
        ("arch", "smp.unetplusplus", "smp.UnetPlusPlus"),
        ("arch", "deeplabv4", "deeplabv3"),
        ("encoder", "resnet", "resnet"),
        ("encoder", "efficientnet-b0", "tf_efficientnet_b0, efficientnet_b0, smp.efficientnet-b0"),
        ("encoder", "tu-resnet18", "resnet18"),
        ("encoder", "mit_b0", "smp.mit_b0"),
    ],
)
def test_a_name_that_is_none_comes_with_the_nearest_ones(key, found, nearest):
    [line] = model_problems(model_params(**{key: found}))
    assert line.startswith(f"model.{key}: found {found!r}; nearest: {nearest}")


# Checkpoints


def save(segmenter, folder, **card):
    values = {"architecture": architecture(model_params(), 3), "image_size": (64, 48), "resize": "stretch"}
    values |= {
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "classes": CLASSES,
        "lineage": Lineage(frozenset({"h1"}), frozenset({"h2"})),
    }
    values |= {"parents": ["data/pseudo/0"], "chosen_epoch": 7, "chosen_weights": "ema", "libraries": LIBRARIES}
    write_card(ModelCard(**values | card), folder)
    save_weights(segmenter, folder / "model.safetensors")


@pytest.mark.parametrize("arch", ["deeplabv3", "deeplabv3plus", "smp.FPN"])
def test_a_model_that_is_saved_and_loaded_gives_the_same_logits(tmp_path, arch):
    places = NO_DROPOUT | {"projection": 0.3} | ({} if arch == "smp.FPN" else {"encoder": 0.1, "decoder": 0.2})
    description = architecture(model_params(arch=arch, dropout=places, atrous_rates=(3, 5)), 3)
    segmenter = Segmenter(description, [0.1, 0.2, 0.3], [0.2, 0.3, 0.4])
    with torch.no_grad():
        segmenter.train()(random_images(64, 64, seed=1))  # moves the running statistics of batch normalisation
    save(segmenter, tmp_path, architecture=description, mean=[0.1, 0.2, 0.3], std=[0.2, 0.3, 0.4])
    loaded, _ = load_segmenter(tmp_path)
    assert not loaded.training
    images = random_images(40, 56)
    with torch.inference_mode():
        logits = segmenter.eval().to(memory_format=torch.channels_last)(images)  # as load_segmenter lays them out
        torch.testing.assert_close(loaded(images), logits, rtol=0, atol=0)
        assert (logits != segmenter_of(arch=arch).eval()(images)).any()


def test_the_card_comes_back_as_it_was(tmp_path):
    save(segmenter_of(), tmp_path)
    card = read_card(tmp_path)
    assert card.architecture == architecture(model_params(), 3)
    assert (card.image_size, card.classes, card.chosen_epoch, card.chosen_weights) == ((64, 48), CLASSES, 7, "ema")
    assert card.lineage == Lineage(frozenset({"h1"}), frozenset({"h2"})) and card.parents == ["data/pseudo/0"]
    assert card.libraries == LIBRARIES


def test_weights_of_another_class_count_are_refused_naming_the_layer(tmp_path):
    save(segmenter_of(num_classes=5), tmp_path)
    layers = r"classifier\.weight is \(5, 16, 1, 1\), expected \(3, 16, 1, 1\); classifier\.bias is \(5,\), expected"
    with pytest.raises(ValueError, match=rf"model\.safetensors: does not fit its description: {layers}"):
        load_segmenter(tmp_path)


def test_weights_that_lack_a_layer_or_have_one_more_are_refused(tmp_path):
    segmenter = segmenter_of()
    save(segmenter, tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    state["clasifier.bias"] = state.pop("classifier.bias")
    save_file(state, path)
    said = r"classifier\.bias is missing; clasifier\.bias is not in the architecture \(2 in all\)"
    with pytest.raises(ValueError, match=said):
        load_weights(segmenter, path)


@pytest.mark.parametrize("encoder", [ENCODER, "smp.mit_b0"])  # the second cannot be built without numbers
def test_finding_the_size_changes_nothing_that_training_draws(encoder):
    description = architecture(model_params(arch="smp.FPN", encoder=encoder), num_classes=17)
    before = torch.get_rng_state()
    input_size(description)
    assert torch.equal(torch.get_rng_state(), before)
