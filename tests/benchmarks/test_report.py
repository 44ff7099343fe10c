"""The report of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.cases import Case
from benchmarks.measure import Window
from benchmarks.runner import Findings
from benchmarks.summary import summarise
from tests.benchmarks.windows import window


def findings(*windows: Window) -> Findings:
    """Return what a run found that measured these windows."""
    machine: dict[str, str | int] = {
        "processor": "abacus",
        "cores": 2,
        "memory_gb": 1,
        "kernel": "6",
        "python": "3",
        "onnxruntime": "1",
    }
    found = Findings(machine, "today", 2.0, 3, {"ours": "as it comes"}, {"ours": "1.0"})
    found.windows += windows
    found.raw = {"cnn": {"1 x 1": [900.0, 1000.0, 1100.0], "2 x 1": [1900.0, 2000.0, 2100.0]}}
    found.complete = True
    return found


def test_a_row_shows_rate_latency_cpu_memory_and_share() -> None:
    """In requests/s, milliseconds, seconds a thousand requests, megabytes and percent."""
    rows = summarise([window(500, errors={"503": 7})], {"cnn": 2000.0})
    line = report.table(rows).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        *("cnn", "json", "1", "8 connections", "ours"),
        *("500", "500 - 500", "500", "1.00", "2.00", "0.500", "100", "25%", "1/1", "7 503"),
    ]


def test_a_server_that_gave_no_good_answer_has_neither_latency_nor_cost() -> None:
    """They are not shown as zero."""
    silent = window(0, p50=math.nan, p99=math.nan, cpu_per_request=math.nan)
    line = report.table(summarise([silent], {})).splitlines()[-1]
    assert "| 0 | - | - | - |" in line


def test_every_row_of_the_table_has_the_head_s_cells() -> None:
    """Also of open loops and of cases with health."""
    health = window(case=Case("resnet18", "json", 8, health=True), health_p99=0.004)
    opened = window(case=Case("cnn", "json", 256, factor=2.0), offered=200.0)
    lines = report.table(summarise([window(), health, opened], {})).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "health p99 4.00 ms" in lines[3]
    assert "open, 2 x" in lines[4]
    assert "offered 200/s" in lines[4]


def test_the_limit_is_the_best_arrangement_s_median() -> None:
    """And stands in the table."""
    found = findings()
    assert found.limits() == {"cnn": 2000.0}
    assert report.limits_table(found.raw).endswith("| cnn | 1,000 | 2,000 | **2,000** |")


def test_a_server_that_was_not_measured_is_reported_with_the_reason() -> None:
    """It is never dropped."""
    found = findings(window())
    found.problems["theirs"] = "it cannot be installed: no wheel"
    assert "**Not measured:** theirs: it cannot be installed: no wheel" in report.markdown(found)


def test_an_interrupted_run_says_that_cases_are_missing() -> None:
    """So that nobody takes it for a whole one."""
    found = findings(window())
    assert "interrupted" not in report.markdown(found)
    found.complete = False
    assert "interrupted" in report.markdown(found)


def test_the_json_is_strict_and_holds_every_window(tmp_path: Path) -> None:
    """What was not measured is null."""
    files = report.write(findings(window(), window(110)), tmp_path / "new", "run")
    assert [file.name for file in files] == ["run.md", "run.json"]

    def refuse(token: str) -> float:
        raise AssertionError(token)

    content = json.loads(files[1].read_text(), parse_constant=refuse)
    assert [each["rate"] for each in content["windows"]] == [100, 110]
    assert content["windows"][0]["health_p99"] is None
    assert content["rows"][0]["rate"] == 105


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    """With a panel a model, also where a server lacks a case."""
    pytest.importorskip("matplotlib", reason="needs the train extra")
    from benchmarks.plot import draw  # noqa: PLC0415

    binary = window(case=Case("rnn", "binary", 8), server="theirs")
    file = draw(summarise([window(), binary], {}), {"cnn": 2000.0}, tmp_path / "run.png")
    assert file.read_bytes().startswith(b"\x89PNG")
