"""A page in the browser that shows what is going on now: a game that is played, a run that is trained.

    streams.py     from one writer to many viewers: each gets the newest there is
    view.py        what stands on the page, and what can be asked of it
    training.py    a view of any family's run while it is trained, read from its folder
    tail.py        metrics.jsonl, read as it grows
    server.py      the page, its files and its sockets
    names.py       who may ask for it
    page/          HTML, CSS and JavaScript, all our own: nothing is loaded from elsewhere

Knows no family. A family writes views of its own (agents/live.py: a game) and hands them to `server.serve`.
"""

from __future__ import annotations
