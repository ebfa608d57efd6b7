import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from limbeck.files import reserve, sweep, whole


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt()])
def test_nothing_is_left_of_what_failed(tmp_path, error):
    path = tmp_path / "a.txt"

    def fail() -> None:
        with whole(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert os.listdir(tmp_path) == []


def test_writers_of_one_file_do_not_mix(tmp_path):
    path, size = tmp_path / "a.txt", 200_000

    def write(letter: str) -> None:
        with whole(path) as partial, partial.open("w") as file:
            for _ in range(100):
                file.write(letter * (size // 100))
                file.flush()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, "abcdefgh"))
    text = path.read_text()
    assert text == text[0] * size
    assert os.listdir(tmp_path) == ["a.txt"]


def test_others_may_read_what_a_writer_made_private(tmp_path):
    path = tmp_path / "a.txt"
    with whole(path) as partial:
        partial.touch(mode=0o600)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_what_killed_processes_left_is_removed(tmp_path):
    for name in ("a.txt", "a.txt.0f.partial", "b.partial.txt"):
        (tmp_path / name).touch()
    sweep(tmp_path)
    kept = sorted(os.listdir(tmp_path))
    assert kept == ["a.txt", "b.partial.txt"]


@pytest.mark.parametrize("size", [8, 3 * 2**20 + 8])
def test_a_reserved_file_is_zeros(tmp_path, size):
    reserve(tmp_path / "a", size)
    assert (tmp_path / "a").read_bytes() == bytes(size)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a device that is always full")
def test_a_full_disk_is_an_error_when_room_is_reserved():
    with pytest.raises(OSError, match="No space left"):
        reserve(Path("/dev/full"), 2**21)
