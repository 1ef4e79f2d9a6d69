"""The user's own pictures: any size, any mode, some of them broken, in memory or streamed."""

from __future__ import annotations

import gc
import io
import os
import shutil
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aprendiz.data import load
from aprendiz.data.pictures import UnreadableError, decode, read_header
from aprendiz.data.source import DataSource
from aprendiz.errors import ConfigError, DataError

MODES = pytest.mark.parametrize("stream", [False, True], ids=["in memory", "streamed"])


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]


def pictures(root: Path, count: int = 20, side: int = 16) -> None:
    """Grey PNGs, of which each is one shade that tells its number."""
    for number in range(count):
        save(root / f"{number:03}.png", np.full((side, side), number, np.uint8))


def mixed(root: Path) -> None:
    """Two labels, two formats, all sizes, and every kind of file that is not what it seems."""
    for number in range(20):
        height, width = 20 + 3 * number, 70 - 2 * number
        label, suffix = ("cats", "PNG") if number % 2 else ("dogs/big", "Jpeg")
        save(root / label / f"{number}.{suffix}", noise(number, height, width, 3))
    save(root / "cats" / "dot.png", np.full((1, 1, 3), 200, np.uint8))
    Image.fromarray(noise(1, 40, 30, 4), mode="CMYK").save(root / "cats" / "print.jpg")
    whole = (root / "cats" / "1.PNG").read_bytes()
    (root / "cats" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "cats" / "empty.jpg").touch()
    (root / "cats" / "letter.png").write_text("Dear Ana, here is no picture")
    (root / "cats" / "notes.txt").write_text("not even called a picture")
    save(root / "cats" / ".hidden.png", noise(3, 5, 5))
    save(root / "__MACOSX" / "x.png", noise(3, 5, 5))


def png(width: int, height: int) -> bytes:
    """The header of a picture of any size, and nothing behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@MODES
def test_mixed_pictures_are_trained_on_and_one_warning_names_those_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stream: bool
) -> None:
    mixed(tmp_path)
    data = load(f"folder:{tmp_path}", stream=stream)
    error = capsys.readouterr().err
    assert error.count("warning:") == 1
    assert "cats/empty.jpg (empty)" in error and "cats/letter.png (no picture)" in error
    if not stream:  # a header says nothing about the end of the file
        assert "3 of 25 files" in error and "cats/cut.png (truncated)" in error
    assert "2 can be used, but look odd: cats/dot.png (1x1, enlarged), cats/print.jpg (CMYK, " in error
    assert len(data.train) + len(data.validation) + len(data.test) == (23 if stream else 22)
    assert data.spec.classes == ("cats", "dogs/big") and data.spec.shape == (3, 32, 32)
    assert len(data.skipped) == (2 if stream else 3)
    source = DataSource(data.train, batch_size=8, seed=0)
    for _ in range(6):
        batch = source.next().batch
        assert batch.images.shape == (8, 3, 32, 32) and 0 <= float(batch.images.min()) <= float(batch.images.max()) <= 1
    source.close()


def test_the_same_folder_streamed_and_in_memory_gives_the_same_batches(tmp_path: Path) -> None:
    pictures(tmp_path / "a", 15)
    pictures(tmp_path / "b", 15)
    held, streamed = load(f"folder:{tmp_path}", stream=False), load(f"folder:{tmp_path}", stream=True)
    sources = [DataSource(data.train, batch_size=7, seed=0) for data in (held, streamed)]
    for _ in range(8):
        first, second = (source.next().batch for source in sources)
        assert torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)
    for part in ("validation", "test"):
        assert torch.equal(getattr(held, part).scaled(slice(None)), getattr(streamed, part).scaled(slice(None)))
    sources[1].close()


def test_pictures_are_streamed_when_they_take_more_memory_than_they_may(tmp_path: Path) -> None:
    for number in range(20):
        save(tmp_path / f"{number}.png", noise(number, 300, 300))
    small, large = load(f"folder:{tmp_path}", size=256, memory_mb=1), load(f"folder:{tmp_path}", size=256, memory_mb=2)
    assert small.options["stream"] is True and large.options["stream"] is False
    again = load(f"folder:{tmp_path}", **small.options)  # what was measured is kept
    assert again.options == small.options and again.fingerprint == small.fingerprint


def test_streaming_opens_each_file_once_to_look_and_once_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path, 10)
    loads: list[str] = []
    whole = Image.Image.load

    def counting(self: Image.Image) -> object:
        loads.append("loaded")
        return whole(self)

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", counting)
    data = load(f"folder:{tmp_path}", stream=True)
    assert loads == []
    monkeypatch.undo()
    assert len(data.train.pixels(slice(None))) == 8


# Sizes


def test_the_size_that_all_pictures_have_is_kept_and_nothing_is_resampled(tmp_path: Path) -> None:
    originals = [noise(number, 20, 28) for number in range(10)]
    for number, pixels in enumerate(originals):
        save(tmp_path / f"{number}.png", pixels)
    data = load(f"folder:{tmp_path}")
    assert data.spec.shape == (1, 20, 28) and data.options["size"] is None
    parts = (data.train, data.validation, data.test)
    found = {image.tobytes() for part in parts for image in part.pixels(slice(None)).numpy()}
    assert found == {image.tobytes() for image in originals}


@pytest.mark.parametrize("sides", [(100, 100), (20, 21), (2, 2)], ids=["large", "different", "tiny"])
def test_otherwise_pictures_become_32_pixels_wide(tmp_path: Path, sides: tuple[int, int]) -> None:
    for number in range(6):
        save(tmp_path / f"{number}.png", noise(number, sides[number % 2], sides[number % 2]))
    data = load(f"folder:{tmp_path}")
    assert data.spec.shape == (1, 32, 32) and data.options["size"] == 32


def test_a_picture_is_resized_by_its_shorter_side_and_cut_to_its_centre(tmp_path: Path) -> None:
    pixels = np.zeros((40, 120), np.uint8)
    pixels[:, 40:80] = 200
    save(tmp_path / "wide.png", pixels)
    save(tmp_path / "high.png", pixels.T)
    for name in ("wide.png", "high.png"):
        assert np.abs(decode(tmp_path / name, 1, 10, 10)[0, 1:9, 1:9].astype(int) - 200).max() <= 5


def test_shrinking_averages_instead_of_picking_pixels(tmp_path: Path) -> None:
    save(tmp_path / "chequers.png", ((np.indices((64, 64)).sum(axis=0) % 2) * 255).astype(np.uint8))
    assert np.abs(decode(tmp_path / "chequers.png", 1, 8, 8).astype(int) - 127).max() <= 8


def test_a_large_jpeg_shrunk_while_decoding_looks_as_if_it_had_not_been(tmp_path: Path) -> None:
    smooth = np.add.outer(np.linspace(0, 120, 800), np.linspace(0, 120, 1000)).astype(np.uint8)
    save(tmp_path / "large.jpg", smooth, quality=95)
    with Image.open(tmp_path / "large.jpg") as picture:
        exact = np.asarray(picture.crop((100, 0, 900, 800)).resize((16, 16), Image.Resampling.BICUBIC))
    assert np.abs(decode(tmp_path / "large.jpg", 1, 16, 16)[0].astype(int) - exact).max() <= 2


# Modes


def test_colour_is_kept_where_any_picture_may_have_it(tmp_path: Path) -> None:
    pictures(tmp_path, 5)
    assert load(f"folder:{tmp_path}").spec.channels == 1
    assert load(f"folder:{tmp_path}", colour="rgb").spec.channels == 3
    save(tmp_path / "red.png", np.full((16, 16, 3), (255, 0, 0), np.uint8))
    data = load(f"folder:{tmp_path}")
    assert data.spec.channels == 3 and data.options["colour"] == "rgb"
    assert load(f"folder:{tmp_path}", colour="grey").spec.channels == 1


def in_mode(mode: str, path: Path) -> None:
    """A picture of the left half (200, 100, 50) and the right half black, as far as the mode can show it."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = (200, 100, 50)
    rgb = Image.fromarray(pixels)
    if mode == "16 bits":
        Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257).save(path)
    elif mode == "palette":
        rgb.quantize(4).save(path)
    elif mode == "transparent palette":
        image = rgb.quantize(4)
        dark = int(np.asarray(image)[0, 7])
        image.save(path, transparency=dark)
    elif mode in ("RGBA", "LA"):
        image = rgb.convert(mode)
        image.putalpha(Image.fromarray(np.where(pixels[..., 0] > 0, 255, 0).astype(np.uint8)))
        image.save(path)
    elif mode == "CMYK":
        rgb.convert("CMYK").save(path, format="JPEG", quality=100, subsampling=0)
    else:
        rgb.convert(mode).save(path)


@pytest.mark.parametrize(
    ("mode", "left", "right"),
    [
        ("RGB", (200, 100, 50), 0),
        ("L", (124, 124, 124), 0),
        ("1", None, 0),
        ("16 bits", (124, 124, 124), 0),
        ("palette", (200, 100, 50), 0),
        ("transparent palette", (200, 100, 50), 255),
        ("RGBA", (200, 100, 50), 255),
        ("LA", (124, 124, 124), 255),
        ("CMYK", (200, 100, 50), 0),
    ],
)
def test_every_mode_is_read_as_it_looks(tmp_path: Path, mode: str, left: tuple[int, ...] | None, right: int) -> None:
    path = tmp_path / "picture.png"
    in_mode(mode, path)
    colour, grey = decode(path, 3, 8, 8), decode(path, 1, 8, 8)
    assert colour.shape == (3, 8, 8) and grey.shape == (1, 8, 8) and colour.dtype == np.uint8
    if left is not None:
        assert np.abs(colour[:, 4, 1].astype(int) - left).max() <= 6 and abs(int(grey[0, 4, 1]) - 124) <= 6
    assert np.abs(colour[:, 4, 6].astype(int) - right).max() <= 6 and abs(int(grey[0, 4, 6]) - right) <= 6


def test_a_picture_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, :16] = 250
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    save(tmp_path / "sideways.jpg", pixels, exif=exif, quality=95)
    header = read_header(tmp_path / "sideways.jpg")
    assert (header.width, header.height) == (16, 48)
    upright = decode(tmp_path / "sideways.jpg", 1, 48, 16)[0]
    assert upright[:12].min() > 230 and upright[20:].max() < 20


def test_a_picture_of_another_format_under_the_wrong_name_is_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(0, 9, 9, 3)).save(buffer, "WEBP", lossless=True)
    (tmp_path / "saved-from-the-web.jpg").write_bytes(buffer.getvalue())
    assert np.array_equal(decode(tmp_path / "saved-from-the-web.jpg", 3, 9, 9), noise(0, 9, 9, 3).transpose(2, 0, 1))


# Broken files


def broken(kind: str, path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(0, 64, 64)).save(buffer, "PNG")
    whole = buffer.getvalue()
    jpeg = io.BytesIO()
    Image.fromarray(noise(0, 64, 64)).save(jpeg, "JPEG")
    contents: dict[str, Callable[[], bytes]] = {
        "truncated": lambda: whole[: len(whole) // 2],
        "truncated header": lambda: jpeg.getvalue()[:300],
        "damaged": lambda: whole[:200] + bytes(100) + whole[300:],
        "text": lambda: b"hello",
        "nothing": lambda: b"",
        "bomb": lambda: png(50_000, 50_000),
        "large bomb": lambda: png(10_000, 12_000),
    }
    path.write_bytes(contents[kind]())


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("truncated", "truncated"),
        ("truncated header", "truncated"),
        ("damaged", ""),
        ("text", "no picture"),
        ("nothing", "empty"),
        ("bomb", "too many"),
        ("large bomb", "10000 x 12000 pixels are too many"),
    ],
)
def test_a_file_that_cannot_be_read_is_left_out_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder, kind: str, reason: str
) -> None:
    pictures(tmp_path, 10)
    broken(kind, tmp_path / "bad.png")
    data = load(f"folder:{tmp_path}", size=16, stream=False)
    assert len(data.train) + len(data.validation) + len(data.test) == 10
    assert len(data.skipped) == 1 and data.skipped[0].startswith("bad.png (") and reason in data.skipped[0]
    assert "1 of 11 files" in capsys.readouterr().err and not recwarn.list


def test_many_broken_files_are_counted_and_the_first_ones_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(tmp_path, 5)
    for number in range(30):
        (tmp_path / f"bad{number:02}.png").touch()
    load(f"folder:{tmp_path}")
    error = capsys.readouterr().err
    assert "30 of 35 files" in error and "bad19.png" in error and "bad20.png" not in error and "and 10 more" in error


def test_a_folder_without_a_readable_picture_says_why(tmp_path: Path) -> None:
    broken("truncated", tmp_path / "a.png")
    broken("text", tmp_path / "b.png")
    with pytest.raises(
        DataError, match=r"none of the 1 pictures .* can be read: b.png \(no picture\), a.png \(truncated\)"
    ):
        load(f"folder:{tmp_path}", stream=False)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_files_and_folders_without_permission_are_left_out(tmp_path: Path) -> None:
    pictures(tmp_path, 5)
    pictures(tmp_path / "closed", 5)
    (tmp_path / "000.png").chmod(0)
    (tmp_path / "closed").chmod(0)
    try:
        assert len(load(f"folder:{tmp_path}").skipped) == 2
    finally:
        (tmp_path / "closed").chmod(0o700)


# Labels


def test_subfolders_are_labels_in_their_order_however_deep(tmp_path: Path) -> None:
    for folder in ("b", "a", "b/inner", "."):
        for number in range(10):
            save(tmp_path / folder / f"{number}.png", np.full((8, 8), 100, np.uint8))
    data = load(f"folder:{tmp_path}")
    assert data.spec.classes == (".", "a", "b", "b/inner")
    assert data.test.labels is not None and data.test.labels.tolist() == [0, 1, 2, 3]
    assert data.train.labels is not None and data.train.labels.bincount().tolist() == [8] * 4


def test_one_label_for_all_is_none(tmp_path: Path) -> None:
    pictures(tmp_path / "all", 10)
    data = load(f"folder:{tmp_path}")
    assert data.spec.classes == () and data.train.labels is None


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_a_link_that_leads_back_is_followed_once(tmp_path: Path) -> None:
    pictures(tmp_path / "a", 5)
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    data = load(f"folder:{tmp_path}")
    assert len(data.train) + len(data.validation) + len(data.test) == 5


# Few pictures, none, and no folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: shutil.rmtree(root), "there is no folder"),
        (lambda root: (shutil.rmtree(root), root.write_text("x")), "is no folder"),
        (lambda root: None, "is empty"),
        (lambda root: (root / "notes.txt").write_text("x"), "holds no picture whose name ends in .png, .jpg or .jpeg"),
    ],
    ids=["missing", "a file", "empty", "only text"],
)
def test_a_folder_without_pictures_is_one_clear_line(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    root = tmp_path / "pictures"
    root.mkdir()
    make(root)
    with pytest.raises(DataError, match=message) as caught:
        load(f"folder:{root}")
    assert str(root) in str(caught.value) and "\n" not in str(caught.value)


@MODES
@pytest.mark.parametrize(
    ("count", "message"),
    [
        (1, "has 1 picture: it is trained on, and validates and tests too, so that scores mean nothing"),
        (2, "has 2 pictures: one is trained on, the other one validates and tests"),
    ],
)
def test_one_picture_and_two_are_trained_on_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, message: str, stream: bool
) -> None:
    pictures(tmp_path, count)
    data = load(f"folder:{tmp_path}", stream=stream)
    assert message in capsys.readouterr().err
    assert (len(data.train), len(data.validation), len(data.test)) == (1, 1, 1)
    shades = [int(part.pixels([0])[0, 0, 0, 0]) for part in (data.train, data.validation, data.test)]
    assert shades == ([0, 0, 0] if count == 1 else [0, 1, 1])
    source = DataSource(data.train, batch_size=16, seed=0)
    assert source.next().batch.images.shape == (2, 1, 16, 16)
    source.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be between 1 and 4096 pixels, got 0"),
        ({"colour": "blue"}, "colour is 'blue': use auto, grey, rgb"),
        ({"memory_mb": -1}, "memory_mb must be at least 0"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    pictures(tmp_path, 3)
    with pytest.raises(ConfigError, match=message):
        load(f"folder:{tmp_path}", **options)
    with pytest.raises(ConfigError, match="which folder"):
        load("folder")


# While it streams


def test_files_that_vanish_or_change_while_streaming_are_replaced_by_others_of_their_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label, shade in (("dark", 10), ("light", 200)):
        for number in range(10):
            save(tmp_path / label / f"{number}.png", np.full((8, 8), shade, np.uint8))
    data = load(f"folder:{tmp_path}", stream=True)
    train = data.train.images  # type: ignore[attr-defined]
    gone, cut = (next(one for one in train.names if one.startswith(label)) for label in ("dark", "light"))
    (tmp_path / gone).unlink()
    (tmp_path / cut).write_bytes((tmp_path / cut).read_bytes()[:40])
    save(tmp_path / train.names[-1], np.full((100, 30), 200, np.uint8))  # another size
    for _ in range(2):
        pixels = data.train.pixels(slice(None))
        assert data.train.labels is not None
        assert torch.equal(pixels[:, 0, 0, 0] > 100, data.train.labels == 1)
    error = capsys.readouterr().err
    assert error.count("warning:") == 2 and f"{gone} (is gone)" in error and cut in error


def test_what_stands_in_for_a_lost_picture_does_not_depend_on_the_order_of_reading(tmp_path: Path) -> None:
    pictures(tmp_path, 20)
    both = [load(f"folder:{tmp_path}", stream=True).train for _ in range(2)]
    for name in both[0].images.names[3:6]:  # type: ignore[attr-defined]
        (tmp_path / name).unlink()
    forwards = both[0].pixels(np.arange(16))
    backwards = both[1].pixels(np.arange(16)[::-1].copy()).flip(0)
    assert torch.equal(forwards, backwards)


def test_when_everything_is_gone_the_error_says_so(tmp_path: Path) -> None:
    pictures(tmp_path, 12)
    data = load(f"folder:{tmp_path}", stream=True)
    shutil.rmtree(tmp_path)
    source = DataSource(data.train, batch_size=4, seed=0)
    with pytest.raises(DataError, match="none of the 10 pictures in .* can be read any more"):
        source.next()


def test_no_thread_outlives_the_data(tmp_path: Path) -> None:
    pictures(tmp_path, 40)
    data = load(f"folder:{tmp_path}", stream=True)
    source = DataSource(data.train, batch_size=16, seed=0)
    source.next()
    del data, source
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("aprendiz"):
            thread.join(5)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("aprendiz")] == []


def test_the_fingerprint_of_a_streamed_folder_tells_changed_files(tmp_path: Path) -> None:
    pictures(tmp_path, 10)
    first = load(f"folder:{tmp_path}", stream=True).fingerprint
    assert load(f"folder:{tmp_path}", stream=True).fingerprint == first
    os.utime(tmp_path / "000.png", ns=(1, 1))
    touched = load(f"folder:{tmp_path}", stream=True).fingerprint
    (tmp_path / "000.png").rename(tmp_path / "new.png")
    assert len({first, touched, load(f"folder:{tmp_path}", stream=True).fingerprint}) == 3


def test_a_streamed_folder_can_be_scaled_and_cut_into_patches(tmp_path: Path) -> None:
    for number in range(20):
        save(tmp_path / f"{number}.png", noise(number, 16, 16))
    data = load(f"folder:{tmp_path}", stream=True, scaling="standard", patch=5)
    assert data.spec.shape == (1, 5, 5) and len(data.train) == 64
    assert float(data.train.scaled(slice(None)).mean()) == pytest.approx(0, abs=1e-4)


def test_an_unreadable_file_says_why(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="is gone"):
        decode(tmp_path / "nothing.png", 1, 8, 8)
