"""Max-affine spline operators: the mathematics of piecewise-affine networks, exactly.

`import maso` loads torch and numpy and nothing of the book.
"""

from maso import exact
from maso.affine import AffineMap, Factor, affine_map, closed_form, compose
from maso.codes import codes, vq_distance
from maso.errors import MasoError, NotPiecewiseAffine
from maso.graph import Graph
from maso.layers import from_layer
from maso.spline import MASO
from maso.tracing import trace

__version__ = "0.1.0"

__all__ = [
    "MASO",
    "AffineMap",
    "Factor",
    "Graph",
    "MasoError",
    "NotPiecewiseAffine",
    "affine_map",
    "closed_form",
    "codes",
    "compose",
    "exact",
    "from_layer",
    "trace",
    "vq_distance",
]
