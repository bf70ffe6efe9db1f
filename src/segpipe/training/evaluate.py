"""Scoring a network on images with known targets, shared by the ranks that are there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from lightning_fabric import Fabric

from segpipe.data.prepared import Prepared
from segpipe.data.resize import resize_labels
from segpipe.inference.predict import Predictor, predict_probs
from segpipe.inference.probs import to_scored_size, winners
from segpipe.metrics.confusion import confusion_matrix
from segpipe.models.checkpoint import Segmenter
from segpipe.params import ViewParams
from segpipe.training.engine import share_of, sum_over_ranks
from segpipe.training.tracking.listener import Example

# while training, one look at the whole image chooses: all scored epochs alike, and as fast as can be
ONE_LOOK = ViewParams(flips=False, scales=(1.0,), window=None, overlap=0.0)


@dataclass(frozen=True)
class Tune:
    """Held-out images that choose the epoch, and the size at which they are scored."""

    prepared: Prepared
    indices: Sequence[int]
    scored_size: tuple[int, int] | None


def evaluate(
    segmenter: Segmenter,
    tune: Tune,
    fabric: Fabric | None = None,
    *,
    show: int = 0,
    label: str = "tune",
    after_image: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, list[Example]]:
    """(N, C, C) int64, the confusion matrix of every tune image at the scored size; and `show` of them to look at.

    The examples are the same images each time, spread over the list, at the networks' size. With `fabric` each rank
    scores its share, every image once: all ranks get all matrices, and each the examples of its share. `label` names
    the images where progress is shown.
    """
    prepared, num_classes = tune.prepared, tune.prepared.classes.num_classes
    confusions = np.zeros((len(tune.indices), num_classes, num_classes), np.int64)
    examples: list[Example] = []
    count = min(show, len(tune.indices))
    shown = {tune.indices[place * len(tune.indices) // count] for place in range(count)}
    places = range(len(tune.indices))
    mine = share_of(places, fabric) if fabric is not None else places
    predictor = Predictor([segmenter], ONE_LOOK, prepared.image_size)
    predicted = predict_probs(predictor, prepared.images, [tune.indices[i] for i in mine], label=label)
    for position, probs, _ in predicted:
        place = mine[position]
        index = tune.indices[place]
        entry = prepared.entries[index]
        preds = winners(to_scored_size(probs, (entry.height, entry.width), tune.scored_size))
        target = resize_labels(prepared.native_target(index), tune.scored_size)
        confusions[place] = confusion_matrix(preds, target, num_classes)
        if index in shown:
            image = prepared.images[index]
            sized = [resize_labels(labels, image.shape[:2]) for labels in (preds, target)]
            examples.append(Example(entry.file_name, image, *sized))
        after_image()
    return (confusions if fabric is None else sum_over_ranks(confusions, fabric)), examples
