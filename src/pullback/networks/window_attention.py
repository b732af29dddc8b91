"""Transformers that look within windows of a lattice, shifted in every other block (Swin), in 2-D and 3-D.

Liu et al., Swin transformer: hierarchical vision transformer using shifted windows, ICCV 2021,
doi:10.1109/ICCV48922.2021.00986. Places that only fill up the last windows are not looked at.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

MLP_RATIO = 4


class WindowAttention(nn.Module):
    """Attention within windows, with a learned bonus for each relative place.

    Args:
        width: Channels of the tokens.
        num_heads: Which share them.
        window: Places per axis; a shorter lattice is one window.
        shift: By how many places per axis the windows begin later.
        is_biased: Whether query, key and value have biases.
        shifts_whole: Whether windows that are as long as the lattice are shifted too.
        dropout: Share of the likenesses and of the outcome that is left out in training.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        window: Sequence[int],
        shift: Sequence[int],
        *,
        is_biased: bool = True,
        shifts_whole: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads, self.window, self.shift = num_heads, tuple(window), tuple(shift)
        self.shifts_whole, self.drop = shifts_whole, nn.Dropout(dropout)
        self.query_key_value, self.project = nn.Linear(width, 3 * width, bias=is_biased), nn.Linear(width, width)
        self.bonus = nn.Parameter(torch.empty(num_heads, math.prod(2 * n - 1 for n in self.window)))
        nn.init.trunc_normal_(self.bonus, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, *L, C)`` to the same."""
        shape = tuple(x.shape[1:-1])
        axes = tuple(range(1, x.ndim - 1))
        window = tuple(min(w, n) for w, n in zip(self.window, shape, strict=True))
        least = [n if self.shifts_whole else n - 1 for n in shape]
        shifts = tuple(s if w <= n else 0 for s, w, n in zip(self.shift, self.window, least, strict=True))
        filled = tuple(-(-n // w) * w for n, w in zip(shape, window, strict=True))
        missing = [n for new, old in zip(reversed(filled), reversed(shape), strict=True) for n in (0, new - old)]
        x = nnf.pad(x, [0, 0, *missing]).roll([-s for s in shifts], axes)
        seen = self._attend(split(x, window), self._bonuses(window) + walls(shape, filled, window, shifts, x))
        x = join(seen, filled, window).roll(shifts, axes)
        return x[(slice(None), *(slice(n) for n in shape))]

    def _attend(self, tokens: Tensor, bonuses: Tensor) -> Tensor:
        """Tokens ``(B, W, N, C)`` of W windows, and what is added to their likeness, ``(W, heads, N, N)``."""
        parts = self.query_key_value(tokens).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.num_heads, -1)).transpose(2, 3) for part in parts)
        likeness = (query @ key.mT) / math.sqrt(query.shape[-1]) + bonuses
        shares = self.drop(likeness.softmax(-1))
        return self.drop(self.project((shares @ value).transpose(2, 3).flatten(3)))

    def _bonuses(self, window: tuple[int, ...]) -> Tensor:
        """``(heads, N, N)`` for a window that may be smaller than usual."""
        axes = [torch.arange(n, device=self.bonus.device) for n in window]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
        index = torch.zeros((), dtype=torch.long, device=self.bonus.device)
        for apart, full in zip((places[:, :, None] - places[:, None]).unbind(), self.window, strict=True):
            index = index * (2 * full - 1) + apart + full - 1
        return self.bonus[:, index]


class WindowBlock(nn.Module):
    """Window attention and a perceptron, each normalised first and added to what came in.

    Args:
        width: Channels of the tokens.
        attention: Of that width.
        dropout: Share of the perceptron's numbers that is left out in training.
        drop_path: How often, in training, what a part adds is left out for a pair.
    """

    def __init__(self, width: int, attention: nn.Module, *, dropout: float = 0.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = attention
        hidden = MLP_RATIO * width
        self.perceptron = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.drop, self.drop_path = nn.Dropout(dropout), drop_path

    def forward(self, x: Tensor) -> Tensor:
        """``(B, *L, C)`` to the same."""
        x = x + self._kept(self.attention(self.first_norm(x)))
        into, activation, out = self.perceptron
        inner = self.drop(activation(into(self.second_norm(x))))
        return x + self._kept(self.drop(out(inner)))

    def _kept(self, added: Tensor) -> Tensor:
        """What a part adds, for some pairs 0 and for the others so much more that the mean stays."""
        if not self.training or not self.drop_path:
            return added
        draws = torch.rand([len(added)] + [1] * (added.ndim - 1), dtype=added.dtype, device=added.device)
        return added * (draws >= self.drop_path) / (1 - self.drop_path)


def split(x: Tensor, window: tuple[int, ...]) -> Tensor:
    """``(B, *L, C)`` to ``(B, W, N, C)``: W windows of N places."""
    sizes = [size for n, w in zip(x.shape[1:-1], window, strict=True) for size in (n // w, w)]
    d = len(window)
    order = [0, *range(1, 2 * d, 2), *range(2, 2 * d + 1, 2), 2 * d + 1]
    return x.reshape(len(x), *sizes, x.shape[-1]).permute(order).flatten(1 + d, 2 * d).flatten(1, d)


def join(windows: Tensor, shape: tuple[int, ...], window: tuple[int, ...]) -> Tensor:
    """The inverse of :func:`split`."""
    counts = [n // w for n, w in zip(shape, window, strict=True)]
    d = len(window)
    order = [0, *(axis for n in range(1, d + 1) for axis in (n, n + d)), 2 * d + 1]
    return (
        windows.reshape(len(windows), *counts, *window, windows.shape[-1])
        .permute(order)
        .reshape(len(windows), *shape, windows.shape[-1])
    )


def walls(
    shape: tuple[int, ...], filled: tuple[int, ...], window: tuple[int, ...], shifts: tuple[int, ...], like: Tensor
) -> Tensor:
    """``(W, 1, N, N)``: -inf between places that are neighbours only by the roll or that fill up, else 0."""
    kinds = like.new_zeros(filled)
    for axis, (size, full, shift) in enumerate(zip(shape, filled, shifts, strict=True)):
        index = torch.arange(full, device=like.device)
        kind = (index < shift).to(like.dtype) + 2 * (index >= size).to(like.dtype)
        kinds = 3 * kinds + kind.roll(-shift).reshape([full if a == axis else 1 for a in range(len(shape))])
    parts = split(kinds[None, ..., None], window)[0, :, :, 0]
    is_apart = parts[:, :, None] != parts[:, None]
    return torch.where(is_apart, -math.inf, 0.0)[:, None]
