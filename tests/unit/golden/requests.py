"""The requests that ``requests.txt`` describes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from obstore._dialect.s3 import PartTag, S3Dialect, S3Request
from obstore._types import GetSpec, PutSpec, Range, RawKey
from tests.unit.golden import CREDENTIAL, NOW, SESSION, dialect

KMS = {"server_side_encryption": "aws:kms", "sse_kms_key_id": "arn:aws:kms:k", "sse_bucket_key_enabled": False}
SSE_C = {"server_side_encryption": "sse-c", "sse_customer_key_base64": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}
WHEN = datetime(2024, 2, 29, 23, 5, 9, 999999, tzinfo=timezone(timedelta(hours=1)))
RANGE = GetSpec(range=Range(5, 10))
CREATE = PutSpec(mode="create")
UPDATE = PutSpec(mode="update", e_tag='"e1"')
ATTRIBUTES = PutSpec(
    attributes={
        "Content-Type": "text/plain",
        "Content-Disposition": "attachment",
        "Content-Encoding": "gzip",
        "Content-Language": "de",
        "Cache-Control": "no-store",
        "Storage-Class": "STANDARD_IA",
        "Owner": "Zoë",
    },
    tags={"a b": "c&d", "é": "", "x/y": "+"},
)
PARTS = [(1, PartTag('"e1"', None)), (2, PartTag('"e2"', "c2=="))]

Build = Callable[[S3Dialect], S3Request]
# Heading: settings, credential, what is built.
CASES: dict[str, tuple[dict[str, Any], Any, Build]] = {
    # addressing
    "default address": ({}, None, lambda d: d.build_get("k", GetSpec())),
    "region": ({"region": "eu-central-1"}, None, lambda d: d.build_get("k", GetSpec())),
    "region in China": ({"region": "cn-north-1"}, None, lambda d: d.build_get("k", GetSpec())),
    "virtual hosted": ({"virtual_hosted_style": True}, None, lambda d: d.build_get("k", GetSpec())),
    "virtual hosted list": ({"virtual_hosted_style": True}, None, lambda d: d.build_list("", None, False, None)),
    "endpoint": ({"endpoint": "http://127.0.0.1:9000"}, CREDENTIAL, lambda d: d.build_get("k", GetSpec())),
    "endpoint with path and slashes": (
        {"endpoint": "HTTPS://Gate.Example:443/s3/v1//"},
        CREDENTIAL,
        lambda d: d.build_get("k", GetSpec()),
    ),
    "endpoint virtual hosted": (
        {"endpoint": "https://bk.gate.example:8443/", "virtual_hosted_style": True},
        None,
        lambda d: d.build_get("k", GetSpec()),
    ),
    "endpoint virtual hosted list": (
        {"endpoint": "https://bk.gate.example/base/", "virtual_hosted_style": True},
        None,
        lambda d: d.build_list("", None, False, None),
    ),
    "endpoint IPv6": ({"endpoint": "http://[::1]:9000/"}, CREDENTIAL, lambda d: d.build_get("k", GetSpec())),
    "bucket with colon": ({"bucket": "tenant:bk"}, None, lambda d: d.build_copy("a", "b", True)),
    # keys
    "prefix": ({"prefix": "p/q r"}, None, lambda d: d.build_get("k", GetSpec())),
    "odd characters": ({}, None, lambda d: d.build_get("a b+c%2F?#&=é\u2028~!*'()", GetSpec())),
    "raw key": ({"prefix": "p"}, None, lambda d: d.build_get(RawKey("/a//../b/"), GetSpec())),
    # get, head
    "get signed": ({}, CREDENTIAL, lambda d: d.build_get("k", GetSpec())),
    "get signed with token": ({}, SESSION, lambda d: d.build_get("k", GetSpec())),
    "get unsigned payload": ({"unsigned_payload": True}, CREDENTIAL, lambda d: d.build_get("k", GetSpec())),
    "get requester pays": ({"request_payer": True}, CREDENTIAL, lambda d: d.build_get("k", RANGE)),
    "get default headers": (
        {"default_headers": [("x-trace", "1"), ("range", "bytes=0-0")]},
        CREDENTIAL,
        lambda d: d.build_get("k", RANGE),
    ),
    "get range": ({}, None, lambda d: d.build_get("k", RANGE)),
    "get offset": ({}, None, lambda d: d.build_get("k", GetSpec(range=Range(5)))),
    "get suffix": ({}, None, lambda d: d.build_get("k", GetSpec(range=Range(suffix=5)))),
    "get conditions": (
        {},
        None,
        lambda d: d.build_get(
            "k",
            GetSpec(
                if_match='"a"', if_none_match='"b"', if_modified_since=WHEN, if_unmodified_since=WHEN.astimezone(UTC)
            ),
        ),
    ),
    "get version": ({}, CREDENTIAL, lambda d: d.build_get("k", GetSpec(version="v/+1"))),
    "get head": ({}, None, lambda d: d.build_get("k", GetSpec(head=True, range=Range(0, 1), if_match='"a"'))),
    "get customer key": (SSE_C, None, lambda d: d.build_get("k", GetSpec())),
    "get managed key": (KMS, None, lambda d: d.build_get("k", GetSpec())),
    "range": ({"prefix": "p"}, None, lambda d: d.build_range("k", 0, 1)),
    "range customer key": (SSE_C, None, lambda d: d.build_range("k", 7, 99)),
    "resume": (
        {},
        None,
        lambda d: d.build_resume(
            d.build_get("k", GetSpec(range=Range(5, 10), if_none_match='"b"', version="v")), 7, 10, '"a"'
        ),
    ),
    "resume to the end": ({}, None, lambda d: d.build_resume(d.build_get("k", GetSpec()), 7, None, '"a"')),
    "resume weak": (
        {},
        None,
        lambda d: d.build_resume(d.build_get("k", GetSpec(if_unmodified_since=WHEN)), 7, None, 'W/"a"'),
    ),
    "head": ({"prefix": "p"}, None, lambda d: d.build_head("k", None)),
    "head version customer key": (SSE_C, None, lambda d: d.build_head("k", "v1")),
    # put
    "put": ({}, CREDENTIAL, lambda d: d.build_put("k", [b"ab", memoryview(b"cd")], PutSpec())),
    "put empty": ({}, CREDENTIAL, lambda d: d.build_put("k", [], PutSpec())),
    "put attributes and tags": ({}, CREDENTIAL, lambda d: d.build_put("k", [b"x"], ATTRIBUTES)),
    "put default content type": (
        {"default_content_type": "a/b"},
        None,
        lambda d: d.build_put("k", [b"x"], PutSpec(attributes={"Cache-Control": "private"})),
    ),
    "put own content type": ({"default_content_type": "a/b"}, None, lambda d: d.build_put("k", [b"x"], ATTRIBUTES)),
    "put tags disabled": (
        {"disable_tagging": True},
        None,
        lambda d: d.build_put("k", [b"x"], PutSpec(tags={"a": "b"})),
    ),
    "put create": ({}, CREDENTIAL, lambda d: d.build_put("k", [b"x"], CREATE)),
    "put update": ({}, None, lambda d: d.build_put("k", [b"x"], UPDATE)),
    "put SHA256": ({"checksum_algorithm": "SHA256"}, CREDENTIAL, lambda d: d.build_put("k", [b"ab", b"cd"], PutSpec())),
    "put SHA256 empty": ({"checksum_algorithm": "SHA256"}, CREDENTIAL, lambda d: d.build_put("k", [], PutSpec())),
    "put CRC64NVME": (
        {"checksum_algorithm": "CRC64NVME"},
        CREDENTIAL,
        lambda d: d.build_put("k", [b"ab", b"cd"], PutSpec()),
    ),
    "put unsigned payload": ({"unsigned_payload": True}, CREDENTIAL, lambda d: d.build_put("k", [b"ab"], PutSpec())),
    "put unsigned payload SHA256": (
        {"unsigned_payload": True, "checksum_algorithm": "SHA256"},
        CREDENTIAL,
        lambda d: d.build_put("k", [b"ab"], PutSpec()),
    ),
    "put AES256": ({"server_side_encryption": "AES256"}, None, lambda d: d.build_put("k", [b"x"], PutSpec())),
    "put KMS": (KMS, None, lambda d: d.build_put("k", [b"x"], PutSpec())),
    "put KMS twice": (
        {**KMS, "server_side_encryption": "aws:kms:dsse", "sse_bucket_key_enabled": True},
        None,
        lambda d: d.build_put("k", [b"x"], PutSpec()),
    ),
    "put customer key": (SSE_C, None, lambda d: d.build_put("k", [b"x"], PutSpec())),
    # list
    "list": ({}, CREDENTIAL, lambda d: d.build_list("", None, False, None)),
    "list all": ({"prefix": "p q"}, None, lambda d: d.build_list("a/b", "a/b/c+", True, None)),
    "list next page": ({"prefix": "p"}, None, lambda d: d.build_list("a/", "a/c", False, "1/+token==")),
    "list store prefix only": ({"prefix": "p"}, None, lambda d: d.build_list("", None, True, None)),
    "list customer key": ({**SSE_C, "request_payer": True}, None, lambda d: d.build_list("", None, False, None)),
    # multipart
    "start": ({"prefix": "p"}, CREDENTIAL, lambda d: d.build_start("k", ATTRIBUTES)),
    "start create CRC64NVME KMS": (
        {**KMS, "checksum_algorithm": "CRC64NVME"},
        None,
        lambda d: d.build_start("k", CREATE),
    ),
    "part": ({"prefix": "p"}, CREDENTIAL, lambda d: d.build_part("k", "u/1+", 3, [b"abc"])),
    "part empty": ({}, None, lambda d: d.build_part("k", "u", 1, [])),
    "part KMS": (KMS, None, lambda d: d.build_part("k", "u", 1, [b"abc"])),
    "part customer key SHA256": (
        {**SSE_C, "checksum_algorithm": "SHA256"},
        None,
        lambda d: d.build_part("k", "u", 1, [b"abc"]),
    ),
    "part copy": ({"prefix": "p"}, None, lambda d: d.build_part_copy("a b", "k", "u", 2, (5, 10))),
    "part copy whole customer key": (SSE_C, None, lambda d: d.build_part_copy("a", "k", "u", 1, None)),
    "finish": ({"prefix": "p"}, CREDENTIAL, lambda d: d.build_finish("k", "u/1", PARTS, PutSpec())),
    "finish create": ({}, CREDENTIAL, lambda d: d.build_finish("k", "u", PARTS[:1], CREATE)),
    "finish update": ({}, None, lambda d: d.build_finish("k", "u", PARTS[:1], UPDATE)),
    "finish SHA256 customer key": (
        {**SSE_C, "checksum_algorithm": "SHA256"},
        None,
        lambda d: d.build_finish("k", "u", PARTS, PutSpec()),
    ),
    "abort": ({"prefix": "p"}, CREDENTIAL, lambda d: d.build_abort("k", "u/1")),
    # copy
    "copy": ({"prefix": "p"}, CREDENTIAL, lambda d: d.build_copy("a é", "b", True)),
    "copy header": (
        {"copy_if_not_exists": "header: X-No-Overwrite : true"},
        None,
        lambda d: d.build_copy("a", "b", False),
    ),
    "copy header overwriting": (
        {"copy_if_not_exists": "header: X-No-Overwrite : true"},
        None,
        lambda d: d.build_copy("a", "b", True),
    ),
    "copy KMS": (KMS, None, lambda d: d.build_copy("a", "b", True)),
    "copy customer key": (SSE_C, None, lambda d: d.build_copy("a", "b", True)),
    # delete
    "delete one": ({"prefix": "p", "disable_bulk_delete": True}, CREDENTIAL, lambda d: d.build_delete_one("k")),
    "delete": ({"prefix": "p", "unsigned_payload": True}, CREDENTIAL, lambda d: d.build_delete(["a", "b/c"])),
    "delete odd keys": (
        {},
        None,
        lambda d: d.build_delete(["<&>\"'", "cr\r\nlf", "\x01\x7f\x85\ufffe", "é\U0001f600"]),
    ),
}


def render(heading: str) -> str:
    """A request as it leaves: method and URL, headers in order, body."""
    changes, credential, build = CASES[heading]
    subject = dialect(**changes)
    request = build(subject)
    url, headers = subject.sign(request, credential, NOW)
    lines = [f"{request.method} {url}", *(f"{name}: {value}" for name, value in headers)]
    if request.body is not None:
        body = b"".join(bytes(piece) for piece in request.body)
        lines += ["", body.decode() if body else "(empty)"]
    return "\n".join(lines)
