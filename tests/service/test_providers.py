"""What a list of providers promises, and what a session made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from service.errors import ProviderUnavailable
from service.providers import Outcome, Placement, judge, normal_names, placement_of, to_try

BOTH = ("cuda", "cpu")
ALL_ON_CUDA = Placement({"cuda": 3})
MIXED = Placement({"cpu": 2, "cuda": 3}, {"Gather": 1, "Shape": 1})
ALL_ON_CPU = Placement({"cpu": 3}, {"Conv": 3})


def judged(
    asked: Sequence[str],
    unavailable: Mapping[str, str],
    placement: Placement,
    *,
    strict: bool = False,
) -> Outcome:
    """Judge a wish where CUDA is built in."""
    tried = BOTH if asked == ("auto",) else asked
    return judge(asked, tried, unavailable, placement, strict=strict)


def test_names_in_any_spelling() -> None:
    """Whole names become ours where we have one; others stay as they are."""
    assert normal_names(["auto"]) == ("auto",)
    assert normal_names(["CUDAExecutionProvider", "cpu"]) == BOTH
    assert normal_names(["QNNExecutionProvider"]) == ("QNNExecutionProvider",)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "an empty list is no provider"),
        (["tpu"], "'tpu' is no provider; expected auto, or names"),
        (["auto", "cpu"], "'auto' is no provider"),
        (["cuda", "CUDAExecutionProvider"], "named twice"),
        (["cpu", "cuda"], "no provider can stand behind it"),
        (["../ExecutionProvider"], "is no provider"),
    ],
)
def test_lists_that_make_no_sense(names: list[str], words: str) -> None:
    """What is wrong is said with the name."""
    with pytest.raises(ValueError, match=words):
        normal_names(names)


def test_what_is_tried() -> None:
    """Automatically CUDA where it is built in; what is not there is left out only with leave."""
    assert to_try(("auto",), BOTH) == (BOTH, {})
    assert to_try(("auto",), ("cpu",)) == (("cpu",), {})
    tried, unavailable = to_try(BOTH, ("cpu",))
    assert tried == ("cpu",)
    assert "onnxport[gpu]" in unavailable["cuda"]
    with pytest.raises(ProviderUnavailable, match=r"provider 'openvino': .* no OpenVINOExecution"):
        to_try(("cuda", "openvino"), BOTH)


@pytest.mark.parametrize(
    ("asked", "placement", "used", "fell_back"),
    [
        (("cuda",), ALL_ON_CUDA, "cuda", False),
        (("cuda",), MIXED, "cuda", False),
        (BOTH, ALL_ON_CUDA, "cuda", False),
        (BOTH, ALL_ON_CPU, "cpu", True),
        (("auto",), ALL_ON_CPU, "cpu", False),
        (("cpu",), ALL_ON_CPU, "cpu", False),
        # Rewrites have left nothing to do: nobody has fallen short.
        (("cuda",), Placement(), "cuda", False),
    ],
)
def test_what_became_of_a_wish(
    asked: tuple[str, ...], placement: Placement, used: str, *, fell_back: bool
) -> None:
    """In use is the first of the list that runs nodes."""
    outcome = judged(asked, {}, placement)
    assert (outcome.used, outcome.fell_back) == (used, fell_back)


def test_a_promise_is_broken_by_a_provider_that_does_nothing() -> None:
    """That it loaded is not enough."""
    with pytest.raises(ProviderUnavailable, match="took none of the model's 3 nodes"):
        judged(("cuda",), {}, ALL_ON_CPU)
    with pytest.raises(ProviderUnavailable, match="'tensorrt': it loaded, but took none"):
        judged(("tensorrt", "cuda"), {}, ALL_ON_CUDA)


def test_a_reason_is_kept_where_the_cpu_may_stand_in() -> None:
    """It is there for whoever asks why."""
    outcome = judged(BOTH, {"cuda": "no driver"}, ALL_ON_CPU)
    assert outcome.unavailable == {"cuda": "no driver"}
    assert outcome.fell_back
    with pytest.raises(ProviderUnavailable, match="provider 'cuda': no driver"):
        judged(("cuda",), {"cuda": "no driver"}, ALL_ON_CPU)


def test_strict_placement() -> None:
    """One node on the CPU is too much beside another provider, and none by itself."""
    assert judged(("auto",), {"cuda": "no driver"}, ALL_ON_CPU, strict=True).used == "cpu"
    for asked in (("cuda",), BOTH, ("auto",)):
        with pytest.raises(ProviderUnavailable, match=r"2 of 5 nodes .*: Gather x1, Shape x1"):
            judged(asked, {}, MIXED, strict=True)
        assert judged(asked, {}, ALL_ON_CUDA, strict=True).used == "cuda"
    with pytest.raises(ProviderUnavailable, match=r"Conv x3 \(provider 'cuda': no driver\)"):
        judged(BOTH, {"cuda": "no driver"}, ALL_ON_CPU, strict=True)
    assert judged(("cpu",), {}, ALL_ON_CPU, strict=True).used == "cpu"


def test_nodes_are_counted_by_provider_and_operator() -> None:
    """ONNX Runtime tells them in parts, several of one provider."""
    placement = placement_of(
        [
            ("CUDAExecutionProvider", ["Conv", "Relu"]),
            ("CPUExecutionProvider", ["Gather"]),
            ("CPUExecutionProvider", ["Shape", "Gather"]),
        ]
    )
    assert placement == Placement({"cpu": 3, "cuda": 2}, {"Gather": 2, "Shape": 1})
    assert placement.total == 5
