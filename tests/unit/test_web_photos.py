"""Photos from web servers, whatever those do."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from email.utils import formatdate
from itertools import pairwise

import pytest
from webserver import PHOTO, Exchange, WebServer, web_server

from frpipe.core.config import load_config
from frpipe.core.errors import ConfigError, StorageError
from frpipe.core.reasons import PASSING, Reason, Reject
from frpipe.io.manifest.arrivals import Arrivals
from frpipe.io.manifest.fetch import Fetcher
from frpipe.io.manifest.web.addresses import Addresses
from frpipe.io.manifest.web.reply import Room
from frpipe.io.storage.folder import Folder

LIMIT = 1000


def _fetcher(*servers: WebServer | str, timeout_s: float = 20.0, **more: object) -> Fetcher:
    roots = tuple(each if isinstance(each, str) else each.url for each in servers)
    return Fetcher(roots, 3, LIMIT, pause_s=0, web_timeout_s=timeout_s, **more)  # type: ignore[arg-type]


def _why(fetcher: Fetcher, location: str) -> tuple[Reason, str]:
    with pytest.raises(Reject) as caught:
        fetcher.fetch(location)
    assert "127.0.0.1" not in caught.value.detail
    return Reason(caught.value.reason), caught.value.detail


def _replies(status: int, *headers: str) -> Callable[[Exchange], Awaitable[None]]:
    return lambda exchange: exchange.reply(status, b"sorry", *headers)


class TestAddresses:
    def test_a_root_is_needed(self) -> None:
        with web_server() as server:
            for fetcher in (
                _fetcher(),
                _fetcher(f"{server.url}/photos"),
                _fetcher("http://elsewhere.example"),
            ):
                assert _why(fetcher, f"{server.url}/1.jpg")[0] is Reason.OUTSIDE_ROOT
            assert server.asked == []

    @pytest.mark.parametrize(
        "path",
        [
            "/a.jpg?sig=ab%2Fcd%7E%3D&e=%40",
            "/%61+b@c~d%20e;f='g'(h)*!$,i:j?k=l/m?n&o=+&p=%2B&q=[r]|s",
            "/a//b/./c%2e.jpg?X-Amz-Signature=%e3%81%82%E3%81%82&x",
        ],
    )
    def test_an_address_goes_out_letter_by_letter(self, path: str) -> None:
        with web_server() as server:
            assert _fetcher(server).fetch(server.url + path) == PHOTO
            assert server.asked == [path]

    @pytest.mark.parametrize(
        ("written", "sent"),
        [
            ("/ä.jpg", "/%C3%A4.jpg"),
            ("/%C3%A4ä%2F?q=김 1", "/%C3%A4%C3%A4%2F?q=%EA%B9%80%201"),
            ("/a\r\nHost: b", "/a%0D%0AHost:%20b"),
            ("/a.jpg#part", "/a.jpg"),
        ],
    )
    def test_what_http_cannot_carry_is_encoded_once(self, written: str, sent: str) -> None:
        with web_server() as server:
            assert _fetcher(server).fetch(server.url + written) == PHOTO
            assert server.asked == [sent]

    @pytest.mark.parametrize(
        "url", ["http://a b/1.jpg", "http://a_\x7f/1.jpg", "http://ä" + "y" * 99 + "/1.jpg"]
    )
    def test_what_is_no_address_is_a_reason(self, url: str) -> None:
        assert _why(_fetcher(url.rpartition("/")[0]), url)[0] in (Reason.FETCH_FAILED, Reason.OUTSIDE_ROOT)

    def test_one_connection_serves_many_photos(self) -> None:
        connections = set()

        async def answer(exchange: Exchange) -> None:
            connections.add(exchange._writer)
            await exchange.reply()

        with web_server(p=answer) as server:
            fetcher = _fetcher(server)
            assert [fetcher.fetch(f"{server.url}/p{n}") for n in range(5)] == [PHOTO] * 5
        assert len(connections) == 1


class TestPrivate:
    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200",
            "168.63.129.16", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fd00:ec2::254",
            "fe80::1%eth0", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
            "::7f00:1", "ff02::1",
        ],
    )  # fmt: skip
    def test_addresses_that_are_not_public(self, address: str) -> None:
        assert not Addresses((), ()).allow(address, 80)

    @pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
    def test_addresses_that_are(self, address: str) -> None:
        assert Addresses((), ()).allow(address, 80)

    @pytest.mark.parametrize(
        ("root", "address", "port"),
        [
            ("http://10.0.0.5/p", "10.0.0.5", 80),
            ("https://10.0.0.5", "10.0.0.5", 443),
            ("http://[fd00::5]:8080", "fd00::5", 8080),
            ("http://167772165", "10.0.0.5", 80),
            ("http://0x7f.1:81", "127.0.0.1", 81),
            ("http://[::ffff:10.0.0.5]", "10.0.0.5", 80),
            ("http://localhost:82", "::1", 82),
        ],
    )
    def test_a_root_names_an_address_at_its_port(self, root: str, address: str, port: int) -> None:
        assert Addresses((root,), ()).allow(address, port)
        assert not Addresses((root,), ()).allow(address, port + 1)
        assert not Addresses((root,), ()).allow("10.0.0.6", port)

    def test_a_network_may_be_named(self) -> None:
        allowed = Addresses(("http://photos.example",), ("10.0.0.0/8", "fd00::/8"))
        assert allowed.allow("10.9.9.9", 80) and allowed.allow("fd00::1", 80)
        assert not allowed.allow("192.168.0.1", 80)
        config = load_config(None, ["storage.private_networks=[10.0.0.0/8]"])
        assert config.storage.private_networks == ("10.0.0.0/8",)
        with pytest.raises(ConfigError, match="private_networks"):
            load_config(None, ["storage.private_networks=[10.0.0.1/8]"])

    def test_the_address_that_is_connected_to_decides_and_not_the_name(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its name server says that the host is this machine."""
        import socket

        real = socket.getaddrinfo

        def lie(host: str, *rest: object, **more: object) -> object:
            return real("127.0.0.1" if host == "photos.example" else host, *rest, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(socket, "getaddrinfo", lie)
        with web_server() as server:
            named = server.url.replace("127.0.0.1", "photos.example")
            reason, detail = _why(_fetcher(named), f"{named}/1.jpg")
            assert (reason, "private" in detail, server.asked) == (Reason.OUTSIDE_ROOT, True, [])
            assert _fetcher(named, networks=("127.0.0.0/8",)).fetch(f"{named}/1.jpg") == PHOTO
            assert _fetcher(named, server).fetch(f"{named}/1.jpg") == PHOTO

    @pytest.mark.parametrize("spelling", ["2130706433", "127.1", "0x7f000001", "[::ffff:127.0.0.1]"])
    def test_another_spelling_of_an_address_is_seen_through(self, spelling: str) -> None:
        with web_server() as server:
            port = server.url.rpartition(":")[2]
            assert Addresses((), ()).allow("127.0.0.1", int(port)) is False
            assert _why(_fetcher(server), f"http://{spelling}:{port}/1.jpg")[0] is Reason.OUTSIDE_ROOT
            assert server.asked == []


class TestBytes:
    async def _endless(self, exchange: Exchange) -> None:
        await exchange.say("HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await exchange.say(b"x" * 100_000)

    async def _chunked(self, exchange: Exchange) -> None:
        await exchange.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await exchange.say(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

    def test_no_more_is_read_than_a_photo_may_have(self) -> None:
        announced = lambda exchange: exchange.reply(200, b"x", length=10**12)  # noqa: E731
        limit = lambda exchange: exchange.reply(200, b"x" * LIMIT)  # noqa: E731
        with web_server(
            endless=self._endless, chunked=self._chunked, announced=announced, limit=limit
        ) as server:
            fetcher = _fetcher(server)
            for name in ("endless", "chunked", "announced"):
                assert _why(fetcher, f"{server.url}/{name}")[0] is Reason.TOO_MANY_BYTES
                assert server.asked.count(f"/{name}") == 1
            assert len(fetcher.fetch(f"{server.url}/limit")) == LIMIT

    def test_an_endless_body_that_begins_as_no_photo_is_given_up_early(self) -> None:
        async def _endless_photo(exchange: Exchange) -> None:
            await exchange.say("HTTP/1.1 200 OK\r\n\r\n")
            await exchange.say(b"\xff\xd8\xff\xe0")
            while True:
                await exchange.say(b"x" * 100_000)

        own = load_config(None, ["decode.plugins=[tests:own]", f"decode.max_bytes={4 << 20}"])
        known = load_config(None, [f"decode.max_bytes={4 << 20}"])
        with web_server(junk=self._endless, photo=_endless_photo) as server:
            for config, name, reason in (
                (known, "junk", Reason.UNKNOWN_FORMAT),
                (known, "photo", Reason.TOO_MANY_BYTES),
                (own, "junk", Reason.TOO_MANY_BYTES),
            ):
                storage = config.storage.model_copy(update={"roots": (server.url,)})
                fetcher = Fetcher.of(config.model_copy(update={"storage": storage}))
                assert _why(fetcher, f"{server.url}/{name}")[0] is reason

    @pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "x-gzip"])
    def test_a_compressed_body_is_refused_unread(self, encoding: str) -> None:
        bomb = gzip.compress(bytes(10 << 20))
        with web_server(bomb=lambda e: e.reply(200, bomb, f"Content-Encoding: {encoding}")) as server:
            reason, detail = _why(_fetcher(server), f"{server.url}/bomb")
            assert (reason, "compressed" in detail) == (Reason.FETCH_FAILED, True)
            assert "\r\nAccept-Encoding: identity\r\n" in server.heads[0]
            named = web_server(p=lambda e: e.reply(200, PHOTO, "Content-Encoding: identity"))
            with named as other:
                assert _fetcher(other).fetch(f"{other.url}/p") == PHOTO

    def test_a_photo_that_ends_too_early_is_tried_again_and_then_truncated(self) -> None:
        async def short(exchange: Exchange) -> None:
            await exchange.reply(200, b"x" * 10, length=20)
            exchange.end()

        async def torn(exchange: Exchange) -> None:
            await exchange.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            exchange.end()

        async def once(exchange: Exchange) -> None:
            await (short if exchange.number == 1 else Exchange.reply)(exchange)

        with web_server(short=short, torn=torn, once=once) as server:
            fetcher = _fetcher(server)
            assert _why(fetcher, f"{server.url}/short") == (Reason.FETCH_FAILED, "truncated: 10 of 20 bytes")
            assert _why(fetcher, f"{server.url}/torn") == (Reason.FETCH_FAILED, "truncated: 5 of more bytes")
            assert server.asked.count("/short") == 3
            assert fetcher.fetch(f"{server.url}/once") == PHOTO

    def test_large_photos_under_way_share_a_bounded_memory(self) -> None:
        """Ten of 4 in a room of 10, and one that is larger than the room."""

        async def held() -> int:
            room, under_way, most = Room(10), 0, 0

            async def read(size: int) -> None:
                nonlocal under_way, most
                async with room.held(size):
                    under_way += size
                    most = max(most, under_way)
                    await asyncio.sleep(0)
                    under_way -= size

            await asyncio.gather(*(read(4) for _ in range(10)))
            async with asyncio.timeout(5), room.held(99):
                return most

        assert asyncio.run(held()) == 8

    def test_a_photo_that_is_given_up_leaves_nothing_in_memory(self) -> None:
        with web_server(endless=self._endless) as server:
            why = _fetcher(server)._web.fetch(f"{server.url}/endless").result()
            assert isinstance(why, Reject) and why.__traceback__ is None and why.__context__ is None

    def test_nothing_is_empty(self) -> None:
        with web_server(empty=lambda e: e.reply(200, b""), none=lambda e: e.reply(204, b"")) as server:
            for name in ("empty", "none"):
                assert _why(_fetcher(server), f"{server.url}/{name}")[0] is Reason.EMPTY


class TestStatus:
    @pytest.mark.parametrize(
        ("status", "reason", "tries"),
        [
            (400, Reason.FETCH_FAILED, 1),
            (401, Reason.ACCESS_DENIED, 1),
            (403, Reason.ACCESS_DENIED, 1),
            (404, Reason.NOT_FOUND, 1),
            (410, Reason.NOT_FOUND, 1),
            (416, Reason.FETCH_FAILED, 1),
            (451, Reason.ACCESS_DENIED, 1),
            (206, Reason.FETCH_FAILED, 1),
            (304, Reason.FETCH_FAILED, 1),
            (408, Reason.FETCH_FAILED, 3),
            (429, Reason.FETCH_FAILED, 3),
            (500, Reason.FETCH_FAILED, 3),
            (501, Reason.FETCH_FAILED, 1),
            (502, Reason.FETCH_FAILED, 3),
            (503, Reason.FETCH_FAILED, 3),
            (522, Reason.FETCH_FAILED, 3),
        ],
    )
    def test_a_status_has_its_reason(self, status: int, reason: Reason, tries: int) -> None:
        with web_server(p=lambda exchange: exchange.reply(status, b"")) as server:
            found, detail = _why(_fetcher(server), f"{server.url}/p")
            assert (found, str(status) in detail, len(server.asked)) == (reason, True, tries)
            assert found in PASSING

    def test_a_passing_status_is_asked_again(self) -> None:
        async def at_last(exchange: Exchange) -> None:
            await exchange.reply(200 if exchange.number == 3 else 503)

        with web_server(p=at_last) as server:
            assert _fetcher(server).fetch(f"{server.url}/p") == PHOTO

    @pytest.mark.parametrize("status", [429, pytest.param(503, marks=pytest.mark.slow)])
    @pytest.mark.parametrize("form", ["seconds", "date", "date by its own clock"])
    def test_the_wait_that_a_server_asks_for_is_kept(self, status: int, form: str) -> None:
        """By both forms; it may ask more often than a photo has tries."""
        came: list[float] = []

        async def later(exchange: Exchange) -> None:
            came.append(time.time())
            clock = 0 if form == "date by its own clock" else time.time()
            after = "1" if form == "seconds" else formatdate(clock + 2, usegmt=True)
            done = exchange.number > 2
            date = f"Date: {formatdate(clock, usegmt=True)}"
            await exchange.reply(200 if done else status, PHOTO, date, f"Retry-After: {after}")

        with web_server(p=later) as server:
            assert Fetcher((server.url,), 1, LIMIT, pause_s=0).fetch(f"{server.url}/p") == PHOTO
        assert all(second - first >= 0.9 for first, second in pairwise(came))

    def test_a_wait_beyond_the_limit_of_time_says_so(self) -> None:
        with web_server(p=_replies(429, "Retry-After: 3600")) as server:
            fetcher = _fetcher(server, timeout_s=0.3)
            reason, detail = _why(fetcher, f"{server.url}/p1")
            assert (reason, "429" in detail, "wait" in detail) == (Reason.FETCH_FAILED, True, True)
            assert "429" in _why(fetcher, f"{server.url}/p2")[1]
            assert server.asked == ["/p1"], "it is left alone for as long as it asked"

    @pytest.mark.parametrize("after", ["soon", "-5", "", "0", "Sun, 99 Nov 2026 99:99:99 GMT", "9" * 400])
    def test_a_wait_that_makes_no_sense_is_no_wait(self, after: str) -> None:
        with web_server(p=_replies(503, f"Retry-After: {after}")) as server:
            assert "503" in _why(_fetcher(server, timeout_s=0.3), f"{server.url}/p")[1]


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize(
        "target", ["/b.jpg?x=%2F", "b.jpg?x=%2F", "{url}/b.jpg?x=%2F", "//{place}/b.jpg?x=%2F"]
    )
    def test_inside_the_roots_they_are_followed(self, status: int, target: str) -> None:
        with web_server() as server:
            where = target.format(url=server.url.upper().replace("HTTP", "http"), place=server.url[7:])
            server.answers["/a.jpg"] = _replies(status, f"Location: {where}")
            assert _fetcher(server).fetch(f"{server.url}/a.jpg") == PHOTO
            assert server.asked == ["/a.jpg", "/b.jpg?x=%2F"]

    @pytest.mark.parametrize(
        "target",
        [
            "http://elsewhere.example/b.jpg",
            "//169.254.169.254/latest/meta-data",
            "http://[::ffff:127.0.0.1]/",
            "/photos/../secret.jpg",
            "/photos/%2e%2e/secret.jpg",
            "/secret.jpg",
            "file:///etc/passwd",
            "gopher://x",
        ],
    )
    def test_outside_of_them_they_are_refused_by_name(self, target: str) -> None:
        with web_server() as server:
            server.answers["/photos/a.jpg"] = _replies(302, f"Location: {target}")
            reason, detail = _why(_fetcher(f"{server.url}/photos"), f"{server.url}/photos/a.jpg")
            assert (reason, "redirect" in detail) == (Reason.OUTSIDE_ROOT, True)
            assert server.asked == ["/photos/a.jpg"]

    def test_loops_chains_and_redirects_to_nowhere_are_named(self) -> None:
        async def chain(exchange: Exchange) -> None:
            await exchange.reply(302, b"", f"Location: /chain{int(exchange.path[6:]) + 1}")

        with web_server(
            loop=_replies(302, "Location: /loop1"), round=_replies(302, "Location: /loop"), chain=chain,
            nowhere=_replies(302),
        ) as server:  # fmt: skip
            fetcher = _fetcher(server)
            assert _why(fetcher, f"{server.url}/loop") == (Reason.FETCH_FAILED, "redirected in a loop")
            assert _why(fetcher, f"{server.url}/round") == (Reason.FETCH_FAILED, "redirected in a loop")
            assert "redirected more than 5 times" in _why(fetcher, f"{server.url}/chain0")[1]
            assert len([path for path in server.asked if path.startswith("/chain")]) == 6
            assert "redirect" in _why(fetcher, f"{server.url}/nowhere")[1]

    def test_a_redirect_from_https_to_http_is_refused(self) -> None:
        from frpipe.io.manifest.web.client import WebClient, WebLimits

        client = WebClient(_fetcher("http://a.example", "https://a.example")._roots, WebLimits(LIMIT))
        with pytest.raises(Reject, match="redirected from https to http"):
            client._target("https://a.example/1.jpg", "http://a.example/1.jpg")
        assert (
            client._target("http://a.example/1.jpg", "https://a.example/1.jpg") == "https://a.example/1.jpg"
        )

    def test_a_password_does_not_go_along(self) -> None:
        with web_server() as one, web_server() as other:
            one.answers["/a.jpg"] = _replies(302, f"Location: {other.url}/b.jpg")
            secret = one.url.replace("//", "//me:secret@")
            assert _fetcher(secret, other).fetch(f"{secret}/a.jpg") == PHOTO
            assert "Authorization" in one.heads[0] and "Authorization" not in other.heads[0]


class TestManifests:
    """What is read from a web server otherwise, as a file of the operator's choice."""

    def test_addresses_go_out_letter_by_letter_and_redirects_are_named(self) -> None:
        with web_server(moved=_replies(302, "Location: /m.csv")) as server:
            assert Folder.at(f"{server.url}/a%2F%7Eb").read("m%2F+.csv") == PHOTO
            assert set(server.asked) == {"/a%2F%7Eb/m%2F+.csv"}
            with pytest.raises(StorageError, match="redirects"):
                Folder.at(server.url).read("moved")


async def _silent(_: Exchange) -> None:
    await asyncio.sleep(60)


async def _drip(exchange: Exchange) -> None:
    await exchange.say("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
    while True:
        await exchange.say(b"x")
        await asyncio.sleep(0.05)


async def _drip_headers(exchange: Exchange) -> None:
    await exchange.say("HTTP/1.1 200 OK\r\n")
    for number in range(10_000):
        await exchange.say(f"X-{number}: x\r\n" if number % 10 == 9 else "")
        await asyncio.sleep(0.02)


async def _reset(exchange: Exchange) -> None:
    exchange.reset()


HOSTILE = {"silent": _silent, "drip": _drip, "headers": _drip_headers}


class TestTime:
    @pytest.mark.parametrize("way", HOSTILE)
    def test_the_limit_is_for_the_whole_photo(self, way: str) -> None:
        with web_server(**HOSTILE) as server:
            start = time.monotonic()
            reason, detail = _why(_fetcher(server, timeout_s=0.5), f"{server.url}/{way}")
            assert (reason, "timed out" in detail) == (Reason.FETCH_FAILED, True)
            assert 0.1 <= time.monotonic() - start < 10

    def test_a_slow_photo_within_the_limit_comes(self) -> None:
        async def slow(exchange: Exchange) -> None:
            await asyncio.sleep(1.2)
            await exchange.reply()

        with web_server(slow=slow) as server:
            assert _fetcher(server).fetch(f"{server.url}/slow") == PHOTO

    def test_connections_that_break_are_named(self) -> None:
        async def noise(exchange: Exchange) -> None:
            await exchange.say("SSH-2.0-Nonsense\r\n\r\n")
            exchange.end()

        with web_server(reset=_reset, noise=noise) as server:
            fetcher = _fetcher(server)
            assert _why(fetcher, f"{server.url}/reset") == (Reason.FETCH_FAILED, "the connection was cut")
            assert _why(fetcher, f"{server.url}/noise") == (Reason.FETCH_FAILED, "the reply is not HTTP")
        assert _why(fetcher, f"{server.url}/1.jpg") == (Reason.FETCH_FAILED, "no connection")

    def test_a_late_host_is_given_less_time_until_it_answers_again(self) -> None:
        """Its third photo that is late makes the difference."""
        healthy = []

        async def sick(exchange: Exchange) -> None:
            await (Exchange.reply if healthy else _silent)(exchange)

        with web_server(p=sick) as server:
            fetcher = _fetcher(server, timeout_s=0.4)
            said = [_why(fetcher, f"{server.url}/p{n}")[1] for n in range(5)]
            assert [text for text in said if "as the last" in text] == said[3:]
            assert "0.04 s, as the last 3 of its host" in said[3]
            healthy.append(True)
            assert [fetcher.fetch(f"{server.url}/p{n}") for n in range(9)] == [PHOTO] * 9
            healthy.clear()
            assert "as the last" not in _why(fetcher, f"{server.url}/p")[1]


class TestOrder:
    def test_undisturbed_photos_come_in_order(self) -> None:
        with web_server() as server:
            urls = [f"{server.url}/{n}" for n in range(100)]
            assert list(_fetcher(server).arrivals(urls, 8, 10)) == [(n, PHOTO) for n in range(100)]

    @pytest.mark.parametrize("share", [2, 7])
    def test_no_photo_waits_for_those_of_a_slow_host(self, share: int) -> None:
        """The slow host answers when all photos of the other one have been asked for."""

        async def last(exchange: Exchange) -> None:
            while len(good.asked) < 300:
                await asyncio.sleep(0.02)
            await exchange.reply(200, b"late")

        with web_server(bad=last) as bad, web_server() as good:
            urls = [f"{good.url}/{n}" for n in range(300)]
            for number in range(30):
                urls.insert(number * share, f"{bad.url}/bad{number}")
            came = list(_fetcher(good, bad).arrivals(urls, 4, 8))
        assert dict(came) == {
            number: PHOTO if url.startswith(good.url) else b"late" for number, url in enumerate(urls)
        }

    def test_photos_of_a_host_that_never_answers_are_given_up(self) -> None:
        with web_server(**HOSTILE) as bad, web_server() as good:
            urls = [f"{bad.url}/{way}{n}" for n in range(20) for way in HOSTILE] + [f"{good.url}/1"]
            came = dict(_fetcher(good, bad, timeout_s=2.0).arrivals(urls, 4, 8))
        assert came.pop(60) == PHOTO
        assert sorted(came) == list(range(60))
        assert all(isinstance(photo, Reject) and photo.reason in PASSING for photo in came.values())

    def test_photos_of_all_kinds_of_places_are_mixed(self, tmp_path) -> None:  # type: ignore[no-untyped-def]
        (tmp_path / "1.jpg").write_bytes(b"local")
        with web_server() as server:
            places = [
                f"{tmp_path}/1.jpg",
                f"{server.url}/1.jpg",
                f"{tmp_path}/2.jpg",
                "http://elsewhere/1.jpg",
            ]
            found = dict(_fetcher(server, str(tmp_path)).arrivals(places, 2, 2))
        assert (found[0], found[1]) == (b"local", PHOTO)
        assert [found[n].reason for n in (2, 3)] == [Reason.NOT_FOUND, Reason.OUTSIDE_ROOT]  # type: ignore[union-attr]

    def test_slow_hosts_do_not_wait_for_each_other_either(self) -> None:
        """Two hosts are slow; those of one are there at once, those of the other after them."""
        hosts = ["stuck"] * 50 + ["slow"] * 5
        stuck: list[Future[bytes | Reject]] = []

        def start(number: int) -> Future[bytes | Reject]:
            future: Future[bytes | Reject] = Future()
            if hosts[number] == "slow":
                future.set_result(b"slow")
            else:
                stuck.append(future)
            return future

        came = []
        for number, _ in Arrivals(hosts, start, lambda _: True, ahead=8, of_slow=4, most_bytes=1000):
            came.append(number)
            assert len(came) > 5 or len(stuck) == 4
            if len(came) >= 5 and stuck:
                stuck.pop().set_result(b"stuck")
        assert came[:5] == [50, 51, 52, 53, 54]
        assert sorted(came) == list(range(55))

    def test_no_more_are_held_than_asked_for(self) -> None:
        with web_server() as server:
            for taken, _ in enumerate(
                _fetcher(server).arrivals([f"{server.url}/{n}" for n in range(60)], 4, 5)
            ):
                assert len(server.asked) <= taken + 5

    def test_it_may_be_left(self) -> None:
        with web_server(**HOSTILE) as server:
            arrivals = _fetcher(server).arrivals([f"{server.url}/{n}" for n in range(9)], 2, 4)
            next(arrivals)
            arrivals.close()  # type: ignore[attr-defined]
