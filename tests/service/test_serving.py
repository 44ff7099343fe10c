"""serving.toml: what it may say, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import ConfigurationError
from service.serving import (
    All,
    BatchingRules,
    Latest,
    OrtRules,
    ServingRules,
    Specific,
    VersionPolicy,
    choose,
    parse_rules,
    read_rules,
)


def refusal(folder: Path, text: str) -> str:
    """Return the text with which a file is refused."""
    (folder / "serving.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_rules(folder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("", ServingRules()),
        ('versions = "all"', ServingRules(versions=All())),
        ('providers = "auto"', ServingRules(providers=("auto",))),
        (
            'providers = ["CUDAExecutionProvider", "cpu"]\nstrict_placement = true',
            ServingRules(providers=("cuda", "cpu"), strict_placement=True),
        ),
        ("cuda_graphs = false", ServingRules(cuda_graphs=False)),
        (
            "[ort.providers.tensorrt]\ntrt_fp16_enable = true",
            ServingRules(ort=OrtRules(providers={"tensorrt": {"trt_fp16_enable": "1"}})),
        ),
        ("versions = {latest = 3}", ServingRules(versions=Latest(3))),
        ("versions = {specific = [7, 2, 7]}", ServingRules(versions=Specific((2, 7)))),
        ('verify = "advisory"', ServingRules(verify="advisory")),
        ('profile = "latency"', ServingRules(profile="latency")),
        (
            '[batching]\nmax_rows = 8\nmax_wait_ms = 2.5\nrun = "tick"',
            ServingRules(batching=BatchingRules(8, 2.5, "tick")),
        ),
        (
            "[ort]\nsession = {enable_mem_pattern = false}\nprovider = {use_tf32 = 1}",
            ServingRules(ort=OrtRules({"enable_mem_pattern": "0"}, {"use_tf32": "1"})),
        ),
        ("[labels]\nstable = 7\nnext = 8", ServingRules(labels={"stable": 7, "next": 8})),
    ],
)
def test_what_it_may_say(tmp_path: Path, text: str, rules: ServingRules) -> None:
    """Each key may be left out, and stands for itself."""
    (tmp_path / "serving.toml").write_text(text)
    assert read_rules(tmp_path) == rules


def test_a_model_needs_none(tmp_path: Path) -> None:
    """Without the file the rules are those of an empty one."""
    assert read_rules(tmp_path) == ServingRules()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("version = 1", "unknown key 'version'; did you mean versions?"),
        ("zzz = 1", "unknown key 'zzz'; known are versions, labels, verify"),
        ('profile = "fast"', "profile: expected one of throughput, latency, got 'fast'"),
        ("batching = 3", "batching: expected a table [batching], got 3"),
        ("[batching]\nmax_row = 1", "unknown key 'batching.max_row'; did you mean max_rows?"),
        ("[batching]\nmax_rows = 0", "batching.max_rows: expected a whole number from 1 to 65536"),
        ("[batching]\nmax_rows = true", "got True"),
        ("[batching]\nmax_wait_ms = -1", "batching.max_wait_ms: expected a number from 0 to 10000"),
        ("[batching]\nmax_wait_ms = nan", "got nan"),
        ("[batching]\nrun = 'loop'", "batching.run: expected one of tick, threads, got 'loop'"),
        ("[ort]\nsessions = {}", "unknown key 'ort.sessions'; did you mean session?"),
        ("[ort]\nsession = 1", "ort.session: expected a table of options, got 1"),
        ("[ort.session]\nzzz = 1", "ort.session: 'zzz' is unknown; allowed: enable_cpu_mem_arena"),
        ('versions = "some"', 'versions: expected "all", {latest = N}'),
        ("versions = {latest = 0}", "{'latest': 0}"),
        ("versions = {latest = true}", "{'latest': True}"),
        ("versions = {latest = 1, specific = [1]}", "versions: expected"),
        ("versions = {specific = []}", "versions: expected"),
        ("versions = {specific = [1, -1]}", "versions: expected"),
        ("versions = 3", "got 3"),
        ("providers = 3", "providers: expected auto, or names in order of preference"),
        ('providers = ["cpu", 3]', "got ['cpu', 3]"),
        ('providers = ["tpu"]', "providers: 'tpu' is no provider"),
        ("providers = []", "providers: an empty list is no provider"),
        ("strict_placement = 1", "strict_placement: expected true or false, got 1"),
        ("labels = 3", "labels: expected {name = version}, got 3"),
        ('labels = {"a b" = 1}', "labels: 'a b' cannot be a label"),
        ('labels = {stable = "7"}', "labels.stable: expected a version above 0, got '7'"),
        ('verify = "of"', "verify: expected one of enforce, advisory, off, got 'of'"),
        ("verify = [1]", "verify: expected one of"),
        ("versions = ", "not TOML"),
        ("a = " + "[" * 100_000, "not TOML"),
    ],
)
def test_a_wrong_file_is_named_with_the_key_and_the_value(
    tmp_path: Path, text: str, reason: str
) -> None:
    """The text leads to the slip of the pen, and a slip of a key to what was meant."""
    said = refusal(tmp_path, text)
    assert said.startswith(f"{tmp_path / 'serving.toml'}: ")
    assert reason in said


def test_a_file_that_cannot_be_one(tmp_path: Path) -> None:
    """Other bytes than text, and more of them than a person writes, are refused."""
    assert "larger than 1048576 bytes" in refusal(tmp_path, "#" * (1 << 20) + "\n")
    (tmp_path / "serving.toml").write_bytes(b"verify = \xff")
    with pytest.raises(ConfigurationError, match="not TOML"):
        read_rules(tmp_path)


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        (Latest(), {12}),
        (Latest(2), {3, 12}),
        (Latest(9), {2, 3, 12}),
        (All(), {2, 3, 12}),
        (Specific((3, 7)), {3, 7}),
    ],
)
def test_which_versions_a_policy_wants(policy: VersionPolicy, chosen: set[int]) -> None:
    """Versions are compared as numbers; what is asked for by number need not be there."""
    assert choose(policy, [3, 12, 2]) == chosen
    assert choose(Latest(2), []) == set()


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["versions", "labels", "verify", "profile", "batching", "ort", "max_rows", "run", "session"]
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(KEYS, JSON_LIKE))
def test_any_content_is_rules_or_is_refused(content: dict[str, object]) -> None:
    """Whatever TOML can hold, nothing but a refusal comes out of it."""
    try:
        rules = parse_rules(content)
    except ConfigurationError:
        return
    assert choose(rules.versions or All(), [1, 2]) is not None
    assert all(version > 0 for version in rules.labels.values())
