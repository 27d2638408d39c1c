"""Google's XML API as far as uploads in parts go, on top of an S3 server: ``google_xml_app.py PORT UPSTREAM``.

The upstream (moto) makes objects out of parts, or refuses to; here headers get the names that it knows, checksums that it does
not know are checked, and the object's description, which the JSON API would have, is made of what it says of the object. For
Google's own API see https://cloud.google.com/storage/docs/xml-api/post-object-multipart
"""

from __future__ import annotations

import base64
import email.utils
import http.client
import sys
import urllib.error
import urllib.parse
import urllib.request

import google_crc32c
from flask import Flask, Response, request

PORT, UPSTREAM = int(sys.argv[1]), sys.argv[2]
SIGNATURE = "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
app = Flask(__name__)


def refuse(status: int, code: str) -> Response:
    return Response(
        f"<Error><Code>{code}</Code><Message>refused</Message></Error>", status, {"content-type": "text/xml"}
    )


def forward(method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None):
    onward = urllib.request.Request(
        UPSTREAM + target, body, {**(headers or {}), "Authorization": SIGNATURE}, method=method
    )
    try:
        with urllib.request.urlopen(onward) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def describe(target: str) -> tuple[int, dict[str, object] | None]:
    status, found, _ = forward("HEAD", target)
    if status != 200:
        return status, None
    modified: http.client.HTTPMessage = found
    when = email.utils.parsedate_to_datetime(modified["last-modified"])
    metadata = {
        n.lower().removeprefix("x-amz-meta-"): v for n, v in found.items() if n.lower().startswith("x-amz-meta-")
    }
    return 200, {
        "name": urllib.parse.unquote(target.split("/", 2)[2]),
        "size": found["content-length"],
        "updated": when.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "etag": f"json-{found['etag'].strip(chr(34))}",
        "generation": "1700000000000000",
        "contentType": found["content-type"],
        "metadata": metadata,
    }


@app.get("/storage/v1/b/<bucket>/o/<path:key>")
def json_api(bucket: str, key: str):
    if request.headers.get("Authorization") != "Bearer testtoken":
        return refuse(401, "AuthenticationRequired")
    target = f"/{bucket}/{urllib.parse.quote(key)}"
    if request.args.get("alt") == "media":
        status, found, body = forward("GET", target)
        kept = {n: v for n, v in found.items() if n.lower() in ("content-type", "last-modified")}
        return Response(body, status, {**kept, "etag": f"json-{found['etag'].strip(chr(34))}"})
    status, resource = describe(target)
    return resource if resource is not None else refuse(status, "NoSuchKey")


@app.route("/<bucket>/<path:key>", methods=["PUT", "POST", "DELETE"])
def xml_api(bucket: str, key: str):
    if request.headers.get("Authorization") != "Bearer testtoken":
        return refuse(401, "AuthenticationRequired")
    if "uploads" not in request.args and "uploadId" not in request.args:
        return refuse(400, "InvalidArgument")
    body = request.get_data()
    given = dict(pair.strip().split("=", 1) for pair in request.headers.get("x-goog-hash", "").split(",") if pair)
    actual = base64.b64encode(google_crc32c.Checksum(body).digest()).decode()
    if request.method == "PUT" and given.get("crc32c") != actual:
        return refuse(400, "BadDigest")
    headers = {
        n.lower().replace("x-goog-meta-", "x-amz-meta-").replace("x-goog-storage-class", "x-amz-storage-class"): v
        for n, v in request.headers.items()
        if n.lower() not in ("host", "connection", "authorization", "x-goog-hash", "content-length")
    }
    headers.setdefault("content-type", "application/octet-stream")  # or urllib would call it a form
    status, found, answer = forward(request.method, request.environ["REQUEST_URI"], body, headers)
    kept = {n: v for n, v in found.items() if n.lower() in ("content-type", "etag")}
    if "uploadId" in request.args and request.method == "POST":
        if b"&quot;" in body:
            return refuse(400, "MalformedCompleteMultipartUploadRequest")
        kept["x-goog-generation"] = "1700000000000000"
    return Response(answer, status, kept)


if __name__ == "__main__":
    app.run("127.0.0.1", PORT, threaded=True)
