"""Signed tokens: what they must say, which keys may sign them, and files that are exchanged."""

# ruff: noqa: E402 - PyJWT must be there first

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

jwt = pytest.importorskip("jwt", reason="the jwt extra brings it")

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from service.access import Identity, Scope
from service.authority import Authority
from service.errors import ConfigurationError
from service.jwks import TokenFile, TokenRules, read_jwks, verified
from tests.support.access import Clock

RULES = TokenRules("onnxport", "https://issuer.example", ("RS256", "ES256", "EdDSA"))
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PUBLIC: Mapping[str, tuple[Any, Any, str]] = {
    "rsa": (RSA, jwt.algorithms.RSAAlgorithm, "RS256"),
    "ec": (EC, jwt.algorithms.ECAlgorithm, "ES256"),
    "ed": (ED, jwt.algorithms.OKPAlgorithm, "EdDSA"),
}


def jwk(name: str, **members: object) -> dict[str, object]:
    """Return the public half of a key as a member of a set."""
    private, kind, _ = PUBLIC[name]
    return {**json.loads(kind.to_jwk(private.public_key())), "kid": name, **members}


def key_set(*entries: object) -> bytes:
    """Return a JWK set."""
    return json.dumps({"keys": entries}).encode()


KEYS = read_jwks(key_set(jwk("rsa"), jwk("ec"), jwk("ed")), "f")


def claims(**changes: object) -> dict[str, object]:
    """Return claims that hold, with changes; None takes one away."""
    good = {
        "aud": "onnxport",
        "iss": "https://issuer.example",
        "sub": "robot",
        "exp": int(time.time()) + 600,
        "scope": "predict read",
    }
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


def token(key: str = "rsa", *, head: Any = None, **changes: Any) -> bytes:
    """Return a token that one of our keys has signed."""
    private, _, algorithm = PUBLIC[key]
    text = jwt.encode(claims(**changes), private, algorithm, headers=head or {"kid": key})
    return str(text).encode()


def forged(head: object, payload: object, signature: bytes = b"") -> bytes:
    """Return three parts as a token."""
    parts = [json.dumps(head).encode(), json.dumps(payload).encode(), signature]
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


def signed_by_hash(secret: bytes, head: object) -> bytes:
    """Return a token signed with a shared secret, which the library would not do with this one."""
    text = forged(head, claims()).rpartition(b".")[0]
    mac = base64.urlsafe_b64encode(hmac.digest(secret, text, "sha256")).rstrip(b"=")
    return text + b"." + mac


@pytest.mark.parametrize("key", list(PUBLIC))
def test_a_token_of_each_kind_of_key_stands_for_its_subject(key: str) -> None:
    """With the scopes of its claim, until it expires; the name tells it from a key's."""
    until = int(time.time()) + 60
    found = verified(token(key, exp=until), KEYS, RULES)
    assert found == Identity("jwt:robot", frozenset({Scope.PREDICT, Scope.READ}), float(until))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "other"}, {"aud": None}, {"aud": []}, {"iss": "https://issuer"}, {"iss": None},
        {"exp": 1}, {"exp": None}, {"exp": "soon"},
        {"nbf": 1 << 40}, {"sub": None}, {"sub": 7}, {"iat": "never"},
    ],
)  # fmt: skip
def test_a_token_that_is_not_for_us_or_not_now_is_nobodys(changes: dict[str, Any]) -> None:
    """Audience, issuer, subject and time are all asked for."""
    assert verified(token(**changes), KEYS, RULES) is None


@pytest.mark.parametrize(
    "exp", [float("inf"), float("nan"), 10**400], ids=["infinite", "no number", "huge"]
)
def test_a_token_that_never_ends_is_nobodys(exp: float) -> None:
    """An expiry that no clock shows is none."""
    assert verified(token(exp=exp), KEYS, RULES) is None


def test_only_listed_algorithms_with_public_keys_count() -> None:
    """No signature, a public key used as a shared secret, another algorithm, another's key."""
    good = token()
    head, payload, signature = good.split(b".")
    none = forged({"alg": "none", "kid": "rsa"}, claims())
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    shared = signed_by_hash(pem, {"alg": "HS256", "kid": "rsa"})
    wider = jwt.encode(claims(), RSA, "RS512", headers={"kid": "rsa"}).encode()
    for bad in (
        none, none.rstrip(b"."), shared, wider,
        token("rsa", head={"kid": "ec"}), token("ec", head={"kid": "rsa"}),
        token("rsa", head={"kid": "unknown"}),
        token("rsa", head={"kid": "rsa", "crit": ["exp"], "exp": 1}),
        head + b"." + payload + b".", b".".join((head, payload, signature[:-4])),
        b".".join((head, forged({}, claims(sub="root")).split(b".")[1], signature)),
        b"..", b"a.b.c", good + b".x", b"",
    ):  # fmt: skip
        assert verified(bad, KEYS, RULES) is None, bad
    assert verified(good, KEYS, RULES) is not None


def test_a_token_without_a_key_id_needs_a_set_of_one() -> None:
    """Else nobody says which key is meant."""
    private, _, algorithm = PUBLIC["ec"]
    nameless = jwt.encode(claims(), private, algorithm).encode()
    assert verified(nameless, KEYS, RULES) is None
    assert verified(nameless, read_jwks(key_set(jwk("ec")), "f"), RULES) is not None


def test_a_key_that_is_bound_to_an_algorithm_signs_with_no_other() -> None:
    """The set may say less than the settings, not more."""
    bound = read_jwks(key_set(jwk("rsa", alg="PS256")), "f")
    assert verified(token(), bound, RULES) is None


@pytest.mark.parametrize(
    ("claim", "scopes"),
    [
        ("predict", {"predict"}),
        (["read", "metrics"], {"read", "metrics"}),
        ("openid everything", set()),
        (None, set()),
        ({"read": True}, set()),
        (["read", 1, None], {"read"}),
    ],
)
def test_the_claim_of_scopes(claim: object, scopes: set[str]) -> None:
    """A text or a list; words of others mean nothing here."""
    found = verified(token(scope=claim), KEYS, RULES)
    assert found is not None
    assert found.scopes == scopes


@given(st.text(min_size=1))
def test_a_subject_becomes_a_name_that_a_log_can_hold(subject: str) -> None:
    """Short, and of printable ASCII, whatever the issuer wrote."""
    found = verified(token("ed", sub=subject), KEYS, RULES)
    assert found is not None
    assert found.name.isascii()
    assert found.name.isprintable()
    assert len(found.name) <= 68


def test_scopes_may_have_another_claim_and_a_prefix() -> None:
    """As issuers that serve several services do."""
    rules = TokenRules(
        RULES.audience, RULES.issuer, ("RS256",), scope_claim="roles", scope_prefix="onnxport:"
    )
    found = verified(token(roles=["onnxport:admin", "predict"]), KEYS, rules)
    assert found is not None
    assert found.scopes == {"admin"}


def test_secret_and_private_keys_of_a_set_sign_nothing() -> None:
    """Whoever reads such a file could sign; keys of unknown kinds are passed over."""
    secret = {"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 64).decode(), "kid": "s"}
    private = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC))
    others = [secret, private, jwk("rsa", use="enc"), {"kty": "RSA"}, {"kty": "EC", "crv": "?"}, 7]
    assert len(read_jwks(key_set(*others, jwk("ed")), "f")) == 1
    with pytest.raises(ConfigurationError, match="f: holds no public key"):
        read_jwks(key_set(*others), "f")


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(key_set))
def test_any_content_is_a_set_or_a_refusal(content: bytes) -> None:
    """Nothing but ConfigurationError is raised."""
    with pytest.raises(ConfigurationError, match=r"^f: "):
        read_jwks(content, "f")


HEADS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit"]),
    st.none() | st.integers() | st.sampled_from(["RS256", "rsa", "none"]) | st.lists(st.text()),
)


@given(st.binary(max_size=300), HEADS)
def test_any_token_is_answered(content: bytes, head: dict[str, object]) -> None:
    """Whatever a caller shows as a token is nobody's, and no error."""
    assert verified(content, KEYS, RULES) is None
    assert verified(forged(head, {}, content), KEYS, RULES) is None


def test_the_file_of_keys_is_exchanged_while_the_server_runs(tmp_path: Path) -> None:
    """A key that is gone signs no more, accepted tokens included."""
    file, clock = tmp_path / "jwks.json", Clock()
    file.write_bytes(key_set(jwk("rsa")))
    authority = Authority([TokenFile(file, RULES)], clock=clock)
    old, new = token("rsa"), token("ec")
    assert authority.identify(old)
    assert not authority.identify(new)
    file.write_bytes(key_set(jwk("ec")))
    clock.now += 1
    assert not authority.identify(old)
    assert authority.identify(new)
    file.write_bytes(b"{")
    clock.now += 1
    assert authority.identify(new)


def test_an_accepted_token_ends_when_it_expires() -> None:
    """What is remembered of it holds its time."""
    clock, until = Clock(time.time()), int(time.time()) + 600
    found = verified(token(exp=until), KEYS, RULES)
    assert found is not None

    class Once:
        def poll(self) -> bool:
            return False

        def find(self, credential: bytes, digest: bytes) -> Identity | None:
            return found

    authority = Authority([Once()], clock=clock, wall=clock)
    assert authority.identify(b"t")
    clock.now = until
    assert authority.identify(b"t") is None
