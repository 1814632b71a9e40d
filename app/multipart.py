"""Reading the files of an upload request, with its limits counted while reading."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.errors import RequestTooLargeError
from app.format import size
from app.services.uploads import TEXT_FIELD, UploadedFile, UploadLimits
from retro.errors import InputError

PATH_BYTES = 16_384
PARTS = ("files", "paths", "text_field", "keep_duplicates")
FLAGS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False, "": False}


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadRequest:
    """What a request asks for."""

    files: list[UploadedFile]

    text_field: str
    """Field of JSON lines that holds the text."""

    keep_duplicates: bool
    """Whether a text is stored also where the corpus has it under another path."""


@asynccontextmanager
async def read_files(request: Request, limits: UploadLimits) -> AsyncIterator[UploadRequest]:
    """Give the files of a multipart request; they are closed when the block ends.

    Raises:
        InputError: It is not such a request, or paths and files do not match.
        RequestTooLargeError: It is larger than the limits allow.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InputError(
            "Files must be sent as multipart/form-data, in parts named 'files', each with a part "
            "'paths' that holds its relative path."
        )
    parser = MultiPartParser(
        request.headers,
        _counted(request, limits.request_bytes),
        # One more than allowed, so that our own message is the one that is seen.
        max_files=limits.request_files + 1,
        max_fields=limits.request_files + len(PARTS),
        max_part_size=PATH_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many" in error.message:
            raise RequestTooLargeError(
                f"One request may hold at most {limits.request_files:,} files. "
                f"Send them in several requests, or as one zip file."
            ) from error
        raise InputError(
            f"The multipart request could not be read ({error.message}). Send it again."
        ) from error
    try:
        unknown = sorted({name for name in form if name not in PARTS})
        if unknown:
            known = ", ".join(repr(name) for name in PARTS)
            raise InputError(f"Parts must be named {known}, got {unknown[0][:80]!r}.")
        files = [item for item in form.getlist("files") if isinstance(item, UploadFile)]
        paths = [str(item) for item in form.getlist("paths")]
        if not files:
            raise InputError("The request must hold at least one part named 'files', got none.")
        if paths and len(paths) != len(files):
            raise InputError(
                f"There must be one part 'paths' for each of the {len(files)} files, "
                f"got {len(paths)}."
            )
        names = paths or [file.filename or "" for file in files]
        yield UploadRequest(
            files=[
                UploadedFile(path=name, content=file.file)
                for name, file in zip(names, files, strict=True)
            ],
            text_field=str(form.get("text_field", TEXT_FIELD)),
            keep_duplicates=_flag("keep_duplicates", form.get("keep_duplicates", "")),
        )
    finally:
        await form.close()


def _flag(name: str, value: object) -> bool:
    word = str(value).strip().lower()
    if word not in FLAGS:
        raise InputError(f"{name} must be true or false, got {word[:80]!r}.")
    return FLAGS[word]


async def _counted(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    message = f"One request may have at most {size(limit)}. Send the files in several requests."
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise RequestTooLargeError(message)
    received = 0
    async for piece in request.stream():
        received += len(piece)
        if received > limit:
            raise RequestTooLargeError(message)
        yield piece
