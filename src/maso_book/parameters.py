"""What a chapter may be asked for: profile, data set, seeds, device."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from maso.errors import MasoError
from maso_book import datasets

PROFILES = ("quick", "paper", "full")
PARAMETERS = ("profile", "dataset", "seeds", "device", "recompute")


def check_profile(profile: object) -> None:
    """Refuse an unknown profile.

    Raises:
        MasoError: it is none of `PROFILES`.
    """
    if profile not in PROFILES:
        raise MasoError(f"There is no profile {profile!r}. Profiles: {', '.join(PROFILES)}.")


def check_parameters(namespace: Mapping[str, Any]) -> None:
    """Refuse unknown parameters and values: the first call of a notebook, `check_parameters(globals())`.

    papermill itself only warns about a parameter that the notebook does not have, so this looks at the variables
    that are there when nothing but the `parameters` cell has run.

    Raises:
        MasoError: a variable is no parameter, or as in `check_values`; the message lists the valid ones.
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
    check_values({"profile": None, **{name: namespace[name] for name in PARAMETERS if name in namespace}})


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


def check_seeds(seeds: object) -> Sequence[int]:
    """The seeds that are asked for: those of a list, or 0 … n − 1 for a number n.

    Raises:
        MasoError: it is neither.
    """
    chosen = range(seeds) if type(seeds) is int else seeds  # True is no number here
    if isinstance(chosen, list | tuple | range) and chosen and all(type(s) is int and 0 <= s < 2**63 for s in chosen):
        return chosen
    raise MasoError(f"seeds = {seeds!r}: expected a positive number of seeds, or a list of whole numbers from 0 on.")


def check_values(parameters: Mapping[str, Any]) -> None:
    """Refuse a value that a parameter cannot have; None stands for the chapter's own.

    Raises:
        MasoError: there is no such profile, data set, device or seed, or `recompute` is neither true nor false.
    """
    if "profile" in parameters:
        check_profile(parameters["profile"])
    if parameters.get("dataset") is not None:
        datasets.checked(parameters["dataset"])
    if parameters.get("seeds") is not None:
        check_seeds(parameters["seeds"])
    check_device(parameters.get("device"))
    if not isinstance(parameters.get("recompute", False), bool):
        raise MasoError(f"recompute = {parameters['recompute']!r}: expected true or false.")
