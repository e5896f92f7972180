"""Image data sets as plain uint8 arrays, plus one that is drawn on the spot.

`load(name)` looks for `<data directory>/<name>.npz`; where that file is missing, torchvision loads (or downloads) the
original and the file is written for the next time.  The data directory is the `root` argument, else the environment
variable `MASO_DATA`, else `data/` of the working tree if it exists, else a per-user cache.  `digits` needs no file at
all.  A published name stands for the published data, known by their checksum; a file of any other name is a data set of
your own, with a fifth array, `classes`.

Pixels stay uint8, images are N × height × width × channels: nothing is normalised here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

import maso_book.tree
from maso.errors import MasoError

_TEN = tuple("0123456789")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_CIFAR100 = tuple(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm""".split()  # noqa: SIM905
)


class _Classes(dict[str, tuple[str, ...]]):
    """Those of the published sets; those of a data set of your own are in its file."""

    def __missing__(self, name: str) -> tuple[str, ...]:
        return load(name).classes


CLASSES = _Classes(
    cifar10=_CIFAR10,
    cifar100=_CIFAR100,
    mnist=_TEN,
    fashion_mnist=_FASHION,
    usps=_TEN,
    digits=_TEN,
)
"""The published data sets by name, with the names of their classes in the order of the labels."""

CHECKSUMS = {
    "cifar10": "810761cc3fb9c28abd482dab203907a100d02ba93b362a06e2adfad99a097a08",
    "cifar100": "9efba692b311f88385fde5cb3fcf927a8570b319e61edeaee012adc29e3c681b",
    "mnist": "9e176c0781a87c0e9cb9a15e0e5729c059e7d0136a15e4ee88a5cbf7f1a44ba1",
    "fashion_mnist": "86f9b29a7eb0994da0b26141ef3f78daa80ea92f3da319e9809dde8e285d0cc6",
    "usps": "76bb4dcb4fa3b2ac90263bdd4aee6b133ebb1544e7ac49b6636b58aa5ae0c8ec",
    "digits": "06253cf6a36aad90ae0da787b7d41a50d82cfc1c9ecae5dff29c56425fc2390e",
}
"""`Dataset.checksum` of the published sets. Anything else under their names is refused."""

MIRRORS = {
    "MNIST": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "FashionMNIST": "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
}
"""Where torchvision fetches those from for which it would also take http."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test set of images with their classes.

    Args:
        name: one of `CLASSES`, or that of a file of your own.
        x_train, x_test: images, (N, height, width, channels) uint8.
        y_train, y_test: labels, (N,) uint8.
        classes: the name of each label.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the four arrays (names, shapes and bytes): what a record keeps of the data it saw."""
        digest = hashlib.sha256()
        for key in _ARRAYS:
            array = np.ascontiguousarray(getattr(self, key))
            digest.update(f"{key}{array.shape}".encode())
            digest.update(array.data)
        return digest.hexdigest()


_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def load(name: str, *, root: str | Path | None = None) -> Dataset:
    """Load a data set by name; where its file is missing, torchvision fetches it and the file is written.

    Args:
        name: `cifar10`, `cifar100`, `mnist`, `fashion_mnist`, `usps`, `digits` (drawn, no file), or that of a file of
            your own.
        root: the data directory; by default `MASO_DATA`, `data/` of the working tree, or a per-user cache.

    Returns:
        The data set, uint8 images in the order height, width, channel.

    Raises:
        MasoError: unknown name, a damaged file, or a set that is neither here nor can be downloaded.

    Example:
        >>> load("digits").x_test.shape
        (500, 32, 32, 3)
    """
    if name == "digits":
        return _digits()
    directory = data_directory(root)
    path = directory / f"{checked(name, root=root)}.npz"
    if path.exists():
        arrays, own = _read(path)
        return _published(Dataset(name, **arrays, classes=CLASSES.get(name, own)), path)
    arrays = _fetch(name, directory)
    found = _published(Dataset(name, **arrays, classes=CLASSES[name]), directory)
    _keep(path, arrays)
    return found


def checked(name: object, *, root: str | Path | None = None) -> str:
    """The name of a data set that is published or has a file of its own here.

    Raises:
        MasoError: there is none of this name; the message lists those that there are.
    """
    directory = data_directory(root)
    if isinstance(name, str) and (
        name in CLASSES or (re.fullmatch(r"\w+", name) and (directory / f"{name}.npz").is_file())
    ):
        return name
    raise MasoError(
        f"There is no data set {name!r}. Data sets: {', '.join(CLASSES)}, or one of your own: a file NAME.npz in "
        f"{directory} with the arrays {', '.join(_ARRAYS)} and classes."
    )


def _published(found: Dataset, place: Path) -> Dataset:
    """The data set, where it is the published one of its name, or your own."""
    known = CHECKSUMS.get(found.name, found.checksum)
    if found.checksum != known:
        raise MasoError(
            f"What is in {place} is not the published {found.name}: its checksum is {found.checksum[:16]}…, expected "
            f"{known[:16]}…. Delete it: the next load fetches it again. Other data need another name."
        )
    return found


def checksum_of(name: str) -> str:
    """The checksum of a data set by its name: the published one, which `load` insists on, else that of what is here."""
    if name in CHECKSUMS:
        return CHECKSUMS[name]
    path = data_directory() / f"{checked(name)}.npz"
    return _checksum(name, path, path.stat().st_mtime_ns, path.stat().st_size)


@cache
def _checksum(name: str, path: Path, *_: int) -> str:
    """Of the data set in this file, as it was changed last."""
    return load(name, root=path.parent).checksum


def data_directory(root: str | Path | None = None) -> Path:
    """Where the data sets are: `root`, else `MASO_DATA`, else `data/` of the working tree, else a per-user cache."""
    if root is not None:
        return Path(root)
    if os.environ.get("MASO_DATA"):
        return Path(os.environ["MASO_DATA"])
    with contextlib.suppress(MasoError):  # there is no working tree
        if (maso_book.tree.root() / "data").is_dir():
            return maso_book.tree.root() / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maso"


def to_tensor(images: np.ndarray, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Images (N, height, width, channels) uint8 as a tensor (N, channels, height, width) with values in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(dtype) / 255


def import_torchvision() -> ModuleType:
    """torchvision, also where its CUDA build meets a torch without CUDA.

    That pair fails on import because the operators `nms` and `qnms` were never declared; data sets, transforms and
    models need neither, so declare them and import again.

    Raises:
        MasoError: torchvision is not installed.
    """
    try:
        import torchvision
    except ImportError as error:
        raise MasoError(
            "torchvision is not installed: in the checkout, `pip install -e '.[book]'` brings it."
        ) from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou) -> Tensor")
        import torchvision
    return torchvision


def _read(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The four arrays of a file, and its `classes`, which a published set need not have."""
    published = path.stem in CLASSES
    advice = "Delete it: the next load fetches it again." if published else "Write it anew."
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {key: file[key] for key in _ARRAYS}
            classes = tuple(map(str, file["classes"])) if "classes" in file else ()
    except Exception as error:  # numpy, zipfile and zlib each have their own
        raise MasoError(f"{path} is damaged or not a data set ({error}). {advice}") from error
    for key, array in arrays.items():
        if array.dtype == np.float32 and array.min() >= 0 and array.max() <= 1:  # USPS: multiples of 1/2000
            arrays[key] = array = (array.astype(np.float64) * 255 + 1e-9).astype(np.uint8)
        if array.dtype != np.uint8 or array.ndim != (4 if key[0] == "x" else 1):
            raise MasoError(
                f"{path}: {key} is {array.dtype} {array.shape}; expected uint8 images (N, height, width, channels) and "
                f"uint8 labels (N,). {advice}"
            )
    for part in ("train", "test"):
        if len(arrays[f"x_{part}"]) != len(arrays[f"y_{part}"]):
            raise MasoError(f"{path}: x_{part} and y_{part} differ in length. {advice}")
        labels = int(arrays[f"y_{part}"].max(initial=0))
        if not published and labels >= len(classes):
            raise MasoError(f"{path} has the label {labels} and {len(classes)} names in its array `classes`. {advice}")
    return arrays, classes


def _fetch(name: str, directory: Path) -> dict[str, np.ndarray]:
    sets = import_torchvision().datasets
    for kind, mirror in MIRRORS.items():
        getattr(sets, kind).mirrors = [mirror]
    by_train: dict[str, Callable] = {
        "cifar10": sets.CIFAR10,
        "cifar100": sets.CIFAR100,
        "mnist": sets.MNIST,
        "fashion_mnist": sets.FashionMNIST,
        "usps": sets.USPS,
    }
    arrays = {}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for part in ("train", "test"):
            source = by_train[name](directory, train=part == "train", download=True)
            images = np.asarray(source.data)
            arrays[f"x_{part}"] = np.ascontiguousarray(images if images.ndim == 4 else images[..., None])
            arrays[f"y_{part}"] = np.asarray(source.targets).astype(np.uint8)
    except (OSError, RuntimeError) as error:
        raise MasoError(
            f"Data set {name!r} is not in {directory} and could not be fetched ({error}). Put {name}.npz there (arrays "
            f"{', '.join(_ARRAYS)}, uint8), or the original files in torchvision's layout, or name the directory that "
            "has them with MASO_DATA, or run where there is internet; 'digits' needs no file."
        ) from error
    return arrays


def _keep(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the file for the next time, whole or not at all."""
    aside = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        np.savez(aside, allow_pickle=False, **arrays)
        os.replace(aside, path)
    except OSError as error:
        raise MasoError(
            f"Cannot write {path}: {error.strerror or error}. Free some space, or name another MASO_DATA."
        ) from error
    finally:
        aside.unlink(missing_ok=True)


# The digits 0 to 9, five columns by seven rows; each number is one row of pixels, read as five bits.
_GLYPHS = np.array(
    [
        [14, 17, 19, 21, 25, 17, 14],
        [4, 12, 4, 4, 4, 4, 14],
        [14, 17, 1, 2, 4, 8, 31],
        [31, 2, 4, 2, 1, 17, 14],
        [2, 6, 10, 18, 31, 2, 2],
        [31, 16, 30, 1, 1, 17, 14],
        [6, 8, 16, 30, 17, 17, 14],
        [31, 1, 2, 4, 8, 8, 8],
        [14, 17, 17, 14, 17, 17, 14],
        [14, 17, 17, 15, 1, 2, 12],
    ]
)


def _digits(side: int = 32) -> Dataset:
    """2,500 drawn digits: a random turn, shear, size and place, two random colours and noise; always the same ones."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(2500) % 10).astype(np.uint8)
    n = len(labels)
    glyphs = np.zeros((10, 9, 7))  # a margin of one pixel: outside the glyph is background
    glyphs[:, 1:8, 1:6] = _GLYPHS[:, :, None] >> np.arange(4, -1, -1) & 1
    turn, shear = rng.normal(0, 0.15, n), rng.normal(0, 0.15, n)
    size, shift = rng.uniform(0.75, 1.15, n), rng.uniform(-0.15, 0.15, (n, 2))
    y, x = np.meshgrid(*[np.linspace(-1, 1, side)] * 2, indexing="ij")
    u = (x - shift[:, 0, None, None]) / size[:, None, None]
    v = (y - shift[:, 1, None, None]) / size[:, None, None]
    cos, sin = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    u, v = cos * u + sin * v + shear[:, None, None] * v, cos * v - sin * u
    row, column = 4 + 4 * v, 3 + 4 * u  # glyph coordinates; sampled bilinearly
    i, j = np.floor(row).astype(int), np.floor(column).astype(int)
    image = np.zeros((n, side, side))
    for di in (0, 1):
        for dj in (0, 1):
            weight = np.abs(1 - di - (row - i)) * np.abs(1 - dj - (column - j))
            image += weight * glyphs[labels[:, None, None], np.clip(i + di, 0, 8), np.clip(j + dj, 0, 6)]
    ink, paper = rng.uniform(0.5, 1, (n, 1, 1, 3)), rng.uniform(0, 0.4, (n, 1, 1, 3))
    image = image[..., None] * (ink - paper) + paper + rng.normal(0, 0.05, (n, side, side, 3))
    pixels = (image.clip(0, 1) * 255).astype(np.uint8)
    return Dataset("digits", pixels[:2000], labels[:2000], pixels[2000:], labels[2000:], CLASSES["digits"])
