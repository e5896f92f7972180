"""The twins of chapters 05 and 07: networks that learn the same images with true and with permuted labels.

Both chapters name the same recipes, so each network is trained once.  10,000 images are few enough for these networks
to learn labels that have no reason (smallCNN has 39,690 parameters); 55 epochs are those of the authors' study.
"""

from __future__ import annotations

from typing import Literal

Labels = Literal["true", "permuted"]
LABELS: tuple[Labels, ...] = ("true", "permuted")
SEEDS = range(100, 105)
"""Those of the second edition's criteria; the first edition was judged on 0 to 4."""
SAMPLES, EPOCHS = 10_000, 55
KEEP = (0, 1, 5, 10, 20, 35)
RATES = {"small_cnn": 5e-3, "large_cnn": 1e-3, "small_resnet": 5e-3, "mlp": 5e-3}
"""Highest learning rate of the one-cycle schedule, by network."""
