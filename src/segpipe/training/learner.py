"""A network with all that an update changes, and the update itself."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from segpipe.losses.weighted_sum import build_loss
from segpipe.models.checkpoint import Segmenter
from segpipe.params import MemberParams
from segpipe.training.engine import align_buffers, load_scaler_state, mean_over_ranks, scaler_state
from segpipe.training.optim import build_optimizer
from segpipe.training.schedule import lr_factor, set_learning_rates
from segpipe.training.watched import Watched

Batch = tuple[Tensor, ...]  # what `data.dataset.collate` makes: images, targets, and soft labels where there are any


class Learner:
    """The segmenter on its device, its optimiser and moving average, and the number of updates done.

    `num_labeled` images of each batch carry true labels, the loss of the others counts `pseudo_weight`, to which it
    rises evenly over the first `ramp_updates`. The learning
    rate and the random numbers of an update follow from its number alone: resuming needs nothing else for them.
    `class_weights` are those of the loss; None: all classes alike. `balance` has a row for each term of a balanced loss
    (training.balance). `looks_first`: an update is not made before its values were seen to be finite.
    """

    def __init__(
        self,
        fabric: Fabric,
        segmenter: Segmenter,
        params: MemberParams,
        *,
        updates_per_epoch: int,
        epochs: int,
        num_labeled: int,
        pseudo_weight: float,
        ramp_updates: int = 0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        self.fabric, self.segmenter, self.params = fabric, segmenter, params
        self.updates_per_epoch, self.total_updates = updates_per_epoch, updates_per_epoch * epochs
        self._num_labeled, self._pseudo_weight, self._ramp_updates = num_labeled, pseudo_weight, ramp_updates
        self.loss_fn = build_loss(params.loss, class_weights).to(fabric.device)
        self.balance: list[dict[str, Any]] = []
        if params.train.compile:
            segmenter.network.compile()
        self.optimizer = build_optimizer(segmenter, params.optimizer)
        self._model, self._wrapped_optimizer = fabric.setup(segmenter, self.optimizer)
        self._average = self._new_average() if params.train.ema else None
        self.updates = 0
        self.skipped = 0
        self._watched = Watched(self.loss_fn.names, fabric.device)
        self._fp16 = params.train.precision == "fp16"  # its scaler meets infinite gradients, and skips them, by design
        self.looks_first = fabric.device.type == "cpu" or params.train.on_nonfinite == "skip"
        self.start_epoch()

    @property
    def averaged(self) -> Segmenter | None:
        """The moving average of the weights; None where `train.ema` is 0."""
        return self._average.module if self._average is not None else None

    def lr_at(self, update: int) -> float:
        """The learning rate of an update, counted from 0; the encoder's where that has its own is a multiple of it."""
        return self.params.optimizer.lr * self._factor(update)

    def start_epoch(self) -> None:
        """Begin a new mean of losses; the gradients of its first update are looked at."""
        self._model.train()
        # read seldom: reading them waits for the device
        self._sums = torch.zeros(len(self.loss_fn.names) + 1, device=self.fabric.device)
        self._gradient_norms = torch.zeros(len(self.loss_fn.names), device=self.fabric.device)
        self.losses, self._looks_at_gradients = 0, True

    @property
    def loss_sum(self) -> Tensor:
        """Of this epoch's `losses` losses so far, a scalar on the device."""
        return self._sums[0]

    def balance_terms(self, rows: list[dict[str, Any]]) -> None:
        """Take the factors of `rows` into the loss; none: leave its weights as they are."""
        self.balance = rows
        if rows:
            self.loss_fn.scale({row["term"]: row["factor"] for row in rows})

    def update(self, batches: Sequence[Batch]) -> None:
        """One step of the optimiser on `batches`, whose gradients are averaged.

        Raises NotFinite where this device can tell at once and `train.on_nonfinite` is stop; else see `settle`.
        """
        set_learning_rates(self.optimizer, self._factor(self.updates))
        seed = np.random.SeedSequence([self.params.seed, self.updates, self.fabric.global_rank])
        torch.manual_seed(int(seed.generate_state(1, np.uint64)[0]))  # of dropout
        self._wrapped_optimizer.zero_grad(set_to_none=True)
        terms = torch.zeros(len(self.loss_fn.names) + 1, device=self.fabric.device)
        for position, batch in enumerate(batches, start=1):
            with self.fabric.no_backward_sync(self._model, enabled=position < len(batches)):
                losses = self._losses(*self.fabric.to_device(batch))
                self.fabric.backward(losses[0] / len(batches))
            terms += losses.detach() / len(batches)
        terms = mean_over_ranks(terms, self.fabric)  # so that all ranks agree whether this update is finite
        norm = self._clip()
        finite = self._watched.note(self.updates, terms, norm)
        if self.looks_first and not finite:
            if self.params.train.on_nonfinite == "stop":
                self.settle()
            self.skipped += 1
        else:
            self._wrapped_optimizer.step()
            self._sums += terms
            self.losses += 1
            if self._average is not None:
                self._average.update_parameters(self.segmenter)
        self.updates += 1

    def settle(self) -> None:
        """Raise NotFinite if any update since the last call was not finite and `train.on_nonfinite` is stop.

        A GPU is asked only here, before its weights are used or saved: asking at every update would wait each time.
        """
        if self.params.train.on_nonfinite == "stop":
            self._watched.raise_first()

    def mean_loss(self) -> float:
        """Of the epoch's updates so far; NaN if all of them were skipped."""
        return self.loss_sum.item() / self.losses if self.losses else math.nan

    def term_values(self) -> dict[str, float]:
        """Of each term `loss_<term>`, its mean of the epoch, and `gradient_<term>`, its share of the gradient.

        The share is of the sum of all terms' norms, each by the logits of the labelled images in the epoch's first
        batch, weights and factors included; NaN where that was not finite, or 0 for all.
        """
        shares = (self._gradient_norms / self._gradient_norms.sum()).tolist()
        means = (self._sums[1:] / self.losses).tolist()
        names = self.loss_fn.names
        return {f"loss_{name}": mean for name, mean in zip(names, means, strict=True)} | {
            f"gradient_{name}": share for name, share in zip(names, shares, strict=True)
        }

    def align(self) -> None:
        """Make all ranks' networks equal to the first's, to the last bit."""
        align_buffers(self.segmenter, self.fabric)
        if self._average is not None:
            align_buffers(self._average, self.fabric)

    def state_dict(self) -> dict[str, Any]:
        """All that the next update depends on."""
        return {
            "updates": self.updates,
            "losses": self.losses,
            "skipped": self.skipped,
            "sums": self._sums,
            "gradient_norms": self._gradient_norms,
            "network": self.segmenter.network.state_dict(),
            "average": self._average.state_dict() if self._average is not None else {},
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler_state(self.fabric),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.updates, self.losses, self.skipped = state["updates"], state["losses"], state["skipped"]
        self._sums = state["sums"].to(self.fabric.device)
        self._gradient_norms = state["gradient_norms"].to(self.fabric.device)
        self._looks_at_gradients = False
        self.segmenter.network.load_state_dict(state["network"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        load_scaler_state(self.fabric, state["scaler"])

    def _factor(self, update: int) -> float:
        return lr_factor(self.params.scheduler, update, self.updates_per_epoch, self.total_updates)

    def _losses(self, images: Tensor, targets: Tensor, soft: Tensor | None = None) -> Tensor:
        """The weighted sum of the terms, then each term, of one batch."""
        logits, targets = self._model(images), targets.long()
        if self._looks_at_gradients:
            self._looks_at_gradients = False
            labeled = slice(self._num_labeled)
            norms = self.loss_fn.gradient_norms(logits[labeled], targets[labeled])
            # now, not when they are told: only the first rank's state is saved, and all ranks go on from it
            self._gradient_norms = mean_over_ranks(norms, self.fabric)
        return self.loss_of(logits, targets, soft)

    def loss_of(self, logits: Tensor, targets: Tensor, soft: Tensor | None = None) -> Tensor:
        """(1 + T,): the weighted sum of the terms, then each term, of one batch with int64 targets.

        `soft` are distributions, (M, C, H, W) uint8, of the pixels of all images without true labels.
        """
        losses = self.loss_fn.with_terms(logits[: self._num_labeled], targets[: self._num_labeled])
        if len(logits) > self._num_labeled:
            pseudo = self.loss_fn.with_terms(logits[self._num_labeled :], targets[self._num_labeled :], soft)
            losses = losses + self._pseudo_share() * pseudo
        return losses

    def _clip(self) -> Tensor:
        """Clip the gradients; return their norm before."""
        if self.params.train.clip_norm:
            limit = self.params.train.clip_norm
            norm = self.fabric.clip_gradients(
                self._model, self._wrapped_optimizer, max_norm=limit, error_if_nonfinite=False
            )
        elif self._fp16:
            norm = torch.zeros((), device=self.fabric.device)  # scaled, so of no use
        else:
            grads = [parameter.grad for parameter in self.segmenter.parameters() if parameter.grad is not None]
            norm = torch.nn.utils.get_total_norm(grads)
        return torch.zeros_like(norm) if self._fp16 else norm

    def _pseudo_share(self) -> float:
        """What the loss of pseudo-labelled images counts in this update."""
        return self._pseudo_weight * min((self.updates + 1) / max(self._ramp_updates, 1), 1.0)

    def _new_average(self) -> AveragedModel:
        """Of all weights and batch statistics; its decay rises to `train.ema`, so that the random start is forgotten.

        (1 + n) / (10 + n) after n updates, as in TensorFlow's ExponentialMovingAverage.
        """

        @torch.no_grad()
        def blend(averaged: list[Tensor], current: list[Tensor], _: Any) -> None:
            decay = min(self.params.train.ema, (1 + self.updates) / (10 + self.updates))
            if averaged[0].is_floating_point():
                torch._foreach_lerp_(averaged, current, 1 - decay)
            else:
                torch._foreach_copy_(averaged, current)  # batch normalisation counts its batches

        return AveragedModel(self.segmenter, multi_avg_fn=blend, use_buffers=True)
