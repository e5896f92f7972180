"""Chapter 07, second edition: winners, Jaccard distances and hubs against plain code; a small cell of 07-twins."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maso.codes import codes
from maso_book import registry
from maso_book.ch07 import depth
from maso_book.ch07.agreement import EUCLID, KS
from maso_book.ch07.depth import ARMS, DIVERGED, MASKED, Depth
from maso_book.ch07.experiments import QUICK_DEPTH
from maso_book.records import Record
from maso_book.results import compute
from maso_book.tidy import as_table
from maso_book.trained import Trained
from maso_book.training import History

SETTINGS: dict[str, Any] = QUICK_DEPTH | {"samples": 60, "epochs": 1, "queries": 20, "images": 60}


@pytest.fixture(scope="module")
def cell() -> Record:
    return compute(registry.named("07-twins"), Depth(0, **SETTINGS))


def pooled() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(27, 3)).eval()


def images(n: int) -> Tensor:
    return torch.randn(n, 1, 18, 18, generator=torch.Generator().manual_seed(n))


def test_winners_are_those_of_the_code_where_a_window_is_not_empty() -> None:
    model, x = pooled(), images(7)
    pools = [code for code in codes(model, x).values() if code.dtype == torch.int64]
    marks, share = depth.winners(model, x), depth.empty(model, x)
    for number, (code, depth_of) in enumerate(zip(pools, (3, 6), strict=True), 1):
        entered = model[: depth_of - 1](x)
        image = torch.zeros(entered.shape, dtype=torch.int8)
        empties = 0
        for place in np.ndindex(*code.shape):
            i, j = 2 * place[2] + int(code[place]) // 2, 2 * place[3] + int(code[place]) % 2
            alive = bool(entered[place[0], place[1], i, j] > 0)
            image[place[0], place[1], i, j] = alive
            empties += not alive
        assert torch.equal(marks[f"pool {number}"], image.flatten(1))
        assert share[f"pool {number}"] == pytest.approx(empties / code.numel())
    assert 0 < share["pool 1"] < 1


def test_jaccard_is_that_of_sets() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 2, (n, 37), dtype=torch.int8, generator=generator) for n in (3, 5))
    a[0] = b[0] = 0
    for i, j in np.ndindex(3, 5):
        one, other = (set(part.nonzero().flatten().tolist()) for part in (a[i], b[j]))
        union = len(one | other)
        expected = 1 - len(one & other) / union if union else 1.0  # a picture without a winner is like no other
        assert float(depth.jaccard(a, b)[i, j]) == pytest.approx(expected)


def test_without_empty_windows_the_order_is_that_of_the_code() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2))
    x, y = (torch.rand(n, 1, 8, 8) + 0.1 for n in (4, 30))
    (code_x,), (code_y,) = ([c.flatten(1) for c in codes(model, v).values() if c.dtype == torch.int64] for v in (x, y))
    share = (code_x[:, None] != code_y[None]).float().mean(2)
    expected = share.sort(dim=1, stable=True).indices[:, :5]
    assert torch.equal(depth.nearest_by_winners(model, x, y, 5)["pool 1"], expected)


def test_blocks_of_images_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = pooled(), images(3), images(11)
    whole = depth.nearest_by_winners(model, x, y, 4)
    monkeypatch.setattr(depth, "BLOCK", 4)
    monkeypatch.setattr(depth, "_BATCH", 2)
    for name, order in depth.nearest_by_winners(model, x, y, 4).items():
        assert torch.equal(order, whole[name])


def test_a_hub_is_found_by_its_share_and_skewness() -> None:
    order = torch.tensor([[0, 1], [0, 2], [0, 3], [0, 4]])
    found = depth.hubness(order, 9)
    count = np.array([4, 1, 1, 1, 1, 0, 0, 0, 0]) - 8 / 9
    assert found["most_frequent"] == 1
    assert found["skewness"] == pytest.approx((count**3).mean() / (count**2).mean() ** 1.5, abs=1e-3)


def test_a_cell_has_a_row_for_each_arm_distance_and_k(cell: Record) -> None:
    table, hubs = as_table([cell], "agreement"), as_table([cell], "hubs")
    coded = [(kind, f"{kind} {i}") for i in (1, 2, 3) for kind in ("ReLU", "pool")]
    keys = [*coded, *((MASKED, f"pool {i}") for i in (1, 2, 3)), *(("Euclid", name) for name in EUCLID)]
    expected = [(arm, *key, k) for arm in ARMS for key in keys for k in KS]
    assert list(zip(*(table[c] for c in ("arm", "kind", "distance", "k")), strict=True)) == expected
    assert list(zip(*(hubs[c] for c in ("arm", "kind", "distance")), strict=True)) == [
        (arm, *key) for arm in ARMS for key in keys
    ]
    assert [row["distance"] for row in cell.tables["windows"]] == 3 * ["pool 1", "pool 2", "pool 3"]
    assert 1 / 60 < hubs["most_frequent"].min() <= hubs["most_frequent"].max() <= 1

    right = cell.arrays["right"]
    ends = depth.decisive(keys)
    assert ends == [("ReLU", "ReLU 1"), ("ReLU", "ReLU 3"), (MASKED, "pool 1"), (MASKED, "pool 3"),
                    ("Euclid", "pixels"), ("Euclid", "outputs")]  # fmt: skip
    assert right.shape == (3, len(ends), 20)
    shares = table[table["k"] == depth.K].set_index(["arm", "kind", "distance"])["label_agreement"]
    for (i, arm), (j, key) in ((a, d) for a in enumerate(ARMS) for d in enumerate(ends)):
        assert right[i, j].mean() / depth.K == pytest.approx(shares[(arm, *key)], abs=1e-4)


def test_pixels_are_the_same_in_every_arm_and_codes_are_not(cell: Record) -> None:
    right = cell.arrays["right"]
    assert (right[:, 4] == right[0, 4]).all()
    assert (right[0, 0] != right[1, 0]).any()


def test_a_network_without_pools_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10)
    ).eval()
    history = History(*(np.ones(1) for _ in range(4)), diverged=False)
    network = Trained(Depth(0, **SETTINGS).recipe, model, history, {0: model, 1: model})
    monkeypatch.setattr(depth, "trained", lambda _: network)
    tables, arrays = depth.run_depth(Depth(0, **SETTINGS))
    assert tables["windows"] == []
    assert {row["kind"] for row in tables["agreement"]} == {"ReLU", "Euclid"}
    assert arrays["right"].shape == (3, 4, 20)


def test_a_network_that_diverged_is_recorded_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    none = np.zeros(0)
    network = Trained(Depth(0).recipe, nn.Identity(), History(none, none, none, none, diverged=True), {})
    monkeypatch.setattr(depth, "trained", lambda _: network)
    tables, arrays = depth.run_depth(Depth(0, **SETTINGS))
    assert tables == {"networks": [DIVERGED], "agreement": [], "hubs": [], "windows": []}
    assert arrays == {}
