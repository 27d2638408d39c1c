"""The pure parts of bulk transfers: patterns, ranges, limits, names, the journal, progress, signatures."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obstore._auth.sigv4 import Signer, payload_hash
from obstore._auth.sigv4_form import signing_form
from obstore._bulk.dest import Destination, _record
from obstore._bulk.match import compile_glob, literal_prefix, make_filter
from obstore._bulk.options import make_options, parse_size
from obstore._bulk.plan import Gaps, Pace
from obstore._bulk.progress import Progress, make_meter
from obstore._bulk.result import BulkResult, Failure, human_bytes
from obstore._bulk.tree import walk
from obstore._engine._core import crc32, digest_combine, digest_name, digest_update


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a/*.txt", ["a/b.txt", "a/.txt"], ["a/b/c.txt", "b.txt", "a/b.txt2"]),
        ("a/**/*.txt", ["a/b.txt", "a/b/c.txt", "a/b/c/d.txt"], ["b/c.txt"]),
        ("a/**", ["a/b", "a/b/c"], ["ab"]),
        ("k?", ["k1"], ["k", "k12", "k/"]),
        ("k[0-2]", ["k0", "k2"], ["k3", "k"]),
        ("k[!0-2]", ["k3", "kx"], ["k1", "k/"]),
        ("a+b(c)", ["a+b(c)"], ["aab(c)"]),
        ("x[", ["x["], ["x"]),
    ],
)
def test_pattern_matches(pattern: str, matching: list[str], others: list[str]) -> None:
    compiled = compile_glob(pattern)
    assert [key for key in [*matching, *others] if compiled.fullmatch(key)] == matching


def test_pattern_lists_from_its_literal_part_on() -> None:
    assert literal_prefix("data/2024*/x") == "data/2024"


def test_filters_cross_directories() -> None:
    is_wanted = make_filter(["*.py", "docs/*"], "*/test_*")
    assert is_wanted is not None
    names = ["a.py", "b/c.py", "b/test_c.py", "docs/x/y.md", "z.md"]
    assert [name for name in names if is_wanted(name)] == ["a.py", "b/c.py", "docs/x/y.md"]
    assert make_filter(None, ()) is None


@given(
    size=st.integers(0, 1000),
    present=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(lambda p: (min(p), max(p)))),
    step=st.integers(1, 300),
)
def test_gaps_are_exactly_what_is_missing(size: int, present: list[tuple[int, int]], step: int) -> None:
    present = [(min(a, size), min(b, size)) for a, b in present]
    missing = set(range(size)) - {byte for a, b in present for byte in range(a, b)}
    gaps = Gaps(size, present)
    assert gaps.left == len(missing)
    taken: list[int] = []
    while (span := gaps.take(step)) is not None:
        assert 0 < span[1] - span[0] <= step
        taken += range(*span)
    assert taken == sorted(missing)


def timing(delay: float, seconds: float) -> Any:
    return SimpleNamespace(queue=0.0, first_byte=delay, total=delay + seconds)


def test_ranges_grow_with_what_the_delay_costs() -> None:
    pace = Pace(8 << 20, lambda: 16)
    assert pace.piece(1 << 30) == 8 << 20
    pace.learn(timing(0.1, 0.1), 10 << 20)  # 100 MiB/s, 100 ms away: the delay is worth 10 MiB
    assert pace.piece(10 << 30) == 64 << 20  # eight times that, but for the bound
    assert pace.piece(64 << 20) == 4 << 20  # all streams get work at the end
    assert pace.piece(1 << 10) == 1 << 20


def streams_after(rounds: int, each: float, together: float, limit: int = 64) -> list[int]:
    """Streams of each round, where a connection gets ``each`` bytes a second and all of them ``together`` at most."""
    now = 0.0
    pace = Pace(8 << 20, lambda: limit, lambda: now)
    seen = []
    for _ in range(rounds):
        seen.append(count := pace.streams)
        seconds = (8 << 20) / min(each, together / count)
        now += seconds
        for _ in range(count):
            pace.learn(timing(0.03, seconds), 8 << 20)
    return seen


def test_more_ranges_at_a_time_where_each_connection_has_its_share() -> None:
    assert streams_after(9, each=80e6, together=1e12) == [16] * 5 + [32, 64, 64, 64]
    assert streams_after(6, each=80e6, together=1e12, limit=20) == [16] * 5 + [20]
    assert streams_after(1, each=80e6, together=1e12, limit=3) == [3]


def test_no_more_ranges_where_the_way_is_full_but_now_and_then_another_look() -> None:
    seen = streams_after(60, each=1e12, together=1e9)
    assert seen[:8] == [16] * 5 + [32, 16, 16]
    assert set(seen) == {16, 32}
    assert seen.count(32) < 6


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MiB", 64 << 20), ("64M", 64 << 20), ("64MB", 64_000_000), ("1.5 KiB", 1536), ("7", 7), (9, 9)],
)
def test_sizes(text: Any, size: int) -> None:
    assert parse_size(text, "memory") == size


@pytest.mark.parametrize("wrong", ["", "MiB", "-1", "1 XB", 0, -5, 1.5, None, True])
def test_sizes_that_are_none_name_the_argument(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError), match="memory"):
        parse_size(wrong, "memory")


def test_little_memory_means_small_parts() -> None:
    assert make_options(memory="64MiB").piece == 8 << 20
    assert make_options(memory="16MiB").piece == 2 << 20
    with pytest.raises(ValueError, match="connections"):
        make_options(connections=0)
    with pytest.raises(TypeError, match="verify"):
        make_options(verify="yes")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "a//b", ".", "a/.", "", "x\0y"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    dest = Destination(tmp_path, "job", resume=True)
    with pytest.raises(ValueError, match="no path below"):
        dest.path(name)
    dest.close(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_journal_remembers_versions_and_survives_a_torn_record(tmp_path: Path) -> None:
    dest = Destination(tmp_path, "job", resume=True)
    (tmp_path / "k").write_bytes(b"12345")
    dest.note("k", '"tag"', 5)
    os.write(dest.journal_fd, b"torn")
    dest.close(keep=True)
    again = Destination(tmp_path, "job", resume=True)
    assert again.is_resumed
    assert again.has("k", '"tag"', 5, "k")
    assert not again.has("k", '"other"', 5, "k")
    assert not again.has("k", '"tag"', 6, "k")
    assert not again.has("k", None, 5, "k")
    again.note("l", '"tag"', 1)
    again.close(keep=True)
    assert len(next(tmp_path.glob(".obstore-*/journal")).read_bytes()) == 16
    (tmp_path / "k").unlink()
    third = Destination(tmp_path, "job", resume=True)
    assert not third.has("k", '"tag"', 5, "k")  # the file is gone
    third.close(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_record_is_that_of_the_c_core() -> None:
    digest = hashlib.sha256("schlüssel\0abc\x007".encode()).digest()
    assert _record("schlüssel", '"abc"', 7) == int.from_bytes(digest[:8], "little")


def test_two_transfers_of_a_kind_do_not_share_their_folder(tmp_path: Path) -> None:
    one, two = (Destination(tmp_path, "job", resume=True) for _ in range(2))
    assert one.folder != two.folder
    one.close(keep=False)
    two.close(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_names_that_differ_in_case_clash_where_the_file_system_does_not_tell_them_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = Destination(tmp_path, "job", resume=True)
    assert not dest.folds_case
    assert not dest.clash("a")
    assert not dest.clash("A")
    dest.close(keep=False)
    monkeypatch.setattr(Destination, "_tells_case", lambda self: False)
    dest = Destination(tmp_path, "job", resume=True)
    assert not dest.clash("Straße")
    assert dest.clash("STRASSE")
    dest.close(keep=False)


def test_tree_is_in_the_order_of_keys(tmp_path: Path) -> None:
    names = ["a/b", "a.txt", "a", "a-b/c", "b", "ä/x", "a0", "z/y/x"]
    made = []
    for name in names:
        path = tmp_path / name
        if path.is_dir():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        made.append(name)
    os.symlink(tmp_path, tmp_path / "z" / "loop")
    found = [file.name for file in walk(tmp_path, on_error=lambda path, error: pytest.fail(f"{path}: {error}"))]
    assert found == sorted(made, key=os.fsencode)
    assert [file.name for file in walk(tmp_path, recursive=False, on_error=lambda *_: None)] == ["a.txt", "a0", "b"]


def test_tree_tells_of_what_it_cannot_read(tmp_path: Path) -> None:
    os.symlink("nowhere", tmp_path / "dangling")
    wrong: list[str] = []
    assert list(walk(tmp_path, on_error=lambda path, error: wrong.append(path))) == []
    assert wrong == [str(tmp_path / "dangling")]


# ---- progress and results ----------------------------------------------------------------------------------------


class Bar:
    """tqdm's interface."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.n = 0

    def update(self, n: int) -> None:
        assert n >= 0
        self.n += n


class RichProgress:
    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def add_task(self, title: str, total: int | None) -> int:
        return 7

    def update(self, task: int, **state: Any) -> None:
        assert task == 7
        self.state = state


class Callback:
    """fsspec's interface."""

    def __init__(self) -> None:
        self.size = self.value = 0

    def set_size(self, size: int) -> None:
        self.size = size

    def absolute_update(self, value: int) -> None:
        self.value = value


def test_progress_is_shown_on_whatever_it_is() -> None:
    seen: list[Progress] = []
    bar, rich, callback = Bar(), RichProgress(), Callback()
    for target in (seen.append, bar, rich, callback):
        meter = make_meter(target, "download")
        meter.total_bytes = 100
        result = BulkResult(bytes=40)
        meter.sample(result)
        meter.extra_bytes = 20
        meter.sample(result, last=True)
        meter.extra_bytes = 0
        meter.sample(result, last=True)  # what has to be fetched again does not count back
    assert [progress.bytes for progress in seen] == [40, 60, 60]
    assert (bar.n, bar.total) == (60, 100)
    assert rich.state == {"completed": 60, "total": 100}
    assert (callback.value, callback.size) == (60, 100)
    with pytest.raises(TypeError, match="progress"):
        make_meter(7, "x")


def test_progress_is_sampled() -> None:
    seen: list[Progress] = []
    meter = make_meter(seen.append, "x")
    for count in range(100_000):
        meter.sample(BulkResult(objects=count))
    assert len(seen) < 1000
    meter.sample(BulkResult(objects=100_000), last=True)
    assert seen[-1].objects == 100_000


def test_result_says_what_it_is() -> None:
    result = BulkResult(objects=2, bytes=3 << 20, seconds=2.0, failures=[Failure("k", FileNotFoundError("gone"))])
    assert str(result) == "2 objects, 3.0 MiB, 1 failed in 2.0 s (1.5 MiB/s)"
    assert str(BulkResult(objects=3000, seconds=2.0)) == "3,000 objects in 2.0 s (1,500 objects/s)"
    assert str(BulkResult(objects=1, bytes=1, seconds=1.0)) == "1 object, 1 B in 1.0 s (1 B/s)"
    assert not result.ok
    assert result.as_dict()["failures"] == [{"path": "k", "error": "gone", "type": "FileNotFoundError"}]
    with pytest.raises(ExceptionGroup) as caught:
        result.raise_for_failures()
    assert caught.value.exceptions[0].__notes__ == ["object: k"]
    BulkResult(objects=1).raise_for_failures()
    assert human_bytes(10) == "10 B"


# ---- checksums and signatures ------------------------------------------------------------------------------------

CHECKS = {"crc32": 0xCBF43926, "crc32c": 0xE3069283, "crc64nvme": 0xAE8B14860A799888}
"""Of ``123456789``: the check values of the catalogue of parametrised CRC algorithms."""


@pytest.mark.parametrize(("kind", "name"), [(2, "crc32"), (3, "crc32c"), (4, "crc64nvme")])
def test_digests_continue_and_combine(kind: int, name: str) -> None:
    assert digest_name(kind) == name
    assert digest_update(kind, b"123456789") == CHECKS[name]
    data = os.urandom(100_000)
    whole = digest_update(kind, data)
    first, second = digest_update(kind, data[:70_001]), digest_update(kind, data[70_001:])
    assert digest_update(kind, data[70_001:], first) == whole
    assert digest_combine(kind, first, second, len(data) - 70_001) == whole


def test_crc32_is_that_of_zlib() -> None:
    import zlib

    for size in (0, 1, 255, 256, 257, 4096, 65_537):
        data = os.urandom(size)
        assert crc32(data) == zlib.crc32(data)


def test_signing_form_signs_as_the_signer_does() -> None:
    import hmac

    headers = [("x-amz-checksum-mode", "ENABLED")]
    where = ("key", "secret", "token", "eu-west-1", 1_700_000_000.0)
    path = "/bucket/a%20key"
    sent, form = signing_form("host:9000", headers, payload_hash(None), *where)
    canonical = f"{form.before}{path}{form.after}"
    text = form.scope_text + hashlib.sha256(canonical.encode()).hexdigest()
    ours = form.authorization + hmac.new(form.key, text.encode(), "sha256").hexdigest()
    signed = Signer("s3").sign("GET", "host:9000", path, (), headers, payload_hash(None), *where)
    assert dict(signed)["authorization"] == ours
    assert dict(sent) == {name: value for name, value in signed if name != "authorization"}
    assert "secret" not in repr(form)
