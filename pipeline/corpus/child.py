"""The process that decodes foreign pictures, one at a time.

Started by `pipeline/corpus/child_process.py`. Imports Pillow, numpy and little else, so that it
starts fast. Before the first picture it gives up its rights, by resource limits and, where the
kernel has them, by Landlock and seccomp (`confine.py`): it can reach no file, connection or other
process, and start none. The kernel ends it when a picture takes too much time, and denies it memory
beyond the limit.
"""

import contextlib
import encodings.ascii
import encodings.latin_1
import encodings.utf_16
import encodings.utf_16_be
import encodings.utf_16_le
import mmap
import os
import resource
import signal
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from PIL import (
    AvifImagePlugin,
    ExifTags,
    ImageMode,
    ImagePalette,
    ImageSequence,
    TiffTags,
    features,
)

from lamella.pipeline.corpus.confine import filter_calls, forbid_files
from lamella.pipeline.corpus.decode import DecodeLimits, decode, probe
from lamella.pipeline.corpus.formats import sniff, webp_size
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import Look, look_at, reduction_to, shrink
from lamella.pipeline.corpus.wire import receive, send
from lamella.schemas.refusals import RefusalReason

_CODECS = ("jpg", "libtiff", "webp", "zlib")
_DOUBTFUL = (RefusalReason.CORRUPT, RefusalReason.TRUNCATED)
_SLACK_BYTES = 2**20
_MOST_BYTES_A_PIXEL = 16
"""Pixels as read, as RGBA, blended with white, and resized."""

# Pillow imports these when a picture first needs them; by then no file can be opened.
_NEEDED_LATER = (ExifTags, ImageMode, ImagePalette, ImageSequence, TiffTags, encodings)


def main(threads: bool = False) -> None:
    """Answer frames on standard input until it ends.

    Args:
        threads: let decoders start threads.
    """
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # it starts none then
    if lacking := [name for name in _CODECS if not features.check(name)]:
        raise SystemExit(f"Pillow was built without {', '.join(lacking)} here")
    answers = os.dup(1)
    unseen = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):  # libraries must not print into the answers
        os.dup2(unseen, descriptor)
    own_bytes = _own_memory_bytes()
    _prefer_for_killing()
    held = forbid_files()  # Landlock itself needs one more descriptor
    _restrict(threads)
    held += filter_calls(threads=True) if threads else filter_calls()
    send(answers, {"ready": os.getpid(), "held": held})
    with contextlib.suppress(EOFError):
        while True:
            try:
                _serve(answers, own_bytes)
            except MemoryError:
                # Half a request may be unread, and memory may be fragmented: end here.
                _no_timers()
                send(answers, {"out_of_memory": True})
                return


def _serve(answers: int, own_bytes: int) -> None:
    request, _ = receive(0, 0)
    *numbers, wall_seconds = request["limits"]
    limits = DecodeLimits(*numbers)
    _limit_memory(own_bytes + limits.max_memory)
    signal.setitimer(signal.ITIMER_PROF, limits.max_seconds)
    signal.setitimer(signal.ITIMER_REAL, wall_seconds)
    data = bytes(receive(0, limits.max_bytes)[1])
    try:
        header, body = _answer(request, data, limits)
    except Refused as refused:
        header, body = {"refused": refused.reason.value, "detail": refused.detail}, b""
    if header.get("refused") in _DOUBTFUL:
        _check_memory(data, limits)
    _no_timers()
    send(answers, header, body)


def _check_memory(data: bytes, limits: DecodeLimits) -> None:
    """Raise MemoryError where a picture may only look damaged because memory is short.

    Decoders do not always say why they gave up. So a picture counts as damaged only while this
    process can still get the most memory that the picture should take.
    """
    # A WebP decoder allocates all pixels before it says how many there are.
    width, height = (webp_size(data) if sniff(data) == "webp" else None) or (0, 0)
    with contextlib.suppress(Refused):
        found = probe(data, limits)
        width, height = found.width, found.height
    wanted = _SLACK_BYTES + _MOST_BYTES_A_PIXEL * min(width * height, limits.max_pixels)
    if not _can_take(wanted):
        raise MemoryError


def _limit_memory(size_bytes: int) -> None:
    """Limit the address space to this, or to less where the machine allows less."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = 2**63 - 1 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_AS, (min(size_bytes, most), hard))


def _answer(
    request: Mapping[str, Any], data: bytes, limits: DecodeLimits
) -> tuple[dict[str, Any], bytes]:
    if request["do"] == "probe":
        return asdict(probe(data, limits)), b""
    if request["do"] == "check":
        decode(data, limits)
        return {"room": _has_room(limits.max_memory)}, b""
    if request["do"] == "shrink":
        found, most = probe(data, limits), (request["height"], request["width"])
        reduction = reduction_to(found.height, found.width, *most)
        small = shrink(decode(data, limits, reduction), request["width"], request["height"])
        return {"height": small.shape[0], "width": small.shape[1]}, small.tobytes()
    picture = decode(data, limits, request["reduction"])
    if request["box"] is not None:
        picture = picture.part(*request["box"])
    looks = [look_at(picture, Look(*look)) for look in request["looks"]]
    return (
        {"height": picture.height, "width": picture.width},
        b"".join(look.tobytes() for look in looks),
    )


def _has_room(size_bytes: int) -> bool:
    """Say whether the machine would give this much memory without the limit on a picture."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    return _can_take(size_bytes)


def _can_take(size_bytes: int) -> bool:
    """Say whether this process can get this much memory; it is mapped, not touched, and freed."""
    try:
        mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, OverflowError):
        return False
    return True


def _no_timers() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _own_memory_bytes() -> int:
    """Return the address space in use before the first picture, or the largest if unknown."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 2**62


def _prefer_for_killing() -> None:
    """Let the kernel kill this process before the worker when memory runs out."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _restrict(threads: bool) -> None:
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)  # ends the process, whatever it is doing
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the job, which ends this process itself
    limits = [resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE]
    # A thread counts as a process here; where it may start threads, the filter knows them apart.
    for limit in limits if threads else [*limits, resource.RLIMIT_NPROC]:
        resource.setrlimit(limit, (0, 0))


if __name__ == "__main__":
    main()
