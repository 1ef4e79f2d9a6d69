"""The page, its files and its sockets: starlette and uvicorn, on the machine's own address unless told otherwise.

A viewer's socket carries all views. The server sends a viewer the newest message of whatever changed, in turn, and has
at most `IN_FLIGHT` messages under way to it: the page answers each when it has drawn it, so that a viewer that is slow,
far away or in a hidden tab gets fewer of them, and never old ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import itertools
import json
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aprendiz.errors import ConfigError
from aprendiz.live.names import is_own, is_same_site, own_names
from aprendiz.live.view import RefusedError, View

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

    from aprendiz.live.streams import Message

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8420
IN_FLIGHT = 2
"""Messages under way to one viewer."""
HEARTBEAT_SECONDS = 2.0
"""A page that hears nothing for much longer than this says that it is disconnected."""
STUCK_SECONDS = 120.0
"""A viewer that takes nothing of a message for so long counts as gone, though its connection still stands."""
MOST_REQUEST_BYTES = 65_536
"""Of one message from a page, which says that it has drawn, or which keys are held."""
PAGE = Path(__file__).parent / "page"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain; charset=utf-8"}
"""Of files whose type systems disagree on; browsers run no script of another."""
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'self' http://localhost:* http://127.0.0.1:*"  # notebooks; elsewhere its buttons could be hidden
)


def serve(views: Sequence[View], *, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, title: str = "") -> None:
    """Show `views` on a page until Ctrl-C. Port 0 takes any that is free; the address is printed.

    Raises ConfigError where the extra `web` is not installed, or the host or the port cannot be had; whatever a view
    raises when it starts.
    """
    uvicorn = require_extra()
    listening = bind(host, port)
    with listening:
        app = make_app(views, title=title, names=own_names(host, listening))
        with started(views):
            print(f"{title or 'live'}: http://{_reachable(listening)}/   (Ctrl-C ends it)", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                uvicorn.Server(_config(uvicorn, app)).run(sockets=[listening])


def require_extra() -> Any:
    """uvicorn; ConfigError where the extra `web` is not installed."""
    try:
        import starlette  # noqa: F401
        import uvicorn
        import websockets  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'the page needs {error.name}: pip install "aprendiz[web]"') from error
    return uvicorn


@contextlib.contextmanager
def serving(views: Sequence[View], *, host: str = DEFAULT_HOST, port: int = 0, title: str = "") -> Iterator[str]:
    """Show `views` on a page while a `with` block lasts, which is given its host:port; for notebooks and measurements.

    Raises as `serve`. The server has a thread of its own.
    """
    uvicorn = require_extra()
    with bind(host, port) as listening, started(views):
        app = make_app(views, title=title, names=own_names(host, listening))
        server = uvicorn.Server(_config(uvicorn, app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="live page", daemon=True)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.005)
            yield _netloc(listening)
        finally:
            server.should_exit = True
            thread.join()


def _config(uvicorn: Any, app: Starlette) -> Any:
    return uvicorn.Config(
        app,
        log_level="warning",
        ws_per_message_deflate=False,  # pictures are compressed already
        ws_max_size=MOST_REQUEST_BYTES,
        timeout_graceful_shutdown=1,
    )


def _netloc(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reachable(listening: socket.socket) -> str:
    """As `_netloc`; where every address of the machine is served, the machine's name, for others to type."""
    host, port = listening.getsockname()[:2]
    return f"{socket.gethostname()}:{port}" if ipaddress.ip_address(host).is_unspecified else _netloc(listening)


@contextlib.contextmanager
def started(views: Sequence[View]) -> Iterator[None]:
    """Views that work, in a `with` block."""
    with contextlib.ExitStack() as stack:
        for view in views:
            stack.callback(view.stop)
            view.start()
        yield


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ConfigError in one line where it cannot be had."""
    if not 0 <= port <= 65535:
        raise ConfigError(f"port {port} does not exist; give one from 1024 to 65535, or 0 for any that is free")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"there is no host {host!r} to serve on; 127.0.0.1 is this machine's own address") from error
    listening = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let two servers have one port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            way = f"give another, such as --port {port + 1 if port < 65535 else 8421}, or --port 0 for any that is free"
            raise ConfigError(f"port {port} of {host} is in use; {way}") from error
        if error.errno == errno.EADDRNOTAVAIL:
            way = "127.0.0.1 is its own address, 0.0.0.0 all that it has"
            raise ConfigError(f"{host} is no address of this machine; {way}") from error
        raise ConfigError(f"cannot serve on {host}, port {port}: {error.strerror}; try another --port") from error
    return listening


def make_app(views: Sequence[View], *, title: str = "", names: frozenset[str] | None = frozenset()) -> Starlette:
    """The application. The views are started and stopped by whoever makes them.

    names: what it may be asked for as, beside this machine's own addresses; None is anything, as of `own_names`.
    """
    from starlette.applications import Starlette
    from starlette.responses import FileResponse, PlainTextResponse
    from starlette.routing import Route, WebSocketRoute

    room = Room(views, title)
    page_files = {path.name: path for path in PAGE.iterdir() if path.is_file()}

    def answer(request: Request, path: Path | None) -> Response:
        if not is_own(request.headers.get("host", ""), names):
            return PlainTextResponse("this page answers to this machine's own names only", 403)
        if path is None:
            return PlainTextResponse("no such file", 404)
        # A browser asks each time whether it is still the same: another version may have this address tomorrow.
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return FileResponse(path, headers=headers, media_type=_TYPES.get(path.suffix))

    async def index(request: Request) -> Response:
        return answer(request, PAGE / "index.html")

    async def page_file(request: Request) -> Response:
        return answer(request, page_files.get(request.path_params["name"]))

    async def view_file(request: Request) -> Response:
        number = request.path_params["view"]
        files = views[number].files() if number < len(views) else {}
        return answer(request, files.get(request.path_params["name"]))

    async def connect(websocket: WebSocket) -> None:
        host, origin = websocket.headers.get("host", ""), websocket.headers.get("origin")
        if not (is_own(host, names) and is_same_site(origin, host)):
            await websocket.close(1008, "another site's page may not connect")
            return
        await room.welcome(websocket)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        room.open(asyncio.get_running_loop())
        yield
        room.close()

    return Starlette(
        routes=[
            Route("/", index),
            Route("/page/{name}", page_file),
            Route("/files/{view:int}/{name:path}", view_file),
            WebSocketRoute("/socket", connect),
        ],
        lifespan=lifespan,
    )


class Room:
    """Who looks on, and what each has seen. Everything but `_published` runs in the server's loop."""

    def __init__(self, views: Sequence[View], title: str) -> None:
        self.views, self.title = views, title
        self._viewers: dict[int, _Viewer] = {}
        self._numbers = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        for number, view in enumerate(views):
            for stream in view.streams.values():
                stream.view = str(number)
                stream.on_publish = self._published

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._beating = loop.create_task(self._beat())

    def close(self) -> None:
        self._loop = None
        self._beating.cancel()

    def _published(self) -> None:
        loop = self._loop
        if loop is not None and self._viewers:
            with contextlib.suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for viewer in self._viewers.values():
            viewer.wake.set()

    async def welcome(self, websocket: WebSocket) -> None:
        """Serve one viewer until it is gone."""
        from starlette.websockets import WebSocketDisconnect

        await websocket.accept()
        number = next(self._numbers)
        viewer = _Viewer(websocket)
        listening: asyncio.Task[None] | None = None
        try:
            described = [view.describe() for view in self.views]
            await websocket.send_json({"type": "views", "you": number, "title": self.title, "views": described})
            self._viewers[number] = viewer
            self._count()
            listening = asyncio.create_task(self._listen(number, viewer))
            listening.add_done_callback(lambda _: viewer.wake.set())
            async with asyncio.timeout(None) as viewer.patience:
                await self._send(viewer, listening)
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass  # it is gone, or stuck; starlette says so in several ways
        finally:
            if listening is not None:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
            if self._viewers.pop(number, None) is not None:
                for view in self.views:
                    view.viewer_left(number)
                self._count()

    def _count(self) -> None:
        for view in self.views:
            view.viewers_changed(len(self._viewers))

    async def _send(self, viewer: _Viewer, listening: asyncio.Task[None]) -> None:
        streams = [stream for view in self.views for stream in view.streams.values()]
        turn = 0
        while not listening.done():
            viewer.wake.clear()
            message: Message | None = None
            for _ in streams if viewer.in_flight < IN_FLIGHT else ():
                stream = streams[turn % len(streams)]
                turn += 1
                newest = stream.newest
                if newest is not None and newest.number > viewer.seen.get(id(stream), 0):
                    viewer.seen[id(stream)] = newest.number
                    message = newest
                    break
            if message is not None:
                if data := message.packed():
                    viewer.in_flight += 1
                    await viewer.send(viewer.websocket.send_bytes(data))
            elif time.monotonic() - viewer.last_sent >= HEARTBEAT_SECONDS:
                await viewer.send(viewer.websocket.send_json({"type": "alive"}))
            else:
                await viewer.wake.wait()

    async def _beat(self) -> None:
        """Wake whom nothing was sent to for long, and let go of who is stuck. One clock for all: a timeout of each
        viewer, set anew with every message, would cost as much as the messages."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS / 4)
            now = time.monotonic()
            for viewer in self._viewers.values():
                if viewer.is_sending and viewer.last_sent <= now - STUCK_SECONDS:
                    viewer.let_go()
                elif viewer.last_sent <= now - HEARTBEAT_SECONDS:
                    viewer.wake.set()

    async def _listen(self, number: int, viewer: _Viewer) -> None:
        while True:
            try:
                request = json.loads(await viewer.websocket.receive_text())
                kind = request["type"]
            except (ValueError, TypeError, KeyError):
                continue  # no page of ours
            except Exception:  # gone
                return
            if kind == "drawn":
                viewer.in_flight = max(0, viewer.in_flight - 1)
                viewer.wake.set()
            elif kind == "control":
                await self._control(number, viewer, request)

    async def _control(self, number: int, viewer: _Viewer, request: dict[str, Any]) -> None:
        index = request.get("view")
        reason = "there is no such view"
        if isinstance(index, int) and 0 <= index < len(self.views):
            try:
                self.views[index].control(number, request)
                return
            except RefusedError as error:
                reason = str(error)
        with contextlib.suppress(Exception):
            await viewer.websocket.send_json({"type": "refused", "view": index, "reason": reason})


class _Viewer:
    """One open page."""

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.wake = asyncio.Event()
        self.in_flight = 0
        self.last_sent = time.monotonic()
        self.is_sending = False
        self.patience: asyncio.Timeout | None = None
        """Around all that is sent to it; without an end until it is stuck."""
        self.seen: dict[int, int] = {}
        """Number of the newest message that was sent, by stream."""

    async def send(self, message: Awaitable[None]) -> None:
        self.last_sent, self.is_sending = time.monotonic(), True
        try:
            await message
        finally:
            self.is_sending = False

    def let_go(self) -> None:
        """Give up on what is being sent: TimeoutError where it is waited for."""
        if self.patience is not None:
            self.patience.reschedule(asyncio.get_running_loop().time())
