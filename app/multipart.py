"""Reading the files of an upload request, with its limits counted while reading."""

import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from fastapi import Request
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from app.errors import RequestTooLargeError
from app.format import size
from app.services.uploads import TEXT_FIELD, UploadedFile, UploadLimits
from retro.errors import InputError
from retro.whole_files import disk_errors

logger = logging.getLogger(__name__)

FORM = "multipart/form-data"
BOUNDARY = re.compile(r"[\w'()+,./:=? -]{0,69}[\w'()+,./:=?-]", re.ASCII)
"""As RFC 2046 has it."""
PATH_BYTES = 16_384
SHOWN = 80
DIGITS = 20
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
        InputError: It is not such a request, was broken off, or its parts do not match.
        RequestTooLargeError: It is larger than the limits allow.
        DiskFullError: There is no space for what it holds.
    """
    parser = _Parser(
        _plain_headers(request),
        _counted(request, limits.request_bytes),
        # One more than allowed, so that our own message is the one that is seen.
        max_files=limits.request_files + 1,
        max_fields=limits.request_files + len(PARTS),
        max_part_size=PATH_BYTES,
    )
    form = await _parse(parser, limits)
    try:
        yield _read_form(form)
    finally:
        await form.close()


async def _parse(parser: MultiPartParser, limits: UploadLimits) -> FormData:
    try:
        with disk_errors(Path("the upload")):
            return await parser.parse()
    except ClientDisconnect:
        logger.info("an upload was broken off")
        # Nobody is there to read it, but every request must end with an answer.
        raise InputError("The upload was broken off before its end. Send it again.") from None
    except MultiPartException as error:
        if "Too many" in error.message:
            raise RequestTooLargeError(
                f"One request may hold at most {limits.request_files:,} files. "
                f"Send them in several requests, or as one zip file."
            ) from error
        raise InputError(
            f"The multipart request could not be read ({error.message.rstrip('.')}). Send it again."
        ) from error


class _Parser(MultiPartParser):
    """Refuses a body without its last boundary: the file before that is cut off.

    Raised in its stream, the refusal makes the parser close the files it has.
    """

    _has_ended = False

    def on_end(self) -> None:
        self._has_ended = True

    async def parse(self) -> FormData:
        self.stream = self._to_the_end(self.stream)
        return await super().parse()

    async def _to_the_end(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for piece in stream:
            yield piece
        if not self._has_ended:
            raise MultiPartException("Its last boundary is missing")


def _plain_headers(request: Request) -> Headers:
    """Return the one header that the parser reads, without what else a client may ask of it.

    Raises:
        InputError: It is not that of a multipart request, or has no boundary to go by.
    """
    header = Message()
    header["content-type"] = request.headers.get("content-type", "")
    if header.get_content_type() != FORM:
        raise InputError(
            f"Files must be sent as {FORM}, in parts named 'files', each with a part "
            "'paths' that holds its relative path."
        )
    boundary = header.get_boundary("")
    if not BOUNDARY.fullmatch(boundary):
        raise InputError(
            f"The boundary of a multipart request must have 1 to 70 plain characters, "
            f"got {len(boundary):,} characters, {boundary[:SHOWN]!a}. Let the program that sends "
            f"it choose one."
        )
    # Each byte becomes one character, whatever it is: what is text is decoded here.
    return Headers({"content-type": f'{FORM}; boundary="{boundary}"; charset=latin-1'})


def _read_form(form: FormData) -> UploadRequest:
    for name, value in form.multi_items():
        _check_part(name, value)
    files = [item for item in form.getlist("files") if isinstance(item, UploadFile)]
    paths = [_text("paths", item) for item in form.getlist("paths")]
    if not files:
        raise InputError("The request must hold at least one part named 'files', got none.")
    if paths and len(paths) != len(files):
        raise InputError(
            f"There must be one part 'paths' for each of the {len(files)} files, got {len(paths)}."
        )
    names = paths or [_text("files", file.filename or "") for file in files]
    return UploadRequest(
        files=[
            UploadedFile(path=name, content=file.file)
            for name, file in zip(names, files, strict=True)
        ],
        text_field=_text("text_field", form.get("text_field", TEXT_FIELD)),
        keep_duplicates=_flag("keep_duplicates", form.get("keep_duplicates", "")),
    )


def _check_part(name: str, value: UploadFile | str) -> None:
    if name not in PARTS:
        known = ", ".join(repr(part) for part in PARTS)
        raise InputError(f"Parts must be named {known}, got {name[:SHOWN]!a}.")
    if name == "files" and not isinstance(value, UploadFile):
        raise InputError(
            f"The part 'files' must be a file, got the text {value[:SHOWN]!a}. "
            f"Send it with a file name."
        )
    if name != "files" and isinstance(value, UploadFile):
        raise InputError(
            f"The part {name!r} must be text, got the file {(value.filename or '')[:SHOWN]!a}. "
            f"Send it without a file name."
        )


def _text(name: str, value: UploadFile | str) -> str:
    """Return what a part holds, or what a file is called."""
    text = str(value)
    try:
        return text.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise InputError(
            f"Names and texts of the part {name!r} must be UTF-8, got {text[:SHOWN]!a}. "
            f"Rename the file, or send its name as UTF-8."
        ) from None


def _flag(name: str, value: UploadFile | str) -> bool:
    word = _text(name, value).strip().lower()
    if word not in FLAGS:
        raise InputError(f"{name} must be true or false, got {word[:SHOWN]!r}. Leave it out.")
    return FLAGS[word]


async def _counted(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    message = f"One request may have at most {size(limit)}. Send the files in several requests."
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:DIGITS]) > limit:
        raise RequestTooLargeError(message)
    received = 0
    async for piece in request.stream():
        received += len(piece)
        if received > limit:
            raise RequestTooLargeError(message)
        yield piece
