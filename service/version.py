"""One version's files in memory, looked at from all sides before anything of them is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from service.bundle import GOLDEN_FILE, MANIFEST_FILE, REPORTS, Bundle, take_bundle
from service.contract import MODEL_FILE
from service.engine import ModelBytes
from service.errors import BundleError
from service.modelfile import ModelInfo, examine
from service.refusals import Refusal
from service.repository import Found
from service.sealed import Sealed, Sealer

# A library beside a model is there to be loaded into the process that serves it.
_LIBRARIES: Final = frozenset({".so", ".dll", ".dylib"})


@dataclass(frozen=True, slots=True)
class Version:
    """What there is to prove.

    ``file`` is the model's name among the sealed files, ``weights`` those beside it by the place
    that the model names.  ``model`` is None for a file that nobody can look into.
    """

    found: Found
    sealed: Sealed
    file: str
    bundle: Bundle | None
    model: ModelInfo | None
    weights: Mapping[str, str]

    @property
    def root(self) -> Path:
        """The folder that the sealed files lie in."""
        return root_of(self.found)

    @property
    def source(self) -> ModelBytes:
        """The model as an engine opens it; texts name it as it stands on disk."""
        return model_bytes(self.sealed, self.file, self.weights, self.found.model_file)

    def kept(self) -> Kept:
        """Return the model's files, the caller's to close."""
        return Kept(self.found, self.sealed.kept(), self.file, self.weights)


@dataclass(frozen=True, slots=True)
class Kept:
    """A model's sealed files, held for as long as it may have to be opened again."""

    found: Found
    sealed: Sealed
    file: str
    weights: Mapping[str, str]

    @property
    def source(self) -> ModelBytes:
        """The model as an engine opens it."""
        return model_bytes(self.sealed, self.file, self.weights, self.found.model_file)

    def close(self) -> None:
        """Give the memory back."""
        self.sealed.close()


def model_bytes(sealed: Sealed, file: str, weights: Mapping[str, str], shown: Path) -> ModelBytes:
    """Return a model among sealed files as an engine opens it."""
    views = {place: sealed.view(name) for place, name in weights.items()}
    return ModelBytes(str(shown), sealed.read(file), views)


def read_version(found: Found, *, max_bytes: int, proof: bool = True) -> Version:
    """Read everything that belongs to a version, once.

    Without ``proof`` the files of a bundle are not compared with its list.  Raises BundleError for
    what must not be run, FilesChanged for what others write to meanwhile.
    """
    if found.problem:
        raise BundleError(found.problem, Refusal.REPOSITORY)
    if proof and not found.is_bundle and (found.path / GOLDEN_FILE).exists():
        # Without its list a bundle would pass for a bare file, of which nothing is asked.
        text = f"{found.path / MANIFEST_FILE}: missing, but {GOLDEN_FILE} is there"
        raise BundleError(text, Refusal.FILE_MISSING)
    root = root_of(found)
    sealer = Sealer(root, max_bytes=max_bytes)
    try:
        _refuse_libraries(found)
        bundle = _taken(root, sealer, proof=proof) if found.is_bundle else None
        file = MODEL_FILE if bundle else found.model_file.name
        sealer.add(file)
        info, weights = _examined(found, sealer, file)
        sealed = sealer.seal()
    except BaseException:
        # Whatever has ended it: the memory file is nobody else's.
        sealer.close()
        raise
    whole = replace(bundle, sealed=sealed) if bundle else None
    return Version(found, sealed, file, whole, info, weights)


def root_of(found: Found) -> Path:
    """Return the folder that a version's files may lie in."""
    return found.path if found.is_bundle else found.model_file.parent


def _taken(root: Path, sealer: Sealer, *, proof: bool) -> Bundle:
    bundle = take_bundle(root, sealer)
    if proof:
        bundle.take_into(sealer)
        return bundle
    for name in REPORTS:
        if f"{name}.json" in bundle.manifest.files:
            sealer.add(f"{name}.json")
    return bundle


def _examined(
    found: Found, sealer: Sealer, file: str
) -> tuple[ModelInfo | None, Mapping[str, str]]:
    if found.is_ort:
        return None, {}

    def take(name: str) -> int:
        if found.is_bundle and name == MANIFEST_FILE:
            raise ValueError("not weights")
        return sealer.add(name).bytes

    seen = examine(sealer.content(file), found.model_file, take)
    return seen.info, seen.weights


def _refuse_libraries(found: Found) -> None:
    if not found.path.is_dir():
        return
    for entry in sorted(found.path.iterdir()):
        if entry.suffix in _LIBRARIES and not entry.name.startswith("."):
            raise BundleError(
                f"{entry}: a library; none is ever loaded from a repository", Refusal.CUSTOM_OPS
            )
