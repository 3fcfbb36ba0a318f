"""FastestDet on real pictures, by the way they go in the daemon."""

from __future__ import annotations

from pathlib import Path

from tests.perceive.lend import Lender, look, open_card, read_picture
from tests.perceive.precision import average_precision


def test_it_finds_people_as_well_as_its_makers_say(data: Path) -> None:
    """The reference is 0.477 on 128 pictures, of which these are 64; plain numpy scaling has 0.450."""
    card, model = open_card("fastestdet", data, min_score=0.01)
    assert average_precision(card, model, data) > 0.42


def test_what_it_reports(data: Path) -> None:
    card, model = open_card("fastestdet", data)
    assert card.view
    seen = 0
    with Lender("cam", "video", (card.view,)) as lender:
        for path in sorted((data / "images/coco-val/images").glob("*.jpg"))[:12]:
            found = look(model, lender.picture(read_picture(path)))
            assert found is not None
            seen += len(found)
            assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
            for one in found:
                assert one.label in card.labels
                assert card.min_score <= one.score <= 1
                assert one.box
                x1, y1, x2, y2 = one.box
                assert 0 <= x1 < x2 <= 1
                assert 0 <= y1 < y2 <= 1
    assert seen > 12
