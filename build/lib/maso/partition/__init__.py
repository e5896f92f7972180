"""Exact partitions of two-dimensional windows of the input space.

`partition(model, plane)` computes every region of a piecewise-affine network in a window of a plane: convex polygons on
which each kink keeps its piece and the network is one affine map.  It is one more reading of the traced graph
(`maso.partition.frame`) on a complex of convex cells (`complex`) that is cut by all units of a layer at once (`cut`).

The answer is right or there is none: the complex is certified as it is cut, and the regions' centres are forwarded
through the network and compared in key and output.
"""

from maso.partition.estimate import Estimate, estimate_regions
from maso.partition.plane import Plane
from maso.partition.result import Partition, Pullback, Region, Regions
from maso.partition.run import partition

__all__ = ["Estimate", "Partition", "Plane", "Pullback", "Region", "Regions", "estimate_regions", "partition"]
