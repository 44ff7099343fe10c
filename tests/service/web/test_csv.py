"""Tables of numbers as comma-separated values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.web.platforms import read_csv


@given(
    st.lists(
        st.lists(
            st.one_of(
                st.integers(-(2**63), 2**63 - 1),
                st.floats(allow_nan=False, allow_infinity=False),
            ),
            min_size=1,
        ),
        min_size=1,
    )
)
def test_csv_returns_what_was_written(rows: list[list[int | float]]) -> None:
    """Whole numbers stay exact, others come back as the same float."""
    text = "\n".join(",".join(repr(number) for number in row) for row in rows)
    assert read_csv(text.encode()) == rows


@given(st.binary(max_size=200))
def test_csv_takes_or_refuses_any_bytes(body: bytes) -> None:
    """Nothing but rows of finite numbers comes out, and nothing but InvalidRequest is raised."""
    try:
        rows = read_csv(body)
    except InvalidRequest:
        return
    json.dumps(rows, allow_nan=False)


@pytest.mark.parametrize("body", [b"", b"\n\n", b"  \r\n"])
def test_csv_without_a_number(body: bytes) -> None:
    """Blank lines are no rows."""
    with pytest.raises(InvalidRequest, match="empty"):
        read_csv(body)


@pytest.mark.parametrize("field", ["nan", "inf", "1e999", "1_0", "٣", "0x1", "1 2", '"1'])
def test_csv_refuses_other_spellings(field: str) -> None:
    """What is no plain finite number is named with its place, or is malformed."""
    with pytest.raises(InvalidRequest, match="line 1"):
        read_csv(field.encode())
