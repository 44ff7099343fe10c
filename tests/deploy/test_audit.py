"""The verdict over the packages of a release."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from audit import main, verdict

CLEAN = {"name": "numpy", "version": "2.4.6", "vulns": []}
SKIPPED = {"name": "orjson", "skip_reason": "Dependency not found"}
VULNERABLE = {"name": "pillow", "version": "1.0", "vulns": [{"id": "PYSEC-1"}, {"id": "PYSEC-2"}]}


def ended(folder: Path, *packages: object) -> int:
    """Return the exit code for a report of these packages."""
    report = folder / "report.json"
    report.write_text(json.dumps({"dependencies": packages, "fixes": []}))
    return main("cpu", report)


def test_packages_are_audited_skipped_or_vulnerable() -> None:
    """A package without an answer counts neither as good nor as bad."""
    found = verdict({"dependencies": [CLEAN, SKIPPED, VULNERABLE]})
    assert found.audited == 2
    assert found.skipped == ["orjson"]
    assert found.vulnerable == ["pillow 1.0: PYSEC-1, PYSEC-2"]


def test_a_vulnerability_fails_a_release(tmp_path: Path) -> None:
    """Nothing else does by itself."""
    assert ended(tmp_path, CLEAN, SKIPPED) == 0
    assert ended(tmp_path, CLEAN, VULNERABLE) == 1


def test_no_answer_fails_only_where_the_audit_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does it pass unsaid."""
    silent = tmp_path / "silent"
    silent.write_text("")
    assert main("cpu", silent) == 0
    assert "not done" in capsys.readouterr().out
    monkeypatch.setenv("AUDIT", "required")
    assert main("cpu", silent) == 1
    assert ended(tmp_path, CLEAN, SKIPPED) == 1
    assert ended(tmp_path, CLEAN) == 0
