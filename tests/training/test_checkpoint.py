"""What `training.checkpoint` promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from training.checkpoint import (
    CheckpointError,
    read_checkpoint,
    restore_optimizer,
    seeded,
    write_checkpoint,
)


def test_tensors_and_plain_values_come_back_equal(tmp_path: Path) -> None:
    """Floats to the last bit, whole numbers of any size, nested as they were."""
    file = tmp_path / "run" / "last.safetensors"
    shared = torch.randn(3)
    state = {
        "weights": {"a": shared, "again": shared, "scalar": torch.tensor(0.1, dtype=torch.float64)},
        "list": [torch.arange(2), {"x": None}],
        "figure": 0.1 + 0.2,
        "large": 2**127,
        "empty": {},
    }
    write_checkpoint(file, state)
    found = read_checkpoint(file)
    assert torch.equal(found["weights"]["again"], shared)
    assert found["weights"]["scalar"].dtype == torch.float64
    assert torch.equal(found["list"][0], torch.arange(2))
    assert found["list"][1] == {"x": None}
    assert (found["figure"], found["large"], found["empty"]) == (0.1 + 0.2, 2**127, {})


def test_writing_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    """A reader sees the old checkpoint or the new one; no partial file stays."""
    file = tmp_path / "last.safetensors"
    write_checkpoint(file, {"epoch": 1})
    write_checkpoint(file, {"epoch": 2})
    assert read_checkpoint(file) == {"epoch": 2}
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint at all", b"\x08\0\0\0\0\0\0\0{}      "]
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    """The error names the file."""
    file = tmp_path / "last.safetensors"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.safetensors: not a checkpoint"):
        read_checkpoint(file)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    """Half a checkpoint is none."""
    file = tmp_path / "last.safetensors"
    write_checkpoint(file, {"a": torch.randn(100)})
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read_checkpoint(file)


def test_safetensors_of_others_are_refused(tmp_path: Path) -> None:
    """Weights alone do not tell where a run was."""
    file = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read_checkpoint(file)
    save_file({"a": torch.zeros(1)}, file, metadata={"state": json.dumps([1])})
    with pytest.raises(CheckpointError, match="expected an object, found list"):
        read_checkpoint(file)


def test_generators_continue_where_they_were(tmp_path: Path) -> None:
    """After a restore the same numbers are drawn, by torch and by numpy."""
    randomness = seeded(3)
    torch.rand(5)
    randomness.numpy.random(5)
    write_checkpoint(tmp_path / "r", randomness.state())
    wanted = (torch.rand(4).tolist(), randomness.numpy.random(4).tolist())
    other = seeded(99)
    other.restore(read_checkpoint(tmp_path / "r"))
    assert (torch.rand(4).tolist(), other.numpy.random(4).tolist()) == wanted


def test_equal_seeds_draw_equal_numbers() -> None:
    """The seed decides everything."""
    draws = [(seeded(5).numpy.random(), torch.rand(1).item()) for _ in range(2)]
    assert draws[0] == draws[1]
    assert seeded(6).numpy.random() != draws[0][0]


def test_an_optimizer_steps_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    """Moments and step counts go through the file without loss."""
    networks = [nn.Linear(3, 2), nn.Linear(3, 2)]
    networks[1].load_state_dict(networks[0].state_dict())
    optimizers = [torch.optim.AdamW(n.parameters(), lr=0.1, betas=(0.8, 0.9)) for n in networks]
    inputs = torch.from_numpy(np.random.default_rng(0).random((6, 3), np.float32))

    def step(index: int) -> None:
        optimizers[index].zero_grad()
        networks[index](inputs).square().sum().backward()
        optimizers[index].step()

    step(0)
    step(0)
    write_checkpoint(
        tmp_path / "c",
        {"network": networks[0].state_dict(), "optimizer": optimizers[0].state_dict()},
    )
    saved = read_checkpoint(tmp_path / "c")
    networks[1].load_state_dict(saved["network"])
    restore_optimizer(optimizers[1], saved["optimizer"])
    step(0)
    step(1)
    assert torch.equal(networks[0].weight, networks[1].weight)
