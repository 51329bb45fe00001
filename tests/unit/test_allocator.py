"""Freed memory stays with a process: all that a step on CPUs frees, and what a decoded picture took."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's allocator (Linux)")

NEW_PAGES = """
import resource
from mmret.allocator import PICTURE, keep_freed_memory

def new_pages(size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        first, second = bytearray(size), bytearray(size)
        del first, second
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""


def printed(program: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", NEW_PAGES + program], capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


def test_large_blocks_are_used_again_without_new_pages_from_the_system():
    given_back, kept = printed("""
given_back = new_pages(80_000_000)
assert keep_freed_memory()
new_pages(80_000_000)
print(given_back, new_pages(80_000_000))
""")
    assert kept < 100 < given_back


def test_the_memory_of_a_decoded_picture_serves_the_next_one():
    given_back, kept = printed("""
import io
from PIL import Image
from mmret.image import EncodedImage

given_back = new_pages(6_000_000)
file = io.BytesIO()
Image.new("RGB", (64, 64)).save(file, "JPEG")
EncodedImage(file.getvalue()).decode()
new_pages(6_000_000)
print(given_back, new_pages(6_000_000))
""")
    assert kept < 100 < given_back


def test_pictures_of_unusual_size_go_back_to_the_system():
    assert printed("assert keep_freed_memory(PICTURE); print(new_pages(2 * PICTURE))")[0] > 1000


def test_pictures_in_a_step_on_cpus_do_not_undo_what_it_keeps():
    program = "keep_freed_memory(); keep_freed_memory(PICTURE); new_pages(2 * PICTURE); print(new_pages(2 * PICTURE))"
    assert printed(program)[0] < 100
