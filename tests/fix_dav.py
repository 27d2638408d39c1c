"""The subjects of the contract suite that are WebDAV servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fix_stores import LACKS, Subject

if TYPE_CHECKING:
    from obstore import PutResult


class DavSubject(Subject):
    """A store on a WebDAV server. Its judge is the directory that the server serves."""

    remote = True

    @property
    def url(self) -> str:
        return str(self.store.url)

    def e_tag_of(self, result: PutResult, key: str) -> str | None:
        import obstore

        # Most servers tell none in the answer to a PUT.
        return obstore.head(self.store, key)["e_tag"] if result["e_tag"] is None else result["e_tag"]

    def judge_get(self, key: str) -> dict[str, Any]:
        assert self.root is not None
        return {"Body": (self.root / key).read_bytes()}

    def judge_put(self, key: str, body: bytes, **kwargs: Any) -> None:
        assert self.root is not None
        assert not kwargs
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        (self.root / key).write_bytes(body)

    def judge_keys(self) -> list[str]:
        assert self.root is not None
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())

    def judge_uploads(self) -> list[str]:
        return [key for key in self.judge_keys() if ".obstore-" in key]


def make_dav_subject(kind: str, server: Any) -> DavSubject:
    """The subject on a directory that is not there yet."""
    directory = server.endpoint.new_directory()
    return DavSubject(
        kind, server.endpoint.store(f"{directory}/sub"), LACKS[kind], root=server.endpoint.root / directory / "sub"
    )
