"""Runs the DCGAN script of a checkout of PyTorch-GAN for so many seconds, in a process of its own, and saves samples.

The script (implementations/dcgan/dcgan.py) neither stops by the clock nor saves anything but pictures of 25 images. A
copy gets one more line, a call after every batch, which stops it; what is timed runs from its first batch on. Instead
of torchvision it gets stand-ins for the few functions that it uses, with Pillow resizing as there.

    python -m benchmarks.pytorch_gan_peer CHECKOUT images.npy SECONDS out.npz THREADS SAMPLES
"""

from __future__ import annotations

import os
import runpy
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

SCRIPT = Path("implementations/dcgan/dcgan.py")
MARK = "        batches_done = "
"""The line of the script before which the call is put."""


class TimeIsUp(Exception):  # noqa: N818 (no error)
    """The seconds are over."""


class Watch:
    """Counts images, and ends the script."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.images, self.started = seconds, 0, 0.0
        self.generator: nn.Module | None = None

    def __call__(self, generator: nn.Module, images: Tensor) -> None:
        if self.generator is None:  # the first batch pays for what is made only once
            self.generator, self.started = generator, time.perf_counter()
            return
        self.images += len(images)
        if time.perf_counter() - self.started >= self.seconds:
            self.seconds = time.perf_counter() - self.started
            raise TimeIsUp


class Resize:
    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.resize((self.size, self.size), Image.Resampling.BILINEAR)


class ToTensor:
    def __call__(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(image, np.uint8))[None].to(torch.float32).div(255)


class Normalize:
    def __init__(self, mean: list[float], deviation: list[float]) -> None:
        self.mean, self.deviation = torch.tensor(mean)[:, None, None], torch.tensor(deviation)[:, None, None]

    def __call__(self, image: Tensor) -> Tensor:
        return image.sub(self.mean).div_(self.deviation)


class Compose:
    def __init__(self, transforms: list[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image


def digits_from(path: Path) -> type:
    """A data set class like torchvision's MNIST, over an array of images uint8 [N, H, W]."""

    class MNIST(torch.utils.data.Dataset[tuple[Tensor, int]]):
        def __init__(self, root: str, train: bool, download: bool, transform: Callable[[Any], Tensor]) -> None:
            self.images, self.transform = np.load(path), transform

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return self.transform(Image.fromarray(self.images[index])), 0

    return MNIST


def stand_in(images: Path) -> None:
    """Puts a `torchvision` with what the script needs in the place of the real one, there or not."""
    root, transforms, utils, datasets = (
        types.ModuleType(f"torchvision{name}") for name in ("", ".transforms", ".utils", ".datasets")
    )
    for one in (Resize, ToTensor, Normalize, Compose):
        setattr(transforms, one.__name__, one)
    utils.save_image = lambda *arguments, **named: None  # type: ignore[attr-defined]
    for module in (transforms, utils, datasets):
        setattr(root, module.__name__.rpartition(".")[2], module)
        sys.modules[module.__name__] = module
    sys.modules["torchvision"] = root
    datasets.MNIST = digits_from(images)  # type: ignore[attr-defined]


@torch.no_grad()
def samples(generator: nn.Module, count: int, training: bool) -> np.ndarray:
    """Images float16 [count, C, H, W] in [-1, 1], by batches of 64, as the script draws or with running ones."""
    generator.train(training)
    drawn = [generator(torch.randn(64, 100)) for _ in range(-(-count // 64))]
    return torch.cat([torch.zeros(0, 1, 32, 32), *drawn])[:count].numpy().astype(np.float16)


def main(checkout: str, images: str, seconds: str, out: str, threads: str, count: str) -> None:
    text = (Path(checkout) / SCRIPT).read_text()
    if text.count(MARK) != 1:
        raise SystemExit(f"{checkout} holds another version of {SCRIPT} than the one this knows")
    torch.set_num_threads(int(threads))
    stand_in(Path(images).resolve())
    copy, target = Path(out).resolve().with_suffix(".copy.py"), Path(out).resolve()
    copy.write_text(text.replace(MARK, f"        watch(generator, imgs)\n{MARK}"))
    watch = Watch(float(seconds))
    sys.argv = [str(copy)]  # its own defaults: batch 64, 32x32 pixels
    folder = target.parent / "a" / "b"  # it writes into ../../data and ./images
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        runpy.run_path(str(copy), init_globals={"watch": watch}, run_name="__main__")
    except TimeIsUp:
        pass
    finally:
        copy.unlink()
    assert watch.generator is not None
    np.savez(
        target,
        images=watch.images,
        seconds=watch.seconds,
        as_trained=samples(watch.generator, int(count), True),
        running_statistics=samples(watch.generator, int(count), False),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
