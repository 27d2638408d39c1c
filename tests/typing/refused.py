"""What a type checker must refuse: each ignore below is itself an error where the line is accepted (mypy's
``warn_unused_ignores``, pyright's ``reportUnnecessaryTypeIgnoreComment``)."""

from __future__ import annotations

import obstore as obs
from obstore.store import LocalStore, MemoryStore, S3Store


def refused(store: MemoryStore) -> None:
    obs.put(store, "key", "text")  # type: ignore[arg-type]
    obs.put(store, "key", b"", mode="append")  # type: ignore[arg-type]
    obs.get(store, 1)  # type: ignore[arg-type]
    obs.get(store, "key", options={"if_matches": "x"})  # type: ignore[arg-type]
    obs.head("store", "key")  # type: ignore[arg-type]
    LocalStore(1)  # type: ignore[arg-type]
    S3Store(bucket=7)  # type: ignore[arg-type]
