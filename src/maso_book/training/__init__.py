"""One training loop, for a CPU and a GPU: the data stay on the device, a seed fixes everything.

`fit` minimises the cross-entropy with AdamW.  Images may come as uint8 (they are scaled to [0, 1] batch by batch, so
the data set takes a quarter of the memory) and be augmented on the device; on a GPU the arithmetic of the network is
in bfloat16, the weights stay as they are.  Same seed, same device, same versions (and, on a CPU, as many threads):
same weights.  `fit_many` trains copies of one network together, each in its own way.
"""

from maso_book.training.loop import accuracy
from maso_book.training.many import fit_many
from maso_book.training.one import fit
from maso_book.training.samples import augmented, scaled
from maso_book.training.settings import History, OutOfTime, Training

__all__ = ["History", "OutOfTime", "Training", "accuracy", "augmented", "fit", "fit_many", "scaled"]
