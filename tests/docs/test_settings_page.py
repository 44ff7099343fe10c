"""The page of settings says what the code does."""

from __future__ import annotations

from pathlib import Path

from settings_reference import reference

from service.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_what_the_code_writes() -> None:
    """Who adds a setting and forgets scripts/settings_reference.py is told here."""
    assert PAGE.read_text(encoding="utf-8") == reference()


def test_every_setting_has_a_line_with_bounds_and_default() -> None:
    """A number's bounds, a choice's words, a secret's file: what one needs to set it."""
    lines = reference().splitlines()
    for name in Settings.model_fields:
        assert any(line.startswith(f"| `{name}` |") for line in lines)
    assert "| `port` | whole number, 0 or more, at most 65,535 | `8080` |" in reference()
    assert "| `verify` | `enforce`, `advisory`, `off` | `enforce` |" in reference()
    assert "| `workers` | `auto` or whole number, 1 or more, at most 256 | `auto` |" in reference()
    assert "| `otlp_headers` | text, secret; or `ONNXPORT_OTLP_HEADERS_FILE` |" in reference()
