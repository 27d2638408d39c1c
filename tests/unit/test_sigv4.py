"""The signer against AWS's published test suite, the examples in AWS's S3 documentation, and its own promises."""

import base64
import calendar
import fcntl
import hashlib
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

import numpy as np
import pytest

from obstore._auth import sigv4
from obstore._auth.sigv4 import Signer
from obstore._types import RawKey

# ---- AWS's test suite ----------------------------------------------------------------------------------------------
# It travels in the source distribution of botocore; its licence lets us read it, and we keep no copy.

BOTOCORE = "1.44.5"
BOTOCORE_SHA256 = "a988f39e3a4484def0b8010f41128f71157da0515a4804fccce4739aa8f216da"
CACHE = Path(__file__).parents[2] / ".cache" / "sigv4"
SUITE_INSIDE = f"botocore-{BOTOCORE}/tests/unit/auth/aws4_testsuite"
SUITE_CASES = [
    "get-header-key-duplicate",
    "get-header-value-multiline",
    "get-header-value-order",
    "get-header-value-trim",
    "get-unreserved",
    "get-utf8",
    "get-vanilla",
    "get-vanilla-empty-query-key",
    "get-vanilla-query",
    "get-vanilla-query-order-encoded",
    "get-vanilla-query-order-key",
    "get-vanilla-query-order-key-case",
    "get-vanilla-query-order-value",
    "get-vanilla-query-unreserved",
    "get-vanilla-utf8-query",
    "get-vanilla-with-session-token",
    "normalize-path/get-relative",
    "normalize-path/get-relative-relative",
    "normalize-path/get-slash",
    "normalize-path/get-slash-dot-slash",
    "normalize-path/get-slash-pointless-dot",
    "normalize-path/get-slashes",
    "normalize-path/get-space",
    "normalize-path/get-special-character",
    "post-header-key-case",
    "post-header-key-sort",
    "post-header-value-case",
    "post-sts-token/post-sts-header-after",
    "post-sts-token/post-sts-header-before",
    "post-vanilla",
    "post-vanilla-empty-query-value",
    "post-vanilla-query",
    "post-x-www-form-urlencoded",
    "post-x-www-form-urlencoded-parameters",
]
# Here the token joins the request once it is signed; everywhere else it is signed.
ADDED_AFTER_SIGNING = "post-sts-token/post-sts-header-after"


def _download_suite(kept):
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*pip, "--dest", scratch, f"botocore=={BOTOCORE}"], check=True)
        archive = Path(scratch) / f"botocore-{BOTOCORE}.tar.gz"
        assert hashlib.sha256(archive.read_bytes()).hexdigest() == BOTOCORE_SHA256
        with tarfile.open(archive) as tar:
            members = [member for member in tar.getmembers() if member.name.startswith(f"{SUITE_INSIDE}/")]
            tar.extractall(scratch, members, filter="data")
        (Path(scratch) / SUITE_INSIDE).replace(kept)


@pytest.fixture(scope="session")
def suite():
    """Folder of the suite, downloaded once, whichever of the processes that run the tests comes first."""
    kept = CACHE / f"aws4_testsuite-{BOTOCORE}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "suite.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file closes
        if not kept.exists():
            _download_suite(kept)
    return kept


def read_request(text):
    """Method, raw path, query pairs, headers and body of a request in the suite's notation."""
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    request_line, *lines = head.split("\n")
    method, _, rest = request_line.partition(" ")
    path, _, query = rest.rpartition(" ")[0].partition("?")
    pairs = []
    for item in query.split("&") if query else []:
        name, _, value = item.partition("=")
        pairs.append((urllib.parse.unquote(name), urllib.parse.unquote(value)))
    headers = []
    for line in lines:
        if line.startswith(" "):  # a folded line continues the value, as if after blanks
            name, value = headers.pop()
            headers.append((name, f"{value} {line}"))
        elif line:
            name, _, value = line.partition(":")
            headers.append((name.lower(), value))
    return method, path, pairs, headers, body


def test_suite_is_listed_completely(suite):
    assert sorted(str(file.parent.relative_to(suite)) for file in suite.rglob("*.req")) == SUITE_CASES


@pytest.mark.parametrize("case", SUITE_CASES)
def test_published_vector(suite, case):
    folder = suite / case
    method, path, query, headers, body = read_request((folder / f"{folder.name}.req").read_text("utf-8"))
    expected = (folder / f"{folder.name}.authz").read_text("utf-8").strip()
    given = dict(headers)
    _, _, _, headers_sent, _ = read_request((folder / f"{folder.name}.sreq").read_text("utf-8"))
    token = dict(headers_sent).get("x-amz-security-token")
    if case == ADDED_AFTER_SIGNING:
        assert token is not None
        token = None
    assert given["x-amz-date"] == "20150830T123600Z"
    signed = Signer("service", normalize_path=True, double_encode=True, payload_header=False).sign(
        method,
        given["host"],
        path,
        query,
        [(name, value) for name, value in headers if name not in {"host", "x-amz-date", "x-amz-security-token"}],
        sigv4.payload_hash([body.encode()] if body else None),
        "AKIDEXAMPLE",
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        token,
        "us-east-1",
        calendar.timegm((2015, 8, 30, 12, 36, 0)),
    )
    assert dict(signed)["x-amz-date"] == "20150830T123600Z"
    assert dict(signed)["authorization"] == expected


# ---- the examples in the S3 documentation --------------------------------------------------------------------------

EXAMPLE = {
    "host": "examplebucket.s3.amazonaws.com",
    "access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "token": None,
    "region": "us-east-1",
    "now": calendar.timegm((2013, 5, 24, 0, 0, 0)),
}
SCOPE = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def sign(method="GET", path="/test.txt", query=(), headers=(), payload_hash=EMPTY, **changes):
    return Signer().sign(
        method=method, path=path, query=query, headers=headers, payload_hash=payload_hash, **{**EXAMPLE, **changes}
    )


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "body", "names", "signature"),
    [
        (
            "GET",
            "/test.txt",
            [],
            [("range", "bytes=0-9")],
            None,
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test%24file.text",
            [],
            [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
            [b"Welcome to ", b"Amazon S3."],
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/",
            [("lifecycle", None)],
            [],
            None,
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            "/",
            [("prefix", "J"), ("max-keys", "2")],
            [],
            None,
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["get-range", "put", "lifecycle", "list"],
)
def test_documented_s3_example(method, path, query, headers, body, names, signature):
    hashed = sigv4.payload_hash(body)
    assert sign(method, path, query, headers, hashed) == [
        *headers,
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-content-sha256", hashed),
        ("authorization", f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders={names}, Signature={signature}"),
    ]


def test_documented_presigned_example():
    presigned = Signer().presign(method="GET", path="/test.txt", query=(), headers=(), expires=86400, **EXAMPLE)
    assert presigned == (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


# ---- what the vectors leave open -----------------------------------------------------------------------------------


def names_signed(headers):
    return dict(headers)["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")


def test_presign_puts_query_before_token_before_signature():
    query = Signer().presign(
        method="PUT",
        path="/k",
        query=[("x-amz-request-payer", "requester")],
        headers=[("content-type", "text/plain"), ("user-agent", "x")],
        expires=0,
        **{**EXAMPLE, "token": "a/b=="},
    )
    pairs = urllib.parse.parse_qsl(query, strict_parsing=True)
    assert [name for name, _ in pairs] == [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "x-amz-request-payer",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
    ]
    assert dict(pairs)["X-Amz-SignedHeaders"] == "content-type;host"
    assert dict(pairs)["X-Amz-Security-Token"] == "a/b=="


def test_presign_refuses_negative_expiry():
    with pytest.raises(ValueError, match="must not be negative, not -1"):
        Signer().presign("GET", "h", "/", (), (), -1, "a", "s", None, "r", 0.0)


def test_token_is_sent_and_signed():
    headers = sign(token="the-token")
    assert dict(headers)["x-amz-security-token"] == "the-token"
    assert names_signed(headers) == ["host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"]


def test_token_header_can_be_renamed():
    express = Signer("s3express", token_header="x-amz-s3session-token")
    headers = express.sign("GET", "h", "/", (), (), EMPTY, "a", "s", "the-token", "r", 0.0)
    assert dict(headers)["x-amz-s3session-token"] == "the-token"
    assert "x-amz-security-token" not in dict(headers)
    assert names_signed(headers)[-1] == "x-amz-s3session-token"


def test_headers_that_others_may_change_are_sent_unsigned():
    given = [
        ("accept", "*/*"),
        ("user-agent", "u"),
        ("content-length", "3"),
        ("traceparent", "00"),
        ("range", "bytes=0-1"),
    ]
    headers = sign(headers=given)
    assert headers[: len(given)] == given
    assert names_signed(headers) == ["host", "range", "x-amz-content-sha256", "x-amz-date"]


def test_headers_of_the_signer_are_replaced():
    given = [
        (name, "stale") for name in ("authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token")
    ]
    assert sign(headers=given, token="t") == sign(token="t")


def test_host_among_headers_is_refused():
    with pytest.raises(ValueError, match="host"):
        sign(headers=[("host", "elsewhere")])


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\0b", "\x1f", "\x7f"])
def test_control_character_in_header_is_refused_without_showing_the_value(value):
    with pytest.raises(ValueError, match="'x-amz-meta-a'") as caught:
        sign(headers=[("x-amz-meta-a", "secret" + value)])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["a b", " a b", "a b ", "a  b", "\ta\t \tb\t", "   a   b   "])
def test_blanks_are_signed_as_one_space_and_sent_as_given(value):
    headers = sign(headers=[("x-amz-meta-a", value)])
    assert headers[0] == ("x-amz-meta-a", value)
    assert headers[-1] == sign(headers=[("x-amz-meta-a", "a b")])[-1]


def test_repeated_header_is_signed_in_the_order_given():
    once = sign(headers=[("x-amz-meta-b", "2,1"), ("x-amz-meta-a", "0")])
    twice = sign(headers=[("x-amz-meta-b", "2"), ("x-amz-meta-a", "0"), ("x-amz-meta-b", "1")])
    swapped = sign(headers=[("x-amz-meta-b", "1"), ("x-amz-meta-a", "0"), ("x-amz-meta-b", "2")])
    assert once[-1] == twice[-1] != swapped[-1]


def test_query_is_sorted_by_name_then_value_not_as_text():
    # As text, "a-=" and "a1=" sort before "a="; as names, after it.
    assert (
        sign(query=[("a-", "x"), ("a1", "x"), ("a", "z"), ("a", "y")])[-1]
        == sign(query=[("a", "y"), ("a", "z"), ("a-", "x"), ("a1", "x")])[-1]
    )


def test_s3_path_is_signed_as_it_is():
    distinct = {sign(path=path)[-1] for path in ("/a/b", "/a//b", "/a/./b", "/a/../b", "/a%2Fb", "/a%252Fb", "/a/b/")}
    assert len(distinct) == 7


def test_cached_keys_never_mix():
    """One signer through many credentials, days and regions equals a fresh signer for each."""
    signer = Signer()
    for turn in range(3):
        for index in range(12):
            request = (
                "GET", "h", "/k", (), (), EMPTY, f"id{index % 5}", f"secret{index % 7}", None, f"r{index % 3}",
                index * 43_200.0 + turn,
            )  # fmt: skip
            assert signer.sign(*request) == Signer().sign(*request)


def test_dates_follow_the_clock():
    signer = Signer()
    for now in (0.0, 951_782_399.999, 951_782_400.0, 1_709_164_800.5, 4_102_444_799.0):
        headers = dict(signer.sign("GET", "h", "/", (), (), EMPTY, "a", "s", None, "r", now))
        expected = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(int(now)))
        assert headers["x-amz-date"] == expected
        assert f"/{expected[:8]}/r/s3/" in headers["authorization"]


def test_one_signer_serves_threads():
    signer = Signer()
    requests = [
        ("GET", "h", f"/{index}", (), (), EMPTY, f"id{index % 11}", f"secret{index % 11}", None, "r", float(index))
        for index in range(200)
    ]
    expected = [Signer().sign(*request) for request in requests]
    failures = []

    def work():
        for _ in range(10):
            failures.extend(r for r, e in zip(requests, expected, strict=True) if signer.sign(*r) != e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_signer_shows_no_secret():
    signer = Signer("s3express", token_header="x-amz-s3session-token")
    request = ("GET", "h", "/", (), (), EMPTY, "AKID", "hunter2-secret", "hunter2-token", "r", 0.0)
    signed = signer.sign(*request)
    assert repr(signer) == "Signer('s3express')"
    pickled = pickle.dumps(signer)
    assert b"hunter2" not in pickled
    assert b"AKID" not in pickled
    assert pickle.loads(pickled).sign(*request) == signed
    assert not hasattr(signer, "keys")


# ---- encodings and hashes ------------------------------------------------------------------------------------------

HOSTILE = [
    "",
    "plain/key-1._~",
    "a b",
    "a+b",
    "100%",
    "%20",
    "//a//",
    "?x=1&y=2",
    "#frag",
    "~tilde",
    "!$&'()*+,;=:@[]",
    '\\^`{|}<>"',
    "ünï/çødé",
    "日本語",
    "👩‍👩‍👧",
    "\x00\x01\x7f",
    "x" * 5000 + "é",
]


@pytest.mark.parametrize("key", HOSTILE, ids=range(len(HOSTILE)))
def test_quote_key(key):
    assert sigv4.quote_key(key) == urllib.parse.quote(key, safe="/-._~")
    assert sigv4.quote_key(RawKey(key)) == urllib.parse.quote(key, safe="/-._~")
    assert type(sigv4.quote_key(RawKey(key))) is str


def test_encode_query_keeps_order_and_bare_names():
    pairs = [(text, text) for text in reversed(HOSTILE)]
    expected = "&".join(f"{urllib.parse.quote(n, safe='-._~')}={urllib.parse.quote(v, safe='-._~')}" for n, v in pairs)
    assert sigv4.encode_query([*pairs, ("uploads", None), ("empty", "")]) == f"{expected}&uploads&empty="
    assert sigv4.encode_query(()) == ""


def test_lone_surrogate_is_refused():
    with pytest.raises(UnicodeEncodeError):
        sigv4.quote_key("a\ud800")
    with pytest.raises(UnicodeEncodeError):
        sigv4.encode_query([("a", "\udfff")])


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        [b""],
        [b"abc", bytearray(b"def"), memoryview(b"ghi")],
        [np.arange(6, dtype=np.int32).reshape(2, 3), b"x", np.zeros((0, 3))],
        [np.array(7, dtype=np.uint64)],
        [b"z" * 300_000],
    ],
)
def test_hashes_of_bodies(body):
    flat = b"".join(bytes(memoryview(buffer)) for buffer in body or ())
    assert sigv4.payload_hash(body) == hashlib.sha256(flat).hexdigest()
    assert sigv4.content_md5(body) == base64.b64encode(hashlib.md5(flat, usedforsecurity=False).digest()).decode()


def test_hashing_a_large_body_lets_other_threads_run():
    """With the GIL held throughout, the counter could not move between the first and the last instant."""
    body = [bytes(64 << 20)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(60)  # nobody is asked to give the GIL up: it has to be released
    counted, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            counted[0] += 1
            time.sleep(0)

    counter = threading.Thread(target=count)
    try:
        counter.start()
        while counted[0] == 0:
            time.sleep(0.001)
        start = counted[0]
        sigv4.payload_hash(body)
        moved = counted[0] - start
    finally:
        stop.set()
        sys.setswitchinterval(before)
        counter.join()
    assert moved > 0


@pytest.mark.parametrize("first", [0, 1, 63, 64, 65, 1000, 100_000])
@pytest.mark.parametrize("second", [0, 1, 64, 999, 100_003])
def test_bodies_are_hashed_in_pairs(first: int, second: int) -> None:
    one, two = os.urandom(first), os.urandom(second)
    bodies = [[one], [memoryview(bytearray(two))], [one, two], [one], [two], [], [two]]
    expected = [hashlib.sha256(b"".join(body)).hexdigest() for body in bodies]
    assert sigv4.payload_hashes(bodies) == expected
    assert sigv4.payload_hashes([]) == []
    with pytest.raises(TypeError):
        sigv4.payload_hashes([[one], ["text"]])
