"""Compiling a network with torch.compile."""

import os
import shutil

from torch import nn

from retro.errors import ConfigError

COMPILERS = ("g++", "clang++", "c++", "cl")


def compile_network(network: nn.Module, *, backend: str = "inductor") -> None:
    """Have a network compiled at its first call as a whole; its methods stay as they are.

    Shapes that change from batch to batch are compiled once more, for any size.

    Args:
        network: The network.
        backend: What torch compiles with; all but ``inductor`` are for looking for faults.

    Raises:
        ConfigError: There is no C++ compiler.
    """
    chosen = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ((chosen,) if chosen else COMPILERS)):
        raise ConfigError(
            f"compile needs a C++ compiler, and {chosen or 'none of ' + ', '.join(COMPILERS)} was "
            f"found{' nowhere' if chosen else ''}. Install g++, or leave compile off."
        )
    network.compile(backend=backend)
