"""What sizes of input a network takes, found in a fraction of a second with a copy of it that has no numbers."""

import json
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from segpipe.models.build import Architecture, build_network
from segpipe.models.names import OWN
from segpipe.stage import first_line

_ODD = (9, 11)  # multiples of the stride; an odd number of each finds decoders that halve the features once more
_FINER, _LARGER = (1, 2, 4), (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class InputSize:
    """Height and width must be multiples of `stride`, and at least `least`, a multiple of it."""

    stride: int
    least: int


def input_size(description: Architecture) -> InputSize:
    """Of the network of this description. Raises ValueError with the library's reason where it takes no size at all.

    It does so where the combination can be built but not run, such as an encoder for 224 x 224 pixels only.
    """
    return _input_size(json.dumps(description, sort_keys=True))


def skeleton(description: Architecture) -> nn.Module:
    """The network on the device `meta`: names and shapes of its tensors. Raises ValueError as `build_network` does."""
    with torch.random.fork_rng(devices=[]):  # what training draws may not depend on whether a size was known already
        try:
            with torch.device("meta"):
                return build_network(description)
        except ValueError as error:
            if "meta" not in str(error):
                raise
            # some encoders compute with numbers while they are built
            return build_network(description).to("meta")


@cache
def _input_size(as_json: str) -> InputSize:
    description: Architecture = json.loads(as_json)
    network = skeleton(description).eval()
    own = description["arch"] in OWN
    asked = max(16, description["output_stride"]) if own else int(network.encoder.output_stride)
    reasons = []
    for finer in _FINER:
        stride = finer * asked
        reason = _fault(network, (_ODD[0] * stride, _ODD[1] * stride))
        if reason is None:
            # batch normalisation and pooling need some pixels of the coarsest features
            least = next((n for n in _LARGER if _fault(network, (n * stride, n * stride)) is None), _ODD[1])
            return InputSize(stride, least * stride)
        reasons.append(reason)
    arch, encoder = description["arch"], description["encoder"]
    raise ValueError(f"model: {arch} cannot run on {encoder} with images of any size: {reasons[0]}")


def _fault(network: nn.Module, size: tuple[int, int]) -> str | None:
    """Why an image of this size gives no logits of its size; None where it does."""
    try:
        with torch.inference_mode():
            logits = network(torch.empty(1, 3, *size, device="meta"))
    except Exception as error:  # whatever the library raises where shapes do not fit
        return first_line(error)
    found = tuple(logits.shape[-2:])
    return None if found == size else f"an image of {size[0]} x {size[1]} gives logits of {found[0]} x {found[1]}"
