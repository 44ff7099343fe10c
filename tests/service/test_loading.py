"""What is refused before or while a model is loaded, and what a bundle must keep of its promise."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from onnx import TensorProto

from service.contract import Contract, Manifest
from service.engine import EngineOptions, OrtEngine
from service.errors import BundleError, ConfigurationError, EngineFailure, VerificationFailed
from service.graph import as_array, readable
from service.loader import Loaded, LoadOptions, load_model
from service.repository import Found, scan
from tests.support import graphs, models

WEIGHTS = np.asarray([1, 2], np.float32).tobytes()


def load(path: Path, verify: Literal["enforce", "advisory", "off"] = "enforce") -> Loaded:
    """Load what lies at a path."""
    (found,) = scan(path)
    return load_model(found, LoadOptions(verify=verify), lambda _: None)


def refused(path: Path) -> str:
    """Return why a model is refused."""
    with pytest.raises(BundleError) as caught:
        load(path)
    return str(caught.value)


@pytest.mark.parametrize("inside", [False, True], ids=["graph", "branch"])
@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("../secret.bin", "'../secret.bin': leaves the model's folder"),
        ("a/../../secret.bin", "leaves the model's folder"),
        ("{root}/secret.bin", "an absolute path"),
        ("C:/secret.bin", "an absolute path"),
        ("..\\secret.bin", "not a path"),
        ("", "not a path"),
        ("link.bin", "a link that leads out of the model's folder"),
        ("folder/secret.bin", "a link that leads out of the model's folder"),
        ("missing.bin", "missing.bin: No such file"),
        (".", "not a path to a file"),
    ],
)
def test_weights_elsewhere_are_refused(
    tmp_path: Path,
    location: str,
    reason: str,
    inside: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Every way out of the model's folder is named and never opened, also inside a branch."""
    graphs.write_weights(tmp_path / "secret.bin")
    model = graphs.write_external(
        tmp_path / "m" / "model.onnx", location.format(root=tmp_path), inside=inside
    )
    (tmp_path / "m" / "link.bin").symlink_to(tmp_path / "secret.bin")
    (tmp_path / "m" / "folder").symlink_to(tmp_path)
    found = refused(model)
    assert reason in found
    assert "external data" in found


def test_links_within_the_folder_are_followed(tmp_path: Path) -> None:
    """A mounted volume, whose files are links to its current content, is served."""
    content = tmp_path / "models" / "..2024"
    graphs.write_external(content / "model.onnx", "w.bin")
    graphs.write_weights(content / "w.bin")
    (tmp_path / "models" / "..data").symlink_to("..2024")
    for name in ("model.onnx", "w.bin"):
        (tmp_path / "models" / name).symlink_to(f"..data/{name}")
    loaded = load(tmp_path / "models" / "model.onnx")
    answer = loaded.engine.run({"x": np.zeros((1, 2), np.float32)}, ["y"])
    assert answer["y"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (graphs.write_sequence_input, "input 'x': seq(tensor(float)) has no form on the wire"),
        (
            lambda path: graphs.write_cast(path, TensorProto.FLOAT8E4M3FN),
            "output 'cast': tensor(float8e4m3fn) has no form on the wire",
        ),
        (lambda path: graphs.write_cast(path, TensorProto.INT4), "output 'cast': tensor(int4)"),
        (lambda path: graphs.write_relu(path, 1), "Could not find an implementation for Relu(1)"),
        (lambda path: graphs.write_relu(path, 99), "Opset 99 is under development"),
    ],
)
def test_what_cannot_be_served_says_so(tmp_path: Path, write: object, reason: str) -> None:
    """Types without a form on the wire, operators and opsets that ONNX Runtime does not know."""
    assert callable(write)
    write(tmp_path / "model.onnx")
    assert reason in refused(tmp_path / "model.onnx")


def test_the_name_decides_the_format(tmp_path: Path) -> None:
    """Only .ort is ever read as ONNX Runtime's own format, which nobody can inspect."""
    model = models.write_doubler(tmp_path / "plain.onnx")
    graphs.to_ort_format(model, tmp_path / "hidden.onnx")
    (tmp_path / "wrong.ort").write_bytes(model.read_bytes())
    assert "not an ONNX file" in refused(tmp_path / "hidden.onnx")
    assert "ORT model verification failed" in refused(tmp_path / "wrong.ort")
    with pytest.raises(ConfigurationError, match=r"neither an \.onnx nor an \.ort file"):
        scan(model.rename(tmp_path / "model.bin"))


def test_a_readable_model_wins_over_one_that_is_not(tmp_path: Path) -> None:
    """With both formats in a folder, the one that can be inspected is served."""
    model = models.write_doubler(tmp_path / "1" / "model.onnx")
    graphs.to_ort_format(model, tmp_path / "1" / "model.ort")
    (found,) = scan(tmp_path / "1")
    assert (found.model_file.name, found.is_ort) == ("model.onnx", False)


def test_onnx_runtimes_texts_are_made_readable() -> None:
    """Codes, places in its source and escapes for terminals are left out."""
    raw = (
        "[ONNXRuntimeError] : 1 : FAIL : Load model from /srv/m.onnx failed:"
        "/onnxruntime_src/onnxruntime/core/graph/model.cc:46 void onnxruntime::check(const int&, "
        "bool) Opset 99 is \x1b[31mnew\nsecond line"
    )
    assert readable(RuntimeError(raw)) == "Opset 99 is \\x1b[31mnew"
    assert readable(RuntimeError()) == "RuntimeError"
    assert len(readable(RuntimeError("x" * 10_000))) < 500


@pytest.mark.parametrize(
    ("value", "datatype", "expected"),
    [
        ({1: 0.5, 2: 0.25}, "map(int64,tensor(float))", {"1": 0.5, "2": 0.25}),
        ({"a": "b"}, "map(string,tensor(string))", {"a": "b"}),
        (None, "optional(tensor(float))", None),
        ([], "seq(tensor(float))", []),
        ([np.asarray(["é"], object)], "seq(tensor(string))", [["é"]]),
        ([np.asarray(3)], "seq(tensor(int64))", [3]),
    ],
)
def test_values_that_are_no_tensors_become_plain(
    value: object, datatype: str, expected: object
) -> None:
    """A map, a missing value and a sequence are one value without axes, ready for JSON."""
    array = as_array(value, datatype)
    assert array.shape == ()
    assert array.tolist() == expected


def test_an_endless_run_is_ended(tmp_path: Path) -> None:
    """A loop without end stops when its time is up, and the engine still answers."""
    engine = OrtEngine(str(graphs.write_endless(tmp_path / "model.onnx")), EngineOptions())
    with pytest.raises(EngineFailure, match=r"a run took longer than 0\.1 s"):
        engine.run_within({"x": np.ones((1, 2), np.float32)}, ["y"], 0.1)
    quick = OrtEngine(str(models.write_doubler(tmp_path / "quick.onnx")), EngineOptions())
    assert quick.run_within({"x": np.ones((1, 2), np.float32)}, ["y"], 60)["y"].tolist() == [[2, 2]]
    engine.close()
    with pytest.raises(EngineFailure, match="closed"):
        engine.run_within({}, ["y"], 60)


def test_a_bundle_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    """Golden rows that hold are no excuse for rows that depend on each other."""
    models.centred_bundle(tmp_path)
    with pytest.raises(VerificationFailed, match="promises independent rows, but output 'y' of a"):
        load(tmp_path)


def test_a_broken_promise_is_not_used_where_it_is_only_noted(tmp_path: Path) -> None:
    """With verify = advisory the model is served without sharing runs; off believes the bundle."""
    models.centred_bundle(tmp_path)
    advised = load(tmp_path, "advisory")
    assert not advised.contract.batchable
    assert advised.info["batching"] == {
        "rows_independent": False,
        "why": "output 'y' of a row depends on the rows beside it",
    }
    proof = advised.info["verification"]
    assert isinstance(proof, dict)
    assert proof["status"] == "failed"
    assert load(tmp_path, "off").contract.batchable


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("picture", "3 random rows answer alone"),
        ("series", "3 random rows answer alone"),
        # It counts tokens, and random rows have no padding.
        ("text", "the golden vectors hold at batch sizes [1, 2, 32]; different rows got the same"),
    ],
)
def test_the_promises_of_honest_bundles_hold(tmp_path: Path, name: str, why: str) -> None:
    """Pictures, series with their lengths and token ids answer random rows within their bounds."""
    getattr(models, f"{name}_bundle")(tmp_path)
    loaded = load(tmp_path)
    batching = loaded.info["batching"]
    assert isinstance(batching, dict)
    assert loaded.contract.batchable is batching["rows_independent"] is True
    assert batching["why"].startswith(why)
    assert isinstance(loaded.info["model"], dict)
    assert loaded.info["notes"] == []


def test_a_bundle_holds_plain_tensors_only() -> None:
    """What has no form in golden vectors, or may be left out, cannot be promised."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [2]}
    members: dict[str, object] = {
        "task": "tensor",
        "inputs": [tensor],
        "outputs": [{**tensor, "datatype": "seq(tensor(float))"}],
        "pipeline": {"kind": "tensor"},
        "batchable": False,
    }
    sealed: dict[str, object] = {
        "producer": {},
        "digest": "0" * 64,
        "files": {"model.onnx": {"sha256": "0" * 64, "bytes": 1}},
    }
    assert not Contract.model_validate(members).output_specs[0].is_tensor
    with pytest.raises(ValueError, match=r"a bundle cannot hold seq\(tensor\(float\)\)"):
        Manifest.model_validate({**members, **sealed})
    members = {**members, "outputs": [tensor], "inputs": [{**tensor, "optional": True}]}
    with pytest.raises(ValueError, match="a bundle cannot hold optional inputs"):
        Manifest.model_validate({**members, **sealed})


def test_found_files_are_named_as_they_are(tmp_path: Path) -> None:
    """Both formats, bare or in version folders, are found in a repository."""
    model = models.write_doubler(tmp_path / "a.onnx")
    graphs.to_ort_format(model, tmp_path / "b.ort")
    graphs.to_ort_format(model, tmp_path / "c" / "1" / "model.ort")
    found = {one.name: one for one in scan(tmp_path)}
    assert {name: one.is_ort for name, one in found.items()} == {"a": False, "b": True, "c": True}
    assert found["c"] == Found("c", 1, tmp_path / "c" / "1")
