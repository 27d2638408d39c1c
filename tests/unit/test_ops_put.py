"""What can be put, in which pieces, and what is left behind when it fails: nothing."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest

from obstore._effects import Cancelled, Fork, Send
from obstore._ops import put as put_module
from obstore._ops.put import part_size, put
from obstore.exceptions import GenericError
from tests.unit.script import Answer, Driver, backend_of

STARTED = Answer(200, b"<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>")
FINISHED = Answer(200, b'<CompleteMultipartUploadResult><ETag>"done"</ETag></CompleteMultipartUploadResult>')
FAILED = Answer(400, b"<Error><Code>InvalidArgument</Code></Error>")


def kind_of(send: Send) -> str:
    if "uploads=" in send.url:
        return "start"
    if number := re.search(r"partNumber=(\d+)", send.url):
        return f"part {number[1]}"
    if "uploadId=" in send.url:
        return {"POST": "finish", "DELETE": "abort"}[send.method]
    return "put"


class Server:
    """Takes uploads; fails where it is told to."""

    def __init__(self, **failing: Any) -> None:
        self.failing = {name.replace("_", " "): answer for name, answer in failing.items()}
        self.seen: list[str] = []
        self.bodies: dict[str, bytes] = {}

    def __call__(self, send: Send) -> Any:
        kind = kind_of(send)
        self.seen.append(kind)
        self.bodies[kind] = b"".join(send.body or ())
        if kind in self.failing:
            return self.failing[kind]
        return {"start": STARTED, "finish": FINISHED, "abort": Answer(204)}.get(kind) or Answer(200, etag=f'"{kind}"')

    @property
    def parts(self) -> list[int]:
        return [len(body) for kind, body in self.bodies.items() if kind.startswith("part")]


def upload(file: Any, server: Server | None = None, *, chunk: int = 10, **options: Any) -> tuple[Server, Driver, Any]:
    server = Server() if server is None else server
    driver = Driver(server)
    result = driver.run(put(backend_of(), "k", file, chunk_size=chunk, **options))
    return server, driver, result


CONTENT = bytes(range(25))


class Raw:
    """A file that reads less than it is asked for."""

    def __init__(self, data: bytes, step: int) -> None:
        self.inner = io.BytesIO(data)
        self.step = step

    def read(self, size: int = -1) -> bytes:
        return self.inner.read(min(size, self.step))

    def seek(self, offset: int, whence: int = 0) -> None:
        self.inner.seek(offset, whence)  # a minimal one: returns nothing

    def tell(self) -> int:
        return self.inner.tell()


async def asynchronously(items: Any) -> Any:
    for item in items:
        yield item


SOURCES = {
    "bytes": lambda: CONTENT,
    "bytearray": lambda: bytearray(CONTENT),
    "memoryview": lambda: memoryview(CONTENT),
    "file": lambda: io.BytesIO(CONTENT),
    "raw file": lambda: Raw(CONTENT, 3),
    "list": lambda: [CONTENT[:3], CONTENT[3:3], CONTENT[3:24], CONTENT[24:]],
    "generator": lambda: (CONTENT[i : i + 1] for i in range(25)),
    "one item": lambda: iter([CONTENT]),
    "asynchronous": lambda: asynchronously([CONTENT[:11], b"", CONTENT[11:]]),
}


@pytest.mark.parametrize("name", SOURCES)
def test_parts_are_exact_whatever_the_pieces(name: str) -> None:
    server, driver, result = upload(SOURCES[name](), asynchronous=name == "asynchronous")
    assert server.seen == ["start", "part 1", "part 2", "part 3", "finish"]
    assert server.parts == [10, 10, 5]
    assert b"".join(server.bodies[f"part {number}"] for number in (1, 2, 3)) == CONTENT
    assert server.bodies["finish"].count(b"<Part>") == 3
    assert result == {"e_tag": '"done"', "version": None}
    assert driver.log.count("Fork") == 1 + 3  # the start, and the parts


@pytest.mark.parametrize("name", SOURCES)
def test_one_request_when_told_so(name: str) -> None:
    server, _, _ = upload(SOURCES[name](), asynchronous=name == "asynchronous", use_multipart=False)
    assert server.seen == ["put"]
    assert server.bodies["put"] == CONTENT


@pytest.mark.parametrize("mode", ["create", {"e_tag": '"x"'}])
def test_condition_forces_one_request(mode: Any) -> None:
    server, _, _ = upload(iter([CONTENT]), mode=mode, use_multipart=True)
    assert server.seen == ["put"]


@pytest.mark.parametrize(
    ("size", "kinds"),
    [(0, ["put"]), (10, ["put"]), (11, ["start", "part 1", "part 2", "finish"])],
)
@pytest.mark.parametrize("make", [bytes, lambda size: io.BytesIO(bytes(size))], ids=["buffer", "file"])
def test_parts_begin_above_chunk_size(make: Any, size: int, kinds: list[str]) -> None:
    assert upload(make(size))[0].seen == kinds


@pytest.mark.parametrize("file", [b"", [], io.BytesIO()], ids=["bytes", "list", "file"])
def test_empty_object_in_parts_is_one_empty_part(file: Any) -> None:
    server, _, _ = upload(file, use_multipart=True)
    assert server.seen == ["start", "part 1", "finish"]
    assert server.parts == [0]


def test_exact_multiple_has_no_empty_last_part() -> None:
    server, _, _ = upload(iter([bytes(10), bytes(10)]))
    assert server.parts == [10, 10]


def test_file_is_read_from_where_it_stands() -> None:
    file = io.BytesIO(CONTENT)
    file.seek(20)
    server, _, _ = upload(file)
    assert server.bodies == {"put": CONTENT[20:]}


def test_path_is_opened_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    server, _, _ = upload(path)
    assert server.parts == [10, 10, 5]
    for error in (FAILED, Cancelled()):
        with pytest.raises((GenericError, Cancelled)):  # an unclosed file would warn, and warnings are errors
            upload(path, Server(part_2=error))


def test_operation_thrown_away_midway_closes_its_file_without_yielding(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    op = put(backend_of(), "k", path, chunk_size=10)
    opening = next(op)
    opening.fn(*opening.args)
    op.send(None)
    op.close()  # a generator that yields now is a RuntimeError


def test_buffers_of_an_iterator_may_be_reused() -> None:
    scratch = bytearray(4)

    def items() -> Any:
        for start in range(0, 24, 4):
            scratch[:] = CONTENT[start : start + 4]
            yield scratch
        scratch[:] = b"\xee" * 4

    server, _, _ = upload(items())
    assert b"".join(server.bodies[f"part {number}"] for number in (1, 2, 3)) == CONTENT[:24]


def test_no_more_than_the_window_is_under_way() -> None:
    _, driver, _ = upload(bytes(200), max_concurrency=3)
    assert driver.most == 3
    _, driver, _ = upload(bytes(200), max_concurrency=0)
    assert driver.most == 1


@pytest.mark.parametrize(
    ("chunk", "size", "most", "wanted"),
    [
        (5 << 20, 1 << 30, 10_000, 5 << 20),
        (5 << 20, 5 << 40, 10_000, -(-(5 << 40) // 9_900)),
        (1, 9_901, 10_000, 2),
        (5, 1 << 40, None, 5),
        (5, None, 10_000, 5),
        (1, 100, 10, 10),
    ],
)
def test_parts_grow_where_there_would_be_too_many(chunk: int, size: Any, most: Any, wanted: int) -> None:
    class Upload:
        max_parts = most
        min_part_bytes = 0
        part_pair = None

    grown = part_size(chunk, size, Upload())  # type: ignore[arg-type]
    assert grown == wanted
    if size is not None and most is not None:
        assert -(-size // grown) <= most


def test_source_of_unknown_length_never_needs_too_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum((5 << 20) * 2**step * 500 for step in range(1, 12)) > 5 << 40
    monkeypatch.setattr(put_module, "_GROW_AFTER", 10)
    monkeypatch.setattr(put_module, "_GROW_EVERY", 5)
    server, _, _ = upload((b"x" for _ in range(100)), chunk=1)
    assert server.parts == [1] * 10 + [2] * 5 + [4] * 5 + [8] * 5 + [16] + [4]


# ---- failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "aborted"), [("start", False), ("part_1", True), ("part_2", True), ("part_3", True), ("finish", True)]
)
@pytest.mark.parametrize(
    "error", [FAILED, Cancelled(), KeyboardInterrupt(), KeyError("mine")], ids=lambda e: type(e).__name__
)
def test_failure_at_any_step_leaves_nothing_behind(step: str, aborted: bool, error: Any) -> None:
    server = Server(**{step: error})
    driver = Driver(server)
    with pytest.raises(BaseException) as caught:
        driver.run(put(backend_of(), "k", CONTENT, chunk_size=10, max_concurrency=12))
    if isinstance(error, BaseException):
        assert caught.value is error
    else:
        assert type(caught.value) is GenericError
    assert server.seen.count("abort") == int(aborted)
    assert driver.alive == []
    if aborted:
        assert server.seen[-1] == "abort"
        assert "Cancel" in driver.log


def test_other_parts_end_before_the_upload_is_aborted() -> None:
    server = Server(part_1=FAILED)
    driver = Driver(server)
    with pytest.raises(GenericError):
        driver.run(put(backend_of(), "k", CONTENT, chunk_size=10, max_concurrency=12))
    assert server.seen == ["start", "part 1", "abort"]
    assert driver.cancelled == 2


@pytest.mark.parametrize("abort", [FAILED, KeyError("the user's credential provider")], ids=["refused", "raised"])
def test_failing_abort_does_not_hide_what_happened(abort: Any) -> None:
    mine = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        upload(CONTENT, Server(part_2=mine, abort=abort))
    assert caught.value is mine


class Mine(BaseException):
    """Of the user's."""


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_error_of_the_iterator_is_raised_as_it_is(at: int, asynchronous: bool) -> None:
    mine = Mine()

    def items() -> Any:
        for number in range(3):
            if number == at:
                raise mine
            yield bytes(10)

    async def async_items() -> Any:
        for item in items():
            yield item

    server = Server()
    with pytest.raises(Mine) as caught:
        upload(async_items() if asynchronous else items(), server, asynchronous=asynchronous)
    assert caught.value is mine
    assert server.seen[-1:] == (["abort"] if at else [])


def test_error_of_the_file_is_raised_as_it_is() -> None:
    mine = Mine()

    class File(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() >= 10:
                raise mine
            return super().read(size)

    server = Server()
    with pytest.raises(Mine) as caught:
        upload(File(CONTENT), server)
    assert caught.value is mine
    assert server.seen[-1] == "abort"


def test_thrown_away_midway_nothing_is_yielded() -> None:
    op = put(backend_of(), "k", CONTENT, chunk_size=10)
    assert type(next(op)) is Fork  # the start
    op.close()


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "error", "text"),
    [
        ("text", TypeError, "file: got str; pass bytes"),
        (5, TypeError, "file: 'int' object is no bytes-like object"),
        (None, TypeError, "file: 'NoneType' object"),
        (memoryview(bytes(8))[::2], ValueError, "file: the buffer is not C-contiguous"),
        (asynchronously([]), ValueError, "Async input not allowed in 'put'"),
    ],
)
def test_refused_before_anything_is_sent(file: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        put(backend_of(), "k", file)


@pytest.mark.parametrize(
    ("file", "error", "text"),
    [
        (["text"], TypeError, "file: items must be bytes-like, not 'str'"),
        ([b"a", 5], TypeError, "file: items must be bytes-like, not 'int'"),
        ([memoryview(bytes(8))[::2]], ValueError, "file: an item is not C-contiguous"),
        (io.StringIO("text"), TypeError, "file: read() returned str"),
    ],
)
def test_items_are_refused_when_they_come(file: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        upload(file)


def test_missing_path_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        upload(tmp_path / "none")
    assert type(caught.value) is FileNotFoundError


# ---- parts in pairs ----------------------------------------------------------------------------------------------

MIB = 1 << 20


def paired() -> tuple[Any, list[int]]:
    """A backend that prepares parts in pairs, whatever this processor gains by it; and the lengths of what it prepared so."""
    backend = backend_of()
    lengths: list[int] = []
    prepare = backend.dialect._prepare_pair  # type: ignore[attr-defined]

    def prepare_pair(first: Any, second: Any) -> None:
        lengths.extend(len(request.body[0]) for request in (first, second))
        prepare(first, second)

    backend.dialect.prepare_pair = prepare_pair
    return backend, lengths


@pytest.mark.parametrize("size", [4 * MIB, 5 * MIB, 5 * MIB + 3, 6 * MIB + 3])
def test_large_parts_are_prepared_in_pairs(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"end"[: size % 256]
    server = Server()
    driver = Driver(server)
    backend, prepared = paired()
    driver.run(put(backend, "k", data, chunk_size=MIB, max_concurrency=4))
    sizes = [MIB] * (size // MIB) + ([size % MIB] if size % MIB else [])
    assert server.parts == sizes
    assert b"".join(server.bodies[f"part {number}"] for number in range(1, len(sizes) + 1)) == data
    assert prepared == sizes[: len(sizes) // 2 * 2]
    assert driver.most <= 4, "two pairs, or one and the parts of another"


def test_small_parts_and_few_at_a_time_go_alone() -> None:
    for chunk, window in ((MIB // 2, 12), (MIB, 3)):
        backend, prepared = paired()
        driver = Driver(Server())
        driver.run(put(backend, "k", bytes(8 * MIB), chunk_size=chunk, max_concurrency=window))
        assert driver.most == window
        assert prepared == []


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_part_of_a_pair_that_fails_aborts_the_upload(number: int) -> None:
    server = Server(**{f"part_{number}": FAILED})
    driver = Driver(server)
    with pytest.raises(GenericError):
        driver.run(put(paired()[0], "k", bytes(8 * MIB), chunk_size=MIB, max_concurrency=4))
    assert server.seen[-1] == "abort"
    assert not driver.alive
