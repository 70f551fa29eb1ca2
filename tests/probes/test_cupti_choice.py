"""Which CUPTI is taken, and what is said of those that are not: stand-ins for libraries that do not answer, answer an error,
or would use another release's libnvperf_host.so (tests/support). What the real releases do is tests/probes/cupti_matrix.py's.
"""
import json
import os
import shutil
import sys
import time

import pytest

from conftest import PROGRAM, ROOT, refuse

sys.path.insert(0, str(ROOT))
import install_deps as deps

TESTS = PROGRAM.parent / "tests"
FAKE, SILENT, HOST, NO_GLOB = (TESTS / f"{name}.so" for name in ("fake_cupti", "silent_cupti", "fake_nvperf", "no_glob"))
LIBRARY = "libcupti.so.13"


@pytest.fixture
def toolkits(program, tmp_path):
    """toolkits(NAME, cupti, host=None) -> a folder NAME/lib64 of stand-ins."""
    if not FAKE.exists():
        pytest.skip("this build has no CUPTI headers, so there is no fake CUPTI either: configure it with a CUDA toolkit")
    if os.path.exists("/proc/driver/nvidia"):
        pytest.skip("this machine has a driver, and these tests are about a machine without")

    def make(name, cupti=None, host=None):
        folder = tmp_path / name / "lib64"
        folder.mkdir(parents=True)
        for source, target in ((cupti, LIBRARY), (host, "libnvperf_host.so")):
            if source:
                shutil.copy(source, folder / target)
        return folder
    return make


def environment(**changes):
    """Without what a developer's shell may name."""
    named = ("LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "ADAMAS_CUPTI")
    kept = {name: value for name, value in os.environ.items() if name not in named}
    return {**kept, "ADAMAS_CUPTI_SECONDS": "60", **{name: str(value) for name, value in changes.items()}}


PLAN = ["counters", "plan", "--chip", "FAKE100", "--set", "basic"]


def test_a_release_that_hangs_without_a_driver_is_not_asked(adamas, toolkits):
    folder = toolkits("cuda-13.2", SILENT)
    start = time.monotonic()
    refuse(adamas, *PLAN, code=77, env=environment(ADAMAS_CUPTI=folder / LIBRARY),
           says=[str(folder), "is CUPTI 13.2", "without an NVIDIA driver"])
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("command", [PLAN, ["doctor"], ["counters", "explain", "dram__bytes_read.sum"]])
def test_a_library_that_never_answers_is_given_up(adamas, toolkits, command):
    """With what looks like a driver it is asked, and sleeps."""
    folder = toolkits("cuda-13.2", SILENT)
    shutil.copy(FAKE, folder / "libcuda.so.1")
    env = environment(ADAMAS_CUPTI=folder / LIBRARY, LD_LIBRARY_PATH=folder, ADAMAS_CUPTI_SECONDS=1)
    result = adamas(*command, env=env)
    assert result.code == (77 if command is PLAN else 0)
    if command[0] != "counters" or command is PLAN:
        assert "gave no answer within 1 s in a process of its own" in result.out + result.err


def test_a_library_that_ends_its_process_ends_only_that(adamas, toolkits):
    folder = toolkits("cuda-13.9", FAKE)
    refuse(adamas, *PLAN, code=77, env=environment(ADAMAS_CUPTI=folder / LIBRARY, ADAMAS_FAKE_CUPTI_ABORT="1"),
           says=[str(folder), "ended the process that asked it, by signal 6"])


@pytest.mark.parametrize("function, says", [("cuptiGetVersion", "does not answer without an NVIDIA driver"),
                                            ("cuptiProfilerHostGetSupportedChips", "is libnvperf_host.so beside it?")])
def test_an_error_is_not_a_version(adamas, toolkits, function, says):
    """Seen of 13.3 to 13.5: 999, for which the program said `is CUPTI 0; 13.0 or newer is needed`."""
    folder = toolkits("cuda-13.5", FAKE)
    said = refuse(adamas, *PLAN, code=77, env=environment(ADAMAS_CUPTI=folder / LIBRARY, ADAMAS_FAKE_CUPTI=f"{function}:999"),
                  says=[str(folder), says])
    assert "CUPTI 0" not in said


def test_the_next_one_that_answers_is_used_and_named(adamas, toolkits):
    silent, good = toolkits("cuda-13.2", SILENT), toolkits("cuda-13.0", FAKE)
    env = environment(LD_LIBRARY_PATH=silent, CUDA_HOME=good.parent)
    result = adamas("counters", "plan", "--chip", "GH100", "--set", "basic", "--json", env=env)
    assert (result.code, result.err) == (0, "")
    document = json.loads(result.out)
    for part in (str(silent), "is CUPTI 13.2", "does not answer without", f"used instead: CUPTI 13.0, {document['cupti']}"):
        assert part in document["note"]
    text = adamas("counters", "plan", "--chip", "GH100", "--set", "basic", env=env).out
    assert text.splitlines()[-1] == "note: " + document["note"]
    assert document["note"] in adamas("doctor", env=env).out


def test_where_none_answers_the_cure_is_a_release_that_does(adamas, toolkits):
    """The only CUPTI is one that does not answer; the release that the sentence names is the one that is pinned."""
    silent = toolkits("cuda-13.2", SILENT)
    env = environment(LD_LIBRARY_PATH=silent, LD_PRELOAD=NO_GLOB)
    (pin, _), = deps.pins("cupti")
    cure = f"no other CUPTI was found: `./configure.py --setup` or `pip install {pin}` brings one that answers"
    refuse(adamas, *PLAN, code=77, env=env, says=[str(silent), "is CUPTI 13.2", "does not answer without", cure])
    doctor = adamas("doctor", env=env)
    assert doctor.code == 0 and "lacks CUPTI" in doctor.out and cure in doctor.out


# ---- libnvperf_host.so ----

def test_another_releases_host_library_on_the_path_is_passed_by(adamas, toolkits):
    """As PyTorch's images for CUDA 12 have it: 31 metrics of GB202 were planned instead of 29."""
    own, old = toolkits("cuda-13", FAKE, HOST), toolkits("cu12", None, HOST)
    result = adamas(*PLAN, env=environment(ADAMAS_CUPTI=own / LIBRARY, LD_LIBRARY_PATH=old, ADAMAS_FAKE_CUPTI_HOST="1"))
    assert result.code == 0 and "note:" not in result.out


@pytest.mark.parametrize("beside", [True, False])
def test_another_releases_host_library_is_named(adamas, toolkits, beside):
    """beside: in CUPTI's own folder; else CUPTI has none, and the loader gives it that one."""
    folder = toolkits("cu12-mixed", FAKE, HOST) if beside else toolkits("cuda-13", FAKE)
    old = folder if beside else toolkits("cu12", None, HOST)
    env = environment(ADAMAS_CUPTI=folder / LIBRARY, LD_LIBRARY_PATH=old, ADAMAS_FAKE_CUPTI_HOST="1")
    refuse(adamas, *PLAN, code=77, env=env, says=[str(old / "libnvperf_host.so"), "release 2024.5 and not its own 2025.4"])
