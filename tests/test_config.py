from pathlib import Path

import pytest

from weatherdiff.config import Config, load_config
from weatherdiff.errors import ConfigError, MissingInputError

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
        ("x: !!python/object/apply:os.system ['true']", "Not YAML"),
    ],
)
def test_a_wrong_configuration_is_refused_with_advice(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, text)
    assert caught.value.exit_code == 78


def test_an_absent_configuration_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("written", "read"),
    [("12:00", "12:00"), ("0600", "0600"), ("no", "no"), ("2018-07-20", "2018-07-20")],
)
def test_scalars_that_yaml_1_1_changes_stay_what_was_written(
    tmp_path: Path, written: str, read: str
) -> None:
    config = load(tmp_path, MINIMAL + f"report:\n  title: {written}\n")
    assert config.report.title == read


def test_1e_3_is_a_number(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL + "training: {learning_rate: 1e-3}\n")
    assert config.training.learning_rate == 0.001


def test_overrides_replace_and_add_keys(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL, "training.steps=7", "window.frames=5")
    assert (config.training.steps, config.window.frames) == (7, 5)
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        load(tmp_path, MINIMAL, "training.steps")
