"""What `training.progress` promises."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from training.progress import Silent, listening


def test_a_pipe_gets_a_line_an_epoch() -> None:
    """No control characters, no markup read from figures or names."""
    text = io.StringIO()
    with listening(Console(file=text), "cnn", 3) as listener:
        listener.batch(0.5)
        listener.epoch(2, {"train_loss": 0.123456})
        listener.note("[bold] exporting")
    assert text.getvalue().splitlines() == [
        "cnn: epoch 2/3 train_loss 0.1235",
        "cnn: [bold] exporting",
    ]


def test_a_line_can_be_read_as_soon_as_it_is_written(tmp_path: Path) -> None:
    """A log is followed while the run goes on: nothing waits in a buffer for more."""
    log = tmp_path / "log"
    with log.open("w") as file, listening(Console(file=file), "rnn", 4) as listener:
        listener.note("exporting")
        assert log.read_text() == "rnn: exporting\n"


def test_a_terminal_gets_a_bar_with_the_last_figures() -> None:
    """The bar shows the share done and what was last measured."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with listening(console, "rnn", 4) as listener:
        listener.batch(0.5)
        listener.epoch(2, {"train_loss": 0.25})
        listener.batch(1.0)
    assert "rnn" in text.getvalue()
    assert "100%" in text.getvalue()
    assert "epoch 2/4 train_loss 0.25" in text.getvalue()


def test_a_note_takes_the_place_of_the_figures() -> None:
    """As it is: what looks like markup is text."""
    text = io.StringIO()
    with listening(Console(file=text, force_terminal=True, width=120), "rnn", 4) as listener:
        listener.epoch(2, {"train_loss": 0.25})
        listener.note("exporting [bold]")
    assert "exporting [bold]" in text.getvalue()


def test_silence_takes_everything() -> None:
    """Whoever does not care passes nothing on."""
    listener = Silent()
    listener.batch(0.1)
    listener.epoch(1, {})
    listener.note("x")
