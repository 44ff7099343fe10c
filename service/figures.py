"""Where the roads get metrics and statistics from: this process alone, or all workers."""

from __future__ import annotations

from service.link import Link
from service.metrics import Metrics
from service.snapshots import Snapshot, merge
from service.statistics import History, Statistics
from service.tritonpage import triton_page


class OwnFigures:
    """The figures of a process that serves alone."""

    def __init__(self, metrics: Metrics, statistics: Statistics) -> None:
        """Keep the instruments."""
        self._metrics = metrics
        self._statistics = statistics

    async def page(self) -> bytes:
        """Return all instruments in Prometheus' text format."""
        families = self._metrics.snapshot()
        return self._metrics.render() + triton_page(self._statistics.snapshot(), families)

    async def history(self) -> History:
        """Return what each version has done."""
        return History(self._statistics.snapshot())


class SharedFigures:
    """The figures of all workers, whichever of them is asked."""

    def __init__(self, link: Link, metrics: Metrics) -> None:
        """Keep the way to the others."""
        self._link = link
        self._metrics = metrics

    async def page(self) -> bytes:
        """Return the instruments of all workers, and the supervisor's, in text format."""
        content = (await self._link.request("figures")).content
        merged = _merged(content)
        page = self._metrics.render_all(
            merged["families"],
            workers=content["workers"],
            restarts=content["restarts"],
            repository_ok=content["repository_ok"],
        )
        return page + triton_page(merged["statistics"], merged["families"])

    async def history(self) -> History:
        """Return what each version has done in all workers together."""
        content = (await self._link.request("figures")).content
        return History(_merged(content)["statistics"])


def _merged(content: Snapshot) -> Snapshot:
    live = {int(number): snapshot for number, snapshot in content["live"].items()}
    return merge(live, content["past"])
