"""Max-affine splines.

A *max-affine spline* with R pieces on R^D is  z(x) = max_r ⟨a_r, x⟩ + b_r.  K of them side by side are a *max-affine
spline operator* (MASO)

    [S(x)]_k = max_r ⟨A[k, r], x⟩ + B[k, r],        A ∈ R^{K×R×D},  B ∈ R^{K×R}.

The parameters alone fix a partition of R^D: x lies in the cell of its *code*, the index of the largest piece of every
unit (the first one where several are equal).  On a cell S is affine, S(x) = A[x] x + b[x].  Nothing here knows of
networks.

Source: Balestriero & Baraniuk, "Mad Max: Affine Spline Insights into Deep Learning", §2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maso.errors import MasoError


class MASO:
    """Max-affine spline operator S(x)_k = max_r ⟨A[k, r], x⟩ + B[k, r].

    Args:
        A: slopes, (K, R, D), floating point.
        B: offsets, (K, R), same dtype and device.

    Raises:
        MasoError: shapes or dtypes that do not fit, or values that are not finite.

    Source:
        Mad Max, §2.2.

    Example:
        >>> relu = MASO(torch.tensor([[[0.0], [1.0]]]), torch.zeros(1, 2))
        >>> relu(torch.tensor([[-2.0], [3.0]])).flatten().tolist()
        [0.0, 3.0]
        >>> relu.code(torch.tensor([[-2.0], [3.0]])).flatten().tolist()
        [0, 1]
    """

    def __init__(self, A: Tensor, B: Tensor) -> None:
        A, B = (value if isinstance(value, Tensor) else torch.as_tensor(value) for value in (A, B))
        if A.ndim != 3 or B.shape != A.shape[:2] or A.shape[1] == 0:
            raise MasoError(
                f"MASO: A has shape {tuple(A.shape)} and B {tuple(B.shape)}; expected (K, R, D) and (K, R) with R ≥ 1."
            )
        if A.dtype != B.dtype or not A.is_floating_point():
            raise MasoError(f"MASO: A is {A.dtype} and B {B.dtype}; both must be the same floating-point type.")
        if not (A.isfinite().all() and B.isfinite().all()):
            raise MasoError("MASO: A or B holds NaN or infinity; every slope and offset must be finite.")
        self.A, self.B = A, B

    @property
    def K(self) -> int:
        """Number of outputs (units)."""
        return self.A.shape[0]

    @property
    def R(self) -> int:
        """Number of pieces of each unit."""
        return self.A.shape[1]

    @property
    def D(self) -> int:
        """Number of inputs."""
        return self.A.shape[2]

    def __repr__(self) -> str:
        return f"MASO(K={self.K}, R={self.R}, D={self.D}, {self.A.dtype})"

    def pieces(self, x: Tensor) -> Tensor:
        """All affine pieces ⟨A[k, r], x⟩ + B[k, r].

        Args:
            x: points, (N, D).

        Returns:
            (N, K, R).
        """
        if x.ndim != 2 or x.shape[1] != self.D:
            raise MasoError(f"MASO: x has shape {tuple(x.shape)}; expected (N, {self.D}).")
        return (x @ self.A.reshape(-1, self.D).T).reshape(-1, self.K, self.R) + self.B

    def __call__(self, x: Tensor) -> Tensor:
        """S(x): (N, D) → (N, K)."""
        return self.pieces(x).amax(2)

    def code(self, x: Tensor) -> Tensor:
        """Hard vector-quantisation code: index of the first largest piece, (N, D) → (N, K) int64."""
        return self.pieces(x).argmax(2)

    def vq(self, x: Tensor) -> Tensor:
        """The code as one-hot rows Q[x]: S(x)_k = Σ_r Q[k, r] (⟨A[k, r], x⟩ + B[k, r]); (N, D) → (N, K, R)."""
        return torch.nn.functional.one_hot(self.code(x), self.R).to(self.A.dtype)

    def matrix(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The affine map of the cell of each x: S(x) = A[x] x + b[x].

        Args:
            x: points, (N, D).

        Returns:
            A[x] (N, K, D) and b[x] (N, K).
        """
        code, units = self.code(x), torch.arange(self.K, device=self.A.device)
        return self.A[units, code], self.B[units, code]

    def soft(self, x: Tensor, beta: float) -> Tensor:
        """β-VQ: Σ_r t_r (⟨A_r, x⟩ + B_r) with t = softmax(η (A x + B)), η = β / (1 − β); (N, D) → (N, K).

        β = 0 is the mean of the pieces, β = ½ the soft VQ (SiLU for a ReLU), β → 1 the hard maximum.

        Args:
            x: points, (N, D).
            beta: 0 ≤ β ≤ 1.

        Source:
            From Hard to Soft, §4.
        """
        if not 0 <= beta <= 1:
            raise MasoError(f"MASO.soft: beta is {beta}; expected 0 ≤ beta ≤ 1.")
        if beta == 1:
            return self(x)
        z = self.pieces(x)
        return ((beta / (1 - beta) * z).softmax(2) * z).sum(2)
