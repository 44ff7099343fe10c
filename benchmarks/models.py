"""The models that are measured: real or random rows of each, and ONNX Runtime's answers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks import networks
from benchmarks.errors import BenchmarkError
from service.bundle import GOLDEN_FILE, Bundle, read_bundle
from service.contract import MODEL_FILE
from service.golden import load
from service.pipeline import make_pipeline
from service.tensors import Tensor

SYNTHETIC = ("cnn", "rnn", "attention", "resnet18")
BUNDLED = ("fashion", "vowels", "mails")
SAMPLES = 16

Batch = dict[str, Tensor]
Collate = Callable[[Sequence[int]], Batch]


@dataclass(frozen=True, slots=True)
class Subject:
    """One model: where version 1 of it lies, and how to make a batch of its sample rows.

    ``collate`` takes the numbers of samples, 0 to ``SAMPLES`` - 1, and returns the graph's inputs.
    ``outputs`` are those to ask for, none if that is all there are: nobody wants the attention
    weights of each token with every answer.
    """

    name: str
    folder: Path
    collate: Collate
    outputs: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The ONNX file."""
        return self.folder / MODEL_FILE

    def batches(self, rows: int) -> list[Batch]:
        """Return ``SAMPLES`` different batches of ``rows`` rows each."""
        return [
            self.collate([(start + i) % SAMPLES for i in range(rows)]) for start in range(SAMPLES)
        ]


def session(file: Path, threads: int) -> ort.InferenceSession:
    """Open a model with ``threads`` threads in a run and no spinning."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def answers(subject: Subject, batches: Sequence[Batch]) -> list[Batch]:
    """Return what ONNX Runtime answers to each batch alone, by output."""
    engine = session(subject.file, threads=1)
    names = list(subject.outputs) or [output.name for output in engine.get_outputs()]
    return [dict(zip(names, engine.run(names, batch), strict=True)) for batch in batches]


def subjects(names: Sequence[str], cache: Path, repository: Path) -> list[Subject]:
    """Return the models called ``names``.

    Synthetic ones are written under ``cache`` at first use; the others are the bundles in
    ``repository``.  Raises BenchmarkError for an unknown name or a missing bundle.
    """
    return [
        _synthetic(name, cache) if name in SYNTHETIC else _bundled(name, repository)
        for name in names
    ]


def copy_repository(chosen: Sequence[Subject], folder: Path) -> Path:
    """Make ``folder`` a model repository that holds the chosen models and nothing else."""
    for subject in chosen:
        shutil.copytree(subject.folder, folder / subject.name / subject.folder.name)
    return folder


def _synthetic(name: str, cache: Path) -> Subject:
    folder = cache / "models" / name / "1"
    if not (folder / MODEL_FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{MODEL_FILE}.{os.getpid()}"
        draft.write_bytes(_NETWORKS[name]())
        draft.replace(folder / MODEL_FILE)
    rows = _rows(name)
    return Subject(name, folder, lambda chosen: {key: value[chosen] for key, value in rows.items()})


_NETWORKS: Mapping[str, Callable[[], bytes]] = {
    "cnn": networks.cnn,
    "rnn": networks.rnn,
    "attention": networks.attention,
    "resnet18": networks.resnet18,
}


def _rows(name: str) -> Batch:
    random = np.random.default_rng(0)
    if name == "attention":
        return {"tokens": random.integers(0, networks.ATTENTION_VOCABULARY, (SAMPLES, 64))}
    key, shape = {
        "cnn": ("images", (3, 32, 32)),
        "rnn": ("series", (50, 12)),
        "resnet18": ("images", (3, 224, 224)),
    }[name]
    return {key: random.standard_normal((SAMPLES, *shape), dtype=np.float32)}


def _bundled(name: str, repository: Path) -> Subject:
    if name not in BUNDLED:
        known = ", ".join((*SYNTHETIC, *BUNDLED))
        raise BenchmarkError(f"model '{name}': must be one of {known}")
    folders = sorted((repository / name).glob("[1-9]*"), key=lambda path: int(path.name))
    if not folders:
        raise BenchmarkError(f"no bundle of '{name}' in {repository}: run `make train` first")
    bundle = read_bundle(folders[-1])
    outputs = bundle.manifest.outputs
    main = tuple(output.name for output in outputs if not output.auxiliary)
    asked = main if len(main) < len(outputs) else ()
    return Subject(name, bundle.path, _golden_rows(bundle), asked)


def _golden_rows(bundle: Bundle) -> Collate:
    golden = load(bundle.read(GOLDEN_FILE))
    pipeline = make_pipeline(bundle.manifest)
    rows = [pipeline.decode(raw, golden.media_type) for raw in golden.raws[:SAMPLES]]
    return lambda chosen: pipeline.collate([rows[i] for i in chosen])
