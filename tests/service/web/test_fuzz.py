"""The fuzzer's decoders, on what was generated for the server as a whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import EngineFailure, ServiceError
from tests.faults.bodies import bodies
from tests.faults.fuzz import checked, fed, targets


@pytest.mark.parametrize("name", sorted(targets()))
@given(data=st.binary(max_size=300))
def test_any_bytes_end_in_a_value_or_a_declared_error(name: str, data: bytes) -> None:
    """Whichever decoder reads them."""
    checked(targets()[name], ServiceError)(data)


@pytest.mark.parametrize("name", sorted(targets()))
def test_damaged_calls_end_in_a_value_or_a_declared_error(name: str) -> None:
    """They come far into a decoder."""
    run = checked(targets()[name], ServiceError)
    for content in bodies(7, 500):
        run(fed(name, content))


def test_another_error_is_not_passed_over() -> None:
    """Neither one of another part of the server, nor one of Python."""

    def fail(data: bytes) -> object:
        raise EngineFailure("x") if data else ValueError("x")

    for data, error in ((b"a", EngineFailure), (b"", ValueError)):
        with pytest.raises(error):
            checked(fail, ServiceError)(data)
