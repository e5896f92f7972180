"""The trained networks that chapters share: a recipe names one, `trained` gives it, from its files if it has some.

A recipe says all that the weights depend on, so two chapters that ask for the same network train it once.  The files
are in `_build/networks/<hash>/`, out of git: the weights after each epoch that is kept, the history (where it is,
training is done), and until then a checkpoint.  Deleting them costs time, not results.

A network that was trained with more kept epochs serves as well, and on a CPU one that was trained on a GPU; the
record says where (`provenance`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

import maso_book.tree
from maso.errors import MasoError
from maso_book import meaning, networks, records
from maso_book.datasets import CLASSES, checksum_of, load
from maso_book.locks import locked
from maso_book.progress import watched
from maso_book.training import History, Training, fit, fit_many
from maso_book.training.checkpoint import load_state, read_arrays, state_of, write_arrays

TOGETHER = {"cpu": 1, "cuda": 1}
"""How many networks train side by side: on a CPU that is slower than one after the other (benchmarks/training.py)."""


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained.

    Attributes:
        dataset: one of `maso_book.datasets.CLASSES`.
        network: a function of `maso_book.networks` that takes (input_shape, classes, *, bn, bias).
        training: how; its seed also draws the initial weights, the order of the samples and permuted labels.
        bn, bias: as in `maso_book.networks`.
        width: of the hidden layers, for the networks that have one (`mlp`); their own default where None.
        unit: what stands for each ReLU, a name of `maso_book.networks.UNITS`.
        labels: "true", or "permuted" among the training samples.
        grey: one channel, the mean of the colours.
        samples: train on that many of the training images (all but the validation images where None).
        shares: of each class, the share of its images that is kept: a skewed prior; all of them where empty.
        keep: epochs after which the weights are kept, besides the last (0: before training).
    """

    dataset: str
    network: str
    training: Training
    bn: bool = True
    bias: bool = True
    labels: Literal["true", "permuted"] = "true"
    grey: bool = False
    samples: int | None = None
    shares: tuple[float, ...] = ()
    keep: tuple[int, ...] = ()
    width: int | None = None
    unit: str = "relu"


@dataclass(frozen=True, kw_only=True)
class Augmented:
    """What a configuration inherits whose network sees images flipped and moved: those of objects, not of digits."""

    augment: bool = True


class TrainedCell:
    """What a configuration inherits that names a trained network by fields called as in `Recipe` and `Training`.

    The schedule is one-cycle where it has no field of that name, and a batch has 256 samples.
    """

    @property
    def recipe(self) -> Recipe:
        """The network of the cell."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        how: dict[str, Any] = {"batch": 256, "schedule": "one-cycle"} | given
        training = Training(**{f.name: how[f.name] for f in dataclasses.fields(Training) if f.name in how})
        return Recipe(
            training=training, **{f.name: given[f.name] for f in dataclasses.fields(Recipe) if f.name in given}
        )


@dataclass(frozen=True, eq=False)
class Data:
    """What a recipe trains and tests on: images (N, channels, height, width) uint8, labels (N,) int64.

    The last tenth of the training images is the validation set, whatever the recipe; the test set is the data set's.
    """

    x: Tensor
    y: Tensor
    x_validation: Tensor
    y_validation: Tensor
    x_test: Tensor
    y_test: Tensor


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network: `model` in eval mode, float32, and its weights after the epochs of `recipe.keep`.

    Epoch 0 follows from the seed where it is in no file. Where training diverged (`history.diverged`), `model` is as
    it was then, and later epochs are missing.
    """

    recipe: Recipe
    model: nn.Module
    history: History
    epochs: dict[int, nn.Module]


def network(recipe: Recipe) -> nn.Module:
    """The network of a recipe with its initial weights, on the CPU, in training mode."""
    d = data(recipe)
    with torch.random.fork_rng([]), torch.device("cpu"):
        torch.manual_seed(recipe.training.seed)
        make = getattr(networks, recipe.network)
        width = {} if recipe.width is None else {"width": recipe.width}
        model = make(tuple(d.x.shape[1:]), len(CLASSES[recipe.dataset]), bn=recipe.bn, bias=recipe.bias, **width)
        return networks.with_unit(model, recipe.unit)


def data(recipe: Recipe) -> Data:
    """What a recipe trains and tests on, on the CPU; not to be changed in place."""
    x, y, x_test, y_test = _tensors(recipe.dataset, recipe.grey)
    rng = np.random.default_rng(recipe.training.seed)
    held_out = len(x) - len(x) // 10
    chosen: Any = slice(min(held_out, recipe.samples or held_out))
    if recipe.shares:
        kept = np.flatnonzero(rng.random(held_out) < np.asarray(recipe.shares)[y[:held_out].numpy()])
        chosen = torch.from_numpy(kept[: recipe.samples])
    labels = y[chosen]
    if recipe.labels == "permuted":
        labels = torch.from_numpy(rng.permutation(labels.numpy()))
    return Data(x[chosen], labels, x[held_out:], y[held_out:], x_test, y_test)


@lru_cache(maxsize=1)
def _tensors(dataset: str, grey: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels; those asked for last stay in memory."""
    whole = load(dataset)
    x, x_test = (_images(part, grey) for part in (whole.x_train, whole.x_test))
    y, y_test = (torch.from_numpy(part.astype(np.int64)) for part in (whole.y_train, whole.y_test))
    return x, y, x_test, y_test


def _images(images: np.ndarray, grey: bool) -> Tensor:
    """(N, channels, height, width) uint8."""
    if grey and images.shape[3] > 1:
        images = np.rint(images.mean(3, keepdims=True)).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


WEIGHTS_FOLLOW_FROM = (network, data, fit, fit_many)
"""What a trained network is made by: a changed one of these trains it anew."""


# Networks and their files ---------------------------------------------------------------------------------------------


def trained(recipe: Recipe, *, folder: Path | None = None) -> Trained:
    """The network of a recipe, read from its files or trained now, on the default device.

    Args:
        recipe: which network.
        folder: where the files are, by default `_build/networks` of the working tree.

    Raises:
        MasoError: the data set is not here, a setting does not fit, or a file is damaged.
    """
    prepare([recipe], folder=folder)
    home = _finished(recipe, folder)
    models = {}
    with _whole(home):
        arrays = read_arrays(home / "history.npz")
        history = History(**{n: v for n, v in arrays.items() if n != "diverged"}, diverged=bool(arrays["diverged"]))
        for epoch in sorted({*recipe.keep, recipe.training.epochs}):
            model, file = network(recipe), home / f"{epoch}.npz"
            if file.is_file():
                load_state(model, read_arrays(file))
            elif epoch:  # later than training diverged
                continue
            models[epoch] = model.to(torch.get_default_device()).eval()
        return Trained(recipe, models[recipe.training.epochs], history, models)


@contextlib.contextmanager
def _whole(home: Path) -> Iterator[None]:
    """What goes wrong inside is a damaged file of this network."""
    try:
        yield
    except Exception as error:  # numpy, zipfile and torch each have their own
        raise MasoError(
            f"The network in {home} is damaged ({error}). Delete the folder and run the same again."
        ) from error


def is_ready(recipe: Recipe, *, folder: Path | None = None) -> bool:
    """Whether a trained network is there that serves on the default device."""
    return (_finished(recipe, folder) / "history.npz").is_file()


def is_under_way(recipe: Recipe, *, folder: Path | None = None) -> bool:
    """Whether a process trains the network now, on the default device."""
    with locked(_home(recipe, folder) / "lock", wait=False) as held:
        return not held


def prepare(
    recipes: Iterable[Recipe],
    *,
    along: Iterable[Recipe] = (),
    deadline: float | None = None,
    folder: Path | None = None,
) -> None:
    """Train the networks that are not there yet, on the default device, and go on where a training was stopped.

    On a GPU, networks that differ only in seed, labels, learning rate, schedule, weight decay and kept epochs train
    together.

    Args:
        recipes: the networks that must be there.
        along: networks that are wanted later: they fill up what trains together.
        deadline: `time.monotonic()` by which to stop.
        folder: as in `trained`.

    Raises:
        MasoError: as in `trained`.
        OutOfTime: the deadline came first. What is done is kept.
    """
    wanted, later = list(recipes), list(along)
    for recipe in wanted:
        if not is_ready(recipe, folder=folder):
            known = dict.fromkeys([recipe, *wanted, *later])
            alike = [each for each in known if _kind(each) == _kind(recipe) and not is_ready(each, folder=folder)]
            _train(alike[: TOGETHER[torch.get_default_device().type]], deadline, folder)


def provenance(recipes: Sequence[Recipe], *, folder: Path | None = None) -> dict[str, Any]:
    """What a record keeps of its networks: the training's seconds and devices, and a digest of the weights."""
    homes = [_finished(recipe, folder) for recipe in recipes]
    seconds, devices = 0.0, set()
    for home, recipe in zip(homes, recipes, strict=True):
        own = home == _home(recipe, folder)
        devices.add(torch.get_default_device().type if own else _read(home / "made.json")[1])
        with _whole(home):
            seconds += read_arrays(home / "history.npz")["seconds"].sum()
    weights = [home / f"{recipe.training.epochs}.npz" for home, recipe in zip(homes, recipes, strict=True)]
    return {
        "training_seconds": round(float(seconds), 3),
        "trained_on": sorted(devices),
        "networks": maso_book.tree.digest(path.read_bytes() for path in weights),
    }


def files_of(recipe: Recipe, *, folder: Path | None = None) -> list[Path]:
    """Folders of networks here that serve for this recipe on some device, finished or under way."""
    return [home for home, _ in _alike(recipe, folder)]


def _kind(recipe: Recipe) -> Recipe:
    """The same for all recipes that can train together; shares leave each its own number of samples."""
    if recipe.shares or not recipe.training.plain or recipe.unit != "relu":
        return recipe
    training = Training(recipe.training.epochs, recipe.training.batch, augment=recipe.training.augment)
    return dataclasses.replace(recipe, training=training, labels="true", keep=())


def _train(recipes: Sequence[Recipe], deadline: float | None, folder: Path | None) -> None:
    """Train these networks together, or the one that there is."""
    device, homes = torch.get_default_device(), [_home(recipe, folder) for recipe in recipes]
    with contextlib.ExitStack() as held:
        for home in sorted(homes):
            held.enter_context(locked(home / "lock"))
        if all(is_ready(recipe, folder=folder) for recipe in recipes):
            return  # another process was faster
        for recipe, home in zip(recipes, homes, strict=True):
            records.write(home / "made.json", json.dumps(_made_of(recipe), sort_keys=True).encode())
        models = [network(recipe).to(device) for recipe in recipes]
        sets = [data(recipe) for recipe in recipes]
        group = maso_book.tree.digest(home.name.encode() for home in homes)

        def keep(number: int, epoch: int, model: nn.Module) -> None:
            if epoch in recipes[number].keep:
                write_arrays(homes[number] / f"{epoch}.npz", state_of(model))

        options: dict[str, Any] = {
            "validation": (sets[0].x_validation, sets[0].y_validation),
            "progress": watched(),
            "checkpoint": homes[0] / f"{group}.npz",
            "deadline": deadline,
        }
        if len(recipes) == 1:
            histories = [fit(models[0], sets[0].x, sets[0].y, recipes[0].training, **options,
                             on_epoch=lambda epoch, model: keep(0, epoch, model))]  # fmt: skip
        else:
            trainings = [recipe.training for recipe in recipes]
            histories = fit_many(models, [d.x for d in sets], [d.y for d in sets], trainings, **options, on_epoch=keep)
        for recipe, home, model, history in zip(recipes, homes, models, histories, strict=True):
            write_arrays(home / f"{recipe.training.epochs}.npz", state_of(model))
            write_arrays(home / "history.npz", {n: np.asarray(v) for n, v in dataclasses.asdict(history).items()})
        options["checkpoint"].unlink()


def _home(recipe: Recipe, folder: Path | None) -> Path:
    """The folder of a network's files: all that the weights depend on is in its name."""
    name = hashlib.sha256(json.dumps(_made_of(recipe), sort_keys=True).encode()).hexdigest()[:16]
    return (folder or maso_book.tree.root() / "_build" / "networks") / name


def _finished(recipe: Recipe, folder: Path | None) -> Path:
    """The folder of a finished network that serves for this recipe on the default device; its own if there is none."""
    own, device = _home(recipe, folder), torch.get_default_device().type
    if not (own / "history.npz").is_file():
        needed = ["history.npz", *(f"{epoch}.npz" for epoch in {*recipe.keep, recipe.training.epochs} - {0})]
        for home, made_on in _alike(recipe, folder):
            if made_on in (device, "cuda") and all((home / file).is_file() for file in needed):
                return home
    return own


def _alike(recipe: Recipe, folder: Path | None) -> list[tuple[Path, str]]:
    """Folders of networks made of the same, but for kept epochs, and their devices; the default device first."""
    asked, alike = _content(_made_of(recipe)), []
    for about in _home(recipe, folder).parent.glob("*/made.json"):
        content, device = _read(about)
        if content == asked:
            alike.append((about.parent, device))
    return sorted(alike, key=lambda found: (found[1] != torch.get_default_device().type, found[0]))


@lru_cache(maxsize=10_000)
def _read(about: Path) -> tuple[str, str]:
    """What the network of this file is made of, and its device; the file never changes."""
    with _whole(about.parent):
        made = json.loads(about.read_text())
        return _content(made), made["device"]


def _content(made: dict[str, Any]) -> str:
    """What the last weights of a network follow from, whatever it was trained on."""
    recipe = {name: value for name, value in made["recipe"].items() if name != "keep"}
    return json.dumps([recipe, made["data"], made["code"]], sort_keys=True)


def _made_of(recipe: Recipe) -> dict[str, Any]:
    return {
        "recipe": dataclasses.asdict(recipe),
        "device": torch.get_default_device().type,
        "torch": torch.__version__,
        "data": checksum_of(recipe.dataset),
        "code": meaning.digest(f"{__name__}.WEIGHTS_FOLLOW_FROM", config=dataclasses.asdict(recipe)),
    }
