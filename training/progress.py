"""What a person sees of a run: bars on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Listener(Protocol):
    """Is told how far a run is."""

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Epoch ``number``, counted from 1, has ended with these figures."""
        ...

    def batch(self, share: float) -> None:
        """This share of the whole training is done."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line has begun or ended."""
        ...


class Silent:
    """Shows nothing."""

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Ignore it."""

    def batch(self, share: float) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""


class Lines:
    """A line an epoch, for logs and pipes."""

    def __init__(self, console: Console, name: str, epochs: int) -> None:
        """Write to ``console``, each line led by the run's name."""
        self._console = console
        self._name = name
        self._epochs = epochs

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Write the figures."""
        self.note(f"epoch {number}/{self._epochs} {describe(figures)}")

    def batch(self, share: float) -> None:
        """Write nothing: a log needs no movement."""

    def note(self, text: str) -> None:
        """Write the text."""
        self._console.print(f"{self._name}: {text}", highlight=False, markup=False, soft_wrap=True)


class Bars:
    """One bar that moves with every batch; the last epoch's figures stand behind it."""

    def __init__(self, progress: Progress, name: str, epochs: int) -> None:
        """Add a bar to ``progress``, which is already live."""
        self._progress = progress
        self._epochs = epochs
        self._task: TaskID = progress.add_task(name, total=1.0, figures="")

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Show the figures behind the bar."""
        text = f"epoch {number}/{self._epochs} {describe(figures)}"
        self._progress.update(self._task, figures=text)

    def batch(self, share: float) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=share)

    def note(self, text: str) -> None:
        """Show the text behind the bar."""
        self._progress.update(self._task, figures=text)


@contextmanager
def listening(console: Console, name: str, epochs: int) -> Iterator[Listener]:
    """Yield bars if the console is a terminal, else lines."""
    if not console.is_terminal:
        yield Lines(console, name, epochs)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        yield Bars(progress, name, epochs)


def describe(figures: Mapping[str, float]) -> str:
    """Return figures as one short text: "train_loss 0.412  train_accuracy 0.853"."""
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
