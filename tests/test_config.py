from pathlib import Path

import pytest

import weatherdiff
from weatherdiff.config import Config, load_config
from weatherdiff.errors import ConfigError

MINIMAL = """
output: runs/x
data:
  source: x.nc
window:
  step: 6h
  frames: 4
splits:
  training: [2001-01-01, 2001-06-30]
  validation: [2001-07-02, 2001-08-31]
  test: [2001-09-02, 2001-12-31]
forecast:
  lead_time: 24h
"""


def load(tmp_path: Path, text: str, *overrides: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load_config(path, list(overrides))


def test_a_minimal_configuration_has_working_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL)
    assert config.window.history == 2
    assert config.store == Path("runs/x/fields.zarr")
    assert config.splits.training == ("2001-01-01", "2001-06-30")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "modle: {size: tiny}\n", "unknown key 'modle'; did you mean 'model'"),
        (MINIMAL.replace("frames: 4", "frams: 4"), "window.frams'; did you mean 'frames'"),
        (MINIMAL + "threads: 0\n", "threads"),
        (MINIMAL + "output: again\n", "line 14: the key 'output' is there already, in line 2"),
        (MINIMAL.replace("2001-07-02", "2001-06-30"), "validation period"),
        (MINIMAL.replace("2001-07-02", "2001-07-01"), "6 h of history"),
        (MINIMAL.replace("2001-12-31", "2001-13-31"), "Not a date"),
        ("- a list", "mapping"),
        ("a: [", "Not YAML"),
        ("? [a, b]\n: 1", "line 1: not a key"),
        ("", "mapping"),
        (MINIMAL + "model: {size: tiny, size: tiny}\n", "line 14: the key 'size' is there already"),
        (MINIMAL.replace("lead_time: 24h", "lead_time: 27h"), "27h is not a multiple of .* 6h"),
        (MINIMAL.replace("lead_time: 24h", "lead_time: soon"), "Not a time step: 'soon'"),
        (MINIMAL + "  init_times: [2001-10-01T06, noon]\n", "Not a time: 'noon'"),
        (MINIMAL + "forcings: [time_of_dya]\n", "unknown forcing 'time_of_dya'; known are"),
        (MINIMAL.replace("step: 6h", "step: 6 parsecs"), "Not a time step"),
        (MINIMAL + "training: {steps: many}\n", "training.steps: .*integer"),
        (MINIMAL + "zzz: 1\n", "unknown key 'zzz'; known are output, data"),
        (MINIMAL + 'batch: {cycle: ["06", noon]}\n', "Not a time of day: 'noon'"),
        (MINIMAL + "batch: {max_lateness: soon}\n", "Not a span of time: 'soon'"),
        (MINIMAL + "batch: {keep: 1d, max_lateness: 36h}\n", "would be due again"),
        (MINIMAL + "batch: {ping: 'file:///etc/passwd'}\n", "batch.ping"),
        (MINIMAL + "batch: {kep: 1d}\n", "unknown key 'batch.kep'; did you mean 'keep'"),
        ("x: !!python/object/apply:os.system ['true']", "Not YAML"),
    ],
)
def test_a_wrong_configuration_is_refused_with_advice(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, text)
    assert caught.value.exit_code == 78


def test_an_absent_configuration_is_no_input_that_may_yet_come(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("'12:00'", "12:00"),
        ('"0600"', "0600"),
        ("'no'", "no"),
        ("2018-07-20", "2018-07-20"),
        ("2018-07-20T06:00", "2018-07-20T06:00"),
        ("~", None),
    ],
)
def test_scalars_that_yaml_1_1_changes_stay_what_was_written(
    tmp_path: Path, written: str, read: str | None
) -> None:
    config = load(tmp_path, MINIMAL + f"report:\n  title: {written}\n")
    assert config.report.title == read


def test_1e_3_is_a_number(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL + "training: {learning_rate: 1e-3}\n")
    assert config.training.learning_rate == 0.001


def test_overrides_replace_and_add_keys(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL, "training.steps=7", "window.frames=5")
    assert (config.training.steps, config.window.frames) == (7, 5)
    config = load(tmp_path, MINIMAL, "forecast.init_times=[2001-10-01T06:00, 2001-10-02]")
    assert config.forecast.init_times == ["2001-10-01T06:00", "2001-10-02"]
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        load(tmp_path, MINIMAL, "training.steps")
    with pytest.raises(ConfigError, match="output is not a section"):
        load(tmp_path, MINIMAL, "output.folder=x")
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        load(tmp_path, MINIMAL, "training.step=7")


def test_a_configuration_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"output: caf\xe9")
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        load_config(path)


def test_the_demo_of_the_package_is_the_one_in_configs() -> None:
    package = Path(weatherdiff.__file__).parent
    shipped = package / "data" / "sample" / "demo.yaml"
    assert shipped.read_text() == (package.parent / "configs" / "demo.yaml").read_text()


def test_a_gap_between_splits_is_kept_beside_the_history(tmp_path: Path) -> None:
    # the training ends on 30 June at 23:59:59, the history starts 6 hours before 2 July
    def gap(text: str) -> str:
        return MINIMAL.replace("forecast:", f"  gap: {text}\nforecast:", 1)

    assert load(tmp_path, gap("18h")).splits.gap == "18h"
    with pytest.raises(ConfigError, match=r"6 h of history and a gap of 19 h before it"):
        load(tmp_path, gap("19h"))
    with pytest.raises(ConfigError, match="Not a time step"):
        load(tmp_path, gap("soon"))
