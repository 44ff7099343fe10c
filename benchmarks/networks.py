"""The synthetic networks, built from ONNX operators with seeded random weights.

No framework is needed, and the same seed gives the same file everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET = 18
_EPSILON = 1e-5


class Network:
    """A graph that grows by one operator a call; values go by their names."""

    def __init__(self, seed: int) -> None:
        """Start empty; ``seed`` fixes all weights."""
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int, fan_in: int) -> str:
        """Add random weights that keep the size of what goes through them and a ReLU."""
        values = self._random.normal(0, (2 / fan_in) ** 0.5, shape)
        return self.constant(values.astype(np.float32))

    def constant(self, value: NDArray[Any]) -> str:
        """Add a fixed value."""
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(value, name))
        return name

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:  # noqa: ANN401
        """Add an operator and return the name of its last output."""
        names = [f"v{len(self._nodes)}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[-1]

    def dense(self, value: str, size: int, units: int) -> str:
        """Multiply the last axis of ``size`` to ``units``, with a bias."""
        product = self.add("MatMul", value, self.weight(size, units, fan_in=size))
        return self.add("Add", product, self.constant(np.zeros(units, np.float32)))

    def convolution(
        self,
        value: str,
        channels: int,
        filters: int,
        *,
        kernel: int = 3,
        **attributes: Any,  # noqa: ANN401
    ) -> str:
        """Convolve ``channels`` to ``filters`` with a bias."""
        fan_in = channels * kernel * kernel
        weight = self.weight(filters, channels, kernel, kernel, fan_in=fan_in)
        bias = self.constant(np.zeros(filters, np.float32))
        return self.add("Conv", value, weight, bias, **attributes)

    def finish(self, inputs: onnx.ValueInfoProto, result: str, classes: int) -> bytes:
        """Return the checked file: ``result`` through a softmax is the output ``probabilities``."""
        self._nodes.append(helper.make_node("Softmax", [result], ["probabilities"], axis=-1))
        output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes])
        graph = helper.make_graph(self._nodes, "network", [inputs], [output], self._weights)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9
        )
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def _input(name: str, kind: int, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["n", *shape])


def cnn() -> bytes:
    """Return three convolutions and two dense layers over FP32 images [N,3,32,32], 10 classes."""
    net = Network(seed=1)
    pool: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    value = net.add("MaxPool", net.add("Relu", net.convolution("images", 3, 32)), **pool)
    value = net.add("MaxPool", net.add("Relu", net.convolution(value, 32, 64)), **pool)
    value = net.add("Relu", net.convolution(value, 64, 64))
    value = net.add("Relu", net.dense(net.add("Flatten", value), 1024, 64))
    return net.finish(_input("images", TensorProto.FLOAT, 3, 32, 32), net.dense(value, 64, 10), 10)


def rnn() -> bytes:
    """Return a two-layer LSTM (hidden 128) over FP32 series [N,50,12], 10 classes."""
    net = Network(seed=2)
    first = net.constant(np.asarray([0]))
    direction = net.constant(np.asarray([1]))
    value = net.add("Transpose", "series", perm=[1, 0, 2])
    weights = (net.weight(1, 512, 12, fan_in=128), net.weight(1, 512, 128, fan_in=128))
    layer = f"{net.add('LSTM', value, *weights, outputs=2, hidden_size=128)[:-1]}0"
    layer = net.add("Squeeze", layer, direction)
    weights = (net.weight(1, 512, 128, fan_in=128), net.weight(1, 512, 128, fan_in=128))
    last = net.add("Squeeze", net.add("LSTM", layer, *weights, outputs=2, hidden_size=128), first)
    return net.finish(_input("series", TensorProto.FLOAT, 50, 12), net.dense(last, 128, 10), 10)


def attention() -> bytes:
    """Return a two-layer encoder (d 128, 4 heads) over INT64 tokens [N,64], 2 classes."""
    net = Network(seed=3)
    value = net.add("Gather", net.weight(ATTENTION_VOCABULARY, 128, fan_in=4), "tokens")
    value = net.add("Add", value, net.weight(64, 128, fan_in=4))
    for _ in range(2):
        value = _normalised(net, net.add("Add", value, _heads(net, value)))
        inner = net.add("Relu", net.dense(value, 128, 512))
        value = _normalised(net, net.add("Add", value, net.dense(inner, 512, 128)))
    mean = net.add("ReduceMean", value, net.constant(np.asarray([1])), keepdims=0)
    return net.finish(_input("tokens", TensorProto.INT64, 64), net.dense(mean, 128, 2), 2)


def _normalised(net: Network, value: str) -> str:
    scale, bias = np.ones(128, np.float32), np.zeros(128, np.float32)
    names = net.constant(scale), net.constant(bias)
    return net.add("LayerNormalization", value, *names, axis=-1, epsilon=_EPSILON)


def _heads(net: Network, value: str) -> str:
    """Attend in four heads of 32; 0 in a shape keeps the axis."""
    apart, together = (
        net.constant(np.asarray([0, 64, 4, 32])),
        net.constant(np.asarray([0, 64, 128])),
    )
    query, key, content = (net.add("Reshape", net.dense(value, 128, 128), apart) for _ in range(3))
    scores = net.add(
        "MatMul",
        net.add("Transpose", query, perm=[0, 2, 1, 3]),
        net.add("Transpose", key, perm=[0, 2, 3, 1]),
    )
    scaled = net.add("Mul", scores, net.constant(np.asarray(32**-0.5, np.float32)))
    weights = net.add("Softmax", scaled, axis=-1)
    mixed = net.add("MatMul", weights, net.add("Transpose", content, perm=[0, 2, 1, 3]))
    joined = net.add("Reshape", net.add("Transpose", mixed, perm=[0, 2, 1, 3]), together)
    return net.dense(joined, 128, 128)


def resnet18() -> bytes:
    """Return the residual network of 18 layers over FP32 images [N,3,224,224], 1,000 classes.

    Normalisation is folded into the convolutions, as an exporter does it.
    """
    net = Network(seed=4)
    stem = net.convolution("images", 3, 64, kernel=7, strides=[2, 2], pads=[3] * 4)
    value = net.add(
        "MaxPool", net.add("Relu", stem), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
    )
    channels = 64
    for filters in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if filters > 64 and block == 0 else 1
            value = _residual(net, value, channels, filters, stride)
            channels = filters
    pooled = net.add("Flatten", net.add("GlobalAveragePool", value))
    images = _input("images", TensorProto.FLOAT, 3, 224, 224)
    return net.finish(images, net.dense(pooled, 512, 1000), 1000)


def _residual(net: Network, value: str, channels: int, filters: int, stride: int) -> str:
    inner = net.convolution(value, channels, filters, strides=[stride] * 2, pads=[1] * 4)
    inner = net.convolution(net.add("Relu", inner), filters, filters, pads=[1] * 4)
    if channels != filters:
        value = net.convolution(value, channels, filters, kernel=1, strides=[stride] * 2)
    return net.add("Relu", net.add("Add", inner, value))


ATTENTION_VOCABULARY = 8192


def halved(content: bytes) -> bytes:
    """Return one of these networks in half precision, with inputs and outputs as they were."""
    model = onnx.load_from_string(content)
    graph = model.graph
    for place, weight in enumerate(graph.initializer):
        if weight.data_type == TensorProto.FLOAT:
            half = numpy_helper.to_array(weight).astype(np.float16)
            graph.initializer[place].CopyFrom(numpy_helper.from_array(half, weight.name))
    names = {
        value.name: f"{value.name}_half"
        for value in graph.input
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    casts = [
        helper.make_node("Cast", [name], [half], to=TensorProto.FLOAT16)
        for name, half in names.items()
    ]
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    results = [value.name for value in graph.output]
    for node in graph.node:
        node.output[:] = [f"{name}_half" if name in results else name for name in node.output]
    back = [
        helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT) for name in results
    ]
    nodes = [*casts, *graph.node, *back]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
