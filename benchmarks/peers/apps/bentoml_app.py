"""The service that `bentoml` serves: each model on a route of its own."""

from typing import Any

import bentoml
import numpy as np
from shared_app import Model, cores, models

MAX_BATCH = 32


def _route(name: str, file: str) -> Any:  # noqa: ANN401
    """Return the method that answers for one model."""
    kind = next(iter(Model(file).kinds.values()))

    def predict(self: Any, inputs: np.ndarray) -> np.ndarray:  # noqa: ANN401
        model = self.models[name]
        (key,) = model.kinds
        return next(iter(model.run({key: np.asarray(inputs, kind)}).values()))

    predict.__name__ = name
    return bentoml.api(predict, route=f"/{name}", batchable=True, max_batch_size=MAX_BATCH)


def _open(self: Any) -> None:  # noqa: ANN401
    self.models = {name: Model(file) for name, file in models().items()}


_MEMBERS = {name: _route(name, file) for name, file in models().items()}
Models = bentoml.service(workers=cores(), traffic={"timeout": 60})(
    type("Models", (), {"__init__": _open, "__module__": __name__, **_MEMBERS})
)
