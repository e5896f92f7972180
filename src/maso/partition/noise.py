"""What rounding errors are relative to: a little noise that goes through the network with the rows.

A number z = Σ_i w_i h_i + b carries rounding errors of about 10⁻¹⁶ times the numbers that have met in it, |w_i h_i| and
|b|, and the errors of the h_i themselves; what is left over by cancellation is much smaller than they are.  How large
they were is asked of the network: behind row 0 of every tensor are two rows, row 0 plus noise, random numbers as
large as the numbers themselves.  Every affine operator acts on these rows as on any other, whatever its name, and makes
of the noise what it makes of independent errors; a kink hands on that of the piece a unit is on, and adds the size of
what has met so far.  So

- a unit that is always off hands nothing on, whatever its bias; a mask of −10¹⁵ matters to what it is added to, and to
  no other number: no tolerance depends on the largest number anywhere;
- a number that depends on nothing in the window, a padding or a dead unit, has no noise.

A last row carries how far numbers *vary* in the window, as noise 2²⁰⁰ times as large, so that no constant swallows it.
Where all that is seen of a unit is within rounding of a threshold, the two scales tell why: numbers that vary but
cancel (a unit twice, or its negative) are equal to rounding, and the unit is on its threshold; where the variation
itself is within rounding of the numbers that meet, float64 does not say what the unit does, and it is refused by name.

Random numbers are the same in each run, uniform from −√3 to √3, with variance one.  That the noise of a unit that
cancels is smaller than a hundredth of what it stands for happens to one in ten thousand, and tolerances are some
hundred times what errors are.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from maso.partition.bits import GAMMA, Array
from maso.partition.complex import Degenerate
from maso.partition.constants import FORGOTTEN, RESOLVED

DRAWS = 2
HEAD = 2 + DRAWS
"""Rows before the directions: row 0, noise, variation."""

_AMPLIFIED = 2.0**200
_TABLE, _STRIDE = 1 << 19, 100_003  # random numbers drawn once, four megabytes; from one place to the next


class Unresolved(Degenerate):
    """The numbers that meet in a unit are so large that float64 does not say what it does in the window."""

    def __init__(self, unit: int, size: float, variation: float) -> None:
        super().__init__(f"numbers near {size:.1g} meet in unit {unit}, which varies by {variation:.1g} in the window")


def begin(centre: Tensor, size: Tensor, reach: Tensor) -> Tensor:
    """The first rows of the input: centre (1, *shape), largest magnitudes and reach (*shape) → (HEAD, *shape)."""
    head = centre.expand(HEAD, *centre.shape[1:]).clone()
    add(head.view(HEAD, -1), size.flatten(), reach.flatten(), seed=-1)
    return head


def add(rows: Tensor, size: Tensor, reach: Tensor, *, seed: int) -> None:
    """Add noise to the first rows of a flat tensor (HEAD or more, n), of this size and variation (n,)."""
    draws = _draws(seed, rows.shape[1]).to(rows.device)
    rows[1 : HEAD - 1].addcmul_(draws[:DRAWS], size)
    rows[HEAD - 1].addcmul_(draws[DRAWS], reach, value=_AMPLIFIED)


def remember(rows: Tensor, *, seed: int) -> Tensor | None:
    """The first rows of a flat tensor (HEAD, n), where a number is larger than the noise of what has met in it with its
    size as noise: a constant has met in it. None where there is no such number."""
    size = rows[0].abs()
    large = size > FORGOTTEN * absolute(rows)
    if not large.any():
        return None
    rows, size = rows.clone(), torch.where(large, size, 0.0)
    add(rows, size, torch.zeros_like(size), seed=seed)
    return rows


def _draws(seed: int, n: int) -> Tensor:
    """(DRAWS + 1, n) numbers of a table, from a place that depends on the seed."""
    table, wanted = _table(), (DRAWS + 1) * n
    if wanted > _TABLE // 2:
        return torch.cat([_draws(seed + i, part) for i, part in enumerate(_portions(n))], 1)
    at = seed * _STRIDE % (_TABLE - wanted)
    return table[at : at + wanted].view(DRAWS + 1, n)


def _portions(n: int) -> list[int]:
    most = _TABLE // 2 // (DRAWS + 1)
    return [min(most, n - i) for i in range(0, n, most)]


@cache
def _table() -> Tensor:
    generator = torch.Generator("cpu").manual_seed(0)
    return torch.rand(_TABLE, generator=generator, dtype=torch.float64, device="cpu").sub_(0.5).mul_(12**0.5)


def absolute(rows: Tensor) -> Tensor:
    """Size of the numbers that have met in every number of a flat tensor: (HEAD + r, n) → (n,)."""
    return (rows[1 : HEAD - 1] - rows[0]).abs_().sum(0)


def variation(rows: Tensor) -> Array:
    """How far what has met in every number varies in the window, were it not to cancel: (HEAD + r, n) → (n,)."""
    found: Array = (rows[HEAD - 1] - rows[0]).abs_().mul_(1 / _AMPLIFIED).cpu().numpy()
    return found


def check_resolved(reach: Array, slack: Array, varies: Array, unit: Array) -> None:
    """Units that come no further from a threshold than rounding may be, must be known to do so.

    Args:
        reach, slack, varies: (n,) how far each is from the threshold at most, what counts as on it, and its variation.
        unit: (n,) their numbers.

    Raises:
        Unresolved: one varies, but by no more than rounding.
    """
    drowned = (reach <= RESOLVED * slack) & (varies > 0) & (varies < RESOLVED * slack)
    if drowned.any():
        worst = int(drowned.argmax())
        raise Unresolved(int(unit[worst]), float(slack[worst]) / GAMMA, float(varies[worst]))
