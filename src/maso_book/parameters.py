"""What a chapter may be asked for: profile, data set, seeds, device."""

from __future__ import annotations

import types
from collections.abc import Mapping

import torch

from maso.errors import MasoError

PROFILES = ("quick", "paper", "full")
PARAMETERS = ("profile", "dataset", "seeds", "device", "recompute")


def check_profile(profile: object) -> None:
    """Refuse an unknown profile.

    Raises:
        MasoError: it is none of `PROFILES`.
    """
    if profile not in PROFILES:
        raise MasoError(f"There is no profile {profile!r}. Profiles: {', '.join(PROFILES)}.")


def check_parameters(namespace: Mapping[str, object]) -> None:
    """Refuse unknown parameters and profiles: the first call of a notebook, `check_parameters(globals())`.

    papermill itself only warns about a parameter that the notebook does not have, so this looks at the variables
    that are there when nothing but the `parameters` cell has run.

    Raises:
        MasoError: a variable is no parameter, or the profile is unknown; the message lists the valid ones.
    """
    ignored = {"In", "Out", "exit", "quit", "get_ipython", "open"}
    unknown = [
        name
        for name, value in namespace.items()
        if not name.startswith("_")
        and name not in ignored
        and name not in PARAMETERS
        and not isinstance(value, types.ModuleType | types.FunctionType | type)
    ]
    if unknown:
        raise MasoError(f"Unknown parameter {', '.join(unknown)}. Parameters: {', '.join(PARAMETERS)}.")
    check_profile(namespace.get("profile"))
    check_device(namespace.get("device"))


def check_device(device: object) -> str:
    """The device to run on, `"cpu"` where none is asked for.

    Raises:
        MasoError: it is neither `cpu` nor `cuda`, or this machine has no such device.
    """
    if device not in (None, "cpu", "cuda"):
        raise MasoError(f"There is no device {device!r}. Devices: cpu, cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise MasoError(
            "This machine has no CUDA device that this torch can use. Leave `device` out to run on the CPU."
        )
    return device or "cpu"


def known_dataset(name: str) -> str:
    """The name of a data set.

    Raises:
        MasoError: there is none of this name; the message lists those that there are.
    """
    from maso_book.datasets import CLASSES

    if name not in CLASSES:
        raise MasoError(f"There is no data set {name!r}. Data sets: {', '.join(CLASSES)}.")
    return name
