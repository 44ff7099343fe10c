"""Measure onnxport beside ONNX Runtime itself, a server written by hand, and other servers."""
