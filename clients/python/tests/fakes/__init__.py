"""Local servers that speak the providers' wire protocols, with faults on demand."""

from tests.fakes.deepgram import FakeDeepgram
from tests.fakes.provider import Behaviour, FakeProvider
from tests.fakes.soniox import FakeSoniox

__all__ = ["Behaviour", "FakeDeepgram", "FakeProvider", "FakeSoniox", "fake_of"]


def fake_of(provider: str, **values: object) -> FakeProvider:
    """Return a fake of the provider."""
    return {"soniox": FakeSoniox, "deepgram": FakeDeepgram}[provider](**values)
