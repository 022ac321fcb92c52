"""What an API key reaches that is bound to routes: those, and the providers of their chains."""

from fallback.catalog import Catalog
from fallback.domain import Kind
from fallback.errors import NotYours


def check_route(route: str, routes: frozenset[str]) -> None:
    """Raise NotYours unless a key bound to `routes` (none: all) may use this route."""
    if routes and route not in routes:
        raise NotYours(not_yours(route, routes))


def check_provider(kind: Kind, slug: str, config: Catalog, routes: frozenset[str]) -> None:
    """Raise NotYours unless a key bound to `routes` (none: all) reaches this provider."""
    if routes and (kind, slug) not in reached(config, routes):
        raise NotYours(out_of_reach(slug))


def reached(config: Catalog, routes: frozenset[str]) -> set[tuple[Kind, str]]:
    """Return the providers in the chains of these routes."""
    return {
        (config.routes[slug].kind, step.provider.slug)
        for slug in routes
        if slug in config.routes
        for step in config.routes[slug].steps
    }


def not_yours(route: str, routes: frozenset[str]) -> str:
    """Return what a bound key is told that names another route."""
    listed = ", ".join(sorted(routes)[:10]) + (" and others" if len(routes) > 10 else "")
    return f"This API key may not use the route {route!r}: it is bound to {listed}."


def out_of_reach(slug: str) -> str:
    """Return what a bound key is told that names a provider of other routes alone."""
    return (
        f"This API key does not reach the provider {slug!r}: no route that it is bound to has it in"
        " its chain."
    )
