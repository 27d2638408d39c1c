"""The requests of the S3 dialect, byte for byte, and what signing has to do with them."""

import base64
import hashlib

import pytest

from obstore import exceptions
from obstore._config.s3 import S3Settings
from obstore._dialect import s3
from obstore._dialect.s3 import PartTag, S3Dialect
from obstore._effects import Request
from obstore._types import GetSpec, PutSpec
from tests.unit.golden import CREDENTIAL, NOW, SESSION, Answer, dialect, requests, sections

GOLDEN = dict(sections("requests.txt"))


@pytest.mark.parametrize("heading", requests.CASES)
def test_request_is_golden(heading):
    assert requests.render(heading) == GOLDEN[heading]


def test_every_golden_request_is_built():
    assert list(GOLDEN) == list(requests.CASES)


# ---- what the rules about retries need to know


@pytest.mark.parametrize(
    ("heading", "operation", "idempotent", "key"),
    [
        ("range", "get", True, "p/k"),
        ("get head", "head", True, "k"),
        ("head", "head", True, "p/k"),
        ("put", "put", True, "k"),
        ("put create", "put", False, "k"),
        ("put update", "put", False, "k"),
        ("list", "list", True, None),
        ("start", "start", True, "p/k"),
        ("part", "part", True, "p/k"),
        ("part copy", "part", True, "p/k"),
        ("finish", "finish", True, "p/k"),
        ("finish create", "finish", False, "k"),
        ("abort", "abort", True, "p/k"),
        ("copy", "copy", True, "p/b"),
        ("copy header", "copy", False, "b"),
        ("delete one", "delete", True, "p/k"),
        ("delete", "bulk_delete", True, None),
    ],
)
def test_request_says_what_it_is(heading, operation, idempotent, key):
    changes, _, build = requests.CASES[heading]
    request = build(dialect(**changes))
    assert (request.operation, request.idempotent, request.key, request.sensitive) == (
        operation,
        idempotent,
        key,
        False,
    )


def test_range_is_sliced_out_of_a_whole_object():
    subject = dialect()
    assert subject.build_range("k", 5, 12).slice_ == (5, 7)
    assert subject.build_get("k", GetSpec()).slice_ is None


def test_limits_of_the_service():
    subject = dialect()
    assert (subject.delete_batch, subject.max_parts, subject.min_part_bytes) == (1000, 10_000, 5 << 20)
    assert (subject.max_part_bytes, subject.max_copy_bytes) == (5 << 30, 5 << 30)
    assert dialect(disable_bulk_delete=True).delete_batch == 1


# ---- signing


def test_prepare_changes_nothing_but_the_moment_of_hashing():
    subject = dialect(checksum_algorithm="SHA256")
    lazy = subject.build_put("k", [b"ab", b"cd"], PutSpec())
    early = subject.build_put("k", [b"ab", b"cd"], PutSpec())
    assert early.payload_hash is None
    subject.prepare(early)
    assert early.payload_hash == hashlib.sha256(b"abcd").hexdigest()
    assert subject.sign(early, CREDENTIAL, NOW) == subject.sign(lazy, CREDENTIAL, NOW)


def test_body_is_hashed_once_however_often_it_is_signed(monkeypatch):
    hashed = []
    real = s3.payload_hash
    monkeypatch.setattr(s3, "payload_hash", lambda body: hashed.append(1) or real(body))
    subject = dialect(checksum_algorithm="SHA256")
    request = subject.build_part("k", "u", 1, [b"abc"])
    first = subject.sign(request, CREDENTIAL, NOW)
    assert subject.sign(request, CREDENTIAL, NOW) == first
    assert subject.sign(request, SESSION, NOW + 60) != first
    assert len(hashed) == 1
    assert [name for name, _ in request.headers].count("x-amz-checksum-sha256") == 1


def test_crc_chains_buffers_in_order():
    subject = dialect(checksum_algorithm="CRC64NVME")
    request = subject.build_part("k", "u", 1, [b"\x01", memoryview(b"\x02\x03")])
    subject.prepare(request)
    assert dict(request.headers)["x-amz-checksum-crc64nvme"] == base64.b64encode((257 + 5).to_bytes(8, "big")).decode()


def test_crc_without_an_implementation_is_refused():

    with pytest.raises(TypeError, match="CRC64NVME needs a function in crcs="):
        S3Dialect(S3Settings(bucket="bk", checksum_algorithm="CRC64NVME"))


def test_bulk_delete_is_hashed_although_payloads_are_not():
    subject = dialect(unsigned_payload=True)
    request = subject.build_delete(["a"])
    headers = dict(subject.sign(request, CREDENTIAL, NOW)[1])
    body = request.body[0]
    assert headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
    assert headers["content-md5"] == base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def test_clock_offset_is_signed():
    subject = dialect()
    request = subject.build_get("k", GetSpec())
    subject.clock_offset = 3600.0
    assert dict(subject.sign(request, CREDENTIAL, NOW)[1])["x-amz-date"] == "20130524T010000Z"


def test_note_clock_follows_the_server_once():
    subject = dialect()
    answer = Answer(403, {"date": "Fri, 24 May 2013 01:00:00 GMT"})
    first, second = (subject.build_get(key, GetSpec()) for key in "ab")
    for request in (first, second):
        subject.sign(request, CREDENTIAL, NOW)
    assert not subject.note_clock(first, Answer(403), NOW)
    assert not subject.note_clock(first, Answer(403, {"date": "yesterday"}), NOW)
    assert subject.note_clock(first, answer, NOW)
    assert subject.clock_offset == 3600.0
    assert subject.note_clock(second, answer, NOW)  # signed before that was known: worth another try as well
    subject.sign(first, CREDENTIAL, NOW)
    assert not subject.note_clock(first, answer, NOW)
    assert subject.clock_offset == 3600.0


def test_sign_takes_only_own_requests():
    with pytest.raises(TypeError, match="not built by the S3 dialect"):
        dialect().sign(Request("GET", "/", operation="get"), None, NOW)


# ---- moving to another region


def test_follow_moves_host_and_signature():
    subject = dialect()
    request = subject.build_get("k", GetSpec())
    subject.sign(request, CREDENTIAL, NOW)
    answer = Answer(301, {"x-amz-bucket-region": "eu-west-1"})
    assert subject.failed(request, answer, b"") == "redirect"
    assert subject.follow(request, answer, b"")
    assert (subject.region, subject.host) == ("eu-west-1", "s3.eu-west-1.amazonaws.com")
    url, headers = subject.sign(request, CREDENTIAL, NOW)
    assert url == "https://s3.eu-west-1.amazonaws.com/bk/k"
    assert "/eu-west-1/s3/" in dict(headers)["authorization"]
    assert not subject.follow(request, answer, b"")
    assert subject.failed(request, answer, b"") == "fatal"


def test_follow_helps_a_request_that_another_overtook():
    subject = dialect()
    first, second = (subject.build_get("k", GetSpec()) for _ in range(2))
    answer = Answer(301, {"x-amz-bucket-region": "eu-west-1"})
    for request in (first, second):
        subject.sign(request, CREDENTIAL, NOW)
    assert subject.follow(first, answer, b"")
    assert subject.failed(second, answer, b"") == "redirect"
    assert subject.follow(second, answer, b"")


def test_follow_keeps_a_custom_endpoint():
    subject = dialect(endpoint="http://127.0.0.1:9000")
    request = subject.build_get("k", GetSpec())
    subject.sign(request, CREDENTIAL, NOW)
    body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>earth</Region></Error>"
    assert subject.follow(request, Answer(400), body)
    url, headers = subject.sign(request, CREDENTIAL, NOW)
    assert url == "http://127.0.0.1:9000/bk/k"
    assert "/earth/s3/" in dict(headers)["authorization"]


def test_follow_leaves_a_region_that_was_given():
    subject = dialect(region="us-east-1", region_given=True)
    request = subject.build_get("k", GetSpec())
    url, _ = subject.sign(request, CREDENTIAL, NOW)
    answer = Answer(301, {"x-amz-bucket-region": "eu-west-1"})
    assert subject.failed(request, answer, b"") == "fatal"
    assert not subject.follow(request, answer, b"")
    error = subject.error(request, answer, b"", url=url, elapsed=0.0)
    assert error.hint == "the bucket is in region eu-west-1, not us-east-1: set region='eu-west-1'"


def test_follow_believes_no_host_name():
    subject = dialect()
    request = subject.build_get("k", GetSpec())
    subject.sign(request, CREDENTIAL, NOW)
    for region in ("evil.example", "a/b", "a@b", "", "x" * 99):
        assert not subject.follow(request, Answer(301, {"x-amz-bucket-region": region, "location": "http://evil"}), b"")
    assert subject.host == "s3.us-east-1.amazonaws.com"


# ---- what cannot be asked


def test_update_needs_an_etag():
    with pytest.raises(exceptions.GenericError, match="Generic S3 error: ETag required for conditional put"):
        dialect().build_put("k", [b""], PutSpec(mode="update", version="1"))


@pytest.mark.parametrize("mode", ["create", "update"])
def test_conditional_put_disabled(mode):
    subject = dialect(conditional_put="disabled")
    spec = PutSpec(mode=mode, e_tag='"e"')
    with pytest.raises(NotImplementedError, match="not yet implemented by S3Store"):
        subject.build_put("k", [b""], spec)
    with pytest.raises(NotImplementedError):
        subject.build_finish("k", "u", [(1, PartTag('"e"', None))], spec)


@pytest.mark.parametrize(
    ("setting", "create"),
    [
        (None, "unsupported"),
        ("multipart", "multipart"),
        ("header: a: b", "header"),
        ("header:a:b", "header"),
        ("header-with-status: a: b: 409", "header"),
    ],
)
def test_copy_create(setting, create):
    subject = dialect(copy_if_not_exists=setting)
    assert subject.copy_create == create
    if create != "header":
        with pytest.raises(exceptions.NotSupportedError, match="S3 does not support copy-if-not-exists"):
            subject.build_copy("a", "b", overwrite=False)
    else:
        assert ("a", "b") in subject.build_copy("a", "b", overwrite=False).headers


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "gate.example"},
        {"endpoint": "ftp://gate.example"},
        {"endpoint": "https:///bk"},
        {"endpoint": "https://user:secret@gate.example"},
        {"endpoint": "https://gate.example/?x=1"},
        {"default_headers": [("host", "x")]},
    ],
)
def test_settings_refused(changes):
    with pytest.raises(exceptions.GenericError) as caught:
        dialect(**changes)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "origin", "host"),
    [
        ("http://h:80", "http://h:80", "h"),
        ("http://h:443", "http://h:443", "h:443"),
        ("https://h:443/", "https://h:443", "h"),
        ("https://h:80", "https://h:80", "h:80"),
        ("http://[::1]:9000", "http://[::1]:9000", "[::1]:9000"),
    ],
)
def test_host_names_the_port_unless_it_is_the_default(endpoint, origin, host):
    subject = dialect(endpoint=endpoint)
    assert (subject.endpoint, subject.host) == (origin, host)
