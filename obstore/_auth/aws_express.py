"""Sessions of directory buckets (S3 Express One Zone): short-lived keys that make signatures cheap to check.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateSession.html
"""

from __future__ import annotations

import time
from collections.abc import Callable

from obstore._auth.aws import AwsCredential, AwsSession, AwsSource
from obstore._auth.aws_http import Answer, Clients, ask, refused
from obstore._auth.aws_keys import element_text, read_keys, without_frames
from obstore._auth.cache import CachedSource, credential
from obstore._auth.sigv4 import Signer, payload_hash
from obstore._auth.sources import describe_source
from obstore._effects import Op

__all__ = ["ExpressSource"]

WHO = "S3 CreateSession"
# Sessions live five minutes.
_THRESHOLD_S = 60.0
_NAMES = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
_EXPIRED = ("ExpiredToken", "TokenRefreshRequired")


class ExpressSource(CachedSource[AwsCredential]):
    """Sessions of one directory bucket.

    Args:
        base: the credentials that sessions are made with.
        origin: ``scheme://host[:port]`` of the bucket.
        host: the host as it is signed.
        path: of the bucket there.
        region: that requests are signed for.
        clients: how sessions are asked for.
        clock: seconds since the epoch.

    Attributes:
        base: see above; copies are signed with these.
    """

    def __init__(
        self,
        base: AwsSource,
        origin: str,
        host: str,
        path: str,
        region: str,
        clients: Clients,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(_THRESHOLD_S, clock)
        self.base = base
        self._origin = origin
        self._host = host
        self._path = path
        self._region = region
        self._clients = clients
        self._signer = Signer("s3express")

    @property
    def description(self) -> str:
        """For `describe_source`."""
        return f"sessions by {describe_source(self.base)}"

    def fetch(self) -> Op[AwsCredential]:
        return (yield from without_frames(self._fetch()))

    def _fetch(self) -> Op[AwsCredential]:
        keys = yield from credential(self.base)
        answer = yield from self._ask(keys)
        if answer.status >= 400 and self.base.renewable and _code(answer) in _EXPIRED:
            keys = yield from credential(self.base, after=keys)
            answer = yield from self._ask(keys)
        text = answer.body.decode("utf-8", "replace")
        if answer.status != 200:
            hint = "the credentials need s3express:CreateSession, and the region must be the bucket's"
            raise refused(WHO, answer, code=_code(answer), hint=hint)
        found = read_keys({name: element_text(text, name) for name in _NAMES}, _NAMES, WHO)
        return AwsSession(found.access_key_id, found.secret_access_key, found.token, found.expires_at)

    def _ask(self, keys: AwsCredential) -> Op[Answer]:
        url = f"{self._origin}{self._path}?session="
        headers = self._signer.sign(
            "GET",
            self._host,
            self._path,
            [("session", "")],
            (),
            payload_hash(None),
            keys.access_key_id,
            keys.secret_access_key,
            keys.token,
            self._region,
            time.time(),
        )
        hint = "check that the zone in the bucket's name and the region belong together"
        return (yield from ask(self._clients.service(url), "GET", url, who=WHO, headers=headers, hint=hint))


def _code(answer: Answer) -> str | None:
    return element_text(answer.body.decode("utf-8", "replace"), "Code")
