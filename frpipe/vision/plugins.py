"""Decoders that the operator brings: `decode.plugins`, each 'package.module:function'."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from frpipe.core.errors import ConfigError

Plugin = Callable[[bytes], NDArray[np.uint8] | None]
_REMEDY = "decode.plugins holds names like 'package.module:function' of modules installed on every worker"


@cache
def load_plugin(name: str) -> Plugin:
    """Import a decoder, once per process.

    It takes the encoded bytes and returns (H, W, 3) uint8 RGB, upright, or None for a file not its own.
    Raises ConfigError.
    """
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise ConfigError(f"decode plugin {name!r} is not 'package.module:function'", _REMEDY)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"decode plugin {name!r} cannot be imported: {error}", _REMEDY) from None
    if not callable(function):
        raise ConfigError(f"decode plugin {name!r} is not a function", _REMEDY)
    return cast(Plugin, function)


def check_result(pixels: object, name: str) -> NDArray[np.uint8]:
    """`pixels` if they are (H, W, 3) uint8. Raises ConfigError."""
    if (
        isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and pixels.ndim == 3
        and pixels.shape[2] == 3
    ):
        return np.ascontiguousarray(pixels)
    raise ConfigError(
        f"decode plugin {name!r} returned something else than (H, W, 3) uint8",
        "mend the plugin or leave it out",
    )
