"""obstore.exceptions: the tree, the text, the attributes, and what must never be in them."""

import builtins
import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest

from obstore import exceptions
from obstore.exceptions import Attempt, BaseError, http_detail, not_implemented, redact_url

CLASSES = [
    getattr(exceptions, name)
    for name in exceptions.__all__
    if isinstance(getattr(exceptions, name), type) and issubclass(getattr(exceptions, name), BaseError)
]

BUILTINS = {
    "NotFoundError": "FileNotFoundError",
    "AlreadyExistsError": "FileExistsError",
    "PermissionDeniedError": "PermissionError",
    "NotSupportedError": "NotImplementedError",
    "InvalidPathError": "ValueError",
    "UnknownConfigurationKeyError": "ValueError",
    "RequestTimeoutError": "TimeoutError",
    "ConnectionFailedError": "ConnectionError",
}

TEXTS = [
    ("GenericError", "S3", "boom", "Generic S3 error: boom"),
    ("RequestTimeoutError", "S3", "boom", "Generic S3 error: boom"),
    ("NotFoundError", "a/{b}", "{x}", "Object at location a/{b} not found: {x}"),
    ("AlreadyExistsError", "k", "d", "Object at location k already exists: d"),
    ("PreconditionError", "k", "d", "Request precondition failure for path k: d"),
    ("NotModifiedError", "k", "d", "Object at location k not modified: d"),
    ("NotSupportedError", "", "d", "Operation not supported: d"),
    (
        "PermissionDeniedError",
        "k",
        "d",
        "The operation lacked the necessary privileges to complete for path k: d",
    ),
    (
        "UnauthenticatedError",
        "k",
        "d",
        "The operation lacked valid authentication credentials for path k: d",
    ),
    ("UnknownConfigurationKeyError", "foo", "S3", "Configuration key: 'foo' is not valid for store 'S3'."),
    ("InvalidPathError", "", "d", "Encountered object with invalid path: d"),
    ("JoinError", "", "d", "Error joining spawned task: d"),
]


def full(cls: type[BaseError]) -> BaseError:
    return cls(
        "what happened",
        status=503,
        code="SlowDown",
        request_id="R",
        host_id="H",
        url="https://user:pw@host/b/k?X-Amz-Signature=0a1b&x=1",
        key="b/k",
        attempts=[Attempt(number=1, status=503, wait_seconds=0.5), Attempt(number=2, error="timeout")],
        retryable=True,
        hint="wait a minute",
    )


def attributes(exc: BaseError) -> dict[str, object]:
    return {**vars(exc), "args": exc.args, "str": str(exc), "type": type(exc)}


@pytest.mark.parametrize("cls", CLASSES)
def test_class_is_public_and_of_its_builtin_kind(cls: type[BaseError]) -> None:
    assert cls.__module__ == "obstore.exceptions"
    assert cls.__name__ in (exceptions.__doc__ or "")
    expected = BUILTINS.get(cls.__name__)
    if expected:
        assert issubclass(cls, getattr(builtins, expected))
    elif cls.__name__ not in ("GenericError", "BaseError"):
        assert not issubclass(cls, (OSError, ValueError, NotImplementedError))


@pytest.mark.parametrize(("name", "subject", "detail", "text"), TEXTS)
def test_of_has_the_published_wording(name: str, subject: str, detail: str, text: str) -> None:
    assert str(getattr(exceptions, name).of(subject, detail)) == text


@pytest.mark.parametrize("cls", CLASSES)
def test_str_is_the_message_and_nothing_else(cls: type[BaseError]) -> None:
    exc = cls("one line")
    assert (str(exc), exc.args) == ("one line", ("one line",))
    assert repr(exc) == f"{cls.__name__}('one line')"
    if isinstance(exc, OSError):
        assert (exc.errno, exc.filename, exc.strerror) == (None, None, None)
    assert (exc.status, exc.code, exc.key, exc.attempts, exc.retryable, exc.hint) == (None, None, None, [], False, None)


@pytest.mark.parametrize("cls", CLASSES)
def test_exception_survives_pickle_and_copy(cls: type[BaseError]) -> None:
    exc = full(cls)
    assert str(exc) == "what happened; wait a minute"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert attributes(pickle.loads(pickle.dumps(exc, protocol))) == attributes(exc)
    assert attributes(copy.copy(exc)) == attributes(exc)
    assert attributes(copy.deepcopy(exc)) == attributes(exc)


def fail_in_child() -> None:
    raise full(exceptions.NotFoundError)


def test_exception_crosses_a_process_boundary() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        exc = pool.submit(fail_in_child).exception()
    assert isinstance(exc, exceptions.NotFoundError)
    assert attributes(exc) == attributes(full(exceptions.NotFoundError))


def fail_with_cause() -> None:
    try:
        raise KeyError("inner")
    except KeyError as inner:
        raise exceptions.NotFoundError.of("k", "gone", key="k") from inner


def test_cause_and_builtin_handlers_work() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        fail_with_cause()
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a\nb", "a b"),
        ("a \r\n\t b", "a b"),
        ("a\x00\x1b[31mb\x85c\u2028d", "a [31mb c d"),
        ("\n a  b \n", "a  b"),
        ("clé ü", "clé ü"),
    ],
)
def test_message_is_one_line(given: str, expected: str) -> None:
    assert str(BaseError(given)) == expected


def test_message_is_bounded_and_keeps_both_ends_and_the_hint() -> None:
    exc = exceptions.GenericError.of("S3", "x" * 5000 + " the reason", hint="h" * 290)
    text = str(exc)
    assert len(text) == exceptions.MAX_MESSAGE
    assert text.startswith("Generic S3 error: xxx")
    assert " the reason; hhh" in text
    assert text.endswith("h" * 290)
    assert str(pickle.loads(pickle.dumps(exc))) == text
    assert len(str(BaseError("m" * 700, hint="h\n" * 5000))) == exceptions.MAX_MESSAGE


def test_not_implemented_names_operation_and_store() -> None:
    assert str(not_implemented("`put`", "HTTPStore")) == "Operation `put` not yet implemented by HTTPStore."


def test_http_detail_follows_the_published_grammar() -> None:
    cause = "Server returned non-2xx status code: 503 Service Unavailable: slow"
    assert http_detail("GET", "https://h/b?sig=s3cr3t&a=1", 0.0125, cause) == (
        f"Error performing GET https://h/b?sig=REDACTED&a=1 in 12.5ms - {cause}"
    )
    assert http_detail("PUT", None, 3.25, cause, retries=2, max_retries=10, retry_timeout=180) == (
        f"Error performing PUT REDACTED in 3.25s, after 2 retries, max_retries: 10, retry_timeout: 180s - {cause}"
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h/p?a=1&b=2#f", "https://h/p?a=1&b=2#f"),
        ("https://u:p@h:8080/p", "https://h:8080/p"),
        ("https://u:p@x@h/p", "https://h/p"),
        ("//u:p@h/p", "//h/p"),
        ("https:\\\\u:p@h", "https:\\\\h"),
        ("http://u:p/w@h:80/", "http://h:80/"),
        ("http://u:p?w@h:80/", "http://h:80/"),
        ("https://h/a@b", "https://h/a@b"),
        ("https://h:80/a@b", "https://h:80/a@b"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("abfss://container@account.dfs.core.windows.net/p", "abfss://container@account.dfs.core.windows.net/p"),
        ("abfss://user:pw@account/p", "abfss://account/p"),
        ("s3://key:secret@bucket", "s3://bucket"),
        ("https://h/?X-Amz-Signature=a&X-Amz-Date=b", "https://h/?X-Amz-Signature=REDACTED&X-Amz-Date=b"),
        ("https://h/?x-amz-credential=a%2Fb", "https://h/?x-amz-credential=REDACTED"),
        ("https://h/?X-Amz-Security-Token=a==", "https://h/?X-Amz-Security-Token=REDACTED"),
        ("https://h/?sv=1&se=2&sp=r&sig=a%3D", "https://h/?sv=1&se=2&sp=r&sig=REDACTED"),
        ("https://h/?AWSAccessKeyId=a&Signature=b&Expires=1", "https://h/?AWSAccessKeyId=REDACTED&Signature=REDACTED&Expires=1"),
        ("https://h/?GoogleAccessId=a", "https://h/?GoogleAccessId=REDACTED"),
        ("https://h/?access_token=a;token=b#id_token=c", "https://h/?access_token=REDACTED;token=REDACTED#id_token=REDACTED"),
        ("https://h/?s%69g=a", "https://h/?s%69g=REDACTED"),
        ("https://h/?list-type=2&continuation-token=x&prefix=p", "https://h/?list-type=2&continuation-token=x&prefix=p"),
        ("not a url", "not a url"),
        ("", ""),
    ],
)  # fmt: skip
def test_redact_url(url: str, expected: str) -> None:
    assert redact_url(url) == expected
    assert redact_url(expected) == expected


def test_url_attribute_is_redacted() -> None:
    assert full(BaseError).url == "https://host/b/k?X-Amz-Signature=REDACTED&x=1"
