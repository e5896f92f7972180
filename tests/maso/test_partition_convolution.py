"""Convolutions with few positions as one matrix product, against torch's own."""

import pytest
import torch
from torch import Tensor, nn

from maso.graph import Forward, Operator
from maso.partition.convolution import apply
from maso.tracing import trace

LAYERS = {
    "plain": nn.Conv2d(3, 5, 3),
    "padded": nn.Conv2d(3, 5, 3, padding=1, bias=False),
    "strided": nn.Conv2d(3, 5, (3, 2), stride=(2, 1), padding=(1, 0)),
    "dilated": nn.Conv2d(3, 5, 2, dilation=(2, 3), padding=(1, 2), stride=(1, 2)),
    "one by one": nn.Conv2d(3, 5, 1),
    "same": nn.Conv2d(3, 5, 3, padding="same"),
    "groups": nn.Conv2d(3, 6, 3, groups=3),
    "transposed": nn.ConvTranspose2d(3, 5, 2),
    "many positions": nn.Conv2d(3, 5, 3, padding=5),
}


class Both(Forward):
    """Forwards, and keeps what `apply` makes of every operator."""

    def __init__(self) -> None:
        self.found: list[tuple[Tensor, Tensor]] = []

    def affine(self, operator: Operator) -> Tensor:
        out = super().affine(operator)
        self.found.append((out, apply(operator, *operator.values)))
        return out


@pytest.mark.parametrize("name", LAYERS)
def test_as_the_operator_itself(name: str) -> None:
    model, x = LAYERS[name].double(), torch.randn(4, 3, 7, 6, dtype=torch.float64)
    graph, reading = trace(model, x), Both()
    with torch.no_grad():
        graph.read(model, x, reading)
    ((out, ours),) = reading.found
    assert ours.shape == out.shape
    assert float((ours - out).abs().max()) <= 1e-13 * float(out.abs().max())
