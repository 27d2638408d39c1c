"""What becomes of refusals: verdict, exception, text, attributes; and that no secret comes through."""

import pickle

import pytest

from obstore import exceptions
from obstore._dialect import errors
from obstore._effects import AttemptFailed
from obstore._types import GetSpec
from tests.unit.golden import CREDENTIAL, NOW, Answer, answers, dialect, sections

GOLDEN = dict(sections("answers.txt"))


@pytest.mark.parametrize("heading", answers.CASES)
def test_answer_is_golden(heading):
    assert answers.render(heading) == GOLDEN[heading]


def test_every_golden_answer_is_judged():
    assert list(GOLDEN) == list(answers.CASES)


@pytest.mark.parametrize("heading", answers.CASES)
def test_error_is_one_line_without_secrets(heading):
    _, error = answers.judge(heading)
    text = str(error)
    assert "\n" not in text
    assert len(text) <= exceptions.MAX_MESSAGE
    for shown in (text, repr(error), repr(vars(error)), repr(pickle.loads(pickle.dumps(error)).args)):
        for secret in answers.SECRETS:
            assert secret not in shown


def test_secrets_are_in_the_answers():
    """Otherwise the test above could not fail."""
    bodies = "".join(case.body for case in answers.CASES.values())
    assert all(secret in bodies for secret in answers.SECRETS)


@pytest.mark.parametrize(
    "text",
    [
        "key AKIAIOSFODNN7EXAMPLE",
        "authorization: Bearer aaaa.bbbb.cccc",
        "Authorization: AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=",
        'headers {"x-amz-security-token": "FwoGZXIvYXdz"}',
        "?X-Amz-Signature=9f1cb0a1&X-Amz-Credential=AKIA123%2F2013",
        "AWS4-HMAC-SHA256 20130524T000000Z 20130524/us-east-1/s3/aws4_request 9f1cb0a1",
        "secret_access_key=wJalrXUtnFEMI",
    ],
)
def test_echoed_request_is_scrubbed(text):
    error = errors.read_error(Answer(400), text.encode())
    for secret in ("AKIA", "bbbb", "frJI", "FwoG", "9f1cb0a1", "wJalr", "aws4_request"):
        assert secret not in error.message
    assert "REDACTED" in error.message


def test_retries_are_told():
    subject = dialect()
    request = subject.build_get("k", GetSpec())
    url, _ = subject.sign(request, CREDENTIAL, NOW)
    attempts = [exceptions.Attempt(number=number, status=500) for number in (1, 2, 3)]
    error = subject.error(
        request, Answer(500), b"", url=url, elapsed=61.5, attempts=attempts, max_retries=2, retry_timeout=180.0
    )
    assert "in 61.5s, after 2 retries, max_retries: 2, retry_timeout: 180s - Server returned" in str(error)
    assert error.attempts == attempts
    assert error.retryable


# ---- 200 answers that are failures


@pytest.mark.parametrize(
    ("build", "body", "failed"),
    [
        (answers.copy, b"<?xml version='1.0'?>\n   <Error><Code>InternalError</Code></Error>", True),
        (answers.copy, b"<CopyObjectResult><ETag>e</ETag></CopyObjectResult>", False),
        (answers.copy, b"", False),
        (answers.finish, b"\xef\xbb\xbf  <!-- x --><s3:Error xmlns:s3='u'/>", True),
        (
            answers.finish,
            b"<CompleteMultipartUploadResult><Key>&lt;Error></Key></CompleteMultipartUploadResult>",
            False,
        ),
        (answers.finish, b"<ErrorFree/>", False),
        (lambda d: d.build_part_copy("a", "b", "u", 1, None), b"<Error/>", True),
        (answers.delete, b"<Error/>", True),
        (answers.delete, b"<DeleteResult><Error><Key>a</Key><Code>AccessDenied</Code></Error></DeleteResult>", False),
        (answers.delete, b"<DeleteResult><Error><Key>a</Key><Code>InternalError</Code></Error></DeleteResult>", True),
        (answers.delete, b"<DeleteResult><Deleted><Key>&lt;Code>SlowDown</Key></Deleted></DeleteResult>", False),
        (answers.get, b"<Error/>", False),
        (answers.put, b"<Error/>", False),
    ],
)
def test_ok_body_is_error(build, body, failed):
    subject = dialect()
    assert subject.ok_body_is_error(build(subject), body) is failed


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bodies_may_be_any_buffer(kind):
    subject = dialect()
    request = answers.copy(subject)
    body = kind(b"<Error><Code>SlowDown</Code></Error>")
    assert subject.ok_body_is_error(request, body)
    assert subject.failed(request, Answer(200), body) == "throttled"


# ---- no answer at all


@pytest.mark.parametrize(
    ("kind", "message", "endpoint", "class_", "retryable", "hint"),
    [
        ("timeout", "Connection timed out after 5001 milliseconds", None, exceptions.RequestTimeoutError, True, None),
        ("stall", "no data for 30 s", None, exceptions.RequestTimeoutError, True, None),
        ("connect", "Connection refused", None, exceptions.ConnectionFailedError, True, "check endpoint and port"),
        ("dns", "Could not resolve host: s3", None, exceptions.ConnectionFailedError, True, "check the host name"),
        ("interrupted", "Recv failure: reset", None, exceptions.ConnectionFailedError, True, None),
        ("tls", "self-signed certificate", None, exceptions.GenericError, False, "root_certificate"),
        ("tls", "SSL: no alternative certificate subject name matches", None, exceptions.GenericError, False, "dots"),
        ("tls", "OpenSSL: wrong version number", None, exceptions.GenericError, False, "does not speak TLS"),
        ("protocol", 'Protocol "http" disabled', "http://h", exceptions.GenericError, False, "allow_http=True"),
        ("protocol", "Received HTTP/0.9 when not allowed", "https://h", exceptions.GenericError, False, None),
        ("memory", "", None, exceptions.GenericError, False, None),
    ],
)
def test_failure_becomes_an_error(kind, message, endpoint, class_, retryable, hint):
    subject = dialect(endpoint=endpoint)
    request = answers.get(subject)
    url, _ = subject.sign(request, CREDENTIAL, NOW)
    failure = AttemptFailed(kind, message, sent=True)
    error = subject.error_for_failure(request, failure, url=url, elapsed=0.5)
    assert type(error) is class_
    assert str(error).startswith(f"Generic S3 error: Error performing GET {url} in 500ms - HTTP error: error sending ")
    assert (message or kind) in str(error)
    assert (error.retryable, error.key, error.status) == (retryable, "dir/k", None)
    if hint is None:
        assert error.hint is None
    else:
        assert hint in error.hint


def test_failure_of_a_body_is_told_apart():
    subject = dialect()
    request = answers.get(subject)
    failure = AttemptFailed("interrupted", "transfer closed", sent=True, received=7)
    error = subject.error_for_failure(request, failure, url="https://h/k", elapsed=0.5)
    assert "HTTP error: request or response body error: transfer closed" in str(error)


def test_failure_of_a_list_is_told_apart():
    subject = dialect()
    failure = AttemptFailed("dns", "no address", sent=False)
    error = subject.error_for_failure(answers.list_(subject), failure, url="https://h/k", elapsed=0.5)
    assert str(error).startswith("Generic S3 error: Error performing list request: Error performing GET https://h/k")


# ---- verdicts that the golden answers do not cover


@pytest.mark.parametrize(
    ("build", "status", "code", "verdict"),
    [
        (answers.get, 408, None, "retry"),
        (answers.get, 500, None, "retry"),
        (answers.get, 501, None, "adapt"),
        (answers.get, 505, None, "fatal"),
        (answers.get, 509, None, "throttled"),
        (answers.get, 503, None, "throttled"),
        (answers.put, 409, "OperationAborted", "retry"),
        (answers.update, 409, None, "retry"),
        (answers.create, 409, None, "fatal"),
        (answers.create, 409, "ConditionalRequestConflict", "retry"),
        (answers.finish_create, 409, "ConditionalRequestConflict", "fatal"),
        (answers.put, 400, "IncompleteBody", "retry"),
        (answers.get, 403, "ExpiredToken", "expired"),
        (answers.get, 400, "TokenRefreshRequired", "expired"),
        (answers.get, 400, "ThrottlingException", "throttled"),
        (answers.get, 403, "RequestInTheFuture", "clock"),
        (answers.get, 400, "InvalidArgument", "fatal"),
    ],
)
def test_verdict(build, status, code, verdict):
    subject = dialect(endpoint="https://gate.example")
    request = build(subject)
    subject.sign(request, CREDENTIAL, NOW)
    body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
    assert subject.failed(request, Answer(status), body) == verdict


def test_anonymous_request_has_no_token_to_expire():
    subject = dialect()
    request = answers.get(subject)
    subject.sign(request, None, NOW)
    assert subject.failed(request, Answer(400), b"<Error><Code>ExpiredToken</Code></Error>") == "fatal"
