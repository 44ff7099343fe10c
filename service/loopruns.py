"""Batches in the event loop: no thread, no wake-up, and a watchdog that keeps them short."""

from __future__ import annotations

from collections.abc import Callable

from service.errors import ServiceError
from service.lane import Job, Outcome, Stop
from service.runs import Model, Watch, failure, shared_blame
from service.scheduling import recent_strikes


class LoopRuns:
    """The runs of one model in the loop, until they take too long for it."""

    def __init__(self, model: Model, watchdog: Watch, on_stuck: Callable[[float], None]) -> None:
        """Keep the parts; ``on_stuck`` hears, on the watchdog's thread, of what does not end."""
        self._model = model
        self._watchdog = watchdog
        self._on_stuck = on_stuck
        # One for all runs until it is used, since nobody but the watchdog uses it.
        self._stop: Stop = model.new_stop()
        self._strikes: list[float] = []

    def was_over(self, now: float) -> bool:
        """Whether the run that has just ended was told to; the next one begins anew."""
        if not self._stop.stopped:
            return False
        self._stop = self._model.new_stop()
        self._strikes = [*recent_strikes(self._strikes, now), now]
        return True

    @property
    def strikes(self) -> int:
        """How many runs were told to end, of those that still count."""
        return len(self._strikes)

    def outcomes(
        self, batch: list[Job], *, max_rows: int, together: bool
    ) -> list[tuple[Job, Outcome]] | None:
        """Return what a run gives each job, or None if one job's fault is to be found elsewhere."""
        stop = self._stop
        self._watchdog.begin(stop, self._on_stuck)
        try:
            outputs = self._model.attempt(batch, stop, max_rows=max_rows, together=together)
            return list(zip(batch, outputs, strict=True))
        except ServiceError as error:
            if stop.stopped or shared_blame(error, batch):
                return None
            return [(job, error) for job in batch]
        # Whatever happens, nobody may be left waiting: one surprise would stop the model for ever.
        except Exception as surprise:  # noqa: BLE001 - see above
            told = failure(surprise)
            return [(job, told) for job in batch]
        finally:
            self._watchdog.end()
