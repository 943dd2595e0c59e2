"""Everything that frpipe raises, and the exit code that each error gives a job.

    FrpipeError
    |- ConfigError         2   a setting is unknown, of the wrong type or out of range
    |- ManifestError       3   the list of photos cannot be used as it stands
    |- ModelError          4
    |  |- ModelMissing         weights are not on this machine
    |  |- ModelMismatch        weights are not the ones that the card names
    |  `- ProviderMissing      the device asked for is not there
    |- PlanError           5   the configuration does not fit the cluster, or none can be joined
    |- OutputError         6   the output folder belongs to another run, or is damaged
    |  |- FileDamaged           a file of an output is gone, or is not the one that was written
    |  `- ErasureError          what was to be erased is left below a run (frpipe.jobs.erase.proof)
    |- StorageError        7   a folder or object store does not do what it is asked
    |- FaceError           8   a photo has no usable face where one is required
    |- InvariantError      9   our own bookkeeping does not add up: a bug
    |- GalleryError       10   a gallery is not there, is in use, or cannot hold what it is given
    |  |- GalleryConflict      other writers won every time
    |  |- GalleryDamaged       a file is missing, changed, or not of the expected form
    |  |- GalleryMismatch      vectors of another model, detector or dimension
    |  `- OtherVersion         restored, copied or made anew since (frpipe.gallery.catalog)
    |- ClusterError       11   Ray did not start, lost the cluster midway, or no progress
    |- OutOfMemory        11   a process has not the memory for what it was given
    |- RejectRatioError   14   a run is finished and whole, but more photos are rejected than it may have
    |- LeaseError         15   another night is under way (frpipe.jobs.nightly.lease)
    |- GateError          16   a night has ended, and a gate does not hold (frpipe.jobs.nightly.gates)
    `- NothingCompared    17   a list of pairs is verified and whole, but no pair could be compared

Errors are for what WE or the operator got wrong. What is wrong with one photo is data: see `reasons`.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_UNEXPECTED = 1


class FrpipeError(Exception):
    """An error of frpipe: what went wrong in one line, and one line on what to do about it.

    Neither may hold pixels, vectors or a person's name.
    """

    code = "error"
    exit_code = EXIT_UNEXPECTED

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.remedy}" if self.remedy else self.message


class ConfigError(FrpipeError, ValueError):
    code = "config"
    exit_code = 2


class ManifestError(FrpipeError, ValueError):
    code = "manifest"
    exit_code = 3


class ModelError(FrpipeError):
    code = "model"
    exit_code = 4


class ModelMissing(ModelError, FileNotFoundError):
    code = "model_missing"


class ModelMismatch(ModelError, ValueError):
    code = "model_mismatch"


class ProviderMissing(ModelError, RuntimeError):
    code = "provider_missing"


class PlanError(FrpipeError, ValueError):
    code = "plan"
    exit_code = 5


class OutputError(FrpipeError, RuntimeError):
    code = "output"
    exit_code = 6


class FileDamaged(OutputError):
    """A damaged file of an output.

    file: its name there; empty where the error comes from another process. absent: a read found none.
    """

    code = "output_damaged"
    file = ""
    absent = False


class StorageError(FrpipeError, OSError):
    code = "storage"
    exit_code = 7


class FaceError(FrpipeError, ValueError):
    code = "face"
    exit_code = 8


class InvariantError(FrpipeError, AssertionError):
    code = "invariant"
    exit_code = 9


class ClusterError(FrpipeError, RuntimeError):
    code = "cluster"
    exit_code = 11


class OutOfMemory(FrpipeError, MemoryError):
    code = "out_of_memory"
    exit_code = 11


class RejectRatioError(FrpipeError, RuntimeError):
    code = "reject_ratio"
    exit_code = 14


class NothingCompared(FrpipeError, RuntimeError):
    code = "nothing_compared"
    exit_code = 17


class GalleryError(FrpipeError, RuntimeError):
    code = "gallery"
    exit_code = 10


class GalleryConflict(GalleryError):
    code = "gallery_conflict"


class GalleryDamaged(GalleryError):
    code = "gallery_damaged"


class GalleryMismatch(GalleryError, ValueError):
    code = "gallery_mismatch"
