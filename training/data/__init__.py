"""Data sets: three that come with the package, two read whole from local files, and your own.

``load`` gives the data set that a ``DataSpec`` describes, ``check`` what is suspicious in it,
``describe`` its statistics. Nothing is ever fetched. The layouts of your own data are described in
``images``, ``series`` and ``texts``.
"""

from __future__ import annotations

from pathlib import Path

from training.data.checks import check
from training.data.cifar10 import WHERE_TO_GET_IT, load_cifar10
from training.data.dataset import DataError, DataSet, Examples, Kind, make_dataset
from training.data.describe import describe
from training.data.embedded import load_embedded
from training.data.idx import load_fashion_mnist
from training.data.images import load_images
from training.data.series import load_series
from training.data.spec import DataSpec, Format
from training.data.splits import at_most, split
from training.data.texts import load_texts

__all__ = [
    "DataError",
    "DataSet",
    "DataSpec",
    "Examples",
    "Format",
    "Kind",
    "check",
    "describe",
    "load",
    "make_dataset",
    "split",
]

NAMES = ("fashion-mnist", "cifar10", "japanese-vowels", "spam-assassin")
_FORMATS = {"images": load_images, "series": load_series, "texts": load_texts}


def load(spec: DataSpec) -> DataSet:
    """Return the data set of a spec; raise DataError for one that is wrong or incomplete."""
    dataset = _own(spec) if spec.format else _known(spec)
    train = at_most(dataset.train, spec.limit, spec.seed)
    if len(train) == len(dataset.train):
        return dataset
    source = f"{dataset.source}; {len(train)} of {len(dataset.train)} training examples"
    return make_dataset(
        dataset.name, dataset.classes, train, dataset.test, source=source, license=dataset.license
    )


def _own(spec: DataSpec) -> DataSet:
    if spec.format not in _FORMATS:
        raise DataError(f"data.format '{spec.format}': must be one of {', '.join(_FORMATS)}")
    if spec.name in NAMES:
        raise DataError(f"data.name '{spec.name}' is taken: call your own data something else")
    if not spec.root:
        raise DataError(f"data.root: must name a file or folder with your {spec.format}")
    return _FORMATS[spec.format](spec)


def _known(spec: DataSpec) -> DataSet:
    if spec.name not in NAMES:
        known = ", ".join(NAMES)
        raise DataError(f"data.name '{spec.name}': must be one of {known}, or give data.format")
    if spec.name == "cifar10":
        if not spec.root:
            raise DataError(f"cifar10: data.root must name {WHERE_TO_GET_IT}")
        return load_cifar10(Path(spec.root))
    if not spec.root:
        return load_embedded(spec.name)
    if spec.name == "fashion-mnist":
        return load_fashion_mnist(Path(spec.root))
    raise DataError(f"{spec.name}: comes with the package, data.root must be empty")
