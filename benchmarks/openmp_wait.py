"""Seconds of one update of a member, idle and beside one busy process, for OpenMP threads that spin or sleep.

The setting is read when torch loads, so each case is a process of its own.

    PYTHONPATH=src python benchmarks/openmp_wait.py
"""

import os
import statistics
import subprocess
import sys
import time

from segpipe.params import load_params


def time_updates(member_name: str) -> float:
    """Median seconds of an update on one batch in memory, the first two not counted."""
    import torch

    from segpipe.losses.weighted_sum import build_loss
    from segpipe.models.build import architecture
    from segpipe.models.checkpoint import new_segmenter
    from segpipe.training.optim import build_optimizer

    member = load_params().member(member_name)
    torch.set_num_threads(member.train.threads)
    segmenter = new_segmenter(architecture(member.model, 12)).to(memory_format=torch.channels_last)
    loss_fn, optimizer = build_loss(member.loss), build_optimizer(segmenter, member.optimizer)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (member.train.batch_size, 3, 128, 128), generator=generator, dtype=torch.uint8)
    targets = torch.randint(0, 12, (member.train.batch_size, 128, 128), generator=generator)
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        loss = loss_fn(segmenter(images), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def measure(policy: str) -> float:
    """time_updates in a process of its own with OMP_WAIT_POLICY set."""
    environment = os.environ | {"OMP_WAIT_POLICY": policy}
    if policy == "default":
        del environment["OMP_WAIT_POLICY"]
    words = [sys.executable, __file__, "--one"]
    return float(subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print the four cases."""
    for neighbour in ("idle", "one busy process"):
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if neighbour != "idle" else None
        try:
            for policy in ("default", "PASSIVE"):
                print(f"{neighbour}, OMP_WAIT_POLICY {policy}: {measure(policy):.2f} s an update", flush=True)
        finally:
            if busy:
                busy.kill()


if __name__ == "__main__":
    if "--one" in sys.argv:
        print(time_updates("main"))
    else:
        main()
