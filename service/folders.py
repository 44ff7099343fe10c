"""Where the files of models are kept that came with a request to load them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


class UploadFolders:
    """Which models were loaded from a request, and where their files are."""

    def __init__(self, root: Path | None = None) -> None:
        """Use a folder that is there, or make one when it is needed."""
        self._root = root
        self._own = root is None
        self._folders: dict[str, Path] = {}

    @property
    def root(self) -> Path:
        """The folder of all uploads."""
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix="onnxport-"))
        return self._root

    def of(self, name: str) -> Path | None:
        """Return the repository that a model is loaded from, None for the one of all."""
        return self._folders.get(name)

    def keep(self, name: str, folder: Path | None) -> None:
        """Take a folder for a model's from now on, None for none, and remove the one before."""
        before = self._folders.pop(name, None)
        if folder is not None:
            self._folders[name] = folder
        if before is not None and before != folder:
            self.remove(before)

    def remove(self, folder: Path) -> None:
        """Remove a folder that nobody needs; only ever one of ours."""
        if self._own and self._root is not None and folder.parent == self._root:
            shutil.rmtree(folder, ignore_errors=True)

    def all(self) -> dict[str, Path]:
        """Return the folders by model."""
        return dict(self._folders)

    def close(self) -> None:
        """Remove everything."""
        if self._own and self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
