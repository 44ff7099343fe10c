"""The load generator, against servers made of a few lines."""

from __future__ import annotations

import math
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import ServerUnusable
from benchmarks.load import Load, Outcome, build, percentile, started, write_requests

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"A;x=1\r\n0123456789\r\n2\r\n\r\n\r\n0\r\nTrailer: 1\r\n\r\n"
)
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the generator, compiled."""
    return build(tmp_path_factory.mktemp("load"))


@contextmanager
def listening(answers: Callable[[int], bytes | None]) -> Iterator[int]:
    """Answer the n-th request of each connection with ``answers(n)``; None hangs up.

    Answers go out in two pieces, so that a reader must put them together.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener, answers), daemon=True).start()
        yield listener.getsockname()[1]


def accept(listener: socket.socket, answers: Callable[[int], bytes | None]) -> None:
    """Give each connection a thread until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=converse, args=(connection, answers), daemon=True).start()


def converse(connection: socket.socket, answers: Callable[[int], bytes | None]) -> None:
    """Answer one connection until it ends."""
    count = 0
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while connection.recv(65536):
                answer = answers(count)
                if answer is None:
                    return
                connection.sendall(answer[:-7])
                connection.sendall(answer[-7:])
                count += 1
        except OSError:
            return


def press(program: Path, port: int, load: Load, folder: Path) -> tuple[Outcome, int]:
    """Run the generator; return its outcome and how often it marked the measured time."""
    marks: list[None] = []
    requests = write_requests([REQUEST], folder / "requests")
    with started(program, port, requests, load) as finish:
        outcome = finish(lambda: marks.append(None))
    return outcome, len(marks)


@needs_compiler
@pytest.mark.parametrize("answer", [OK, CHUNKED], ids=["length", "chunked"])
def test_good_answers_are_counted_and_timed(program: Path, tmp_path: Path, answer: bytes) -> None:
    """Each answer has one latency, however its end is told."""
    with listening(lambda _: answer) as port:
        outcome, marks = press(program, port, Load(2, 0.05, 0.3), tmp_path)
    assert outcome.good > 10
    assert len(outcome.latencies) == outcome.good
    assert list(outcome.latencies) == sorted(outcome.latencies)
    assert not outcome.errors
    assert marks == 2


@needs_compiler
def test_refusals_are_counted_by_status_and_have_no_latency(program: Path, tmp_path: Path) -> None:
    """A fast refusal must not make a server look fast."""
    with listening(lambda n: OK if n % 2 else REFUSAL) as port:
        outcome, _ = press(program, port, Load(1, 0.05, 0.3), tmp_path)
    assert outcome.errors.keys() == {"503"}
    assert abs(outcome.errors["503"] - outcome.good) <= 1
    assert len(outcome.latencies) == outcome.good


@needs_compiler
def test_a_connection_that_ends_within_an_answer_is_counted_and_made_anew(
    program: Path, tmp_path: Path
) -> None:
    """The load goes on."""
    with listening(lambda n: None if n == 3 else OK) as port:
        outcome, _ = press(program, port, Load(1, 0.05, 0.3), tmp_path)
    assert outcome.broken > 1
    assert outcome.good > outcome.broken


@needs_compiler
def test_an_open_loop_sends_at_its_rate(program: Path, tmp_path: Path) -> None:
    """The number of requests is that of a Poisson process, within five deviations."""
    with listening(lambda _: OK) as port:
        outcome, _ = press(program, port, Load(4, 0.05, 0.5, rate=1000), tmp_path)
    assert abs(outcome.offered - 500) < 5 * math.sqrt(500)
    assert len(outcome.latencies) == outcome.offered
    assert outcome.unanswered == 0


@needs_compiler
def test_an_open_loop_counts_what_waits_behind_a_silent_server(
    program: Path, tmp_path: Path
) -> None:
    """Requests that found no free connection have a latency too, from the time they were due."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        outcome, _ = press(program, port, Load(1, 0, 0.3, rate=200), tmp_path)
    assert outcome.good == 0
    assert outcome.unanswered == outcome.offered == len(outcome.latencies) > 20
    # All were due within 0.3 s and given up 2 s later.
    assert 2.0 <= outcome.latencies[0] < outcome.latencies[-1]


@needs_compiler
def test_the_same_seed_gives_the_same_arrivals(program: Path, tmp_path: Path) -> None:
    """And another gives others: runs can be repeated, repeats differ."""
    counts = []
    with listening(lambda _: OK) as port:
        for seed in (1, 1, 2):
            load = Load(4, 0, 0.5, rate=2000, seed=seed)
            counts.append(press(program, port, load, tmp_path)[0].offered)
    assert counts[0] == counts[1] != counts[2]


@needs_compiler
def test_a_generator_that_cannot_connect_says_so(program: Path, tmp_path: Path) -> None:
    """Instead of reporting nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ServerUnusable, match="ended early"):
        press(program, port, Load(1, 0, 0.1), tmp_path)


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_a_value_that_was_seen(share: float, value: int) -> None:
    """Of the numbers 1 to 100."""
    assert percentile(list(range(1, 101)), share) == value


def test_nothing_has_no_percentile() -> None:
    """It is not taken for zero."""
    assert math.isnan(percentile([], 0.5))


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_at_least_the_share_of_all_values_is_not_above_a_percentile(
    values: list[float], share: float
) -> None:
    """For any values and any share."""
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert sum(value <= found for value in ordered) >= share * len(ordered) - 1e-6
