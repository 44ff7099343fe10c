"""The V1 protocol over real models."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx
import pytest

from tests.support.models import png

pytestmark = pytest.mark.asyncio(loop_scope="session")

RIGHT = [[0, 255], [0, 255]]
LEFT = [[255, 0], [255, 0]]


async def predictions(client: httpx.AsyncClient, model: str, *instances: object) -> list[object]:
    """Return the predictions for these instances."""
    answer = await client.post(f"/v1/models/{model}:predict", json={"instances": instances})
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["predictions"]
    return list(answer.json()["predictions"])


async def test_a_classifier_answers_label_score_and_all_scores(client: httpx.AsyncClient) -> None:
    """One answer an instance, in order, with the scores keyed by label."""
    left, right = await predictions(client, "pictures", LEFT, RIGHT)
    assert isinstance(left, dict)
    assert isinstance(right, dict)
    assert (left["label"], right["label"]) == ("left", "right")
    assert left["score"] == left["scores"]["left"] > 0.99
    assert list(left["scores"]) == ["left", "right"]


async def test_a_picture_is_the_same_in_every_form(client: httpx.AsyncClient) -> None:
    """Numbers, base64 in JSON and the file as body give one answer."""
    raw = png(RIGHT)
    coded = {"b64": base64.b64encode(raw).decode()}
    numbers, file = await predictions(client, "pictures", RIGHT, coded)
    answer = await client.post(
        "/v1/models/pictures:predict", content=raw, headers={"content-type": "Image/PNG; a=b"}
    )
    assert numbers == file == answer.json()["predictions"][0]


async def test_series_of_different_lengths_share_a_call(client: httpx.AsyncClient) -> None:
    """A short series answers as if it were alone."""
    series = [[[1, 2], [3, 4]], [[1, 1]], [[2, 0], [0, 0], [0, 1]]]
    together = await predictions(client, "series", *series)
    assert together == [[5.0], [2.0], [1.0]]
    assert together == [(await predictions(client, "series", one))[0] for one in series]


async def test_texts_of_different_lengths_share_a_call(client: httpx.AsyncClient) -> None:
    """Texts are padded without a trace in the answer."""
    answers = await predictions(client, "texts", "one", "one two three four five", "")
    labels = [answer["label"] for answer in answers if isinstance(answer, dict)]
    assert labels == ["short", "long", "short"]


async def test_a_bare_model_answers_plain_rows(client: httpx.AsyncClient) -> None:
    """The row itself with one output, an object keyed by output with several."""
    assert await predictions(client, "doubler", [1, 2], [3, 4]) == [[2, 4], [6, 8]]
    pair = await predictions(client, "pair", {"a": [3, 4], "b": [1, 1]})
    assert pair == [{"sum": [4, 5], "difference": [2, 3]}]


async def test_a_row_of_one_whole_number_is_that_number(client: httpx.AsyncClient) -> None:
    """INT64 is the type of labels, and a label a row is what many classifiers answer."""
    assert await predictions(client, "counts", 3, -(2**62)) == [6, -(2**63)]


async def test_values_that_json_cannot_say_are_null(client: httpx.AsyncClient) -> None:
    """An infinity in the answer is null, not malformed JSON."""
    assert await predictions(client, "divider", [0, 2]) == [[None, 0.5]]


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", ""])
async def test_the_type_of_a_json_body_does_not_matter(
    client: httpx.AsyncClient, kind: str
) -> None:
    """What curl -d sends is JSON, whatever curl calls it."""
    answer = await client.post(
        "/v1/models/doubler:predict",
        content=b'{"instances": [[1, 2]]}',
        headers={"content-type": kind},
    )
    assert answer.json() == {"predictions": [[2, 4]]}


async def test_a_version_can_be_named(client: httpx.AsyncClient) -> None:
    """The road with a version leads to the same model, also with a zero in front."""
    for version in ("1", "01"):
        answer = await client.post(
            f"/v1/models/doubler/versions/{version}:predict", json={"instances": [[1, 2]]}
        )
        assert answer.json() == {"predictions": [[2, 4]]}


async def test_the_index_names_all_models(client: httpx.AsyncClient) -> None:
    """Models that could not be loaded are listed too."""
    names = (await client.get("/v1/models")).json()["models"]
    assert names == sorted(names)
    assert {"broken", "pictures"} <= set(names)


async def test_the_state_of_a_model(client: httpx.AsyncClient) -> None:
    """Both dialects of V1 find their words in one answer."""
    answer = await client.get("/v1/models/pictures")
    assert answer.status_code == 200
    status = {"error_code": "OK", "error_message": ""}
    assert answer.json() == {
        "name": "pictures",
        "ready": True,
        "model_version_status": [{"version": "1", "state": "AVAILABLE", "status": status}],
    }


async def test_a_failed_model_shows_its_reason_and_does_not_stop_the_others(
    client: httpx.AsyncClient,
) -> None:
    """503 with the reason on every road to it, 200 on the roads to its neighbours."""
    answer = await client.get("/v1/models/broken")
    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    assert "broken.onnx" in answer.json()["error"]
    assert answer.json()["model_version_status"][0]["state"] == "END"
    asked = await client.post("/v1/models/broken:predict", json={"instances": [1]})
    assert asked.status_code == 503
    assert asked.headers["retry-after"] == "1"
    assert "FAILED" in asked.json()["error"]
    assert (await client.get("/v1/models/broken/info")).json()["state"] == "FAILED"


async def test_where_the_repository_lies_is_not_told(
    client: httpx.AsyncClient, repository: Path
) -> None:
    """A failed model names its file, on every road, as it stands in the repository."""
    roads = ["/v1/models/broken", "/v1/models/broken/info", "/v1/models/pictures/info"]
    answers = [await client.get(road) for road in roads]
    answers.append(await client.post("/v1/models/broken:predict", json={"instances": [1]}))
    answers.append(await client.post("/v2/repository/index"))
    for answer in answers:
        assert str(repository) not in answer.text
    assert answers[0].json()["error"].startswith("model 'broken' is FAILED: broken.onnx: not an")
    assert '"reason":"broken.onnx: not an' in answers[-1].text


async def test_info_tells_how_a_model_was_proved(client: httpx.AsyncClient) -> None:
    """Contract, labels, proof, provider and file hashes are one request away."""
    info = (await client.get("/v1/models/pictures/info")).json()
    assert info["name"] == "pictures"
    assert info["version"] == 1
    assert info["versions"] == [1]
    assert info["state"] == "READY"
    assert info["labels"] == ["left", "right"]
    assert info["contract"]["pipeline"]["kind"] == "image"
    assert info["verification"]["status"] == "passed"
    assert info["runtime"]["provider"] == "cpu"
    assert len(info["files"]["model.onnx"]["sha256"]) == 64
    bare = (await client.get("/v1/models/doubler/info")).json()
    assert bare["verification"]["status"] == "skipped"


async def test_merged_requests_get_as_many_answers(client: httpx.AsyncClient) -> None:
    """KServe's batcher sends no Content-Type, and deals the answers out by their number."""
    instances = [[i, -i] for i in range(100)]
    request = client.build_request(
        "POST", "/v1/models/doubler:predict", content=json.dumps({"instances": instances})
    )
    assert "content-type" not in request.headers
    answer = await client.send(request)
    assert answer.json() == {"predictions": [[2 * i, -2 * i] for i in range(100)]}


async def test_instances_keyed_by_input(client: httpx.AsyncClient) -> None:
    """KServe's clients may name the only input around every instance."""
    assert await predictions(client, "doubler", {"x": [1, 2]}, {"x": [3, 4]}) == [[2, 4], [6, 8]]
    named, bare = await predictions(client, "pictures", {"image": LEFT}, LEFT)
    assert named == bare


async def test_explanations_are_not_built(client: httpx.AsyncClient) -> None:
    """501 for a model that there is, 404 for one that there is not, 405 for a GET."""
    for path in ("doubler", "doubler/versions/1", "doubler/versions/0"):
        answer = await client.post(f"/v1/models/{path}:explain", json={"instances": [[1, 2]]})
        assert answer.status_code == 501
        assert answer.json() == {"error": "model 'doubler': explanations are not built"}
    assert (await client.post("/v1/models/nobody:explain", json={})).status_code == 404
    wrong = await client.get("/v1/models/doubler:explain")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


async def test_other_verbs_and_methods(client: httpx.AsyncClient) -> None:
    """A wrong method on predict is 405 with the right one, an unknown verb is no path."""
    wrong = await client.get("/v1/models/pictures:predict")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert (await client.post("/v1/models/pictures:regress")).status_code == 404
    posted = await client.post("/v1/models/pictures")
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("model", ["half", "brain"])
async def test_two_byte_floats_are_numbers_here(client: httpx.AsyncClient, model: str) -> None:
    """V1 rounds what is sent to what the model takes, and answers what it makes of it."""
    body = {"instances": [[1.5, 0.1]]}
    answer = await client.post(f"/v1/models/{model}:predict", json=body)
    assert answer.status_code == 200, answer.text
    ((one, tenth),) = answer.json()["predictions"]
    assert one == 1.5
    assert 0 < abs(tenth - 0.1) < 0.001
