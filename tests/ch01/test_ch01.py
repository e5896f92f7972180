"""Chapter 01: its proof sides against PyTorch, its verdicts on made-up records, the artists of its figures."""

from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from maso import MASO, affine_map
from maso_book import networks, records
from maso_book.ch01 import experiments as ch01
from maso_book.ch01 import figures as plots
from maso_book.ch01.formulas import KINDS, arrays, matrix, value
from maso_book.ch01.frozen import freeze
from maso_book.ch01.hand import block_factors, hand_factors, product
from maso_book.ch01.networks import ClosedForm
from maso_book.ch01.rates import ONE, TARGETS, TWO, errors, slopes, tangents, two_masos
from maso_book.ch01.solver import Proofs, counterexamples, run_proofs
from maso_book.records import Record
from maso_book.results import compute
from maso_book.shared.layers import draw, draw_input

BY_NAME = {experiment.name: experiment for experiment in ch01.EXPERIMENTS}


def record(experiment: str, metrics: dict, arrays: dict | None = None, seed: int = 0, **config: object) -> Record:
    return Record(experiment, {"seed": seed} | config, metrics, arrays or {}, {}, "0" * 16)


def judged(claim: str, results: dict[str, list[Record]]) -> str:
    return next(v.outcome for v in ch01.verdicts(results) if v.claim == claim)


# The formulas written by hand


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_formula_equals_torch_and_its_own_tensors(kind) -> None:
    rng = np.random.default_rng(0)
    for layer, shape in kind.layers():
        layer.double().eval()
        draw(layer, "generic", rng)
        x = draw_input(shape, "generic", rng)
        formula = kind.formula(layer, shape)
        with torch.no_grad():
            out = layer(torch.from_numpy(x)[None]).flatten()
        assert value(formula, x)[0] == [Fraction(v) for v in out.tolist()]
        m = MASO(*arrays(formula, x.size))
        assert torch.equal(m(torch.from_numpy(x).reshape(1, -1))[0], out)


def test_a_wrong_formula_is_noticed() -> None:
    rng = np.random.default_rng(0)
    layer = nn.Linear(3, 2).double()
    draw(layer, "generic", rng)
    x = draw_input((3,), "generic", rng)
    kind = next(kind for kind in KINDS if kind.name == "dense")
    formula = kind.formula(layer, (3,))
    with torch.no_grad():
        layer.weight[0, 0] += 2.0**-40
        out = layer(torch.from_numpy(x)[None]).flatten()
    assert value(formula, x)[0] != [Fraction(v) for v in out.tolist()]


def test_ties_are_seen() -> None:
    kind = next(kind for kind in KINDS if kind.name == "ReLU")
    formula = kind.formula(nn.ReLU(), (2,))
    assert value(formula, np.array([0.0, 1.0])) == ([0, 1], True)
    assert value(formula, np.array([-1.0, 1.0])) == ([0, 1], False)


# The frozen network and the factors by hand


def test_frozen_network_is_affine_and_agrees_where_it_was_frozen() -> None:
    torch.manual_seed(0)
    model = networks.small_cnn((1, 24, 24), 3).eval().double()
    x, z, w = torch.randn(3, 2, 1, 24, 24, dtype=torch.float64)
    frozen = freeze(model, x)
    with torch.no_grad():
        assert torch.equal(frozen(x), model(x))
        assert not torch.allclose(frozen(z), model(z))
    mixed = frozen(0.3 * z + 0.7 * w)
    assert torch.allclose(mixed, 0.3 * frozen(z) + 0.7 * frozen(w), rtol=1e-12)


def test_freezing_handles_relu6_in_place() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 50), nn.ReLU6(inplace=True), nn.Linear(50, 2)).double()
    x = 20 * torch.randn(5, 4, dtype=torch.float64)
    assert torch.allclose(freeze(model, x)(torch.zeros_like(x)), affine_map(model, x).b, rtol=1e-11)


def test_factors_by_hand_multiply_to_the_network() -> None:
    torch.manual_seed(0)
    block = networks.Block(1, 2, 2, bn=True, bias=True)
    model = nn.Sequential(block, nn.Conv2d(2, 2, 2), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(2, 2))
    model = model.double().eval()
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    A, b = product(hand_factors(model, x), 36)
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(A @ x.numpy().ravel() + b), model(x)[0], rtol=1e-12)
    body, skip, last, shape = block_factors(block, x.numpy().ravel(), (1, 6, 6))
    assert [len(body), len(skip), last[0], shape] == [5, 2, "A_σ", (2, 3, 3)]


def test_matrix_of_batchnorm() -> None:
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(2).double()
    layer(torch.randn(4, 2, 3, 3, dtype=torch.float64))
    layer.eval()
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64)
    A, b = matrix(layer, (2, 3, 3))
    with torch.no_grad():
        assert np.allclose(A @ x.numpy().ravel() + b, layer(x).numpy().ravel(), rtol=1e-12)


# Two MASOs


@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize("target", TARGETS)
def test_two_masos_interpolate_at_every_corner(dimension: int, target: str) -> None:
    f, _ = TARGETS[target]
    cells = 5
    m, weights = two_masos(f, cells, dimension)
    axis = np.linspace(-1, 1, cells + 1)
    corners = np.stack(np.meshgrid(*[axis] * dimension, indexing="ij"), -1).reshape(-1, dimension)
    assert errors(f, m, weights, corners)[0] < 1e-12
    assert cells**dimension * dimension == m.R


def test_two_masos_are_exact_on_affine_functions() -> None:
    m, weights = two_masos(lambda x: 3 * x[:, 0] - x[:, 1] + 2, 4, 2)
    points = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    assert errors(lambda x: 3 * x[:, 0] - x[:, 1] + 2, m, weights, points)[0] < 1e-12


def test_tangent_planes_lie_below_the_target() -> None:
    rng = np.random.default_rng(0)
    m = tangents(np.zeros(2), 20, rng)
    points = rng.uniform(-1, 1, (500, 2))
    assert (m(torch.from_numpy(points))[:, 0].numpy() <= TARGETS["smooth convex"][0](points) + 1e-12).all()


def rates(slope_of_seed: dict[int, float]) -> list[Record]:
    def rows(slope: float) -> list[dict]:
        return [
            {"dimension": 1, "target": "smooth convex", "method": method, "pieces": R, "largest": R**slope, "rms": 0.0}
            for method in (TWO, ONE)
            for R in (4, 8, 16)
        ]

    return [record("01-rates", {"errors": rows(slope)}, seed=seed) for seed, slope in slope_of_seed.items()]


def test_slopes_and_their_interval() -> None:
    found, _ = slopes(rates({0: -1.9, 1: -2.0, 2: -2.1}))
    assert found.mean == pytest.approx(-2)
    assert found.low == pytest.approx(-2 - 4.303 * 0.1 / 3**0.5, abs=1e-3)
    assert (found.theory, found.seeds) == (-2, 3)


@pytest.mark.parametrize(
    ("slope", "seeds", "outcome"),
    [(-2.02, 5, "holds"), (-1.5, 5, "holds with conditions"), (0.2, 5, "does not hold"), (-2.0, 4, "not tested")],
)
def test_verdict_on_rates(slope: float, seeds: int, outcome: str) -> None:
    results = {"01-rates": rates({seed: slope + 1e-3 * seed for seed in range(seeds)})}
    assert judged("01.4", results) == outcome


# The solver


def test_proofs_of_small_networks() -> None:
    metrics, curves = run_proofs(Proofs(0, 1))
    assert all(row["equal"] and row["from_layer"] and row["convex"] for row in metrics["layers"])
    assert all(row["holds"] for row in metrics["any MASO"])
    assert all(row["affine"] and row["lipschitz"] for row in metrics["networks"])
    assert all(row["convex"] for row in metrics["convex"])
    assert [row["convex"] for row in metrics["only if"]] == [True, False, False]
    assert metrics["only if"][0]["smallest later weight"] == -1
    found = record("01-proofs", metrics, curves)
    assert judged("01.3", {"01-proofs": [found]}) == "holds"
    figure = plots.converse(found)
    assert len(figure.axes) == 4
    plt.close(figure)


def test_witnesses_violate_convexity() -> None:
    metrics, _ = run_proofs(Proofs(1, 1))
    for net, row in zip(counterexamples().values(), metrics["only if"], strict=True):
        if row["witness"]:
            x, y = (torch.tensor([row["witness"][end]], dtype=torch.float64) for end in "xy")
            with torch.no_grad():
                assert float(net((x + y) / 2)) > float(net(x) + net(y)) / 2


# Verdicts


def layers(cases: int, mismatches: int) -> list[Record]:
    row = {"kind": "dense", "pieces": "1", "cases": cases, "edge": 0, "ties": 0, "outputs": 1, "mismatches": mismatches}
    return [record("01-rational", {"layers": [row]}, seed=seed) for seed in range(2)]


def proofs(equal: bool = True, convex: bool = True) -> list[Record]:
    row = {"kind": "dense", "instance": "2 → 2", "equal": equal, "from_layer": True, "convex": convex}
    row |= {"equal_seconds": 0.001}
    metrics = {
        "layers": [row],
        "any MASO": [{"holds": True}],
        "networks": [{"affine": True, "lipschitz": True}],
        "convex": [{"convex": convex}],
        "mixed signs": [{"convex": False}],
        "only if": [{"convex": True, "smallest later weight": -1.0}],
    }
    return [record("01-proofs", metrics)]


def test_nothing_recorded_is_not_tested() -> None:
    assert {v.outcome for v in ch01.verdicts({})} == {"not tested"}


@pytest.mark.parametrize(
    ("cases", "mismatches", "equal", "outcome"),
    [
        (500, 0, True, "holds"),
        (499, 0, True, "not tested"),
        (500, 1, True, "does not hold"),
        (500, 0, False, "does not hold"),
    ],
)
def test_verdict_on_layers(cases: int, mismatches: int, equal: bool, outcome: str) -> None:
    results = {"01-rational": layers(cases, mismatches), "01-proofs": proofs(equal)}
    assert judged("01.1", results) == outcome
    assert f"| dense | 1 | {2 * cases:,} |" in plots.layer_table(*results.values())


@pytest.mark.parametrize(
    ("families", "error", "convex", "outcome"),
    [
        (6, 1e-13, True, "holds"),
        (5, 1e-13, True, "not tested"),
        (6, 1e-11, True, "does not hold"),
        (7, 1e-13, True, "holds"),
        (6, 1e-13, False, "does not hold"),
    ],
)
def test_verdict_on_composition(families: int, error: float, convex: bool, outcome: str) -> None:
    rows = [{"network": f"net{i}", "at x": 0.0, "b": error, "far from x": 0.0} for i in range(families)]
    found = [record("01-families", {"networks": rows})]
    assert judged("01.2", {"01-proofs": proofs(convex=convex), "01-families": found}) == outcome
    figure = plots.families(found)
    drawn = np.concatenate([line.get_xdata() for line in figure.axes[0].lines[:3]])
    assert sorted({float(x) for x in drawn}) == pytest.approx([plots.SMALLEST, error])
    plt.close(figure)


def test_one_family_that_misses_is_named() -> None:
    rows = [{"network": f"net{i}", "at x": 0.0, "b": 1e-13, "far from x": 2e-12 * (i == 6)} for i in range(7)]
    found = ch01.verdicts({"01-proofs": proofs(), "01-families": [record("01-families", {"networks": rows})]})[1]
    assert found.outcome == "holds"
    assert "not to that: net6 (2.0e-12)" in found.evidence


@pytest.mark.parametrize(
    ("draws", "images", "dataset", "error", "outcome"),
    [
        (5, 1000, "cifar10", 1e-13, "holds"),
        (5, 1000, "cifar10", 1e-11, "does not hold"),
        (4, 1000, "cifar10", 1e-13, "not tested"),
        (5, 999, "cifar10", 1e-13, "not tested"),
        (5, 1000, "digits", 1e-13, "not tested"),
    ],
)
def test_verdict_on_real_images(draws: int, images: int, dataset: str, error: float, outcome: str) -> None:
    metrics = {"images": images, "images with another code": 3, "largest error64": error, "largest slope error": 0.1}
    records = [record("01-resnet", metrics, seed=seed, dataset=dataset) for seed in range(draws)]
    assert judged("01.6", {"01-resnet": records}) == outcome


@pytest.mark.parametrize(
    ("curved", "relu", "named", "outcome"),
    [
        (1.0, 0.0, "gelu", "holds"),
        (0.98, 0.0, "gelu", "does not hold"),
        (1.0, 0.02, "gelu", "does not hold"),
        (1.0, 0.0, None, "does not hold"),
    ],
)
def test_verdict_on_what_is_no_maso(curved: float, relu: float, named: str | None, outcome: str) -> None:
    metrics = {"networks": ["GELU", "ReLU network"], "refused as": {"GELU": named, "ReLU network": None}}
    share = np.array([[1.0, curved], [0.5, relu]])
    assert judged("01.7", {"01-not-maso": [record("01-not-maso", metrics, {"share": share})]}) == outcome


# Experiments that are quick enough to run here


def test_closed_form_experiment_and_its_figure() -> None:
    found = compute(BY_NAME["01-closed-form"], ClosedForm(3))
    assert judged("01.5", {"01-closed-form": [found]}) == "holds"
    figure = plots.factors(found)
    assert len(figure.subfigs) == 3
    assert [len(part.axes) for part in figure.subfigs] == [7, 7, 8]
    plt.close(figure)


def test_envelope_shows_every_cell() -> None:
    m = MASO(torch.tensor([[[-1.0], [0.0], [1.0]]]), torch.tensor([[0.0, 0.5, 0.0]]))
    figure = plots.envelope(m)
    assert [text.get_text() for text in figure.axes[1].texts] == ["r = 1", "r = 2", "r = 3"]
    plt.close(figure)


def test_configurations_of_every_profile_have_a_name_of_their_own() -> None:
    for experiment in ch01.EXPERIMENTS:
        for profile in ("quick", "paper", "full"):
            names = [records.content_hash(experiment.name, config) for config in experiment.grid(profile)]
            assert len(set(names)) == len(names)
        assert experiment.grid("paper") == experiment.grid("full")
