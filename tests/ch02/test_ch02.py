"""The mathematics of chapter 02: geometry of cells, the toy data, and verdicts as functions of records."""

import base64
import dataclasses
import json
import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from maso.partition import Plane, partition
from maso_book.ch02 import figures, slices, tables
from maso_book.ch02.animation import animation
from maso_book.ch02.closed_forms import cells_of_lines, mean_neighbours
from maso_book.ch02.counts import Counts, run_counts, slopes
from maso_book.ch02.random import Random, kinds_of, run_random
from maso_book.ch02.verdicts import density_ratios, geometric, verdicts
from maso_book.records import Record, Tables, tidy
from maso_book.shared import clipping, toy
from maso_book.shared.comparison import ERRORS, compare
from maso_book.shared.geometry import Zones, confirmed, defects, distance, hull_area, met_by_grid
from maso_book.tidy import as_table


def cross() -> nn.Module:
    """Four quadrants as cells."""
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2))
        net[0].bias.zero_()
    return net


def record(experiment: str, config: dict, tables: Tables, arrays: dict | None = None) -> Record:
    return Record(experiment, config, tidy(tables), arrays or {}, {"device": "cpu"}, f"{config['seed']:016x}")


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
    p = partition(toy.network((20, 3)), toy.window())
    met = [met_by_grid(p, side) for side in (2, 20, 200)]
    assert met == sorted(met)
    assert 0 < met[0] <= 4
    assert met[-1] <= len(p)
    assert confirmed(p, np.arange(len(p))) == 1


def test_toy_data_are_as_the_authors_made_them():
    points, labels = toy.moons_and_circles(4000, np.random.default_rng(0))
    assert np.bincount(labels).tolist() == [1000] * 4
    assert points.max(0) == pytest.approx([1, 1])
    assert points.mean(0) == pytest.approx([0, 0], abs=1e-12)
    x, y, x_test, y_test = toy.split(4000, 0)
    assert (len(x), len(y), len(x_test), len(y_test)) == (2800, 2800, 1200, 1200)


def test_cells_without_biases_all_touch_the_origin():
    torch.manual_seed(1)
    net = toy.network()
    toy.without_biases(net)
    p = partition(net, toy.window())
    assert distance(p).max() <= toy.TOUCH
    rows = {row["cells_of"]: row for row in toy.convexity(p)}
    assert rows["joint"]["codes"] == rows["joint"]["parts"] == len(p)
    assert rows["joint"]["largest_defect"] == rows["layer 1"]["largest_defect"] == 0


def test_a_toy_network_is_measured_at_every_epoch_and_kept_at_the_first_and_the_last():
    tables, arrays = toy.run_toy(config := toy.Toy(0, "zero", samples=400, epochs=(0, 2)))
    epochs = as_table([record("02-toy", dataclasses.asdict(config), tables)], "epochs")
    assert epochs.epoch.tolist() == [0, 2]
    for row, parameters in zip(epochs.itertuples(), arrays["parameters"], strict=True):
        p = partition(toy.restored(parameters), toy.window())
        assert row.regions == len(p)
    assert epochs.touching_share.tolist() == [1, 1 / epochs.regions[1]]  # all cells, then the one around the origin
    assert epochs.offset[0] == 0
    assert tables["convexity"] == toy.convexity(p)


def test_counts_have_a_row_for_each_network_and_epoch():
    config = Counts(0, neurons=(4, 8), depths=(1, 2), samples=200, epochs=(0, 1))
    tables, _ = run_counts(config)
    regions = as_table([record("02-counts", dataclasses.asdict(config), tables)], "regions")
    sizes = [(1, 4, 0), (1, 4, 1), (1, 8, 0), (1, 8, 1), (2, 4, 0), (2, 4, 1), (2, 8, 0), (2, 8, 1)]
    assert list(regions[["depth", "units", "epoch"]].itertuples(index=False, name=None)) == sizes
    assert [row["units"] for row in tables["networks"]] == [4, 8, 4, 8]
    torch.manual_seed(0)
    assert regions.regions[0] == len(partition(toy.network((4,)), toy.window()))


def lines(*units: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Weights (n, 2) and biases (n,)."""
    values = np.array(units)
    return values[:, :2], values[:, 2]


def test_cells_between_lines_are_counted_by_hand():
    triangle = [(1.0, 0, 0), (0, 1.0, 0), (1.0, 1, -0.5)]
    assert cells_of_lines(*lines(*triangle), -1, 1) == 7
    assert cells_of_lines(*lines(*triangle), 0.3, 1) == 1  # none meets it
    assert cells_of_lines(*lines(*triangle), 0.2, 1) == 2
    assert cells_of_lines(*lines((1.0, 0, 0), (1.0, 0, 0.5)), -1, 1) == 3  # parallel
    assert cells_of_lines(*lines((1.0, 0, 5)), -1, 1) == 1  # outside
    fan = [(math.cos(angle), math.sin(angle), 0.0) for angle in (0.0, 0.4, 1.1, 2.0)]
    assert cells_of_lines(*lines(*fan), -1, 1) == 8  # all through one point


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("units", [1, 12, 60])
def test_one_layer_has_as_many_cells_as_its_lines_make(units: int, seed: int):
    torch.manual_seed(seed)
    net = toy.network((units,))
    p = partition(net, toy.window())
    assert len(p) == cells_of_lines(*(v.detach().numpy() for v in (net[0].weight, net[0].bias)), *toy.WINDOW)


@pytest.mark.parametrize("widths", [(40,), (12, 12), (9, 9, 9), (8, 8, 8, 8)])
@pytest.mark.parametrize("slope", [0.0, 0.1, -1.0])
def test_a_cell_has_fewer_than_four_neighbours_on_average(widths: tuple[int, ...], slope: float):
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.LeakyReLU(slope) if isinstance(m, nn.ReLU) else m for m in toy.network(widths)))
    p = partition(net, toy.window())
    assert 3 < mean_neighbours(p) < 4


def test_closed_forms_of_recorded_networks():
    found = []
    for biases in ("zero", "uniform"):
        config = toy.Toy(0, biases, samples=200, epochs=(0, 1))
        found.append(record("02-toy", dataclasses.asdict(config), *toy.run_toy(config)))
    zero, trained, *_ = (line.split("|") for line in tables.closed_forms(found, []).splitlines()[2:])
    assert [cell.strip() for cell in zero[2:5]] == ["90", "90", "0"]  # 45 lines through one point
    assert trained[4].strip() == "0"


def test_parameters_and_weights_come_back():
    net = toy.network()
    x = torch.randn(5, 2, dtype=torch.float64)
    assert torch.equal(toy.restored(toy.flat(net))(x), net(x))
    images = torch.randn(2, 3, 32, 32)
    for name in ("small conv net", "smallCNN", "ResNet"):
        net = slices.network(name).eval()
        again = slices.restored(name, slices.halves(net))
        assert torch.allclose(again(images.double()).float(), net(images), atol=5e-2, rtol=5e-2)
    assert slices.units(slices.network("small conv net")) == 4 * 256 + 8 * 64 + 32


def test_slopes_of_exact_powers():
    powers = {0: lambda n: 3 * n**2, 5: lambda n: n**3}
    rows = [
        {"depth": d, "units": n, "epoch": e, "regions": power(n)}
        for d in (1, 2)
        for n in (10, 20, 40)
        for e, power in powers.items()
    ]
    regions = as_table([record("02-counts", {"seed": s}, {"regions": rows}) for s in (0, 1)])
    slope = slopes(regions)
    assert {key: round(value.mean, 9) for key, value in slope.items()} == {(0, 1): 2, (5, 1): 3, (0, 2): 2, (5, 2): 3}
    assert slope[5, 2].high == pytest.approx(3)
    assert tables.slope_table(regions).splitlines()[-1] == "| 2 | 2.00 [2.00, 2.00] | 3.00 [3.00, 3.00] |"


def test_comparison_notices_every_difference():
    net, plane, rng = cross(), Plane.square(-1, 1), np.random.default_rng(0)
    p = partition(net, plane)
    cells = clipping.partition(net, plane.origin, plane.u, plane.v, plane.bounds)
    assert compare(p, net, cells, rng).wrong == []
    polygon, code, tensor = cells[0]
    changed = {
        "4 regions": cells[1:],
        "twice": [(polygon, cells[1][1], tensor), *cells[1:]],
        "code of a region": [(polygon, (2, 2), tensor), *cells[1:]],
        "map_error": [(polygon, code, tensor + 1e-8), *cells[1:]],
        "area_error": [([(0.999 * x, y) for x, y in polygon], code, tensor), *cells[1:]],
        "lie in one": [cells[1], *cells[1:]],
    }
    for what, others in changed.items():
        assert any(what in line for line in compare(p, net, others, rng).wrong), what


def test_kinds_of_networks():
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), clipping.Maxout(2)).double()
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
    rows, _ = run_random(config := Random(7, 4))
    assert rows["differences"] == rows["alarms"] == []
    blocks = [record("02-random-networks", dataclasses.asdict(config), rows)] * 2
    kinds = as_table(blocks, "kinds").groupby("kind").compared.sum()
    assert kinds["random weights"] == kinds["small dyadic weights"] == 4
    (block,) = rows["blocks"]
    assert all(0 < block[name] < largest for name, largest in ERRORS.items())
    assert "| small dyadic weights | 4 |" in tables.random_table(blocks)


def test_random_summary_counts_networks_and_takes_the_largest_errors():
    def block(seed: int, error: float, wrong: list[int]) -> Record:
        row = {"rational_networks": 3, "undecided_regions": 1, **dict.fromkeys(ERRORS, error)}
        differences = [{"weights": "random", "network_seed": n, "difference": "a code occurs twice"} for n in wrong]
        alarms = [{"weights": "random", "network_seed": 9, "message": "refused"}] if seed else []
        found = {"blocks": [row], "alarms": alarms, "differences": differences}
        return record("02-random-networks", {"seed": seed, "networks": 10}, found)

    numbers = re.findall(r"\d[\w.-]*", tables.random_summary([block(0, 1e-15, []), block(1, 2e-14, [5, 5, 6])]))
    assert numbers[:4] == ["19", "6", "2", "1"]  # compared, in rationals, mismatches, refused
    assert numbers[4:] == ["2e-14"] * 4 + ["64", "2."]  # the errors, float64, undecided


# Verdicts -------------------------------------------------------------------------------------------------------------


def toy_record(
    seed: int, biases: str, *, defect=0.0, touching=0.01, near=3.0, accuracy=0.97, **deeper: float
) -> Record:
    """A network that begins with all cells at the origin and equal densities; `deeper` changes the row of layer 2."""
    start = {"epoch": 0, "accuracy": 0.25, "touching_share": 1.0, "density_near": 1 + 0.01 * seed}
    end = {"epoch": 9, "accuracy": accuracy, "touching_share": touching, "density_near": near * (1 + 0.01 * (seed % 3))}
    straight = {"codes": 5, "parts": 5, "not_convex": 0, "largest_defect": 0.0}
    convexity = [
        {"cells_of": "layer 1", **straight},
        {"cells_of": "layer 2", **straight, "not_convex": 1, "largest_defect": 0.3, **deeper},
        {"cells_of": "joint", **straight, "largest_defect": defect},
    ]
    epochs = [{**row, "density_elsewhere": 1.0} for row in (start, end)]
    config = {"seed": seed, "biases": biases, "epochs": [0, 9]}
    return record("02-toy", config, {"epochs": epochs, "convexity": convexity})


def toy_records(biases: str, seeds: range, **changes: float) -> list[Record]:
    return [toy_record(seed, biases, **changes) for seed in seeds]


def outcomes(results: dict[str, list[Record]]) -> dict[str, str]:
    return {v.claim: v.outcome for v in verdicts(results)}


def test_verdicts_without_records_or_with_too_few():
    assert set(outcomes({}).values()) == {"not tested"}
    few = toy_records("zero", range(2)) + toy_records("uniform", range(2))
    assert set(outcomes({"02-toy": few}).values()) == {"not tested"}


def test_verdicts_on_the_toy_net_follow_their_criteria():
    zero, uniform = toy_records("zero", range(20)), toy_records("uniform", range(10))
    good = outcomes({"02-toy": zero + uniform})
    assert {good[claim] for claim in ("02.1", "02.2", "02.4", "02.6")} == {"holds"}
    bad = toy_records("zero", range(20), defect=0.1, touching=0.5) + toy_records("uniform", range(10), near=0.3)
    assert {outcomes({"02-toy": bad})[claim] for claim in ("02.1", "02.4", "02.6")} == {"does not hold"}
    one = outcomes({"02-toy": [*zero[1:], toy_record(0, "zero", touching=0.06)]})
    assert (one["02.1"], one["02.2"], one["02.6"]) == ("holds", "holds", "does not hold")
    zero[0].tables["epochs"][0]["touching_share"] = 0.99
    assert outcomes({"02-toy": zero})["02.2"] == "does not hold"


def test_bends_are_judged_on_living_networks_of_new_seeds():
    def outcome(*others: Record) -> str:
        return outcomes({"02-toy": [*toy_records("zero", toy.NEW_SEEDS[len(others) :]), *others]})["02.5"]

    flat = {"not_convex": 0, "largest_defect": 0.0}
    assert outcome() == "holds"
    assert outcome(toy_record(100, "zero", **flat)) == "does not hold"
    assert outcome(toy_record(100, "zero", accuracy=0.25, **flat)) == "holds"  # dead
    assert outcome(*(toy_record(seed, "zero", accuracy=0.25) for seed in range(100, 106))) == "not tested"
    assert outcome(toy_record(100, "zero", largest_defect=0.04)) == "does not hold"
    assert outcome(*toy_records("zero", toy.NEW_SEEDS, largest_defect=0.04)) == "too small to matter"
    assert outcomes({"02-toy": toy_records("zero", range(20))})["02.5"] == "not tested"
    assert outcomes({"02-toy": toy_records("zero", toy.NEW_SEEDS)})["02.1"] == "not tested"


def test_density_ratios_are_geometric_means_over_seeds():
    ratios = density_ratios(toy_records("uniform", range(3)))
    assert ratios["before"] == pytest.approx(np.log([1, 1.01, 1.02]))
    assert geometric(ratios["after"]).mean == pytest.approx(3 * (1.01 * 1.02) ** (1 / 3))
    assert ratios["change"] == pytest.approx([math.log(3)] * 3)


def test_density_holds_with_conditions_where_training_adds_nothing():
    unchanged = toy_records("uniform", range(10), near=1.05)  # above 1, and as much as before training
    assert outcomes({"02-toy": unchanged})["02.4"] == "holds with conditions"


def count_record(seed: int, regions) -> Record:
    """`regions` gives the count of a depth, a number of units and an epoch."""
    sizes = [(depth, units, epoch) for depth in (1, 6) for units in (10, 20) for epoch in (0, 5)]
    rows = [{"depth": d, "units": n, "epoch": e, "regions": regions(d, n, e)} for d, n, e in sizes]
    return record("02-counts", {"seed": seed, "epochs": [0, 5]}, {"regions": rows})


@pytest.mark.parametrize(
    ("regions", "outcome"),
    [
        (lambda depth, units, epoch: (1 + epoch // 5) * units**2, "holds"),
        (lambda depth, units, epoch: (1 + epoch) * units**2, "holds with conditions"),  # training: a factor of 6
        (lambda depth, units, epoch: units**3, "holds with conditions"),
        (lambda depth, units, epoch: units**depth, "does not hold"),
    ],
)
def test_verdict_on_counts(regions, outcome):
    assert outcomes({"02-counts": [count_record(seed, regions) for seed in range(10)]})["02.3"] == outcome


# Figures --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film() -> Record:
    found, arrays = toy.run_film(config := toy.Film(0, 400, (0, 2)))
    return record("02-film", dataclasses.asdict(config), found, arrays)


def test_animation_carries_its_frames_and_needs_nothing_from_outside(film):
    page = animation(film)
    assert "http" not in page
    assert "src=" not in page
    assert "function playFilm(root, frames)" in page
    frames = json.loads(page.partition("playFilm(document.currentScript.parentElement, ")[2].partition(");\n")[0])
    assert [f["epoch"] for f in frames] == [0, 2]
    data = np.frombuffer(base64.b64decode(frames[0]["data"]), "<u2")
    p = figures.learned(film, 0)
    assert data[0] == frames[0]["cells"] == len(p)
    assert data[1 : 1 + 4 * len(p) : 4].sum() * 2 + 1 + 4 * len(p) == len(data)


def test_figures_show_every_cell_and_colours_agree_between_layers(film):
    p = figures.learned(film)
    colours = figures.toy_colours(p)
    for name, layers in (("layer 1", ["1"]), ("layer 2", ["3"])):
        label = p.pullback(*layers).label
        for kind in range(label.max() + 1):
            assert np.ptp(colours[name][label == kind], axis=0).max() == 0
    fig = figures.layers(film)
    assert [len(ax.collections[0].get_paths()) for ax in fig.axes] == [len(p)] * 3
    plt.close(fig)


def test_decided_cells_are_cut_along_the_decision_boundary(film):
    model = toy.restored(film.arrays["parameters"][-1])
    p, answer = figures.decided(model, toy.window())
    outputs = model(p.plane.points(p.centres)).detach().numpy()
    assert len(p) >= len(figures.learned(film))
    assert np.array_equal(outputs.argmax(1), answer)
    polygons = p.polygons()
    points = np.concatenate([0.99 * polygon + 0.01 * polygon.mean(0) for polygon in polygons])  # next to every corner
    answers = model(torch.from_numpy(points)).argmax(1).numpy()
    assert np.array_equal(answers, np.repeat(answer, [len(polygon) for polygon in polygons]))


def test_borders_are_drawn_between_cells_of_different_label_alone():
    p = partition(cross(), Plane.square(-1, 1))
    _, ax = plt.subplots()
    figures.draw_borders(ax, p, (p.centres[:, 0] > 0).astype(int))
    drawn = np.array(ax.collections[0].get_segments())
    assert drawn[..., 0] == pytest.approx(np.zeros((2, 2)))  # the two halves of the vertical axis
    plt.close("all")


def test_a_tile_shows_the_network_and_its_affine_map_side_by_side(film):
    p, cell = figures.largest_tile(film)
    fig = figures.tile(p, cell)
    heights = [[bar.get_height() for bar in bars] for bars in fig.axes[1].containers]
    model = toy.restored(film.arrays["parameters"][-1])
    output = model(torch.from_numpy(p.centres[cell])[None])[0].tolist()
    assert heights[0] == pytest.approx(output)
    assert heights[1] == pytest.approx(output)
    plt.close(fig)


def test_what_grids_miss_falls_with_their_points(film):
    config = {"seed": 0, "network": "small conv net"}
    windows = [{"window": "whole", "regions": 10}, {"window": "elsewhere", "regions": 99}]
    grids = [{"window": w["window"], "points_per_side": n, "regions_met": n} for w in windows for n in (2, 5)]
    found = figures.grid_misses(film, [record("02-slices", config, {"windows": windows, "grids": grids})], (10, 100))
    toy_net, conv = (rows for _, rows in found.groupby("cells", sort=False))
    assert toy_net.points.tolist() == [100, 10_000]
    assert toy_net.missed_share.is_monotonic_decreasing
    assert conv[["points", "missed_share"]].values.tolist() == [[4, 0.8], [25, 0.5]]  # of the first window


def test_slice_table_says_where_the_number_of_cells_is_an_estimate():
    net = {"accuracy": 0.5, "units": 1568, "plane_regions": 2.2e6, "plane_low": 1.96e6, "plane_high": 3e9}
    window = {"window": "around an image", "s_min": 0.1, "s_max": 0.3, "regions": 1234, "cpu_seconds": 0.5}
    records = [
        record("02-slices", {"seed": 0, "network": "A"}, {"networks": [net], "windows": [window]}),
        record(
            "02-slices", {"seed": 1, "network": "B"}, {"networks": [net], "windows": [{**window, "window": "whole"}]}
        ),
    ]
    last = [line.split(" | ")[5:] for line in tables.slice_table(records).splitlines()[2:]]
    assert last == [["1,234", "0.5 s", "2 million to 3 billion |"], ["1,234", "0.5 s", "1,234 |"]]
