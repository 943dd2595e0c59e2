"""Which photos a manifest may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from frpipe.core.errors import ConfigError
from frpipe.io.manifest.roots import Resolver, Roots
from frpipe.io.manifest.row_faults import BadRow, RowFault


def _fault(resolver: Resolver, uri: str) -> RowFault:
    with pytest.raises(BadRow) as caught:
        resolver.resolve(uri)
    return caught.value.fault


@pytest.mark.parametrize(
    "uri",
    ["../x.jpg", "a/../../x.jpg", "/a/../x.jpg", "file:///a/../x", "s3://b/a/../x", "a/..", "gs://b/.."],
)
@pytest.mark.parametrize("folder", ["/data", "s3://bucket/list"])
def test_parent_segments_are_always_refused(uri: str, folder: str) -> None:
    assert _fault(Resolver(folder, ()), uri) is RowFault.PARENT
    assert _fault(Resolver(folder, ("/", "s3://b", "gs://b")), uri) is RowFault.PARENT


@pytest.mark.parametrize("uri", ["a..b.jpg", "..a/x.jpg", "a/...jpg", "100%.jpg"])
def test_dots_in_names_are_fine(uri: str, tmp_path: Path) -> None:
    assert Resolver(str(tmp_path), ()).resolve(uri) == f"{tmp_path}/{uri}"


@pytest.mark.parametrize("hidden", ["%2e%2e/x", "a/%2E%2E/x", "%252e%252e/x", "..\\x", "a/.%2e/x"])
def test_hidden_parent_segments_of_web_addresses_are_refused(hidden: str) -> None:
    resolver = Resolver("/data", ("https://host/photos",))
    assert _fault(resolver, f"https://host/photos/{hidden}") is RowFault.PARENT


def test_relative_paths_start_from_the_manifest(tmp_path: Path) -> None:
    assert Resolver(str(tmp_path), ()).resolve("./a//1.jpg") == f"{tmp_path}/a/1.jpg"
    assert Resolver("s3://bucket/list", ()).resolve("a/1.jpg") == "s3://bucket/list/a/1.jpg"


def test_a_link_may_not_lead_out_of_the_manifest_folder(tmp_path: Path) -> None:
    folder, outside = tmp_path / "m", tmp_path / "outside"
    (folder / "inside").mkdir(parents=True)
    outside.mkdir()
    (outside / "x.jpg").write_bytes(b"x")
    (folder / "linked").symlink_to(outside)
    (folder / "x.jpg").symlink_to(outside / "x.jpg")
    (folder / "fine.jpg").symlink_to(folder / "inside" / "y.jpg")
    resolver = Resolver(str(folder), ())
    assert _fault(resolver, "linked/x.jpg") is RowFault.LEAVES_FOLDER
    assert _fault(resolver, "x.jpg") is RowFault.LEAVES_FOLDER
    assert resolver.resolve("fine.jpg") == f"{folder}/fine.jpg"
    assert Resolver(str(folder), (str(outside),)).resolve("x.jpg"), "roots say that this is meant"


def test_a_folder_that_is_a_link_itself_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Resolver(str(tmp_path / "link"), ()).resolve("1.jpg") == f"{tmp_path}/link/1.jpg"


@pytest.mark.parametrize("uri", ["/etc/x.jpg", "file:///etc/x.jpg", "FILE:///etc/x.jpg", "local:///etc/x"])
def test_local_paths_are_for_local_manifests(uri: str) -> None:
    assert Resolver("/data", ()).resolve(uri).startswith("/etc/x")
    assert _fault(Resolver("s3://bucket/list", ()), uri) is RowFault.LOCAL_FROM_REMOTE
    assert _fault(Resolver("s3://bucket/list", ("/etc",)), uri) is RowFault.LOCAL_FROM_REMOTE


@pytest.mark.parametrize(
    "uri", ["http://host/x", "https://host/x", "ftp://host/x", "sftp://h/x", "webhdfs://h/x"]
)
def test_hosts_that_a_manifest_chooses_need_a_root(uri: str) -> None:
    assert _fault(Resolver("/data", ()), uri) is RowFault.SCHEME
    scheme, rest = uri.split("://")
    assert Resolver("/data", (f"{scheme}://{rest.split('/')[0]}",)).resolve(uri) == uri


@pytest.mark.parametrize("uri", ["zip://a.jpg::s3://b/c.zip", "simplecache::file:///etc/x", "a\0b", "s3://"])
def test_what_is_no_plain_path_is_refused(uri: str) -> None:
    assert _fault(Resolver("/data", ()), uri) is RowFault.BAD_PATH


def test_roots_bound_everything_on_whole_segments(tmp_path: Path) -> None:
    photos, other = tmp_path / "photos", tmp_path / "photos2"
    photos.mkdir()
    other.mkdir()
    (photos / "out").symlink_to(other)
    resolver = Resolver(str(tmp_path), (f"{photos}/", "s3://bucket/a"))
    assert resolver.resolve(f"{photos}/1.jpg")
    assert resolver.resolve("photos/1.jpg")
    assert resolver.resolve("s3a://bucket/a/1.jpg") == "s3://bucket/a/1.jpg"
    for uri in (
        f"{other}/1.jpg",
        "photos2/1.jpg",
        "photos/out/1.jpg",
        "s3://bucket/ab/1",
        "s3://bucket/b",
        "gs://bucket/a/1",
    ):
        assert _fault(resolver, uri) is RowFault.OUTSIDE_ROOTS


def test_a_root_of_one_host_is_not_one_of_another() -> None:
    resolver = Resolver("/data", ("https://host/p",))
    for uri in ("https://host@evil/p/1", "https://host.evil/p/1", "http://host/p/1", "https://host/p2/1"):
        assert _fault(resolver, uri) is RowFault.OUTSIDE_ROOTS


@pytest.mark.parametrize("root", ["photos", "/a/../b", "https://", "s3:///"])
def test_roots_must_be_plain(root: str) -> None:
    with pytest.raises(ConfigError, match=r"storage\.roots"):
        Roots((root,))
