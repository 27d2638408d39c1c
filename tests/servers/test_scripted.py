"""The servers do what they claim: otherwise the tests built on them prove nothing. Judged by sockets and boto3."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from email.message import Message
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from tests.servers.fakes3 import BUCKET, FakeS3, cut, faulty, flip_bit, gets, status
from tests.servers.faultproxy import ConnectionFault, FaultProxy
from tests.servers.scripted import Reply, ScriptedServer
from tests.servers.tls import Authority


def ask(server: ScriptedServer, method: str = "GET", target: str = "/", **kwargs) -> tuple[int, Message, bytes]:
    """One exchange: status, headers, body."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        connection.request(method, target, **kwargs)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def raw(server: ScriptedServer, request: bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") -> tuple[bytes, OSError | None]:
    """Send bytes, read to the end; the second value is how the connection ended, None for FIN."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(request)
        got = b""
        try:
            while piece := sock.recv(65536):
                got += piece
        except OSError as error:
            return got, error
        return got, None


def test_reply_is_sent_as_written_and_request_recorded():
    with ScriptedServer() as server:
        server.push_response(201, {"x-one": "1"}, b"hello")
        status_, headers, body = ask(server, "PUT", "/a%20b?x=1&y", body=b"body", headers={"X-Two": "2"})
        assert (status_, body, headers["x-one"]) == (201, b"hello", "1")
        (request,) = server.requests
        assert (request.method, request.path, request.query) == ("PUT", "/a%20b", {"x": "1", "y": ""})
        assert (request.body, request.headers["x-two"], request.connection) == (b"body", "2", 0)


def test_body_cut_is_exact_by_fin_and_by_reset():
    with ScriptedServer() as server:
        server.push(Reply(body=b"x" * 300_000, cut_after=123_457), Reply(body=b"x" * 1000, cut_after=10, reset=True))
        got, error = raw(server)
        assert got.partition(b"\r\n\r\n")[2] == b"x" * 123_457
        assert error is None
        got, error = raw(server)
        assert got.partition(b"\r\n\r\n")[2] == b"x" * 10
        assert isinstance(error, ConnectionResetError)


def test_drop_ends_the_connection_without_a_byte():
    with ScriptedServer() as server:
        server.push(Reply(drop=True), Reply(drop=True, reset=True))
        assert raw(server) == (b"", None)
        got, error = raw(server)
        assert got == b""
        assert isinstance(error, ConnectionResetError)


def test_stall_and_rate_take_their_time():
    with ScriptedServer() as server:
        server.push(Reply(body=b"x" * 10, stall_after=5, stall=0.3), Reply(body=b"x" * 100, rate=400))
        for least in (0.3, 0.2):
            before = time.monotonic()
            assert len(ask(server)[2]) in (10, 100)
            assert time.monotonic() - before >= least


def test_connection_closes_when_reused():
    with ScriptedServer() as server:
        server.push(Reply(body=b"1", close_on_reuse=True))
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"1"
        connection.request("GET", "/")
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            connection.getresponse()
        connection.close()
        assert len(server.requests) == 1


def test_malformed_answers_are_sent_verbatim():
    with ScriptedServer() as server:
        server.push(
            Reply(raw=b"BOGUS\r\n\r\n", close=True),
            Reply(body=b"abc", content_length=10, cut_after=3),
            Reply(body=b"abc", chunked=True, close=True),
            Reply(interim=[(103, {"link": "x"})], body=b"abc", close=True),
        )
        assert raw(server)[0] == b"BOGUS\r\n\r\n"
        assert raw(server)[0] == b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"
        assert raw(server)[0].endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        assert raw(server)[0].startswith(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK")


def test_hang_ends_with_the_server_and_counts_in_flight():
    with ScriptedServer() as server:
        server.push(Reply(hang=True), Reply(hang=True))
        socks = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        for sock in socks:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        server.wait_for(lambda: server.peak_in_flight == 2)
        socks[0].close()
        server.wait_for(lambda: server.in_flight == 1)
    socks[1].close()
    assert server.open_now == 0


def test_early_answer_leaves_the_body_unread():
    with ScriptedServer() as server:
        server.on_head = lambda request: Reply(403, body=b"no")
        answer, _ = raw(server, b"PUT / HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403")
        assert server.requests[0].body == b""


def test_handler_error_fails_the_test():
    def broken(request: object) -> Reply:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), ScriptedServer(broken) as server:
        assert ask(server)[0] == 500


def test_tls_is_verified_against_the_authority(tmp_path: Path):
    authority = Authority(tmp_path)
    for expired in (False, True):
        with ScriptedServer(lambda r: Reply(body=b"ok"), tls=authority.context(expired=expired)) as server:
            context = ssl.create_default_context(cafile=str(authority.file))
            connection = http.client.HTTPSConnection("localhost", server.port, context=context)
            if expired:
                with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
                    connection.request("GET", "/")
            else:
                connection.request("GET", "/")
                assert connection.getresponse().read() == b"ok"
            connection.close()


@pytest.fixture
def fake():
    with FakeS3() as server:
        client = boto3.client(
            "s3",
            endpoint_url=server.url,
            aws_access_key_id="x",
            aws_secret_access_key="x",
            region_name="us-east-1",
            config=Config(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                request_checksum_calculation="when_required",
            ),
        )
        yield server, client
        client.close()


def test_fake_s3_serves_boto3(fake):
    _, client = fake
    client.put_object(Bucket=BUCKET, Key="a/b c", Body=b"0123456789", ContentType="text/x", Metadata={"k": "v"})
    answer = client.get_object(Bucket=BUCKET, Key="a/b c", Range="bytes=2-4")
    assert (answer["Body"].read(), answer["ContentRange"]) == (b"234", "bytes 2-4/10")
    assert (answer["ContentType"], answer["Metadata"]) == ("text/x", {"k": "v"})
    client.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "a/b c"})
    assert [o["Key"] for o in client.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["a/b c", "copy"]
    listed = client.list_objects_v2(Bucket=BUCKET, Delimiter="/")
    assert [p["Prefix"] for p in listed["CommonPrefixes"]] == ["a/"]
    with pytest.raises(client.exceptions.ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=BUCKET, Key="copy", Body=b"", IfNoneMatch="*")
    client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "copy"}]})
    with pytest.raises(client.exceptions.NoSuchKey):
        client.get_object(Bucket=BUCKET, Key="copy")


def test_fake_s3_pages_and_assembles(fake):
    server, client = fake
    server.page = 2
    for name in "abcde":
        server.add(name, b"")
    pages = list(client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET))
    assert [[o["Key"] for o in page["Contents"]] for page in pages] == [["a", "b"], ["c", "d"], ["e"]]
    upload = client.create_multipart_upload(Bucket=BUCKET, Key="big")["UploadId"]
    kwargs = {"Bucket": BUCKET, "Key": "big", "UploadId": upload}
    parts = [
        {"PartNumber": n, "ETag": client.upload_part(**kwargs, PartNumber=n, Body=body)["ETag"]}
        for n, body in ((1, b"one"), (2, b"two"))
    ]
    client.complete_multipart_upload(**kwargs, MultipartUpload={"Parts": parts})
    assert server.objects["big"].body == b"onetwo"
    assert not server.uploads


def test_fake_s3_faults_strike_as_ordered(fake):
    server, client = fake
    server.add("k", b"0123456789")
    server.inject(status(503, retry_after=7), when=gets, after=1)
    server.inject(flip_bit(0), when=gets)
    assert client.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"1123456789"  # '0' ^ 1 == '1'
    with pytest.raises(client.exceptions.ClientError, match="SlowDown") as caught:
        client.get_object(Bucket=BUCKET, Key="k")
    assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "7"
    server.inject(status(500))
    with pytest.raises(client.exceptions.ClientError, match="InternalError"):
        client.put_object(Bucket=BUCKET, Key="new", Body=b"x")
    assert "new" not in server.objects
    server.inject(cut(after=4), when=gets)
    with pytest.raises(Exception, match=r"IncompleteRead|broken|ncomplete"):
        client.get_object(Bucket=BUCKET, Key="k")["Body"].read()
    server.inject(faulty(status=200, headers={}), when=gets)
    assert client.get_object(Bucket=BUCKET, Key="k", Range="bytes=0-0")["Body"].read() == b"0"


def test_fake_s3_forgets_a_request_whose_client_is_gone():
    with FakeS3() as fake:
        request = b"PUT /bucket/key HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nfirst"
        busy = fake._state
        with busy, socket.create_connection(("127.0.0.1", fake.port), timeout=10) as sock:
            sock.sendall(request)
            fake.wait_for(lambda: fake.requests and fake.requests[0].body)
            sock.close()
        fake.wait_for(lambda: fake.given_up)
        assert (fake.objects, fake.taken) == ({}, [])
        assert ask(fake, "PUT", "/bucket/key", body=b"second")[0] == 200
        assert (fake.objects["key"].body, len(fake.given_up)) == (b"second", 1)


def test_fake_s3_limits_the_rate(fake):
    server, client = fake
    server.add("k", b"")
    server.rate_limit(20)
    before, ok = time.monotonic(), 0
    while time.monotonic() - before < 0.5:
        try:
            client.get_object(Bucket=BUCKET, Key="k")
            ok += 1
        except client.exceptions.ClientError:
            time.sleep(0.005)
    assert 3 <= ok <= 20 * (time.monotonic() - before) + 3


@pytest.mark.parametrize("reset", [False, True])
def test_fault_proxy_cuts_where_told(reset: bool):
    with ScriptedServer(lambda r: Reply(body=b"x" * 500_000)) as server, FaultProxy(server.url) as proxy:
        port = int(proxy.url.rpartition(":")[2])
        proxy.push(ConnectionFault(cut_down=100_000, reset=reset), ConnectionFault(refuse=True))
        results = []
        for _ in range(3):
            got, error = b"", None
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
                    sock.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
                    while piece := sock.recv(65536):
                        got += piece
            except OSError as caught:
                error = caught
            results.append((len(got), type(error)))
        assert results[0] == (100_000, ConnectionResetError if reset else type(None))
        assert results[1] == (0, ConnectionResetError)
        assert results[2][0] > 500_000
        assert (proxy.opened, proxy.spoiled) == (3, 2)
