"""Files answered without a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest

from service.errors import ConfigurationError, InvalidRequest, ServiceError, TooLarge
from service.loader import LoadOptions
from service.local import FileAnswer, find, load, predict_files
from service.repository import scan
from tests.support import models

Ask = Callable[..., list[FileAnswer]]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with a model of each kind."""
    root = tmp_path_factory.mktemp("repository")
    models.picture_bundle(root)
    models.series_bundle(root)
    models.text_bundle(root)
    models.write_sum_and_difference(root / "pair.onnx")
    models.write_embedding(root / "embedding.onnx")
    return root


@pytest.fixture
def ask(repository: Path, tmp_path: Path) -> Ask:
    """Return a call that writes files and answers them with a model."""

    def call(model: str, **files: bytes) -> list[FileAnswer]:
        paths = [tmp_path / name.replace("_", ".") for name in files]
        for path, content in zip(paths, files.values(), strict=True):
            path.write_bytes(content)
        loaded = load(find(model, repository), LoadOptions(verify="off"))
        try:
            return predict_files(loaded, paths)
        finally:
            loaded.engine.close()

    return call


def values(answers: list[FileAnswer]) -> list[object]:
    """Return the answers as JSON has them, a classifier's as its label."""
    text = orjson.dumps([one.answer for one in answers], option=orjson.OPT_SERIALIZE_NUMPY)
    return [
        one["label"] if isinstance(one, dict) and "label" in one else one
        for one in orjson.loads(text)
    ]


def refused(ask: Ask, error: type[ServiceError], model: str, **files: bytes) -> str:
    """Return the text with which files are refused."""
    with pytest.raises(error) as caught:
        ask(model, **files)
    return str(caught.value)


def test_a_model_is_found_by_path_or_name(repository: Path, tmp_path: Path) -> None:
    """A path goes first; a name is looked up in the repository."""
    for model in ("texts", str(repository / "texts"), str(repository / "texts" / "1")):
        found = find(model, repository)
        assert (found.name, found.version) == ("texts", 1)
    assert find(str(repository / "pair.onnx"), tmp_path / "nowhere").name == "pair"


def test_a_model_that_is_not_one(repository: Path, tmp_path: Path) -> None:
    """What there is instead is told."""
    with pytest.raises(
        ConfigurationError, match=r"nobody: not one model; .* holds embedding, pair"
    ):
        find("nobody", repository)
    with pytest.raises(ConfigurationError, match="not one model"):
        find(str(repository), repository)
    with pytest.raises(ConfigurationError, match="holds no model"):
        find(str(tmp_path), repository)
    with pytest.raises(ConfigurationError, match="no such file, and there is no repository"):
        find("nobody", tmp_path / "nowhere")


def test_pictures(ask: Ask) -> None:
    """PNG and JPEG files are one instance each, in order, whatever case their ending has."""
    left, right = models.png([[255, 0], [255, 0]]), models.png([[0, 255], [0, 255]])
    answers = ask("pictures", a_png=left, b_PNG=right)
    assert [Path(one.file).name for one in answers] == ["a.png", "b.PNG"]
    assert values(answers) == ["left", "right"]


def test_texts(ask: Ask) -> None:
    """A text file is one text, a JSON file a text in quotes."""
    assert values(ask("texts", a_txt=b"one two three four", b_json=b'"one"')) == ["long", "short"]


def test_json(ask: Ask) -> None:
    """A JSON file is one instance, or a whole request with several."""
    answers = ask(
        "series", a_json=b"[[1, 2]]", b_json=b'{"instances": [[[1, 1], [2, 2]], [[4, 0]]]}'
    )
    assert [Path(one.file).name for one in answers] == ["a.json", "b.json", "b.json"]
    assert values(answers) == [[3], [3], [4]]


def test_arrays(ask: Ask, tmp_path: Path) -> None:
    """An npz file is one row, with an array for each input."""
    np.savez(tmp_path / "x.npz", a=np.asarray([3, 4], np.int32), b=np.asarray([1, 1], np.int32))
    content = (tmp_path / "x.npz").read_bytes()
    assert values(ask("pair", x_npz=content)) == [{"sum": [4, 5], "difference": [2, 3]}]


def test_more_files_than_one_run_takes(ask: Ask) -> None:
    """Every file has its answer, in order."""
    answers = ask("series", **{f"f{i}_json": b"[[%d, 0]]" % i for i in range(40)})
    assert values(answers) == [[i] for i in range(40)]


def test_files_that_are_no_input(ask: Ask) -> None:
    """The file is named, and what is wrong with it."""
    assert "a.png: picture: neither" in refused(ask, InvalidRequest, "pictures", a_png=b"x")
    assert "a.json: file: malformed" in refused(ask, InvalidRequest, "texts", a_json=b"{")
    assert "a.json: text: expected" in refused(ask, InvalidRequest, "texts", a_json=b"5")
    empty = refused(ask, InvalidRequest, "texts", a_json=b'{"instances": []}')
    assert "a.json: instances: empty" in empty
    assert "a.npz: npz: cannot be" in refused(ask, InvalidRequest, "pair", a_npz=b"PK")
    assert "unknown kind of file '.wav'" in refused(ask, InvalidRequest, "texts", a_wav=b"")


def test_inputs_that_do_not_fit(ask: Ask) -> None:
    """Also a file that can be read, but not be run, is named; in a request its instance as well."""
    good = b'{"a": [1, 2], "b": [3, 4]}'
    wide = b'{"a": [1, 2, 3], "b": [3, 4]}'
    assert "b.json: instances[0]: input 'a'" in refused(
        ask, InvalidRequest, "pair", a_json=good, b_json=wide
    )
    text = refused(ask, InvalidRequest, "embedding", a_json=b"1", b_json=b"9")
    assert "b.json: the model refuses" in text


def test_a_picture_that_is_too_large(ask: Ask) -> None:
    """The kind of the error stays what it is."""
    huge = models.bomb(50_000)
    assert "a.png: picture" in refused(ask, TooLarge, "pictures", a_png=huge)


def test_a_file_that_is_not_there(repository: Path) -> None:
    """It is the command that is wrong, not the input."""
    loaded = load(find("texts", repository), LoadOptions(verify="off"))
    with pytest.raises(ConfigurationError, match=r"nowhere\.txt: No such file"):
        predict_files(loaded, [Path("nowhere.txt")])


def test_a_model_is_proved_before_it_answers(tmp_path: Path) -> None:
    """A bundle that fails its proof does not answer on the command line either."""
    bundle = models.text_bundle(tmp_path)
    (bundle.path / "golden.npz").write_bytes(b"")
    (found,) = scan(tmp_path)
    with pytest.raises(ServiceError, match=r"golden\.npz"):
        load(found, LoadOptions())
