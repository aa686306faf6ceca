"""Standard streams that are closed, full or not read; and lines of other code in a log of JSON."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from weatherdiff.cli import main
from weatherdiff.errors import StorageError
from weatherdiff.journal import reporting, tell
from weatherdiff.progress import progress_bar
from weatherdiff.streams import say


class Failing:
    """A stream without a file that takes nothing."""

    def __init__(self, number: int) -> None:
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))

    flush = write

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        raise OSError


def test_a_file_is_not_given_the_number_of_a_stream_that_is_closed(tmp_path: Path) -> None:
    code = (
        "import sys; from weatherdiff.streams import open_streams; open_streams();"
        f"file = open({str(tmp_path / 'output')!r}, 'w'); print('said', file=sys.stderr);"
        "print(sys.stdin.read()); sys.exit(file.fileno())"
    )
    command = ["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(command).returncode > 2
    assert (tmp_path / "output").read_text() == ""


@pytest.mark.parametrize("verb", ["batch", "status"])
@pytest.mark.parametrize("stream", [None, Failing(errno.ENOSPC), Failing(errno.EPIPE)])
def test_exit_codes_are_the_same_without_standard_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verb: str, stream: Failing | None
) -> None:
    (tmp_path / "wrong.yaml").write_text("nothing")
    monkeypatch.setattr(sys, "stderr", stream)
    assert main([verb, str(tmp_path / "wrong.yaml")]) == 78


def test_work_goes_on_when_its_progress_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Failing(errno.ENOSPC))
    with progress_bar("work", "pieces") as report:
        report(1, 1)


def test_output_that_nobody_reads_is_no_error_and_that_is_lost_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", Failing(errno.EPIPE))
    say("result")
    monkeypatch.setattr(sys, "stdout", Failing(errno.ENOSPC))
    with pytest.raises(StorageError, match="No space left"):
        say("result")


def test_every_line_of_a_log_is_json_whoever_wrote_it(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting() as lines:
        assert lines
        tell("event", fact=1)
        print("two\nlines", file=sys.stderr)
        thread = threading.Thread(target=lambda: 1 / 0)
        hook = threading.excepthook
        threading.excepthook = threading.__excepthook__
        thread.start()
        thread.join()
        threading.excepthook = hook
    text = capsys.readouterr().err
    told = [json.loads(line) for line in text.splitlines()]
    assert told[0]["event"] == "event"
    messages = {line.get("message", "") for line in told}
    assert {"two", "lines", "ZeroDivisionError: division by zero"} <= messages


def test_wrong_usage_of_batch_is_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["batch", "a.yaml", "--bakfill", "3d"])
    assert stop.value.code == 78
    told = json.loads(capsys.readouterr().err)
    assert (told["event"], told["exit_code"]) == ("error", 78)
    assert "--bakfill" in told["message"]
