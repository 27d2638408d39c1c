"""What the scorecard measures: one row of a table per `Scenario`, in the order of the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.server import BUCKET, CLOUD_KEYS, FAR_SIZE, KEYS, SIZES, size_of

RUST = "rust"
MB = 1e6


@dataclass(frozen=True)
class Goal:
    """A figure to reach: ours, divided by that of ``against`` in the same round, or as it is.

    Attributes:
        metric: ``rate`` (operations a second), ``mb_s``, ``cpu_us`` (per operation), ``wall_ms`` (per operation), ``peak_rss_mb``,
            ``added_rss_mb`` (above what the process had before its first request), ``errors``, ``libcurl_loaded``.
        relation: ``>=`` or ``<=``.
        value: what to reach.
        against: a peer; without one the figure itself counts.
        row: another scenario, whose figure of the peer, or of ours without one, is the divisor.
    """

    metric: str
    relation: Literal[">=", "<="]
    value: float
    against: str = ""
    row: str = ""

    def met(self, figure: float) -> bool:
        return figure >= self.value if self.relation == ">=" else figure <= self.value

    def __str__(self) -> str:
        if self.against or self.row:
            other = " of ".join(part for part in (self.row, self.against) if part)
            return f"{self.metric} {self.relation} {self.value:g} x {other}"
        return f"{self.metric} {self.relation} {self.value:g}"


@dataclass(frozen=True)
class Scenario:
    """One row.

    Attributes:
        name: for ``--only`` and the JSON.
        title: for the table.
        op: the method of `workers.harness.Peer`, without the ``a`` of the asynchronous one.
        face: ``async`` or ``sync``; ``import`` for the row without requests.
        key: the object.
        concurrency: requests in flight: tasks, or threads.
        service: whose protocol is spoken.
        server: ``plain``, ``tls``, ``gcs``, ``azure``, ``sink`` (takes uploads), ``delay`` (answers 30 ms late), ``lists`` (lists from
            any key on, 50 ms late) or ``far`` (30 ms late, and 80 MB/s for each connection).
        seconds: how long each measurement runs, after a fifth of it as warm-up.
        count: operations per thread, or bursts, instead of ``seconds``.
        burst: all requests start at once, ``concurrency`` of them, and errors are counted.
        busy: beside a Python thread that computes.
        nofile: soft RLIMIT_NOFILE of the client; 0 leaves it.
        objects: of a bulk transfer, which is one operation.
        limits: programs that show what the machine can do.
        tools: command lines that do the same.
        without: libraries left out, as they would take minutes or say nothing.
        unit: the metric that the plot shows.
    """

    name: str
    title: str
    op: str
    face: Literal["async", "sync", "import"]
    key: str = "k1"
    concurrency: int = 1
    service: Literal["s3", "gcs", "azure"] = "s3"
    server: str = "plain"
    seconds: float = 1.0
    count: int = 0
    burst: bool = False
    busy: bool = False
    nofile: int = 0
    loop: Literal["asyncio", "uvloop"] = "asyncio"
    size: int = 0
    objects: int = 0
    limits: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    goals: tuple[Goal, ...] = ()
    unit: str = "rate"

    def bytes(self) -> int:
        """Of one operation's payload."""
        return (self.size or SIZES.get(self.key, 0)) * (self.objects or 1)

    def job(self) -> dict[str, Any]:
        """What a worker is told, but for what the servers and the machine decide."""
        told = {
            name: value
            for name, value in asdict(self).items()
            if name not in ("goals", "limits", "tools", "without", "title")
        }
        size = self.bytes()
        expect: int | None = size
        if self.op == "get_range":
            expect = size // 2
        elif self.op.startswith(("put", "upload")):
            expect = None
        elif self.op.startswith("list"):
            expect = sum(map(size_of, range(KEYS if self.service == "s3" else CLOUD_KEYS)))
        return {**told, "bucket": BUCKET, "size": size, "start": size // 4, "length": size // 2, "expect": expect}


def _figures(rate: float = 0, cpu: float = 0) -> tuple[Goal, ...]:
    goals = (Goal("rate", ">=", rate, RUST),) if rate else ()
    return (*goals, Goal("cpu_us", "<=", cpu, RUST)) if cpu else goals


MANY = ("s3fs", "boto3", "pyarrow", "opendal")
TOOLS = ("s5cmd", "rclone", "aws")
THREADED = ("boto3", "pyarrow")


def _cloud(service: Literal["gcs", "azure"], name: str) -> tuple[Scenario, ...]:
    """The rows of another service: the other workers speak S3 only."""
    return (
        Scenario(
            f"get_async_64_{service}",
            f"async GET 1 KiB, 64 in flight, {name}",
            "get",
            "async",
            concurrency=64,
            service=service,
            server=service,
            without=MANY,
            goals=_figures(rate=3),
        ),
        Scenario(
            f"put_async_64_{service}",
            f"async PUT 1 KiB, 64 in flight, {name}",
            "put",
            "async",
            concurrency=64,
            service=service,
            server="sink",
            without=MANY,
            goals=_figures(rate=1),
        ),
        Scenario(
            f"list_{service}",
            f"list 20,000 keys, {name}",
            "list_objects",
            "sync",
            key="",
            service=service,
            server=service,
            without=MANY,
            goals=_figures(rate=1),
        ),
    )


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "get_async_1", "async GET 1 KiB, 1 in flight", "get", "async", limits=("libcurl", "wrk"), without=THREADED
    ),
    Scenario(
        "get_async_64",
        "async GET 1 KiB, 64 in flight",
        "get",
        "async",
        concurrency=64,
        limits=("libcurl", "wrk"),
        goals=(*_figures(rate=5, cpu=0.2), Goal("rate", ">=", 50, "s3fs"), Goal("rate", ">=", 0.6, "libcurl")),
    ),
    Scenario(
        "get_async_1000",
        "async GET 1 KiB, 1,000 in flight",
        "get",
        "async",
        concurrency=1000,
        limits=("libcurl", "wrk"),
        without=THREADED,
    ),
    Scenario(
        "get_async_64_uvloop",
        "async GET 1 KiB, 64 in flight, uvloop",
        "get",
        "async",
        concurrency=64,
        loop="uvloop",
        without=("s3fs", *THREADED),
    ),
    Scenario(
        "get_async_64_tls",
        "async GET 1 KiB, 64 in flight, TLS",
        "get",
        "async",
        concurrency=64,
        server="tls",
        limits=("libcurl", "wrk"),
        goals=_figures(rate=3),
    ),
    Scenario(
        "get_async_64_busy",
        "async GET 1 KiB, 64 in flight, beside a busy Python thread",
        "get",
        "async",
        concurrency=64,
        busy=True,
    ),
    Scenario(
        "get_async_64_delay",
        "async GET 1 KiB, 64 in flight, 30 ms away",
        "get",
        "async",
        concurrency=64,
        server="delay",
        limits=("libcurl",),
    ),
    Scenario(
        "get_async_1000_delay",
        "async GET 1 KiB, 1,000 in flight, 30 ms away",
        "get",
        "async",
        concurrency=1000,
        server="delay",
        limits=("libcurl", "wrk"),
        without=THREADED,
    ),
    Scenario(
        "get_range_async_64",
        "async get_range 512 B, 64 in flight",
        "get_range",
        "async",
        concurrency=64,
        goals=_figures(rate=4, cpu=0.25),
    ),
    Scenario("get_sync_1", "sync GET 1 KiB, one thread", "get", "sync", goals=_figures(rate=2)),
    Scenario("get_sync_32", "sync GET 1 KiB, 32 threads", "get", "sync", concurrency=32, goals=_figures(rate=3)),
    Scenario(
        "put_async_64",
        "async PUT 1 KiB, 64 in flight",
        "put",
        "async",
        concurrency=64,
        server="sink",
        goals=_figures(rate=3),
    ),
    Scenario(
        "get_1mib_16",
        "async GET 1 MiB, 16 in flight",
        "get",
        "async",
        key="m1",
        concurrency=16,
        limits=("libcurl",),
        goals=_figures(rate=1.5),
        unit="mb_s",
    ),
    Scenario(
        "get_1mib_16_tls",
        "async GET 1 MiB, 16 in flight, TLS",
        "get",
        "async",
        key="m1",
        concurrency=16,
        server="tls",
        limits=("libcurl",),
        goals=_figures(rate=1),
        unit="mb_s",
    ),
    Scenario(
        "get_8mib_busy",
        "async GET 8 MiB, 4 in flight, beside a busy Python thread",
        "get",
        "async",
        key="m8",
        concurrency=4,
        busy=True,
        unit="mb_s",
    ),
    Scenario(
        "get_1gib_bytes",
        "sync GET 1 GiB into memory",
        "get",
        "sync",
        key="g1",
        count=1,
        goals=(Goal("rate", ">=", 3, RUST), Goal("peak_rss_mb", "<=", 1.05 * SIZES["g1"] / MB + 60)),
        unit="mb_s",
    ),
    Scenario(
        "get_1gib_stream",
        "sync GET 1 GiB, streamed",
        "stream",
        "sync",
        key="g1",
        count=1,
        limits=("curl", "libcurl"),
        goals=(Goal("rate", ">=", 1, RUST), Goal("rate", ">=", 1, "curl")),
        unit="mb_s",
    ),
    Scenario(
        "bulk_download_20000",
        "download 20,000 objects of 4 KiB to files",
        "download_many",
        "sync",
        key="k4",
        objects=20_000,
        count=1,
        tools=("s5cmd", "rclone"),  # aws s3 cp takes minutes
        without=("s3fs", "pyarrow", "opendal"),
        goals=(Goal("rate", ">=", 5, RUST), Goal("rate", ">=", 20, "boto3")),
    ),
    Scenario(
        "bulk_upload_20000",
        "upload 20,000 files of 4 KiB",
        "upload_many",
        "sync",
        key="k4",
        objects=20_000,
        server="sink",
        count=1,
        tools=("s5cmd",),  # the others take minutes
        without=MANY,
    ),
    Scenario(
        "bulk_get_50000",
        "get_many of 50,000 objects of 1 KiB",
        "get_many",
        "sync",
        key="k1",
        objects=50_000,
        count=1,
        limits=("libcurl",),
        without=MANY,
        goals=(*_figures(rate=5, cpu=0.2), Goal("rate", ">=", 0.8, "libcurl")),
    ),
    Scenario(
        "download_1gib_file",
        "download 1 GiB to a file",
        "download_file",
        "sync",
        key="g1",
        count=1,
        limits=("curl",),
        tools=TOOLS,
        without=("s3fs", "pyarrow", "opendal"),
        goals=(Goal("rate", ">=", 1, "curl"), Goal("rate", ">=", 1, RUST)),
        unit="mb_s",
    ),
    Scenario(
        "download_far_file",
        "download 512 MiB to a file, 30 ms away, 80 MB/s for each connection",
        "download_file",
        "sync",
        key="far",
        size=FAR_SIZE,
        server="far",
        count=1,
        limits=("curl",),
        tools=TOOLS,
        without=("s3fs", "pyarrow", "opendal"),
        goals=(Goal("rate", ">=", 8, "curl"),),
        unit="mb_s",
    ),
    Scenario(
        "put_256mib",
        "multipart PUT 256 MiB, 5 MiB parts, 12 at a time",
        "put_large",
        "sync",
        key="large",
        size=256 << 20,
        server="sink",
        count=1,
        unit="mb_s",
    ),
    Scenario("list_dicts", "list 100,000 keys", "list_objects", "sync", key="", goals=_figures(rate=3)),
    Scenario(
        "list_arrow",
        "list 100,000 keys as Arrow",
        "list_arrow",
        "sync",
        key="",
        without=MANY,
        goals=_figures(rate=4),
    ),
    Scenario(
        "list_delay",
        "list 100,000 keys, 50 ms away",
        "list_objects",
        "sync",
        key="",
        server="lists",
        count=1,
        without=MANY,
    ),
    Scenario(
        "list_delay_auto",
        'list 100,000 keys, 50 ms away, concurrency="auto"',
        "list_concurrent",
        "sync",
        key="",
        server="lists",
        without=(RUST, *MANY),
        goals=(Goal("rate", ">=", 8, row="list_delay"), Goal("rate", ">=", 8, RUST, row="list_delay")),
    ),
    *_cloud("gcs", "GCS"),
    *_cloud("azure", "Azure"),
    Scenario(
        "inflight_10000_nofile256",
        "10,000 GETs at once, 30 ms away, RLIMIT_NOFILE 256",
        "get",
        "async",
        concurrency=10_000,
        server="delay",
        count=1,
        burst=True,
        nofile=256,
        without=("s3fs", *THREADED),
        goals=(Goal("errors", "<=", 0),),
    ),
    Scenario(
        "inflight_10000",
        "10,000 GETs at once, 30 ms away, as many files as allowed",
        "get",
        "async",
        concurrency=10_000,
        server="delay",
        count=1,
        burst=True,
        without=("s3fs", *THREADED),
        goals=(Goal("errors", "<=", 0), Goal("peak_rss_mb", "<=", 0.5, RUST), Goal("rate", ">=", 1, RUST)),
    ),
    Scenario(
        "import",
        "import in a fresh interpreter",
        "import",
        "import",
        key="",
        goals=(Goal("wall_ms", "<=", 1, RUST), Goal("libcurl_loaded", "<=", 0)),
        unit="wall_ms",
    ),
    Scenario(
        "import_store",
        "import, and an S3Store made, in a fresh interpreter",
        "import_store",
        "import",
        key="",
        without=MANY,
        unit="wall_ms",
    ),
)
