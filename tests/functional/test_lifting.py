"""Room for volumes."""

import pytest
import torch

from pullback.functional.lifting import CACHE_LINE_BYTES, empty_like_shape


@pytest.mark.parametrize("shape", [(1,), (3, 5, 7), (1, 3, 16, 16, 16), (2, 3, 160, 19, 17), (0, 4)])
def test_room_begins_with_a_cache_line(shape: tuple[int, ...]) -> None:
    rooms = [empty_like_shape(*shape) for _ in range(3)]
    for number, room in enumerate(rooms):
        assert room.shape == shape
        assert room.dtype == torch.float32
        assert room.is_contiguous()
        assert room.data_ptr() % CACHE_LINE_BYTES == 0 or room.numel() == 0
        room.fill_(number)
    assert all(bool((room == number).all()) for number, room in enumerate(rooms))
