"""The training loop: epochs of updates, tune images that choose among their weights, and a state to go on from."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader

from segpipe.data.dataset import EpochBatches, Key
from segpipe.interrupt import Interruption, leave_workers_to_loader
from segpipe.metrics.confusion import pooled_miou
from segpipe.models.checkpoint import STAGES_OF_TRAINING, Segmenter, save_weights
from segpipe.progress import first_process, say
from segpipe.stage import told_once
from segpipe.state import State
from segpipe.tables import write_history
from segpipe.training.balance import balance
from segpipe.training.display import TrainingDisplay
from segpipe.training.evaluate import Tune, evaluate
from segpipe.training.learner import Learner
from segpipe.training.outcome import Best, Fitted, closing_lines, out_of_patience
from segpipe.training.tracking.listener import Row
from segpipe.training.tracking.tracker import Tracker
from segpipe.training.watched import NotFinite


@dataclass(frozen=True)
class Around:
    """What a run tells, asks and leaves behind beside its weights."""

    state: State
    interruption: Interruption
    tracker: Tracker
    history_file: Path
    names: Callable[[list[Key]], list[str]]  # file names of their images


class Training:
    """A run of `epochs` epochs, from its state where there is one.

    Keeps in the state's folder the best weights on tune images (the first of equals) and those at a third, two thirds
    and the end of training; rewrites the history after each epoch, so that `dvc plots show` draws curves while it runs.
    """

    def __init__(
        self, learner: Learner, loader: DataLoader, batches: EpochBatches, tune: Tune, epochs: int, around: Around
    ) -> None:
        self.learner, self.loader, self.batches, self.tune, self.epochs = learner, loader, batches, tune, epochs
        self.around, self.state, self.train = around, around.state, learner.params.train
        self.epoch, self.finished, self.history = 1, False, list[Row]()
        self.best, self.confusions = Best(0, "raw", -math.inf), np.empty(0)
        at = (max(epochs // 3, 1), max(2 * epochs // 3, 1), epochs)
        self.snapshots = dict(zip(STAGES_OF_TRAINING, at, strict=True))
        self.saved_at = time.monotonic()

    def run(self) -> Fitted:
        """Train; raises ValueError where training cannot go on, SystemExit where it was asked to stop."""
        self._resume()
        if self.learner.params.loss.balance:
            balance(self.learner, self.loader, self.batches, self.around.history_file.with_name("loss_balance.csv"))
        left = [epoch for epoch in range(self.epoch, self.epochs + 1) if self._is_scored(epoch)]
        with TrainingDisplay(self.epochs, self.batches.updates, len(left), len(self.tune.indices)) as display:
            while not self.finished and self.epoch <= self.epochs and not self._out_of_patience():
                self._train_epoch(display)
                lr = self.learner.lr_at((self.epoch - 1) * self.batches.updates)
                row = {"epoch": self.epoch, "lr": lr, "train_loss": self._mean_loss(), "tune_miou": math.nan}
                row |= self.learner.term_values()
                scored = self._is_scored(self.epoch)
                if scored:
                    with display.scoring():
                        row |= self._score()
                self._end_epoch(row)
                display.end_epoch(row, scored=scored)
        return self._finish()

    def _train_epoch(self, display: TrainingDisplay) -> None:
        done = self.learner.updates - (self.epoch - 1) * self.batches.updates
        self.batches.epoch, self.batches.start = self.epoch, done
        if done == 0:
            self.learner.start_epoch()
        display.start_epoch(self.epoch, done)
        loaded = self._loaded()
        for _ in range(done, self.batches.updates):
            update = list(islice(loaded, self.train.accumulate))
            try:
                self.learner.update(update)
            except NotFinite as error:
                self._stop_on(error)
            images = sum(len(images) for images, *_ in update) * self.learner.fabric.world_size
            display.after_update(images, self.learner.loss_sum, self.learner.losses)
            self._between_updates()

    def _loaded(self) -> Iterator[Any]:
        try:
            loaded = iter(self.loader)
            leave_workers_to_loader()
            yield from loaded
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker (pid"):  # else an error that a worker met, and told of
                raise
            self._between_updates()  # a signal to the whole group ends workers too
            self._save()
            raise ValueError(
                f"a loader process died ({str(error).splitlines()[0]}), often for lack of memory, or of shared memory "
                "in a container (--shm-size). Lower train.workers, which changes no result, and run the same command "
                f"again: training goes on after update {self.learner.updates}"
            ) from error

    def _between_updates(self) -> None:
        """Save when it is time; stop when asked to. Also called between scored images."""
        if reason := self.around.interruption.reason:
            self._save()
            said = f"{reason}; saved after update {self.learner.updates} of {self.learner.total_updates}: "
            raise SystemExit(f"{said}the same command goes on from there" if first_process() else 1)
        if time.monotonic() - self.saved_at >= self.train.save_seconds:
            self._save()

    def _score(self) -> Row:
        """Score this epoch's weights, and their average where there is one; keep the best so far."""
        self.learner.align()
        candidates: dict[Literal["raw", "ema"], Segmenter] = {"raw": self.learner.segmenter}
        if self.learner.averaged is not None:
            candidates["ema"] = self.learner.averaged
        scores, shown = {}, []
        for weights, segmenter in candidates.items():
            confusions, examples = evaluate(
                segmenter,
                self.tune,
                self.learner.fabric,
                show=self.around.tracker.images,
                after_image=self._between_updates,
            )
            scores[weights] = pooled_miou(confusions)
            shown = shown or examples
            if self.best.epoch == 0 or scores[weights] > self.best.miou:
                self._keep(Best(self.epoch, weights, scores[weights]), segmenter, confusions)
        self.around.tracker.show(self.epoch, shown)
        row = {"tune_miou": max(scores.values())}
        return row | ({f"tune_miou_{name}": score for name, score in scores.items()} if len(scores) > 1 else {})

    def _keep(self, best: Best, segmenter: Segmenter, confusions: np.ndarray) -> None:
        self.best, self.confusions = best, confusions
        self.state.write(best.file, lambda path: save_weights(segmenter, path))

    def _end_epoch(self, row: Row) -> None:
        self.history.append(row)
        if first_process():
            write_history(self.history, self.around.history_file)
        self.around.tracker.log(row)
        for name, at in self.snapshots.items():
            if self.epoch == at or (self._out_of_patience() and self.epoch < at):  # the end came sooner
                self.state.write(f"{name}.safetensors", lambda path: save_weights(self.learner.segmenter, path))
        if not self.tune.indices and self.epoch == self.epochs:
            self._keep(Best(self.epoch, "raw", math.nan), self.learner.segmenter, np.empty(0))
        self.epoch += 1

    def _is_scored(self, epoch: int) -> bool:
        return bool(self.tune.indices) and (epoch % self.train.validate_every == 0 or epoch == self.epochs)

    def _out_of_patience(self) -> bool:
        return out_of_patience(self.history, self.best, self.train.patience)

    def _mean_loss(self) -> float:
        self._settle()
        loss = self.learner.mean_loss()
        if self.learner.skipped:
            say(f"train: {self.learner.skipped} updates were not finite and skipped so far")
        if math.isnan(loss):
            with told_once():  # as in `_stop_on`
                raise ValueError(
                    f"every update of epoch {self.epoch} was skipped as not finite; lower optimizer.lr, or set "
                    "train.on_nonfinite: stop to see where it begins"
                )
        return loss

    def _settle(self) -> None:
        try:
            self.learner.settle()
        except NotFinite as error:
            self._stop_on(error)

    def _stop_on(self, error: NotFinite) -> None:
        if self.learner.looks_first:
            self._write_state()  # the weights are those before this update
        update = error.update - (self.epoch - 1) * self.batches.updates
        images = ", ".join(self.around.names(self.batches.update_keys(update)))
        values = ", ".join(f"{name} {value:.4g}" for name, value in error.values.items())
        with told_once():  # all ranks agree on what is finite
            raise ValueError(
                f"update {error.update + 1} (epoch {self.epoch}) is not finite: {values}. Its images: {images}. Lower "
                "optimizer.lr, or set train.on_nonfinite: skip. The last good state stays in "
                f"{self.state.folder}"
            ) from error

    def _save(self) -> None:
        self._settle()
        self._write_state()

    def _write_state(self) -> None:
        learner = self.learner.state_dict() if first_process() else {}
        self.state.save({"epoch": self.epoch, "finished": False, "learner": learner} | self._said())
        self.saved_at = time.monotonic()
        self._remove_old_weights()

    def _remove_old_weights(self) -> None:
        """Only after a save: until then what was saved before names them."""
        self.state.remove_weights(but={self.best.file, *(f"{name}.safetensors" for name in self.snapshots)})

    def _said(self) -> dict[str, Any]:
        confusions = torch.from_numpy(self.confusions)
        said = {"history": self.history, "best": asdict(self.best), "confusions": confusions}
        return said | {"balance": self.learner.balance}

    def _resume(self) -> None:
        saved = self.state.load()
        if saved is None:
            return
        self.history, self.best = saved["history"], Best(**saved["best"])
        self.confusions = saved["confusions"].numpy()
        self.learner.balance_terms(saved["balance"])
        if saved["finished"]:
            self.finished = True
            say("train: this run was finished before; its weights are taken as they are")
        else:
            self.epoch = saved["epoch"]
            self.learner.load_state_dict(saved["learner"])
            say(f"train: going on after update {self.learner.updates} of {self.learner.total_updates}")
        if first_process() and self.history:
            write_history(self.history, self.around.history_file)
        for row in self.history:
            self.around.tracker.log(row)

    def _finish(self) -> Fitted:
        if not self.finished:
            self.state.finish({"epoch": self.epoch, "finished": True} | self._said())
            self._remove_old_weights()
        for line in closing_lines(self.history, self.best, self.epochs):
            say(f"train: {line}")
        return Fitted(self.history, self.best, self.confusions)
