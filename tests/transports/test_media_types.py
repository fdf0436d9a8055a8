import pytest

from transports.wire.http_exchange import request_headers
from transports.wire.media_types import GRAPHQL_JSON, JSON, accepted, content_type

APOLLO = (
    "multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/graphql-response+json,application/json;q=0.9"
)
APOLLO_DEFER = "multipart/mixed;deferSpec=20220824,application/graphql-response+json,application/json;q=0.9"
URQL = (
    "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("header", "json", "stream", "html"),
    [
        (None, JSON, "sse", False),
        ("", JSON, "sse", False),
        ("*/*", JSON, "sse", False),
        ("application/*", JSON, None, False),
        ("application/json", JSON, None, False),
        ("application/json;charset=utf-8", JSON, None, False),
        ("application/graphql-response+json", GRAPHQL_JSON, None, False),
        ("application/json, application/graphql-response+json", JSON, None, False),
        ("application/graphql-response+json, application/json", GRAPHQL_JSON, None, False),
        ("application/json;q=0.5, application/graphql-response+json;q=0.6", GRAPHQL_JSON, None, False),
        ("application/graphql-response+json;q=0.4, */*", JSON, "sse", False),
        ("application/json;q=0, */*", None, "sse", False),
        ("text/event-stream", None, "sse", False),
        ("text/event-stream, application/json", JSON, "sse", False),
        ("text/event-stream;q=0, multipart/mixed", None, "multipart", False),
        ('multipart/mixed;boundary="graphql";subscriptionSpec=1.0', None, "multipart", False),
        ('multipart/mixed; boundary="a,b"; subscriptionSpec="1.0", text/event-stream', None, "multipart", False),
        ("text/*", None, "sse", False),
        ("*/*, multipart/mixed;subscriptionSpec=1.0", JSON, "multipart", False),
        ("image/png", None, None, False),
        ("application/json;q=nonsense", JSON, None, False),
        (APOLLO, GRAPHQL_JSON, "multipart", False),
        (APOLLO_DEFER, GRAPHQL_JSON, None, False),
        (URQL, GRAPHQL_JSON, "sse", False),
        (BROWSER, JSON, "sse", True),
        ("text/html, application/json", JSON, None, False),
        ("APPLICATION/JSON", JSON, None, False),
        (',;,";', None, None, False),
    ],
)
def test_accept_header_is_read_as_its_clients_mean_it(
    header: str | None, json: str | None, stream: str | None, html: bool
) -> None:
    assert accepted(header) == (json, stream, html)


def test_accept_header_of_any_length_is_read() -> None:
    assert accepted("a/b, " * 5000 + "text/event-stream").stream == "sse"


def test_content_type_is_split_from_its_charset() -> None:
    assert content_type(b"Application/JSON; Charset=UTF-8") == ("application/json", "utf-8")
    assert content_type(b"application/json") == ("application/json", "utf-8")
    assert content_type(b"") == ("", "utf-8")


def test_every_accept_header_counts_and_of_other_headers_the_last() -> None:
    headers = [(b"accept", b"text/html"), (b"x-a", b"1"), (b"accept", b"application/json"), (b"x-a", b"2")]
    assert request_headers({"headers": headers}) == {b"accept": b"text/html,application/json", b"x-a": b"2"}
    assert request_headers({"headers": headers[:2]}) == {b"accept": b"text/html", b"x-a": b"1"}
