"""plans.tsv: what `adamas counters plan` says for every chip that CUPTI 13.0 knows and every set, by CUPTI's own library.

    ./plans.tsv     set, chip, passes, metrics collected, metrics lacking, alternatives used (NAME=OTHER)

After a change to a set: `python3 tests/probes/test_plans.py PROGRAM > tests/probes/plans.tsv`, and read the difference.
"""
import json
import subprocess
import sys
from pathlib import Path

TABLE = Path(__file__).with_name("plans.tsv")
HEAD = "set\tchip\tpasses\tcollected\tlacking\talternatives"


def rows(name, document):
    """Lines of the table, of one set's `counters plan --chip all --json`."""
    for plan in document:
        if "reason" in plan:
            yield f"{name}\t{plan['chip']}\t-\t-\t-\t{plan['reason']}"
            continue
        lacking = ",".join(entry["name"] for entry in plan["lacking"])
        others = ",".join(f"{a}={b}" for a, b in plan["alternatives"].items())
        yield f"{name}\t{plan['chip']}\t{plan['passes']}\t{len(plan['collected'])}\t{lacking}\t{others}"


if __name__ == "__main__":
    print(HEAD)
    for each in sorted(path.stem for path in (Path(__file__).parents[2] / "probes/sets").glob("*.metrics")):
        command = [sys.argv[1], "counters", "plan", "--chip", "all", "--set", each, "--json"]
        print("\n".join(rows(each, json.loads(subprocess.run(command, check=True, capture_output=True).stdout))))
    sys.exit()

import pytest


def table():
    head, *lines = TABLE.read_text().splitlines()
    assert head == HEAD
    return lines


@pytest.mark.parametrize("name", sorted({line.split("\t")[0] for line in TABLE.read_text().splitlines()[1:]}))
def test_every_chip(adamas, name):
    result = adamas("counters", "plan", "--chip", "all", "--set", name, "--json")
    if result.code == 77:
        pytest.skip(result.err.strip())
    assert (result.code, result.err) == (0, "")
    document = json.loads(result.out)
    used = {plan["cupti_version"] // 100 for plan in document if "cupti_version" in plan}
    if used != {1300}:
        pytest.skip(f"the table is CUPTI 13.0's, and this is {used}: other releases know other chips and count other passes")
    assert list(rows(name, document)) == [line for line in table() if line.startswith(name + "\t")]
    for plan in document:
        for entry in plan.get("lacking", []):
            assert plan["chip"] in entry["reason"] and entry["name"] in entry["reason"]
        assert plan.get("passes", 1) <= plan.get("passes_in_own_order", 1)


def test_the_table_keeps_what_was_asked_of_it():
    """Passes of `full` on the chips people have, and no chip without the DRAM's bytes but integrated ones."""
    plans = {(line.split("\t")[0], line.split("\t")[1]): line.split("\t") for line in table()}
    assert {chip for name, chip in plans if name == "full"} >= {"GA100", "GH100", "AD102", "GB100", "GB202", "GB20B"}
    assert all(int(plans["full", chip][2]) <= 6 for chip in ("GA100", "GH100", "AD102", "GB100"))
    assert int(plans["full", "GB202"][2]) <= 7
    basic = {chip: plan for (name, chip), plan in plans.items() if name == "basic"}
    integrated = {chip for chip, plan in basic.items() if "dram__bytes_read.sum" in plan[4].split(",")}
    assert integrated == {"GA10B", "GB10B", "GB20B"}
    assert "dram__bytes_read.sum=dram__bytes_op_read.sum" in basic["GB202"][5]
