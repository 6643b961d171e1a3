"""The picture of the packages shows the imports of today."""

from __future__ import annotations

from pathlib import Path

from scripts.draw_house import PAGE, imports, page, picture, reduced


def test_the_picture_shows_the_imports() -> None:
    """If this fails run `make house`, and look at what changed."""
    text = PAGE.read_text("utf-8")
    assert page(text) == text, "docs/house.md does not show the imports: run make house"


def test_an_import_changes_the_picture(tmp_path: Path) -> None:
    """A new import of one package by another is a new arrow."""
    for package in ("model", "plan", "storage"):
        (tmp_path / "ngff_core" / package).mkdir(parents=True)
        (tmp_path / "ngff_core" / package / "__init__.py").write_text("", "utf-8")
    (tmp_path / "ngff_core" / "__init__.py").write_text(
        "from ngff_core.model import Image", "utf-8"
    )
    file = tmp_path / "ngff_core" / "plan" / "make.py"
    file.write_text("from ngff_core.storage import base", "utf-8")
    before = picture(imports(tmp_path))
    file.write_text(
        "from ngff_core.model import Image\nfrom ..storage import base\nimport numpy", "utf-8"
    )
    graph = imports(tmp_path)
    assert graph["ngff_core/plan"] == {"ngff_core/model", "ngff_core/storage"}
    assert picture(graph) != before


def test_an_arrow_that_a_longer_way_replaces_is_not_drawn() -> None:
    everything = {
        "flows": frozenset({"tasks", "ngff_core/plan"}),
        "tasks": frozenset({"ngff_core/plan"}),
        "ngff_core/plan": frozenset[str](),
    }
    assert reduced(everything) == {
        "flows": {"tasks"},
        "tasks": {"ngff_core/plan"},
        "ngff_core/plan": frozenset(),
    }
