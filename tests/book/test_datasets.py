"""Data sets: the drawn one, files, and what a user reads when something is missing."""

import numpy as np
import pytest
import torch
import toy

from maso.errors import MasoError
from maso_book import datasets


def test_digits_are_the_same_every_time_and_differ_by_class() -> None:
    a, b = datasets.load("digits"), datasets.load("digits")
    assert a.checksum == b.checksum
    assert a.x_train.shape == (2000, 32, 32, 3)
    assert a.x_train.dtype == np.uint8
    assert set(a.y_train) == set(range(10))
    grey = a.x_train.astype(float).mean(3)
    means = np.stack([grey[a.y_train == c].mean(0).ravel() for c in range(10)])
    x = a.x_test.astype(float).mean(3).reshape(500, -1)
    x = x - x.mean(1, keepdims=True)
    means = means - means.mean(1, keepdims=True)
    x, means = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, means))
    assert ((x @ means.T).argmax(1) == a.y_test).mean() > 0.7


@pytest.fixture
def unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small stand-ins pass for the published sets."""
    monkeypatch.setattr(datasets, "CHECKSUMS", {})


def test_another_set_under_a_published_name_is_refused(tmp_path) -> None:
    np.savez(tmp_path / "mnist.npz", **toy.arrays())
    with pytest.raises(MasoError, match=r"mnist.npz is not the published mnist: its checksum is .*Other data need"):
        datasets.load("mnist", root=tmp_path)


def test_what_was_fetched_wrong_is_refused_and_not_kept(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.import_torchvision().datasets, "MNIST", Images)
    with pytest.raises(MasoError, match="is not the published mnist"):
        datasets.load("mnist", root=tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


def test_the_checksum_of_a_name_needs_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert datasets.checksum_of("digits") == datasets.load("digits").checksum
    monkeypatch.setattr(datasets, "load", None)
    assert len(datasets.checksum_of("cifar10")) == 64


@pytest.mark.usefixtures("unpinned")
def test_file_in_the_data_directory_is_read(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = toy.arrays()
    np.savez(tmp_path / "cifar10.npz", **arrays)
    by_argument = datasets.load("cifar10", root=tmp_path)
    monkeypatch.setenv("MASO_DATA", str(tmp_path))
    by_variable = datasets.load("cifar10")
    assert by_argument.checksum == by_variable.checksum
    assert (by_argument.x_train == arrays["x_train"]).all()
    assert by_argument.classes[0] == "airplane"


@pytest.mark.usefixtures("unpinned")
def test_checksum_sees_every_pixel(tmp_path) -> None:
    arrays = toy.arrays()
    np.savez(tmp_path / "cifar10.npz", **arrays)
    before = datasets.load("cifar10", root=tmp_path).checksum
    arrays["x_test"][0, 0, 0, 0] ^= 1
    np.savez(tmp_path / "cifar10.npz", **arrays)
    assert datasets.load("cifar10", root=tmp_path).checksum != before


def test_data_directory_order(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("notebooks", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "_config.yml").touch()
    monkeypatch.setenv("MASO_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv("MASO_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert datasets.data_directory() == tmp_path / "cache" / "maso"
    (tmp_path / "data").mkdir()
    assert datasets.data_directory().resolve() == tmp_path / "data"
    monkeypatch.setenv("MASO_DATA", str(tmp_path / "env"))
    assert datasets.data_directory() == tmp_path / "env"
    assert datasets.data_directory("here").name == "here"


def test_a_data_set_of_your_own_has_a_name_of_its_own(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASO_DATA", str(tmp_path))
    toy.write_dataset(tmp_path / "letters.npz")
    data = datasets.load("letters")
    assert data.classes == tuple("abcdef") == datasets.CLASSES["letters"]
    assert datasets.checksum_of("letters") == data.checksum
    toy.write_dataset(tmp_path / "letters.npz", seed=1)
    assert datasets.checksum_of("letters") == datasets.load("letters").checksum != data.checksum


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, r"has the label 5 and 0 names in its array `classes`. Write it anew"),
        ({"classes": np.array(["a"])}, r"has the label 5 and 1 names"),
        (
            {"y_test": np.zeros(3, np.uint8), "classes": np.array(list("abcdef"))},
            "x_test and y_test differ in length. Write it anew",
        ),
        ({"x_train": np.zeros((6, 8, 8, 3))}, "x_train is float64 .* Write it anew"),
    ],
)
def test_a_wrong_data_set_of_your_own_is_not_called_to_be_deleted(change: dict, message: str, tmp_path) -> None:
    np.savez(tmp_path / "letters.npz", **(toy.arrays() | change))
    with pytest.raises(MasoError, match=message):
        datasets.load("letters", root=tmp_path)


def test_every_published_set_is_pinned_and_comes_over_https(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(datasets.CHECKSUMS) == set(datasets.CLASSES)
    sets = datasets.import_torchvision().datasets
    asked: list[str] = []

    def fetched(url: str, *_: object, **__: object) -> None:
        asked.append(url)
        raise OSError("no internet")

    for module in ("mnist", "cifar", "usps"):
        for name in ("download_and_extract_archive", "download_url"):
            monkeypatch.setattr(f"torchvision.datasets.{module}.{name}", fetched, raising=False)
    assert sets
    for name in datasets.CLASSES:
        if name != "digits":
            with pytest.raises(MasoError, match="could not be fetched"):
                datasets._fetch(name, tmp_path)
    assert len(asked) >= 5
    assert all(url.startswith("https://") for url in asked)


def test_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(MasoError, match=r"'imagenet'.*cifar10.*digits.*one of your own"):
        datasets.load("imagenet")


def test_damaged_file(tmp_path) -> None:
    (tmp_path / "mnist.npz").write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(MasoError, match=r"mnist.npz is damaged.*Delete it"):
        datasets.load("mnist", root=tmp_path)


def test_wrong_kind_of_arrays(tmp_path) -> None:
    arrays = toy.arrays() | {"x_train": np.zeros((6, 8, 8, 3))}
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(MasoError, match=r"x_train is float64.*expected uint8"):
        datasets.load("mnist", root=tmp_path)


class Images:
    """Stands for a torchvision data set of two grey images."""

    def __init__(self, root, *, train: bool, download: bool) -> None:
        assert download
        self.data, self.targets = torch.full((2, 28, 28), 7 if train else 9, dtype=torch.uint8), [1, 2]


@pytest.mark.usefixtures("unpinned")
def test_torchvision_fetches_and_the_file_is_written(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = datasets.import_torchvision().datasets
    monkeypatch.setattr(sets, "MNIST", Images)
    first = datasets.load("mnist", root=tmp_path / "new")
    assert first.x_train.shape == (2, 28, 28, 1)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["mnist.npz"]
    monkeypatch.delattr(sets, "MNIST")
    monkeypatch.setattr(sets, "MNIST", None, raising=False)
    assert datasets.load("mnist", root=tmp_path / "new").checksum == first.checksum


def test_no_internet_says_what_to_do_and_leaves_nothing(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.import_torchvision().datasets, "MNIST", fail)
    with pytest.raises(MasoError, match=r"'mnist' is not in .*MASO_DATA.*'digits' needs no file"):
        datasets.load("mnist", root=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("unpinned")
def test_usps_in_floats_becomes_uint8(tmp_path) -> None:
    arrays = toy.arrays() | {"x_train": np.full((6, 16, 16, 1), 0.2, np.float32)}
    arrays["x_train"][0] = 1
    np.savez(tmp_path / "usps.npz", **arrays)
    x = datasets.load("usps", root=tmp_path).x_train
    assert x.dtype == np.uint8
    assert x[0, 0, 0, 0] == 255
    assert x[1, 0, 0, 0] == 51


def test_to_tensor_moves_channels_and_scales() -> None:
    x = datasets.to_tensor(toy.arrays()["x_train"])
    assert x.shape == (6, 3, 8, 8)
    assert x.dtype == torch.float32
    assert float(x.max()) <= 1


@pytest.mark.parametrize(
    ("name", "train", "test"), [("cifar10", 50000, 10000), ("mnist", 60000, 10000), ("usps", 7291, 2007)]
)
def test_the_real_files_where_they_are(name: str, train: int, test: int) -> None:
    if not (datasets.data_directory() / f"{name}.npz").exists():
        pytest.skip(f"{name}.npz is not in {datasets.data_directory()}")
    data = datasets.load(name)
    assert (len(data.x_train), len(data.x_test)) == (train, test)
    assert set(data.y_test) == set(range(10))
