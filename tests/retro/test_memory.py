"""A lack of memory is told from other errors."""

import numpy as np
import pytest
import torch

from retro.memory import is_out_of_memory

PETABYTE = 2**50


def test_real_lacks_of_memory_are_recognised() -> None:
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(PETABYTE, dtype=torch.uint8)
    with pytest.raises(MemoryError) as of_numpy:
        np.ones(PETABYTE, dtype=np.uint8)

    assert is_out_of_memory(of_torch.value)
    assert is_out_of_memory(of_numpy.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(RuntimeError("std::bad_alloc"))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("the file is named 'out of memory.txt'"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(28, "No space left on device"),
    ],
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)
