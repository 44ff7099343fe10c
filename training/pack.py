"""From an existing ONNX file to a bundle: ONNX Runtime's own answers become the golden ones."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from service.bundle import GOLDEN_FILE, Bundle, next_version, publishing, read_bundle, seal
from service.calls import own_rows, row_mode
from service.contract import MODEL_FILE, Contract, InputContract, OutputContract, TensorPipeline
from service.golden import MIN_VECTORS, Golden
from service.golden import dump as dump_golden
from service.pipeline import NPZ
from service.tensors import TensorSpec, from_onnx
from training.data.dataset import DataError
from training.data.npz import read_npz
from training.export import producer, write_texts
from training.parity import ExportError, difference

Arrays = Mapping[str, NDArray[Any]]
_SAME_ROW = 1e-5
_MAX_VECTOR_BYTES = 1 << 30


def pack_model(
    model: Path,
    inputs: Path,
    *,
    repository: Path,
    name: str,
    labels: Sequence[str] = (),
    version: int | None = None,
) -> Bundle:
    """Publish ``model`` with proof, as ``repository/name/version``; raise ExportError if it cannot.

    ``inputs`` is an npz file with one array for each input of the graph; the first axis counts the
    vectors, at least 16, and the rest is one row without the batch axis.  With ``labels`` the first
    output, FP32 [batch, labels], is taken as a classifier's scores.  Parity is marked as absent:
    there is no other implementation to compare with.
    """
    vectors = _read_vectors(inputs)
    folder = repository / name
    number = version or next_version(folder)
    with publishing(folder, number) as hidden:
        _copy_model(model, hidden / MODEL_FILE)
        session = _open(hidden / MODEL_FILE)
        feeds = _feeds(session, vectors)
        answers = [_run(session, feed) for feed in feeds]
        contract = _contract(session, feeds, answers, labels)
        (hidden / GOLDEN_FILE).write_bytes(dump_golden(_golden(contract, vectors, answers)))
        reason = "packed from an ONNX file, there is no network to compare with"
        write_texts(hidden, {"parity": {"status": "absent", "reason": reason}}, {})
        seal(hidden, contract, producer())
    return read_bundle(folder / str(number))


def _read_vectors(file: Path) -> dict[str, NDArray[Any]]:
    try:
        vectors = read_npz(file.read_bytes(), file.name, limit=_MAX_VECTOR_BYTES)
    except (OSError, DataError) as error:
        raise ExportError(f"{file}: not an npz file of plain arrays: {error}") from error
    counts = {name: len(array) if array.ndim else 0 for name, array in vectors.items()}
    if not counts or len(set(counts.values())) > 1 or min(counts.values()) < MIN_VECTORS:
        raise ExportError(
            f"{file}: every input needs the same number of vectors, at least {MIN_VECTORS}; "
            f"found {counts}"
        )
    return vectors


def _copy_model(source: Path, target: Path) -> None:
    """Write the model as one file; weights in a file beside it are taken in."""
    try:
        content = source.read_bytes()
        model = onnx.load(io.BytesIO(content), load_external_data=False)
        if any(w.data_location == onnx.TensorProto.EXTERNAL for w in model.graph.initializer):
            onnx.save(onnx.load(str(source)), str(target))
        else:
            target.write_bytes(content)
    except (OSError, DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise ExportError(f"{source}: cannot be read as ONNX: {error}") from error


def _open(file: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    # ONNX Runtime raises a dozen types of its own, with no common base but this.
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot load the model: {error}") from error


def _run(session: ort.InferenceSession, feed: Arrays) -> list[NDArray[Any]]:
    try:
        return [np.asarray(value) for value in session.run(None, dict(feed))]
    # As above.
    except Exception as error:
        raise ExportError(f"the model cannot answer a golden input: {error}") from error


def _feeds(session: ort.InferenceSession, vectors: Arrays) -> list[dict[str, NDArray[Any]]]:
    names = [node.name for node in session.get_inputs()]
    if set(names) != set(vectors):
        raise ExportError(f"the graph's inputs are {names}, the vectors name {sorted(vectors)}")
    for node in session.get_inputs():
        datatype = from_onnx(node.type)
        found = vectors[node.name].dtype
        if datatype is None or datatype.numpy != found:
            raise ExportError(f"input '{node.name}': the graph takes {node.type}, got {found}")
    count = len(vectors[names[0]])
    whole = row_mode([_spec(node) for node in session.get_inputs()]) == "whole"
    # With a batch axis a vector is one row; without one it is the whole input.
    return [
        {n: vectors[n][i] if whole else vectors[n][i : i + 1] for n in names} for i in range(count)
    ]


def _spec(node: Any) -> TensorSpec:  # noqa: ANN401 - ONNX Runtime ships no types
    return TensorSpec(node.name, _datatype(node), tuple(_shape(node)))


def _contract(
    session: ort.InferenceSession,
    feeds: Sequence[Arrays],
    answers: Sequence[Sequence[NDArray[Any]]],
    labels: Sequence[str],
) -> Contract:
    try:
        return Contract(
            task="classification" if labels else "tensor",
            inputs=[
                InputContract(
                    name=node.name,
                    datatype=_datatype(node),
                    shape=_shape(node),
                    finite=all(_finite(feed[node.name]) for feed in feeds),
                )
                for node in session.get_inputs()
            ],
            outputs=[
                OutputContract(name=node.name, datatype=_datatype(node), shape=_shape(node))
                for node in session.get_outputs()
            ],
            pipeline=TensorPipeline(),
            labels=list(labels) or None,
            batchable=_rows_are_independent(session, feeds, answers),
        )
    except ValueError as error:
        raise ExportError(f"the model does not fit a contract: {error}") from error


def _datatype(node: Any) -> str:  # noqa: ANN401 - ONNX Runtime ships no types
    datatype = from_onnx(node.type)
    if datatype is None:
        raise ExportError(f"'{node.name}' is {node.type}, which has no form on the wire")
    return datatype.wire


def _shape(node: Any) -> list[int | str]:  # noqa: ANN401 - ONNX Runtime ships no types
    return [
        size if isinstance(size, int) else size if size and size != "?" else -1
        for size in node.shape
    ]


def _finite(array: NDArray[Any]) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _rows_are_independent(
    session: ort.InferenceSession,
    feeds: Sequence[Arrays],
    answers: Sequence[Sequence[NDArray[Any]]],
) -> bool:
    """Whether all axes lead with a batch and a row in a batch equals the same row alone.

    Tried with all vectors in one call, which is never assumed from the axes' names.
    """
    nodes = [*session.get_inputs(), *session.get_outputs()]
    if not all(node.shape and not isinstance(node.shape[0], int) for node in nodes):
        return False
    together = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
    for output, joined in enumerate(_run(session, together)):
        alone = [answer[output] for answer in answers]
        if len(joined) != len(feeds) or any(len(one) != 1 for one in alone):
            return False
        rows = np.concatenate(alone) if len({a.shape for a in alone}) == 1 else None
        if rows is None or rows.shape != joined.shape or not _same(rows, joined):
            return False
    return True


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.dtype.kind == "f":
        return difference(one, other) <= _SAME_ROW
    return bool(np.array_equal(one, other))


def _golden(
    contract: Contract, vectors: Arrays, answers: Sequence[Sequence[NDArray[Any]]]
) -> Golden:
    raws = []
    for index in range(len(answers)):
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {name: array[index] for name, array in vectors.items()}
        np.savez(buffer, allow_pickle=False, **arrays)
        raws.append(buffer.getvalue())
    expected = {
        output.name: tuple(own_rows(answer[i], 1)[0] for answer in answers)
        for i, output in enumerate(contract.outputs)
    }
    return Golden(tuple(raws), NPZ, expected)
