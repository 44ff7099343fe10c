"""Keys at rest, key files, and who is known at which time."""

from __future__ import annotations

import hashlib
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access import Identity, Scope
from service.authority import Authority, FixedKeys, KeyFile
from service.errors import ConfigurationError
from service.keys import PREFIX, digest_of, find, new_key, parse_keys, toml_lines
from tests.support.access import NOW, Clock, make_key, secret, toml

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
SCOPES = st.lists(st.sampled_from(Scope), min_size=1, unique=True)
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def known(authority: Authority, *names: str) -> list[str]:
    """Return those of the names whose keys are accepted."""
    return [name for name in names if authority.identify(secret(name).encode())]


class Rotation:
    """A key file and an authority that has read it."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.file = folder / "keys.toml"
        self.file.write_text(toml(*names))
        self.changes: list[tuple[list[str], list[str]]] = []
        self.clock = Clock()
        source = KeyFile(self.file, lambda _, came, went: self.changes.append((came, went)))  # type: ignore[arg-type] # lists are sequences
        self.authority = Authority([source], clock=self.clock, wall=self.clock)

    def known(self, *names: str) -> list[str]:
        return known(self.authority, *names)


def test_keys_are_long_new_and_recognised() -> None:
    """No two are alike, each has 256 bits, and scanners find them by what they begin with."""
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(key.startswith(PREFIX) and len(key) == len(PREFIX) + 43 for key in made)


@given(NAMES, SCOPES, st.none() | TIMES)
def test_what_is_printed_for_a_new_key_lets_it_in(
    name: str, scopes: list[Scope], expires: datetime | None
) -> None:
    """The lines hold the hash alone, and mean the same name, scopes and second of expiry."""
    key = new_key()
    lines = toml_lines(key, name, scopes, expires)
    assert key not in lines
    (parsed,) = parse_keys(lines.encode(), "f")
    assert parsed.digest == hashlib.sha256(key.encode()).digest()
    assert (parsed.identity.name, parsed.identity.scopes) == (name, frozenset(scopes))
    until = parsed.identity.expires
    assert until == (float("inf") if expires is None else expires.timestamp() // 1)


@given(st.binary(max_size=300))
def test_any_content_is_keys_or_a_refusal_that_names_the_file(content: bytes) -> None:
    """Nothing but ConfigurationError is raised, and it begins with where."""
    refusal = ""
    try:
        assert parse_keys(content, "the-file")
    except ConfigurationError as error:
        refusal = str(error)
    assert not refusal or refusal.startswith("the-file: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds no key"),
        ("key = []", "holds no key"),
        ("keys = []", "unknown 'keys'"),
        ("key = [1]", "key 1: expected a table"),
        ("a = {", "not TOML"),
        (toml("a") + "colour = 1", "key 1: unknown 'colour'"),
        (toml("a", "a"), "'a' stands twice"),
        (toml("a") + toml("b").replace(digest_of(b"b-secret").hex(), digest_of(b"a-secret").hex()),
         "stands twice"),
        (toml("a b"), "key 1: name: expected"),
        (toml("a", scopes="[]"), "key 1 ('a'): scopes"),
        (toml("a", scopes='["all"]'), "got 'all'"),
        (toml("a", scopes='"predict"'), "expected a list"),
        (toml("a", expires="2026-01-01T00:00:00"), "has no offset"),
        (toml("a", expires='"soon"'), "expected a date"),
        ('[[key]]\nname = "a"\nscopes = ["read"]', "sha256: expected 64"),
    ],
)  # fmt: skip
def test_mistakes_in_a_key_file(text: str, expected: str) -> None:
    """The text says which key and which member."""
    with pytest.raises(ConfigurationError, match="f: ") as caught:
        parse_keys(text.encode(), "f")
    assert expected in str(caught.value)


def test_a_key_in_place_of_its_hash_is_not_shown() -> None:
    """Error texts end in logs; neither a member's value nor a broken line is repeated."""
    key = new_key()
    for text in (f'[[key]]\nname="a"\nscopes=["read"]\nsha256="{key}"', f"sha256 = {key}"):
        with pytest.raises(ConfigurationError) as caught:
            parse_keys(text.encode(), "f")
        assert key not in str(caught.value)


def test_a_key_is_found_among_many_by_its_hash_only() -> None:
    """Neither its name nor another case of it counts."""
    keys = [make_key(f"k{number}", {Scope.READ}) for number in range(20)]
    for key in (keys[0], keys[-1]):
        assert find(keys, key.digest) is key.identity
    assert find(keys, digest_of(b"K0-SECRET")) is None
    assert find([], digest_of(b"")) is None


def test_a_day_ends_a_key_as_it_begins_in_utc() -> None:
    """A plain date is midnight."""
    (key,) = parse_keys(toml("a", expires="2027-01-15").encode(), "f")
    assert key.identity.expires == datetime(2027, 1, 15, tzinfo=UTC).timestamp()


def test_a_key_that_was_accepted_ends_at_its_time() -> None:
    """The second before it is good, the second itself is not, and no memory keeps it."""
    clock = Clock()
    source = FixedKeys([make_key("a", {Scope.READ}, expires=NOW + 10)])
    authority = Authority([source], clock=clock, wall=clock)
    assert known(authority, "a") == ["a"]
    clock.now = NOW + 9.9
    assert known(authority, "a") == ["a"]
    clock.now = NOW + 10
    assert known(authority, "a") == []


def test_keys_are_exchanged_within_a_second(tmp_path: Path) -> None:
    """Old and new overlap as the file says; a key that was accepted before ends with its line."""
    one = Rotation(tmp_path, "old")
    assert one.known("old", "new") == ["old"]
    one.file.write_text(toml("old", "new"))
    one.clock.now += 1
    assert one.known("old", "new") == ["old", "new"]
    one.file.write_text(toml("new"))
    assert one.known("old", "new") == ["old", "new"]
    one.clock.now += 1
    assert one.known("old", "new") == ["new"]
    assert one.changes == [(["new"], []), ([], ["old"])]


def test_a_file_is_looked_at_once_a_second_at_most(tmp_path: Path) -> None:
    """A removed file is noticed by the clock, not by the call."""
    one = Rotation(tmp_path, "old")
    one.known("old")
    one.file.write_text(toml("new"))
    one.clock.now += 0.5
    assert one.known("old", "new") == ["old"]


def test_a_file_that_is_put_in_place_of_another_is_seen(tmp_path: Path) -> None:
    """A mounted secret is exchanged by its link; size and time may be the same."""
    one = Rotation(tmp_path, "old")
    other = tmp_path / "other"
    other.write_text(toml("new"))
    about = one.file.stat()
    os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))
    other.rename(one.file)
    one.clock.now += 1
    assert one.known("old", "new") == ["new"]


@pytest.mark.parametrize("damage", ["half", "empty", "gone", "folder", "long"])
def test_a_damaged_file_keeps_the_old_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    """It is logged once as an error, and the next good content counts."""
    one = Rotation(tmp_path, "old")
    match damage:
        case "half":
            one.file.write_text(toml("new")[:-9])
        case "empty":
            one.file.write_text("")
        case "long":
            one.file.write_text("#" * (1 << 21))
        case _:
            one.file.unlink()
    if damage == "folder":
        one.file.mkdir()
    for _ in range(3):
        one.clock.now += 1
        assert one.known("old", "new") == ["old"]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "still counts" in errors[0].getMessage()
    if damage == "folder":
        one.file.rmdir()
    one.file.write_text(toml("new"))
    one.clock.now += 1
    assert one.known("old", "new") == ["new"]


def test_a_server_does_not_start_with_a_file_it_cannot_read(tmp_path: Path) -> None:
    """There are no older keys then; a pipe is none that could be read twice."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("none", "pipe", "."):
        with pytest.raises(ConfigurationError, match=str(tmp_path)):
            KeyFile(tmp_path / name)


def test_many_wrong_keys_are_not_remembered() -> None:
    """Nobody fills the memory, and the right one still counts."""
    authority = Authority([FixedKeys([make_key("a", {Scope.READ})])])
    for number in range(5000):
        assert authority.identify(b"wrong %d" % number) is None
    assert authority.identify(b"x" * 100_000) is None
    assert authority.identify(b"a-secret") == Identity("a", frozenset({Scope.READ}))


def test_several_sources_know_each_their_own() -> None:
    """A key of any of them counts."""
    sources = [FixedKeys([make_key(name, {Scope.READ})]) for name in ("a", "b")]
    assert known(Authority(sources), "a", "b", "c") == ["a", "b"]
