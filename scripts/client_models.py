"""Write the models that the clients ask: one of every datatype, three bundles, two inputs."""

from __future__ import annotations

import sys
from pathlib import Path

from onnx import TensorProto

from tests.support import models

KINDS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def main(repository: Path) -> None:
    """Fill a repository."""
    for name, kind in KINDS.items():
        models.write_identity(repository / f"same-{name}" / "1" / "model.onnx", kind)
    models.write_sum_and_difference(repository / "pair" / "1" / "model.onnx")
    models.picture_bundle(repository)
    models.series_bundle(repository)
    models.text_bundle(repository)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
