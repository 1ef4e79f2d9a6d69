"""The live page's server: newest messages only, many viewers, who may connect, and what goes wrong in one line."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from typing import Any

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
client = pytest.importorskip("websockets.sync.client")
ConnectionClosed = pytest.importorskip("websockets.exceptions").ConnectionClosed

from aprendiz.errors import ConfigError  # noqa: E402
from aprendiz.live.server import bind, serve, serving  # noqa: E402
from aprendiz.live.streams import unpack  # noqa: E402
from tests.aprendiz.live.serving import CounterView, eventually  # noqa: E402


@contextlib.contextmanager
def viewer(address: str, **options: Any):
    """A connected viewer that has been told of the views."""
    with client.connect(f"ws://{address}/socket", max_size=None, compression=None, proxy=None, **options) as connection:
        connection.views = json.loads(connection.recv(timeout=20))
        yield connection


def next_message(connection: Any, timeout: float = 20.0) -> dict[str, Any]:
    """The words of the next binary message; heartbeats are passed over."""
    while True:
        data = connection.recv(timeout=timeout)
        if isinstance(data, bytes):
            return unpack(data)[0]


def drawn(connection: Any) -> None:
    connection.send(json.dumps({"type": "drawn"}))


def ask(connection: Any, what: str, view: Any = 0) -> None:
    connection.send(json.dumps({"type": "control", "view": view, "do": what}))


def get(address: str, path: str, host: str | None = None, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("GET", path, headers={"Host": host or address, **headers})
    return connection.getresponse()


def test_the_page_and_its_files_are_served_and_name_nothing_that_lies_elsewhere():
    with serving([CounterView()]) as address:
        text = get(address, "/").read().decode()
        assert "/page/page.js" in text and "http" not in text
        for name in ("page.js", "game.js", "page.css", "connection.js"):
            answer = get(address, f"/page/{name}")
            body = answer.read().decode()
            assert answer.status == 200 and "http:" not in body and "https:" not in body.replace('"https:"', "")


def test_a_viewer_is_told_of_the_views_and_gets_what_is_newest_already():
    view = CounterView()
    view.publish(1)
    view.publish(2)
    with serving([view], title="a title") as address, viewer(address) as one:
        assert one.views["title"] == "a title" and one.views["views"] == [{"title": "a counter", "kind": "counter"}]
        assert next_message(one)["number"] == 2 and view.encoded == 1


def test_a_slow_viewer_never_gets_old_messages():
    view = CounterView()
    with serving([view]) as address, viewer(address) as one:
        view.publish(0)
        assert next_message(one)["number"] == 0
        view.publish(1)
        assert next_message(one)["number"] == 1  # two are under way now, and nothing of it is drawn
        for number in range(2, 42):
            view.publish(number)
            time.sleep(0.01)  # long enough to be sent, if it were sent
        drawn(one)
        assert next_message(one)["number"] == 41 and view.encoded == 3


def test_a_viewer_that_reads_nothing_holds_up_nobody():
    view = CounterView()
    blob = bytes(500_000)  # more than the system's buffers take
    with serving([view]) as address, viewer(address), viewer(address) as quick:
        for number in range(20):
            view.publish(number, blob)
            assert next_message(quick)["number"] == number
            drawn(quick)


def test_twenty_viewers_get_the_same_bytes_that_were_made_once():
    view = CounterView()
    with serving([view]) as address, contextlib.ExitStack() as stack:
        many = [stack.enter_context(viewer(address)) for _ in range(20)]
        for number in range(10):
            view.publish(number)
            for one in many:
                assert next_message(one)["number"] == number
                drawn(one)
        assert view.encoded == 10


def test_without_viewers_nothing_is_made():
    view = CounterView()
    with serving([view]):
        for number in range(100):
            view.publish(number)
        time.sleep(0.2)
    assert view.encoded == 0


def test_a_message_that_cannot_be_made_is_passed_over_and_complained_of_once(capfd):
    view = CounterView()
    tried = []

    def broken() -> Any:
        tried.append(len(tried))
        raise ZeroDivisionError("a mistake of the view's")

    with serving([view]) as address, viewer(address) as one, viewer(address) as other:
        view.streams["number"].publish(broken)
        eventually(lambda: tried)
        view.publish(2)
        assert next_message(one)["number"] == next_message(other)["number"] == 2
    assert tried == [0] and capfd.readouterr().err.count("ZeroDivisionError: a mistake of the view's") == 1


def test_views_hear_how_many_look_on_and_who_left():
    view = CounterView()
    with serving([view]) as address:
        with viewer(address) as first:
            eventually(lambda: view.viewers == [1])
            with viewer(address):
                eventually(lambda: view.viewers == [1, 2])
            eventually(lambda: view.viewers == [1, 2, 1] and view.left == [1])
        assert first.views["you"] == 0
        eventually(lambda: view.viewers[-1] == 0 and view.left == [1, 0])


def test_requests_reach_their_view_and_refusals_come_back_to_who_asked():
    view = CounterView()
    with serving([view]) as address, viewer(address) as one:
        ask(one, "pause")
        eventually(lambda: view.requests == [(0, "pause")])
        ask(one, "refuse")
        assert json.loads(one.recv(timeout=20)) == {"type": "refused", "view": 0, "reason": "not now"}


@pytest.mark.parametrize("nonsense", ["", "no JSON", "[]", '"x"', "{}", '{"type": "control", "view": 7}'])
def test_nonsense_from_a_viewer_ends_nothing(nonsense):
    view = CounterView()
    with serving([view]) as address, viewer(address) as one:
        one.send(nonsense)
        ask(one, "pause")
        eventually(lambda: view.requests == [(0, "pause")])


def test_a_viewer_that_takes_nothing_any_more_counts_as_gone(monkeypatch):
    monkeypatch.setattr("aprendiz.live.server.STUCK_SECONDS", 0.5)
    view = CounterView()
    words = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    words.append(f"Sec-WebSocket-Key: {'A' * 22}==")
    with serving([view]) as address, socket.create_connection(address.split(":")) as silent:  # type: ignore[arg-type]
        silent.sendall("\r\n".join(["GET /socket HTTP/1.1", f"Host: {address}", *words, "", ""]).encode())
        eventually(lambda: view.viewers == [1])
        view.publish(1, bytes(50_000_000))  # more than all buffers on the way hold
        eventually(lambda: view.left == [0] and view.viewers == [1, 0])


def test_a_request_that_is_far_too_long_ends_its_own_connection():
    def ask_too_much(connection: Any) -> None:
        connection.send("x" * 1_000_000)
        while True:
            connection.recv(timeout=20)

    view = CounterView()
    with serving([view]) as address, viewer(address) as other:
        with viewer(address) as one, pytest.raises(ConnectionClosed):
            ask_too_much(one)
        ask(other, "pause")
        eventually(lambda: view.requests == [(0, "pause")])


def test_a_silent_server_says_that_it_is_alive():
    with serving([CounterView()]) as address, viewer(address) as one:
        assert json.loads(one.recv(timeout=20)) == {"type": "alive"}


def test_pages_of_other_sites_may_not_connect():
    with serving([CounterView()]) as address:
        with pytest.raises(Exception, match="403"), viewer(address, origin="http://elsewhere.example"):
            pass
        with viewer(address, origin=f"http://{address}") as one:
            assert one.views["type"] == "views"


def test_other_names_for_this_machine_get_nothing():
    with serving([CounterView()]) as address:
        assert get(address, "/", host="elsewhere.example").status == 403
        assert get(address, "/", host="localhost:1").status == 200
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        upgrade["Sec-WebSocket-Key"] = "AAAAAAAAAAAAAAAAAAAAAA=="
        assert get(address, "/socket", host="elsewhere.example", **upgrade).status == 403
        assert get(address, "/socket", **upgrade).status == 101


@pytest.mark.parametrize("nonsense", ["[", "[::1", "[x]:1"])
def test_names_that_are_no_addresses_are_refused(nonsense):
    with serving([CounterView()]) as address:
        assert get(address, "/", host=nonsense).status == 403
        with pytest.raises(Exception, match="403"), viewer(address, origin=f"http://{nonsense}"):
            pass


def test_under_a_name_of_this_machine_alone_the_page_answers_to_that_name_and_to_no_other(monkeypatch):
    real = socket.getaddrinfo

    def known(host: Any, *more: Any, **named: Any) -> Any:
        return real("127.0.0.1" if host == "My-Machine" else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", known)
    with serving([CounterView()], host="My-Machine") as address:
        assert get(address, "/", host="my-machine:1").status == 200
        assert get(address, "/", host=address).status == 200
        assert get(address, "/", host="elsewhere.example").status == 403


def test_pages_elsewhere_may_neither_frame_the_page_nor_show_its_files():
    with serving([CounterView()]) as address:
        headers = get(address, "/").headers
    assert "frame-ancestors 'self' http://localhost:* http://127.0.0.1:*" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path", ["/files/0/config.json", "/files/0/../../etc/passwd", "/files/7/a", "/page/../view.py"]
)
def test_only_files_that_a_view_names_are_served(path):
    with serving([CounterView()]) as address:
        assert get(address, path).status == 404


def test_a_port_in_use_is_one_line():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 is in use; give another") as raised:
            bind("127.0.0.1", port)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("no.such.host.invalid", 0, "there is no host"),
        ("127.0.0.1", 70_000, "port 70000 does not exist"),
        ("192.0.2.1", 0, "192.0.2.1 is no address of this machine"),
    ],
)
def test_a_host_or_port_that_cannot_be_had_is_one_line(host, port, words):
    with pytest.raises(ConfigError, match=words) as raised:
        bind(host, port)
    assert "\n" not in str(raised.value)


def test_where_all_addresses_are_served_the_one_that_is_printed_has_the_machine_s_name(monkeypatch, capsys):
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: None)
    serve([CounterView()], host="0.0.0.0", port=0, title="a title")
    assert capsys.readouterr().out.startswith(f"a title: http://{socket.gethostname()}:")


def test_scripts_have_the_type_that_browsers_run_and_are_asked_for_anew():
    with serving([CounterView()]) as address:
        answer = get(address, "/page/page.js")
    assert (
        answer.headers["content-type"].startswith("text/javascript") and answer.headers["cache-control"] == "no-cache"
    )
