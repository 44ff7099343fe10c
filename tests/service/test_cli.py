"""The command line, in this process and as a real server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from service import __version__
from service.__main__ import main
from tests.support import models
from tests.support.servers import PATIENCE, real_server


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with three bundles and two bare files."""
    root = tmp_path_factory.mktemp("models")
    models.picture_bundle(root)
    models.series_bundle(root)
    models.text_bundle(root)
    models.write_doubler(root / "doubler.onnx")
    models.write_sum_and_difference(root / "pair.onnx")
    return root


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run each command in a folder of its own, without variables of ours."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("ONNXPORT_"):
            monkeypatch.delenv(name)


def run(*arguments: object) -> int:
    """Run a command and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def succeeded(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must succeed and return what it wrote."""
    code = run(*arguments)
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def failed(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """Run a command that must fail with one line on standard error, and return the line."""
    assert run(*arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("onnxport: ")
    return err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version writes name and version."""
    assert succeeded(capsys, "--version") == f"onnxport {__version__}\n"


def test_every_setting_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """The help of serve lists them all."""
    text = succeeded(capsys, "serve", "--help")
    for flag in ("--repository", "--host", "--port", "--config", "--allow-open", "--keep-alive"):
        assert flag in text


def test_predict_a_picture(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    """A name in the repository and a PNG file make one line with label and score."""
    Path("p.png").write_bytes(models.png([[0, 255], [0, 255]]))
    out = succeeded(capsys, "predict", "pictures", "p.png", "--repository", repository)
    assert out.startswith("p.png: right 1.0000  (then left ")


def test_predict_as_json(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    """A bundle by its path, a text file and a JSON text, answered for a program."""
    Path("a.txt").write_text("one two three four five")
    Path("b.json").write_text('"one"')
    out = succeeded(
        capsys, "predict", repository / "texts" / "1", "a.txt", "b.json", "--output", "json"
    )
    answer = json.loads(out)
    assert (answer["model"], answer["version"]) == ("texts", 1)
    found = [(p["file"], p["prediction"]["label"]) for p in answer["predictions"]]
    assert found == [("a.txt", "long"), ("b.json", "short")]


def test_predict_a_whole_request(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    """The JSON file that curl sends to the server works here too, a model's folder as well."""
    Path("s.json").write_text('{"instances": [[[1, 2], [3, 4]], [[1, 1]]]}')
    out = succeeded(capsys, "predict", repository / "series", "s.json")
    assert out == "s.json: [5.0]\ns.json: [2.0]\n"


def test_predict_arrays(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    """An npz file holds one row, one array an input; bare files answer plain values."""
    np.savez("r.npz", a=np.asarray([3, 4], np.int32), b=np.asarray([1, 1], np.int32))
    out = succeeded(capsys, "predict", repository / "pair.onnx", "r.npz")
    assert out == 'r.npz: {"sum":[4,5],"difference":[2,3]}\n'


def test_predict_refuses_in_one_line(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    """A wrong input exits 1, a wrong name or file 2, each with a text that names it."""
    Path("bad.png").write_bytes(b"no picture")
    Path("x.wav").write_bytes(b"")
    where = ("--repository", repository)
    assert "bad.png: picture" in failed(capsys, 1, "predict", "pictures", "bad.png", *where)
    assert "'.wav'" in failed(capsys, 1, "predict", "pictures", "x.wav", *where)
    assert "none.png" in failed(capsys, 2, "predict", "pictures", "none.png", *where)
    assert "doubler, pair" in failed(capsys, 2, "predict", "nobody", "x.wav", *where)
    assert "models" in failed(capsys, 2, "predict", "nobody", "x.wav")


def test_inspect_a_bundle(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    """Tensors, opset, operators and the promise, as text and as JSON."""
    path = repository / "pictures" / "1"
    text = succeeded(capsys, "inspect", path)
    for word in ("[batch, 1, 2, 2]", "ai.onnx 18", "MatMul", "left, right", "hand-made"):
        assert word in text
    report = json.loads(succeeded(capsys, "inspect", path, "--output", "json"))
    assert report["kind"] == "bundle"
    assert report["model"]["parameters"] == 8
    assert report["contract"]["labels"] == ["left", "right"]
    assert report["files"]["model.onnx"]["bytes"] == report["model"]["bytes"]


def test_inspect_any_onnx_file(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    """A bare file tells what is in it."""
    report = json.loads(succeeded(capsys, "inspect", repository / "pair.onnx", "--output", "json"))
    assert report["kind"] == "onnx"
    assert [tensor["name"] for tensor in report["model"]["outputs"]] == ["sum", "difference"]
    assert report["model"]["operators"] == {"Add": 1, "Sub": 1}


def test_inspect_refuses_in_one_line(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    """What is no model, no path or several models is named."""
    Path("no.onnx").write_bytes(b"\x00\x01")
    assert "no.onnx" in failed(capsys, 1, "inspect", "no.onnx")
    assert "nowhere" in failed(capsys, 2, "inspect", "nowhere")
    assert "doubler, pair" in failed(capsys, 2, "inspect", repository)


def test_paths_that_the_system_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot even be looked at is one line, too."""
    long = "a" * 300
    for command in (("inspect", long), ("verify", long), ("serve", long), ("predict", long, "x")):
        assert "File name too long" in failed(capsys, 1, *command)


def test_verify_proves_and_skips(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    """A bundle passes its golden vectors, a bare file has none to pass."""
    out = succeeded(capsys, "verify", repository)
    assert "pictures version 1: passed (16 golden vectors at batch 1, 2, 32 on cpu" in out
    assert "doubler version 1: skipped" in out
    proofs = json.loads(succeeded(capsys, "verify", repository, "--output", "json"))["models"]
    assert [proof["status"] for proof in proofs] == [
        "skipped", "skipped", "passed", "passed", "passed",
    ]  # fmt: skip


def test_verify_fails_on_a_changed_file(capsys: pytest.CaptureFixture[str]) -> None:
    """One flipped byte in a bundle is found, named, and is exit code 1."""
    bundle = models.text_bundle(Path("damaged"))
    file = bundle.path / "model.onnx"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert run("verify", bundle.path) == 1
    out = capsys.readouterr().out
    assert out.startswith("texts version 1: failed: ")
    assert "model.onnx" in out


def test_models_of_several_versions(capsys: pytest.CaptureFixture[str]) -> None:
    """A name means the version that a server answers with; verify proves what it would load."""
    for version in (1, 2, 3):
        models.write_doubler(Path("r") / "m" / str(version) / "model.onnx")
    (Path("r") / "m" / "serving.toml").write_text("versions = {specific = [1, 2]}")
    Path("x.json").write_text("[1, 2]")
    out = succeeded(capsys, "predict", "m", "x.json", "--repository", "r", "--output", "json")
    assert json.loads(out)["version"] == 2
    proofs = json.loads(succeeded(capsys, "verify", "r", "--output", "json"))["models"]
    assert [proof["version"] for proof in proofs] == [1, 2]


def test_rules_of_a_model_hold_for_its_proof(capsys: pytest.CaptureFixture[str]) -> None:
    """What serving.toml switches off is not proved here either, what it asks for must be there."""
    models.text_bundle(Path("r"))
    (Path("r") / "texts" / "serving.toml").write_text('verify = "off"')
    assert "skipped: switched off" in succeeded(capsys, "verify", "r")
    (Path("r") / "texts" / "serving.toml").write_text("versions = {specific = [1, 9]}")
    assert run("verify", "r") == 1
    assert "texts version 9: failed: r/texts/9: not on disk" in capsys.readouterr().out


def test_serve_refuses_in_one_line(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    """What cannot work is said before anything starts."""
    assert "train a model" in failed(capsys, 2, "serve")
    assert "--port" in failed(capsys, 2, "serve", repository, "--port", "99999")
    assert "--allow-open" in failed(capsys, 2, "serve", repository, "--host", "0.0.0.0")
    assert "not both" in failed(capsys, 2, "serve", repository, "--repository", "x")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "--port" in failed(capsys, 2, "serve", repository, "--port", port)


def test_what_only_a_worker_can_know_is_refused_in_one_line(repository: Path) -> None:
    """A model that is to be loaded and is not there ends the server with the same code."""
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "service", "serve", repository, "--port", "0"),
            *("--model-control", "explicit", "--load-model", "texts", "--load-model", "typo"),
        ],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("onnxport: load_model: 'typo' is not in the repository")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_real_server_serves_and_ends_cleanly(repository: Path, number: signal.Signals) -> None:
    """It names its address and calls that work, answers one, and exits 0 when asked to end."""
    with real_server(repository / "texts" / "1") as server:
        assert server.announced["models"] == ["texts"]
        assert "/v1/models/texts:predict" in server.announced["try"][0]
        server.logged("model texts version 1: READY")
        with httpx.Client(base_url=server.address, timeout=PATIENCE) as client:
            answer = client.post("/v1/models/texts:predict", json={"instances": ["one"]})
        assert answer.json()["predictions"][0]["label"] == "short"
        server.process.send_signal(number)
        assert server.ended() == 0


def test_the_doctor(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    """All that is wished for works: 0, and each model says where it would run."""
    report = json.loads(succeeded(capsys, "doctor", "--repository", repository, "--output", "json"))
    assert report["problems"] == []
    assert {(one["name"], one["provider"]) for one in report["models"]} == {
        (name, "cpu") for name in ("doubler", "pair", "pictures", "series", "texts")
    }
    assert "all that is wished for works" in succeeded(capsys, "doctor", "--providers", "cpu")


def test_the_doctor_finds_a_damaged_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """1, and the reason."""
    bundle = models.picture_bundle(tmp_path / "models")
    (bundle.path / "golden.npz").write_bytes(b"")
    assert run("doctor") == 1
    out = capsys.readouterr().out
    assert "problem: model 'pictures' version 1 does not load: " in out
    assert "golden.npz: 0 bytes" in out
