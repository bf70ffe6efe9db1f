"""The learning rate of every update of a member's training, as text for a terminal: a small curve and its moments."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from segpipe.doctor.extent import training_images
from segpipe.params import OptimizerParams, Params, SchedulerParams
from segpipe.show.chosen import chosen_member
from segpipe.training.schedule import MADGRAD_EPS, base_rates, floor_warning, lr_factor

COLUMNS, ROWS = 60, 5  # of the curve, in characters
MANY_STEPS = 8  # of more, the first few and the last are listed
_EIGHTHS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Schedule:
    """What a member trains with in one round, and for how long."""

    member: str
    round: str
    optimizer: OptimizerParams
    scheduler: SchedulerParams
    epochs: int
    updates_per_epoch: int
    extent: str  # in words: images, where counted, images in an update

    @property
    def total_updates(self) -> int:
        """Of the whole training."""
        return self.epochs * self.updates_per_epoch

    @cached_property
    def factors(self) -> list[float]:
        """What the rates are multiplied by at each update."""
        updates, total = self.updates_per_epoch, self.total_updates
        return [lr_factor(self.scheduler, update, updates, total) for update in range(total)]

    @property
    def rates(self) -> dict[str, float]:
        """What the factors multiply, by part of the network."""
        return base_rates(self.optimizer)

    @property
    def warning(self) -> str | None:
        """Of MADGRAD's floor."""
        return floor_warning(self.optimizer, self.scheduler, self.updates_per_epoch, self.total_updates)


def plan_schedule(params: Params, member_name: str | None, round_: str) -> Schedule:
    """That of a member (the first, for None) in the first of `split.train_folds`; `round_` is one of ROUNDS.

    Raises ValueError for an unknown member or round, and where there are no data whose training images can be counted.
    """
    name = chosen_member(params, member_name, round_)
    member, fold = params.member(name), params.split.train_folds[0]
    images, source = training_images(params, fold)
    size = member.train.batch_size
    return Schedule(
        member=name,
        round=round_,
        optimizer=member.optimizer,
        scheduler=member.scheduler,
        epochs=member.train.epochs if round_ == "baseline" else member.retrain.epochs,
        # as data.dataset.EpochBatches counts; pseudo-labelled images come beside the labelled ones
        updates_per_epoch=max(images // size, 1),
        extent=f"{images} training images of fold {fold} (from {source}), {size} in an update",
    )


def moments(schedule: Schedule) -> dict[int, str]:
    """Updates worth a line, counted from 0 and in order, and what happens there."""
    total, factors, scheduler = schedule.total_updates, schedule.factors, schedule.scheduler
    said: dict[int, list[str]] = {0: ["start"]}
    warmup = scheduler.warmup_updates if scheduler.name != "onecycle" else 0
    if 0 < warmup < total:
        said.setdefault(warmup, []).append("warm-up is over")
    if max(factors) > min(factors):
        said.setdefault(factors.index(max(factors)), []).append("highest")
    for quarter in (1, 2, 3):
        said.setdefault(quarter * total // 4, []).append(f"{25 * quarter} %")
    if scheduler.name == "step":
        length = scheduler.step_epochs * schedule.updates_per_epoch
        steps = [update for update in range(length, total, length) if update >= warmup]
        for number, update in enumerate(steps, start=1):
            if len(steps) <= MANY_STEPS or number < MANY_STEPS / 2 or number == len(steps):
                said.setdefault(update, []).append(f"step {number} of {len(steps)}")
    said.setdefault(total - 1, []).append("end" if warmup < total else "end, still in warm-up")
    return {update: ", ".join(said[update]) for update in sorted(said)}


def to_text(schedule: Schedule) -> str:
    """All of it, ready to print."""
    return "\n".join(_lines(schedule))


def heading(schedule: Schedule) -> str:
    """Who trains with what, for how long."""
    counts = f"{schedule.total_updates} updates: {schedule.epochs} epochs of {schedule.updates_per_epoch}"
    return f"{schedule.member}, {schedule.round}: {schedule.optimizer.name}, {schedule.scheduler.name}, {counts}"


def _lines(schedule: Schedule) -> Iterator[str]:
    yield heading(schedule)
    yield schedule.extent
    yield ""
    yield from curve(schedule)
    yield ""
    yield f"{'update':>8}{'epoch':>8}" + "".join(f"{title:>12}" for title in titles(schedule))
    for update, said in moments(schedule).items():
        epoch, factor = update // schedule.updates_per_epoch + 1, schedule.factors[update]
        cells = "".join(f"{rate * factor:>12.3g}" for rate in schedule.rates.values())
        yield f"{update + 1:>8}{epoch:>8}{cells}   {said}"
    if note := eps_note(schedule):
        yield note
    if schedule.warning:
        yield f"warning: {schedule.warning}"


def titles(schedule: Schedule) -> list[str]:
    """Column heads of the rates."""
    return ["lr" if part == "all" else f"lr {part}" for part in schedule.rates]


def eps_note(schedule: Schedule) -> str:
    """What the optimiser makes of these rates, where it is not what they say."""
    return f"madgrad adds {MADGRAD_EPS:g} to each rate but 0" if schedule.optimizer.name == "madgrad" else ""


def curve(schedule: Schedule) -> Iterator[str]:
    """The first rate over the updates in block characters, from 0 to its highest."""
    total, rate = schedule.total_updates, next(iter(schedule.rates.values()))
    shown = [schedule.factors[column * total // COLUMNS] for column in range(COLUMNS)]
    highest = max(schedule.factors) or 1.0
    # what is not 0 shows at least one eighth of a character
    eighths = [max(round(value / highest * ROWS * 8), value > 0) for value in shown]
    for row in reversed(range(ROWS)):
        label = f"{rate * highest:.3g}" if row == ROWS - 1 else ""
        yield f"{label:>9} ┤" + "".join(_EIGHTHS[min(max(value - 8 * row, 0), 8)] for value in eighths).rstrip()
    yield f"{'0':>9} └" + "─" * COLUMNS
    yield f"{'update':>9}  1{total:>{COLUMNS - 1}}"
