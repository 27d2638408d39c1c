"""The servers that the scorecard measures against, on the loopback, on cores of their own.

nginx serves objects (plain and over TLS) and pages of listings from memory; ``c/sink.c`` takes uploads, and answers late
where a distant server is wanted. Both cost the machine far less for a request than any client does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

HERE = Path(__file__).resolve().parent
BUCKET = "bench"
KEYS = 100_000
PAGE_KEYS = 1000
DELAY_MS = 30
LIST_DELAY_MS = 50
# Listings of the other services are shorter: a row more should cost seconds.
CLOUD_KEYS = 20_000
AZURE_PAGE_KEYS = 5000
SIZES = {"k1": 1 << 10, "k4": 4 << 10, "m1": 1 << 20, "m8": 8 << 20, "g1": 1 << 30}
# Small objects of one kind, below many/, as the bulk transfers of command lines list them.
MANY_KEYS = 20_000
# What the distant server has, and how much of it a connection brings a second.
FAR_SIZE = 512 << 20
FAR_RATE = 80_000_000


class MissingToolError(Exception):
    """A program that the benchmarks need is not installed; the text says how to get it."""


@dataclass(frozen=True)
class Servers:
    """Where things are: `endpoints` by name (see `serve`), `sizes` and `sha256` by object, the CA file."""

    endpoints: dict[str, str]
    sizes: dict[str, int]
    sha256: dict[str, str]
    ca_file: str
    pids: tuple[int, ...]


def cores() -> tuple[set[int], set[int]]:
    """Cores for the servers (one) and for the clients (the others); the same one where there is only one."""
    every = sorted(os.sched_getaffinity(0))
    return {every[0]}, set(every[1:]) or {every[0]}


def need(program: str, package: str) -> str:
    """The path of a program.

    Raises:
        MissingToolError: it is not installed.
    """
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise MissingToolError(f"{program} is needed; on Debian and Ubuntu: apt-get install {package}")
    return path


def compile_c(name: str, into: Path) -> Path:
    """Builds ``c/<name>.c``, if the binary is older than it."""
    source, binary = HERE / "c" / f"{name}.c", into / name
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        into.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC") or need("cc", "gcc libc6-dev")
        subprocess.run([compiler, "-O2", "-g", "-o", str(binary), str(source), "-ldl", "-pthread"], check=True)
    return binary


@contextlib.contextmanager
def serve(cache: Path) -> Iterator[Servers]:
    """Runs the servers while the context lasts; what they serve is in memory and goes with them.

    Objects and listings: ``plain`` and ``tls`` (as S3 has them), ``gcs`` (both of its APIs) and ``azure``. Uploads of all
    three: ``sink``; answers 30 ms late: ``delay``; that, and little bandwidth for each connection: ``far``; lists that begin at any
    key, 50 ms late: ``lists``.

    Raises:
        MissingToolError: nginx, openssl or a C compiler is missing.
        RuntimeError: a server did not come up.
    """
    nginx, openssl = need("nginx", "nginx-light"), need("openssl", "openssl")
    sink, far = compile_c("sink", cache / "bin"), compile_c("far", cache / "bin")
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="obstore-bench-", dir=shm) as root, contextlib.ExitStack() as running:
        top = Path(root)
        top.chmod(0o755)
        sha256 = _write_objects(top / "www" / BUCKET)
        for service, pages in (
            ("s3", _s3_pages()),
            ("gcs", _gcs_pages()),
            ("azure", _azure_pages()),
            ("many", _many_pages()),
        ):
            _write_pages(top / "pages" / service, pages)
        ca_file = _write_certificate(openssl, top)
        plain, tls, gcs, azure, up, late, lists, distant = ports = _free_ports(8)
        (top / "nginx.conf").write_text(_nginx_conf(top, plain, tls, gcs, azure))
        commands: list[list[str]] = [
            [nginx, "-p", root, "-e", str(top / "error.log"), "-c", str(top / "nginx.conf")],
            [str(sink), str(up), "0"],
            [str(sink), str(late), str(DELAY_MS)],
            [str(sink), str(lists), str(LIST_DELAY_MS), str(KEYS)],
            [str(far), str(distant), str(DELAY_MS), str(FAR_RATE), str(FAR_SIZE)],
        ]
        pids = [running.enter_context(_running(command, top / "server.log")) for command in commands]
        for port in ports:
            _wait(port, top)
        yield Servers(
            endpoints={
                "plain": f"http://127.0.0.1:{plain}",
                "tls": f"https://127.0.0.1:{tls}",
                "gcs": f"http://127.0.0.1:{gcs}",
                "azure": f"http://127.0.0.1:{azure}",
                "sink": f"http://127.0.0.1:{up}",
                "delay": f"http://127.0.0.1:{late}",
                "lists": f"http://127.0.0.1:{lists}",
                "far": f"http://127.0.0.1:{distant}",
            },
            sizes=dict(SIZES),
            sha256=sha256,
            ca_file=str(ca_file),
            pids=tuple(pids),
        )


@contextlib.contextmanager
def _running(command: list[str], log: Path) -> Iterator[int]:
    core, _ = cores()

    def in_child() -> None:
        os.sched_setaffinity(0, core)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, preexec_fn=in_child)  # noqa: PLW1509 - no threads here
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(port: int, top: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    logs = "".join(p.read_text(errors="replace") for p in (top / "server.log", top / "error.log") if p.exists())
    raise RuntimeError(f"no server on port {port}\n{logs}")


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _write_objects(where: Path) -> dict[str, str]:
    """Objects of random bytes; the large one repeats a random MiB, so that it is real memory and quickly made."""
    where.mkdir(parents=True)
    block = random.Random(1).randbytes(1 << 20)
    digests: dict[str, str] = {}
    for name, size in SIZES.items():
        pieces = [block[: min(len(block), size - at)] for at in range(0, size, len(block))]
        with (where / name).open("wb") as file:
            file.writelines(pieces)
        if size <= 8 << 20:  # clients keep one body for the comparison: not the large one
            digests[name] = hashlib.sha256(b"".join(pieces)).hexdigest()
    return digests


def _write_pages(where: Path, pages: Iterable[tuple[str, str]]) -> None:
    where.mkdir(parents=True)
    for name, text in pages:
        (where / name).write_text(text)


def _numbers(keys: int, page_keys: int) -> Iterator[tuple[str, str, range]]:
    """Of each page its token, the next one's (empty: it is the last), and the numbers of its keys."""
    pages = keys // page_keys
    for page in range(pages):
        after = f"p{page + 1:04d}" if page + 1 < pages else ""
        yield f"p{page:04d}", after, range(page * page_keys, (page + 1) * page_keys)


def key_of(number: int) -> str:
    """A key of the listings."""
    return f"data/year=2026/part-{number:08d}.parquet"


def size_of(number: int) -> int:
    """The size that listings give it."""
    return number * 37 + 1


def _s3_pages() -> Iterator[tuple[str, str]]:
    """The answers to ListObjectsV2, one file per page, named after the continuation token that asks for it."""
    return _s3_listing(KEYS, "", key_of, size_of)


def _many_pages() -> Iterator[tuple[str, str]]:
    """The same of the small objects of 4 KiB, which are all one and the same."""
    return _s3_listing(MANY_KEYS, "many/k4/", lambda number: f"many/k4/{number:06}", lambda _number: SIZES["k4"])


def _s3_listing(
    keys: int, prefix: str, key_of: Callable[[int], str], size_of: Callable[[int], int]
) -> Iterator[tuple[str, str]]:
    for page, after, numbers in _numbers(keys, PAGE_KEYS):
        contents = "".join(
            f"<Contents><Key>{escape(key_of(number))}</Key>"
            f"<LastModified>2026-01-01T00:00:{number % 60:02d}.000Z</LastModified>"
            f"<ETag>&quot;{number:032x}&quot;</ETag><Size>{size_of(number)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for number in numbers
        )
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><Prefix>{prefix}</Prefix>{_token('NextContinuationToken', after)}<KeyCount>{PAGE_KEYS}</KeyCount>"
            f"<MaxKeys>{PAGE_KEYS}</MaxKeys><IsTruncated>{str(bool(after)).lower()}</IsTruncated>{contents}</ListBucketResult>"
        )
        yield f"{page}.xml", text


def _gcs_pages() -> Iterator[tuple[str, str]]:
    """Each page of a bucket of Google's in its JSON API, with the fields that are asked for, and in its XML API, with all."""
    for page, after, numbers in _numbers(CLOUD_KEYS, PAGE_KEYS):
        generation = 1_767_225_600_000_000
        items = [
            {
                "name": key_of(number),
                "generation": str(generation + number),
                "size": str(size_of(number)),
                "updated": f"2026-01-01T00:00:{number % 60:02d}.123Z",
                "etag": f"{number:014d}EAE=",
            }
            for number in numbers
        ]
        document = {"nextPageToken": after, "items": items} if after else {"items": items}
        yield f"{page}.json", json.dumps(document, indent=2)
        contents = "".join(
            f"<Contents><Key>{escape(key_of(number))}</Key><Generation>{generation + number}</Generation>"
            f"<MetaGeneration>1</MetaGeneration><LastModified>2026-01-01T00:00:{number % 60:02d}.123Z</LastModified>"
            f"<ETag>&quot;{number:032x}&quot;</ETag><Size>{size_of(number)}</Size></Contents>"
            for number in numbers
        )
        text = (
            "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>"
            f"<Name>{BUCKET}</Name><Prefix></Prefix>{_token('NextContinuationToken', after)}<KeyCount>{PAGE_KEYS}</KeyCount>"
            f"<IsTruncated>{str(bool(after)).lower()}</IsTruncated>{contents}</ListBucketResult>"
        )
        yield f"{page}.xml", text


def _azure_pages() -> Iterator[tuple[str, str]]:
    """The answers to List Blobs, with the properties that the service gives of a block blob."""
    for page, after, numbers in _numbers(CLOUD_KEYS, AZURE_PAGE_KEYS):
        blobs = "".join(
            f"<Blob><Name>{escape(key_of(number))}</Name><Properties>"
            "<Creation-Time>Thu, 01 Jan 2026 00:00:00 GMT</Creation-Time>"
            f"<Last-Modified>Thu, 01 Jan 2026 00:00:{number % 60:02d} GMT</Last-Modified>"
            f"<Etag>0x8DE48D{number:09X}</Etag><Content-Length>{size_of(number)}</Content-Length>"
            "<Content-Type>application/octet-stream</Content-Type><Content-Encoding /><Content-Language />"
            "<Content-CRC64 /><Content-MD5>sQqNsWTgdUEFt6mb5y4/5Q==</Content-MD5><Cache-Control /><Content-Disposition />"
            "<BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier><AccessTierInferred>true</AccessTierInferred>"
            "<LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState><ServerEncrypted>true</ServerEncrypted>"
            "</Properties><OrMetadata /></Blob>"
            for number in numbers
        )
        text = (
            '<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://benchmark.blob.core.windows.net/" '
            f'ContainerName="{BUCKET}"><Blobs>{blobs}</Blobs>{_token("NextMarker", after) or "<NextMarker />"}</EnumerationResults>'
        )
        yield f"{page}.xml", text


def _token(tag: str, token: str) -> str:
    return f"<{tag}>{token}</{tag}>" if token else ""


def _write_certificate(openssl: str, top: Path) -> Path:
    """A CA of one day and a certificate of it for 127.0.0.1, both P-256. (rustls takes no CA for a server.)"""

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], check=True, capture_output=True, cwd=top)

    def key_of(name: str) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]

    (top / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")
    run("req", *key_of("ca"), "-x509", "-days", "1", "-subj", "/CN=scorecard CA", "-out", "ca.pem")
    run("req", *key_of("server"), "-subj", "/CN=127.0.0.1", "-out", "server.csr")
    signer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
    run("x509", "-req", "-in", "server.csr", *signer, "-days", "1", "-extfile", "san", "-out", "server.pem")
    return top / "ca.pem"


def _nginx_conf(top: Path, plain: int, tls: int, gcs: int, azure: int) -> str:
    temp = "".join(
        f"  {kind}_temp_path {top}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    return rf"""
{user} daemon off; master_process off; pid {top}/nginx.pid;
events {{ worker_connections 16384; multi_accept on; }}
http {{
{temp}
  access_log off; server_tokens off; etag on; default_type application/octet-stream;
  sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000; keepalive_timeout 300s;
  open_file_cache max=1000 inactive=300s; open_file_cache_valid 300s;
  map $args $page {{ default p0000; "~(?:^|&)(?:continuation-token|pageToken|marker)=(?<token>p\d+)" $token; }}
  map $args $folder {{ default s3; "~(?:^|&)prefix=many(?:/|%2F)k4" many; }}
  server {{
    listen 127.0.0.1:{plain} backlog=4096;
    listen 127.0.0.1:{tls} ssl backlog=4096;
    ssl_certificate {top}/server.pem; ssl_certificate_key {top}/server.key; ssl_session_cache shared:tls:10m;
    root {top}/www;
    location ~ ^/{BUCKET}/?$ {{ types {{ }} default_type application/xml; root {top}/pages/$folder; try_files /$page.xml =404; }}
    # Any number of small objects, all of the same bytes: many/k4/00001 ...
    location ~ ^/{BUCKET}/many/(?<one>k\d)/ {{ rewrite ^ /{BUCKET}/$one break; }}
    location / {{ }}
  }}
  # Google's two APIs: a bucket is under its name in one and under /storage/v1/b in the other.
  server {{
    listen 127.0.0.1:{gcs} backlog=4096;
    root {top}/www;
    add_header x-goog-generation 1767225600000000; add_header x-goog-metageneration 1; add_header x-goog-storage-class STANDARD;
    add_header x-goog-stored-content-encoding identity; add_header x-guploader-uploadid $request_id;
    location ~ ^/{BUCKET}/?$ {{ types {{ }} default_type application/xml; root {top}/pages/gcs; try_files /$page.xml =404; }}
    location = /storage/v1/b/{BUCKET}/o {{ default_type application/json; root {top}/pages/gcs; try_files /$page.json =404; }}
    location ~ ^/storage/v1/b/{BUCKET}/o/(?<name>\w+)$ {{ rewrite ^ /{BUCKET}/$name break; }}
    location / {{ }}
  }}
  server {{
    listen 127.0.0.1:{azure} backlog=4096;
    root {top}/www;
    add_header x-ms-request-id $request_id; add_header x-ms-version 2023-11-03; add_header x-ms-blob-type BlockBlob;
    add_header x-ms-creation-time "Thu, 01 Jan 2026 00:00:00 GMT"; add_header x-ms-lease-status unlocked;
    add_header x-ms-lease-state available; add_header x-ms-server-encrypted true;
    location ~ ^/{BUCKET}/?$ {{ types {{ }} default_type application/xml; root {top}/pages/azure; try_files /$page.xml =404; }}
    location / {{ }}
  }}
}}
"""


def describe(servers: Servers) -> dict[str, Any]:
    """What served, for the record."""
    version = subprocess.run([need("nginx", "nginx-light"), "-v"], capture_output=True, text=True, check=True).stderr
    return {
        "nginx": version.strip().rpartition("/")[2],
        "core": sorted(cores()[0]),
        "endpoints": sorted(servers.endpoints),
    }
