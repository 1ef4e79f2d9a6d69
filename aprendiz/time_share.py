"""What is shown while a learner trains (pictures, texts) within a share of the time of training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

SHARE_OF_TIME = 0.05
"""What is shown may take this part of the time of training; what takes long is shown less often."""


class TimeShare:
    """Measures what showing takes, and tells when there is time for it again."""

    def __init__(self) -> None:
        self._last_seconds = self._seconds = 0.0

    def due(self, training_seconds: float) -> bool:
        """Whether once more stays within the share. The first time always does."""
        return self._seconds + self._last_seconds <= SHARE_OF_TIME * training_seconds or self._seconds == 0.0

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Around the work of showing."""
        started = time.perf_counter()
        yield
        self._last_seconds = time.perf_counter() - started
        self._seconds += self._last_seconds
