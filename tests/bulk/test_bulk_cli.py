"""The command line: what people type, what they and their scripts get back."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import obstore as obs
from obstore._cli.main import run
from tests.fix_stores import Subject, make_subject
from tests.servers.fakes3 import FakeS3, cut, gets

Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Subject:
    subject = make_subject("moto_gunicorn", request)
    assert subject.endpoint is not None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", subject.endpoint.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", subject.endpoint.secret_access_key)
    monkeypatch.setenv("AWS_REGION", subject.endpoint.region)
    monkeypatch.setenv("AWS_ENDPOINT_URL", subject.endpoint.url)
    monkeypatch.chdir(tmp_path)
    for key in ("a.txt", "d/b.txt", "d/e/c.bin", "d/e/d.bin"):
        subject.judge_put(key, key.encode() * 10)
    return subject


@pytest.fixture
def sh(capfdbinary: pytest.CaptureFixture[bytes]) -> Shell:
    def shell(*arguments: str) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = run(list(arguments))
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return shell


def url(bucket: Subject, key: str = "") -> str:
    return f"s3://{bucket.bucket}/{key}"


def test_ls(bucket: Subject, sh: Shell) -> None:
    assert sh("ls", url(bucket)) == (0, "d/\na.txt\n", "")
    assert sh("ls", "-r", url(bucket, "d"))[1] == "d/b.txt\nd/e/c.bin\nd/e/d.bin\n"
    assert sh("ls", url(bucket, "d/**/*.bin"))[1] == "d/e/c.bin\nd/e/d.bin\n"
    assert sh("ls", url(bucket, "a.txt"))[1] == "a.txt\n"
    assert sh("ls", "-r", "--exclude", "*.bin", url(bucket))[1] == "a.txt\nd/b.txt\n"
    code, out, _ = sh("ls", "-l", url(bucket))
    assert code == 0
    assert out.splitlines()[0].split() == ["DIR", "d/"]
    assert out.splitlines()[1].split()[2:] == ["50", "a.txt"]
    assert sh("ls", "--tree", url(bucket))[1] == "a.txt\nd/\n  b.txt\n  e/\n    c.bin\n    d.bin\n"
    lines = [json.loads(line) for line in sh("ls", "--json", url(bucket))[1].splitlines()]
    assert lines[0] == {"prefix": url(bucket, "d/")}
    assert (lines[1]["path"], lines[1]["size"]) == (url(bucket, "a.txt"), 50)
    code, _, err = sh("ls", url(bucket, "none"))
    assert (code, err) == (3, f"obstore: {url(bucket, 'none')}: nothing there\n")


def test_ls_as_a_table(bucket: Subject, sh: Shell, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert sh("ls", "--arrow", "t.arrow", "--parquet", "t.parquet", url(bucket))[0] == 0
    table = pa.ipc.open_file(tmp_path / "t.arrow").read_all()
    assert table["size"].to_pylist() == [50, 70, 90, 90]
    assert pq.read_table(tmp_path / "t.parquet").equals(table)


def test_cp_down_and_up(bucket: Subject, sh: Shell, tmp_path: Path) -> None:
    assert sh("cp", url(bucket, "a.txt"), ".")[0] == 0
    assert (tmp_path / "a.txt").read_bytes() == b"a.txt" * 10
    assert sh("cp", url(bucket, "a.txt"), "new/name.txt")[0] == 0
    assert (tmp_path / "new/name.txt").exists()
    assert sh("cp", "-r", url(bucket, "d"), "out")[0] == 0
    assert sorted(p.relative_to("out").as_posix() for p in Path("out").rglob("*.*")) == ["b.txt", "e/c.bin", "e/d.bin"]
    assert sh("cp", url(bucket, "d/e/*.bin"), "flat/")[0] == 0
    assert sorted(os.listdir("flat")) == ["c.bin", "d.bin"]
    assert sh("cp", "a.txt", url(bucket, "up/"))[0] == 0
    assert sh("cp", "a.txt", url(bucket, "up/renamed"))[0] == 0
    assert sh("cp", "-r", "out", url(bucket, "tree"))[0] == 0
    assert sh("cp", "flat/*.bin", url(bucket, "globbed/"))[0] == 0
    assert sh("cp", url(bucket, "a.txt"), url(bucket, "copy.txt"))[0] == 0
    assert sh("cp", "-r", url(bucket, "d"), url(bucket, "e"))[0] == 0
    assert bucket.judge_keys() == sorted(
        ["a.txt", "copy.txt", "globbed/c.bin", "globbed/d.bin", "up/a.txt", "up/renamed"]
        + [f"{top}/{name}" for top in ("d", "e", "tree") for name in ("b.txt", "e/c.bin", "e/d.bin")]
    )
    _, out, _ = sh("cp", "--json", url(bucket, "a.txt"), "a.txt")
    assert json.loads(out)["objects"] == 1


def test_cp_dry_run(bucket: Subject, sh: Shell) -> None:
    assert sh("cp", "-n", "-r", url(bucket, "d"), "out")[1].splitlines() == [
        "(dry run) download d/b.txt",
        "(dry run) download d/e/c.bin",
        "(dry run) download d/e/d.bin",
    ]
    assert not Path("out").exists()
    Path("f").write_bytes(b"x")
    assert sh("cp", "--dry-run", "f", url(bucket, "g"))[1] == "(dry run) upload f\n"
    assert "g" not in bucket.judge_keys()


def test_cp_with_pipes(bucket: Subject, sh: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    body = os.urandom(7 << 20)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body)))
    assert sh("cp", "-", url(bucket, "piped"))[0] == 0
    assert bucket.judge_get("piped")["Body"] == body
    assert sh("cp", url(bucket, "a.txt"), "-") == (0, "a.txt" * 10, "")
    assert sh("cp", "-", url(bucket, "d/"))[0] == 2


def test_mv(bucket: Subject, sh: Shell) -> None:
    assert sh("mv", url(bucket, "a.txt"), "moved.txt")[0] == 0
    assert sh("mv", "-r", url(bucket, "d/e"), url(bucket, "f"))[0] == 0
    assert bucket.judge_keys() == ["d/b.txt", "f/c.bin", "f/d.bin"]
    assert sh("mv", "moved.txt", url(bucket, "back.txt"))[0] == 0
    assert not Path("moved.txt").exists()
    assert bucket.judge_get("back.txt")["Body"] == b"a.txt" * 10


def test_sync(bucket: Subject, sh: Shell) -> None:
    assert sh("sync", url(bucket, "d"), "local")[0] == 0
    Path("local/extra").write_bytes(b"x")
    assert sh("sync", "--delete", "-n", url(bucket, "d"), "local")[1] == "(dry run) delete extra\n"
    code, out, _ = sh("sync", "--delete", "--json", url(bucket, "d"), "local")
    result = json.loads(out)
    assert (code, result["objects"], result["skipped"], result["deleted"]) == (0, 0, 3, 1)
    assert sh("sync", "local", url(bucket, "new"))[0] == 0
    assert len([key for key in bucket.judge_keys() if key.startswith("new/")]) == 3


def test_rm(bucket: Subject, sh: Shell) -> None:
    assert sh("rm", url(bucket, "d"))[0] == 3
    assert sh("rm", url(bucket, "d/"))[0] == 2
    assert sh("rm", "-r", url(bucket))[0] == 2
    assert sh("rm", "-n", url(bucket, "d/**"))[1].count("(dry run) delete") == 3
    assert sh("rm", "-q", url(bucket, "a.txt")) == (0, "", "")
    assert sh("rm", "-r", "--exclude", "b.txt", url(bucket, "d"))[0] == 0
    assert bucket.judge_keys() == ["d/b.txt"]


def test_looking(bucket: Subject, sh: Shell) -> None:
    assert sh("cat", url(bucket, "a.txt"), url(bucket, "d/b.*"))[1] == "a.txt" * 10 + "d/b.txt" * 10
    bucket.judge_put(
        "lines", b"".join(b"%d\n" % n for n in range(1000)), ContentType="text/x-lines", Metadata={"who": "me"}
    )
    assert sh("head", "-n", "3", url(bucket, "lines"))[1] == "0\n1\n2\n"
    assert sh("head", "-c", "4", url(bucket, "lines"))[1] == "0\n1\n"
    assert sh("du", url(bucket, "d"))[1] == f"250 in 3 objects: {url(bucket, 'd')}\n"
    assert json.loads(sh("du", "--json", url(bucket, "d"))[1]) == {"url": url(bucket, "d"), "objects": 3, "bytes": 250}
    assert sh("find", "--name", "*.bin", "--larger", "80", url(bucket))[1].splitlines() == [
        url(bucket, "d/e/c.bin"),
        url(bucket, "d/e/d.bin"),
    ]
    assert sh("find", "--older", "1h", url(bucket))[1] == ""
    assert sh("find", "-0", "--newer", "1h", "--name", "a*", url(bucket))[1] == url(bucket, "a.txt") + "\0"
    code, out, _ = sh("stat", url(bucket, "lines"))
    assert code == 0
    assert "text/x-lines" in out
    assert "me" in out
    assert json.loads(sh("stat", "--json", url(bucket, "a.txt"))[1])["size"] == 50
    signed = sh("sign", "--expires", "90s", url(bucket, "a.txt"))[1].strip()
    assert "X-Amz-Expires=90" in signed
    import urllib.request

    with urllib.request.urlopen(signed) as answer:
        assert answer.read() == b"a.txt" * 10


def test_bench_leaves_nothing(bucket: Subject, sh: Shell) -> None:
    before = bucket.judge_keys()
    code, out, _ = sh("bench", "--size", "1KiB", "--count", "5", url(bucket, "tmp"))
    assert code == 0
    assert [line.partition(":")[0] for line in out.splitlines()] == ["put", "get", "delete"]
    assert bucket.judge_keys() == before


def test_local_files_as_urls(sh: Shell, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/f").write_bytes(b"1")
    assert sh("ls", (tmp_path / "x").as_uri()) == (0, "f\n", "")
    assert sh("du", str(tmp_path))[1].startswith("1 in 1 object")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["cp", "a", "b"], 2, "both are local"),
        (["cp", "a"], 2, "a source and a target"),
        (["cp", "none", "s3://bucket/k"], 3, "none: No such file"),
        (["cp", ".", "s3://bucket/k"], 2, "use -r"),
        (["cp", "-j", "0", "a", "s3://b/k"], 2, "-j"),
        (["cp", "--memory", "much", "a", "s3://b/k"], 2, "no number of bytes"),
        (["cp", "--config", "oops", "a", "s3://b/k"], 2, "NAME=VALUE"),
        (["cp", "--config", "oops=1", "a", "s3://b/k"], 2, "oops"),
        (["rm", "local"], 2, "takes URLs"),
        (["ls", "xyz://b"], 2, "xyz"),
        (["ls", "s3://"], 2, "s3://bucket"),
        (["ls", "--config", "ftp:a=b", "s3://b"], 2, "NAME=VALUE"),
        (["ls", "--config-file", "none", "s3://b"], 2, "none"),
        (["cp", "--rate", "0", "a", "s3://b/k"], 2, "--rate"),
        (["nonsense"], 2, "nonsense"),
        (["mv", "--no-clobber", "a", "s3://b/k"], 2, "did not copy"),
        (["sync", "-", "s3://b/k"], 2, "directories and prefixes"),
    ],
)
def test_usage(
    sh: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found, _, err = sh(*arguments)
    assert message in err
    assert found == code


def test_failures_are_told_and_the_rest_is_done(fake_s3: FakeS3, sh: Shell, tmp_path: Path) -> None:
    fake_s3.add("d/ok", b"x")
    fake_s3.add("d/../escape", b"x")
    config = fake_s3.config()
    options = [
        f"--endpoint={config['endpoint']}",
        "--region=us-east-1",
        "--config",
        "access_key_id=a",
        "--config",
        "secret_access_key=b",
    ]
    code, out, err = sh("cp", "-r", *options, "s3://bucket/d", str(tmp_path / "out"))
    assert code == 1
    assert "1 object, 1 B, 1 failed" in out
    assert err.count("\n") == 1
    assert err.startswith("obstore: d/../escape: ")
    assert os.listdir(tmp_path / "out") == ["ok"]
    code, _, err = sh("cp", *options, "s3://bucket/none", str(tmp_path / "out"))
    assert (code, "none" in err) == (3, True)  # nothing but what is not there
    code, _, err = sh("cat", *options, "s3://bucket/none")
    assert code == 3


def test_settings_of_one_kind_of_store(tmp_path: Path) -> None:
    from obstore._cli.place import Connection

    given = {"region": "everywhere", "s3:region": "here", "gs:base_url": "http://127.0.0.1:1"}
    connection = Connection({"config": given, "endpoint": "http://127.0.0.1:2"})
    assert connection._arguments("s3") == {
        "config": {"region": "here", "endpoint": "http://127.0.0.1:2"},
        "client_options": {"allow_http": True},
    }
    assert connection._arguments("gcs")["config"] == {"region": "everywhere", "base_url": "http://127.0.0.1:1"}
    assert connection._arguments("http") == {"client_options": {"allow_http": True}}


@pytest.mark.parametrize(
    ("text", "key", "shown", "url"),
    [
        ("https://host/a%20b/c.txt", "a b/c.txt", "https://host/a%20b/c.txt", "https://host/k%20x"),
        ("https://user:secret@host/x", "x", "https://host/x", "https://host/k%20x"),
        ("https://host/big.bin?X-Sig=a%2Fb&Y=1", "big.bin", "https://host/big.bin", "https://host/k%20x"),
        ("https://host/a?.txt", "a?.txt", "https://host/a?.txt", "https://host/k%20x"),
        ("s3://bucket/a%20b?x=1", "a%20b?x=1", "s3://bucket/a%20b?x=1", "s3://bucket/k x"),
    ],
)
def test_urls_are_understood_as_they_are_pasted(text: str, key: str, shown: str, url: str) -> None:
    from obstore._cli.place import Connection, Place

    place = Place(text, Connection({}))
    assert (place.key, place.text, place.url("k x")) == (key, shown, url)
    assert place.is_pattern == ("?" in key)


def test_presigned_urls_are_read_as_they_are(bucket: Subject, sh: Shell) -> None:
    bucket.judge_put("with space.txt", b"signed")
    signed = sh("sign", url(bucket, "with space.txt"))[1].strip()
    assert sh("cat", signed)[1] == "signed"
    assert sh("cp", signed, ".")[0] == 0
    assert Path("with space.txt").read_bytes() == b"signed"
    assert "X-Amz-Signature" not in "".join(map(str, sh("stat", signed.replace("with", "none"))))


def test_denied(fake_s3: FakeS3, sh: Shell) -> None:
    from tests.servers.fakes3 import status

    fake_s3.inject(status(403, error="AccessDenied"), times=float("inf"))
    code, _, err = sh("ls", f"--endpoint={fake_s3.url}", "--region=us-east-1", "--no-sign-request", "s3://bucket/")
    assert code == 4
    assert err.startswith("obstore: ")
    assert "Traceback" not in err


def test_as_a_program() -> None:
    def call(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "obstore", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **env},
        )

    shown = call("--help")
    assert shown.returncode == 0
    commands = {
        line.split()[0]
        for line in shown.stdout.partition("Commands:")[2].splitlines()
        if line.startswith("  ") and line.strip()
    }
    assert commands >= {
        "ls",
        "cp",
        "mv",
        "sync",
        "rm",
        "cat",
        "head",
        "du",
        "find",
        "sign",
        "stat",
        "bench",
        "completion",
    }
    assert call("--version").stdout == f"obstore, version {obs.__version__}\n"
    assert "_obstore_completion" in call("completion", "bash").stdout
    completed = call(_OBSTORE_COMPLETE="bash_complete", COMP_WORDS="obstore sy", COMP_CWORD="1")
    assert "sync" in completed.stdout


def test_broken_pipe_is_no_error(fake_s3: FakeS3, tmp_path: Path) -> None:
    fake_s3.add("large", b"line\n" * 1_000_000)
    command = f"{sys.executable} -m obstore cat --endpoint={fake_s3.url} --region=us-east-1 --no-sign-request s3://bucket/large"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -n 1"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "line\n", "")


def test_cp_resumes_body_that_broke(fake_s3: FakeS3, sh: Shell, tmp_path: Path) -> None:
    body = os.urandom(3 << 20)
    fake_s3.add("k", body)
    fake_s3.inject(cut(1000), times=2, when=gets)
    options: list[Any] = [f"--endpoint={fake_s3.url}", "--region=us-east-1", "--no-sign-request"]
    assert sh("cp", "-q", *options, "s3://bucket/k", str(tmp_path / "k"))[0] == 0
    assert (tmp_path / "k").read_bytes() == body
