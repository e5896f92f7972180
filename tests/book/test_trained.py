"""Trained networks that chapters share: what a recipe fixes, which files there are, what trains together."""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from maso import MasoError
from maso_book import datasets
from maso_book import trained as module
from maso_book.trained import Recipe, data, is_ready, network, prepare, provenance, trained
from maso_book.training import OutOfTime, Training, fit
from maso_book.training.checkpoint import write_arrays

RECIPE = Recipe(
    "digits", "mlp", Training(2, 100, 5e-3, seed=1), bias=False, grey=True, samples=300, keep=(0, 1), width=8
)


FOUND = "f" * 16


def seeded(seed: int, **change: object) -> Recipe:
    training = dataclasses.replace(RECIPE.training, seed=seed)
    return dataclasses.replace(RECIPE, **({"training": training} | change))


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of copies of every call of `fit` and `fit_many`."""
    calls: list[int] = []
    one, many = module.fit, module.fit_many
    monkeypatch.setattr(module, "fit", lambda *a, **k: (calls.append(1), one(*a, **k))[1])
    monkeypatch.setattr(module, "fit_many", lambda *a, **k: (calls.append(len(a[0])), many(*a, **k))[1])
    return calls


def test_data_are_split_the_same_for_every_recipe() -> None:
    whole, few = data(seeded(0, samples=None)), data(RECIPE)
    assert len(whole.x_validation) == (len(whole.x) + len(whole.x_validation)) // 10
    assert torch.equal(few.x, whole.x[:300])
    assert torch.equal(few.x_validation, whole.x_validation)
    assert few.x.shape[1:] == (1, 32, 32)
    assert data(dataclasses.replace(RECIPE, grey=False)).x.shape[1] == 3


def test_permuted_labels_and_shares_follow_the_seed() -> None:
    true, one, two = data(RECIPE), data(seeded(1, labels="permuted")), data(seeded(2, labels="permuted"))
    assert torch.equal(one.y.sort().values, true.y.sort().values)
    assert not torch.equal(one.y, true.y)
    assert not torch.equal(one.y, two.y)
    shares = tuple(np.linspace(0, 1, 10))
    skewed = data(seeded(1, shares=shares, samples=None))
    kept = torch.bincount(skewed.y, minlength=10) / torch.bincount(data(seeded(1, samples=None)).y)
    assert kept[0] == 0
    assert kept[9] == 1
    assert (kept - torch.tensor(shares)).abs().max() < 0.2


def test_a_network_is_trained_once_and_read_from_its_files(tmp_path: Path, runs: list[int]) -> None:
    first, second = trained(RECIPE, folder=tmp_path), trained(RECIPE, folder=tmp_path)
    assert runs == [1]
    assert torch.equal(weights(first.model), weights(second.model))
    assert not first.model.training
    assert sorted(first.epochs) == [0, 1, 2]
    assert first.epochs[2] is first.model
    assert torch.equal(weights(first.epochs[0]), weights(network(RECIPE)))
    d, alone = data(RECIPE), network(RECIPE)
    history = fit(alone, d.x, d.y, RECIPE.training, validation=(d.x_validation, d.y_validation))
    assert torch.equal(weights(first.model), weights(alone))
    assert (second.history.validation_accuracy == history.validation_accuracy).all()
    assert not second.history.diverged
    (home,) = tmp_path.iterdir()
    files = ["0.npz", "1.npz", "2.npz", "history.npz", "lock", "made.json"]
    assert sorted(path.name for path in home.iterdir()) == files

    about = provenance([RECIPE], folder=tmp_path)
    assert about["training_seconds"] == pytest.approx(history.seconds.sum(), abs=60)
    other = seeded(2)
    prepare([other], folder=tmp_path)
    assert provenance([other], folder=tmp_path)["networks"] != about["networks"]


def test_a_network_with_more_kept_epochs_serves_as_well(tmp_path: Path, runs: list[int]) -> None:
    more = trained(RECIPE, folder=tmp_path)
    for keep in ((), (1,), (0, 2)):
        fewer = dataclasses.replace(RECIPE, keep=keep)
        assert is_ready(fewer, folder=tmp_path)
        found = trained(fewer, folder=tmp_path)
        assert sorted(found.epochs) == sorted({*keep, 2})
        assert torch.equal(weights(found.model), weights(more.model))
        assert provenance([fewer], folder=tmp_path) == provenance([RECIPE], folder=tmp_path)
    assert runs == [1]
    assert not is_ready(dataclasses.replace(RECIPE, bias=True), folder=tmp_path)
    (home,) = tmp_path.iterdir()
    (home / "1.npz").unlink()
    assert not is_ready(dataclasses.replace(RECIPE, keep=(1,)), folder=tmp_path)
    assert is_ready(dataclasses.replace(RECIPE, keep=(0,)), folder=tmp_path)


def test_a_processor_takes_what_a_gpu_trained(tmp_path: Path, runs: list[int]) -> None:
    """And says so; never the other way round, and only where data and code are the same."""
    before = trained(RECIPE, folder=tmp_path)
    (home,) = tmp_path.iterdir()
    made = json.loads((home / "made.json").read_text()) | {"device": "cuda", "torch": "2.0.0"}
    (home / "made.json").write_text(json.dumps(made))
    home.rename(tmp_path / FOUND)
    after = trained(RECIPE, folder=tmp_path)
    assert torch.equal(weights(before.model), weights(after.model))
    assert provenance([RECIPE], folder=tmp_path)["trained_on"] == ["cuda"]
    assert module.files_of(RECIPE, folder=tmp_path) == [tmp_path / FOUND]
    assert runs == [1]

    for change in ({"device": "meta"}, {"data": "other"}, {"code": "other"}):
        (tmp_path / FOUND / "made.json").write_text(json.dumps(made | change))
        module._read.cache_clear()
        assert not is_ready(RECIPE, folder=tmp_path)
        assert (module.files_of(RECIPE, folder=tmp_path) == []) == (change != {"device": "meta"})


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    trained(RECIPE, folder=tmp_path)
    (home,) = tmp_path.iterdir()
    write_arrays(tmp_path / "other", {"a": np.zeros(1)})
    other = (tmp_path / "other").read_bytes()
    (tmp_path / "other").unlink()
    for name in ("history.npz", "2.npz"):
        whole = (home / name).read_bytes()
        entry = whole.index(b"PK\x01\x02")
        odd = whole[: entry + 10] + b"\x63" + whole[entry + 11 :]  # a compression that there is not
        for garbage in (b"", b"PK\x03\x04", whole[:-30], odd, other):
            (home / name).write_bytes(garbage)
            with pytest.raises(MasoError, match=r"(?s)damaged .* Delete the folder and run the same again"):
                trained(RECIPE, folder=tmp_path)
        (home / name).write_bytes(whole)
    trained(RECIPE, folder=tmp_path)


def test_the_data_are_in_the_name_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network trained on other data is not taken for that of the real ones."""
    prepare([RECIPE], folder=tmp_path)
    monkeypatch.setitem(datasets.CHECKSUMS, "digits", "0" * 64)
    assert not is_ready(RECIPE, folder=tmp_path)


def test_divergence_is_kept_as_such(tmp_path: Path) -> None:
    training = dataclasses.replace(RECIPE.training, lr=1e30, epochs=6)
    found = trained(dataclasses.replace(RECIPE, training=training, keep=(0, 5)), folder=tmp_path)
    assert found.history.diverged
    assert sorted(found.epochs) == [0, 6]
    assert weights(found.model).isnan().any()


def test_on_a_processor_one_after_the_other(tmp_path: Path, runs: list[int]) -> None:
    prepare([RECIPE, seeded(2), RECIPE], along=[seeded(3)], folder=tmp_path)
    assert runs == [1, 1]
    assert not is_ready(seeded(3), folder=tmp_path)


def test_together_what_can_be_stacked(tmp_path: Path, runs: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.TOGETHER, "cpu", 4)
    trained(RECIPE, folder=tmp_path / "alone")
    slower = dataclasses.replace(RECIPE.training, lr=1e-3, weight_decay=0.1, schedule="one-cycle")
    alike = [
        RECIPE,
        seeded(2, labels="permuted", keep=(2,)),
        dataclasses.replace(RECIPE, training=slower),
        seeded(3),
        seeded(4),
    ]
    others = [dataclasses.replace(RECIPE, bn=False), seeded(5, shares=(0.5,) * 10), seeded(6, shares=(0.5,) * 10)]
    prepare([RECIPE], along=[*others, *alike], folder=tmp_path)
    assert runs == [1, 4]
    assert [is_ready(recipe, folder=tmp_path) for recipe in alike] == [True] * 4 + [False]
    prepare([*others, *alike], folder=tmp_path)
    assert runs == [1, 4, 1, 1, 1, 1]
    together, alone = trained(RECIPE, folder=tmp_path), trained(RECIPE, folder=tmp_path / "alone")
    assert sorted(together.epochs) == [0, 1, 2]
    assert (weights(together.model) - weights(alone.model)).abs().max() < 1e-4
    assert sorted(trained(alike[1], folder=tmp_path).epochs) == [2]


def test_a_deadline_stops_and_the_next_call_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(RECIPE, folder=tmp_path / "whole")
    monkeypatch.setattr("maso_book.training.settings.time.monotonic", iter((0.0, 1000.0)).__next__)
    with pytest.raises(OutOfTime, match="1 of 2 epochs"):
        prepare([RECIPE], deadline=500.0, folder=tmp_path)
    monkeypatch.undo()
    assert not is_ready(RECIPE, folder=tmp_path)
    prepare([RECIPE], deadline=time.monotonic() + 600, folder=tmp_path)
    again = trained(RECIPE, folder=tmp_path)
    assert sorted(again.epochs) == [0, 1, 2]
    assert torch.equal(weights(again.model), weights(whole.model))
