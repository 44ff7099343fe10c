"""Values that several property tests draw."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.tensors import DATATYPES, Tensor

# What a JSON parser can hand over, nested at will; every code point but lone surrogates.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw the content with its end cut off, or with a few bytes changed, inserted or taken out."""
    if draw(st.integers(0, 5)) == 0:
        return content[: draw(st.integers(0, len(content) - 1))]
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(changed)))
        end = min(len(changed), start + draw(st.integers(0, 4)))
        changed[start:end] = draw(st.binary(max_size=4))
    return bytes(changed)


def numbers() -> st.SearchStrategy[np.dtype[Any]]:
    """Draw the element type of a datatype, of those that numpy has itself and holds as bytes."""
    known = (datatype.numpy for datatype in DATATYPES.values())
    return st.sampled_from([dtype for dtype in known if dtype.kind in "biuf"])


def rows(dtype: np.dtype[Any], *, at_most: int) -> st.SearchStrategy[list[Tensor]]:
    """Draw one or more arrays [length, ...] of different lengths, their other axes the same."""

    def of(trailing: tuple[int, ...]) -> st.SearchStrategy[list[Tensor]]:
        row = st.integers(0, 4).flatmap(lambda n: arrays.arrays(dtype, (n, *trailing)))
        return st.lists(row, min_size=1, max_size=at_most)

    return arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3).flatmap(of)


Shape = tuple[int, ...]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@st.composite
def tensors(draw: st.DrawFn, datatype: str, *, shapes: st.SearchStrategy[Shape] = SHAPES) -> Tensor:
    """Return an array of a datatype; floats of any bits, texts of any characters."""
    shape, dtype = draw(shapes), DATATYPES[datatype].numpy
    if datatype == "BF16":
        # hypothesis does not know the type, but any two bytes are one.
        return draw(arrays.arrays(np.uint16, shape)).view(dtype)
    elements: st.SearchStrategy[Any] | None = None
    if datatype == "BYTES":
        elements = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    return draw(arrays.arrays(dtype, shape, elements=elements))
