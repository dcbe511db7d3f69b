"""A GPU's streams and memory, and how to tell that it failed.

On a CPU all of this does nothing, so that one code path serves both.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lamella.pipeline.errors import CardLost, InputError, one_line
from lamella.pipeline.meters import GPU_BUSY
from lamella.pipeline.text import byte_size


class Lane:
    """Streams with which a GPU decodes, sends, computes and reads at once; a CPU has none.

    `queues`: whether a call only queues a pass that ends later, or runs it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.queues = device.type == "cuda"
        self._sending, self._computing, self._reading = (_stream(device) for _ in range(3))
        self._decoding = _stream(device)
        self._passes: deque[tuple[Any, Any]] = deque()

    def room(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return host memory, not cleared; pinned, so that a GPU can fetch from it."""
        return torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")

    def settle(self) -> None:
        """Wait until the device has finished all streams."""
        if self._computing is not None:
            torch.cuda.synchronize(self.device)

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Run calls within on the decoding stream, beside passes, and wait for them at the end."""
        with torch.cuda.stream(self._decoding):
            yield
        if self._decoding is not None:
            self._decoding.synchronize()

    def send(self, tensors: list[Tensor]) -> list[Tensor]:
        """Return copies on the device; later computations wait for them."""
        with torch.cuda.stream(self._sending):
            sent = [each.to(self.device, non_blocking=True) for each in tensors]
        self._after(self._computing, self._sending)
        return sent

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Queue calls within after the copies that were sent."""
        with torch.cuda.stream(self._computing):
            if self._computing is None:
                yield
                return
            begin, end = (_timed_event() for _ in range(2))
            begin.record()
            yield
            end.record()
            self._passes.append((begin, end))

    def _measure(self) -> None:
        """Count the seconds of the passes that have ended; they run one after the other."""
        while self._passes and self._passes[0][1].query():
            begin, end = self._passes.popleft()
            GPU_BUSY.add(begin.elapsed_time(end) / 1000)

    def read(self, tensors: list[Tensor]) -> tuple[list[Tensor], Callable[[], None]]:
        """Return copies in this process, and a function that waits until they have arrived.

        The tensors must be kept until then.
        """
        self._after(self._reading, self._computing)
        with torch.cuda.stream(self._reading):
            copies = [each.to("cpu", non_blocking=True) for each in tensors]
            if self._reading is None:
                return copies, lambda: None
            arrived: Any = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            arrived.record()

        def wait() -> None:
            arrived.synchronize()
            self._measure()

        return copies, wait

    @staticmethod
    def _after(later: Any, earlier: Any) -> None:
        if later is not None:
            later.wait_stream(earlier)


def _timed_event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _stream(device: torch.device) -> Any:
    if device.type != "cuda":
        return None
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextmanager
def answering(device: torch.device) -> Iterator[None]:
    """Turn errors of a GPU that no longer answers into CardLost.

    After a fault CUDA fails every call of the process, so a small call tests it.

    Raises:
        CardLost: that call failed too.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if answers(device):
            raise
        raise CardLost(
            f"the graphics card of this worker does not answer ({one_line(error)}): "
            "another process must take over"
        ) from error


def answers(device: torch.device) -> bool:
    """Say whether a device still computes."""
    try:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True


@contextmanager
def nothing_refused(device: torch.device) -> Iterator[None]:
    """Fail if an allocation failed inside the block, even if nothing was raised.

    If cuDNN cannot get the working memory of one algorithm it silently takes another, which adds in
    another order and gives other bits.

    Raises:
        torch.OutOfMemoryError: memory was refused.
    """
    before = refusals(device)
    yield
    if refusals(device) > before:
        raise torch.OutOfMemoryError("an algorithm was refused its working memory")


def refusals(device: torch.device) -> int:
    """Return how many allocations of the GPU have failed so far."""
    if device.type != "cuda":
        return 0
    return int(torch.cuda.memory_stats_as_nested_dict(device)["num_ooms"])


def too_large(
    device: torch.device, batch_size: int, pictures: str, attempt: Callable[[int], None]
) -> InputError:
    """Return the error for a batch that does not fit, naming a batch size that does.

    The batch is not cut in two, since a pass over fewer pictures gives other bits.

    Args:
        pictures: the shapes of a pass's inputs, in words.
        attempt: runs a pass over that many pictures; raises torch.OutOfMemoryError if it does not
            fit.
    """
    size, wanted = batch_size // 2, 0
    while size and not (wanted := _bytes_of(device, size, attempt)):
        size //= 2
    cure = (
        f"batch_size = {size} fits, and is another extraction"
        if size
        else "not even one picture fits: take a smaller short_edge or another network"
    )
    needed = f"some {byte_size(wanted * batch_size / size)}" if size else "more"
    return InputError(
        f"a batch of {batch_size} pictures of {pictures} needs {needed} on {device}, "
        f"{byte_size(_free_bytes(device))} are free: {cure}"
    )


def _bytes_of(device: torch.device, size: int, attempt: Callable[[int], None]) -> int:
    """Return the peak memory of a pass over `size` pictures, 0 if it did not fit."""
    on_card = device.type == "cuda"
    if on_card:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device) if on_card else 0
    try:
        attempt(size)
    except torch.OutOfMemoryError:
        return 0
    return max(1, torch.cuda.max_memory_allocated(device) - held) if on_card else 1


def _free_bytes(device: torch.device) -> int:
    """Return the bytes this process can still allocate, its own idle blocks included."""
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])
