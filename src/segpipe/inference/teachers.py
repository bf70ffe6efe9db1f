"""Who may teach a fold, and how steady a teacher is: its answers at 1/3, 2/3 and the end of its training."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from segpipe.data.leaks import overlap_problems, refuse_leaks
from segpipe.data.lineage import Lineage
from segpipe.data.prepared import Prepared
from segpipe.inference.predict import predict_probs
from segpipe.metrics.confusion import confusion_matrix, mean_iou
from segpipe.models.checkpoint import STAGES_OF_TRAINING, load_segmenter, read_card
from segpipe.params import FoldName


def check_teachers(prepared: Prepared, fold: FoldName, folders: Sequence[Path]) -> Lineage:
    """What the teachers have seen, together; read from their cards, before any weights are.

    Raises ValueError with everything that forbids labelling: a teacher of other classes, one that knows what this fold
    holds out, an image of the pool that the fold's models learn from already.
    """
    problems, lineage = [], Lineage(frozenset(), frozenset())
    for folder in folders:
        card = read_card(folder)
        if card.classes.names != prepared.classes.names:
            problems.append(f"{folder}: {_other_classes(card.classes.names, prepared.classes.names)}")
        try:
            refuse_leaks(prepared, fold, card.lineage, str(folder))
        except ValueError as error:
            problems.append(str(error))
        lineage |= card.lineage
    overlap = overlap_problems(prepared, fold)
    if overlap:
        more = f" (and {len(overlap) - 3} more)" if len(overlap) > 3 else ""
        problems.append(
            f"data.unlabeled: {'; '.join(overlap[:3])}{more}; expected images without true labels: take them out"
        )
    if problems:
        raise ValueError("\n  ".join([f"teach@{fold}: no image is labelled:", *problems]))
    return lineage


def _other_classes(found: Sequence[str], expected: Sequence[str]) -> str:
    """What to say of a teacher's class names."""
    lacks = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    parts = [f"lacks {', '.join(lacks)}"] if lacks else []
    parts += [f"knows {', '.join(extra)} besides"] if extra else []
    differs = " and ".join(parts) or f"has them in another order ({', '.join(found)})"
    return (
        f"was trained on other classes than the prepared data have ({', '.join(expected)}): it {differs}; "
        "train it on these data: run `dvc repro`"
    )


def steadiness(folders: Sequence[Path], prepared: Prepared, indices: Sequence[int], *, label: str) -> dict[int, float]:
    """How much the teachers' earlier weights agree with their last ones, 0 to 1, by index.

    The measure of ST++ (Yang et al., CVPR 2022, section 3.3): the mean IoU of the answers at 1/3 and at 2/3 of training
    with those at the end; here averaged over the teachers. Three forward passes a teacher, of the image as it is.
    """
    totals = dict.fromkeys(indices, 0.0)
    for folder in folders:
        for index, agreement in _steadiness_of(folder, prepared, indices, label):
            totals[index] += agreement / len(folders)
    return totals


def _steadiness_of(folder: Path, prepared: Prepared, indices: Sequence[int], label: str) -> Iterator[tuple[int, float]]:
    answers = [
        predict_probs(
            [load_segmenter(folder, weights)[0]],
            prepared.images,
            indices,
            padded_to=prepared.image_size,
            flips=False,
            label=f"{label} {folder.name} {weights}",
        )
        for weights in STAGES_OF_TRAINING
    ]
    for answered in zip(*answers, strict=True):
        *earlier, last = (probs.argmax(-1).astype(np.uint8) for _, probs, _ in answered)
        matrices = [confusion_matrix(preds, last, prepared.classes.num_classes) for preds in earlier]
        yield answered[0][0], float(np.mean([mean_iou(matrix) for matrix in matrices]))
