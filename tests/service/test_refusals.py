"""What is wrong with a bundle has a code of its own, however the bundle came to be so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from service.bundle import GOLDEN_FILE
from service.errors import ServiceError
from service.golden import dump, load
from service.loader import LoadOptions, load_model
from service.refusals import Refusal
from service.repository import scan
from tests.support import hostile, models, mutants

# What has neither claims to be no more than a bare file.
_MARKS = ("bundle.json", "golden.npz")
Change = Callable[[Path], object]


def code_of(path: Path) -> str:
    """Return the code with which the only model at a path is refused, "" if it is not."""
    (found,) = scan(path)
    try:
        load_model(found, LoadOptions(max_rows=4), lambda _: None).engine.close()
    except ServiceError as error:
        return error.code
    return ""


def one_weight(folder: Path) -> None:
    """Change the first weight of the graph a little."""
    model = onnx.load(str(folder / "model.onnx"))
    weights = next(one for one in model.graph.initializer if one.data_type == TensorProto.FLOAT)
    values = numpy_helper.to_array(weights).copy()
    values.flat[0] += 0.01
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    onnx.save(model, str(folder / "model.onnx"))
    hostile.relist(folder, "model.onnx")


def one_bit_of_a_weight(folder: Path) -> None:
    """Change a weight as a bad disk does, without a trace in the manifest."""
    content = bytearray((folder / "model.onnx").read_bytes())
    place = content.index(np.float32(8).tobytes())
    content[place + 3] ^= 1
    (folder / "model.onnx").write_bytes(content)


def one_label(folder: Path) -> None:
    """Give the first two labels each other's place."""
    hostile.rewrite(folder, lambda m: m["labels"].reverse())


def one_label_by_hand(folder: Path) -> None:
    """Change a label in an editor."""
    content = (folder / "bundle.json").read_bytes()
    (folder / "bundle.json").write_bytes(content.replace(b'"left"', b'"rear"'))


def one_constant(folder: Path) -> None:
    """Normalise with another mean."""
    hostile.rewrite(folder, lambda m: m["pipeline"]["mean"].insert(0, 0.25))
    hostile.rewrite(folder, lambda m: m["pipeline"]["mean"].pop())


def one_axis(folder: Path) -> None:
    """Let the graph take one row at a time."""
    model = onnx.load(str(folder / "model.onnx"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, str(folder / "model.onnx"))
    hostile.relist(folder, "model.onnx")


def two_files(folder: Path) -> None:
    """Give two files each other's name."""
    one, other = folder / "model.onnx", folder / GOLDEN_FILE
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def no_vectors(folder: Path) -> None:
    """Leave the golden vectors out, and say so."""
    (folder / GOLDEN_FILE).unlink()
    hostile.rewrite(folder, lambda m: m["files"].pop(GOLDEN_FILE))


def few_vectors(folder: Path) -> None:
    """Keep three of the golden vectors."""
    golden = load((folder / GOLDEN_FILE).read_bytes())
    few = replace(
        golden,
        raws=golden.raws[:3],
        expected={name: rows[:3] for name, rows in golden.expected.items()},
        labels=golden.labels[:3],
    )
    (folder / GOLDEN_FILE).write_bytes(dump(few))
    hostile.relist(folder, GOLDEN_FILE)


def broken_report(folder: Path) -> None:
    """Add a report that is none."""
    (folder / "parity.json").write_text("[1]")
    hostile.relist(folder, "parity.json")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda _: None, ""),
        (one_bit_of_a_weight, Refusal.HASH_MISMATCH),
        (one_label, Refusal.LABEL_MISMATCH),
        (one_label_by_hand, Refusal.INVALID_MANIFEST),
        (one_axis, Refusal.CONTRACT_MISMATCH),
        (two_files, Refusal.HASH_MISMATCH),
        (lambda folder: (folder / "model.onnx").unlink(), Refusal.FILE_MISSING),
        (lambda folder: (folder / "bundle.json").unlink(), Refusal.FILE_MISSING),
        (lambda folder: (folder / "bundle.json").write_text("{}"), Refusal.INVALID_MANIFEST),
        (lambda folder: (folder / "notes.txt").touch(), Refusal.FILE_UNLISTED),
        (no_vectors, Refusal.FILE_MISSING),
        (few_vectors, Refusal.GOLDEN_INVALID),
        (broken_report, Refusal.INVALID_REPORT),
    ],
)
def test_each_fault_has_its_code(tmp_path: Path, change: Change, code: str) -> None:
    """Whether the hashes hold, as after a wrong export, or not, as after a bad copy."""
    change(models.picture_bundle(tmp_path).path)
    assert code_of(tmp_path) == code


def test_one_weight_that_is_another(tmp_path: Path) -> None:
    """A hundredth is enough."""
    one_weight(models.text_bundle(tmp_path).path)
    assert code_of(tmp_path) == "golden_mismatch"


def test_one_constant_of_the_pipeline_that_is_another(tmp_path: Path) -> None:
    """The golden vectors are raw, so what comes before the graph is proved, too."""
    one_constant(models.series_bundle(tmp_path).path)
    assert code_of(tmp_path) == "golden_mismatch"


def test_rows_that_are_not_independent(tmp_path: Path) -> None:
    """A broken promise has a code of its own."""
    models.centred_bundle(tmp_path)
    assert code_of(tmp_path) == "rows_dependent"


def test_codes_are_words_for_machines() -> None:
    """They are short, stable, and no two are alike."""
    codes = [str(code) for code in Refusal]
    assert len(set(codes)) == len(codes)
    assert all(code.replace("_", "").isalpha() and code == code.lower() for code in codes)


def test_each_code_is_documented() -> None:
    """With what it means, for whoever meets it."""
    text = (Path(__file__).parents[2] / "docs" / "admission.md").read_text()
    assert [code for code in Refusal if f"| `{code}` |" not in text] == []


def test_a_bundle_in_a_mounted_volume(tmp_path: Path) -> None:
    """Files that are links to the volume's current content are the bundle's own."""
    folder = models.picture_bundle(tmp_path).path
    content = folder / "..2026"
    content.mkdir()
    (folder / "..data").symlink_to("..2026")
    for name in ("bundle.json", "golden.npz", "model.onnx"):
        (folder / name).rename(content / name)
        (folder / name).symlink_to(f"..data/{name}")
    assert code_of(tmp_path) == ""
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere")
    models.write_doubler(tmp_path / "elsewhere")
    assert code_of(folder) == "unsafe_file"


def test_no_mutant_is_accepted(tmp_path: Path) -> None:
    """Whatever is damaged, a bundle answers only if it is byte for byte what was exported."""
    files = mutants.files_of(models.text_bundle(tmp_path).path)
    accepted = []
    for seed in range(200):
        mutant = mutants.mutate(files, seed)
        mutants.write(mutant, tmp_path / "r" / "texts" / "1")
        found = scan(tmp_path / "r")
        claims = found and any((found[0].path / name).exists() for name in _MARKS)
        served = bool(claims) and code_of(tmp_path / "r") == ""
        if served is not (mutant == files):
            accepted.append(seed)
    assert accepted == []


def test_a_manifest_that_says_too_much(tmp_path: Path) -> None:
    """An endless list of files is refused by its size alone."""
    folder = models.picture_bundle(tmp_path).path
    members = json.loads((folder / "bundle.json").read_bytes())
    members["producer"]["name"] = "x" * (17 << 20)
    (folder / "bundle.json").write_text(json.dumps(members))
    assert code_of(tmp_path) == "invalid_manifest"
