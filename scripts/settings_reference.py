"""Write docs/settings.md from the settings themselves.

    settings_reference [FILE]

FILE is docs/settings.md where none is given.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.settings import ENV_PREFIX, Settings, is_secret, setting_names

PAGE = Path("docs/settings.md")
_KINDS = {
    "array": "names, with commas",
    "boolean": "true or false",
    "null": "nothing",
    "string": "text",
}
_HEAD = """\
# Settings

`scripts/settings_reference.py` writes this page from the code.

Each setting is a flag of `onnxport serve`, a variable and a key of `onnxport.toml`:
`--queue-rows 64`, `ONNXPORT_QUEUE_ROWS=64`, `queue_rows = 64`. The strongest source wins:

1. the flag
2. the variable `ONNXPORT_...`; for a secret, `ONNXPORT_..._FILE` may name a file that holds it
3. what the hosting platform says (KServe, SageMaker, Vertex AI), see [protocol.md](protocol.md)
4. the file: `onnxport.toml` in the working folder, or what `--config` or `ONNXPORT_CONFIG` names
5. the default

An unknown key or variable is refused, with the nearest known one. `onnxport config show` prints
every value as it holds here, and where it comes from; it takes the flags of `serve`, and
`--output json`. Secrets are not shown.

| setting | takes | default | what it is |
|---|---|---|---|
"""


def reference() -> str:
    """Return the page."""
    schema = Settings.model_json_schema()
    shared = schema.get("$defs", {})
    parts = {name: _resolved(schema["properties"][name], shared) for name in setting_names()}
    rows = [
        f"| `{name}` | {_takes(name, part)} | {_default(name)} | {_cell(part['description'])} |"
        for name, part in parts.items()
    ]
    return _HEAD + "\n".join(rows) + "\n"


def _resolved(part: Mapping[str, Any], shared: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a member's schema with what it refers to."""
    if "$ref" in part:
        return {**shared[part["$ref"].rpartition("/")[2]], **part}
    return part


def _takes(name: str, part: Mapping[str, Any]) -> str:
    if is_secret(name):
        return f"text, secret; or `{ENV_PREFIX}{name.upper()}_FILE`"
    return _kind(part)


def _kind(part: Mapping[str, Any]) -> str:
    """Return in words what a schema allows."""
    if "anyOf" in part:
        return " or ".join(_kind(one) for one in part["anyOf"])
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if "const" in part:
        return f"`{part['const']}`"
    kind = str(part.get("type"))
    if kind in {"integer", "number"}:
        return _number("whole number" if kind == "integer" else "number", part)
    return "a path" if part.get("format") == "path" else _KINDS[kind]


def _number(word: str, part: Mapping[str, Any]) -> str:
    least, above = part.get("minimum"), part.get("exclusiveMinimum")
    most = part.get("maximum")
    bounds = [f"{least:,} or more" if least is not None else ""]
    bounds += [f"above {above:,}" if above is not None else ""]
    bounds += [f"at most {most:,}" if most is not None else ""]
    return ", ".join([word, *filter(None, bounds)])


def _default(name: str) -> str:
    default = Settings.model_fields[name].default
    if isinstance(default, tuple):
        default = ",".join(default)
    if isinstance(default, bool):
        default = str(default).lower()
    return f"`{default}`" if default not in ("", None) else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    (Path(sys.argv[1]) if sys.argv[1:] else PAGE).write_text(reference(), encoding="utf-8")
