"""Plans that earlier versions made of the same arguments: what they began is continued.

A stored plan is never changed, and its digest neither. Where a default changes, the plan that it
gave before is listed here, and a build whose stored plan is one of these counts as the wanted
one. Only defaults are: another value of an option is another build.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ngff_core.plan.pyramid_plan import PyramidPlan


def earlier_plans(
    plan: PyramidPlan, same_arguments: Iterable[PyramidPlan], name: str
) -> tuple[PyramidPlan, ...]:
    """What earlier versions made of the arguments of ``plan``, without ``plan`` itself.

    Before levels were at numbers they were at ``scale0/NAME``, where NAME was the image's ``name``
    as it is given here; and y and x were halved one by one, which is one of the plans of the
    ``same_arguments``.
    """
    found = {}
    for each in same_arguments:
        levels = tuple(replace(level, path=f"scale{level.index}/{name}") for level in each.levels)
        made = replace(each, levels=levels, image=replace(each.image, name=name))
        found[made.digest] = made
    found.pop(plan.digest, None)
    return tuple(found.values())
