"""The table of failures in `docs/providers.md`: each is made, and what follows from it is what the table says."""

import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from backhaul.model.transience import is_transient
from backhaul.paid.breaker.breaker import Breaker
from backhaul.paid.breaker.rule import CallResult
from backhaul.providers import Embed, ModelRefused, Provider, Raw, SecretUnreadable, max_estimate, open_provider
from backhaul.providers.failures import aws_failure, http_failure
from backhaul.providers.vectors import checked_vectors
from backhaul.worker.interrupter import Interrupted
from tests.stages.test_paid import ASK, COST, Model, PaidWorker, ask

PAGE = (Path(__file__).resolve().parents[2] / "docs/providers.md").read_text()
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in PAGE.partition("<!-- failures -->")[2].partition("<!-- end of failures -->")[0].splitlines()[3:]
]
ON_DEMAND = "Invocation of model ID m with on-demand throughput isn't supported. Retry with an inference profile."
FORM = "Model use case details have not been submitted for this account."
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


def http(status, code=""):
    def fail(worker):
        raise http_failure("acme", status, {}, b'{"error": {"code": "%s"}}' % code.encode(), worker.clock.now())

    return fail


def aws(code, status=400, message=""):
    def fail(worker):
        raise aws_failure("acme", code, message, status, {}, worker.clock.now())

    return fail


def raised(error):
    def fail(worker):
        raise error

    return fail


def called(url, *, is_local=True, seconds=10.0):
    provider = Provider(name="acme", kind="http", base_url=url, timeout_seconds=seconds)
    open_provider(provider, secrets=None, models=None, is_local=is_local).call(Raw(body=1))


@contextmanager
def answering(*pieces):
    """Serve one connection: send each piece once a request has come, and wait a moment where there is None."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            client, _ = listener.accept()
            with client:
                request = client.recv(65536)
                while request.startswith(b"POST") and not request.endswith(b"\r\n\r\n1"):
                    request += client.recv(65536)
                for piece in pieces:
                    if piece is None:
                        client.recv(1)  # it ends when the caller goes away
                    else:
                        client.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def served(*pieces, scheme="http", **options):
    def fail(worker):
        with answering(*pieces) as where:
            called(f"{scheme}://{where}", **options)

    return fail


def unheard(worker):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    called(f"http://127.0.0.1:{port}")


def unknown(worker):
    called("https://" + "a" * 64 + ".example")


def near(worker):
    called("https://127.0.0.1", is_local=False)


def vectors(*found, **wanted):
    def fail(worker):
        checked_vectors("acme", Embed(texts=("one",), **wanted), list(found))

    return fail


HUGE = (HEAD + b"\r\n", *[b" " * 1024**2] * 33)
SAMPLES = {
    "429, 409, throttling by AWS": [http(429), http(409), aws("ThrottlingException")],
    "5xx, 421, 425, an outage of AWS's": [http(503), http(500), http(421), http(425), aws("InternalServerException")],
    "408, 499, 504: somebody on the way gave up": [http(408), http(499), http(504), aws("ModelTimeoutException", 408)],
    "the name is not resolved, nobody listens, no connection in time": [unknown, unheard],
    "TLS fails: the certificate, the handshake": [served(b"HTTP/1.1 400 No\r\n\r\n", scheme="https")],
    "the connection breaks after the request, or the answer is cut short": [
        served(),
        served(HEAD + b"Content-Length: 99\r\n\r\n{"),
    ],
    "the call's time is over, however it was spent": [
        served(None, seconds=0.3),
        served(HEAD, None, seconds=0.3),
    ],
    "an answer that is no JSON, is compressed, or has no text, choice or vector": [
        served(HEAD + b"\r\nhello"),
        served(HEAD + b"Content-Encoding: gzip\r\n\r\n"),
        vectors(),
        vectors("x"),
    ],
    "401, 402, 403, no credit left, no permission in AWS": [
        *(http(status) for status in (401, 402, 403)),
        http(429, "insufficient_quota"),
        aws("AccessDeniedException", 403),
    ],
    "Bedrock: the model is not there, at its end of life, or without its use case form": [
        aws("ResourceNotFoundException", 404, FORM),
        aws("ResourceNotFoundException", 404, "This model version has reached the end of its life."),
        aws("ValidationException", 400, "The provided model identifier is invalid."),
    ],
    "Bedrock: the model is to be had by an inference profile only": [aws("ValidationException", 400, ON_DEMAND)],
    "the address leads to [where no provider may be](#addresses)": [near],
    "the model refuses to answer": [raised(ModelRefused("no", input_tokens=10, output_tokens=20))],
    "a filter or guardrail stops the request": [http(400, "content_filter"), aws("X", 400, "blocked by guardrail")],
    "the request does not fit the model's window": [http(413), http(400, "context_length_exceeded")],
    "any other 4xx, a redirect": [http(400), http(404), http(422), http(307), aws("ValidationException")],
    "an answer of more than 32 MB, vectors of another length than asked for": [
        served(*HUGE),
        vectors([1.0, 2.0], dimensions=3),
    ],
    "the provider is not set up, its key is not there": [raised(SecretUnreadable("no key"))],
}
BREAKER = {
    CallResult.THROTTLED: "no failure",
    CallResult.OK: "no failure",
    CallResult.FAILED: "a failure",
    CallResult.DENIED: "opens at once",
    CallResult.NOT_MADE: "is not told",
}


def test_the_table_has_a_row_for_each_failure_that_is_tested():
    assert [row[0] for row in ROWS] == list(SAMPLES)


class Failing(Model):
    """An adapter that fails as it is told."""

    def __init__(self, fail, worker):
        super().__init__()
        self.fail, self.worker = fail, worker

    def call(self, request, *, key=None, timeout=None):
        self.fail(self.worker)
        pytest.fail("it did not fail")


@pytest.mark.parametrize(
    ("row", "fail"), [pytest.param(row, fail, id=row[0][:40]) for row in ROWS for fail in SAMPLES.get(row[0], ())]
)
def test_what_follows_from_a_failure_is_what_the_table_says(deployment, monkeypatch, row, fail):
    _, exception, breaker, record, cost = row
    worker, results = PaidWorker(deployment), []
    with pytest.raises(Exception) as error:  # noqa: PT011  # which one is what the table says
        fail(worker)
    assert f"`{type(error.value).__name__}`" in exception

    monkeypatch.setattr(Breaker, "report", lambda _, outcome: results.append(outcome.result))
    channel = worker.channels.to("acme")
    channel.adapter = Failing(fail, worker)
    calls = worker.attempt()
    with pytest.raises((Exception, Interrupted)) as told:
        ask(calls)
    calls.settle_all()
    assert [BREAKER[each] for each in results] == [breaker]
    waits, again = isinstance(told.value, Interrupted), is_transient(told.value)
    assert record == ("waits" if waits else "is tried again" if again else "fails")
    (spent, held), most = worker.books(), channel.provider.cost(max_estimate(ASK))
    assert (spent, held) == ({"nothing": 0, "the estimate": most, "what it took": COST}[cost], 0)
