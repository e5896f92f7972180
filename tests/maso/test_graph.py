import gc
import weakref

import pytest
import torch
from torch import Tensor, nn
from zoo import ALL, REFUSED, Apply

from maso import MasoError, NotPiecewiseAffine, codes, trace, tracing
from maso.graph import Forward, Operator

DOUBLE = torch.float64


@pytest.mark.parametrize("name", ALL)
def test_reading_as_tensors_is_the_model(name):
    make, shape = ALL[name]
    model, x = make().double().eval(), torch.randn(7, *shape, dtype=DOUBLE)
    with torch.no_grad():
        read = trace(model, x).read(model, x, Forward())
        torch.testing.assert_close(read, model(x.clone()), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_piecewise_affine_is_refused_by_name(name):
    make, shape, word = REFUSED[name]
    model, x = make(), torch.randn(2, *shape)
    with pytest.raises(NotPiecewiseAffine, match=word) as error:
        codes(model, x)
    assert "File" in str(error.value) or "control flow" in str(error.value)


def test_the_error_names_operator_module_and_line():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.GELU()))
    with pytest.raises(NotPiecewiseAffine, match=r"'gelu' in module '1\.1'.*activation\.py.*line \d+"):
        trace(model, torch.zeros(1, 2))


def count_exports(monkeypatch):
    calls = []
    export = torch.export.export
    monkeypatch.setattr(torch.export, "export", lambda *a, **k: calls.append(1) or export(*a, **k))
    return calls


def test_the_second_call_does_not_trace_and_training_goes_on(monkeypatch):
    calls = count_exports(monkeypatch)
    model, x = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).double(), torch.randn(4, 2, dtype=DOUBLE)
    first = trace(model, x)
    with torch.no_grad():
        model[0].weight += 1
        model[0].bias = nn.Parameter(torch.ones(3, dtype=DOUBLE))
        assert trace(model, x[:1]) is first
        torch.testing.assert_close(first.read(model, x, Forward()), model(x))
    assert len(calls) == 1


def test_a_changed_structure_is_traced_again():
    model, x = nn.Sequential(nn.Linear(2, 3), nn.LeakyReLU(0.1)), torch.randn(4, 2)
    first = trace(model, x)
    model[1].negative_slope = 0.5
    second = trace(model, x)
    assert second is not first
    torch.testing.assert_close(second.read(model, x, Forward()), model(x))
    assert trace(model.double(), x.double()) is not second
    assert trace(model, torch.randn(4, 5, 2, dtype=DOUBLE)) is not trace(model, x.double())


def test_the_graph_dies_with_the_model():
    model = nn.Linear(2, 3)
    trace(model, torch.zeros(1, 2))
    dead = weakref.ref(model)
    del model
    gc.collect()
    assert dead() is None
    assert all(key is not None for key in tracing._graphs)


def test_in_place_on_a_view_is_read_as_pytorch_runs_it():
    class Overwrites(nn.Module):
        def forward(self, x):
            y = 1 * x
            y[:, 0].relu_()
            y.add_(1)
            return y

    x = torch.randn(3, 2)
    torch.testing.assert_close(trace(Overwrites(), x).read(Overwrites(), x, Forward()), Overwrites()(x))

    class Adds(nn.Module):
        def forward(self, x):
            y = 2 * x
            z = y.view(-1, 2)
            y.relu_()
            return z + y

    x = torch.randn(5, 2)
    torch.testing.assert_close(trace(Adds(), x).read(Adds(), x, Forward()), Adds()(x))


def test_kinks_are_named_by_module_and_counted():
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(2, 2), relu, nn.Linear(2, 2), relu, Apply(lambda x: torch.relu(x) + x.abs()))
    names = list(trace(model, torch.zeros(1, 2)).kinks)
    assert names[:2] == ["1", "1_1"] or names[:2] == ["1", "3"]
    assert names[2:] == ["4.relu", "4.abs"]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 3), "does not accept"),
        (torch.zeros(2), "use x"),
        (torch.zeros(0, 2), "N ≥ 1"),
        (torch.zeros(2, 2).long(), "floating point"),
        (torch.zeros(2, 2).double(), "double"),
        (torch.full((2, 2), torch.nan), "NaN"),
        (torch.full((2, 2), torch.inf), "infinity"),
        (torch.zeros(2, 2, device="meta"), "is on"),
        ([[0.0, 0.0]], "list"),
    ],
)
def test_bad_input_is_refused(x, message):
    with pytest.raises(MasoError, match=message):
        trace(nn.Linear(2, 3), x)


def test_a_wrong_shape_is_one_message_without_pages_of_the_tracer(capfd) -> None:
    with pytest.raises(MasoError, match="does not accept"):
        trace(nn.Linear(2, 3), torch.zeros(1, 3))
    assert capfd.readouterr() == ("", "")


def test_a_model_of_another_form_is_refused():
    with pytest.raises(MasoError, match=r"torch\.nn\.Module"):
        trace(lambda x: x, torch.zeros(1, 2))
    with pytest.raises(MasoError, match="outputs"):
        trace(Apply(lambda x: (x, x + 1)), torch.zeros(1, 2))
    with pytest.raises(MasoError, match="does not depend"):
        trace(Apply(lambda x: torch.ones_like(x)), torch.zeros(1, 2))
    with pytest.raises(MasoError, match="samples"):
        trace(Apply(lambda x: x.view(2, -1)), torch.zeros(2, 2))


def test_no_tensor_waits_for_the_cycle_collector() -> None:
    class Watching(Forward):
        def __init__(self) -> None:
            self.seen: list[weakref.ref[Tensor]] = []

        def affine(self, operator: Operator) -> Tensor:
            self.seen += [weakref.ref(value) for value in operator.values]
            return super().affine(operator)

    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    graph, reading = trace(model, torch.randn(5, 3)), Watching()
    gc.disable()
    try:
        graph.read(model, torch.randn(5, 3), reading)
        assert len(reading.seen) == 3
        assert [ref() for ref in reading.seen] == [None] * 3
    finally:
        gc.enable()
