"""The whole road through the command line, shrunk, on the data in the package and on others."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import weatherdiff
from weatherdiff.cli import main
from weatherdiff.data.simulator import LinearStochasticField
from weatherdiff.evaluation import open_scores
from weatherdiff.report import exhibits

CONFIGS = Path(__file__).parents[1] / "configs"
SHRUNK = [
    "model.size=tiny",
    "training.steps=8",
    "training.batch_size=4",
    "training.warmup=2",
    "training.validate_every=4",
    "training.validation_windows=4",
    "training.validation_members=2",
    "training.precision=32-true",
    "training.devices=1",
    "forecast.members=4",
    "forecast.steps=1",
    "threads=1",
]


def call(verb: str, config: Path, *overrides: str) -> int:
    options = [part for o in (*SHRUNK, *overrides) for part in ("--set", o)]
    return main([verb, str(config), *options])


LADDER = ["data.variables=[2m_temperature, surface_pressure]", "forecast.every=200"]


@pytest.fixture(scope="module")
def ladder_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared fields, which no rung changes."""
    output = tmp_path_factory.mktemp("ladder")
    assert call("prepare", CONFIGS / "ladder.yaml", *LADDER, f"output={output}") == 0
    return output / "fields.zarr"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The demo's configuration, run on one variable and few initial times."""
    output = tmp_path_factory.mktemp("demo")
    overrides = [
        f"output={output}",
        "data.variables=[2m_temperature, surface_downwelling_shortwave_flux]",
        "forecast.every=100",
        "forecast.noise={}",
    ]
    plain, count = exhibits.picture, itertools.count()

    def picture(figure: Any, **options: Any) -> str:
        """Paint the first of the pictures: all of them are painted in the tests of reports."""
        return plain(figure, **options) if next(count) < 3 else ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exhibits, "picture", picture)
        for verb in ("check", "prepare", "train", "forecast", "evaluate", "report"):
            assert call(verb, CONFIGS / "demo.yaml", *overrides) == 0, verb
    assert next(count) > 20
    return output, overrides


def test_the_summary_has_the_agreed_keys(demo: tuple[Path, list[str]]) -> None:
    summary = json.loads((demo[0] / "summary.json").read_text())
    assert summary["members"] == 4
    assert set(summary["seconds"]) == {"prepare", "train", "forecast", "evaluate"}
    assert set(summary["variables"]) == {"2m_temperature", "surface_downwelling_shortwave_flux"}
    leads = summary["variables"]["2m_temperature"]
    assert list(leads) == ["3", "6", "9", "12", "15", "18", "21", "24"]
    keys = {"crps", "crpss_climatology", "crpss_persistence", "spread_skill_ratio"}
    assert all(set(row) == keys and np.isfinite(list(row.values())).all() for row in leads.values())


def test_forecasts_are_bounded_masked_and_as_agreed(demo: tuple[Path, list[str]]) -> None:
    forecasts = weatherdiff.open_forecasts(demo[0] / "forecasts")
    assert forecasts.sizes == {
        "init_time": 4, "lead_time": 8, "number": 4, "latitude": 22, "longitude": 28
    }  # fmt: skip
    sun = forecasts["surface_downwelling_shortwave_flux"]
    assert float(sun.min()) >= 0
    assert int(sun.isnull().sum()) == 4 * 8 * 4 * 341


def test_the_report_is_one_page_with_pictures(demo: tuple[Path, list[str]]) -> None:
    page = (demo[0] / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64") == 3  # of all, see above
    assert "Copernicus" in page


def test_a_second_run_makes_nothing_anew_but_the_page(
    demo: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, overrides = demo
    kept = [output / "model" / "weights.safetensors", *output.glob("forecasts/*.zarr/zarr.json")]
    before = [path.stat().st_mtime_ns for path in kept]
    pages: list[Path] = []
    monkeypatch.setattr("weatherdiff.report.write_report", lambda path, **_: pages.append(path))
    assert call("run", CONFIGS / "demo.yaml", *overrides) == 0
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert pages == [output / "report.html"]


def test_scoring_while_sampling_gives_the_scores_of_the_stored_forecasts(
    demo: tuple[Path, list[str]], tmp_path: Path
) -> None:
    output, overrides = demo
    for folder in ("fields.zarr", "model"):
        shutil.copytree(output / folder, tmp_path / folder)
    here = [*overrides, f"output={tmp_path}"]
    options = [part for o in (*SHRUNK, *here) for part in ("--set", o)]
    demo_yaml = str(CONFIGS / "demo.yaml")
    assert main(["forecast", demo_yaml, *options, "--evaluate-only"]) == 0
    assert not (tmp_path / "forecasts").exists()
    ours, stored = (open_scores(folder / "scores.zarr") for folder in (tmp_path, output))
    maps = [name for name in ours if str(name).startswith("map_")]
    xr.testing.assert_identical(
        ours.drop_vars(maps).drop_attrs(deep=False), stored.drop_vars(maps).drop_attrs(deep=False)
    )
    for name in maps:  # sums over initial times, in blocks of one and of many
        np.testing.assert_allclose(ours[name], stored[name], rtol=1e-9)
    # Again: nothing is due, and nothing is drawn.
    before = (tmp_path / "scores.zarr" / "zarr.json").read_text()
    assert main(["forecast", demo_yaml, *options, "--evaluate-only"]) == 0
    assert (tmp_path / "scores.zarr" / "zarr.json").read_text() == before


def test_other_settings_than_those_of_the_store_are_refused(
    demo: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    output, overrides = demo
    assert call("prepare", CONFIGS / "demo.yaml", *overrides, "window.step=6h") == 78
    assert "other settings" in capsys.readouterr().err
    assert call("train", CONFIGS / "demo.yaml", *overrides) == 78
    assert not list(output.glob(".*partial"))


@pytest.mark.usefixtures("unrendered")
def test_daily_pressure_config_runs_on_other_files(tmp_path: Path) -> None:
    """Another grid (regional, latitudes falling, 0..360), step and variable, in many files."""
    rng = np.random.default_rng(3)
    time = np.arange("2001-01-01", "2002-12-31", dtype="datetime64[D]").astype("datetime64[ns]")
    walk = np.zeros((time.size, 7, 9))
    for t in range(1, time.size):
        walk[t] = 0.8 * walk[t - 1] + 300 * rng.normal(size=(7, 9))
    ds = xr.Dataset(
        {"slp": (("time", "lat", "lon"), 101_325 + walk, {"units": "Pa"})},
        {"time": time, "lat": np.linspace(65, 35, 7), "lon": np.arange(300.0, 345, 5)},
    )
    (tmp_path / "slp").mkdir()
    for year, part in ds.groupby("time.year"):
        part.to_netcdf(tmp_path / "slp" / f"{year}.nc")
    overrides = [
        f"output={tmp_path / 'run'}",
        f"data.source={tmp_path}/slp/*.nc",
        "splits.training=[2001-01-01, 2002-06-30]",
        "splits.validation=[2002-07-03, 2002-08-31]",
        "splits.test=[2002-09-03, 2002-12-30]",
        "forecast.every=30",
    ]
    assert call("check", CONFIGS / "daily_pressure.yaml", *overrides) == 0
    assert not (tmp_path / "run").exists()
    for verb in ("prepare", "train", "forecast", "report"):
        assert call(verb, CONFIGS / "daily_pressure.yaml", *overrides) == 0, verb
    given_back = weatherdiff.open_forecasts(tmp_path / "run" / "forecasts", layout="source")
    np.testing.assert_array_equal(given_back["lat"], ds["lat"])
    np.testing.assert_array_equal(given_back["lon"], ds["lon"])
    assert given_back["slp"].attrs["units"] == "Pa"


def test_era5_weatherbench2_config_runs_on_an_imitation_of_its_store(tmp_path: Path) -> None:
    field = LinearStochasticField(shape=(12, 24))
    simulated = field.simulate(150, seed=1, start="2019-12-20").load()
    level = np.array([500, 700, 850])
    grid = {"latitude": simulated["latitude"], "longitude": simulated["longitude"]}
    ds = xr.Dataset(coords={"time": simulated["time"], "level": level, **grid})
    flow = {
        "geopotential": ("m**2 s**-2", 5e4),
        "temperature": ("K", 270),
        "specific_humidity": ("kg kg**-1", 0.005),
        "u_component_of_wind": ("m s**-1", 5),
        "v_component_of_wind": ("m s**-1", 0),
    }
    base = (simulated["2m_temperature"] - 280) / simulated["2m_temperature"].std()
    for name, (units, mean) in flow.items():
        downward = -0.05 if name == "geopotential" else 0.05
        layers = [(mean * (1 + downward * k) + (mean or 5) * 0.02 * base) for k in range(3)]
        ds[name] = xr.concat(layers, "level").transpose("time", "level", ...).astype("float32")
        ds[name].attrs = {"units": units}
    surface = {"2m_temperature": ("K", 280), "mean_sea_level_pressure": ("Pa", 101_000)}
    wind = {f"10m_{x}_component_of_wind": ("m s**-1", 3) for x in "uv"}
    for name, (units, mean) in {**surface, **wind}.items():
        ds[name] = (mean * (1 + 0.01 * base)).astype("float32")
        ds[name].attrs = {"units": units}
    # WeatherBench 2 stores longitude before latitude
    ds.transpose("time", "level", "longitude", "latitude").drop_encoding().to_zarr(
        tmp_path / "era5.zarr", zarr_format=2, consolidated=True
    )
    overrides = [
        f"output={tmp_path / 'run'}",
        f"data.source={tmp_path / 'era5.zarr'}",
        "splits.training=[2019-12-20, 2020-01-10]",
        "splits.validation=[2020-01-12, 2020-01-16]",
        "splits.test=[2020-01-18, 2020-01-25]",
        "forecast.lead_time=36h",
        "forecast.every=20",
        "forcings=[time_of_day, toa_solar_radiation]",
    ]
    for verb in ("prepare", "train", "forecast", "evaluate"):
        assert call(verb, CONFIGS / "era5_weatherbench2.yaml", *overrides) == 0, verb
    forecasts = weatherdiff.open_forecasts(tmp_path / "run" / "forecasts")
    assert forecasts["geopotential"].sizes["level"] == 3
    assert forecasts.sizes["lead_time"] == 6  # beyond the block of four


@pytest.mark.parametrize(
    ("rung", "options"),
    [
        (
            "variational",
            ["objective.variance=learned", "forecast.sampler=ancestral", "forecast.steps=3"],
        ),
        ("edm", ["forecast.steps=2"]),
        ("v_prediction", ["objective.noise=isotropic", "objective.frame_correlation=0.5"]),
        ("flow_matching_ot", ["objective.history_dropout=0.3", "forecast.guidance=0.5"]),
    ],
)
def test_each_rung_of_the_ladder_is_one_key(
    ladder_store: Path, tmp_path: Path, rung: str, options: list[str]
) -> None:
    overrides = [*LADDER, f"output={tmp_path}", f"objective.rung={rung}", *options]
    (tmp_path / "fields.zarr").symlink_to(ladder_store)
    for verb in ("train", "forecast"):
        assert call(verb, CONFIGS / "ladder.yaml", *overrides) == 0, verb
    record = json.loads((tmp_path / "model" / "model.json").read_text())["objective"]
    assert record["coupling"] == ("optimal_transport" if "ot" in rung else "independent")
    assert record["variance"] == ("learned" if rung == "variational" else None)
    forecasts = weatherdiff.open_forecasts(tmp_path / "forecasts")
    fields = forecasts["2m_temperature"]
    assert int(fields.isnull().sum()) == 341 * fields.size // (22 * 28)  # the sea alone


def test_sampling_that_has_no_meaning_for_the_rung_is_refused(
    ladder_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [*LADDER, f"output={tmp_path}"]
    (tmp_path / "fields.zarr").symlink_to(ladder_store)
    for option, message in (
        ("objective.loss=variational", "needs a path of steps"),
        ("objective.variance=fixed_small", "linear path has no steps"),
    ):
        assert call("train", CONFIGS / "ladder.yaml", *overrides, option) == 78
        assert message in capsys.readouterr().err
    assert call("train", CONFIGS / "ladder.yaml", *overrides) == 0
    for options, message in (
        (["forecast.sampler=ancestral"], "chain of noising steps"),
        (["forecast.guidance=0"], "history_dropout"),
    ):
        assert call("forecast", CONFIGS / "ladder.yaml", *overrides, *options) == 78
        assert message in capsys.readouterr().err
    assert call("forecast", CONFIGS / "ladder.yaml", *overrides, "forecast.sampler=midpoint") == 0


def test_scheduled_runs_publish_what_is_due_once(
    ladder_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fields.zarr").symlink_to(ladder_store)
    config, output = CONFIGS / "batch.yaml", f"output={tmp_path}"
    assert call("train", config, output) == 0
    options = [part for o in (*SHRUNK, output) for part in ("--set", o)]
    for _ in range(2):  # the second time does nothing
        assert main(["batch", str(config), "--now", "2018-07-20T13:00", *options]) == 0
        published = sorted(path.name for path in (tmp_path / "forecasts").glob("[!.]*.zarr"))
        due = ["2018-07-19T18", "2018-07-20T00", "2018-07-20T06", "2018-07-20T12"]
        assert published == [f"{time}.zarr" for time in due]
    assert main(["verify", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("sound") == 6  # with the store and the model


def test_every_configuration_is_run_by_a_test() -> None:
    tested = {"batch", "demo", "daily_pressure", "era5_weatherbench2", "ladder"}
    tested |= {"arco_era5_europe", "mixed_sources"}  # in tests/data, which make what they read
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == tested


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["train"], 78, "config"),
        (["nonsense"], 78, "invalid choice"),
        (["check", "absent.yaml"], 78, "no configuration"),
    ],
)
def test_exit_codes_of_wrong_usage(
    arguments: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        found = main(arguments)
    except SystemExit as stop:
        found = int(stop.code or 0)
    assert found == code
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(("content", "code"), [(None, 66), (b"CDF\x01 cut", 65)])
def test_exit_codes_of_missing_and_damaged_input(
    tmp_path: Path, content: bytes | None, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "x.nc"
    if content is not None:
        source.write_bytes(content)
    output = tmp_path / "run"
    overrides = [f"output={output}", f"data.source={source}", "data.variables=null"]
    assert call("prepare", CONFIGS / "demo.yaml", *overrides) == code
    assert "x.nc" in capsys.readouterr().err
    assert not output.exists() or not list(output.iterdir())


def test_new_dates_of_the_source_are_added_to_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    time = np.arange("2001-01-01", "2002-12-31", dtype="datetime64[D]").astype("datetime64[ns]")
    values = 101_325 + 300 * np.random.default_rng(3).normal(size=(time.size, 7, 9))
    ds = xr.Dataset(
        {"slp": (("time", "lat", "lon"), values, {"units": "Pa"})},
        {"time": time, "lat": np.linspace(65, 35, 7), "lon": np.arange(300.0, 345, 5)},
    )
    for name, part in (("2001", ds.isel(time=slice(400))), ("2002", ds.isel(time=slice(400, 500)))):
        part.to_netcdf(tmp_path / f"{name}.nc.later")
    (tmp_path / "2001.nc.later").rename(tmp_path / "2001.nc")
    settings = [
        f"output={tmp_path / 'run'}",
        f"data.source={tmp_path}/*.nc",
        "splits.training=[2001-01-01, 2001-09-30]",
        "splits.validation=[2001-10-15, 2001-11-30]",
        "splits.test=[2001-12-10, 2002-01-31]",
    ]
    config = CONFIGS / "daily_pressure.yaml"
    assert call("check", config, *settings) == 0
    assert "400, 2001-01-01T00:00:00 to 2002-02-04T00:00:00, every 24 h" in capsys.readouterr().out
    assert call("prepare", config, *settings) == 0
    (tmp_path / "2002.nc.later").rename(tmp_path / "2002.nc")
    for _ in range(2):
        assert call("prepare", config, *settings) == 0
        assert "500 times" in capsys.readouterr().out
    for name in ("2001", "2002"):
        (tmp_path / f"{name}.nc").unlink()
    assert call("prepare", config, *settings) == 0  # the source has gone, the store is there
    store = weatherdiff.FieldStore.open(tmp_path / "run" / "fields.zarr")
    np.testing.assert_allclose(
        store.read(np.arange(500))[:, 0], ds["slp"][:500, ::-1].astype("f4"), rtol=1e-6
    )


def test_what_a_prepared_store_cannot_take_up_from_its_source_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    time = np.arange("2001-01-01", "2001-12-31", dtype="datetime64[D]").astype("datetime64[ns]")
    values = 101_325 + 300 * np.random.default_rng(3).normal(size=(time.size, 3, 4))
    ds = xr.Dataset(
        {"slp": (("time", "lat", "lon"), values, {"units": "Pa"})},
        {"time": time, "lat": [65.0, 60, 55], "lon": np.arange(0.0, 20, 5)},
    )
    file, config = tmp_path / "a.nc", CONFIGS / "daily_pressure.yaml"
    settings = [
        f"output={tmp_path / 'run'}",
        f"data.source={file}",
        "splits.training=[2001-01-01, 2001-09-30]",
        "splits.validation=[2001-10-05, 2001-10-31]",
        "splits.test=[2001-11-05, 2001-12-30]",
    ]

    def told(source: xr.Dataset | None) -> str:
        if source is not None:
            source.to_netcdf(file)
        caplog.clear()
        assert call("prepare", config, *settings) == 0
        return caplog.text

    assert "fields.zarr" not in told(ds.drop_isel(time=[50, 51]))
    assert "fields.zarr" not in told(None)
    assert "2 times before its last one are new, the first is 2001-02-20T00:00:00" in told(ds)
    corrected = ds.drop_isel(time=[50, 51]) + 1
    corrected["slp"].attrs = ds["slp"].attrs
    assert "its source is no longer the one that it was prepared from" in told(corrected)
    ds.isel(time=slice(290)).to_netcdf(file)  # up to 17 October: nothing of the test period
    assert call("check", config, *settings) == 0
    said = capsys.readouterr().out
    assert "test         0 windows" in said
    assert "forecasts    none: No initial time of the test period" in said
    file.unlink()
    (tmp_path / "in the way").touch()
    settings[0] = f"output={tmp_path / 'in the way'}"
    assert call("prepare", config, *settings) == 74
    assert f"Could not write {tmp_path / 'in the way'}: File exists" in capsys.readouterr().err
