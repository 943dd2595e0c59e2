"""Photos from where they lie, and why there is none."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3server import S3, forget_clients, s3  # noqa: F401

from frpipe.core.errors import ManifestError, StorageError
from frpipe.core.reasons import Reason, Reject
from frpipe.io.manifest import fetch as fetching
from frpipe.io.manifest import photo_pages
from frpipe.io.manifest.fetch import Fetcher
from frpipe.io.manifest.roots import folder_of
from frpipe.io.storage.folder import Folder


def _fetcher(*roots: str, attempts: int = 3, max_bytes: int = 1000) -> Fetcher:
    return Fetcher(roots, attempts, max_bytes, pause_s=0)


def _reason(fetcher: Fetcher, location: str) -> Reason:
    with pytest.raises(Reject) as caught:
        fetcher.fetch(location)
    assert location not in caught.value.detail
    return caught.value.reason


class TestLocal:
    def test_bytes_come_back(self, tmp_path: Path) -> None:
        (tmp_path / "ä#1.jpg").write_bytes(b"photo")
        assert _fetcher().fetch(f"{tmp_path}/ä#1.jpg") == b"photo"
        assert _fetcher(str(tmp_path)).fetch(f"{tmp_path}/ä#1.jpg") == b"photo"

    def test_what_is_wrong_is_a_reason(self, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        (tmp_path / "large").write_bytes(b"x" * 1001)
        (tmp_path / "limit").write_bytes(b"x" * 1000)
        os.mkfifo(tmp_path / "pipe")
        fetcher = _fetcher()
        assert _reason(fetcher, f"{tmp_path}/none.jpg") is Reason.NOT_FOUND
        assert _reason(fetcher, f"{tmp_path}/empty/x.jpg") is Reason.NOT_FOUND
        assert _reason(fetcher, f"{tmp_path}/empty") is Reason.EMPTY
        assert _reason(fetcher, f"{tmp_path}/large") is Reason.TOO_MANY_BYTES
        assert _reason(fetcher, f"{tmp_path}/pipe") is Reason.FETCH_FAILED
        assert _reason(fetcher, str(tmp_path)) is Reason.FETCH_FAILED
        assert len(fetcher.fetch(f"{tmp_path}/limit")) == 1000

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"x")
        (tmp_path / "x").chmod(0)
        assert _reason(_fetcher(), f"{tmp_path}/x") is Reason.ACCESS_DENIED

    def test_a_link_made_after_the_plan_does_not_lead_out(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"secret")
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "1.jpg").symlink_to(tmp_path / "secret")
        fetcher = _fetcher(str(tmp_path / "photos"))
        assert _reason(fetcher, f"{tmp_path}/photos/1.jpg") is Reason.OUTSIDE_ROOT
        assert _reason(fetcher, f"{tmp_path}/secret") is Reason.OUTSIDE_ROOT

    def test_without_roots_the_folder_of_a_relative_path_bounds_its_links(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"secret")
        (tmp_path / "photos" / ".store").mkdir(parents=True)
        (tmp_path / "photos" / ".store" / "1").write_bytes(b"photo")
        (tmp_path / "photos" / "in.jpg").symlink_to(".store/1")
        (tmp_path / "photos" / "out.jpg").symlink_to("../secret")
        folder = folder_of("out.jpg", f"{tmp_path}/photos/out.jpg")
        assert folder == f"{tmp_path}/photos"
        names = [f"{folder}/{name}" for name in ("in.jpg", "out.jpg")]
        inside, outside = _fetcher().stream(names, 2, 4, [folder, folder])
        assert inside == b"photo"
        assert isinstance(outside, Reject)
        assert outside.reason is Reason.OUTSIDE_ROOT
        assert list(_fetcher().stream(names, 2, 4)) == [b"photo", b"secret"], "named by an absolute path"

    @pytest.mark.parametrize("swapped", ["file", "folder"])
    def test_a_link_that_comes_between_the_check_and_the_reading_does_not_lead_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
    ) -> None:
        for folder in ("secret", "photos/a"):
            (tmp_path / folder).mkdir(parents=True)
            (tmp_path / folder / "1.jpg").write_bytes(folder.encode())
        real_open, place = os.open, tmp_path / "photos/a"

        def swap_and_open(path: str, flags: int) -> int:
            if not (tmp_path / "moved").exists():
                (place if swapped == "folder" else place / "1.jpg").rename(tmp_path / "moved")
                if swapped == "folder":
                    place.symlink_to(tmp_path / "secret")
                else:
                    (place / "1.jpg").symlink_to(tmp_path / "secret/1.jpg")
            return real_open(path, flags)

        monkeypatch.setattr(fetching.os, "open", swap_and_open)
        assert _reason(_fetcher(str(tmp_path / "photos")), f"{place}/1.jpg") is Reason.OUTSIDE_ROOT

    def test_paths_that_are_not_relative_have_no_folder(self) -> None:
        assert folder_of("/a/1.jpg", "/a/1.jpg") is None
        assert folder_of("s3://b/1.jpg", "s3://b/1.jpg") is None
        assert folder_of("1.jpg", "s3://b/1.jpg") is None
        assert folder_of(None, "/a/m.parquet#3") is None
        assert folder_of("./x//1.jpg", "/a/x/1.jpg") == "/a"
        assert folder_of("1.jpg", "/1.jpg") == "/"


class _Flaky:
    """A file system that fails so many times, then answers."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.left, self.calls = error, times, 0

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return b"photo"


class TestAttempts:
    def _run(self, monkeypatch: pytest.MonkeyPatch, flaky: _Flaky) -> Any:
        monkeypatch.setattr(fetching, "connect", lambda _: flaky)
        return _fetcher("s3://b").fetch("s3://b/1.jpg")

    def test_a_passing_failure_is_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self._run(monkeypatch, _Flaky(OSError(5, "busy"), 2)) == b"photo"

    def test_a_lasting_failure_rejects_the_photo(self, monkeypatch: pytest.MonkeyPatch) -> None:
        flaky = _Flaky(OSError(5, "/secret/path"), 9)
        with pytest.raises(Reject) as caught:
            self._run(monkeypatch, flaky)
        assert (caught.value.reason, caught.value.detail) == (Reason.FETCH_FAILED, "OSError EIO")
        assert flaky.calls == 3

    @pytest.mark.parametrize("error", [FileNotFoundError(), PermissionError()])
    def test_a_final_answer_is_not_asked_again(self, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
        flaky = _Flaky(error, 9)
        with pytest.raises(Reject):
            self._run(monkeypatch, flaky)
        assert flaky.calls == 1

    def test_a_dead_store_costs_the_job(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(StorageError, match="does not answer"):
            self._run(monkeypatch, _Flaky(ConnectionRefusedError(), 9))


class TestS3:
    def test_bytes_and_reasons(self, s3: S3) -> None:  # noqa: F811
        folder = Folder.at(s3.uri)
        for name, data in {
            "ä b#%20.jpg": b"photo",
            "empty": b"",
            "large": b"x" * 1001,
            "limit": b"x" * 1000,
        }.items():
            folder.write(name, data)
        fetcher = _fetcher()
        assert fetcher.fetch(f"{s3.uri}/ä b#%20.jpg") == b"photo"
        assert len(fetcher.fetch(f"{s3.uri}/limit")) == 1000
        assert _reason(fetcher, f"{s3.uri}/none") is Reason.NOT_FOUND
        assert _reason(fetcher, "s3://no-such-bucket/none") is Reason.NOT_FOUND
        assert _reason(fetcher, f"{s3.uri}/empty") is Reason.EMPTY
        assert _reason(fetcher, f"{s3.uri}/large") is Reason.TOO_MANY_BYTES
        assert _reason(_fetcher("s3://other"), f"{s3.uri}/limit") is Reason.OUTSIDE_ROOT

    def test_bad_credentials_end_the_job_and_do_not_reject_its_photos(
        self,
        s3: S3,  # noqa: F811
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        forget_clients()
        with pytest.raises(StorageError, match="credentials"):
            _fetcher().fetch(f"{s3.uri}/x")

    def test_many_threads_share_one_client(self, s3: S3) -> None:  # noqa: F811
        folder = Folder.at(s3.uri)
        for n in range(20):
            folder.write(f"{n}", str(n).encode())
        photos = _fetcher().stream([f"{s3.uri}/{n}" for n in range(20)], threads=8, ahead=10)
        assert list(photos) == [str(n).encode() for n in range(20)]


class TestStream:
    def test_order_is_kept_and_rejects_are_in_their_place(self, tmp_path: Path) -> None:
        for n in range(0, 50, 2):
            (tmp_path / str(n)).write_bytes(str(n).encode())
        photos = list(_fetcher().stream([f"{tmp_path}/{n}" for n in range(50)], threads=4, ahead=8))
        assert [p for p in photos if isinstance(p, bytes)] == [str(n).encode() for n in range(0, 50, 2)]
        assert all(isinstance(p, Reject) and p.reason is Reason.NOT_FOUND for p in photos[1::2])

    def test_no_more_than_ahead_are_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        started: list[str] = []

        def fetch(_: Fetcher, location: str, folder: str | None) -> bytes:
            started.append(location)
            return b"x"

        monkeypatch.setattr(Fetcher, "fetch", fetch)
        stream = _fetcher().stream(map(str, range(100)), threads=4, ahead=5)
        for taken, _ in enumerate(stream):
            assert len(started) <= taken + 5
        assert len(started) == 100

    def test_a_stream_may_be_left(self, tmp_path: Path) -> None:
        (tmp_path / "1").write_bytes(b"x")
        stream = _fetcher().stream([f"{tmp_path}/1"] * 100, threads=2, ahead=4)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert not [t for t in threading.enumerate() if t.name.startswith("fetch")]

    def test_nothing_gives_nothing(self) -> None:
        assert list(_fetcher().stream([], 4, 4)) == []


class TestEmbedded:
    @pytest.fixture
    def file(self, tmp_path: Path) -> str:
        photos = [f"photo {n}".encode() for n in range(100)]
        photos[41:44] = [b"", None, b"x" * 1001]
        table = pa.table(
            {"image_id": [str(n) for n in range(100)], "image_bytes": pa.array(photos, pa.binary())}
        )
        pq.write_table(table, tmp_path / "m#1.parquet", row_group_size=30)
        return str(tmp_path / "m#1.parquet")

    @pytest.mark.parametrize(
        "rows", [range(100), range(25, 35), [0, 29, 30, 59, 60, 99], [5, 3, 3, 4], [99], range(95, 40, -13)]
    )
    def test_rows_come_in_the_order_asked(self, file: str, rows: list[int]) -> None:
        photos = _fetcher("/elsewhere").stream([f"row+{file}#{n}" for n in rows], 4, 4)
        expected = {41: Reason.EMPTY, 42: Reason.EMPTY, 43: Reason.TOO_MANY_BYTES}
        for row, photo in zip(rows, photos, strict=True):
            assert (photo.reason if isinstance(photo, Reject) else photo) == expected.get(
                row, f"photo {row}".encode()
            )

    def test_one_row_alone(self, file: str) -> None:
        assert _fetcher().fetch(f"row+{file}#77") == b"photo 77"
        assert _reason(_fetcher(), f"row+{file}#42") is Reason.EMPTY

    def test_only_groups_with_wanted_rows_are_read(self, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        groups: list[int] = []
        read = pq.ParquetFile.iter_batches

        def spy(self: Any, size: int, *, row_groups: list[int], **options: Any) -> Any:
            groups.extend(row_groups)
            return read(self, size, row_groups=row_groups, **options)

        monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
        assert len(list(_fetcher().stream([f"row+{file}#{n}" for n in range(62, 80)], 4, 4))) == 18
        assert groups == [2]

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"use_dictionary": False, "compression": "none"},
            {"compression": "zstd", "data_page_version": "2.0"},
            {"compression": "gzip", "write_page_checksum": True, "write_page_index": True},
            {"column_encoding": {"image_bytes": "DELTA_LENGTH_BYTE_ARRAY"}, "use_dictionary": False},
            {"store_decimal_as_integer": False, "write_statistics": False},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("is_struct", [False, True])
    def test_a_part_of_one_large_row_group_reads_its_own_pages(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], is_struct: bool
    ) -> None:
        rows, part, noise = 1200, 60, random.Random(0)
        photos = [None if n % 97 == 5 else b"%04d" % n + noise.randbytes(6000 + n) for n in range(rows)]
        column: Any = pa.array(photos, pa.binary())
        if is_struct:
            paths = pa.array(map(str, range(rows)))
            column = pa.StructArray.from_arrays([column, paths], ["bytes", "path"])
            options = {key: value for key, value in options.items() if key != "column_encoding"}
        table = pa.table(
            {"image_id": [*map(str, range(rows))], "image" if is_struct else "image_bytes": column}
        )
        path = tmp_path / "m.parquet"
        with pq.ParquetWriter(
            path, table.schema, data_page_size=1 << 16, write_batch_size=4, **options
        ) as out:
            out.write_table(table, row_group_size=rows)
        read: list[int] = []
        plain = Folder.read_range

        def counted(self: Folder, name: str, start: int, end: int) -> bytes:
            read.append(max(end - start, 0))
            return plain(self, name, start, end)

        monkeypatch.setattr(Folder, "read_range", counted)
        monkeypatch.setattr(photo_pages, "BUFFER_BYTES", 1 << 14)
        fetcher, total = _fetcher(max_bytes=10_000), path.stat().st_size
        for first in (0, 1140, 600, 60):
            read.clear()
            wanted = range(first, first + part)
            found = list(fetcher.stream([f"row+{path}#{n}" for n in wanted], 4, 4))
            told = [None if isinstance(photo, Reject) else photo for photo in found]
            assert told == photos[first : first + part]
            assert sum(read) < total / 4, "its twentieth, the dictionary, and headers of pages"
        read.clear()
        few = [3, 500, 501, 1199]
        assert list(fetcher.stream([f"row+{path}#{n}" for n in few], 4, 4)) == [photos[n] for n in few]
        assert sum(read) < total / 3

    def test_a_manifest_that_changed_under_the_run_ends_it(self, file: str) -> None:
        with pytest.raises(ManifestError, match="changed"):
            list(_fetcher().stream([f"row+{file}#{n}" for n in (98, 99, 100)], 4, 4))
        whole = Path(file).read_bytes()
        for data in (
            whole.replace(b"image_bytes", b"other_bytes"),
            whole[:99],
            whole[:60] + whole[90:],
        ):
            Path(file).write_bytes(data)
            with pytest.raises(ManifestError, match="changed"):
                list(_fetcher().stream([f"row+{file}#{n}" for n in range(100)], 4, 4))
        Path(file).unlink()
        with pytest.raises(ManifestError, match="gone"):
            _fetcher().fetch(f"row+{file}#1")

    def test_rows_on_s3(self, s3: S3, file: str) -> None:  # noqa: F811
        Folder.at(s3.uri).publish("m.parquet", Path(file))
        photos = list(_fetcher().stream([f"row+{s3.uri}/m.parquet#{n}" for n in (28, 29, 30, 31)], 4, 4))
        assert photos == [f"photo {n}".encode() for n in (28, 29, 30, 31)]


def test_an_in_memory_store_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.filesystem("memory").pipe_file("/photos/1.jpg", b"photo")
    assert _fetcher("memory://photos").fetch("memory://photos/1.jpg") == b"photo"
    assert _reason(_fetcher(), "memory://photos/2.jpg") is Reason.NOT_FOUND
