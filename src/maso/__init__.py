"""Max-affine spline operators: the mathematics of piecewise-affine networks, exactly.

`import maso` loads torch and numpy and nothing of the book.
"""

from maso import exact, matched, memorization, penalties, tangents
from maso.affine import AffineMap, Factor, affine_map, closed_form, compose
from maso.codes import Neighbours, codes, neighbours, vq_distance
from maso.errors import MasoError, NotPiecewiseAffine
from maso.graph import Graph
from maso.layers import from_layer
from maso.partition import Estimate, Partition, Plane, estimate_regions, partition
from maso.power import Bends, PowerDiagram, bends, boundary_distance, power_diagram
from maso.rugosity import Rugosity, relative_rugosity_penalty, rugosity, rugosity_penalty, tangent_prop_penalty
from maso.soft import BetaVQ, Softened, soften
from maso.spline import MASO
from maso.tracing import trace

__version__ = "0.1.0"

__all__ = [
    "MASO",
    "AffineMap",
    "Bends",
    "BetaVQ",
    "Estimate",
    "Factor",
    "Graph",
    "MasoError",
    "Neighbours",
    "NotPiecewiseAffine",
    "Partition",
    "Plane",
    "PowerDiagram",
    "Rugosity",
    "Softened",
    "affine_map",
    "bends",
    "boundary_distance",
    "closed_form",
    "codes",
    "compose",
    "estimate_regions",
    "exact",
    "from_layer",
    "matched",
    "memorization",
    "neighbours",
    "partition",
    "penalties",
    "power_diagram",
    "relative_rugosity_penalty",
    "rugosity",
    "rugosity_penalty",
    "soften",
    "tangent_prop_penalty",
    "tangents",
    "trace",
    "vq_distance",
]
