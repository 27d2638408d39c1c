"""Uploads in parts that an earlier run left unfinished: the service's own list of parts says what is there."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from obstore._effects import Call, Op
from obstore._ops.remote import RemoteBackend
from obstore._ops.remote_upload import RemoteUpload
from obstore._types import PutSpec
from obstore.exceptions import BaseError

Sent = tuple[RemoteUpload, frozenset[int]]


def find_parts(backend: RemoteBackend, key: str, spec: PutSpec, fd: int, size: int, part_size: int) -> Op[Sent | None]:
    """The latest upload to ``key`` with parts of the file; ``None`` where there is none.

    A part counts where its size is as planned and its ETag is the MD5 of the file's bytes; the others are sent again. A file that
    changed, or a service whose ETags are no MD5, starts over.
    """
    dialect: Any = backend.dialect
    if not hasattr(dialect, "build_list_uploads"):
        return None
    try:
        response = yield from backend.request(dialect.build_list_uploads(key))
        upload_id = dialect.read_list_uploads(response.body(), key)
        if upload_id is None:
            return None
        parts: dict[int, tuple[int, Any]] = {}
        marker: int | None = None
        while True:
            response = yield from backend.request(dialect.build_list_parts(key, upload_id, marker))
            found, marker = dialect.read_list_parts(response.body())
            parts.update(found)
            if marker is None:
                break
    except BaseError:
        return None  # not allowed, or not known here: then the upload starts over
    present = {}
    for number, (length, tag) in parts.items():
        start = (number - 1) * part_size
        if length == min(part_size, size - start):
            digest = yield Call(_md5, fd, start, length)
            if tag.e_tag.strip('"') == digest:
                present[number] = tag
    if parts and not present:
        return None
    upload = RemoteUpload(backend, key, upload_id, spec)
    upload.adopt(present)
    return upload, frozenset(present)


def _md5(fd: int, start: int, length: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    end = start + length
    while start < end:
        block = os.pread(fd, min(1 << 20, end - start), start)
        if not block:
            break
        digest.update(block)
        start += len(block)
    return digest.hexdigest()
