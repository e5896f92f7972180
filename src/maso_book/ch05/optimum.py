"""Free templates for one input (claims 05.1 and 05.2): closed forms against optimisers that know nothing of them.

With a budget, projected gradient descent from random templates.  Without one, the gradient flow dA/dt = −∇ℓ(A), solved
as an initial value problem in all C × D numbers.  Both use the gradient of the cross-entropy with respect to the scores
z_c = ⟨A_c, x⟩, which is p_c − [c = y], and the chain rule; no symmetry, no multiplier, no closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from maso.matched import by_truth
from maso.memorization import optimal_templates, optimal_templates_per_class

# With a budget --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Optimum:
    """Random problems: for each number of classes, `problems` inputs with class and budget.

    Attributes:
        seed: of the problems and of the starting points.
        problems: for each number of classes.
        classes: numbers of classes C.
        dimension: of the inputs.
        steps: of the optimiser.
    """

    seed: int
    problems: int
    classes: tuple[int, ...] = (2, 3, 5, 10, 100)
    dimension: int = 12
    steps: int = 2000


def run_optimum(config: Optimum) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Errors of the closed form, in templates (relative to their norm) and in the loss, for both kinds of budget."""
    rng = np.random.default_rng(config.seed)
    rows, arrays = [], {}
    for classes in config.classes:
        n = config.problems
        x = torch.from_numpy(rng.normal(size=(n, config.dimension)))
        x *= torch.from_numpy(rng.uniform(0.5, 2, (n, 1))) / x.norm(dim=1, keepdim=True)
        y = torch.from_numpy(rng.integers(classes, size=n))
        budget = torch.from_numpy(10 ** rng.uniform(-2, 2, n))
        start = torch.from_numpy(rng.normal(size=(n, classes, config.dimension)))
        for kind, closed in (("total", optimal_templates), ("per class", optimal_templates_per_class)):
            found = descend(start, x, y, budget, kind == "per class", config.steps)
            theory = closed(x, y, classes, budget)
            error = (found - theory).flatten(1).norm(dim=1) / theory.flatten(1).norm(dim=1)
            losses = [excess(templates, x, y)[0] for templates in (found, theory)]
            true, false = by_truth(torch.einsum("ncd,nd->nc", found, x), y)
            ratio = false / true[:, None]
            rows.append(
                {
                    "classes": classes,
                    "budget": kind,
                    "problems": n,
                    "largest error": float(error.max()),
                    "largest error of the loss": float((losses[0] - losses[1]).abs().max()),
                    "smallest ratio": float(ratio.min()),
                    "largest ratio": float(ratio.max()),
                }
            )
            arrays[f"{kind}, {classes}"] = error.numpy()
    return {"rows": rows}, arrays


def descend(start: Tensor, x: Tensor, y: Tensor, budget: Tensor, per_class: bool, steps: int) -> Tensor:
    """Projected gradient descent on log ℓ, many problems at once: (N, C, D) → (N, C, D).

    The logarithm changes no minimiser, and its gradient does not die out where the loss is small.  A step that does not
    lower the loss is taken back and halved, one that does is followed by a longer one.
    """
    over = 2 if per_class else (1, 2)
    radius = budget.sqrt()[:, None, None]
    A = _project(start, radius, over)
    loss, slope = excess(A, x, y)
    step = 0.5 * radius[:, 0, 0] / x.norm(dim=1)
    for _ in range(steps):
        tried = _project(A - (step / loss)[:, None, None] * slope[:, :, None] * x[:, None], radius, over)
        tried_loss, tried_slope = excess(tried, x, y)
        better = tried_loss <= loss
        A = torch.where(better[:, None, None], tried, A)
        slope = torch.where(better[:, None], tried_slope, slope)
        loss = torch.where(better, tried_loss, loss)
        step = torch.where(better, 1.2 * step, 0.5 * step)
    return A


def _project(A: Tensor, radius: Tensor, over: int | tuple[int, int]) -> Tensor:
    return A * (radius / torch.linalg.vector_norm(A, dim=over, keepdim=True)).clamp(max=1)


def excess(A: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and its slopes in the scores, without cancellation where p_y is nearly 1: (N,), (N, C)."""
    z = torch.einsum("ncd,nd->nc", A, x)
    own = torch.nn.functional.one_hot(y, A.shape[1]).bool()
    odds = torch.exp(z - z.gather(1, y[:, None])).masked_fill(own, 0)  # p_c / p_y
    total = odds.sum(1, keepdim=True)
    slope = torch.where(own, -total, odds) / (1 + total)
    return torch.log1p(total[:, 0]), slope


# Without a budget -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Growth:
    """Gradient flow without a budget, from zero and from random templates.

    Attributes:
        seed: of the input and of the starting points.
        classes: their number C.
        dimension: of the input, which has length 1.
        starts: random starting points, standard normal.
        decades: the flow is followed from t = 1 to 10 to this power.
    """

    seed: int
    classes: int = 10
    dimension: int = 8
    starts: int = 3
    decades: int = 6


def run_growth(config: Growth) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Norm and loss along the flow, and the largest errors against the formulas of claim 05.2.

    With v the log-odds of the true class, h = e^v + v grows at a rate between C/(C−1) and 2 times ‖x‖², exactly at the
    lower one when all false classes are equal.
    """
    rng = np.random.default_rng(config.seed)
    C, D = config.classes, config.dimension
    x = rng.normal(size=D)
    x /= np.linalg.norm(x)
    times = np.concatenate([[0.0], np.logspace(0, config.decades, 8 * config.decades + 1)])
    starts = [np.zeros((C, D)), *rng.normal(size=(config.starts, C, D))]
    paths = [_flow(start, x, times) for start in starts]  # (T, C, D) each; the true class is number 0
    scores = np.stack([path @ x for path in paths])
    odds = scores[:, :, 0] - np.logaddexp.reduce(scores[:, :, 1:], 2)
    norm = np.stack([np.linalg.norm(path, axis=(1, 2)) for path in paths])
    loss = np.log1p(np.exp(-odds))
    h = np.exp(odds) + odds
    rate = (h[:, 1:] - h[:, :1]) / times[1:]
    decade = norm[:, -1] - norm[:, -9]
    metrics = {
        "loss falls": bool((np.diff(loss) < 0).all()),
        "norm, last three decades": norm[:, [-17, -9, -1]].tolist(),
        "growth of the norm over the last decade": decade.tolist(),
        "growth of the norm over a decade, theory": math.log(10) * math.sqrt((C - 1) / C),
        "smallest rate": float(rate.min()),
        "largest rate": float(rate.max()),
        "rates allowed": [C / (C - 1), 2.0],
        "error of the flow from zero": float(np.abs(rate[0] * (C - 1) / C - 1).max()),
        "smallest norm less the least": float((norm - _least_norm(loss, C)).min()),
        "loss × time at the end": (loss[:, -1] * times[-1]).tolist(),
    }
    return metrics, {"times": times, "norm": norm, "loss": loss}


def _flow(start: np.ndarray, x: np.ndarray, times: np.ndarray) -> np.ndarray:
    """A(t) with A(0) = start at all times, (T, C, D)."""
    y = torch.zeros(1, dtype=torch.int64)
    point = torch.from_numpy(x)[None]

    def velocity(_: float, A: np.ndarray) -> np.ndarray:
        _, slope = excess(torch.from_numpy(A).reshape(1, *start.shape), point, y)
        return (-slope[0][:, None] * point).numpy().ravel()

    solved = solve_ivp(velocity, (0, times[-1]), start.ravel(), "LSODA", times, rtol=1e-9, atol=1e-11)
    return solved.y.T.reshape(len(times), *start.shape)


def _least_norm(loss: np.ndarray, classes: int) -> np.ndarray:
    """The norm without which no templates reach this loss on an input of length 1: `smallest_loss`, solved for √K."""
    return np.log((classes - 1) / np.expm1(loss)) * math.sqrt((classes - 1) / classes)
