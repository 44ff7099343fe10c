"""From settings to a supervisor: how many workers, and what they are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.cpu import usable_cores
from service.errors import ConfigurationError
from service.launch import listen_all, mirror_of, options_of, uses_cuda, with_ports
from service.listener import address_of
from service.settings import Settings
from service.supervisor_options import Options, Poll
from tests.support.runtime import write_distribution


def test_settings_travel_unchanged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker has the settings that the command line had, whatever its surroundings say."""
    settings = Settings(
        repository=tmp_path, providers="cpu", ready_requires=("a", "b"), deadline=7.5, workers=3
    )
    options = Options.from_json(options_of(settings).as_json())
    monkeypatch.setenv("ONNXPORT_DEADLINE", "9")
    assert options.settings["memory_limit"] != "auto"
    assert Settings(**{**options.settings, "memory_limit": "auto"}) == settings
    assert (options.workers, options.grace) == (3, settings.grace)


def test_the_admin_port_is_one_more_listener(tmp_path: Path) -> None:
    """Roads are told apart by the ports that were really taken; one that is not free is named."""
    settings = Settings(repository=tmp_path, port=0, admin_port=0)
    main, admin = listen_all(settings)
    with main, admin:
        taken = with_ports(settings, [main, admin])
        assert (taken.port, taken.admin_port) == (main.getsockname()[1], admin.getsockname()[1])
        busy = Settings(repository=tmp_path, port=0, admin_port=taken.admin_port)
        with pytest.raises(ConfigurationError, match="--admin-port"):
            listen_all(busy)
    (only,) = listen_all(Settings(repository=tmp_path, port=0))
    only.close()


def test_admin_has_a_port_beside_a_unix_socket(tmp_path: Path) -> None:
    """What comes in by the socket has no port, and so is not admin."""
    settings = Settings(repository=tmp_path, uds=str(tmp_path / "s"), admin_port=0)
    main, admin = listen_all(settings)
    with main, admin:
        assert address_of(main, secure=True) == "https://localhost"
        taken = with_ports(settings, [main, admin])
        assert (taken.port, taken.admin_port) == (settings.port, admin.getsockname()[1])


def test_flags_without_a_meaning_are_said() -> None:
    """One line names them, and there is none without them."""
    assert options_of(Settings(), ["--grpc_port"]).notices == (
        "flags of KServe without a meaning here: --grpc_port",
    )
    assert options_of(Settings()).notices == ()


def test_workers_fit_the_machine() -> None:
    """One a core by itself; a single one gets the threads of all cores."""
    auto, one = options_of(Settings(providers="cpu")), options_of(Settings(workers=1))
    assert (auto.workers, auto.threads) == (usable_cores(), 1)
    assert (one.workers, one.threads) == (1, usable_cores())
    assert options_of(Settings(providers="cuda,cpu")).workers == 1


def test_whether_a_gpu_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Asked for, or there with the package that uses it."""
    devices, site = tmp_path / "dev", tmp_path / "site"
    devices.mkdir()
    site.mkdir()
    assert uses_cuda(("cuda", "cpu"), devices)
    assert not uses_cuda(("cpu",), devices)
    write_distribution(site, "onnxruntime-gpu")
    monkeypatch.setattr("sys.path", [str(site)])
    assert not uses_cuda("auto", devices)
    (devices / "nvidia0").touch()
    assert uses_cuda("auto", devices)
    assert not uses_cuda(("cpu",), devices)
    monkeypatch.setattr("sys.path", [])
    assert not uses_cuda("auto", devices)


def test_options_are_plain_values() -> None:
    """They cross to another interpreter as JSON."""
    assert json.loads(options_of(Settings()).as_json())["log_level"] == "info"


def test_the_disk_is_followed_unless_said_otherwise(tmp_path: Path) -> None:
    """By the supervisor, which needs the folder, the seconds, and how models are named."""
    polled = options_of(Settings(repository=tmp_path, poll_interval=2, model_name="m"))
    assert Options.from_json(polled.as_json()).poll == Poll(str(tmp_path), 2, whole=True)
    for control in ("none", "explicit"):
        assert options_of(Settings.model_validate({"model_control": control})).poll is None


def test_a_repository_somewhere_else_needs_a_cache(tmp_path: Path) -> None:
    """It is kept there, and followed unless nothing may change."""
    url = {"repository": Path("s3://bucket/models"), "cache_dir": str(tmp_path)}
    mirror = mirror_of(Settings.model_validate(url))
    assert mirror is not None
    assert (mirror.url, Path(mirror.folder).parents[1]) == ("s3://bucket/models", tmp_path)
    options = options_of(Settings.model_validate(url), mirror=mirror)
    assert Options.from_json(options.as_json()).mirror == mirror
    still = Settings.model_validate({**url, "model_control": "none"})
    assert options_of(still, mirror=mirror).mirror is None
    assert mirror_of(Settings(repository=tmp_path)) is None
    with pytest.raises(ConfigurationError, match="needs a folder to be kept in"):
        mirror_of(Settings.model_validate({**url, "cache_dir": "none"}))


def test_each_worker_has_a_share_of_the_memory() -> None:
    """Unless somebody says how much, or a GPU's driver maps what it likes."""
    assert options_of(Settings(workers=2, memory_limit=7)).settings["memory_limit"] == 7
    one, two = (options_of(Settings(workers=n, providers=("cpu",))) for n in (1, 2))
    assert one.settings["memory_limit"] // 2 == two.settings["memory_limit"] > 0
    assert options_of(Settings(providers=("cuda",))).settings["memory_limit"] == 0
