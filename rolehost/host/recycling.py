"""How long an instance waits before it is started again."""

from __future__ import annotations

_GROWTH_READY = 2.0
_LONGEST_READY = 10.0
_FIRST_FAILED = 10.0
_GROWTH_FAILED = 1.5
_LONGEST_FAILED = 3600.0
_FORGOTTEN_AFTER = 300.0


class RecyclePauses:
    """The pauses between an instance's lives; Service Fabric's series for starts that never reach ready.

    An instance that had been ready waits 1 s, growing to 10 s; the count is forgotten once a life lasted five minutes.
    One that never reached ready waits 10 s, each time half as long again, at most an hour.

    Args:
        unit: what one of these seconds lasts; tests make it short.
    """

    def __init__(self, unit: float = 1.0) -> None:
        self._unit = unit
        self._ready = 0
        self._failed = 0

    def after(self, *, was_ready: bool, lasted: float) -> float:
        """The pause after a life, in seconds.

        Args:
            was_ready: whether it reached ready.
            lasted: its seconds.
        """
        if not was_ready:
            self._failed += 1
            pause = _FIRST_FAILED * _GROWTH_FAILED ** min(self._failed - 1, 20)
            return min(pause, _LONGEST_FAILED) * self._unit
        self._failed = 0
        self._ready = 1 if lasted >= _FORGOTTEN_AFTER * self._unit else self._ready + 1
        return min(_GROWTH_READY ** min(self._ready - 1, 20), _LONGEST_READY) * self._unit
