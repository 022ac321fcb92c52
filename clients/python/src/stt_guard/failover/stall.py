"""Speech that nobody transcribes: when it is worth a second opinion.

It is never more than a doubt: noise, a television and a cough look the same. Only words that
another provider finds in the same sound prove that the first one missed them.

Pure: every time is passed in, in seconds of a monotonic clock.
"""

from typing import Final

from stt_guard.failover.limits import Limits

SLOWER: Final = 1.5  # an answer is late once it takes this many times the slowest so far
PATIENCE_MAX_S: Final = 30.0
# A provider that wrote during this utterance owes a transcript for what is longer than this.
REST_S: Final = 0.8


class StallWatch:
    """Knows since when the caller waits for a transcript of finished speech.

    The wait begins at the first utterance without an answer and is not begun again by the next:
    a caller who keeps talking must not hide a stall. It gets longer with each doubt that nothing
    came of, and with a provider that was slow before.
    """

    __slots__ = (
        "_began_s",
        "_doubts",
        "_ended_s",
        "_has_finals",
        "_is_owed_final",
        "_limits",
        "_owed_s",
        "_slowest_s",
        "_text",
        "_writes_while_speaking",
        "_wrote_s",
        "is_muted",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.is_muted = False
        self._began_s: float | None = None  # of the utterance that goes on
        self._wrote_s: float | None = None  # the last new text
        self._owed_s: float | None = None  # the end of the first utterance without an answer
        self._ended_s: float | None = None  # the same, whether or not it is worth a doubt
        self._is_owed_final = False
        self._text = ""
        self._doubts = 0
        self._slowest_s = 0.0
        self._has_finals = self._writes_while_speaking = False

    def meet_another(self, now_s: float, *, is_answered: bool) -> None:
        """Another provider listens from now: forget what was learned of the one before."""
        self._slowest_s = 0.0
        self._has_finals = self._writes_while_speaking = False
        if is_answered:
            self._forget()
            self._wrote_s = now_s
        else:
            self.begin_again(now_s)

    def begin_again(self, now_s: float) -> None:
        """What was owed is owed from now: it was just said again."""
        if self._owed_s is not None:
            self._owed_s = self._ended_s = now_s

    @property
    def is_speaking(self) -> bool:
        """Whether the caller is speaking."""
        return self._began_s is not None

    @property
    def owed_since_s(self) -> float | None:
        """Since when an answer to finished speech is due; None when there is nothing to answer."""
        return self._owed_s

    @property
    def shown_words(self) -> int:
        """How many words of an interim text are not final yet."""
        return len(self._text.split())

    def started(self, now_s: float) -> None:
        """The caller began to speak."""
        self._began_s, self._is_owed_final = now_s, False

    def stopped(self, now_s: float) -> None:
        """The caller stopped. `now_s` and that of `started` are of speech, not of its detection."""
        began_s, self._began_s = self._began_s, None
        if began_s is None or self.is_muted:
            return
        if self._ended_s is None or now_s - self._ended_s > self._limits.late_s:
            self._ended_s = now_s  # a noise long ago is not what is answered now
        if self._owed_s is not None:
            return
        if self._is_owed(began_s, now_s):
            self._owed_s = now_s

    def _is_owed(self, began_s: float, ended_s: float) -> bool:
        wrote_s = self._wrote_s
        if wrote_s is None or wrote_s < began_s:
            return ended_s - began_s >= self._limits.speech_s
        return self._is_owed_final or ended_s - wrote_s >= REST_S

    def latency_s(self, now_s: float) -> float | None:
        """How long ago the speech ended that a final answers now; None when it did not end yet."""
        return None if self._ended_s is None else now_s - self._ended_s

    def text(self, text: str, now_s: float, *, is_final: bool) -> bool:
        """Take a transcript; False for one that proves nothing: an empty one, or the same again.

        An interim text shows life, but does not pay what a provider of finals owes.
        """
        words = text.strip()
        if not words or (not is_final and words == self._text):
            return False
        self._text = "" if is_final else words
        self._wrote_s, self._doubts = now_s, 0
        if self._owed_s is not None:
            self._slowest_s = max(self._slowest_s, now_s - self._owed_s)
        self._writes_while_speaking |= self.is_speaking
        self._has_finals |= is_final
        self._ended_s = None if is_final else self._ended_s
        self._is_owed_final = self._has_finals and not is_final
        if self._owed_s is not None:
            self._owed_s = now_s if self._is_owed_final else None
        return True

    def came_of_nothing(self, now_s: float) -> None:
        """Nobody else found words either: forget that sound, and be slower to doubt again."""
        self._doubts += 1
        self._forget()
        self._wrote_s = now_s  # what was said until now is judged

    def mute(self, is_muted: bool) -> None:
        """Nothing is listened to while muted."""
        self.is_muted = is_muted
        self._began_s = None
        self._forget()

    def _forget(self) -> None:
        self._owed_s, self._ended_s, self._is_owed_final = None, None, False

    def suspect_s(self) -> float | None:
        """When to ask for a second opinion if nothing comes; None while nothing is owed."""
        return self._after(self._limits.suspect_s, self._limits.speaking_s)

    def believe_s(self) -> float | None:
        """From when another's words are believed; None while nothing is owed."""
        extra_s = self._limits.believe_s - self._limits.suspect_s
        return self._after(self._limits.believe_s, self._limits.speaking_s + extra_s)

    def _after(self, wait_s: float, speaking_s: float) -> float | None:
        if self.is_muted:
            return None
        factor = 2.0**self._doubts
        if self._owed_s is not None:
            wait_s = max(wait_s, self._slowest_s * SLOWER)
            return self._owed_s + min(wait_s * factor, PATIENCE_MAX_S)
        if self._began_s is not None and self._writes_while_speaking:
            since_s = max(self._began_s, self._wrote_s or self._began_s)
            return since_s + min(speaking_s * factor, PATIENCE_MAX_S)
        return None
