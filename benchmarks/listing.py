"""What it takes to list photos that are really there: on a disk, and in a bucket of a real S3 server.

    python benchmarks/listing.py --files 1000000 --keys 50000 --latency-ms 100
    python benchmarks/listing.py --files 0 --uri s3://photos/album
    python benchmarks/listing.py --files 0 --keys 0 --simulated 1000000 --latency-ms 100

disk      empty files, five a folder, listed with sizes and versions as a night does
botocore  a bare loop over pages of the bucket: the least that botocore takes for them
behind    our listing, one request behind the other
folders   our listing, begun at folders too once there are many photos, as on a first night
known     our listing, begun at names that were there before, as on each night after

Without `--uri` the server is that of the tests, on this machine, and photos lie in folders of a thousand: its
CPU is not counted, and its time is no store's. `--latency-ms` has each request wait before it is sent, as a
store far away does: that is simulated. Seconds are of this process, to a million photos; the last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import s3server

from frpipe.io.manifest.photo_listing import PhotoListing
from frpipe.io.storage import s3_listing
from frpipe.io.storage.filesystem import connect
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.listed import LISTED, NAME
from frpipe.io.storage.s3_page import Page, read_page

PER_FOLDER = 1000
_AT_ONCE = 32


def on_disk(files: int) -> Iterator[pa.Table]:
    """Make empty files, and list them."""
    with tempfile.TemporaryDirectory(prefix="frpipe-listing-") as place:
        for number in range(files):
            path = f"{place}/p{number // 5:09d}"
            if number % 5 == 0:
                os.mkdir(path)  # noqa: PTH102 - a million of them
            os.close(os.open(f"{path}/{number % 5}.jpg", os.O_CREAT | os.O_WRONLY))
        yield pa.table({})  # from here on it is measured
        yield from PhotoListing(Folder.at(place)).blocks()


def fill(bucket: str, prefix: str, keys: int) -> list[str]:
    """Put empty objects into a bucket; returns their names below the prefix."""
    import s3fs

    names = [f"p{number // PER_FOLDER:06d}/{number % PER_FOLDER:04d}.jpg" for number in range(keys)]

    async def put() -> None:
        fs = s3fs.S3FileSystem(asynchronous=True, skip_instance_cache=True)
        client, todo = await fs.set_session(), iter(names)

        async def some() -> None:
            for name in todo:
                await client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=b"")

        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
        await client.close()

    asyncio.run(put())
    return names


def filled(keys: int) -> str:
    """Start the server of the tests, fill a bucket, and return its address."""
    server = s3server.S3(s3server._endpoint(), "s3://frpipe-tests/listing")
    os.environ.update(server.environment)
    s3server._make_bucket()
    fill("frpipe-tests", "listing", keys)
    return str(server.uri)


def in_bucket(uri: str, every: int, latency_s: float) -> Iterator[dict[str, Any]]:
    """List a bucket in each way, the ways in turns. every: photos from a known name to the next."""
    folder = Folder.at(uri)
    names = [name for block in folder.walk_blocks([]) for name in block[NAME].to_pylist()]
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    ways: dict[str, Callable[[], Iterator[Any]]] = {
        "botocore": lambda: _bare(bucket, f"{prefix}/", latency_s),
        "behind": lambda: folder.walk_blocks([]),
        "folders": lambda: folder.walk_blocks(None),
        "known": lambda: folder.walk_blocks(names[every::every]),
    }

    def slow(fs: Any, request: Any) -> Page:
        time.sleep(latency_s)
        return read_page(fs, request)

    setattr(s3_listing, "read_page", slow)  # noqa: B010 - a name that the module imports
    for _ in range(2):
        for what, way in ways.items():
            yield _spent(what, way(), len(names))


def simulated(keys: int, every: int, latency_s: float) -> Iterator[dict[str, Any]]:
    """List a bucket that is nowhere: each answer comes after the latency, and takes next to no CPU."""

    def page(_: Any, request: Any) -> Page:
        time.sleep(latency_s)
        at = int(request.get("ContinuationToken", int(request.get("StartAfter", "-1")) + 1))
        names = [f"{number:012d}" for number in range(at, min(at + 1000, keys))]
        files = pa.table([names, [1] * len(names), ["v"] * len(names)], schema=LISTED)
        return Page(files, str(at + 1000) if at + 1000 < keys else None)

    setattr(s3_listing, "read_page", page)  # noqa: B010 - a name that the module imports
    nowhere = Mock()
    for _ in range(2):
        for what, names in (("behind", []), ("known", [f"{at:012d}" for at in range(every, keys, every)])):
            listed = s3_listing.S3Listing(nowhere, "nowhere", "").at_once(names)
            yield _spent(f"simulated, {what}", listed, keys)


def _bare(bucket: str, prefix: str, latency_s: float) -> Iterator[list[Any]]:
    fs, request = connect(f"s3://{bucket}"), {"Bucket": bucket, "Prefix": prefix}
    while True:
        time.sleep(latency_s)
        page = fs.call_s3("list_objects_v2", **request)
        yield page["Contents"]
        if not page["IsTruncated"]:
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def _spent(what: str, blocks: Iterator[Any], expected: int) -> dict[str, Any]:
    start, cpu = time.monotonic(), time.process_time()
    count = sum(map(len, blocks))
    assert count == expected, (what, count)
    seconds = {"cpu_s": time.process_time() - cpu, "wall_s": time.monotonic() - start}
    return {
        "what": what,
        "photos": count,
        **{name: round(spent / count * 1e6, 2) for name, spent in seconds.items()},
    }


def main() -> None:
    """Measure, and print one JSON object at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=200_000, help="files on the disk of TMPDIR; 0: none")
    parser.add_argument("--keys", type=int, default=20_000, help="objects in the bucket; 0: none")
    parser.add_argument("--uri", help="a prefix of a bucket that is there")
    parser.add_argument("--every", type=int, default=1 << 15, help="photos from a known name to the next")
    parser.add_argument("--simulated", type=int, default=0, help="keys of a bucket that is nowhere")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    options = parser.parse_args()
    rows = []
    if options.files:
        blocks = on_disk(options.files)
        next(blocks)
        rows.append(_spent("disk", blocks, options.files))
        print(rows[-1], flush=True)
    latency_s = options.latency_ms / 1000
    for row in simulated(options.simulated, options.every, latency_s) if options.simulated else ():
        rows.append(row)
        print(row, flush=True)
    uri = options.uri or (filled(options.keys) if options.keys else "")
    for row in in_bucket(uri, options.every, latency_s) if uri else ():
        rows.append(row)
        print(row, flush=True)
    print(json.dumps({"latency_ms": options.latency_ms, "of": "a million photos", "rows": rows}))


if __name__ == "__main__":
    main()
