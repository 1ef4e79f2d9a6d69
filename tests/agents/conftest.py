from __future__ import annotations

from tests.threads import one_thread_a_session

__all__ = ["one_thread_a_session"]
