"""Checkpoints without pickle: tensors as safetensors, everything else as JSON in the same file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from service.errors import ServiceError

Values = Mapping[str, Any]
_TENSOR = "$tensor"
_STATE = "state"


class CheckpointError(ServiceError):
    """A checkpoint cannot be read, or belongs to another run."""

    code = "invalid_checkpoint"


@dataclass(frozen=True, slots=True)
class Randomness:
    """Every generator that a run draws from: torch's own, and numpy's for the order of rows."""

    numpy: np.random.Generator

    def state(self) -> dict[str, Any]:
        """Return the states, to be saved."""
        return {
            "numpy": self.numpy.bit_generator.state,
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def restore(self, state: Values) -> None:
        """Continue where ``state`` was taken."""
        self.numpy.bit_generator.state = state["numpy"]
        torch.set_rng_state(state["torch"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])


def seeded(seed: int) -> Randomness:
    """Seed torch and return all generators of a run."""
    torch.manual_seed(seed)
    return Randomness(np.random.default_rng(seed))


def write_checkpoint(file: Path, state: Values) -> None:
    """Write nested dicts and lists of tensors and plain values, so that the file appears whole.

    Keys of dicts become texts; tuples become lists.
    """
    tensors: dict[str, Tensor] = {}
    plain = json.dumps(_without_tensors(state, "", tensors), allow_nan=False)
    content = save(tensors, metadata={_STATE: plain})
    file.parent.mkdir(parents=True, exist_ok=True)
    hidden = file.with_name(f".{file.name}.{os.getpid()}.partial")
    with hidden.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    hidden.replace(file)


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Read what `write_checkpoint` wrote; raise CheckpointError if it is something else."""
    try:
        with safe_open(file, framework="pt") as archive:
            plain = json.loads((archive.metadata() or {})[_STATE])
            # safe_open is no mapping: it has keys() and nothing else of one.
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{file}: not a checkpoint of ours: {error}") from error
    state = _with_tensors(plain, tensors)
    if not isinstance(state, dict):
        raise CheckpointError(f"{file}: expected an object, found {type(state).__name__}")
    return state


def restore_optimizer(optimizer: Optimizer, state: Values) -> None:
    """Load a state that went through JSON, which has no whole numbers as keys and no tuples."""
    groups = [
        {name: tuple(value) if name == "betas" else value for name, value in group.items()}
        for group in state["param_groups"]
    ]
    moments = {int(index): value for index, value in state["state"].items()}
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _without_tensors(value: object, path: str, tensors: dict[str, Tensor]) -> object:
    """Return ``value`` with each tensor moved to ``tensors`` and its name left in its place."""
    if isinstance(value, Tensor):
        # A copy, because safetensors refuses tensors that share memory.
        tensors[path] = value.detach().cpu().clone().contiguous()
        return {_TENSOR: path}
    if isinstance(value, Mapping):
        return {str(k): _without_tensors(v, f"{path}/{k}", tensors) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_tensors(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]
    return value


def _with_tensors(value: object, tensors: Mapping[str, Tensor]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        if set(value) == {_TENSOR}:
            return tensors[value[_TENSOR]]
        return {key: _with_tensors(inner, tensors) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_tensors(inner, tensors) for inner in value]
    return value
