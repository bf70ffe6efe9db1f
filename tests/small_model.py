"""A model folder with random weights, small and made in a moment: for tests of what is done with models."""

from pathlib import Path

import torch

from segpipe.data.lineage import Lineage
from segpipe.labels import ClassTable, distinct_colors
from segpipe.libraries import TRAINING, library_versions
from segpipe.models.build import architecture
from segpipe.models.checkpoint import ModelCard, new_segmenter, save_weights, write_card
from segpipe.params import load_params

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ClassTable(
    ("Background", "Paper", "Glass"), ((), ("Paper",), ("Glass",)), distinct_colors(3, background=True)
)


def write_model(
    folder: Path,
    *,
    image_size: tuple[int, int] | None,
    resize: str = "stretch",
    classes: ClassTable = CLASSES,
    seed: int = 0,
) -> Path:
    """A network of 0.1 million weights as a stage would leave it; batch norms have seen some noise."""
    params = load_params(ROOT / "params.yaml").model
    small = params.model_copy(update={"encoder": "test_efficientnet", "decoder_channels": 16})
    torch.manual_seed(seed)
    segmenter = new_segmenter(architecture(small, classes.num_classes))
    segmenter.train()
    for _ in range(20):  # else a network that never trained says the same everywhere
        segmenter(torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8))
    save_weights(segmenter, folder / "model.safetensors")
    card = ModelCard(
        architecture=architecture(small, classes.num_classes),
        image_size=image_size,
        resize=resize,
        mean=(segmenter.mean.flatten() / 255).tolist(),
        std=(segmenter.std.flatten() / 255).tolist(),
        classes=classes,
        lineage=Lineage(frozenset(), frozenset()),
        parents=[],
        chosen_epoch=1,
        chosen_weights="raw",
        libraries=library_versions(TRAINING),
    )
    write_card(card, folder)
    return folder
