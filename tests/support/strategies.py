"""Random tensors of every datatype of the wire."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.tensors import DATATYPES, Tensor

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
