"""Where the weights of a model lie outside its file, and which of them can be handed over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

import onnx

from service.errors import BundleError
from service.refusals import Refusal
from service.screening import below, graphs_of

# Reads a file beside the model, by its plain name, and returns its bytes.
Take = Callable[[str], int]


def take_weights(model: onnx.ModelProto, take: Take) -> dict[str, str]:
    """Read all files that a model names; return their plain names by the places it names them with.

    Raises BundleError for a place outside the model's folder or past the end of its file, and for
    tensors that ONNX Runtime would look for on the disk, whatever it is handed.
    """
    outer = (tensor for tensor in outer_tensors(model) if is_external(tensor))
    weights = dict(_taken(tensor, take) for tensor in outer)
    for tensor in inner_tensors(model):
        if is_external(tensor):
            location, _ = _taken(tensor, take)
            raise BundleError(
                f"external data {location!r}: belongs to a tensor inside a branch, a function or "
                "an attribute; only weights of the graph itself may lie beside it",
                Refusal.EXTERNAL_DATA,
            )
    return weights


def locations(model: onnx.ModelProto) -> set[str]:
    """Return the places outside the file that any tensor of it names."""
    return {
        entry.value
        for tensor in (*outer_tensors(model), *inner_tensors(model))
        if is_external(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _taken(tensor: onnx.TensorProto, take: Take) -> tuple[str, str]:
    """Read the file that a tensor names; return the place in its words and the plain name."""
    place = Place.of(tensor)
    try:
        return place.location, place.taken(take)
    except (BundleError, ValueError) as error:
        code = error.code if isinstance(error, BundleError) else Refusal.EXTERNAL_DATA
        text = f"external data {place.location!r}: {error}"
        raise BundleError(text, code) from error


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor's values lie; ``length`` is None for all that follows ``offset``."""

    location: str
    offset: int = 0
    length: int | None = None

    @classmethod
    def of(cls, tensor: onnx.TensorProto) -> Place:
        """Return what a tensor says; raises BundleError for what is no place."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.pop("location", "")
        offset, length = entries.pop("offset", "0"), entries.pop("length", "")
        entries.pop("checksum", None)
        numbers = [text for text in (offset, length) if text]
        if entries or not all(text.isascii() and text.isdecimal() for text in numbers):
            raise BundleError(
                f"external data {location!r}: offset {offset!r}, length {length!r}, others "
                f"{sorted(entries)}",
                Refusal.EXTERNAL_DATA,
            )
        return cls(location, int(offset), int(length) if length else None)

    def taken(self, take: Take) -> str:
        """Read the file and return its plain name; raises ValueError for a place that is none."""
        path = PurePosixPath(self.location)
        if not self.location or "\0" in self.location or "\\" in self.location:
            raise ValueError("not a path")
        if path.is_absolute() or PureWindowsPath(self.location).drive:
            raise ValueError("an absolute path; weights must lie beside the model")
        if ".." in path.parts:
            raise ValueError("leaves the model's folder")
        if not path.parts:
            raise ValueError("not a path to a file")
        size = take(str(path))
        end = self.offset + (self.length or 0)
        if end > size:
            raise ValueError(f"ends at byte {end}, the file has {size}")
        return str(path)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor says that its values lie elsewhere."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def outer_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the weights of the graph itself, and its constants, which become weights."""
    yield from model.graph.initializer
    for node in model.graph.node:
        if _is_constant(node):
            yield from (attribute.t for attribute in node.attribute)


def inner_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield all other tensors: sparse ones, those of attributes, of subgraphs and functions."""
    yield from _sparse(model.graph.sparse_initializer)
    for node in model.graph.node:
        yield from _held(node, its_value=not _is_constant(node))
    inner = [graph.node for node in model.graph.node for graph in graphs_of(node)]
    for nodes in (*inner, *(function.node for function in model.functions)):
        for node in below(nodes):
            yield from _held(node)


def _held(node: onnx.NodeProto, *, its_value: bool = True) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        yield from (attribute.t, *attribute.tensors) if its_value else attribute.tensors
        yield from _sparse((attribute.sparse_tensor, *attribute.sparse_tensors))
        for graph in (attribute.g, *attribute.graphs):
            yield from graph.initializer
            yield from _sparse(graph.sparse_initializer)


def _sparse(tensors: Iterable[onnx.SparseTensorProto]) -> Iterator[onnx.TensorProto]:
    for one in tensors:
        yield from (one.values, one.indices)


def _is_constant(node: onnx.NodeProto) -> bool:
    return bool(node.op_type == "Constant" and node.domain in ("", "ai.onnx"))
