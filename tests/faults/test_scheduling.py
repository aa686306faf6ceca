"""Runs from a scheduler: what is due is made once, what is old goes, and all of it is told."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from weatherdiff.config import load_config
from weatherdiff.forecasting import open_forecasts
from weatherdiff.forecasting.manifest import read_manifest
from weatherdiff.workflow import Request, status

CONFIGS = Path(__file__).parents[2] / "configs"


def events(text: str, kind: str) -> list[dict]:
    return [e for e in map(json.loads, text.splitlines()) if e["event"] == kind]


def times(text: str) -> list[str]:
    return [e["init_time"] for e in events(text, "published")]


@pytest.fixture
def config_of() -> Callable:
    return lambda here: load_config(here.config)


def test_what_is_due_is_published_newest_first_and_only_once(
    runs: Callable, site: Callable
) -> None:
    here = site(members=2, max_lateness="12h")
    plan = ("batch", here.config, "--now", "2020-01-30T13:00")
    code, text = runs(*plan, "--dry-run")
    assert (code, here.visible) == (0, [])
    assert text == "due       2020-01-30T12:00Z\ndue       2020-01-30T06:00Z\n"
    code, text = runs(*plan)
    assert (code, times(text)) == (0, ["2020-01-30T12:00Z", "2020-01-30T06:00Z"])
    code, text = runs(*plan)
    assert (code, times(text), events(text, "unit")) == (0, [], [])
    code, text = runs("batch", here.config, "--now", "2020-01-30T13:00", "--backfill", "1d")
    assert (code, times(text)) == (0, ["2020-01-30T00:00Z", "2020-01-29T18:00Z"])
    code, text = runs("batch", here.config, "--now", "2020-01-30T13:00", "--init", "2020-01-29T06")
    assert (code, times(text)) == (0, ["2020-01-29T06:00Z"])
    assert len(here.visible) == 5


def test_a_clock_that_is_moved_skips_and_doubles_nothing(runs: Callable, site: Callable) -> None:
    here, made = site(members=2, max_lateness="7h"), []
    clock = ["30T06:00", "30T12:00", "29T12:00", "30T12:00", "31T12:00", "30T18:00", "31T00:00"]
    for now in clock:
        _, text = runs("batch", here.config, "--now", f"2020-01-{now}")
        made += times(text)
    assert len(made) == len(set(made)) == len(here.visible)
    expected = ["29T06", "29T12", "30T00", "30T06", "30T12", "30T18", "31T00", "31T06", "31T12"]
    assert here.visible == [f"2020-01-{t}.zarr" for t in expected]


def test_forecasts_of_the_verb_forecast_are_the_same(
    runs: Callable, site: Callable, hashes: Callable
) -> None:
    here = site(max_lateness="2h")
    assert runs("forecast", here.config)[0] == 0
    first = hashes(here.forecasts / "2020-01-30T06.zarr")
    code, text = runs("batch", here.config, "--now", "2020-01-30T07")
    assert (code, times(text)) == (0, [])
    assert runs("forecast", here.config, "--overwrite")[0] == 0
    assert hashes(here.forecasts / "2020-01-30T06.zarr") == first
    assert here.hidden == []
    assert open_forecasts(here.forecasts).sizes["number"] == 5


def test_a_manifest_tells_how_the_forecast_was_made(runs: Callable, site: Callable) -> None:
    here = site(max_lateness="2h")
    assert runs("batch", here.config, "--now", "2020-01-30T07")[0] == 0
    run = read_manifest(here.forecasts / "2020-01-30T06.zarr")[0]["run"]
    assert run["init_time"] == "2020-01-30T06:00:00Z"
    assert (run["seed"], run["members"]) == (0, 5)
    assert run["input"]["times"] == ["2020-01-30T00:00:00Z", "2020-01-30T06:00:00Z"]
    for digest in (run["input"]["sha256"], run["model"]["weights_sha256"]):
        assert len(digest) == 64
    assert {"python", "torch", "numpy", "weatherdiff"} <= set(run["packages"])
    assert run["configuration"]["forecast"]["members"] == 5


def test_old_forecasts_go_but_never_the_newest_that_is_sound(
    runs: Callable, site: Callable
) -> None:
    here = site(members=2, max_lateness="1h", keep="7h")
    for now in ("29T00", "29T06", "29T12"):
        code, text = runs("batch", here.config, "--now", f"2020-01-{now}")
        assert code == 0, text
    assert here.visible == ["2020-01-29T06.zarr", "2020-01-29T12.zarr"]
    removed = json.loads((here.forecasts / "ledger.json").read_text())["runs"]["2020-01-29T00:00Z"]
    assert "removed" in removed
    for name in here.visible[1:]:  # the newest is damaged without a change of size
        zarr = here.forecasts / name / "zarr.json"
        zarr.write_text(zarr.read_text().replace("weatherdiff", "weatherdaff", 1))
    code, text = runs("batch", here.config, "--now", "2020-01-29T18")
    assert code == 0, text
    assert here.visible == ["2020-01-29T12.zarr", "2020-01-29T18.zarr"]
    zarr = here.forecasts / "2020-01-29T18.zarr" / "zarr.json"
    zarr.write_text(zarr.read_text().replace("weatherdiff", "weatherdaff", 1))
    here.set(max_lateness="1h", keep="1h")
    code, text = runs("batch", here.config, "--now", "2020-01-29T19:30")
    assert code == 0, text
    # The two newest are damaged, and none is sound: nothing is removed.
    assert here.visible == ["2020-01-29T12.zarr", "2020-01-29T18.zarr"]


def test_a_span_longer_than_what_is_kept_is_refused(runs: Callable, site: Callable) -> None:
    here = site(max_lateness="6h", keep="12h")
    code, text = runs("batch", here.config, "--now", "2020-01-30T07", "--backfill", "3d")
    assert code == 78, text
    assert "removed at once" in text


def test_a_lost_or_damaged_ledger_is_made_again(runs: Callable, site: Callable) -> None:
    here = site(members=2, max_lateness="7h")
    command = ("batch", here.config, "--now", "2020-01-30T07")
    assert runs(*command)[0] == 0
    ledger = here.forecasts / "ledger.json"
    known = set(json.loads(ledger.read_text())["runs"])
    for damage in (ledger.unlink, lambda: ledger.write_text("{"), lambda: ledger.write_text("")):
        damage()
        code, text = runs(*command)
        assert (code, times(text)) == (0, [])
        assert set(json.loads(ledger.read_text())["runs"]) == known
    assert known == {"2020-01-30T00:00Z", "2020-01-30T06:00Z"}


def test_a_published_forecast_that_is_damaged_is_named_and_not_made_again(
    runs: Callable, site: Callable
) -> None:
    here = site(members=2, max_lateness="2h")
    command = ("batch", here.config, "--now", "2020-01-30T07")
    assert runs(*command)[0] == 0
    lost = here.forecasts / "2020-01-30T06.zarr" / "geopotential" / "zarr.json"
    lost.unlink()
    code, text = runs(*command)
    assert code == 65
    assert "geopotential/zarr.json is absent" in text
    code, text = runs("verify", here.forecasts)
    assert code == 65
    assert "geopotential/zarr.json is absent" in text


def test_metrics_tell_the_last_run_and_the_last_success(
    runs: Callable, site: Callable, tmp_path: Path
) -> None:
    path = tmp_path / "weatherdiff.prom"
    here = site(max_lateness="2h", metrics=str(path))

    def values() -> dict[str, float]:
        lines = [line.split() for line in path.read_text().splitlines() if line[0] != "#"]
        return {name.removeprefix("weatherdiff_batch_"): float(v) for name, v in lines}

    before = time.time()
    assert runs("batch", here.config, "--now", "2020-01-30T07")[0] == 0
    first = values()
    assert (first["exit_code"], first["published"], first["units"]) == (0, 1, 3)
    assert first["lateness_seconds"] == 3600
    assert first["last_success_timestamp_seconds"] >= before - 1
    assert runs("batch", here.config, "--now", "2020-02-20T07")[0] == 66
    second = values()
    assert (second["exit_code"], second["waiting"], second["published"]) == (66, 1, 0)
    assert second["last_success_timestamp_seconds"] == first["last_success_timestamp_seconds"]


class _Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[http.server.HTTPServer]:
    """A server on this machine that notes what it is asked for."""
    server = http.server.HTTPServer(("127.0.0.1", 0), _Server)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_ping_tells_of_good_runs_alone_and_never_fails_one(
    runs: Callable, site: Callable, web: http.server.HTTPServer
) -> None:
    here = site(members=2, max_lateness="2h", ping=f"http://127.0.0.1:{web.server_port}/well")
    assert runs("batch", here.config, "--now", "2020-02-20T07")[0] == 66
    assert web.asked == []  # type: ignore[attr-defined]
    assert runs("batch", here.config, "--now", "2020-01-30T07")[0] == 0
    assert web.asked == ["/well"]  # type: ignore[attr-defined]
    with socket.create_server(("127.0.0.1", 0)) as mute:  # accepts, and never answers
        here.set(ping=f"http://127.0.0.1:{mute.getsockname()[1]}/", ping_timeout=0.3)
        code, text = runs("batch", here.config, "--now", "2020-01-30T07")
        assert code == 0
        assert events(text, "ping failed")
    code, text = runs("batch", here.config, "--now", "2020-01-30T07")
    assert code == 0
    assert events(text, "ping failed")


def test_status_tells_what_is_published_due_and_half_made(
    runs: Callable, site: Callable, config_of: Callable
) -> None:
    here = site(max_lateness="13h")
    assert runs("batch", here.config, "--now", "2020-01-30T01", "--max-lateness", "2h")[0] == 0
    command = ("batch", here.config, "--init", "2020-01-30T06", "--now", "2020-01-30T07")
    assert runs(*command, "--shard", "1/2")[0] == 0
    text = status(config_of(here), Request(now=1580389200))
    assert "clock      2020-01-30T13:00Z" in text
    assert "newest     2020-01-30T00:00Z, made" in text
    assert "due        2020-01-30T12:00Z, 2020-01-30T06:00Z" in text
    assert "begun      2020-01-30T06, " in text


@pytest.mark.parametrize(
    ("option", "value"),
    [("--shard", "0/2"), ("--shard", "3/2"), ("--now", "noon"), ("--backfill", "soon")],
)
def test_options_that_cannot_be_are_refused(
    runs: Callable, site: Callable, option: str, value: str
) -> None:
    here = site()
    code, text = runs("batch", here.config, "--now", "2020-01-30T07", option, value)
    assert code == 78, text
    assert here.visible == []


def test_every_line_of_a_log_is_json(runs: Callable, site: Callable) -> None:
    here = site(members=2, max_lateness="2h")
    for now, code in (("2020-01-30T07", 0), ("2020-02-20T07", 66)):
        found, text = runs("batch", here.config, "--now", now)
        lines = [json.loads(line) for line in text.splitlines()]
        assert found == code
        assert all({"time", "level", "event"} <= set(line) for line in lines)
        assert lines[-1 if code == 0 else -2]["event"] == "finished"
        assert lines[-1 if code == 0 else -2]["exit_code"] == code


def test_the_configuration_for_batch_plans(runs: Callable) -> None:
    code, text = runs("batch", CONFIGS / "batch.yaml", "--now", "2018-07-20T13:00", "--dry-run")
    assert code == 0, text
    times = ["20T12:00Z", "20T06:00Z", "20T00:00Z", "19T18:00Z"]
    assert text.splitlines() == [f"due       2018-07-{time}" for time in times]
