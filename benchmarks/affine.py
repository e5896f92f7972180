"""Per-input affine maps: `maso.affine_map` against the obvious ways and against the arithmetic floor, in one run.

    python benchmarks/affine.py [--batch 256] [--networks small_cnn resnet18] [--threads 2] [--device cuda]

All rows compute A (N, 10, 3, 32, 32) and b (N, 10) in float32.  `floor` is the time of K + 1 forward passes, the
arithmetic that any dense method needs; `plain loop` takes K vector–Jacobian products of the whole batch; `jacrev` is
`torch.func.vmap(jacrev(f))`, 16 samples at a time.  Each row runs in a process of its own, so that its peak memory is
its own (on a GPU, the GPU's); ratios are to the floor.  `first call` includes the trace.  `judge` is what each call
spends on asking the model itself whether the graph is right.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import maso
from maso_book.datasets import import_torchvision
from maso_book.networks import small_cnn

K = 10


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "small_cnn":
        return small_cnn().eval()
    model = getattr(import_torchvision().models, name)(num_classes=K)
    if name.startswith("resnet"):  # the stem for 32×32 images: no stride, no pooling
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model.eval()


def floor(model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        for part in x.split(16):
            for _ in range(K + 1):
                model(part)


def plain_loop(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    y = model(leaf)
    A = torch.stack([torch.autograd.grad(y[:, k].sum(), leaf, retain_graph=True)[0] for k in range(K)], 1)
    return A, y.detach() - torch.einsum("nkd,nd->nk", A.flatten(2), x.flatten(1))


def jacrev(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    def one(v: Tensor) -> tuple[Tensor, Tensor]:
        y = model(v[None])[0]
        return y, y

    A, y = torch.func.vmap(torch.func.jacrev(one, has_aux=True), chunk_size=16)(x)
    return A, y - torch.einsum("nkd,nd->nk", A.flatten(2), x.flatten(1))


WAYS: dict[str, Callable] = {
    "ours": maso.affine_map,
    "plain loop": plain_loop,
    "jacrev": jacrev,
    "floor": floor,
    "judge": maso.trace,
}


def measure(name: str, way: str, options: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(options.threads)
    cuda = options.device == "cuda"
    model, x = network(name).to(options.device), torch.randn(options.batch, 3, 32, 32).to(options.device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def timed(samples: Tensor) -> float:
        start = time.perf_counter()
        WAYS[way](model, samples)
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    first = timed(x[:1])
    times = [timed(x) for _ in range(options.repeats)]
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else kilobytes / 1024
    return {"seconds": min(times), "first call": first, "MB": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--networks", nargs="+", default=["small_cnn", "resnet18"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--only", nargs=2, metavar=("NETWORK", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        name, way = options.only
        print(json.dumps(measure(name, way, options)))
        return
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"{options.threads} threads"
    print(f"torch {torch.__version__}, {where}, batch {options.batch} at 32×32, {K} rows, float32")
    for name in options.networks:
        found = {}
        for way in sorted(WAYS, key="floor".__ne__):
            command = [sys.executable, __file__, "--only", name, way, "--batch", str(options.batch)]
            command += ["--threads", str(options.threads), "--repeats", str(options.repeats)]
            command += ["--device", options.device]
            found[way] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"\n{name:12s} {'seconds':>8s} {'× floor':>8s} {'peak MB':>8s} {'first call s':>13s}")
        for way, row in found.items():
            ratio = row["seconds"] / found["floor"]["seconds"]
            print(f"{way:12s} {row['seconds']:8.2f} {ratio:8.2f} {row['MB']:8.0f} {row['first call']:13.2f}")


if __name__ == "__main__":
    main()
