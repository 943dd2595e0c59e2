"""Find, align and embed the faces of every photo in a manifest; write Parquet.

    frpipe run enroll --manifest photos.parquet --output out/
    ray job submit --address http://head:8265 --working-dir . -- \\
        python jobs/enroll.py --manifest s3://... --output s3://...
    frpipe run enroll --manifest ... --output out/ --obey people.gallery   # without whom its list names
    frpipe run enroll --manifest ... --output out/ --set quality.policy=flag \\
        --gallery people.gallery --gate enrolment    # and into a gallery, what meets limits of quality
    frpipe run enroll --replay out/      # its rejected photos once more, into out-replay/
    frpipe run enroll --replay out/ --rescan    # of an output of before turned and small faces were
                                                # looked at again: what that may change

The same command after any interruption goes on where it stopped. Exit codes: 0 done, 2 configuration,
3 manifest, 4 model, 5 does not fit the cluster, 6 output of another run, 7 storage, 10 gallery, 11 cluster
lost or no progress, 14 done but too many rejected, 1 and 9 bugs. docs/cluster.md says more.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from frpipe.cli.exits import guarded
from frpipe.cli.gallery_parser import add_gate, gate_of
from frpipe.cli.job_options import add_embedder, add_run, job_parser, runtime_of
from frpipe.cli.reporter import Speaker
from frpipe.cli.stdout import kept_clean
from frpipe.core.config import load_config
from frpipe.core.errors import ConfigError

if TYPE_CHECKING:
    from frpipe.core.config import Config
    from frpipe.core.errors import RejectRatioError
    from frpipe.jobs.enroll.job import Enrollment
    from frpipe.jobs.replay.job import Replay
    from frpipe.stages.obeyed import Obeyed

_say = Speaker("enroll")


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.replay is None and (options.replay_reasons or options.replay_no_face):
        parser.error("--replay-reasons and --replay-no-face need --replay")
    if options.rescan is not None:
        _check_rescan(parser, options)
    if options.output is None:
        if options.replay is None:
            parser.error("--manifest needs --output")
        options.output = f"{options.replay.rstrip('/')}-replay"
    return guarded(lambda: _enroll(options))


def _check_rescan(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.replay is None:
        parser.error("--rescan needs --replay")
    if options.replay_reasons or options.replay_no_face:
        parser.error("--rescan chooses the photos itself; replay the rejected ones of its output afterwards")


def _enroll(options: argparse.Namespace) -> int:
    from frpipe.jobs.output_place import refuse_relative  # Ray takes a second; --help should not

    for flag, uri in (("--replay", options.replay), ("--gallery", options.gallery)):
        if uri is not None:
            refuse_relative(flag, uri)
    config = load_config(options.config, [*_stored(options), *options.set])
    if options.embedder is not None and options.gallery is None:
        raise ConfigError("--embedder says whose embeddings go into --gallery", "leave it out, or give both")
    _check_gate(options, config)
    if options.gallery:
        config = _fitting_gallery(options, config)
    job = _job(options, config, _obeyed(options))
    with kept_clean():
        text, bad = (_planned(job, options), None) if options.dry_run else _run(job, config, options)
    print(text)
    if bad is not None:
        raise bad
    return 0


def _check_gate(options: argparse.Namespace, config: Config) -> None:
    """Refuse, before a photo is read, a gate without a gallery, or one whose measures no stage takes."""
    gate = gate_of(options)
    if gate and options.gallery is None:
        raise ConfigError(
            "a gate goes with --gallery: it says which faces get in",
            "give --gallery, or have the stage judge: --set quality.policy=reject",
        )
    for stage in gate.stages:
        if stage not in config.stages:
            raise ConfigError(
                f"the gate has limits on measures of the stage {stage}, which is off",
                f"switch it on with --set {stage}.policy=flag; or leave the limits out",
            )


def _stored(options: argparse.Namespace) -> list[str]:
    """Read the settings of a run that is replayed, unless a whole configuration is given."""
    if options.replay is None or options.config is not None:
        return []
    from frpipe.jobs.features import stored_settings  # --help should not wait
    from frpipe.jobs.rescan.affected import settings_to_look_again

    if options.rescan is not None:
        return settings_to_look_again(options.replay)
    return stored_settings(options.replay)


def _obeyed(options: argparse.Namespace) -> Obeyed:
    from frpipe.jobs.obeying import obeyed_at

    found = obeyed_at(options.obey, options.gallery)
    if found:
        _say("photos that a suppression list names are left out")
    return found


def _job(options: argparse.Namespace, config: Config, obeyed: Obeyed) -> Enrollment | Replay:
    from frpipe.jobs.enroll.job import Enrollment

    if options.replay is None:
        return Enrollment(options.manifest, options.output, config, runtime_of(options, _say), _say, obeyed)
    from frpipe.io.storage.folder import Folder
    from frpipe.jobs.rejects import Choice, stage_reasons
    from frpipe.jobs.replay.job import Replay, Rescan

    if options.rescan is not None:
        wish = Rescan(options.rescan)
        return Replay(options.replay, wish, options.output, config, runtime_of(options, _say), _say, obeyed)
    reasons = [name.strip() for name in (options.replay_reasons or "").split(",") if name.strip()]
    staged = stage_reasons(Folder.at(options.replay))
    choice = Choice.again(reasons, options.replay_no_face, staged)
    return Replay(options.replay, choice, options.output, config, runtime_of(options, _say), _say, obeyed)


def _planned(job: Enrollment | Replay, options: argparse.Namespace) -> str:
    plan = job.dry_run()
    return json.dumps(plan.as_dict(), indent=1) if options.json else plan.text()


def _run(
    job: Enrollment | Replay, config: Config, options: argparse.Namespace
) -> tuple[str, RejectRatioError | None]:
    """Run the job; return what there is to say, and the error that makes the run a bad one."""
    from frpipe.jobs.rejects import too_many_rejected

    report = job.run()
    bad = too_many_rejected(report, config.run)
    if bad is not None or options.gallery is None:
        return json.dumps(report.as_dict(), indent=1) if options.json else report.text(), bad
    from frpipe.jobs.consolidate.job import Consolidation  # only where a gallery is asked for

    done = Consolidation(
        report.output, options.gallery, say=_say, embedder=options.embedder, gate=gate_of(options)
    ).run()
    if options.json:
        return json.dumps({**report.as_dict(), "consolidated": done.as_dict()}, indent=1), None
    return f"{report.text()}\n{done.text()}", None


def _fitting_gallery(options: argparse.Namespace, config: Config) -> Config:
    """Take the recipe of the gallery where that is an earlier one and none is asked for.

    Refuses before the work what would be refused after it: a gallery that was made for another recipe.
    """
    from frpipe.jobs.consolidate.job import check_gallery
    from frpipe.jobs.features import FeatureRun
    from frpipe.jobs.going_on import for_gallery_at, for_output
    from frpipe.jobs.photo import spec_of

    if options.replay and options.rescan is None:
        check_gallery(options.gallery, FeatureRun.open(options.replay, options.embedder).spec)
        return config
    if options.rescan is None:
        config = for_gallery_at(for_output(config, options.output, _say), options.gallery, _say)
    check_gallery(options.gallery, spec_of(config, options.embedder))
    return config


def _parser() -> argparse.ArgumentParser:
    parser = job_parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--manifest", metavar="URI", help="Parquet, CSV or JSONL; `frpipe manifest scan` makes one"
    )
    source.add_argument(
        "--replay",
        metavar="RUN",
        help="do the rejected photos of a finished run again, with its settings unless told otherwise; "
        "--output gets the whole run with what came of them",
    )
    parser.add_argument(
        "--replay-reasons", metavar="R,R", help="only photos rejected for these, e.g. truncated,hung_worker"
    )
    parser.add_argument("--replay-no-face", action="store_true", help="and the photos without a face")
    parser.add_argument(
        "--rescan",
        nargs="?",
        const="all",
        choices=("all", "found"),
        help="replay the photos that `frpipe rescan RUN` lists, with second looks at turned and small faces; "
        "found: without those whose only cause is not_looked_for",
    )
    parser.add_argument(
        "--output",
        metavar="URI",
        help="folder or s3:// prefix, new or of the same run; of a replay, unless it is named, RUN-replay",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML, see configs/ and docs/configuration.md")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, e.g. detect.policy=largest; may be repeated",
    )
    parser.add_argument(
        "--gallery",
        metavar="URI",
        help="afterwards put the faces into this gallery, as the job consolidate does by default; where "
        "it is there, its suppression list is obeyed",
    )
    add_embedder(parser, "the run, for --gallery")
    add_gate(parser, "with --gallery: ")
    parser.add_argument(
        "--obey",
        metavar="GALLERY",
        action="append",
        default=[],
        help="reject the photos that this gallery's suppression list names, as `suppressed`; may be repeated",
    )
    add_run(parser)
    return parser
