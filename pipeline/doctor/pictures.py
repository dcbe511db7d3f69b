"""The decoders of pictures: each format is really decoded, and what confines them is named."""

from lamella.pipeline.corpus.child_process import ChildProcess
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.sandbox import SOUND, end_idle_processes, shrink
from lamella.pipeline.doctor.findings import Finding
from lamella.pipeline.doctor.samples import BLUE, RED, SAMPLES, TOLERANCE
from lamella.pipeline.text import byte_size

NAMES = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WebP",
    "tiff": "TIFF",
    "heic": "HEIC",
    "avif": "AVIF",
    "gif": "GIF",
    "bmp": "BMP",
    "pnm": "portable anymaps",
}
_CURES = {"heic": "pip install --force-reinstall pi-heif"}
_CURE = "pip install --force-reinstall pillow"


def formats() -> list[Finding]:
    """Decode a tiny picture of each format in the sandbox.

    Returns:
        One finding for all that are decoded, and one for each that is not.

    Raises:
        DecoderUnavailable: the sandbox itself does not work.
    """
    try:
        found = [_format(name) for name in NAMES]
    finally:
        end_idle_processes()
    decoded = ", ".join(each.what for each in found if each.state == "ok")
    works = [Finding("formats", "ok", decoded, needed=True)] if decoded else []
    return [*works, *(each for each in found if each.state != "ok")]


def _format(name: str) -> Finding:
    cure = _CURES.get(name, _CURE)
    try:
        pixels = shrink(SAMPLES[name], 16, 16, DecodeLimits())
    except Refused as refused:
        return Finding(NAMES[name], "broken", refused.detail, cure, needed=True)
    halves = pixels[:, :6].reshape(-1, 3).mean(0), pixels[:, -6:].reshape(-1, 3).mean(0)
    wrong = max(abs(half - colour).max() for half, colour in zip(halves, (RED, BLUE), strict=True))
    if wrong > TOLERANCE:
        said = f"decoded to other colours than it has, {wrong:.0f} of 255 apart"
        return Finding(NAMES[name], "broken", said, cure, needed=True)
    return Finding(NAMES[name], "ok", "", needed=True)


def sandbox() -> list[Finding]:
    """Start a process that decodes; say what confines it, and whether it gets its memory."""
    limits = DecodeLimits()
    child = ChildProcess()
    try:
        answer, _ = child.ask({"do": "check"}, SOUND, limits, 0)
    finally:
        child.end()
    found = [_confined(child.held)]
    if not answer.get("room"):
        said = f"a picture may take {byte_size(limits.max_memory)}, this machine gives less"
        cure = "lower corpus.max_memory, or raise the limits (ulimit -v, vm.overcommit_memory)"
        found.append(Finding("its memory", "missing", said, cure))
    return found


def _confined(held: tuple[str, ...]) -> Finding:
    if held:
        return Finding("sandbox", "ok", f"decoders are held by limits, {', '.join(held)}")
    said = "limits alone hold decoders: this kernel has neither Landlock nor seccomp for them"
    return Finding("sandbox", "missing", said, "deploy/RUNBOOK.md says what that means")
