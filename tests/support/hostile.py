"""Models that nobody should serve: damaged, deceitful, and made to harm who opens them.

Each kind is written by code as one version of a model, and says how it may end.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import (
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    helper,
    numpy_helper,
)

from service.bundle import Bundle, canonical, digest
from tests.support import graphs, models

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node = helper.make_node
OWN = "own"
# The version may be served after all: it does no harm there.
SURVIVED = ""


def model_of(
    *nodes: NodeProto,
    weights: tuple[TensorProto, ...] = (),
    functions: tuple[FunctionProto, ...] = (),
    opset: int = 18,
    ir_version: int = 9,
) -> ModelProto:
    """Return an unchecked model from x to y, both floats [n, 2]."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [models.value("x", FLOAT, "n", 2)],
        [models.value("y", FLOAT, "n", 2)],
        list(weights),
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(OWN, 1)]
    return helper.make_model(
        graph, opset_imports=imports, ir_version=ir_version, functions=list(functions)
    )


def _branch(nodes: list[NodeProto], weights: list[TensorProto] | None = None) -> GraphProto:
    return helper.make_graph(nodes, "branch", [], [models.value("y", FLOAT, "n", 2)], weights or [])


def branching(inner: NodeProto, *weights: TensorProto) -> NodeProto:
    """Return a node that runs another one, whose output is y, in one of its branches."""
    return node(
        "If",
        ["yes"],
        ["y"],
        then_branch=_branch([inner], list(weights)),
        else_branch=_branch([node("Identity", ["x"], ["y"])]),
    )


def yes() -> TensorProto:
    """Return the condition that `branching` asks for."""
    return numpy_helper.from_array(np.asarray(True), "yes")  # noqa: FBT003 - the value itself


def function_bomb(*, levels: int) -> ModelProto:
    """Return functions that each call the one below twice: 2^levels nodes in a kilobyte."""
    functions = []
    for level in range(levels):
        inner = f"f{level - 1}" if level else "Neg"
        domain = OWN if level else ""
        calls = [node(inner, ["a"], ["b"], domain=domain), node(inner, ["b"], ["c"], domain=domain)]
        imports = [helper.make_opsetid("", 18), helper.make_opsetid(OWN, 1)]
        functions.append(helper.make_function(OWN, f"f{level}", ["a"], ["c"], calls, imports))
    top = node(f"f{levels - 1}", ["x"], ["y"], domain=OWN)
    return model_of(top, functions=tuple(functions))


def function_ring() -> ModelProto:
    """Return two functions that call each other."""
    imports = [helper.make_opsetid(OWN, 1)]
    one, other = (
        helper.make_function(
            OWN, own, ["a"], ["b"], [node(called, ["a"], ["b"], domain=OWN)], imports
        )
        for own, called in (("f", "g"), ("g", "f"))
    )
    return model_of(node("f", ["x"], ["y"], domain=OWN), functions=(one, other))


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: ``write`` puts it into the folder of a version.

    ``codes`` are those with which it may be refused, `SURVIVED` among them if it may serve.
    ``slow`` ones take seconds or gigabytes until they are stopped.
    """

    write: Callable[[Path], object]
    codes: tuple[str, ...]
    slow: bool = False


def _saved(make: Callable[[], ModelProto]) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.onnx").write_bytes(make().SerializeToString())


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.onnx").write_bytes(content)


def _doubler(folder: Path) -> bytes:
    return models.write_doubler(folder / "model.onnx").read_bytes()


def _truncated(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(_doubler(folder)[:-9])


def _ort_format(folder: Path) -> None:
    model = models.write_doubler(folder / ".plain.onnx")
    graphs.to_ort_format(model, folder / "model.onnx")


def _weights(values: object, *, dims: Sequence[int] = (), data_type: int = FLOAT) -> TensorProto:
    tensor = numpy_helper.from_array(np.asarray(values, np.float32), "w")
    if dims:
        del tensor.dims[:]
        tensor.dims.extend(dims)
    tensor.data_type = data_type
    return tensor


def _weighted(*, dims: Sequence[int] = (), data_type: int = FLOAT) -> Callable[[Path], object]:
    def make() -> ModelProto:
        weights = _weights([1, 2], dims=dims, data_type=data_type)
        return model_of(node("Add", ["x", "w"], ["y"]), weights=(weights,))

    return _saved(make)


def _cycle() -> ModelProto:
    return model_of(
        node("Add", ["x", "b"], ["a"]), node("Add", ["a", "x"], ["b"]), node("Neg", ["b"], ["y"])
    )


def _nested(levels: int) -> ModelProto:
    inner = node("Identity", ["x"], ["y"])
    for _ in range(levels):
        inner = branching(inner)
    return model_of(inner, weights=(yes(),))


def _many_nodes(count: int) -> ModelProto:
    names = ["x", *(f"v{index}" for index in range(count - 1)), "y"]
    return model_of(*(node("Add", [a, "x"], [b]) for a, b in itertools.pairwise(names)))


def _not_utf8(folder: Path) -> None:
    content = _doubler(folder)
    (folder / "model.onnx").write_bytes(content.replace(b"\x0a\x01y", b"\x0a\x01\xff"))


def _sized(operator: str, elements: list[int], *, shape_at_load: bool) -> Callable[[Path], object]:
    """Write y = x + the sum of a tensor of so many elements, made at load or from a request."""

    def make() -> ModelProto:
        size = numpy_helper.from_array(np.asarray(elements, np.int64), "size")
        nodes = [node(operator, ["size"], ["big"]), node("ReduceSum", ["big"], ["s"], keepdims=0)]
        if not shape_at_load:
            # A size that is only known once there is a request.
            nodes = [
                node("Shape", ["x"], ["shape"]),
                node("Gather", ["shape", "last"], ["two"]),
                node("Div", ["two", "two"], ["one"]),
                node("Mul", ["one", "size"], ["asked"]),
                node(operator, ["asked"], ["big"]),
                node("ReduceSum", ["big"], ["s"], keepdims=0),
            ]
        last = numpy_helper.from_array(np.asarray([1], np.int64), "last")
        return model_of(*nodes, node("Add", ["x", "s"], ["y"]), weights=(size, last))

    return _saved(make)


def _long_product(folder: Path) -> None:
    """Write a single product that takes minutes, so that it cannot be ended between nodes."""
    size = numpy_helper.from_array(np.asarray([9000, 9000], np.int64), "size")
    flat = numpy_helper.from_array(np.asarray([0, 1], np.int64), "axes")
    nodes = [node("ConstantOfShape", ["size"], ["m"])]
    nodes += [node("MatMul", ["m", "m"], ["p0"])]
    nodes += [node("MatMul", [f"p{i}", "m"], [f"p{i + 1}"]) for i in range(12)]
    nodes += [node("ReduceSum", ["p12", "axes"], ["s"], keepdims=0), node("Add", ["x", "s"], ["y"])]
    model = model_of(*nodes, weights=(size, flat))
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def _growing(folder: Path) -> None:
    """Write a loop that keeps what every turn gives, without end."""
    body = helper.make_graph(
        [
            node("Identity", ["go"], ["go_on"]),
            node("Add", ["v", "v"], ["w"]),
            node("Expand", ["v", "wide"], ["kept"]),
        ],
        "body",
        [models.value("i", INT64), models.value("go", BOOL), models.value("v", FLOAT, "n", 2)],
        [
            models.value("go_on", BOOL),
            models.value("w", FLOAT, "n", 2),
            models.value("kept", FLOAT, 4096, "n", 2),
        ],
    )
    wide = numpy_helper.from_array(np.asarray([4096, 1, 1], np.int64), "wide")
    true = numpy_helper.from_array(np.asarray(True), "true")  # noqa: FBT003 - the value itself
    loop = node("Loop", ["", "true", "x"], ["y", "all"], body=body)
    model = model_of(loop, weights=(wide, true))
    (folder / "model.onnx").write_bytes(model.SerializeToString())


# External data: where it may be told, and what a model may say there.


def external(location: str, **entries: str) -> TensorProto:
    """Return two floats that lie elsewhere."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, text in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=text)
    return tensor


def _in_sparse(tensor: TensorProto, *, indices: bool) -> ModelProto:
    plain = numpy_helper.from_array(np.asarray([0, 1], np.int64), "")
    values = numpy_helper.from_array(np.asarray([1, 2], np.float32), "w")
    tensor.name = "" if indices else "w"
    tensor.data_type = INT64 if indices else FLOAT
    sparse = SparseTensorProto(
        values=values if indices else tensor, indices=tensor if indices else plain, dims=[2]
    )
    model = model_of(node("Add", ["x", "w"], ["y"]))
    model.graph.sparse_initializer.append(sparse)
    return model


def _in_function(tensor: TensorProto) -> ModelProto:
    body = [node("Constant", [], ["w"], value=tensor), node("Add", ["a", "w"], ["b"])]
    own = helper.make_function(OWN, "f", ["a"], ["b"], body, [helper.make_opsetid("", 18)])
    return model_of(node("f", ["x"], ["y"], domain=OWN), functions=(own,))


def _in_branch_constant(tensor: TensorProto) -> ModelProto:
    inner = [node("Constant", [], ["w"], value=tensor), node("Add", ["x", "w"], ["y"])]
    other = _branch([node("Identity", ["x"], ["y"])])
    branch = node("If", ["yes"], ["y"], then_branch=_branch(inner), else_branch=other)
    return model_of(branch, weights=(yes(),))


def _in_shape(tensor: TensorProto) -> ModelProto:
    del tensor.dims[:]
    tensor.dims.append(1)
    nodes = [node("Shape", ["x"], ["s"]), node("ConstantOfShape", ["s"], ["w"], value=tensor)]
    return model_of(*nodes, node("Add", ["x", "w"], ["y"]))


PLACES: Mapping[str, Callable[[TensorProto], ModelProto]] = {
    "weights": lambda t: model_of(node("Add", ["x", "w"], ["y"]), weights=(t,)),
    "constant": lambda t: model_of(
        node("Constant", [], ["w"], value=t), node("Add", ["x", "w"], ["y"])
    ),
    "branch": lambda t: model_of(branching(node("Add", ["x", "w"], ["y"]), t), weights=(yes(),)),
    "branch_constant": _in_branch_constant,
    "function": _in_function,
    "shape": _in_shape,
    "sparse": lambda t: _in_sparse(t, indices=False),
    "sparse_indices": lambda t: _in_sparse(t, indices=True),
}


def _secret(folder: Path) -> Path:
    """Return a file outside the version, whose content must never come back."""
    secret = folder.parents[1] / f".secret-{folder.parent.name}"
    secret.write_bytes(np.asarray([7, 7, 7, 7], np.float32).tobytes())
    return secret


def _symbolic(folder: Path) -> str:
    (folder / "w.bin").symlink_to(os.path.relpath(_secret(folder), folder))
    return "w.bin"


def _hard(folder: Path) -> str:
    (folder / "w.bin").hardlink_to(_secret(folder))
    return "w.bin"


def _upwards(folder: Path) -> str:
    return os.path.relpath(_secret(folder), folder)


def _absolute(folder: Path) -> str:
    return str(_secret(folder))


def _pipe(folder: Path) -> str:
    os.mkfifo(folder / "w.bin")
    return "w.bin"


def _zeros(folder: Path) -> str:
    (folder / "w.bin").symlink_to("/dev/zero")
    return "w.bin"


def _own(folder: Path) -> str:
    (folder / "w.bin").write_bytes(np.asarray([1, 2], np.float32).tobytes())
    return "w.bin"


SPELLINGS: Mapping[str, Callable[[Path], str]] = {
    "upwards": _upwards,
    "absolute": _absolute,
    "symlink": _symbolic,
    "hardlink": _hard,
    "pipe": _pipe,
    "zeros": _zeros,
}
_OUTSIDE = ("external_data", "unsafe_file")


def _external(place: str, spell: Callable[[Path], str], **entries: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        content = PLACES[place](external(spell(folder), **entries)).SerializeToString()
        (folder / "model.onnx").write_bytes(content)

    return write


# What is no file, though it has a model's name.


def _link_to_a_model(folder: Path) -> None:
    outside = models.write_doubler(folder.parents[1] / f".outside-{folder.parent.name}.onnx")
    (folder / "model.onnx").symlink_to(f"../../{outside.name}")


def _link_to_another_name(folder: Path) -> None:
    outside = models.write_doubler(folder.parents[1] / f".outside-{folder.parent.name}.onnx")
    (folder / "model.onnx").hardlink_to(outside)


def _holes(folder: Path) -> None:
    with (folder / "model.onnx").open("wb") as file:
        file.truncate(1 << 42)


# Bundles: `change` gets the folder of a good one.


def _bundle(
    change: Callable[[Path], object], make: Callable[[Path, str], Bundle] = models.picture_bundle
) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        source = make(folder / ".made", "b").path
        for file in source.iterdir():
            file.rename(folder / file.name)
        change(folder)

    return write


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a bundle's manifest so that its digest holds again."""
    members = json.loads((folder / "bundle.json").read_bytes())
    change(members)
    members["digest"] = digest(members)
    (folder / "bundle.json").write_bytes(canonical(members))


def relist(folder: Path, *names: str) -> None:
    """Make the hashes of files hold again."""
    from service.bundle import entry_of  # noqa: PLC0415 - beside what it is for

    rewrite(folder, lambda m: m["files"].update({name: entry_of(folder / name) for name in names}))


def _zeros_at_the_end(folder: Path) -> None:
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[:-40] + bytes(40))


def _swapped(folder: Path) -> None:
    one, other = (folder / name for name in ("model.onnx", "golden.npz"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def _npz_bomb(folder: Path) -> None:
    with (
        zipfile.ZipFile(folder / "golden.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("raw.npy", "w", force_zip64=True) as member,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 34,)}
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(1025):
            member.write(bytes(1 << 20))
    relist(folder, "golden.npz")


def _pickled(folder: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, raw=np.asarray([{"a": 1}], object))
    (folder / "golden.npz").write_bytes(buffer.getvalue())
    relist(folder, "golden.npz")


def _picture_bomb(folder: Path) -> None:
    from service.golden import dump, load  # noqa: PLC0415 - beside what it is for

    golden = load((folder / "golden.npz").read_bytes())
    raws = (models.bomb(50_000), *golden.raws[1:])
    content = dump(type(golden)(raws, golden.media_type, golden.expected, golden.labels))
    (folder / "golden.npz").write_bytes(content)
    relist(folder, "golden.npz")


def _hungry(folder: Path) -> None:
    """Have every run make 4 G numbers, of which nothing is left in the answer."""
    file = folder / "model.onnx"
    model = onnx.load(str(file))
    model.graph.node[-1].output[0] = "soft"
    model.graph.node.extend(
        [
            node("Shape", ["image"], ["shape"]),
            node("Gather", ["shape", "one_place"], ["one"]),
            node("Mul", ["one", "size"], ["asked"]),
            node("ConstantOfShape", ["asked"], ["big"]),
            node("ReduceSum", ["big"], ["nothing"], keepdims=0),
            node("Add", ["soft", "nothing"], ["scores"]),
        ]
    )
    for name, values in (("one_place", [1]), ("size", [4_000_000_000])):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
    file.write_bytes(model.SerializeToString())
    relist(folder, "model.onnx")


def _outside_name(folder: Path) -> None:
    rewrite(folder, lambda m: m["files"].update({"../x": {"sha256": "0" * 64, "bytes": 1}}))


KINDS: Mapping[str, Kind] = {
    "empty": Kind(_bytes(b""), ("not_onnx", "invalid_graph")),
    "garbage": Kind(_bytes(b"this is no model"), ("not_onnx",)),
    "zeros": Kind(_bytes(bytes(4096)), ("not_onnx",)),
    "pickle": Kind(_bytes(b"\x80\x04cos\nsystem\n."), ("not_onnx",)),
    "truncated": Kind(_truncated, ("not_onnx", "invalid_graph")),
    "ort_format": Kind(_ort_format, ("not_onnx",)),
    "wrapped_dims": Kind(_weighted(dims=[1 << 32, 1 << 32]), ("invalid_graph",)),
    "huge_dims": Kind(_weighted(dims=[1 << 62]), ("invalid_graph", "load_memory")),
    "negative_dims": Kind(_weighted(dims=[-4]), ("invalid_graph",)),
    "short_data": Kind(_weighted(dims=[1000, 2]), ("invalid_graph",)),
    "unknown_type": Kind(_weighted(data_type=99), ("invalid_graph",)),
    "cycle": Kind(_saved(_cycle), ("invalid_graph",)),
    "unknown_input": Kind(_saved(lambda: model_of(node("Neg", ["z"], ["y"]))), ("invalid_graph",)),
    "two_of_a_name": Kind(
        _saved(lambda: model_of(node("Neg", ["x"], ["y"]), node("Abs", ["x"], ["y"]))),
        ("invalid_graph",),
    ),
    "unknown_operator": Kind(
        _saved(lambda: model_of(node("Nonsense", ["x"], ["y"]))),
        ("unsupported_operator", "invalid_graph"),
    ),
    "custom_operator": Kind(
        _saved(lambda: model_of(node("Evil", ["x"], ["y"], domain="evil.ops"))), ("custom_ops",)
    ),
    "compiled": Kind(
        _saved(
            lambda: model_of(
                node(
                    "EPContext",
                    ["x"],
                    ["y"],
                    domain="com.microsoft",
                    ep_cache_context="/etc/passwd",
                    embed_mode=0,
                )
            )
        ),
        ("custom_ops",),
    ),
    "opset_999": Kind(
        _saved(lambda: model_of(node("Neg", ["x"], ["y"]), opset=999)), ("unsupported_opset",)
    ),
    "future_format": Kind(
        _saved(lambda: model_of(node("Neg", ["x"], ["y"]), ir_version=99)),
        ("unsupported_opset", "invalid_graph"),
    ),
    "name_not_utf8": Kind(_not_utf8, ("not_onnx", "unsupported_type")),
    "sequence": Kind(
        lambda folder: graphs.write_sequence_input(folder / "model.onnx"), ("unsupported_type",)
    ),
    "library": Kind(
        lambda folder: (_doubler(folder), (folder / "ops.so").write_bytes(b"\x7fELF")),
        ("custom_ops",),
    ),
    "function_ring": Kind(_saved(function_ring), ("too_complex",)),
    "function_bomb_8": Kind(_saved(lambda: function_bomb(levels=8)), (SURVIVED,)),
    "function_bomb_16": Kind(
        _saved(lambda: function_bomb(levels=16)), ("load_timeout", SURVIVED), slow=True
    ),
    "function_bomb_21": Kind(_saved(lambda: function_bomb(levels=21)), ("too_complex",)),
    "function_bomb_300": Kind(_saved(lambda: function_bomb(levels=300)), ("too_complex",)),
    "many_nodes": Kind(_saved(lambda: _many_nodes(100_000)), ("load_timeout", SURVIVED), slow=True),
    "too_many_nodes": Kind(_saved(lambda: _many_nodes(200_001)), ("too_complex",), slow=True),
    "nested_20": Kind(_saved(lambda: _nested(20)), ("too_complex",)),
    "nested_30": Kind(_saved(lambda: _nested(30)), ("too_complex",)),
    "dies_while_folded": Kind(
        lambda folder: graphs.write_deadly_constant(folder / "model.onnx"), ("load_crashed",)
    ),
    "endless_loop": Kind(
        lambda folder: graphs.write_endless(folder / "model.onnx"),
        (SURVIVED, "load_timeout"),
        slow=True,
    ),
    "growing_loop": Kind(_growing, (SURVIVED, "load_timeout", "load_memory"), slow=True),
    "long_product": Kind(_long_product, ("load_timeout", "load_memory"), slow=True),
    "asks_for_16_gb_at_load": Kind(
        _sized("ConstantOfShape", [4_000_000_000], shape_at_load=True),
        ("load_memory", "invalid_graph", SURVIVED),
        slow=True,
    ),
    "asks_for_16_gb_in_a_run": Kind(
        _sized("ConstantOfShape", [4_000_000_000], shape_at_load=False), (SURVIVED,), slow=True
    ),
    "asks_for_more_than_there_is": Kind(
        _sized("ConstantOfShape", [1 << 46], shape_at_load=False), (SURVIVED,)
    ),
    "model_is_a_link": Kind(_link_to_a_model, ("unsafe_file",)),
    "model_is_a_hard_link": Kind(_link_to_another_name, ("unsafe_file",)),
    "model_is_a_pipe": Kind(lambda folder: os.mkfifo(folder / "model.onnx"), ("unsafe_file",)),
    "model_is_a_device": Kind(
        lambda folder: (folder / "model.onnx").symlink_to("/dev/zero"), ("unsafe_file",)
    ),
    "model_is_holes": Kind(_holes, ("too_large",)),
    **{
        f"external_{place}_{spelling}": Kind(_external(place, spell), _OUTSIDE)
        for place in PLACES
        for spelling, spell in SPELLINGS.items()
        if spelling in ("upwards", "hardlink") or place == "weights"
    },
    **{
        f"external_{place}_own": Kind(_external(place, _own), (SURVIVED, "external_data"))
        for place in PLACES
    },
    "external_past_the_end": Kind(
        _external("weights", _own, offset="4096", length="8"), ("external_data",)
    ),
    "external_negative": Kind(_external("weights", _own, offset="-8"), ("external_data",)),
    "external_endless": Kind(_external("weights", _own, length=str(2**63 - 1)), ("external_data",)),
    "external_other_keys": Kind(_external("weights", _own, __class__="x"), ("external_data",)),
    "external_in_memory": Kind(
        _external("weights", lambda _: "*/_ORT_MEM_ADDR_/*"), ("external_data", "file_missing")
    ),
    "bundle_preallocated": Kind(_bundle(_zeros_at_the_end), ("hash_mismatch",)),
    "bundle_swapped": Kind(_bundle(_swapped), ("hash_mismatch",)),
    "bundle_without_vectors": Kind(
        _bundle(lambda folder: (folder / "golden.npz").unlink()), ("file_missing",)
    ),
    "bundle_with_more": Kind(
        _bundle(lambda folder: (folder / "extra.py").touch()), ("file_unlisted",)
    ),
    "bundle_with_a_pipe": Kind(
        _bundle(lambda folder: os.mkfifo(folder / "pipe")), ("unsafe_file",)
    ),
    "bundle_names_outside": Kind(_bundle(_outside_name), ("invalid_manifest",)),
    "bundle_of_brackets": Kind(
        _bundle(lambda folder: (folder / "bundle.json").write_bytes(b"[" * 100_000)),
        ("invalid_manifest",),
    ),
    "bundle_vectors_are_a_bomb": Kind(_bundle(_npz_bomb), ("golden_invalid",), slow=True),
    "bundle_vectors_are_pickled": Kind(_bundle(_pickled), ("golden_invalid",)),
    "bundle_picture_is_a_bomb": Kind(_bundle(_picture_bomb), ("golden_invalid",)),
    "bundle_asks_for_16_gb": Kind(_bundle(_hungry), ("load_memory",), slow=True),
    "bundle_rows_depend": Kind(_bundle(lambda _: None, models.centred_bundle), ("rows_dependent",)),
}
