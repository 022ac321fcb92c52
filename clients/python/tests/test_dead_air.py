"""`bin/dead-air` on a small scale: it measures what it says, and writes only where it may."""

import os
import subprocess
import sys

import pytest

from tests.readme import FOLDER, table, write_between
from tests.rig import dead_air
from tests.rig.account import Account
from tests.rig.load import Lateness
from tests.rig.outages import FAULTS, LEAD_S, Cell, Seen, plan

CELL = Cell("503", "soniox")


def seen(dead_s: float, *, is_new: bool = False, lost: int = 0, early: bool = False) -> Seen:
    """A call with so much dead air."""
    return Seen(is_new, Account(dead_s, 50, 5 * lost, 0, 10, lost, early))


def test_a_cell_is_the_same_in_each_arm_and_half_of_it_begins_after_the_outage():
    for calls in (2, 5, 16):
        planned = plan(CELL, calls)

        assert planned[0].script.utterances == plan(CELL, calls)[0].script.utterances
        assert len(planned) == calls
        assert [one.is_new for one in planned].count(False) == calls // 2
        for one in planned:
            assert (one.begins_s > LEAD_S) is one.is_new
            assert one.begins_s + one.script.length_s - max(LEAD_S, one.begins_s) > 12.99


def test_the_table_has_a_row_for_each_cell_and_one_of_all():
    asked = dead_air.options().parse_args(["--faults", "503", "--primaries", "soniox"])
    found = {
        (CELL, "none"): [seen(12.0, lost=6), seen(8.0, lost=4)],
        (CELL, "framework"): [seen(10.0, lost=5), seen(5.0)],
        (CELL, "ours"): [seen(0.5), seen(1.5, is_new=True, lost=1, early=True)],
    }
    printed = dead_air.report(asked, found)

    assert (
        "| 503 and a reset | soniox | 10.00 s | 7.50 s | 1.00 s | 0.50 / 1.50 "
        "| 10 / 5 / 1 of 20 | 0 / 0 / 1 |"
    ) in printed
    assert "| **all** |  | **10.00 s** | **7.50 s** | **1.00 s** | **0.50 / 1.50** |" in printed
    assert "More than 2 s of dead air: 2 / 2 / 0 of 2 calls" in printed
    assert "Words lost: 50 / 25 / 5, heard twice: 0 / 0 / 0, of 100" in printed


@pytest.mark.parametrize("asked", [["--faults", "flood"], ["--arms", "theirs"]])
def test_what_it_does_not_know_it_refuses(asked, capsys):
    with pytest.raises(SystemExit):
        dead_air.options().parse_args(asked)

    assert asked[1] in capsys.readouterr().err


def test_a_table_goes_between_its_markers_and_nowhere_else(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n")
    text = table(["c"], [["d"]])

    assert write_between(page, "x", text)
    assert page.read_text() == ("a\n<!-- x: begin -->\n| c |\n| --- |\n| d |\n<!-- x: end -->\nb\n")
    before = page.read_text()
    assert not write_between(page, "y", text)
    assert page.read_text() == before


def test_the_client_has_all_of_each_framework_and_the_first_screen_one_line(
    monkeypatch, tmp_path, capsys
):
    own, root = tmp_path / "own.md", tmp_path / "root.md"
    marks = "".join(
        f"<!-- {mark}: begin --><!-- {mark}: end -->" for mark in dead_air.MARKS.values()
    )
    own.write_text(marks)
    root.write_text("<!-- dead-air: begin --><!-- dead-air: end -->")
    monkeypatch.setattr(dead_air, "OWN", own)
    monkeypatch.setattr(dead_air, "ROOT", root)
    printed = table(["outage", "ours"], [["a stall", "1.3 s"], ["**all**", "**0.4 s**"]])

    assert dead_air.write(dead_air.MARKS["pipecat"], printed) == 0
    assert dead_air.write(dead_air.MARKS["livekit"], "of livekit") == 0
    assert "| a stall | 1.3 s |" in own.read_text()
    assert "of livekit" in own.read_text()
    assert "| **all** | **0.4 s** |" in root.read_text()
    assert "a stall" not in root.read_text()
    root.write_text("nothing")
    assert dead_air.write(dead_air.MARKS["pipecat"], printed) == 1
    assert "root.md" in capsys.readouterr().err


def test_figures_of_a_starved_machine_are_not_written(monkeypatch, capsys):
    async def starved(_asked: object, _plane: object, lateness: Lateness) -> dead_air.Found:
        lateness.late_s = [0.3] * 100
        return {(CELL, "none"): [seen(1.0)]}

    monkeypatch.setenv("UPDATE_README", "1")
    monkeypatch.setattr(dead_air, "measure", starved)
    monkeypatch.setattr(dead_air, "write", lambda *_: pytest.fail("it was written"))

    assert dead_air.main(["--arms", "none", "--faults", "503", "--primaries", "soniox"]) == 1
    assert "STARVED" in capsys.readouterr().out


@pytest.mark.timeout(150)
def test_four_calls_through_an_outage_are_hardly_dead_with_the_client_and_are_without():
    asked = ["--calls", "4", "--faults", "503", "--primaries", "deepgram", "--arms", "none,ours"]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.rig.dead_air", *asked],
        cwd=FOLDER,
        env={**os.environ, "PYTHONPATH": "src", "UPDATE_README": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    line = next(line for line in ran.stdout.splitlines() if FAULTS["503"].title in line)
    none_s, ours_s = (float(cell.split()[0]) for cell in line.split("|")[3:5])

    assert ran.returncode == 0, ran.stderr[-2000:]
    assert none_s > 5
    assert ours_s < 1.5
    assert line.split("|")[7].split() == ["0", "/", "0"]
