"""A short run of the campaigns that `tests/fuzz` keeps as programs: faults of memory and disk, media that cannot be written,
kill -9."""
import os
import subprocess
import sys

import pytest

from conftest import PROGRAM, ROOT, query

sys.path.insert(0, str(ROOT / "tests/fuzz"))
import fault_campaign
import kill_campaign
import signal_campaign


@pytest.fixture(scope="module")
def faults(program):
    if os.environ.get("ASAN_OPTIONS"):
        pytest.skip("AddressSanitizer has an allocator of its own, and none can be put before it")
    library = ROOT / "build/release/tests/faults.so"
    if not library.exists():
        pytest.fail(f"{library} is not there: build it with ninja")
    return library


@pytest.fixture(scope="module")
def campaign(faults, tmp_path_factory):
    return fault_campaign.Campaign(PROGRAM, faults, tmp_path_factory.mktemp("faults"), most=3)


@pytest.mark.parametrize("name", ["trace info", "db import", "db create"])
def test_a_fault_of_memory_or_disk_is_told_as_one(campaign, name):
    campaign.wrong.clear()
    for kind in ("alloc", "write", "read"):
        for lasts in (False, True):
            campaign.inject(name, kind, lasts)
    campaign.fill(name)
    assert campaign.wrong == []


@pytest.mark.parametrize("name", ["trace gen", "trace info", "trace verify", "trace import .gz"])
def test_an_allocation_that_fails_is_told_of_on_every_call_path(campaign, name):
    campaign.wrong.clear()
    numbers, n_allocs = campaign.paths(name)
    assert 20 < len(numbers) < n_allocs
    whole = campaign.whole(name)
    assert sum(campaign.one(name, "alloc", False, n, whole) for n in numbers) == len(numbers)
    assert campaign.wrong == []


def test_memory_that_runs_out_in_a_candidates_process_is_no_verdict(campaign):
    """Of our own memory there: the candidate is not wrong, it was not judged. Some of its first call paths."""
    campaign.wrong.clear()
    numbers, _ = campaign.paths("tune --gpu")
    whole, words = campaign.whole("tune --gpu"), []
    for n in [n for n in numbers if n < 200][::10]:  # later ones are the database's
        environment = {"LD_PRELOAD": str(campaign.faults), "ADAMAS_FAULT": "alloc", "ADAMAS_FAULT_AT": str(n)}
        result = campaign.run(fault_campaign.COMMANDS["tune --gpu"], environment)
        campaign.judge("tune --gpu", f"alloc {n}", whole, result)
        assert "WRONG" not in result[1], (n, result)
        if "invalid" in result[1] and "out of memory" in result[1]:
            words.append(result[0])
    assert campaign.wrong == []
    assert words and set(words) == {4}, "no fault came where the candidate is checked"


def test_memory_that_runs_out_as_a_candidate_is_loaded_is_no_verdict(campaign):
    """The dynamic linker says then that there is no such file."""
    campaign.wrong.clear()
    numbers, _ = campaign.paths("tune mine.so")
    whole, early = campaign.whole("tune mine.so"), [n for n in numbers if n < 60]
    for n in early:
        campaign.one("tune mine.so", "alloc", False, n, whole)
    assert len(early) > 20 and campaign.wrong == []


def test_a_merge_lets_go_of_a_file_also_when_memory_runs_out(campaign, faults):
    """Of two files, since the first would be in the way of the second. What both need is allocated on one path for each."""
    words = ["db", "merge", "other.db", "g.db", "--db", "x.db", "-q"]
    file, at = campaign.at.parent / "paths", {}
    campaign.run(words, {"LD_PRELOAD": str(faults), "ADAMAS_FAULT_PATHS": str(file)})
    raw = file.read_bytes()
    for n in range(len(raw) // 8):
        at.setdefault(raw[8 * n:8 * n + 8], []).append(n + 1)
    last = sorted((numbers for numbers in at.values() if len(numbers) == 2), key=max)[-20:]  # at the end of either file
    for n, _ in last:
        code, _, err, hit = campaign.run(words, {"LD_PRELOAD": str(faults), "ADAMAS_FAULT": "alloc", "ADAMAS_FAULT_AT": str(n)})
        assert hit and code in (0, 4) and "in use" not in err, (n, code, err)
    assert len(last) == 20


@pytest.mark.parametrize("name", [name for name in fault_campaign.COMMANDS if name != "check"])  # which takes seconds
def test_every_command_tells_of_early_and_late_faults(campaign, name):
    campaign.wrong.clear()
    campaign.some(name, {("alloc", False): [1, 7, 60, 700, 9000], ("alloc", True): [5, 300], ("write", False): [1, 4],
                         ("write", True): [2], ("read", False): [1, 3, 6], ("read", True): [9]})
    assert campaign.wrong == []


@pytest.mark.parametrize("name", fault_campaign.COMMANDS)
def test_output_on_a_full_device_is_told_of(campaign, name):
    code, out, err, _ = campaign.run(fault_campaign.COMMANDS[name])
    with open("/dev/full", "w") as full:
        to_full = campaign.run(fault_campaign.COMMANDS[name], out=full)
    if out:
        assert to_full[0] == 4 and "could not be written" in to_full[2], to_full
    else:
        assert to_full[0] == code, (err, to_full)


def test_media_that_cannot_be_written_are_told_of(program):
    names = ["replay", "report", "history", "db import", "db gc"]
    result = subprocess.run([sys.executable, ROOT / "tests/fuzz/medium_campaign.py", PROGRAM,
                             *(word for name in names for word in ("--only", name))], capture_output=True, text=True)
    if result.returncode == 77:
        pytest.skip(result.stderr.strip())
    assert result.returncode == 0, result.stdout + result.stderr
    assert all(f"{name} " in result.stdout for name in names)


def test_a_prune_that_cannot_shrink_the_file_says_what_it_removed(campaign, faults):
    for n in range(1, 400, 6):
        environment = {"LD_PRELOAD": str(faults), "ADAMAS_FAULT": "write", "ADAMAS_FAULT_AT": str(n), "ADAMAS_FAULT_LASTS": "1"}
        code, _, err, hit = campaign.run(fault_campaign.COMMANDS["db gc"], environment)
        if "removed are 1 runs" in err:
            assert code == 4 and "shrinking it" in err and query(campaign.at / "x.db", "SELECT count(*) FROM run") == [(1,)]
            return
        assert hit, "no write of the prune was one of its shrinking"
    pytest.fail("no fault came after the prune and before its end")


def test_every_fuzzer_has_a_corpus_and_a_short_run():
    from configure import FUZZERS
    short, long = ((ROOT / "tests/fuzz" / name).read_text() for name in ("test_fuzz.c", "run_fuzz.sh"))
    for name in FUZZERS:
        assert any((ROOT / "tests/fuzz/corpus" / name).iterdir()), name
        assert f'fuzz_all("{name}", fuzz_{name}' in short, name
    assert f"readers=${{*:-{' '.join(FUZZERS)}}}" in long
    assert {path.stem.removeprefix("fuzz_") for path in (ROOT / "tests/fuzz").glob("fuzz_*.c")} - {"options"} == set(FUZZERS)


def test_the_faults_are_met(campaign, faults):
    """A library that injects nothing would find nothing."""
    environment = {"LD_PRELOAD": str(faults), "ADAMAS_FAULT": "alloc", "ADAMAS_FAULT_AT": "3"}
    code, out, err, hit = campaign.run(fault_campaign.COMMANDS["trace info"], environment)
    assert hit and code == 4 and "memory" in err, (code, out, err)


@pytest.mark.parametrize("name", ["doctor", "check of copies", "compare --junit", "db export", "db gc"])
def test_a_signal_at_any_moment_leaves_nothing(program, tmp_path, name):
    campaign = signal_campaign.Campaign(PROGRAM, tmp_path, seed=int(os.environ.get("ADAMAS_TEST_SEED", "1")))
    campaign.all_of(name, 4)
    assert campaign.wrong == []


def test_kill_9_leaves_whole_files(program, tmp_path):
    assert kill_campaign.Campaign(PROGRAM, tmp_path, seed=int(os.environ.get("ADAMAS_TEST_SEED", "1"))).go(14) == []
