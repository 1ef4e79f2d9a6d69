"""The vectors of word2vec (`word2vec`), laid out for the kernel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from language.core import Purpose, torch_generator
from language.lanes import LANES


class WordVectors(nn.Module):
    """The vectors: rows of a multiple of LANES numbers, of which `input` and `output` show the first D.

    Input vectors start uniformly between -1/D and 1/D, as in gensim; half of that, as in the program of the papers,
    does a little worse. Output vectors start at zero.
    """

    def __init__(self, vocabulary_size: int, output_rows: int, dimensions: int, padded: bool, seed: int) -> None:
        super().__init__()
        self.row = -(-dimensions // LANES) * LANES if padded else dimensions
        self.input_rows = _aligned_zeros(vocabulary_size, self.row)
        self.output_rows = _aligned_zeros(output_rows + 1, self.row)  # the last one stands for none
        generator = torch_generator(seed, Purpose.NETWORK)
        first = (2.0 * torch.rand(vocabulary_size, dimensions, generator=generator) - 1.0) / dimensions
        self.input_rows[:, :dimensions] = first
        self.input = nn.Parameter(self.input_rows[:, :dimensions], requires_grad=False)
        self.output = nn.Parameter(self.output_rows[:output_rows, :dimensions], requires_grad=False)


def _aligned_zeros(rows: int, row: int) -> Tensor:
    """float32 [rows, row] that begins with a cache line. NumPy's memory, not PyTorch's: it asks for large pages,
    without which half of the time goes into looking up the addresses of rows."""
    array = np.zeros(rows * row + 16, np.float32)
    first = -array.ctypes.data % 64 // 4
    return torch.from_numpy(array[first : first + rows * row].reshape(rows, row))
