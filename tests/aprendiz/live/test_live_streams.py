"""Messages as bytes."""

from __future__ import annotations

import json

import pytest

from aprendiz.live.streams import pack, unpack


def test_a_message_comes_out_as_it_went_in():
    words, blobs = unpack(pack({"view": "0", "text": "naïve"}, [b"abc", b"", bytes(1000)]))
    assert words == {"view": "0", "text": "naïve"} and blobs == [b"abc", b"", bytes(1000)]


def test_the_layout_is_the_one_that_the_page_reads():
    data = pack({"a": 1}, [b"xy"])
    length = int.from_bytes(data[:4], "little")
    assert json.loads(data[4 : 4 + length]) == {"a": 1, "blobs": [2]} and data[4 + length :] == b"xy"


def test_numbers_that_json_does_not_have_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        pack({"value": float("nan")})
