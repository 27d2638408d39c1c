"""`LocalStore`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

from obstore._config.url import split_url
from obstore._local import LocalBackend
from obstore._methods import ObjectStoreMethods
from obstore._stores.rebuild import added_attributes, rebuild
from obstore._types import SupportsAsUri

__all__ = ["LocalStore"]


class LocalStore(ObjectStoreMethods):
    """Files below a directory.

    Args:
        prefix: the directory; ``None`` for the whole file system.
        automatic_cleanup: whether deleting also removes the directories that it empties.
        mkdir: whether to make the directory if it does not exist.

    Keys are relative paths. Nothing outside the directory can be reached, by ``..`` or by symbolic links. Objects appear by
    atomic rename. Attributes and conditional updates are not supported, tags are ignored.

    Raises:
        GenericError: the directory does not exist.
    """

    __module__ = "obstore.store"  # where users find it
    _own = frozenset({"_automatic_cleanup", "_backend", "_mkdir", "_prefix"})

    def __init__(
        self, prefix: str | os.PathLike[str] | None = None, *, automatic_cleanup: bool = False, mkdir: bool = False
    ) -> None:
        if prefix is not None and not isinstance(prefix, (str, os.PathLike)):
            raise TypeError(f"prefix: '{type(prefix).__name__}' object is not an instance of 'str' or 'Path'")
        for name, value in (("automatic_cleanup", automatic_cleanup), ("mkdir", mkdir)):
            if not isinstance(value, bool):
                raise TypeError(f"{name}: '{type(value).__name__}' object is not an instance of 'bool'")
        self._prefix = None if prefix is None else Path(prefix)
        self._automatic_cleanup = automatic_cleanup
        self._mkdir = mkdir
        self._backend = LocalBackend(self._prefix, automatic_cleanup=automatic_cleanup, mkdir=mkdir)

    @classmethod
    def from_url(cls, url: str | SupportsAsUri, *, automatic_cleanup: bool = False, mkdir: bool = False) -> Self:
        """A store from ``file:///directory``.

        Raises:
            ValueError: it is no ``file://`` URL.
        """
        location = split_url(url, "local")
        return cls(location.path, automatic_cleanup=automatic_cleanup, mkdir=mkdir)

    def __repr__(self) -> str:
        return "LocalStore" if self._prefix is None else f'LocalStore("{self._prefix}")'

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LocalStore):
            return NotImplemented
        return self.__getnewargs_ex__() == other.__getnewargs_ex__()

    __hash__ = None  # type: ignore[assignment]

    @property
    def prefix(self) -> Path | None:
        """The directory as given, or ``None``."""
        return self._prefix

    def __getnewargs_ex__(self) -> tuple[tuple[Path | None], dict[str, Any]]:
        return (self._prefix,), {"automatic_cleanup": self._automatic_cleanup, "mkdir": self._mkdir}

    def __reduce__(self) -> tuple[Any, ...]:
        (prefix,), flags = self.__getnewargs_ex__()
        return rebuild, (type(self), LocalStore, {"prefix": prefix, **flags}, added_attributes(self, self._own))
