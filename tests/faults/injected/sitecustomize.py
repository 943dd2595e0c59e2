"""Python runs this at its start where this folder is on PYTHONPATH: faults for any process, none in frpipe.

What frpipe does to its storage, and each piece of work that a worker begins and ends, or searches, becomes a
line of the file `events` in the folder that FRPIPE_FAULTS names. Where `plan.json` there says so, the
process, the node that it is on, or the job's driver is killed at one of these events: before it, after it,
or in its midst, where the bytes are written and the file is not yet in place.
"""

from __future__ import annotations

import fcntl
import functools
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

_FAULTS = Path(os.environ["FRPIPE_FAULTS"]) if "FRPIPE_FAULTS" in os.environ else None
_MUTATIONS = ("write", "publish", "draft", "adopt", "create", "delete", "delete_all")


def event(what: str) -> dict[str, Any]:
    """Record something; the plan, if it is for this event, else nothing."""
    if _FAULTS is None:
        return {}
    role = "worker" if any("default_worker.py" in word for word in sys.orig_argv) else "driver"
    with (_FAULTS / "events").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        number = sum(json.loads(line)["role"] == role for line in file) + 1
        file.write(json.dumps({"role": role, "number": number, "pid": os.getpid(), "what": what}) + "\n")
        file.flush()
    try:
        plan: dict[str, Any] = json.loads((_FAULTS / "plan.json").read_text())
    except FileNotFoundError:
        return {}
    return plan if (plan["role"], plan["at"]) == (role, number) else {}


def meet(plan: dict[str, Any], *moments: str) -> None:
    """Kill, if that is planned for here: a worker's parent is its raylet. With it, the worker dies too."""
    if not plan or (moments and plan["when"] not in moments):
        return
    victim = plan.pop("victim")
    plan.clear()
    if victim == "driver":
        os.kill(_driver(), signal.SIGKILL)
        return
    if victim == "node":
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _driver() -> int:
    lines: Any = map(json.loads, (_FAULTS / "events").read_text().splitlines()) if _FAULTS else ()
    return next(int(line["pid"]) for line in lines if line["role"] == "driver")


def _recorded(real: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
    @functools.wraps(real)
    def method(*given: Any, **named: Any) -> Any:
        plan = event(name(*given))
        meet(plan, "before")
        if plan.get("when") == "during":
            setattr(os, "fsync", lambda _: meet(plan, "during"))  # noqa: B010 - a type of its own
        done = real(*given, **named)
        # What does not write has no midst.
        meet(plan, "after", "during")
        return done

    return method


def _told(verb: str, folder: Any, name: object, *_: object) -> str:
    return f"{verb} {folder.uri}/{name if isinstance(name, str) else ''}"


def _wrap_folder(module: Any) -> None:
    for verb in _MUTATIONS:
        name = functools.partial(_told, verb)
        setattr(module.Folder, verb, _recorded(getattr(module.Folder, verb), name))


def _wrap_worker(module: Any) -> None:
    def called(worker: Any, table: Any) -> Any:
        # Ray puts a class of its own before ours.
        name = next(kind.__name__ for kind in type(worker).__mro__ if not kind.__name__.startswith("_"))
        numbers = [table[key][0].as_py() for key in ("part", "unit", "first") if key in table.column_names]
        what = " ".join(map(str, (name, *numbers)))
        meet(event(f"begin {what}"))
        done = real(worker, table)
        meet(event(f"end {what}"))
        return done

    real, module.Worker.__call__ = module.Worker.__call__, called


def _wrap_sandbox(module: Any) -> None:
    def searched(spec: Any, part: int, *more: Any) -> Any:
        event(f"search {part}")
        return real(spec, part, *more)

    real, module.find_poison = module.find_poison, searched


class _AfterImport(importlib.abc.MetaPathFinder):
    """Has a module changed as soon as it is imported, so that other programs do not import frpipe."""

    wraps: ClassVar = {
        "frpipe.io.storage.folder": _wrap_folder,
        "frpipe.runtime.ray_executor": _wrap_worker,
        "frpipe.stages.quarantine.sandbox": _wrap_sandbox,
    }

    def find_spec(self, name: str, *_: Any) -> Any:
        wrap = self.wraps.pop(name, None)
        if wrap is None:
            return None
        spec = importlib.util.find_spec(name)
        loader: Any = spec.loader if spec else None
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            wrap(module)

        loader.exec_module = exec_module
        return spec


if _FAULTS is not None:
    sys.meta_path.insert(0, _AfterImport())
