"""RETRO: retrieval-enhanced transformers (arXiv:2112.04426) on your own text.

The public names are imported when they are first used, so ``import retro`` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retro.model.retro.model import RETRO as RETRO
    from retro.retro_pytorch.dataset import RETRODataset as RETRODataset
    from retro.retro_pytorch.wrapper import TrainingWrapper as TrainingWrapper

__version__ = "0.1.0"

__all__ = ["RETRO", "RETRODataset", "TrainingWrapper", "__version__"]

_PUBLIC = {
    "RETRO": "retro.model.retro.model",
    "RETRODataset": "retro.retro_pytorch.dataset",
    "TrainingWrapper": "retro.retro_pytorch.wrapper",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'retro' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
