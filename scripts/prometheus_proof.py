"""Have Prometheus watch two workers under load, one of which is killed, and ask it afterwards."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import panels

from tests.support import models
from tests.support.servers import RealServer, real_server

ROOT = Path(__file__).parents[1]
RULES = ROOT / "deploy/prometheus/rules.yml"
DASHBOARDS = ROOT / "deploy/grafana/dashboards"
DASHBOARD = DASHBOARDS / "onnxport.json"
# Requests before the death, and after the worker is back.
ENOUGH = 300
PATIENCE = 60.0
# What belongs to one process begins anew with it, and says so by its label.
_OF_A_PROCESS = ("process_", "python_", "scrape_", "up")
COUNTED = "sum(onnxport_requests_total)"
_VARIABLES = {"$instance": ".+", "$model": ".+"}


def main(picture: str = "") -> None:
    """Run the proof; the first promise that does not hold ends it.

    ``picture`` is a file for the dashboard's graphs, as they would be seen; none where empty.
    """
    began = time.time()
    with TemporaryDirectory() as folder:
        served = Path(folder) / "models"
        served.mkdir()
        models.text_bundle(served)
        models.picture_bundle(served)
        models.write_doubler(served / "doubler.onnx")
        with real_server(served, "--workers", 2, "--no-access-log") as server:
            pids = worker_pids(server)
            with watching(server, Path(folder)) as prometheus:
                burden(server, pids, prometheus)
                check_page(server)
                check_counters(prometheus)
                check_rules(prometheus)
                check_dashboards(prometheus)
                if picture:
                    drawn = graphs(prometheus, json.loads(DASHBOARD.read_text()), began)
                    panels.draw(drawn, Path(picture))


def held(condition: object, promise: str) -> None:
    """End with the promise unless it holds."""
    if not condition:
        sys.exit(f"prometheus: not so: {promise}")


def worker_pids(server: RealServer) -> dict[int, int]:
    """Wait until the server is ready, and return its workers' process ids by number."""
    pids = {}
    while (line := server.line())["message"] != "ready":
        if line["message"].endswith("takes connections"):
            pids[int(line["message"].split()[1])] = int(line["pid"])
    held(sorted(pids) == [1, 2], f"two workers serve, not {sorted(pids)}")
    return pids


class Prometheus:
    """A Prometheus that runs."""

    def __init__(self, port: int) -> None:
        """Keep where it is asked."""
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - what JSON holds
        """Return the data of one call to its API."""
        answer = self._client.get(f"/api/v1/{path}", params=parameters)
        content = answer.json()
        held(content["status"] == "success", f"{parameters or path} is understood: {content}")
        return content["data"]

    def query(self, text: str) -> list[dict[str, Any]]:
        """Return the samples that an expression has now."""
        return list(self.get("query", query=text)["result"])

    def wait(self, text: str) -> float:
        """Return the sample of an expression as soon as it has one."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                if found := self.query(text):
                    return float(found[0]["value"][1])
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise SystemExit(f"prometheus: not so: {text} within {PATIENCE:.0f} s")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def watching(server: RealServer, folder: Path) -> Iterator[Prometheus]:
    """Start a Prometheus that scrapes the server every second under our rules, and end it."""
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {
                "job_name": "onnxport",
                "static_configs": [{"targets": [server.address.removeprefix("http://")]}],
            }
        ],
    }
    # JSON is YAML, too.
    (folder / "prometheus.yml").write_text(json.dumps(config))
    command = ["prometheus", f"--config.file={folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([*command, "--log.level=warn"], stdout=log, stderr=log) as process,
    ):
        try:
            prometheus = Prometheus(port)
            prometheus.wait("up == 1")
            yield prometheus
        finally:
            process.terminate()
            process.wait(PATIENCE)


def burden(server: RealServer, pids: Mapping[int, int], prometheus: Prometheus) -> None:
    """Ask in both protocols, well and badly, while a worker is killed and comes back."""
    ended = threading.Event()
    callers = [threading.Thread(target=ask, args=(server.address, ended)) for _ in range(4)]
    for caller in callers:
        caller.start()
    try:
        before = prometheus.wait(f"{COUNTED} > {ENOUGH}")
        os.kill(pids[1], signal.SIGKILL)
        prometheus.wait("onnxport_worker_restarts_total == 1")
        prometheus.wait("onnxport_workers == 2")
        prometheus.wait(f"{COUNTED} > {before + ENOUGH}")
    finally:
        ended.set()
        for caller in callers:
            caller.join()
    # So that the last of it is scraped, and nothing is under way.
    prometheus.wait("sum(changes(onnxport_requests_total[4s])) == 0")
    after = prometheus.wait(COUNTED)
    print(f"{after:.0f} requests, {before:.0f} of them before a worker was killed")


def ask(address: str, ended: threading.Event) -> None:
    """Ask until it is enough; a connection that dies with its worker is opened anew."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2]}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("/v1/models/texts:predict", {"json": {"instances": ["one"]}}),
        ("/v2/models/doubler/infer", {"json": {"inputs": [tensor]}}),
        ("/v2/models/doubler/infer", {"json": {"inputs": []}}),
        ("/v2/models/unknown/infer", {"json": {"inputs": [tensor]}}),
        (
            "/v1/models/pictures:predict",
            {
                "content": models.png([[0, 255], [255, 0]]),
                "headers": {"Content-Type": "image/png"},
            },
        ),
    ]
    with httpx.Client(base_url=address, timeout=PATIENCE, trust_env=False) as client:
        for path, call in itertools.cycle(calls):
            if ended.is_set():
                return
            try:
                client.post(path, **call)
            except httpx.TransportError:
                continue


def check_page(server: RealServer) -> None:
    """Hold the page against Prometheus' own lint, but for the names that Triton gave."""
    page = httpx.get(f"{server.address}/metrics", trust_env=False).text
    ours = [line for line in page.splitlines() if not re.match(r"(# (HELP|TYPE) )?nv_", line)]
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input="\n".join(ours) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    held(checked.returncode == 0, f"promtool finds the metrics clean: {checked.stdout}")
    print(f"{len(ours)} lines of metrics are clean")


def check_counters(prometheus: Prometheus) -> None:
    """No counter has gone back, although a worker died with what it had counted."""
    names = [
        name
        for name in prometheus.get("label/__name__/values")
        if name.endswith(("_total", "_bucket", "_count", "_sum")) or name.startswith("nv_")
        if not name.startswith(_OF_A_PROCESS)
    ]
    held(any(name.startswith("nv_inference_") for name in names), "Triton's names are scraped")
    series = 0
    for name in names:
        series += len(prometheus.query(name))
        back = prometheus.query(f"resets({name}[5m]) > 0")
        held(not back, f"{name} never goes back: {back}")
    # Or a counter that goes back would not be seen: the new process has one of its own.
    held(prometheus.query("resets(process_cpu_seconds_total[5m]) > 0"), "resets are seen at all")
    print(f"{series} counters of {len(names)} names, and none has gone back")
    same = "sum(onnxport_requests_total{outcome='success'}) - sum(nv_inference_request_success)"
    held(prometheus.wait(same) == 0, "Triton's counters say what ours do")


def check_rules(prometheus: Prometheus) -> None:
    """Every alert was evaluated without an error."""
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    sick = [rule["name"] for rule in rules if rule["health"] != "ok"]
    held(rules and not sick, f"every alert can be evaluated, not {sick}")
    print(f"{len(rules)} alerts are evaluated")


def check_dashboards(prometheus: Prometheus) -> None:
    """Every query of every panel has an answer, and every variable has values."""
    for file in sorted(DASHBOARDS.glob("*.json")):
        dashboard = json.loads(file.read_text())
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(
                    r"label_values\((\w+), (\w+)\)", variable["query"]["query"]
                ).groups()  # type: ignore[union-attr] # another form is a fault of the dashboard
                values = prometheus.get(f"label/{label}/values", **{"match[]": metric})
                held(values, f"the variable {variable['name']} has values")
        asked = 0
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                text = filled(target["expr"])
                answers = [one["value"][1] for one in prometheus.query(text)]
                held(any(a != "NaN" for a in answers), f"'{panel['title']}' has data: {text}")
                asked += 1
        print(f"{file.name}: {asked} queries have answers")


def filled(text: str, rate: str = "1m") -> str:
    """Return a query as Grafana sends it."""
    for name, value in {**_VARIABLES, "$__rate_interval": rate}.items():
        text = text.replace(name, value)
    return text


def graphs(
    prometheus: Prometheus, dashboard: dict[str, Any], began: float
) -> Iterator[panels.Graph]:
    """Yield what the graphs of a dashboard show of the time since then."""
    for panel in dashboard["panels"]:
        if panel["type"] != "timeseries":
            continue
        lines = {}
        for target in panel["targets"]:
            span = {"start": str(began), "end": str(time.time()), "step": "1"}
            found = prometheus.get("query_range", query=filled(target["expr"], "5s"), **span)
            for series in found["result"]:
                label = target["legendFormat"]
                for name, value in series["metric"].items():
                    label = label.replace(f"{{{{{name}}}}}", value)
                lines[label] = [(at - began, float(value)) for at, value in series["values"]]
        stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
        unit = panel["fieldConfig"]["defaults"]["unit"]
        yield panels.Graph(panel["title"], unit, lines, stacked=stacked)


if __name__ == "__main__":
    main(*sys.argv[1:])
