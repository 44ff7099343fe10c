"""The runtime that MLServer loads."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from shared_app import Model


class OnnxModel(MLModel):
    """Runs one request at a time."""

    async def load(self) -> bool:
        """Open the model's file."""
        self._model = Model(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a request."""
        inputs = {each.name: NumpyCodec.decode_input(each) for each in payload.inputs}
        outputs = self._model.run(self._model.typed(inputs))
        return InferenceResponse(
            model_name=self.name,
            outputs=[NumpyCodec.encode_output(name, value) for name, value in outputs.items()],
        )
