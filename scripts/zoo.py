"""The pre-trained models that `real_models.py` serves: of different kinds, sizes and makers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
Draw = Callable[[np.random.Generator], Arrays]


@dataclass(frozen=True, slots=True)
class Real:
    """One model: where it lies, under which licence, what it takes and what the probe must find.

    ``state`` says which output goes back into which input at the next step.
    """

    name: str
    package: str
    version: str
    member: str
    licence: str
    draw: Draw
    rows_independent: bool
    state: Mapping[str, str] = field(default_factory=dict)


def floats(**shapes: tuple[int, ...]) -> Draw:
    """Return a function that draws floats between 0 and 1."""
    return lambda random: {n: random.random(s, dtype=np.float32) for n, s in shapes.items()}


def speech(random: np.random.Generator) -> Arrays:
    """Draw 32 ms of sound at 16 kHz, the state before the first of it, and the rate."""
    return {
        "input": random.normal(0, 0.1, (1, 512)).astype(np.float32),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.asarray(16_000, np.int64),
    }


def file_bytes(random: np.random.Generator) -> Arrays:
    """Draw the first and last bytes of four files; 256 stands for none."""
    return {"bytes": random.integers(0, 257, (4, 2048)).astype(np.int32)}


def letters(random: np.random.Generator) -> Arrays:
    """Draw three texts of up to twelve letters, and where they end."""
    lengths = np.asarray([[12], [7], [1]])
    mask = np.arange(12)[None] < lengths
    return {"src": np.where(mask, random.integers(4, 60, (3, 12)), 0), "src_mask": mask}


def numbers(name: str) -> Draw:
    """Return a function that draws three texts of sixteen letters."""
    return lambda random: {name: random.integers(1, 30, (3, 16))}


def molecule(random: np.random.Generator) -> Arrays:
    """Draw five residues of four atoms each, 40 bonds between the atoms, and what is asked."""
    atoms, edges, residues = 20, 40, 5
    whole = {
        "element": random.integers(0, 4, atoms),
        "amino_acid": np.repeat(random.integers(0, 20, residues), 4),
        "atom_role": np.tile(np.arange(4), residues),
        "edge_index": random.integers(0, atoms, (2, edges)),
        "seq_sep": random.integers(0, 3, edges),
        "target_indices": random.integers(0, atoms, (residues, 6)),
        "target_mask": random.integers(0, 2, (residues, 6)).astype(bool),
        "residue_types": random.integers(0, 20, residues),
    }
    shares = floats(
        bfactor=(atoms,),
        edge_dist=(edges,),
        same_residue=(edges,),
        residue_geometry=(residues, 52),
        target_environment=(residues, 6, 15),
        temperature_feature=(residues, 1),
        target_atom_rsasa=(residues, 6),
        pos=(atoms, 3),
        node_normal=(atoms, 3),
        is_hbond=(edges,),
        hb_cos=(edges,),
    )
    return whole | shares(random)


_OCR = ("rapidocr-onnxruntime", "1.4.4")
_TASHKEEL = ("text2tashkeel", "0.1.0")
MODELS = (
    Real(
        "speech-activity", "silero-vad", "6.2.3", "silero_vad/data/silero_vad.onnx", "MIT",
        speech, rows_independent=False, state={"stateN": "state"},
    ),
    Real(
        "file-types", "magika", "1.0.3", "magika/models/standard_v3_3/model.onnx", "Apache-2.0",
        file_bytes, rows_independent=True,
    ),
    Real(
        "text-found", *_OCR, "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "Apache-2.0", floats(x=(1, 3, 64, 96)), rows_independent=True,
    ),
    Real(
        "text-turned", *_OCR, "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "Apache-2.0", floats(x=(5, 3, 48, 192)), rows_independent=True,
    ),
    Real(
        "text-read", *_OCR, "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "Apache-2.0", floats(x=(2, 3, 48, 80)), rows_independent=True,
    ),
    Real(
        "seizures", "brainmaze-eeg-models", "0.1.0",
        "brainmaze_eeg_models/seizure/_models/modelA_paper.onnx", "BSD-3-Clause",
        floats(x=(2, 100, 24)), rows_independent=False,
    ),
    Real(
        "shifts", "caustic-nmr", "0.4.1", "caustic/data/best_v2_carbons.onnx", "CC-BY-4.0",
        molecule, rows_independent=False,
    ),
    Real(
        "names", "arabic-name-romanizer", "0.2.0",
        "arabic_name_romanizer/resources/encoder.onnx", "MIT", letters, rows_independent=True,
    ),
    Real(
        "vowel-signs", *_TASHKEEL, "text2tashkeel/models/bilstm.int8.onnx", "Apache-2.0",
        numbers("input_ids"), rows_independent=False,
    ),
    Real(
        "vowel-choice", *_TASHKEEL, "text2tashkeel/models/rawi_ensemble.int8.onnx", "Apache-2.0",
        numbers("input"), rows_independent=False,
    ),
    Real(
        "iris", "onnxruntime", ort.__version__, "onnxruntime/datasets/logreg_iris.onnx", "MIT",
        floats(float_input=(3, 2)), rows_independent=False,
    ),
)  # fmt: skip
