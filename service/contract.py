"""What a bundle promises: its schema, as pydantic models that refuse unknown keys."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.tensors import DATATYPES, TensorSpec
from service.tokens import TokenizerConfig

SCHEMA_VERSION: Literal[1] = 1
MODEL_FILE = "model.onnx"
# Larger ones overflow in what pictures are resized with.
Size = Annotated[int, Field(gt=0, le=2**31 - 1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class InputContract(_Part):
    """One graph input; bounds are inclusive and hold for every element.

    ``maximum_axis`` names an axis of another input whose size is one more upper bound, as that of
    "time" is for lengths.  An ``optional`` input may be left out of a request; it has no rows.
    """

    name: str = Field(min_length=1)
    datatype: str
    shape: list[int | str]
    minimum: float | None = None
    maximum: float | None = None
    # Left out where it says nothing, so that a bundle without it is what it was before it came.
    maximum_axis: str | None = Field(default=None, exclude_if=lambda axis: axis is None)
    finite: bool = True
    optional: bool = False

    def spec(self) -> TensorSpec:
        """Return the plain value that requests are checked against."""
        return TensorSpec(
            name=self.name,
            datatype=self.datatype,
            shape=tuple(self.shape),
            minimum=self.minimum,
            maximum=self.maximum,
            maximum_axis=self.maximum_axis or "",
            finite=self.finite and DATATYPES[self.datatype].is_float,
            optional=self.optional,
        )


class OutputContract(_Part):
    """One graph output; an auxiliary output (attention weights) never appears in V1 answers.

    ``atol`` and ``rtol`` say how far an answer may be from its golden vector:
    ``|answer - expected| <= atol + rtol * |expected|``.
    """

    name: str = Field(min_length=1)
    datatype: str
    shape: list[int | str]
    atol: float = Field(default=1e-5, ge=0)
    rtol: float = Field(default=1e-4, ge=0)
    auxiliary: bool = False

    def spec(self) -> TensorSpec:
        """Return the plain value that describes the output."""
        return TensorSpec(self.name, self.datatype, tuple(self.shape))


class ImagePipeline(_Part):
    """A picture becomes FP32 [channels, height, width]: ``(pixel / 255 - mean) / std``."""

    kind: Literal["image"] = "image"
    height: Size
    width: Size
    channels: Literal[1, 3]
    mean: list[float]
    std: list[Annotated[float, Field(gt=0)]]

    @model_validator(mode="after")
    def _one_scale_per_channel(self) -> Self:
        _same_length(self.channels, mean=self.mean, std=self.std)
        return self


class SequencePipeline(_Part):
    """A series [length, channels] becomes FP32 ``(value - mean) / std`` with its true length."""

    kind: Literal["sequence"] = "sequence"
    channels: int = Field(gt=0)
    mean: list[float]
    std: list[Annotated[float, Field(gt=0)]]
    max_length: int = Field(gt=0)

    @model_validator(mode="after")
    def _one_scale_per_channel(self) -> Self:
        _same_length(self.channels, mean=self.mean, std=self.std)
        return self


class TensorPipeline(_Part):
    """No pre-processing: an instance is the row itself, or an object of rows keyed by input."""

    kind: Literal["tensor"] = "tensor"


def _is_container(datatype: str) -> bool:
    """Whether an output is a sequence, a map or an optional value, as ONNX Runtime spells them."""
    return datatype.startswith(("seq(", "map(", "optional("))


def _same_length(channels: int, **scales: list[float]) -> None:
    for name, values in scales.items():
        if len(values) != channels:
            raise ValueError(f"{name} has {len(values)} values for {channels} channels")


class TextPipeline(_Part):
    """A text becomes INT64 token ids [length], see `service.tokens`."""

    kind: Literal["text"] = "text"
    tokenizer: TokenizerConfig


Pipeline = Annotated[
    ImagePipeline | SequencePipeline | TextPipeline | TensorPipeline, Field(discriminator="kind")
]
_PIPELINE_INPUTS = {"image": ["FP32"], "sequence": ["FP32", "INT64"], "text": ["INT64"]}
Task = Literal["classification", "regression", "tensor"]


class Contract(_Part):
    """What goes in and out of a model, and how raw input becomes tensors and tensors an answer.

    ``batchable`` says that rows are independent of each other, so that the server may run rows of
    different callers together; the exporter proves it before it writes it.
    """

    task: Task
    inputs: list[InputContract] = Field(min_length=1)
    outputs: list[OutputContract] = Field(min_length=1)
    pipeline: Pipeline
    labels: list[str] | None = None
    batchable: bool

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for kind, tensors in (("input", self.inputs), ("output", self.outputs)):
            names = [tensor.name for tensor in tensors]
            if len(set(names)) < len(names):
                raise ValueError(f"two {kind}s share a name: {sorted(names)}")
            for tensor in tensors:
                known = tensor.datatype in DATATYPES
                if not known and not (kind == "output" and _is_container(tensor.datatype)):
                    raise ValueError(f"{kind} '{tensor.name}': unknown datatype {tensor.datatype}")
                spec = tensor.spec()
                if self.batchable and not spec.optional and not spec.leads_with_batch:
                    raise ValueError(
                        f"{kind} '{tensor.name}': a batchable model needs a variable first axis, "
                        f"not {tensor.shape}"
                    )
        if all(output.auxiliary for output in self.outputs):
            raise ValueError("every output is auxiliary, so there is no answer")
        wanted = _PIPELINE_INPUTS.get(self.pipeline.kind)
        found = [tensor.datatype for tensor in self.inputs]
        if wanted is not None and found != wanted:
            raise ValueError(f"pipeline '{self.pipeline.kind}' makes inputs {wanted}, not {found}")
        if self.task == "classification":
            self._check_labels()
        return self

    @model_validator(mode="after")
    def _knows_the_axes(self) -> Self:
        for tensor in self.inputs:
            if tensor.maximum_axis is None:
                continue
            if not DATATYPES[tensor.datatype].is_integer:
                raise ValueError(f"input '{tensor.name}': maximum_axis bounds whole numbers only")
            others = [other for other in self.inputs if other is not tensor]
            if not any(tensor.maximum_axis in other.shape for other in others):
                raise ValueError(
                    f"input '{tensor.name}': maximum_axis '{tensor.maximum_axis}' is no axis "
                    "of another input"
                )
        return self

    def _check_labels(self) -> None:
        labels, answer = self.labels or [], self.answer
        if len(labels) < 2 or len(set(labels)) < len(labels):
            raise ValueError(f"a classifier needs two or more different labels, got {labels}")
        one_row_each = answer.spec().leads_with_batch or answer.shape[:1] == [1]
        if not one_row_each or len(answer.shape) != 2 or answer.shape[1] != len(labels):
            raise ValueError(
                f"output '{answer.name}' has shape {answer.shape}, not rows of scores "
                f"for {len(labels)} labels"
            )
        if not (DATATYPES[answer.datatype].is_float or DATATYPES[answer.datatype].is_integer):
            raise ValueError(f"output '{answer.name}' is {answer.datatype}, scores are numbers")

    @property
    def answer(self) -> OutputContract:
        """The first output that is not auxiliary: a classifier's probabilities."""
        return next(output for output in self.outputs if not output.auxiliary)

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """The inputs as plain values, in the graph's order."""
        return tuple(tensor.spec() for tensor in self.inputs)

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """The outputs as plain values, in the graph's order."""
        return tuple(tensor.spec() for tensor in self.outputs)


class FileEntry(_Part):
    """One file of a bundle, as it was when the bundle was made."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Manifest(Contract):
    """The content of ``bundle.json``: the contract, what made it, and every other file's hash."""

    schema_version: Literal[1] = SCHEMA_VERSION
    producer: dict[str, str]
    files: dict[str, FileEntry]
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _holds_plain_tensors(self) -> Self:
        for output in self.outputs:
            if not output.spec().is_tensor:
                raise ValueError(f"output '{output.name}': a bundle cannot hold {output.datatype}")
        for tensor in self.inputs:
            if tensor.optional:
                raise ValueError(f"input '{tensor.name}': a bundle cannot hold optional inputs")
        return self

    @model_validator(mode="after")
    def _lists_the_model(self) -> Self:
        if MODEL_FILE not in self.files:
            raise ValueError(f"files does not list {MODEL_FILE}")
        for name in self.files:
            if _unsafe(name):
                raise ValueError(f"file name {name!r} leaves the bundle or is hidden")
        return self


def _unsafe(name: str) -> bool:
    parts = name.split("/")
    return "\\" in name or "\0" in name or any(not part or part.startswith(".") for part in parts)
