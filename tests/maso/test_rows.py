"""Every row of the table of operators against the function itself: values of the eager model, no graph, no autograd."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import maso
from maso import NotPiecewiseAffine
from maso_book.datasets import import_torchvision

DOUBLE = torch.float64


class Row(nn.Module):
    """One function of (N, 4, 4, 4) with constants at hand: a matrix, positions, a mask, places."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.register_buffer("W", torch.randn(4, 4))
        self.register_buffer("at", torch.tensor([2, 0, 3]))
        self.register_buffer("mask", torch.tensor([True, False, True, True]))
        self.register_buffer("grid", torch.rand(1, 3, 5, 2) * 2.4 - 1.2)

    def forward(self, x):
        return self.function(x, self)


def network(function):
    """A small network with the row in its middle, R² → R²; smooth where the row is affine but for eight ReLUs."""
    torch.manual_seed(0)
    row = Row(function)
    with torch.no_grad():
        width = row(torch.zeros(2, 4, 4, 4)).flatten(1).shape[1]
    before, after = (
        nn.Sequential(nn.Linear(2, 64), nn.Unflatten(1, (4, 4, 4))),
        nn.Sequential(nn.Flatten(), nn.Linear(width, 8)),
    )
    return nn.Sequential(before, row, after, nn.ReLU(), nn.Linear(8, 2)).double().eval()


def set_slice(x, s):
    y = x * 1
    y[:, 0] = 0.5
    y[:, 1:3] = x[:, :2]
    y[:, :, ::2, 1] += 1
    return y


def set_positions(x, s):
    y = torch.zeros_like(x)
    y[:, s.at] = x[:, :3]
    y[:, :, s.mask] = 0.5
    return y


def copied(x, s):
    y = torch.empty_like(x)
    y.copy_(x)
    y[:, 1].copy_(s.W)
    y[:, 2].zero_()
    y[:, 3, 1:].fill_(2)
    y.diagonal(0, 2, 3).mul_(3)
    return y


def onto_constants(x, s):
    y = s.W.expand_as(x).clone()
    y[:, s.at] = x[:, :3]
    z = 2 * x
    z[:, s.at] = s.W
    return y - z


def in_turn(function):
    """The constant first and the input second, and the other way round."""
    return lambda x, s: function(x, s.W.expand_as(x), s) - 2 * function(s.W.expand_as(x), x, s)


def turned(x, s):
    grid = F.affine_grid(s.W[:2, :3].expand(len(x), 2, 3), (len(x), 4, 3, 3), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def places(x, s):
    return s.at[:, None, None].expand(len(x), 3, 4, 4)


AFFINE = {
    "bilinear": lambda x, s: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear, corners": lambda x, s: F.interpolate(x, size=(5, 7), mode="bilinear", align_corners=True),
    "bilinear, antialiased": lambda x, s: F.interpolate(x, size=(2, 3), mode="bilinear", antialias=True),
    "bicubic": lambda x, s: F.interpolate(x, scale_factor=1.5, mode="bicubic"),
    "bicubic, antialiased": lambda x, s: F.interpolate(x, size=(3, 2), mode="bicubic", antialias=True),
    "nearest": lambda x, s: F.interpolate(x[:, 0], size=5) + F.interpolate(x[:, None], size=(2, 4, 5))[:, 0, 0],
    "nearest exact": lambda x, s: F.interpolate(x, size=(5, 7), mode="nearest-exact"),
    "nearest exact, one axis": lambda x, s: F.interpolate(x[:, 0], size=5, mode="nearest-exact"),
    "nearest exact, three axes": lambda x, s: F.interpolate(x[:, None], size=(2, 5, 3), mode="nearest-exact"),
    "area": lambda x, s: F.interpolate(x, size=(3, 3), mode="area"),
    "linear": lambda x, s: F.interpolate(x[:, 0], size=7, mode="linear"),
    "trilinear": lambda x, s: F.interpolate(x[:, None], size=(2, 5, 7), mode="trilinear"),
    "grid sample": lambda x, s: F.grid_sample(x, s.grid.expand(len(x), -1, -1, -1), align_corners=False),
    "grid sample, nearest": lambda x, s: F.grid_sample(x, s.grid.expand(len(x), -1, -1, -1), "nearest", "border", True),
    "affine grid": turned,
    "einsum": lambda x, s: torch.einsum("vw,nctw->nctv", s.W, x),
    "einsum, implicit": lambda x, s: torch.einsum("abcd,de", x, s.W),
    "einsum, dots": lambda x, s: torch.einsum("...w,vw->...v", x, s.W),
    "einsum, constant of the batch": lambda x, s: torch.einsum("nvw,ncwt->ncvt", s.W.expand(len(x), 4, 4), x),
    "matmul": lambda x, s: s.W @ x - x @ s.W,
    "bmm": lambda x, s: torch.bmm(s.W.expand(len(x), 4, 4), x[:, 0]),
    "bmm, repeated": lambda x, s: torch.bmm(x[:, 0], s.W.repeat(len(x), 1, 1)),
    "baddbmm": lambda x, s: torch.baddbmm(s.W, s.W.expand(len(x), 4, 4), x[:, 0], beta=0.5, alpha=2),
    "baddbmm of two": lambda x, s: torch.baddbmm(x[:, 1], x[:, 0], s.W.expand(len(x), 4, 4)),
    "addmm of two": lambda x, s: torch.addmm(x[:, 0, 0], x[:, 1, 1], s.W),
    "matmul, transposed": lambda x, s: (s.W @ x[:, 0, 1].T).T + torch.einsum("nd,ed->en", x[:, 1, 1], s.W).t(),
    "mv": lambda x, s: x @ s.W[0],
    "tensordot": lambda x, s: torch.tensordot(x, s.W, ([2], [0])),
    "inner": lambda x, s: torch.inner(x, s.W),
    "index add": lambda x, s: x.index_add(1, s.at, x[:, :3], alpha=2),
    "index add to zero": lambda x, s: torch.zeros_like(x).index_add(1, s.at, x[:, 1:]),
    "index select": lambda x, s: x.index_select(2, s.at),
    "index": lambda x, s: x[:, s.at] + x[:, :, [0, 1, 1, 3]][:, 1:],
    "index, two axes": lambda x, s: x[:, s.at, s.at[1:2]],
    "gather": lambda x, s: x.gather(1, places(x, s)),
    "take along": lambda x, s: x.take_along_dim(s.at[None, :, None, None], 1),
    "scatter": lambda x, s: x.scatter(1, places(x, s), 2 * x),
    "scatter add": lambda x, s: x.scatter_add(1, places(x, s), x),
    "index copy, index fill": lambda x, s: x.index_copy(1, s.at, 3 * x[:, :3]) + x.index_fill(2, s.at, 0.5),
    "roll": lambda x, s: x.roll(1, -1) - x.roll((1, 2), (1, 2)),
    "flip": lambda x, s: x.flip(-1) + x.fliplr(),
    "unfold": lambda x, s: F.unfold(x, 2, dilation=2, padding=1),
    "fold": lambda x, s: F.fold(x.reshape(len(x), 4, 16)[:, :, :9], (4, 4), 2),
    "windows": lambda x, s: x.unfold(2, 2, 1),
    "pixel unshuffle": lambda x, s: F.pixel_unshuffle(x, 2),
    "circular": lambda x, s: F.pad(x, (1, 2, 0, 1), mode="circular"),
    "rotate": lambda x, s: x.rot90(1, (2, 3)),
    "cumsum": lambda x, s: x.cumsum(1),
    "diff": lambda x, s: x.diff(2),
    "diff with ends": lambda x, s: x.diff(prepend=s.W.expand_as(x)[..., :1], append=s.W.expand_as(x)[..., 1:2]),
    "repeat, tile": lambda x, s: x.repeat(1, 2, 1, 1) + x.tile(2, 1, 1),
    "repeat a constant": lambda x, s: x + s.W.repeat(len(x), 1, 1, 1),
    "repeat interleave": lambda x, s: x.repeat_interleave(2, 1),
    "lerp": lambda x, s: torch.lerp(x, x.flip(1), 0.3) + torch.lerp(s.W, x, s.W),
    "addcmul": lambda x, s: torch.addcmul(s.W, s.W, x.flip(1), value=2),
    "addcdiv": lambda x, s: torch.addcdiv(s.W, x, s.W, value=2),
    "triangles": lambda x, s: x.tril() - x.triu(1),
    "masked fill": lambda x, s: x.masked_fill(s.mask, 0.5),
    "where on a constant": lambda x, s: torch.where(s.mask, x, s.W),
    "diagonal": lambda x, s: x.diagonal(0, 2, 3),
    "diagonal embedded": lambda x, s: x[:, 0].diag_embed(),
    "new full": lambda x, s: torch.cat([x, x.new_full((len(x), 1, 4, 4), 2.0), x.new_ones(1, 4, 4, 4) * x], 1),
    "full like": lambda x, s: torch.full_like(x, 2.0) * x + torch.full_like(x, 3.0),
    "new square": lambda x, s: x @ x.new_ones(4, 4),
    "expand as": lambda x, s: x + s.W.expand_as(x) + s.W.type_as(x),
    "set slices": set_slice,
    "set positions": set_positions,
    "copy": copied,
    "stacks": lambda x, s: torch.hstack([x, x + 1]) + torch.column_stack([x, s.W.expand_as(x)]),
    "stack in depth": lambda x, s: torch.dstack([x, x]),
    "moves": lambda x, s: x.mT + x.swapdims(1, 2) + x.moveaxis(1, 3),
    "pad by a constant": lambda x, s: F.pad(x, (1, 0, 0, 2), value=3.0),
    "addmm onto a constant": lambda x, s: torch.addmm(s.W[0], x[:, 0, 0], s.W),
    "add": in_turn(lambda a, b, s: a + b),
    "subtract": in_turn(lambda a, b, s: a - b),
    "lerp in turn": in_turn(lambda a, b, s: torch.lerp(a, b, 0.3)),
    "hstack": in_turn(lambda a, b, s: torch.hstack([a, b])),
    "dstack": in_turn(lambda a, b, s: torch.dstack([a, b])),
    "where": in_turn(lambda a, b, s: torch.where(s.mask, a, b)),
    "slice scatter": in_turn(lambda a, b, s: torch.slice_scatter(a, b[:, :2], 1, 1, 3)),
    "select scatter": in_turn(lambda a, b, s: torch.select_scatter(a, b[:, 0], 1, 2)),
    "diagonal scatter": in_turn(lambda a, b, s: torch.diagonal_scatter(a, b[..., 0], 0, 2, 3)),
    "index add, copy": in_turn(lambda a, b, s: a.index_add(1, s.at, b[:, 1:]) + a.index_copy(2, s.at, b[:, :, 1:])),
    "scatter in turn": in_turn(lambda a, b, s: a.scatter(1, places(a, s), b)),
    "scatter add in turn": in_turn(lambda a, b, s: a.scatter_add(1, places(a, s), b[:, 1:])),
    "onto constants": onto_constants,
    "split": lambda x, s: x.tensor_split(2, 1)[0],
    "means": lambda x, s: x.mean((1, 3)) + x.sum(-1).mean(1, keepdim=True)[:, 0],
}

GATES = {  # of (N, 3, 1, 4)
    "hardsigmoid": lambda x, s: F.hardsigmoid(6 * x),
    "softshrink": lambda x, s: F.softshrink(x, 0.3),
    "rrelu": lambda x, s: F.rrelu(x, 0.1, 0.4),
    "relu6": lambda x, s: F.relu6(8 * x),
    "clamp between tensors": lambda x, s: x.clamp(-s.W[0].abs(), s.W[None, None, :1].abs()),
    "clamp above a tensor": lambda x, s: x.clamp_min(s.W[0]),
    "clamp below a tensor": lambda x, s: x.clamp(max=s.W[:3, :1, None]),
    "clamp, bounds that cross": lambda x, s: x.clamp(s.W[1], 0.3 * s.W[1]),
    "clamp below a number": lambda x, s: x.clamp(s.W[2] - 0.5, torch.tensor(0.4, dtype=x.dtype)),
    "clamp, one bound infinite": lambda x, s: x.clamp(-torch.inf, 0.1),
    "fmax": lambda x, s: torch.fmax(x, x.flip(1)),
    "sort": lambda x, s: x.sort(-1)[0],
    "sort, descending": lambda x, s: x.sort(1, descending=True).values,
    "stable sort": lambda x, s: torch.sort(x[..., 1:], dim=3, stable=True)[0],
    "topk": lambda x, s: x.topk(2, 1)[0],
    "least": lambda x, s: x.topk(1, 1, largest=False).values,
    "in place on a slice": lambda x, s: set_relu(x),
}


KINKS = {name: lambda x, s, f=f: f(x[:, :3, :1], s) for name, f in GATES.items()}


def set_relu(x):
    y = 2 * x
    y[:, 0].relu_()
    y[:, 1:].clamp_(max=0.2)
    return y


def is_the_model(values, A, b, points):
    """f = A x + b at points of the cell: f (n, K) from the eager model, points (n, D)."""
    expected = points @ A.T + b
    return float((values - expected).abs().max()) <= 1e-6 * (1 + float(values.abs().max()))


@pytest.mark.parametrize("name", AFFINE | KINKS)
def test_slopes_are_differences_within_the_cell_and_regions_the_models_own(name):
    model, x = network((AFFINE | KINKS)[name]), torch.randn(3, 2, dtype=DOUBLE)
    local, step = maso.affine_map(model, x), maso.boundary_distance(model, x) / 2
    partition = maso.partition(model, maso.Plane.square(-1, 1))
    assert sum(region.area for region in partition.regions) == pytest.approx(4)
    with torch.no_grad():
        for n in range(len(x)):
            h = float(step[n])
            around = x[n] + h * torch.cat([torch.eye(2, dtype=DOUBLE), -torch.eye(2, dtype=DOUBLE)])
            y = model(around)
            torch.testing.assert_close(local.A[n], ((y[:2] - y[2:]) / (2 * h)).T, rtol=1e-6, atol=1e-6)
            assert is_the_model(y, local.A[n], local.b[n], around)
        for region in partition.regions:
            corners = torch.as_tensor(region.polygon)
            inside = 0.1 * corners.mean(0) + 0.9 * corners
            assert is_the_model(model(inside), torch.as_tensor(region.A), torch.as_tensor(region.b), inside)
        rational = torch.tensor(maso.exact.evaluate(model, x[0].tolist()).astype(float))
        torch.testing.assert_close(rational, model(x[:1])[0], rtol=1e-12, atol=1e-12)


MIXES = {
    "flip": lambda x, s: x.flip(0),
    "flip of several axes": lambda x, s: x.flip(1, 0),
    "flipud": lambda x, s: x.flipud(),
    "roll": lambda x, s: x.roll(1, 0),
    "roll without axes": lambda x, s: x.roll(1),
    "rotate": lambda x, s: x[:, 0, 0, :1].rot90(2),
    "cumsum": lambda x, s: x.cumsum(0),
    "cumsum, counted from the end": lambda x, s: x.cumsum(-4),
    "cumsum, samples moved": lambda x, s: x.transpose(0, 1).cumsum(1).transpose(0, 1),
    "diff": lambda x, s: x.diff(dim=0, prepend=x[:1]),
    "gather": lambda x, s: x.gather(0, torch.zeros_like(x, dtype=torch.int64)),
    "index select": lambda x, s: x.index_select(0, torch.arange(len(x)).flip(0)),
    "index": lambda x, s: x[torch.arange(len(x)).flip(0)],
    "index of the first sample": lambda x, s: x[torch.zeros(len(x), dtype=torch.int64)],
    "take along": lambda x, s: x.take_along_dim(torch.zeros(len(x), 1, 1, 1, dtype=torch.int64), 0),
    "scatter": lambda x, s: x.scatter(0, torch.zeros_like(x, dtype=torch.int64), x),
    "scatter add": lambda x, s: torch.zeros_like(x).scatter_add(0, torch.zeros_like(x, dtype=torch.int64), x),
    "index add": lambda x, s: torch.zeros_like(x).index_add(0, torch.arange(len(x)).flip(0), x),
    "index copy": lambda x, s: x.index_copy(0, torch.arange(len(x)).flip(0), x),
    "index fill": lambda x, s: x.index_fill(0, s.at, 0.5),
    "index put": lambda x, s: x.index_put((s.at,), s.W),
    "slice scatter": lambda x, s: torch.slice_scatter(x, s.W.expand(1, 4, 4, 4), 0, 0, 1),
    "select scatter": lambda x, s: torch.select_scatter(x, s.W.expand(4, 4, 4), 0, 0),
    "sort": lambda x, s: x.sort(0)[0],
    "topk": lambda x, s: x.topk(1, 0)[0],
    "lower triangle": lambda x, s: x[:, 0, 0].tril(),
    "upper triangle": lambda x, s: x[:, 0, 0].triu(),
    "diagonal": lambda x, s: x[:, 0, 0].diagonal(),
    "diagonal scatter": lambda x, s: torch.diagonal_scatter(x, s.W.expand(4, 4, 4)[..., :3], 0, 0, 1),
    "windows": lambda x, s: x.unfold(0, 2, 1),
    "matmul": lambda x, s: torch.ones(len(x), len(x), dtype=x.dtype) @ x[:, 0, 0],
    "mv": lambda x, s: x.new_ones(len(x), len(x)) @ x[:, 0, 0, 0],
    "matmul, transposed": lambda x, s: (x[:, 0, 0].T @ torch.ones(len(x), len(x), dtype=x.dtype)).T,
    "mm": lambda x, s: torch.mm(torch.ones(len(x), len(x), dtype=x.dtype), x[:, 0, 0]),
    "einsum": lambda x, s: torch.einsum("nm,mchw->nchw", torch.ones(len(x), len(x), dtype=x.dtype), x),
    "einsum, implicit": lambda x, s: torch.einsum("ba,bd", x[:, 0, 0], torch.ones(len(x), len(x), dtype=x.dtype)),
    "tensordot": lambda x, s: torch.tensordot(torch.ones(len(x), len(x), dtype=x.dtype), x, ([1], [0])),
    "repeat interleave": lambda x, s: x.repeat_interleave(2, 0)[::2],
    "mean": lambda x, s: x.mean((0, 1)),
    "sum": lambda x, s: x + x.sum(0, keepdim=True),
}

REFUSED = {
    "bmm of two": (lambda x, s: torch.bmm(x[:, 0], x[:, 1]), "'bmm'.*multiplies two values that both depend"),
    "matmul of two": (lambda x, s: x @ x.mT, "'matmul'.*multiplies two values that both depend"),
    "einsum of two": (lambda x, s: torch.einsum("nchw,nchv->nwv", x, x), "'einsum'.*multiplies two values"),
    "baddbmm of two": (lambda x, s: torch.baddbmm(s.W, x[:, 0], x[:, 1]), "multiplies two values"),
    "tensordot of two": (lambda x, s: torch.tensordot(x, x, ([1, 2, 3], [1, 2, 3])), "multiplies two values"),
    "addcmul of two": (lambda x, s: torch.addcmul(x, x, x), "multiplies two values"),
    "addcdiv by one": (lambda x, s: torch.addcdiv(x, s.W, x), "divides by a value that depends"),
    "quotient": (lambda x, s: x / (x + 9), "divides by a value that depends"),
    "lerp by one": (lambda x, s: torch.lerp(s.W, 2 * s.W, x), "multiplies by a value that depends"),
    "gate of channels": (lambda x, s: x * F.hardsigmoid(x.mean((2, 3), keepdim=True)), "'mul'.*multiplies two values"),
    "places from the input": (
        lambda x, s: F.grid_sample(x, x[..., :2], align_corners=False),
        "'grid_sampler'.*places given by a value that depends",
    ),
    "scatter that multiplies": (lambda x, s: x.scatter(1, places(x, s), x[:, 1:], reduce="multiply"), "reduce"),
    "complex numbers": (lambda x, s: (x * (1 + 2j)).abs(), "'mul'.*complex"),
    "a softmax inside": (lambda x, s: x.mean(3).softmax(1) @ s.W, "'softmax'.*smooth.*where it only"),
    "fourier": (lambda x, s: torch.fft.rfft(x).real, "'fft_rfft'.*left out"),
    "inverse fourier": (lambda x, s: torch.fft.irfft(x), "'fft_irfft'.*left out"),
    "variance": (lambda x, s: x.var((2, 3)), "'var'.*quadratic"),
    "norm": (lambda x, s: F.normalize(x), "'linalg_vector_norm'.*a norm"),
    "glu": (lambda x, s: F.glu(x, 1), "'glu'.*multiplies two values"),
    "hardshrink": (lambda x, s: F.hardshrink(x), "'hardshrink'.*jumps"),
    "sign": (lambda x, s: x.sign(), "'sign'.*jumps"),
    "rrelu in training": (lambda x, s: F.rrelu(x, training=True), "'rrelu'.*training mode.*eval"),
    "order as a number": (lambda x, s: x.topk(2, 1)[1] * 1.0, "positions"),
    "bounds from the input": (lambda x, s: x.clamp(min=x.mean(1, keepdim=True)), "maximum"),
    "bounds that widen": (lambda x, s: x[:, :1].clamp(s.W[:, :1, None], s.W[:, :1, None] + 1), "expand"),
    "many in order": (lambda x, s: x.flatten(1).repeat(1, 2).sort(1)[0], "at most 64"),
    "a Boolean mask": (lambda x, s: x[:, s.mask], "Boolean mask"),
    "unknown padding": (lambda x, s: x.clamp(-torch.inf, torch.inf), "does nothing"),
    "rounding": (lambda x, s: torch.div(x, 2, rounding_mode="floor"), "rounds"),
    "mask from the input": (lambda x, s: x.masked_fill(x.mean(1, keepdim=True) > 0, 0), "jumps"),
}


@pytest.mark.parametrize("name", MIXES)
def test_what_acts_along_the_samples_is_refused(name):
    with pytest.raises(maso.MasoError, match=r"samples|along axis 0"):
        maso.trace(Row(MIXES[name]), torch.zeros(3, 4, 4, 4))


@pytest.mark.parametrize("name", REFUSED)
def test_the_refusal_names_the_operator_and_the_reason(name):
    function, message = REFUSED[name]
    with pytest.raises(NotPiecewiseAffine, match=message):
        maso.trace(Row(function), torch.zeros(3, 4, 4, 4))


def test_an_infinite_bound_in_a_tensor_is_refused():
    model = Row(lambda x, s: x.clamp(s.W[0].masked_fill(s.mask, -torch.inf)))
    with pytest.raises(maso.MasoError, match="infinite"):
        maso.affine_map(model, torch.zeros(1, 4, 4, 4))


class UNet(nn.Module):
    """Down, up by bilinear upsampling, and the skip between."""

    def __init__(self):
        super().__init__()
        self.first, self.deep = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.last = nn.Conv2d(7, 2, 1)

    def forward(self, x):
        x = self.first(x).relu()
        return self.last(torch.cat([x, self.up(self.deep(F.max_pool2d(x, 2)).relu())], 1))


class GraphNet(nn.Module):
    """Two rounds on a graph of five nodes: sums over neighbours, by a matrix and by a list of edges."""

    def __init__(self):
        super().__init__()
        self.register_buffer("adjacency", torch.rand(5, 5))
        self.register_buffer("edges", torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]]))
        self.inner, self.outer = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = torch.einsum("uv,nvf->nuf", self.adjacency, self.inner(x)).relu()
        source, target = self.edges
        messages = self.outer(x)[:, source]
        return torch.zeros_like(messages[:, :5]).index_add(1, target, messages).clamp(max=0.5)


class Excited(nn.Module):
    """Writes channels into slices, then scales them by a gate of its own (squeeze and excite)."""

    def __init__(self):
        super().__init__()
        self.conv, self.gate = nn.Conv2d(1, 4, 3), nn.Linear(4, 4)

    def forward(self, x):
        y = torch.zeros(len(x), 8, 4, 4, dtype=x.dtype)
        y[:, :4] = self.conv(x)
        y[:, 4:] = y[:, :4].relu()
        return y[:, :4] * F.hardsigmoid(self.gate(y[:, 4:].mean((2, 3))))[:, :, None, None]


class Segmentation(nn.Module):
    """The output that is meant of a network that returns a dictionary."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)["out"]


@pytest.mark.parametrize(("make", "shape"), [(UNet, (1, 4, 4)), (GraphNet, (5, 3))])
def test_small_networks_against_the_jacobian_of_the_model(make, shape):
    torch.manual_seed(0)
    model, x = make().double().eval(), torch.randn(3, *shape, dtype=DOUBLE)
    against_autograd(model, x, outputs=None)


def test_deeplab_against_the_jacobian_of_the_model():
    models = import_torchvision().models
    torch.manual_seed(0)
    backbone = models._utils.IntermediateLayerGetter(models.resnet18(weights=None), {"layer2": "out"})
    head = models.segmentation.deeplabv3.DeepLabHead(128, 3)
    network = models.segmentation.DeepLabV3(backbone, head).double().eval()
    against_autograd(Segmentation(network), torch.randn(1, 3, 32, 32, dtype=DOUBLE), outputs=[0, 1500])


def against_autograd(model, x, outputs):
    found = maso.affine_map(model, x, outputs=outputs)
    leaf = x.clone().requires_grad_()
    y = model(leaf).flatten(1)
    rows = range(y.shape[1]) if outputs is None else outputs
    A = torch.stack([torch.autograd.grad(y[:, k].sum(), leaf, retain_graph=True)[0] for k in rows], 1)
    torch.testing.assert_close(found.A, A, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found(x), y[:, list(rows)].detach(), rtol=1e-12, atol=1e-12)


def test_the_first_true_obstacle_is_named():
    with pytest.raises(NotPiecewiseAffine, match=r"'mul'.*multiplies two values that both depend on the input"):
        maso.trace(Excited(), torch.zeros(1, 1, 6, 6))
