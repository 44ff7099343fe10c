"""The server that `litserve` starts: each model on a path of its own."""

import sys
from typing import Any

import litserve
from shared_app import Batch, Model, cores, lists, models


class OnnxApi(litserve.LitAPI):
    """Runs one request at a time."""

    def __init__(self, name: str, file: str) -> None:
        """Keep the file's name until the worker opens it."""
        super().__init__(api_path=f"/{name}")
        self._file = file

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Open the model in the worker's process."""
        self._model = Model(self._file)

    def decode_request(self, request: dict[str, Any]) -> Batch:
        """Return the inputs as arrays."""
        return self._model.typed(request["inputs"])

    def predict(self, batch: Batch) -> Batch:
        """Run the model."""
        return self._model.run(batch)

    def encode_response(self, outputs: Batch) -> dict[str, Any]:
        """Return the outputs as lists."""
        return lists(outputs)


def main() -> None:
    """Serve all models."""
    server = litserve.LitServer(
        [OnnxApi(name, file) for name, file in models().items()],
        accelerator="cpu",
        workers_per_device=cores(),
        fast_queue=True,
        timeout=60,
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=cores(),
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
