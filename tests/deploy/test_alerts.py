"""Alerts, dashboards and the page that says what to do about them belong together."""

from __future__ import annotations

import json
import re
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_RULES = (_ROOT / "deploy/prometheus/rules.yml").read_text()
_TESTS = (_ROOT / "deploy/prometheus/rules_test.yml").read_text()
_PAGE = (_ROOT / "docs/operations.md").read_text()
_DASHBOARD = _ROOT / "deploy/grafana/dashboards/onnxport.json"
ALERTS = re.findall(r"- alert: (\w+)", _RULES)


def test_each_alert_has_a_section_that_it_points_to() -> None:
    """Who is woken at night finds what to do under the alert's name."""
    assert len(ALERTS) > 5
    assert re.findall(r"^### (Onnxport\w+)$", _PAGE, re.MULTILINE) == ALERTS
    runbooks = re.findall(r"runbook: docs/operations.md#(\w+)", _RULES)
    assert runbooks == [alert.lower() for alert in ALERTS]


def test_each_alert_is_tested_silent_and_firing() -> None:
    """By promtool, with series for both."""
    for alert in ALERTS:
        assert re.search(rf"alertname: {alert}}}", _TESTS), f"{alert} is not tested silent"
        assert re.search(rf"alertname: {alert}\n", _TESTS), f"{alert} is not tested firing"


def test_each_panel_says_what_it_shows() -> None:
    """A title, a query, and no data source of one machine."""
    dashboard = json.loads(_DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        assert panel["title"]
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
            assert "onnxport" in target["expr"] or "process_" in target["expr"]
