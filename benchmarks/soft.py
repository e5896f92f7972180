"""`maso.BetaVQ` against `torch.nn.functional.silu`: forward, and forward with backward, in one run.

    python benchmarks/soft.py [--entries 1000000 10000000] [--rounds 30] [--threads 1] [--device cpu] [--compile]

The units take turns on the same tensor (N, 64, 16, 16) in float32, so what else the machine does falls on all of them
alike; each number is the fastest of the rounds, in milliseconds, with its ratio to silu.  A learnable β has a gradient
of its own besides that of the input.  `--compile` adds each unit under `torch.compile`, which needs a C++ compiler (on
a GPU, Triton) and makes one kernel of it.

The memory that a step frees is kept for the next one: else the time to get fresh pages, which every unit needs alike,
hides the difference, or falls on one of them by chance.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

import maso
from maso_book.memory import keep_freed

CHANNELS = 64

Unit = Callable[[Tensor], Tensor]


def units(device: str, compiled: bool) -> dict[str, Unit]:
    """The units by name, silu first."""
    made: dict[str, Unit] = {
        "silu": torch.nn.functional.silu,
        "fixed β": maso.BetaVQ(0.7).to(device),
        "learnable β": maso.BetaVQ(0.7, learnable=True).to(device),
        "fixed β per channel": maso.BetaVQ(0.7, channels=CHANNELS).to(device),
        "learnable β per channel": maso.BetaVQ(0.7, channels=CHANNELS, learnable=True).to(device),
    }
    if compiled:
        made |= {f"{name}, compiled": torch.compile(unit, dynamic=False) for name, unit in made.items()}
    return made


def measure(unit: Unit, x: Tensor, g: Tensor) -> tuple[float, float]:
    """Seconds of a forward pass without a gradient, and of one with its backward pass."""

    def clock() -> float:
        if x.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    start = clock()
    with torch.no_grad():
        unit(x)
    between = clock()
    x.grad = None
    unit(x).backward(g)
    return between - start, clock() - between


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed()
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"{options.threads} threads"
    print(f"torch {torch.__version__}, {where}, float32")
    for entries in options.entries:
        torch.compiler.reset()
        made = units(options.device, options.compile)
        x = torch.randn(entries // (CHANNELS * 256), CHANNELS, 16, 16, device=options.device).requires_grad_()
        g = torch.randn_like(x)
        for unit in made.values():
            measure(unit, x, g)
        rounds = [{name: measure(unit, x, g) for name, unit in made.items()} for _ in range(options.rounds)]
        best = {name: [min(each[name][i] for each in rounds) for i in (0, 1)] for name in made}
        print(f"\n{x.numel():,} entries\n{'':33s} {'forward':>8s} {'× silu':>7s} {'and backward':>13s} {'× silu':>7s}")
        for name, (forward, step) in best.items():
            ratios = forward / best["silu"][0], step / best["silu"][1]
            print(f"{name:33s} {1000 * forward:8.2f} {ratios[0]:7.2f} {1000 * step:13.2f} {ratios[1]:7.2f}")


if __name__ == "__main__":
    main()
