"""Numbers that partitions must survive: huge and tiny ones, infinity, ties to rounding; closed forms; bad arguments."""

from __future__ import annotations

import copy
import math
import pickle
from collections import Counter
from itertools import combinations

import habits
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from zoo import Apply

import maso
from maso import MasoError, Plane, partition
from maso.operators import GATES
from maso.partition import forward, geometry, noise, run
from maso.partition.complex import Complex, Degenerate
from maso.partition.constants import OPERATOR
from maso.partition.estimate import _Sampler
from maso.partition.network import read_network
from maso.partition.noise import Unresolved
from maso.partition.tiles import Limits
from maso.partition.tournament import prune
from maso_book.shared.random_networks import dense_layers, generic

DOUBLE = torch.float64
SQUARE = Plane.square(-2, 2)
LOWEST = [-1e14, -1e15, -1e18, -3.4e38, -1e300, torch.finfo(DOUBLE).min, -math.inf]


def layer(inputs: int, outputs: int, seed: int) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs).double().requires_grad_(False)


class Masked(nn.Module):
    """Maxima of pairs after a mask, and a layer behind."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.first, self.second = layer(2, 6, 0), layer(3, 4, 1)
        self.register_buffer("mask", torch.tensor([0, value, 0, value, 0, 0], dtype=DOUBLE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second((self.first(x) + self.mask).view(-1, 3, 2).amax(2)).relu()


def padded(value: float) -> nn.Module:
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 2, 2).double()
    return Apply(lambda x, c: F.max_pool2d(F.pad(c(x), (1, 1, 1, 1), value=value), 2, 1).flatten(1).relu(), conv)


def dead(value: float) -> nn.Module:
    """The network of a public report: one unit has this bias."""
    model = nn.Sequential(layer(2, 6, 1), nn.ReLU(), layer(6, 6, 2), nn.ReLU(), layer(6, 2, 3))
    with torch.no_grad():
        model[0].bias[0] = value
    return model


# ---------------------------------------------------------------- what does not meet does not matter
@pytest.mark.parametrize("value", LOWEST)
def test_a_mask_that_means_minus_infinity_hides_its_entry_and_nothing_else(value: float) -> None:
    few, p = partition(Masked(-100.0), SQUARE), partition(Masked(value), SQUARE)
    assert len(p) == len(few) == 14
    assert np.allclose(np.sort(p.areas), np.sort(few.areas), rtol=1e-9)
    assert p.certified == "all centres"


@pytest.mark.parametrize("value", LOWEST)
def test_a_padding_that_means_minus_infinity(value: float) -> None:
    plane = Plane.through(*torch.randn(3, 1, 4, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(3)))
    assert len(partition(padded(value), plane)) == len(partition(padded(-100.0), plane)) > 100


@pytest.mark.parametrize("value", LOWEST)
def test_a_dead_unit_with_a_huge_bias(value: float) -> None:
    p, few = partition(dead(value), SQUARE), partition(dead(-100.0), SQUARE)
    assert len(p) == len(few)
    assert (p.keys == few.keys).all()
    assert p.certified == "all centres"


def test_an_output_with_huge_numbers_leaves_the_others_exact() -> None:
    model = dense_layers(2, 8, 8, 2)
    few = partition(model, SQUARE)
    with torch.no_grad():
        model[-1].weight[0] *= 1e15
    p = partition(model, SQUARE)
    assert (p.keys == few.keys).all()
    assert np.allclose(p.affine()[0][:, 1], few.affine()[0][:, 1], rtol=1e-12, atol=1e-12)
    assert p.scale[0] > 1e13 > 1e3 > p.scale[1]


def test_no_bound_is_no_bound() -> None:
    first = layer(2, 4, 0)
    for f, g in (
        (lambda t: t.clamp(-torch.inf, 0.1), lambda t: t.clamp(max=0.1)),
        (lambda t: F.hardtanh(t, -0.1, math.inf), lambda t: t.clamp(min=-0.1)),
    ):
        one, other = (partition(Apply(lambda x, a, h=h: h(a(x)), first), SQUARE) for h in (f, g))
        assert len(one) == len(other) > 4
        assert np.array_equal(np.sort(one.areas), np.sort(other.areas))
    for bounds in ((math.inf, None), (None, -math.inf), (-math.inf, math.inf), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="bound"):
            GATES["clamp"](1, *bounds)


def test_minus_infinity_switches_a_relu_off() -> None:
    mask = torch.tensor([0, -torch.inf, 0], dtype=DOUBLE)
    assert len(partition(Apply(lambda x, a: (a(x) + mask).relu(), layer(2, 3, 0)), SQUARE)) == 4


# ---------------------------------------------------------------- refusals that name what is to blame
def calculates(mask: torch.Tensor) -> nn.Module:
    return Apply(lambda x, a, b: b(a(x) + mask), layer(2, 3, 0), layer(3, 1, 0))


REFUSED = {
    "NaN weight": (lambda: dead(math.nan), r"'0\.bias' holds NaN"),
    "infinite weight": (lambda: dead(math.inf), r"module '2' calculates with .* '0\.bias' holds inf"),
    "infinite mask": (
        lambda: calculates(torch.tensor([0, -torch.inf, 0], dtype=DOUBLE)),
        r"'linear' in module 'parts\.1' calculates with numbers beyond 1e\+280: .* holds -inf",
    ),
    "infinite output": (
        lambda: Apply(lambda x, a: F.leaky_relu(a(x) + torch.full((3,), -torch.inf, dtype=DOUBLE)), layer(2, 3, 0)),
        "as outputs: .* holds -inf",
    ),
    "lost in a sum": (
        lambda: Apply(lambda x, a: ((a(x) + 1e15) - 1e15).relu(), layer(2, 3, 0)),
        r"layer 'relu': numbers near .*e\+15 meet in unit \d, which varies by .* depends on: -?1e\+15 in",
    ),
    "lost without a trace": (
        lambda: Apply(lambda x, a: ((a(x) + 1e30) - 1e30).relu(), layer(2, 3, 0)),
        r"layer 'relu': numbers near .*e\+30 meet",
    ),
    "lost in a maximum": (
        lambda: Apply(lambda x, a: (a(x) + 1e17).amax(1, keepdim=True), layer(2, 3, 0)),
        "layer 'amax': numbers near",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_layer_and_the_tensor(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(MasoError, match=message):
        partition(make(), SQUARE)


def test_an_estimate_says_why_there_is_none() -> None:
    with pytest.raises(MasoError, match=r"no window small enough .* layer 'relu': numbers near"):
        maso.estimate_regions(REFUSED["lost in a sum"][0](), SQUARE)


@pytest.mark.parametrize("asked", [partition, maso.estimate_regions])
def test_arguments_that_are_none(asked) -> None:
    with pytest.raises(MasoError, match=r"expected a maso\.Plane"):
        asked(dead(1.0), (-1, 1, -1, 1))
    if asked is partition:
        for wrong in (None, 0, 2.5, "many"):
            with pytest.raises(MasoError, match="max_regions"):
                partition(dead(1.0), SQUARE, max_regions=wrong)
        with pytest.raises(MasoError, match="max_bytes"):
            partition(dead(1.0), SQUARE, max_bytes=-1)
    else:
        with pytest.raises(MasoError, match="samples"):
            maso.estimate_regions(dead(1.0), SQUARE, samples=None)


STEEP = [18633, 18009, 10598]  # units of slopes 2²⁰ and 1 meet: regions a millionth of the window wide


@pytest.mark.parametrize("seed", STEEP)
def test_regions_that_drown_in_numbers_of_other_places_are_refused_by_name(seed: int) -> None:
    model, plane = next((m, p) for s, m, p, _ in habits.networks(seed // habits.DRAWS) if s == seed)
    with pytest.raises(
        MasoError, match=r"at layer '\d' .* the line of a unit runs through a vertex; the largest numbers"
    ):
        partition(model, plane)


def test_where_a_value_is_neither_zero_nor_not_smaller_windows_say() -> None:
    model, plane = next((m, p) for s, m, p, _ in habits.networks(1856) if s == 18567)
    p = partition(model, plane)
    assert p.tiles > 1
    assert len(p) == 134  # as by clipping in rationals; in one window a sliver of 6e-22 comes to it


# ---------------------------------------------------------------- ties
def test_a_dead_relu_after_batch_norm_ties_with_a_live_one() -> None:
    """Where both are off their values are equal in exact arithmetic: the first wins, on either side of it."""
    for live in range(3):
        shift = torch.full((3,), -9.0, dtype=DOUBLE)
        shift[live] = 0.0
        norm = nn.BatchNorm1d(3).double().eval().requires_grad_(False)
        norm.running_mean.fill_(0.1)
        norm.running_var.fill_(0.3)
        norm.bias.fill_(0.7)
        model = Apply(lambda x, a, b, c=shift: b(F.relu(a(x) + c)).amax(1, keepdim=True), layer(2, 3, 0), norm)
        p = partition(model, SQUARE)
        assert {int(p.code(i)["amax"][0]) for i in range(len(p))} == {0, live}
        assert len(p) == 2


@pytest.mark.parametrize("ahead", [0.0, 1e-16, -1e-16])
def test_an_earlier_entry_loses_only_by_more_than_rounding(ahead: float) -> None:
    """Two entries near 1 that differ by one rounding, one of them higher in a part of the window."""
    low, high = np.array([1.0, 1.0 + ahead]), np.array([1.0, 2.0])
    rows = torch.zeros((noise.HEAD + 1, 2), dtype=DOUBLE)

    def bounds(some: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if some.shape[1] == 2:
            return low, high, np.ones(2)
        return np.array([ahead]), np.array([1.0]), np.ones(1)

    _, still_open, candidates, _ = prune(rows, np.array([[0, 1]]), np.array([0.0, 1.0]), bounds)
    assert still_open.tolist() == [0]
    assert candidates.tolist() == [[0, 1]]


def test_a_huge_entry_has_no_say_between_two_others() -> None:
    """The slack of a comparison is that of its two entries."""
    low, high = np.array([0.0, 0.5, -1e15]), np.array([0.4, 0.9, -1e15])
    rows = torch.zeros((noise.HEAD, 3), dtype=DOUBLE)
    winner, still_open, _, _ = prune(
        rows, np.array([[0, 1, 2]]), np.array([0.4, 0.4, 0.0]), lambda r: (low, high, np.array([1.0, 1.0, 1e15]))
    )
    assert winner.tolist() == [1]
    assert not len(still_open)


# ---------------------------------------------------------------- noise
def test_noise_is_that_of_what_has_met() -> None:
    """h = (x + 1e6) − 1e6 carries the rounding of 10⁶, its neighbour none of it, and a dead unit none at all."""
    model = nn.Sequential(layer(2, 3, 0), layer(3, 3, 0), nn.ReLU())
    with torch.no_grad():
        model[0].bias[0] = 1e6
        model[1].weight.copy_(torch.eye(3))
        model[1].bias.copy_(torch.tensor([-1e6, 0.0, -1e9]))
    graph, snapshot = read_network(model, torch.zeros(2))
    _, size = forward.judge(graph, snapshot, torch.rand(5, 2, dtype=DOUBLE), ties=False)
    p = partition(model, SQUARE)
    assert 1e5 < p.scale[0] < 1e8
    assert p.scale[1] < 100
    assert p.scale[2] == 0
    assert (size[:, 2] == 0).all()


# ---------------------------------------------------------------- loops end
def test_a_ring_inside_a_region_is_refused() -> None:
    """A border of a merged region that has no corner: pointer doubling would go round for ever."""
    cells = Complex((-1, 1, -1, 1))
    n = len(cells.x)
    ring = np.array([[-0.5, -0.5], [0.5, -0.5], [0.0, 0.5]])
    cells.x = np.concatenate([cells.x, ring])
    cells.corner, cells.snapped = (np.append(mark, [False] * 3) for mark in (cells.corner, cells.snapped))
    cells.start = np.append(cells.start, [n, n + 1, n + 2])
    cells.end = np.append(cells.end, [n + 1, n + 2, n])
    cells.left, cells.right = np.append(cells.left, [7, 7, 7]), np.append(cells.right, [1, 1, 1])
    with pytest.raises(Degenerate, match="never ends"):
        cells.rekey(cells.regions()[0])


def test_components_of_a_long_chain() -> None:
    order = np.random.default_rng(0).permutation(500)
    labels = geometry.components(502, order[:-1], order[1:])
    assert len(np.unique(labels[order])) == 1
    assert len(np.unique(labels)) == 3


def test_the_time_of_the_whole_window_ends_the_extrapolation() -> None:
    graph, snapshot = read_network(dense_layers(2, 8, 1), torch.zeros(2))
    sampler = _Sampler(graph, snapshot, SQUARE)
    sampler.codes(np.zeros((1, 2)))
    assert sampler.seconds((-0.1, 0.1, -0.1, 0.1), 1e9) > 0  # more regions than there are: no window has a quarter


# ---------------------------------------------------------------- copies
@pytest.mark.parametrize("seed", [2, 6, 11])
def test_a_partition_can_be_pickled_and_copied(seed: int) -> None:
    model, plane = generic(seed)
    p = partition(model, plane)
    _ = p.corners
    for q in (pickle.loads(pickle.dumps(p)), copy.deepcopy(p)):
        assert (q.keys == p.keys).all()
        assert q.certified == p.certified
        assert q.layers == p.layers
        assert (q.forward().key == p.keys).all()
        assert np.array_equal(q.slopes, p.slopes)
        assert np.array_equal(q.pullback(*p.layers).label, p.pullback(*p.layers).label)
        assert {k: v.tolist() for k, v in q.code(0).items()} == {k: v.tolist() for k, v in p.code(0).items()}


def test_a_deep_network_needs_no_deep_recursion() -> None:
    model = nn.Sequential(*(m for _ in range(200) for m in (nn.Linear(2, 2), nn.Identity()))).double()
    p = partition(model, SQUARE)
    assert len(copy.deepcopy(p)) == len(pickle.loads(pickle.dumps(p))) == 1


# ---------------------------------------------------------------- float32 models read as float64
def casts(x: torch.Tensor, a: nn.Module, b: nn.Module) -> torch.Tensor:
    return b(a(x.float()).relu().to(a.weight.dtype))


def makes_constants(x: torch.Tensor, a: nn.Module, b: nn.Module) -> torch.Tensor:
    return b(torch.maximum(a(x), torch.zeros(len(x), 8, dtype=torch.float32)))


def holds_a_tensor(x: torch.Tensor, a: nn.Module, b: nn.Module) -> torch.Tensor:
    return b(F.linear(F.linear(x, a.weight, a.bias).relu(), KERNEL))


KERNEL = torch.eye(8)


@pytest.mark.parametrize("function", [casts, makes_constants, holds_a_tensor])
def test_a_float32_model_with_types_of_its_own(function) -> None:
    torch.manual_seed(0)
    a, b = nn.Linear(3, 8), nn.Linear(8, 2)
    model, plain = Apply(function, a, b), nn.Sequential(a, nn.ReLU(), b)
    x = torch.randn(3, 3)
    plane = Plane.through(*x)
    assert len(partition(model, plane)) == len(partition(plain, plane)) > 8
    assert maso.estimate_regions(model, plane).regions == len(partition(plain, plane))
    if function is not makes_constants:
        assert torch.allclose(maso.boundary_distance(model, x), maso.boundary_distance(plain, x), rtol=1e-12)


# ---------------------------------------------------------------- closed forms
def lines(normals: np.ndarray, offsets: np.ndarray) -> nn.Module:
    first = nn.Linear(2, len(offsets)).double().requires_grad_(False)
    first.weight.copy_(torch.from_numpy(normals))
    first.bias.copy_(torch.from_numpy(offsets))
    return nn.Sequential(first, nn.ReLU())


def zaslavsky(normals: np.ndarray, offsets: np.ndarray) -> int:
    """1 + n + Σ over points where lines meet of (lines through it − 1): the count of Zaslavsky."""
    points: Counter = Counter()
    through: dict = {}
    for i, j in combinations(range(len(offsets)), 2):
        if abs(np.linalg.det(normals[[i, j]])) > 1e-12:
            point = tuple(np.round(np.linalg.solve(normals[[i, j]], -offsets[[i, j]]), 9) + 0.0)
            through.setdefault(point, set()).update((i, j))
    points.update({point: len(which) - 1 for point, which in through.items()})
    return 1 + len(offsets) + sum(points.values())


@pytest.mark.parametrize("n", [1, 5, 12, 24])
def test_zaslavskys_count_of_lines_in_general_position(n: int) -> None:
    rng = np.random.default_rng(n)
    angle = np.pi * (np.arange(n) + rng.uniform(0.2, 0.8, n)) / n
    normals, offsets = np.stack([np.cos(angle), np.sin(angle)], 1), rng.uniform(-1, 1, n)
    p = partition(lines(normals, offsets), Plane.square(-300, 300))
    assert len(p) == zaslavsky(normals, offsets) == 1 + n + math.comb(n, 2)


def test_zaslavskys_count_of_special_arrangements() -> None:
    angle = np.pi * np.arange(7) / 7
    pencil = np.stack([np.cos(angle), np.sin(angle)], 1)
    assert len(partition(lines(pencil, np.zeros(7)), SQUARE)) == zaslavsky(pencil, np.zeros(7)) == 14
    grid = np.array([[1.0, 0]] * 4 + [[0, 1.0]] * 3)
    offsets = np.array([-1, -0.5, 0.5, 1, -1, 0, 1])
    assert len(partition(lines(grid, offsets), SQUARE)) == zaslavsky(grid, offsets) == 5 * 4
    both, offsets = np.concatenate([pencil, grid]), np.concatenate([np.zeros(7), offsets + 0.1])
    assert len(partition(lines(both, offsets), Plane.square(-40, 40))) == zaslavsky(both, offsets)


@pytest.mark.parametrize("widths", [(2, 20, 1), (2, 12, 12, 1), (2, 8, 8, 8, 1)])
def test_regions_have_less_than_four_neighbours_on_average(widths: tuple[int, ...]) -> None:
    """Lines of gates go on across the lines of earlier layers, so that four edges meet at every inner vertex: with V of
    these and B ends on the border there are 1 + V + B / 2 regions and 2 V + B / 2 edges between two."""
    p = partition(dense_layers(*widths, seed=widths[1]), SQUARE)
    on_border = (np.abs(p.vertices) == 2).any(1)
    corner = (np.abs(p.vertices) == 2).all(1)
    inner, ends = int((~on_border).sum()), int((on_border & ~corner).sum())
    assert len(p) == 1 + inner + ends / 2
    assert len(p.adjacency) == 2 * inner + ends / 2
    assert 2 * len(p.adjacency) / len(p) < 4


# ---------------------------------------------------------------- networks with habits
@pytest.mark.parametrize("block", range(3))
def test_networks_with_habits_agree_with_clipping(block: int) -> None:
    found = habits.tally(range(3 * block, 3 * block + 3))
    assert found.tried == 3 * habits.DRAWS
    assert found.rational > 3
    assert not found.wrong
    assert not found.refused


@pytest.mark.parametrize(("fails", "tries_each"), [(Degenerate("on purpose"), 2), (Unresolved(0, 1e9, 1e-9), 1)])
def test_certificates_look_closely_within_a_budget(
    monkeypatch: pytest.MonkeyPatch, fails: Degenerate, tries_each: int
) -> None:
    """Looks that fail cost what they took: a network in which every look fails does not look at every vertex."""
    looks, tries = [], []
    original, zoom_in = run.run_window, run._zoom_in

    def looking(*args: object) -> float:
        looks.append(args[3])
        return zoom_in(*args)

    def failing(*args: object, **kwargs: object) -> object:
        tries.append(args[2])
        original(*args, **kwargs)
        fails.cost = 1e12
        raise fails

    model, plane = generic(5)
    graph, snapshot = read_network(model, plane.origin)
    p = partition(model, plane)
    monkeypatch.setattr(run, "_zoom_in", looking)
    monkeypatch.setattr(run, "run_window", failing)
    monkeypatch.setattr(type(p), "snapped", property(lambda self: np.arange(len(self.vertices))))
    run._look_closer(graph, snapshot, p, budget=1e9)
    assert len(looks) == run.CLOSE_LOOKS
    # where lines could not be told apart once more a little closer; then the coordinates are no finer
    assert len(tries) == tries_each * run.CLOSE_LOOKS


def test_a_look_costs_its_operators_however_little_they_act_on() -> None:
    model, plane = generic(5)
    graph, snapshot = read_network(model, plane.origin)
    small = run.run_window(graph, snapshot, plane.window(-1e-9, 1e-9, -1e-9, 1e-9), Limits(10, 1 << 30)).cost
    assert small.operators == len(graph.nodes)
    assert small.closely == small.total + OPERATOR * small.operators
