"""A configuration means what it seems to, or is refused with its line and what to write."""

import pytest

from weatherdiff.config import load_config
from weatherdiff.config.dialect import parse_yaml
from weatherdiff.errors import ConfigError

SURPRISES = {
    "12:00": ("base of sixty", '"12:00"'),
    "06:30:15": ("base of sixty", '"06:30:15"'),
    "0600": ("octal", '"0600"'),
    "0o17": ("one version of YAML", '"0o17"'),
    "0x1F": ("one version of YAML", '"0x1F"'),
    "1_000": ("without underscores", '"1_000"'),
    "no": ("true or false", '"no"'),
    "off": ("true or false", '"off"'),
    "Yes": ("true or false", '"Yes"'),
}


@pytest.mark.parametrize("written", SURPRISES)
@pytest.mark.parametrize(
    "text", ["a: 1\nb: {}\n", "a: 1\nb: [x, {}]\n", "a:\n  {}: 1\n", "a:\n- {}\n"]
)
def test_what_two_readers_read_differently_is_refused_with_line_and_remedy(written, text):
    what, instead = SURPRISES[written]
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text.format(written), "run.yaml")
    message = str(caught.value)
    assert "run.yaml, line 2: " in message
    assert written in message
    assert what in message
    assert instead in message
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("written", SURPRISES)
@pytest.mark.parametrize("quote", "'\"")
def test_in_quotes_it_is_text(written, quote):
    assert parse_yaml(f"a: {quote}{written}{quote}", "run.yaml").content == {"a": written}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1e-3", 0.001),
        ("1E+3", 1000.0),
        ("-.5", -0.5),
        ("0", 0),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("2018-07-20", "2018-07-20"),
        ("2018-07-20T06:00", "2018-07-20T06:00"),
        ("6h", "6h"),
        ("sample:uk-2018", "sample:uk-2018"),
        ("gs://bucket/a_1959-2023_01_10-6h.zarr", "gs://bucket/a_1959-2023_01_10-6h.zarr"),
    ],
)
def test_what_is_clear_is_read_as_it_looks(written, read):
    value = parse_yaml(f"a: {written}", "run.yaml").content["a"]
    assert value == read
    assert type(value) is type(read)


def test_a_key_that_is_there_twice_is_refused_with_both_lines():
    with pytest.raises(ConfigError, match=r"line 4: the key 'a' is there already, in line 2"):
        parse_yaml("x:\n  a: 1\n  b: 2\n  a: 3\n", "run.yaml")


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{}']]",
        "!!python/object/apply:os.system ['touch {}']",
        "!!python/object/new:os.system ['touch {}']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!binary aGVsbG8=",
        "!mine 1",
    ],
)
def test_tags_run_no_code(tmp_path, tag):
    canary = tmp_path / "canary"
    path = tmp_path / "run.yaml"
    path.write_text(f"output: x\ndata: {tag.format(canary)}\n")
    with pytest.raises(ConfigError):
        load_config(path)
    assert not canary.exists()


def test_a_class_name_in_a_value_is_only_text(tmp_path):
    canary = tmp_path / "canary"
    path = tmp_path / "run.yaml"
    path.write_text(
        f"output: x\nmodel:\n  _target_: os.system\n  command: touch {canary}\n"
        "window: {step: 6h, frames: 2}\n"
    )
    with pytest.raises(ConfigError, match=r"unknown key 'model\._target_'; .*\(line 3\)"):
        load_config(path)
    assert not canary.exists()


def test_few_bytes_do_not_become_gigabytes():
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for last, this in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{this}: &{this} [{', '.join([f'*{last}'] * 9)}]\n"
    with pytest.raises(ConfigError, match=r"line 2: \*a repeats another value; write it out"):
        parse_yaml(bomb, "run.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deep"),
        ("a: " + "9" * 5000, "a number of 5000 digits"),
        ("a: \x00", "Not YAML"),
        ("a: 1\n---\na: 2", "Not YAML"),
        ("\ta: 1", "Not YAML"),
    ],
)
def test_what_breaks_the_reader_is_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        parse_yaml(text, "run.yaml")


def test_a_wrong_value_is_refused_with_its_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("output: x\ndata:\n  source: a.nc\n  levels:\n  - 500\n  - high\n")
    with pytest.raises(ConfigError, match=r"data\.levels\.1: .*number \(line 6\)"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"data\.source: .*a path, or a list") as caught:
        load_config(path, ["data.source={a: 1}"])
    assert "line 3" not in str(caught.value)
