"""Downloads compared with what real services say of their objects, over a line that changes bits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import obstore as obs
from obstore import bulk
from obstore.store import S3Store
from tests.fix_stores import make_subject
from tests.servers.faultproxy import FaultProxy

MARKER = b"a bit of this is changed on the way"
SMALL = MARKER + os.urandom(3000)
LARGE = os.urandom(10 << 20) + MARKER + os.urandom(11 << 20)

# By which checksum each of them is found out: the CRC-32C of Google, the MD5 of an ETag or of Content-MD5.
KINDS = [
    ("moto_gunicorn", "MD5"),
    ("swift", "MD5"),
    ("rclone", "MD5"),
    ("fake_gcs", "CRC32C"),
    pytest.param("azurite", "MD5", marks=pytest.mark.node),
    pytest.param("ceph", "MD5", marks=pytest.mark.ceph),
]


def behind(kind: str, request: pytest.FixtureRequest, make_proxy: Callable[[str], FaultProxy]) -> tuple[Any, Any, Any]:
    """A store, the same one behind a proxy, and the proxy."""
    if kind == "rclone":
        endpoint = request.getfixturevalue("rclone").endpoint
        config = endpoint.config(endpoint.create_bucket())
        proxy = make_proxy(endpoint.url)
        return S3Store(**config), S3Store(**{**config, "endpoint": proxy.url}), proxy
    subject = make_subject(kind, request)
    proxy = make_proxy(subject.url)
    there = proxy.url + urlsplit(subject.url).path
    return subject.store, subject.sibling(**{"base_url" if kind == "fake_gcs" else "endpoint": there}), proxy


@pytest.mark.parametrize(("kind", "checksum"), KINDS)
def test_flipped_bit_is_found_on_real_services(
    kind: str, checksum: str, request: pytest.FixtureRequest, fault_proxy: Callable[[str], FaultProxy], tmp_path: Path
) -> None:
    direct, store, proxy = behind(kind, request, fault_proxy)
    obs.put(direct, "d/small", SMALL, use_multipart=False)
    obs.put(direct, "d/large", LARGE, use_multipart=False)
    obs.put(direct, "d/plain", b"nothing happens to this one")

    for key, body in (("d/small", SMALL), ("d/large", LARGE)):
        proxy.flip(MARKER, 1)
        result = bulk.download(store, [key], tmp_path / "once", verify=True)
        assert (result.objects, result.failures) == (1, []), "mended by a second reading"
        assert (tmp_path / "once" / key).read_bytes() == body
    assert proxy.flipped == 2

    proxy.flip(MARKER, 10**6)
    result = bulk.download(store, "d", tmp_path / "always")
    assert sorted((f.path, type(f.error)) for f in result.failures) == [
        ("d/large", obs.IntegrityError),
        ("d/small", obs.IntegrityError),
    ]
    assert all(checksum in str(failure.error) for failure in result.failures)
    assert {path.name for path in (tmp_path / "always").iterdir()} == {"plain"}
    read = dict(bulk.get_many(store, ["d/small", "d/plain"], errors="return"))
    assert isinstance(read["d/small"], obs.IntegrityError)
    assert read["d/plain"] == b"nothing happens to this one"
    unverified = bulk.download(store, "d/small", tmp_path / "unverified", verify=False)
    assert unverified.ok
    assert (tmp_path / "unverified/small").read_bytes() not in (SMALL, b"")
    proxy.flip(MARKER, 0)
    assert bulk.download(store, "d", tmp_path / "always").ok
