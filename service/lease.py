"""A version that answers, and the right to use it until the answer is out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from service.batcher import Batcher
from service.loader import Loaded
from service.terms import Terms


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A version that answers: what it needs to turn a request into an answer."""

    name: str
    version: int
    loaded: Loaded
    batcher: Batcher
    terms: Terms

    @property
    def info(self) -> dict[str, object]:
        """What is known of the model, with what its runs have taught since it was loaded."""
        info = dict(self.loaded.info)
        if self.batcher.broken:
            info["batching"] = {"rows_independent": False, "why": self.batcher.broken}
        if self.batcher.moved:
            info["moved_to_threads"] = self.batcher.moved
        return info


class Lease:
    """The right to use a live version until the answer is out; it is given back exactly once."""

    __slots__ = ("_give_back", "model")

    def __init__(self, model: LiveModel, give_back: Callable[[], None]) -> None:
        """Hold ``model``; ``give_back`` is called when it is no longer needed."""
        self.model = model
        self._give_back = give_back

    def release(self) -> None:
        """Give the right back."""
        self._give_back()

    def __enter__(self) -> LiveModel:
        """Return the model that is held."""
        return self.model

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the right back, whatever happened."""
        self._give_back()
