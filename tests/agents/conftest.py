from __future__ import annotations

from tests.agents.live_browser import browser, visit
from tests.threads import one_thread_a_session

__all__ = ["browser", "one_thread_a_session", "visit"]
