"""The configuration: what may be set, its defaults, and the hash of what decides the content.

Two halves. The RECIPE (`decode`, `detect`, `align`, `embed`, `stages`) decides what the output holds; its
hash is written beside every row. The EXECUTION (`resources`, `storage`, `run`) decides how fast, where, and
what counts as a bad end, never what. `manifest` says how the list of photos is read.
"""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from frpipe.core import plugins
from frpipe.core.errors import ConfigError
from frpipe.core.reasons import Reason
from frpipe.core.yaml_text import load_yaml

# YAML takes a bare `off` for false.
Switch = Annotated[Literal["auto", "off"], BeforeValidator(lambda value: "off" if value is False else value)]
Device = Literal["cpu", "cuda"]
FacePolicy = Literal["all", "largest", "centre-largest", "require-one"]
Auto = Literal["auto"]
ExecutorChoice = Literal["auto", "ray", "local"]
AtLeastOne = Annotated[int, Field(ge=1)]
AboveZero = Annotated[float, Field(gt=0)]
Network = Annotated[str, AfterValidator(lambda text: str(ipaddress.ip_network(text)))]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A group of settings; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DecodeConfig(Section):
    """Settings of decoding: from bytes to pixels."""

    max_bytes: int = Field(64 << 20, gt=0, description="largest encoded photo, bytes")
    max_pixels: int = Field(80_000_000, gt=0, description="largest photo by its header, width x height")
    min_side_px: int = Field(16, ge=1, description="smallest side that is worth a look, pixels")
    truncated: Literal["reject", "accept"] = Field("reject", description="what to do with a file cut short")
    captured_at: bool = Field(
        False, description="read when photos were taken from their EXIF, into two columns of `images`"
    )
    scaled: bool = Field(True, description="decode large JPEGs at 1/2, 1/4 or 1/8 where that loses nothing")
    plugins: tuple[str, ...] = Field(
        (),
        description="decoders of other formats, each 'package.module:function' (bytes -> RGB array or None)",
    )


# Of recipes of before faces were looked at again: they set both, and the hashes of their outputs hold them.
SINGLE_LOOK_SIDE_PX = 640
SINGLE_LOOK_BUCKETS_PX = (128, 192, 256, 320, 384, 512, 640)


class DetectConfig(Section):
    """Settings of detection: from pixels to boxes and landmarks."""

    model: str = Field("retinaface_mv1_025", description="a detector card, see `frpipe models list`")
    score_threshold: float | None = Field(None, ge=0, le=1, description="None: the card's")
    nms_iou: float | None = Field(None, gt=0, le=1, description="None: the card's")
    min_face_px: int = Field(
        48,
        ge=8,
        description="width of the smallest faces to look for, pixels of the photo",
    )
    turns: Switch = Field(
        "auto",
        description="find out how a photo is turned; off: every photo is upright once its EXIF is applied",
    )
    refine: Switch = Field(
        "auto",
        description="look again, on the photo's own pixels, at faces that are small or doubtful in the "
        "detector's input, and at another scale for those that fill it",
    )
    not_photographs: Literal["reject", "keep"] = Field(
        "reject", description="faces on negatives, drawings, 1-bit copies and ruined JPEGs"
    )
    max_side_px: int | None = Field(
        None,
        ge=64,
        description="side that a larger photo is reduced to; None: from min_face_px, 640 at least",
    )
    bucket_sides_px: tuple[int, ...] | None = Field(
        None, description="sides that input tensors may have, multiples of 32; None: a ladder from 128 on"
    )
    policy: FacePolicy = Field("all", description="which faces of a photo to keep")
    max_faces: int = Field(
        256, ge=1, description="faces kept per photo: those that are meant, then the best scored"
    )

    @model_validator(mode="after")
    def _sides(self) -> Self:
        if self.bucket_sides_px is not None and (
            not self.bucket_sides_px or any(side % 32 or side <= 0 for side in self.bucket_sides_px)
        ):
            raise ValueError("bucket_sides_px must be positive multiples of 32")
        return self

    @property
    def is_single_look(self) -> bool:
        """Whether faces are looked for once, upright and at one scale, as the first recipes did."""
        return (
            (self.turns, self.refine, self.not_photographs) == ("off", "off", "keep")
            and self.max_side_px is not None
            and self.bucket_sides_px is not None
        )

    @property
    def chooses_looks(self) -> bool:
        """Whether a setting that the first recipes do not know was given by the user."""
        return bool(_LOOKS & self.model_fields_set)

    def single_look(self) -> Self:
        """Drop the settings that the first recipes do not know."""
        return self.model_copy(
            update={
                "turns": "off",
                "refine": "off",
                "not_photographs": "keep",
                "max_side_px": self.max_side_px or SINGLE_LOOK_SIDE_PX,
                "bucket_sides_px": self.bucket_sides_px or SINGLE_LOOK_BUCKETS_PX,
            }
        )


_LOOKS = frozenset({"min_face_px", "turns", "refine", "not_photographs"})


class AlignConfig(Section):
    """Settings of alignment: from landmarks to the crop that the embedder sees."""

    antialias: bool = Field(
        True, description="a face larger than the template is reduced by area before it is warped"
    )


class EmbedConfig(Section):
    """Settings of embedding: from crop to vector."""

    model: str = Field("sface_2021dec", description="an embedder card, see `frpipe models list`")
    flip: bool = Field(False, description="add the vector of the mirrored crop (test-time augmentation)")


class PoolConfig(Section):
    """One actor pool: a fixed number of workers and what each reserves."""

    workers: AtLeastOne | Auto = Field(
        "auto", description="actors in the pool; auto: one per CPU (or GPU) of the cluster"
    )
    num_cpus: AboveZero | Auto = Field(
        "auto", description="CPUs that each actor reserves; auto: an even share"
    )
    num_gpus: float = Field(0.0, ge=0, description="GPUs that each actor reserves; above 0 selects CUDA")
    device: Device | Auto = Field("auto", description="auto: cuda where num_gpus > 0, else cpu")
    threads: int = Field(1, ge=1, description="threads of one actor's model session")
    batch_rows: int = Field(
        8,
        ge=1,
        description="photos or crops in one call of the model; 8 suits a CPU's caches, a GPU wants more",
    )

    @model_validator(mode="after")
    def _device(self) -> Self:
        if self.device == "cuda" and self.num_gpus <= 0:
            raise ValueError("device cuda needs num_gpus > 0")
        if self.device == "cpu" and self.num_gpus > 0:
            raise ValueError("device cpu with num_gpus > 0 would hold a GPU and not use it")
        return self

    @property
    def resolved_device(self) -> Device:
        if self.device == "auto":
            return "cuda" if self.num_gpus > 0 else "cpu"
        return self.device


class ResourcesConfig(Section):
    """Settings of the cluster: how much of it to use."""

    part_rows: AtLeastOne | Auto = Field(
        "auto",
        description="manifest rows in one part; auto: fair shares; fixed by the first run on an output",
    )
    locate: PoolConfig = Field(default=PoolConfig(), description="fetch, decode, detect, align")
    embed: PoolConfig = Field(default=PoolConfig(), description="embed")
    fetch_threads: int = Field(16, ge=1, description="photos fetched at once by one locate worker")
    window_rows: int = Field(64, ge=1, description="photos that one locate worker holds decoded at once")
    window_mb: int = Field(256, ge=1, description="pixels that one locate worker holds at once, MiB")
    prefetch_rows: int = Field(64, ge=1, description="photos fetched ahead of the decoder, per locate worker")
    row_memory_mb: int = Field(4096, ge=512, description="memory for one photo when it is tried alone, MiB")
    row_timeout_s: float = Field(60.0, gt=0, description="time for one photo when it is tried alone")
    stall_timeout_s: float = Field(
        300.0, gt=0, description="a locate worker that gets no photo done for so long is ended"
    )
    part_attempts: int = Field(
        4,
        ge=2,
        description="times a part may lose its worker, on nodes that stay up, before the job gives up",
    )


def _texts(given: Any) -> Any:
    """Put the text "null" back into a list of texts where YAML read a bare `null`."""
    return ["null" if each is None else each for each in given] if isinstance(given, list) else given


class ManifestConfig(Section):
    """Settings of the manifest: how it is read."""

    nobody: Annotated[tuple[str, ...], BeforeValidator(_texts)] = Field(
        (), description="texts in subject_id that stand for no one, in any case, e.g. [nan, null, n/a]"
    )


class StorageConfig(Section):
    """Settings of storage: what may be read."""

    roots: tuple[str, ...] = Field(
        (), description="if set, photos outside these folders or prefixes are refused; needed for http(s)"
    )
    fetch_attempts: int = Field(3, ge=1, description="tries of one photo before it is rejected")
    http_timeout_s: float = Field(
        20.0,
        gt=0,
        description="time for one photo of http(s), with redirects, waits and further tries; "
        "at most half of resources.stall_timeout_s",
    )
    private_networks: tuple[Network, ...] = Field(
        (),
        description="private networks that http(s) hosts may lie in, e.g. [10.0.0.0/8]; "
        "an address that a root names is allowed anyway",
    )


class RunConfig(Section):
    """Settings of a run: where it is worked on, when it counts as hung, and when as a bad one."""

    executor: ExecutorChoice = Field(
        "auto",
        description="ray: a cluster, or a private Ray; local: processes of this machine, without Ray; "
        "auto: local up to 200 photos where no cluster is named",
    )
    stall_timeout_s: AboveZero | None = Field(
        7200.0,
        description="the job ends if no part makes progress for so long, worked on or read back by workers; "
        "null: it waits for ever",
    )
    max_reject_ratio: Share | None = Field(
        None, description="a finished run ends with exit code 14 if a larger share of its photos is rejected"
    )
    max_reject_ratio_by_reason: dict[str, Share] = Field(
        {}, description="the same for single reasons, e.g. {not_found: 0.01}"
    )

    def __hash__(self) -> int:
        """Hash the JSON form: a dict has no hash, and configurations are keys of caches."""
        return hash(self.model_dump_json())


def _listed(value: Any) -> Any:
    """Make a list of one of an embedder that is given as a mapping."""
    return value if isinstance(value, list | tuple) else [value]


def _told_apart(embedders: tuple[EmbedConfig, ...]) -> tuple[EmbedConfig, ...]:
    models = [each.model for each in embedders]
    if not models:
        raise ValueError("a run needs an embedder")
    if len(set(models)) < len(models):
        raise ValueError("each embedder has a model of its own: the output names them by their models")
    return embedders


def _as_given(embedders: tuple[EmbedConfig, ...]) -> Any:
    """The embedders as files hold them: a single one as a mapping."""
    plain = [each.model_dump(mode="json") for each in embedders]
    return plain[0] if len(plain) == 1 else plain


Embedders = Annotated[
    tuple[EmbedConfig, ...],
    BeforeValidator(_listed),
    AfterValidator(_told_apart),
    PlainSerializer(_as_given),
]


def _settled(given: Any) -> Any:
    """The settings of stages with their defaults put in, as plain data, in the order of the stages' names.

    A stage whose setting `policy` is `off` is left out: nothing then speaks of it.
    Raises ConfigError: a stage is not installed, or one of its settings is not right.
    """
    if not isinstance(given, Mapping):
        return given
    settled = {name: _settings_of(name, given[name]) for name in sorted(given)}
    return {name: settings for name, settings in settled.items() if settings.get("policy") != "off"}


def _settings_of(name: str, given: Any) -> dict[str, Any]:
    section = getattr(plugins.load(plugins.STAGES, name), "section", None)
    if not (isinstance(section, type) and issubclass(section, Section)):
        raise ConfigError(f"what is registered as the stage {name!r} is no FaceStage", "see docs/stages.md")
    try:
        settings: Section = section.model_validate({} if given is None else given)
    except ValidationError as error:
        page = f"docs/{name}.md" if name in plugins.BUILT_IN[plugins.STAGES] else "the page of the stage"
        raise explained(error, section, page, above=f"stages.{name}") from None
    return settings.model_dump(mode="json")


class Config(Section):
    """The whole configuration of a run."""

    decode: DecodeConfig = DecodeConfig()
    detect: DetectConfig = DetectConfig()
    align: AlignConfig = AlignConfig()
    embed: Embedders = (EmbedConfig(),)
    stages: Annotated[dict[str, dict[str, Any]], BeforeValidator(_settled)] = Field(
        {},
        description="further stages by name, each with its settings, e.g. {brightness: {least: 40}}",
    )
    manifest: ManifestConfig = ManifestConfig()
    resources: ResourcesConfig = ResourcesConfig()
    storage: StorageConfig = StorageConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="before")
    @classmethod
    def _own_stages(cls, given: Any) -> Any:
        """Take `quality: {...}` for `stages: {quality: {...}}`, and so for each stage of frpipe's own."""
        short = [
            name for name in plugins.BUILT_IN[plugins.STAGES] if isinstance(given, Mapping) and name in given
        ]
        if not short:
            return given
        stages = given.get("stages") or {}
        for name in short:
            if not isinstance(stages, Mapping) or name in stages:
                raise ConfigError(f"{name} and stages.{name} are the same settings", "leave one of them out")
        rest = {name: value for name, value in given.items() if name not in short}
        return {**rest, "stages": {**stages, **{name: given[name] for name in short}}}

    @model_validator(mode="after")
    def _captures(self) -> Self:
        if self.decode.captured_at and self.detect.is_single_look:
            raise ValueError("decode.captured_at needs photos that are looked at again: see detect.turns")
        return self

    @model_validator(mode="after")
    def _reasons(self) -> Self:
        known = [reason.value for reason in Reason] + self.stage_reasons
        for name in self.run.max_reject_ratio_by_reason:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
                raise ValueError(
                    f"run.max_reject_ratio_by_reason: {name!r} is no reason for a rejection; "
                    f"did you mean {near}?"
                )
        return self

    def __hash__(self) -> int:
        """Hash the JSON form: the settings of stages are a dict, which has no hash."""
        return hash(self.model_dump_json())

    @property
    def embedder(self) -> EmbedConfig:
        """The first embedder: its vectors stand in `faces`, and single photos are compared by them."""
        return self.embed[0]

    @property
    def stage_reasons(self) -> list[str]:
        """Reasons for which the configured stages may leave out a face."""
        return [reason for name in self.stages for reason in plugins.load(plugins.STAGES, name).reasons]

    def with_models(self, detector: str, embedders: Sequence[str]) -> Self:
        """Set the names of the models. Raises ConfigError: two embedders of one."""
        if detector == self.detect.model and [*embedders] == [each.model for each in self.embed]:
            return self
        named = (
            each.model_copy(update={"model": name}) for each, name in zip(self.embed, embedders, strict=True)
        )
        detect = self.detect.model_copy(update={"model": detector})
        try:
            return self.model_copy(update={"detect": detect, "embed": _told_apart(tuple(named))})
        except ValueError as error:
            raise ConfigError(str(error), f"embed names {', '.join(embedders)}") from None

    def recipe(self) -> dict[str, Any]:
        """The settings that decide the content of the output, as plain data.

        A recipe of a single look is written as it always was, so that what was begun with one goes on. One
        without further stages does not speak of them.
        """
        wanted = {"decode", "detect", "align", "embed", *(("stages",) if self.stages else ())}
        plain = self.model_dump(mode="json", include=wanted)
        if not self.decode.captured_at:
            del plain["decode"]["captured_at"]
        if self.detect.is_single_look:
            plain["detect"] = {name: value for name, value in plain["detect"].items() if name not in _LOOKS}
        return plain

    def single_look(self) -> Self:
        """Set the detection of the first recipes, which also read no times of capture."""
        decode = self.decode.model_copy(update={"captured_at": False})
        return self.model_copy(update={"detect": self.detect.single_look(), "decode": decode})


def canonical_hash(data: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of plain data: independent of key order and white space."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply `section.key=value` overrides (values in YAML syntax).

    Raises ConfigError: no such file, not YAML, unknown key (with the nearest match), wrong type or range.
    """
    data = read_settings(path, overrides)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise explained(error, Config, "docs/configuration.md") from None


def read_settings(path: str | Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """The mapping in a file, with `key.key=value` put in. Raises ConfigError: it is none, or not there."""
    data = {} if path is None else _read_yaml(Path(path))
    for override in overrides:
        _apply(data, override)
    return data


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read configuration {path}: {error.strerror}", "check the path given with --config"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}", "mend the file") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} does not hold sections", "see configs/local.yaml for the form")
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    stages = data.get("stages")
    # The short form amends the long one that is there: that of a run which is replayed, or of the file.
    if keys[0] in plugins.BUILT_IN[plugins.STAGES] and isinstance(stages, dict) and keys[0] in stages:
        keys = ["stages", *keys]
    if not equals or not all(keys):
        raise ConfigError(f"--set {override!r} is not key=value", "for example --set detect.policy=largest")
    try:
        value = load_yaml(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override!r}: the value is not YAML", "quote the value") from None
    node = data
    for key in keys[:-1]:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override!r}: {key} is not a section", _remedy_of(child, key))
        node = child
    node[keys[-1]] = value


def _remedy_of(child: Any, key: str) -> str:
    if isinstance(child, list):
        return f"{key} is a list here: give all of it, as in --set '{key}=[{{model: a}}, {{model: b}}]'"
    return "see docs/configuration.md"


def explained(
    error: ValidationError, section: type[Section], page: str, of_all: str = "", above: str = ""
) -> ConfigError:
    """Put into words what is wrong with settings.

    of_all: how to call what is wrong with no single one.  above: the dotted name of the section, if any.
    """
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return cause
    # The place of an embedder in its list is no part of a setting's name.
    parts = [*([above] if above else []), *(str(part) for part in first["loc"] if not isinstance(part, int))]
    if first["type"] == "extra_forbidden":
        known = [f"{above}.{key}" if above else key for key in _known_keys(section)]
        near = difflib.get_close_matches(".".join(parts), known, n=1, cutoff=0.0)
        remedy = f"did you mean {near[0]}?" if near else "it has no settings"
        return ConfigError(f"unknown setting {'.'.join(parts)}", remedy)
    # Of a value that may be of several types, Pydantic names the type as well: `workers.constrained-int`.
    named = (part for part in parts if part.replace(".", "").isidentifier())
    location = ".".join(part for part in named if part not in ("int", "float")) or of_all
    if first["type"] in ("model_type", "model_attributes_type"):
        return _no_group(location, first["input"], section, page)
    message = first["msg"].removeprefix("Value error, ")
    setting = f"setting {location}: " if location else ""
    return ConfigError(f"{setting}{message}", f"see {page} for types and ranges")


def _no_group(location: str, given: Any, section: type[Section], page: str) -> ConfigError:
    """The error for a value that stands where a group of settings belongs."""
    switched = given is False and "policy" in section.model_fields
    remedy = f"say {location}.policy=off, or leave it out" if switched else f"see {page} for its settings"
    return ConfigError(f"setting {location} is a group of settings, and no value of its own", remedy)


def _section_of(annotation: Any) -> type[Section] | None:
    several = get_origin(annotation) in (Union, UnionType, tuple)
    candidates = get_args(annotation) if several else (annotation,)
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), None)


def iter_settings(section: type[Section] = Config, prefix: str = "") -> list[tuple[str, Any, str]]:
    """Every setting as (dotted name, default, description), in the order of this file."""
    rows: list[tuple[str, Any, str]] = []
    for name, field in section.model_fields.items():
        child = _section_of(field.annotation)
        if child is None or str in get_args(field.annotation):
            rows.append(
                (prefix + name, field.get_default(call_default_factory=True), field.description or "")
            )
        if child is not None:
            rows += iter_settings(child, f"{prefix}{name}.")
    return rows


def _known_keys(section: type[Section]) -> list[str]:
    leaves = [name for name, _, _ in iter_settings(section)]
    sections = {name.rsplit(".", depth)[0] for name in leaves for depth in range(1, name.count(".") + 1)}
    return leaves + sorted(sections)
