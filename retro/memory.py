"""Telling a lack of memory from other errors."""

SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "bad alloc")
"""What libraries written in C++ say when memory is short."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the device or the host has too little memory.

    PyTorch raises ``OutOfMemoryError`` for a GPU and a plain ``RuntimeError`` for the CPU;
    other libraries have errors of their own with the system's words in them.
    """
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in words for sign in SIGNS)
