"""Results do not depend on the number of threads, to the last bit, and a registration keeps to its own threads."""

import os
import subprocess
import sys
from collections.abc import Callable

import numba
import numpy as np
import pytest
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from examples import noise
from phantoms import head
from pullback import functional
from pullback.data import Pair
from pullback.kernels.threads import one_blas_thread, use_threads
from pullback.registration import Plan, register

SHAPE = (70, 9, 11)

FIELD, OTHER_FIELD = noise(1, 3, *SHAPE), noise(1, 3, *SHAPE, seed=1)
IMAGE, OTHER_IMAGE = noise(1, 1, *SHAPE, seed=2), noise(1, 1, *SHAPE, seed=3)
WEIGHTS = noise(1, 1, *SHAPE, seed=4).clamp(0, 1)
POINTS = 3 + 3 * noise(9000, 3, seed=5, dtype=torch.float64)
MATRIX = torch.eye(4, dtype=torch.float64).numpy()[:3] + 0.01


def bins(image: Tensor) -> Tensor:
    return (image[0, 0] * 3 + 8).clamp(1, 13)


def gradients_of_warp() -> list[Tensor]:
    leaves = [IMAGE.clone().requires_grad_(), FIELD.clone().requires_grad_()]
    return list(torch.autograd.grad((functional.warp(*leaves) * OTHER_IMAGE).sum(), leaves))


def convolution_and_gradients() -> list[Tensor]:
    leaves = [noise(3, 1, 8, 6, 10, seed=6), noise(2, 1, 3, 3, 3, seed=7), noise(2, seed=8)]
    made = functional.pooled_convolution(*(leaf.requires_grad_() for leaf in leaves))
    return [made.detach(), *torch.autograd.grad(made.square().sum(), leaves)]


def matrix_warp_and_gradient() -> list[Tensor]:
    matrix = (torch.eye(4) + torch.from_numpy(np.vstack([MATRIX, np.zeros(4)])).float() * 0.01)[None].requires_grad_()
    made = functional.warp_by_matrix(IMAGE, matrix)
    return [made.detach(), *torch.autograd.grad((made * OTHER_IMAGE).sum(), matrix)]


def histogram_and_gradient() -> list[Tensor]:
    histogram = functional.joint_histogram(bins(IMAGE), bins(OTHER_IMAGE), WEIGHTS[0, 0], 16)
    return [
        histogram,
        functional.histogram_gradient(bins(IMAGE), bins(OTHER_IMAGE), WEIGHTS[0, 0], histogram.log1p(), 16),
    ]


WORK: dict[str, Callable[[], list[Tensor]]] = {
    "warp": lambda: [functional.warp(IMAGE, FIELD), functional.warp(IMAGE, FIELD, fill=0.0)],
    "gradients of warp": gradients_of_warp,
    "compose": lambda: [functional.compose(FIELD, OTHER_FIELD)],
    "exponential": lambda: [functional.exponential(FIELD)],
    "invert": lambda: [functional.invert(0.2 * FIELD)[0]],
    "gaussian_smooth": lambda: [functional.gaussian_smooth(FIELD, 1.7)],
    "jacobian_determinant": lambda: [functional.jacobian_determinant(FIELD)],
    "multiply_by_gradient": lambda: [functional.multiply_by_gradient(OTHER_IMAGE, IMAGE)],
    "affine_derivative": lambda: [torch.from_numpy(functional.affine_derivative(IMAGE, MATRIX, OTHER_IMAGE))],
    "pooled_convolution": convolution_and_gradients,
    "warp_by_matrix": matrix_warp_and_gradient,
    "local_correlation": lambda: list(functional.local_correlation(IMAGE, OTHER_IMAGE)),
    "weighted local_correlation": lambda: list(functional.local_correlation(IMAGE, OTHER_IMAGE, WEIGHTS)),
    "weighted_moments": lambda: [functional.weighted_moments(IMAGE, OTHER_IMAGE, WEIGHTS)],
    "joint_histogram": histogram_and_gradient,
    "sample": lambda: [functional.sample(IMAGE[0], POINTS, interpolation=i) for i in ("linear", "nearest", "cubic")],
    "sample labels": lambda: [functional.sample(IMAGE[0].to(torch.int32), POINTS, interpolation="label")],
}


def with_threads(num_threads: int, work: Callable[[], list[Tensor]]) -> list[Tensor]:
    before = numba.get_num_threads(), torch.get_num_threads()
    try:
        numba.set_num_threads(num_threads)
        torch.set_num_threads(num_threads)
        return work()
    finally:
        numba.set_num_threads(before[0])
        torch.set_num_threads(before[1])


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two cores")
@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
def test_one_thread_and_two_give_the_same_bits(work):
    for one, two in zip(with_threads(1, work), with_threads(2, work), strict=True):
        assert torch.equal(one, two)


def test_a_number_of_threads_is_for_one_call():
    before = use_threads(None), torch.get_num_threads()
    try:
        assert use_threads(1) == 1
        assert torch.get_num_threads() == 1
    finally:
        assert (use_threads(None), torch.get_num_threads()) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_forked_after_computing_says_what_to_do_instead_of_hanging():
    program = (
        "import os, sys, numpy as np, pullback as pb\n"
        "image = np.add.outer(np.arange(20.0) ** 2, np.arange(20.0))\n"
        "pb.register(image, image, model='rigid', initial='header')\n"
        "if os.fork() == 0:\n"
        "    try:\n"
        "        pb.register(image, image, model='rigid', initial='header')\n"
        "    except RuntimeError as error:\n"
        "        print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert "spawn" in found.stdout


def openblas_threads() -> list[int]:
    return [library["num_threads"] for library in ThreadpoolController().select(internal_api="openblas").info()]


@pytest.mark.skipif(max(openblas_threads(), default=1) < 2, reason="needs an OpenBLAS of two threads")
def test_openblas_waits_while_a_registration_runs_and_has_its_threads_back_even_after_an_error():
    before, during = openblas_threads(), []

    def watch(stage: str, share: float, word: str) -> None:
        during.append(openblas_threads())
        if stage == "evidence":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        register(Pair(head(), head()), Plan(methods=("none",), deformable=None), on_progress=watch)
    assert all(set(threads) == {1} for threads in during)
    assert openblas_threads() == before


@pytest.mark.skipif(max(openblas_threads(), default=1) < 2, reason="needs an OpenBLAS of two threads")
def test_openblas_has_its_threads_back_only_when_the_last_of_several_at_a_time_ends():
    before = openblas_threads()
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(openblas_threads()) == {1}
    second.__exit__(None, None, None)
    assert openblas_threads() == before
