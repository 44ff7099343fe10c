"""What a path holds, and whether it keeps its promise, as plain values."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest

from service.errors import BundleError, ConfigurationError
from service.inspection import inspect_path, prove
from service.loader import LoadOptions
from service.repository import scan
from tests.support import models


def test_a_bundle(tmp_path: Path) -> None:
    """The graph, the contract, the reports and the files, ready for JSON."""
    bundle = models.picture_bundle(tmp_path)
    (bundle.path / "metrics.json").write_text(json.dumps({"accuracy": 0.5}))
    bundle = models.resealed(bundle)
    report = orjson.loads(orjson.dumps(inspect_path(bundle.path)))
    assert report["kind"] == "bundle"
    assert (report["name"], report["version"]) == ("pictures", 1)
    assert report["path"] == str(bundle.path)
    assert report["digest"] == bundle.manifest.digest
    assert report["model"]["operators"] == {"Flatten": 1, "MatMul": 1, "Softmax": 1}
    assert report["contract"]["labels"] == ["left", "right"]
    assert "digest" not in report["contract"]
    assert report["evaluation"] == {"accuracy": 0.5}
    assert report["parity"] is None
    assert report["data_stats"] is None
    assert report["producer"] == {"name": "hand-made"}
    assert set(report["files"]) == {"model.onnx", "golden.npz", "metrics.json"}


def test_a_file_even_inside_a_bundle(tmp_path: Path) -> None:
    """Who names a file hears of the file."""
    bundle = models.picture_bundle(tmp_path)
    report = inspect_path(bundle.path / "model.onnx")
    assert report["kind"] == "onnx"
    assert set(report) == {"kind", "path", "model"}


def test_a_file_of_any_name(tmp_path: Path) -> None:
    """A path is not asked how it is called."""
    path = models.write_doubler(tmp_path / "m.onnx").rename(tmp_path / "weights")
    assert inspect_path(path)["model"]["nodes"] == 1


def test_the_folder_of_a_model(tmp_path: Path) -> None:
    """It means the newest version; a version without a contract is a file in a folder."""
    models.text_bundle(tmp_path)
    newer = models.write_doubler(tmp_path / "texts" / "2" / "model.onnx")
    report = inspect_path(tmp_path / "texts")
    assert (report["kind"], report["path"]) == ("onnx", str(newer))


def test_a_repository_with_one_model(tmp_path: Path) -> None:
    """There is no doubt what is meant."""
    models.text_bundle(tmp_path)
    assert inspect_path(tmp_path)["name"] == "texts"


def test_a_repository_with_none_or_several(tmp_path: Path) -> None:
    """The names are told, so that one can be given."""
    with pytest.raises(ConfigurationError, match="holds no model"):
        inspect_path(tmp_path)
    models.write_doubler(tmp_path / "a.onnx")
    models.write_doubler(tmp_path / "b.onnx")
    with pytest.raises(ConfigurationError, match="holds a, b; name one"):
        inspect_path(tmp_path)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(ConfigurationError, match="nowhere"):
        inspect_path(tmp_path / "nowhere")


def test_a_damaged_bundle(tmp_path: Path) -> None:
    """Nothing is told of files that are not what the contract says."""
    bundle = models.picture_bundle(tmp_path)
    (bundle.path / "golden.npz").write_bytes(b"")
    with pytest.raises(BundleError, match=r"golden\.npz"):
        inspect_path(bundle.path)


def test_a_version_without_a_model(tmp_path: Path) -> None:
    """The file that is missing is named."""
    (tmp_path / "m" / "1").mkdir(parents=True)
    with pytest.raises(BundleError, match=r"model\.onnx: No such file"):
        inspect_path(tmp_path)


def test_a_proof(tmp_path: Path) -> None:
    """A bundle is passed, a bare file skipped, and both say where they are."""
    bundle = models.text_bundle(tmp_path)
    bare = models.write_doubler(tmp_path / "bare.onnx")
    skipped, passed = (prove(one, LoadOptions(max_rows=2)) for one in scan(tmp_path))
    assert skipped == {
        "name": "bare", "version": 1, "path": str(bare), "provider": "cpu",
        "status": "skipped", "reason": "a bare ONNX file carries no proof",
    }  # fmt: skip
    assert passed == {
        "name": "texts", "version": 1, "path": str(bundle.path), "status": "passed",
        "vectors": 16, "batch_sizes": [1, 2], "max_abs_difference": 0.0, "provider": "cpu",
    }  # fmt: skip


def test_a_proof_that_fails(tmp_path: Path) -> None:
    """The reason is part of the answer, and nothing is raised."""
    bundle = models.text_bundle(tmp_path)
    (bundle.path / "model.onnx").write_bytes(b"no model")
    models.resealed(bundle)
    (proof,) = (prove(one, LoadOptions()) for one in scan(tmp_path))
    assert (proof["name"], proof["status"]) == ("texts", "failed")
    assert "model.onnx: not an ONNX file" in proof["reason"]
