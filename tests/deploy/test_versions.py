"""One version in all that is deployed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service import __version__

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "pattern", "count"),
    [
        ("deploy/helm/onnxport/Chart.yaml", r"^appVersion: (\S+)", 1),
        ("deploy/kserve/cluster-serving-runtime.yaml", r"image: onnxport:(\S+)", 1),
        ("docker-compose.yml", r"ONNXPORT_VERSION:-([^}]+)}", 3),
    ],
)
def test_manifests_name_the_version_of_the_code(path: str, pattern: str, count: int) -> None:
    """A release that forgets one of them would start another server than it says."""
    text = (_ROOT / path).read_text()
    assert re.findall(pattern, text, re.MULTILINE) == [__version__] * count
