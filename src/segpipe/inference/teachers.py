"""Who may teach a fold, and how steady a teacher is: its answers at 1/3, 2/3 and the end of its training."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from segpipe.data.leaks import overlap_problems, refuse_leaks
from segpipe.data.lineage import Lineage
from segpipe.data.prepared import Prepared
from segpipe.inference.fold import Keeping, Work, predicted
from segpipe.inference.portions import Row, Rows
from segpipe.inference.probs import winners
from segpipe.inference.ranks import Ranks
from segpipe.metrics.confusion import confusion_matrix, mean_iou
from segpipe.models.checkpoint import STAGES_OF_TRAINING, load_segmenter, read_card
from segpipe.params import FoldName
from segpipe.sources import file_digest


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


def steadiness(work: Work, folders: Sequence[Path], ranks: Ranks, stack: ExitStack) -> np.ndarray:
    """(N,) float64: how much the teachers' earlier weights agree with their last ones, 0 to 1, of the work's images.

    The measure of ST++ (Yang et al., CVPR 2022, section 3.3): the mean IoU of the answers at 1/3 and at 2/3 of training
    with those at the end; here averaged over the teachers. Three forward passes a teacher, of the image as it is. The
    answers are kept until `stack` is closed, so that an interrupted stage goes on; all zeros but in the first process.
    """
    plain = replace(work, views=work.views.model_copy(update={"flips": False, "scales": (1.0,)}))
    totals = np.zeros(len(work.indices))
    for number, folder in enumerate(folders):
        answers = [
            stack.enter_context(_answers(plain, number, folder, weights, ranks)) for weights in STAGES_OF_TRAINING
        ]
        for position in range(len(work.indices) if answers[0] is not None else 0):
            *earlier, last = (rows[position][0] for rows in answers if rows is not None)
            matrices = [confusion_matrix(preds, last, work.prepared.classes.num_classes) for preds in earlier]
            totals[position] += np.mean([mean_iou(matrix) for matrix in matrices]) / len(folders)
        for rows in answers:
            if rows is not None:
                rows.close()  # they stay until the stack is closed, and a process may not open many files
    return totals


def _answers(work: Work, number: int, folder: Path, weights: str, ranks: Ranks) -> AbstractContextManager[Rows | None]:
    """The classes that a teacher's weights of that time name; `number` tells equal teachers' states apart."""
    made_by = {"teacher": number, "time": weights, "weights": file_digest(folder / f"{weights}.safetensors")}
    models = {folder: load_segmenter(folder, weights)}
    keeping = Keeping(_classes, seen_pixels(work), __file__, made_by)
    return predicted(work, models, keeping, ranks=ranks, part=f"{folder.name} {weights}")


def seen_pixels(work: Work) -> int:
    """Of all the work's images together, as networks see them."""
    shapes = (work.prepared.images.shape(index) for index in work.indices)
    return sum(height * width for height, width, _ in shapes)


def _classes(index: int, probs: np.ndarray, agreement: np.ndarray) -> Row:
    return [winners(probs)]
