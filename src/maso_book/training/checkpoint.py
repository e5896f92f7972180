"""Files of arrays: written whole or not at all, and without pickle. Checkpoints are such files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from maso.errors import MasoError

Arrays = dict[str, np.ndarray]


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Put named arrays into an npz file, under another name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def read_arrays(path: Path) -> Arrays:
    """The arrays of an npz file.

    Raises:
        MasoError: the file is damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # numpy, zipfile and zlib each have their own
        raise MasoError(f"{path} is damaged ({error}). Delete it and run the same again.") from error


def resume(path: Path | None, made_of: str) -> Arrays:
    """What a checkpoint holds; nothing where there is none yet.

    Args:
        path: the file, None where no checkpoint is kept.
        made_of: text that names the training; another training's checkpoint has another one.

    Raises:
        MasoError: it is damaged, or another training's.
    """
    if path is None or not path.is_file():
        return {}
    arrays = read_arrays(path)
    if str(arrays.get("made of")) != made_of:
        raise MasoError(f"The checkpoint {path} is that of another training. Delete it, or choose another file.")
    return arrays


# State of models, of AdamW and of random numbers ----------------------------------------------------------------------


def state_of(model: torch.nn.Module, prefix: str = "") -> Arrays:
    """All parameters and buffers of a model, copied, under their names with a prefix."""
    return {prefix + name: value.detach().cpu().numpy().copy() for name, value in model.state_dict().items()}


def load_state(model: torch.nn.Module, arrays: Mapping[str, np.ndarray], prefix: str = "") -> None:
    """Put parameters and buffers back that `state_of` gave."""
    mine = {n.removeprefix(prefix): torch.from_numpy(v) for n, v in arrays.items() if n.startswith(prefix)}
    model.load_state_dict(mine)


def optimiser_state(optimiser: torch.optim.Optimizer) -> Arrays:
    """The state of AdamW: for each parameter that has learnt, the number of steps and two moments."""
    return {
        f"optimiser/{i}/{name}": value.detach().cpu().numpy().copy()
        for i, moments in optimiser.state_dict()["state"].items()
        for name, value in moments.items()
    }


def load_optimiser(optimiser: torch.optim.Optimizer, arrays: Mapping[str, np.ndarray]) -> None:
    """Put back what `optimiser_state` gave, each moment in the memory layout of its parameter."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for i, parameter in enumerate(parameters):
        if f"optimiser/{i}/step" not in arrays:
            continue  # a parameter without a gradient
        step, *moments = (torch.from_numpy(arrays[f"optimiser/{i}/{n}"]) for n in ("step", "exp_avg", "exp_avg_sq"))
        first, second = (torch.empty_like(parameter).copy_(moment) for moment in moments)
        step = step.to(parameter.device) if optimiser.defaults["fused"] else step
        optimiser.state[parameter] = {"step": step, "exp_avg": first, "exp_avg_sq": second}


@contextlib.contextmanager
def reproducible(device: torch.device, seed: int) -> Iterator[None]:
    """Inside, random numbers follow from the seed and cuDNN repeats its results; outside, nothing has changed."""
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        torch.manual_seed(seed)
        yield


def random_state(device: torch.device, generators: list[torch.Generator]) -> Arrays:
    """Where these generators and those of PyTorch stand."""
    states = [torch.get_rng_state(), *(generator.get_state() for generator in generators)]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return {f"random/{number}": state.cpu().numpy() for number, state in enumerate(states)}


def set_random_state(device: torch.device, generators: list[torch.Generator], arrays: Mapping[str, np.ndarray]) -> None:
    """Put them back to where `random_state` saw them."""
    states = [torch.from_numpy(arrays[f"random/{number}"]) for number in range(sum("random/" in n for n in arrays))]
    torch.set_rng_state(states[0])
    for generator, state in zip(generators, states[1:], strict=False):
        generator.set_state(state)
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[-1], device)
