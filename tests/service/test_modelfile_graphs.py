"""What can be read from an ONNX file without running it."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto

from service.__main__ import main
from service.errors import BundleError
from service.modelfile import inspect
from tests.support import graphs, models


def test_operators_of_branches_and_loops_are_counted(tmp_path: Path) -> None:
    """What a graph may do stands in its operators, however deep it lies."""
    endless = inspect(graphs.write_endless(tmp_path / "endless.onnx"))
    assert (endless.operators, endless.nodes) == ({"Add": 1, "Identity": 1, "Loop": 1}, 3)
    branches = inspect(graphs.write_external(tmp_path / "if.onnx", "../w.bin", inside=True))
    assert branches.operators == {"Add": 2, "If": 1}
    assert branches.external_data == ("../w.bin",)


def test_inputs_are_told_from_their_defaults(tmp_path: Path) -> None:
    """An input with a default is optional; a weight is no input at all."""
    info = inspect(graphs.write_scaled(tmp_path / "model.onnx"))
    assert [tensor.name for tensor in info.inputs] == ["x"]
    assert [(t.name, t.datatype, t.shape) for t in info.optional_inputs] == [
        ("scale", "FLOAT", (2,))
    ]


def test_types_that_are_no_tensors_are_spelled_out(tmp_path: Path) -> None:
    """Sequences, maps and optional values, one in the other."""
    outputs = [
        tensor.datatype
        for write in (graphs.write_classifier, graphs.write_pieces, graphs.write_optional_output)
        for tensor in inspect(write(tmp_path / "model.onnx")).outputs
    ]
    assert outputs == [
        *("INT64", "SEQUENCE(MAP(INT64, FLOAT))"),
        *("SEQUENCE(FLOAT)", "FLOAT"),
        *("OPTIONAL(FLOAT)", "OPTIONAL(FLOAT)"),
    ]


def test_missing_axes_are_not_no_axes(tmp_path: Path) -> None:
    """A scalar has a shape without axes; where nothing is declared there is no shape."""
    scalars = inspect(graphs.write_scalars(tmp_path / "scalars.onnx"))
    assert (scalars.inputs[0].shape, scalars.any_shape) == ((), frozenset())
    nothing = inspect(graphs.write_any_rank(tmp_path / "nothing.onnx"))
    assert nothing.inputs[0].shape is None
    assert nothing.any_shape == {"x", "y"}


def test_what_an_operator_should_know_is_noted(tmp_path: Path) -> None:
    """Random numbers, an opset that is too old, weights in other files; else nothing."""
    (random,) = inspect(graphs.write_noise(tmp_path / "noise.onnx")).notes
    assert random == "draws random numbers: RandomUniformLike"
    (old,) = inspect(graphs.write_relu(tmp_path / "old.onnx", 6)).notes
    assert old == "opset 6: ONNX Runtime promises to run 7 and newer"
    (beside,) = inspect(graphs.write_external(tmp_path / "beside.onnx", "w.bin")).notes
    assert beside == "weights lie beside the file: w.bin"
    assert inspect(models.write_doubler(tmp_path / "plain.onnx")).notes == []


def test_onnx_runtimes_own_format_is_not_inspected(tmp_path: Path) -> None:
    """It is named as what it is, instead of as a damaged file."""
    model = models.write_doubler(tmp_path / "model.onnx")
    with pytest.raises(BundleError, match="can be served, but not inspected"):
        inspect(graphs.to_ort_format(model, tmp_path / "model.ort"))


def test_the_command_line_shows_unusual_tensors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Optional inputs and undeclared axes have a place in the report."""
    for write in (graphs.write_scaled, graphs.write_any_rank):
        with pytest.raises(SystemExit):
            main(["inspect", str(write(tmp_path / "model.onnx"))])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for expected in ("optional inputs", "scale FLOAT [2]", "x FLOAT [...]"):
        assert expected in lines


def test_inner_types_do_not_hide_the_outer(tmp_path: Path) -> None:
    """A graph that computes in another precision still shows what goes in and out."""
    info = inspect(graphs.write_cast(tmp_path / "model.onnx", TensorProto.BFLOAT16, back=True))
    assert {tensor.datatype for tensor in (*info.inputs, *info.outputs)} == {"FLOAT"}
