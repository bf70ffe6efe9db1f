"""Encoder weights by alias, tag, file and folder. All are made on the spot: nothing here needs the hub."""

import json
import os
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from segpipe.models import hub
from segpipe.models.build import architecture, build_network
from segpipe.models.check import model_problems
from segpipe.models.encoder_weights import files_of, load_encoder_weights, normalisation
from segpipe.models.names import ALIASES, encoder_names, published_tags, tag_of
from segpipe.params import ModelParams, load_params

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = load_params(ROOT / "params.yaml").model.model_dump()
ENCODER = "test_resnet"  # timm's own for tests: 0.5 M weights
NOWHERE = "http://127.0.0.1:9"  # no hub listens there
IMAGENET, HALF = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], [[0.5] * 3, [0.5] * 3]


def params(**changes) -> ModelParams:
    no_dropout = {"encoder": 0.0, "encoder_stages": [], "decoder": 0.0, "projection": 0.0}
    base = COMMITTED | {"encoder": ENCODER, "output_stride": 16, "dropout": no_dropout}
    return ModelParams.model_validate(base | changes)


def network_of(model: ModelParams) -> torch.nn.Module:
    torch.manual_seed(1)
    return build_network(architecture(model, 3)).eval()


def random_state(encoder: str, seed: int = 0, **options) -> dict[str, torch.Tensor]:
    """Weights as they are published, head and all; statistics of normalisation too, so that its epsilon counts."""
    torch.manual_seed(seed)
    state = timm.create_model(encoder, **options).state_dict()
    for name, tensor in state.items():
        if name.endswith("running_var"):
            state[name] = torch.rand_like(tensor) + 0.5
        elif name.endswith(("running_mean", "bias")):
            state[name] = torch.randn_like(tensor) * 0.1
    return state


def write_state(path: Path, state: dict[str, torch.Tensor]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return str(path)


def use_hub(address: str, monkeypatch) -> None:
    """As HF_ENDPOINT does, which is read when the client is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, and a hub that cannot be reached. `cache(repository, name, ...)` puts a file there."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    use_hub(NOWHERE, monkeypatch)
    monkeypatch.setattr(hub, "_AWAY", {})

    def put(repository: str, name: str, revision: str = "main") -> Path:
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        commit = revision if revision != "main" else "0" * 40
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs/main").write_text(commit)
        (folder / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
        return folder / "snapshots" / commit / name

    return put


# Features equal timm's own

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("arch", ["deeplabv3", "smp.Unet", "smp.PSPNet", "smp.DeepLabV3"])
@pytest.mark.parametrize("encoder", ["tf_efficientnet_b0", "resnet18", "test_convnext", "regnetx_002"])
def test_features_are_those_that_timm_computes_from_the_same_file(tmp_path, arch, encoder):
    # EfficientNets of TensorFlow pad as SAME does and have an epsilon of 1e-3; ConvNeXt's names are flattened
    path = write_state(tmp_path / "w.safetensors", random_state(encoder))
    model = params(arch=arch, encoder=encoder, encoder_weights=path)
    network = network_of(model)
    load_encoder_weights(network, model)
    stride = {} if arch in ("smp.Unet", "smp.PSPNet") else {"output_stride": 16}
    overlay = {"file": path, "hf_hub_id": None}
    judge = timm.create_model(encoder, pretrained=True, pretrained_cfg_overlay=overlay, features_only=True, **stride)
    with torch.inference_mode():
        found, expected = network.encoder(IMAGES), judge.eval()(IMAGES)
    found = [features for features in found if features.shape[1] > 3]  # smp puts the image before, and an empty level
    assert len(found) == {"deeplabv3": 1, "smp.PSPNet": 2 if encoder == "test_convnext" else 3}.get(arch, len(expected))
    expected = expected[-1:] if arch == "deeplabv3" else expected[: len(found)]
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.isfinite().all() and theirs.std() > 1e-3, "features that say something"
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("encoder", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_weights_of_transformers_go_through_timms_own_renaming(tmp_path, encoder):
    arch = "smp.DPT" if encoder.startswith("vit") else "smp.Unet"
    state = random_state(encoder)
    path = write_state(tmp_path / "w.safetensors", state)
    model = params(arch=arch, encoder=encoder, encoder_weights=path)
    network = network_of(model)
    load_encoder_weights(network, model)
    loaded = network.encoder.model.state_dict()
    assert len(loaded) > 100
    for name, tensor in loaded.items():
        original = state[name.removeprefix("model.").replace("layers_", "layers.")]
        torch.testing.assert_close(tensor, original, rtol=0, atol=0)


@pytest.mark.parametrize("arch", ["deeplabv3", "smp.FPN"])
def test_the_rest_of_the_network_stays_as_it_was_drawn(tmp_path, arch):
    path = write_state(tmp_path / "w.safetensors", random_state(ENCODER))
    model = params(arch=arch, encoder_weights=path)
    network = network_of(model)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    load_encoder_weights(network, model)
    changed = {name for name, tensor in network.state_dict().items() if (tensor != before[name]).any()}
    assert changed and all(name.startswith("encoder.") for name in changed)


def test_a_head_of_another_size_is_no_matter(tmp_path):
    path = write_state(tmp_path / "w.safetensors", random_state(ENCODER, num_classes=7))
    assert model_problems(params(encoder_weights=path)) == []


# Aliases, tags and the hub's cache


def test_every_efficientnet_of_tensorflow_has_the_three_aliases():
    for size in range(8):
        encoder = f"tf_efficientnet_b{size}"
        assert [tag_of(encoder, alias) for alias in ("imagenet", "advprop", "noisy-student")] == [
            "aa_in1k",
            "ap_in1k",
            "ns_jft_in1k",
        ]
    assert tag_of("resnet18", "imagenet") == "a1_in1k", "of others timm's default"
    assert tag_of("resnet18", "tv_in1k") == "tv_in1k"
    assert tag_of("resnet18", "noisy-student") is None
    assert set(ALIASES) == {"imagenet", "advprop", "noisy-student"}


@pytest.mark.parametrize(("weights", "tag"), [("noisy-student", "ns_jft_in1k"), ("ap_in1k", "ap_in1k")])
def test_cached_weights_are_loaded_without_a_hub(cache, weights, tag):
    encoder = "tf_efficientnet_b0"
    state = random_state(encoder)
    write_state(cache(f"timm/{encoder}.{tag}", "model.safetensors"), state)
    model = params(encoder=encoder, encoder_weights=weights)
    assert model_problems(model) == []
    network = network_of(model)
    load_encoder_weights(network, model)
    torch.testing.assert_close(network.encoder.state_dict()["conv_stem.weight"], state["conv_stem.weight"])


@pytest.mark.parametrize(
    ("weights", "statistics"),
    [(None, IMAGENET), ("imagenet", IMAGENET), ("noisy-student", IMAGENET), ("advprop", HALF), ("ap_in1k", HALF)],
)
def test_normalisation_is_that_of_the_weights(weights, statistics):
    assert list(normalisation(params(encoder="tf_efficientnet_b0", encoder_weights=weights))) == statistics


def test_a_hub_that_cannot_be_reached_is_one_line_with_the_file_option_and_the_cache(cache, tmp_path):
    [line] = model_problems(params(encoder="tf_efficientnet_b0", encoder_weights="noisy-student"))
    assert line.startswith(
        "model.encoder_weights: noisy-student of tf_efficientnet_b0: model.safetensors of "
        f"timm/tf_efficientnet_b0.ns_jft_in1k is not in the cache {tmp_path}/hub, and {NOWHERE} could not be reached ("
    )
    assert "Give the path of a .safetensors file instead, set HF_HOME" in line
    with pytest.raises(ValueError, match="could not be reached"):
        files_of(params(encoder="tf_efficientnet_b0", encoder_weights="noisy-student"))


def test_a_hub_that_never_answers_is_waited_for_once(cache, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_hub(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        for weights in ("imagenet", "advprop"):  # of two members, say
            [line] = model_problems(params(encoder="tf_efficientnet_b0", encoder_weights=weights))
            assert "could not be reached (" in line
            silent.close()


class Hub(BaseHTTPRequestHandler):
    """One file in one repository, as the hub answers for it."""

    content = b""
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.asked.append(self.command)
        found = self.path == "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
        self.send_response(200 if found else 404)
        if found:
            self.send_header("X-Repo-Commit", "1" * 40)
            self.send_header("ETag", '"of-the-content"')
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(self.content) if found else 0))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def reachable(cache, tmp_path, monkeypatch):
    state = random_state(ENCODER)
    monkeypatch.setattr(Hub, "content", Path(write_state(tmp_path / "there.safetensors", state)).read_bytes())
    monkeypatch.setattr(Hub, "asked", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    use_hub(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    yield state
    server.shutdown()
    server.server_close()


def test_what_the_hub_has_is_downloaded_for_training_and_only_asked_for_before(reachable):
    model = params(encoder_weights="imagenet")
    assert model_problems(model) == [] and Hub.asked == ["HEAD"]
    network = network_of(model)
    load_encoder_weights(network, model)
    found = network.encoder.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in reachable.items() if name in found)
    asked = len(Hub.asked)
    load_encoder_weights(network, model)
    assert "GET" in Hub.asked and len(Hub.asked) == asked, "the second time it is in the cache"


def test_a_hub_without_the_file_is_told_apart_from_one_that_is_away(reachable):
    [line] = model_problems(params(encoder="resnet18", encoder_weights="tv_in1k"))
    assert f"{constants.ENDPOINT} does not give model.safetensors of timm/resnet18.tv_in1k (" in line
    assert "could not be reached" not in line


def test_check_says_so_before_data_are_read(tmp_path):
    text = (ROOT / "params.yaml").read_text().replace("  encoder_weights:  ", "  encoder_weights: imagenet  ")
    (tmp_path / "params.yaml").write_text(text)
    environment = os.environ | {"HF_ENDPOINT": NOWHERE, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": f"{ROOT}/src"}
    words = [sys.executable, "-m", "segpipe.training.check"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    lines = json.loads(done.stdout.splitlines()[-1])
    assert lines and all(f"not in the cache {tmp_path}/home/hub, and {NOWHERE} could not" in line for line in lines)


def test_weights_that_are_pickles_only_are_refused(cache):
    [line] = model_problems(params(arch="smp.FPN", encoder="legacy_seresnet18", encoder_weights="in1k"))
    assert "legacy_seresnet18.in1k is published as a pickle only, which could run code and is not loaded" in line


# Files and folders


def test_a_file_has_the_normalisation_of_the_encoders_default_weights(tmp_path):
    path = write_state(tmp_path / "w.safetensors", random_state(ENCODER))
    assert list(normalisation(params(encoder_weights=path))) == HALF  # test_resnet.r160_in1k


def test_a_folder_as_the_hub_has_it_brings_its_own_normalisation(tmp_path):
    write_state(tmp_path / "w/model.safetensors", random_state(ENCODER))
    statistics = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    (tmp_path / "w/config.json").write_text(json.dumps({"architecture": ENCODER, "pretrained_cfg": statistics}))
    model = params(encoder_weights=f"{tmp_path}/w")
    assert model_problems(model) == []
    assert normalisation(model) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert files_of(model) == [tmp_path / "w/model.safetensors", tmp_path / "w/config.json"]


@pytest.mark.parametrize(
    "content", [None, "{}", "[1]", '{"mean": 1, "std": 1}', '{"mean": [0, 0], "std": [1, 1]}', "{"]
)
def test_a_folder_without_statistics_is_refused(tmp_path, content):
    write_state(tmp_path / "w/model.safetensors", random_state(ENCODER))
    if content is not None:
        (tmp_path / "w/config.json").write_text(content)
    [line] = model_problems(params(encoder_weights=f"{tmp_path}/w"))
    assert line.startswith(f"model.encoder_weights: {tmp_path}/w/config.json: ")


def test_weights_of_another_shape_say_which_layer(tmp_path):
    state = random_state(ENCODER)
    state["conv1.0.weight"] = torch.zeros(5, 3, 3, 3)
    expected = tuple(random_state(ENCODER)["conv1.0.weight"].shape)
    path = write_state(tmp_path / "w.safetensors", state)
    [line] = model_problems(params(encoder_weights=path))
    assert f"does not fit {ENCODER}: conv1.0.weight is (5, 3, 3, 3), expected {expected} (1 in all)" in line


def test_weights_of_a_deeper_encoder_are_refused_though_every_tensor_fits(tmp_path):
    path = write_state(tmp_path / "w.safetensors", random_state("tf_efficientnet_b1"))
    [line] = model_problems(params(encoder="tf_efficientnet_b0", encoder_weights=path))
    assert "blocks.0.1.bn1.weight is not in the encoder" in line


@pytest.mark.parametrize("encoder", [ENCODER, "test_convnext", "swin_tiny_patch4_window7_224", "smp.mit_b0"])
def test_weights_of_another_encoder_are_refused_naming_layers(tmp_path, encoder):
    path = write_state(tmp_path / "w.safetensors", random_state("test_efficientnet"))
    [line] = model_problems(params(arch="smp.FPN", encoder=encoder, encoder_weights=path))
    assert f"{path} does not fit {encoder}: " in line and " is missing; " in line


def test_names_that_differ_by_a_dot_are_not_taken_for_one_another(tmp_path):
    state = random_state("test_convnext")
    name = next(name for name in state if name.startswith("stages.0.blocks.0.conv_dw"))
    state[name.replace("conv_dw", "conv.dw")] = state.pop(name)
    path = write_state(tmp_path / "w.safetensors", state)
    [line] = model_problems(params(encoder="test_convnext", encoder_weights=path))
    assert "conv_dw.weight is missing" in line and "conv.dw.weight is not in the encoder" in line


def test_a_pickle_is_not_loaded(tmp_path):
    torch.save(random_state(ENCODER), tmp_path / "w.pth")
    [line] = model_problems(params(encoder_weights=str(tmp_path / "w.pth")))
    assert f"{tmp_path}/w.pth is no safetensors file (" in line and "is a pickle, which is never loaded" in line


# smp's own encoders


def test_smps_own_encoders_bring_weights_and_statistics_from_their_repository(cache):
    settings = smp.encoders.encoders["mit_b0"]["pretrained_settings"]["imagenet"]
    state = smp.encoders.get_encoder("mit_b0").state_dict()
    write_state(cache(settings["repo_id"], "model.safetensors", settings["revision"]), state)
    config = cache(settings["repo_id"], "config.json", settings["revision"])
    config.write_text(json.dumps({"mean": [0.1] * 3, "std": [0.2] * 3}))
    model = params(arch="smp.Segformer", encoder="smp.mit_b0", encoder_weights="imagenet")
    assert model_problems(model) == []
    assert normalisation(model) == ([0.1] * 3, [0.2] * 3)
    network = network_of(model)
    load_encoder_weights(network, model)
    for name, tensor in network.encoder.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)


def test_smps_encoders_that_pad_wrongly_for_their_weights_cannot_be_named():
    assert not [name for name in encoder_names() if "timm-" in name]
    [line] = model_problems(params(arch="smp.Unet", encoder="timm-efficientnet-b3"))
    assert line == "model.encoder: found 'timm-efficientnet-b3'; nearest: tf_efficientnet_b3, efficientnet_b3"


# Names


@pytest.mark.parametrize(
    ("encoder", "weights", "said"),
    [
        ("tf_efficientnet_b0", "noisy", "has imagenet, advprop, noisy-student, "),
        ("tf_efficientnet_b0", "noisy_student", "; did you mean noisy-student?"),
        ("resnet18", "advprop", "found 'advprop'; resnet18 has imagenet, a1_in1k, "),
        ("smp.mit_b0", "advprop", "found 'advprop'; smp.mit_b0 has imagenet; also allowed"),
        ("test_resnet", "weights/none.safetensors", "no such file (looked for it from the project's top folder)"),
    ],
)
def test_weights_that_an_encoder_does_not_have_are_refused_with_those_it_has(encoder, weights, said):
    [line] = model_problems(params(arch="smp.FPN", encoder=encoder, encoder_weights=weights))
    assert line.startswith("model.encoder_weights: found ") and said in line


def test_a_tag_in_the_encoders_name_is_pointed_to_its_own_key():
    [line] = model_problems(params(encoder="tf_efficientnet_b3.ap_in1k"))
    assert line.endswith("set model.encoder tf_efficientnet_b3 and model.encoder_weights ap_in1k")


def test_every_alias_and_tag_of_every_encoder_resolves():
    for encoder in encoder_names():
        for tag in published_tags(encoder):
            assert tag_of(encoder, tag) == tag
