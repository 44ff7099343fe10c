"""ONNX Runtime's own options: what may be set, and how a wrong one is refused."""

from __future__ import annotations

import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ConfigurationError
from service.options import (
    ATTRIBUTES,
    ENTRIES,
    check_provider,
    options_by_provider,
    provider_options,
    session_options,
)


def refusal(options: object) -> str:
    """Return the text with which session options are refused."""
    with pytest.raises(ConfigurationError) as caught:
        session_options(options)
    return str(caught.value)


def test_values_become_what_the_runtime_reads() -> None:
    """Truth is 1 or 0, a number its digits; a table in a table is a name with dots."""
    nested = {"session": {"intra_op": {"allow_spinning": False, "spin_duration_us": 50}}}
    given = {"enable_mem_pattern": False, "graph_optimization_level": "ORT_ENABLE_BASIC", **nested}
    assert session_options(given) == {
        "enable_mem_pattern": "0",
        "graph_optimization_level": "ORT_ENABLE_BASIC",
        "session.intra_op.allow_spinning": "0",
        "session.intra_op.spin_duration_us": "50",
    }
    assert session_options({"session.intra_op.allow_spinning": "1"}) == {
        "session.intra_op.allow_spinning": "1"
    }


def test_an_unknown_option_is_named_with_what_is_allowed() -> None:
    """A slip of the pen gets a suggestion, since the runtime itself would say nothing."""
    said = refusal({"enable_mem_patern": True})
    assert said.startswith("ort.session: 'enable_mem_patern' is unknown; did you mean enable_mem_p")
    assert "allowed: enable_cpu_mem_arena, " in said
    assert "allowed: " in refusal({"zzz": 1})


@pytest.mark.parametrize(
    "name",
    [
        "optimized_model_filepath", "profile_file_prefix", "enable_profiling",
        "session.optimized_model_external_initializers_file_name", "register_custom_ops_library",
        "session.model_external_initializers_file_folder_path", "ep.context_file_path",
        "session.collect_node_memory_stats_to_file", "session.moe.offload.derived_cache_dir",
    ],
)  # fmt: skip
def test_what_touches_files_or_code_is_refused(name: str) -> None:
    """Who writes the file beside a model does not get to read or write others."""
    assert "is not allowed: it could read or write files or run code" in refusal({name: "x"})
    assert name not in {**ATTRIBUTES, **ENTRIES}


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("intra_op_num_threads", 0, "a whole number from 1 to 1024, got 0"),
        ("intra_op_num_threads", 2.5, "a whole number from 1 to 1024, got 2.5"),
        ("execution_mode", "FAST", "one of ORT_SEQUENTIAL, ORT_PARALLEL, got 'FAST'"),
        ("enable_mem_reuse", "yes", "one of 0, 1, got 'yes'"),
        ("session.intra_op_thread_affinities", "1;\n2", "a text of at most 200 characters"),
        ("session.dynamic_block_base", "²", "a whole number from 0 to 64"),
        ("log_severity_level", [1], "a whole number from 0 to 4, got [1]"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    option: str, value: object, allowed: str
) -> None:
    """The text holds the option, its range and what was seen."""
    said = refusal({option: value})
    assert said.startswith(f"ort.session: '{option}' takes ")
    assert allowed in said


def test_options_belong_to_the_provider_in_use() -> None:
    """What only a GPU knows is refused where the CPU runs the model."""
    options = provider_options({"use_tf32": True, "device_id": 1})
    assert options == {"use_tf32": "1", "device_id": "1"}
    check_provider(options, "cuda")
    check_provider({}, "cpu")
    with pytest.raises(ConfigurationError, match="'use_tf32' is no option of provider 'cpu'; "):
        check_provider(options, "cpu")
    with pytest.raises(ConfigurationError, match="'user_compute_stream' is unknown"):
        provider_options({"user_compute_stream": "4096"})


def test_every_attribute_is_one_of_the_runtime() -> None:
    """The table names what this release of ONNX Runtime has."""
    assert not [name for name in ATTRIBUTES if not hasattr(ort.SessionOptions(), name)]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
        lambda inner: st.dictionaries(
            st.sampled_from([*ATTRIBUTES, "session", "intra_op", "allow_spinning"]), inner
        ),
        max_leaves=6,
    )
)
def test_anything_is_options_or_is_refused(content: object) -> None:
    """Whatever TOML can hold, only listed options with texts come out."""
    try:
        options = session_options(content)
    except ConfigurationError:
        return
    assert set(options) <= {*ATTRIBUTES, *ENTRIES}
    assert all(isinstance(value, str) for value in options.values())


def by_provider_refusal(options: object) -> str:
    """Return why options by provider are refused."""
    with pytest.raises(ConfigurationError) as caught:
        options_by_provider(options)
    return str(caught.value)


def test_options_of_several_providers() -> None:
    """Known ones are checked against their list; of others plain values pass."""
    given = {
        "CUDAExecutionProvider": {"use_tf32": True, "gpu_mem_limit": 1 << 30},
        "tensorrt": {"trt_fp16_enable": True, "trt_max_workspace_size": 7},
        "QNNExecutionProvider": {"htp_performance_mode": "burst"},
    }
    assert options_by_provider(given) == {
        "cuda": {"use_tf32": "1", "gpu_mem_limit": "1073741824"},
        "tensorrt": {"trt_fp16_enable": "1", "trt_max_workspace_size": "7"},
        "QNNExecutionProvider": {"htp_performance_mode": "burst"},
    }
    assert options_by_provider({}) == {}


def test_options_of_providers_that_are_refused() -> None:
    """An unknown provider or option, a value of a wrong kind, and what names files or addresses."""
    assert "'tpu' is no provider" in by_provider_refusal({"tpu": {}})
    assert "expected a table of providers" in by_provider_refusal([])
    assert "ort.providers.cuda: 'use_tf23' is unknown" in by_provider_refusal(
        {"cuda": {"use_tf23": 1}}
    )
    assert "'trt_x' takes a text" in by_provider_refusal({"tensorrt": {"trt_x": 1.5}})
    for name in ("trt_engine_cache_path", "user_compute_stream", "gpu_external_alloc", "a b"):
        assert "could name a file, code or an address" in by_provider_refusal(
            {"tensorrt": {name: "1"}}
        )
