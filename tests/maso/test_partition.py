"""Partitions against an independent reference, and every degenerate arrangement by name."""

from __future__ import annotations

import ast
import itertools
import math
import time
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import maso
from maso import MasoError
from maso.partition import Partition, Plane, edges, estimate_regions, frame, partition, run, threads, tiles
from maso.partition import complex as cells
from maso.partition.network import read_network
from maso_book.shared import clipping as reference
from maso_book.shared.comparison import compare
from maso_book.shared.random_networks import degenerate, dense_layers, generic

SQUARE = Plane.square(-1, 1)


def reference_cells(model: nn.Module, plane: Plane, number: type = float) -> list:
    return reference.partition(model, plane.origin, plane.u, plane.v, plane.bounds, number)


def check(p: Partition, model: nn.Module, rng: np.random.Generator) -> None:
    """Tiling, unique codes that are constant inside, and the affine maps at random interior points."""
    assert abs(p.areas.sum() / p.plane.area - 1) < 1e-9
    assert len(np.unique(p.keys)) == len(p)
    A, b = p.affine()
    weights = [rng.dirichlet(np.ones(len(c))) for c in p.polygons()]
    inside = np.stack([w @ c for w, c in zip(weights, p.polygons(), strict=True)])
    with torch.no_grad():
        expected = model(p.plane.points(inside)).flatten(1).numpy()
    ours = np.einsum("fkd,fd->fk", A, inside) + b
    assert np.abs(ours - expected).max() <= 1e-10 * max(1.0, np.abs(expected).max())
    found = p.locate(p.centres)
    assert (found == np.arange(len(p))).all()


@pytest.mark.parametrize("block", range(12))
def test_random_networks_agree_with_recursive_clipping(block: int) -> None:
    rng = np.random.default_rng(block)
    for seed in range(20 * block, 20 * block + 20):
        model, plane = generic(seed)
        p = partition(model, plane)
        assert not compare(p, model, reference_cells(model, plane), rng).wrong, seed
        check(p, model, rng)


@pytest.mark.parametrize("block", range(8))
def test_degenerate_networks_agree_with_rational_clipping(block: int) -> None:
    rng = np.random.default_rng(block)
    agreed, seed = 0, 1000 * block
    while agreed < 10:
        model, plane = degenerate(seed)
        p = partition(model, plane)
        seed += 1
        if len(p) > 150:  # rationals take minutes there
            continue
        cells = reference_cells(model, plane, Fraction)
        assert sum(reference.area(c[0]) for c in cells) == Fraction(plane.area)
        assert not compare(p, model, cells, rng).wrong, seed - 1
        agreed += 1


def test_codes_are_those_of_the_network_and_unique() -> None:
    model = dense_layers(2, 8, 8, 3, act=nn.LeakyReLU)
    p = partition(model, SQUARE)
    first = maso.codes(model, p.plane.points(p.centres))
    rows = torch.cat([v.flatten(1).long() for v in first.values()], 1)
    assert len(rows.unique(dim=0)) == len(p)
    for i in (0, len(p) // 2, len(p) - 1):
        assert {k: v.tolist() for k, v in p.regions[i].code.items()} == {
            k: v[i].flatten().long().tolist() for k, v in first.items()
        }


# ---------------------------------------------------------------- degenerate arrangements, by name
def linear(weight: list, bias: list) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight)).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight, dtype=torch.float64))
        layer.bias.copy_(torch.tensor(bias, dtype=torch.float64))
    return layer


OUT2, OUT3 = [[1.0, 2.0]], [[1.0, 2.0, -1.0]]
ARRANGEMENTS = {
    "one line": (linear([[1, 0]], [0]), 2),
    "duplicated units": (linear([[1, 0.5], [1, 0.5]], [0.2, 0.2]), 2),
    "a unit and its negative": (linear([[1, 0.5], [-1, -0.5]], [0.2, -0.2]), 2),
    "a unit and its double": (linear([[1, 0.5], [2, 1]], [0.2, 0.4]), 2),
    "triple point": (linear([[1, 0], [0, 1], [1, 1]], [0, 0, 0]), 6),
    "triple point off the origin": (linear([[1, 0], [0, 1], [1, 1]], [-0.25, -0.5, -0.75]), 6),
    "line along an edge of the window": (linear([[1, 0], [0, 1]], [1, 0]), 2),
    "line through two corners": (linear([[1, 1], [1, -1]], [0, 0]), 4),
    "line that touches one corner": (linear([[1, 1]], [2]), 1),
    "dead and always on": (linear([[1, 0], [1, 0], [1, 0]], [-5, 5, 0.5]), 2),
    "zero weights": (linear([[0, 0], [0, 0], [1, 0]], [1, 0, 0.5]), 2),
    "parallel lines close together": (linear([[1, 0], [1, 0]], [0.5, 0.5 + 2**-30]), 3),
}


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_arrangement(name: str) -> None:
    layer, regions = ARRANGEMENTS[name]
    model = nn.Sequential(layer, nn.ReLU(), linear([[1.0] * layer.out_features], [0.0]))
    p = partition(model, SQUARE)
    assert len(p) == regions == len(reference_cells(model, SQUARE, Fraction))


def test_numbers_in_which_a_neighbourhood_drowns_are_no_alarm() -> None:
    model, plane = degenerate(1_008_497)  # cones that meet in a corner, seen through x ↦ x + ¼
    assert len(partition(model, plane)) == len(reference_cells(model, plane, Fraction)) == 21


def test_no_biases_give_cones() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(2, 12, bias=False), nn.ReLU(), nn.Linear(12, 12, bias=False), nn.ReLU(), nn.Linear(12, 2)
    ).double()
    p = partition(model, SQUARE)
    assert len(p) == len(reference_cells(model, SQUARE))
    assert all(np.abs(polygon).sum(1).min() < 1e-9 for polygon in p.polygons())


def test_all_zero_pool_windows_cut_nothing() -> None:
    class Pool(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x).amax(1, keepdim=True)

    # relu(s − 3), relu(t − 3) are zero in the window: equal entries count as the first
    dead = nn.Sequential(linear([[1, 0], [0, 1]], [-3, -3]), Pool())
    assert len(partition(dead, SQUARE)) == 1
    # the ridge s = t starts where the lines s = 0 and t = 0 cross
    ridge = nn.Sequential(linear([[1, 0], [0, 1]], [0, 0]), Pool())
    p = partition(ridge, SQUARE)
    assert len(p) == 5
    assert sorted(np.round(p.areas, 12)) == [0.5, 0.5, 1, 1, 1]


def test_units_that_are_zero_on_a_whole_cell() -> None:
    model = nn.Sequential(linear([[1, 0]], [0]), nn.ReLU(), nn.ReLU(), linear([[1], [-1]], [0, 0]), nn.ReLU())
    p = partition(model, SQUARE)
    assert len(p) == 2


# ---------------------------------------------------------------- kinds of networks
class TimeFirst(nn.Module):
    """An RNN written with time before the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(1, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.a(x[:, :, None]).transpose(0, 1)
        h = torch.relu(steps[0])
        return torch.relu(steps[1] + self.b(h))


class Chunks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 8)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.a(x).chunk(2, 1)
        return torch.relu(first) + second.abs()


@pytest.mark.parametrize("kind", [TimeFirst, Chunks])
def test_other_layouts(kind: type[nn.Module]) -> None:
    torch.manual_seed(1)
    model = kind().double()
    check(partition(model, SQUARE), model, np.random.default_rng(0))


def test_rnn_module() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(1, 4, nonlinearity="relu", batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0][:, -1]

    torch.manual_seed(0)
    model = Last().double()
    plane = Plane(torch.zeros(3, 1), torch.tensor([[1.0], [0], [1]]), torch.tensor([[0.0], [1], [-1]]))
    check(partition(model, plane), model, np.random.default_rng(0))


def test_float32_model_is_read_as_float64_and_copied() -> None:
    model = dense_layers(2, 8, 8, 2).float()
    p = partition(model, SQUARE)
    double = dense_layers(2, 8, 8, 2).float().double()
    assert len(p) == len(partition(double, SQUARE))
    with torch.no_grad():
        model[0].weight.zero_()  # training goes on; the partition stays
    assert (p.forward().key == p.keys).all()


def test_network_without_kinks_has_one_region() -> None:
    p = partition(nn.Linear(2, 3).double(), SQUARE)
    assert len(p) == 1
    assert p.certified == "all centres"


# ---------------------------------------------------------------- tiles
@pytest.mark.parametrize("seed", [0, 5, 14, 17, 24])
def test_tiles_give_the_same_partition(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, plane = generic(seed)
    whole = partition(model, plane)
    monkeypatch.setattr(tiles, "run_window", _only_small(tiles.run_window, plane.area / 3))
    cut = partition(model, plane)
    assert whole.tiles == 1
    assert cut.tiles > 3
    assert (cut.keys == whole.keys).all()
    assert np.allclose(cut.areas, whole.areas, rtol=1e-6, atol=1e-12)
    assert [len(a) for a in cut.polygons()] == [len(a) for a in whole.polygons()]
    assert np.allclose(cut.values.sum(0), whole.values.sum(0))
    assert len(cut.vertices) == len(whole.vertices)


def _only_small(original: object, area: float) -> object:
    def run_window(graph: object, model: object, plane: Plane, limits: object, **kwargs: object) -> object:
        if plane.area > area:
            raise tiles.TooLarge
        return original(graph, model, plane, limits, **kwargs)  # type: ignore[operator]

    return run_window


def test_tiles_of_an_arrangement_with_lines_on_the_border() -> None:
    bounds = tiles._ninths(SQUARE.bounds)
    _, s, t, _ = bounds[3]  # the tile on the left in the middle row
    model = nn.Sequential(linear([[1, 0], [0, 1]], [-s, -t]), nn.ReLU(), linear(OUT2, [0]))
    graph, snapshot = read_network(model, SQUARE.origin)
    limits = tiles.Limits(10**6, 10**9)
    windows = [SQUARE.window(*b) for b in bounds]
    parts = [tiles.run_window(graph, snapshot, w, limits) for w in windows]
    assert len(tiles.stitch(parts, SQUARE).faces.key) == 4  # the lines lie along the cuts between the tiles


def test_too_many_regions_is_refused_with_an_estimate() -> None:
    model = dense_layers(2, 64, 64, 1)
    with pytest.raises(MasoError, match=r"more than max_regions = 500 regions: about [\d,]+ .* s here"):
        partition(model, SQUARE, max_regions=500)


def test_little_memory_means_tiles() -> None:
    model = dense_layers(2, 48, 48, 1)
    whole = partition(model, SQUARE)
    small = partition(model, SQUARE, max_bytes=1_000_000)
    assert small.tiles > 1
    assert (small.keys == whole.keys).all()
    with pytest.raises(MasoError, match="max_bytes"):
        partition(model, SQUARE, max_bytes=100_000)


@pytest.mark.parametrize(("half", "width"), [(1, 1.5), (8, 3), (100, 12)])  # regions everywhere, and in the middle only
def test_estimate_covers_the_count(half: float, width: float) -> None:
    model, window = dense_layers(2, 64, 64, 1), Plane.square(-half, half)
    guess = estimate_regions(model, window)
    assert guess.low < len(partition(model, window)) < guess.high < width * guess.low
    assert guess.seconds > 0
    assert estimate_regions(model, window).regions == guess.regions


def test_more_samples_narrow_the_interval() -> None:
    model = dense_layers(2, 48, 48, 1)
    guess = estimate_regions(model, SQUARE, samples=200)
    assert guess.low < len(partition(model, SQUARE)) < guess.high < 1.3 * guess.low


def test_few_regions_are_counted() -> None:
    model = dense_layers(2, 12, 12, 1)
    guess = estimate_regions(model, SQUARE)
    assert guess.low == guess.regions == guess.high == len(partition(model, SQUARE))
    assert len(partition(nn.Linear(2, 1), SQUARE)) == estimate_regions(nn.Linear(2, 1), SQUARE).regions == 1


def test_estimate_where_all_lines_meet() -> None:
    model = dense_layers(2, 300, 1)
    with torch.no_grad():
        model[0].bias.zero_()
    guess = estimate_regions(model, SQUARE)
    assert guess.low <= len(partition(model, SQUARE)) == 600 <= guess.high


def test_an_estimate_needs_samples() -> None:
    with pytest.raises(MasoError, match="at least 4"):
        estimate_regions(dense_layers(2, 8, 1), SQUARE, samples=3)


def test_progress_prints_tiles(capsys: pytest.CaptureFixture[str]) -> None:
    partition(dense_layers(2, 8, 1), SQUARE, progress=True)
    assert "100.0% of the window" in capsys.readouterr().err


# ---------------------------------------------------------------- certificates
def test_small_results_are_certified_or_sampled() -> None:
    p = partition(dense_layers(2, 32, 32, 1), SQUARE)
    assert p.certified == "all centres" or "of" in p.certified


@pytest.mark.parametrize("exponent", [10, 20, 30, 40, 60, 70, 100, 200])
def test_huge_windows_are_right_or_refused(exponent: int) -> None:
    model = dense_layers(2, 12, 12, 1, seed=3)
    plane = Plane.square(-(2.0**exponent), 2.0**exponent)
    cells = reference_cells(model, plane, Fraction)
    if exponent <= 20:
        assert len(partition(model, plane)) == len(cells)
        return
    try:
        p = partition(model, plane)
    except MasoError:
        return
    assert len(p) == len(cells)


@pytest.mark.parametrize("seed", [3, 21, 1008])
def test_a_slow_clock_decides_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many centres forwarded, tiles cut and vertices looked at closely, however long they take."""
    model, plane = degenerate(seed) if seed > 1000 else generic(seed)
    windows = []

    def counted(original: Any, *args: Any, **kwargs: Any) -> Any:
        windows.append(args[2].bounds)
        return original(*args, **kwargs)

    for module in (run, tiles):
        monkeypatch.setattr(module, "run_window", partial(counted, module.run_window))
    monkeypatch.setattr(tiles, "FREE", 0)  # so that the costs decide on tiles
    first = partition(model, plane)
    windows_of_first, windows[:] = list(windows), []

    hours = itertools.count(0.0, 3600.0)
    for name in ("perf_counter", "monotonic", "time", "process_time"):
        monkeypatch.setattr(time, name, lambda: next(hours))
    second = partition(model, plane)
    assert windows == windows_of_first
    assert (second.certified, second.tiles) == (first.certified, first.tiles)
    assert np.array_equal(second.keys, first.keys)


def test_only_the_estimate_reads_a_clock() -> None:
    """It reports seconds; what a partition does is decided by counts."""
    folder = Path(run.__file__).parent
    imported = {
        path.stem: {name for node in ast.walk(ast.parse(path.read_text())) for name in _modules(node)}
        for path in folder.glob("*.py")
    }
    assert {stem for stem, names in imported.items() if {"time", "timeit", "datetime"} & names} == {"estimate"}


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_wrong_values_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    original = frame.FrameReading.affine

    def affine(self: frame.FrameReading, operator: object) -> object:
        node = original(self, operator)  # type: ignore[arg-type]
        if len(self.rows[node].shape) == 2 and self.rows[node].shape[1] == 9:
            self.rows[node][:, 4] *= -1
        return node

    monkeypatch.setattr(frame.FrameReading, "affine", affine)
    with pytest.raises(MasoError, match=r"misses|differs"):
        partition(dense_layers(2, 7, 9, 5, 2), SQUARE)


# ---------------------------------------------------------------- what is read off
def test_equal_code_and_equal_map_are_different_numbers() -> None:
    # the second unit is on only where s > 0; where s < 0 nothing of the first layer reaches the output
    model = nn.Sequential(
        linear([[1, 0], [0, 1]], [0, 0]), nn.ReLU(), linear([[1, 0], [-1, 0]], [0, -0.5]), nn.ReLU(), linear(OUT2, [0])
    )
    p = partition(model, SQUARE)
    assert len(p) == 4
    assert p.linear_regions.max() + 1 == 2


def test_slopes_by_tangents_are_those_by_greens_formula() -> None:
    for seed in (3, 5, 7):
        model, plane = generic(seed)
        p = partition(model, plane)
        big = p.areas > 1e-5 * plane.area
        assert np.allclose(p.slopes[big], p.affine()[0][big], atol=1e-8)


def test_layers_and_pullback() -> None:
    model = dense_layers(2, 6, 6, 6, 2, seed=4)
    whole = partition(model, SQUARE)
    assert whole.layers == ["1", "3", "5"]
    first = partition(model, SQUARE, layers=["1"])
    assert len(first) == len(reference_cells(model[:2], SQUARE))
    two = partition(model, SQUARE, layers=["1", "3"])
    assert len(first) < len(two) < len(whole)
    assert two.values.shape[1] == 6
    back = whole.pullback("3")
    assert back.sets <= back.components <= len(whole)
    assert whole.pullback("1").sets == len(first) == whole.pullback("1").components
    assert whole.pullback("1", "3", "5").sets == len(whole)
    codes = maso.codes(model, SQUARE.points(whole.centres))["3"]
    assert back.sets == len(codes.flatten(1).long().unique(dim=0))
    with pytest.raises(MasoError, match=r"layers \['1'\] come before"):
        partition(model, SQUARE, layers=["3"])
    with pytest.raises(MasoError, match="expected a list of paths"):
        partition(model, SQUARE, layers="1")
    with pytest.raises(MasoError, match="the layers are"):
        partition(model, SQUARE, layers=["relu"])
    with pytest.raises(MasoError, match="the layers are"):
        whole.pullback("7")


def test_adjacency_is_one_change_of_choice() -> None:
    model = dense_layers(2, 6, 6, 1)
    p = partition(model, SQUARE)
    rows = torch.cat([v.flatten(1).long() for v in maso.codes(model, SQUARE.points(p.centres)).values()], 1)
    a, b = p.adjacency.T
    first_layer = (rows[a, :6] != rows[b, :6]).sum(1)
    assert (first_layer <= 1).all()
    assert ((rows[a] != rows[b]).any(1)).all()
    middle = p.edges.mean(1)
    assert len(middle) == len(p.adjacency)
    # Euler: inner edges of a connected planar map
    assert len(p.adjacency) >= len(p) - 1


def test_locate() -> None:
    model = dense_layers(2, 16, 16, 2)
    p = partition(model, SQUARE)
    points = np.random.default_rng(0).uniform(-1, 1, (5000, 2))
    found = p.locate(points)
    A, b = p.affine()
    ours = np.einsum("nkd,nd->nk", A[found], points) + b[found]
    with torch.no_grad():
        assert np.allclose(ours, model(torch.from_numpy(points)).numpy(), atol=1e-9)
    assert p.locate(np.array([[2.0, 0.0]])).tolist() == [-1]
    assert (p.locate(p.vertices) >= 0).all()
    with pytest.raises(MasoError, match="expected"):
        p.locate(np.zeros(2))


def _on_polylines(lines: list, points: np.ndarray) -> np.ndarray:
    distance = np.full(len(points), np.inf)
    for line in lines:
        a, d = line[:-1], np.diff(line, axis=0)
        t = ((points[:, None] - a) * d).sum(2) / np.maximum((d**2).sum(1), 1e-300)
        gap = points[:, None] - a - np.clip(t, 0, 1)[..., None] * d
        distance = np.minimum(distance, np.sqrt((gap**2).sum(2)).min(1))
    return distance


@pytest.mark.parametrize("classes", [1, 2, 3, 6])
def test_decision_boundary(classes: int) -> None:
    model = dense_layers(2, 10, 10, classes, seed=classes)
    with torch.no_grad():
        model[-1].bias -= model(torch.tensor([[0.2, 0.1]], dtype=torch.float64))[0]  # all equal somewhere
    p = partition(model, SQUARE)
    lines = p.decision_boundary()
    corners = np.concatenate(lines)
    with torch.no_grad():
        y = model(SQUARE.points(corners)).numpy()
    top = np.sort(y, 1)
    gap = np.abs(y[:, 0]) if classes == 1 else top[:, -1] - top[:, -2]
    assert gap.max() < 1e-9
    # every change of class between neighbours on a fine grid is near the boundary
    n = 60
    s = (np.arange(n) + 0.5) / n * 2 - 1
    grid = np.stack(np.meshgrid(s, s), 2)
    with torch.no_grad():
        z = model(SQUARE.points(grid.reshape(-1, 2))).numpy()
    label = (z[:, 0] > 0 if classes == 1 else z.argmax(1)).reshape(n, n)
    change = label[:, 1:] != label[:, :-1]
    middles = (grid[:, 1:] + grid[:, :-1])[change] / 2
    assert (_on_polylines(lines, middles) < 2 / n).all()


def test_boundary_of_a_pair() -> None:
    model = dense_layers(2, 10, 10, 3, seed=2)
    p = partition(model, SQUARE)
    for line in p.decision_boundary(0, 2):
        with torch.no_grad():
            y = model(SQUARE.points(line))
        assert (y[:, 0] - y[:, 2]).abs().max() < 1e-9
    with pytest.raises(MasoError, match="no output 3"):
        p.decision_boundary(3)


def test_plot_draws_every_region() -> None:
    import matplotlib

    matplotlib.use("Agg")
    p = partition(dense_layers(2, 6, 6, 2), SQUARE)
    ax = p.plot()
    assert len(ax.collections[0].get_paths()) == len(p)
    assert len(ax.collections[1].get_paths()) == len(p.decision_boundary())
    assert ax.get_xlim() == (-1, 1)
    ax = p.plot(color=np.arange(len(p)), boundary=False)
    assert len(ax.collections) == 1


def test_regions_are_a_sequence() -> None:
    p = partition(dense_layers(2, 6, 1), SQUARE)
    r = p.regions[-1]
    assert r.index == len(p) - 1
    assert r.polygon.shape[1] == 2
    assert r.A.shape == (1, 2)
    assert r.b.shape == (1,)
    assert math.isclose(r.area, p.areas[-1])
    assert len(p.regions[:3]) == 3
    assert sum(1 for _ in p.regions) == len(p)
    with pytest.raises(IndexError):
        _ = p.regions[len(p)]


# ---------------------------------------------------------------- planes
def test_planes() -> None:
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    plane = Plane.through(*x)
    c = plane.coordinates(x)
    assert np.abs(c).max() <= 0.75 + 1e-12
    assert torch.allclose(plane.points(c), x)
    assert abs(float((plane.u * plane.v).sum())) < 1e-12
    assert math.isclose(float(plane.u.norm()), float(plane.v.norm()))
    assert plane.shape == (1, 4, 4)
    with pytest.raises(MasoError, match="one line"):
        Plane.through(x[0], x[1], x[0])
    with pytest.raises(MasoError, match="parallel"):
        Plane(torch.zeros(2), torch.ones(2), torch.ones(2))
    with pytest.raises(MasoError, match="empty"):
        Plane.square(1, -1)
    with pytest.raises(MasoError, match="shape"):
        Plane(torch.zeros(3), torch.ones(2), torch.ones(2))
    with pytest.raises(MasoError, match="finite"):
        Plane.square(-math.inf, 1)


def test_plane_of_another_shape_is_refused() -> None:
    with pytest.raises(MasoError):
        partition(dense_layers(3, 4, 1), SQUARE)
    with pytest.raises(MasoError, match=r"torch\.nn\.Module"):
        partition(torch.relu, SQUARE)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(12))
def test_threads_change_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed < 4:
        torch.manual_seed(seed)
        widths = (2, 48, 48, 48, 3)
        layers = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
        model, plane = nn.Sequential(*layers[:-1]).double(), Plane.square(-3, 3)
    else:
        model, plane = generic(seed) if seed < 8 else degenerate(seed)
    found = []
    for count, pays, block in ((1, 1 << 18, 1 << 20), (3, 0, 4)):
        monkeypatch.setattr(threads, "_MANY", pays)
        for module, name in ((edges, "ROWS"), (edges, "EDGES"), (frame, "ROWS"), (cells, "REGIONS")):
            monkeypatch.setattr(module, name, block)
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            found.append(partition(model, plane))
        finally:
            torch.set_num_threads(before)
    one, three = found
    assert np.array_equal(one.keys, three.keys)
    for name in ("areas", "centres", "vertices", "values"):  # torch's own threads add up in another order
        expected = getattr(one, name)
        assert np.abs(getattr(three, name) - expected).max() <= 1e-12 * np.abs(expected).max(), name
