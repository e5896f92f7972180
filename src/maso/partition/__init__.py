"""Exact partitions of two-dimensional windows of the input space.

`partition(model, plane)` computes every region of a piecewise-affine network in a window of a plane: convex polygons on
which each kink keeps its piece and the network is one affine map.  It is one more reading of the traced graph
(`maso.partition.frame`) on a complex of convex cells (`complex`) that is cut by all units of a layer at once (`cut`).

The answer is right or there is none: the complex is certified as it is cut, and the regions' centres are forwarded
through the network and compared in key and output.

What counts as zero, as a tie or as agreement is measured by the numbers that meet in that one comparison (`noise`): a
mask of −10¹⁵, a padding by the smallest float, −∞ or a unit that is off by a huge bias change nothing elsewhere.  Of
entries that are equal to the rounding of both the first wins.  Where numbers are so large that float64 does not say
what a unit does in the window, or are not finite and calculated with (`huge`), the message names the layer and the
tensor.

Two units, by hand
------------------

The network f(s, t) = relu(s − t/2) + relu(t) on the window [−1, 1]²; "How it works" in the book has the picture.  The
window is a complex of four vertices and four edges around one region, of key 1:

>>> import numpy as np
>>> from maso.partition.complex import Complex
>>> from maso.partition.cut import cut
>>> window = Complex((-1, 1, -1, 1))
>>> window.x.tolist()
[[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]
>>> list(zip(window.start.tolist(), window.end.tolist()))
[(0, 1), (1, 2), (2, 3), (3, 0)]

1. *Signs.*  The units z₁ = s − t/2 and z₂ = t at the four vertices:

   >>> s, t = window.x.T
   >>> z = np.stack([s - t / 2, t], axis=1)
   >>> z.tolist()
   [[-0.5, -1.0], [1.5, -1.0], [0.5, 1.0], [-1.5, 1.0]]

   The signs of z₁ are − + + −, so z₁ cuts the edges 0 → 1 and 2 → 3; those of z₂ are − − + +, so z₂ cuts 1 → 2 and
   3 → 0.  How the lines lie to each other is read from these signs and the order of cuts on an edge, nothing else.

2. *Cuts of edges.*  Edge 0 → 1 runs from z₁ = −0.5 to 1.5: the cut is a quarter of the way, at (−½, −1).  The others
   are at (1, 0), (½, 1) and (−1, 0): vertices 4 to 7.

3. *Chords.*  The region is convex, so its two cuts by z₁ are the ends of one chord, 6 → 4, and those by z₂ of another,
   7 → 5; the unit is positive on the left.  At 6 the unit z₂ has the sign + of the vertices beside it, at 4 the sign −:
   the chords cross, at vertex 8.

4. *Keys.*  Let the tokens be 10 for z₁ and 100 for z₂ (in earnest they are random 64-bit numbers).  On the edge 0 → 1
   nothing is positive, then z₁: its pieces have the keys 1 and 11.  Likewise 11 and 111 on 1 → 2, 111 and 101 on 2 → 3,
   and 101 and 1 on 3 → 0.  Along the chord 6 → 4 the region on the right, where z₁ < 0, has key 101 as far as the
   crossing and 1 from there on; with the token 10 the keys on the left are 111 and 11.

5. *Certificates.*  The key summed along the chord, 1, must be the one that the edge 0 → 1 has there: it is.  Four cut
   edges have 8 pieces, two chords cut once have 4: with 9 vertices Euler's formula gives 12 − 9 + 1 = 4 regions, and
   there are four keys.

>>> splits = cut(window, z, tokens=np.array([10, 100]), tolerance=np.zeros(2), most=4)
>>> window.x[4:].tolist()
[[-0.5, -1.0], [1.0, 0.0], [0.5, 1.0], [-1.0, 0.0], [0.0, 0.0]]
>>> window.regions()[0].tolist(), len(window.start), window.count()
([1, 11, 101, 111], 12, 4)

What follows the two units is known at the four old vertices; at the new ones it follows from these, since it is linear
between two vertices but for the bends (`split`).  Each region's affine map follows from the values at its corners.
"""

from maso.partition.estimate import Estimate, estimate_regions
from maso.partition.plane import Plane
from maso.partition.result import Partition, Pullback, Region, Regions
from maso.partition.run import partition

__all__ = ["Estimate", "Partition", "Plane", "Pullback", "Region", "Regions", "estimate_regions", "partition"]
