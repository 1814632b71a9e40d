"""Uploads: every file is accepted or gets a reason, and nothing leaves the corpus folder.

Limits are checked while reading, never from what a request or an archive says about
itself alone.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from app.errors import ChangeRefusedError, RequestTooLargeError
from app.format import count
from app.services.intake import Intake, UploadedFile
from app.services.json_lines import check_text_field
from app.services.upload_limits import UploadLimits
from jobs.errors import InvalidChangeError
from jobs.home import Home
from jobs.store.corpus_locks import CorpusUse, refuse_during_a_build
from jobs.store.store import Store

__all__ = ["UploadLimits", "UploadService", "UploadedFile"]

TEXT_FIELD = "text"
UNPACKED_AT_ONCE = 4


class UploadService:
    """Takes files into a corpus."""

    def __init__(self, home: Home, store: Store, limits: UploadLimits) -> None:
        self._home = home
        self._store = store
        self.limits = limits
        self.turns = asyncio.Semaphore(UNPACKED_AT_ONCE)
        """Held while files are taken; the other threads are for all that takes a moment."""

    def check_open(self, corpus_id: str) -> None:
        """Refuse before the body of a request is read.

        Raises:
            InvalidChangeError: The corpus is being built.
        """
        refuse_during_a_build(self._store.get_corpus(corpus_id), CorpusUse.ADD)

    def add(
        self,
        corpus_id: str,
        files: Sequence[UploadedFile],
        *,
        text_field: str = TEXT_FIELD,
        keep_duplicates: bool = False,
    ) -> dict[str, Any]:
        """Take the files of one request.

        Args:
            corpus_id: Where they go.
            files: What was sent; zip and gzip files are unpacked, and a line of a JSON Lines
                file is a document.
            text_field: Field of JSON lines that holds the text.
            keep_duplicates: Store a text also where the corpus has it under another path.

        Returns:
            ``accepted`` with path, bytes, encoding and what it changed; ``skipped`` with path
            and reason; ``counts`` of all, where the lists are too long.

        Raises:
            RequestTooLargeError: There are too many files.
            InputError: ``text_field`` cannot be a name.
            InvalidChangeError: The corpus is being built, or others change its documents.
            DiskFullError: The disk is nearly full; what was accepted before is kept.
        """
        self.check_open(corpus_id)
        if len(files) > self.limits.request_files:
            raise RequestTooLargeError(
                f"One request may hold at most {self.limits.request_files:,} files, "
                f"got {len(files):,}. Send them in several requests, or as one zip file."
            )
        intake = Intake(
            self._home,
            self._store,
            self.limits,
            corpus_id,
            text_field=check_text_field(text_field),
            keep_duplicates=keep_duplicates,
        )
        try:
            try:
                for file in files:
                    intake.take(file)
            finally:
                # What was accepted is kept, even when a later file stops the request.
                intake.finish()
        except InvalidChangeError as error:
            stored = intake.report.num_stored
            if not stored:
                raise
            raise ChangeRefusedError(
                f"{error} {count(stored, 'document')} of this request had been stored before; "
                f"send it again for the rest."
            ) from error
        return intake.report.to_dict()
