from __future__ import annotations

import collections
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aprendiz import checkpoint
from aprendiz.errors import CheckpointError


def round_trip(tmp_path: Path, state: Any) -> Any:
    checkpoint.save(tmp_path / "saved", {"it": state})
    return checkpoint.load(tmp_path / "saved")["it"]


@pytest.mark.parametrize(
    "state",
    [
        {"a": [1, 2.5, True, None, "text", [], {}], "tuple": (1, (2, [3]))},
        {0: "integer keys", (1, 2): "tuple key", "$tensor": "a name of ours"},
        {"$tuple": 1},
        -math.inf,
        2**127 + 1,
        b"\x00\xff",
        0.1 + 0.2,
    ],
)
def test_plain_values_come_back_as_they_were(tmp_path: Path, state: Any) -> None:
    loaded = round_trip(tmp_path, state)
    assert loaded == state and type(loaded) is type(state)
    if isinstance(state, dict):
        assert list(loaded) == list(state)


def test_nan_comes_back(tmp_path: Path) -> None:
    assert math.isnan(round_trip(tmp_path, math.nan))


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        torch.bfloat16,
        torch.float16,
        torch.float64,
        torch.int64,
        torch.uint8,
        torch.bool,
        torch.complex64,
    ],
)
def test_tensors_come_back_with_dtype_and_shape(tmp_path: Path, dtype: torch.dtype) -> None:
    for tensor in (torch.arange(6).reshape(2, 3).to(dtype), torch.tensor(1).to(dtype), torch.empty(0, 3, dtype=dtype)):
        loaded = round_trip(tmp_path, tensor)
        assert loaded.dtype == dtype and loaded.shape == tensor.shape and torch.equal(loaded, tensor)


def test_tensors_that_share_memory_or_are_not_contiguous(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    layer = torch.nn.Linear(4, 4)
    state = {"base": base, "same": base, "transposed": base.t(), "row": base[1], "tail": base[1:], "tied": layer.weight}
    state |= {"module": collections.OrderedDict(layer.state_dict()), "last": base.view(12)[11:]}
    loaded = round_trip(tmp_path, state)
    for name in ("base", "same", "transposed", "row", "tail", "tied", "last"):
        assert torch.equal(loaded[name], state[name]), name
    assert torch.equal(loaded["module"]["weight"], layer.weight) and not loaded["tied"].requires_grad
    loaded["row"].zero_()
    assert torch.equal(loaded["tail"], base[1:])


def test_a_small_view_does_not_save_its_large_memory(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "saved", {"row": torch.zeros(1000, 1000)[3]})
    assert (tmp_path / "saved" / "tensors.safetensors").stat().st_size < 10_000


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.uint64).reshape(2, 3) + 2**63,
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(10, dtype=np.int16)[::-2],
        np.array([True, False]),
        np.array(3.5),
        np.array(7, dtype=np.uint32),
        np.zeros((0, 4), dtype=np.float16),
        np.array(["Pong", "Breakout"]),
        np.array([1, 2], dtype=">i4"),
        np.array([1 + 2j]),
        np.array([(1, 2.0)], dtype=[("action", "i4"), ("value", "f8")]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_numpy_arrays_come_back_as_numpy_arrays(tmp_path: Path, array: np.ndarray) -> None:
    loaded = round_trip(tmp_path, array)
    assert isinstance(loaded, np.ndarray) and loaded.dtype == array.dtype and loaded.shape == array.shape
    np.testing.assert_array_equal(loaded, array)
    loaded[...] = loaded  # writable


def test_numpy_scalars_come_back_as_numpy_scalars(tmp_path: Path) -> None:
    loaded = round_trip(tmp_path, np.float32(0.1))
    assert isinstance(loaded, np.float32) and loaded == np.float32(0.1)


def test_generators_continue_as_if_nothing_had_happened(tmp_path: Path) -> None:
    numpy_generator, torch_generator = np.random.default_rng(3), torch.Generator().manual_seed(3)
    numpy_generator.integers(10, dtype=np.int32)
    loaded = round_trip(tmp_path, (numpy_generator.bit_generator.state, torch_generator.get_state()))
    expected = numpy_generator.integers(1000, size=5), torch.rand(5, generator=torch_generator)
    other_numpy, other_torch = np.random.default_rng(), torch.Generator()
    other_numpy.bit_generator.state = loaded[0]
    other_torch.set_state(loaded[1])
    np.testing.assert_array_equal(other_numpy.integers(1000, size=5), expected[0])
    assert torch.equal(torch.rand(5, generator=other_torch), expected[1])


def test_an_optimiser_continues_as_if_nothing_had_happened(tmp_path: Path) -> None:
    def step(layer: torch.nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        layer(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, betas=(0.8, 0.9))
    step(layer, optimizer)
    loaded = round_trip(tmp_path, {"layer": layer.state_dict(), "optimizer": optimizer.state_dict()})
    other = torch.nn.Linear(3, 2)
    other_optimizer = torch.optim.AdamW(other.parameters())
    other.load_state_dict(loaded["layer"])
    other_optimizer.load_state_dict(loaded["optimizer"])
    step(layer, optimizer)
    step(other, other_optimizer)
    assert torch.equal(layer.weight, other.weight)
    checkpoint.verify(tmp_path / "saved")  # working on what was loaded does not write to the file


def test_what_cannot_be_saved_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot hold the object at /agent/thing"):
        checkpoint.save(tmp_path / "saved", {"agent": {"thing": object()}})
    with pytest.raises(TypeError, match="cannot hold the array of objects at /list/0"):
        checkpoint.save(tmp_path / "saved", {"list": [np.array([object()])]})
    assert list(tmp_path.iterdir()) == []


def test_saving_again_replaces_the_folder(tmp_path: Path) -> None:
    for number in (1, 2):
        checkpoint.save(tmp_path / "saved", {"number": number})
    assert checkpoint.load(tmp_path / "saved") == {"number": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_folder_moved_aside_by_a_killed_save_is_taken_back(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "saved", {"number": 1})
    (tmp_path / "saved").rename(tmp_path / "saved.old-123")
    assert checkpoint.load(tmp_path / "saved") == {"number": 1}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "saved", {"weights": torch.arange(1000.0), "count": 5, "list": [1, 2, 3]})
    return tmp_path / "saved"


def test_what_was_moved_aside_in_a_folder_that_is_read_only_is_one_line(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved.rename(saved.with_name(f"{saved.name}.old-1"))

    def refuse(*given: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(CheckpointError, match="cannot be read: Permission denied"):
        checkpoint.verify(saved)


def test_a_truncated_or_changed_or_missing_file_is_refused(saved: Path) -> None:
    for name in ("tensors.safetensors", "state.json"):
        whole = (saved / name).read_bytes()
        flipped = bytearray(whole)
        flipped[-10] ^= 1
        for damaged in (whole[:-1], whole[: len(whole) // 2], b"", whole + b"x", bytes(flipped)):
            (saved / name).write_bytes(damaged)
            with pytest.raises(CheckpointError, match=rf"saved is damaged: {name}") as caught:
                checkpoint.load(saved)
            assert "\n" not in str(caught.value)
        (saved / name).unlink()
        with pytest.raises(CheckpointError, match=f"{name} is missing"):
            checkpoint.load(saved)
        (saved / name).write_bytes(whole)
    assert checkpoint.load(saved)["count"] == 5


@pytest.mark.parametrize(
    "text", ["[1]", "null", "{}", '{"format_version": 1}', '{"format_version": "x", "checksum": 1}']
)
def test_json_of_another_shape_is_refused(saved: Path, text: str) -> None:
    (saved / "state.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"is damaged: state\.json"):
        checkpoint.load(saved)


def test_a_newer_format_asks_for_an_upgrade(saved: Path) -> None:
    body = json.loads((saved / "state.json").read_text())
    (saved / "state.json").write_text(json.dumps(body | {"format_version": 9}))
    expected = "was written by a newer aprendiz: format 9, this one reads up to 1; upgrade"
    with pytest.raises(checkpoint.NewerFormatError, match=expected):
        checkpoint.load(saved)


def test_an_older_format_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path / "saved", {"old": 1})
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 3)
    steps = {1: lambda state: {"newer": state["old"]}, 2: lambda state: {"newest": state["newer"]}}
    monkeypatch.setattr(checkpoint, "MIGRATIONS", steps)
    assert checkpoint.load(tmp_path / "saved") == {"newest": 1}


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        checkpoint.load(tmp_path / "absent")


@pytest.mark.skipif(os.name == "nt", reason="limits the size of files as Unix does")
def test_a_full_disk_is_one_line_and_leaves_the_older_checkpoint(saved: Path) -> None:
    code = f"""
import resource, pathlib, torch
from aprendiz import checkpoint
from aprendiz.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for state in ({{"weights": torch.zeros(1_000_000)}}, {{"numbers": list(range(100_000))}}):
    try:
        checkpoint.save(pathlib.Path({str(saved)!r}), state)
    except StorageError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all(line.startswith(f"cannot write {saved}: ") and "make room" in line for line in lines)
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]
    assert checkpoint.load(saved)["count"] == 5


def test_importing_it_does_not_import_torch() -> None:
    code = "import sys, aprendiz.checkpoint, aprendiz.run; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]
