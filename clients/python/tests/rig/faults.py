"""What is done to a provider in the middle of a call, each as a step of a scenario."""

from collections.abc import Awaitable
from typing import Literal

from tests.fakes import FakeProvider
from tests.rig.scene import Do, Scene

Who = Literal["primary", "other"]


def fake_in(scene: Scene, who: Who) -> FakeProvider:
    """The provider that is meant."""
    return scene.primary if who == "primary" else scene.other


def behaves(who: Who, **values: object) -> Do:
    """Let it behave so from now on; a stream's fault begins at once."""

    def do(scene: Scene) -> None:
        behaviour = fake_in(scene, who).behaviour
        for name, value in {"after_s": 0.0, **values}.items():
            setattr(behaviour, name, value)

    return do


def resets(who: Who) -> Do:
    """Reset its live connections; the next ones are as it behaves."""
    return lambda scene: fake_in(scene, who).kill_all()


def is_out(who: Who, connect: str = "http:503") -> Do:
    """Reset its live connections and have no new ones."""

    def do(scene: Scene) -> None:
        fake_in(scene, who).behaviour.connect = connect
        fake_in(scene, who).kill_all()

    return do


def is_well(who: Who) -> Do:
    """Let it behave well again."""
    return behaves(who, connect="ok", stream="ok", latency_s=0.0, connect_delay_s=0.0, flap_s=0.0)


def stalls(who: Who) -> Do:
    """Keep its connections open and say nothing."""
    return behaves(who, stream="stall")


def closes(who: Who, code: int) -> Do:
    """Close its live connections once."""

    def do(scene: Scene) -> Awaitable[None]:
        return fake_in(scene, who).close_all(code)

    return do


def complains(who: Who, code: int) -> Do:
    """Send an in-band error on its live connections once, and close them."""

    def do(scene: Scene) -> Awaitable[None]:
        return fake_in(scene, who).complain_all(code)

    return do


def flaps(who: Who, every_s: float) -> Do:
    """Reset each connection some seconds after it came, those of now too."""

    def do(scene: Scene) -> None:
        fake_in(scene, who).behaviour.flap_s = every_s
        fake_in(scene, who).kill_all()

    return do
