"""Which of ONNX Runtime's own graph rewrites no session of ours may use."""

from __future__ import annotations

# It reads memory that is not its own in some half-precision graphs, and ends the process.
DEADLY = ("FuseFp16InitializerToFp32NodeTransformer",)
