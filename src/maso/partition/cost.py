"""What a partition costs: counted, never timed, so that two runs decide the same.

How many centres are forwarded, vertices looked at closely and tiles cut follows from the number of operations, each
weighed by the nanoseconds it takes on one machine (`constants`).  On another machine the decisions are the same, and
about as good: only ratios of costs are compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

from maso.graph import Graph, Node, ancestors
from maso.partition.constants import CALL, CHOICE, MULTIPLICATION, NUMBER, OPERATOR, PATCH, SAMPLE, SHARE


@dataclass
class Cost:
    """What a run has cost so far: its affine operators, and all that is done at the vertices; how many operators."""

    affine: float = 0.0
    vertices: float = 0.0
    operators: int = 0

    @property
    def total(self) -> float:
        """Of both."""
        return self.affine + self.vertices

    @property
    def closely(self) -> float:
        """Of a look at a small window, where the operators themselves cost most."""
        return self.total + OPERATOR * self.operators


_COUNTED: WeakKeyDictionary[Graph, dict[Node, float]] = WeakKeyDictionary()


def row_costs(graph: Graph, model: Any) -> dict[Node, float]:
    """What every affine operator costs for one row, its call apart; counted once for a graph."""
    if graph not in _COUNTED:
        weights = graph.bind(model)
        _COUNTED[graph] = {node: _row_cost(node, weights) for node in graph.nodes if node.kind == "affine"}
    return _COUNTED[graph]


def point_cost(graph: Graph, model: Any) -> float:
    """What it costs to forward one of many points."""
    choices = sum(
        math.prod(node.shape) if node.kind == "gate" else node.selection.index.numel() for node in graph.kinks.values()
    )
    return sum(row_costs(graph, model).values()) + CHOICE * choices + CALL * len(graph.nodes) / SAMPLE


def _row_cost(node: Node, weights: dict[Node, Tensor]) -> float:
    """Each number of a weight multiplies once for every position; a convolution first copies what it reads there."""
    numbers = NUMBER * math.prod(node.shape)
    constants = [n for n in node.operands if not n.dynamic]
    used = ancestors(constants, lambda n: n.operands)
    matrices = [weights[n] for n in used if n in weights and weights[n].ndim > 1]
    if not matrices:
        return numbers
    weight = max(matrices, key=Tensor.numel)
    if node.op.startswith("conv"):
        positions = math.prod(node.shape[1:])
        return numbers + positions * (MULTIPLICATION * weight.numel() + PATCH * weight[0].numel())
    return numbers + math.prod(node.shape[:-1]) * MULTIPLICATION * weight.numel()


def centres_to_check(regions: int, run: float, point: float) -> int:
    """How many regions are forwarded at their centre.

    All where that costs no more than the run, else as many as cost `SHARE` of it, at least `SAMPLE`.

    Args:
        regions: number of regions.
        run, point: cost of the run and of one forwarded point.
    """
    if point * regions <= run:
        return regions
    return min(regions, max(SAMPLE, int(SHARE * run / point)))
