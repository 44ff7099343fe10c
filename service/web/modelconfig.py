"""A model's configuration in Triton's words: what is in force, whatever made it so."""

from __future__ import annotations

from collections.abc import Mapping

from service.batcher import BatchPolicy
from service.contract import MODEL_FILE
from service.lifecycle import ModelView
from service.serving import NEWEST, All, Latest, Specific, VersionPolicy
from service.tensors import TensorSpec

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"

_KINDS = {"cpu": "KIND_CPU", "cuda": "KIND_GPU"}


def config_of(view: ModelView) -> dict[str, object]:
    """Return the ModelConfig message of a version that has been opened, as JSON.

    Where rows are batched, ``max_batch_size`` is the most of one run and the tensors' ``dims``
    leave the batch axis out; a larger request is not refused but cut.  Elsewhere it is 0 and
    ``dims`` are whole.
    """
    batching = view.batching or BatchPolicy(batchable=False)
    batched = batching.batchable and all(spec.leads_with_batch for spec in view.inputs)
    config: dict[str, object] = {
        "name": view.name,
        "platform": PLATFORM,
        "backend": BACKEND,
        "runtime": "",
        "version_policy": _version_policy(view.rules.versions or NEWEST),
        "max_batch_size": batching.max_rows if batched else 0,
        "input": [
            {**_tensor(spec, batched=batched), "format": "FORMAT_NONE", "optional": False}
            for spec in view.inputs
        ],
        "output": [
            {**_tensor(spec, batched=batched), "label_filename": ""} for spec in view.outputs
        ],
        "batch_input": [],
        "batch_output": [],
        "optimization": {},
        "instance_group": [_instances(view, batching)],
        "default_model_filename": MODEL_FILE,
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": {},
        "model_warmup": [],
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": False},
        "labels": dict(view.rules.labels),
    }
    if batched:
        config["dynamic_batching"] = _dynamic_batching(batching)
    return config


def _tensor(spec: TensorSpec, *, batched: bool) -> dict[str, object]:
    dims = spec.wire_shape[1:] if batched else spec.wire_shape
    tensor: dict[str, object] = {
        "name": spec.name,
        "data_type": f"TYPE_{'STRING' if spec.datatype == 'BYTES' else spec.datatype}",
        "dims": dims or [1],
        "is_shape_tensor": False,
    }
    # The message has no empty shapes: a scalar is written as one element that is reshaped.
    return tensor if dims else {**tensor, "reshape": {"shape": []}}


def _version_policy(policy: VersionPolicy) -> Mapping[str, object]:
    match policy:
        case Latest(count):
            return {"latest": {"num_versions": count}}
        case Specific(versions):
            return {"specific": {"versions": list(versions)}}
        case All():
            return {"all": {}}


def _instances(view: ModelView, batching: BatchPolicy) -> dict[str, object]:
    return {
        "name": view.name,
        "kind": _KINDS.get(view.provider, "KIND_AUTO"),
        "count": batching.concurrency,
        "gpus": [],
        "secondary_devices": [],
        "profile": [],
        "passive": False,
        "host_policy": "",
    }


def _dynamic_batching(batching: BatchPolicy) -> dict[str, object]:
    return {
        "preferred_batch_size": [],
        "max_queue_delay_microseconds": round(1e6 * batching.max_wait),
        "preserve_ordering": False,
        "priority_levels": 0,
        "default_priority_level": 0,
        "default_queue_policy": {
            "timeout_action": "REJECT",
            "default_timeout_microseconds": 0,
            "allow_timeout_override": True,
            "max_queue_size": batching.queue_rows,
        },
        "priority_queue_policy": {},
    }
