"""What a load decides about a model's runs: measured, remembered, overruled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.batcher import BatchPolicy
from service.calibration import Calibration, Limits
from service.errors import ConfigurationError
from service.loader import Loaded, LoadOptions, load_model, options_for
from service.repository import scan
from service.serving import BatchingRules
from service.tuning import TuningOptions, tuned, warm_up_plan
from tests.support import graphs, models

TICK = Calibration({1: 1e-4, 2: 2e-4, 4: 4e-4}, 2, "tick", 4, 64, "one row takes 0.1 ms")
THREADS = Calibration({1: 1e-2, 2: 2e-2}, 1, "threads", 0, None, "one row takes 10 ms")
# Nothing is too dear, so that only the graph decides.
PATIENT = Limits(max_rows=4, loop_seconds=60)


def loaded(path: Path, cache: Path | None = None, **changes: Any) -> Loaded:
    """Load the only model at a path as a server does."""
    options = LoadOptions(
        max_rows=4, tuning=TuningOptions(calibrate=True, cache=cache, limits=PATIENT)
    )
    (found,) = scan(path)
    return load_model(found, options_for(found, replace(options, **changes)), lambda _: None)


def tuning_of(model: Loaded) -> dict[str, Any]:
    """Return what model-info says."""
    shown = model.info["tuning"]
    assert isinstance(shown, dict)
    return shown


def test_what_was_measured_holds() -> None:
    """Without a word of the operator, and it is said that it was measured."""
    found = tuned(TICK, BatchingRules(), max_rows=32, never="")
    assert (found.max_rows, found.run, found.tick_rows, found.tick_length) == (2, "tick", 4, 64)
    assert (found.max_rows_by, found.run_by) == ("calibration", "calibration")
    assert found.why == "one row takes 0.1 ms"


def test_without_a_measurement_the_servers_limit_holds() -> None:
    """Nothing runs in the loop whose cost is not known."""
    found = tuned(None, BatchingRules(), max_rows=32, never="")
    assert (found.max_rows, found.max_rows_by, found.run) == (32, "max_batch_rows", "threads")
    unknown = Calibration({}, 32, "threads", 0, None, "nothing was measured")
    assert tuned(unknown, BatchingRules(), max_rows=32, never="").max_rows_by == "max_batch_rows"


@pytest.mark.parametrize(
    ("measured", "rules", "expected"),
    [
        (TICK, BatchingRules(max_rows=16), (16, "tick", 4)),
        (TICK, BatchingRules(run="threads"), (2, "threads", 0)),
        (THREADS, BatchingRules(run="tick"), (1, "tick", 1)),
        (None, BatchingRules(max_rows=7, run="tick"), (7, "tick", 1)),
    ],
)
def test_the_operator_overrules_it(
    measured: Calibration | None, rules: BatchingRules, expected: tuple[int, str, int]
) -> None:
    """What is asked for is done, for one row in the loop even where that is dear."""
    found = tuned(measured, rules, max_rows=32, never="")
    assert (found.max_rows, found.run, found.tick_rows) == expected
    assert (found.max_rows_by == "serving.toml") == (rules.max_rows is not None)
    assert (found.run_by == "serving.toml") == (rules.run is not None)


def test_some_graphs_never_run_in_the_loop() -> None:
    """Not even for the operator; the reason is said."""
    slow = replace(TICK, run="threads", tick_rows=0, why="the work of Loop depends on the values")
    found = tuned(slow, BatchingRules(run="tick"), max_rows=32, never=slow.why)
    assert (found.run, found.tick_rows, found.run_by) == ("threads", 0, "calibration")
    assert found.why == "serving.toml asks for tick, but the work of Loop depends on the values"


def test_the_policy_of_a_model() -> None:
    """The server's limits hold but for what was decided, and for the wait that was asked for."""
    base = BatchPolicy(max_rows=32, queue_rows=9, concurrency=4, max_wait=0.5)
    found = tuned(TICK, BatchingRules(), max_rows=32, never="")
    policy = found.policy(base, batchable=True, max_wait_ms=None)
    changed = {"max_rows": 2, "run": "tick", "tick_rows": 4, "tick_length": 64}
    assert policy == replace(base, **changed)  # type: ignore[arg-type] # as in a table
    assert found.policy(base, batchable=True, max_wait_ms=0).max_wait == 0
    assert found.policy(base, batchable=False, max_wait_ms=3).max_wait == pytest.approx(0.003)
    single = tuned(TICK, BatchingRules(), max_rows=32, never="", one_at_a_time=True)
    assert single.policy(base, batchable=True, max_wait_ms=None).concurrency == 1


def test_a_bare_file_is_calibrated_with_random_rows(tmp_path: Path) -> None:
    """Every batch size has its time in model-info; a doubler is cheap enough for the loop."""
    shown = tuning_of(loaded(models.write_doubler(tmp_path / "m.onnx")))
    assert set(shown["calibrated"]["seconds"]) == {"1", "2", "4"}
    assert (shown["run"], shown["tick_rows"], shown["tick_length"]) == ("tick", 4, None)
    assert shown["max_rows"] == shown["calibrated"]["cap"]


def test_a_free_length_is_calibrated_too(tmp_path: Path) -> None:
    """Of a bare file at what is usual, of a bundle at the longest that its contract allows."""
    bare = models.write_doubler(tmp_path / "bare" / "m.onnx", axes=("n", "t", 2))
    assert tuning_of(loaded(bare))["tick_length"] == 64
    bundle = models.series_bundle(tmp_path / "bundles")
    pipeline = bundle.manifest.pipeline
    assert pipeline.kind == "sequence"
    for verify in ("enforce", "off"):
        model = loaded(bundle.path, verify=verify)
        assert tuning_of(model)["tick_length"] == pipeline.max_length
    pictures = models.picture_bundle(tmp_path / "pictures")
    assert tuning_of(loaded(pictures.path))["tick_length"] is None


def test_a_restart_remembers(tmp_path: Path) -> None:
    """With the same cache the table is the same one; without, or for another file, it is new."""
    path, cache = models.write_doubler(tmp_path / "m.onnx"), tmp_path / "cache"
    first, again = (tuning_of(loaded(path, cache))["calibrated"] for _ in range(2))
    assert (first["from_cache"], again["from_cache"]) == (False, True)
    assert first["seconds"] == again["seconds"]
    assert not tuning_of(loaded(path))["calibrated"]["from_cache"]
    assert not tuning_of(loaded(path, cache, max_rows=8))["calibrated"]["from_cache"]
    other = graphs.write_relu(tmp_path / "other" / "m.onnx", 13)
    assert not tuning_of(loaded(other, cache))["calibrated"]["from_cache"]


def test_graphs_that_must_not_run_in_the_loop(tmp_path: Path) -> None:
    """Those whose rows depend on each other, and those that nobody has looked into."""
    model = models.write_doubler(tmp_path / "m.onnx")
    packed = graphs.to_ort_format(model, tmp_path / "packed" / "m.ort")
    centred = graphs.write_centred(tmp_path / "centred" / "m.onnx")
    for path, reason in (
        (packed, "not inspected"),
        (centred, "rows are not known to be independent"),
    ):
        shown = tuning_of(loaded(path))
        assert shown["run"] == "threads"
        assert reason in shown["why"]


def test_what_a_models_operator_says(tmp_path: Path) -> None:
    """The file beside a model's versions decides its batches, its profile and its options."""
    models.write_doubler(tmp_path / "m" / "1" / "model.onnx")
    (tmp_path / "m" / "serving.toml").write_text(
        'profile = "latency"\n'
        "[batching]\nmax_rows = 3\nrun = 'threads'\nmax_wait_ms = 1.5\n"
        "[ort.session]\nenable_mem_pattern = false\n"
        '"session.set_denormal_as_zero" = 1\n'
    )
    model = loaded(tmp_path, cores=2)
    shown, runtime = tuning_of(model), model.info["runtime"]
    assert isinstance(runtime, dict)
    assert (shown["max_rows"], shown["max_rows_by"], shown["run_by"]) == (3, *["serving.toml"] * 2)
    assert runtime["profile"] == "latency"
    assert (runtime["intra_op_threads"], runtime["inter_op_threads"]) == (2, 1)
    options = runtime["session_options"]
    assert options["session.intra_op.spin_duration_us"] == "200"
    assert options["session.set_denormal_as_zero"] == "1"
    assert options["enable_mem_pattern"] is False
    assert model.tuning is not None
    policy = model.tuning.policy(BatchPolicy(concurrency=4), batchable=True, max_wait_ms=1.5)
    assert (policy.concurrency, policy.run) == (1, "threads")


def test_an_option_of_another_provider_fails_the_load(tmp_path: Path) -> None:
    """Asking the CPU for tensor cores is a mistake that is told, not swallowed."""
    models.write_doubler(tmp_path / "m" / "1" / "model.onnx")
    (tmp_path / "m" / "serving.toml").write_text("[ort.provider]\nuse_tf32 = true\n")
    cpu = replace(LoadOptions().engine, providers=("cpu",))
    with pytest.raises(ConfigurationError, match="'use_tf32' is no option of provider 'cpu'"):
        loaded(tmp_path, engine=cpu)


def test_a_model_without_calibration_answers(tmp_path: Path) -> None:
    """As on the command line, where one answer is not worth a second of measuring."""
    model = loaded(models.write_doubler(tmp_path / "m.onnx"), tuning=TuningOptions())
    assert "calibrated" not in tuning_of(model)
    assert tuning_of(model)["why"] == "not calibrated"
    answer = model.engine.run({"x": np.ones((1, 2), np.float32)}, ["y"])
    assert answer["y"].tolist() == [[2, 2]]


def test_what_is_run_before_a_model_is_ready() -> None:
    """On the CPU what was measured; on a device every size and length, three times each."""
    assert warm_up_plan([1, 2, 4, 8], 4, 64, on_device=False) == [(1, 64), (2, 64), (4, 64)]
    once = [(1, None), (2, None), (4, None), (6, None)]
    assert warm_up_plan([], 6, None, on_device=True) == [one for one in once for _ in range(3)]
    plan = warm_up_plan([], 2, 14, on_device=True)
    assert sorted(set(plan)) == [(rows, n) for rows in (1, 2) for n in (8, 12, 14)]
    assert len(plan) == 3 * len(set(plan))
