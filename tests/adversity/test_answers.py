"""Answers that no server should give: a typed error, never a wrong result; and the next request works."""

from __future__ import annotations

from datetime import timedelta

import pytest

import obstore as obs
from obstore.store import S3Store
from tests.fix_stores import Face
from tests.servers.fakes3 import FakeS3, store_config
from tests.servers.scripted import Reply, ScriptedServer

QUICK = {
    "max_retries": 1,
    "backoff": {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=5)},
}
OK = {"etag": '"1"', "last-modified": "Mon, 01 Jan 2024 00:00:00 GMT"}

BROKEN_HTTP = {
    "no status line": Reply(raw=b"BOGUS\r\n\r\n", body=b"data", cut_after=4),
    "empty status line": Reply(raw=b"\r\n\r\n", cut_after=0),
    "another protocol": Reply(raw=b"SSH-2.0-OpenSSH_9.2\r\n", cut_after=0),
    "nothing": Reply(drop=True),
    "half a head": Reply(raw=b"HTTP/1.1 200 OK\r\netag: ", cut_after=0),
    "status of two digits": Reply(raw=b"HTTP/1.1 20 OK\r\n\r\n", cut_after=0),
    "megabyte of headers": Reply(200, [*OK.items(), *((f"x-{i}", "y" * 1000) for i in range(1100))], b"data"),
    "one endless header": Reply(200, {**OK, "x-long": "y" * 2_000_000}, b"data"),
    "length that is no number": Reply(200, {**OK, "content-length": "four"}, b"data", cut_after=4),
    "negative length": Reply(200, {**OK, "content-length": "-4"}, b"data", cut_after=4),
    "two lengths": Reply(200, [*OK.items(), ("content-length", "4"), ("content-length", "2")], b"data", cut_after=4),
    "length too long": Reply(200, OK, b"data", content_length=10, cut_after=4),
    "huge length": Reply(200, {**OK, "content-length": "9" * 30}, b"data", cut_after=4),
    "broken chunk": Reply(
        raw=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\ndata\r\n0\r\n\r\n", cut_after=0
    ),
    "chunks that end early": Reply(200, OK, b"data", chunked=True, cut_after=4),
}


@pytest.mark.parametrize("name", BROKEN_HTTP)
def test_broken_http_is_a_typed_error(scripted: ScriptedServer, face: Face, name: str):
    scripted.handler = lambda request: BROKEN_HTTP[name]
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    for act in (
        lambda: face.body(face.get(store, "k")),
        lambda: face.get_range(store, "k", start=0, end=10),
        lambda: face.items(face.list(store)),
    ):
        with pytest.raises(obs.BaseError) as caught:
            act()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 2000
    scripted.handler = lambda request: Reply(200, OK, b"data")
    assert face.body(face.get(store, "k")) == b"data"


WRONG_RANGES = {
    "no content-range": Reply(206, OK, b"0123"),
    "unreadable content-range": Reply(206, {**OK, "content-range": "bytes from 0 to 3"}, b"0123"),
    "another range": Reply(206, {**OK, "content-range": "bytes 1-4/10"}, b"1234"),
    "less than there is": Reply(206, {**OK, "content-range": "bytes 0-2/10"}, b"012"),
    "more than asked for": Reply(206, {**OK, "content-range": "bytes 0-9/10"}, b"0123456789"),
    "body shorter than its range": Reply(206, {**OK, "content-range": "bytes 0-3/10"}, b"01"),
    "body longer than its range": Reply(206, {**OK, "content-range": "bytes 0-3/10"}, b"012345"),
    "nothing": Reply(204, OK),
    "not satisfiable": Reply(416, OK),
}


@pytest.mark.parametrize("name", WRONG_RANGES)
def test_wrong_range_is_a_typed_error(scripted: ScriptedServer, face: Face, name: str):
    scripted.handler = lambda request: WRONG_RANGES[name]
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    buffer = bytearray(b"----")
    for act in (
        lambda: face.get_range(store, "k", start=0, end=4),
        lambda: face.get_range(store, "k", start=0, end=4, into=buffer),
        lambda: face.body(face.get(store, "k", options={"range": (0, 4)})),
        lambda: face.chunks(face.get(store, "k", options={"range": (0, 4)}), 1),
    ):
        with pytest.raises(obs.BaseError):
            act()


def test_range_of_an_object_of_unknown_size(scripted: ScriptedServer, face: Face):
    scripted.handler = lambda request: Reply(206, {**OK, "content-range": "bytes 0-3/*"}, b"0123")
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    assert face.get_range(store, "k", start=0, end=4) == b"0123"
    with pytest.raises(obs.GenericError, match=r"(?i)content.range"):
        face.get(store, "k", options={"range": (0, 4)})  # its meta would have no size


def test_range_answered_as_200_with_content_range(scripted: ScriptedServer, face: Face):
    # What rclone does: the body is the range all the same, and must not be cut a second time.
    data = bytes(range(100))
    scripted.handler = lambda request: Reply(200, {**OK, "content-range": "bytes 10-49/100"}, data[10:50])
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    buffer = bytearray(40)
    for act in (
        lambda: bytes(face.get_range(store, "k", start=10, end=50)),
        lambda: bytes(buffer[: face.get_range(store, "k", start=10, end=50, into=buffer)]),
        lambda: face.body(face.get(store, "k", options={"range": (10, 50)})),
        lambda: b"".join(face.chunks(face.get(store, "k", options={"range": (10, 50)}), 7)),
    ):
        assert act() == data[10:50]


def test_partial_answer_to_a_whole_request_is_a_typed_error(scripted: ScriptedServer, face: Face):
    scripted.handler = lambda request: Reply(206, {**OK, "content-range": "bytes 0-3/10"}, b"0123")
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    with pytest.raises(obs.BaseError):
        face.body(face.get(store, "k"))


LISTS = {
    "no xml": b"hello",
    "nothing": b"",
    "html": b"<html><body>502 Bad Gateway</body></html>",
    "cut xml": b"<ListBucketResult><Contents><Key>a</Key>",
    "crossed tags": b"<ListBucketResult><Contents><Key>a</Contents></Key></ListBucketResult>",
    "size that is no number": (
        b"<ListBucketResult><Contents><Key>a</Key><Size>big</Size>"
        b"<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>"
    ),
    "date that is none": (
        b"<ListBucketResult><Contents><Key>a</Key><Size>1</Size>"
        b"<LastModified>yesterday</LastModified></Contents></ListBucketResult>"
    ),
    "entity of its own": (
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><ListBucketResult><Contents><Key>&a;</Key>'
        b"<Size>1</Size></Contents></ListBucketResult>"
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_unreadable_listing_is_a_typed_error(scripted: ScriptedServer, face: Face, name: str):
    scripted.handler = lambda request: Reply(200, {"content-type": "application/xml"}, LISTS[name])
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    for act in (lambda: face.items(face.list(store)), lambda: face.list_with_delimiter(store)):
        with pytest.raises(obs.BaseError):
            act()


def test_listing_that_never_ends_is_a_typed_error(scripted: ScriptedServer, face: Face):
    page = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>same</NextContinuationToken>"
        b"</ListBucketResult>"
    )
    scripted.push(*[Reply(200, {"content-type": "application/xml"}, page)] * 20)
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    for act in (lambda: face.items(face.list(store)), lambda: face.list_with_delimiter(store)):
        before = len(scripted.requests)
        with pytest.raises(obs.GenericError):
            act()
        assert len(scripted.requests) - before == 2, "the second page repeats the first one's token"


@pytest.mark.parametrize(
    ("name", "body"),
    [("start", b"<InitiateMultipartUploadResult/>"), ("start", b"no xml"), ("start", b"")],
)
def test_unreadable_upload_id_is_a_typed_error(scripted: ScriptedServer, name: str, body: bytes):
    scripted.handler = lambda request: Reply(200, {"content-type": "application/xml"}, body)
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    with pytest.raises(obs.GenericError):
        obs.put(store, "k", b"12", use_multipart=True)


def test_put_without_e_tag_is_a_typed_error(scripted: ScriptedServer, face: Face):
    scripted.handler = lambda request: Reply(200)
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    with pytest.raises(obs.GenericError, match=r"(?i)etag"):
        face.put(store, "k", b"1")


def test_delete_answered_with_nonsense_is_a_typed_error(scripted: ScriptedServer, face: Face):
    for body in (
        b"",
        b"no xml",
        b"<DeleteResult/>",
        b"<DeleteResult><Deleted><Key>other</Key></Deleted></DeleteResult>",
    ):
        scripted.push(*[Reply(200, {"content-type": "application/xml"}, body)] * 2)
        store = S3Store(**store_config(scripted.url, retry_config=QUICK))
        with pytest.raises(obs.BaseError):
            face.delete(store, ["k"])


def test_bytes_beyond_the_announced_length_are_not_part_of_the_body(scripted: ScriptedServer, face: Face):
    scripted.handler = lambda request: Reply(200, OK, b"data and more", content_length=4)
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    result = face.get(store, "k")
    assert (result.meta["size"], face.body(result)) == (4, b"data")


def test_body_without_length_ends_with_the_connection_or_its_chunks(scripted: ScriptedServer, face: Face):
    # The published library refuses a body without Content-Length; whichever: never a silently short one.
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    for reply in (Reply(200, OK, b"data" * 1000, chunked=True), Reply(200, OK, b"data" * 1000, until_close=True)):
        scripted.handler = lambda request, reply=reply: reply
        try:
            body = face.body(face.get(store, "k"))
        except obs.GenericError as error:
            assert "ontent-" in str(error)
        else:
            assert body == b"data" * 1000


def test_interim_answers_are_passed_over(scripted: ScriptedServer, face: Face):
    interim = [(103, {"etag": '"wrong"', "content-length": "999"}), (102, {}), (103, {"link": "</x>"})]
    scripted.push(Reply(200, OK, b"data", interim=interim))
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    result = face.get(store, "k")
    assert (result.meta["e_tag"], result.meta["size"]) == ('"1"', 4)
    assert face.body(result) == b"data"


def test_compressed_bodies_are_not_touched(scripted: ScriptedServer, face: Face):
    scripted.push(Reply(200, {**OK, "content-encoding": "gzip"}, b"\x1f\x8b not really"))
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    assert face.body(face.get(store, "k")) == b"\x1f\x8b not really"
    assert "accept-encoding" not in scripted.requests[0].headers


# ---- redirects ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirect_without_location_hints_at_the_region(scripted: ScriptedServer, face: Face, code: int):
    scripted.handler = lambda request: Reply(code)
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    with pytest.raises(obs.GenericError, match=r"(?i)redirect.*region"):
        face.get(store, "k")
    assert len(scripted.requests) == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("operation", ["get", "put", "list"])
def test_credentials_do_not_follow_a_redirect(scripted: ScriptedServer, fake_s3: FakeS3, code: int, operation: str):
    scripted.handler = lambda request: Reply(code, {"location": f"{fake_s3.url}/bucket/k"})
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    with pytest.raises(obs.BaseError):
        {
            "get": lambda: obs.get(store, "k"),
            "put": lambda: obs.put(store, "k", b"1"),
            "list": lambda: list(obs.list(store)),
        }[operation]()
    assert fake_s3.requests == []


# ---- error bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\xff" * 100,
        b"<html><head><title>403 Forbidden</title></head><body>nginx</body></html>",
        b"<Error><Code>AccessDenied</Code>",
        b"<Error>" * 10_000,
        b"x" * (8 << 20),
        "<Error><Code>Verb\u00f6ten</Code><Message>a\nb\r\n\tc</Message></Error>".encode(),
    ],
    ids=["empty", "binary", "html", "cut", "deep", "large", "lines"],
)
def test_any_error_body_becomes_one_line_of_bounded_length(scripted: ScriptedServer, face: Face, body: bytes):
    scripted.handler = lambda request: Reply(403, {}, body)
    store = S3Store(**store_config(scripted.url, retry_config=QUICK))
    for act in (lambda: face.get(store, "k"), lambda: face.put(store, "k", b"1")):
        with pytest.raises(obs.PermissionDeniedError) as caught:
            act()
        assert "\n" not in str(caught.value)
        assert "\r" not in str(caught.value)
        assert len(str(caught.value)) <= 2000
