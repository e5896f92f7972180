"""Chapter 01: its proof sides against PyTorch, its verdicts on made-up records, the artists of its figures."""

import math
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from maso import MASO, affine_map
from maso_book import networks, records
from maso_book.ch01 import figures, tables, verdicts
from maso_book.ch01.experiments import EXPERIMENTS
from maso_book.ch01.formulas import KINDS, arrays, matrix, value
from maso_book.ch01.frozen import freeze
from maso_book.ch01.hand import block_factors, hand_factors, product
from maso_book.ch01.networks import PLACES, ClosedForm
from maso_book.ch01.rates import (
    MODULI,
    ONE,
    TARGETS,
    TWO,
    allowed,
    errors,
    graded,
    graded_knots,
    on_knots,
    slopes,
    tangents,
    two_masos,
)
from maso_book.ch01.refused import RELU, NotMaso
from maso_book.ch01.solver import BOTH_SIGNS, CONVERSE, COUNTEREXAMPLE, NONNEGATIVE, Proofs, counterexamples
from maso_book.records import Record
from maso_book.results import compute
from maso_book.shared.layers import draw, draw_input
from maso_book.statistics import interval
from maso_book.tidy import as_table
from maso_book.verdict import Verdict

BY_NAME = {experiment.name: experiment for experiment in EXPERIMENTS}


def record(experiment: str, rows: dict, arrays: dict | None = None, seed: int = 0, **config: object) -> Record:
    return Record(
        experiment, {"seed": seed} | config, records.tidy(rows), arrays or {}, {"device": "cpu"}, f"{seed:016x}"
    )


def judged(claim: str, results: dict[str, list[Record]]) -> Verdict:
    verdict = next(v for v in verdicts.verdicts(results) if v.claim == claim)
    assert len(verdict.effect) <= 60
    assert len(verdict.part) <= 60
    return verdict


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


@pytest.mark.parametrize("cusp", [0.0, 0.3, -0.5])
def test_graded_knots_crowd_towards_the_cusp(cusp: float) -> None:
    knots = graded_knots(cusp, 8)
    assert knots[[0, 4, 8]].tolist() == [-1, cusp, 1]
    assert (np.diff(knots) > 0).all()
    steps = (1 - cusp) * np.array([1, 16, 81, 256]) / 256
    assert knots[5:] == pytest.approx(cusp + steps)


def test_two_masos_on_any_knots_interpolate_there() -> None:
    knots = np.array([-1.0, -0.9, 0.2, 0.25, 1.0])
    m, weights = on_knots(TARGETS["smooth non-convex"][0], knots)
    assert m.R == 4
    assert errors(TARGETS["smooth non-convex"][0], m, weights, knots[:, None])[0] < 1e-12
    between = np.random.default_rng(0).uniform(-1, 1, (100, 1))
    values = np.interp(between[:, 0], knots, np.sin(np.pi * knots))
    assert (m(torch.from_numpy(between)) @ weights).numpy() == pytest.approx(values)


def test_graded_knots_reach_the_rate_of_smooth_targets() -> None:
    found = graded(as_table(rates({3: -1.0})))
    (cusp,) = np.random.default_rng(3).uniform(-0.5, 0.5, 1)
    longer = 1 + abs(cusp)
    for R, error in zip(found["pieces"], found["largest_error"], strict=True):
        i = np.arange(R // 2)  # (b − a)² / (4 (a + b)) with a = √L i² / n² and b = √L (i + 1)² / n²
        exact = (2 * i + 1) ** 2 / (2 * i**2 + 2 * i + 1) / R**2 * math.sqrt(longer)
        assert error == pytest.approx(exact.max(), rel=1e-9)
        assert error < 2 * math.sqrt(longer) / R**2
    assert set(slopes(found)["theory"]) == {-2}


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
        arm = {"dimension": 1, "target": "smooth convex"}
        return [
            arm | {"method": method, "pieces": R, "largest_error": R**slope, "rms_error": 0.0}
            for method in (TWO, ONE)
            for R in (4, 8, 16)
        ]

    return [record("01-rates", {"errors": rows(slope)}, seed=seed) for seed, slope in slope_of_seed.items()]


def test_slopes_and_their_interval() -> None:
    measured = slopes(as_table(rates({0: -1.9, 1: -2.0, 2: -2.1})))
    two = measured[measured["method"] == TWO]
    assert two["slope"].tolist() == pytest.approx([-1.9, -2.0, -2.1])
    assert interval(two["slope"]).low == pytest.approx(-2 - 4.303 * 0.1 / 3**0.5, abs=1e-3)
    assert set(measured["theory"]) == {-2}


@pytest.mark.parametrize(
    ("slope", "seeds", "outcome", "part"),
    [
        (-2.02, 5, "holds", ""),
        (-1.5, 5, "holds with conditions", "0 of 1 slopes within 0.1 of theory"),
        (0.2, 5, "does not hold", ""),
        (-2.0, 4, "not tested", ""),
    ],
)
def test_verdict_on_rates(slope: float, seeds: int, outcome: str, part: str) -> None:
    verdict = judged("01.9", {"01-rates": rates({seed: slope + 1e-3 * seed for seed in range(seeds)})})
    assert (verdict.outcome, verdict.part) == (outcome, part)


@pytest.mark.parametrize(("slope", "outcome"), [(-2.0, "holds"), (-0.1, "does not hold")])
def test_approximation_is_judged_by_the_bound_of_the_proof(slope: float, outcome: str) -> None:
    found = rates({0: slope})
    assert judged("01.4", {"01-rates": found}).outcome == outcome
    assert allowed(as_table(found))[0] == pytest.approx(math.exp(1.5) * 0.5)  # a step of ½ for four pieces


@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize("target", TARGETS)
def test_no_target_changes_more_than_its_modulus(dimension: int, target: str) -> None:
    rng = np.random.default_rng(0)
    shift = rng.uniform(-0.5, 0.5, (4000, dimension))
    x, y = rng.uniform(-1, 1, (2, 4000, dimension)) - shift
    change = np.abs(TARGETS[target][0](x) - TARGETS[target][0](y))
    share = change / MODULI[target](np.linalg.norm(x - y, axis=1), dimension)
    assert 0.3 < share.max() <= 1


def test_theory_passes_through_the_first_mark() -> None:
    errors = as_table(rates({0: -1.9, 1: -2.0}))
    _, ax = plt.subplots()
    for scale in (1, 2):
        ax.plot([4, 8, 16], [scale, scale / 3, scale / 9])
    figures.theory(errors, ax=ax)
    assert ax.lines[2].get_ydata() == pytest.approx([1, 1 / 4, 1 / 16])
    assert ax.lines[3].get_ydata() == pytest.approx([2, 1 / 2, 1 / 8])
    assert [text.get_text().partition("\n")[0] for text in ax.get_legend().get_texts()] == [
        f"smooth convex, {method}" for method in (TWO, ONE)
    ]
    plt.close()


# The solver


@pytest.fixture(scope="module")
def proved() -> Record:
    return compute(BY_NAME["01-proofs"], Proofs(seed=0, networks=1))


def test_proofs_of_small_networks(proved: Record) -> None:
    layers = as_table([proved], of="layers")
    assert layers["kind"].tolist() == [kind.name for kind in KINDS]
    assert layers[["equal", "from_layer_equal", "convex"]].all(axis=None)
    assert as_table([proved], of="masos")["convex"].all()
    assert as_table([proved], of="networks")[["affine", "lipschitz"]].all(axis=None)
    convexity = as_table([proved], of="convexity").set_index("weights")
    assert convexity.loc[[NONNEGATIVE], "convex"].all()
    assert convexity.loc[COUNTEREXAMPLE, "convex"].tolist() == [True, False, False]
    assert convexity.loc[COUNTEREXAMPLE, "smallest_later_weight"].tolist() == [-1, -1, 1]
    assert judged("01.3", {"01-proofs": [proved]}).outcome == "holds"


def test_witnesses_violate_convexity(proved: Record) -> None:
    witnesses = as_table([proved], of="witnesses").groupby("network")
    nets = counterexamples()
    assert set(witnesses.groups) & set(nets) == set(nets) - {CONVERSE}
    for name in set(nets) - {CONVERSE}:
        x, y = (torch.tensor(witnesses.get_group(name)[[end]].to_numpy()) for end in "xy")
        with torch.no_grad():
            assert float(nets[name]((x + y) / 2)) > float(nets[name](x) + nets[name](y)) / 2


def test_the_violation_is_drawn_with_its_chord(proved: Record) -> None:
    t = np.linspace(-0.25, 1.25, 241)
    bent = record("01-proofs", proved.tables, {"violation": np.stack([t, -np.abs(t - 0.5)], 1)})
    figure = figures.converse(bent)
    chord, height, middle = figure.axes[3].lines[1:]
    assert chord.get_xydata().tolist() == [[0, -0.5], [1, -0.5]]
    assert middle.get_xydata()[0] == pytest.approx([0.5, 0])
    assert height.get_ydata() == pytest.approx([-0.5, 0])
    plt.close(figure)


# Verdicts


def layers(cases: int, mismatches: int) -> list[Record]:
    row = {"kind": "dense", "pieces": "#R_k", "edge_cases": 3, "ties": 2, "outputs": 1, "mismatches": mismatches}
    return [record("01-rational", {"layers": [row]}, seed=seed, cases=cases) for seed in range(2)]


def proofs(equal: bool = True, convex: bool = True) -> list[Record]:
    layer = {"kind": "dense", "inputs": 2, "outputs": 3, "equal": equal, "from_layer_equal": True, "convex": convex}
    network = {"codes": 32, "affine": True, "lipschitz": True, "affine_seconds": 0.25, "lipschitz_seconds": 0.5}
    decided = [(NONNEGATIVE, "0", convex, 0.5), (BOTH_SIGNS, "0", False, -1.0), (COUNTEREXAMPLE, CONVERSE, True, -1.0)]
    columns = ("weights", "network", "convex", "smallest_later_weight")
    rows = {
        "layers": [layer | {"equal_seconds": 0.001}],
        "masos": [{"convex": True}],
        "networks": [network],
        "convexity": [dict(zip(columns, row, strict=True)) for row in decided],
    }
    return [record("01-proofs", rows)]


def families(errors: dict[str, float]) -> list[Record]:
    rows = [
        {"network": name, "place": place, "relative_error": error if place == "at 0" else 0.0}
        for name, error in errors.items()
        for place in PLACES
    ]
    return [record("01-families", {"networks": [], "errors": rows})]


def test_nothing_recorded_is_not_tested() -> None:
    assert {v.outcome for v in verdicts.verdicts({})} == {"not tested"}


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
    verdict = judged("01.1", results)
    assert verdict.outcome == outcome
    assert verdict.effect.startswith(f"{2 * mismatches} of {2 * cases:,} ")
    cells = [cell.strip() for cell in tables.layers(*results.values()).splitlines()[-1].split("|")[1:-1]]
    assert cells[:6] == ["dense", "$\\lvert R_k\\rvert$", f"{2 * cases:,}", "6", "4", str(2 * mismatches)]
    assert cells[6:] == [f"{'✔' if equal else '✘'}\u00a02\u00a0→\u00a03", "1.0\u00a0ms"]


@pytest.mark.parametrize(("convex", "outcome"), [(True, "holds"), (False, "does not hold")])
def test_verdict_on_composition(convex: bool, outcome: str) -> None:
    assert judged("01.2", {"01-proofs": proofs(convex=convex)}).outcome == outcome


@pytest.mark.parametrize(
    ("count", "error", "outcome"),
    [(6, 1e-13, "holds"), (5, 1e-13, "not tested"), (6, 1e-11, "does not hold"), (7, 1e-13, "holds")],
)
def test_verdict_on_families(count: int, error: float, outcome: str) -> None:
    records = families({f"net{i}": error for i in range(count)} | {"small_cnn": 0.0})
    assert judged("01.8", {"01-families": records}).outcome == outcome


def test_one_family_that_misses_is_named() -> None:
    records = families({f"net{i}": 1e-13 for i in range(6)} | {"deep": 2e-12})
    verdict = judged("01.8", {"01-families": records})
    assert verdict.outcome == "holds"
    assert "deep (2.0e-12)" in verdict.evidence


@pytest.mark.parametrize(
    ("convex", "weight", "outcome"),
    [(True, -1.0, "holds"), (False, -1.0, "does not hold"), (True, 1.0, "does not hold")],
)
def test_verdict_on_the_converse(convex: bool, weight: float, outcome: str) -> None:
    (found,) = proofs()
    found.tables["convexity"][2] |= {"convex": convex, "smallest_later_weight": weight}
    assert judged("01.3", {"01-proofs": [found]}).outcome == outcome


@pytest.mark.parametrize(("error", "outcome"), [(1e-13, "holds"), (1e-11, "does not hold")])
def test_verdict_on_the_closed_form(error: float, outcome: str) -> None:
    rows = {
        "factors": [{"network": name, "built": "by hand"} for name in ("cnn", "cnn", "resnet")],
        "errors": [{"relative_error": 0.0}, {"relative_error": error}],
    }
    assert judged("01.5", {"01-closed-form": [record("01-closed-form", rows)]}).outcome == outcome


def resnet(seed: int, images: int, dataset: str, error: float) -> Record:
    draw = {
        "largest_error64": error,
        "images_with_another_code": 2,
        "median_slope_error_same_code": 3e-7,
        "largest_slope_error": 0.1,
    }
    layers = [
        {"layer": name, "units": 8, "images_with_another_piece": count} for name, count in (("relu", 0), ("pool", 2))
    ]
    arrays = {
        "error64": np.array([1e-14, 0.0, 1e-14]),
        "error32": np.full(3, 1e-6, np.float32),
        "slope_error32": np.array([1e-7, 0.1, 0.1]),
        "flips": np.array([[0, 0], [0, 1], [0, 3]], np.uint16),
    }
    return record("01-resnet", {"draws": [draw], "layers": layers}, arrays, seed=seed, images=images, dataset=dataset)


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
    records = [resnet(seed, images, dataset, error) for seed in range(draws)]
    assert judged("01.6", {"01-resnet": records}).outcome == outcome


def test_errors_of_images_are_counted_by_their_code() -> None:
    records = [resnet(seed, 3, "digits", 1e-13) for seed in range(2)]
    _, ax = plt.subplots()
    figures.image_errors(records, ax=ax)
    counts = [sum(bar.get_height() for bar in bars) for bars in ax.containers]
    assert counts == [6, 6, 2, 4]
    drawn = [bar for bar in ax.containers[0] if bar.get_height()]
    assert [(bar.get_x() < -16.7, bar.get_height()) for bar in drawn] == [(True, 2), (False, 4)]  # 0 stands at 1e-17
    plt.close()
    text = tables.single_precision(records)
    assert "4 (66.7%)" in text
    assert "than `pool`: for 4 of them." in text


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
    shares = {"GELU": (1.0, curved), RELU: (0.5, relu)}
    rows = {
        "refusals": [{"network": "GELU", "operator": named}, {"network": RELU, "operator": None}],
        "second_differences": [
            {"network": name, "step": step, "nonzero_share": share}
            for name, pair in shares.items()
            for step, share in zip((1.0, 0.5), pair, strict=True)
        ],
    }
    found = record("01-not-maso", rows)
    assert judged("01.7", {"01-not-maso": [found]}).outcome == outcome
    assert tables.refusals([found]).splitlines()[2:] == [
        f"| GELU | {'`gelu`' if named else 'not refused'} |",
        f"| {RELU} | not refused |",
    ]


# Experiments that are quick enough to run here


def test_closed_form_experiment_and_its_figure() -> None:
    found = compute(BY_NAME["01-closed-form"], ClosedForm(seed=3))
    assert judged("01.5", {"01-closed-form": [found]}).outcome == "holds"
    by_hand = as_table([found], of="factors").query("built == 'by hand'")
    shapes = by_hand[by_hand["network"] == "cnn"][["name", "outputs", "inputs"]].to_numpy().tolist()
    assert shapes == [
        ["C", 72, 64], ["A_σ", 72, 72], ["A_ρ", 18, 72], ["C", 12, 18], ["A_σ", 12, 12], ["W", 3, 12],
    ]  # fmt: skip
    figure = figures.factors(found)
    assert [len(part.axes) for part in figure.subfigs] == [7, 7, 8]
    sizes = [ax.get_xlabel() for ax in figure.subfigs[0].axes]
    assert sizes == ["3 × 64", *(f"{outputs} × {inputs}" for _, outputs, inputs in shapes[::-1])]
    plt.close(figure)


def test_a_curved_function_has_a_second_difference_and_a_relu_network_has_none() -> None:
    found = compute(BY_NAME["01-not-maso"], NotMaso(seed=0, points=20, halvings=17))
    differences = as_table([found], of="second_differences")
    smallest = differences[differences["step"] == 2.0**-16].set_index("network")["nonzero_share"]
    assert smallest.to_dict() == dict.fromkeys(smallest.index, 1.0) | {RELU: 0.0}


def test_envelope_shows_every_cell() -> None:
    m = MASO(torch.tensor([[[-1.0], [0.0], [1.0]]]), torch.tensor([[0.0, 0.5, 0.0]]))
    figure = figures.envelope(m)
    assert [text.get_text() for text in figure.axes[1].texts] == ["r = 1", "r = 2", "r = 3"]
    plt.close(figure)


def test_configurations_of_every_profile_have_a_name_of_their_own() -> None:
    for experiment in EXPERIMENTS:
        for profile in ("quick", "paper", "full"):
            names = [records.content_hash(experiment.name, config) for config in experiment.grid(profile)]
            assert len(set(names)) == len(names)
        assert experiment.grid("paper") == experiment.grid("full")
