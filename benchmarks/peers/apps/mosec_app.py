"""The server that `mosec` starts: each model on a route of its own."""

from typing import Any

import orjson
from mosec import Runtime, Server, Worker
from shared_app import FRAME, Batch, Model, dump_frame, dump_json, instances, load_frame, models

MAX_BATCH = 32
WAIT_MILLISECONDS = 1


class ModelWorker(Worker):
    """Runs what the front has gathered as one batch; answers in the format of the request."""

    file = ""

    def __init__(self) -> None:
        """Open the model in the worker's process."""
        super().__init__()
        self._model = Model(self.file)

    def deserialize(self, data: bytes) -> tuple[bool, Batch]:
        """Return whether the request was a frame, and its inputs."""
        if data[:4] == FRAME:
            return True, load_frame(data)
        return False, self._model.typed(orjson.loads(data)["inputs"])

    def forward(self, data: list[Any]) -> list[Any]:
        """Run a batch."""
        outputs = self._model.run_all([inputs for _, inputs in data])
        return [(framed, each) for (framed, _), each in zip(data, outputs, strict=True)]

    def serialize(self, data: tuple[bool, Batch]) -> bytes:
        """Write one answer."""
        framed, outputs = data
        return dump_frame(outputs) if framed else dump_json(outputs)


# mosec spawns its workers and finds their classes by name in this module.
WORKERS = {
    name: type(f"{name.title()}Worker", (ModelWorker,), {"file": file, "__module__": __name__})
    for name, file in models().items()
}
globals().update({worker.__name__: worker for worker in WORKERS.values()})


def main() -> None:
    """Serve all models."""
    server = Server()
    routes = {
        f"/{name}": [Runtime(worker, instances()[name], MAX_BATCH, WAIT_MILLISECONDS)]
        for name, worker in WORKERS.items()
    }
    server.register_runtime(routes)
    server.run()


if __name__ == "__main__":
    main()
