"""What the S3 dialect reads out of successes."""

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from obstore import exceptions
from obstore._dialect import base
from obstore._dialect.s3 import PartTag
from obstore._types import GetSpec, Range
from tests.unit.golden import Answer, dialect

WHEN = datetime(2009, 10, 12, 17, 50, 30, tzinfo=UTC)
HEADERS = [
    ("x-amz-id-2", "ef8yU9AS1ed4OpIszj7UDNEHGran"),
    ("x-amz-request-id", "318BC8BC143432E5"),
    ("last-modified", "Mon, 12 Oct 2009 17:50:30 GMT"),
    ("etag", '"fba9dede5f27731c9771645a39863328"'),
    ("x-amz-version-id", "3HL4kqtJlcpXroDTDmjVBH40Nrjfkd"),
    ("content-type", "text/plain"),
    ("cache-control", "no-store"),
    ("x-amz-meta-owner", "Zoë"),
    ("x-amz-storage-class", "STANDARD_IA"),
    ("content-length", "10"),
    ("server", "AmazonS3"),
]
META = {
    "path": "k",
    "last_modified": WHEN,
    "size": 10,
    "e_tag": '"fba9dede5f27731c9771645a39863328"',
    "version": "3HL4kqtJlcpXroDTDmjVBH40Nrjfkd",
}


def partial(content_range: str, length: int = 5) -> Answer:
    return Answer(206, [*HEADERS, ("content-length", str(length)), ("content-range", content_range)])


def whole(size: int) -> Answer:
    return Answer(200, [*HEADERS, ("content-length", str(size))])


def test_get_reads_meta_range_and_attributes():
    meta, span, attributes = dialect(prefix="p").read_get(Answer(200, HEADERS), "k", GetSpec())
    assert meta == META
    assert list(meta) == ["path", "last_modified", "size", "e_tag", "version"]
    assert span == (0, 10)
    assert attributes == {"Content-Type": "text/plain", "Cache-Control": "no-store", "owner": "Zoë"}


def test_head_reads_the_same():
    subject = dialect()
    assert subject.read_head(Answer(200, HEADERS), "k") == META
    assert subject.read_get(Answer(200, HEADERS), "k", GetSpec(head=True, range=Range(0, 1)))[:2] == (META, (0, 10))
    assert subject.read_attributes(Answer(200, HEADERS))["owner"] == "Zoë"


def test_meta_without_what_is_optional():
    meta = dialect().read_head(Answer(200, {"content-length": "0"}), "k")
    assert meta == {"path": "k", "last_modified": base.EPOCH, "size": 0, "e_tag": None, "version": None}


@pytest.mark.parametrize("headers", [{}, {"content-length": "many"}, {"content-length": "-1"}])
def test_length_is_required(headers):
    for read in (
        lambda answer: dialect().read_head(answer, "k"),
        lambda answer: dialect().read_get(answer, "k", GetSpec()),
    ):
        with pytest.raises(exceptions.GenericError, match="Generic S3 error: Content-Length Header missing"):
            read(Answer(200, headers))


def test_unreadable_answer_tells_its_request_id():
    headers = {"x-amz-request-id": "R", "x-amz-id-2": "H"}
    with pytest.raises(exceptions.GenericError) as caught:
        dialect(prefix="p").read_head(Answer(200, headers), "k")
    error = caught.value
    assert (error.status, error.request_id, error.host_id, error.key) == (200, "R", "H", "p/k")


@pytest.mark.parametrize(
    ("wanted", "content_range", "span", "size"),
    [
        (Range(5, 10), "bytes 5-9/100", (5, 10), 100),
        (Range(5, 10), "bytes 5-6/7", (5, 7), 7),
        (Range(95), "bytes 95-99/100", (95, 100), 100),
        (Range(suffix=5), "bytes 95-99/100", (95, 100), 100),
        (Range(suffix=500), "bytes 0-99/100", (0, 100), 100),
    ],
)
def test_range_is_read(wanted, content_range, span, size):
    meta, found, _ = dialect().read_get(partial(content_range), "k", GetSpec(range=wanted))
    assert (found, meta["size"]) == (span, size)


@pytest.mark.parametrize(
    ("wanted", "answer", "message"),
    [
        (Range(0, 2), partial("bytes 1-2/100"), r"Requested 0\.\.2, got 1\.\.3"),
        (Range(0, 2), partial("bytes 0-2/100"), r"Requested 0\.\.2, got 0\.\.3"),
        (Range(0, 9), partial("bytes 0-4/100"), r"Requested 0\.\.9, got 0\.\.5"),
        (Range(5), partial("bytes 5-9/100"), r"Requested 5\.\.100, got 5\.\.10"),
        (Range(0, 2), partial("bytes 0-1/*"), 'CONTENT_RANGE header: "bytes 0-1/\\*"'),
        (Range(0, 2), partial("items 0-1/5"), "CONTENT_RANGE"),
        (Range(0, 2), partial("bytes 0-1/1"), "CONTENT_RANGE"),
        (Range(0, 2), Answer(206, HEADERS), "Content-Range header not present in partial response"),
        (Range(0, 2), whole(10), "Received non-partial response when range requested"),
        (Range(suffix=5), whole(10), "Received non-partial response"),
        (Range(0), whole(0), "Received non-partial response"),
        (None, partial("bytes 0-4/100"), "Received partial response when whole object requested"),
    ],
)
def test_wrong_range_is_refused(wanted, answer, message):
    with pytest.raises(exceptions.GenericError, match=message):
        dialect().read_get(answer, "k", GetSpec(range=wanted))


@pytest.mark.parametrize(
    ("wanted", "size", "span"),
    [
        (Range(0, 10), 10, (0, 10)),
        (Range(0, 99), 10, (0, 10)),
        (Range(0), 10, (0, 10)),
        (Range(suffix=10), 10, (0, 10)),
    ],
)
def test_whole_object_is_right_where_the_range_means_it(wanted, size, span):
    assert dialect().read_get(whole(size), "k", GetSpec(range=wanted))[1] == span


def test_suffix_of_an_empty_object_is_empty():
    subject = dialect()
    spec = GetSpec(range=Range(suffix=5))
    assert subject.read_get(whole(0), "k", spec)[1] == (0, 0)


def test_sliced_answer_counts_as_the_range():
    subject = dialect()
    assert subject.read_get(whole(10), "k", GetSpec(range=Range(3, 99)), sliced=True)[1] == (3, 10)
    assert subject.check_range(whole(10), 3, 5, sliced=True) == (3, 5)
    with pytest.raises(exceptions.GenericError, match="Wanted range starting at 10, but object was only 10 bytes long"):
        subject.check_range(whole(10), 10, 12, sliced=True)
    with pytest.raises(exceptions.GenericError, match="non-partial"):
        subject.check_range(whole(10), 3, 5)


def test_check_range_clips_at_the_end():
    subject = dialect()
    assert subject.check_range(partial("bytes 5-9/100"), 5, 10) == (5, 10)
    assert subject.check_range(partial("bytes 5-9/10"), 5, 100) == (5, 10)
    with pytest.raises(exceptions.GenericError, match="Requested"):
        subject.check_range(partial("bytes 5-8/100"), 5, 10)


def test_check_resume_wants_the_same_object():
    subject = dialect()
    e_tag = META["e_tag"]
    subject.check_resume(partial("bytes 5-9/10"), 5, None, e_tag)
    subject.check_resume(partial("bytes 5-7/10"), 5, 8, e_tag)
    for answer, start, end, tag in [
        (partial("bytes 5-9/10"), 5, None, '"other"'),
        (partial("bytes 5-9/10"), 5, None, None),
        (partial("bytes 4-9/10"), 5, None, e_tag),
        (partial("bytes 5-9/11"), 5, None, e_tag),
        (whole(10), 5, None, e_tag),
    ]:
        with pytest.raises(exceptions.GenericError):
            subject.check_resume(answer, start, end, tag)


def test_put():
    subject = dialect()
    assert subject.read_put(Answer(200, HEADERS)) == {"e_tag": META["e_tag"], "version": META["version"]}
    assert subject.read_put(Answer(200, {"etag": "e"})) == {"e_tag": "e", "version": None}
    with pytest.raises(exceptions.GenericError, match="ETag Header missing"):
        subject.read_put(Answer(200))


# ---- documents

NS = b'<?xml version="1.0" encoding="UTF-8"?>\n<%b xmlns="http://s3.amazonaws.com/doc/2006-03-01/">%b</%b>'


def document(root: bytes, inner: bytes) -> bytes:
    return NS % (root, inner, root)


def test_start():
    inner = b"<Bucket>bk</Bucket><Key>k</Key><UploadId>VXBsb2FkIElE&amp;</UploadId>"
    assert dialect().read_start(document(b"InitiateMultipartUploadResult", inner)) == "VXBsb2FkIElE&"
    assert dialect().read_start(document(b"InitiateMultipartUpload", inner)) == "VXBsb2FkIElE&"  # rclone's


def test_part():
    answer = Answer(200, {"etag": '"e"', "x-amz-checksum-sha256": "c2hh", "x-amz-checksum-crc64nvme": "Y3Jj"})
    assert dialect().read_part(answer) == PartTag('"e"', None)
    assert dialect(checksum_algorithm="SHA256").read_part(answer) == PartTag('"e"', "c2hh")
    assert dialect(checksum_algorithm="CRC64NVME").read_part(answer) == PartTag('"e"', "Y3Jj")
    assert dialect(checksum_algorithm="SHA256").read_part(Answer(200, {"etag": "e"})) == PartTag("e", None)
    with pytest.raises(exceptions.GenericError, match="ETag Header missing"):
        dialect().read_part(Answer(200))


def test_part_copy():
    body = document(b"CopyPartResult", b"<ETag>&quot;e&quot;</ETag><ChecksumSHA256>c2hh</ChecksumSHA256>")
    assert dialect().read_part_copy(body) == PartTag('"e"', None)
    assert dialect(checksum_algorithm="SHA256").read_part_copy(body) == PartTag('"e"', "c2hh")


def test_finish():
    body = document(b"CompleteMultipartUploadResult", b"<Location>l</Location><ETag>&#34;e-2&#x22;</ETag>")
    answer = Answer(200, {"x-amz-version-id": "v"})
    assert dialect().read_finish(answer, b"\n   " + body) == {"e_tag": '"e-2"', "version": "v"}


@pytest.mark.parametrize(
    "body",
    [b"", b"   ", b"OK", b"<a>", b"<a/>", b"<html><body>hello</body></html>", document(b"DeleteResult", b"<x/>")[:-4]],
)
def test_wrong_documents_are_refused(body):
    subject = dialect()
    for read, operation in [
        (subject.read_start, "CreateMultipartUpload"),
        (subject.read_part_copy, "UploadPartCopy"),
        (lambda body: subject.read_finish(Answer(200), body), "CompleteMultipartUpload"),
        (lambda body: subject.read_delete(Answer(200), body, ["a"]), "DeleteObjects"),
    ]:
        with pytest.raises(exceptions.GenericError, match=f"Generic S3 error: Got invalid {operation} response: "):
            read(body)


@pytest.mark.parametrize(
    "root", [b"InitiateMultipartUploadResult", b"CopyPartResult", b"CompleteMultipartUploadResult"]
)
def test_missing_fields_are_refused(root):
    subject = dialect()
    read = {
        b"InitiateMultipartUploadResult": subject.read_start,
        b"CopyPartResult": subject.read_part_copy,
        b"CompleteMultipartUploadResult": lambda body: subject.read_finish(Answer(200), body),
    }[root]
    with pytest.raises(exceptions.GenericError, match="missing field"):
        read(document(root, b"<Key>k</Key>"))


def test_delete_in_the_order_of_the_keys():
    body = document(
        b"DeleteResult",
        b"<Error><Key>p/denied</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        b"<Deleted><Key>p/a&amp;&#x1;&#xD;</Key></Deleted>"
        b"<Error><Key>p/gone</Key><Code>NoSuchKey</Code><Message>m</Message></Error>"
        b"<Deleted><DeleteMarker>true</DeleteMarker><Key>p/b</Key></Deleted>",
    )
    found = dialect(prefix="p").read_delete(Answer(200), body, ["b", "denied", "a&\x01\r", "gone", "forgotten", "b"])
    assert [type(error) for error in found] == [
        type(None),
        exceptions.GenericError,
        type(None),
        exceptions.NotFoundError,
        exceptions.GenericError,
        type(None),
    ]
    denied = found[1]
    assert str(denied) == (
        "Generic S3 error: DeleteObjects request failed for key p/denied: Access Denied (code: AccessDenied)"
    )
    assert (denied.key, denied.code, denied.status, denied.retryable) == ("p/denied", "AccessDenied", 403, False)
    assert found[3].key == "p/gone"
    assert "missing key p/forgotten" in str(found[4])


def test_delete_without_any_outcome_is_refused():
    with pytest.raises(exceptions.GenericError, match="Got invalid DeleteObjects response: missing field"):
        dialect().read_delete(Answer(200), document(b"DeleteResult", b""), ["a"])


def test_list_page():
    subject = dialect(prefix="p")
    assert subject.list_strip == "p/"
    assert dialect().list_strip == ""
    page = SimpleNamespace(objects=[META], prefixes=["a"], token="t", marker=None, truncated=True)
    found = subject.read_list(page)
    assert (found.objects, found.prefixes, found.cursor) == ([META], ["a"], "t")
    page.token, page.truncated = "", False
    assert subject.read_list(page).cursor is None


def test_list_page_that_is_cut_without_a_token_is_refused():
    page = SimpleNamespace(objects=[META], prefixes=[], token=None, marker=None, truncated=True)
    with pytest.raises(exceptions.GenericError, match="no token to continue"):
        dialect().read_list(page)


def test_list_page_of_an_old_server_is_refused():
    page = SimpleNamespace(objects=[META], prefixes=[], token=None, marker="k", truncated=True)
    with pytest.raises(exceptions.GenericError, match="cannot list past its first page"):
        dialect().read_list(page)


# ---- HTTP grammar


@pytest.mark.parametrize(
    "text",
    [
        "Mon, 12 Oct 2009 17:50:30 GMT",
        "Mon, 12 Oct 2009 17:50:30 +0000",
        "Mon, 12 Oct 2009 19:50:30 +0200",
        "2009-10-12T17:50:30Z",
        "2009-10-12T17:50:30",
    ],
)
def test_dates_of_all_servers(text):
    found = base.parse_http_date(text)
    assert found == WHEN
    assert found.tzinfo is UTC


@pytest.mark.parametrize("text", ["", "yesterday", "Mon, 12 Okt 2009 17:50:30 GMT", "Mon, 42 Oct 2009 17:50:30 GMT"])
def test_what_is_no_date(text):
    with pytest.raises(ValueError):
        base.parse_http_date(text)
    with pytest.raises(exceptions.GenericError, match="LAST_MODIFIED"):
        dialect().read_head(Answer(200, {"content-length": "0", "last-modified": text}), "k")


@pytest.mark.parametrize("day", range(1, 13))
def test_date_round_trip(day):
    moment = datetime(2024, day, day, 23, 59, 58, tzinfo=timezone(timedelta(hours=-5)))
    assert base.parse_http_date(base.format_http_date(moment)) == moment


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bytes 0-9/100", (0, 10, 100)),
        ("Bytes 0-9/10", (0, 10, 10)),
        ("bytes 0-9/*", None),
        ("bytes */10", None),
        ("bytes 9-0/100", None),
        ("bytes 0-9", None),
        ("bytes -1-9/100", None),
        ("bytes 0-٩/100", None),
        ("bytes=0-9/100", None),
        ("", None),
    ],
)
def test_content_range(text, found):
    assert base.parse_content_range(text) == found
