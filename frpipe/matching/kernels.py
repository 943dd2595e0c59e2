"""The kernels by name. All give the same answers; they differ in hardware and speed."""

from __future__ import annotations

from typing import Literal

from frpipe.matching.kernel import Kernel

Name = Literal["fp32", "int8", "cuda"]


def kernel_of(name: Name) -> Kernel:
    """Make a kernel. fp32: float32 on the CPU.  int8: 8-bit integers on the CPU.  cuda: float32 on a GPU.

    Raises ProviderMissing: there is no GPU. ConfigError: this machine's products are wrong.
    """
    if name == "int8":
        from frpipe.matching.int8 import Int8  # noqa: PLC0415 - loads ONNX Runtime

        return Int8()
    if name == "cuda":
        from frpipe.matching.device import Device  # noqa: PLC0415 - loads ONNX Runtime

        return Device()
    from frpipe.matching.blas import Blas  # noqa: PLC0415

    return Blas()
