"""What `service.errors` promises."""

from __future__ import annotations

import orjson
import pytest

from service import errors
from service.errors import BundleError, ModelNotFound, Overloaded, ServiceError


def test_every_error_has_a_code_for_machines() -> None:
    """A code is one plain word, and nobody but the base is called internal."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.__name__: kind.code for kind in kinds if issubclass(kind, ServiceError)}
    assert all(code.isidentifier() and code.islower() for code in codes.values())
    assert [name for name, code in codes.items() if code == "internal"] == ["ServiceError"]


@pytest.mark.parametrize(
    ("name", "shown"), [("café", "café"), ("caf\udce9", r"caf\udce9"), ("a\nb", "a\nb")]
)
def test_every_text_can_be_written(name: str, shown: str) -> None:
    """A file whose name is not UTF-8 may be named in any answer and on any terminal."""
    text = str(BundleError(f"{name}: damaged"))
    assert text == f"{shown}: damaged"
    assert orjson.loads(orjson.dumps(text)) == text


def test_a_model_that_is_not_found() -> None:
    """The text holds the words that Triton's clients look for, and what was asked for."""
    assert str(ModelNotFound("a")) == "Request for unknown model: 'a' is not found"
    assert str(ModelNotFound("a", 0)) == "Request for unknown model: 'a' version 0 is not found"
    text = str(ModelNotFound("a", label="stable"))
    assert text == "Request for unknown model: 'a' label 'stable' is not found"


def test_a_wait_is_advised() -> None:
    """The wait is a number of its own beside the text, one second if nothing else is known."""
    assert Overloaded("full").retry_after == 1
    error = Overloaded("full", retry_after=7)
    assert (str(error), error.retry_after) == ("full", 7)
