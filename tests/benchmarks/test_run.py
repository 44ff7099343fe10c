"""A whole run, as short as it can be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.__main__ import main


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_run_checks_and_measures_a_server_and_reports_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line to the files, with one closed and one open loop."""
    folders = ["--cache", str(tmp_path / "cache"), "--results", str(tmp_path)]
    case = ["--servers", "fastapi", "--models", "cnn", "--encodings", "json", "--connections", "2"]
    length = ["--factors", "0.5", "--seconds", "0.4", "--repeats", "1", "--name", "short"]
    main(["run", *folders, *case, *length])
    assert "| cnn | json | 1 | 2 connections | fastapi |" in capsys.readouterr().out
    content = json.loads((tmp_path / "short.json").read_text())
    closed, opened = content["windows"]
    assert closed["rate"] > 0
    assert closed["cpu_per_request"] > 0
    assert 0 < opened["offered"] < closed["rate"]
    assert content["complete"]
    assert content["limits"]["cnn"] > closed["rate"]


def test_a_wrong_name_ends_the_command_with_a_sentence() -> None:
    """Not with a traceback."""
    with pytest.raises(SystemExit, match="benchmarks: model 'dog': must be one of cnn, "):
        main(["run", "--models", "dog"])
