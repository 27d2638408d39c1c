"""Google's token endpoints around a server of the JSON API: ``google_app.py PORT DIRECTORY UPSTREAM``.

Authlib checks what asks for tokens: the signed assertion of a service account (RFC 7523) and the refresh token of a user. The
token exchange of workload identity (RFC 8693), the impersonation API and the metadata server answer as their documents say,
having checked what these demand. Everything else goes on to UPSTREAM, if it comes with a token that was issued here and has
not run out. URLs and forms that were signed in advance (V4, by the service account's key or by an HMAC
key) are checked and carried out in place of a token. The directory gets the credentials files.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import hmac
import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

from authlib.integrations.flask_oauth2 import AuthorizationServer  # noqa: E402 - after the settings above
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin, grants  # noqa: E402
from authlib.oauth2.rfc7523 import JWTBearerGrant  # noqa: E402
from cryptography.exceptions import InvalidSignature  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: E402
from flask import Flask, Response, request  # noqa: E402

PORT, DIRECTORY, UPSTREAM = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
URL = f"http://127.0.0.1:{PORT}"
EMAIL = "robot@project.iam.gserviceaccount.com"
OTHER = "other@project.iam.gserviceaccount.com"
KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
PUBLIC = (
    KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
)

app = Flask(__name__)
issued: dict[str, float] = {}
counts: dict[str, int] = {}
state = {"lifetime": 3600}


def issue() -> str:
    token = f"ya29.{secrets.token_urlsafe(24)}"
    issued[token] = time.time() + state["lifetime"]
    return token


def bearer_is_good() -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return scheme == "Bearer" and issued.get(token, 0.0) > time.time()


def refuse(status: int, message: str, reason: str) -> tuple[dict[str, object], int]:
    return {"error": {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}}, status


# ---- service accounts and users: Authlib ---------------------------------------------------------------------


class Client(ClientMixin):
    def __init__(self, name: str, secret: str) -> None:
        self.name, self.secret = name, secret

    def get_client_id(self):
        return self.name

    def get_allowed_scope(self, scope):
        return scope or ""

    def check_client_secret(self, secret):
        return secret == self.secret

    def check_endpoint_auth_method(self, method, endpoint):
        return True

    def check_grant_type(self, grant):
        return True


class Token(TokenMixin):
    def check_client(self, client):
        return True

    def get_scope(self):
        return ""

    def get_expires_in(self):
        return 60

    def is_expired(self):
        return False

    def is_revoked(self):
        return False

    def get_user(self):
        return None


CLIENTS = {EMAIL: Client(EMAIL, ""), "cid": Client("cid", "csecret")}


class Assertion(JWTBearerGrant):
    def resolve_issuer_client(self, issuer):
        return CLIENTS.get(issuer)

    def resolve_client_key(self, client, headers, payload):
        return PUBLIC

    def authenticate_user(self, subject):
        return subject

    def has_granted_permission(self, client, user):
        return True

    def get_audiences(self):
        # The second is what google-auth signs, whatever token_uri says.
        return [f"{URL}/token", "https://oauth2.googleapis.com/token"]


class Refresh(grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_post", "client_secret_basic")

    def authenticate_refresh_token(self, token):
        return Token() if token == "1//refresh" else None

    def authenticate_user(self, credential):
        return "user"

    def revoke_old_credential(self, credential):
        return None


def make_token(**_: object) -> dict[str, object]:
    return {"access_token": issue(), "token_type": "Bearer", "expires_in": state["lifetime"]}


server = AuthorizationServer(app, query_client=CLIENTS.get, save_token=lambda token, request: None)
server.register_grant(Assertion)
server.register_grant(Refresh)
server.register_token_generator("default", lambda *args, **kwargs: make_token())


@app.post("/token")
def token():
    counts["token"] = counts.get("token", 0) + 1
    return server.create_token_response()


# ---- https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token ------------------------------------


@app.post("/sts")
def exchange():
    counts["sts"] = counts.get("sts", 0) + 1
    form = request.form
    if (
        form.get("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange"
        or form.get("audience")
        != "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x"
        or form.get("subject_token") != "subject-token"
    ):
        return {"error": "invalid_grant", "error_description": "The subject token is not known."}, 400
    answer = make_token()
    return {**answer, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}


# ---- https://cloud.google.com/iam/docs/reference/credentials/rest ----------------------------------------------


@app.post("/v1/projects/-/serviceAccounts/<email>:generateAccessToken")
def impersonate(email: str):
    counts["impersonate"] = counts.get("impersonate", 0) + 1
    if not bearer_is_good():
        return refuse(401, "Request had invalid authentication credentials.", "UNAUTHENTICATED")
    if email != OTHER or not request.get_json().get("scope"):
        return refuse(403, "Permission 'iam.serviceAccounts.getAccessToken' denied", "IAM_PERMISSION_DENIED")
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + state["lifetime"]))
    return {"accessToken": issue(), "expireTime": expires}


@app.post("/v1/projects/-/serviceAccounts/<email>:signBlob")
def sign_blob(email: str):
    counts["signBlob"] = counts.get("signBlob", 0) + 1
    if not bearer_is_good():
        return refuse(401, "Request had invalid authentication credentials.", "UNAUTHENTICATED")
    if email not in (EMAIL, OTHER):
        return refuse(403, "Permission 'iam.serviceAccounts.signBlob' denied", "IAM_PERMISSION_DENIED")
    payload = base64.b64decode(request.get_json()["payload"], validate=True)
    signature = KEY.sign(payload, padding.PKCS1v15(), hashes.SHA256())
    return {"keyId": "1", "signedBlob": base64.b64encode(signature).decode()}


# ---- https://cloud.google.com/compute/docs/metadata/overview ---------------------------------------------------


@app.get("/computeMetadata/v1/<path:name>")
def metadata(name: str):
    if request.headers.get("Metadata-Flavor") != "Google":
        return "Missing Metadata-Flavor:Google header.", 403
    counts["metadata"] = counts.get("metadata", 0) + 1
    account = {"aliases": ["default"], "email": EMAIL, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}
    answers: dict[str, object] = {
        "instance/service-accounts/default/": account,
        f"instance/service-accounts/{EMAIL}/": account,
        "universe/universe-domain": "googleapis.com",
        "project/project-id": "project",
    }
    if name.endswith("/token"):
        counts["metadata_token"] = counts.get("metadata_token", 0) + 1
        answers[name] = make_token()
    if name not in answers:
        return "", 404, {"Metadata-Flavor": "Google"}
    found = answers[name]
    if isinstance(found, str):
        return found, 200, {"Metadata-Flavor": "Google", "Content-Type": "text/plain"}
    return found, 200, {"Metadata-Flavor": "Google"}


@app.get("/")
def root():
    return "computeMetadata/\n", 200, {"Metadata-Flavor": "Google"}


# ---- https://cloud.google.com/storage/docs/authentication/canonical-requests ------------------------------------

HMAC_ID, HMAC_SECRET = "GOOG1EXAMPLE", "hmac-secret"


class Refused(Exception):
    """A signature that does not hold: what the XML API would answer."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


def check_signature(algorithm: str, credential: str, text: str, signature: str) -> None:
    account, date, *scope = credential.split("/")
    if scope != ["auto", "storage", "goog4_request"]:
        raise Refused(400, "MalformedSecurityHeader")
    if algorithm == "GOOG4-HMAC-SHA256" and account == HMAC_ID:
        key = ("GOOG4" + HMAC_SECRET).encode()
        for part in (date, *scope):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        if not hmac.compare_digest(hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), signature):
            raise Refused(403, "SignatureDoesNotMatch")
    elif algorithm == "GOOG4-RSA-SHA256" and account in (EMAIL, OTHER):
        try:
            KEY.public_key().verify(bytes.fromhex(signature), text.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, ValueError):
            raise Refused(403, "SignatureDoesNotMatch") from None
    else:
        raise Refused(403, "InvalidAccessKeyId")


def check_url() -> None:
    """The signature in the query of the request."""
    raw_path, _, raw_query = request.environ["REQUEST_URI"].partition("?")
    pairs = [tuple(pair.partition("=")[::2]) for pair in raw_query.split("&")]
    given = {name: urllib.parse.unquote(value) for name, value in pairs}
    names = given["X-Goog-SignedHeaders"].split(";")
    headers = {name.lower(): " ".join(value.split()) for name, value in request.headers.items()}
    if "host" not in names or any(name.startswith("x-goog-") and name not in names for name in headers):
        raise Refused(400, "InvalidHeader")
    started = calendar.timegm(time.strptime(given["X-Goog-Date"], "%Y%m%dT%H%M%SZ"))
    if not started - 60 <= time.time() <= started + int(given["X-Goog-Expires"]) <= started + 604800:
        raise Refused(400, "ExpiredToken")
    canonical = "\n".join(
        [
            request.method,
            raw_path,
            "&".join("=".join(pair) for pair in sorted(pairs) if pair[0] != "X-Goog-Signature"),
            *(f"{name}:{headers.get(name, '')}" for name in names),
            "",
            ";".join(names),
            headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD"),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    scope = given["X-Goog-Credential"].partition("/")[2]
    text = "\n".join([given["X-Goog-Algorithm"], given["X-Goog-Date"], scope, digest])
    check_signature(given["X-Goog-Algorithm"], given["X-Goog-Credential"], text, given["X-Goog-Signature"])


def forward(method: str, path: str, body: bytes | None, headers: dict[str, str]):
    onward = urllib.request.Request(UPSTREAM + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(onward) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def carry_out(bucket: str, key: str):
    """A request of the XML API, by way of the JSON API: the upstream has only that."""
    target = f"/storage/v1/b/{bucket}/o/{quoted(key)}"
    generation = f"&generation={request.args['generation']}" if "generation" in request.args else ""
    if request.method in ("GET", "HEAD"):
        headers = {"Range": request.headers["Range"]} if "Range" in request.headers else {}
        status, found, body = forward("GET", f"{target}?alt=media{generation}", None, headers)
        kept = {n: v for n, v in found.items() if n.lower().startswith(("content-", "x-goog-", "etag", "last-"))}
        for name, value in request.args.items():
            if name.startswith("response-"):
                kept[name.removeprefix("response-").title()] = value
        return Response(body, status, kept)
    if request.method == "PUT":
        kind = request.headers.get("Content-Type", "application/octet-stream")
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quoted(key)}"
        status, _, body = forward("POST", path, request.get_data(), {"Content-Type": kind})
        return Response(b"" if status == 200 else body, status)
    if request.method == "DELETE":
        status, _, body = forward("DELETE", target, None, {})
        return Response(b"", 204 if status in (200, 204) else status)
    return refuse(405, "Method not allowed", "methodNotAllowed")


def upload_form(bucket: str):
    """https://cloud.google.com/storage/docs/xml-api/post-object-forms"""
    form = {name.lower(): value for name, value in request.form.items()}
    check_signature(form["x-goog-algorithm"], form["x-goog-credential"], form["policy"], form["x-goog-signature"])
    policy = json.loads(base64.b64decode(form["policy"], validate=True))
    if calendar.timegm(time.strptime(policy["expiration"], "%Y-%m-%dT%H:%M:%SZ")) < time.time():
        raise Refused(400, "ExpiredToken")
    file = request.files["file"].read()
    exact = {name: value for each in policy["conditions"] if isinstance(each, dict) for name, value in each.items()}
    free = set()
    for kind, *rest in (each for each in policy["conditions"] if isinstance(each, list)):
        if kind == "content-length-range":
            if not rest[0] <= len(file) <= rest[1]:
                raise Refused(400, "EntityTooLarge")
        else:
            name = rest[0].removeprefix("$").lower()
            free.add(name)
            holds = form[name].startswith(rest[1]) if kind == "starts-with" else form[name] == rest[1]
            if not holds:
                raise Refused(403, "AccessDenied")
    for name, value in {**form, "bucket": bucket}.items():
        if name not in ("policy", "x-goog-signature") and name not in free and exact.get(name) != value:
            raise Refused(403, "AccessDenied")
    path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quoted(form['key'])}"
    status, _, body = forward("POST", path, file, {"Content-Type": form.get("content-type", "binary/octet-stream")})
    return Response(b"" if status == 200 else body, 204 if status == 200 else status)


# ---- for the tests ----------------------------------------------------------------------------------------------


@app.route("/_test", methods=["GET", "POST"])
def control():
    """The counts of requests; ``lifetime`` sets that of tokens, ``revoke`` ends those issued so far."""
    if request.method == "POST":
        wanted = request.get_json()
        state["lifetime"] = wanted.get("lifetime", state["lifetime"])
        if wanted.get("revoke"):
            issued.clear()
        if wanted.get("forget"):
            counts.clear()
    return counts


@app.route("/<path:path>", methods=["GET", "PUT", "POST", "DELETE", "HEAD"])
def gate(path: str):
    try:
        if "X-Goog-Signature" in request.args:
            check_url()
            bucket, _, key = urllib.parse.unquote(request.environ["REQUEST_URI"].partition("?")[0])[1:].partition("/")
            return carry_out(bucket, key)
        if "policy" in {name.lower() for name in request.form}:
            return upload_form(path.strip("/"))
    except Refused as refused:
        return f"<Error><Code>{refused.code}</Code><Message>no</Message></Error>", refused.status
    if not bearer_is_good():
        return refuse(401, "Invalid Credentials", "authError")
    headers = {n: v for n, v in request.headers.items() if n.lower() not in ("host", "connection", "authorization")}
    raw = request.environ["REQUEST_URI"]
    status, found, body = forward(request.method, raw, request.get_data() or None, headers)
    kept = [(n, v) for n, v in found.items() if n.lower() not in ("connection", "transfer-encoding", "content-length")]
    return Response(body, status, kept)


def main() -> None:
    service_account = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1",
        "private_key": PEM,
        "client_email": EMAIL,
        "client_id": "1",
        "token_uri": f"{URL}/token",
    }
    user = {
        "type": "authorized_user",
        "client_id": "cid",
        "client_secret": "csecret",
        "refresh_token": "1//refresh",
        "token_uri": f"{URL}/token",
    }
    external = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{URL}/sts",
        "credential_source": {"file": str(DIRECTORY / "subject.txt")},
    }
    impersonated = {
        "type": "impersonated_service_account",
        "source_credentials": user,
        "service_account_impersonation_url": f"{URL}/v1/projects/-/serviceAccounts/{OTHER}:generateAccessToken",
        "delegates": [],
    }
    (DIRECTORY / "subject.txt").write_text("subject-token")
    (DIRECTORY / "public.pem").write_text(PUBLIC)
    for name, info in (
        ("service_account", service_account),
        ("user", user),
        ("external", external),
        ("impersonated", impersonated),
    ):
        path = DIRECTORY / f"{name}.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(info))
    app.run("127.0.0.1", PORT, threaded=True)


if __name__ == "__main__":
    main()
