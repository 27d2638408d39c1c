"""Credentials as the AWS command line finds them, used against servers that verify every signature.

moto with authentication on checks the keys of assumed roles, session tokens included. Instance metadata, containers, the
sign-in portal are scripted: each test names the page whose exchange it replays.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import pickle
import re
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import obstore as obs
from obstore._auth.aws_metadata import forget_silence
from obstore.exceptions import (
    BaseError,
    ConnectionFailedError,
    GenericError,
    PermissionDeniedError,
    RequestTimeoutError,
    UnauthenticatedError,
)
from obstore.store import S3Store
from tests.fix_stores import Face
from tests.servers.ceph import Ceph
from tests.servers.issuer import Issuer
from tests.servers.moto import Moto, MotoGunicorn
from tests.servers.scripted import Reply, Request, ScriptedServer

SECRET = "never+shown/SECRET"


@dataclass
class Home:
    """A home directory with the command line's files, and moto with a bucket to use credentials on."""

    directory: Path
    moto: Moto
    bucket: str
    setenv: Callable[[str, str], None]

    def write(self, config: str = "", credentials: str = "") -> None:
        (self.directory / ".aws").mkdir(exist_ok=True)
        (self.directory / ".aws" / "config").write_text(config)
        (self.directory / ".aws" / "credentials").write_text(credentials)

    @property
    def keys(self) -> str:
        """The lines of a profile with the keys of moto's user."""
        endpoint = self.moto.endpoint
        return f"aws_access_key_id = {endpoint.access_key_id}\naws_secret_access_key = {endpoint.secret_access_key}\n"

    def store(self, **config: Any) -> S3Store:
        """A store on moto that is given no keys."""
        client = {"allow_http": True, **config.pop("client_options", {})}
        return S3Store(
            self.bucket, **{"endpoint": self.moto.endpoint.url, **config}, client_options=client, retry_config=ONCE
        )

    def assume(self, seconds: int = 900) -> dict[str, Any]:
        """Temporary keys out of moto, in the form that metadata services hand them out."""
        sts = self.moto.endpoint.client("sts")
        keys = sts.assume_role(RoleArn=self.moto.role_arn, RoleSessionName="session")["Credentials"]
        sts.close()
        expiry = datetime.now(UTC) + timedelta(seconds=seconds)
        return {
            "AccessKeyId": keys["AccessKeyId"],
            "SecretAccessKey": keys["SecretAccessKey"],
            "Token": keys["SessionToken"],
            "Expiration": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


ONCE = {"max_retries": 0}


@pytest.fixture
def home(moto_auth: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto_auth.endpoint.url)
    forget_silence()
    yield Home(tmp_path, moto_auth, moto_auth.endpoint.create_bucket(), monkeypatch.setenv)
    forget_silence()


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def used(store: S3Store) -> None:
    """See that the server takes the store's signatures."""
    obs.put(store, "k", b"1")
    assert bytes(obs.get(store, "k").bytes()) == b"1"


def shows(error: BaseException, secret: str) -> bool:
    """Whether an error, or what tools print of the frames of the library that led to it, holds a secret."""
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    ours = [str(frame.locals) for frame in frames if "/obstore/" in frame.filename]
    assert ours
    return any(secret in text for text in (str(error), repr(error), *ours))


# ---- profiles ------------------------------------------------------------------------------------------------------


def test_default_profile_is_used(home: Home) -> None:
    home.write(credentials=f"[default]\n{home.keys}")
    used(home.store())


def test_profile_by_argument_and_by_variable(home: Home) -> None:
    home.write(config=f"[profile ours]\nregion = eu-west-2\n{home.keys}[default]\nregion = us-east-1\n")
    used(home.store(profile="ours"))
    home.setenv("AWS_PROFILE", "ours")
    used(home.store())


def test_profile_of_the_program_wins_over_keys_of_the_environment(home: Home) -> None:
    home.write(credentials=f"[ours]\n{home.keys}")
    home.setenv("AWS_ACCESS_KEY_ID", "AKIDWRONG")
    home.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    used(home.store(profile="ours"))
    with pytest.raises(PermissionDeniedError):
        used(home.store())


def test_role_is_assumed_with_the_source_profile(home: Home, face: Face) -> None:
    home.write(
        config=f"[profile role]\nrole_arn = {home.moto.role_arn}\nsource_profile = base\nduration_seconds = 900\n",
        credentials=f"[base]\n{home.keys}",
    )
    store = home.store(profile="role")
    face.put(store, "k", b"1")
    assert face.body(face.get(store, "k")) == b"1"


def test_role_of_a_role(home: Home) -> None:
    role = f"role_arn = {home.moto.role_arn}\n"
    home.write(
        config=f"[profile outer]\n{role}source_profile = inner\n[profile inner]\n{role}source_profile = base\n",
        credentials=f"[base]\n{home.keys}",
    )
    used(home.store(profile="outer"))


def test_role_with_the_keys_of_the_environment(home: Home) -> None:
    home.write(config=f"[profile role]\nrole_arn = {home.moto.role_arn}\ncredential_source = Environment\n")
    home.setenv("AWS_ACCESS_KEY_ID", home.moto.endpoint.access_key_id)
    home.setenv("AWS_SECRET_ACCESS_KEY", home.moto.endpoint.secret_access_key)
    used(home.store(profile="role"))


def test_process_prints_credentials(home: Home) -> None:
    keys = home.assume()
    document = {"Version": 1, **{name: keys[name] for name in keys if name != "Token"}, "SessionToken": keys["Token"]}
    (home.directory / "keys.json").write_text(json.dumps(document))
    program = home.directory / "print keys.py"
    program.write_text(f"print(open({str(home.directory / 'keys.json')!r}).read())\n")
    home.write(config=f'[default]\ncredential_process = {sys.executable} "{program}"\n')
    used(home.store())


def test_keys_that_change_in_the_file_are_found_when_they_expire(home: Home, scripted: ScriptedServer) -> None:
    """What a rotating tool writes: the service says ExpiredToken once, and the file has new keys by then."""
    home.write(credentials="[default]\naws_access_key_id = OLD\naws_secret_access_key = s\naws_session_token = t\n")
    home.setenv("AWS_PROFILE", "default")
    seen = []

    def answer(request: Request) -> Reply:
        seen.append(request.headers["authorization"].split("Credential=")[1].split("/")[0])
        if seen[-1] == "OLD":
            home.write(credentials="[default]\naws_access_key_id = NEW\naws_secret_access_key = s2\n")
            return Reply(400, body=b"<Error><Code>ExpiredToken</Code></Error>")
        return Reply(200, body=b"fine", headers={"etag": '"e"'})

    scripted.handler = answer
    store = home.store(endpoint=scripted.url)
    assert bytes(obs.get(store, "k").bytes()) == b"fine"
    assert seen == ["OLD", "NEW"]


# ---- web identity --------------------------------------------------------------------------------------------------


def test_web_identity(home: Home, moto_gunicorn: MotoGunicorn, face: Face) -> None:
    """Without authentication, which takes every token; `test_web_identity_on_ceph` has a server that checks them."""
    token = home.directory / "token"
    token.write_text("the.web.token\n")
    home.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    home.setenv("AWS_ROLE_ARN", home.moto.role_arn)
    home.setenv("AWS_ENDPOINT_URL", moto_gunicorn.endpoint.url)
    home.setenv("AWS_ENDPOINT_URL_STS", moto_gunicorn.endpoint.url)
    store = S3Store(moto_gunicorn.endpoint.create_bucket(), client_options={"allow_http": True})
    face.put(store, "k", b"1")
    signed = parse_qs(urlsplit(face.sign(store, "GET", "k", timedelta(hours=1))).query)
    assert signed["X-Amz-Credential"][0].startswith("ASIA")
    assert signed["X-Amz-Security-Token"]


@pytest.mark.ceph
def test_web_identity_on_ceph(home: Home, ceph: Ceph, face: Face) -> None:
    """Ceph checks the issuer's certificate and the token's signature; oidc-provider issues it."""
    token = home.directory / "token"
    with Issuer() as issuer:
        role = ceph.role_for(issuer.url, issuer.thumbprint, issuer.audience)
        token.write_text(issuer.token())
        config = {
            "endpoint": ceph.endpoint.url,
            "endpoint_url_sts": ceph.endpoint.url,
            "region": "us-east-1",
            "role_arn": role,
            "web_identity_token_file": str(token),
            "client_options": {"allow_http": True},
        }
        bucket = ceph.endpoint.create_bucket()
        store = S3Store(bucket, **config)
        face.put(store, "k", b"1")
        assert face.body(face.get(store, "k")) == b"1"
        assert store.describe()["credentials"] == "web identity"
        del store  # another one would share what this one found

        head, body, signature = issuer.token().split(".")
        token.write_text(".".join([head, body, signature[::-1]]))
        with pytest.raises(UnauthenticatedError) as caught:
            face.head(S3Store(bucket, **config), "k")
        assert signature[::-1] not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"web_identity_token_file": "absent", "role_arn": "r"}, "cannot read the token file absent: No such file"),
        ({"web_identity_token_file": "/dev/null", "role_arn": "r"}, "the token file /dev/null is empty"),
        ({"web_identity_token_file": "/dev/null"}, "web_identity_token_file is set without role_arn"),
    ],
)
def test_web_identity_without_a_token_says_so(home: Home, settings: dict[str, str], message: str) -> None:
    with pytest.raises(UnauthenticatedError, match=message) as caught:
        obs.head(home.store(**settings), "k")
    assert caught.value.hint


# ---- containers: https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html ------------------


def container(keys: Callable[[], dict[str, Any]]) -> Callable[[Request], Reply]:
    """The agent of ECS or EKS: strict about its token."""

    def answer(request: Request) -> Reply:
        if request.headers.get("authorization") != "the-token":
            return Reply(401, body=b'{"code": "AccessDenied"}')
        return Reply(200, {"content-type": "application/json"}, json.dumps(keys()).encode())

    return answer


def test_container_credentials(home: Home, scripted: ScriptedServer) -> None:
    scripted.handler = container(home.assume)
    home.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{scripted.url}/creds")
    token = home.directory / "token"
    token.write_text("the-token\n")
    home.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
    home.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "the file comes first")
    used(home.store())
    assert scripted.count() == 1

    token.write_text("another")
    with pytest.raises(UnauthenticatedError, match="answered 401: AccessDenied") as caught:
        obs.head(home.store(), "k")
    assert "AWS_CONTAINER_AUTHORIZATION_TOKEN" in caught.value.hint


def test_container_credentials_are_not_fetched_from_just_anywhere(home: Home) -> None:
    store = home.store(container_credentials_full_uri="http://metadata.example.com/creds")
    with pytest.raises(UnauthenticatedError, match=r"not fetched from http://metadata\.example\.com"):
        obs.head(store, "k")


# ---- instances: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html -----------------


def instance(keys: Callable[[], dict[str, Any]], *, v1_only: bool = False, role: bytes = b"role") -> Any:
    """Instance metadata of version 2, strict: nothing without a token, and no token without its lifetime."""

    def answer(request: Request) -> Reply:
        if request.method == "PUT" and request.path == "/latest/api/token":
            if v1_only:
                return Reply(403)
            known = "x-aws-ec2-metadata-token-ttl-seconds" in request.headers
            return Reply(200, body=b"TKN") if known else Reply(400)
        if not v1_only and request.headers.get("x-aws-ec2-metadata-token") != "TKN":
            return Reply(401)
        if request.path == "/latest/meta-data/iam/security-credentials/":
            return Reply(200, body=role)
        if request.path == "/latest/meta-data/iam/security-credentials/role":
            return Reply(200, body=json.dumps({"Code": "Success", "Type": "AWS-HMAC", **keys()}).encode())
        return Reply(404)

    return answer


@pytest.fixture
def metadata(home: Home, scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    """Instance metadata that hands out keys of moto."""
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    home.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", scripted.url)
    scripted.handler = instance(home.assume)
    return scripted


def test_instance_credentials(home: Home, metadata: ScriptedServer) -> None:
    used(home.store())
    assert [(r.method, r.path.rpartition("/")[2]) for r in metadata.requests] == [
        ("PUT", "token"),
        ("GET", ""),
        ("GET", "role"),
    ]


def test_metadata_and_containers_are_asked_without_a_proxy(
    home: Home, metadata: ScriptedServer, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = home.assume()
    metadata.handler = instance(lambda: keys)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port}")
    obs.sign(home.store(), "GET", "k", timedelta(hours=1))
    assert metadata.count() == 3
    metadata.handler = lambda request: Reply(200, body=json.dumps(keys).encode())
    obs.sign(home.store(container_credentials_full_uri=f"{metadata.url}/creds"), "GET", "k", timedelta(hours=1))
    assert metadata.count() == 4


def test_version_1_is_a_choice(home: Home, metadata: ScriptedServer) -> None:
    metadata.handler = instance(home.assume, v1_only=True)
    with pytest.raises(UnauthenticatedError, match="answered 403") as caught:
        obs.head(home.store(), "k")
    assert "imdsv1_fallback" in caught.value.hint
    used(home.store(imdsv1_fallback=True))
    home.setenv("AWS_EC2_METADATA_V1_DISABLED", "true")
    with pytest.raises(UnauthenticatedError):
        obs.head(home.store(imdsv1_fallback=True), "k")


def test_instance_without_a_role_says_so(home: Home, metadata: ScriptedServer) -> None:
    metadata.handler = instance(home.assume, role=b"")
    with pytest.raises(UnauthenticatedError, match="has no credentials") as caught:
        obs.head(home.store(), "k")
    assert "attach an IAM role" in caught.value.hint


def test_metadata_that_is_not_there_is_asked_once(home: Home, metadata: ScriptedServer) -> None:
    metadata.handler = lambda request: Reply(hang=True)
    home.setenv("AWS_METADATA_SERVICE_TIMEOUT", "0.2")
    for _ in range(3):
        begun = time.monotonic()
        with pytest.raises(UnauthenticatedError, match="No credentials are configured for S3") as caught:
            obs.head(home.store(), "k")
        assert time.monotonic() - begun < 30
        assert "skip_signature" in caught.value.hint
    assert metadata.count() == 1


def test_metadata_in_trouble_is_not_taken_for_absent(home: Home, metadata: ScriptedServer) -> None:
    working, metadata.handler = metadata.handler, lambda request: Reply(503)
    store = home.store()
    with pytest.raises(GenericError, match="EC2 instance metadata error: answered 503") as caught:
        obs.head(store, "k")
    assert caught.value.retryable
    metadata.handler = working
    used(store)


@pytest.mark.parametrize(("vendor", "requests"), [("Amazon EC2", 3), ("Dell Inc.", 1), (None, 1)])
def test_patience_depends_on_the_machine(
    home: Home, metadata: ScriptedServer, monkeypatch: pytest.MonkeyPatch, vendor: str | None, requests: int
) -> None:
    monkeypatch.delenv("AWS_EC2_METADATA_SERVICE_ENDPOINT")
    monkeypatch.setattr("obstore._config.aws_chain._IPV4_ENDPOINT", metadata.url)
    (home.directory / "sys_vendor").write_text(vendor or "")
    monkeypatch.setattr("obstore._auth.aws_metadata._VENDOR_FILES", [str(home.directory / "sys_vendor"), "/nowhere"])
    metadata.handler = lambda request: Reply(drop=True)
    with pytest.raises(UnauthenticatedError, match="No credentials are configured"):
        obs.head(home.store(), "k")
    assert metadata.count() == requests


def test_metadata_is_left_alone_where_it_is_not_wanted(
    home: Home, metadata: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BaseError):  # moto refuses anonymous requests
        obs.head(home.store(skip_signature=True), "k")
    home.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UnauthenticatedError, match="No credentials are configured"):
        obs.head(home.store(), "k")
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    home.write(credentials=f"[default]\n{home.keys}")
    used(home.store())
    assert metadata.count() == 0


def test_a_thousand_operations_cause_one_refresh(home: Home, metadata: ScriptedServer, face: Face) -> None:
    keys = home.assume()
    lives = iter([60, 3600, 0])  # due at once; then fresh

    def fresh_keys() -> dict[str, Any]:
        expiry = datetime.now(UTC) + timedelta(seconds=next(lives))
        return {**keys, "Expiration": expiry.strftime("%Y-%m-%dT%H:%M:%SZ")}

    metadata.handler = instance(fresh_keys)
    store = home.store()
    hour = timedelta(hours=1)
    obs.sign(store, "GET", "k", hour)
    time.sleep(0.2)  # past the guard for credentials that live shortly
    if face.is_async:

        async def main() -> None:
            await asyncio.gather(*(obs.sign_async(store, "GET", "k", hour) for _ in range(1000)))

        face.run(main)
    else:
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda _: obs.sign(store, "GET", "k", hour), range(1000)))
    assert sum(request.path.endswith("/role") for request in metadata.requests) == 2


def test_stores_of_the_same_surroundings_share_what_they_find(home: Home, metadata: ScriptedServer) -> None:
    stores = [home.store(), home.store(prefix="p"), home.store(endpoint=f"{home.moto.endpoint.url}/")]
    for store in stores:
        obs.put(store, "k", b"1")
    assert metadata.count() == 3, "token, role and keys, once"
    obs.sign(home.store(imdsv1_fallback=True), "GET", "k", timedelta(hours=1))
    assert metadata.count() == 6, "others look for themselves"
    home.write(credentials=f"[default]\n{home.keys}")
    store = home.store()
    used(store)
    assert store.describe()["credentials"] == "keys of profile 'default'", "and those that come after a change"


def test_due_credentials_serve_on_while_they_cannot_be_replaced(home: Home, metadata: ScriptedServer) -> None:
    metadata.handler = instance(lambda: home.assume(seconds=100))
    store = home.store()
    obs.put(store, "k", b"1")
    metadata.handler = lambda request: Reply(500)
    time.sleep(0.2)
    asked = metadata.count()
    assert obs.head(store, "k")["size"] == 1
    assert obs.head(store, "k")["size"] == 1
    assert metadata.count() == asked + 1, "the next try is put off"


# ---- signing in ----------------------------------------------------------------------------------------------------
#
# Files: https://docs.aws.amazon.com/sdkref/latest/guide/feature-sso-credentials.html
# Keys: https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html
# Renewal: https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/API_CreateToken.html

SSO_PROFILE = "sso_account_id = 123456789012\nsso_role_name = Reader\n"


class Portal:
    """The sign-in portal and its token endpoint."""

    def __init__(self, home: Home, server: ScriptedServer) -> None:
        self.home = home
        self.token = "token-1"
        server.handler = self.answer
        home.setenv("AWS_ENDPOINT_URL_SSO", server.url)
        home.setenv("AWS_ENDPOINT_URL_SSO_OIDC", server.url)

    def answer(self, request: Request) -> Reply:
        if request.path == "/token":
            asked = json.loads(request.body)
            if asked["refreshToken"] != "refresh-1" or asked["grantType"] != "refresh_token":
                return Reply(400, body=b'{"error": "invalid_grant", "error_description": "no"}')
            self.token = "token-2"
            given = {"accessToken": self.token, "expiresIn": 3600, "refreshToken": "refresh-2", "tokenType": "Bearer"}
            return Reply(200, body=json.dumps(given).encode())
        assert request.path == "/federation/credentials"
        assert request.query == {"role_name": "Reader", "account_id": "123456789012"}
        if request.headers.get("x-amz-sso_bearer_token") != self.token:
            return Reply(401, body=b'{"__type": "UnauthorizedException", "message": "Session token not found"}')
        keys = self.home.assume()
        given = {
            "accessKeyId": keys["AccessKeyId"],
            "secretAccessKey": keys["SecretAccessKey"],
            "sessionToken": keys["Token"],
            "expiration": int(time.time() * 1000) + 3_600_000,
        }
        return Reply(200, body=json.dumps({"roleCredentials": given}).encode())

    def sign_in(self, name: str, *, minutes: float = 60, **more: str) -> Path:
        """Leave a token as ``aws sso login`` does."""
        cache = self.home.directory / ".aws" / "sso" / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        path = cache / f"{hashlib.sha1(name.encode()).hexdigest()}.json"  # noqa: S324 - the command line's name for it
        expiry = datetime.now(UTC) + timedelta(minutes=minutes)
        document = {"accessToken": self.token, "expiresAt": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"), **more}
        path.write_text(json.dumps(document))
        return path


@pytest.fixture
def portal(home: Home, scripted: ScriptedServer) -> Portal:
    return Portal(home, scripted)


def test_sign_in_of_a_session(home: Home, portal: Portal) -> None:
    session = "[sso-session corp]\nsso_start_url = https://corp.example/start\nsso_region = us-east-1\n"
    home.write(config=f"[profile dev]\nsso_session = corp\n{SSO_PROFILE}{session}")
    portal.sign_in("corp")
    used(home.store(profile="dev"))


def test_sign_in_of_the_old_form(home: Home, portal: Portal) -> None:
    where = "sso_start_url = https://corp.example/start\nsso_region = us-east-1\n"
    home.write(config=f"[profile dev]\n{where}{SSO_PROFILE}")
    portal.sign_in("https://corp.example/start")
    used(home.store(profile="dev"))


def test_sign_in_is_renewed_and_left_for_the_command_line(home: Home, portal: Portal) -> None:
    session = "[sso-session corp]\nsso_start_url = https://corp.example/start\nsso_region = us-east-1\n"
    home.write(config=f"[profile dev]\nsso_session = corp\n{SSO_PROFILE}{session}")
    registration = {"clientId": "c", "clientSecret": SECRET, "registrationExpiresAt": "2099-01-01T00:00:00Z"}
    path = portal.sign_in("corp", minutes=-5, refreshToken="refresh-1", **registration)
    used(home.store(profile="dev"))
    kept = json.loads(path.read_text())
    assert (kept["accessToken"], kept["refreshToken"], kept["clientId"]) == ("token-2", "refresh-2", "c")
    assert path.stat().st_mode & 0o777 == 0o600
    used(home.store(profile="dev"))


def test_nobody_signed_in(home: Home, portal: Portal) -> None:
    session = "[sso-session corp]\nsso_start_url = https://corp.example/start\nsso_region = us-east-1\n"
    home.write(config=f"[profile dev]\nsso_session = corp\n{SSO_PROFILE}{session}")
    store = home.store(profile="dev")
    for problem, sign_in in (
        ("nobody has signed in", lambda: None),
        ("has expired", lambda: portal.sign_in("corp", minutes=-1)),
        ("invalid_grant", lambda: portal.sign_in("corp", minutes=-1, **DEAD)),
        ("no usable sign-in", lambda: portal.sign_in("corp").write_text("{}")),
        ("answered 401: UnauthorizedException", lambda: portal.sign_in("corp", accessToken=SECRET)),
    ):
        sign_in()
        with pytest.raises(UnauthenticatedError, match=problem) as caught:
            obs.head(store, "k")
        assert "aws sso login" in caught.value.hint
        assert not shows(caught.value, SECRET)


DEAD = {
    "refreshToken": "dead",
    "clientId": "c",
    "clientSecret": SECRET,
    "registrationExpiresAt": "2099-01-01T00:00:00Z",
}


# ---- what goes wrong -----------------------------------------------------------------------------------------------

ROLE = "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/role\nsource_profile = base\n"
BASE = f"[base]\naws_access_key_id = AKIDWRONG\naws_secret_access_key = {SECRET}\n"


@pytest.mark.parametrize(
    ("config", "credentials", "message"),
    [
        ("[profile role]\nrole_arn = r\n", "", "neither source_profile nor credential_source"),
        ("[profile role]\nrole_arn = r\nsource_profile = gone\n", "", "source_profile 'gone', which is not there"),
        (ROLE, "[base]\n", "source_profile 'base' of profile 'role' has no credentials"),
        ("[profile role]\nrole_arn = r\ncredential_source = Moon\n", "", "credential_source 'Moon' is unknown"),
        ("[profile role]\nrole_arn = r\ncredential_source = Environment\n", "", "Environment has no credentials"),
        (f"{ROLE}mfa_serial = m\n", BASE, "wants a code of the device mfa_serial"),
        ("[profile role]\nlogin_session = s\n", "", "signs in with aws login"),
        ("[profile role]\nsso_session = s\n", "", "names the sso_session 's', which is not there"),
        ("[profile role]\nsso_account_id = 1\n", "", "lacks sso_start_url, sso_region, sso_role_name"),
        ("", f"[role]\naws_access_key_id = {SECRET[:5]}\n", "what profile 'role' gave has no aws_secret_access_key"),
        (
            "[profile role]\nrole_arn = r\nsource_profile = b\n[profile b]\nrole_arn = r\nsource_profile = role\n",
            "",
            "profiles name each other as source_profile: role -> b -> role",
        ),
        ("[profile role]\ncredential_process = /nowhere/at-all\n", "", "cannot be run: No such file"),
        ("[profile role]\ncredential_process = false\n", "", "ended with status 1"),
        ("[profile role]\ncredential_process = echo hello\n", "", "printed no JSON document"),
        ("[profile role]\ncredential_process = echo {}\n", "", "speaks version None, not 1"),
        ("[profile role]\ncredential_process = echo '{\"Version\": 1}'\n", "", "has no AccessKeyId"),
        ("[profile role]\nregion = x\n", "", "No credentials are configured for S3. Profile 'role' has none"),
    ],
)
def test_profile_that_cannot_work_says_why(home: Home, config: str, credentials: str, message: str) -> None:
    home.write(config, credentials)
    with pytest.raises(UnauthenticatedError, match=re.escape(message)) as caught:
        obs.head(home.store(profile="role"), "k")
    assert not shows(caught.value, SECRET)


def test_missing_profile_is_named_with_those_there_are(home: Home) -> None:
    home.write(config="[profile one]\n[profile two]\n")
    with pytest.raises(GenericError, match="there is no profile 'three'") as caught:
        S3Store("b", profile="three", region="r")
    assert caught.value.hint == "profiles there: one, two"
    home.setenv("AWS_PROFILE", "three")
    with pytest.raises(UnauthenticatedError, match="there is no profile 'three'"):
        obs.head(home.store(), "k")


def test_file_that_is_none_is_named_and_not_shown(home: Home) -> None:
    home.write(credentials=f"[default]\nregion = x\n{SECRET}\n")
    with pytest.raises(GenericError, match=r"credentials, line 3 is not in the format") as caught:
        obs.head(home.store(), "k")
    assert not shows(caught.value, SECRET)


def test_wrong_secret_of_a_source_profile(home: Home, scripted: ScriptedServer) -> None:
    """The answer is the one of https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html."""
    home.write(ROLE, BASE)
    home.setenv("AWS_ENDPOINT_URL_STS", scripted.url)
    scripted.handler = lambda request: Reply(
        403,
        body=b"<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code>"
        b"<Message>The security token included in the request is invalid.</Message></Error></ErrorResponse>",
    )
    with pytest.raises(UnauthenticatedError, match="InvalidClientTokenId: The security token") as caught:
        obs.head(home.store(profile="role"), "k")
    assert caught.value.status == 403
    assert caught.value.hint == "check the access key that the role is assumed with"
    assert scripted.count() == 1


def test_clock_of_this_machine_does_not_matter_to_roles(home: Home, scripted: ScriptedServer) -> None:
    """A request signed for the wrong time is signed once more, for the service's."""
    home.write(ROLE, BASE)
    home.setenv("AWS_ENDPOINT_URL_STS", scripted.url)
    dates = []

    def answer(request: Request) -> Reply:
        dates.append(request.headers["x-amz-date"])
        ahead = datetime.now(UTC) + timedelta(hours=2)
        headers = {"date": ahead.strftime("%a, %d %b %Y %H:%M:%S GMT")}
        return Reply(
            403, headers, b"<Error><Code>SignatureDoesNotMatch</Code><Message>Signature expired</Message></Error>"
        )

    scripted.handler = answer
    with pytest.raises(UnauthenticatedError, match="Signature expired") as caught:
        obs.head(home.store(profile="role"), "k")
    assert "clock" in caught.value.hint
    first, second = (datetime.strptime(f"{date}+0000", "%Y%m%dT%H%M%SZ%z") for date in dates)
    assert timedelta(hours=1, minutes=59) < second - first < timedelta(hours=2, minutes=1)


def test_service_that_cannot_be_reached(home: Home, free_port: int) -> None:
    home.write(ROLE, BASE)
    home.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{free_port}")
    with pytest.raises(ConnectionFailedError, match=f"no answer from http://127.0.0.1:{free_port}") as caught:
        obs.head(home.store(profile="role"), "k")
    assert caught.value.retryable
    assert not shows(caught.value, SECRET)


def test_service_that_never_answers(home: Home, scripted: ScriptedServer) -> None:
    home.write(ROLE, BASE)
    home.setenv("AWS_ENDPOINT_URL_STS", scripted.url)
    scripted.handler = lambda request: Reply(hang=True)
    with pytest.raises(RequestTimeoutError):
        obs.head(home.store(profile="role", client_options={"timeout": "200ms"}), "k")
    assert scripted.count() == 3


def test_unencrypted_service_needs_leave(home: Home, scripted: ScriptedServer) -> None:
    home.write(ROLE, BASE)
    home.setenv("AWS_ENDPOINT_URL_STS", scripted.url)
    store = S3Store("b", region="r", profile="role")
    with pytest.raises(GenericError) as caught:
        obs.head(store, "k")
    assert "allow_http" in caught.value.hint
    assert scripted.count() == 0


def test_pickles_hold_no_derived_keys(home: Home, metadata: ScriptedServer) -> None:
    store = home.store()
    used(store)
    keys = json.dumps([json.loads(r.body) for r in metadata.requests if r.body] or "")
    text = pickle.dumps(store)
    assert b"Token" not in text
    assert b"ASIA" not in text, keys
    used(pickle.loads(text))


# ---- settings of profiles ------------------------------------------------------------------------------------------


def test_endpoint_and_region_of_the_profile(home: Home) -> None:
    home.write(
        f"[default]\nservices = local\nregion = eu-west-3\n[services local]\ns3 =\n"
        f"  endpoint_url = {home.moto.endpoint.url}\n",
        f"[default]\n{home.keys}",
    )
    used(S3Store(home.bucket, client_options={"allow_http": True}, retry_config=ONCE))
