"""A network with its preprocessing, and the folder that describes it fully: weights as safetensors, the rest as JSON.

The description rebuilds the network (dilation, stride and dropout are in no state dict) and carries the one
transform that training, validation, teaching and prediction share. Nothing is unpickled.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from segpipe.data.lineage import Lineage
from segpipe.labels import ClassTable
from segpipe.libraries import Libraries
from segpipe.models.build import Architecture, build_network
from segpipe.models.encoder_weights import default_normalisation
from segpipe.models.sizes import input_size
from segpipe.stage import read_json, write_json

STAGES_OF_TRAINING = ("third", "two_thirds", "last")  # weights kept beside the chosen ones


@dataclass(frozen=True)
class ModelCard:
    """What model.json says: enough to rebuild the model, name its classes, and know what it has seen."""

    architecture: Architecture
    image_size: tuple[int, int] | None  # height, width it was trained at; None: each image's own
    resize: Literal["stretch", "letterbox"]  # how an image comes to it: data.resize.stored_size
    mean: list[float]
    std: list[float]
    classes: ClassTable
    lineage: Lineage
    parents: list[str]  # folders of the models and label sets it came from
    chosen_epoch: int  # counted from 1
    chosen_weights: Literal["raw", "ema"]  # as trained, or their moving average
    libraries: Libraries  # those that trained it

    def to_json(self) -> dict:
        """A plain dict."""
        size = list(self.image_size) if self.image_size else None
        parts = {"classes": self.classes.to_json(), "lineage": self.lineage.to_json(), "image_size": size}
        return self.__dict__ | parts


class Segmenter(nn.Module):
    """8-bit images in, logits at the same size out; normalisation and padding happen inside, the same everywhere."""

    def __init__(self, description: Architecture, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network = build_network(description)
        self.takes = input_size(description)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) uint8 RGB -> logits (N, C, H, W) float."""
        height, width = images.shape[-2:]
        normalised = (images.float() - self.mean) / self.std
        # zeros after normalising are the mean colour; padding below and right is cropped away again
        stride, least = self.takes.stride, self.takes.least
        padding = (0, max(-width % stride, least - width), 0, max(-height % stride, least - height))
        return self.network(F.pad(normalised, padding))[..., :height, :width]


def new_segmenter(description: Architecture) -> Segmenter:
    """A segmenter with random weights and its encoder's own normalisation."""
    return Segmenter(description, *default_normalisation(description["encoder"]))


def save_weights(segmenter: Segmenter, path: Path) -> None:
    """Write the network's weights as safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in segmenter.network.state_dict().items()}, path
    )


def write_card(card: ModelCard, folder: Path) -> None:
    """Write model.json."""
    write_json(folder / "model.json", card.to_json())


def read_card(folder: Path) -> ModelCard:
    """The description in `folder`."""
    value = read_json(folder / "model.json")
    value["classes"], value["lineage"] = ClassTable.from_json(value["classes"]), Lineage.from_json(value["lineage"])
    value["image_size"] = tuple(value["image_size"]) if value["image_size"] else None
    return ModelCard(**value)


def load_segmenter(folder: Path, weights: str = "model") -> tuple[Segmenter, ModelCard]:
    """The model in `folder` in evaluation mode, with its chosen weights or those named (third, two_thirds, last).

    Raises ValueError naming the layers when the weights do not fit the description.
    """
    card = read_card(folder)
    segmenter = Segmenter(card.architecture, card.mean, card.std)
    load_weights(segmenter, folder / f"{weights}.safetensors")
    return segmenter.eval().to(memory_format=torch.channels_last), card


def load_weights(segmenter: Segmenter, path: Path) -> None:
    """Load weights that must fit exactly; raises ValueError naming what is missing, extra or of another shape."""
    state, wanted = load_file(path), segmenter.network.state_dict()
    wrong = [f"{name} is missing" for name in wanted if name not in state]
    wrong += [f"{name} is not in the architecture" for name in state if name not in wanted]
    wrong += [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    if wrong:
        raise ValueError(f"{path}: does not fit its description: {'; '.join(wrong[:4])} ({len(wrong)} in all)")
    segmenter.network.load_state_dict(state)
