"""What the servers of others share: sessions, batches, and the two body formats.

It runs in the environment of each of them, so it imports nothing of this project.
"""

import json
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson

FRAME = b"TNSR"
KINDS = {"tensor(float)": np.dtype(np.float32), "tensor(int64)": np.dtype(np.int64)}
Batch = dict[str, np.ndarray]


def models() -> dict[str, str]:
    """Return the files to serve by name."""
    return dict(json.loads(os.environ["BENCHMARK_MODELS"]))


def cores() -> int:
    """Return how many cores there are to use."""
    return int(os.environ["BENCHMARK_CORES"])


def instances() -> dict[str, int]:
    """Return how many workers each model gets where one queue feeds them."""
    return dict(json.loads(os.environ["BENCHMARK_INSTANCES"]))


class Model:
    """A session with one thread, and its inputs and outputs."""

    def __init__(self, file: str) -> None:
        """Open the file."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.kinds = {each.name: KINDS[each.type] for each in self._session.get_inputs()}
        self.outputs = [each.name for each in self._session.get_outputs()]

    def run(self, batch: Batch) -> Batch:
        """Return the outputs by name."""
        values = self._session.run(self.outputs, batch)
        return dict(zip(self.outputs, values, strict=True))

    def run_all(self, batches: Sequence[Batch]) -> list[Batch]:
        """Run batches of equal row shapes as one, others one by one."""
        shapes = {tuple(value.shape[1:] for value in batch.values()) for batch in batches}
        if len(batches) == 1 or len(shapes) > 1:
            return [self.run(batch) for batch in batches]
        names = list(batches[0])
        joined = self.run({name: np.concatenate([b[name] for b in batches]) for name in names})
        ends = np.cumsum([len(batch[names[0]]) for batch in batches])[:-1]
        parts = {name: np.split(value, ends) for name, value in joined.items()}
        return [{name: parts[name][i] for name in parts} for i in range(len(batches))]

    def typed(self, inputs: Mapping[str, Any]) -> Batch:
        """Return nested lists as arrays of the inputs' types."""
        return {name: np.asarray(inputs[name], kind) for name, kind in self.kinds.items()}


def lists(outputs: Batch) -> dict[str, Any]:
    """Return ``{"outputs": {name: nested lists}}``."""
    return {"outputs": {name: value.tolist() for name, value in outputs.items()}}


def dump_json(outputs: Batch) -> bytes:
    """Write the same as JSON, without lists in between."""
    return orjson.dumps({"outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)


def load_frame(body: bytes) -> Batch:
    """Read the frame that `benchmarks.dialects` describes."""
    (size,) = struct.unpack_from("<I", body, 4)
    batch, at = {}, 8 + size
    for name, kind, shape in orjson.loads(body[8:at]):
        count = 1
        for axis in shape:
            count *= axis
        value = np.frombuffer(body, np.dtype(kind), count, at).reshape(shape)
        batch[name] = value
        at += value.nbytes
    return batch


def dump_frame(outputs: Batch) -> bytes:
    """Write outputs as such a frame."""
    head = orjson.dumps([(name, value.dtype.str, value.shape) for name, value in outputs.items()])
    blobs = b"".join(value.tobytes() for value in outputs.values())
    return FRAME + struct.pack("<I", len(head)) + head + blobs
