"""Speech that nobody transcribes: the one failure that no framework sees.

Pure: every time is passed in, in seconds of a monotonic clock.
"""

from dataclasses import dataclass
from typing import Final

AFTER_S: Final = 3.0  # since the end of the first utterance without an answer
UTTERANCES: Final = 2  # one may be a cough
SPEECH_S: Final = 1.2


@dataclass(slots=True)
class StallWatch:
    """Counts utterances that no new text has answered.

    The wait begins at the first of them and is not begun again by the next: a caller who keeps
    talking must not hide the stall.
    """

    after_s: float = AFTER_S
    utterances: int = UTTERANCES
    speech_s: float = SPEECH_S
    is_muted: bool = False
    _count: int = 0
    _spoken_s: float = 0.0
    _armed_s: float | None = None
    _began_s: float | None = None
    _is_answered: bool = False
    _text: str = ""

    @property
    def is_speaking(self) -> bool:
        """Whether the caller is speaking."""
        return self._began_s is not None

    @property
    def is_waiting(self) -> bool:
        """Whether something was said that has no answer yet."""
        return self._count > 0

    def started(self, now_s: float) -> None:
        """The caller began to speak."""
        self._began_s, self._is_answered = now_s, False

    def stopped(self, now_s: float) -> None:
        """The caller stopped. `now_s` and that of `started` are of speech, not of its detection."""
        began_s, self._began_s = self._began_s, None
        if began_s is None or self._is_answered:
            return
        self._count += 1
        self._spoken_s += max(0.0, now_s - began_s)
        self._armed_s = now_s if self._armed_s is None else self._armed_s

    def text(self, text: str, *, is_final: bool) -> bool:
        """Take a transcript; False for one that proves nothing: an empty one, or the same again."""
        words = text.strip()
        if not words or (not is_final and words == self._text):
            return False
        self._text = "" if is_final else words
        self._is_answered = True
        self.forget()
        return True

    def forget(self) -> None:
        """Count anew: it was answered, or somebody else listens now."""
        self._count, self._spoken_s, self._armed_s = 0, 0.0, None

    def mute(self, is_muted: bool) -> None:
        """Nothing is listened to while muted."""
        self.is_muted = is_muted
        self.forget()

    def due_s(self) -> float | None:
        """When it is a stall if nothing more comes; None while there is too little to say so."""
        if self._armed_s is None or self._count < self.utterances or self._spoken_s < self.speech_s:
            return None
        return self._armed_s + self.after_s

    def is_stalled(self, now_s: float) -> bool:
        """Whether it is a stall by now."""
        due_s = self.due_s()
        return due_s is not None and now_s >= due_s and not self.is_muted
