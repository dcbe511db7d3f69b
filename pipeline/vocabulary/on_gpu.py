"""The exact assigner on a GPU: a matrix product there proposes, float64 decides on the CPU."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lamella.pipeline.arrays import Float32s, Int64s, UInt32s
from lamella.pipeline.cores import available_cores
from lamella.pipeline.errors import InputError
from lamella.pipeline.torch_settings import settings
from lamella.pipeline.vocabulary.assign import Assignment, ExactAssigner, Nearest, check_count
from lamella.pipeline.vocabulary.compare import LARGEST_NORM, checked_vectors, decide_among
from lamella.pipeline.vocabulary.ivf_kernels import nearest_among

if TYPE_CHECKING:
    from torch import Tensor

GROUP = 64
"""Words a group: the least score of a group is kept, so scores are read once, not thrice."""

MOST = 32
"""The most groups, and words, compared one by one; with more, all words are compared."""

MOST_ROWS = 8_192
"""The largest tile of descriptors: larger products gain nothing, and copies start late."""

FREE_SHARE, CPU_BYTES = 0.5, 256 << 20
"""Default memory: this share of a GPU's free memory; on a CPU, 256 MiB."""

FAR = 2.0**120
"""Half norm of padding words in the last groups: above every limit, and finite."""

DECIDERS = min(8, available_cores())
"""Threads that decide in float64 while the device computes the next tile."""


def score_errors(
    norms: "Tensor", residuals: "Tensor", longest: float, residual: float, terms: int, tf32: bool
) -> "Tensor":
    """Return error bounds of the device's score |c|^2 / 2 - x.c, float64 (n,).

    The operands are x' = x + d and c' = c + e. TF32 keeps 11 significant bits, and `to_tf32`
    rounds to them beforehand, so that it does not matter whether the hardware would have rounded
    or cut off. Then x'.c' - x.c = d.c + x'.e, at most |d| |c| + |x'| |e| by Cauchy and Schwarz:
    never above 2**-11 |x| |c| for each operand, and 0 for rows that were float16.
    |d| and |e| are measured. Without TF32 both are 0.

    The products of TF32 operands are exact. Adding D of them and the half norm, in any order, is
    off by at most g S, g = t u / (1 - t u), t = D + 4, S = |x'| |c'| + |c'|^2 / 2; float32 rounds
    with u = 2**-24 (as `compare.error_bounds`). Tensor cores add b products and the sum so far at
    once: they align them to the largest and cut each off at 24 bits or more, then the sum (Fasi,
    Higham, Mikaitis and Pranesh 2021, Numerical behavior of NVIDIA tensor cores). Such a step
    loses at most (b + 2) 2**-23 S, the D / b steps D (1 + 2 / b) 2**-23 S, so u = 2**-22 holds
    for any b from 2 up.

    Counted as well: numbers below float32's normal ones taken for 0, in operands, products and
    sums, and the rounding of the float64 sum that decides.

    Args:
        norms: |x|, and residuals: |d|, float64 (n,).
        longest: the largest |c|, and residual: the largest |e|.
        terms: D + 4.
        tf32: whether the device may use TF32.
    """
    lengths, furthest = norms + residuals, longest + residual
    growth = terms * (2.0**-22 if tf32 else 2.0**-24)
    operands = 1.01 * (residuals * longest + lengths * residual)
    added = 1.01 * growth / (1 - growth) * furthest * (lengths + furthest)
    vanished = terms * 2.0**-126 * (1 + lengths + furthest)
    decided = terms * 2.0**-52 * (norms + longest) ** 2
    return operands + added + vanished + decided


def to_tf32(vectors: "Tensor") -> "Tensor":
    """Return the vectors, float32, rounded to the 11 significant bits of TF32, ties away from 0."""
    import torch

    return vectors.view(torch.int32).add(0x1000).bitwise_and_(-0x2000).view(torch.float32)


def product(half_norms: "Tensor", rows: "Tensor", negated_words: "Tensor", tf32: bool) -> "Tensor":
    """Return half norms less products, float32 (n, K), in exactly this precision."""
    import torch

    with _precision(rows.device.type, tf32), torch.autocast(rows.device.type, enabled=False):
        return torch.addmm(half_norms, rows, negated_words.T)


def _precision(device_type: str, tf32: bool) -> AbstractContextManager[None]:
    """Set PyTorch's precision of float32 products, and restore it.

    A CPU could be set to bfloat16, which no bound covers.
    """
    import torch

    on_gpu = device_type == "cuda"
    holder: Any = torch.backends.cuda.matmul
    if not on_gpu:
        holder = getattr(torch.backends.mkldnn, "matmul", None)
    name: str = "fp32_precision"
    value: str | bool = "tf32" if tf32 and on_gpu else "ieee"
    if not hasattr(holder, name):  # PyTorch before 2.9 has one setting for both
        holder, name, value = torch.backends.cuda.matmul, "allow_tf32", tf32 and on_gpu
    return settings([(holder, name, value)])


@dataclass(frozen=True)
class _Tile:
    """Scores of some descriptors; the device may still be computing them."""

    scores: "Tensor"  # float32 (n, GROUP, groups); word = lane * groups + group
    limits: "Tensor"  # float32 (n,), above it no word can be the nearest
    hits: "Tensor"  # bool (n, groups), of rows that are not crowded
    crowded: "Tensor"  # bool (n,), more than MOST groups are hit
    sound: "Tensor"  # bool (), all norms are well below the largest


@dataclass(frozen=True)
class _Proposals:
    """Pairs of row and word to compare, by row, and the rows to compare with every word."""

    rows: npt.NDArray[np.int64]
    words: npt.NDArray[np.int64]
    whole: npt.NDArray[np.bool_]


class _Lane:
    """Pinned memory for the rows of a tile, and a stream on a GPU."""

    def __init__(self, rows: int, dimensions: int, device: str) -> None:
        import torch

        on_gpu = torch.device(device).type == "cuda"
        self.rows = torch.empty((rows, dimensions), pin_memory=on_gpu)
        self._stream: Any = None
        if on_gpu:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def work(self) -> Iterator[None]:
        """Queue calls within on this lane."""
        import torch

        stream = nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        with torch.inference_mode(), stream:
            yield


class GpuAssigner:
    """Compares each descriptor with every word on a GPU, with the results of `ExactAssigner`.

    The device scores all words by one float32 or TF32 product. Each word within twice the error
    (`score_errors`) of the least score is compared in float64 on the CPU, so device, tile and
    precision change no answer. Where more than `MOST` words or groups of words are that near, the
    descriptor is left to an `ExactAssigner`.

    A row of scores takes less than the words do, so a tile always spans all words.
    """

    def __init__(
        self,
        centroids: Float32s,
        device: str = "cuda",
        memory_bytes: int | None = None,
        tf32: bool = True,
    ) -> None:
        """Take the centroids, (K, D) float32, to the device.

        Args:
            centroids: at least one.
            device: a device of PyTorch, a GPU or the CPU.
            memory_bytes: for words and tiles on the device; left out, half of what is free there.
            tf32: whether a GPU may use TF32, for speed only.

        Raises:
            InputError: there is no such GPU, or words and one row do not fit on it.
            ValueError: as `ExactAssigner`.
        """
        import torch

        self._exact = ExactAssigner(centroids)
        self._centroids, squared_norms = checked_vectors(centroids, "centroids")
        self._device, self._tf32, self._longest = device, tf32, float(np.sqrt(squared_norms.max()))
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise InputError(
                f"PyTorch sees no graphics card here, device is {device}: choose a node with one, "
                'or assigner="exact" on the CPU'
            )
        words, dimensions = self._centroids.shape
        self._groups = -(-words // (4 * GROUP)) * 4  # in fours, for aligned reads
        padded = self._groups * GROUP
        near = min(MOST, self._groups)
        self._row_bytes = 4 * padded + 32 * dimensions + 12 * self._groups + near * 16 * (GROUP + 2)
        self._words_bytes = 4 * padded * (dimensions + 1)
        free = self._free_bytes() if memory_bytes is None else memory_bytes
        rows = (free - self._words_bytes) // (2 * self._row_bytes)  # two tiles at once
        if rows < 1:
            raise self._too_large(free)
        self._rows = int(min(rows, MOST_ROWS, (2**31 - 1) // padded))
        negated = torch.zeros((padded, dimensions))
        negated[:words] = torch.from_numpy(-self._centroids)
        operand = to_tf32(negated) if tf32 else negated
        residuals = torch.linalg.vector_norm(operand - negated, dim=1, dtype=torch.float64)
        self._residual = float(residuals.max())
        half_norms = torch.full((padded,), FAR)
        half_norms[:words] = torch.from_numpy((squared_norms / 2).astype(np.float32))
        try:
            self._operand, self._half_norms = operand.to(device), half_norms.to(device)
        except torch.OutOfMemoryError:
            raise self._too_large(self._free_bytes()) from None

    def assign(self, descriptors: Float32s) -> Assignment:
        """Return the nearest word of each descriptor; see `Assigner.assign`.

        Raises:
            InputError: the device has no memory left even for one row.
        """
        import torch

        if descriptors.dtype != np.float32 or descriptors.shape[1:] != self._centroids.shape[1:]:
            checked_vectors(descriptors, "descriptors", self._centroids.shape[1])
        rows = np.ascontiguousarray(descriptors)
        words, distances = np.empty(len(rows), np.uint32), np.empty(len(rows), np.float64)
        decisions: list[Future[None]] = []
        done = 0
        with ThreadPoolExecutor(DECIDERS) as pool:
            while done < len(rows):
                short = False
                try:
                    for block, proposals in self._proposals(rows, done):
                        answer = words[block], distances[block]
                        decisions.append(pool.submit(self._decide, rows[block], proposals, *answer))
                        done = block.stop
                except torch.OutOfMemoryError:
                    short = True  # memory of its frames is freed after this clause
                if short:
                    self._halve()
        for decision in decisions:
            decision.result()
        return Assignment(words, distances)

    def nearest(self, descriptors: Float32s, count: int) -> Nearest:
        """Return the nearest words of each descriptor; see `Assigner.nearest`.

        Raises:
            InputError: the device has no memory left even for one row.
        """
        import torch

        check_count(count, len(self._centroids))
        if count == 1:  # its comparisons are faster
            return Nearest.one(self.assign(descriptors))
        rows, _ = checked_vectors(descriptors, "descriptors", self._centroids.shape[1])
        found = np.empty((len(rows), count), np.uint32)
        done = 0
        while done < len(rows):
            block = slice(done, min(done + self._rows, len(rows)))
            near: tuple[Int64s, UInt32s] | None = None
            with suppress(torch.OutOfMemoryError):  # memory of its frames is freed after this
                near = self._near(rows[block], count)
            if near is None:
                self._halve()
                continue
            found[block] = nearest_among(rows[block], *near, self._centroids, count)
            done = block.stop
        return Nearest.of(rows, self._centroids, found)

    def _near(self, rows: Float32s, count: int) -> tuple[Int64s, UInt32s]:
        """Return words of which the `count` nearest are some: where each row's begin, and all."""
        import torch

        tile = self._ask(_Lane(len(rows), rows.shape[1], self._device), rows)
        with torch.inference_mode():
            scores = tile.scores.view(len(rows), -1)
            # What `limits` adds to the least score is added to the one that is `count`-th.
            best = torch.topk(scores, count, dim=1, largest=False).values
            widths = tile.limits.double() - best[:, 0].double()
            limits = best[:, -1].double() + widths
            limits = (limits + limits.abs() * 2.0**-22 + 2.0**-140).float()
            at, words = torch.nonzero(scores <= limits[:, None], as_tuple=True)
            counts = torch.bincount(at, minlength=len(rows))
            offsets = np.append(0, np.cumsum(counts.cpu().numpy())).astype(np.int64)
            return offsets, words.cpu().numpy().astype(np.uint32)

    def _proposals(self, rows: Float32s, start: int) -> Iterator[tuple[slice, _Proposals]]:
        """Yield each block from a row on, with the device's proposals.

        One tile ahead: while the CPU reads the answers of one, the device computes the next.
        """
        size = min(self._rows, len(rows) - start)
        lanes = [_Lane(size, rows.shape[1], self._device) for _ in range(2)]
        ahead: deque[tuple[slice, _Lane, _Tile]] = deque()
        for number, at in enumerate(range(start, len(rows), size)):
            block, lane = slice(at, min(at + size, len(rows))), lanes[number % 2]
            ahead.append((block, lane, self._ask(lane, rows[block])))
            if len(ahead) == 2:
                block, lane, tile = ahead.popleft()
                yield block, self._read(rows, lane, tile)
                del tile  # its memory is the next one's
        for block, lane, tile in ahead:
            yield block, self._read(rows, lane, tile)

    def _ask(self, lane: _Lane, rows: Float32s) -> _Tile:
        """Queue the comparison of some rows with all words."""
        import torch

        with lane.work():
            held = lane.rows[: len(rows)]
            held.numpy()[:] = rows
            exact = held.to(self._device, non_blocking=True)
            operand = to_tf32(exact) if self._tf32 else exact
            norms = torch.linalg.vector_norm(exact, dim=1, dtype=torch.float64)
            residuals = torch.linalg.vector_norm(operand - exact, dim=1, dtype=torch.float64)
            errors = score_errors(
                norms, residuals, self._longest, self._residual, rows.shape[1] + 4, self._tf32
            )
            scores = product(self._half_norms, operand, self._operand, self._tf32)
            scores = scores.view(len(rows), GROUP, self._groups)
            least = scores.amin(1)
            exact_limits = least.amin(1).double() + 2 * errors
            limits = (exact_limits + exact_limits.abs() * 2.0**-22 + 2.0**-140).float()
            hits = least <= limits[:, None]
            crowded = hits.sum(1) > MOST
            hits &= ~crowded[:, None]
            return _Tile(scores, limits, hits, crowded, (norms < 0.9 * LARGEST_NORM).all())

    def _read(self, rows: Float32s, lane: _Lane, tile: _Tile) -> _Proposals:
        """Wait for a tile and return its proposals."""
        import torch

        with lane.work():
            if not bool(tile.sound):
                checked_vectors(rows, "descriptors")
            at, group = torch.nonzero(tile.hits, as_tuple=True)
            near = tile.scores[at, :, group] <= tile.limits[at, None]
            counts = torch.zeros(len(tile.limits), dtype=torch.int64, device=at.device)
            counts.index_add_(0, at, near.sum(1))
            near &= (counts <= MOST)[at, None]
            pair, place = torch.nonzero(near, as_tuple=True)
            whole = tile.crowded | (counts > MOST) | (counts == 0)
            found = (at[pair], place * self._groups + group[pair], whole)
            return _Proposals(*(each.cpu().numpy() for each in found))

    def _decide(
        self,
        rows: Float32s,
        proposed: _Proposals,
        words: npt.NDArray[np.uint32],
        distances: npt.NDArray[np.float64],
    ) -> None:
        """Write the words and distances of a tile."""
        counts = np.bincount(proposed.rows, minlength=len(rows))
        places = np.arange(len(proposed.rows)) - (np.cumsum(counts) - counts)[proposed.rows]
        table = np.full((len(rows), counts.max()), -1, np.int64)
        table[proposed.rows, places] = proposed.words
        decide_among(rows, self._centroids, table, words, distances)
        whole = proposed.whole
        if whole.any():
            answer = self._exact.assign(rows[whole])
            words[whole], distances[whole] = answer.words, answer.squared_distances

    def _halve(self) -> None:
        """Take half as many rows at a time from here on."""
        import torch

        if torch.device(self._device).type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.empty_cache()
        if self._rows == 1:
            raise self._too_large(self._free_bytes())
        self._rows //= 2

    def _free_bytes(self) -> int:
        """Return the bytes that may be used."""
        import torch

        if torch.device(self._device).type != "cuda":
            return CPU_BYTES
        return int(FREE_SHARE * torch.cuda.mem_get_info(self._device)[0])

    def _too_large(self, free: int) -> InputError:
        needed = self._words_bytes + 2 * self._row_bytes
        words, dimensions = self._centroids.shape
        return InputError(
            f"{words:,} words of {dimensions:,} dimensions need {needed:,} bytes on device "
            f"{self._device}, {max(free, 0):,} are free: take fewer words, fewer dimensions (PCA), "
            'or assigner="exact" on the CPU'
        )
