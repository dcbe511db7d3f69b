"""Every protocol by its name, with the options that a person gives for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.protocols.copydays import copydays
from lamella.pipeline.evaluate.protocols.groups import groups
from lamella.pipeline.evaluate.protocols.holidays import SizeOf, holidays, told_upright
from lamella.pipeline.evaluate.protocols.landmarks import landmarks
from lamella.pipeline.evaluate.protocols.oxford import oxford, paris
from lamella.pipeline.evaluate.protocols.revisited import DIFFICULTIES, difficulties
from lamella.pipeline.evaluate.protocols.ukb import ukb
from lamella.pipeline.evaluate.stems import inside
from lamella.pipeline.evaluate.truth import GroundTruth
from lamella.pipeline.names import known_names, meant, shown
from lamella.schemas.report import AskedDifficulty, BoxMode, Metric, Protocol

WITHOUT_FILES = ("ukb", "copydays", "groups")
WITH_PARTS = ("copydays", "gldv2")


@dataclass(frozen=True)
class ProtocolOptions:
    """What a person may say of a protocol beside its name.

    Attributes:
        truth: the official file, or a folder with it or above it.
        box: Oxford, Paris, revisited: `roi` crops queries to their box.
        pattern: groups: a regular expression with one group, which captures an image's group.
        metric: groups: the metric.
        difficulty: revisited: which answers are right; `all` gives three ground truths.
        part: of a protocol of several parts the only one that is wanted, such as `strong` of
            Copydays or `private` of Google Landmarks.
        within: the folder of the corpus that holds the data set; all else are distractors.
        rotations: Holidays: the published list of pictures that lie on their side.
        size_of: width and height of an indexed picture, for `rotations`.
    """

    truth: Path | None = None
    box: BoxMode = "roi"
    pattern: str | None = None
    metric: Metric = "mAP"
    difficulty: AskedDifficulty = "medium"
    part: str | None = None
    within: str | None = None
    rotations: Path | None = None
    size_of: SizeOf | None = None


def ground_truths(
    protocol: Protocol, names: Sequence[str], said: ProtocolOptions
) -> tuple[GroundTruth, ...]:
    """Return a protocol's queries over the images of an index, one ground truth a part.

    Revisited data sets have a part for each difficulty that is asked for, Copydays one for each
    attack, Google Landmarks a public and a private one; all others have one.

    Args:
        names: names of the indexed images.

    Raises:
        InputError: the protocol needs files that were not given or takes none, no indexed image
            belongs to it, a file is malformed, or there is no such part.
    """
    if said.truth is not None and protocol in WITHOUT_FILES:
        raise InputError(
            f"protocol {protocol} goes by the names of pictures; --truth {said.truth} has no "
            "effect: leave it out"
        )
    if said.rotations is not None and protocol != "holidays":
        raise InputError(
            f"--rotations lists pictures of Holidays; the protocol is {protocol}: leave it out"
        )
    if said.part is not None and protocol not in WITH_PARTS:
        raise InputError(
            f"--part is of {' and '.join(WITH_PARTS)}; the protocol is {protocol}: leave it out"
        )
    names = inside(names, said.within)
    match protocol:
        case "ukb":
            return (ukb(names),)
        case "oxford":
            return (oxford(names, said.truth, said.box),)
        case "paris":
            return (paris(names, said.truth, said.box),)
        case "holidays":
            found = holidays(names, said.truth)
            if said.rotations is None:
                return (found,)
            if said.size_of is None:
                raise ValueError("rotations are told by the sizes of pictures; size_of is None")
            return (told_upright(found, said.rotations, said.size_of),)
        case "roxford" | "rparis":
            levels = DIFFICULTIES if said.difficulty == "all" else (said.difficulty,)
            return difficulties(protocol, names, said.truth, levels, said.box)
        case "copydays":
            return _part(copydays(names), said.part)
        case "gldv2":
            return _part(landmarks(names, said.truth), said.part)
        case "groups":
            return (groups(names, said.pattern, said.metric),)


def _part(found: tuple[GroundTruth, ...], part: str | None) -> tuple[GroundTruth, ...]:
    """Return the ground truth of a part, all without one. Raises InputError for another name."""
    if part is None:
        return found
    by_name = {truth.protocol.partition(" ")[2]: truth for truth in found}
    name = meant(part, by_name)
    if name is None:
        raise InputError(f"--part {shown(part)} is none of {known_names(part, by_name)}")
    return (by_name[name],)
