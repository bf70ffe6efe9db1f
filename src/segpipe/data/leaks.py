"""Who may not work for a fold: whatever has seen what the fold holds out; and a pool that is not one.

Names stand in every refusal. Copies that are not byte-identical have no hash in common with the original:
`segpipe.pseudo.guard` leaves those out of the pseudo labels.
"""

from segpipe.data.lineage import Lineage
from segpipe.data.prepared import Prepared
from segpipe.params import FoldName


def judge_indices(prepared: Prepared, fold: FoldName) -> tuple[int, ...]:
    """Images that judge in this fold; those of a judge file of its own judge every fold, `all` too."""
    return tuple(dict.fromkeys((*prepared.folds[fold].judge, *prepared.sets["judge"])))


def held_out_indices(prepared: Prepared, fold: FoldName) -> tuple[int, ...]:
    """Images that choose or judge in this fold."""
    return (*prepared.folds[fold].tune, *judge_indices(prepared, fold))


def refuse_leaks(prepared: Prepared, fold: FoldName, lineage: Lineage, who: str) -> None:
    """Raise ValueError, with the names, if `who` learned from a held-out image or was tuned on a judge image."""
    lineage.refuse_tuning_on(prepared.named_hashes(prepared.folds[fold].tune), who)
    lineage.refuse_judging_on(prepared.named_hashes(judge_indices(prepared, fold)), who)


def overlap_problems(prepared: Prepared, fold: FoldName) -> list[str]:
    """One line for each image of the pool from which the fold's models learn already, by its true labels."""
    labeled = {prepared.entries[index].content_hash: index for index in reversed(prepared.folds[fold].train)}
    found = []
    for index in prepared.pool():
        entry = prepared.entries[index]
        if (of := labeled.get(entry.content_hash)) is not None:
            found.append(f"{entry.file_name} of the pool is the training image {prepared.entries[of].file_name}")
    return found
