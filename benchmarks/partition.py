"""Exact partitions: `maso.partition` against other ways, in one run.

    python benchmarks/partition.py [--nets 64 128 256 slice small_cnn resnet18 googlenet] [--threads 2] [--repeats 5]
    python benchmarks/partition.py --nets small_cnn-trained googlenet-trained resnet18-trained  # trains first, minutes
    python benchmarks/partition.py --device cuda  # the network's operators; cells are cut by the CPU all the same

Domain [−1, 1]², He weights, biases uniform in [−½, ½]; `slice` is conv 4@5×5/2, 8@3×3/2, dense 32, 10 on a plane
through three 32×32×3 inputs; the networks of images have random weights and a window around one input. With `-trained`
they have seen CIFAR-10 (smallCNN all of it once, GoogLeNet its first 20,000 images, ResNet-18 4,000; no memory is
stated, training took more), and the window is around a test image.

- `ours` is the public call, with outputs and certificates, and without the trace (`first call` has it).
- `floor` multiplies the network out at as many points as the partition has vertices, in float64: what a method that
  keeps values at vertices computes at the least, without finding a single region.
- `clipping` is the recursive clipping that the tests compare with, where it ends in reasonable time.
- `grid` takes the codes of a grid of as many points as there are regions, and counts those found: what most pictures of
  partitions are made of.

SplineCam is on no package index and SyReNN needs a server of its own, so they are not run here.  Each row runs in a
process of its own; ratios are to `ours`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import maso
from maso.partition import Plane, partition
from maso_book import datasets
from maso_book.datasets import import_torchvision
from maso_book.networks import resnet, small_cnn
from maso_book.shared import clipping as ch02_clipping
from maso_book.training import Training, fit

WIDTHS = {"64": (2, 64, 64, 1), "128": (2, 128, 128, 128, 1), "256": (2, 256, 256, 256, 256, 256, 1)}
WINDOWS = {"small_cnn": 0.011, "resnet18": 0.00084, "googlenet": 0.0048}  # half a side
WINDOWS |= {"small_cnn-trained": 0.005, "resnet18-trained": 0.00042, "googlenet-trained": 0.002}
SAMPLES = {"small_cnn-trained": 50_000, "resnet18-trained": 4_000, "googlenet-trained": 20_000}
CLIPPED = ("64",)  # ends in minutes


def _he(layer: Any) -> Any:
    nn.init.normal_(layer.weight, 0, (2 / layer.weight[0].numel()) ** 0.5)
    nn.init.uniform_(layer.bias, -0.5, 0.5)
    return layer


def setting(name: str) -> tuple[nn.Module, Plane]:
    """Network and window."""
    torch.manual_seed(0)
    if name in WIDTHS:
        layers = [m for a, b in pairwise(WIDTHS[name]) for m in (_he(nn.Linear(a, b)), nn.ReLU())]
        return nn.Sequential(*layers[:-1]).double(), Plane.square(-1, 1)
    if name == "slice":
        body = [_he(nn.Conv2d(3, 4, 5, 2)), nn.ReLU(), _he(nn.Conv2d(4, 8, 3, 2)), nn.ReLU(), nn.Flatten()]
        model = nn.Sequential(*body, _he(nn.Linear(288, 32)), nn.ReLU(), _he(nn.Linear(32, 10))).double()
        x = torch.rand(3, 3, 32, 32, dtype=torch.float64)
        return model, Plane(x[0], x[1] - x[0], x[2] - x[0])
    if name.startswith("googlenet"):
        model = import_torchvision().models.googlenet(num_classes=10, aux_logits=False, init_weights=False)
    else:
        model = small_cnn() if name.startswith("small_cnn") else resnet((64, 128, 256, 512), 2)
    inputs = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    if name in SAMPLES:
        inputs = _trained(model, SAMPLES[name])
    w = WINDOWS[name]
    return model.double().eval(), Plane.through(*inputs).window(-w, w, -w, w)


def _trained(model: nn.Module, samples: int) -> Tensor:
    """Train on the first images of CIFAR-10; returns the first three test images."""
    data = datasets.load("cifar10")
    x = datasets.to_tensor(data.x_train[:samples])
    y = torch.from_numpy(data.y_train[:samples]).long()
    fit(model, x, y, Training(1, 128, 3e-3, schedule="one-cycle", seed=0), progress=True)
    return datasets.to_tensor(data.x_test[:3], dtype=torch.float64)


def measure(name: str, way: str, points: int, repeats: int, device: str) -> dict[str, Any]:
    """Seconds, peak memory and count of one way."""
    model, plane = setting(name)
    if way != "clipping":
        model = model.to(device)
    s0, s1, t0, t1 = plane.bounds
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row: dict[str, Any] = {}
    times = []
    for i in range(1 if way == "clipping" else repeats + (way == "ours")):
        start = time.perf_counter()
        if way == "ours":
            p = partition(model, plane)
            row |= {"regions": len(p), "vertices": len(p.vertices), "certified": p.certified, "tiles": p.tiles}
        elif way == "floor":
            _multiply_out(model, plane.points(torch.zeros(1, 2)).to(device), points)
            if device == "cuda":
                torch.cuda.synchronize()
        elif way == "clipping":
            row["regions"] = len(ch02_clipping.partition(model, plane.origin, plane.u, plane.v, plane.bounds))
        else:
            n = max(2, round(points**0.5))
            s, t = torch.linspace(s0, s1, n), torch.linspace(t0, t1, n)
            row["regions"] = _codes_on(model, plane, torch.cartesian_prod(s, t), device)
        took = time.perf_counter() - start
        if way == "ours" and i == 0:
            row["first call"] = took
        else:
            times.append(took)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return row | {"seconds": min(times), "MB": peak / 1024}


def _multiply_out(model: nn.Module, x: Tensor, points: int) -> None:
    with torch.no_grad():
        for i in range(0, points, 1024):
            model(x.expand(min(1024, points - i), *x.shape[1:]))


def _codes_on(model: nn.Module, plane: Plane, coordinates: Tensor, device: str) -> int:
    found = set()
    for part in coordinates.split(2048):
        codes = maso.codes(model, plane.points(part).to(device))
        rows = torch.cat([c.flatten(1).byte() for c in codes.values()], 1).cpu().numpy()
        found |= {row.tobytes() for row in rows}
    return len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--nets", nargs="+", default=["64", "128", "256", "slice", "small_cnn", "resnet18", "googlenet"]
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--only", nargs=3, metavar=("NET", "WAY", "POINTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.only:
        name, way, points = options.only
        print(json.dumps(measure(name, way, int(points), options.repeats, options.device)))
        return
    where = torch.cuda.get_device_name() if options.device == "cuda" else "no GPU"
    print(f"torch {torch.__version__}, {options.threads} threads, {where}, float64")
    for name in options.nets:
        found: dict[str, dict[str, Any]] = {}
        images = name in WINDOWS
        for way in ("ours", "floor", "clipping", "grid"):
            if (way == "clipping" and name not in CLIPPED) or (images and way != "ours"):
                continue
            points = found["ours"]["vertices" if way == "floor" else "regions"] if found else 0
            command = [sys.executable, __file__, "--only", name, way, str(points)]
            command += ["--threads", str(options.threads), "--repeats", str(1 if images else options.repeats)]
            command += ["--device", options.device]
            found[way] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        ours = found["ours"]
        print(f"\n{name}: {ours['regions']:,} regions, {ours['vertices']:,} vertices, {ours['tiles']} tiles,", end=" ")
        print(f"certified: {ours['certified']}; first call {ours['first call']:.2f} s")
        for way, row in found.items():
            ratio, regions = row["seconds"] / ours["seconds"], row.get("regions", "")
            memory = "" if name in SAMPLES else f"{row['MB']:.0f} MB"
            print(f"{way:10s} {row['seconds']:9.4f} s {ratio:8.2f} × {memory:>10} {regions:>9}")


if __name__ == "__main__":
    main()
