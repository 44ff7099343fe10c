"""The model card of a lower precision: what it gives up and gains, and the card of its origin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

_CARD = """# {name}, {precision}

The network of `{name}` in {precision}. The FP32 `model.onnx` that it was made of has the SHA-256
`{sha256}`.

| | FP32 | {precision} |
| --- | --- | --- |
{rows}

The gate: {labels} of {count} labels changed on the {split} rows, where accuracy went from {before}
to {after}; a loss of {margin} was allowed. The largest difference between two probabilities was
{max_abs}. `precision.json` holds all figures.

{advice}

## The FP32 model
"""
_TOGETHER = "Rows are independent of each other, so a server runs them together."
_ALONE = (
    "A row's answer depends a little on the rows beside it, because the 8-bit scales are found "
    "over all rows of a run. So each row runs by itself, and a busy server gains less than a lone "
    "caller."
)
_GPU = "It is made for a GPU. Its figures were taken on a CPU, where FP16 is not faster."


def lower_card(name: str, record: Json, metrics: Json, before: Json, origin: str) -> str:
    """Return the card of a bundle in a lower precision.

    ``record`` is the content of ``precision.json``, ``metrics`` and ``before`` are those of the new
    bundle and of the one that it was made of, and ``origin`` is the latter's card.
    """
    gate = record["gate"]
    notes = [_GPU] if record["precision"] == "fp16" else []
    notes.append(_TOGETHER if record["rows_independent"] else _ALONE)
    head = _CARD.format(
        name=name,
        precision=record["precision"],
        sha256=record["made_of"]["sha256"],
        rows="\n".join(_rows(record, metrics, before)),
        labels=gate["labels_changed"],
        count=gate["rows"],
        split=gate["split"],
        before=f"{gate['accuracy_fp32']:.4f}",
        after=f"{gate['accuracy']:.4f}",
        margin=f"{record['demanded']['margin']:g}",
        max_abs=f"{gate['max_abs']:.3g}",
        advice=" ".join(notes),
    )
    return head + _demoted(origin)


def _rows(record: Json, metrics: Json, before: Json) -> list[str]:
    rows = [
        ("accuracy on the test rows", _accuracy(before), _accuracy(metrics)),
        ("bytes", f"{record['made_of']['bytes']:,}", f"{record['bytes']:,}"),
    ]
    speed = record["speed"]
    if speed is not None:
        old, new = speed["fp32"], speed["lower"]
        for title, key in (("ms a row alone", "alone_ms"), ("ms a row, busy server", "served_ms")):
            rows.append((title, f"{old[key]:.3f}", f"{new[key]:.3f}"))
    return [f"| {title} | {old} | {new} |" for title, old, new in rows]


def _accuracy(metrics: Json) -> str:
    accuracy = metrics.get("accuracy")
    if accuracy is None:
        return "unknown"
    return f"{accuracy['value']:.4f} ({accuracy['low']:.4f} to {accuracy['high']:.4f})"


def _demoted(card: str) -> str:
    """Return the card one heading lower, its title as the first of them."""
    if not card:
        return "\nIt came without a card.\n"
    lines = [f"#{line}" if line.startswith("#") else line for line in card.splitlines()]
    return "\n" + "\n".join(lines) + "\n"
