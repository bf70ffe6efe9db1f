"""What was measured of a member, as plain numbers, and what they say: the bottleneck, precision, threads, workers."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

from segpipe.doctor.finding import Finding, gib
from segpipe.doctor.machine import Machine

WORTHWHILE = 1.1  # a change that brings less is not worth other last digits
CONVINCING = 1.5  # what a single pass must show, which says nothing of the noise
IDLE = 0.1  # share of an epoch spent on data that is not worth a loader process


@dataclass(frozen=True)
class Spread:
    """Images per second over a few passes."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, rates: list[float]) -> Self:
        """Of at least one rate."""
        ordered, middle = sorted(rates), len(rates) // 2
        median = ordered[middle] if len(rates) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
        return cls(ordered[0], median, ordered[-1])


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of training: of the device on a GPU, of the whole process on a CPU."""

    weights: int  # and the statistics of normalisation layers
    gradients: int
    optimizer: int
    activations: int  # with the kernels' working buffers: what the others leave of the peak
    process: int  # Python, libraries and data; 0 on a GPU
    peak: int


@dataclass(frozen=True)
class Measured:
    """One member. `model` and `both` give rates for each precision; `both` is a short epoch as training runs it."""

    member: str
    architecture: str
    image_size: tuple[int, int]
    batch_size: int
    precision: str  # that params.yaml asks for; `memory` was measured with it
    threads: int
    workers: int
    device: str
    source: str  # of the images
    encoder_parameters: int
    decoder_parameters: int
    gmac: float  # 1e9 multiply-accumulates of a forward pass of one image
    memory: Memory
    retrain_images: int  # in an update of `retrain`: pseudo-labelled ones beside the batch
    checkpoints: int  # bytes of weights that a run keeps of this member in data/models
    data: Spread
    model: dict[str, Spread]
    both: dict[str, Spread]
    more_threads: Spread | None  # model only, in the configured precision, with as many threads as cores
    updates: int  # counted in each pass
    passes: int

    @property
    def retrain_peak(self) -> int:
        """Bytes at the peak of `retrain`, by the rule that activations grow with the images of an update."""
        more = self.retrain_images / self.batch_size - 1
        return self.memory.peak + round(more * self.memory.activations)

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The inverse of to_json."""
        rates = {name: {key: Spread(**rate) for key, rate in value[name].items()} for name in ("model", "both")}
        more = value["more_threads"]
        made = {"memory": Memory(**value["memory"]), "data": Spread(**value["data"]), **rates}
        made |= {"more_threads": Spread(**more) if more else None, "image_size": tuple(value["image_size"])}
        return cls(**(value | made))


def data_share(measured: Measured, precision: str) -> float:
    """The share of an epoch, 0 to 1, in which the model waits for data; the rest is the model's.

    Without loader processes loading and training take turns, so their times are simply added. With them they overlap:
    what the epoch takes longer than the model alone is waiting, and competition for cores.
    """
    model, both = measured.model[precision].median, measured.both[precision].median
    if measured.workers == 0:
        return (1 / measured.data.median) / (1 / measured.data.median + 1 / model)
    return max(0.0, 1 - both / model)


def clearly_faster(found: Spread, than: Spread, passes: int) -> bool:
    """Whether every pass is faster than every pass of the other, and the median by enough to be worth a change."""
    enough = WORTHWHILE if passes > 1 else CONVINCING
    return found.low > than.high and found.median >= enough * than.median


def faster_precision(measured: Measured) -> tuple[str, float]:
    """The precision whose short epoch is fastest, and by which factor; the configured one (1.0) unless it is clear."""
    ours = measured.both[measured.precision]
    clear = {
        name: rate.median / ours.median
        for name, rate in measured.both.items()
        if clearly_faster(rate, ours, measured.passes)
    }
    best = max(clear, key=clear.__getitem__, default=measured.precision)
    return best, clear.get(best, 1.0)


def judge(measured: Measured, machine: Machine, gpu_memory: int | None) -> list[Finding]:
    """Advice on train.precision, train.threads, train.workers and memory for one member."""
    findings = [_precision(measured), _workers(measured, machine)]
    if measured.device == "cpu":
        findings.append(_threads(measured, machine))
    return [*findings, _memory(measured, machine, gpu_memory)]


def _precision(measured: Measured) -> Finding:
    best, factor = faster_precision(measured)
    ours = measured.both[measured.precision]
    compared = [
        f"{name} {rate.median / ours.median:.2f} x its speed{_doubt(rate, ours)}"
        for name, rate in measured.both.items()
        if name != measured.precision
    ]
    found = "; ".join([measured.precision, *compared])
    if best == measured.precision:
        return Finding("precision", "ok", found)
    advice = f"train.precision: {best} trains {factor:.1f} times as fast here; check that the score stays"
    return Finding("precision", "warn", found, advice)


def _doubt(rate: Spread, other: Spread) -> str:
    overlap = rate.low <= other.high and other.low <= rate.high
    return ", but their passes overlap: no clear difference" if overlap else ""


def _workers(measured: Measured, machine: Machine) -> Finding:
    share = data_share(measured, measured.precision)
    found = f"{measured.workers}; an epoch spends {share:.0%} on data, {1 - share:.0%} on the model".replace("%", " %")
    if share <= IDLE:
        return Finding("workers", "ok", found)
    each = measured.data.median / max(measured.workers, 1)
    needed = math.ceil(1.2 * measured.model[measured.precision].median / each)  # a fifth in reserve
    # on a CPU a loader process takes its core from the model
    spare = machine.threads - (measured.threads if measured.device == "cpu" else 1)
    wanted = min(needed, max(spare, 0))
    if wanted > measured.workers:
        return Finding("workers", "warn", found, f"set train.workers to {wanted}: the model waits for its images")
    if needed > measured.workers:
        return Finding("workers", "ok", f"{found}; no core is left for a loader process")
    return Finding("workers", "ok", f"{found}; more of them would not load faster than the model learns")


def _threads(measured: Measured, machine: Machine) -> Finding:
    found = f"{measured.threads} on {machine.cores:g} cores"
    if measured.more_threads is None:
        return Finding("threads", "ok", found)
    ours = measured.model[measured.precision]
    factor = measured.more_threads.median / ours.median
    found += f"; {machine.threads} give {factor:.2f} x the speed"
    if clearly_faster(measured.more_threads, ours, measured.passes):
        advice = f"set train.threads to {machine.threads}; results then differ in their last digits"
        return Finding("threads", "warn", found, advice)
    return Finding("threads", "ok", found)


def _memory(measured: Measured, machine: Machine, gpu_memory: int | None) -> Finding:
    peak, room, where = measured.retrain_peak, machine.memory_free, "free memory"
    if measured.device != "cpu" and gpu_memory:
        room, where = gpu_memory, "the GPU's memory"
    found = f"{gib(peak)} in retrain, whose updates hold {measured.retrain_images} images, of {gib(room)}, {where}"
    advice = "lower train.batch_size, retrain.ratio or data.image_size"
    if peak > room:
        return Finding("memory", "bad", found, advice)
    if peak > 0.8 * room:
        return Finding("memory", "warn", found, f"{advice}, or stop other programs: little is left")
    return Finding("memory", "ok", found)
