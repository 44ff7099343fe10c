"""From raw input to tensors and from tensors to answers: one road for training and serving."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from service.arrays import array_from_json, kind_of, load_json
from service.contract import (
    Contract,
    ImagePipeline,
    SequencePipeline,
    TextPipeline,
)
from service.errors import InvalidRequest
from service.images import decode_picture, picture_from_numbers, resize
from service.npz import read_npz
from service.tensors import DATATYPES, Tensor, TensorSpec, pad_rows
from service.tokens import Tokenizer

Row = dict[str, Tensor]
NPZ = "application/x-npz"
MAX_NPZ_BYTES = 64 << 20


class Pipeline(Protocol):
    """Turns one raw input into a row, and rows into the tensors of one call."""

    def decode(self, raw: bytes, media_type: str) -> Row:
        """Return the row for a raw input as a file or a whole body would carry it."""
        ...

    def parse(self, instance: object) -> Row:
        """Return the row for one element of ``instances``."""
        ...

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Return the tensors for these rows, in order, padded where lengths differ."""
        ...


def make_pipeline(contract: Contract) -> Pipeline:
    """Return the pipeline that the contract describes."""
    config = contract.pipeline
    names = [tensor.name for tensor in contract.inputs]
    if isinstance(config, ImagePipeline):
        return ImageRows(config, names[0])
    if isinstance(config, SequencePipeline):
        return SequenceRows(config, names[0], names[1])
    if isinstance(config, TextPipeline):
        return TextRows(config, names[0])
    return TensorRows(contract.input_specs)


class ImageRows:
    """Pictures, as files or as raw pixels 0-255, for an FP32 input [batch, channels, h, w]."""

    def __init__(self, config: ImagePipeline, name: str) -> None:
        """Keep the scale as arrays that broadcast over [channels, height, width]."""
        self._config = config
        self._name = name
        self._mean = np.asarray(config.mean, np.float32).reshape(-1, 1, 1)
        self._std = np.asarray(config.std, np.float32).reshape(-1, 1, 1)

    def decode(self, raw: bytes, media_type: str) -> Row:
        """Return the row for a PNG or JPEG file; the content decides, not the media type."""
        del media_type
        return self._row(decode_picture(raw, self._config.channels))

    def parse(self, instance: object) -> Row:
        """Return the row for ``{"b64": ...}`` or nested numbers [H, W] or [H, W, C]."""
        return self._row(picture_from_numbers(_unwrap(instance, self._name), self._config.channels))

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Stack the rows; pictures all have the size of the contract."""
        return {self._name: np.stack([row[self._name] for row in rows])}

    def pixels(self, picture: Tensor) -> Tensor:
        """Scale uint8 pixels [..., H, W, C] of the contract's size to FP32 [..., C, H, W]."""
        moved = np.moveaxis(picture, -1, -3).astype(np.float32)
        scaled: Tensor = (moved / np.float32(255) - self._mean) / self._std
        return scaled

    def _row(self, picture: Tensor) -> Row:
        sized = resize(picture, height=self._config.height, width=self._config.width)
        return {self._name: np.ascontiguousarray(self.pixels(sized))}


class SequenceRows:
    """Series of any length for FP32 [batch, time, channels] and INT64 lengths [batch]."""

    def __init__(self, config: SequencePipeline, values: str, lengths: str) -> None:
        """Keep the scale as arrays that broadcast over [length, channels]."""
        self._config = config
        self._values = values
        self._lengths = lengths
        self._mean = np.asarray(config.mean, np.float32)
        self._std = np.asarray(config.std, np.float32)

    def decode(self, raw: bytes, media_type: str) -> Row:
        """Return the row for a series as a JSON array of steps."""
        del media_type
        return self.parse(load_json(raw))

    def parse(self, instance: object) -> Row:
        """Return the row for nested numbers [length, channels]."""
        what = "series"
        value = _unwrap(instance, self._values)
        series = array_from_json(value, np.dtype(np.float32), what)
        if series.ndim != 2 or series.shape[1] != self._config.channels or not len(series):
            raise InvalidRequest(
                f"{what}: expected shape [length >= 1, {self._config.channels}], "
                f"got {list(series.shape)}"
            )
        if len(series) > self._config.max_length:
            raise InvalidRequest(
                f"{what}: {len(series)} steps, the longest allowed is {self._config.max_length}"
            )
        if not np.isfinite(series).all():
            raise InvalidRequest(_no_number(series, value))
        return self.scale(series)

    def scale(self, series: Tensor) -> Row:
        """Return the row for FP32 values [length, channels] that are known to be well formed."""
        if not np.isfinite(series).all():
            step, channel = np.argwhere(~np.isfinite(series))[0].tolist()
            seen = series[step, channel]
            raise InvalidRequest(f"series: step {step}, channel {channel} is {seen}, not finite")
        with np.errstate(over="ignore"):
            # What overflows becomes an infinity, which the check of the tensors names.
            scaled = (series - self._mean) / self._std
        return {self._values: scaled, self._lengths: np.asarray(len(series), np.int64)}

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Pad with zeros to the longest row; the lengths say where each row ends."""
        return {
            self._values: pad_rows([row[self._values] for row in rows]),
            self._lengths: np.stack([row[self._lengths] for row in rows]),
        }


class TextRows:
    """Texts for INT64 token ids [batch, time], zero where a row has ended."""

    def __init__(self, config: TextPipeline, name: str) -> None:
        """Build the tokenizer once."""
        self._tokenizer = Tokenizer(config.tokenizer)
        self._name = name

    def decode(self, raw: bytes, media_type: str) -> Row:
        """Return the row for a text in UTF-8."""
        del media_type
        try:
            return self.parse(raw.decode())
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"text: byte {error.start} is 0x{raw[error.start]:02x}, not UTF-8"
            ) from error

    def parse(self, instance: object) -> Row:
        """Return the row for one text."""
        text = _unwrap(instance, self._name)
        if not isinstance(text, str):
            raise InvalidRequest(f"text: expected a string, got {kind_of(text)}")
        return {self._name: self._tokenizer.encode(text)}

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Pad with the padding id, 0, to the longest row."""
        return {self._name: pad_rows([row[self._name] for row in rows])}


class TensorRows:
    """The graph's own tensors: an instance is a row, or an object of rows keyed by input."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        """Keep the inputs' specifications, batch axis included."""
        self._specs = specs

    def decode(self, raw: bytes, media_type: str) -> Row:
        """Return the row for a JSON value, or for an npz file with one array an input."""
        if media_type != NPZ:
            return self.parse(load_json(raw))
        return read_npz(raw, max_bytes=MAX_NPZ_BYTES)

    def parse(self, instance: object) -> Row:
        """Return the row for nested values, or for an object of nested values."""
        if not isinstance(instance, Mapping):
            needed = [spec.name for spec in self._specs if not spec.optional]
            if len(needed) != 1:
                names = ", ".join(f"'{name}'" for name in needed or [s.name for s in self._specs])
                raise InvalidRequest(f"the model has several inputs, send an object with {names}")
            instance = {needed[0]: instance}
        unknown = [str(name) for name in instance if name not in {s.name for s in self._specs}]
        if unknown:
            raise InvalidRequest(f"input '{unknown[0]}': the model has no such input")
        return {
            spec.name: _typed(instance[spec.name], spec)
            for spec in self._specs
            if spec.name in instance
        }

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Stack the rows; all must have the same inputs, shapes and types."""
        first = rows[0]
        for row in rows:
            for name in first.keys() | row.keys():
                if name not in row or name not in first:
                    raise InvalidRequest(f"input '{name}': not in all instances")
                if row[name].shape != first[name].shape:
                    raise InvalidRequest(
                        f"input '{name}': shape {list(row[name].shape)} in one instance, "
                        f"{list(first[name].shape)} in another"
                    )
                if row[name].dtype != first[name].dtype:
                    raise InvalidRequest(
                        f"input '{name}': {row[name].dtype} in one instance, "
                        f"{first[name].dtype} in another"
                    )
        return {name: np.stack([row[name] for row in rows]) for name in first}


def _no_number(series: Tensor, value: Any) -> str:  # noqa: ANN401 - nested lists or an array
    """Name the first value that is no finite FP32, as it was written."""
    step, channel = np.argwhere(~np.isfinite(series))[0].tolist()
    written = json.dumps(value[step][channel])
    wanted = "a finite number"
    if np.isinf(series[step, channel]):
        largest = np.finfo(np.float32).max
        wanted = f"a number from {-largest:.8g} to {largest:.8g}, as FP32 holds"
    return f"series: step {step}, channel {channel} is {written}, expected {wanted}"


def _typed(value: object, spec: TensorSpec) -> Tensor:
    return array_from_json(value, DATATYPES[spec.datatype].numpy, f"input '{spec.name}'")


def _unwrap(instance: object, name: str) -> object:
    """Return the value of ``{"<input>": value}``, as KServe's clients send it, or the instance."""
    if isinstance(instance, Mapping) and set(instance) == {name}:
        return instance[name]
    return instance
