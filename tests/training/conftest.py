"""What the tests of training share: tiny data, and one run of each family, published once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from .tiny import write_data


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Keep torch to one thread: tiny networks gain nothing from more, and machines are shared."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return where the data for each family lie."""
    return write_data(tmp_path_factory.mktemp("data"))
