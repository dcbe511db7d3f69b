"""The gate of a new snapshot: its settings, and the record of how it judged one."""

from typing import Literal, Self

from pydantic import Field, model_validator

from lamella.schemas.base import FORMAT_VERSION, FormatVersion, Record, Stored, digest_of

Rule = Literal["removed", "added", "refused", "golden", "golden_recall", "overlap", "drift"]
"""What is judged, by the name of its setting."""

State = Literal["passed", "failed", "not judged"]


class GateSettings(Stored):
    """How far a new snapshot may be from the current one and still replace it by itself.

    The rules `golden_recall` and `overlap` are judged only where `golden` names a file, `drift`
    only where the words are those of the current snapshot.
    """

    removed: float = Field(
        default=0.05, ge=0, le=1, description="largest share of the current pictures that is gone"
    )
    added: float = Field(
        default=0.5, ge=0, description="largest number of new pictures, as a share of the current"
    )
    refused: float = Field(
        default=0.02, ge=0, le=1, description="largest rise of the share of refused pictures"
    )
    golden: str | None = Field(
        default=None, description="a file: a query's name a line, then names that it must find"
    )
    golden_recall: float = Field(
        default=0.9, ge=0, le=1, description="least mean share of those names among the first k"
    )
    overlap: float = Field(
        default=0.5, ge=0, le=1, description="least mean share of the first k that stays the same"
    )
    k: int = Field(default=10, ge=1, le=1_000)
    drift: float = Field(
        default=1.45,
        gt=0,
        description="largest error of the words on new pictures, over that of their training",
    )


class RuleResult(Stored):
    """How one rule judged a snapshot.

    Attributes:
        value, limit: what was found and what is allowed; None where the rule was not judged, or
            where it is not about numbers.
        text: both in words; of a rule that was not judged, why not.
    """

    rule: Rule
    state: State
    value: float | None = None
    limit: float | None = None
    text: str


class Judgement(Record):
    """How the gate judged a snapshot against the one that was current then.

    Raises:
        ValueError: `passed` is not what the rules say.
    """

    format_version: FormatVersion = FORMAT_VERSION
    snapshot: int = Field(ge=1)
    root_digest: str
    against: int = Field(ge=1, description="the snapshot that was current")
    against_root: str
    settings: GateSettings
    golden_sha256: str = Field(default="", description="of the file of golden queries")
    shares: bool = Field(default=True, description="whether pictures gone and new were to count")
    judged_at: str
    passed: bool
    rules: tuple[RuleResult, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.passed != (not self.failed):
            raise ValueError(f"passed is {self.passed}, and {len(self.failed)} rules failed")
        return self

    @property
    def failed(self) -> tuple[RuleResult, ...]:
        """The rules that failed."""
        return tuple(rule for rule in self.rules if rule.state == "failed")

    def subject(self) -> str:
        """Return the digest of what was judged, and by which settings: equal ones end alike."""
        return judged_subject(
            self.root_digest, self.against_root, self.settings, self.golden_sha256, self.shares
        )


def judged_subject(
    root_digest: str, against_root: str, settings: GateSettings, golden_sha256: str, shares: bool
) -> str:
    """Return the digest of what is judged; where the file of golden queries lies is not in it."""
    rules = settings.model_dump(mode="json", exclude={"golden"})
    return digest_of([root_digest, against_root, rules, golden_sha256, shares])
