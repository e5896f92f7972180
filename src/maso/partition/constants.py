"""The numbers by which the engine decides, each with its reason.

Sizes of portions and costs change how long a partition takes, never what it is.  `bits.GAMMA` is the one tolerance of
the cells themselves.
"""

# ---------------------------------------------------------------- rounding
RESOLVED = 100
"""How many times its tolerance a unit must vary in the window: lines are then where they are drawn to a hundredth of
the window, and tiles may be nine digits smaller than the numbers that meet in them."""

HUGE, BEYOND = 1e300, 1e280
"""Numbers from `BEYOND` on, infinity among them, are compared and moved, never calculated with: a few sums and products
of them are more than float64 holds. They are kept at ±`HUGE`, so that small slopes leave them beyond."""

DOUBTFUL = (0.05, 30.0)
"""Between so many times its tolerance a value is neither clearly zero nor clearly not. On networks in general and in
special position, random and of images, there was none between 0.01 and 30."""

FORGOTTEN = 4
"""How many times larger than the noise of what has met in it a number may be: a bias adds none of its own."""

SURE = 1e-12
"""A choice of a forwarded point closer to a tie than this, relative to the numbers that meet in it, is rounding: ten
times `GAMMA`, so that a cell's choice is never called unsure for being on its border's side of zero."""

AGREE = 1e-9
"""By how much the map of a region may miss the network at its centre, relative to the numbers that meet in an output:
slopes of the smallest regions that are told apart carry about so much rounding."""

ROUNDING = 1e-12
"""The same, relative to the numbers that meet in an output anywhere in the window: ten times `GAMMA`, since a corner
may be taken to lie on a line that it is so far away from."""

# ---------------------------------------------------------------- certificates
SAMPLE = 64
"""Centres of regions that are forwarded at the least: one batch, of which the operators' calls cost most."""

SHARE = 0.05
"""Share of a run's cost for which more centres are forwarded, and vertices looked at closely."""

CLOSE_LOOKS = 4
"""Vertices where lines meet that are looked at closely at the least."""

ZOOM = 1e-9
"""Side of each closer look, relative to the one before: far more than rounding, far less than regions that are seen."""

CLOSER = 1e-3
"""The same, where the last look could not be made: what is seen there says no more precisely where to look."""

ZOOMS = 8
"""Closer looks at one vertex; coordinates in float64 are exhausted after two, but at the origin."""

FINEST = 1e-11
"""A step of an input smaller than this, relative to the input itself, drowns in it."""

# ---------------------------------------------------------------- portions
ROWS = 1024
"""Vertices whose values are made together and stay in cache."""

EDGES = 1 << 14
"""Edges whose cuts are found together and stay in cache."""

REGIONS = 1 << 14
"""Regions that are measured together and whose corners stay in cache."""

RADIX = 1 << 15
"""Whole numbers from which on torch sorts by digits; half as many, filled up, are still sorted twice as fast."""

PAIRS = 1 << 20
"""Pairs of chords looked at together: some tens of megabytes."""

COLUMNS = 1 << 12
"""Units whose bounds are found together and stay in cache."""

WRITTEN = 1 << 18
"""Numbers that a thread writes at a time when values follow from others."""

AT_ONCE = 1 << 20
"""Numbers on which an operator with parameters acts at once: convolutions unfold all that they get."""

FORWARDED = 1 << 21
"""Activations of a batch of forwarded points."""

DIRECTIONS = 64
"""Directions in the input space along which the distance to a cell's boundary is found together."""

POSITIONS = 64
"""Positions up to which a convolution is one matrix product: beyond, reading the weights is no longer what takes
time."""

LEVEL = 8
"""Every eighth point of a segment is evaluated before the others, so that no sum is long."""

# ---------------------------------------------------------------- tiles
HELD_AGAIN = 3
"""How often what is held may be needed at once: the old, the new, and what lies between."""

FREE = 1 << 20
"""Coefficients that are never worth a tile."""

WORTH_GIVING_UP = 1 << 24
"""Coefficients from which on a run is given up even after its first kink."""

OUTWEIGHED = 3
"""By how much the vertices must outweigh the affine operators for tiles to pay: these act on nine times as few
coefficients each, but the affine operators are called nine times."""

DEEPEST = 8
"""How often a window is cut into nine."""

NEAR = 8
"""A frame with at most so many times fewer rows than the next kink has numbers will soon be the identity: then tiles
no longer pay."""

# ---------------------------------------------------------------- costs, in nanoseconds of a machine with two cores
MULTIPLICATION = 0.1
"""One multiplication of a matrix product or convolution."""

NUMBER = 1.0
"""One number read or written otherwise."""

PATCH = 3.0
"""One number of the patches that a convolution unfolds."""

CALL = 20_000.0
"""One operator, on whatever it acts."""

OPERATOR = 700_000.0
"""One operator of a look at a small window, however little it acts on: its bounds, its noise, what it remembers."""

KINK = 1_500_000.0
"""One cut, however little it cuts: some hundred calls of numpy."""

SIGN = 1.5
"""The sign of one unit at one vertex."""

CUT = 1000.0
"""One new vertex: its place, the keys beside it, their certificates."""

CHOICE = 10.0
"""One unit or entry of a window that a kink looks at, for one forwarded point: its token, how far it is from a tie."""

LATER = 1000.0
"""What a coefficient there after the first kink costs by the end of a run, as measured on convolutional networks."""
