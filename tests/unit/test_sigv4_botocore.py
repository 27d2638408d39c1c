"""The signer against botocore's, on random requests built of what users and filesystems come up with."""

import datetime as dt
import random
import urllib.parse

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from obstore._auth import sigv4

PIECES = [
    "a", "Z", "0", "-", ".", "_", "~", "/", "//", "/./", "/../", " ", "  ", "+", "%", "%20", "%2F", "%zz", "?", "#", "&",
    "=", ";", ":", "@", "!", "$", "'", "(", ")", "*", ",", "[", "]", "\\", "^", "`", "{", "|", "}", '"', "<", ">",
    "\t", "\n", "\x01", "\x7f", "é", "ß", "e\u0301", "\u00a0", "\u2028", "日", "本", "\U0001d4b3", "👩‍👩‍👧", "\ufeff", "\U0010ffff",
]  # fmt: skip
# Outside blanks and tabs, botocore also folds what Unicode calls white space; AWS's rules do not, and neither do we.
VALUE_PIECES = [
    piece for piece in PIECES if not (piece not in {" ", "  ", "\t"} and piece.isspace()) and piece.isprintable()
]
VALUE_PIECES += [" ", "  ", "\t"]
HEADERS = [
    "range", "if-match", "if-none-match", "if-modified-since", "content-type", "content-md5", "content-encoding",
    "cache-control", "x-amz-acl", "x-amz-copy-source", "x-amz-meta-a", "x-amz-meta-a-b", "x-amz-meta-a_b", "x-amz-tagging",
    "x-amz-storage-class", "x-amz-checksum-sha256", "x-amz-sdk-checksum-algorithm", "x-amz-expected-bucket-owner",
    "x-amz-server-side-encryption", "x-amz-request-payer", "zz", "user-agent", "connection", "traceparent",
]  # fmt: skip
NAMES = [
    "prefix",
    "delimiter",
    "list-type",
    "uploadId",
    "partNumber",
    "versionId",
    "x-id",
    "Marker",
    "marker",
    "a-",
    "a1",
]
HOSTS = [
    "examplebucket.s3.amazonaws.com",
    "s3.eu-west-3.amazonaws.com",
    "localhost:9000",
    "[::1]:9000",
    "10.0.0.1:8443",
]


def test_policy_is_signed_as_botocore_signs_it(monkeypatch):
    import base64
    import json

    from botocore.auth import S3SigV4PostAuth

    moment = dt.datetime(2031, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: moment)
    fields, policy = {"key": "k"}, {"expiration": "2031-05-06T08:08:09Z", "conditions": [{"key": "k"}]}
    request = AWSRequest("POST", "https://b.s3.amazonaws.com/")
    request.context["s3-presign-post-fields"] = fields
    request.context["s3-presign-post-policy"] = policy
    S3SigV4PostAuth(Credentials("AKID", "secret", "token"), "s3", "eu-west-1").add_auth(request)

    def document(signature):
        conditions = [{"key": "k"}, *({name: value} for name, value in signature.items())]
        text = json.dumps({"expiration": "2031-05-06T08:08:09Z", "conditions": conditions})
        return base64.b64encode(text.encode()).decode()

    ours = sigv4.Signer().sign_policy(document, "AKID", "secret", "token", "eu-west-1", moment.timestamp())
    assert {"key": "k", **ours} == fields


def text(rng, pieces, most):
    return "".join(rng.choices(pieces, k=rng.randint(0, most)))


def strict(value):
    return urllib.parse.quote(value, safe="-._~")


def random_request(rng):
    key = text(rng, PIECES, 24) if rng.random() < 0.98 else text(rng, PIECES, 3000)
    query = [
        (rng.choice(NAMES) if rng.random() < 0.7 else text(rng, PIECES, 6) or "q", text(rng, PIECES, 12))
        for _ in range(rng.choice([0, 0, 1, 2, 3, 8]))
    ]
    names = rng.sample(HEADERS, rng.choice([0, 1, 2, 5, 12]))
    return {
        "method": rng.choice(["GET", "HEAD", "PUT", "POST", "DELETE"]),
        "host": rng.choice(HOSTS),
        "path": "/" + urllib.parse.quote(key, safe="/-._~"),
        "query": query,
        "headers": [(name, text(rng, VALUE_PIECES, 8)) for name in names],
        "body": rng.choice([b"", b"", rng.randbytes(rng.randint(1, 5000))]),
        "access_key_id": "AK" + "".join(rng.choices("ABCDEFGHIJ0123456789", k=18)),
        "secret_access_key": "".join(rng.choices("abcXYZ019+/=é%", k=rng.choice([40, 40, 8, 90]))),
        "token": rng.choice([None, "".join(rng.choices("abcXYZ019+/=", k=rng.randint(1, 600)))]),
        "region": rng.choice(["us-east-1", "eu-central-2", "auto", "x"]),
        "now": rng.uniform(0, 4e9),
    }


def theirs(request, monkeypatch, auth, **options):
    """botocore's request after it signed it."""
    moment = dt.datetime.fromtimestamp(int(request["now"]), dt.UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: moment)
    query = "&".join(f"{strict(name)}={strict(value)}" for name, value in request["query"])
    sent = AWSRequest(
        method=request["method"],
        url=f"http://{request['host']}{request['path']}{'?' if query else ''}{query}",
        headers=dict(request["headers"]),
        data=request["body"],
    )
    credentials = Credentials(request["access_key_id"], request["secret_access_key"], request["token"])
    auth(credentials, "s3", request["region"], **options).add_auth(sent)
    return sent


@pytest.mark.parametrize("seed", range(10))
def test_authorization_equals_botocore(seed, monkeypatch):
    rng = random.Random(seed)
    signer = sigv4.Signer()
    for _ in range(100):
        request = random_request(rng)
        expected = theirs(request, monkeypatch, S3SigV4Auth).headers
        body = request.pop("body")
        signed = dict(signer.sign(payload_hash=sigv4.payload_hash([body]), **request))
        for name in ("x-amz-date", "x-amz-content-sha256", "x-amz-security-token"):
            assert signed.get(name) == expected.get(name)
        assert signed["authorization"] == expected["authorization"], request


@pytest.mark.parametrize("seed", range(2))
def test_presigned_query_equals_botocore(seed, monkeypatch):
    rng = random.Random(seed)
    signer = sigv4.Signer()
    for _ in range(100):
        request = random_request(rng)
        # botocore keeps one value for each name, and drops parameters that are empty.
        request["query"] = list({name: value or "v" for name, value in request["query"]}.items())
        # A body it takes for form parameters.
        request["body"] = b""
        # It moves the content-type of presigned requests elsewhere.
        request["headers"] = [(name, value) for name, value in request["headers"] if name != "content-type"]
        expires = rng.randint(1, 604_800)
        url = theirs(request, monkeypatch, S3SigV4QueryAuth, expires=expires).url
        request.pop("body")
        ours = signer.presign(expires=expires, **request)
        parts = urllib.parse.parse_qsl(ours, keep_blank_values=True, strict_parsing=True)
        assert sorted(parts) == sorted(
            urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query, keep_blank_values=True, strict_parsing=True)
        )
