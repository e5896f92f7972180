"""Partitions of random networks of all kinds against recursive clipping, which shares no code with `maso.partition`.

Half of the networks have random weights, half small dyadic ones, with arrangements that are anything but general
(`maso_book.shared.random_networks`). The second half is compared with cells in exact rationals where there are few of
them, and so is every network on which the two differ in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import maso
from maso.errors import MasoError
from maso.graph import Forward, Node, entries
from maso.operators import Selection
from maso.partition import Partition, Plane, partition
from maso_book.experiment import Rows
from maso_book.shared import clipping
from maso_book.shared.comparison import ERRORS, Comparison, compare
from maso_book.shared.random_networks import degenerate, generic

FIRST = 1_000_000
"""Where the seeds of the networks begin: none of them is among those that the tests try."""
RATIONAL = 40
"""Dyadic networks with at most so many regions are compared in rationals."""
MAKERS = (("random", generic), ("small dyadic", degenerate))


@dataclass(frozen=True)
class Random:
    """A block of random networks, half of them with random and half with small dyadic weights."""

    seed: int
    networks: int = 250


def run_random(config: Random) -> tuple[Rows, dict[str, np.ndarray]]:
    """Partition every network of the block twice, by `maso.partition` and by clipping, and compare all regions.

    Returns:
        Tables: `kinds` with rows of `kind` (of `KINDS`), `compared` (networks), `regions` and `mismatches` (networks);
        `blocks`, one row: `rational_networks` compared in rationals, `undecided_regions` whose code float64 does not
        decide at the centre, and the largest errors of `maso_book.shared.comparison`; `alarms`, a row for each network
        that the engine refused: `weights`, `network_seed`, `message`; `differences`, a row for each difference found:
        `weights`, `network_seed`, `difference`. No arrays.
    """
    kinds = {kind: {"compared": 0, "regions": 0, "mismatches": 0} for kind in KINDS}
    block: dict[str, Any] = {"rational_networks": 0, "undecided_regions": 0, **dict.fromkeys(ERRORS, 0.0)}
    alarms: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    for i in range(config.networks):
        (weights, make), seed = MAKERS[i % 2], FIRST + config.seed * config.networks + i
        which = {"weights": weights, "network_seed": seed}
        model, plane = make(seed)
        try:
            p = partition(model, plane)
        except MasoError as error:
            alarms.append({**which, "message": str(error)})
            continue

        comparison, rational = _compared(p, model, seed, rational=make is degenerate and len(p) <= RATIONAL)
        differences += [{**which, "difference": line} for line in comparison.wrong]
        block["rational_networks"] += rational
        block["undecided_regions"] += comparison.unsure
        for name, error in comparison.errors.items():
            block[name] = max(block[name], error)

        for kind in (f"{weights} weights", *kinds_of(model, p)):
            kinds[kind]["compared"] += 1
            kinds[kind]["regions"] += len(p)
            kinds[kind]["mismatches"] += bool(comparison.wrong)
    occurring = [{"kind": kind, **row} for kind, row in kinds.items() if row["compared"]]
    return {"kinds": occurring, "blocks": [block], "alarms": alarms, "differences": differences}, {}


def _compared(p: Partition, model: nn.Module, seed: int, *, rational: bool) -> tuple[Comparison, bool]:
    """The comparison, and whether it was made in rationals: where asked, and where it fails in float64.

    A difference in float64 does not say which of the two rounding led astray.
    """
    comparison = _against_clipping(p, model, seed, Fraction if rational else float)
    if comparison.wrong and not rational:
        return _against_clipping(p, model, seed, Fraction), True
    return comparison, rational


def _against_clipping(p: Partition, model: nn.Module, seed: int, number: type) -> Comparison:
    plane = p.plane
    cells = clipping.partition(model, plane.origin, plane.u, plane.v, plane.bounds, number)
    return compare(p, model, cells, np.random.default_rng(seed))


# Kinds of networks ----------------------------------------------------------------------------------------------------

PARTS: dict[str, type[nn.Module]] = {
    "convolutions": nn.Conv2d,
    "a loop": clipping.Loop,
    "max pools": nn.MaxPool2d,
    "maxout": clipping.Maxout,
    "a maximum of two branches": clipping.Larger,
    "skips": clipping.Residual,
    "concatenation": clipping.Concat,
    "batch norm": nn.BatchNorm2d,
}
KINDS = (
    "random weights",
    "small dyadic weights",
    "dense layers alone",
    *PARTS,
    "no biases",
    "a unit twice, up to a positive factor",
    "a unit and its negative, up to a positive factor",
    "a dead unit",
    "an always-on unit",
    "a tie in a maximum on a whole region",
)
"""Everything that a network may count for, in the order of tables."""


def kinds_of(model: nn.Module, p: Partition) -> list[str]:
    """The kinds that a network counts for: what it is made of, and what is degenerate about it."""
    modules = list(model.modules())
    kinds = [name for name, kind in PARTS.items() if any(isinstance(m, kind) for m in modules)]
    if not {"a loop", "convolutions"} & set(kinds):
        kinds.append("dense layers alone")
    rows = [_rows(m) for m in modules if isinstance(m, (nn.Linear, nn.Conv2d, nn.RNNCell))]
    degeneracies = {
        "no biases": not any(r[:, -1].any() for r in rows),
        "a unit twice, up to a positive factor": any(_meet(r, r) for r in rows),
        "a unit and its negative, up to a positive factor": any(_meet(r, -r) for r in rows),
        **_degenerate_choices(model, p.plane, p),
    }
    return [*kinds, *(name for name, present in degeneracies.items() if present)]


def _rows(m: nn.Module) -> np.ndarray:
    """Weights and bias of every unit, divided by the largest of them: (units, inputs + 1)."""
    parts = [v.detach().reshape(len(v), -1) for n, v in m.named_parameters(recurse=False) if "weight" in n]
    biases = [v.detach() for n, v in m.named_parameters(recurse=False) if "bias" in n]
    rows = torch.cat([*parts, torch.stack(biases).sum(0)[:, None]], 1).numpy()
    return rows / np.abs(rows).max(1, keepdims=True, initial=1e-300)


def _meet(rows: np.ndarray, others: np.ndarray) -> bool:
    """Whether a row that is not zero is among the others, at another place."""
    equal = np.all(rows[:, None] == others[None], axis=2) & np.any(rows, axis=1)[:, None]
    np.fill_diagonal(equal, False)
    return bool(equal.any())


def _degenerate_choices(model: nn.Module, plane: Plane, p: Partition) -> dict[str, bool]:
    """Units that never or always are on in the window, and equal largest entries on a whole region."""
    graph = maso.trace(model, plane.origin[None])
    codes = p.forward(codes=True).codes
    gates = [codes[path] for path, node in graph.kinks.items() if node.kind == "gate"]
    ties = _Ties()
    with torch.no_grad():
        graph.read(model, plane.points(p.centres), ties)
    return {
        "a dead unit": any((pieces == 0).all(0).any() for pieces in gates),
        "an always-on unit": any((pieces == 1).all(0).any() for pieces in gates),
        "a tie in a maximum on a whole region": ties.found,
    }


class _Ties(Forward):
    """Notes whether the largest entry of a window occurs twice in it."""

    found = False

    def selection(self, node: Node, selection: Selection, values: list[Tensor]) -> Tensor:
        out = super().selection(node, selection, values)
        z, index = entries(values), selection.index
        equal = (z[:, index.clamp(min=0)] == out.reshape(len(z), -1, 1)) & (index >= 0)
        self.found |= bool((equal.sum(2) > 1).any())
        return out
