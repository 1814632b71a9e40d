"""Keys, index, neighbors, and the retriever that finds them.

The functions on raw files, named as in RETRO-pytorch, are imported when they are first
used, so ``import retro.retrieval`` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retro.retro_pytorch.bert import bert_embed as bert_embed
    from retro.retro_pytorch.bert import tokenize as tokenize
    from retro.retro_pytorch.chunks import text_folder_to_chunks_ as text_folder_to_chunks_
    from retro.retro_pytorch.neighbors import chunks_to_index_and_embed as chunks_to_index_and_embed
    from retro.retro_pytorch.neighbors import (
        chunks_to_precalculated_knn_ as chunks_to_precalculated_knn_,
    )

__all__ = [
    "bert_embed",
    "chunks_to_index_and_embed",
    "chunks_to_precalculated_knn_",
    "text_folder_to_chunks_",
    "tokenize",
]

_PUBLIC = {
    "bert_embed": "retro.retro_pytorch.bert",
    "chunks_to_index_and_embed": "retro.retro_pytorch.neighbors",
    "chunks_to_precalculated_knn_": "retro.retro_pytorch.neighbors",
    "text_folder_to_chunks_": "retro.retro_pytorch.chunks",
    "tokenize": "retro.retro_pytorch.bert",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'retro.retrieval' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
