"""configure.py: what it writes is what Ninja reads, wherever the checkout is and whatever the environment says."""
import os
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT
from lint import files_in_git

sys.path.insert(0, str(ROOT))
from build_rules import PROFILES, Ninja, as_path, as_word
from configure import remove_stale_programs


@pytest.mark.parametrize("path, spelled", [("a/b.c", "a/b.c"), ("a b", "a$ b"), ("c:/d", "c$:/d"), ("$x", "$$x")])
def test_a_path_is_escaped(path, spelled):
    assert as_path(path) == spelled


def test_a_word_of_a_command():
    assert as_word("/usr/bin/gcc") == "/usr/bin/gcc"
    assert as_word("/a b/$c") == "'/a b/$$c'"
    assert as_word(ROOT / "build/deps/node") == "build/deps/node"


def test_an_edge():
    ninja = Ninja()
    ninja.build("a b", "cc", ["c$"], implicit=["d"], order_only=["e:"], also=["f"], more="-x")
    assert ninja.lines == ["build a$ b | f: cc c$$ | d || e$:", "  more = -x"]


def test_what_an_earlier_configuration_built_goes(tmp_path):
    kept, stale = tmp_path / "build/release/tests/test_code", tmp_path / "build/release/tests/fake_cupti.so"
    kept.parent.mkdir(parents=True)
    kept.touch()
    stale.touch()
    remove_stale_programs("build build/release/tests/test_code: link_release a.o", tmp_path)
    assert kept.exists() and not stale.exists()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the sources, by what git knows of them, in a folder with a space and a dollar in its name."""
    top = tmp_path_factory.mktemp("configure") / "my $checkout: 1"
    for name in files_in_git(ROOT):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, top / name)
    (top / "build/deps/web").mkdir(parents=True)
    (top / "build/deps/web/node_modules").symlink_to(ROOT / "build/deps/web/node_modules")  # read, never built
    if (ROOT / "build/deps/node").exists():
        (top / "build/deps/node").symlink_to(ROOT / "build/deps/node")
    return top


def run(top, *argv, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in ("CPPFLAGS", "CFLAGS", "CXXFLAGS", "LDFLAGS")}
    done = subprocess.run(argv, cwd=top, env={**kept, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_checkout_with_a_space_builds(checkout):
    run(checkout, sys.executable, "configure.py", "--cuda=off", "--werror")
    run(checkout, "ninja", "build/release/obj/core/base/error.o", "build/release/tests/libcmocka.so.0")
    # What Ninja would run after npm, which fetches.
    bundle = run(checkout, "ninja", "-t", "commands", "build/gen/report_template.html").splitlines()[-1]
    run(checkout, "sh", "-c", bundle)
    assert (checkout / "build/gen/report_template.html").read_bytes() == (
        ROOT / "build/gen/report_template.html").read_bytes()
    assert "CC " not in run(checkout, "ninja", "build/release/obj/core/base/error.o")
    plan = run(checkout, "ninja", "-n", "all", *(f"build/{profile}/adamas" for profile in PROFILES))
    assert "LINK build/release/adamas" in plan and "LINK build/coverage/adamas" in plan
    commands = run(checkout, "ninja", "-t", "commands", "all")
    assert str(checkout) not in commands and "-Werror" in commands


def test_flags_of_the_environment_are_kept(checkout):
    run(checkout, sys.executable, "configure.py", "--cuda=off", CFLAGS='-O2 -DWORDS="\\"a $b\\""', CPPFLAGS="-DONE",
        LDFLAGS="-Wl,--as-needed")
    commands = run(checkout, "ninja", "-t", "commands", "build/release/adamas")
    assert '-DONE -O2 -DWORDS="\\"a $b\\"" -MMD' in commands and "-Wl,--as-needed -o build/release/adamas" in commands
    # Written again by Ninja itself, which has them no more in its environment.
    before = (checkout / "build.ninja").read_text()
    os.utime(checkout / "configure.py")
    run(checkout, "ninja", "build/gen/version.h")
    assert (checkout / "build.ninja").read_text() == before and "--as-needed" in before


def test_model_tests_are_asked_for_with_the_tests(checkout):
    done = subprocess.run([sys.executable, "configure.py", "--with-models"], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 2 and "--with-models: needs --setup test" in done.stderr
    done = subprocess.run([sys.executable, "tests/run.py", "--with-models"], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 2 and "run ./configure.py --setup test --with-models" in done.stderr
