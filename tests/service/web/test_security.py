"""The rules of access on plain values: headers, hosts, pages of others, ports."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access import ANYBODY
from service.errors import Forbidden, HostNotAllowed, Unauthenticated
from service.web.exchange import path_of
from service.web.security import (
    Access,
    Gate,
    Policy,
    credential_of,
    host_of,
    on_port,
    refuse_foreign,
)

Pairs = list[tuple[bytes, bytes]]
# What h11 and httptools let through in a value, without blanks at its ends.
VALUES = st.binary(max_size=200).map(lambda value: value.replace(b"\r", b"").replace(b"\n", b""))
NAMES = st.sampled_from(
    [b"authorization", b"x-api-key", b"host", b"cookie", b"proxy-authorization"]
)
KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=80)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_any_headers_are_a_key_none_or_refused(headers: Pairs) -> None:
    """Whatever is sent, nothing but Unauthenticated is raised, and an empty key is none."""
    shown, found = True, None
    try:
        found = credential_of(headers)
    except Unauthenticated as error:
        shown = error.shown
    assert shown
    assert found != b""


@given(KEYS, st.sampled_from(["Bearer", "bearer", "BEARER"]), st.integers(1, 3))
def test_a_bearer_token_is_found_as_it_is(key: str, scheme: str, blanks: int) -> None:
    """The scheme in any case, and blanks around the key, which is not changed."""
    value = f"  {scheme}{' ' * blanks}{key} ".encode()
    assert credential_of([(b"authorization", value)]) == key.encode()
    assert credential_of([(b"x-api-key", f" {key}".encode())]) == key.encode()


@given(st.text(max_size=20).filter(lambda user: ":" not in user), KEYS)
def test_of_user_and_password_the_password_is_the_key(user: str, key: str) -> None:
    """Colons may stand in the key."""
    value = b"Basic " + base64.b64encode(f"{user}:{key}".encode())
    assert credential_of([(b"authorization", value)]) == key.encode()


@given(KEYS, KEYS)
def test_two_keys_are_one_only_if_they_are_equal(first: str, second: str) -> None:
    """Headers that may mean two callers are refused in either order."""
    headers = [(b"x-api-key", first.encode()), (b"authorization", b"Bearer " + second.encode())]
    for order in (headers, headers[::-1]):
        if first == second:
            assert credential_of(order) == first.encode()
        else:
            with pytest.raises(Unauthenticated, match="several keys"):
                credential_of(order)


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("Example.org", "example.org"),
        ("example.org:8080", "example.org"),
        ("[::1]:80", "::1"),
        ("[::1]", "::1"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("a:b", "a:b"),
        ("", ""),
    ],
)
def test_the_name_in_a_host_header(value: str, host: str) -> None:
    """Without its port and brackets; what has none of the known forms is no known name."""
    assert host_of([(b"host", value.encode())]) == host


def test_no_host_or_several_name_nothing() -> None:
    """Of several nobody knows which one a proxy has read."""
    assert host_of([]) == host_of([(b"host", b"a"), (b"host", b"b")]) == ""


def test_only_listed_hosts_are_answered_where_some_are_listed() -> None:
    """Probes of health, which know an address only, are not asked."""
    gate = Gate(Policy(hosts=frozenset({"models.example"})))
    gate.authorize(ANYBODY, Access.READ, [(b"host", b"Models.Example:443")], None)
    gate.authorize(ANYBODY, Access.HEALTH, [(b"host", b"10.0.0.7")], None)
    refused: list[Pairs] = [[(b"host", b"evil.example")], []]
    for headers in refused:
        with pytest.raises(HostNotAllowed):
            gate.authorize(ANYBODY, Access.READ, headers, None)
        assert gate.passes(Access.PREDICT, headers, None) is None


def page(host: str, origin: str = "", site: str = "") -> Pairs:
    """Return what a browser sends with a post of a page."""
    pairs = [("host", host), ("origin", origin), ("sec-fetch-site", site)]
    return [(name.encode(), value.encode()) for name, value in pairs if value]


@pytest.mark.parametrize(
    ("headers", "closed", "hosts"),
    [
        (page("anything.example"), False, ()),
        (page("127.0.0.1:8080", "http://127.0.0.1:8080", "same-origin"), False, ()),
        (page("localhost:8080", "http://localhost:8080"), False, ()),
        (page("[::1]:8080", "http://[::1]:8080"), False, ()),
        (page("models.example", "https://models.example"), True, ()),
        (page("models.example:443", "https://models.example"), True, ()),
        (page("10.0.0.1:8080", "https://models.example"), True, ("models.example",)),
        (page("models.example", "https://models.example"), False, ("models.example",)),
        (page("127.0.0.1", "", "none"), False, ()),
    ],
)
def test_programs_and_own_pages_may_do_admin(
    headers: Pairs, *, closed: bool, hosts: Sequence[str]
) -> None:
    """A program sends neither Origin nor Sec-Fetch-Site; a page from here names our host."""
    refuse_foreign(headers, closed=closed, hosts=hosts)


@pytest.mark.parametrize(
    ("headers", "closed"),
    [
        (page("127.0.0.1:8080", "http://evil.example"), False),
        (page("127.0.0.1:8080", "http://evil.example"), True),
        (page("127.0.0.1:8080", "http://127.0.0.1:9090"), True),
        (page("127.0.0.1:8080", "null"), True),
        (page("127.0.0.1:8080", "http://127.0.0.1:8080:1"), True),
        (page("127.0.0.1:8080", "http://[::1"), True),
        (page("127.0.0.1:8080", "", "cross-site"), True),
        (page("127.0.0.1:8080", "http://127.0.0.1:8080", "same-site"), True),
        # The name of a page that was made to mean this machine after the page had come.
        (page("evil.example:8080", "http://evil.example:8080", "same-origin"), False),
        (page("evil.example:8080", "", "same-origin"), False),
    ],
)
def test_pages_of_others_may_not_do_admin(headers: Pairs, *, closed: bool) -> None:
    """Neither by a post across sites nor by a name that has come to mean this machine."""
    with pytest.raises(Forbidden):
        refuse_foreign(headers, closed=closed, hosts=())


def test_the_foreign_page_is_refused_on_admin_roads_only() -> None:
    """Predictions may be asked for by whatever page has a key."""
    headers = page("127.0.0.1", "http://evil.example")
    gate = Gate()
    gate.authorize(ANYBODY, Access.PREDICT, headers, None)
    assert gate.passes(Access.PREDICT, headers, None) is ANYBODY
    assert gate.passes(Access.ADMIN, headers, None) is None
    with pytest.raises(Forbidden):
        gate.authorize(ANYBODY, Access.ADMIN, headers, None)


def test_which_roads_are_on_which_port() -> None:
    """Admin is on its own port only, predictions on the main one only, the rest on both."""
    for access in Access:
        assert on_port(access, 80, None)
        assert on_port(access, 80, 90) is (access is not Access.ADMIN)
        assert on_port(access, 90, 90) is (access is not Access.PREDICT)
        # A unix socket has no port; it is a main one.
        assert on_port(access, None, 90) is (access is not Access.ADMIN)


@pytest.mark.parametrize(
    ("path", "cut", "below"),
    [("/ml/livez", "/ml", "/livez"), ("/ml", "/ml", ""), ("/mlx", "/ml", "/mlx"), ("/a", "", "/a")],
)
def test_the_path_below_a_proxys(path: str, cut: str, below: str) -> None:
    """It is the one that roads are looked for by."""
    assert path_of({"path": path, "root_path": cut}) == below
