"""Updates whose loss or gradient is not finite, found without waiting for the device."""

from collections.abc import Sequence

import torch
from torch import Tensor


class NotFinite(Exception):
    """A loss or gradient that is NaN or infinite; says in which update (from 0), and what its values were."""

    def __init__(self, update: int, values: dict[str, float]) -> None:
        super().__init__(update, values)
        self.update, self.values = update, values


class Watched:
    """The first update whose loss terms or gradient norm were not finite, noted on the device without a wait."""

    def __init__(self, terms: Sequence[str], device: torch.device) -> None:
        self._names = ("loss", *terms, "gradient norm")
        self._values = torch.zeros(len(self._names), device=device)
        self._update = torch.full((), -1, dtype=torch.int64, device=device)

    def note(self, update: int, terms: Tensor, norm: Tensor) -> Tensor:
        """Whether all values of this update are finite, a boolean scalar on the device."""
        values = torch.cat([terms, norm.detach().reshape(1).to(terms)])
        finite = values.isfinite().all()
        first = ~finite & (self._update < 0)
        self._values = torch.where(first, values, self._values)
        self._update = torch.where(first, update, self._update)
        return finite

    def raise_first(self) -> None:
        """Raise NotFinite if there was one."""
        update = int(self._update.item())
        if update >= 0:
            raise NotFinite(update, dict(zip(self._names, self._values.tolist(), strict=True)))
