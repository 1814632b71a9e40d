"""Writing a ``.npy`` file row by row, for arrays whose length is not known before."""

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class ArrayWriter:
    """A ``.npy`` file that grows; its header is completed when the writer is closed."""

    def __init__(self, path: Path, dtype: DTypeLike, row_shape: tuple[int, ...] = ()) -> None:
        self.num_rows = 0
        self._dtype = np.dtype(dtype)
        self._row_shape = row_shape
        self._file = path.open("wb")
        try:
            self._write_header()
        except OSError:
            self._file.close()
            raise

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows at the end."""
        assert rows.shape[1:] == self._row_shape, f"{rows.shape} rows for {self._row_shape}"
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).tobytes())
        self.num_rows += len(rows)

    def close(self) -> None:
        """Complete the header."""
        if not self._file.closed:
            # Also where the disk is full and the file has to be given up.
            with self._file:
                self._file.seek(0)
                self._write_header()

    def _write_header(self) -> None:
        # numpy leaves room in the header for the first dimension to grow.
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self.num_rows, *self._row_shape),
            },
        )

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
