"""Directory buckets, by a scripted server: no real one is to be had.

Sessions: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateSession.html
What they may not be used for: https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-express-create-session.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import obstore as obs
from obstore import bulk
from obstore.exceptions import GenericError, UnauthenticatedError
from obstore.store import S3Store
from tests.fix_stores import Face
from tests.servers.fakes3 import FakeS3, error_reply
from tests.servers.scripted import Reply, Request

BUCKET = "data--use1-az4--x-s3"
BASE = ("AKIDBASE", "base-secret")
SESSION = ("SESSIONKEY", "session-secret")


class Express(FakeS3):
    """The fake with sessions: verifies the signature of each request by the key it must be made with."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = 0
        self.life = timedelta(minutes=5)
        self.refuse: Reply | None = None

    def _handle(self, request: Request) -> Reply:
        if request.target.endswith("?session="):
            if self.refuse is not None:
                return self.refuse
            assert verified(request, *BASE)
            self.sessions += 1
            expiry = (datetime.now(UTC) + self.life).strftime("%Y-%m-%dT%H:%M:%SZ")
            body = (
                '<CreateSessionResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Credentials>'
                f"<SessionToken>token-{self.sessions}</SessionToken><SecretAccessKey>{SESSION[1]}</SecretAccessKey>"
                f"<AccessKeyId>{SESSION[0]}</AccessKeyId><Expiration>{expiry}</Expiration>"
                "</Credentials></CreateSessionResult>"
            )
            return Reply(200, {"content-type": "application/xml"}, body.encode())
        if "x-amz-copy-source" in request.headers:
            assert verified(request, *BASE)
            assert "x-amz-s3session-token" not in request.headers
        else:
            assert verified(request, *SESSION)
            if request.headers["x-amz-s3session-token"] != f"token-{self.sessions}":
                return error_reply(400, "ExpiredToken")
            assert "x-amz-security-token" not in request.headers
        assert "content-md5" not in request.headers
        assert "start-after" not in request.query
        return super()._handle(request)


def verified(request: Request, key: str, secret: str) -> bool:
    """Whether the request is signed with this key for the service s3express."""
    header = request.headers["authorization"]
    found = re.search(
        r"Credential=([^/]+)/(\d+)/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([^,]+), Signature=(\w+)", header
    )
    assert found is not None
    used, day, region, service, names, signature = found.groups()
    assert (used, service) == (key, "s3express")
    path, _, query = request.target.partition("?")
    pairs = sorted(pair if "=" in pair else f"{pair}=" for pair in query.split("&") if pair)
    headers = "".join(f"{name}:{request.headers[name]}\n" for name in names.split(";"))
    canonical = "\n".join(
        [request.method, path, "&".join(pairs), headers, names, request.headers["x-amz-content-sha256"]]
    )
    scope = f"{day}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{request.headers['x-amz-date']}\n{scope}\n{digest}"
    derived = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        derived = hmac.digest(derived, part.encode(), "sha256")
    return hmac.digest(derived, text.encode(), "sha256").hex() == signature


@pytest.fixture
def express() -> Iterator[Express]:
    with Express() as server:
        yield server


def store_of(server: Express, **more: Any) -> S3Store:
    config = server.config(
        s3_express=True,
        virtual_hosted_style_request=False,
        access_key_id=BASE[0],
        secret_access_key=BASE[1],
        bucket=BUCKET,
        endpoint=server.url,
        **more,
    )
    return S3Store(**config)


@pytest.fixture(autouse=True)
def _bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.servers.fakes3.BUCKET", BUCKET)


def test_all_is_done_by_one_session(express: Express, face: Face) -> None:
    store = store_of(express)
    face.put(store, "dir/a", b"1")
    face.put(store, "dir/b", b"2")
    assert face.body(face.get(store, "dir/a")) == b"1"
    assert [item["path"] for item in face.items(face.list(store, "dir", offset="dir/a"))] == ["dir/b"]
    face.copy(store, "dir/a", "dir/c")
    face.put(store, "large", iter([bytes(6 << 20)]), chunk_size=5 << 20)
    face.delete(store, ["dir/a", "dir/b", "dir/c", "large"])
    assert face.items(face.list(store)) == []
    assert express.sessions == 1


def test_session_is_renewed_in_time_and_when_it_is_refused(express: Express) -> None:
    store = store_of(express)
    express.life = timedelta(seconds=59)
    obs.put(store, "k", b"1")
    import time

    time.sleep(0.2)
    express.life = timedelta(minutes=5)
    obs.put(store, "k", b"2")
    assert express.sessions == 2
    express.sessions += 10  # as if it had been ended
    obs.put(store, "k", b"3")
    assert express.sessions == 13


def test_refused_session_says_what_is_needed(express: Express) -> None:
    express.refuse = error_reply(403, "AccessDenied")
    with pytest.raises(UnauthenticatedError, match="S3 CreateSession answered 403: AccessDenied") as caught:
        obs.head(store_of(express), "k")
    assert "s3express:CreateSession" in caught.value.hint


def test_without_sessions_the_credentials_sign_themselves(express: Express) -> None:
    express.handler = lambda request: Reply(200 if verified(request, *BASE) else 403, {"etag": '"e"'})
    obs.put(store_of(express, disable_s3_express_session_auth=True), "k", b"1")
    assert express.sessions == 0


def test_url_is_signed_with_the_session(express: Express) -> None:
    url = urlsplit(obs.sign(store_of(express), "GET", "k", timedelta(minutes=1)))
    query = parse_qs(url.query)
    assert query["X-Amz-S3session-Token"] == ["token-1"]
    assert "X-Amz-Security-Token" not in query
    assert "/s3express/" in query["X-Amz-Credential"][0]


# ---- where buckets are ---------------------------------------------------------------------------------------------

KEYS = {"access_key_id": "AKID", "secret_access_key": "s", "disable_s3_express_session_auth": True}
ARN = "arn:aws:s3:us-west-2:123456789012:accesspoint/my-point"


@pytest.mark.parametrize(
    ("config", "address", "scope"),
    [
        (
            {"bucket": BUCKET, "region": "us-east-1"},
            f"https://{BUCKET}.s3express-use1-az4.us-east-1.amazonaws.com/k",
            "us-east-1/s3express",
        ),
        (
            {"bucket": "ap--usw2-az1--xa-s3", "region": "us-west-2"},
            "https://ap--usw2-az1--xa-s3.s3express-usw2-az1.us-west-2.amazonaws.com/k",
            "us-west-2/s3express",
        ),
        (
            {"bucket": BUCKET, "region": "us-east-1", "s3_express": False},
            f"https://s3.us-east-1.amazonaws.com/{BUCKET}/k",
            "us-east-1/s3",
        ),
        (
            {"bucket": ARN, "region": "eu-west-1"},
            "https://my-point-123456789012.s3-accesspoint.us-west-2.amazonaws.com/k",
            "us-west-2/s3",
        ),
        (
            {"bucket": "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint:p"},
            "https://p-123456789012.s3-accesspoint.cn-north-1.amazonaws.com.cn/k",
            "cn-north-1/s3",
        ),
        (
            {"bucket": "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01ab/accesspoint/p"},
            "https://p-123456789012.op-01ab.s3-outposts.us-west-2.amazonaws.com/k",
            "us-west-2/s3-outposts",
        ),
        (
            {"bucket": "arn:aws:s3-object-lambda:us-west-2:123456789012:accesspoint/p"},
            "https://p-123456789012.s3-object-lambda.us-west-2.amazonaws.com/k",
            "us-west-2/s3-object-lambda",
        ),
        (
            {"bucket": "b", "endpoint": "https://abc.r2.cloudflarestorage.com"},
            "https://abc.r2.cloudflarestorage.com/b/k",
            "auto/s3",
        ),
    ],
)
def test_address_and_scope(config: dict[str, Any], address: str, scope: str) -> None:
    url, _, query = obs.sign(S3Store(**config, **KEYS), "GET", "k", timedelta(minutes=1)).partition("?")
    assert url == address
    assert parse_qs(query)["X-Amz-Credential"][0].split("/", 2)[2] == f"{scope}/aws4_request"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        (f"s3://{ARN}", "https://my-point-123456789012.s3-accesspoint.us-west-2.amazonaws.com/k"),
        (f"s3://{ARN}/a/b", "https://my-point-123456789012.s3-accesspoint.us-west-2.amazonaws.com/a/b/k"),
        (f"s3://{ARN.replace('/', ':')}/a", "https://my-point-123456789012.s3-accesspoint.us-west-2.amazonaws.com/a/k"),
        (
            "s3://arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01ab/accesspoint/p/a",
            "https://p-123456789012.op-01ab.s3-outposts.us-west-2.amazonaws.com/a/k",
        ),
        (
            "https://my-point-123456789012.s3-accesspoint.us-west-2.amazonaws.com/a",
            "https://my-point-123456789012.s3-accesspoint.us-west-2.amazonaws.com/a/k",
        ),
        (
            f"https://{BUCKET}.s3express-use1-az4.us-east-1.amazonaws.com/a",
            f"https://{BUCKET}.s3express-use1-az4.us-east-1.amazonaws.com/a/k",
        ),
    ],
)
def test_urls_of_access_points_and_directory_buckets(url: str, address: str) -> None:
    store = S3Store.from_url(url, **KEYS)
    assert obs.sign(store, "GET", "k", timedelta(minutes=1)).partition("?")[0] == address
    assert obs.parse_scheme(url) == "s3"


@pytest.mark.parametrize(
    ("bucket", "message"),
    [
        ("arn:aws:s3:us-west-2:123456789012:bucket/b", "Invalid bucket name"),
        ("arn:aws:s3-outposts:us-west-2:123456789012:accesspoint/p", "Invalid bucket name"),
        ("arn:aws:s3:us-west-2:12:accesspoint/p", "Invalid bucket name"),
    ],
)
def test_other_resource_names_are_refused(bucket: str, message: str) -> None:
    with pytest.raises(GenericError, match=message):
        S3Store(bucket, **KEYS)


def test_access_point_of_many_regions_is_not_supported() -> None:
    with pytest.raises(obs.NotSupportedError, match="SigV4A"):
        S3Store("arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap", **KEYS)


def test_bulk_download_is_signed_with_the_session(express: Express, tmp_path) -> None:
    store = store_of(express)
    for number in range(5):
        obs.put(store, f"dir/{number}", bytes([number]) * 1000)
    result = bulk.download(store, "dir", tmp_path / "out")
    assert not result.failures
    for number in range(5):
        assert next((tmp_path / "out").rglob(str(number))).read_bytes() == bytes([number]) * 1000
    assert express.sessions == 1
