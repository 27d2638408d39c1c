"""Every store implements obspec's synchronous protocols: checked by mypy, never run.

Its asynchronous ones ask for coroutines. Ours are awaitables that have started already, which no coroutine is; whoever awaits them
sees no difference.
"""

from __future__ import annotations

from obspec import Copy, Delete, Get, GetRange, GetRanges, Head, List, ListWithDelimiter, Put, Rename

from obstore.store import AzureStore, GCSStore, HTTPStore, LocalStore, MemoryStore, S3Store

Store = AzureStore | GCSStore | HTTPStore | LocalStore | MemoryStore | S3Store


def takes_all(
    copy: Copy,
    delete: Delete,
    get: Get,
    get_range: GetRange,
    get_ranges: GetRanges,
    head: Head,
    list_: List,
    list_with_delimiter: ListWithDelimiter,
    put: Put,
    rename: Rename,
) -> None: ...


def implements(store: Store) -> None:
    takes_all(store, store, store, store, store, store, store, store, store, store)
