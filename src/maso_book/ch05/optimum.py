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
from maso_book.experiment import Rows

CLOSED_FORMS = {"total": optimal_templates, "per class": optimal_templates_per_class}
"""The optimum for each kind of budget: one for all templates together, or one for each."""
PER_DECADE = 8
"""Times at which a flow is recorded, for each power of ten."""

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


@dataclass(frozen=True, eq=False)
class Problems:
    """Inputs with class and budget, and where the optimiser starts.

    Attributes:
        x: (N, D).
        y: (N,) int64, below C.
        budget: K of each, (N,).
        start: random templates, (N, C, D).
    """

    x: Tensor
    y: Tensor
    budget: Tensor
    start: Tensor


def run_optimum(config: Optimum) -> tuple[Rows, dict[str, np.ndarray]]:
    """How far from the closed forms the optimiser ends, for both kinds of budget.

    Returns:
        Table `optima`, one row a number of classes and a kind of budget, over all its problems:

        - `n_classes`: C;
        - `budget`: a key of `CLOSED_FORMS`;
        - `max_template_error`: of ‖optimiser − closed form‖ / ‖closed form‖;
        - `max_loss_error`: of |ℓ(optimiser) − ℓ(closed form)|;
        - `min_ratio`, `max_ratio`: of ⟨A_c, x⟩ / ⟨A_y, x⟩, c ≠ y, where the optimiser ends.

        Array `template_errors`: all errors of templates, (numbers of classes, kinds of budget, problems).
    """
    rng = np.random.default_rng(config.seed)
    rows: list[dict[str, Any]] = []
    errors = []

    for n_classes in config.classes:
        problems = _draw(rng, config, n_classes)

        for budget in CLOSED_FORMS:
            error, row = _against_closed_form(problems, budget, config.steps)
            rows.append({"n_classes": n_classes, "budget": budget, **row})
            errors.append(error.numpy())

    shape = (len(config.classes), len(CLOSED_FORMS), config.problems)
    return {"optima": rows}, {"template_errors": np.reshape(errors, shape)}


def _draw(rng: np.random.Generator, config: Optimum, n_classes: int) -> Problems:
    """Inputs of length 1/2 to 2 in random directions, budgets from 0.01 to 100."""
    n = config.problems
    x = torch.from_numpy(rng.normal(size=(n, config.dimension)))
    x *= torch.from_numpy(rng.uniform(0.5, 2, (n, 1))) / x.norm(dim=1, keepdim=True)
    y = torch.from_numpy(rng.integers(n_classes, size=n))
    budget = torch.from_numpy(10 ** rng.uniform(-2, 2, n))
    start = torch.from_numpy(rng.normal(size=(n, n_classes, config.dimension)))
    return Problems(x, y, budget, start)


def _against_closed_form(problems: Problems, budget: str, steps: int) -> tuple[Tensor, dict[str, float]]:
    """The relative error of each problem's templates, (N,), and the row of `optima`."""
    x, y = problems.x, problems.y
    closed = CLOSED_FORMS[budget](x, y, problems.start.shape[1], problems.budget)
    descended = descend(problems.start, x, y, problems.budget, per_class=budget == "per class", steps=steps)

    error = (descended - closed).flatten(1).norm(dim=1) / closed.flatten(1).norm(dim=1)
    loss_error = (excess(descended, x, y)[0] - excess(closed, x, y)[0]).abs()
    true, false = by_truth(torch.einsum("ncd,nd->nc", descended, x), y)
    ratio = false / true[:, None]

    return error, {
        "max_template_error": float(error.max()),
        "max_loss_error": float(loss_error.max()),
        "min_ratio": float(ratio.min()),
        "max_ratio": float(ratio.max()),
    }


def descend(start: Tensor, x: Tensor, y: Tensor, budget: Tensor, *, per_class: bool, steps: int) -> Tensor:
    """Projected gradient descent on log ℓ, many problems at once.

    The logarithm changes no minimiser, and its gradient does not die out where the loss is small.  A step that does not
    lower the loss is taken back and halved, one that does is followed by a longer one.

    Args:
        start: templates to start from, (N, C, D).
        x, y, budget: as in `Problems`.
        per_class: whether the budget is one for each class or one for all templates together.
        steps: how many.

    Returns:
        The templates, (N, C, D).
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
    """The nearest templates with norms of at most `radius`, taken over these dimensions: (N, C, D) → (N, C, D)."""
    return A * (radius / torch.linalg.vector_norm(A, dim=over, keepdim=True)).clamp(max=1)


def excess(A: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and its slopes in the scores, without cancellation where p_y is nearly 1.

    Args:
        A: templates, (N, C, D).
        x, y: inputs, (N, D), and their classes, (N,).

    Returns:
        ℓ, (N,), and ∂ℓ/∂z_c = p_c − [c = y], (N, C).
    """
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


def run_growth(config: Growth) -> tuple[Rows, dict[str, np.ndarray]]:
    """Norm and loss along the flow, and how well it keeps to the bounds of claim 05.2.

    With v the log-odds of the true class, h = e^v + v grows at a rate between C/(C−1) and 2 times ‖x‖², exactly at the
    lower one when all false classes are equal.

    Returns:
        Table `flow`, one row a starting point and a time, t = 0 and `PER_DECADE` times for each power of ten from 1 on:

        - `start`: 0 for templates of zero, then the random ones;
        - `time`: t;
        - `norm`: ‖A(t)‖, of all templates together;
        - `loss`: ℓ(A(t)).

        Table `bounds`, one row, over all starting points and times:

        - `loss_falls`: whether the loss is smaller at each time than at the one before;
        - `min_rate`, `max_rate`: of (h(t) − h(0)) / t;
        - `rate_lower`, `rate_upper`: their bounds C/(C−1) and 2;
        - `zero_start_error`: largest relative error of the rate, from zero, against the lower bound;
        - `min_norm_excess`: smallest norm less the least one that reaches the same loss.
    """
    rng = np.random.default_rng(config.seed)
    C, D = config.classes, config.dimension
    x = rng.normal(size=D)
    x /= np.linalg.norm(x)
    times = np.concatenate([[0.0], np.logspace(0, config.decades, PER_DECADE * config.decades + 1)])

    starts = [np.zeros((C, D)), *rng.normal(size=(config.starts, C, D))]
    paths = [_flow(start, x, times) for start in starts]  # (T, C, D) each; the true class is number 0

    scores = np.stack([path @ x for path in paths])
    odds = scores[:, :, 0] - np.logaddexp.reduce(scores[:, :, 1:], 2)
    norm = np.stack([np.linalg.norm(path, axis=(1, 2)) for path in paths])
    loss = np.log1p(np.exp(-odds))

    flow = [
        {"start": start, "time": float(t), "norm": float(norm[start, i]), "loss": float(loss[start, i])}
        for start in range(len(starts))
        for i, t in enumerate(times)
    ]
    return {"flow": flow, "bounds": [_bounds(times, odds, norm, loss, C)]}, {}


def _bounds(times: np.ndarray, odds: np.ndarray, norm: np.ndarray, loss: np.ndarray, C: int) -> dict[str, Any]:
    """The row of `bounds`: times (T,), log-odds, norms and losses (S, T) of S starting points."""
    h = np.exp(odds) + odds
    rate = (h[:, 1:] - h[:, :1]) / times[1:]
    lower = C / (C - 1)
    return {
        "loss_falls": bool((np.diff(loss) < 0).all()),
        "min_rate": float(rate.min()),
        "max_rate": float(rate.max()),
        "rate_lower": lower,
        "rate_upper": 2.0,
        "zero_start_error": float(np.abs(rate[0] / lower - 1).max()),
        "min_norm_excess": float((norm - _least_norm(loss, C)).min()),
    }


def _flow(start: np.ndarray, x: np.ndarray, times: np.ndarray) -> np.ndarray:
    """A(t) with A(0) = `start`, (C, D), on the input x, (D,), at all times, (T,): (T, C, D)."""
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
