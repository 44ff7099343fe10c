"""Which nodes of a graph do work that depends on the values of its inputs, not on their shapes."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from onnx import NodeProto

# They run other graphs as often, or only, as their inputs say.
_CONTROL = {"Loop", "Scan", "If", "SequenceMap"}
_CONTROL |= {"BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"}
# The sizes of their outputs are only known when they have run.
_VALUE_SIZED = {"NonZero", "Unique", "Compress", "NonMaxSuppression", "NonMaxSuppressionV2"}
_VALUE_SIZED |= {"RoiAlign", "StringSplit", "Tokenizer", "TfIdfVectorizer", "ImageDecoder"}
# These inputs say how large an output is.  Most graphs compute them from shapes alone.
_SIZE_INPUTS = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (2, 3),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "SplitToSequence": (1,),
    "Tile": (1, 2),
    "TopK": (1,),
    "Upsample": (1,),
}
_OF_SHAPES = {"Shape", "Size"}


def value_dependent(nodes: Iterable[NodeProto], inputs: Iterable[str]) -> frozenset[str]:
    """Return the operators among ``nodes``, in order, whose work the values of ``inputs`` decide.

    What holds a graph of its own counts among them, whatever it is.
    """
    tainted = set(inputs)
    found = set()
    for node in nodes:
        if _depends(node, tainted):
            found.add(node.op_type)
        if node.op_type not in _OF_SHAPES and not tainted.isdisjoint(node.input):
            tainted.update(node.output)
    return frozenset(found)


def _depends(node: NodeProto, tainted: Collection[str]) -> bool:
    if node.op_type in _CONTROL or node.op_type in _VALUE_SIZED:
        return True
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        return True
    places = _SIZE_INPUTS.get(node.op_type, ())
    # An input that is left out is written as an empty name.
    sizes = [node.input[place] for place in places if place < len(node.input)]
    return any(name and name in tainted for name in sizes)
