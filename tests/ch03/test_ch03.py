"""Chapter 03: the formulas written by hand, against brute force; its verdicts; its figures."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from maso import MASO, affine_map
from maso.partition import Plane, partition
from maso.power import boundary_distance
from maso_book.ch03 import bends as ch03_bends
from maso_book.ch03 import cells as ch03_cells
from maso_book.ch03 import distance as ch03_distance
from maso_book.ch03 import experiments as ch03
from maso_book.ch03 import figures as plots
from maso_book.ch03 import hand as ch03_hand
from maso_book.ch03 import tables
from maso_book.ch03.interactive import power_diagram
from maso_book.experiment import Experiment
from maso_book.results import cells, compute

WINDOW = Plane.square(-7, 7)


def test_centroids_of_a_unit_are_its_pieces() -> None:
    layer = ch03_hand.Dense(np.array([[3.0, 4.0]]), np.array([2.0]), 0.5)
    mu, B = ch03_hand.diagram(*layer.pieces)
    assert mu.tolist() == [[1.5, 2.0], [3.0, 4.0]]
    assert B.tolist() == [1.0, 2.0]


def test_codes_are_numbered_with_the_first_unit_last() -> None:
    codes = ch03_hand.all_codes(3, 2)
    assert codes[1].tolist() == [1, 0, 0]
    assert ch03_hand.number(codes).tolist() == list(range(8))


def test_nearest_is_the_smallest_laguerre_distance() -> None:
    mu, tau = np.array([[0.0, 0.0], [4.0, 0.0]]), np.array([0.0, 8.0])
    x = np.array([[0.9, 5.0], [1.1, -3.0]])  # the larger radius moves the border from 2 to 1
    assert ch03_hand.nearest(x, mu, tau).tolist() == [0, 1]


def test_upstream_maps_are_those_of_the_network() -> None:
    model = ch03_hand.illustration(3)
    x = np.random.default_rng(0).uniform(-7, 7, (20, 2))
    found = ch03_hand.upstream(ch03_hand.dense_layers(model), x)
    for depth, up in enumerate(found, 1):
        am = affine_map(model[: 2 * depth - 1], torch.from_numpy(x))
        assert np.allclose(up.G, am.A, atol=1e-12)
        assert np.allclose(up.g, am.b, atol=1e-12)


def test_one_wrong_radius_is_noticed() -> None:
    torch.manual_seed(0)
    layer = ch03_hand.dense_layers(nn.Sequential(nn.Linear(2, 5), nn.ReLU()).double())
    mu, B = ch03_hand.diagram(*layer[0].pieces)
    x = np.random.default_rng(0).normal(size=(2000, 2))
    code = ch03_hand.number(ch03_hand.upstream(layer, x)[0].code)
    tau = (mu**2).sum(1) + 2 * B
    assert (ch03_hand.nearest(x, mu, tau) == code).all()
    tau[np.bincount(code).argmax()] += 0.5
    assert (ch03_hand.nearest(x, mu, tau) != code).any()


def test_turns_are_signed_and_a_closed_line_bends_where_it_began() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    assert ch03_bends.corners(square)[1].sum() == pytest.approx(2 * math.pi)
    assert ch03_bends.corners(square[::-1])[1].sum() == pytest.approx(-2 * math.pi)
    assert len(ch03_bends.corners(square[:3])[1]) == 1


def test_the_bound_is_reached_and_never_exceeded() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5000, 2))
    sizes = [np.linalg.norm(v, axis=1) for v in (a, b, a - b)]
    bound = ch03_bends.largest_angle(sizes[2], np.maximum(sizes[0], sizes[1]))
    angle = np.abs(np.arctan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], (a * b).sum(1)))
    assert (angle <= bound + 1e-12).all()
    assert (angle / bound).max() > 0.999
    assert ch03_bends.largest_angle(np.array([3.0]), np.array([2.0])) == math.pi


def test_one_diagram_balances_at_every_vertex() -> None:
    """Kinks of the lift times edge directions sum to zero at inner vertices, as tensions of a web do."""
    found = ch03_cells.lift(ch03_hand.illustration(1), WINDOW)
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


def test_turned_seams_are_no_power_diagram() -> None:
    inner = np.array([[0.0, 1.0], [-0.9, -0.5], [0.9, -0.5]])
    straight, left = ch03_cells.tension(inner, 3 * inner)
    assert left < 1e-15
    assert (straight > 0).all()
    turned = inner + inner @ np.array([[0.9, 0.4], [-0.4, 0.9]])
    assert ch03_cells.tension(inner, turned)[1] > 0.05


def test_three_ways_to_the_distance_agree() -> None:
    model = ch03_hand.illustration(2)
    x = np.random.default_rng(1).uniform(-5, 5, (50, 2))
    ours = ch03_distance.distances(ch03_hand.dense_layers(model), x)
    assert np.allclose(ours, boundary_distance(model, torch.from_numpy(x)), atol=1e-12)
    inside = (7 - np.abs(x)).min(1) > ours
    assert np.allclose(ours[inside], ch03_distance.to_polygons(partition(model, WINDOW), x[inside]), atol=1e-12)


def quick(name: str) -> Experiment:
    return next(e for e in ch03.EXPERIMENTS if e.name == name)


@pytest.mark.parametrize("name", ["03-laguerre", "03-one", "03-bends"])
def test_a_quick_cell_has_no_mismatch(name: str) -> None:
    config = cells(quick(name), "quick")[0]
    record = compute(quick(name), config)
    if name == "03-bends":
        assert record.metrics["largest error"] < ch03.ANGLE
        assert record.metrics["above the bound"] == record.metrics["above the bound from weights"] == 0
        assert record.metrics["package, largest difference"] < 1e-9
        plots.bends(ch03_hand.illustration(0), WINDOW, 2, 4, [record])
        assert tables.bend_table([record]).count("\n") >= 3
    else:
        claim = "03.1" if name == "03-laguerre" else "03.5"
        verdict = next(v for v in ch03.verdicts({name: [record]}) if v.claim == claim)
        assert " 0 mismatches" in verdict.evidence
        assert verdict.outcome == "not tested"  # too few points for the criterion


def test_without_records_nothing_is_tested() -> None:
    assert {v.outcome for v in ch03.verdicts({})} == {"not tested"}
    assert [v.claim for v in ch03.verdicts({})] == ["03.1", "03.2", "03.3", "03.4", "03.5"]


def test_codebook_and_page_show_the_same_layer() -> None:
    W = torch.tensor([[1.5, 0.4], [-0.9, 1.3], [0.2, -1.4]], dtype=torch.float64)
    b = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
    layer = MASO(torch.stack([0 * W, W], 1), torch.stack([0 * b, b], 1))
    left, _ = plots.codebook(layer, 3.0).axes
    labels = {text.get_text() for text in left.texts}
    assert {"111", "110", "101", "100", "011", "010", "001"} <= labels  # the code 000 has no cell
    page = power_diagram(layer, reach=3.0, colours=plots.CODE_COLOURS).data
    assert '"weights": [[1.5, 0.4], [-0.9, 1.3], [0.2, -1.4]]' in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
