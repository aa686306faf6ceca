"""The command line: parse, call, and turn errors into one sentence and an exit code."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from weatherdiff import __version__
from weatherdiff.errors import ConfigError, WeatherdiffError, exit_code_of
from weatherdiff.journal import reporting, tell
from weatherdiff.signals import terminable
from weatherdiff.streams import complain, open_streams, say

__all__ = ["main"]

VERBS = {
    "check": "load configuration and data; print shapes, sizes and memory; train nothing",
    "prepare": "write the data to a field store, with statistics of the training period",
    "train": "train the denoiser on the field store",
    "forecast": "make the ensembles",
    "evaluate": "score the ensembles beside climatology and persistence",
    "report": "write the HTML report (evaluates first if there are no scores)",
    "run": "prepare, train, forecast, evaluate and report, skipping what is done",
    "batch": "make and publish the forecasts that are due; again and again, from a scheduler",
    "status": "tell which forecasts are published, due, waiting for input and half made",
}

VERIFY = "read every byte of forecasts, models and field stores; name what is not as it was written"

COMPARE = "compare two stores of scores, or one with its references; print a scorecard"

DATA = "bench: how fast a prepared store is loaded, beside a memory map and plain xarray"

EPILOG = """exit codes: 0 done or nothing to do, 65 bad input, 66 input missing (retry later), 70 a
bug of ours, 74 I/O or disk full, 75 locked (retry), 78 configuration or usage, 130/143 signals"""


class _Parser(argparse.ArgumentParser):
    """Usage errors exit with 78 (EX_CONFIG), as all wrong configuration does."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise _UsageError(self.format_usage(), f"{self.prog}: {message}")


class _UsageError(Exception):
    """What the usage is, and what was wrong."""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="weatherdiff",
        description="Calibrated ensemble forecasts from gridded data, by flow matching.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"weatherdiff {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log every decision")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    demo = verbs.add_parser("demo", help="run everything on the real data inside the package")
    demo.add_argument("--output", default="runs/demo", help="folder (default: %(default)s)")
    for verb, text in VERBS.items():
        sub = verbs.add_parser(verb, help=text, description=text)
        sub.add_argument("config", help="YAML file; see configs/")
        sub.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE",
            help="replace a key, e.g. --set training.steps=500",
        )  # fmt: skip
        if verb in ("prepare", "train", "forecast"):
            sub.add_argument("--overwrite", action="store_true", help="replace what is there")
        if verb == "prepare":
            sub.add_argument(
                "--scheduler", metavar="WHO",
                help='"threads", "local:4", or the address of a dask cluster that does the work',
            )  # fmt: skip
        if verb == "train":
            sub.add_argument("--no-resume", action="store_true", help="start from the beginning")
        if verb == "evaluate":
            sub.add_argument(
                "--forecasts", metavar="PATH",
                help="anybody's ensemble forecasts instead of the output folder's",
            )  # fmt: skip
            sub.add_argument("--scores", metavar="PATH", help="where to write the scores")
            sub.add_argument(
                "--scheduler", metavar="ADDRESS", help="of a dask cluster that does the work"
            )
        if verb == "forecast":
            sub.add_argument(
                "--evaluate-only", action="store_true",
                help="score the members as they are drawn, and keep only the scores",
            )  # fmt: skip
            for option, key, kind in FORECAST_OPTIONS:
                sub.add_argument(f"--{option}", type=kind, help=f"instead of {key}")
        if verb in ("batch", "status"):
            _add_batch_options(sub, verb)
    sub = verbs.add_parser("verify", help=VERIFY, description=VERIFY)
    sub.add_argument("folder", help="a forecast, a folder of them, a model, or an output folder")
    sub = verbs.add_parser("data", help=DATA, description=DATA)
    sub.add_argument("task", choices=["bench"])
    sub.add_argument("store", help="a field store, or the YAML file of a run that has one")
    sub.add_argument("--seconds", type=float, default=15, help="default: %(default)s")
    sub.add_argument("--json", metavar="FILE", help="where to write the figures")
    sub = verbs.add_parser("compare", help=COMPARE, description=COMPARE)
    sub.add_argument("first", help="scores.zarr of one model")
    sub.add_argument("second", help="scores.zarr of another, or a reference, such as persistence")
    sub.add_argument("--score", default="crps", help="default: %(default)s")
    return parser


def _add_batch_options(sub: argparse.ArgumentParser, verb: str) -> None:
    sub.add_argument("--now", metavar="TIME", help="UTC, instead of the clock")
    sub.add_argument("--backfill", metavar="SPAN", help="look back so far, e.g. 3d")
    sub.add_argument("--max-lateness", metavar="SPAN", help="instead of batch.max_lateness")
    if verb == "batch":
        sub.add_argument(
            "--scheduler", metavar="WHO",
            help='"local:4", or the address of a dask cluster that draws the members',
        )  # fmt: skip
        sub.add_argument(
            "--init", action="append", default=[], metavar="TIME",
            help="only this initial time, whatever the cycle and the clock; may be given again",
        )  # fmt: skip
        sub.add_argument("--shard", metavar="I/N", help="make the I-th of N shares of the units")
        sub.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")


FORECAST_OPTIONS = (
    ("init", "forecast.init_times", str),
    ("members", "forecast.members", int),
    ("lead-time", "forecast.lead_time", str),
    ("seed", "forecast.seed", int),
    ("sampler", "forecast.sampler", str),
    ("steps", "forecast.steps", int),
    ("observations", "forecast.observations", str),
    ("guidance-method", "forecast.guidance_method", str),
    ("scheduler", "forecast.scheduler", str),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    open_streams()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        options = _parser().parse_args(given)
    except _UsageError as error:
        _refuse(*error.args, scheduled="batch" in given)
    with terminable():
        if options.verb == "batch":
            with reporting(verbose=options.verbose) as lines:
                return _run(options, lines=lines)
        logging.basicConfig(
            level=logging.INFO if options.verbose else logging.WARNING,
            format="%(levelname)s %(name)s: %(message)s",
        )
        return _run(options)


def _refuse(usage: str, message: str, *, scheduled: bool) -> NoReturn:
    """Tell of wrong usage, in the way that the verb tells of all."""
    if scheduled and not sys.stderr.isatty():
        with reporting():
            tell("error", level=logging.ERROR, exit_code=ConfigError.exit_code, message=message)
    else:
        complain(f"{usage}{message}")
    raise SystemExit(ConfigError.exit_code)


def _run(options: argparse.Namespace, *, lines: bool = False) -> int:
    """Call the verb; say in a sentence, or in a line of JSON, what went wrong."""
    try:
        _call(options)
    except BaseException as error:
        code = exit_code_of(error)
        bug = code == WeatherdiffError.exit_code and not isinstance(error, WeatherdiffError)
        told = str(error)
        if isinstance(error, KeyboardInterrupt | SystemExit):
            told = {130: "interrupted", 143: "terminated"}.get(code, told)
        elif bug:
            told = "this is a bug of ours, please report it"
        if lines:
            facts = {"traceback": traceback.format_exc()} if bug else {}
            tell("error", level=logging.ERROR, exit_code=code, message=told, **facts)
        else:
            if bug:
                complain(traceback.format_exc().rstrip())
            complain(f"weatherdiff: {told}")
        if isinstance(error, SystemExit):
            raise
        return code
    return 0


def _call(options: argparse.Namespace) -> None:
    if options.verb == "demo":
        _demo(Path(options.output))
        return
    if options.verb == "compare":
        _compare(options.first, options.second, options.score)
        return
    from weatherdiff import workflow
    from weatherdiff.config import load_config

    if options.verb == "verify":
        say(workflow.verify(Path(options.folder)))
        return
    if options.verb == "data":
        say(workflow.bench_loading(options.store, seconds=options.seconds, json_file=options.json))
        return
    overrides = list(options.set)
    if options.verb == "forecast":
        for option, key, kind in FORECAST_OPTIONS:
            value = getattr(options, option.replace("-", "_"))
            if value is not None:
                text = value if kind is int else _quoted(value)
                overrides.append(f"{key}=[{value}]" if option == "init" else f"{key}={text}")
    if options.verb == "batch" and options.scheduler is not None:
        overrides.append(f"forecast.scheduler={_quoted(options.scheduler)}")
    config = load_config(options.config, overrides)
    match options.verb:
        case "check":
            say(workflow.check(config))
        case "prepare":
            store = workflow.prepare(
                config, overwrite=options.overwrite, scheduler=options.scheduler
            )
            say(f"{store.path}: {len(store.times)} times, {', '.join(store.channels.labels)}")
            for line in workflow.quality_lines(store):
                say(line)
        case "train":
            workflow.train(config, resume=not options.no_resume, overwrite=options.overwrite)
            say(config.model_folder)
        case "forecast" if options.evaluate_only:
            from weatherdiff.evaluation import score_table

            say(score_table(workflow.forecast_and_score(config)))
            say(config.scores)
        case "forecast":
            say(workflow.forecast(config, overwrite=options.overwrite))
        case "evaluate":
            from weatherdiff.evaluation import score_table

            scores = workflow.evaluate(
                config,
                forecasts=options.forecasts,
                scores=options.scores,
                scheduler=options.scheduler,
            )
            say(score_table(scores))
            say(options.scores or config.scores)
        case "report":
            say(workflow.report(config))
        case "run":
            say(workflow.run(config))
            _say_where(config)
        case "batch":
            request = _request(options, init_times=tuple(options.init), shard=options.shard)
            run = workflow.batch(config, request, dry_run=options.dry_run)
            if options.dry_run:
                say(workflow.plan_text(run.plan, run.older, run.calendar))
        case "status":
            say(workflow.status(config, _request(options)))


def _request(
    options: argparse.Namespace, *, init_times: tuple[str, ...] = (), shard: str | None = None
) -> Any:
    from weatherdiff import workflow
    from weatherdiff.data.windows import parse_time

    return workflow.Request(
        now=None if options.now is None else parse_time(options.now),
        init_times=init_times,
        backfill=options.backfill,
        max_lateness=options.max_lateness,
        share=None if shard is None else workflow.Share.parse(shard),
    )


def _quoted(text: str) -> str:
    """Write a text in YAML so that a # or a : in it means nothing."""
    return json.dumps(text, ensure_ascii=False)


def _compare(first: str, second: str, score: str) -> None:
    from weatherdiff.evaluation import compare, open_scores, scorecard_table

    other = open_scores(second) if Path(second).exists() else second
    try:
        say(scorecard_table(compare(open_scores(first), other, score=score)))
    except ValueError as error:
        raise ConfigError(f"--score: {error}") from None


def _demo(output: Path) -> None:
    from importlib.resources import files

    from weatherdiff import workflow
    from weatherdiff.config import load_config

    demo = files("weatherdiff") / "data" / "sample" / "demo.yaml"
    overrides = [f"output={_quoted(os.fspath(output))}"]
    config = load_config(os.fspath(demo), overrides)  # type: ignore[call-overload]
    say(workflow.run(config))
    _say_where(config)


def _say_where(config: object) -> None:
    for name in ("forecasts", "scores", "summary", "report_page"):
        say(f"{name.removesuffix('_page'):10} {getattr(config, name)}")


if __name__ == "__main__":
    sys.exit(main())
