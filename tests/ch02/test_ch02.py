"""The mathematics of chapter 02: geometry of cells, the toy data, and verdicts as functions of records."""

import base64
import dataclasses
import json
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from maso.partition import Plane, partition
from maso_book.ch02 import counts as ch02_counts
from maso_book.ch02 import experiments as ch02
from maso_book.ch02 import figures as plots
from maso_book.ch02 import slices as ch02_slices
from maso_book.ch02 import tables
from maso_book.ch02.animation import animation
from maso_book.ch02.random import Random, kinds_of, run_random, totals
from maso_book.records import Record
from maso_book.shared import clipping as ch02_clipping
from maso_book.shared import toy as ch02_toy
from maso_book.shared.comparison import compare
from maso_book.shared.geometry import Zones, confirmed, defects, distance, hull_area, met_by_grid


def cross() -> nn.Module:
    """Four quadrants as cells."""
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2))
        net[0].bias.zero_()
    return net


def record(name: str, config: dict, metrics: dict) -> Record:
    return Record(name, config, metrics, {}, {}, "0" * 16)


def test_hull_area_of_a_square_with_points_inside_and_on_its_sides():
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5], [0.5, 0], [1, 0.25]])
    assert hull_area(square) == pytest.approx(1)
    assert hull_area(np.array([[0.0, 0], [1, 0], [0, 1e-12]])) == pytest.approx(5e-13)


def test_defects_tell_convex_bent_and_split_sets_apart():
    p = partition(cross(), Plane.square(-1, 1))
    quadrant = (p.centres[:, 0] > 0) + 2 * (p.centres[:, 1] > 0)
    assert len(p) == 4
    assert defects(p, quadrant).max() == 0
    assert defects(p, (quadrant == 3).astype(int)) == pytest.approx([1 / 7 * 1, 0])  # an L: hull 3.5, area 3
    assert defects(p, np.isin(quadrant, [0, 3]).astype(int)) == pytest.approx([1 / 3, 1 / 3])  # two opposite squares


def test_distance_to_a_point_inside_on_a_corner_and_outside():
    p = partition(cross(), Plane.square(-1, 1))
    assert distance(p).max() == 0
    found = distance(p, (0.3, 0.4))
    expected = {(1, 1): 0.0, (-1, 1): 0.3, (1, -1): 0.4, (-1, -1): 0.5}
    for centre, value in zip(np.sign(p.centres), found, strict=True):
        assert value == pytest.approx(expected[tuple(centre)])


def test_zones_share_the_bounding_box_and_count_per_area():
    data = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5]])
    zones = Zones(data, 0.1)
    assert zones.near_area + zones.rest_area == pytest.approx(1)
    assert zones.near_area == pytest.approx(2 * math.pi * 0.01, rel=0.02)  # four quarters and a whole disc
    near, rest = zones.densities(np.array([[0.52, 0.5], [0.5, 0.2], [2.0, 2.0]]))
    assert (near, rest) == (pytest.approx(1 / zones.near_area), pytest.approx(1 / zones.rest_area))


def test_grid_meets_at_most_all_cells_and_the_codes_agree():
    torch.manual_seed(0)
    p = partition(ch02_toy.network((20, 3)), ch02_toy.window())
    met = [met_by_grid(p, side) for side in (2, 20, 200)]
    assert met == sorted(met)
    assert 0 < met[0] <= 4
    assert met[-1] <= len(p)
    assert confirmed(p, np.arange(len(p))) == 1


def test_toy_data_are_as_the_authors_made_them():
    points, labels = ch02_toy.moons_and_circles(4000, np.random.default_rng(0))
    assert np.bincount(labels).tolist() == [1000] * 4
    assert points.max(0) == pytest.approx([1, 1])
    assert points.mean(0) == pytest.approx([0, 0], abs=1e-12)
    x, y, x_test, y_test = ch02_toy.split(4000, 0)
    assert (len(x), len(y), len(x_test), len(y_test)) == (2800, 2800, 1200, 1200)


def test_cells_without_biases_all_touch_the_origin():
    torch.manual_seed(1)
    net = ch02_toy.network()
    ch02_toy.without_biases(net)
    p = partition(net, ch02_toy.window())
    assert distance(p).max() <= ch02_toy.TOUCH
    rows = {row["cells of"]: row for row in ch02_toy.convexity(p)}
    assert rows["joint"]["sets"] == rows["joint"]["parts"] == len(p)
    assert rows["joint"]["largest defect"] == rows["layer 1"]["largest defect"] == 0


def test_parameters_and_weights_come_back():
    net = ch02_toy.network()
    x = torch.randn(5, 2, dtype=torch.float64)
    assert torch.equal(ch02_toy.restored(ch02_toy.flat(net))(x), net(x))
    images = torch.randn(2, 3, 32, 32)
    for name in ("small conv net", "smallCNN", "ResNet"):
        net = ch02_slices.network(name).eval()
        again = ch02_slices.restored(name, ch02_slices.halves(net))
        assert torch.allclose(again(images.double()).float(), net(images), atol=5e-2, rtol=5e-2)
    assert ch02_slices.units(ch02_slices.network("small conv net")) == 4 * 256 + 8 * 64 + 32


def test_slopes_of_exact_powers():
    rows = [{"depth": d, "neurons": n, "regions": [3 * n**2, n**3]} for d in (1, 2) for n in (10, 20, 40)]
    records = [
        record("02-counts", {"depths": [1, 2], "neurons": [10, 20, 40], "seed": s}, {"counts": rows}) for s in (0, 1)
    ]
    assert ch02_counts.slopes(records, 0)[1].mean == pytest.approx(2)
    assert ch02_counts.slopes(records, -1)[2].high == pytest.approx(3)
    assert ch02_counts.mean_counts(records, 0)[1, 10].mean == pytest.approx(math.log(300))


def test_comparison_notices_every_difference():
    net, plane, rng = cross(), Plane.square(-1, 1), np.random.default_rng(0)
    p = partition(net, plane)
    cells = ch02_clipping.partition(net, plane.origin, plane.u, plane.v, plane.bounds)
    assert compare(p, net, cells, rng).wrong == []
    polygon, code, tensor = cells[0]
    changed = {
        "4 regions": cells[1:],
        "twice": [(polygon, cells[1][1], tensor), *cells[1:]],
        "code of a region": [(polygon, (2, 2), tensor), *cells[1:]],
        "map is off": [(polygon, code, tensor + 1e-8), *cells[1:]],
        "area is off": [([(0.999 * x, y) for x, y in polygon], code, tensor), *cells[1:]],
        "lie in one": [cells[1], *cells[1:]],
    }
    for what, found in changed.items():
        assert any(what in line for line in compare(p, net, found, rng).wrong), what


def test_kinds_of_networks():
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), ch02_clipping.Maxout(2)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0], [2, 0], [0, 1], [0, -1]]))
        net[0].bias.zero_()
    found = kinds_of(net, partition(net, Plane.square(-1, 1)))
    assert found[:3] == ["maxout", "dense layers alone", "no biases"]
    assert any("twice" in kind for kind in found)
    assert any("negative" in kind for kind in found)
    assert any("tie" in kind for kind in found)  # both units of the first window are zero on the left
    assert not any("dead" in kind or "always" in kind for kind in found)
    dead = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).double()
    with torch.no_grad():
        dead[0].bias.copy_(torch.tensor([-9.0, 9.0]))
    assert kinds_of(dead, partition(dead, Plane.square(-1, 1)))[-2:] == ["a dead unit", "an always-on unit"]


def test_random_networks_are_counted_by_kind():
    metrics, _ = run_random(config := Random(7, 4))
    found = totals([metrics, metrics])
    assert found["random weights"]["networks"] == found["small dyadic weights"]["networks"] == 4
    assert metrics["mismatches"] == metrics["alarms"] == []
    table = tables.random_table([record("02-random-networks", dataclasses.asdict(config), metrics)])
    assert "| small dyadic weights | 2 |" in table
    summary = tables.random_summary([record("02-random-networks", dataclasses.asdict(config), metrics)])
    assert "4 networks compared" in summary
    assert "**0 mismatches**" in summary


def toy_records(biases, n, *, defect=0.0, touching=0.01, near=3.0, pulled=None) -> list[Record]:
    convexity = [
        {"cells of": name, "sets": 5, "parts": 5, "not convex": int(name == "layer 2"), "largest defect": value}
        for name, value in (("layer 1", 0.0), ("layer 2", 0.3), ("joint", defect))
    ]
    convexity[1] |= pulled or {}
    return [
        record(
            "02-toy",
            {"seed": seed, "biases": biases},
            {
                "epochs": [
                    {
                        "epoch": e,
                        "touching": t,
                        "density near": d * (1 + 0.01 * seed),
                        "density elsewhere": 1.0,
                        "accuracy": 1,
                    }
                    for e, t, d in ((0, 1.0, 1.0), (9, touching, near * (1 + 0.01 * (seed % 3))))
                ],
                "convexity": convexity,
            },
        )
        for seed in range(n)
    ]


def outcomes(results: dict[str, list[Record]]) -> dict[str, str]:
    return {v.claim: v.outcome for v in ch02.verdicts(results)}


def test_verdicts_without_records_or_with_too_few():
    assert set(outcomes({}).values()) == {"not tested"}
    few = toy_records("zero", 2) + toy_records("uniform", 2)
    assert set(outcomes({"02-toy": few}).values()) == {"not tested"}


def test_verdicts_follow_their_criteria():
    good = toy_records("zero", 20) + toy_records("uniform", 10)
    assert outcomes({"02-toy": good}) == {"02.1": "holds", "02.2": "holds", "02.3": "not tested", "02.4": "holds"}
    dead = toy_records("zero", 19) + toy_records("zero", 1, pulled={"sets": 1, "parts": 1, "not convex": 0})
    assert outcomes({"02-toy": dead})["02.1"] == "does not hold"
    convex = toy_records("zero", 19) + toy_records("zero", 1, pulled={"not convex": 0})
    assert outcomes({"02-toy": convex})["02.1"] == "does not hold"
    bad = toy_records("zero", 20, defect=0.1, touching=0.5) + toy_records("uniform", 10, near=0.3)
    found = outcomes({"02-toy": bad})
    assert (found["02.1"], found["02.2"], found["02.4"]) == ("does not hold",) * 3
    rows = [{"depth": d, "neurons": n, "regions": [n**2, 2 * n**2]} for d in (1, 6) for n in (10, 20)]
    config = {"depths": [1, 6], "neurons": [10, 20]}
    flat = [record("02-counts", config, {"counts": rows}) for _ in range(10)]
    assert outcomes({"02-counts": flat})["02.3"] == "holds"
    rows = [{**row, "regions": [row["neurons"] ** row["depth"]] * 2} for row in rows]
    assert outcomes({"02-counts": [record("02-counts", config, {"counts": rows})] * 10})["02.3"] == "does not hold"


@pytest.fixture(scope="module")
def film() -> Record:
    metrics, arrays = ch02_toy.run_film(config := ch02_toy.Film(0, 400, (0, 2)))
    return Record("02-film", dataclasses.asdict(config), metrics, arrays, {}, "0" * 16)


def test_animation_carries_its_frames_and_needs_nothing_from_outside(film):
    page = animation(film)
    assert "http" not in page
    assert "src=" not in page
    frames = json.loads(page.partition("const frames = ")[2].partition(";\n")[0])
    assert [f["epoch"] for f in frames] == [0, 2]
    data = np.frombuffer(base64.b64decode(frames[0]["data"]), "<u2")
    p = plots.learned(film, 0)
    assert data[0] == frames[0]["cells"] == len(p)
    assert data[1 : 1 + 4 * len(p) : 4].sum() * 2 + 1 + 4 * len(p) == len(data)


def test_figures_show_every_cell_and_colours_agree_between_layers(film):
    p = plots.learned(film)
    colours = plots.toy_colours(p)
    for name, layers in (("layer 1", ["1"]), ("layer 2", ["3"])):
        label = p.pullback(*layers).label
        for kind in range(label.max() + 1):
            assert np.ptp(colours[name][label == kind], axis=0).max() == 0
    fig = plots.layers(film)
    assert [len(ax.collections[0].get_paths()) for ax in fig.axes] == [len(p)] * 3
    plt.close(fig)
    q, answer = plots.decided(ch02_toy.restored(film.arrays["parameters"][-1]), ch02_toy.window())
    outputs = ch02_toy.restored(film.arrays["parameters"][-1])(q.plane.points(q.centres)).detach().numpy()
    assert len(q) >= len(p)
    assert np.array_equal(outputs.argmax(1), answer)
