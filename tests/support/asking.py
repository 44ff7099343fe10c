"""What a caller asks a server under test, and the answers as plain values."""

from __future__ import annotations

from typing import Any

import httpx


async def info(client: httpx.AsyncClient, model: str) -> dict[str, Any]:
    """Return what is known of a model."""
    return dict((await client.get(f"/v1/models/{model}/info")).json())


async def predict(client: httpx.AsyncClient, model: str, *instances: object) -> list[Any]:
    """Return the V1 answers to these instances."""
    answer = await client.post(f"/v1/models/{model}:predict", json={"instances": instances})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["predictions"])


def tensor(name: str, datatype: str, shape: list[int], data: object) -> dict[str, object]:
    """Return one V2 tensor."""
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


async def infer(
    client: httpx.AsyncClient, model: str, *inputs: object, outputs: tuple[str, ...] = ()
) -> httpx.Response:
    """Return the V2 answer to these inputs."""
    body: dict[str, object] = {"inputs": inputs}
    if outputs:
        body["outputs"] = [{"name": name} for name in outputs]
    return await client.post(f"/v2/models/{model}/infer", json=body)


async def inferred(client: httpx.AsyncClient, model: str, *inputs: object) -> list[Any]:
    """Return the outputs of a V2 call that must succeed."""
    answer = await infer(client, model, *inputs)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["outputs"])
