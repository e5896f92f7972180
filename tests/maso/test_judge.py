"""What a traced graph does not see of the function that it stands for: the model itself is asked at every call."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from zoo import Apply

import maso
from maso import MasoError, NotPiecewiseAffine, affine_map, codes, judge

DOUBLE = torch.float64


def assert_right(model: nn.Module, x: Tensor, found: maso.AffineMap | None = None) -> None:
    """A and b against the model's own values and central differences, one sample at a time."""
    found = affine_map(model, x) if found is None else found
    generator, step = torch.Generator().manual_seed(1), 1e-6
    with torch.no_grad():
        for n in range(len(x)):
            one, A = x[n : n + 1], found.A[n].flatten(1)
            torch.testing.assert_close(A @ one.flatten() + found.b[n], model(one.clone()).flatten())
            for _ in range(3):
                d = torch.randn(one.shape, generator=generator, dtype=x.dtype)
                ahead, behind = (model(one + s * d).flatten() for s in (step, -step))
                torch.testing.assert_close(A @ d.flatten(), (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-6)


class Own(nn.Module):
    """A network with numbers, tensors, functions and modules that are not registered."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.pool = nn.Linear(6, 6), nn.Linear(6, 6), nn.AvgPool1d(2, padding=1)
        self.slope, self.shift, self.skip, self.act = 0.1, torch.zeros(6, dtype=DOUBLE), True, F.relu
        self.hidden = [nn.Linear(6, 6).double()]

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(F.leaky_relu(self.a(x), self.slope) + self.shift)
        h = self.hidden[0](h) + (x if self.skip else 0)
        return torch.cat([self.b(h), self.pool(h[:, None])[:, 0]], 1)


def _tie(m: Own) -> None:
    m.b.weight = m.a.weight


def _untie(m: Own) -> None:
    m.b.weight = nn.Parameter(torch.randn_like(m.b.weight))


CHANGES = {
    "a number": lambda m: setattr(m, "slope", 0.5),
    "a tensor": lambda m: setattr(m, "shift", torch.ones(6, dtype=DOUBLE)),
    "a tensor in place": lambda m: m.shift.add_(1),
    "a flag": lambda m: setattr(m, "skip", False),
    "a function": lambda m: setattr(m, "act", torch.abs),
    "a patched forward": lambda m: setattr(m.a, "forward", torch.abs),
    "a module in a list": lambda m: m.hidden.__setitem__(0, nn.Linear(6, 6).double()),
    "weights of a module in a list": lambda m: nn.init.normal_(m.hidden[0].weight),
    "a hook": lambda m: m.a.register_forward_hook(lambda _m, _x, y: y.abs()),
    "a hook before": lambda m: m.b.register_forward_pre_hook(lambda _m, x: (2 * x[0],)),
    "a setting that is not printed": lambda m: setattr(m.pool, "count_include_pad", False),
    "tied weights": _tie,
    "pruned weights": lambda m: prune.random_unstructured(m.a, "weight", 0.5),
    "parametrised weights": lambda m: parametrizations.weight_norm(m.a),
    "another class": lambda m: setattr(m, "__class__", type("Double", (Own,), {"forward": lambda s, x: 2 * s.a(x)})),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_between_two_calls_shows_in_the_second(change: str) -> None:
    model, x = Own().double(), torch.randn(3, 6, dtype=DOUBLE)
    assert_right(model, x)
    CHANGES[change](model)
    assert_right(model, x)


def test_weights_untied_and_forward_redefined() -> None:
    model, x = Own().double(), torch.randn(3, 6, dtype=DOUBLE)
    _tie(model)
    assert_right(model, x)
    _untie(model)
    assert_right(model, x)

    class Net(nn.Linear):
        pass

    model, x = Net(3, 3).double(), torch.randn(2, 3, dtype=DOUBLE)
    assert_right(model, x)
    Net.forward = lambda self, x: F.linear(x, self.weight).abs()  # type: ignore[method-assign]
    assert_right(model, x)


def test_an_edited_fx_graph_is_traced_anew() -> None:
    model, x = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(3, 3), nn.ReLU())).double(), torch.randn(2, 3).double()
    assert_right(model, x)
    node = next(n for n in model.graph.nodes if n.target == "1")
    with model.graph.inserting_after(node):
        new = model.graph.call_function(torch.neg, (node,))
        node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    model.recompile()
    assert_right(model, x)


def test_a_function_of_another_model_is_read_as_it_is_now() -> None:
    inner = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    model, x = Apply(inner.forward), torch.randn(3, 3, dtype=DOUBLE)
    assert_right(model, x)
    inner.load_state_dict({k: torch.randn_like(v) for k, v in inner.state_dict().items()}, assign=True)
    assert_right(model, x)
    for p in inner.parameters():
        p.data = p.data + 1
    assert_right(model, x)


def writes(how):
    def forward(x: Tensor) -> Tensor:
        y = 1 * x
        how(y)
        return y + 2 * x

    return Apply(forward)


WRITES = {
    "a slice": lambda y: y[:, 1:3].relu_(),
    "a column": lambda y: y[:, 0].add_(1),
    "unflatten": lambda y: y.unflatten(1, (2, 2))[:, 0].abs_(),
    "swapaxes": lambda y: y.view(-1, 2, 2).swapaxes(1, 2)[:, 0].relu_(),
    "movedim": lambda y: y.view(-1, 2, 2).movedim(1, 2)[:, 1].mul_(3),
    "the transpose": lambda y: y.view(-1, 2, 2).mT[:, 0].relu_(),
    "diagonal": lambda y: y.view(-1, 2, 2).diagonal(dim1=1, dim2=2).neg_(),
    "chunk": lambda y: y.chunk(2, 1)[1].abs_(),
    "twice": lambda y: y.relu_().add_(1)[:, 2:].mul_(2),
}


@pytest.mark.parametrize("how", WRITES)
def test_writes_through_views_are_read_as_pytorch_runs_them(how: str) -> None:
    assert_right(writes(WRITES[how]), torch.randn(3, 4, dtype=DOUBLE))


@pytest.mark.parametrize(
    "forward", [lambda x: x.add_(1).relu(), lambda x: F.relu(x, inplace=True) @ torch.ones(3, 3, dtype=DOUBLE)]
)
def test_an_input_written_in_place_is_left_alone(forward) -> None:
    model, x = Apply(forward), torch.randn(3, 3, dtype=DOUBLE)
    mine = x.clone()
    found = affine_map(model, mine)
    torch.testing.assert_close(mine, x, rtol=0, atol=0)
    assert_right(Apply(lambda x: forward(x.clone())), x, found)


def test_a_buffer_that_counts_calls_is_no_obstacle() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.calls.add_(1)
            return self.linear(x).relu()

    assert_right(Counting().double(), torch.randn(3, 3, dtype=DOUBLE))


def test_a_function_that_the_tracer_does_not_see_is_refused_with_its_place() -> None:
    class Peeking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.abs() if type(x) is Tensor else x.relu()  # a tracer's tensors are of another type

    model = nn.Sequential(nn.Linear(3, 3), Peeking())
    with pytest.raises(MasoError, match=r"is not the model: .* output \d+ is .* module that differs is '1'"):
        affine_map(model, torch.randn(2, 3))


def test_a_function_that_changes_with_every_call_is_refused() -> None:
    class Restless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x.relu() * self.calls

    model = nn.Sequential(nn.Linear(3, 3), Restless())
    with pytest.raises(MasoError, match="other numbers when it is called again"):
        affine_map(model, torch.randn(2, 3))


@pytest.mark.parametrize("cut", [lambda x: x.detach(), torch.no_grad()(lambda x: 1 * x)])
def test_what_cuts_autograd_does_not_cut_the_map(cut) -> None:
    assert_right(Apply(lambda x: (cut(x).relu() + x) * 2), torch.randn(3, 4, dtype=DOUBLE))


SIZES = {
    "127 rows of a constant": lambda x: x + torch.ones(127, 4, dtype=DOUBLE).sum(0),
    "131 rows, and len": lambda x: x.view(len(x), 4) + torch.ones(131, 4, dtype=DOUBLE).sum(0),
    "127 rows, and len": lambda x: x.reshape(len(x), 2, 2).flatten(1) + torch.ones(127, 4, dtype=DOUBLE).mean(0),
    "a view of a constant": lambda x: x + torch.arange(127.0 * 4, dtype=DOUBLE).view(127, 4).mean(0),
    "squeeze": lambda x: x[:, :, None, None].relu().squeeze(),
    "squeeze of the samples": lambda x: x[:, :, None].squeeze(0).squeeze(-1),
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("samples", [1, 5, 65])
def test_the_number_of_samples_is_told_from_other_sizes(name: str, samples: int) -> None:
    assert_right(Apply(SIZES[name]), torch.randn(samples, 4, dtype=DOUBLE)[:, :])


MIXING = {
    "permute and view": lambda x: x.permute(1, 0, 2).contiguous().view(x.shape[0], -1),
    "stack and reshape": lambda x: torch.stack([x, -x]).reshape(x.shape[0], -1),
    "times the number": lambda x: x.relu().flatten(1) * x.shape[0],
    "divided by the number": lambda x: x.flatten(1) / len(x),
    "less the mean sample": lambda x: (x - x.mean(0, keepdim=True)).flatten(1),
    "the largest sample": lambda x: torch.maximum(x, x.amax(0, keepdim=True)).flatten(1),
    "samples as channels": lambda x: F.conv1d(x.permute(1, 0, 2), torch.ones(1, 1, 1, dtype=DOUBLE)).permute(1, 0, 2),
    "twice the number": lambda x: x.reshape(2 * x.shape[0], -1).cumsum(0).reshape(x.shape[0], -1),
    "another branch for one": lambda x: x.flatten(1).abs() if x.shape[0] == 1 else x.flatten(1).relu(),
    "the first for all": lambda x: x.flatten(1) + x[:1].flatten(1),
    "turned over": lambda x: x.flip(0).flatten(1),
}


@pytest.mark.parametrize("name", MIXING)
def test_a_mix_of_samples_is_refused(name: str) -> None:
    for samples in (1, 4):
        with pytest.raises(MasoError):
            affine_map(Apply(MIXING[name]), torch.randn(samples, 2, 3, dtype=DOUBLE))


def test_names_of_kinks_are_unique() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu, self.relu_1, self.relu_2 = nn.ReLU(), nn.ReLU(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu_2(self.relu(self.relu_1(self.relu(x) - 1) - 1) - 1)

    assert list(codes(Named(), torch.randn(2, 3))) == ["relu", "relu_1", "relu_3", "relu_2"]


@pytest.mark.parametrize(
    "how",
    [
        torch.no_grad,
        torch.enable_grad,
        lambda: torch.set_grad_enabled(False),
        lambda: torch.autocast("cpu", enabled=False),
        torch.inference_mode,
    ],
)
def test_blocks_inside_forward(how) -> None:
    def forward(x: Tensor) -> Tensor:
        with how():
            h = 2 * x
            h = h.relu()
        return h + x

    assert_right(Apply(forward), torch.randn(3, 4, dtype=DOUBLE))


def test_autocast_is_refused_inside_and_outside() -> None:
    def forward(x: Tensor) -> Tensor:
        with torch.autocast("cpu"):
            return F.linear(x, torch.ones(4, 4))

    with pytest.raises(NotPiecewiseAffine, match="bfloat16"):
        affine_map(Apply(forward), torch.randn(2, 4))
    with torch.autocast("cpu"), pytest.raises(MasoError, match="autocast"):
        affine_map(nn.Linear(4, 2), torch.randn(2, 4))


def test_inference_mode_outside() -> None:
    model, x = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double(), torch.randn(3, 3, dtype=DOUBLE)
    with torch.inference_mode():
        inside, made_there = affine_map(model, x), x * 1
        with pytest.raises(MasoError, match="inference mode"):
            affine_map(nn.Linear(3, 2).double(), x)
        assert list(codes(model, x)) == ["1"]
    assert_right(model, x, inside)
    assert_right(model, x, affine_map(model, made_there))


@pytest.mark.parametrize(
    "cast", [lambda x: x.float(), lambda x: x.to(torch.float32), lambda x: x.type_as(x), lambda x: x.to(x.device)]
)
def test_casts_that_change_nothing(cast) -> None:
    linear = nn.Linear(2, 3)
    model = Apply(lambda x, a: a(cast(x)).relu() * torch.full((3,), 2.0), linear)
    plane = maso.Plane.square(-2, 2)
    assert len(maso.partition(model, plane)) == len(maso.partition(nn.Sequential(linear, nn.ReLU()), plane))
    assert maso.boundary_distance(model, torch.randn(3, 2)).shape == (3,)


def test_kernels_that_are_not_buffers() -> None:
    blur = torch.full((2, 1, 2, 2), 0.25)
    model = Apply(lambda x, a: F.conv2d(a(x).relu(), blur, groups=2).relu().flatten(1), nn.Conv2d(1, 2, 3))
    plane = maso.Plane.through(*torch.randn(3, 1, 5, 5))
    found = maso.partition(model, plane)
    blur = blur.double()
    assert len(found) == len(maso.partition(model.double(), plane))


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_a_partition_has_the_constants_of_its_time(dtype: torch.dtype) -> None:
    shift, plane = torch.zeros(3, dtype=dtype), maso.Plane.square(-2, 2)
    model = Apply(lambda x, a: (a(x) + shift).relu(), nn.Linear(2, 3, dtype=dtype))
    before = maso.partition(model, plane)
    values = before.forward().output
    shift += 100
    assert len(maso.partition(model, plane)) == 1
    assert (before.forward().output == values).all()


def test_first_calls_from_several_threads() -> None:
    x, errors = torch.randn(3, 3, dtype=DOUBLE), list[Exception]()

    def work(k: int) -> None:
        try:
            assert_right(nn.Sequential(nn.Linear(3, 5 + k), nn.ReLU(), nn.Linear(5 + k, 2)).double(), x)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_labels_of_any_integer_type(dtype: torch.dtype) -> None:
    model, x = nn.Linear(3, 4), torch.randn(4, 3)
    labels = torch.tensor([[0], [3], [1], [2]])
    assert torch.equal(affine_map(model, x, outputs=labels.to(dtype)).A, model.weight[labels])


def test_networks_without_operators() -> None:
    x = torch.randn(2, 3, dtype=DOUBLE)
    for model in (nn.Identity(), nn.Sequential(), nn.Sequential(nn.Identity(), nn.Dropout()).eval()):
        found = affine_map(model, x)
        assert torch.equal(found.A, torch.eye(3, dtype=DOUBLE).expand(2, 3, 3))
        assert not found.b.any()
        assert not codes(model, x)


def test_compiled_and_parallel_models_are_unwrapped_and_scripted_ones_refused() -> None:
    model, x = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double(), torch.randn(3, 3, dtype=DOUBLE)
    expected = affine_map(model, x)
    for wrapped in (torch.compile(model), nn.DataParallel(model)):
        assert torch.equal(affine_map(wrapped, x).A, expected.A)
        assert list(codes(wrapped, x)) == ["1"]
        assert len(maso.partition(wrapped, maso.Plane.through(*x))) == len(
            maso.partition(model, maso.Plane.through(*x))
        )
    with pytest.raises(MasoError, match="scripted"):
        affine_map(torch.jit.script(model), x)


def test_a_slope_of_where_in_single_precision_has_no_rounding_of_its_constants() -> None:
    x = torch.tensor([[-1.0, 2.0]])
    for c in (0.0, 1e3, 1e6):
        model = Apply(lambda x, c=c: torch.where(x > 0, x + c, 0.3 * x + c) - c)
        torch.testing.assert_close(affine_map(model, x).A[0].diagonal(), torch.tensor([0.3, 1.0]))
    twisted = Apply(lambda x: torch.where(x > 1, (3 - x) / -2, torch.rsub(2 * x, 1) - 0.0 * x))
    torch.testing.assert_close(
        affine_map(twisted, torch.tensor([[0.0, 3.0]])).A[0].diagonal(), torch.tensor([-2.0, 0.5])
    )


def test_rounding_is_not_taken_for_a_difference() -> None:
    deep = nn.Sequential(*[m for _ in range(30) for m in (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())]).eval()
    ill = Apply(lambda x: (x.relu() + 1e6) * 3 - 3e6)
    for model in (deep, ill):
        affine_map(model, torch.randn(2, 64))


@pytest.mark.parametrize(
    ("make", "x", "message"),
    [
        (lambda: nn.Linear(2, 2, device="meta"), torch.zeros(1, 2, device="meta"), "meta"),
        (lambda: nn.Linear(2, 2, device="meta"), torch.zeros(1, 2), "'weight' is on the meta"),
        (lambda: nn.Sequential(nn.LazyLinear(4), nn.ReLU()), torch.zeros(1, 2), "no shape yet"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), torch.zeros(1, 2), r"'1\.weight' .*float64"),
        (lambda: nn.Linear(2, 2), torch.zeros(1, 2).to_sparse(), "dense"),
        (lambda: nn.Linear(2, 2), torch.zeros(1, 2, dtype=torch.complex64), "real floating"),
    ],
)
def test_what_cannot_be_read_is_named(make, x: Tensor, message: str) -> None:
    with pytest.raises(MasoError, match=message):
        affine_map(make(), x)


def test_nan_weights_are_named() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[2].bias[1] = torch.nan
    with pytest.raises(MasoError, match=r"'2\.bias' holds NaN"):
        affine_map(model, torch.randn(2, 3))
    with pytest.raises(MasoError, match=r"'2\.bias' holds NaN"):
        maso.partition(model, maso.Plane.through(*torch.randn(3, 3)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outputs": torch.tensor([True, False])}, "bool"),
        ({"outputs": [0.5]}, "float"),
        ({"chunk": 2.5}, r"2\.5"),
        ({"chunk": 0}, "at least 1"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message: str) -> None:
    with pytest.raises(MasoError, match=message):
        affine_map(nn.Linear(3, 2), torch.randn(2, 3), **arguments)


def test_an_a_that_does_not_fit_into_memory_is_refused() -> None:
    big = Apply(lambda x: x.repeat(1, 1_000_000))
    with pytest.raises(MasoError, match=r"GiB.*outputs="):
        affine_map(big, torch.zeros(1, 1).expand(10_000_000, 1))


def test_the_points_of_a_judgement() -> None:
    x = torch.zeros(3, 5)
    assert judge.points(x).shape == (2, 5)
    assert judge.points(x)[1].norm() > 0
    moved = judge.points(100 * torch.ones(1, 4, dtype=DOUBLE))
    assert float((moved[1] - moved[0]).norm()) == pytest.approx(20.0)
