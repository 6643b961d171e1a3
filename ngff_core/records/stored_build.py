"""A build as it is stored: the target, the folder beside it, the plan and the ledgers."""

from __future__ import annotations

from dataclasses import dataclass

from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.records.build_folder import read_plan
from ngff_core.records.ledger import Ledger
from ngff_core.storage import ObjectStore, for_each


@dataclass(frozen=True)
class StoredBuild:
    """A build of ours at a target, finished or not.

    ``target`` stores the pyramid, ``beside`` is the build folder (`TARGET.build`), ``plan`` is
    the plan stored there. ``ledgers`` holds one ledger for each level, in the order of the
    levels. ``earlier`` are plans under which the same build may be stored too, where this one is
    wanted: those of earlier versions.
    """

    target: ObjectStore
    beside: ObjectStore
    plan: PyramidPlan
    ledgers: tuple[Ledger, ...]
    earlier: tuple[PyramidPlan, ...] = ()

    @classmethod
    def load(
        cls, target: ObjectStore, beside: ObjectStore, plan: PyramidPlan | None = None
    ) -> StoredBuild:
        """Read the build's ledgers, and its plan unless the caller has read it already.

        This takes one request for the plan and one for each finished level; an unfinished
        level takes one for each segment of its ledger.

        Raises TargetNotFoundError where no plan is stored, and StoredDataError where the plan
        or a ledger cannot be read.
        """
        build = cls.begin(target, beside, read_plan(target, beside) if plan is None else plan)
        for_each(beside, Ledger.load, build.ledgers)
        return build

    @classmethod
    def begin(
        cls,
        target: ObjectStore,
        beside: ObjectStore,
        plan: PyramidPlan,
        earlier: tuple[PyramidPlan, ...] = (),
    ) -> StoredBuild:
        """A build that has just begun: its ledgers have no receipts, and nothing is read."""
        ledgers = (
            Ledger(beside, str(level.index), plan.digest, level.regions) for level in plan.levels
        )
        return cls(target, beside, plan, tuple(ledgers), earlier)

    @property
    def levels(self) -> tuple[tuple[LevelPlan, Ledger], ...]:
        """Each level with its ledger."""
        return tuple(zip(self.plan.levels, self.ledgers, strict=True))

    @property
    def complete(self) -> bool:
        """Whether the ledger of every level is complete."""
        return all(ledger.complete for ledger in self.ledgers)
