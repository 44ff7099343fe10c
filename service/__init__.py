"""onnxport's server: verified ONNX models behind a REST interface."""

__version__ = "0.1.0"
