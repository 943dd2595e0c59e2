"""What is read of an answer of S3 is what botocore reads of it, however the answer is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from frpipe.core.errors import StorageError
from frpipe.io.storage import s3_page
from frpipe.io.storage.s3_page import read_page, take_keys

botocore_session = pytest.importorskip("botocore.session")

REQUEST = {"Bucket": "photos", "Prefix": "album/"}
TIME = "<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
PLAIN = f"<Contents><Key>a/1.jpg</Key>{TIME}<ETag>&quot;e1&quot;</ETag><Size>7</Size></Contents>"
LAST = "<Contents><Size>8</Size><ETag>&#34;e2-3&#34;</ETag><Key>a/2.jpg</Key></Contents>"
ORDINARY = [
    PLAIN,
    PLAIN + LAST,
    f"<EncodingType>url</EncodingType>{PLAIN}<Contents><Key>%C3%BC%2B+%25</Key><ETag>e</ETag><Size>0</Size></Contents>",
    f"<Name>b</Name><Prefix/><Marker></Marker><KeyCount>2</KeyCount>{PLAIN}{LAST}<MaxKeys>1</MaxKeys>",
    f"{PLAIN}<IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b</NextContinuationToken>",
]


def _object(key: str, more: str = "") -> str:
    return f"<Contents><Key>{key}</Key><ETag>e</ETag><Size>1</Size>{more}</Contents>"


ODD = [
    "",
    # Other spellings of an object, before, between and behind ordinary ones.
    *(
        f"{before}{_object('odd').replace('<Contents>', begin)}{behind}"
        for begin in (
            "<Contents >",
            '<Contents a="1">',
            '<Contents xmlns="http://x/">',
        )
        for before, behind in ((PLAIN, ""), ("", PLAIN), (PLAIN, LAST))
    ),
    f'{PLAIN}<s:Contents xmlns:s="http://x/"><s:Key>n</s:Key><Size>1</Size><ETag>e</ETag></s:Contents>',
    f"<Outer>{PLAIN}</Outer>",
    f"<Outer>{PLAIN}</Outer>{LAST}",
    f"{PLAIN}<!-- {LAST} -->{LAST}",
    f"<!-- {PLAIN} -->{LAST}",
    f"{PLAIN}<![CDATA[{LAST}]]>",
    f"{PLAIN}\n  {LAST}",
    *(_object(key) for key in ("a&amp;b", "&lt;", "&#x41;", "a\r\nb", "a\tb", "a>b", "]]&gt;", " a ")),
    *(_object("a", more) for more in ("<Owner><ID>1</ID></Owner>", "<Contents></Contents>", "text")),
    f"{PLAIN}{_object('').replace('<Key></Key>', '<Key/>')}",
    _object("a").replace("<ETag>e</ETag>", ""),
    _object("a").replace("<ETag>e</ETag>", '<ETag>W/"x"</ETag>'),
    _object("a").replace("<Size>1</Size>", "<Size> 1 </Size>"),
    f"{PLAIN}<CommonPrefixes><Prefix>q/</Prefix></CommonPrefixes>{LAST}",
]
REFUSED = [
    f"{PLAIN}<Error>",
    *(_object(key) for key in ("a\x01b", "a\ufffeb", "a\uffffb", "a]]>b", "&bad;")),
    _object("a", "<Q>\x01</Q>"),
    _object("a", "<Q>a & b</Q>"),
    _object("a", "<Key>b</Key>"),
    _object("a", "<Size>2</Size>"),
    _object("a", "<Size/>"),
    _object("a").replace("<Size>1</Size>", ""),
]


@pytest.fixture(scope="module")
def ask() -> Iterator[Callable[..., Any]]:
    """Ask a client for a page, of an answer that is given. plain: a client that nothing was changed about."""
    from botocore.awsrequest import AWSResponse
    from botocore.config import Config

    told: list[bytes] = []

    def answer(request: Any, **_: object) -> Any:
        raw = SimpleNamespace(stream=lambda **_: iter([told[-1]]))
        return AWSResponse(request.url, 200, {"content-type": "application/xml"}, raw)

    def client() -> Any:
        made = botocore_session.get_session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url="http://localhost:1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            config=Config(retries={"max_attempts": 0}),
        )
        made.meta.events.register("before-send.s3", answer)
        return made

    clients = {True: client(), False: client()}
    systems = {
        plain: SimpleNamespace(s3=each, call_s3=lambda name, each=each, **r: getattr(each, name)(**r))
        for plain, each in clients.items()
    }
    take_keys(systems[False])

    def ask(body: bytes, *, plain: bool) -> Any:
        told.append(body)
        page = read_page(systems[plain], REQUEST)
        return page.files.to_pylist(), page.token

    yield ask
    for each in clients.values():
        each.close()


def _answer(inside: str, root: str = "ListBucketResult") -> bytes:
    space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} {space}>{inside}</{root}>'.encode()


@pytest.mark.parametrize("inside", ORDINARY)
def test_ordinary_answers_are_read_without_botocore(
    inside: str, ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ask(_answer(inside), plain=True)
    monkeypatch.setattr(s3_page, "_of_botocore", lambda _: pytest.fail("read by botocore"))
    assert ask(_answer(inside), plain=False) == expected


@pytest.mark.parametrize("inside", ODD)
def test_odd_answers_are_read_as_botocore_reads_them(inside: str, ask: Callable[..., Any]) -> None:
    assert ask(_answer(inside), plain=False) == ask(_answer(inside), plain=True)


@pytest.mark.parametrize("inside", REFUSED)
def test_what_botocore_refuses_is_refused(inside: str, ask: Callable[..., Any]) -> None:
    for plain in (True, False):
        with pytest.raises(Exception):  # noqa: B017 - it raises what it comes to
            ask(_answer(inside), plain=plain)


def test_an_answer_that_is_cut_short_is_refused_wherever_it_is_cut(ask: Callable[..., Any]) -> None:
    whole = _answer(PLAIN + LAST)
    for length in range(1, len(whole)):
        with pytest.raises(Exception):  # noqa: B017 - of the parser
            ask(whole[:length], plain=False)
    with pytest.raises(Exception, match=r"SlowDown|500"):
        ask(b"<Error><Code>SlowDown</Code></Error>", plain=False)


def test_a_place_to_go_on_that_is_missing_or_the_same_again_ends_the_listing(ask: Callable[..., Any]) -> None:
    truncated = f"{PLAIN}<IsTruncated>true</IsTruncated>"
    for inside in (truncated, f"{truncated}<NextContinuationToken/>"):
        with pytest.raises(StorageError, match="where the next ones begin"):
            ask(_answer(inside), plain=False)
    system = SimpleNamespace(call_s3=lambda *_, **__: {"IsTruncated": True, "NextContinuationToken": "t"})
    with pytest.raises(StorageError, match="where the next ones begin"):
        read_page(system, {**REQUEST, "ContinuationToken": "t"})
