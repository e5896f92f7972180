"""Chapter 03: the formulas written by hand, against brute force; its verdicts; its figures."""

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle
from torch import nn

from maso import MASO, affine_map
from maso.partition import Plane, partition
from maso.power import boundary_distance
from maso_book.ch03 import bends, distance, figures, hand, tables, verdicts
from maso_book.ch03 import cells as ch03_cells
from maso_book.ch03 import experiments as ch03
from maso_book.ch03.interactive import power_diagram
from maso_book.ch03.verdicts import ANGLE, by_bend
from maso_book.records import Record, Tables
from maso_book.results import cells, compute
from maso_book.shared.layers import Maxout
from maso_book.tidy import arms, as_table
from maso_book.verdict import Verdict

WINDOW = Plane.square(-7, 7)


def test_centroids_of_a_unit_are_its_pieces() -> None:
    layer = hand.Dense(np.array([[3.0, 4.0]]), np.array([2.0]), 0.5)
    mu, B = hand.diagram(*layer.pieces)
    assert mu.tolist() == [[1.5, 2.0], [3.0, 4.0]]
    assert B.tolist() == [1.0, 2.0]


def test_codes_are_numbered_with_the_first_unit_last() -> None:
    codes = hand.all_codes(3, 2)
    assert codes[1].tolist() == [1, 0, 0]
    assert hand.number(codes).tolist() == list(range(8))


def test_nearest_is_the_smallest_laguerre_distance() -> None:
    mu, tau = np.array([[0.0, 0.0], [4.0, 0.0]]), np.array([0.0, 8.0])
    x = np.array([[0.9, 5.0], [1.1, -3.0]])  # the larger radius moves the border from 2 to 1
    assert hand.nearest(x, mu, tau).tolist() == [0, 1]


def test_upstream_maps_are_those_of_the_network() -> None:
    model = hand.illustration(3)
    x = np.random.default_rng(0).uniform(-7, 7, (20, 2))
    found = hand.upstream(hand.dense_layers(model), x)
    for depth, up in enumerate(found, 1):
        am = affine_map(model[: 2 * depth - 1], torch.from_numpy(x))
        assert np.allclose(up.G, am.A, atol=1e-12)
        assert np.allclose(up.g, am.b, atol=1e-12)


def test_one_wrong_radius_is_noticed() -> None:
    torch.manual_seed(0)
    layer = hand.dense_layers(nn.Sequential(nn.Linear(2, 5), nn.ReLU()).double())
    mu, B = hand.diagram(*layer[0].pieces)
    x = np.random.default_rng(0).normal(size=(2000, 2))
    code = hand.number(hand.upstream(layer, x)[0].code)
    tau = (mu**2).sum(1) + 2 * B
    assert (hand.nearest(x, mu, tau) == code).all()
    tau[np.bincount(code).argmax()] += 0.5
    assert (hand.nearest(x, mu, tau) != code).any()


def test_turns_are_signed_and_a_closed_line_bends_where_it_began() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    assert bends.corners(square)[1].sum() == pytest.approx(2 * math.pi)
    assert bends.corners(square[::-1])[1].sum() == pytest.approx(-2 * math.pi)
    assert len(bends.corners(square[:3])[1]) == 1


def test_the_bound_is_reached_and_never_exceeded() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5000, 2))
    sizes = [np.linalg.norm(v, axis=1) for v in (a, b, a - b)]
    bound = bends.largest_angle(sizes[2], np.maximum(sizes[0], sizes[1]))
    angle = np.abs(np.arctan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], (a * b).sum(1)))
    assert (angle <= bound + 1e-12).all()
    assert (angle / bound).max() > 0.999
    assert bends.largest_angle(np.array([3.0]), np.array([2.0])) == math.pi


def test_one_diagram_balances_at_every_vertex() -> None:
    """Kinks of the lift times edge directions sum to zero at inner vertices, as tensions of a web do."""
    found = ch03_cells.lift(hand.illustration(1), WINDOW)
    assert (found.kinks > 0).all()
    ends = found.cells.edges
    along = ends[:, 1] - ends[:, 0]
    pull = found.kinks[:, None] * along / np.linalg.norm(along, axis=1)[:, None]
    points, node = np.unique(ends.reshape(-1, 2).round(9), axis=0, return_inverse=True)
    total = np.zeros_like(points)
    np.add.at(total, node.ravel()[::2], pull)
    np.add.at(total, node.ravel()[1::2], -pull)
    inner = (np.abs(points) < 7 - 1e-6).all(1)
    assert inner.sum() > 100
    assert np.abs(total[inner]).max() < 1e-9


def test_layers_of_maxima_are_one_diagram_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Maxout(2, 5, 3), Maxout(5, 4, 3), nn.Linear(4, 1)).double()
    plane = Plane.square(-3, 3)
    found = ch03_cells.lift(model, plane)
    assert len(found.cells) > 20
    assert (found.kinks > 0).all()
    x = np.random.default_rng(0).uniform(-3, 3, (5000, 2))
    assert (hand.nearest(x, found.centroids, found.radii) == found.cells.locate(x)).all()


def test_turned_seams_are_no_power_diagram() -> None:
    inner = np.array([[0.0, 1.0], [-0.9, -0.5], [0.9, -0.5]])
    straight, left = ch03_cells.tension(inner, 3 * inner)
    assert left < 1e-15
    assert (straight > 0).all()
    turned = inner + inner @ np.array([[0.9, 0.4], [-0.4, 0.9]])
    assert ch03_cells.tension(inner, turned)[1] > 0.05


def test_three_ways_to_the_distance_agree() -> None:
    model = hand.illustration(2)
    x = np.random.default_rng(1).uniform(-5, 5, (50, 2))
    ours = distance.distances(hand.dense_layers(model), x)
    assert np.allclose(ours, boundary_distance(model, torch.from_numpy(x)), atol=1e-12)
    inside = (7 - np.abs(x)).min(1) > ours
    assert np.allclose(ours[inside], distance.to_polygons(partition(model, WINDOW), x[inside]), atol=1e-12)


# Experiments ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick() -> dict[str, Record]:
    """The first quick cell of every experiment that is quick and needs no images."""
    names = ("03-laguerre", "03-one", "03-bends", "03-turning", "03-distance")
    return {e.name: compute(e, cells(e, "quick")[0]) for e in ch03.EXPERIMENTS if e.name in names}


def test_codes_are_the_nearest_centroids(quick: dict[str, Record]) -> None:
    tables_ = quick["03-laguerre"].tables
    assert [row["mismatches"] for row in tables_["mismatches"] + tables_["single_layers"]] == [0] * (11 * 3 + 5)
    cells_of = {row["network"]: row["cells"] for row in tables_["networks"]}
    last = {row["network"]: row["cells"] for row in tables_["layers"]}  # a centre in every cell: all are met
    assert last == cells_of
    compared = as_table([quick["03-laguerre"]], "samples").set_index(["network", "sample"])["compared"]
    assert {name: compared[name, "centres"] for name in cells_of} == cells_of
    assert set(compared[:, "random"]) == {1000}


def test_layers_follow_from_one_another(quick: dict[str, Record]) -> None:
    for _, rows in arms(as_table([quick["03-laguerre"]], "layers"), "network"):
        assert rows["upstream_cells"].tolist() == [1, *rows["cells"].tolist()[:-1]]
        assert set(rows["codes"]) == {2**9}


def test_the_joint_cells_are_one_diagram(quick: dict[str, Record]) -> None:
    networks = as_table([quick["03-one"]], "networks")
    assert networks["mismatches"].tolist() == [0, 0, 0]
    assert networks["smallest_kink"].min() > 0
    assert networks["concave_edges_unweighted"].min() > 0
    first = [row["weight"] for row in quick["03-one"].tables["weights"] if row["layer"] == 1]
    assert first == [1.0, 1.0, 1.0]


def test_bends_are_those_of_the_formula(quick: dict[str, Record]) -> None:
    (network,) = quick["03-bends"].tables["networks"]
    assert max(network["largest_error_rad"], network["largest_package_difference_rad"]) < ANGLE
    assert network["largest_jump_error"] < 1e-12
    assert network["above_bound"] == network["above_weights_bound"] == 0
    angles = by_bend([quick["03-bends"]])
    assert len(angles) == network["bends"]
    in_layer_two = angles[angles["layer"] == 2]  # there the bound from weights is the bound
    assert np.allclose(in_layer_two["weights_bound"], in_layer_two["bound"], atol=1e-6)
    assert tables.bend_table([quick["03-bends"]]).count(f"| {len(in_layer_two):,} |") == 1


def test_a_square_boundary_turns_once() -> None:
    """max(|x|, |y|) against 1: its bends are four right angles, and the formula knows it."""
    absolute = nn.Linear(2, 4).double()
    pieces = nn.Linear(4, 2).double()
    with torch.no_grad():
        absolute.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        absolute.bias.zero_()
        pieces.weight.copy_(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))  # |x| + |y|
        pieces.bias.copy_(torch.tensor([0.0, 1.0]))
    model = nn.Sequential(absolute, nn.ReLU(), pieces)
    turned = bends.total_turning(model, partition(model, Plane.square(-2, 2)).decision_boundary())
    assert turned["length"] == pytest.approx(4 * math.sqrt(2))
    assert turned["turning_rad"] == pytest.approx(2 * math.pi)
    assert turned["bends"] == 4
    assert turned["largest_error_rad"] < 1e-12


def test_boundaries_and_distances_agree_with_the_formulas(quick: dict[str, Record]) -> None:
    boundaries = as_table([quick["03-turning"]], "boundaries")
    assert boundaries[["width", "labels"]].to_numpy().tolist() == [
        [8, "true"], [8, "permuted"], [16, "true"], [16, "permuted"]
    ]  # fmt: skip
    assert boundaries["largest_error_rad"].max() < ANGLE
    networks = as_table([quick["03-distance"]], "networks")
    assert networks[["largest_polygon_difference", "largest_package_difference"]].to_numpy().max() < 1e-12
    watched = as_table([quick["03-distance"]], "distances")
    at_first = watched[watched["epoch"] == 0].pivot(index="place", columns="labels", values="mean_log_distance")
    assert at_first["true"].tolist() == at_first["permuted"].tolist()  # the same initial weights
    assert len(watched) == 2 * 4 * 3


# Verdicts -------------------------------------------------------------------------------------------------------------


def record(experiment: str, seed: int, tables: Tables, **config: Any) -> Record:
    return Record(experiment, {"seed": seed, **config}, tables, {}, {"device": "cpu"}, f"{experiment}/{seed}")


def judge(claim: str, results: dict[str, list[Record]]) -> Verdict:
    return next(v for v in verdicts.verdicts(results) if v.claim == claim)


def laguerre(points: int, mismatches: int) -> list[Record]:
    kinds = ("random", "centres", "corners")
    rows: Tables = {
        "networks": [{"network": "n", "cells": 3}],
        "samples": [{"network": "n", "sample": kind, "compared": points} for kind in kinds],
        "mismatches": [
            {"network": "n", "layer": layer, "sample": kind, "mismatches": mismatches * (layer == 2)}
            for layer in (1, 2)
            for kind in kinds
        ],
        "single_layers": [{"layer_type": "ReLU", "inputs": 2, "codes": 4, "compared": 10, "mismatches": 0}],
    }
    return [record("03-laguerre", 0, rows)]


def test_layers_are_judged_by_mismatches_and_the_number_of_points() -> None:
    assert judge("03.1", {"03-laguerre": laguerre(10**6, 0)}).outcome == "holds"
    assert judge("03.1", {"03-laguerre": laguerre(10**6 - 1, 0)}).outcome == "not tested"
    wrong = judge("03.1", {"03-laguerre": laguerre(10**6, 1)})
    assert (wrong.outcome, wrong.effect) == ("does not hold", "3 of 6,000,010 comparisons differ")


def test_bends_are_judged_by_error_bound_and_networks(quick: dict[str, Record]) -> None:
    def outcome(seeds: int, **changed: float) -> str:
        made = quick["03-bends"]
        rows = [{**row, **changed} for row in made.tables["networks"]]
        records = [
            dataclasses.replace(made, config={"seed": seed, "slope": 0.1}, tables={"networks": rows})
            for seed in range(seeds)
        ]
        return judge("03.2", {"03-bends": records}).outcome

    assert outcome(20) == "holds"
    assert outcome(19) == "not tested"
    assert outcome(20, largest_error_rad=2e-9) == "does not hold"
    assert outcome(20, above_bound=1) == "does not hold"


def turning(ratios: dict[int, float], *, seeds: int = 5, error: float = 0.0) -> list[Record]:
    """Boundaries that turn `ratio` times as much with permuted labels, give or take a little for each seed."""
    return [
        record("03-turning", seed, {
            "boundaries": [
                {"width": width, "labels": labels, "bends": 4, "turning_rad": turns, "largest_error_rad": error}
                for width, ratio in ratios.items()
                for labels, turns in (("true", 1.0), ("permuted", ratio * math.exp(0.1 * (seed - (seeds - 1) / 2))))
            ]
        })
        for seed in range(seeds)
    ]  # fmt: skip


def test_turning_is_judged_at_every_width() -> None:
    assert judge("03.6", {"03-turning": turning({8: 2.0, 16: 3.0})}).outcome == "holds"
    assert judge("03.6", {"03-turning": turning({8: 2.0}, seeds=4)}).outcome == "not tested"
    assert judge("03.6", {"03-turning": turning({8: 1.0})}).outcome == "does not hold"
    one = judge("03.6", {"03-turning": turning({8: 1.0, 16: 3.0})})
    assert (one.outcome, one.part) == ("holds in part", "at widths 16 alone")
    ratio = verdicts.factor(verdicts.turning_ratios(turning({8: 2.0}))[8])
    assert ratio.mean == pytest.approx(2.0)
    assert ratio.low == pytest.approx(2 * math.exp(-2.776445 * 0.1 * math.sqrt(2.5 / 5)))  # Student, 4 degrees


@pytest.mark.parametrize(("error", "outcome"), [(1e-10, "holds"), (1e-8, "does not hold")])
def test_corners_of_boundaries_are_judged_by_their_error(error: float, outcome: str) -> None:
    assert judge("03.3", {"03-turning": turning({8: 1.0}, error=error)}).outcome == outcome


def distances(dataset: str | None, train: float, *, seeds: int = 5) -> list[Record]:
    """Log distances that change by `train` more at training points than elsewhere, where they grow by 1.

    A little more or less in each seed, so that intervals have a width.
    """
    config = {} if dataset is None else {"dataset": dataset}
    records = []
    for seed in range(seeds):
        change = {"train": 1 + train + (seed - (seeds - 1) / 2) / 1000, "test": 1.0, "elsewhere": 1.0}
        watched = [
            {"labels": labels, "epoch": epoch, "place": place, "mean_log_distance": epoch / 4 * change[place]}
            for labels in ("true", "permuted")
            for epoch in (0, 2, 4)
            for place in distance.PLACES
        ]
        exact = {"largest_polygon_difference": 1e-12, "largest_package_difference": 1e-14}
        rows: Tables = {
            "networks": [{"labels": labels, **exact} for labels in ("true", "permuted")],
            "distances": watched,
        }
        records.append(record("03-distance", seed, rows, **config))
    return records


@pytest.mark.parametrize(
    ("toy", "images", "outcome"),
    [
        (-0.5, -0.2, "holds"),
        (0.5, 0.2, "does not hold"),
        (-0.5, 0.2, "holds in part"),
        (-0.5, -0.05, "holds in part"),
        (0.0, 0.0, "does not hold"),
    ],
)
def test_distances_are_judged_by_sign_and_size(toy: float, images: float, outcome: str) -> None:
    results = {"03-distance": distances(None, toy), "03-distance-images": distances("mnist", images)}
    assert judge("03.4", results).outcome == outcome
    change = verdicts.changes(results["03-distance"], "true")
    assert change["train"].mean == pytest.approx(1 + toy)
    assert change["train less elsewhere"].mean == pytest.approx(toy)


def test_distances_need_five_seeds_and_real_images() -> None:
    toy, images = distances(None, -0.5), distances("mnist", -0.5)
    for results in ((toy[:4], images), (toy, images[:4]), (toy, distances("digits", -0.5))):
        judged = judge("03.4", dict(zip(("03-distance", "03-distance-images"), results, strict=True)))
        assert judged.outcome == "not tested"


@pytest.mark.parametrize(
    ("seeds", "difference", "outcome"), [(10, 1e-12, "holds"), (9, 1e-12, "not tested"), (10, 1e-8, "does not hold")]
)
def test_the_formula_of_the_distance_is_judged_by_the_largest_difference(
    seeds: int, difference: float, outcome: str
) -> None:
    records = distances(None, 0.0, seeds=seeds)
    records[0].tables["networks"][1]["largest_polygon_difference"] = difference
    assert judge("03.7", {"03-distance": records}).outcome == outcome


@pytest.mark.parametrize(
    ("networks", "kink", "mismatches", "outcome"),
    [
        (15, 0.1, 0, "holds"),
        (14, 0.1, 0, "not tested"),
        (15, 0.0, 0, "does not hold"),
        (15, 0.1, 1, "does not hold"),
    ],
)
def test_one_diagram_is_judged_by_kinks_and_mismatches(
    networks: int, kink: float, mismatches: int, outcome: str
) -> None:
    row = {"cells": 2, "edges": 1, "smallest_kink": kink, "concave_edges_unweighted": 1, "compared": 10**4}
    rows = [{"network": f"{i}", **row, "mismatches": mismatches} for i in range(networks)]
    assert judge("03.5", {"03-one": [record("03-one", 0, {"networks": rows})]}).outcome == outcome


def test_without_records_nothing_is_tested() -> None:
    judged = verdicts.verdicts({})
    assert {v.outcome for v in judged} == {"not tested"}
    assert [v.claim for v in judged] == [f"03.{number}" for number in range(1, 8)]


# Pictures -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ax() -> Iterator[Axes]:
    fig, axes = plt.subplots()
    yield axes
    plt.close(fig)


def layer() -> MASO:
    W = torch.tensor([[1.5, 0.4], [-0.9, 1.3], [0.2, -1.4]], dtype=torch.float64)
    b = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
    return MASO(torch.stack([0 * W, W], 1), torch.stack([0 * b, b], 1))


def test_cells_bear_their_codes(ax: Axes) -> None:
    figures.coded_cells(ax, layer(), 3.0)
    codes = {text.get_text() for text in ax.texts if text.get_text().isdigit()}
    assert codes == {"111", "110", "101", "100", "011", "010", "001"}  # the code 000 has no cell
    assert len(ax.patches) == 7
    assert ax.get_xlim() == (-3, 3)


def test_neighbouring_circles_meet_on_the_line_between_their_cells(ax: Axes) -> None:
    figures.centroids(ax, layer(), 3.0)
    circles = [patch for patch in ax.patches if isinstance(patch, Circle)]
    assert [c.get_linestyle() == "-" for c in circles] == [False, *[True] * 7]
    (a, b), (ra, rb) = ((np.array(c.center) for c in circles[4:8:3]), (c.radius for c in circles[4:8:3]))
    # codes 001 and 111 differ in units 1 and 2: where the powers are equal, their sum of pieces is 0
    x = np.array([0.0, 1.0])
    difference = (((x - a) ** 2).sum() - ra**2) - (((x - b) ** 2).sum() - rb**2)
    assert difference == pytest.approx(2 * ((0.4 + 0.3) + (1.3 + 0.6)))


def test_subdivision_draws_every_edge_once(ax: Axes) -> None:
    network = hand.illustration(0)
    figures.subdivision(ax, network, WINDOW, depth=2)
    p = partition(network, WINDOW, layers=["1", "3"])
    segments = [s for c in ax.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    assert len(segments) == len(p.edges)
    assert f"{len(p):,} cells" in ax.get_title(loc="left")


def test_a_cut_is_drawn_with_its_bends(ax: Axes) -> None:
    network = hand.illustration(0)
    figures.cut(ax, network, WINDOW, depth=2, unit=4)
    drawn = [line.get_xydata() for line in ax.lines][::2]
    expected = partition(network[:3], WINDOW).decision_boundary(4)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, expected, strict=True))


def test_the_boundary_of_a_record_is_drawn(ax: Axes, quick: dict[str, Record]) -> None:
    figures.boundary(ax, quick["03-turning"], "permuted")
    lengths = [len(line.get_xydata()) for line in ax.lines]
    assert lengths == quick["03-turning"].arrays["permuted_lengths"].tolist()


def test_reciprocal_edges_are_perpendicular(ax: Axes) -> None:
    lifted = ch03_cells.lift(hand.illustration(1), WINDOW)
    figures.reciprocal(ax, lifted)
    lines = next(c for c in ax.collections if isinstance(c, LineCollection))
    drawn, edges = (np.diff(np.array(v), axis=1)[:, 0] for v in (lines.get_segments(), lifted.cells.edges))
    cosine = (drawn * edges).sum(1) / np.linalg.norm(drawn, axis=1) / np.linalg.norm(edges, axis=1)
    assert np.abs(cosine).max() < 1e-6
    figures.joint_cells(ax, lifted)
    assert f"{len(lifted.cells):,}" in ax.get_title(loc="left")


def test_only_the_straight_web_balances(ax: Axes) -> None:
    assert figures.web(ax, 0.0).get_xlabel() == "tension balances"
    assert figures.web(ax, 0.35).get_xlabel() != "tension balances"


def test_scales_of_the_distances(ax: Axes) -> None:
    figures.epochs_and_factors(ax)
    assert (ax.get_xscale(), ax.get_yscale()) == ("symlog", "log")


def test_the_page_shows_the_layer() -> None:
    page = power_diagram(layer(), reach=3.0, colours=figures.CODE_COLOURS).data
    data = page.partition('class="start">')[2].partition("</script>")[0]
    assert json.loads(data)["weights"] == [[1.5, 0.4], [-0.9, 1.3], [0.2, -1.4]]
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
