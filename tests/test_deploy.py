"""The Grafana dashboard and the Prometheus rules ask for metrics, labels and values that exist."""

import json
import re

import pytest
import yaml
from django.conf import settings
from prometheus_client import REGISTRY

from fallback import exporter, metrics
from fallback.domain import Mode, OutcomeKind, State

DEPLOY = settings.BASE_DIR / "deploy"
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
VALUES = {"mode": set(Mode), "state": set(State), "to": set(State), "kind": set(OutcomeKind)}
SELECTOR = re.compile(r"\b(stt_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


def expressions() -> list[str]:
    """Return every query of both files."""
    rules = yaml.safe_load((DEPLOY / "prometheus-alerts.yml").read_text())
    found = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    return found + [one["expr"] for panel in board["panels"] for one in panel["targets"]]


def served() -> dict[str, set[str]]:
    """Return the labels of each series name that a process serves."""
    names: dict[str, set[str]] = {}
    for made in vars(metrics).values():
        if hasattr(made, "_labelnames"):
            for suffix in SUFFIXES[made._type]:
                labels = {*made._labelnames, *(["le"] if suffix == "_bucket" else [])}
                names[made._name + suffix] = labels
    for family in exporter.BreakerCollector().describe():
        names[family.name] = set(family._labelnames)
    return names


@pytest.mark.parametrize("expression", expressions())
def test_every_query_asks_for_what_is_served(expression):
    known = served()
    asked = SELECTOR.findall(expression)
    grouped = {
        name for group in re.findall(r"by \(([^)]*)\)", expression) for name in group.split(", ")
    }

    assert asked
    for name, matchers in asked:
        assert name in known
        labels = {label for label, _, _ in MATCHER.findall(matchers)}
        assert labels | grouped <= known[name] | {"le"}
        for label, _, value in MATCHER.findall(matchers):
            assert set(value.split("|")) <= VALUES.get(label, set(value.split("|")))


def test_every_metric_of_ours_is_on_the_dashboard():
    board = (DEPLOY / "grafana-dashboard.json").read_text()
    own = {family.name for family in REGISTRY.collect() if family.name.startswith("stt_")}

    assert {name for name in own if name not in board} == set()


def test_every_rule_says_how_bad_it_is_and_what_it_means():
    rules = yaml.safe_load((DEPLOY / "prometheus-alerts.yml").read_text())["groups"][0]["rules"]

    assert all(rule["labels"]["severity"] in {"warning", "critical"} for rule in rules)
    assert all(rule["annotations"]["summary"] for rule in rules)
