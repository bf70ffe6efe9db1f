"""One step of each optimiser in torch's or madgrad's plain form against its grouped and fused forms: time and bits.

The parameters are those of a member of params.yaml, the gradients noise of their size. Plain and other steps alternate
in one process, each on a copy of its own, and the figure is the median of the paired ratios. `same bits` compares all
parameters after the last step. `calls` counts the tensor operations of one step, each a launch or more on a GPU. On a
CPU the clock is processor time of one thread, which busy neighbours disturb little.

    PYTHONPATH=src python benchmarks/optimizers.py
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from segpipe.models.build import architecture
from segpipe.models.checkpoint import new_segmenter
from segpipe.params import load_params
from segpipe.training.optim import GroupedMADGRAD

Make = Callable[[Iterable[nn.Parameter]], Optimizer]


class Calls(TorchDispatchMode):
    """Counts tensor operations that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Called for each operation."""
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


class Trainee:
    """A copy of the model with an optimiser, its times, and the calls of its first step but one."""

    def __init__(self, model: nn.Module, make: Make) -> None:
        self.model = copy.deepcopy(model)
        self.optimizer = make(self.model.parameters())
        self.seconds: list[float] = []
        self.calls = 0

    def step(self, gradients: list[torch.Tensor]) -> None:
        """One timed step; the first makes the state, the second counts calls."""
        for parameter, gradient in zip(self.model.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone(memory_format=torch.preserve_format)
        if len(self.seconds) == 1:
            with Calls() as calls:
                self.optimizer.step()
            self.calls = calls.count
        start = clock()
        self.optimizer.step()
        self.seconds.append(clock() - start)

    def same_bits(self, other: "Trainee") -> bool:
        """Whether all parameters are equal."""
        pairs = zip(self.model.parameters(), other.model.parameters(), strict=True)
        return all(torch.equal(own, others) for own, others in pairs)


def clock() -> float:
    """Seconds: of this process on a CPU, of the world once a GPU has done what was asked of it."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def madgrad(grouped: bool, device: str) -> Make:
    """MADGRAD in one form or the other on any device."""
    form = type("Form", (GroupedMADGRAD,), {"grouped_on": device if grouped else "nowhere"})
    return lambda parameters: form(parameters, lr=0.002, momentum=0.9, weight_decay=1e-4)


def main() -> None:
    """Print a line for each form."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=41)
    parser.add_argument("--member", default="main")
    arguments = parser.parse_args()
    member = load_params().member(arguments.member)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    segmenter = new_segmenter(architecture(member.model, 12)).to(device, memory_format=torch.channels_last)
    shapes = list(segmenter.parameters())
    print(f"{member.model.encoder}: {len(shapes)} tensors, {sum(p.numel() for p in shapes):,} values, on {device}")
    adamw, sgd = {"lr": 1e-3, "weight_decay": 1e-2}, {"lr": 1e-2, "momentum": 0.9, "weight_decay": 1e-4}
    cases: list[tuple[str, Make, dict[str, Make]]] = [
        ("madgrad", madgrad(False, device), {"foreach": madgrad(True, device)}),
        (
            "adamw",
            lambda parameters: AdamW(parameters, foreach=False, **adamw),
            {form: lambda parameters, form=form: AdamW(parameters, **{form: True}, **adamw) for form in FORMS},
        ),
        (
            "sgd",
            lambda parameters: SGD(parameters, foreach=False, **sgd),
            {form: lambda parameters, form=form: SGD(parameters, **{form: True}, **sgd) for form in FORMS},
        ),
    ]
    for name, make_plain, forms in cases:
        plain = Trainee(segmenter, make_plain)
        others = {form: Trainee(segmenter, make) for form, make in forms.items()}
        for _ in range(arguments.pairs + 2):
            gradients = [torch.randn_like(parameter) for parameter in shapes]
            for trainee in (plain, *others.values()):
                trainee.step(gradients)
        print(f"{name}, plain: {1e3 * statistics.median(plain.seconds[2:]):.1f} ms, {plain.calls} calls")
        for form, other in others.items():
            pairs = zip(other.seconds[2:], plain.seconds[2:], strict=True)
            ratio = statistics.median(mine / theirs for mine, theirs in pairs)
            said = "same bits" if other.same_bits(plain) else "other bits"
            print(f"{name}, {form} / plain: {ratio:.2f} x, {other.calls} calls, {said}", flush=True)


FORMS = ("foreach", "fused")

if __name__ == "__main__":
    main()
