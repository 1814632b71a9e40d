"""The raw chunk files of a folder, made again only when the folder or a setting changed."""

import hashlib
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retro.artifacts import fingerprint, sha256_file
from retro.data.documents import read_inside
from retro.errors import ArtifactError, InputError
from retro.json_files import read_object
from retro.retro_pytorch.chunks import matching_files, text_folder_to_chunks_
from retro.retro_pytorch.encoder import EncoderName, open_encoder
from retro.whole_files import write_json

logger = logging.getLogger(__name__)

COUNTS = ("chunks", "docs", "seqs")


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderSettings:
    """How a folder becomes chunk files; see ``text_folder_to_chunks_``."""

    glob: str
    chunk_size: int
    seq_len: int
    max_chunks: int
    max_seqs: int


def processed_folder(
    folder: Path,
    paths: dict[str, Path],
    stats_path: Path,
    settings: FolderSettings,
    *,
    encoder: EncoderName,
    force: bool,
) -> dict[str, int]:
    """Return how many chunks, documents and sequences there are, once the files are current.

    Args:
        folder: Where the text is.
        paths: Where the files are, by ``chunks``, ``seqs``, ``doc_ids``.
        stats_path: JSON that says what the files were made from.
        settings: How.
        encoder: Whose tokenizer is used.
        force: Make them again in any case.

    Raises:
        RetroError: See ``text_folder_to_chunks_``.
    """
    wanted = fingerprint(
        {
            "settings": asdict(settings),
            "encoder": open_encoder(encoder).fingerprint,
            "files": _folder_content(folder, settings.glob),
        }
    )
    reason = "REPROCESS is set" if force else _why_not_current(stats_path, paths, wanted)
    if reason is None:
        logger.info("%s: up to date", stats_path.name)
        stats = read_object(stats_path)
        return {name: stats[name] for name in COUNTS}
    logger.info("processing %s: %s", folder, reason)
    counts = text_folder_to_chunks_(
        folder=folder,
        chunks_memmap_path=paths["chunks"],
        seqs_memmap_path=paths["seqs"],
        doc_ids_memmap_path=paths["doc_ids"],
        encoder=encoder,
        **asdict(settings),
    )
    write_json(stats_path, {**counts, "fingerprint": wanted, "sha256": _hashes(paths)})
    return counts


def _folder_content(folder: Path, glob: str) -> list[tuple[str, int, str]]:
    """Return path, size and hash of every file that is read."""
    root = folder.resolve()
    content = []
    for relative in matching_files(folder, glob):
        try:
            data = read_inside(root, relative)
        except (InputError, OSError) as error:
            data = type(error).__name__.encode()
        content.append((relative, len(data), hashlib.sha256(data).hexdigest()))
    return content


def _why_not_current(stats_path: Path, paths: dict[str, Path], wanted: str) -> str | None:
    try:
        stats: Any = read_object(stats_path)
    except ArtifactError:
        return f"{stats_path.name} does not say what was done before"
    if not all(isinstance(stats.get(name), int) for name in COUNTS):
        return f"{stats_path.name} does not say what was done before"
    if stats.get("fingerprint") != wanted:
        return "the text, the encoder or a setting has changed since"
    if not all(path.is_file() for path in paths.values()) or stats.get("sha256") != _hashes(paths):
        return "the files are not the ones that were made"
    return None


def _hashes(paths: dict[str, Path]) -> dict[str, str]:
    return {name: sha256_file(path) for name, path in paths.items()}
