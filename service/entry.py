"""One load of one version: from the disk to an open engine, its leases, and its end."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from service.batcher import Batcher, BatchPolicy, Hooks, Model
from service.device import on_device
from service.engine import Engine, Stop
from service.errors import DeviceLost, FilesChanged, ModelNotReady, Quarantined, ServiceError
from service.isolated import isolate
from service.lease import Lease, LiveModel
from service.lifecycle import IN_PROGRESS, LEAVING, LEGAL_MOVES, ModelView, State
from service.loader import Loaded, LoadOptions, options_for
from service.logs import printable
from service.means import Means
from service.memory import give_back
from service.observer import BatchReport, LoadReport
from service.padding import layout_of
from service.repository import Found
from service.serving import ServingRules
from service.terms import Terms
from service.tracing import RunTrace

_log = logging.getLogger("onnxport.registry")


class Entry:
    """A version on its way through the states; changed only on the event loop.

    ``first`` says that it was wanted from the start, ``stands`` that it is what its name and
    version mean: a replacement stands only when it is ready, and its forerunner no longer.  Only
    an entry that stands is observed.  ``quiet`` keeps the log free of a try that others have told
    of; ``rejected`` is what has last failed to take this one's place.
    """

    def __init__(
        self, found: Found, means: Means, *, first: bool = False, quiet: bool = False
    ) -> None:
        """Begin in PENDING, with nothing open."""
        self.found = found
        self.first = first
        self.quiet = quiet
        self.rejected: Found | None = None
        self.stands = False
        self.state = State.PENDING
        self.reason = ""
        self.code = ""
        self._means = means
        self._live: LiveModel | None = None
        self._batching: BatchPolicy | None = None
        self._leases = 0
        self._unused = asyncio.Event()

    def __repr__(self) -> str:
        """Show what matters when a version does not go away."""
        return f"<Entry {self.found.name}/{self.found.version} {self.state}, {self._leases} leases>"

    def view(self, rules: ServingRules) -> ModelView:
        """Return what is known, under the rules that are in force for the model."""
        loaded = self._live.loaded if self._live else None
        return ModelView(
            self.found.name,
            self.found.version,
            self.state,
            self.reason,
            loaded.contract.input_specs if loaded else (),
            loaded.contract.output_specs if loaded else (),
            self._live.info if self._live else {},
            rules,
            self._batching,
            loaded.engine.provider if loaded else "",
            loaded.showcase if loaded else None,
            loaded.contract if loaded else None,
            self.code,
        )

    def report(self) -> None:
        """Tell the observer the state, and of a version that answers what its load was like."""
        observer = self._means.observer
        observer.model_state(self.found.name, self.found.version, self.state)
        if self._live is not None and self.state is State.READY:
            observer.loaded(_load_report(self._live))
            runtime = runtime_of(self._live.loaded)
            self._means.observer.placement(
                self.found.name,
                self.found.version,
                nodes=runtime.get("nodes", {}),
                fell_back=bool(runtime.get("fell_back")),
            )

    async def load(self) -> None:
        """Open and prove the version: READY, or FAILED with a reason; raises only surprises."""
        loop, means = asyncio.get_running_loop(), self._means

        def on_step(step: str) -> None:
            loop.call_soon_threadsafe(self._move, State(step))

        self._move(State.LOADING)
        options = options_for(self.found, means.options)
        if self.found.rules.apart:
            # The loop cannot wait for another process.
            options = replace(options, batching=replace(options.batching, run="threads"))
        try:
            loaded = await loop.run_in_executor(means.loads, self._load, options, on_step)
        except FilesChanged as error:
            self.quiet = True
            self._fail(str(error), error.code)
            return
        except ServiceError as error:
            if isinstance(error, DeviceLost):
                means.health.lose(str(error))
            self._fail(str(error), error.code)
            return
        except (OSError, MemoryError) as error:
            self._fail(f"{self.found.path}: {error}")
            return
        finally:
            # A surprise travels on to the log, but must not leave the version loading for ever.
            if sys.exception() is not None and self.state in IN_PROGRESS:
                self._fail("internal error while loading")
        self._answer_with(loaded)

    def _load(self, options: LoadOptions, on_step: Callable[[str], None]) -> Loaded:
        """Load on a thread; raises FilesChanged where the outcome says nothing of the files now."""
        found = self.found
        changed = FilesChanged(f"{found.path}: its files changed while they were loaded")
        try:
            loaded = self._means.load(found, options, on_step)
            loaded = isolate(loaded, found, options)
        except (ServiceError, OSError) as error:
            if found.has_changed:
                raise changed from error
            raise
        if found.has_changed:
            loaded.engine.close()
            raise changed
        return loaded

    def refuse(self, reason: str) -> None:
        """End in FAILED without a try."""
        self._move(State.LOADING)
        self._fail(reason, Quarantined.code)

    def _answer_with(self, loaded: Loaded) -> None:
        found = self.found
        self._batching = self._policy(loaded)
        loaded = replace(
            loaded,
            engine=on_device(
                loaded.engine,
                self._means.health,
                max_rows=self._batching.max_rows,
                batchable=self._batching.batchable,
            ),
        )
        batcher = self._batcher(loaded, self._batching)
        self._tell_fallback(runtime_of(loaded))
        notes = loaded.info.get("notes")
        info = {**loaded.info, "notes": [*(notes if isinstance(notes, list) else ()), *found.notes]}
        terms = Terms.of(loaded.contract)
        self._live = LiveModel(
            found.name, found.version, replace(loaded, info=info), batcher, terms
        )
        # A loader that has nothing to warm up says nothing of it.
        self._move(State.WARMING)
        self._move(State.READY)

    def _tell_fallback(self, runtime: Mapping[str, Any]) -> None:
        """Say which provider stands in for the one that was asked for, and why."""
        if runtime.get("fell_back"):
            reasons = runtime.get("providers_unavailable", {})
            why = "; ".join(f"provider '{name}': {reason}" for name, reason in reasons.items())
            _log.warning(
                "model %s version %d: runs on '%s' instead: %s",
                self.found.name,
                self.found.version,
                runtime.get("provider"),
                printable(why),
            )

    def _policy(self, loaded: Loaded) -> BatchPolicy:
        policy, batchable = self._means.policy, loaded.contract.batchable
        if loaded.tuning is None:
            return replace(policy, batchable=batchable)
        wait = self.found.rules.batching.max_wait_ms
        return loaded.tuning.policy(policy, batchable=batchable, max_wait_ms=wait)

    def _batcher(self, loaded: Loaded, policy: BatchPolicy) -> Batcher:
        name, version, observer = self.found.name, self.found.version, self._means.observer
        hooks = Hooks(
            on_batch=lambda jobs, rows, seconds: observer.batch(
                BatchReport(name, version, jobs, rows, seconds)
            ),
            on_queue=lambda rows: observer.queue(name, version, rows),
            on_moved=lambda why: _log.warning(
                "model %s version %d: %s; it runs on threads from now on", name, version, why
            ),
            on_stuck=partial(self._stuck, threading.get_ident()),
            on_traced=lambda traces, rows, started, ended: observer.traced(
                RunTrace(name, version, rows, started, ended, traces)
            ),
        )
        model = Model(loaded.engine.run, Stop, layout_of(loaded.contract))
        return Batcher(model, policy, self._means.runs, self._means.watchdog, hooks)

    def _stuck(self, owner: int, seconds: float) -> None:
        """Tell of a run that does not end; on the loop, or on the thread that watches the loop.

        Of the latter nobody can be told while it lasts: who waits for a sign of this process finds
        out.
        """
        name, version = self.found.name, self.found.version
        _log.error(
            "model %s version %d: a run was told to end %.1f s ago and goes on",
            name,
            version,
            seconds,
        )
        if threading.get_ident() == owner:
            self._means.spare()
            self._means.observer.stuck(name, version, seconds)

    def _fail(self, reason: str, code: str = ServiceError.code) -> None:
        self.code = code
        # Paths and names in a file may hold what no answer can carry.
        self.reason = printable(self.found.told(reason))
        self._move(State.FAILED)
        news = self._means.failures.is_news(self.found, self.reason)
        _log.log(
            logging.ERROR if news and not self.quiet else logging.DEBUG,
            "model %s version %d: %s",
            self.found.name,
            self.found.version,
            printable(reason),
            extra={"fields": {"code": code}},
        )

    def _move(self, state: State) -> None:
        if state not in LEGAL_MOVES[self.state]:
            # A thread's late report of a step that has already ended.
            return
        self.state = state
        beside = ""
        if self.stands:
            self.report()
        else:
            beside = " (replaced)" if state in LEAVING else " (replacement)"
        if state is not State.FAILED:
            quiet = self.quiet and state in IN_PROGRESS
            _log.log(
                logging.DEBUG if quiet else logging.INFO,
                "model %s version %d: %s%s",
                self.found.name,
                self.found.version,
                state,
                beside,
            )

    @property
    def on_device(self) -> bool:
        """Whether it answers from a device that can be lost."""
        return self.state is State.READY and self._provider != "cpu"

    @property
    def _provider(self) -> str:
        return self._live.loaded.engine.provider if self._live else "cpu"

    def lease(self) -> Lease:
        """Hold the version open while it answers; raises ModelNotReady with its state."""
        if self._live is None or self.state is not State.READY:
            reason = f": {self.reason}" if self.reason else ""
            raise ModelNotReady(
                f"model '{self.found.name}' is not ready, it is {self.state}{reason}"
            )
        self._leases += 1
        return Lease(self._live, self._release)

    def _release(self) -> None:
        self._leases -= 1
        if not self._leases:
            self._unused.set()

    def leave(self) -> None:
        """Grant no lease from now on; nothing else may follow but `aclose`."""
        # Why it once was not replaced does not say why it goes.
        self.reason = self.code = ""
        self._move(State.DRAINING)

    async def aclose(self) -> None:
        """Let every lease end, then give the engine's memory back: UNLOADED."""
        live = self._live
        if live is not None:
            while self._leases:
                self._unused.clear()
                await self._unused.wait()
            await live.batcher.aclose()
            self._live = None
            # Not on the pool of the loads: a long load must not keep this memory from the next.
            await asyncio.to_thread(_close, live.loaded.engine)
        self._move(State.UNLOADED)


def _load_report(live: LiveModel) -> LoadReport:
    info = live.loaded.info
    verification = info.get("verification")
    error = verification.get("max_abs_difference") if isinstance(verification, dict) else None
    seconds = info.get("load_seconds")
    return LoadReport(
        live.name,
        live.version,
        seconds if isinstance(seconds, float) else 0.0,
        live.loaded.engine.provider,
        error if isinstance(error, float) else None,
    )


def runtime_of(loaded: Loaded) -> Mapping[str, Any]:
    """Return what model-info says of the session; nothing where a loader says nothing."""
    runtime = loaded.info.get("runtime")
    return runtime if isinstance(runtime, Mapping) else {}


def _close(engine: Engine) -> None:
    engine.close()
    give_back()
