"""Keeping the texts of a folder in a corpus."""

from collections.abc import Callable
from pathlib import Path

from retro.data.documents import SkippedFile, read_folder, store_document
from retro.errors import InputError
from retro.places import check_place
from retro.progress import Progress, no_progress


def ingest_folder(
    folder: Path,
    corpus_dir: Path,
    on_progress: Progress = no_progress,
    on_skip: Callable[[SkippedFile], None] = lambda _: None,
) -> int:
    """Keep every text of a folder in a corpus.

    Args:
        folder: Where the text is.
        corpus_dir: The corpus.
        on_progress: Called with the progress of the stage ``ingest`` in documents; the total is not
            known before the end.
        on_skip: Called for each file that is not accepted, with the reason.

    Returns:
        Documents kept.

    Raises:
        ConfigError: No folder could be called so.
        InputError: There is no such folder, or no text in it.
    """
    check_place("CORPUS", corpus_dir, is_new=True)
    num_skipped = 0

    def count_skipped(skipped: SkippedFile) -> None:
        nonlocal num_skipped
        num_skipped += 1
        on_skip(skipped)

    num_documents = 0
    for document in read_folder(folder, count_skipped):
        try:
            store_document(corpus_dir, document)
        except InputError as error:
            count_skipped(SkippedFile(path=document.path, reason=str(error)))
            continue
        num_documents += 1
        on_progress("ingest", num_documents, num_documents)
    if num_documents == 0:
        raise InputError(
            f"{folder.name!r} must hold at least one text file, got none "
            f"({num_skipped} files skipped). Add files in UTF-8, UTF-16 or Latin-1."
        )
    return num_documents
