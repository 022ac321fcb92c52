"""The house keeps its plan: every module has a place, imports point down, the core is plain."""

import ast
from pathlib import Path

import pytest

APP = Path(__file__).resolve().parent.parent / "fallback"

# Top may import bottom, never sideways or up. One line is one layer; a package is one module.
LAYERS = """
apps urls management templatetags
api slack admin pump checks health drill
live alerts history exporter
proposals sign_in
changes orders preview rehearsals shadow
services
status backtest
standin standing stats past
keys roles cautions
catalog configuration
stream fitness
flushing spells holding
breaker models
machine decision messages
aside
metrics times pacing deadline texts sessions
domain errors
""".strip().splitlines()

DEPTH = {name: depth for depth, layer in enumerate(LAYERS) for name in layer.split()}
CORE = {"domain", "errors", "machine", "decision", "messages"}
FRAMEWORKS = {
    "django", "redis", "django_redis", "rest_framework", "channels", "slack_bolt", "slack_sdk",
}  # fmt: skip
DOORS_TO_REDIS = {"breaker", "stream", "stats", "past", "fitness"}


def modules() -> list[tuple[str, Path]]:
    """Return (name of the module or package, file) for each file of the app."""
    files = [path for path in APP.rglob("*.py") if "migrations" not in path.parts]
    parts = [(path.relative_to(APP).with_suffix("").parts, path) for path in files]
    return [(names[0], path) for names, path in parts if names != ("__init__",)]


def imports(path: Path) -> set[str]:
    """Return every dotted name that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(path: Path) -> set[str]:
    """Return the modules of the app that a file imports."""
    dotted = [name.split(".") for name in imports(path)]
    return {parts[1] for parts in dotted if parts[0] == "fallback" and len(parts) > 1}


def test_every_module_has_a_place() -> None:
    strangers = {name for name, _ in modules()} - DEPTH.keys()

    assert not strangers


@pytest.mark.parametrize(("name", "path"), modules(), ids=[path.stem for _, path in modules()])
def test_imports_point_down(name: str, path: Path) -> None:
    wrong = {target for target in own(path) - {name} if DEPTH[target] <= DEPTH[name]}

    assert not wrong


@pytest.mark.parametrize("name", sorted(CORE))
def test_the_core_knows_no_framework(name: str) -> None:
    used = {
        dotted.split(".")[0] for of, path in modules() if of == name for dotted in imports(path)
    }

    assert not used & FRAMEWORKS


def test_redis_has_few_doors() -> None:
    users = {
        name
        for name, path in modules()
        if {dotted.split(".")[0] for dotted in imports(path)} & {"redis", "django_redis"}
    }

    assert users <= DOORS_TO_REDIS


def test_the_map_names_every_module() -> None:
    text = (APP / "__init__.py").read_text(encoding="utf-8")
    missing = {name for name, _ in modules() if name not in text}

    assert not missing
