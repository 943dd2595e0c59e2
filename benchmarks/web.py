"""An enroll job of photos from a good web server, alone and among those of ten hostile ones. Last line: JSON.

    python benchmarks/web.py             2,000 good photos and 200 others, three times: some three minutes
    python benchmarks/web.py --quick     300 and 30

Models are tiny and photos small, so that the rate is that of fetching. The good server measures it: its
photos over the time from its first request to its last. `rate` is that of the disturbed run over that of
the undisturbed one, `memory` the same of the most that all processes held. The two run at the same time, so
that what else the machine does disturbs both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import yaml
from machine import machine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
_DIFFERENT = 100


def main() -> None:
    options = _parser().parse_args()
    good, bad = (300, 30) if options.quick else (options.photos, options.photos // 10)
    with tempfile.TemporaryDirectory() as folder, _servers(Path(folder), options.latency_s) as ports:
        bench = _Bench(Path(folder), ports, options)
        turns = [bench.turn(good, bad) for _ in range(options.rounds)]
    report = {
        "bench": "web",
        "machine": machine(),
        "photos": good,
        "hostile_photos": bad,
        "timeout_s": options.timeout_s,
        "rate": round(median(disturbed["per_s"] / alone["per_s"] for alone, disturbed in turns), 3),
        "memory": round(median(disturbed["pss_mb"] / alone["pss_mb"] for alone, disturbed in turns), 3),
        "alone": [alone for alone, _ in turns],
        "disturbed": [disturbed for _, disturbed in turns],
    }
    print(json.dumps(report))


class _Bench:
    def __init__(self, folder: Path, ports: dict[str, int], options: argparse.Namespace) -> None:
        self._folder, self._ports, self._options = folder, ports, options
        self._turns = 0

    def turn(self, good: int, bad: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """A job over the good photos alone, and one over all, at the same time."""
        self._turns += 1
        with ThreadPoolExecutor(2) as pool:
            alone = pool.submit(self._run, f"alone-{self._turns}", good, 0)
            disturbed = pool.submit(self._run, f"disturbed-{self._turns}", good, bad)
            return alone.result(), disturbed.result()

    def _run(self, name: str, good: int, bad: int) -> dict[str, Any]:
        """A job over so many photos of the good server and, spread among them, of the hostile ones."""
        output = self._folder / name
        manifest = self._folder / f"{name}.csv"
        uris = _spread(self._of_good(name, good), self._of_bad(bad))
        manifest.write_text("\n".join(["image_uri", *uris]) + "\n")
        start = time.perf_counter()
        with subprocess.Popen(
            self._command(manifest, output), env=self._environment(), start_new_session=True, cwd=ROOT,
            stdout=subprocess.DEVNULL,
        ) as job:  # fmt: skip
            held = [0.0]
            while job.poll() is None:
                held.append(_held_mb(job.pid))
                time.sleep(0.25)
        wall_s = time.perf_counter() - start
        if job.returncode:
            sys.exit(f"the job ended with exit code {job.returncode}")
        cost = {"wall_s": round(wall_s, 1), "pss_mb": round(max(held))}
        return self._rate(name) | cost | self._ends(output, good, bad)

    def _of_good(self, name: str, count: int) -> list[str]:
        return [f"http://127.0.0.1:{self._ports['good']}/{name}/{number}" for number in range(count)]

    def _of_bad(self, count: int) -> list[str]:
        chosen = self._options.only or [name for name in self._ports if name != "good"]
        ports = [self._ports[name] for name in chosen]
        return [f"http://127.0.0.1:{ports[number % len(ports)]}/{number}" for number in range(count)]

    def _command(self, manifest: Path, output: Path) -> list[str]:
        roots = [f"http://127.0.0.1:{port}" for port in self._ports.values()]
        settings = [
            "detect.model=tiny_yunet",
            "embed.model=tiny_embedder",
            "detect.not_photographs=keep",
            "detect.policy=largest",
            f"storage.roots={roots}",
            f"storage.http_timeout_s={self._options.timeout_s}",
            f"decode.max_bytes={8 << 20}",
            *self._options.set,
        ]
        words = [word for setting in settings for word in ("--set", setting)]
        paths = ["--manifest", str(manifest), "--output", str(output)]
        return [sys.executable, "jobs/enroll.py", *paths, "--executor", self._options.executor, *words]

    def _environment(self) -> dict[str, str]:
        models = str(self._folder / "models")
        given = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        return given | {"PYTHONPATH": str(ROOT), "FRPIPE_CARD_DIR": models, "FRPIPE_MODEL_DIR": models}

    def _rate(self, name: str) -> dict[str, float]:
        """Good photos a second, as their server saw them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ports['good']}/{name}/_times") as reply:
            times = sorted(json.load(reply))
        return {"per_s": round((len(times) - 1) / (times[-1] - times[0]), 1)}

    def _ends(self, output: Path, good: int, bad: int) -> dict[str, Any]:
        """How the photos of each server ended. SystemExit where one of the good ones is not ok."""
        rows = pq.read_table(output / "images", columns=["image_uri", "status", "reason"]).to_pylist()
        names = {str(port): name for name, port in self._ports.items()}
        ends = Counter(
            f"{names[row['image_uri'].split(':')[2].split('/')[0]]}: {row['reason'] or row['status']}"
            for row in rows
        )
        if len(rows) != good + bad or any(name.startswith("good: ") and "ok" not in name for name in ends):
            sys.exit(f"photos were lost: {dict(ends)}")
        return {"ends": dict(sorted(ends.items()))}


def _held_mb(session: int) -> float:
    """Memory of the processes of a session; what they share is counted once."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                text = (folder / "smaps_rollup").read_text()
                total += int(text.partition("\nPss:")[2].split()[0])
    return total / 1024


def _spread(good: list[str], bad: list[str]) -> list[str]:
    """All of them, the bad ones at even distances."""
    place = {uri: (number + 0.5) / len(uris) for uris in (good, bad) for number, uri in enumerate(uris)}
    return sorted(place, key=place.__getitem__)


@contextmanager
def _servers(folder: Path, latency_s: float) -> Iterator[dict[str, int]]:
    """The ports of the servers, which run in a process of their own."""
    from frpipe.testing.photos import red_squares
    from frpipe.testing.tiny import tiny_detector, tiny_embedder

    for part in ("photos", "models"):
        (folder / part).mkdir()
    for number in range(_DIFFERENT):
        pixels = np.asarray(red_squares(160, 160, 1, number))
        cv2.imwrite(str(folder / f"photos/{number:03d}.jpg"), pixels[..., ::-1])
    for card in (
        tiny_detector("yunet", folder / "models/tiny_yunet.onnx"),
        tiny_embedder(folder / "models/tiny_embedder.onnx"),
    ):
        (folder / f"models/{card.name}.yaml").write_text(yaml.safe_dump(card.model_dump(mode="json")))
    server = [sys.executable, str(ROOT / "benchmarks/web_server.py"), str(folder / "photos"), str(latency_s)]
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(process.stdout.readline() if process.stdout else "")
        finally:
            process.kill()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=2000, metavar="N", help="of the good server")
    parser.add_argument("--quick", action="store_true", help="few photos")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="times that both sides run")
    parser.add_argument("--latency-s", type=float, default=0.05, help="of the good server")
    parser.add_argument("--timeout-s", type=float, default=20.0, help="storage.http_timeout_s")
    parser.add_argument("--executor", default="local", choices=("local", "ray"))
    parser.add_argument("--only", action="append", metavar="SERVER", help="a hostile one, e.g. drip")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the job"
    )
    return parser


if __name__ == "__main__":
    main()
