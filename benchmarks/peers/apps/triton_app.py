"""The model that Triton's Python backend loads."""

import os
import sys
from typing import Any

# The interpreter that Triton embeds is isolated: it reads no PYTHONPATH by itself.
sys.path[:0] = os.environ["PYTHONPATH"].split(":")

import triton_python_backend_utils as backend  # noqa: E402
from shared_app import Model, models  # noqa: E402


class TritonPythonModel:
    """Runs the requests of a dynamic batch together."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the model of this name."""
        self._model = Model(models()[args["model_name"]])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch of requests."""
        names = list(self._model.kinds)
        batches = [
            {name: backend.get_input_tensor_by_name(request, name).as_numpy() for name in names}
            for request in requests
        ]
        return [
            backend.InferenceResponse(
                [backend.Tensor(name, value) for name, value in outputs.items()]
            )
            for outputs in self._model.run_all(batches)
        ]
