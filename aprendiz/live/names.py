"""Who may ask for the page, and whose page may connect: a server on this machine is in reach of every page that its
browser shows."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def own_names(host: str, listening: socket.socket) -> frozenset[str] | None:
    """What the page may be asked for as, beside loopback addresses: the name it is served on. None, anything, where
    others can reach it: nobody here knows by which names."""
    return frozenset({host.lower()}) if is_loopback(listening.getsockname()[0]) else None


def is_own(host: str, names: frozenset[str] | None) -> bool:
    """Whether a Host header is one of the machine's own: any other name led here through somebody's name server."""
    if names is None:
        return True
    name = _split(f"//{host}").hostname or ""
    return is_loopback(name) or name in names


def is_same_site(origin: str | None, host: str) -> bool:
    """Whether an Origin header is that of the page itself. A browser says which page connects, programs say nothing."""
    return origin is None or (host != "" and _split(origin).netloc == host)


def _split(address: str) -> SplitResult:
    """Its parts, all empty where it is no address."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")
