"""What platforms say with variables, flags and folders, as values of settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.platforms import Hosting, Implied, Platform, Surroundings, hosting

OPEN = {"host": "0.0.0.0", "allow_open": True}


def around(
    environment: Mapping[str, str] | None = None,
    *folders: str,
    kserve: Mapping[str, str] | None = None,
    given: bool = False,
) -> Surroundings:
    """Return surroundings in which only the given folders exist."""
    known = {Path(folder) for folder in folders}
    return Surroundings(environment or {}, kserve or {}, given, known.__contains__)


def plain(values: Mapping[str, Implied]) -> dict[str, object]:
    """Return the values without where they come from."""
    return {key: one.value for key, one in values.items()}


def refusal(surroundings: Surroundings) -> str:
    """Return the text with which a wish is refused."""
    with pytest.raises(ConfigurationError) as caught:
        hosting(surroundings)
    return str(caught.value)


def test_an_ordinary_machine_implies_nothing() -> None:
    """Without a sign of a platform nothing is opened or moved."""
    assert hosting(around({"HOME": "/root", "AIP_MODEL_DIR": "gs://b"}, "models")) == Hosting(
        Platform.NONE, {}, {}, {}
    )


@pytest.mark.parametrize(
    ("environment", "folders", "platform"),
    [
        ({"AIP_HTTP_PORT": "8080"}, [], Platform.VERTEX),
        ({"AIP_MODE": "PREDICTION"}, [], Platform.VERTEX),
        ({"AIP_MODE": "TRAINING"}, [], Platform.NONE),
        ({"AIP_PREDICT_ROUTE": ""}, [], Platform.NONE),
        ({"SAGEMAKER_BIND_TO_PORT": "8080"}, ["models"], Platform.SAGEMAKER),
        ({"SAGEMAKER_SAFE_PORT_RANGE": "1-2"}, [], Platform.SAGEMAKER),
        ({"SAGEMAKER_REGION": "eu-west-1"}, [], Platform.NONE),
        ({}, ["/opt/ml/model"], Platform.SAGEMAKER),
        ({}, ["/opt/ml/model", "models"], Platform.NONE),
        ({}, ["/opt/ml/model", "/models"], Platform.NONE),
        ({"STORAGE_URI": "s3://b/m"}, ["/mnt/models"], Platform.KSERVE),
        ({"STORAGE_URI": "s3://b/m"}, [], Platform.NONE),
        ({}, ["/mnt/models"], Platform.NONE),
    ],
)
def test_a_platform_is_known_by_its_signs(
    environment: dict[str, str], folders: list[str], platform: Platform
) -> None:
    """Only what no other place has opens the server to everybody."""
    found = hosting(around(environment, *folders))
    assert found.platform is platform
    assert ("host" in found.values) is (platform is not Platform.NONE)


def test_a_platform_can_be_named_or_refused() -> None:
    """What was asked for beats every sign; a name that nobody knows implies nothing."""
    signs = around({"AIP_HTTP_PORT": "1"})
    assert hosting(signs, "none") == Hosting(Platform.NONE, {}, {}, {})
    assert plain(hosting(signs, "sagemaker").values) == {
        **OPEN, "repository": Path("/opt/ml/model"),
    }  # fmt: skip
    assert hosting(signs, "heroku").platform is Platform.NONE


def test_models_named_by_us_stay_where_they_are() -> None:
    """With a repository of ours no folder of a platform counts, as a sign or as a place."""
    named = around({}, "/opt/ml/model", given=True)
    assert hosting(named) == Hosting(Platform.NONE, {}, {}, {})
    for platform in ("kserve", "sagemaker", "vertex"):
        asked = around({"AIP_STORAGE_URI": "gs://nowhere"}, given=True)
        assert plain(hosting(asked, platform).values) == OPEN


def test_the_usual_folders() -> None:
    """The first that exists is taken where there is no folder `models`; none is no answer."""
    assert plain(hosting(around({}, "/mnt/models", "/models")).fallback) == {
        "repository": Path("/models")
    }
    assert hosting(around({}, "/mnt/models", "models")).fallback == {}
    assert hosting(around({})).fallback == {}


def test_kserve_speaks_through_flags() -> None:
    """Its three flags are ours in another spelling, and they imply the rest of the contract."""
    flags = {"model_name": "digits", "model_dir": "/mnt/models", "http_port": "8081"}
    found = hosting(around(kserve=flags))
    assert found.platform is Platform.KSERVE
    assert found.flags == {
        "model_name": Implied("digits", "--model_name"),
        "repository": Implied("/mnt/models", "--model_dir"),
        "port": Implied("8081", "--http_port"),
    }
    assert plain(found.values) == OPEN


def test_kserve_has_a_folder_of_its_own() -> None:
    """Without --model_dir the models are where the storage initializer puts them."""
    found = hosting(around(kserve={"model_name": "digits", "grpc_port": "9"}))
    assert plain(found.flags) == {"model_name": "digits"}
    assert plain(found.values) == {**OPEN, "repository": Path("/mnt/models")}


def test_a_transformer_is_refused() -> None:
    """A flag that asks for another kind of server says what this one is."""
    assert "--predictor_host: this server is a predictor" in refusal(
        around(kserve={"predictor_host": "x"})
    )


def test_vertex_speaks_through_variables() -> None:
    """Port and routes are taken as they are, each with the variable as its origin."""
    environment = {
        "AIP_HTTP_PORT": "7080",
        "AIP_HEALTH_ROUTE": "/healthy",
        "AIP_PREDICT_ROUTE": "/answer",
        "AIP_STORAGE_URI": "/artifacts/net",
        "AIP_MODE": "PREDICTION",
    }
    found = hosting(around(environment))
    assert plain(found.values) == {
        **OPEN,
        "port": "7080",
        "health_route": "/healthy",
        "predict_route": "/answer",
        "repository": Path("/artifacts/net"),
    }
    assert found.values["port"].origin == "AIP_HTTP_PORT"
    assert found.values["repository"].origin == "AIP_STORAGE_URI"


def test_a_bucket_must_be_mounted() -> None:
    """A mounted bucket is a folder; any other URI is refused with what to do."""
    uri = {"AIP_STORAGE_URI": "gs://bucket/net/"}
    found = hosting(around(uri, "/gcs/bucket/net"))
    assert found.values["repository"].value == Path("/gcs/bucket/net")
    text = refusal(around(uri))
    assert "gs://bucket/net/ is not mounted" in text
    assert "/gcs/bucket/net" in text
    assert "ONNXPORT_REPOSITORY" in text
    assert "s3://b/x is not mounted" in refusal(around({"AIP_STORAGE_URI": "s3://b/x"}))
    local = hosting(around({"AIP_STORAGE_URI": "file:///srv/net"}))
    assert local.values["repository"].value == Path("/srv/net")


def test_sagemaker_speaks_through_variables() -> None:
    """Megabytes become bytes, Python's levels ours, and the finer of two timeouts wins."""
    environment = {
        "SAGEMAKER_BIND_TO_PORT": "8081",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "2",
        "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "45",
        "SAGEMAKER_MODEL_SERVER_TIMEOUT": "60",
        "SAGEMAKER_CONTAINER_LOG_LEVEL": "30",
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "digits",
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/json",
        "SAGEMAKER_MULTI_MODEL": "false",
    }
    found = hosting(around(environment))
    assert plain(found.values) == {
        **OPEN,
        "repository": Path("/opt/ml/model"),
        "port": "8081",
        "max_body_bytes": 6 << 20,
        "workers": "2",
        "deadline": "45",
        "log_level": "warning",
        "default_model": "digits",
    }
    assert found.values["deadline"].origin == "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"


def test_sagemaker_values_without_a_meaning_stay_for_the_check() -> None:
    """No limit on bodies is not given, and a slip of the pen is not repaired."""
    environment = {"SAGEMAKER_MAX_PAYLOAD_IN_MB": "0", "SAGEMAKER_CONTAINER_LOG_LEVEL": "LOUD"}
    values = plain(hosting(around(environment)).values)
    assert "max_body_bytes" not in values
    assert values["log_level"] == "loud"
    six = hosting(around({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "six"}))
    assert six.values["max_body_bytes"] == Implied("six", "SAGEMAKER_MAX_PAYLOAD_IN_MB")


def test_what_sagemaker_cannot_have_here() -> None:
    """Multi-model endpoints and other answers than JSON are refused at start."""
    assert "SAGEMAKER_MULTI_MODEL" in refusal(around({"SAGEMAKER_MULTI_MODEL": "true"}))
    accept = around({"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"})
    assert "'text/csv'" in refusal(accept)
