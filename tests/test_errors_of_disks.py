"""What the system says of disks and their limits is no bug of ours."""

import errno
import os

import pytest

from weatherdiff.errors import exit_code_of

SAID = ("EBUSY", "EFBIG", "EISDIR", "ELOOP", "EMFILE", "ENOLCK", "ENOSPC", "EPERM", "ESTALE")


@pytest.mark.parametrize("name", SAID)
def test_trouble_with_a_disk_exits_with_74(name: str) -> None:
    number = getattr(errno, name)
    assert exit_code_of(OSError(number, os.strerror(number))) == 74
