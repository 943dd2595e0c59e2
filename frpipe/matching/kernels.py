"""The kernels by name. All give the same answers; they differ in hardware and speed."""

from __future__ import annotations

from frpipe.core.errors import InvariantError
from frpipe.core.kernel_names import Name
from frpipe.matching.basis import Basis
from frpipe.matching.kernel import Kernel


def kernel_of(name: Name, basis: Basis | None = None) -> Kernel:
    """Make a kernel. fp32: float32 on the CPU.  int8: 8-bit integers on the CPU.  cuda: float32 on a GPU.

    subspace, subspace-int8: float32 or integers on the CPU, in the dimensions of `basis`, which they need.
    Raises ProviderMissing: there is no GPU. ConfigError: this machine's products are wrong.
    """
    if name in ("subspace", "subspace-int8"):
        from frpipe.matching.subspace import Subspace  # noqa: PLC0415 - loads ONNX Runtime

        if basis is None:
            raise InvariantError("a kernel of few dimensions has no basis", "report this")
        return Subspace(basis, integers=name == "subspace-int8")
    if name == "int8":
        from frpipe.matching.int8 import Int8  # noqa: PLC0415 - loads ONNX Runtime

        return Int8()
    if name == "cuda":
        from frpipe.matching.device import Device  # noqa: PLC0415 - loads ONNX Runtime

        return Device()
    from frpipe.matching.blas import Blas  # noqa: PLC0415

    return Blas()
