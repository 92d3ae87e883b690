"""Turn what a claim says into one frozen row: its statistics, their direction, and over which streams it speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError

DIRECTIONS = ("greater", "little")
SPANS = ("every-stream", "mean-of-streams")


@dataclass(frozen=True)
class Part:
    """One comparison that a claim needs.

    Parameters
    ----------
    statistic : str
        A name in `statistics.STATISTICS`: "alone", "difference", "unique".
    role : str
        Whose score it is: a name in the claim's roles.
    others : tuple of str
        Where it is a difference: what is subtracted. Where it is unique variance: what must be beside it, at least.
    direction : {"greater", "little"}
        "greater": above zero. "little": below a share of what can be reached at all (`Rules.little`).
    """

    statistic: str
    role: str
    others: tuple[str, ...] = ()
    direction: str = "greater"

    def __post_init__(self) -> None:
        check_choice("a part's direction", self.direction, DIRECTIONS)

    @property
    def text(self) -> str:
        """What is tested, in words."""
        joint = " and ".join(self.others)
        names = {"difference": f"{self.role} minus {joint}", "unique": f"{self.role} beside {joint}"}
        return f"{self.statistic}: {names.get(self.statistic, self.role)}"


@dataclass(frozen=True)
class Claim:
    """One claim, declared before anyone looks at data.

    All parts must hold (an intersection-union test: its p is the largest of theirs), in every stream or in the mean
    of the streams.

    Parameters
    ----------
    name : str
        What a user types.
    says : str
        The claim as one sentence.
    parts : tuple of Part
        What must hold.
    roles : mapping of str to tuple of str
        The systems that a name in `parts` stands for, by the names of the models' rows.
    over : {"every-stream", "mean-of-streams"}
        Where it must hold.
    reading : str
        How the words were turned into a test, where they leave room.
    source : str
        Who claims it.
    order : int
        Place in listings.
    """

    name: str
    says: str
    parts: tuple[Part, ...]
    roles: Mapping[str, tuple[str, ...]]
    over: str = "every-stream"
    reading: str = ""
    source: str = ""
    order: int = 90

    def __post_init__(self) -> None:
        check_choice(f"claim {self.name!r}: over", self.over, SPANS)
        if not self.parts:
            raise InvalidValueError(f"claim {self.name!r} has no parts; at least one is tested.")
        named = [role for part in self.parts for role in (part.role, *part.others)]
        missing = [role for role in named if role not in self.roles]
        if missing:
            raise InvalidValueError(f"claim {self.name!r} names {missing[0]!r}, which is none of its roles.")
