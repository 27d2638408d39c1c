"""The subject of the contract suite on Google Cloud Storage's JSON API."""

from __future__ import annotations

from typing import Any

from tests.fix_stores import LACKS, Subject
from tests.servers.gcs import GCSEndpoint

# Names of attributes as boto3, whose answers the suite knows, writes them.
_FIELDS = ("cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "contentType")


class GCSSubject(Subject):
    """A `GCSStore`; the judge is plain urllib."""

    endpoint: GCSEndpoint  # type: ignore[assignment]
    versioned = True  # by its generation

    @property
    def url(self) -> str:
        return self.endpoint.url

    def sibling(self, **config: Any) -> Any:
        from obstore.store import GCSStore

        return GCSStore(**{**self.endpoint.config(self.bucket), **config})

    def judge_get(self, key: str) -> dict[str, Any]:
        resource = self.endpoint.describe(self.bucket, key)
        seen: dict[str, Any] = {f"{name[0].upper()}{name[1:]}": resource.get(name) for name in _FIELDS}
        return {**seen, "Metadata": resource.get("metadata", {}), "Body": self.endpoint.read(self.bucket, key)}

    def judge_put(self, key: str, body: bytes, **kwargs: Any) -> None:
        assert not kwargs
        self.endpoint.write(self.bucket, key, body)

    def judge_keys(self) -> list[str]:
        return self.endpoint.keys(self.bucket)

    def judge_uploads(self) -> list[str]:
        return []  # the JSON API lists none


def make_gcs_subject(kind: str, server: Any) -> GCSSubject:
    """The subject on a new bucket."""
    from obstore.store import GCSStore

    bucket = server.endpoint.create_bucket()
    store = GCSStore(**server.endpoint.config(bucket))
    return GCSSubject(kind, store, LACKS[kind], endpoint=server.endpoint, bucket=bucket)
