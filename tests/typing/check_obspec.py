"""Every store implements obspec's protocols, synchronous and asynchronous: checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Protocol

from obspec import (
    Copy,
    CopyAsync,
    Delete,
    DeleteAsync,
    Get,
    GetAsync,
    GetRange,
    GetRangeAsync,
    GetRanges,
    GetRangesAsync,
    GetResult,
    GetResultAsync,
    Head,
    HeadAsync,
    List,
    ListAsync,
    ListWithDelimiter,
    ListWithDelimiterAsync,
    Put,
    PutAsync,
    Rename,
    RenameAsync,
)

import obstore
from obstore.store import AzureStore, GCSStore, HTTPStore, LocalStore, MemoryStore, S3Store

Store = AzureStore | GCSStore | HTTPStore | LocalStore | MemoryStore | S3Store


class Synchronous(Copy, Delete, Get, GetRange, GetRanges, Head, List, ListWithDelimiter, Put, Rename, Protocol): ...


class Asynchronous(
    CopyAsync,
    DeleteAsync,
    GetAsync,
    GetRangeAsync,
    GetRangesAsync,
    HeadAsync,
    ListAsync,
    ListWithDelimiterAsync,
    PutAsync,
    RenameAsync,
    Protocol,
): ...


def takes_synchronous(store: Synchronous) -> None: ...
def takes_asynchronous(store: Asynchronous) -> None: ...
def takes_results(result: GetResult, later: GetResultAsync) -> None: ...


def implements(store: Store, result: obstore.GetResult) -> None:
    takes_synchronous(store)
    takes_asynchronous(store)
    takes_results(result, result)
