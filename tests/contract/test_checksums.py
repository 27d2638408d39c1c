"""Checksums of objects: LocalStack stores, verifies and returns them; the others must not be troubled by them."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import zlib
from collections.abc import Callable

import pytest

import obstore as obs
from obstore._engine._core import crc32c, crc64nvme
from obstore.exceptions import IntegrityError
from obstore.store import S3Store
from tests.fix_stores import Face, Subject, make_subject
from tests.servers.fakes3 import FakeS3, gets, status
from tests.servers.scripted import Reply, Request

DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "SHA256": lambda body: hashlib.sha256(body).digest(),
    "CRC32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "CRC32C": lambda body: crc32c(body).to_bytes(4, "big"),
    "CRC64NVME": lambda body: crc64nvme(body).to_bytes(8, "big"),
}
MIB = 1 << 20


@pytest.fixture(params=[pytest.param("localstack", marks=pytest.mark.localstack)])
def keeping(request: pytest.FixtureRequest) -> Subject:
    """Every server that keeps checksums."""
    return make_subject(request.param, request)


def value_of(algorithm: str, body: bytes) -> str:
    return base64.b64encode(DIGESTS[algorithm](body)).decode()


@pytest.mark.parametrize("algorithm", DIGESTS)
def test_upload_carries_the_checksum(keeping: Subject, algorithm: str) -> None:
    store = keeping.sibling(checksum_algorithm=algorithm)
    obs.put(store, "k", b"content")
    found = keeping.judge.get_object_attributes(Bucket=keeping.bucket, Key="k", ObjectAttributes=["Checksum"])
    assert found["Checksum"][f"Checksum{algorithm}"] == value_of(algorithm, b"content")


@pytest.mark.parametrize("algorithm", DIGESTS)
def test_upload_in_parts_carries_checksums(keeping: Subject, algorithm: str) -> None:
    body = bytes(range(256)) * (24 * 1024)  # 6 MiB
    store = keeping.sibling(checksum_algorithm=algorithm)
    obs.put(store, "k", iter([body[: 5 * MIB], body[5 * MIB :]]), chunk_size=5 * MIB)
    found = keeping.judge.head_object(Bucket=keeping.bucket, Key="k", ChecksumMode="ENABLED")
    if algorithm != "SHA256":  # of which there is only one of parts
        assert found["ChecksumType"] == "FULL_OBJECT"
        assert found[f"Checksum{algorithm}"] == value_of(algorithm, body)
    assert bytes(obs.get(store, "k").bytes()) == body


def test_download_is_compared(keeping: Subject, face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    from obstore._dialect.checksums import Checksum

    verify = Checksum.verify
    monkeypatch.setattr(
        Checksum, "verify", lambda self, *names: (compared.append(self.algorithm), verify(self, *names))
    )
    bodies = {"empty": b"", "small": b"small", "large": bytes(3 * MIB)}
    for key, body in bodies.items():
        keeping.judge_put(key, body, ChecksumAlgorithm="CRC32")
    for key, body in bodies.items():
        assert face.body(face.get(keeping.store, key)) == body
        assert b"".join(face.chunks(face.get(keeping.store, key), 64 * 1024)) == body
    assert set(compared) == {"CRC32"}
    assert len(compared) >= 4
    assert len(face.get_range(keeping.store, "large", start=0, length=10)) == 10


# ---- a byte that changes on the way --------------------------------------------------------------------------------


def with_checksum(
    algorithm: str, kind: str = "FULL_OBJECT", *, flip: int | None = None, cut: int | None = None
) -> Callable[[Request, Callable[[], Reply]], Reply]:
    """A fault: a checksum with the object, one bit changed after it was made, the connection ended after some bytes."""

    def apply(request: Request, proceed: Callable[[], Reply]) -> Reply:
        reply = proceed()
        if "range" in request.headers:
            return reply
        assert request.headers["x-amz-checksum-mode"] == "ENABLED"
        more = [(f"x-amz-checksum-{algorithm.lower()}", value_of(algorithm, reply.body)), ("x-amz-checksum-type", kind)]
        body = bytearray(reply.body)
        if flip is not None:
            body[flip] ^= 1
        return dataclasses.replace(
            reply, headers=[*dict(reply.headers).items(), *more], body=bytes(body), cut_after=cut
        )

    return apply


def asked(server: FakeS3) -> list[str | None]:
    return [request.headers.get("x-amz-checksum-mode") for request in server.requests if request.method == "GET"]


@pytest.mark.parametrize("size", [1000, 200_000, 3 * MIB])
@pytest.mark.parametrize("algorithm", DIGESTS)
def test_changed_byte_is_noticed(fake_s3: FakeS3, algorithm: str, size: int) -> None:
    fake_s3.add("k", bytes(size))
    store = S3Store(**fake_s3.config())
    fake_s3.inject(with_checksum(algorithm), times=2, when=gets)
    assert len(obs.get(store, "k").bytes()) == size
    assert len(b"".join(obs.get(store, "k").stream(min_chunk_size=1000))) == size

    fake_s3.inject(with_checksum(algorithm, flip=size // 2), times=2, when=gets)
    with pytest.raises(IntegrityError, match=f"what arrived of k does not match its {algorithm} checksum") as caught:
        obs.get(store, "k").bytes()
    assert caught.value.retryable
    pieces: list[bytes] = []
    with pytest.raises(IntegrityError):
        pieces.extend(obs.get(store, "k").stream(min_chunk_size=1000))
    assert sum(map(len, pieces)) < size, "the last piece is not handed out"


def test_body_that_resumed_is_compared_as_a_whole(fake_s3: FakeS3) -> None:
    fake_s3.add("k", bytes(range(256)) * 4096)
    store = S3Store(**fake_s3.config())
    fake_s3.inject(with_checksum("CRC64NVME", cut=300_000), when=gets)
    assert len(obs.get(store, "k").bytes()) == MIB
    fake_s3.inject(with_checksum("CRC64NVME", cut=300_000, flip=100), when=gets)
    with pytest.raises(IntegrityError):
        obs.get(store, "k").bytes()
    fake_s3.inject(with_checksum("CRC64NVME", cut=300_000), when=gets)
    assert sum(map(len, obs.get(store, "k"))) == MIB


def test_checksum_of_parts_is_none_of_the_whole(fake_s3: FakeS3) -> None:
    fake_s3.add("k", b"content")
    fake_s3.inject(with_checksum("CRC32C", "COMPOSITE", flip=1), when=gets)
    assert bytes(obs.get(S3Store(**fake_s3.config()), "k").bytes()) == b"cnntent"


def test_comparing_can_be_switched_off(fake_s3: FakeS3) -> None:
    fake_s3.add("k", b"content")
    store = S3Store(**fake_s3.config(response_checksum_validation="when_required"))
    assert bytes(obs.get(store, "k").bytes()) == b"content"
    assert asked(fake_s3) == [None]
    with pytest.raises(obs.GenericError, match='"never" is not when_supported or when_required'):
        S3Store("b", response_checksum_validation="never")


def test_server_that_does_not_know_the_header_is_not_asked_again(fake_s3: FakeS3) -> None:
    fake_s3.add("k", b"content")
    store = S3Store(**fake_s3.config())
    fake_s3.inject(status(501, error="NotImplemented"), when=gets)
    assert bytes(obs.get(store, "k").bytes()) == b"content"
    assert bytes(obs.get(store, "k").bytes()) == b"content"
    assert asked(fake_s3) == ["ENABLED", None, None]
