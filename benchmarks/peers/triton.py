"""Triton Inference Server; its Python backend runs ONNX Runtime.

The wheel `nvidia-pytriton` carries the server, but not its ONNX backend. Dynamic batching without
delay and instance groups as
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/optimization.html and
`.../user_guide/model_configuration.html` advise; the Python model as
https://github.com/triton-inference-server/python_backend describes. Expensive models have
an instance a core.
"""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

from benchmarks.dialects import V2
from benchmarks.models import session
from benchmarks.peers.environment import APPS, installed, instances, pinned, variables
from benchmarks.servers import HOST, Kind, Launch, Site
from service.tensors import from_onnx

_SETTINGS = (
    "Python backend, dynamic batching without delay, 1 instance (expensive: one a core), ORT 1"
)
_PYTHON_LIBRARIES = "lib/python3.*/site-packages"
_CONFIG = """backend: "python"
max_batch_size: 32
input [{inputs}]
output [{outputs}]
dynamic_batching {{ }}
instance_group [{{ count: {instances}, kind: KIND_CPU }}]
"""


def kinds() -> list[Kind]:
    """Return the server."""
    version = pinned("triton", "nvidia-pytriton")
    name = f"2.51 of pytriton {version}"
    return [Kind("triton", name, _SETTINGS, V2, _launch, "/v2/health/live")]


def _launch(site: Site) -> Launch:
    (packages,) = installed("triton").glob(_PYTHON_LIBRARIES)
    server = packages / "pytriton" / "tritonserver"
    backends = site.work / "backends"
    shutil.copytree(server / "backends", backends)
    stub = server / "python_backend_stubs" / packages.parent.name.removeprefix("python")
    shutil.copy(stub / "triton_python_backend_stub", backends / "python")
    repository = site.work / "repository"
    for name, file in site.models.items():
        _write_model(repository / name, file, instances(site)[name])
    command = [str(server / "bin" / "tritonserver"), f"--model-repository={repository}"]
    command += [f"--backend-directory={backends}", f"--http-address={HOST}"]
    command += [f"--http-port={site.port}", "--allow-grpc=false", "--allow-metrics=false"]
    # The stub that runs the Python model finds the wheel's libraries and Python's own nowhere else.
    libraries = f"{packages / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"
    paths = {"PYTHONPATH": f"{APPS}:{packages}", "LD_LIBRARY_PATH": libraries}
    return Launch(command, variables(site) | paths, site.work)


def _write_model(folder: Path, file: Path, instances: int) -> None:
    engine = session(file, threads=1)
    text = _CONFIG.format(
        inputs=", ".join(_tensor(each.name, each.type, each.shape) for each in engine.get_inputs()),
        outputs=", ".join(
            _tensor(each.name, each.type, each.shape) for each in engine.get_outputs()
        ),
        instances=instances,
    )
    version = folder / "1"
    version.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(text)
    shutil.copy(APPS / "triton_app.py", version / "model.py")


def _tensor(name: str, kind: str, shape: list[int | str]) -> str:
    datatype = from_onnx(kind)
    assert datatype is not None, kind
    dims = ", ".join(str(axis) if isinstance(axis, int) else "-1" for axis in shape[1:])
    return f'{{ name: "{name}", data_type: TYPE_{datatype.wire}, dims: [{dims}] }}'
