"""Layers equal their MASOs on random rationals, exactly (experiment 01-rational)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import nn

from maso import exact
from maso_book.ch01.formulas import KINDS, Kind, value
from maso_book.experiment import Rows
from maso_book.shared.layers import draw, draw_input

FLAVOURS = list(
    itertools.product(("generic", "zero weights", "zero bias", "duplicate rows"), ("generic", "few values", "constant"))
)
"""Kinds of random weights and inputs; all but the first pair are edge cases."""
GENERIC, *EDGES = FLAVOURS


@dataclass(frozen=True)
class Rational:
    """Cases of each kind of layer, half of them generic, half edge cases. The claim counts all seeds."""

    seed: int
    cases: int


def run_rational(config: Rational) -> tuple[Rows, dict[str, np.ndarray]]:
    """Compare three exact values for each case: hand formula, `exact.evaluate`, PyTorch's forward pass.

    Table `layers`, a row for each kind of layer: `kind`; `pieces`, its R; of its cases the number of `edge_cases`, of
    `ties` (some output is largest on several pieces) and of `mismatches` (the values are not all equal); `outputs`, the
    number of values compared.
    """
    rng = np.random.default_rng(config.seed)
    return {"layers": [_compare(kind, config.cases, rng) for kind in KINDS]}, {}


def _compare(kind: Kind, cases: int, rng: np.random.Generator) -> dict[str, str | int]:
    layers = [(layer.double().eval(), shape) for layer, shape in kind.layers()]
    count = dict.fromkeys(("edge_cases", "ties", "outputs", "mismatches"), 0)
    for case in range(cases):
        layer, shape = layers[case // 2 % len(layers)]
        flavour = GENERIC if case % 2 else EDGES[case // 2 % len(EDGES)]
        draw(layer, flavour[0], rng)
        x = draw_input(shape, flavour[1], rng)

        by_hand, tie = value(kind.formula(layer, shape), x)
        equal = by_hand == list(exact.evaluate(layer, x).flat) == _forward(layer, x)

        count["edge_cases"] += flavour != GENERIC
        count["ties"] += tie
        count["outputs"] += len(by_hand)
        count["mismatches"] += not equal
    return {"kind": kind.name, "pieces": kind.pieces, **count}


def _forward(layer: nn.Module, x: np.ndarray) -> list[Fraction]:
    """PyTorch's own outputs for one input."""
    with torch.no_grad():
        return [Fraction(v) for v in layer(torch.from_numpy(x)[None]).flatten().tolist()]
