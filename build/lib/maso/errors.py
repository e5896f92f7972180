"""The one family of errors: each message names the thing, what was expected, and what to do."""


class MasoError(Exception):
    """Base of every error this package raises on purpose."""


class NotPiecewiseAffine(MasoError, TypeError):
    """The model contains an operator that is not piecewise affine, or not in the table of operators."""
