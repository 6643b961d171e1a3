"""A header may claim any number of bytes; no more than the file has are asked for."""

import io

from hypothesis import given
from hypothesis import strategies as st

from ngff_core.sources.bounded_file import BoundedFile


class Asked(io.BytesIO):
    """Notes the sizes that are asked for."""

    def __init__(self, data):
        super().__init__(data)
        self.sizes = []

    def read(self, size=-1, /):
        self.sizes.append(size)
        return super().read(size)


@given(start=st.integers(0, 20), size=st.integers(-1, 2**62))
def test_it_reads_as_the_file_and_asks_for_no_more_than_there_is(start, size):
    """From any place."""
    file = Asked(bytes(range(10)))
    bounded = BoundedFile(file, 10)
    assert bounded.seek(start) == bounded.tell() == start
    expected = bytes(range(10))[start:]
    assert bounded.read(size) == (expected if size < 0 else expected[:size])
    assert all(0 <= asked <= 10 for asked in file.sizes)


def test_reading_into_memory_and_closing():
    """Closing it leaves the file open, whose owner closes it."""
    file = io.BytesIO(bytes(range(10)))
    bounded = BoundedFile(file, 10)
    into = bytearray(16)
    bounded.seek(4)
    assert bounded.readinto(into) == 6
    assert into[:7] == bytes([4, 5, 6, 7, 8, 9, 0])
    bounded.seek(0)
    assert bounded.readall() == bytes(range(10))
    assert bounded.seekable()
    assert bounded.readable()
    bounded.close()
    assert not file.closed
