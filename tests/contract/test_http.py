"""HTTPStore: servers that lack things, redirects, credentials in URLs; against a scripted server, and WebDAV's own matters."""

from __future__ import annotations

import base64
import copy
import os
import pickle
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import obstore as obs
from obstore.store import HTTPStore, from_url
from tests.fix_dav import DavSubject, make_dav_subject
from tests.fix_stores import Face
from tests.servers.dav import WsgiDav
from tests.servers.scripted import Reply, Request, ScriptedServer

DATA = os.urandom(300_000)
QUICK = {"max_retries": 3, "backoff": {"init_backoff": timedelta(milliseconds=1)}}


def store_at(url: str, **client: object) -> HTTPStore:
    return HTTPStore(url, client_options={"allow_http": True, **client}, retry_config=QUICK)


def web(
    server: ScriptedServer,
    *,
    head: int | None = None,
    ranges: bool = True,
    length: bool = True,
    etag: str | None = None,
    modified: bool = True,
    data: bytes = DATA,
) -> ScriptedServer:
    """Have the server serve one object, with what a plain web server may lack taken away."""

    def serve(request: Request) -> Reply:
        headers = {"content-type": "application/x-data"}
        if etag:
            headers["etag"] = etag
        if modified:
            headers["last-modified"] = "Sun, 06 Nov 1994 08:49:37 GMT"
        if request.method == "HEAD":
            if head:
                return Reply(head)
            # The scripted server announces the body's length, as it should for HEAD.
            return Reply(200, headers, data) if length else Reply(200, headers, until_close=True)
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
        if wanted is None or not ranges:
            return Reply(200, headers, data, chunked=not length)
        first, last = wanted.groups()
        start = int(first) if first else max(0, len(data) - int(last))
        stop = min(int(last) + 1, len(data)) if first and last else len(data)
        if start >= len(data):
            return Reply(416, {"content-range": f"bytes */{len(data)}"})
        headers["content-range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return Reply(206, headers, data[start:stop])

    server.handler = serve
    return server


LACKING = {
    "nothing": {"etag": '"x"'},
    "HEAD": {"head": 405},
    "HEAD by signature": {"head": 403},
    "ranges": {"ranges": False},
    "validators": {"modified": False},
    "ranges and HEAD": {"ranges": False, "head": 501},
}


@pytest.mark.parametrize("lacking", list(LACKING))
def test_servers_may_lack_things(scripted: ScriptedServer, face: Face, lacking: str):
    server = web(scripted, **LACKING[lacking])
    store = store_at(server.url)
    result = face.get(store, "k")
    assert result.meta["size"] == len(DATA)
    assert result.meta["e_tag"] == LACKING[lacking].get("etag")
    assert result.meta["last_modified"].year == (1970 if lacking == "validators" else 1994)
    assert result.attributes["Content-Type"] == "application/x-data"
    assert face.body(result) == DATA
    assert face.head(store, "k")["size"] == len(DATA)
    assert face.get_range(store, "k", start=100, end=200) == DATA[100:200]
    assert face.get_range(store, "k", start=len(DATA) - 10, length=100) == DATA[-10:]
    into = bytearray(50)
    assert face.get_range(store, "k", start=1, length=50, into=into) == 50
    assert into == DATA[1:51]
    for wanted, expected in (
        ((10, 20), DATA[10:20]),
        ({"offset": 299_000}, DATA[299_000:]),
        ({"suffix": 7}, DATA[-7:]),
        ({"suffix": 10**7}, DATA),
    ):
        result = face.get(store, "k", options={"range": wanted})
        assert (result.meta["size"], result.range[1] - result.range[0]) == (len(DATA), len(expected))
        assert face.body(result) == expected
    with pytest.raises(obs.GenericError):
        face.get_range(store, "k", start=len(DATA), end=len(DATA) + 1)
    assert face.get(store, "k", options={"head": True}).meta["size"] == len(DATA)


@pytest.mark.parametrize("ranges", [True, False])
def test_answers_may_not_say_how_long_they_are(scripted: ScriptedServer, face: Face, ranges: bool):
    store = store_at(web(scripted, length=False, ranges=ranges).url)
    result = face.get(store, "k")
    assert (result.meta["size"], result.range) == (len(DATA), (0, len(DATA)))
    assert face.body(result) == DATA
    assert b"".join(face.chunks(face.get(store, "k"), 1000)) == DATA
    assert face.get_range(store, "k", start=100, end=200) == DATA[100:200]
    assert face.get_range(store, "k", start=len(DATA) - 1, end=len(DATA) + 10) == DATA[-1:]
    with pytest.raises(obs.GenericError, match=r"(?i)range|416"):
        face.get_range(store, "k", start=len(DATA) + 5, end=len(DATA) + 10)
    for wanted, expected in (((1, 5), DATA[1:5]), ({"suffix": 3}, DATA[-3:]), ({"offset": 5}, DATA[5:])):
        assert face.body(face.get(store, "k", options={"range": wanted})) == expected
    if ranges:
        assert face.head(store, "k")["size"] == len(DATA)
    else:
        with pytest.raises(obs.NotSupportedError, match="how large k is"):
            face.head(store, "k")


def test_a_chunked_answer_that_breaks_is_asked_for_again(scripted: ScriptedServer):
    store = store_at(scripted.url)
    scripted.push(Reply(200, body=DATA, chunked=True, cut_after=1000), Reply(200, body=DATA, chunked=True))
    assert obs.get(store, "k").bytes() == DATA
    assert scripted.count() == 2


def test_a_refused_head_is_not_sent_again(scripted: ScriptedServer):
    store = store_at(web(scripted, head=405).url)
    for _ in range(3):
        obs.head(store, "k")
    assert [r.method for r in scripted.requests] == ["HEAD", "GET", "GET", "GET"]
    assert [r.headers["range"] for r in scripted.requests[1:]] == ["bytes=0-0"] * 3
    described = HTTPStore(f"{scripted.url}/x?sig=secret").describe()
    assert described == {"store": "HTTPStore", "url": f"{scripted.url}/x?REDACTED", "credentials": "none", "learnt": {}}
    assert "head" in store.describe()["learnt"]


def test_head_of_what_is_not_there_or_empty(scripted: ScriptedServer):
    store = store_at(web(scripted, head=403, data=b"").url)
    assert obs.head(store, "k")["size"] == 0
    assert obs.get(store, "k", options={"range": {"suffix": 5}}).bytes() == b""
    scripted.handler = lambda request: Reply(404)
    with pytest.raises(obs.NotFoundError):
        obs.head(store, "k")
    scripted.handler = lambda request: Reply(405)
    with pytest.raises(obs.NotFoundError):
        obs.get(store_at(scripted.url), "k")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_body_resumes_on_any_server_with_etags(scripted: ScriptedServer, face: Face, ranges: bool):
    server = web(scripted, etag='"x"', ranges=ranges)
    store = store_at(server.url)
    server.push(Reply(200, {"etag": '"x"'}, DATA, cut_after=100_000))
    assert face.body(face.get(store, "k")) == DATA
    assert [r.headers.get("range") for r in server.requests] == [None, "bytes=100000-299999"]
    assert server.requests[1].headers["if-match"] == '"x"'
    # Nothing says that the rest is of the same object: the truth is an error.
    server.push(Reply(200, {}, DATA, cut_after=100_000))
    with pytest.raises(obs.ConnectionFailedError):
        face.body(face.get(store, "k"))


# ---- URLs ---------------------------------------------------------------------------------------------------


def test_a_presigned_url_is_sent_as_given(scripted: ScriptedServer, face: Face):
    target = "/bucket/dir%2Fa%20b+c.bin?X-Amz-Signature=abc%2Fdef&X-Amz-Date=2024&empty=&bare"
    store = store_at(web(scripted, head=403).url + target)
    assert face.body(face.get(store, "")) == DATA
    assert face.get_range(store, "", start=1, end=3) == DATA[1:3]
    assert face.head(store, "")["size"] == len(DATA)
    face.put(store, "", b"new")
    assert {r.target for r in scripted.requests} == {target}
    assert store.url.endswith(target)
    assert "abc" not in repr(store)
    scripted.handler = lambda request: Reply(404)
    with pytest.raises(obs.NotFoundError) as caught:
        face.get(store, "")
    for shown in (str(caught.value), caught.value.url, repr(caught.value)):
        assert "abc" not in shown


def test_the_query_of_the_base_goes_with_every_key(scripted: ScriptedServer):
    scripted.handler = lambda request: Reply(200, body=b"x")
    store = store_at(scripted.url + "/base/?token=a%20b")
    assert obs.get(store, "dir/key with ?#%").bytes() == b"x"
    assert scripted.requests[-1].target == "/base/dir/key%20with%20%3F%23%25?token=a%20b"


@pytest.mark.parametrize(
    ("base", "key", "target"),
    [
        ("", "k", "/k"),
        ("/", "k", "/k"),
        ("/b", "k", "/b/k"),
        ("/b/", "k", "/b/k"),
        ("/b//", "k", "/b/k"),
        ("/b/", "", "/b/"),
        ("", "", "/"),
        ("/a%2Fb", "year=2024/x+y", "/a%2Fb/year=2024/x%2By"),
        ("/ä", "ü", "/%C3%A4/%C3%BC"),
    ],
)
def test_keys_are_joined_to_the_base(scripted: ScriptedServer, base: str, key: str, target: str):
    scripted.push(Reply(200, body=b"x"))
    obs.get(store_at(scripted.url + base), key).bytes()
    assert scripted.requests[-1].target == target


@pytest.mark.parametrize("key", ["a//b", ".", "..", "a/../b", "a/./b", "../x", obs.RawKey("dir/"), obs.RawKey("/x")])
def test_keys_that_servers_would_resolve_are_refused(scripted: ScriptedServer, key: str):
    store = store_at(scripted.url + "/base")
    for act in (lambda: obs.get(store, key), lambda: obs.put(store, key, b""), lambda: obs.head(store, key)):
        with pytest.raises(ValueError, match="path"):
            act()
    assert obs.list(store, "../x/", match="string").collect() == []
    assert scripted.requests == []


def test_the_password_of_a_url_is_sent_and_never_shown(scripted: ScriptedServer):
    scripted.handler = lambda request: Reply(401, body=b"no")
    url = scripted.url.replace("http://", "http://us%40er:pass%2Fw%3Ard@") + "/x"
    store = store_at(url)
    with pytest.raises(obs.UnauthenticatedError) as caught:
        obs.get(store, "k")
    sent = scripted.requests[-1].headers["authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == b"us@er:pass/w:rd"
    shown = [repr(store), str(store), store.url, str(caught.value), repr(caught.value), caught.value.url]
    shown.append(str(store.client_options))
    for text in shown:
        assert "pass%2Fw" not in text
        assert "pass/w" not in text
        assert "us%40er" not in text
        assert sent not in text
    again = pickle.loads(pickle.dumps(store))
    assert again == store == copy.deepcopy(store)
    assert again != store_at(scripted.url + "/x")
    with pytest.raises(obs.UnauthenticatedError):
        obs.get(again, "k")
    assert scripted.requests[-1].headers["authorization"] == sent
    arguments, options = store.__getnewargs_ex__()
    assert arguments == (store.url,)
    assert options["client_options"]["default_headers"] == {"authorization": sent.encode()}


def test_headers_of_the_user_win_over_the_url(scripted: ScriptedServer):
    scripted.push(Reply(200, body=b"x"))
    url = scripted.url.replace("http://", "http://user:pass@")
    obs.get(store_at(url, default_headers={"Authorization": "Bearer t", "x-own": "1"}), "k").bytes()
    headers = scripted.requests[-1].headers
    assert (headers["authorization"], headers["x-own"]) == ("Bearer t", "1")
    with pytest.raises(obs.GenericError, match="host"):
        store_at(url, default_headers={"host": "other"})


def test_plain_http_has_to_be_allowed(scripted: ScriptedServer):
    with pytest.raises(obs.GenericError, match="allow_http"):
        obs.get(HTTPStore(scripted.url), "k")
    assert scripted.opened == 0


@pytest.mark.parametrize("url", ["", "relative", "http://", "s3://bucket", "file:///x", "ftp://host/"])
def test_urls_of_other_kinds_are_refused(url: str):
    with pytest.raises((ValueError, obs.GenericError)):
        HTTPStore(url)
    with pytest.raises(TypeError, match="url"):
        HTTPStore(None)  # type: ignore[arg-type]


def test_from_url_makes_an_http_store_of_any_other_web_address(scripted: ScriptedServer):
    url = scripted.url + "/dir/file.bin?sig=1"
    store = from_url(url, client_options={"allow_http": True})
    assert isinstance(store, HTTPStore)
    assert store == HTTPStore.from_url(url, client_options={"allow_http": True})
    for wrong in ({"config": {"region": "x"}}, {"region": "x"}, {"credential_provider": dict}):
        with pytest.raises(obs.BaseError, match="HTTPStore does not accept any configuration"):
            from_url(url, **wrong)


# ---- redirects ----------------------------------------------------------------------------------------------


SECRETS = {"authorization": "Bearer t", "x-api-key": "k", "cookie": "c=1"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_takes_no_credentials_along(scripted: ScriptedServer, face: Face, status: int):
    with ScriptedServer() as other:
        web(other, etag='"x"')
        elsewhere = other.url.replace("127.0.0.1", "localhost") + "/blob?sig=1"
        scripted.handler = lambda request: Reply(status, {"location": elsewhere})
        store = store_at(scripted.url, default_headers=SECRETS)
        assert face.body(face.get(store, "k")) == DATA
        assert face.get_range(store, "k", start=5, end=10) == DATA[5:10]
        assert face.head(store, "k")["size"] == len(DATA)
        assert all(set(SECRETS) <= set(r.headers) for r in scripted.requests)
        assert all(not set(SECRETS) & set(r.headers) for r in other.requests)
        assert {r.target for r in other.requests} == {"/blob?sig=1"}
        assert other.requests[1].headers["range"] == "bytes=5-9"


def test_a_redirect_within_the_host_keeps_them(scripted: ScriptedServer):
    web(scripted)
    scripted.push(Reply(302, {"location": "../there/k?x=1"}))
    assert obs.get(store_at(scripted.url + "/a/b", default_headers=SECRETS), "k").bytes() == DATA
    assert scripted.requests[1].target == "/a/there/k?x=1"
    assert set(SECRETS) <= set(scripted.requests[1].headers)


def test_credentials_do_not_come_back_by_way_of_another_host(scripted: ScriptedServer):
    with ScriptedServer() as other:
        other.handler = lambda request: Reply(302, {"location": scripted.url + "/inside"})
        scripted.push(Reply(302, {"location": other.url.replace("127.0.0.1", "localhost")}), Reply(200, body=b"x"))
        assert obs.get(store_at(scripted.url, default_headers=SECRETS), "k").bytes() == b"x"
        assert scripted.requests[1].path == "/inside"
        assert not set(SECRETS) & set(scripted.requests[1].headers)


def test_a_broken_body_is_resumed_where_it_was_asked_for_first(scripted: ScriptedServer):
    with ScriptedServer() as other:
        web(other, etag='"x"')
        other.push(Reply(200, {"etag": '"x"'}, DATA, cut_after=1000))
        scripted.handler = lambda request: Reply(302, {"location": f"{other.url}/{request.index}"})
        assert obs.get(store_at(scripted.url), "k").bytes() == DATA
        assert [r.path for r in other.requests] == ["/0", "/1"]


def test_redirects_in_a_circle_end(scripted: ScriptedServer):
    scripted.handler = lambda request: Reply(302, {"location": "/again"})
    with pytest.raises(obs.GenericError, match="circle"):
        obs.get(store_at(scripted.url), "k")
    assert scripted.count() == 11


@pytest.mark.parametrize("location", [None, "", "ftp://host/x", "http://", "http://[bad/", "file:///etc/passwd"])
def test_redirects_to_nowhere_are_errors(scripted: ScriptedServer, location: str | None):
    scripted.handler = lambda request: Reply(302, {} if location is None else {"location": location})
    with pytest.raises(obs.GenericError, match=r"302|LOCATION"):
        obs.get(store_at(scripted.url), "k")
    assert scripted.count() <= 12


def test_changes_follow_only_what_promises_to_mean_the_same(scripted: ScriptedServer):
    scripted.push(Reply(307, {"location": "/there"}), Reply(201, {"etag": '"x"'}))
    assert obs.put(store_at(scripted.url), "k", b"body")["e_tag"] == '"x"'
    assert [(r.method, r.path, r.body) for r in scripted.requests] == [
        ("PUT", "/k", b"body"),
        ("PUT", "/there", b"body"),
    ]
    scripted.push(Reply(302, {"location": "/there"}))
    with pytest.raises(obs.GenericError, match="PUT is not sent to another address"):
        obs.put(store_at(scripted.url), "k", b"body")


def test_a_page_behind_a_slash_is_read_and_a_forbidden_index_is_not_there(scripted: ScriptedServer):
    scripted.push(Reply(301, {"location": "/docs/"}), Reply(200, body=b"<html>"))
    assert obs.get(store_at(scripted.url), "docs").bytes() == b"<html>"
    scripted.push(Reply(301, {"location": "/docs/"}), Reply(403))
    with pytest.raises(obs.NotFoundError):
        obs.get(store_at(scripted.url), "docs")


# ---- answers to changes -------------------------------------------------------------------------------------


MULTISTATUS = (
    b'<D:multistatus xmlns:D="DAV:"><D:response><D:href>/k</D:href><D:status>HTTP/1.1 423 Locked</D:status>'
    b"</D:response></D:multistatus>"
)


@pytest.mark.parametrize("operation", ["delete", "copy", "rename"])
def test_changes_made_in_part_are_errors(scripted: ScriptedServer, operation: str):
    scripted.handler = lambda request: Reply(207, {"content-type": "application/xml"}, MULTISTATUS)
    with pytest.raises(obs.GenericError, match="423 Locked"):
        getattr(obs, operation)(store_at(scripted.url), *(("k",) if operation == "delete" else ("k", "l")))


@pytest.mark.parametrize(
    ("status", "kind", "tries"),
    [
        (401, obs.UnauthenticatedError, 1),
        (403, obs.PermissionDeniedError, 1),
        (405, obs.NotSupportedError, 1),
        (408, obs.GenericError, 4),
        (412, obs.PreconditionError, 1),
        (423, obs.GenericError, 1),
        (429, obs.ThrottledError, 4),
        (501, obs.NotSupportedError, 1),
        (503, obs.GenericError, 4),
        (507, obs.GenericError, 1),
    ],
)
def test_statuses_become_classes(scripted: ScriptedServer, status: int, kind: type, tries: int):
    scripted.handler = lambda request: Reply(status, body=b"<html><title>why not</title></html>")
    with pytest.raises(kind, match="why not") as caught:
        obs.put(store_at(scripted.url), "k", b"x")
    assert type(caught.value) is kind
    assert (caught.value.status, scripted.count()) == (status, tries)


@pytest.mark.parametrize("mkcol", [405, 501])
def test_a_server_without_collections_says_what_is_wrong_with_the_upload(scripted: ScriptedServer, mkcol: int):
    scripted.handler = lambda request: Reply(404 if request.method == "PUT" else mkcol)
    with pytest.raises(obs.NotFoundError, match="PUT"):
        obs.put(store_at(scripted.url), "dir/k", b"x")
    scripted.requests.clear()
    with pytest.raises(obs.NotFoundError, match="PUT"):
        obs.put(store_at(scripted.url + "/bucket/object?sig=1"), "", b"x")
    assert [r.method for r in scripted.requests] == ["PUT"], "nothing is made above a URL that was given"


def test_a_delete_whose_answer_was_lost_is_not_an_error(scripted: ScriptedServer):
    scripted.push(Reply(503), Reply(404))
    obs.delete(store_at(scripted.url), "k")
    scripted.push(Reply(404))
    with pytest.raises(obs.NotFoundError):
        obs.delete(store_at(scripted.url), "k")


def test_large_sources_go_up_in_one_request(scripted: ScriptedServer, face: Face, tmp_path: Path):
    data = os.urandom(1 << 20) * 40
    scripted.handler = lambda request: Reply(201)
    store = store_at(scripted.url)
    (tmp_path / "file").write_bytes(data)
    face.put(store, "buffer", data)
    face.put(store, "file", tmp_path / "file")
    face.put(store, "pieces", iter([data[:30_000_001], b"", data[30_000_001:]]))
    assert [(r.method, r.path, r.body == data) for r in scripted.requests] == [
        ("PUT", "/buffer", True),
        ("PUT", "/file", True),
        ("PUT", "/pieces", True),
    ]
    assert all(r.headers["content-length"] == str(len(data)) for r in scripted.requests)


def test_a_source_that_breaks_sends_nothing(scripted: ScriptedServer):
    def source():
        yield bytes(20 << 20)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        obs.put(store_at(scripted.url), "k", source())
    assert scripted.requests == []


# ---- listings -----------------------------------------------------------------------------------------------


def entry(href: str, size: int | None = None) -> str:
    kind = "<D:resourcetype/>" if size is not None else "<D:resourcetype><D:collection/></D:resourcetype>"
    length = "" if size is None else f"<D:getcontentlength>{size}</D:getcontentlength>"
    return (
        f"<D:response><D:href>{href}</D:href><D:propstat><D:prop>{kind}{length}</D:prop>"
        "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
    )


def multistatus(*entries: str) -> Reply:
    body = f'<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">{"".join(entries)}</D:multistatus>'
    return Reply(207, {"content-type": "application/xml"}, body.encode())


def tree(names: list[str], *, deep: bool, root: str = "/") -> Callable[[Request], Reply]:
    """Answers PROPFIND about files of these names; without ``deep`` about one level at a time."""

    def serve(request: Request) -> Reply:
        assert request.method == "PROPFIND"
        depth = request.headers["depth"]
        if depth == "infinity" and not deep:
            return Reply(403, body=b"<D:error xmlns:D='DAV:'><D:propfind-finite-depth/></D:error>")
        here = request.path.removeprefix(root)
        below = [name for name in names if name.startswith(here)]
        if not below and here:
            return Reply(404)
        found = {root + here: entry(root + here)}
        for name in below:
            parts = name.removeprefix(here).split("/")
            if len(parts) == 1 or depth == "infinity":
                found[root + name] = entry(root + name, len(name))
            for i in range(1, len(parts) if depth == "infinity" else min(2, len(parts))):
                above = root + here + "/".join(parts[:i]) + "/"
                found[above] = entry(above)
        return multistatus(*sorted(found.values(), key=hash))

    return serve


NAMES = ["a", "a.txt", "b/1", "b/2/3", "b/2/4/5", "b-/x", "b0", "c/d/e/f", "z"]


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("root", ["/", "/base/"])
def test_listings_are_in_key_order(scripted: ScriptedServer, face: Face, deep: bool, root: str):
    scripted.handler = tree(NAMES, deep=deep, root=root)
    store = store_at(scripted.url + root)
    assert [item["path"] for item in face.items(face.list(store))] == sorted(NAMES)
    asked = scripted.count()
    assert asked == (1 if deep else 9), "one for the tree, or one for each collection and one that was refused"
    assert [item["path"] for item in face.items(face.list(store))] == sorted(NAMES)
    assert scripted.count() - asked == (1 if deep else 8), "a refusal is remembered"
    for prefix, offset, match, expected in (
        ("b", None, "segment", ["b/1", "b/2/3", "b/2/4/5"]),
        ("b/2", "b/2/3", "segment", ["b/2/4/5"]),
        ("b", None, "string", ["b-/x", "b/1", "b/2/3", "b/2/4/5", "b0"]),
        ("b/2/4", None, "string", ["b/2/4/5"]),
        ("c/d/e/f", None, "string", ["c/d/e/f"]),
        (None, "b/2/4", "segment", ["b/2/4/5", "b0", "c/d/e/f", "z"]),
        ("a", None, "segment", []),
        ("missing/dir", None, "segment", []),
    ):
        found = face.items(face.list(store, prefix, offset=offset, match=match))
        assert [item["path"] for item in found] == expected
    level = face.list_with_delimiter(store, "b")
    assert level["common_prefixes"] == ["b/2"]
    assert [item["path"] for item in level["objects"]] == ["b/1"]


def test_a_walk_asks_as_it_is_read_and_passes_over_what_lies_before_the_offset(scripted: ScriptedServer):
    names = [f"{i:03}/file" for i in range(100)]
    walk = tree(names, deep=False)

    def slowly(request: Request) -> Reply:
        reply = walk(request)
        reply.delay = 0.01
        return reply

    scripted.handler = slowly
    store = store_at(scripted.url)
    stream = iter(obs.list(store))
    for _ in range(3):
        next(stream)
    assert scripted.count() < 15
    assert len(list(stream)) == 97
    assert scripted.peak_in_flight > 1
    before = scripted.count()
    assert len(obs.list(store, offset="097/file").collect()) == 2
    assert scripted.count() - before == 4


def test_a_listing_behind_a_proxy_that_rewrites_paths(scripted: ScriptedServer):
    scripted.push(
        multistatus(
            entry("/inner/dav/"), entry("/inner/dav/a%20b", 1), entry("/inner/dav/d/"), entry("/inner/dav/d/e", 2)
        )
    )
    store = store_at(scripted.url + "/outer")
    assert [item["path"] for item in obs.list(store)] == ["a b", "d/e"]
    scripted.push(multistatus(entry("http://inner:80/x/d/"), entry("http://inner:80/x/d/e", 2)))
    assert [item["path"] for item in obs.list(store, "d")] == ["d/e"]


def test_listing_of_a_file_or_with_foreign_entries(scripted: ScriptedServer):
    store = store_at(scripted.url + "/base")
    scripted.push(multistatus(entry("/base/a", 1)))
    assert obs.list(store, "a").collect() == []
    scripted.push(multistatus(entry("/base"), entry("/base/x", 1), entry("/elsewhere/y", 1), entry("/baseline", 2)))
    assert [item["path"] for item in obs.list(store)] == ["x"]


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY file SYSTEM "file:///etc/passwd">]><D:multistatus xmlns:D="DAV:"><D:response><D:href>/&b;&file;</D:href>'
    b"</D:response></D:multistatus>"
)


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (Reply(207, body=BOMB), obs.GenericError, "document type is not allowed"),
        (Reply(207, body=BOMB.replace(b"<!DOCTYPE", b"<!--").replace(b"]>", b"-->")), obs.GenericError, "reference"),
        (Reply(200, body=b"<html><body>hello</body></html>"), obs.GenericError, "list|XML"),
        (Reply(207, body=b"<D:multistatus xmlns:D='DAV:'><D:response>"), obs.GenericError, "cut short"),
        (Reply(207, body=b""), obs.GenericError, "cut short"),
        (Reply(405), obs.NotSupportedError, "WebDAV"),
        (Reply(501), obs.NotSupportedError, "WebDAV"),
        (Reply(401), obs.GenericError, "401"),
    ],
    ids=lambda value: str(getattr(value, "status", ""))[:10],
)
def test_answers_that_are_no_listing(scripted: ScriptedServer, reply: Reply, kind: type, message: str):
    scripted.handler = lambda request: reply
    for act in (lambda store: obs.list(store).collect(), obs.list_with_delimiter):
        with pytest.raises(kind, match=message):
            act(store_at(scripted.url))


# ---- on a real WebDAV server --------------------------------------------------------------------------------


@pytest.fixture
def dav(webdav: WsgiDav) -> DavSubject:
    return make_dav_subject("webdav", webdav)


def test_a_collection_is_neither_deleted_nor_moved_nor_overwritten(dav: DavSubject):
    obs.put(dav.store, "dir/sub/a", b"a")
    obs.put(dav.store, "b", b"b")
    for act in (
        lambda: obs.delete(dav.store, "dir"),
        lambda: obs.delete(dav.store, ""),
        lambda: obs.rename(dav.store, "dir", "other"),
        lambda: obs.rename(dav.store, "b", "dir"),
        lambda: obs.copy(dav.store, "b", "dir"),
        lambda: obs.put(dav.store, "dir", b"x"),
    ):
        with pytest.raises(obs.BaseError):
            act()
    assert dav.judge_keys() == ["b", "dir/sub/a"]


def test_a_create_that_fails_leaves_nothing(dav: DavSubject):
    obs.put(dav.store, "dir/sub", b"x")
    with pytest.raises(obs.BaseError):
        obs.put(dav.store, "dir/sub/below-a-file", b"y", mode="create")
    assert dav.judge_keys() == ["dir/sub"]
    obs.put(dav.store, "new/dir/k", b"1", mode="create", attributes={"Content-Type": "text/plain"})
    assert dav.judge_keys() == ["dir/sub", "new/dir/k"]


def test_objects_on_their_way_are_not_listed(dav: DavSubject):
    dav.judge_put("dir/.obstore-0123456789abcdef", b"half")
    dav.judge_put("dir/.obstore-notes", b"whole")
    assert [item["path"] for item in obs.list(dav.store)] == ["dir/.obstore-notes"]
    assert len(obs.list_with_delimiter(dav.store, "dir")["objects"]) == 1
