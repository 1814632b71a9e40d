"""Opening what search in a finished corpus needs."""

from pathlib import Path

import torch

from retro.artifacts import read_manifest
from retro.corpus.files import INDEX_KIND, INDEX_NAME, KEYS_NAME
from retro.data.tokenizer import Tokenizer
from retro.device import default_device
from retro.errors import ArtifactMismatchError, ArtifactMissingError
from retro.retrieval.embedder import ChunkEmbedder, MakeEmbedder
from retro.retrieval.index import Index, open_index
from retro.retrieval.index_info import IndexInfo
from retro.retrieval.keys import KeyStore
from retro.retrieval.search import KeySearch


def open_search(
    corpus_dir: Path,
    version: str,
    info: IndexInfo,
    tokenizer: Tokenizer,
    *,
    encoder: str | None,
    device: torch.device | None,
    make_embedder: MakeEmbedder | None = None,
) -> KeySearch:
    """Load encoder, keys and index of a finished corpus.

    Args:
        corpus_dir: The corpus.
        version: Fingerprint with which it was opened.
        info: Facts about its index.
        tokenizer: Its tokenizer.
        encoder: Hub name or folder of its encoder; None is the bundled one.
        device: Where keys are computed; None is CUDA where there is one.
        make_embedder: Makes the embedder, given the tokenizer, instead of ``encoder``.

    Raises:
        ArtifactMismatchError: The corpus was built again since it was opened.
    """
    device = device or default_device()
    keys, index = _open_keys(corpus_dir, version, info)
    return KeySearch(
        embedder=(
            ChunkEmbedder.open(encoder, tokenizer, device)
            if make_embedder is None
            else make_embedder(tokenizer)
        ),
        keys=keys,
        index=index,
        info=info,
        device=device,
    )


def _open_keys(corpus_dir: Path, version: str, info: IndexInfo) -> tuple[KeyStore, Index]:
    """Open keys and index, which must be those of the chunks that are open."""
    try:
        keys = KeyStore.open(corpus_dir / KEYS_NAME)
        if _is_present(corpus_dir, version, keys):
            index = open_index(corpus_dir / INDEX_NAME, info)
            # A build may have ended between the two.
            if _is_present(corpus_dir, version, keys):
                return keys, index
    except ArtifactMissingError:  # a build takes these away before it writes new ones
        pass
    raise ArtifactMismatchError(
        f"Corpus {corpus_dir.name!r} was opened as version {version[:12]}, and it has been built "
        f"again since then, or is being built. Open it again when that has ended."
    )


def _is_present(corpus_dir: Path, version: str, keys: KeyStore) -> bool:
    manifest = read_manifest(corpus_dir / INDEX_NAME, INDEX_KIND)
    return (manifest.fingerprint, manifest.settings.get("keys")) == (version, keys.fingerprint)
