"""One model load, from a bundle or a bare file, and all that can go wrong with it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import orjson
import pytest
from onnx import TensorProto, helper

from service.bundle import GOLDEN_FILE, Bundle
from service.engine import EngineOptions, version
from service.errors import BundleError, EngineFailure, ProviderUnavailable, VerificationFailed
from service.golden import dump, load
from service.loader import Loaded, LoadOptions, load_model
from service.repository import Found, scan
from service.serving import Verify
from tests.support import models

INFO = {
    "kind", "contract", "labels", "evaluation", "parity", "precision", "data_stats", "files",
    "verification", "runtime", "load_seconds", "batching", "model", "notes", "tuning",
}  # fmt: skip


def ignore(step: str) -> None:
    """Hear of a step and do nothing."""


def found(path: Path) -> Found:
    """Return the only model at a path."""
    (one,) = scan(path)
    return one


def loaded(path: Path, verify: Verify = "enforce") -> Loaded:
    """Load the only model at a path."""
    return load_model(found(path), LoadOptions(verify=verify, max_rows=4), ignore)


def reason(path: Path, error: type[Exception], verify: Verify = "enforce") -> str:
    """Return why a model is not loaded."""
    with pytest.raises(error) as caught:
        loaded(path, verify)
    return str(caught.value)


def test_a_bundle_is_proved_and_answers(tmp_path: Path) -> None:
    """Contract, pipeline and engine fit together, and all that is known is told as JSON."""
    bundle = models.text_bundle(tmp_path)
    steps: list[str] = []
    model = load_model(found(bundle.path), LoadOptions(max_rows=4), steps.append)
    assert steps == ["VERIFYING", "WARMING"]
    inputs = model.pipeline.collate([model.pipeline.parse("one two three four five")])
    assert model.engine.run(inputs, ["scores"])["scores"].argmax() == 1

    assert set(model.info) == INFO | {"digest", "producer"}
    info = orjson.loads(orjson.dumps(model.info))
    assert info["kind"] == "bundle"
    assert info["digest"] == bundle.manifest.digest
    assert info["labels"] == ["short", "long"]
    assert info["contract"]["batchable"] is True
    assert "files" not in info["contract"]
    assert info["producer"] == {"name": "hand-made"}
    assert info["verification"] == {
        "status": "passed", "vectors": 16, "batch_sizes": [1, 2, 4], "max_abs_difference": 0.0,
        "provider": "cpu",
    }  # fmt: skip
    runtime = info["runtime"]
    assert isinstance(runtime, dict)
    assert runtime.pop("session_options")["graph_optimization_level"] == "ORT_ENABLE_ALL"
    # A wheel with CUDA says why it is not used.
    assert isinstance(runtime.pop("providers_unavailable"), dict)
    assert runtime == {
        "provider": "cpu", "providers_asked": ["auto"], "profile": "throughput",
        "intra_op_threads": 1, "inter_op_threads": 1, "execution_mode": "ORT_SEQUENTIAL",
        "graph_optimization_level": "ORT_ENABLE_ALL", "provider_options": {"cpu": {}},
        "provider_options_unconfirmed": {}, "fell_back": False,
        "nodes": {"cpu": 6}, "operators_on_cpu": {}, "devices": [], "onnxruntime": version(),
    }  # fmt: skip


def test_a_bare_file_is_served_as_it_is(tmp_path: Path) -> None:
    """Its contract is that of the graph, its rows are tried, and no proof is claimed."""
    path = models.write_doubler(tmp_path / "m.onnx")
    model = loaded(path)
    assert set(model.info) == INFO
    assert model.info["verification"] == {
        "status": "skipped", "reason": "a bare ONNX file carries no proof",
    }  # fmt: skip
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.info["files"] == {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256},
    }
    assert model.contract.batchable is True
    assert model.contract.input_specs == model.engine.inputs
    assert not model.contract.input_specs[0].finite


def test_a_version_without_a_contract_is_a_bare_file(tmp_path: Path) -> None:
    """The layout of other servers, with nothing but the model in the folder, is enough."""
    models.write_doubler(tmp_path / "m" / "3" / "model.onnx")
    assert loaded(tmp_path).info["kind"] == "onnx"


def test_reports_are_part_of_what_is_known(tmp_path: Path) -> None:
    """Evaluation, parity and data statistics are shown as they were exported."""
    bundle = models.series_bundle(tmp_path)
    for name in ("metrics", "parity", "precision", "data_stats"):
        (bundle.path / f"{name}.json").write_text(json.dumps({"from": name}))
    info = loaded(models.resealed(bundle).path).info
    assert info["evaluation"] == {"from": "metrics"}
    assert info["parity"] == {"from": "parity"}
    assert info["precision"] == {"from": "precision"}
    assert info["data_stats"] == {"from": "data_stats"}


@pytest.mark.parametrize("content", ["[1]", "{", "\\ud800"])
def test_a_report_that_is_none(tmp_path: Path, content: str) -> None:
    """A report must be an object, and the file is named."""
    bundle = models.series_bundle(tmp_path)
    (bundle.path / "parity.json").write_text(content)
    assert "parity.json" in reason(models.resealed(bundle).path, BundleError)


def test_what_the_scan_has_refused(tmp_path: Path) -> None:
    """A problem that was seen on disk is the reason."""
    one = replace(found(models.text_bundle(tmp_path).path), problem="not a name")
    with pytest.raises(BundleError, match="not a name"):
        load_model(one, LoadOptions(), ignore)


def test_a_graph_that_takes_or_gives_nothing(tmp_path: Path) -> None:
    """There is nothing to ask it."""
    constant = helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0])
    node = helper.make_node("Constant", [], ["y"], value=constant)
    outputs = [models.value("y", TensorProto.FLOAT, 1)]
    path = models.write_model(tmp_path / "m.onnx", [node], inputs=[], outputs=outputs)
    assert reason(path, BundleError) == "the graph has no inputs"
    mute = onnx.load(str(models.write_doubler(path)))
    del mute.graph.output[:]
    onnx.save(mute, str(path))
    assert reason(path, BundleError) == "the graph has no outputs"


def test_a_provider_that_cannot_be_had(tmp_path: Path) -> None:
    """A promise of a provider is kept or refused, for bundles as for files."""
    one = found(models.text_bundle(tmp_path).path)
    with pytest.raises(ProviderUnavailable):
        load_model(one, LoadOptions(EngineOptions(("tpu",))), ignore)


def flip_a_byte(file: Path) -> None:
    """Damage a file at its end."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def other_weights(bundle: Bundle) -> Bundle:
    """Turn the columns of the classifier round, in a bundle whose hashes hold."""
    file = bundle.path / "model.onnx"
    columns = np.asarray([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32) * 8
    content = file.read_bytes()
    assert columns.tobytes() in content
    file.write_bytes(content.replace(columns.tobytes(), columns[:, ::-1].tobytes()))
    return models.resealed(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
@pytest.mark.parametrize("verify", ["enforce", "advisory"])
def test_a_file_that_has_changed(tmp_path: Path, name: str, verify: Verify) -> None:
    """One flipped bit is found and the file named; advice does not make a damaged file whole."""
    bundle = models.picture_bundle(tmp_path)
    flip_a_byte(bundle.path / name)
    text = reason(bundle.path, BundleError, verify)
    assert text.startswith(f"{bundle.path / name}: sha256 is ")


def test_labels_that_have_changed(tmp_path: Path) -> None:
    """The contract cannot be edited without a trace, in whatever form it is written back."""
    bundle = models.picture_bundle(tmp_path)
    manifest = bundle.path / "bundle.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"left"', b'"cat"'))
    for verify in ("enforce", "advisory", "off"):
        assert "digest" in reason(bundle.path, BundleError, verify)
    manifest.write_text(json.dumps(json.loads(manifest.read_bytes()), indent=1))
    assert "canonical" in reason(bundle.path, BundleError)


def test_a_file_that_nobody_has_listed(tmp_path: Path) -> None:
    """What came later does not belong to the bundle."""
    bundle = models.picture_bundle(tmp_path)
    (bundle.path / "extra.py").write_text("")
    assert "extra.py" in reason(bundle.path, BundleError)


def test_golden_vectors_that_are_missing(tmp_path: Path) -> None:
    """A bundle without them proves nothing."""
    bundle = models.picture_bundle(tmp_path)
    (bundle.path / GOLDEN_FILE).unlink()
    assert "golden.npz: not listed" in reason(models.resealed(bundle).path, BundleError)


def test_weights_that_answer_otherwise(tmp_path: Path) -> None:
    """All hashes hold, and yet the model does not do what was recorded."""
    bundle = other_weights(models.picture_bundle(tmp_path))
    assert reason(bundle.path, VerificationFailed).startswith("output 'scores', vector 0, batch 1")


def test_a_contract_of_another_graph(tmp_path: Path) -> None:
    """Names and shapes of the contract are compared with the session's."""
    bundle = models.picture_bundle(tmp_path)
    output = {"name": "probabilities", "datatype": "FP32", "shape": ["batch", 2]}
    text = reason(models.resealed(bundle, outputs=[output]).path, VerificationFailed)
    assert text == "the contract has outputs ['probabilities'], the graph has ['scores']"


def test_a_tolerance_that_is_exceeded(tmp_path: Path) -> None:
    """Recorded answers that are a little off are outside a tight tolerance, inside a loose one."""
    bundle = models.series_bundle(tmp_path)
    golden = load(bundle.read(GOLDEN_FILE))
    shifted = {name: tuple(row + 0.01 for row in rows) for name, rows in golden.expected.items()}
    (bundle.path / GOLDEN_FILE).write_bytes(dump(replace(golden, expected=shifted)))
    tight = models.resealed(bundle)
    assert "differs by 0.01" in reason(tight.path, VerificationFailed)
    output = {"name": "answer", "datatype": "FP32", "shape": ["batch", 1], "atol": 0.1}
    loose = models.resealed(bundle, outputs=[output])
    proof = loaded(loose.path).info["verification"]
    assert isinstance(proof, dict)
    assert proof["max_abs_difference"] == pytest.approx(0.01, abs=1e-6)


def test_advice_lets_a_lie_be_served(tmp_path: Path) -> None:
    """The model answers, and everybody who asks can see why it is not to be trusted."""
    model = loaded(other_weights(models.picture_bundle(tmp_path)).path, "advisory")
    proof = model.info["verification"]
    assert isinstance(proof, dict)
    assert proof["status"] == "failed"
    assert proof["reason"].startswith("output 'scores', vector 0, batch 1")
    assert model.engine.run({"image": np.zeros((1, 1, 2, 2), np.float32)}, ["scores"])


def test_nothing_is_proved_where_that_is_switched_off(tmp_path: Path) -> None:
    """Neither hashes nor answers are looked at, and that is told."""
    bundle = other_weights(models.picture_bundle(tmp_path))
    flip_a_byte(bundle.path / GOLDEN_FILE)
    assert loaded(bundle.path, "off").info["verification"] == {
        "status": "skipped", "reason": "switched off by verify = off",
    }  # fmt: skip


def test_nothing_stays_open_of_a_failed_load(tmp_path: Path) -> None:
    """The session of a model that is refused is closed."""
    bundle = other_weights(models.picture_bundle(tmp_path))
    with pytest.raises(VerificationFailed) as caught:
        loaded(bundle.path)
    (frame,) = (entry for entry in caught.traceback if entry.name == "_loaded")
    with pytest.raises(EngineFailure, match="closed"):
        frame.locals["engine"].run({}, ["scores"])
