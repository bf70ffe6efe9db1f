"""Names of architectures, encoders and their published weights, and the nearest ones where a name is none."""

import difflib
import re
from functools import cache

import segmentation_models_pytorch as smp
import timm
from timm.models import PretrainedCfg
from timm.models._registry import get_arch_pretrained_cfgs

from segpipe.models.dropout import dropout_problems
from segpipe.params import ModelParams

OWN = ("deeplabv3", "deeplabv3plus")
SMP = "smp."  # before the names of smp's architectures, and of its encoders that timm does not have
SMP_ARCHITECTURES = {f"{SMP}{kind.__name__}": kind for kind in smp.MODEL_ARCHITECTURES_MAPPING.values()}
# what the years of smp and of the first noisy-student weights called them, by the tags that timm publishes them under
ALIASES = {"imagenet": "aa_in1k", "advprop": "ap_in1k", "noisy-student": "ns_jft_in1k"}


@cache
def encoder_names() -> tuple[str, ...]:
    """All of timm's, then smp's own.

    smp's `timm-...` are left out: they pad symmetrically and normalise with another epsilon than the weights that they
    load were trained with, so that not even the first features are right; timm has all of them.
    """
    own = [f"{SMP}{name}" for name in smp.encoders.get_encoder_names() if not name.startswith("timm-")]
    return (*timm.list_models(), *own)


def published_tags(encoder: str) -> list[str]:
    """What `model.encoder_weights` may be for this encoder, aliases aside; the library's default stands first."""
    if encoder.startswith(SMP):
        return list(smp.encoders.encoders[encoder.removeprefix(SMP)]["pretrained_settings"])
    return list(_configurations(encoder))


def tag_of(encoder: str, weights: str) -> str | None:
    """The tag that `weights`, an alias or a tag, stands for; None where the encoder has no such weights.

    `imagenet` is the library's default where nothing is published as `aa_in1k`.
    """
    tags = published_tags(encoder)
    aliased = ALIASES.get(weights, weights)
    if weights in tags or aliased in tags:
        return weights if weights in tags else aliased
    return tags[0] if weights == "imagenet" and tags else None


def configuration(encoder: str, tag: str | None) -> PretrainedCfg | None:
    """What timm says of an encoder's weights, of its default ones without `tag`; None where there are none."""
    configurations = _configurations(encoder)
    return configurations.get(tag) if tag else next(iter(configurations.values()), None)


def _configurations(encoder: str) -> dict[str, PretrainedCfg]:
    found = get_arch_pretrained_cfgs(encoder)
    return {name.partition(".")[2]: config for name, config in found.items() if config.has_weights}


def name_problems(model: ModelParams) -> list[str]:
    """What of section `model` does not exist (architecture, encoder, tag of weights, file), a line each."""
    problems = []
    architectures = [*OWN, *SMP_ARCHITECTURES]
    if model.arch not in architectures:
        problems.append(unknown("model.arch", model.arch, architectures))
    if model.arch in SMP_ARCHITECTURES:
        problems += dropout_problems(model)
    if model.encoder not in encoder_names():
        return [*problems, _unknown_encoder(model.encoder), *_file_problems(model)]
    if model.arch in OWN and model.encoder.startswith(SMP):
        problems.append(f"model.encoder: {model.arch} takes timm's encoders, found smp's own {model.encoder}")
    weights = model.encoder_weights
    if weights is None or model.weights_path is not None:
        return problems + _file_problems(model)
    if tag_of(model.encoder, weights) is None:
        problems.append(_unknown_weights(model.encoder, weights))
    return problems


def unknown(key: str, found: str, names: list[str] | tuple[str, ...]) -> str:
    """What to say of a name that is none of `names`, with the nearest of them."""
    return f"{key}: found {found!r}; nearest: {', '.join(_nearest(found, names)) or ', '.join(names[:10])}"


def _nearest(found: str, names: list[str] | tuple[str, ...]) -> list[str]:
    by_lower = {name.lower(): name for name in reversed(names)}
    bare = found.lower().split(".", 1)[-1] if found.lower().startswith(SMP) else found.lower()
    close = difflib.get_close_matches(found.lower(), by_lower, n=3, cutoff=0.4)
    with_prefix = [f"{SMP}{bare}"] if f"{SMP}{bare}" in by_lower else []  # Unet: smp.Unet
    return [by_lower[name] for name in dict.fromkeys([*with_prefix, *close])][:3]


def _unknown_encoder(encoder: str) -> str:
    name, _, tag = encoder.partition(".")
    if name in timm.list_models():
        return (
            f"model.encoder: found {encoder!r}, which names weights too; set model.encoder {name} and "
            f"model.encoder_weights {tag}"
        )
    # smp's names for encoders that timm has: efficientnet-b3, timm-efficientnet-b3, tu-resnet18, timm-regnetx_002
    plain = re.sub(r"^(timm|tu)-", "", encoder).replace("-", "_")
    known = [name for name in (f"tf_{plain}", plain) if name in timm.list_models()]
    if known:
        own = f"{SMP}{encoder}"
        known += [own] if own in encoder_names() else []
        return f"model.encoder: found {encoder!r}; nearest: {', '.join(known)}"
    return unknown("model.encoder", encoder, encoder_names())


def _unknown_weights(encoder: str, weights: str) -> str:
    tags = published_tags(encoder)
    if not tags:
        return (
            f"model.encoder_weights: found {weights!r}; no weights of {encoder} are published: leave it empty, or give "
            "the path of a .safetensors file"
        )
    aliases = [alias for alias in ALIASES if tag_of(encoder, alias) and alias not in tags]
    nearest = difflib.get_close_matches(weights, [*aliases, *tags], n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return (
        f"model.encoder_weights: found {weights!r}; {encoder} has {', '.join([*aliases, *tags])}; also allowed: empty, "
        f"or the path of a .safetensors file{hint}"
    )


def _file_problems(model: ModelParams) -> list[str]:
    path = model.weights_path
    if path is None or path.is_file() or (path.is_dir() and (path / "model.safetensors").is_file()):
        return []
    there = "a folder without model.safetensors" if path.is_dir() else "no such file"
    return [
        f"model.encoder_weights: found {model.encoder_weights!r}, {there} (looked for it from the project's top "
        "folder); allowed: empty, imagenet, advprop, noisy-student, a tag of timm, the path of a .safetensors file, or "
        "of a folder with model.safetensors and config.json"
    ]
