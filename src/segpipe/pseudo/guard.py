"""What may not become a pseudo label: images of the pool that show what the fold holds out.

A student that learned from a copy of a held-out image, however it was labelled, has seen the image that chooses its
epoch or judges it.
"""

from dataclasses import dataclass

from segpipe.data.leaks import held_out_indices
from segpipe.data.prepared import Prepared
from segpipe.params import FoldName


@dataclass(frozen=True)
class LeftOut:
    """An image of the pool, by index, and the name of the held-out image that it is a copy of."""

    index: int
    copy_of: str
    exact: bool  # the same bytes; else the same picture in other bytes

    @property
    def why(self) -> str:
        """In words, for tables."""
        return f"{'copy' if self.exact else 'near copy'} of the held-out {self.copy_of}"


def copies_of_held_out(prepared: Prepared, fold: FoldName) -> list[LeftOut]:
    """The pool's images that show what the fold holds out, in the pool's order: the same bytes, or near copies."""
    held_out, pictures = held_out_indices(prepared, fold), prepared.near_copies()
    by_hash = {prepared.entries[index].content_hash: index for index in reversed(held_out)}
    by_picture = {pictures[index]: index for index in reversed(held_out) if index in pictures}
    found = []
    for index in prepared.pool():
        same = by_hash.get(prepared.entries[index].content_hash)
        like = by_picture.get(pictures[index]) if same is None and index in pictures else same
        if like is not None:
            found.append(LeftOut(index, prepared.entries[like].file_name, same is not None))
    return found


def say_left_out(left_out: list[LeftOut], prepared: Prepared) -> str:
    """One line with up to three names; the whole list stands in images.csv."""
    named = ", ".join(f"{prepared.entries[one.index].file_name} ({one.why})" for one in left_out[:3])
    more = f" and {len(left_out) - 3} more (images.csv)" if len(left_out) > 3 else ""
    images = "1 image is" if len(left_out) == 1 else f"{len(left_out)} images are"
    return f"pseudo_label: {images} left out, for a student may not see what its fold holds out: {named}{more}"
