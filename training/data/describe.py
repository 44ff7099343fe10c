"""What the data looked like, in plain values for ``data_stats.json``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import DataSet, Examples

QUANTILES = {"p01": 0.01, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p99": 0.99}
Json = dict[str, Any]


def describe(dataset: DataSet) -> Json:
    """Return names, origin and, for each split, counts a class and statistics of the raw inputs.

    Pictures: size, and of each channel range, mean, standard deviation and quantiles in 0..255.
    Series: the same of each channel, and their lengths. Texts: lengths in characters and words.
    ``missing`` counts what holds no value: numbers that are not finite, texts of blanks.
    """
    return {
        "name": dataset.name,
        "kind": dataset.kind,
        "source": dataset.source,
        "license": dataset.license,
        "fingerprint": dataset.fingerprint,
        "classes": list(dataset.classes),
        "splits": {
            "train": _split(dataset.train, dataset.classes),
            "test": _split(dataset.test, dataset.classes),
        },
    }


def _split(examples: Examples, classes: tuple[str, ...]) -> Json:
    counts = np.bincount(examples.labels, minlength=len(classes)).tolist()
    known: Json = {"rows": len(examples), "classes": dict(zip(classes, counts, strict=True))}
    if isinstance(examples.inputs, np.ndarray):
        return known | _images(examples.inputs)
    texts = [one for one in examples.inputs if isinstance(one, str)]
    if texts:
        return known | _texts(texts)
    return known | _series([one for one in examples.inputs if isinstance(one, np.ndarray)])


def _images(pixels: NDArray[np.uint8]) -> Json:
    _, height, width, channels = pixels.shape
    # 256 counts a channel hold all there is to know, and fit any number of pictures.
    counts = [
        np.bincount(pixels[..., channel].reshape(-1), minlength=256) for channel in range(channels)
    ]
    return {
        "height": height,
        "width": width,
        "channels": channels,
        "values": [_of_histogram(count) for count in counts],
        "missing": _missing(0, pixels.size),
    }


def _of_histogram(counts: NDArray[np.intp]) -> Json:
    """Return statistics of the values 0..255; a quantile is the least value that reaches it."""
    values = np.arange(len(counts))
    total = int(counts.sum())
    mean = float(counts @ values) / total
    std = float(np.sqrt(counts @ (values - mean) ** 2 / total))
    there = np.flatnonzero(counts)
    reached = np.cumsum(counts) / total
    quantiles = {name: int(np.searchsorted(reached, q)) for name, q in QUANTILES.items()}
    return {
        "minimum": int(there[0]),
        "maximum": int(there[-1]),
        "mean": round(mean, 6),
        "std": round(std, 6),
        "quantiles": quantiles,
    }


def _series(series: list[NDArray[np.float32]]) -> Json:
    steps = np.concatenate(series).astype(np.float64)
    finite = np.isfinite(steps)
    return {
        "channels": steps.shape[1],
        "lengths": _lengths([len(one) for one in series]),
        "values": [_of_values(steps[finite[:, i], i]) for i in range(steps.shape[1])],
        "missing": _missing(int((~finite).sum()), steps.size),
    }


def _of_values(values: NDArray[np.float64]) -> Json:
    quantiles = np.quantile(values, list(QUANTILES.values())).tolist()
    return {
        "minimum": round(float(values.min()), 6),
        "maximum": round(float(values.max()), 6),
        "mean": round(float(values.mean()), 6),
        "std": round(float(values.std()), 6),
        "quantiles": {n: round(q, 6) for n, q in zip(QUANTILES, quantiles, strict=True)},
    }


def _texts(texts: list[str]) -> Json:
    words = [text.split() for text in texts]
    return {
        "characters": _lengths([len(text) for text in texts]),
        "words": _lengths([len(one) for one in words]),
        "distinct_words": len({word for one in words for word in one}),
        "missing": _missing(sum(not one for one in words), len(texts)),
    }


def _lengths(lengths: list[int]) -> Json:
    quantiles = np.quantile(lengths, list(QUANTILES.values())).tolist()
    return {
        "minimum": min(lengths),
        "median": float(np.median(lengths)),
        "maximum": max(lengths),
        "mean": round(float(np.mean(lengths)), 3),
        "quantiles": {n: round(q, 3) for n, q in zip(QUANTILES, quantiles, strict=True)},
    }


def _missing(count: int, of: int) -> Json:
    return {"values": count, "rate": round(count / of, 6)}
