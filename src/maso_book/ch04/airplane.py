"""How much does a template look like its picture, and does that depend on how the network was trained (04-airplane)?

Three ways to train: plainly, with Gaussian noise on every image, and adversarially.  The last two make outputs change
little where images change little, so their templates have less to vary from cell to cell.  Averaging the templates
over noisy copies of the picture (SmoothGrad) smooths the picture and leaves the network as it is.

Source: the talk's slide of an airplane and its templates; SmoothGrad, Smilkov et al. 2017; adversarial training and
the look of gradients, Tsipras et al. 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maso import affine_map
from maso.matched import IMAGE, Match, match
from maso_book.ch04.networks import Looked, Network, class_means, looked_at, untrained
from maso_book.ch04.pictures import first_of_each_class
from maso_book.ch04.templates import compared, likeness
from maso_book.experiment import Rows
from maso_book.trained import Augmented, data, trained
from maso_book.training import accuracy
from maso_book.training.objective import adversarial

RADII = (0.0, 0.25, 0.5, 1.0)
ATTACK_STEPS = 20
PICTURES = (0, 8, 5)
"""The classes whose first test images and whose templates are stored: in CIFAR-10 airplane, ship and dog."""


@dataclass(frozen=True)
class Airplane(Augmented, Network):
    """A network trained with noise, adversarially or with neither.

    Attributes:
        noise, attack, attack_steps: as in `maso_book.training.Training`.
        smooth_images: the first that many test images have averaged templates, too.
        copies: noisy copies of an image over which its templates are averaged.
        deviation: of their noise, of pixels in [0, 1].
        pictures: whether the templates of `PICTURES` are stored.
    """

    noise: float = 0.0
    attack: float = 0.0
    attack_steps: int = 3
    smooth_images: int = 500
    copies: int = 25
    deviation: float = 0.1
    pictures: bool = False


def run_airplane(config: Airplane) -> tuple[Rows, dict[str, np.ndarray]]:
    """Likeness of templates and pictures, accuracy, and accuracy under attack.

    Table `networks`, one row: `diverged`, then the other tables are empty; `train_accuracy` in the last epoch as the
    samples were seen, `validation_accuracy`, `test_accuracy` on all test images.

    Table `robustness`: `radius` of the ball in which each test image was moved by 20 steps of gradient ascent;
    `robust_accuracy`.

    Table `likeness`, test images: `state`, "trained" or "calibrated" (before training, with BatchNorm statistics of
    training images); `averaged`, whether over noisy copies; then as in 04-templates, `templates` (of "other classes"
    one per image, each in turn, where they are averaged), `target`, `source`, `measure`, `similarity`.

    Arrays: `own` and `elsewhere`, float16, the correlation of the true class's template with each test image, and with
    an image of another class. Where pictures are stored: `images` uint8 (3, channels, height, width), first test images
    of `PICTURES`; `templates` and `averaged`, int8 (3, 3, channels, height, width), of each picture (first axis) the
    templates of these classes (second), each over the 99th percentile of its magnitudes.
    """
    net = trained(config.recipe)
    accuracies: dict[str, float | None] = dict.fromkeys(("train_accuracy", "validation_accuracy", "test_accuracy"))
    tables: dict[str, list[dict[str, Any]]] = {"networks": [], "robustness": [], "likeness": []}
    if net.history.diverged:
        tables["networks"].append({"diverged": True} | accuracies)
        return tables, {}

    model, test, d, means = net.model, looked_at(config)["test"], data(config.recipe), class_means(config)
    accuracies = {
        "train_accuracy": float(net.history.accuracy[-1]),
        "validation_accuracy": float(net.history.validation_accuracy[-1]),
        "test_accuracy": accuracy(model, d.x_test, d.y_test, batch=1000),
    }
    tables["networks"].append({"diverged": False} | accuracies)
    tables["robustness"] = [
        {"radius": radius, "robust_accuracy": under_attack(model, test, radius)} for radius in RADII
    ]

    found = match(model, test.x, compared(test, means))
    for state, of in (("trained", found), ("calibrated", match(untrained(config), test.x, compared(test, means)))):
        when = {"state": state, "averaged": False}
        tables["likeness"] += [when | row for row in likeness(of, test.y)]
    some = Looked(test.x[: config.smooth_images], test.y[: config.smooth_images])
    when = {"state": "trained", "averaged": True}
    tables["likeness"] += [when | row for row in likeness_of_averaged(model, some, means, config)]

    own = test.y[:, None]
    arrays = {
        name: found.correlation[compared_with].gather(1, own)[:, 0].cpu().numpy().astype(np.float16)
        for name, compared_with in (("own", IMAGE), ("elsewhere", "elsewhere"))
    }
    return tables, arrays | (stored(model, config) if config.pictures else {})


def under_attack(model: nn.Module, images: Looked, radius: float) -> float:
    """Accuracy on images each moved to where the loss is higher, within a Euclidean ball of this radius."""
    x = images.x
    if radius:
        x = adversarial(model, x, images.y, radius=radius, steps=ATTACK_STEPS)
    return accuracy(model, x, images.y)


def averaged_templates(
    model: nn.Module, x: Tensor, outputs: Tensor, *, copies: int, deviation: float, seed: int
) -> Tensor:
    """Templates averaged over noisy copies of each input (SmoothGrad): (N, K', *input_shape).

    Args:
        model, x, outputs: as in `maso.affine_map`; outputs (N, K').
        copies: how many.
        deviation: of the noise.
        seed: of the noise.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    total = torch.zeros((*outputs.shape, *x.shape[1:]), dtype=x.dtype, device=x.device)
    for _ in range(copies):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        total += affine_map(model, x + deviation * noise, outputs=outputs).A
    return total / copies


def likeness_of_averaged(model: nn.Module, images: Looked, means: Tensor, config: Airplane) -> list[dict[str, Any]]:
    """The rows of `likeness` for averaged templates, of the true class and of one other class per image in turn."""
    classes, place = len(means), torch.arange(len(images.y), device=images.y.device)
    false = (images.y + 1 + place % (classes - 1)) % classes
    A = averaged_templates(
        model, images.x, torch.stack([images.y, false], 1), copies=config.copies, deviation=config.deviation,
        seed=config.seed,
    ).flatten(2)  # fmt: skip
    against = {IMAGE: images.x} | {name: v.expand(images.x.shape) for name, v in compared(images, means).items()}
    correlation = {name: correlations(A, v.flatten(1)) for name, v in against.items()}
    cosine = {IMAGE: torch.cosine_similarity(A, images.x.flatten(1)[:, None], dim=2)}
    return likeness(Match(torch.zeros(0), {}, cosine, correlation), torch.zeros_like(images.y))


def correlations(A: Tensor, v: Tensor) -> Tensor:
    """Correlation over D entries of each template with the image of its row: (N, K, D), (N, D) → (N, K)."""
    centred = v - v.mean(1, keepdim=True)
    return torch.cosine_similarity(A - A.mean(2, keepdim=True), centred[:, None], dim=2)


def stored(model: nn.Module, config: Airplane) -> dict[str, np.ndarray]:
    """The arrays `images`, `templates` and `averaged` of `run_airplane`."""
    first = first_of_each_class(config.recipe)
    x = first.x[list(PICTURES)]
    outputs = torch.tensor(PICTURES, device=x.device).expand(len(x), -1)
    plain = affine_map(model, x, outputs=outputs).A
    mean = averaged_templates(model, x, outputs, copies=4 * config.copies, deviation=config.deviation, seed=config.seed)
    return {
        "images": (x.cpu().numpy() * 255).round().astype(np.uint8),
        "templates": clipped(plain.cpu().numpy()),
        "averaged": clipped(mean.cpu().numpy()),
    }


def clipped(templates: np.ndarray) -> np.ndarray:
    """Templates (…, channels, height, width) as int8, each so that the 99th percentile of its magnitudes is 127."""
    scale = np.quantile(np.abs(templates), 0.99, axis=(-3, -2, -1), keepdims=True)
    return np.rint(127 * (templates / np.where(scale > 0, scale, 1)).clip(-1, 1)).astype(np.int8)
