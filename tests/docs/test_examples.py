"""The documentation's examples do what they show."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from service.app import create_app
from service.client import Client
from service.settings import Settings
from tests.support import models
from tests.support.remote import running

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "client.md"
ADDRESS = "http://127.0.0.1:8080"
BLOCK = re.compile(r"(?:<!-- needs: (\w+) -->\n)?```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Example:
    """One fenced block, and the server's extension that it needs, if any."""

    needs: str
    line: int
    text: str

    def compiled(self, address: str) -> CodeType:
        """Return the block as code whose tracebacks name the page's lines."""
        text = self.text.replace(ADDRESS, address)
        return compile("\n" * (self.line - 1) + text, str(PAGE), "exec")


def examples() -> list[Example]:
    """Return the page's Python blocks in order."""
    page = PAGE.read_text(encoding="utf-8")
    return [
        Example(found[1] or "", page[: found.start(2)].count("\n") + 1, found[2])
        for found in BLOCK.finditer(page)
    ]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Return a server whose tiny models have the names and inputs of the trained ones."""
    models.picture_bundle(tmp_path, "fashion")
    models.series_bundle(tmp_path, "vowels", channels=12, max_length=32)
    models.text_bundle(tmp_path, "mails")
    with running(create_app(Settings(repository=tmp_path, access_log=False))) as served:
        yield served


def test_the_client_page(
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every Python block runs, in order, from a checkout beside a server."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    with Client(address) as client:
        client.wait_until_ready()
        extensions = client.server().extensions
    found = examples()
    assert len(found) >= 8
    names: dict[str, Any] = {"__name__": "example"}
    for example in found:
        if not example.needs or example.needs in extensions:
            exec(example.compiled(address), names)
    printed = capsys.readouterr().out
    assert "['fashion', 'mails', 'vowels']" in printed
    assert "404" in printed
    assert "something else" not in printed


def test_a_block_that_breaks_names_its_line() -> None:
    """A traceback leads to the place in the page."""
    first = examples()[0]
    assert (
        PAGE.read_text(encoding="utf-8").splitlines()[first.line - 1] == first.text.split("\n")[0]
    )
    with pytest.raises(ZeroDivisionError) as caught:
        exec(Example("", first.line, "1 / 0").compiled(ADDRESS), {})
    last = caught.traceback[-1]
    assert (last.path, last.lineno + 1) == (PAGE, first.line)
