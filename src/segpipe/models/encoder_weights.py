"""Pretrained weights of encoders: where they lie, the normalisation they were trained with, and how they fit.

Published ones come as safetensors from the hub or its cache; a file or a folder may stand for them. No pickle is ever
loaded.
"""

import inspect
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import segmentation_models_pytorch as smp
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from segpipe.models import hub
from segpipe.models.names import OWN, SMP, configuration, tag_of
from segpipe.params import ModelParams
from segpipe.stage import read_json

FILE, CONFIG = "model.safetensors", "config.json"  # as in a repository of the hub, and in a local copy of one
_HEADS = ("fc", "classifier", "last_linear", "head", "_fc")  # classification layers of smp's own encoders


def files_of(model: ModelParams) -> list[Path]:
    """The files that decide what `model.encoder_weights` means, downloaded where they must be; the weights stand first.

    Raises ValueError saying why they cannot be had, and what to do.
    """
    path = model.weights_path
    if path is not None:
        return [path / FILE, path / CONFIG] if path.is_dir() else [path]
    if model.encoder_weights is None:
        return []
    try:
        return [hub.fetch(published) for published in _published(model.encoder, model.encoder_weights)]
    except ValueError as error:
        raise ValueError(_no_weights(model, str(error))) from error


def normalisation(model: ModelParams) -> tuple[list[float], list[float]]:
    """(mean, std) for images scaled to 0..1: those that the weights were trained with.

    A tag's are timm's (or, of smp's own encoders, in their config.json), a folder's stand in its config.json. A single
    file says nothing of its own, so it gets those of the encoder's default weights, as an encoder without weights does.
    Raises ValueError where config.json cannot be had or read.
    """
    encoder, weights, path = model.encoder, model.encoder_weights, model.weights_path
    if path is not None and path.is_dir():
        return _from_json(path / CONFIG)
    if path is not None or weights is None:
        return default_normalisation(encoder)
    if encoder.startswith(SMP):
        return _from_json(files_of(model)[1])
    config = configuration(encoder, tag_of(encoder, weights))
    assert config is not None, "names are checked first"
    return list(config.mean), list(config.std)


def default_normalisation(encoder: str) -> tuple[list[float], list[float]]:
    """(mean, std) of the library's default weights for `encoder`; ImageNet's where it has none, and for smp's own."""
    config = None if encoder.startswith(SMP) else configuration(encoder, None)
    mean, std = (config.mean, config.std) if config else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    return list(mean), list(std)


def weights_problems(model: ModelParams, network: nn.Module) -> list[str]:
    """Why the weights cannot be had or do not fit `network`, which may be on `meta`; downloads nothing."""
    if model.encoder_weights is None:
        return []
    try:
        if model.weights_path is None:
            try:
                published = _published(model.encoder, model.encoder_weights)
            except ValueError as error:
                return [_no_weights(model, str(error))]
            reason = next(filter(None, map(hub.fault, published)), None)
            if reason:
                return [_no_weights(model, reason)]
            if any(file.cached is None for file in published):
                return []
        normalisation(model)
        _fitting(files_of(model)[0], model, network)
    except ValueError as error:
        return [str(error)]
    return []


def load_encoder_weights(network: nn.Module, model: ModelParams) -> None:
    """Put the pretrained weights of section `model` into the encoder of `network`; none where it asks for none.

    Raises ValueError when they cannot be had or do not fit, naming the layers.
    """
    if model.encoder_weights is not None:
        _encoder_of(network, model).load_state_dict(_fitting(files_of(model)[0], model, network))


def _published(encoder: str, weights: str) -> list[hub.Published]:
    """Weights, and of smp's own encoders the file with their statistics. ValueError where there are only pickles."""
    tag = tag_of(encoder, weights)
    assert tag is not None, "names are checked first"
    if encoder.startswith(SMP):
        settings = smp.encoders.encoders[encoder.removeprefix(SMP)]["pretrained_settings"][tag]
        return [hub.Published(settings["repo_id"], name, settings["revision"]) for name in (FILE, CONFIG)]
    config = configuration(encoder, tag)
    if config is None or not config.hf_hub_id or not str(config.hf_hub_filename or FILE).endswith(".safetensors"):
        raise ValueError(f"{encoder}.{tag} is published as a pickle only, which could run code and is not loaded")
    repository, _, revision = config.hf_hub_id.partition("@")
    return [hub.Published(repository, config.hf_hub_filename or FILE, revision or None)]


def _no_weights(model: ModelParams, reason: str) -> str:
    return (
        f"model.encoder_weights: {model.encoder_weights} of {model.encoder}: {reason}. Give the path of a .safetensors "
        "file instead, set HF_HOME to a folder whose cache has them, or leave it empty for random weights"
    )


def _from_json(path: Path) -> tuple[list[float], list[float]]:
    """Mean and standard deviation in a config.json of timm's or smp's."""
    try:
        found = read_json(path)
        config = found.get("pretrained_cfg", found)
        mean, std = ([float(value) for value in config[key]] for key in ("mean", "std"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"model.encoder_weights: {path}: no mean and std could be read from it ({type(error).__name__}: {error}); "
            "a folder of weights needs a config.json as the hub has it, with pretrained_cfg.mean and .std"
        ) from error
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(f"model.encoder_weights: {path}: found mean {mean}, std {std}; expected three numbers each")
    return mean, std


def _encoder_of(network: nn.Module, model: ModelParams) -> nn.Module:
    encoder = network.encoder
    return encoder if model.arch in OWN or model.encoder.startswith(SMP) else encoder.model


def _fitting(path: Path, model: ModelParams, network: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of the file under the encoder's own names. Raises ValueError where it is another encoder's."""
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"model.encoder_weights: {path} is no safetensors file ({error}). A .pth or .bin file is a pickle, which "
            "is never loaded: write its tensors with safetensors.torch.save_file"
        ) from error
    wanted = _encoder_of(network, model).state_dict()
    if model.encoder.startswith(SMP):
        there, strangers = state, [n for n in state if n not in wanted and n.split(".")[0] not in _HEADS]
    else:
        there, strangers = _as_timm_reads(state, model.encoder)
    wrong, found = [], {}
    for name, tensor in wanted.items():
        loaded = there.get(name)
        if loaded is None and name.endswith("num_batches_tracked"):  # older files have none, and nothing reads it here
            loaded = torch.zeros((), dtype=torch.long)
        if loaded is None:
            wrong.append(f"{name} is missing")
        elif loaded.shape != tensor.shape:
            wrong.append(f"{name} is {tuple(loaded.shape)}, expected {tuple(tensor.shape)}")
        else:
            found[name] = loaded
    if model.weights_path is not None:  # of b1 in b0 every tensor that b0 has fits; published ones may hold old buffers
        wrong += [f"{name} is not in the encoder" for name in strangers]
    if wrong:
        raise ValueError(
            f"model.encoder_weights: {path} does not fit {model.encoder}: {'; '.join(wrong[:4])} ({len(wrong)} in all)"
            f"; the encoder has {len(wanted)} tensors, the file {len(state)}"
        )
    return found


def _as_timm_reads(state: dict[str, torch.Tensor], encoder: str) -> tuple[dict[str, torch.Tensor], list[str]]:
    """A file's tensors under every name that timm's ways to build `encoder` give them; names that none of them knows.

    timm renames and reshapes the weights of some encoders while it loads them; its function for that is known to its
    loader alone, so we let it call one that only listens.
    """
    with patch("timm.models._builder.load_pretrained") as loader:
        full = _on_meta(encoder)
    asked = loader.call_args.kwargs if loader.call_args else {}
    rename, config = asked.get("filter_fn"), asked.get("pretrained_cfg", {})
    if rename is not None:
        # of another encoder's file it makes nothing: what is missing is then told by name
        with suppress(LookupError, RuntimeError, ValueError, AttributeError):
            takes_model = len(inspect.signature(rename).parameters) > 1  # timm's older ones do not
            state = rename(dict(state), full) if takes_model else rename(dict(state))
    heads = config.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    heads = tuple(f"{head}." for head in heads)
    known = full.state_dict()
    strangers = [n for n, t in state.items() if n not in known and not n.startswith(heads) and t.is_floating_point()]
    there = dict(state)
    for child_name, child in full.named_children():
        # encoders for features alone may be flat: stages_0 for stages.0
        parts = [name for name, _ in child.named_children()] if isinstance(child, nn.Sequential) else []
        for part in parts:
            prefix = f"{child_name}.{part}."
            there |= {
                f"{child_name}_{part}.{n.removeprefix(prefix)}": t for n, t in state.items() if n.startswith(prefix)
            }
    there |= {f"model.{name}": tensor for name, tensor in state.items()}  # or hold the whole model
    return there, strangers


def _on_meta(encoder: str) -> nn.Module:
    """timm's whole model, its loader called; without numbers where it can be built so."""
    with torch.random.fork_rng(devices=[]):  # nor may it change what training draws
        try:
            with torch.device("meta"):
                return timm.create_model(encoder, pretrained=True)
        except (RuntimeError, NotImplementedError):
            return timm.create_model(encoder, pretrained=True)
