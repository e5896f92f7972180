"""The trained networks of chapter 09, and scores of their outputs: accuracy, calibration, log-likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import maso
from maso.soft import Kind, Softened
from maso_book.trained import TrainedCell
from maso_book.training import scaled

BINS = 15
"""Bins of equal width of the largest probability, for the expected calibration error."""
_BATCH = 500  # images of one forward pass; many more, and what a soft unit reads again has left the cache


@dataclass(frozen=True)
class Cell(TrainedCell):
    """One network; the same fields name the same network in every experiment of the chapter.

    Attributes:
        seed, dataset, network, samples: as in `Recipe`.
        epochs, lr, augment: as in `Training`.
    """

    seed: int
    dataset: str = "cifar10"
    network: str = "small_cnn"
    samples: int | None = None
    epochs: int = 30
    lr: float = 5e-3
    augment: bool = True


@dataclass(frozen=True)
class Arm:
    """How a hard network is softened.

    Attributes:
        kind: as in `maso.soften`.
        kinks: "all" of them, or the "units" alone, which leaves max pools hard.
        norms: whether the statistics of BatchNorm are "kept" or "re-estimated".
    """

    kind: Kind
    kinks: str
    norms: str

    @property
    def row(self) -> dict[str, str]:
        """Its columns in a table."""
        return {"kind": self.kind, "kinks": self.kinks, "norms": self.norms}


def softened(model: nn.Module, arm: Arm, images: Tensor) -> Softened:
    """The softened network of an arm, at β = 1, for images (N, C, H, W) like these."""
    example = scaled(images[:1]).to(next(model.parameters()).device)
    kinks = maso.trace(model, example).kinks
    chosen = [name for name, node in kinks.items() if arm.kinks == "all" or node.kind == "gate"]
    return maso.soften(model, 1.0, example=example, kind=arm.kind, per="network", kinks=chosen)


def at(soft: Softened, beta: float, arm: Arm, images: Tensor) -> Softened:
    """The network at another β; where the arm says so, with the BatchNorm statistics of these training images."""
    soft.set_beta(beta)
    if arm.norms == "re-estimated":
        device = next(soft.parameters()).device
        soft.reestimate(scaled(part.to(device)) for part in images.split(_BATCH))
    return soft


def outputs(model: nn.Module, images: Tensor) -> Tensor:
    """What the network gives for images, (N, C, H, W) → (N, K), float32 on its device."""
    device = next(model.parameters()).device
    with torch.no_grad():
        return torch.cat([model(scaled(part.to(device))) for part in images.split(_BATCH)])


def scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, expected calibration error and mean negative log-likelihood of logits (N, K), labels (N,)."""
    labels = labels.to(logits.device)
    _, confidence, right = reliability(logits, labels)
    return {
        "accuracy": float(right.sum() / len(labels)),
        "ece": float((confidence - right).abs().sum() / len(labels)),
        "nll": float(nn.functional.cross_entropy(logits.double(), labels)),
    }


def reliability(logits: Tensor, labels: Tensor) -> Tensor:
    """Over the bins of the largest probability: images, sum of that probability, number that are right; (3, BINS)."""
    sure, guess = logits.double().softmax(1).max(1)
    place = (sure * BINS).long().clamp(max=BINS - 1)
    right = (guess == labels.to(logits.device)).double()
    return torch.stack([torch.zeros(BINS, dtype=torch.float64, device=logits.device).index_add_(0, place, values)
                        for values in (torch.ones_like(sure), sure, right)])  # fmt: skip


def temperature(logits: Tensor, labels: Tensor) -> float:
    """The T that maximises the likelihood of softmax(logits / T), by bisection: it is convex in 1 / T."""
    z, y = logits.double(), labels.to(logits.device)
    own = z.gather(1, y[:, None]).mean()
    low, high = z.new_tensor(-5.0), z.new_tensor(5.0)  # log(1 / T)
    for _ in range(50):
        middle = (low + high) / 2
        slope = ((middle.exp() * z).softmax(1) * z).sum(1).mean() - own
        low, high = torch.where(slope < 0, middle, low), torch.where(slope < 0, high, middle)
    return float((-(low + high) / 2).exp())
