"""A repository somewhere else, kept alike in a folder."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from service.errors import ConfigurationError
from service.mirror import (
    Mirror,
    Remote,
    Work,
    fetch_once,
    folder_of,
    mark_of,
    open_store,
    unit_of,
    work_for,
)
from service.settings import Settings


class FolderStore:
    """A store over a folder of this machine; it counts what is fetched."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder."""
        self.folder = folder
        self.fetched: list[str] = []
        self.short = False

    def ls(self, path: str, *, detail: Literal[False]) -> list[str]:
        """Tell that the folder is there."""
        if not self.folder.is_dir():
            raise FileNotFoundError(2, "no such bucket", path)
        return []

    def find(self, path: str, *, detail: Literal[True]) -> dict[str, dict[str, Any]]:
        """Return all files."""
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        return {f"{path}/{f.relative_to(self.folder)}": self._known(f) for f in files}

    def _known(self, file: Path) -> dict[str, Any]:
        return {"size": file.stat().st_size, "ETag": f"e{file.read_bytes().hex()}"}

    def info(self, path: str) -> dict[str, Any]:
        """Never needed: the list has all."""
        raise NotImplementedError

    def get_file(self, rpath: str, lpath: str) -> None:
        """Copy a file."""
        name = rpath.removeprefix("bucket/")
        self.fetched.append(name)
        content = (self.folder / name).read_bytes()
        Path(lpath).write_bytes(content[:-1] if self.short else content)

    def invalidate_cache(self) -> None:
        """Nothing was kept."""


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """Return an empty store."""
    (tmp_path / "there").mkdir()
    return FolderStore(tmp_path / "there")


def put(store: FolderStore, name: str, content: str = "x") -> None:
    """Write a file over there."""
    file = store.folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def mirror(store: FolderStore) -> Mirror:
    """Return a mirror in a folder beside the store's."""
    return Mirror(store, "bucket", store.folder.parent / "here")


def here(store: FolderStore) -> list[str]:
    """Return the visible files that were fetched."""
    folder = store.folder.parent / "here"
    names = [f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()]
    return sorted(n for n in names if not any(part.startswith(".") for part in n.split("/")))


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("m/1/model.onnx", "m/1"),
        ("m/1/explain/explain.onnx", "m/1"),
        ("m/serving.toml", "m/serving.toml"),
        ("m.onnx", "m.onnx"),
        ("1/model.onnx", "1"),
    ],
)
def test_a_version_is_a_whole(name: str, unit: str) -> None:
    """And so is a file beside versions."""
    assert unit_of(name) == unit


def test_what_has_changed_is_fetched_as_a_whole() -> None:
    """A file more, a file less, another state of one; what has gone as a whole is removed."""
    remote = {f"m/{n}/{f}": Remote(f"b/{n}/{f}", 1, "e") for n in (1, 2, 3) for f in ("a", "b")}
    same = {name: mark_of(one) for name, one in remote.items()}
    assert work_for(remote, same) == Work((), ())
    known = {**same, "m/1/a": "other", "m/2/c": "gone", "m/9/a": "gone"}
    del known["m/3/b"]
    assert work_for(remote, known) == Work(("m/1", "m/2", "m/3"), ("m/9",))


def test_versions_arrive_whole(store: FolderStore) -> None:
    """At once if asked to, else when two looks have found the same."""
    put(store, "m/1/model.onnx")
    put(store, "m/serving.toml", "")
    made = mirror(store)
    assert made.sync(at_once=True)
    assert here(store) == ["m/1/model.onnx", "m/serving.toml"]
    put(store, "m/2/model.onnx")
    assert not made.sync()
    put(store, "m/2/more.bin")
    assert not made.sync()
    assert here(store) == ["m/1/model.onnx", "m/serving.toml"]
    assert made.sync()
    assert "m/2/more.bin" in here(store)


def test_an_incomplete_bundle_waits(store: FolderStore) -> None:
    """Its list says what is to come."""
    listed = {"files": {"model.onnx": {"bytes": 3}, "golden.npz": {"bytes": 2}}}
    put(store, "m/1/bundle.json", json.dumps(listed))
    put(store, "m/1/model.onnx", "abc")
    made = mirror(store)
    assert not made.sync(at_once=True)
    assert here(store) == []
    put(store, "m/1/golden.npz", "ab")
    assert made.sync(at_once=True)
    assert len(here(store)) == 3


def test_only_what_has_changed_is_fetched(store: FolderStore) -> None:
    """Also by a process that starts later; other files of the version are at hand."""
    put(store, "m/1/model.onnx")
    put(store, "m/1/labels.txt")
    mirror(store).sync(at_once=True)
    put(store, "m/1/labels.txt", "other")
    store.fetched.clear()
    made = mirror(store)
    assert made.sync(at_once=True)
    assert store.fetched == ["m/1/labels.txt"]
    assert (store.folder.parent / "here/m/1/labels.txt").read_text() == "other"
    assert made.sync()
    assert store.fetched == ["m/1/labels.txt"]


def test_what_was_lost_here_is_fetched_again(store: FolderStore) -> None:
    """The folder is a cache, which people empty."""
    put(store, "m/1/model.onnx")
    mirror(store).sync(at_once=True)
    shutil.rmtree(store.folder.parent / "here" / "m")
    mirror(store).sync(at_once=True)
    assert here(store) == ["m/1/model.onnx"]


def test_what_has_gone_is_removed_unless_all_has(store: FolderStore) -> None:
    """An empty or unreadable store is no order to serve nothing."""
    put(store, "m/1/model.onnx")
    put(store, "m.onnx")
    made = mirror(store)
    made.sync(at_once=True)
    (store.folder / "m.onnx").unlink()
    assert made.sync()
    assert here(store) == ["m/1/model.onnx"]
    shutil.rmtree(store.folder / "m")
    with pytest.raises(OSError, match="nothing is there any more"):
        made.sync()
    store.folder.rmdir()
    with pytest.raises(OSError, match="no such bucket"):
        made.sync()
    assert here(store) == ["m/1/model.onnx"]


def test_a_file_that_comes_short_is_not_taken(store: FolderStore) -> None:
    """A connection that broke leaves nothing behind."""
    put(store, "m/1/model.onnx", "abc")
    store.short = True
    made = mirror(store)
    with pytest.raises(OSError, match="2 bytes came instead of 3"):
        made.sync(at_once=True)
    assert here(store) == []
    assert not list((store.folder.parent / "here").rglob("*.partial"))


def test_names_that_lead_elsewhere_are_left_out(store: FolderStore) -> None:
    """Whoever can write to a bucket must not write anywhere else."""

    class Odd(FolderStore):
        def find(self, path: str, *, detail: Literal[True]) -> dict[str, dict[str, Any]]:
            names = ("m/1/../../x", "../x", "m/.hidden", "m/a b", "m//x", "m/1/model.onnx")
            return {f"bucket/{name}": {"size": 1, "ETag": "e"} for name in names}

        def get_file(self, rpath: str, lpath: str) -> None:
            Path(lpath).write_text("x")

    made = Mirror(Odd(store.folder), "bucket", store.folder.parent / "here")
    made.sync(at_once=True)
    assert here(store) == ["m/1/model.onnx"]


def test_a_url_is_no_path() -> None:
    """However a path has shortened it; its folder in the cache is its own."""
    for text, url in (
        ("s3://bucket/models", "s3://bucket/models"),
        ("s3:/bucket", "s3://bucket"),
        ("https://h:1/m", "https://h:1/m"),
        ("models", ""),
        ("./s3:/x", "s3://x"),
        ("/data/models", ""),
    ):
        assert Settings(repository=Path(text)).remote == url
    assert folder_of("s3://a", Path("c")) != folder_of("s3://b", Path("c"))


@pytest.fixture
def web(store: FolderStore) -> Iterator[str]:
    """Serve the store's folder by HTTP."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(store.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_web_server(store: FolderStore, web: str) -> None:
    """Its lists are pages with links."""
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    put(store, "m/1/model.onnx", "abc")
    put(store, "m/serving.toml", "")
    folder = store.folder.parent / "here"
    assert fetch_once(web, folder) == ""
    assert here(store) == ["m/1/model.onnx", "m/serving.toml"]
    put(store, "m/2/model.onnx", "abcd")
    made = Mirror(*open_store(web), folder)
    assert not made.sync()
    assert made.sync()
    assert (folder / "m/2/model.onnx").read_text() == "abcd"


def test_a_server_that_cannot_be_reached(store: FolderStore, web: str) -> None:
    """Without anything fetched before that is an error, else what there is is served."""
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    folder = store.folder.parent / "here"
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:1"):
        fetch_once("http://127.0.0.1:1/m", folder)
    put(store, "m/1/model.onnx")
    fetch_once(web, folder)
    assert "what was fetched before is served" in fetch_once("http://127.0.0.1:1/m", folder)
