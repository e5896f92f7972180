"""What a step of training costs with each penalty of `maso.penalties`, in plain steps.

    python benchmarks/penalties.py [--device cuda] [--network small_cnn] [--batch 256] [--rounds 30] [--threads 2]

The kinds of step take turns, so what else the machine does falls on all of them alike; medians and quartiles over the
rounds.  Float32, no CUDA graph.  "templates, a quarter" is what `templates` does by default.
"""

from __future__ import annotations

import argparse

import pandas as pd
import torch

from maso_book.ch06.cost import Cost, run_cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--network", default="small_cnn")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    with torch.device(options.device):
        tables, _ = run_cost(Cost(0, options.network, options.batch, options.rounds))
    wide = pd.DataFrame(tables["steps"]).pivot(index="round", columns="kind", values="step_seconds")
    ratios = wide.div(wide["plain"], axis=0)

    where = torch.cuda.get_device_name() if options.device == "cuda" else f"{options.threads} threads"
    print(f"torch {torch.__version__}, {where}, {options.network}, batches of {options.batch}\n")
    print(f"{'step':22s} {'ms':>8s} {'× plain':>8s} {'quartiles':>14s}")
    for kind in dict.fromkeys(row["kind"] for row in tables["steps"]):
        low, middle, high = ratios[kind].quantile([0.25, 0.5, 0.75])
        print(f"{kind:22s} {1000 * wide[kind].median():8.1f} {middle:8.2f} {low:6.2f} … {high:5.2f}")


if __name__ == "__main__":
    main()
