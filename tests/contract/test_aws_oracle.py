"""The chain of credentials beside botocore's: the same files and variables lead to the same requests and the same keys.

One scripted server plays token service, portal, container agent and instance metadata, and names each key after what was
asked of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import botocore.credentials
import botocore.session
import botocore.tokens
import pytest

import obstore as obs
from obstore._auth.aws_metadata import forget_silence
from obstore.exceptions import BaseError
from obstore.store import S3Store
from tests.servers.scripted import Reply, Request, ScriptedServer

EXPIRY = "2099-01-01T00:00:00Z"
KEYS = "aws_access_key_id = {0}\naws_secret_access_key = secret-{0}\n"


def keys(name: str) -> str:
    return KEYS.format(name)


def signer_of(request: Request) -> str:
    """The access key that signed a request, or an empty text."""
    _, _, rest = request.headers.get("authorization", "").partition("Credential=")
    return rest.partition("/")[0]


def answer(request: Request) -> Reply:
    """All services in one."""
    if request.path == "/":
        form = dict(parse_qsl(request.body.decode()))
        name = f"{form['RoleArn'].rpartition('/')[2].upper()}by{signer_of(request) or form['WebIdentityToken']}"
        action = form["Action"]
        found = (
            f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>'
            f"<AccessKeyId>{name}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
            f"<Expiration>{EXPIRY}</Expiration></Credentials>"
            "<AssumedRoleUser><AssumedRoleId>A:s</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/r/s</Arn>"
            f"</AssumedRoleUser></{action}Result><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>"
            f"</{action}Response>"
        )
        return Reply(200, {"content-type": "text/xml"}, found.encode())
    if request.path == "/federation/credentials":
        token = request.headers["x-amz-sso_bearer_token"]
        given = {"accessKeyId": f"SSO{request.query['role_name']}{token}", "secretAccessKey": "s"}
        given |= {"sessionToken": "t", "expiration": 4_070_908_800_000}
        return Reply(200, {"content-type": "application/json"}, json.dumps({"roleCredentials": given}).encode())
    if request.path == "/latest/api/token":
        return Reply(200, body=b"TKN")
    if request.path == "/latest/meta-data/iam/security-credentials/":
        return Reply(200, body=b"role")
    name = "CONTAINER" if request.path == "/creds" else "INSTANCE"
    document = {"Code": "Success", "AccessKeyId": name, "SecretAccessKey": "s", "Token": "t", "Expiration": EXPIRY}
    return Reply(200, {"content-type": "application/json"}, json.dumps(document).encode())


ROLE = "role_arn = arn:aws:iam::123456789012:role/{}\n"
WEB_ROLE = ROLE.format("web") + "web_identity_token_file = {home}/token\n"
OPTIONS = "role_session_name = me\nexternal_id = them\nduration_seconds = 1800\n"
SSO = "sso_account_id = 123456789012\nsso_role_name = Reader\n"
SESSION = "[sso-session corp]\nsso_start_url = https://corp/start\nsso_region = us-east-1\n"
WEB = {"AWS_WEB_IDENTITY_TOKEN_FILE": "{home}/token", "AWS_ROLE_ARN": ROLE.format("web").split(" = ")[1].strip()}
ENV = {"AWS_ACCESS_KEY_ID": "ENVKEY", "AWS_SECRET_ACCESS_KEY": "s"}
METADATA = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "{url}", "AWS_EC2_METADATA_DISABLED": "false"}
CONTAINER = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/creds"}

# name: config file, credentials file, environment, profile of the program, access key that all of it means (None: none)
CASES: dict[str, tuple[str, str, dict[str, str], str | None, str | None]] = {
    "nothing": ("", "", {}, None, None),
    "default of the credentials file": ("", f"[default]\n{keys('A')}", {}, None, "A"),
    "default of the config file": (f"[default]\n{keys('A')}", "", {}, None, "A"),
    "credentials file before config file": (f"[default]\n{keys('A')}", f"[default]\n{keys('B')}", {}, None, "B"),
    "environment before files": ("", f"[default]\n{keys('A')}", ENV, None, "ENVKEY"),
    "environment before profile of the environment": (
        "",
        f"[x]\n{keys('A')}",
        {**ENV, "AWS_PROFILE": "x"},
        None,
        "ENVKEY",
    ),
    "profile of the program before environment": ("", f"[x]\n{keys('A')}", ENV, "x", "A"),
    "profile of the environment": (f"[profile x]\n{keys('A')}", "", {"AWS_PROFILE": "x"}, None, "A"),
    "quoted profile": (f'[profile "x y"]\n{keys("A")}', "", {}, "x y", "A"),
    "process": ("[profile x]\ncredential_process = cat {home}/keys.json\n", "", {}, "x", "PROCESS"),
    "credentials file before process": (
        "[profile x]\ncredential_process = cat {home}/keys.json\n",
        f"[x]\n{keys('A')}",
        {},
        "x",
        "A",
    ),
    "process before config file": (
        f"[profile x]\n{keys('A')}credential_process = cat {{home}}/keys.json\n",
        "",
        {},
        "x",
        "PROCESS",
    ),
    "role of keys": (f"[profile x]\n{ROLE.format('r')}source_profile = b\n", f"[b]\n{keys('B')}", {}, "x", "RbyB"),
    "role of itself": (f"[profile x]\n{ROLE.format('r')}source_profile = x\n{keys('X')}", "", {}, "x", "RbyX"),
    "role of role": (
        f"[profile x]\n{ROLE.format('r')}source_profile = y\n[profile y]\n{ROLE.format('q')}source_profile = b\n",
        f"[b]\n{keys('B')}",
        {},
        "x",
        "RbyQbyB",
    ),
    "source with keys and a role uses its keys": (
        f"[profile x]\n{ROLE.format('r')}source_profile = y\n[profile y]\n{keys('Y')}{ROLE.format('q')}source_profile = b\n",
        f"[b]\n{keys('B')}",
        {},
        "x",
        "RbyY",
    ),
    "role of process": (
        f"[profile x]\n{ROLE.format('r')}source_profile = y\n[profile y]\ncredential_process = cat {{home}}/keys.json\n",
        "",
        {},
        "x",
        "RbyPROCESS",
    ),
    "role of sign-in": (
        f"[profile x]\n{ROLE.format('r')}source_profile = y\n[profile y]\nsso_session = corp\n{SSO}{SESSION}",
        "",
        {},
        "x",
        "RbySSOReadercorp",
    ),
    "role of web identity": (
        f"[profile x]\n{ROLE.format('r')}source_profile = y\n[profile y]\n{WEB_ROLE}",
        "",
        {},
        "x",
        "RbyWEBbywebtoken",
    ),
    "role with options": (
        f"[profile x]\n{ROLE.format('r')}source_profile = b\n{OPTIONS}",
        f"[b]\n{keys('B')}",
        {},
        "x",
        "RbyB",
    ),
    "role of environment": (
        f"[profile x]\n{ROLE.format('r')}credential_source = Environment\n",
        "",
        ENV,
        "x",
        "RbyENVKEY",
    ),
    "role of container": (
        f"[profile x]\n{ROLE.format('r')}credential_source = EcsContainer\n",
        "",
        CONTAINER,
        "x",
        "RbyCONTAINER",
    ),
    "role of instance": (
        f"[profile x]\n{ROLE.format('r')}credential_source = Ec2InstanceMetadata\n",
        "",
        METADATA,
        "x",
        "RbyINSTANCE",
    ),
    "web identity of the environment": ("", "", WEB, None, "WEBbywebtoken"),
    "web identity of the environment before keys of a profile": (
        "",
        f"[default]\n{keys('A')}",
        WEB,
        None,
        "WEBbywebtoken",
    ),
    "role of a profile before web identity of the environment": (
        f"[default]\n{ROLE.format('r')}source_profile = b\n",
        f"[b]\n{keys('B')}",
        WEB,
        None,
        "RbyB",
    ),
    "profile of the program before web identity of the environment": ("", f"[x]\n{keys('A')}", WEB, "x", "A"),
    "web identity of a profile": (
        f"[profile x]\n{WEB_ROLE}role_session_name = me\n",
        "",
        {},
        "x",
        "WEBbywebtoken",
    ),
    "sign-in with a session": (f"[profile x]\nsso_session = corp\n{SSO}{SESSION}", "", {}, "x", "SSOReadercorp"),
    "sign-in of the old form": (
        f"[profile x]\nsso_start_url = https://corp/start\nsso_region = us-east-1\n{SSO}",
        "",
        {},
        "x",
        "SSOReaderold",
    ),
    "sign-in before keys": (
        f"[profile x]\nsso_session = corp\n{SSO}{SESSION}",
        f"[x]\n{keys('A')}",
        {},
        "x",
        "SSOReadercorp",
    ),
    "container": ("", "", CONTAINER, None, "CONTAINER"),
    "container before instance": ("", "", {**CONTAINER, **METADATA}, None, "CONTAINER"),
    "keys of the default profile before container": ("", f"[default]\n{keys('A')}", CONTAINER, None, "A"),
    "container after a profile without credentials": ("[profile x]\nregion = r\n", "", CONTAINER, "x", "CONTAINER"),
    "instance": ("", "", METADATA, None, "INSTANCE"),
    "instance by the profile": (
        "[default]\nec2_metadata_service_endpoint = {url}\n",
        "",
        {"AWS_EC2_METADATA_DISABLED": "false"},
        None,
        "INSTANCE",
    ),
}


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripted: ScriptedServer) -> Iterator[Any]:
    """Prepares files and variables; ``{home}`` and ``{url}`` in them are the directory and the server."""
    (tmp_path / ".aws" / "sso" / "cache").mkdir(parents=True)
    (tmp_path / "token").write_text("webtoken")
    document = {"Version": 1, "AccessKeyId": "PROCESS", "SecretAccessKey": "s", "Expiration": EXPIRY}
    (tmp_path / "keys.json").write_text(json.dumps(document))
    for name, token in (("corp", "corp"), ("https://corp/start", "old")):
        digest = hashlib.sha1(name.encode()).hexdigest()  # noqa: S324 - the command line's name for it
        (tmp_path / ".aws" / "sso" / "cache" / f"{digest}.json").write_text(
            json.dumps(
                {"accessToken": token, "expiresAt": EXPIRY, "startUrl": "https://corp/start", "region": "us-east-1"}
            )
        )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AWS_CONFIG_FILE")
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for service in ("STS", "SSO"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", scripted.url)
    cache = str(tmp_path / ".aws" / "sso" / "cache")
    for kind in (
        botocore.credentials.SSOProvider,
        botocore.tokens.SSOTokenProvider,
    ):  # found home when they were imported
        monkeypatch.setattr(kind, "_SSO_TOKEN_CACHE_DIR", cache)
    scripted.handler = answer

    def prepare(config: str, credentials: str, environ: dict[str, str]) -> None:
        def fill(text: str) -> str:
            return text.replace("{home}", str(tmp_path)).replace("{url}", scripted.url)

        (tmp_path / ".aws" / "config").write_text(fill(config))
        (tmp_path / ".aws" / "credentials").write_text(fill(credentials))
        for name, value in environ.items():
            if value:
                monkeypatch.setenv(name, fill(value))
            else:
                monkeypatch.delenv(name)

    forget_silence()
    yield prepare
    forget_silence()


def summary(requests: list[Request]) -> list[Any]:
    """What was asked, without what each client may choose."""
    asked = []
    for request in requests:
        form = dict(parse_qsl(request.body.decode()))
        if form.get("RoleSessionName", "").startswith(("botocore-session-", "obstore-", "WebIdentitySession")):
            del form["RoleSessionName"]
        if form.get("DurationSeconds") == "3600":
            del form["DurationSeconds"]
        asked.append((request.method, request.path, request.query, form, signer_of(request)))
    return asked


@pytest.mark.parametrize("case", CASES)
def test_chain_is_botocores(case: str, surroundings: Callable[..., None], scripted: ScriptedServer) -> None:
    config, credentials, environ, profile, expected = CASES[case]
    surroundings(config, credentials, environ)
    found = botocore.session.Session(profile=profile).get_credentials()
    theirs = None if found is None else found.get_frozen_credentials()
    asked = summary(scripted.requests)
    scripted.requests.clear()

    store = S3Store("b", client_options={"allow_http": True}, **({} if profile is None else {"profile": profile}))
    if expected is None:
        assert theirs is None
        with pytest.raises(BaseError, match="No credentials are configured"):
            obs.sign(store, "GET", "k", timedelta(hours=1))
        return
    query = parse_qs(urlsplit(obs.sign(store, "GET", "k", timedelta(hours=1))).query)
    ours = query["X-Amz-Credential"][0].partition("/")[0]
    assert theirs is not None
    assert (ours, query.get("X-Amz-Security-Token", [None])[0]) == (theirs.access_key, theirs.token)
    assert ours == expected
    assert summary(scripted.requests) == asked


ENDPOINTS: dict[str, tuple[str, dict[str, str]]] = {
    "of the profile": ("[default]\nendpoint_url = http://a:1\n", {}),
    "of the service": (
        "[default]\nservices = s\nendpoint_url = http://a:1\n[services s]\ns3 =\n  endpoint_url = http://b:2\n",
        {},
    ),
    "of another service": (
        "[default]\nservices = s\nendpoint_url = http://a:1\n[services s]\nsqs =\n  endpoint_url = http://b:2\n",
        {},
    ),
    "of the environment": ("[default]\nendpoint_url = http://a:1\n", {"AWS_ENDPOINT_URL": "http://c:3"}),
    "of the environment for s3": ("", {"AWS_ENDPOINT_URL": "http://c:3", "AWS_ENDPOINT_URL_S3": "http://d:4"}),
    "ignored": ("[default]\nendpoint_url = http://a:1\n", {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}),
    "ignored by the profile": ("[default]\nendpoint_url = http://a:1\nignore_configured_endpoint_urls = true\n", {}),
    "environment ignored": ("", {"AWS_ENDPOINT_URL": "http://c:3", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}),
    "of another profile": ("[profile x]\nendpoint_url = http://a:1\n", {"AWS_PROFILE": "x"}),
}


@pytest.mark.parametrize("case", ENDPOINTS)
def test_endpoint_is_botocores(case: str, surroundings: Callable[..., None]) -> None:
    config, environ = ENDPOINTS[case]
    surroundings(config, f"[default]\n{keys('A')}[x]\n{keys('X')}", environ)
    client = botocore.session.Session().create_client("s3")
    theirs = client.meta.endpoint_url
    client.close()
    ours = obs.sign(S3Store("b"), "GET", "k", timedelta(hours=1))
    assert ours.partition("/b/k")[0] in (theirs, theirs.replace("s3.amazonaws", "s3.us-east-1.amazonaws"))
    assert "X-Amz-Credential=X" in ours or "AWS_PROFILE" not in environ


@pytest.mark.parametrize(
    ("config", "environ"),
    [
        ("[default]\nregion = eu-west-3\n", {"AWS_DEFAULT_REGION": ""}),
        ("[default]\nregion = eu-west-3\n", {}),
        (
            "[profile x]\nregion = eu-west-2\n[default]\nregion = eu-west-3\n",
            {"AWS_DEFAULT_REGION": "", "AWS_PROFILE": "x"},
        ),
    ],
)
def test_region_is_botocores(config: str, environ: dict[str, str], surroundings: Callable[..., None]) -> None:
    surroundings(config, f"[default]\n{keys('A')}[x]\n{keys('X')}", environ)
    theirs = botocore.session.Session().get_config_variable("region")
    assert f"%2F{theirs}%2Fs3%2F" in obs.sign(S3Store("b"), "GET", "k", timedelta(hours=1))
