"""The expected offset under a softmax over a window of candidates, and its derivatives.

Candidates are ``(B, T, I + 2 r, J + 2 s, P)`` with P = K + 2 t for half widths r, s and t. Tokens and results have the
same P numbers in a line, ``(B, T, I, J, P)`` and ``(B, 3, I, J, P)``, of which the last 2 t mean nothing: so a plane is
one run of numbers, each offset of the window another place where it begins, and loops are long however small the
image. They go in blocks, whose scores stay in the first cache: nothing per candidate is ever written to memory.
Bonuses are ``(B, number of offsets)``, the last axis of the window fastest.
"""

import numpy as np
from numba import njit, prange

F4 = np.float32
U8 = np.uint64
FAST = {"contract", "nsz", "reassoc"}
BLOCK = 256
LOWEST = F4(-87)
"""Of exponents: smaller ones give what this one gives, 1e-38."""
PER_OCTAVE, OCTAVE_HIGH, OCTAVE_LOW = F4(1.44269504), F4(0.693359375), F4(-2.12194440e-4)


@njit(fastmath=FAST)
def _exponential(x, bits, n):
    r"""$e^x$ of `n` numbers at or below 0, in place: $2^m e^f$ with a polynomial for the rest f; `bits` is scratch.

    Coefficients of Cephes' ``expf`` (Moshier); libraries take one number at a time.
    """
    for k in range(n):
        value = max(x[k], LOWEST)
        octaves = np.floor(value * PER_OCTAVE + F4(0.5))
        rest = value - octaves * OCTAVE_HIGH - octaves * OCTAVE_LOW
        series = F4(1.9875691500e-4) * rest + F4(1.3981999507e-3)
        series = series * rest + F4(8.3334519073e-3)
        series = series * rest + F4(4.1665795894e-2)
        series = series * rest + F4(1.6666665459e-1)
        series = series * rest + F4(5.0000001201e-1)
        x[k] = series * rest * rest + rest + F4(1)
        bits[k] = (np.int32(octaves) + np.int32(127)) << np.int32(23)
    powers = bits.view(np.float32)
    for k in range(n):
        x[k] *= powers[k]


@njit(inline="always")
def _offset_of(number, widths):
    """Steps along the axes from the window's first corner."""
    return number // (widths[1] * widths[2]), number // widths[2] % widths[1], number % widths[2]


@njit(inline="always")
def _steps_of(number, widths):
    """The offset, steps from the window's middle."""
    i, j, k = _offset_of(number, widths)
    return F4(i - widths[0] // 2), F4(j - widths[1] // 2), F4(k - widths[2] // 2)


@njit(inline="always")
def _plane_of(shape, b, c, i):
    """Where a plane begins in the flat array of that shape."""
    return ((b * shape[1] + c) * shape[2] + i) * shape[3] * shape[4]


@njit(fastmath=FAST)
def _add_products(out, at, left, start, right, begin, n):
    at, start, begin = U8(at), U8(start), U8(begin)
    for k in range(n):
        e = U8(k)
        out[at + e] += left[start + e] * right[begin + e]


@njit
def _score(tokens, candidates, bonuses, widths, b, i, begin, n, scores):
    """Scores of all offsets for `n` numbers of a plane from `begin` on, one line of `scores` each."""
    flat, tokens_flat, candidates_flat = scores.reshape(-1), tokens.reshape(-1), candidates.reshape(-1)
    for number in range(scores.shape[0]):
        di, dj, dk = _offset_of(number, widths)
        scores[number, :n] = bonuses[b, number]
        for c in range(tokens.shape[1]):
            here = _plane_of(tokens.shape, b, c, i) + begin
            there = _plane_of(candidates.shape, b, c, i + di) + begin + dj * tokens.shape[4] + dk
            _add_products(flat, number * BLOCK, tokens_flat, here, candidates_flat, there, n)


@njit(fastmath=FAST)
def _forward_plane(tokens, candidates, bonuses, widths, b, i, out, logarithm):
    size_j, pitch = tokens.shape[3:]
    num_offsets, num = widths[0] * widths[1] * widths[2], size_j * pitch - widths[2] + 1
    scores, bits = np.empty((num_offsets, BLOCK), F4), np.empty(BLOCK, np.int32)
    top, total, sums = np.empty(BLOCK, F4), np.empty(BLOCK, F4), np.empty((3, BLOCK), F4)
    out_flat, logarithms = out.reshape(-1), logarithm.reshape(-1)
    at = _plane_of(logarithm.shape, b, 0, i)
    for begin in range(0, num, BLOCK):
        n = min(BLOCK, num - begin)
        _score(tokens, candidates, bonuses, widths, b, i, begin, n, scores)
        top[:] = scores[0]
        for number in range(1, num_offsets):
            for k in range(n):
                top[k] = max(top[k], scores[number, k])
        total[:], sums[:] = F4(0), F4(0)
        for number in range(num_offsets):
            line = scores[number]
            for k in range(n):
                line[k] -= top[k]
            _exponential(line, bits, n)
            p, q, r = _steps_of(number, widths)
            for k in range(n):
                total[k] += line[k]
                sums[0, k] += p * line[k]
                sums[1, k] += q * line[k]
                sums[2, k] += r * line[k]
        for axis in range(3):
            start = U8(_plane_of(out.shape, b, axis, i) + begin)
            for k in range(n):
                out_flat[start + U8(k)] = sums[axis, k] / total[k]
        start = U8(at + begin)
        for k in range(n):
            logarithms[start + U8(k)] = top[k] + np.log(total[k])


@njit(parallel=True, cache=True)
def forward(tokens, candidates, bonuses, widths, out, logarithm):
    """`out` and, for the derivatives, the logarithm of the sum of all exponentials ``(B, 1, I, J, P)``."""
    size_i = tokens.shape[2]
    for task in prange(len(tokens) * size_i):
        _forward_plane(tokens, candidates, bonuses, widths, task // size_i, task % size_i, out, logarithm)


@njit(fastmath=FAST)
def _mean_of_block(upstream, expected, b, i, begin, n, mean):
    """Upstream times the result, summed over the axes."""
    u, x = upstream.reshape(-1), expected.reshape(-1)
    mean[:n] = F4(0)
    for axis in range(3):
        start = _plane_of(upstream.shape, b, axis, i) + begin
        _add_products(mean, 0, u, start, x, start, n)


@njit(fastmath=FAST)
def _backward_of_scores(line, bits, steps, upstream, at, step, mean, logarithms, start, n):
    """Scores of one offset to the derivatives by them, and their sum; components of `upstream` lie `step` apart."""
    p, q, r = steps
    u, v, w, start, total = U8(at), U8(at + step), U8(at + 2 * step), U8(start), F4(0)
    for k in range(n):
        line[k] -= logarithms[start + U8(k)]
    _exponential(line, bits, n)
    for k in range(n):
        e = U8(k)
        line[k] *= p * upstream[u + e] + q * upstream[v + e] + r * upstream[w + e] - mean[k]
        total += line[k]
    return total


@njit
def _backward_slab(
    tokens, candidates, bonuses, widths, expected, logarithm, upstream, b, first, last, by_tokens, by_candidates
):
    """Planes `first` to `last` (exclusive) of an image; the derivatives by the bonuses come back."""
    _, num_tokens, _, size_j, pitch = tokens.shape
    num_offsets, num = bonuses.shape[1], size_j * pitch - widths[2] + 1
    by_bonuses, step = np.zeros(num_offsets), upstream.shape[2] * size_j * pitch
    scores, bits, mean = np.empty((num_offsets, BLOCK), F4), np.empty(BLOCK, np.int32), np.empty(BLOCK, F4)
    scores_flat, tokens_flat, candidates_flat = scores.reshape(-1), tokens.reshape(-1), candidates.reshape(-1)
    by_tokens_flat, by_candidates_flat = by_tokens.reshape(-1), by_candidates.reshape(-1)
    logarithms, upstream_flat = logarithm.reshape(-1), upstream.reshape(-1)
    for i in range(first, last):
        for begin in range(0, num, BLOCK):
            n = min(BLOCK, num - begin)
            _mean_of_block(upstream, expected, b, i, begin, n, mean)
            _score(tokens, candidates, bonuses, widths, b, i, begin, n, scores)
            at, start = _plane_of(upstream.shape, b, 0, i) + begin, _plane_of(logarithm.shape, b, 0, i) + begin
            for number in range(num_offsets):
                di, dj, dk = _offset_of(number, widths)
                steps = _steps_of(number, widths)
                by_bonuses[number] += _backward_of_scores(
                    scores[number], bits, steps, upstream_flat, at, step, mean, logarithms, start, n
                )
                for c in range(num_tokens):
                    here = _plane_of(tokens.shape, b, c, i) + begin
                    there = _plane_of(candidates.shape, b, c, i + di) + begin + dj * pitch + dk
                    _add_products(by_tokens_flat, here, scores_flat, number * BLOCK, candidates_flat, there, n)
                    _add_products(by_candidates_flat, there, scores_flat, number * BLOCK, tokens_flat, here, n)
    return by_bonuses


@njit(parallel=True, cache=True)
def backward(
    tokens, candidates, bonuses, widths, expected, logarithm, upstream, planes, by_tokens, by_candidates, by_bonuses
):
    """Derivatives of ``sum(upstream * out)``, where `upstream` is zero for what means nothing; two of them start at 0.

    `by_bonuses` is ``(B, number of slabs, number of offsets)`` float64, for the caller to add up. Slabs of `planes`
    planes, the width of the window at least, are done in two rounds, every other one at a time: so no two threads write
    to the same candidate and the sums are the same however many threads there are.
    """
    size_i, num_slabs = tokens.shape[2], by_bonuses.shape[1]
    for turn in range(2):
        num_own = (num_slabs + 1 - turn) // 2
        for task in prange(len(tokens) * num_own):
            b, slab = task // num_own, 2 * (task % num_own) + turn
            first, last = slab * planes, min((slab + 1) * planes, size_i)
            by_bonuses[b, slab] = _backward_slab(
                tokens,
                candidates,
                bonuses,
                widths,
                expected,
                logarithm,
                upstream,
                b,
                first,
                last,
                by_tokens,
                by_candidates,
            )
