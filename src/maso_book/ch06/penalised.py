"""Networks trained with a penalty on the last layer or on the templates (claims 06.1 to 06.4), and what it did to them.

Learning rate and weight decay are tuned first, without a penalty, on seeds of their own (`run_tuning`).  All arms are
trained with the best ones (`tuned`), each with a strength λ of its own; a cell whose λ is None takes that of the best
mean validation accuracy (`strength_of`).  The test set is measured in every cell and chooses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from maso.affine import affine_map
from maso.penalties import gauge_minimum, orthogonality, published, quartic_norm
from maso_book.experiment import Rows
from maso_book.trained import Recipe, Trained, TrainedCell, data, prepare, trained
from maso_book.training import scaled
from maso_book.training.penalties import last_rows

NONE = ""
"""The penalty of the arm that has none."""


@dataclass(frozen=True)
class Tuning(TrainedCell):
    """Networks without penalty, one for each learning rate and weight decay.

    Attributes:
        seed: of weights and order of the samples.
        dataset, network, bias, samples: as in `Recipe`.
        epochs: as in `Training`.
        rates: learning rates.
        decays: weight decays.
    """

    seed: int
    dataset: str = "cifar10"
    network: str = "small_cnn"
    bias: bool = False
    samples: int | None = None
    epochs: int = 20
    rates: tuple[float, ...] = (2e-3, 5e-3, 1e-2)
    decays: tuple[float, ...] = (0.0, 0.1, 0.5)

    def grid(self) -> dict[tuple[float, float], Recipe]:
        """The network for each pair of learning rate and weight decay."""
        return {
            (lr, decay): replace(self.recipe, training=replace(self.recipe.training, lr=lr, weight_decay=decay))
            for lr, decay in product(self.rates, self.decays)
        }


@dataclass(frozen=True)
class Penalised(TrainedCell):
    """One network.

    Attributes:
        seed: of weights, order of the samples, augmentation.
        penalty: a name of `maso_book.training.penalties.PENALTIES`, or `NONE`.
        strength: λ; where None, that of `strengths` with the best mean validation accuracy over `strength_seeds`.
        loss, augment: as in `Training`.
        dataset, network, bias, samples: as in `Recipe`.
        epochs: as in `Training`.
        rates, decays, tuning_seeds: learning rate and weight decay are those of the best mean validation accuracy over
            these seeds, without penalty, without augmentation, with cross-entropy and `tuning_epochs`.
        tuning_epochs: of these networks.
        strengths, strength_seeds: what λ is chosen from where it is not given.
        beside: seeds whose networks are trained side by side with this one, where it has no penalty.
        points: test images whose templates are measured.
        pictured: whether the matrices of cosines are kept.
    """

    seed: int
    penalty: str = NONE
    strength: float | None = 0.0
    loss: Literal["cross-entropy", "squared"] = "cross-entropy"
    augment: bool = False
    dataset: str = "cifar10"
    network: str = "small_cnn"
    bias: bool = False
    samples: int | None = None
    epochs: int = 20
    tuning_epochs: int = 20
    rates: tuple[float, ...] = Tuning.rates
    decays: tuple[float, ...] = Tuning.decays
    tuning_seeds: tuple[int, ...] = (100, 101, 102)
    strengths: tuple[float, ...] = ()
    strength_seeds: tuple[int, ...] = ()
    beside: tuple[int, ...] = ()
    points: int = 1000
    pictured: bool = False


# The choices ----------------------------------------------------------------------------------------------------------


def tuned(config: Penalised) -> tuple[float, float]:
    """Learning rate and weight decay of the best mean validation accuracy after training, without a penalty."""
    shared = {name: getattr(config, name) for name in ("dataset", "network", "bias", "samples", "rates", "decays")}
    tunings = tuple(Tuning(seed, epochs=config.tuning_epochs, **shared) for seed in config.tuning_seeds)
    return _best_pair(tunings, torch.get_default_device().type)


@cache
def _best_pair(tunings: tuple[Tuning, ...], device: str) -> tuple[float, float]:
    grids = [tuning.grid() for tuning in tunings]
    prepare([each for grid in grids for each in grid.values()])
    means = {pair: np.mean([_validation(grid[pair], device) for grid in grids]) for pair in grids[0]}
    return max(means, key=lambda pair: means[pair])


def strength_of(config: Penalised) -> float:
    """λ as given, or the one of the best mean validation accuracy."""
    if config.strength is not None:
        return config.strength
    device = torch.get_default_device().type
    means = {}
    for strength in config.strengths:
        networks = [recipe(replace(config, seed=seed, strength=strength)) for seed in config.strength_seeds]
        means[strength] = np.mean([_validation(each, device) for each in networks])
    return max(means, key=lambda strength: means[strength])


def recipe(config: Penalised) -> Recipe:
    """The network of a cell."""
    lr, decay = tuned(config)
    strength = strength_of(config) if config.penalty else 0.0
    plain = replace(config, strength=strength).recipe
    return replace(plain, training=replace(plain.training, lr=lr, weight_decay=decay))


@cache
def _validation(recipe: Recipe, device: str) -> float:
    """Validation accuracy after the last epoch; 0 where training diverged."""
    history = trained(recipe).history
    return 0.0 if history.diverged else float(history.validation_accuracy[-1])


def run_tuning(config: Tuning) -> tuple[Rows, dict[str, np.ndarray]]:
    """How well each learning rate and weight decay did without a penalty.

    Returns:
        Table `tuning`, one row a pair: `lr`, `weight_decay`, `training_accuracy` (as the samples were seen) and
        `validation_accuracy` after the last epoch, and `diverged`.
    """
    rows, device = [], torch.get_default_device().type
    for (lr, decay), each in config.grid().items():
        history = trained(each).history
        rows.append({
            "lr": lr, "weight_decay": decay, "training_accuracy": float(history.accuracy[-1]),
            "validation_accuracy": _validation(each, device), "diverged": bool(history.diverged),
        })  # fmt: skip
    return {"tuning": rows}, {}


# The network ----------------------------------------------------------------------------------------------------------


def run_penalised(config: Penalised) -> tuple[Rows, dict[str, np.ndarray]]:
    """Accuracy, last layer and templates of one network.

    Returns:
        Table `networks`, one row: `lr`, `weight_decay`, `chosen_strength` (λ), `diverged`, and, where it did not,
        the columns of `accuracies`, `last_layer`, `gauge` and `template_cosines`, and `epoch_seconds`, the fastest
        epoch.

        Table `curves`, one row an epoch: `epoch`, `loss` and `accuracy` over the training samples as they were seen,
        without the penalty, and `validation_accuracy`; `maso_book.ch06.tables.curves` reads it.

        Arrays, where `config.pictured`: cosines between the classes, (C, C) float16, of the rows (`rows`), of the rows
        less their mean (`rows_centred`), and of the templates of test images in the same way (`templates`,
        `templates_centred`; means over the images).
    """
    which = recipe(config)
    if not config.penalty:
        beside = [replace(which, training=replace(which.training, seed=seed)) for seed in config.beside]
        prepare([which], along=beside)
    network = trained(which)
    history, how = network.history, which.training
    row: dict[str, Any] = {"lr": how.lr, "weight_decay": how.weight_decay, "chosen_strength": how.strength,
                           "diverged": bool(history.diverged)}  # fmt: skip
    columns = (history.loss, history.accuracy, history.validation_accuracy)
    curves = [
        {"epoch": epoch, "loss": _short(loss), "accuracy": _short(accuracy), "validation_accuracy": _short(held_out)}
        for epoch, (loss, accuracy, held_out) in enumerate(zip(*columns, strict=True), start=1)
    ]
    if history.diverged:
        return {"networks": [row], "curves": []}, {}

    images = scaled(data(which).x_test[: config.points]).to(torch.get_default_device())
    row |= accuracies(network)
    row |= last_layer(network.model)
    row |= gauge(network.model, images)
    of_templates, pictures = template_cosines(network.model, images)
    row |= of_templates | {"epoch_seconds": float(history.seconds.min())}
    if not config.pictured:
        return {"networks": [row], "curves": curves}, {}
    W = last_rows(network.model).detach().double()
    matrices = {"rows": cosines(W), "rows_centred": cosines(W - W.mean(0))} | pictures
    return {"networks": [row], "curves": curves}, {
        name: matrix.cpu().numpy().astype(np.float16) for name, matrix in matrices.items()
    }


def _short(value: float) -> float:
    """Five digits are plenty for a curve."""
    return float(f"{value:.5g}")


def accuracies(network: Trained) -> dict[str, float]:
    """Of the finished network, in eval mode: `training_…`, `validation_…` and `test_…`, each `accuracy` and `loss`.

    The loss is the cross-entropy, whatever it was trained with.
    """
    d = data(network.recipe)
    splits = {"training": (d.x, d.y), "validation": (d.x_validation, d.y_validation), "test": (d.x_test, d.y_test)}
    device = torch.get_default_device()
    found: dict[str, float] = {}
    for split, (x, y) in splits.items():
        loss, right = torch.zeros((), device=device), torch.zeros((), device=device)
        with torch.no_grad():
            for xs, ys in zip(x.split(1000), y.split(1000), strict=True):
                outputs, labels = network.model(scaled(xs.to(device))), ys.to(device)
                loss += nn.functional.cross_entropy(outputs, labels, reduction="sum")
                right += (outputs.argmax(1) == labels).sum()
        found |= {f"{split}_accuracy": float(right) / len(x), f"{split}_loss": float(loss) / len(x)}
    return found


def last_layer(model: nn.Module) -> dict[str, float]:
    """The rows W_c of the last layer and the penalties on them.

    Returns:
        - `orthogonality`, `quartic_norm` (not divided by C − 1), `published`: the penalties;
        - `orthogonality_slope`, `quartic_norm_slope`: Euclidean norms of their gradients, the latter over C − 1;
        - `row_norm_mean`, `row_norm_min`, `row_norm_max`;
        - `row_cosine`, `row_cosine_abs`: mean cosine of two rows and its mean absolute value;
        - `row_cosine_centred`, `row_cosine_centred_abs`: the same of the rows less their mean.
    """
    W = last_rows(model).detach().double().requires_grad_()
    rooted = {"orthogonality": orthogonality(W), "quartic_norm": quartic_norm(W)}
    slopes = {name: float(torch.autograd.grad(value, W)[0].norm()) for name, value in rooted.items()}
    W = W.detach()
    norms = W.norm(dim=1)
    raw, centred = _off_diagonal(cosines(W)), _off_diagonal(cosines(W - W.mean(0)))
    return {
        **{name: float(value.detach()) for name, value in rooted.items()},
        "published": float(published(W)),
        "orthogonality_slope": slopes["orthogonality"],
        "quartic_norm_slope": slopes["quartic_norm"] / (len(W) - 1),
        "row_norm_mean": float(norms.mean()),
        "row_norm_min": float(norms.min()),
        "row_norm_max": float(norms.max()),
        "row_cosine": float(raw.mean()),
        "row_cosine_abs": float(raw.abs().mean()),
        "row_cosine_centred": float(centred.mean()),
        "row_cosine_centred_abs": float(centred.abs().mean()),
    }


@torch.no_grad()
def gauge(model: nn.Module, images: Tensor) -> dict[str, float]:
    """The last layer moved by the shift v of the smallest penalty.

    Returns:
        - `gauge_orthogonality`: the penalty there;
        - `shift_norm`: ‖v‖;
        - `shift_probability_error`: largest change of a probability on the images, in float64.
    """
    W = last_rows(model).double()
    v = gauge_minimum(W.cpu()).to(W.device)
    features = _features(model, images).double()
    before, after = ((features @ rows.T).softmax(1) for rows in (W, W + v))
    return {
        "gauge_orthogonality": float(orthogonality(W + v)),
        "shift_norm": float(v.norm()),
        "shift_probability_error": float((before - after).abs().max()),
    }


def _features(model: nn.Module, images: Tensor) -> Tensor:
    """What the last dense layer gets, (N, D)."""
    caught: list[Tensor] = []
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    hook = last.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    model(images)
    hook.remove()
    return caught[0]


def template_cosines(model: nn.Module, images: Tensor, batch: int = 1000) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Cosines between the templates A[x]_c of two classes, means over images and pairs of classes.

    Returns:
        - `template_cosine`, `template_cosine_abs`: mean cosine and mean absolute cosine;
        - `template_cosine_centred`, `template_cosine_centred_abs`: the same of templates less their mean over classes;
        - `template_norm`: mean norm of a template less that mean;
        - `template_penalty`: mean over images of Σ_{c ≠ a} ⟨A[x]_c, A[x]_a⟩²;
        and the mean matrices of cosines, (C, C), `templates` and `templates_centred`.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in ("raw", "centred", "norm", "penalty")}
    for part in images.split(batch):
        A = affine_map(model, part).A.flatten(2)
        inner = A @ A.mT
        parts["penalty"].append((inner - torch.diag_embed(inner.diagonal(dim1=1, dim2=2))).square().sum((1, 2)))
        parts["raw"].append(cosines(A))
        A = A - A.mean(1, keepdim=True)
        parts["norm"].append(A.norm(dim=2).mean(1))
        parts["centred"].append(cosines(A))
    whole = {name: torch.cat(values) for name, values in parts.items()}
    raw, centred = _off_diagonal(whole["raw"]), _off_diagonal(whole["centred"])
    row = {
        "template_cosine": float(raw.mean()),
        "template_cosine_abs": float(raw.abs().mean()),
        "template_cosine_centred": float(centred.mean()),
        "template_cosine_centred_abs": float(centred.abs().mean()),
        "template_norm": float(whole["norm"].mean()),
        "template_penalty": float(whole["penalty"].mean()),
    }
    return row, {"templates": whole["raw"].mean(0), "templates_centred": whole["centred"].mean(0)}


def cosines(vectors: Tensor) -> Tensor:
    """Cosines between the rows, (…, C, D) → (…, C, C); 0 where a row is 0."""
    directions = nn.functional.normalize(vectors, dim=-1)
    return directions @ directions.mT


def _off_diagonal(matrices: Tensor) -> Tensor:
    """The entries of (…, C, C) off the diagonal, (…, C (C − 1))."""
    C = matrices.shape[-1]
    return matrices[..., ~torch.eye(C, dtype=torch.bool, device=matrices.device)]
