"""From a trained network to a bundle: one graph, proved against the network, published whole."""

from __future__ import annotations

import io
import json
import logging
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from service import __version__
from service.bundle import GOLDEN_FILE, Bundle, next_version, publishing, read_bundle, seal
from service.contract import MODEL_FILE, Contract, OutputContract
from service.golden import MIN_VECTORS, Golden
from service.golden import dump as dump_golden
from service.pipeline import make_pipeline
from training.evaluate import open_session
from training.parity import ExportError, Graph, as_graph, measure

OPSET = 20
EXPLAIN_FILE = "explain/explain.onnx"

Reports = Callable[[Path], Mapping[str, Mapping[str, object]]]


@dataclass(frozen=True, slots=True)
class Extras:
    """What a bundle may hold beside the model and its proof.

    ``reports`` gets the path of the exported model and returns ``metrics``, ``data_stats`` and the
    like, each written as ``<name>.json``; ``texts`` are files by name, such as ``recipe.toml``;
    ``explain`` is a second graph over the same inputs, with its outputs' names.
    """

    reports: Reports | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    explain: tuple[nn.Module, tuple[str, ...]] | None = None


class Served(nn.Module):
    """A classifier as it is served: probabilities in place of logits, auxiliary outputs kept."""

    def __init__(self, network: nn.Module) -> None:
        """Wrap a network whose ``forward`` returns logits first."""
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the probabilities [batch, classes] and the network's other outputs."""
        logits, *others = self.network(*inputs)
        return (torch.softmax(logits, -1), *others)


def export_bundle(  # noqa: PLR0913 - the parts of a bundle, all named at the call
    module: nn.Module,
    example_inputs: Sequence[Tensor],
    contract: Contract,
    *,
    repository: Path,
    name: str,
    golden: Sequence[bytes],
    media_type: str,
    version: int | None = None,
    extras: Extras | None = None,
) -> Bundle:
    """Export ``module`` and publish it as ``repository/name/version``, or raise ExportError.

    ``module(*example_inputs)`` returns a tensor or a tuple of tensors, one for each output of the
    contract, in its order; for a classifier of ours wrap it in `Served` first.  The example's batch
    must be 2 or more and differ from every other size.  ``golden`` are at least 16 raw inputs as a
    client would send them, of every class if it is a classifier; the network's own answers to them
    become the recorded ones.  Nothing is published unless graph and network agree to 1e-5 over
    batch 1, 2, 7, 64 and lengths 1, 7, max, and a row in a batch equals the same row alone.
    """
    extras = extras or Extras()
    if len(golden) < MIN_VECTORS:
        raise ExportError(f"{len(golden)} golden inputs, at least {MIN_VECTORS} are needed")
    network = Tupled(module).eval()
    model = repository / name
    number = version or next_version(model)
    with publishing(model, number) as folder:
        file = folder / MODEL_FILE
        save_graph(network, example_inputs, contract, file)
        reference = as_graph(network)
        parity = measure(reference, open_graph(file), contract)
        vectors = record(reference, contract, golden, media_type)
        (folder / GOLDEN_FILE).write_bytes(dump_golden(vectors))
        reports = {"parity": parity.as_json(), **(extras.reports(file) if extras.reports else {})}
        write_texts(folder, reports, extras.texts)
        if extras.explain is not None:
            _save_explanation(*extras.explain, example_inputs, contract, folder / EXPLAIN_FILE)
        seal(folder, contract, producer(torch=torch.__version__.split("+")[0]))
    return read_bundle(model / str(number))


class Tupled(nn.Module):
    """Any module, with its answer as a tuple."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the module's outputs, a single one as a tuple of one."""
        answer = self.module(*inputs)
        return answer if isinstance(answer, tuple) else (answer,)


def save_graph(
    network: nn.Module, example_inputs: Sequence[Tensor], contract: Contract, file: Path
) -> None:
    """Write one self-contained ONNX file with the contract's names and symbolic axes.

    Raises ExportError if torch cannot export the network, or if an axis that the contract calls
    variable was frozen on the way.
    """
    axes = tuple(
        {axis: size for axis, size in enumerate(tensor.shape) if isinstance(size, str)}
        for tensor in contract.inputs
    )
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                tuple(example_inputs),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=(axes,),
                input_names=[tensor.name for tensor in contract.inputs],
                output_names=[tensor.name for tensor in contract.outputs],
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError) as error:
        raise ExportError(f"torch cannot export the network: {error}") from error
    if program is None:
        raise ExportError("torch's exporter returned nothing")
    write_graph(program.model_proto, contract, file)


def write_graph(model: onnx.ModelProto, contract: Contract, file: Path) -> None:
    """Write the graph with the contract's names and nothing of the machine that it was made on.

    Raises ExportError where its inputs, outputs or axes are not those of the contract.
    """
    _strip(model)
    _name_axes(model.graph, contract)
    onnx.checker.check_model(model, full_check=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(file))


def _strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter tells about the machine: stack traces, source lines and paths."""
    model.producer_name, model.producer_version = "onnxport", __version__
    model.doc_string = ""
    for graph in _graphs(model):
        for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
            del part.metadata_props[:]
            part.doc_string = ""
        for weight in getattr(graph, "initializer", ()):
            del weight.metadata_props[:]
            weight.doc_string = ""
    del model.metadata_props[:]


def _graphs(model: onnx.ModelProto) -> Iterator[Any]:
    """Yield the graph and every graph inside it (bodies of Scan, Loop and If)."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            waiting.extend(a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)


def _name_axes(graph: onnx.GraphProto, contract: Contract) -> None:
    """Give symbolic axes the contract's names; raise ExportError where one is not as promised.

    The exporter may freeze an axis in silence, so the saved file is what is looked at.
    """
    values = (*graph.input, *graph.output)
    specs = (*contract.input_specs, *contract.output_specs)
    for value, promised in zip(values, specs, strict=True):
        dims = value.type.tensor_type.shape.dim
        if value.name != promised.name or len(dims) != len(promised.shape):
            raise ExportError(
                f"the graph has '{value.name}' with {len(dims)} axes, the contract has "
                f"'{promised.name}' with shape {promised.shape}"
            )
        for axis, (dim, size) in enumerate(zip(dims, promised.shape, strict=True)):
            frozen = dim.HasField("dim_value")
            if frozen != isinstance(size, int) or (frozen and dim.dim_value != size):
                found = dim.dim_value if frozen else f"'{dim.dim_param}'"
                raise ExportError(f"'{value.name}' axis {axis}: exported {found}, promised {size}")
            if isinstance(size, str):
                dim.dim_param = size


def open_graph(file: Path) -> Graph:
    """Return the saved file as a function from torch inputs to numpy outputs."""
    session = open_session(file)
    names = [node.name for node in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> list[Any]:
        feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return list(session.run(None, feed))

    return run


def record(graph: Graph, contract: Contract, raws: Sequence[bytes], media_type: str) -> Golden:
    """Return the golden vectors: each raw input through the pipeline and the graph, alone."""
    pipeline = make_pipeline(contract)
    names = [output.name for output in contract.outputs]
    expected: dict[str, list[Any]] = {name: [] for name in names}
    for raw in raws:
        tensors = pipeline.collate([pipeline.decode(raw, media_type)])
        inputs = [torch.from_numpy(tensors[tensor.name]) for tensor in contract.inputs]
        for name, answer in zip(names, graph(inputs), strict=True):
            expected[name].append(answer[0])
    return Golden(tuple(raws), media_type, {n: tuple(rows) for n, rows in expected.items()})


def write_texts(
    folder: Path, reports: Mapping[str, Mapping[str, object]], texts: Mapping[str, str]
) -> None:
    """Write reports as JSON and texts as they are."""
    for name, report in reports.items():
        content = json.dumps(report, indent=2, sort_keys=True, allow_nan=False)
        (folder / f"{name}.json").write_text(content + "\n", encoding="utf-8")
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def producer(**versions: str) -> dict[str, str]:
    """Return what made a bundle, by name and version."""
    return {
        "onnxport": __version__,
        "onnx": onnx.__version__,
        "onnxruntime": ort.__version__,
        "python": platform.python_version(),
        **versions,
    }


def _save_explanation(
    module: nn.Module,
    outputs: Sequence[str],
    example_inputs: Sequence[Tensor],
    contract: Contract,
    file: Path,
) -> None:
    """Export the explaining graph over the model's own inputs, under the same parity rule."""
    network = Tupled(module).eval()
    with torch.inference_mode():
        shapes = [list(value.shape) for value in network(*example_inputs)]
    promised = [
        OutputContract(name=name, datatype="FP32", shape=["batch", *shape[1:]])
        for name, shape in zip(outputs, shapes, strict=True)
    ]
    own = contract.model_copy(update={"outputs": promised})
    save_graph(network, example_inputs, own, file)
    measure(as_graph(network), open_graph(file), own)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own notes and deprecations off the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
