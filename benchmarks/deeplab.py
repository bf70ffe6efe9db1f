"""Our own DeepLabV3+ against smp's at equal encoder, stride, rates and width: time of a training step, and its cost.

Steps (forward, cross-entropy, backward) take turns in one process on the same batch; a figure is the median of the
paired ratios, above 1 where ours is faster. The clock is processor time of all threads on a CPU, which busy neighbours
disturb less than time on the wall, and time on the wall on a GPU.

    PYTHONPATH=src python benchmarks/deeplab.py --encoder tf_efficientnet_b0 --stride 16
    PYTHONPATH=src python benchmarks/deeplab.py --cost

`--cost` times nothing: it counts, on torch's meta device, multiply-accumulates of a forward pass of one 512x512 image,
and the tensor operations (each a kernel launch or more on a GPU) of forward and backward, and of MADGRAD's step.
"""

import argparse
import statistics
import time

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from optimizers import Calls, madgrad
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from turns import seconds, spread

from segpipe.models.deeplabv3 import DeepLabV3
from segpipe.training.engine import usable_precisions

CLASSES, WIDTH, SKIP = 12, 256, 48  # width and skip are smp's, and the paper's


def smp_plus(encoder: str, stride: int, rates: tuple[int, ...]) -> nn.Module:
    """smp's DeepLabV3+, separable as it is by default."""
    options = {"encoder_output_stride": stride, "decoder_atrous_rates": rates, "decoder_channels": WIDTH}
    return smp.DeepLabV3Plus(f"tu-{encoder}", encoder_weights=None, classes=CLASSES, **options)


def own(encoder: str, stride: int, rates: tuple[int, ...], *, plus: bool = True, separable: bool = True) -> nn.Module:
    """Ours, with smp's dropout of 0.5 behind the projection."""
    return DeepLabV3(
        encoder,
        CLASSES,
        output_stride=stride,
        atrous_rates=rates,
        channels=WIDTH,
        low_level_channels=SKIP if plus else None,
        separable=separable,
        dropout_encoder=0.0,
        dropout_levels=(),
        dropout_decoder=0.0,
        dropout_projection=0.5,
    )


def clock() -> float:
    """Seconds: of this process on a CPU, of the world once a GPU has done what was asked of it."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def measure(arguments: argparse.Namespace, precision: str, device: str) -> None:
    """Print a line of ratios for each network of our own."""
    named = arguments.encoder, arguments.stride, tuple(arguments.rates)
    networks = {
        "smp.DeepLabV3Plus": smp_plus(*named),
        "deeplabv3plus, separable": own(*named),
        "deeplabv3, separable": own(*named, plus=False),
    }
    networks["its encoder alone"] = networks["smp.DeepLabV3Plus"].encoder
    networks["our encoder alone"] = networks["deeplabv3plus, separable"].encoder
    for network in networks.values():
        network.to(device, memory_format=torch.channels_last).train()
    size = arguments.batch, 3, arguments.size, arguments.size
    images = torch.randn(size, device=device).to(memory_format=torch.channels_last)
    targets = torch.randint(0, CLASSES, (size[0], *size[2:]), device=device)

    def step(network: nn.Module) -> None:
        network.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            result = network(images)
        if isinstance(result, list):  # an encoder's features
            result[-1].float().mean().backward()
        else:
            F.cross_entropy(result.float(), targets).backward()

    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(arguments.pairs + 1):
        for name, network in networks.items():
            times[name].append(seconds(lambda network=network: step(network), clock))
    theirs = times.pop("smp.DeepLabV3Plus")[1:]
    print(f"{precision}, {arguments.encoder}, {size}, stride {arguments.stride}, rates {named[2]}, on {device}")
    print(f"  smp.DeepLabV3Plus: {1e3 * statistics.median(theirs):.0f} ms a step")
    for name, mine in times.items():
        print(f"  smp.DeepLabV3Plus / {name}: {spread([a / b for a, b in zip(theirs, mine[1:], strict=True)])} x")


def cost(network: nn.Module) -> tuple[float, int, int, int]:
    """GMAC of a forward pass at 512x512; operations of forward and backward, of MADGRAD's step, of the grouped one."""
    images = torch.empty(1, 3, 512, 512, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(images)
    network.train()
    with Calls() as step:
        network(images.expand(2, -1, -1, -1)).sum().backward()
    updates = []
    for grouped in (False, True):
        for parameter in network.parameters():
            parameter.grad = torch.empty_like(parameter)
        optimizer = madgrad(grouped, "meta")(network.parameters())
        optimizer.step()
        with Calls() as calls:
            optimizer.step()
        updates.append(calls.count)
    return counter.get_total_flops() / 2e9, step.count, *updates


def costs() -> None:
    """Print a row for each network: those of the libraries as they are built by default, and ours."""
    print(f"{'network at 512x512':<52}{'GMAC':>8}{'calls':>8}{'MADGRAD':>9}{'grouped':>9}")
    for encoder in ("tf_efficientnet_b0", "tf_efficientnet_b3", "tf_efficientnet_b7"):
        with torch.device("meta"):
            named = f"tu-{encoder}"
            rows = {
                "smp.DeepLabV3, its default (stride 8, dense)": smp.DeepLabV3(named, encoder_weights=None, classes=12),
                "smp.DeepLabV3Plus, its default (stride 16)": smp_plus(encoder, 16, (12, 24, 36)),
            }
            for stride in (8, 16, 32):
                rates = (6, 12, 18)
                rows[f"deeplabv3, dense, stride {stride}"] = own(encoder, stride, rates, plus=False, separable=False)
                rows[f"deeplabv3plus, separable, stride {stride}"] = own(encoder, stride, rates)
        for name, network in rows.items():
            gmac, step, plain, grouped = cost(network)
            label = f"{encoder.removeprefix('tf_efficientnet_')} {name}"
            print(f"{label:<52}{gmac:>8.1f}{step:>8,}{plain:>9,}{grouped:>9,}", flush=True)


def main() -> None:
    """Measure in each precision that this machine has, or count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="tf_efficientnet_b0")
    parser.add_argument("--stride", type=int, choices=(8, 16), default=16, help="smp's DeepLabV3+ has no other")
    parser.add_argument("--rates", type=int, nargs=3, default=[6, 12, 18])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=usable_precisions(), action="append")
    parser.add_argument("--cost", action="store_true", help="count, without time")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.cost:
        costs()
        return
    torch.set_num_threads(arguments.threads)
    for precision in arguments.precision or ["fp32"]:
        measure(arguments, precision, "cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
