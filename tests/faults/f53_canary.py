"""F53: a key and a payload that must not be found anywhere but where they were sent to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from service.keys import digest_of
from tests.faults.corpus import cases
from tests.faults.hostile import repository
from tests.faults.rig import Lost, Report, address_of, infer_body, read_answer, request
from tests.support.access import toml
from tests.support.servers import real_server

KEY = "onnxport_canary-6f1d2c"
PAYLOAD = "canary-payload-9b7e"


def _requests() -> list[bytes]:
    """Return calls that carry both, right ones and all kinds of wrong ones."""
    heads = (
        f"authorization: Bearer {KEY}\r\n", f"x-api-key: {KEY}\r\n",
        f"authorization: Bearer {KEY}x\r\n", f"authorization: Frob {KEY}\r\n",
        f"x-api-key: {KEY}\r\nx-api-key: other\r\n", f"x-request-timeout-ms: {PAYLOAD}\r\n",
        f"traceparent: {PAYLOAD}\r\n", f"cookie: {PAYLOAD}\r\n",
    )  # fmt: skip
    bodies = (
        infer_body(), {**infer_body(), "parameters": {"x": PAYLOAD}},
        {"instances": [PAYLOAD]}, PAYLOAD.encode(), [PAYLOAD],
    )  # fmt: skip
    paths = (
        "/v2/models/doubler/infer", "/v1/models/doubler:predict",
        "/v2/repository/models/doubler/load", f"/v2?key={KEY}",
    )  # fmt: skip
    return [
        request(path, body, head=head) for head in heads for body in bodies for path in paths
    ] + [case.content for case in cases() if not case.unfinished][:100]


async def _send(address: tuple[str, int]) -> list[bytes]:
    """Return all answers, heads and bodies."""
    found = []
    for content in _requests():
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(content)
            answer = await read_answer(reader)
            found.append(orjson.dumps(answer.headers) + answer.body)
        except Lost as error:
            found.append(error.heard)
        finally:
            writer.close()
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request("/metrics", head=f"x-api-key: {KEY}\r\n"))
    found.append((await read_answer(reader)).body)
    writer.close()
    return found


def main() -> None:
    """Print the figures."""
    report = Report("F53")
    with TemporaryDirectory() as folder:
        root = Path(folder)
        repository(root)
        keys, audit = root / ".keys.toml", root / ".audit.log"
        scopes = '["predict", "read", "metrics", "admin"]'
        keys.write_text(toml("canary", scopes=scopes).replace(_digest("canary-secret"),
                                                              _digest(KEY)))  # fmt: skip
        flags = ("--keys-file", keys, "--audit-log", audit, "--audit-predictions")
        with real_server(folder, *flags, "--log-level", "debug", "--workers", 1) as server:
            server.logged("ready")
            answers = asyncio.run(_send(address_of(server)))
            server.process.terminate()
            log = "\n".join(orjson.dumps(line).decode() for line in server.rest()).encode()
        written = audit.read_bytes()
    report.figure("answers", len(answers))
    report.figure("lines of the log", log.count(b"\n"))
    report.figure("lines of the audit log", written.count(b"\n"))
    for name, where in (("log", log), ("audit log", written), ("answers", b"".join(answers))):
        hits = where.count(KEY.encode())
        report.figure(f"key in the {name}", hits, good=hits == 0, goal="0")
    for name, where in (("log", log), ("audit log", written)):
        hits = where.count(PAYLOAD.encode())
        report.figure(f"payload in the {name}", hits, good=hits == 0, goal="0")
    controls = sum(byte < 0x20 and byte != 0x0A for byte in log + written)
    report.figure("control bytes in the logs", controls, good=controls == 0, goal="0")
    report.close()


def _digest(text: str) -> str:
    return digest_of(text.encode()).hex()


if __name__ == "__main__":
    main()
