"""Each way in which a model can break its bundle's promise is found and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import orjson
import pytest

from service.contract import Contract, InputContract, OutputContract, TensorPipeline
from service.errors import EngineFailure, InvalidRequest, VerificationFailed
from service.golden import Golden
from service.pipeline import make_pipeline
from service.tensors import Tensor, Tensors, TensorSpec
from service.verifier import Verification, check_contract, verify
from tests.support.runtime import FakeEngine

Graph = Callable[[Tensors], dict[str, Tensor]]
ROWS = [np.asarray([i, 1], np.float32) for i in range(16)]
GOLDEN = Golden(
    raws=tuple(orjson.dumps(row.tolist()) for row in ROWS),
    media_type="application/json",
    expected={"y": tuple(row * 2 for row in ROWS)},
)
X = TensorSpec("x", "FP32", ("n", 2))
Y = TensorSpec("y", "FP32", ("n", 2))


def contract(**changes: object) -> Contract:
    """Return the promise of y = 2 x for any number of rows, with some members changed."""
    members: dict[str, object] = {
        "task": "tensor",
        "inputs": [InputContract(name="x", datatype="FP32", shape=["n", 2])],
        "outputs": [OutputContract(name="y", datatype="FP32", shape=["n", 2])],
        "pipeline": TensorPipeline(),
        "batchable": True,
    }
    return Contract.model_validate(members | changes)


def classifier(atol: float = 1e-5) -> Contract:
    """Return the promise of a classifier, whose scores are y."""
    output = OutputContract(name="y", datatype="FP32", shape=["n", 2], atol=atol)
    return contract(task="classification", labels=["low", "high"], outputs=[output])


def double(inputs: Tensors) -> dict[str, Tensor]:
    """Keep the promise."""
    return {"y": inputs["x"] * 2}


def engine(graph: Graph = double) -> FakeEngine:
    """Return an engine with the tensors of the promise."""
    return FakeEngine((X,), (Y,), graph)


def proved(
    graph: Graph = double,
    *,
    promise: Contract | None = None,
    golden: Golden = GOLDEN,
    max_rows: int = 5,
) -> Verification:
    """Verify an engine."""
    promise = promise or contract()
    return verify(promise, golden, engine(graph), make_pipeline(promise), max_rows=max_rows)


def reason(
    graph: Graph = double, *, promise: Contract | None = None, golden: Golden = GOLDEN
) -> str:
    """Return why an engine is not what its bundle says."""
    with pytest.raises(VerificationFailed) as caught:
        proved(graph, promise=promise, golden=golden)
    return str(caught.value)


def answering(*rows: Tensor) -> Golden:
    """Return the golden vectors with the first answers replaced."""
    return replace(GOLDEN, expected={"y": (*rows, *GOLDEN.expected["y"][len(rows) :])})


def test_a_model_that_keeps_its_promise() -> None:
    """What was checked is told, ready for JSON."""
    found = proved()
    assert found == Verification(16, (1, 2, 5), 0.0, "cpu")
    assert orjson.loads(orjson.dumps(found.as_json())) == {
        "vectors": 16,
        "batch_sizes": [1, 2, 5],
        "max_abs_difference": 0.0,
        "provider": "cpu",
    }


def test_every_vector_is_run_in_every_size_of_batch() -> None:
    """The last batch is filled from the start, so that it has its full size."""
    seen: dict[int, list[float]] = {}

    def graph(inputs: Tensors) -> dict[str, Tensor]:
        x = inputs["x"]
        seen.setdefault(len(x), []).extend(x[:, 0].tolist())
        return double(inputs)

    proved(graph)
    vectors = [float(i) for i in range(16)]
    assert seen == {1: vectors, 2: vectors, 5: [*vectors, 0.0, 1.0, 2.0, 3.0]}


def test_more_rows_than_vectors() -> None:
    """The largest batch is run even if vectors must be repeated for it."""
    assert proved(max_rows=40).batch_sizes == (1, 2, 40)


def test_rows_that_depend_on_each_other_run_alone() -> None:
    """Without a promise of independence only single rows are proved."""
    assert proved(promise=contract(batchable=False)).batch_sizes == (1,)


def test_the_largest_difference_is_told() -> None:
    """Within the tolerance the model passes, and the distance can be read."""
    promise = contract(outputs=[OutputContract(name="y", datatype="FP32", shape=["n", 2], atol=1)])
    found = proved(lambda inputs: {"y": inputs["x"] * 2 + 0.5}, promise=promise)
    assert found.max_abs_difference == 0.5


def test_too_few_vectors() -> None:
    """A proof by a handful of vectors is none."""
    few = Golden(GOLDEN.raws[:3], GOLDEN.media_type, {"y": GOLDEN.expected["y"][:3]})
    assert reason(golden=few) == "3 golden vectors, at least 16 are needed"


def test_an_output_without_answers() -> None:
    """Every output must be proved, and the one that is not is named."""
    assert reason(golden=replace(GOLDEN, expected={})) == "output 'y': no golden answers"


def test_an_input_that_the_pipeline_refuses() -> None:
    """A raw input that could not be sent proves nothing."""
    damaged = replace(GOLDEN, raws=(b'["a", "b"]', *GOLDEN.raws[1:]))
    assert reason(golden=damaged).startswith("a golden input is refused: input 'x'")


def test_an_input_that_the_contract_refuses() -> None:
    """Vectors outside the bounds of the contract contradict it."""
    bounded = InputContract(name="x", datatype="FP32", shape=["n", 2], maximum=7)
    text = reason(promise=contract(inputs=[bounded]))
    assert text.startswith("vectors from 8 on, batch 1: ")
    assert "largest value 7" in text


@pytest.mark.parametrize("error", [EngineFailure("out of memory"), InvalidRequest("refused")])
def test_a_model_that_fails(error: Exception) -> None:
    """The vector, the batch and the model's error are told."""

    def graph(inputs: Tensors) -> dict[str, Tensor]:
        if len(inputs["x"]) == 2:
            raise error
        return double(inputs)

    assert reason(graph) == f"vectors from 0 on, batch 2: {error}"


def test_answers_outside_the_tolerance() -> None:
    """The output, the vector, the batch, the distance and what is allowed are told."""
    text = reason(golden=answering(ROWS[0] * 2, ROWS[1] * 2 + 0.25))
    assert text == (
        "output 'y', vector 1, batch 1: differs by 0.25, allowed is 1e-05 + 0.0001 x |recorded|"
    )


def test_the_relative_tolerance_grows_with_the_answer() -> None:
    """What is too far for a small answer is near enough for a large one."""
    output = OutputContract(name="y", datatype="FP32", shape=["n", 2], atol=0, rtol=0.01)
    promise = contract(outputs=[output])
    assert proved(lambda inputs: {"y": inputs["x"] * 2.01}, promise=promise).vectors == 16
    assert "vector 0" in reason(lambda inputs: {"y": inputs["x"] * 2 + 0.01}, promise=promise)


def test_rows_that_change_in_company() -> None:
    """A model that mixes its rows answers right alone and is found out at batch 2."""
    text = reason(lambda inputs: {"y": (inputs["x"] - inputs["x"].mean(0) + inputs["x"][0]) * 2})
    assert "batch 2" in text


def test_nan_and_infinity_are_answers_too() -> None:
    """They pass where they were recorded, and fail anywhere else."""

    def graph(inputs: Tensors) -> dict[str, Tensor]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return {"y": inputs["x"] * 2 / (inputs["x"] != 0)}

    strange = answering(np.asarray([np.nan, 2], np.float32))
    assert proved(graph, golden=strange).max_abs_difference == 0
    assert "vector 0" in reason(graph)
    assert "vector 0" in reason(golden=strange)
    infinite = answering(np.asarray([np.inf, 2], np.float32))
    assert "differs by inf" in reason(golden=infinite)


def test_answers_of_another_shape() -> None:
    """Too wide, too narrow or of another rank: both shapes are told."""
    wide = answering(np.zeros(3, np.float32))
    assert reason(golden=wide) == "output 'y', vector 0: shape [2], recorded [3]"
    deep = answering(np.zeros((1, 2), np.float32))
    assert reason(golden=deep) == "output 'y', vector 0: shape [2], recorded [1, 2]"
    narrow = answering(np.zeros(1, np.float32))
    assert reason(golden=narrow) == "output 'y', vector 0: shape [2], recorded [1]"


def test_padded_answers_are_compared_over_their_true_part() -> None:
    """In company a short series is answered as long as the longest, and only padding may follow."""
    series = [np.arange(1 + i % 3, dtype=np.float32) for i in range(16)]
    golden = Golden(
        tuple(orjson.dumps([[float(v)] for v in one]) for one in series),
        "application/json",
        {"y": tuple(one * 2 for one in series)},
    )
    promise = Contract.model_validate(
        {
            "task": "regression",
            "inputs": [
                InputContract(name="x", datatype="FP32", shape=["n", "t", 1]),
                InputContract(name="lengths", datatype="INT64", shape=["n"]),
            ],
            "outputs": [OutputContract(name="y", datatype="FP32", shape=["n", "t"])],
            "pipeline": {
                "kind": "sequence", "channels": 1, "mean": [0.0], "std": [1.0], "max_length": 9,
            },
            "batchable": True,
        }
    )  # fmt: skip

    def graph(inputs: Tensors) -> dict[str, Tensor]:
        return {"y": inputs["x"][..., 0] * 2}

    def careless(inputs: Tensors) -> dict[str, Tensor]:
        return {"y": np.pad(inputs["x"][..., 0] * 2, [(0, 0), (0, 1)])}

    assert proved(graph, promise=promise, golden=golden).max_abs_difference == 0
    alone = reason(careless, promise=promise, golden=golden)
    assert alone == "output 'y', vector 0: shape [2], recorded [1]"


def test_whole_numbers_must_be_exact() -> None:
    """There is no tolerance for what is counted."""
    output = OutputContract(name="y", datatype="INT64", shape=["n", 2])
    golden = replace(GOLDEN, expected={"y": tuple((row * 2).astype(np.int64) for row in ROWS)})
    promise = contract(outputs=[output])

    def graph(inputs: Tensors) -> dict[str, Tensor]:
        return {"y": (inputs["x"] * 2).astype(np.int64)}

    def off_by_one(inputs: Tensors) -> dict[str, Tensor]:
        return {"y": (inputs["x"] * 2).astype(np.int64) + 1}

    assert proved(graph, promise=promise, golden=golden).max_abs_difference == 0
    text = reason(off_by_one, promise=promise, golden=golden)
    assert text == "output 'y', vector 0: not as recorded"


def test_another_label_within_the_tolerance() -> None:
    """A classifier must answer the recorded label, however near the scores are."""
    text = reason(
        lambda inputs: {"y": inputs["x"][:, ::-1] * 2},
        promise=classifier(atol=100),
    )
    assert text == "vector 0: answers 'low', recorded is 'high'"
    assert proved(promise=classifier()).vectors == 16


def test_more_scores_than_labels() -> None:
    """A graph may declare two scores and answer three, and its vectors may say so, too."""
    wide = tuple(np.asarray([0, 0, 1], np.float32) for _ in ROWS)
    text = reason(
        lambda inputs: {"y": np.stack(wide[: len(inputs["x"])])},
        promise=classifier(),
        golden=replace(GOLDEN, expected={"y": wide}),
    )
    assert text == "vector 0: scores of shape [3] for 2 labels"


def test_more_rows_of_scores_than_instances() -> None:
    """A classifier that answers twice for one instance is refused, recorded or not."""
    twice = np.asarray([[0, 1], [1, 0]], np.float32)
    text = reason(
        lambda inputs: {"y": twice},
        promise=classifier().model_copy(update={"batchable": False}),
        golden=replace(GOLDEN, expected={"y": tuple(twice for _ in ROWS)}),
    )
    assert text == "vector 0: scores of shape [2, 2] for 2 labels"


@pytest.mark.parametrize(
    ("promised", "text"),
    [
        ({"name": "z"}, "the contract has inputs ['z'], the graph has ['x']"),
        (
            {"datatype": "FP64"},
            "input 'x': the contract says FP64 ['n', 2], the graph has FP32 ['n', 2]",
        ),
        (
            {"shape": ["n", 3]},
            "input 'x': the contract says FP32 ['n', 3], the graph has FP32 ['n', 2]",
        ),
        (
            {"shape": ["rows", 2]},
            "input 'x': the contract says FP32 ['rows', 2], the graph has FP32 ['n', 2]",
        ),
        (
            {"shape": ["n", 2, 1]},
            "input 'x': the contract says FP32 ['n', 2, 1], the graph has FP32 ['n', 2]",
        ),
    ],
)
def test_a_contract_of_another_graph(promised: dict[str, object], text: str) -> None:
    """Name, datatype, size, axis name and rank are the graph's, or both are told."""
    tensor = {"name": "x", "datatype": "FP32", "shape": ["n", 2]} | promised
    with pytest.raises(VerificationFailed) as caught:
        check_contract(contract(inputs=[InputContract.model_validate(tensor)]), engine())
    assert str(caught.value) == text


def test_outputs_are_compared_too() -> None:
    """One output too many, or in another order, is another graph."""
    tensors = [OutputContract(name=name, datatype="FP32", shape=["n", 2]) for name in "yz"]
    with pytest.raises(VerificationFailed, match=r"outputs \['y', 'z'\], the graph has \['y'\]"):
        check_contract(contract(outputs=tensors), engine())
    check_contract(contract(), engine())
