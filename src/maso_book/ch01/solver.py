"""Statements about layers and networks, decided by a solver for all inputs (experiment 01-proofs)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import nn

from maso import MASO, exact, from_layer
from maso_book.ch01.formulas import KINDS, Kind, arrays
from maso_book.experiment import Rows
from maso_book.shared.layers import Absolute, draw

WEIGHTS = NONNEGATIVE, BOTH_SIGNS, COUNTEREXAMPLE = "nonnegative", "both signs", "counterexample"
"""The networks whose convexity is decided, by the weights of all layers but the first."""
CONVERSE = "2 relu(x) − relu(x)"
"""The network that refutes "only if": convex, with a negative weight."""
Pair = list[tuple[float, float]]
"""Two inputs x and y, coordinate by coordinate."""


@dataclass(frozen=True)
class Proofs:
    """Random small networks (2-3-2-1, weights k/8) for each statement about networks."""

    seed: int
    networks: int


def run_proofs(config: Proofs) -> tuple[Rows, dict[str, np.ndarray]]:
    """Decide with a solver: layers equal MASOs, MASOs are convex, networks are affine on cells, and who is convex.

    Columns that end in `seconds` are the solver's time.

    Table `layers`, a row for each kind of layer, proved for one small instance of it: `kind`; number of `inputs` and of
    `outputs`; `equal`, it equals the formula by hand; `from_layer_equal`, so does what `from_layer` builds; `convex`,
    the formula is; `equal_seconds`, `convex_seconds`.

    Table `masos`, a row for each number of `pieces`: `convex`, a maximum of so many affine functions is; `seconds`.

    Table `networks`, a row for each random network: number of its `codes`; `affine`, it is on the cell of each of them;
    `lipschitz`, it is with the constant of its weights; `affine_seconds`, `lipschitz_seconds`.

    Table `convexity`, a row for each network: `weights`, one of `WEIGHTS`; `network`, its number or formula; `convex`,
    proved or refuted; `smallest_later_weight`, of all layers but the first; `seconds`.

    Table `witnesses`, a row for each coordinate of the pairs x, y that refute convexity: `weights`, `network`,
    `coordinate`, `x`, `y`.

    Array `violation`, (241, 2): the smallest such pair of a random network, as `_along` gives it.
    """
    rng = np.random.default_rng(config.seed)
    tables: dict[str, list[dict[str, Any]]] = {
        "layers": [_prove_layer(kind, rng) for kind in KINDS],
        "masos": [_prove_any_maso(pieces) for pieces in (2, 3, 4)],
        "networks": [_prove_network(_network(rng, "any")) for _ in range(config.networks)],
        "convexity": [],
        "witnesses": [],
    }
    kinks = [nn.LeakyReLU(0.25) if i % 2 else nn.ReLU() for i in range(config.networks)]
    nonnegative = [_network(rng, "nonnegative", kink) for kink in kinks]
    both_signs = [_network(rng, "any") for _ in range(config.networks)]
    groups = (_numbered(nonnegative), _numbered(both_signs), counterexamples())
    violations = []
    for weights, nets in zip(WEIGHTS, groups, strict=True):
        for name, net in nets.items():
            row, pair = _prove_convex(net)
            tables["convexity"].append({"weights": weights, "network": name, **row})
            tables["witnesses"] += [
                {"weights": weights, "network": name, "coordinate": i, "x": x, "y": y} for i, (x, y) in enumerate(pair)
            ]
            if pair and weights == BOTH_SIGNS:
                violations.append((net, pair))
    if not violations:
        return tables, {}
    return tables, {"violation": _along(*min(violations, key=lambda found: np.abs(found[1]).max()))}


def _numbered(nets: Sequence[nn.Sequential]) -> dict[str, nn.Sequential]:
    return {str(number): net for number, net in enumerate(nets)}


def _along(net: nn.Module, pair: Pair) -> np.ndarray:
    """The network on the line through a pair of inputs x (t = 0) and y (t = 1): columns t and value, (241, 2)."""
    x, y = torch.tensor(pair, dtype=torch.float64).T
    t = torch.linspace(-0.25, 1.25, 241, dtype=torch.float64)[:, None]
    with torch.no_grad():
        return torch.cat([t, net(x + t * (y - x))], 1).numpy()


def _prove_layer(kind: Kind, rng: np.random.Generator) -> dict[str, Any]:
    """Layer ≡ hand formula ≡ `from_layer`, and the formula is convex, for all inputs of one instance."""
    layer, shape = kind.layers()[0]
    draw(layer.double().eval(), "generic", rng)
    x, out = exact.terms(layer, shape)
    y = exact.terms(layer, shape, name="y")[0]
    m = MASO(*arrays(kind.formula(layer, shape), len(x)))
    formula = exact.maso_terms(m, x)
    equal = exact.prove(_all(a == b for a, b in zip(out, formula, strict=True)))
    built = exact.prove(
        _all(a == b for a, b in zip(exact.maso_terms(from_layer(layer, shape), x), formula, strict=True))
    )
    convex = [exact.prove(s) for s in _midpoint(lambda z: exact.maso_terms(m, z), x, y)]  # one output at a time
    return {
        "kind": kind.name,
        "inputs": len(x),
        "outputs": len(out),
        "equal": equal.holds,
        "from_layer_equal": built.holds,
        "convex": all(proof.holds for proof in convex),
        "equal_seconds": equal.seconds,
        "convex_seconds": sum(proof.seconds for proof in convex),
    }


def _prove_any_maso(pieces: int) -> dict[str, Any]:
    """max_r is midpoint convex whatever the slopes and offsets: the pieces' values at x and y are free variables."""
    import z3

    p, q = z3.Reals([f"p{r}" for r in range(pieces)]), z3.Reals([f"q{r}" for r in range(pieces)])
    largest = _largest(p), _largest(q), _largest([(a + b) / 2 for a, b in zip(p, q, strict=True)])
    proof = exact.prove(2 * largest[2] <= largest[0] + largest[1])
    return {"pieces": pieces, "convex": proof.holds, "seconds": proof.seconds}


def _prove_network(net: nn.Sequential) -> dict[str, Any]:
    """On the cell of every code the network is A_q x + b_q (by hand); and it is Lipschitz, hence continuous."""
    import z3

    W, c = zip(*((exact.fractions(dense.weight), exact.fractions(dense.bias)) for dense in _dense(net)), strict=True)
    x, (out,) = exact.terms(net, (2,))
    y, (other,) = exact.terms(net, (2,), name="y")
    statements = []
    for code in itertools.product((0, 1), repeat=len(W[0]) + len(W[1])):
        gates = [code[: len(W[0])], code[len(W[0]) :]]
        A, b = np.array([[1, 0], [0, 1]], dtype=object), np.array([0, 0], dtype=object)
        inside = []
        for layer in range(3):
            A, b = W[layer] @ A, W[layer] @ b + c[layer]
            if layer < 2:
                z = [_linear(A[k], b[k], x) for k in range(len(b))]
                inside += [v > 0 if on else v <= 0 for v, on in zip(z, gates[layer], strict=True)]
                A, b = np.array(gates[layer])[:, None] * A, np.array(gates[layer]) * b
        statements.append(z3.Implies(z3.And(inside), out == _linear(A[0], b[0], x)))
    affine = exact.prove(z3.And(statements))
    reach = np.ones((1, 1), dtype=object)
    for matrix in reversed(W):
        reach = reach @ np.abs(matrix)
    distance = sum(z3.If(a > b, a - b, b - a) for a, b in zip(x, y, strict=True))
    bound = z3.RealVal(max(reach[0])) * distance
    lipschitz = exact.prove(z3.And(out - other <= bound, other - out <= bound))
    return {
        "codes": len(statements),
        "affine": affine.holds,
        "lipschitz": lipschitz.holds,
        "affine_seconds": affine.seconds,
        "lipschitz_seconds": lipschitz.seconds,
    }


def _prove_convex(net: nn.Sequential) -> tuple[dict[str, Any], Pair]:
    """Midpoint convexity for all pairs of inputs, or else a pair that violates it."""
    shape = (_dense(net)[0].in_features,)
    x, y = (exact.terms(net, shape, name=name)[0] for name in "xy")
    proof = exact.prove(_all(_midpoint(lambda z: exact.at(net, shape, z), x, y)))
    refuting = proof.counterexample
    pair = (
        [(float(refuting.get(f"x{d}", 0)), float(refuting.get(f"y{d}", 0))) for d in range(*shape)] if refuting else []
    )
    smallest = min(float(dense.weight.detach().min()) for dense in _dense(net)[1:])
    return {"convex": proof.holds, "smallest_later_weight": smallest, "seconds": proof.seconds}, pair


def counterexamples() -> dict[str, nn.Sequential]:
    """Small networks around the "only if": one is convex with a negative later weight, the others are not convex.

    Example:
        >>> net = counterexamples()["2 relu(x) − relu(x)"]
        >>> net(torch.tensor([[-3.0], [3.0]], dtype=torch.float64)).flatten().tolist()
        [0.0, 3.0]
    """
    specs: dict[str, tuple[nn.Module, list[tuple[list[list[float]], list[float]]]]] = {
        CONVERSE: (nn.ReLU(), [([[1], [1]], [0, 0]), ([[2, -1]], [0])]),
        "2·|0| − |x|": (Absolute(), [([[0], [1]], [0, 0]), ([[2, -1]], [0])]),
        "||x| − 1|": (Absolute(), [([[1]], [0]), ([[1]], [-1]), ([[1]], [0])]),
    }
    nets = {}
    for name, (kink, layers) in specs.items():
        modules: list[nn.Module] = []
        for weight, bias in layers:
            dense = nn.Linear(len(weight[0]), len(weight), dtype=torch.float64)
            dense.weight.data, dense.bias.data = (torch.tensor(v, dtype=torch.float64) for v in (weight, bias))
            modules += [dense, deepcopy(kink)]
        nets[name] = nn.Sequential(*modules[:-1])
    return nets


def _network(rng: np.random.Generator, later: str, kink: nn.Module | None = None) -> nn.Sequential:
    """A 2-3-2-1 network with weights k/8; `later` "nonnegative" makes all weights after the first layer ≥ 0."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((2, 3), (3, 2), (2, 1)):
        dense = nn.Linear(inputs, outputs).double()
        draw(dense, "generic", rng)
        if layers and later == "nonnegative":
            dense.weight.data.abs_()
        layers += [dense, kink or nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _dense(net: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in net if isinstance(layer, nn.Linear)]


def _all(statements: Any) -> Any:
    import z3

    return z3.And(list(statements))


def _largest(terms: Sequence[Any]) -> Any:
    import z3

    out = terms[0]
    for term in terms[1:]:
        out = z3.If(term > out, term, out)
    return out


def _linear(a: Sequence[Fraction], b: Fraction, x: Sequence[Any]) -> Any:
    import z3

    return sum((z3.RealVal(w) * v for w, v in zip(a, x, strict=True)), z3.RealVal(b))


def _midpoint(function: Callable[[list[Any]], list[Any]], x: list[Any], y: list[Any]) -> list[Any]:
    """2 f((x + y)/2) ≤ f(x) + f(y), one statement per output."""
    middle = function([(a + b) / 2 for a, b in zip(x, y, strict=True)])
    return [2 * m <= a + b for m, a, b in zip(middle, function(x), function(y), strict=True)]
