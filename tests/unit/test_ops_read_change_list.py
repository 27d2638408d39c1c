"""get_ranges, delete, copy, list: which requests they make out of what they were asked."""

from __future__ import annotations

from typing import Any

import pytest

from obstore._effects import Fork, Op
from obstore._ops import change, remote_change
from obstore._ops import get as get_ops
from obstore._ops import list as list_ops
from obstore._ops.forks import settle
from obstore._ops.get import get_ranges, merge_spans
from obstore._types import ListPage, RawKey, Scatter
from obstore.exceptions import BaseError, GenericError, NotFoundError, PermissionDeniedError
from tests.unit.script import Answer, Driver, backend_of, plan

BODY = bytes(range(200))


class FakeBackend:
    """A backend whose operations are done at once, and remembered."""

    name = "Fake"
    missing_is_error = False
    delete_batch = 3
    delete_concurrency = 2

    def __init__(self, pages: list[ListPage] | None = None) -> None:
        self.calls: list[Any] = []
        self.pages = pages or []
        self.failing: dict[str, Exception] = {}

    def parse_key(self, path: Any, argument: str) -> str:
        if not isinstance(path, str):
            raise TypeError(f"{argument}: not a str")
        return path.strip("/")

    def get_range(self, key: str, start: int, end: int, into: Any) -> Op[Any]:
        self.calls.append((start, end))
        if start >= len(BODY):
            raise GenericError.of(self.name, "range past the end")
        body = BODY[start:end]
        if into is None:
            return body
        into = into if isinstance(into, Scatter) else Scatter(len(into), [(0, into)])
        for at, view in into.clipped(len(body)):
            view[:] = body[at : at + len(view)]
        return len(body)
        yield

    def head(self, key: str, version: str | None) -> Op[Any]:
        self.calls.append(("head", key))
        if key in self.failing:
            raise self.failing[key]
        return {"path": key}
        yield

    def delete(self, keys: Any) -> Op[list[Exception | None]]:
        self.calls.append(list(keys))
        return [self.failing.get(key) for key in keys]
        yield

    def copy(self, from_: str, to: str, *, overwrite: bool) -> Op[None]:
        self.calls.append(("copy", from_, to, overwrite))
        return
        yield

    def rename(self, from_: str, to: str, *, overwrite: bool) -> Op[None]:
        self.calls.append(("rename", from_, to, overwrite))
        return
        yield

    def list_page(self, prefix: str, offset: str | None, *, delimiter: bool, cursor: Any) -> Op[ListPage]:
        self.calls.append((prefix, offset, delimiter, cursor))
        return self.pages[cursor or 0]
        yield


# ---- get_ranges --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spans", "gap", "merged"),
    [
        ([], 0, []),
        ([(0, 5)], 0, [(0, 5)]),
        ([(0, 5), (5, 9)], 0, [(0, 9)]),
        ([(0, 5), (6, 9)], 0, [(0, 5), (6, 9)]),
        ([(0, 5), (6, 9)], 1, [(0, 9)]),
        ([(6, 9), (0, 5)], 1, [(0, 9)]),
        ([(0, 50), (10, 20), (40, 60)], 0, [(0, 60)]),
        ([(0, 5), (0, 5)], 0, [(0, 5)]),
        ([(0, 1), (100, 101), (50, 51)], 48, [(0, 1), (50, 51), (100, 101)]),
        ([(0, 1), (100, 101), (50, 51)], 49, [(0, 101)]),
    ],
)
def test_which_ranges_are_fetched_together(spans: Any, gap: int, merged: Any) -> None:
    assert merge_spans(spans, gap) == merged


def ranges(spans: list[tuple[int, int]], coalesce: int = 10, into: Any = None) -> tuple[FakeBackend, Driver, list[Any]]:
    backend, driver = FakeBackend(), Driver()
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    return backend, driver, driver.run(get_ranges(backend, "k", starts, ends, None, coalesce, into))  # type: ignore[arg-type]


SPANS = [(100, 110), (0, 5), (3, 8), (12, 13), (0, 5), (150, 160)]


def test_ranges_come_in_the_order_they_were_asked_for() -> None:
    backend, _, result = ranges(SPANS)
    assert sorted(backend.calls) == [(0, 13), (100, 110), (150, 160)]
    assert [bytes(piece) for piece in result] == [BODY[start:end] for start, end in SPANS]


def test_ranges_go_into_buffers() -> None:
    buffers = [bytearray(b"\xff" * 12) for _ in SPANS]
    _, _, result = ranges(SPANS, into=buffers)
    assert result == [end - start for start, end in SPANS]
    for buffer, (start, end) in zip(buffers, SPANS, strict=True):
        assert buffer == BODY[start:end] + b"\xff" * (12 - (end - start))


def test_ranges_are_clipped_at_the_end_and_refused_past_it() -> None:
    _, _, result = ranges([(195, 205), (190, 200)])
    assert [bytes(piece) for piece in result] == [BODY[195:], BODY[190:]]
    with pytest.raises(ValueError, match=r"starts\[1\]: the range 200\.\.205 begins past the end .* \(200 bytes\)"):
        ranges([(195, 205), (200, 205)])
    with pytest.raises(GenericError):  # of the server: nothing near it exists
        ranges([(0, 5), (500, 505)])


def test_no_more_than_ten_ranges_are_under_way() -> None:
    _, driver, _ = ranges([(place, place + 1) for place in range(0, 200, 5)], coalesce=0)
    assert driver.most == 10


def test_failing_range_ends_the_others() -> None:
    driver = Driver()
    with pytest.raises(GenericError):
        driver.run(get_ranges(FakeBackend(), "k", [500, 0, 100], [501, 1, 101], None, 0, None))  # type: ignore[arg-type]
    assert driver.alive == []


def test_one_range_and_none_need_no_forks() -> None:
    backend, driver, result = ranges([(5, 9)])
    assert (backend.calls, driver.log, result) == ([(5, 9)], [], [BODY[5:9]])
    assert ranges([])[2] == []


@pytest.mark.parametrize(
    ("into", "error", "text"),
    [
        ([bytearray(4)], ValueError, "into must have one buffer per range: 1 for 2"),
        ([bytearray(5), bytes(5)], TypeError, r"into\[1\]: the buffer is read-only"),
        ([bytearray(5), bytearray(4)], ValueError, r"into\[1\]: the buffer holds 4 bytes, the range has 5"),
        ([bytearray(5), memoryview(bytearray(20))[::2]], ValueError, r"into\[1\]: the buffer is not C-contiguous"),
        ([bytearray(5), 3], TypeError, r"into\[1\]: a writable bytes-like object is required, not 'int'"),
    ],
)
def test_buffers_are_checked_before_anything_is_sent(into: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        get_ranges(FakeBackend(), "k", [0, 10], [5, 15], None, 0, into)  # type: ignore[arg-type]


def test_buffer_of_any_shape_is_filled_from_its_front() -> None:
    target = memoryview(bytearray(24)).cast("B", (2, 3, 4))
    driver = Driver()
    op = get_ops.get_range(FakeBackend(), "k", 3, None, 7, None, target)  # type: ignore[arg-type]
    assert driver.run(op) == 7
    assert target.tobytes()[:8] == BODY[3:10] + b"\0"


# ---- delete, copy, rename ----------------------------------------------------------------------------------------


def delete(paths: Any, missing_ok: bool | None = None, **failing: Exception) -> tuple[FakeBackend, Driver]:
    backend, driver = FakeBackend(), Driver()
    backend.failing = failing
    driver.run(change.delete(backend, paths, missing_ok))  # type: ignore[arg-type]
    return backend, driver


@pytest.mark.parametrize(
    ("paths", "batches"),
    [
        ("a", [["a"]]),
        ([], []),
        (("a", "b", "c"), [["a", "b", "c"]]),
        (list("abcdefg"), [["a", "b", "c"], ["d", "e", "f"], ["g"]]),
    ],
)
def test_keys_are_deleted_in_batches(paths: Any, batches: Any) -> None:
    assert sorted(delete(paths)[0].calls) == batches


def test_no_more_batches_under_way_than_the_store_likes() -> None:
    assert delete(list("abcdefghijklmno"))[1].most == 2


def test_first_failure_in_the_order_of_the_keys_is_raised() -> None:
    first, second = GenericError("first"), GenericError("second")
    with pytest.raises(GenericError) as caught:
        delete(list("abcdefg"), b=first, g=second)
    assert caught.value is first


def test_missing_keys() -> None:
    missing = NotFoundError("x")
    delete("a", a=missing)
    delete("a", missing_ok=True, a=missing)
    with pytest.raises(NotFoundError):
        delete("a", missing_ok=False, a=missing)
    FakeBackend.missing_is_error = True
    try:
        with pytest.raises(NotFoundError):
            delete("a", a=missing)
        delete("a", missing_ok=True, a=missing)
        assert delete("a", missing_ok=False)[0].calls == [["a"]]
    finally:
        FakeBackend.missing_is_error = False


def test_a_service_that_does_not_tell_is_asked_first_and_deletes_nothing_if_a_key_is_missing() -> None:
    backend, driver = delete(list("abcde"), missing_ok=False)
    assert sorted(call[1] for call in backend.calls if call[0] == "head") == list("abcde")
    assert backend.calls[-2:] == [["a", "b", "c"], ["d", "e"]]
    assert driver.most == 2
    backend = FakeBackend()
    backend.failing = {"d": NotFoundError("d")}
    with pytest.raises(NotFoundError):
        Driver().run(change.delete(backend, list("abcde"), missing_ok=False))  # type: ignore[arg-type]
    assert all(call[0] == "head" for call in backend.calls)


@pytest.mark.parametrize("paths", [5, None, b"a", bytearray(b"a"), {"a"}, iter(["a"])])
def test_paths_that_are_none(paths: Any) -> None:
    with pytest.raises(TypeError, match=r"^paths: Expected string path or sequence"):
        change.delete(FakeBackend(), paths, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^paths\[1\]"):
        change.delete(FakeBackend(), ["a", paths], None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["copy", "rename"])
def test_onto_itself_only_the_existence_is_checked(name: str) -> None:
    backend = FakeBackend()
    Driver().run(getattr(change, name)(backend, "a", "/a/", True))
    assert backend.calls == [("head", "a")]
    Driver().run(getattr(change, name)(backend, "a", "b", False))
    assert backend.calls[1:] == [(name, "a", "b", False)]
    for arguments, argument in (((1, "b", True), "from_"), (("a", 1, True), "to"), (("a", "b", 1), "overwrite")):
        with pytest.raises(TypeError, match=f"^{argument}: "):
            getattr(change, name)(backend, *arguments)


REFUSED = Answer(400, b"<Error><Code>InvalidRequest</Code></Error>")
STARTED = Answer(200, b"<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>")
PART = Answer(200, b'<CopyPartResult><ETag>"p"</ETag></CopyPartResult>')
FINISHED = Answer(200, b'<CompleteMultipartUploadResult><ETag>"d"</ETag></CompleteMultipartUploadResult>')


def sized(size: int) -> Answer:
    return Answer(200, content_length=str(size), etag='"e"')


def test_object_too_large_for_one_request_is_copied_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_change, "_COPY_PART_BYTES", 4 << 30)
    driver = Driver(
        plan(
            [
                ("PUT /t", REFUSED),
                ("HEAD /s", sized(9 << 30)),
                ("POST /t?uploads=", STARTED),
                ("PUT /t?partNumber=1&uploadId=U", PART),
                ("PUT /t?partNumber=2&uploadId=U", PART),
                ("PUT /t?partNumber=3&uploadId=U", PART),
                ("POST /t?uploadId=U", FINISHED),
            ]
        )
    )
    driver.run(backend_of().copy("s", "t", overwrite=True))
    spans = [dict(send.headers).get("x-amz-copy-source-range") for send in driver.requests[3:6]]
    gib = 1 << 30
    assert spans == [f"bytes=0-{4 * gib - 1}", f"bytes={4 * gib}-{8 * gib - 1}", f"bytes={8 * gib}-{9 * gib - 1}"]


@pytest.mark.parametrize("answer", [sized(5), Answer(404), Answer(403)], ids=["small", "missing", "forbidden"])
def test_refused_copy_is_raised_where_its_size_is_not_the_reason(answer: Answer) -> None:
    driver = Driver(plan([("PUT /t", REFUSED), ("HEAD /s", answer)]))
    with pytest.raises(GenericError) as caught:
        driver.run(backend_of().copy("s", "t", overwrite=True))
    assert caught.value.code == "InvalidRequest"


def test_failing_part_of_a_copy_aborts_it() -> None:
    driver = Driver(
        plan(
            [
                ("PUT /t", REFUSED),
                ("HEAD /s", sized(6 << 30)),
                ("POST /t?uploads=", STARTED),
                ("PUT /t?partNumber=1&uploadId=U", Answer(403)),
                ("DELETE /t?uploadId=U", Answer(204)),
            ]
        )
    )
    with pytest.raises(PermissionDeniedError):
        driver.run(backend_of().copy("s", "t", overwrite=True))
    assert driver.alive == []


def test_rename_deletes_only_what_was_copied() -> None:
    driver = Driver(plan([("PUT /t", Answer(403))]))
    with pytest.raises(PermissionDeniedError):
        driver.run(backend_of().rename("s", "t", overwrite=True))


# ---- listings ----------------------------------------------------------------------------------------------------


def page(keys: str, cursor: Any, prefixes: tuple[str, ...] = ()) -> ListPage:
    return ListPage([{"path": key} for key in keys], list(prefixes), cursor)  # type: ignore[typeddict-item]


def test_pages_follow_the_cursor_and_empty_ones_are_passed_over() -> None:
    backend = FakeBackend([page("ab", 1), page("", 2), page("", 3), page("c", None)])
    cursor = list_ops.open_listing(backend, "p", "p/a", "segment")  # type: ignore[arg-type]
    driver = Driver()
    pages = []
    while not cursor.ended:
        pages.append([item["path"] for item in driver.run(cursor.page())])
    assert pages == [["a", "b"], ["c"]]
    assert backend.calls == [("p/", "p/a", False, number) for number in (None, 1, 2, 3)]
    assert driver.run(cursor.page()) == []


def test_page_that_failed_is_asked_for_again() -> None:
    class Failing(FakeBackend):
        def list_page(self, *args: Any, **options: Any) -> Op[ListPage]:
            page = yield from super().list_page(*args, **options)
            if len(self.calls) == 2:
                raise GenericError("once")
            return page

    backend = Failing([page("a", 1), page("b", None)])
    cursor = list_ops.open_listing(backend, None, None, "segment")  # type: ignore[arg-type]
    driver = Driver()
    assert driver.run(cursor.page()) == [{"path": "a"}]
    with pytest.raises(GenericError):
        driver.run(cursor.page())
    assert driver.run(cursor.page()) == [{"path": "b"}]


@pytest.mark.parametrize(
    ("prefix", "match", "sent"),
    [
        (None, "segment", ""),
        ("", "segment", ""),
        ("/", "segment", ""),
        ("a", "segment", "a/"),
        ("/a/b/", "segment", "a/b/"),
        ("a", "string", "a"),
        ("a/", "string", "a/"),
        (RawKey("a/"), "segment", "a/"),
        (RawKey("a"), "segment", "a"),
    ],
)
def test_prefix_as_the_server_compares_it(prefix: Any, match: str, sent: str) -> None:
    assert list_ops.server_prefix(FakeBackend(), prefix, match) == sent  # type: ignore[arg-type]


def test_one_level_takes_all_pages_and_each_prefix_once() -> None:
    backend = FakeBackend([page("a", 1, ("z", "d")), page("b", None, ("d", "c"))])
    result = Driver().run(list_ops.list_with_delimiter(backend, None, "segment"))  # type: ignore[arg-type]
    assert result == {"common_prefixes": ["c", "d", "z"], "objects": [{"path": "a"}, {"path": "b"}]}


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((5, None, "segment"), TypeError, "^prefix: "),
        ((None, 5, "segment"), TypeError, "^offset: "),
        ((None, None, "glob"), ValueError, "^match must be 'segment' or 'string', not 'glob'"),
    ],
)
def test_listing_arguments(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        list_ops.open_listing(FakeBackend(), *arguments)  # type: ignore[arg-type]


# ---- settle ------------------------------------------------------------------------------------------------------


def test_settle_takes_out_what_is_done_and_keeps_no_error() -> None:
    mine = BaseError("mine")

    def fail() -> Op[None]:
        raise mine
        yield

    def op() -> Op[None]:
        child = yield Fork(fail())
        try:
            yield from settle([child], 1)
        finally:
            assert child.error is None

    with pytest.raises(BaseError) as caught:
        Driver().run(op())
    assert caught.value is mine
