"""What keys may ask, on every road that they open."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.access import Closed, bearer
from tests.support.apps import make_app
from tests.support.clients import on_a_socket
from tests.support.fakes import HeldAnswers, StuckAnswers

BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
INFER = "/v2/models/tiny/infer"
# The second is packed, as only the other road takes it.
ROADS: tuple[dict[str, str], ...] = ({}, {"Accept-Encoding": "gzip", "Expect": "100-continue"})


@pytest.mark.parametrize("more", ROADS)
async def test_a_key_that_comes_too_often(more: dict[str, str]) -> None:
    """It is told when to come again; others are not touched, and health is nobody's."""
    async with on_a_socket(make_app(gate=Closed().gate())) as client:
        seldom = {**bearer("seldom"), **more}
        assert (await client.post(INFER, json=BODY, headers=seldom)).status_code == 200
        refused = await client.post(INFER, json=BODY, headers=seldom)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "10"
        assert refused.json() == {"error": "key 'seldom': at most 0.1 requests a second"}
        assert (await client.get("/v2", headers=seldom)).status_code == 429
        assert (await client.get("/readyz", headers=seldom)).status_code == 200
        assert (await client.post(INFER, json=BODY, headers=bearer("all"))).status_code == 200


async def test_a_key_with_too_many_requests_under_way() -> None:
    """The next is let in when one of them is answered."""
    answers = HeldAnswers()
    async with on_a_socket(make_app(answers=answers, gate=Closed().gate())) as client:
        single = bearer("single")
        first = asyncio.create_task(client.post(INFER, json=BODY, headers=single))
        held = await answers.calls.get()
        refused = await client.post(INFER, json=BODY, headers=single)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "1 requests under way, at most 1 may" in refused.json()["error"]
        held.answer()
        assert (await first).status_code == 200
        assert (await client.get("/v2", headers=single)).status_code == 200


async def test_a_caller_who_goes_has_nothing_under_way() -> None:
    """On either road."""
    answers = StuckAnswers()
    async with on_a_socket(make_app(answers=answers, gate=Closed().gate())) as client:
        single = bearer("single")
        body = {"instances": [[1, 2]]}
        asked = asyncio.create_task(
            client.post("/v1/models/tiny:predict", json=body, headers=single)
        )
        await answers.begun.wait()
        assert (await client.get("/v2", headers=single)).status_code == 429
        asked.cancel()
        await answers.cancelled.wait()
        while (await client.get("/v2", headers=single)).status_code == 429:
            pass
    held = HeldAnswers()
    async with on_a_socket(make_app(answers=held, gate=Closed().gate())) as client:
        asked = asyncio.create_task(client.post(INFER, json=BODY, headers=single))
        await held.calls.get()
        asked.cancel()
        while (await client.get("/v2", headers=single)).status_code == 429:
            pass


async def test_what_is_refused_is_under_way_no_longer() -> None:
    """A body that makes no sense, or a path that is not there, holds no place."""
    async with on_a_socket(make_app(gate=Closed().gate())) as client:
        for _ in range(3):
            assert (
                await client.post(INFER, content=b"{", headers=bearer("single"))
            ).status_code == 400
            assert (await client.get("/nowhere", headers=bearer("single"))).status_code == 404
            answer = await client.put("/v2", headers=bearer("single"))
            assert answer.status_code == 405
