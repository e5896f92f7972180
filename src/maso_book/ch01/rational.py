"""Layers equal their MASOs on random rationals, exactly (experiment 01-rational)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from maso import exact
from maso_book.ch01.formulas import KINDS, value
from maso_book.shared.layers import draw, draw_input

FLAVOURS = list(
    itertools.product(("generic", "zero weights", "zero bias", "duplicate rows"), ("generic", "few values", "constant"))
)
"""Kinds of random weights and inputs; all but the first pair are edge cases."""


@dataclass(frozen=True)
class Rational:
    """Cases of each kind of layer, half of them generic, half edge cases. The claim counts all seeds."""

    seed: int
    cases: int


def run_rational(config: Rational) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Compare three exact values for each case: hand formula, `exact.evaluate`, PyTorch's forward pass."""
    rng = np.random.default_rng(config.seed)
    rows = []
    for kind in KINDS:
        layers = [(layer.double().eval(), shape) for layer, shape in kind.layers()]
        count = dict.fromkeys(("cases", "edge", "ties", "outputs", "mismatches"), 0)
        for case in range(config.cases):
            layer, shape = layers[case // 2 % len(layers)]
            flavour = FLAVOURS[0] if case % 2 else FLAVOURS[1 + case // 2 % (len(FLAVOURS) - 1)]
            draw(layer, flavour[0], rng)
            x = draw_input(shape, flavour[1], rng)
            by_hand, tie = value(kind.formula(layer, shape), x)
            by_package = list(exact.evaluate(layer, x).flat)
            with torch.no_grad():
                by_torch = [Fraction(v) for v in layer(torch.from_numpy(x)[None]).flatten().tolist()]
            count["cases"] += 1
            count["edge"] += flavour != FLAVOURS[0]
            count["ties"] += tie
            count["outputs"] += len(by_hand)
            count["mismatches"] += not (by_hand == by_package == by_torch)
        rows.append({"kind": kind.name, "pieces": kind.pieces} | count)
    return {"layers": rows}, {}
