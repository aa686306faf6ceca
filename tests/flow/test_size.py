"""The room stays small enough to be read: lines of code without docstrings, comments and blanks."""

import ast
import inspect
import textwrap
from pathlib import Path

import pytest

from weatherdiff import flow

FILES = sorted(Path(flow.__file__).parent.glob("*.py"))


def lines_of_code(source):
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    hidden = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            hidden.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(map(str.strip, source.splitlines()), start=1)
    return sum(bool(line) and line[0] != "#" and number not in hidden for number, line in lines)


def test_lines_are_counted_as_they_are_read():
    source = (
        '"""One\n\ntwo."""\n\n# why\ny = 1\n\n\ndef f():\n    """Three."""\n    return 2  # 4\n'
    )
    assert lines_of_code(source) == 3


def test_the_whole_ladder_has_at_most_1200_lines():
    assert sum(lines_of_code(path.read_text()) for path in FILES) <= 1200


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_has_more_than_250_lines(path):
    assert lines_of_code(path.read_text()) <= 250


@pytest.mark.parametrize("part", [flow.flow_matching_loss, flow.Euler.step, flow.integrate])
def test_training_and_sampling_by_flow_matching_fit_on_a_slide(part):
    assert lines_of_code(textwrap.dedent(inspect.getsource(part))) <= 20
