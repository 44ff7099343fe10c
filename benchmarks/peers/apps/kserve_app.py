"""The server that `kserve` starts."""

from functools import cached_property

from kserve import InferOutput, InferRequest, InferResponse, ModelServer
from kserve import Model as KserveModel
from kserve.utils.numpy_codec import from_np_dtype
from kserve.utils.utils import generate_uuid
from shared_app import Model, models


class OnnxModel(KserveModel):
    """Runs one request at a time."""

    def __init__(self, name: str, file: str) -> None:
        """Keep the file's name; the workers get a copy of this object and open it themselves."""
        super().__init__(name)
        self._file = file
        self.ready = True

    @cached_property
    def _model(self) -> Model:
        return Model(self._file)

    async def predict(self, payload: InferRequest, headers: object = None) -> InferResponse:  # noqa: ARG002
        """Answer a request in the encoding it asks for."""
        inputs = {each.name: each.as_numpy() for each in payload.inputs}
        binary = bool((payload.parameters or {}).get("binary_data_output"))
        outputs = []
        for name, value in self._model.run(self._model.typed(inputs)).items():
            output = InferOutput(name, list(value.shape), from_np_dtype(value.dtype))
            output.set_data_from_numpy(value, binary_data=binary)
            outputs.append(output)
        return InferResponse(payload.id or generate_uuid(), self.name, outputs)


def main() -> None:
    """Serve all models."""
    ModelServer().start([OnnxModel(name, file) for name, file in models().items()])


if __name__ == "__main__":
    main()
