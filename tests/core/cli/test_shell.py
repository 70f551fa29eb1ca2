"""What a shell meets beyond the command itself: mistyped commands, sizes as people type them, installed files, man pages and
completions.
"""
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from conftest import BUNDLED, PROGRAM, ROOT

INSTALL = ROOT / "core/cli/install/install.py"

# What was typed, and what the answer must hold: the word that was typed, and the limit or the nearest right thing.
TYPED = [
    ("repaly T", "'repaly'", "'replay'"), ("--replay", "'--replay'", "'replay'"), ("Replay T", "'Replay'", "'replay'"),
    ("trace verfiy T", "'verfiy'", "'verify'"), ("trace nothing", "'nothing'", "adamas trace --help"),
    ("db mrege x", "'mrege'", "'merge'"), ("db exprot", "'exprot'", "'export'"), ("help repaly", "'repaly'", "'replay'"),
    ("help db mrege", "'mrege'", "'merge'"), ("counters lsit", "'lsit'", "'list'"), ("counters list x", "'x'", "only explain"),
    ("counters explain", "name metrics", "counters list"), ("replay", "no trace given", "--help"),
    ("replay nofile.safetensors", "nofile.safetensors", "No such file"), ("replay .", ".: is a directory", "regular file"),
    ("replay --bugdets 64 T", "'--bugdets'", "'--budgets'"),
    ("replay --budget=64 --polcies dense T", "'--polcies'", "'--policies'"), ("replay --budgets T", "no trace given", "--help"),
    ("replay -b 64 --budgets 128 T", "--budgets", "given twice"),
    ("replay --budgets 8KB T", "--budgets: '8KB'", "1 to 16777216"), ("replay --budgets 8..64 T", "'8..64'", "1 to 16777216"),
    ("replay --budgets 64-1024:2 T", "'64-1024:2'", "1 to 16777216"),
    ("replay --budgets 1K-64 T", "'1K-64'", "ends before it begins"), ("replay --budgets 0 T", "--budgets: 0", "1 to 16777216"),
    ("replay --budgets 64;128 T", "'64;128'", "1 to 16777216"), ("replay --budgets 1.3K T", "'1.3K'", "1 to 16777216"),
    ("replay --budgets 1-1M T", "'1-1M'", "more than 65536"), ("replay --seq-lens 9K T", "9216", "1024-1087"),
    ("replay --layers 99 T", "layer 99", "trace info"), ("replay --policies adamas:metrik=l1 T", "'metrik'", "metric"),
    ("replay --policies adamas:metric=l3 T", "'l3'", "l1, xor, l2"), ("replay --policies adamas:bits=4 T", "'4'", "1, 2 or 3"),
    ("replay --select foo T", "--select: 'foo'", "head or group"), ("replay --counters foo T", "--counters: 'foo'", "host"),
    ("replay --thresholds calibratd T", "--thresholds: thresholds 'calibratd'", "calibrated"),
    ("replay --thresholds fixed:3,2,1 T", "'fixed:3,2,1'", "ascend"), ("replay --target mass T", "--target: 'mass'", "mass=X"),
    ("replay --target mass=2 T", "'mass=2'", "at most 1"), ("replay --eps -1 T", "--eps: '-1'", "at least 0"),
    ("replay --threads 0 T", "--threads: 0", "1 to 1024"), ("replay --threads lots T", "--threads: 'lots'", "1 to 1024"),
    ("replay --seed 1.5 T", "--seed: '1.5'", "whole number"),
    ("replay --dense-layers all T", "--dense-layers: 'all'", "0 to 65535"), ("replay --quiet=yes T", "--quiet", "--help"),
    ("replay -z T", "'-z'", "--help"), ("replay --db /nonexistent/x.db T", "/nonexistent/x.db", "no folder /nonexistent"),
    ("profile --dtype f61", "--dtype: 'f61'", "'f16'"), ("profile --head-dim 96 --dry-run", "96", "64, 128 or 256"),
    ("profile --stages topK --dry-run", "--stages: 'topK'", "'topk'"),
    ("profile --cache hot --dry-run", "--cache: 'hot'", "cold, warm"),
    ("profile --launch grpah --dry-run", "--launch: 'grpah'", "'graph'"),
    ("profile --kv-heads 7 --dry-run", "7 KV heads", "divide"),
    ("profile --counters ful --dry-run", "--counters: there is no metric set 'ful'", "basic, memory, full, mix"),
    ("profile --gpus 9x", "--gpus: '9x'", "0 to 15"), ("profile --gpus 99", "--gpus: 99", "0 to 15"),
    ("profile --seq-lens 2M --dry-run", "--seq-lens: 2M", "1 to 1048576"), ("profile extra", "'extra'", "no argument"),
    ("report --ouput x.html", "'--ouput'", "'--output'"), ("report --db nofile.db", "nofile.db", "adamas replay"),
    ("report extra", "'extra'", "--db FILE"), ("compare 1", "compare", "two sets of runs"),
    ("compare 1 2 3", "'3'", "two sets"), ("check replay T", "'replay'", "after"), ("history ack", "ack", "ID"),
    ("db gc", "what to keep", "--keep N"), ("db gc --keep many", "--keep: 'many'", "whole number"),
    ("trace gen", "-o FILE", "missing"), ("trace gen -o x --tokens 10", "--tokens: 10", "256 to"),
    ("trace info T --dbb x", "'--dbb'", "--help"), ("doctor --josn", "'--josn'", "'--json'"),
    ("words verbs", "'verbs'", "policies, stages"), ("replay --policies adamsa T", "--policies: 'adamsa'", "'adamas'"),
    ("replay --policies quests,dense T", "--policies: 'quests'", "'quest'"),
    ("replay --policies adamas:thresholds=fixd:1,2,3 T", "--policies: thresholds 'fixd:1", "calibrated"),
    ("counters list --set ful", "--set: ", "'ful'"), ("profile --thresholds foo --dry-run", "--thresholds", "--trace"),
    ("tune", "--stage is needed", "--help"), ("tune --stage topK", "--stage: 'topK'", "'topk'"),
    ("tune --stgae topk", "'--stgae'", "'--stage'"), ("tune --stage topk nofile.c", "nofile.c", "No such file"),
    ("tune --stage topk --cap-ms lots", "--cap-ms: 'lots'", "1 to 60000"),
    ("tune --stage topk --set x", "--set: 'x'", "NAME=NUMBER"),
    ("decode --model llama-3.1-8bb", "'llama-3.1-8bb'", "did you mean 'llama-3.1-8b'"),
    ("decode --model smollm2-135m --budgets 8KB", "--budgets: '8KB'", "0 to 1048576"), ("decode", "--model NAME", "--help"),
    ("simulate --mdoel x", "'--mdoel'", "'--model'"), ("simulate --generate poison --model llama-3.1-8b", "'poison'", "rate="),
    ("simulate --requests nofile.json --model llama-3.1-8b", "nofile.json", "No such file"),
    ("calibrate", "no trace given", "--help"), ("calibrate --metrics asym5 T", "--metrics: 'asym5'", "'asym4'"),
    ("explain --stage topK", "--stage: 'topK'", "'topk'"), ("explain --stgae topk", "'--stgae'", "'--stage'"),
    ("kernel headr", "'headr'", "'header'"), ("kernel resources extra", "'extra'", "no argument"),
    ("db merge", "adamas.db does not exist", "name the databases"), ("db merge nofile.db", "nofile.db", "adamas replay"),
    ("db export --run 1 --timeline 1", "--run and --timeline", "give one"),
    ("profile --metric l3 --dry-run", "--metric: 'l3'", "'l1'"),
    ("profile --shard 3/2 --dry-run", "--shard: '3/2'", "1 <= i <= n"),
    ("replay --shard x T", "--shard: 'x'", "3/16"), ("profile --ranks 3x", "--ranks: '3x'", "1 to 16"),
    ("replay --implementation nothing T", "'nothing'", "avx2"),
    ("replay --implementation topk=avx22 T", "--implementation: topk: 'avx22'", "did you mean 'avx2'?"),
    ("replay --implementation topkk=avx2 T", "--implementation: 'topkk'", "did you mean 'topk'?"),
    ("replay --policies adamas:metrc=l1 T", "no setting 'metrc'", "did you mean 'metric'?"),
    ("replay --policies adamas:metric=asym T", "'asym' is no value of metric", "did you mean 'asym4'?"),
    ("replay --policies adamas:select=grup T", "'grup' is no value of select", "did you mean 'group'?"),
    ("replay --policies adamas:thresholds=calibratd T", "thresholds 'calibratd'", "did you mean 'calibrated'?"),
    ("replay --target mas=0.9 T", "--target: 'mas=0.9'", "did you mean 'mass'?"),
    ("replay --only-times tpk@1024 T", "--only-times: 'tpk@1024'", "did you mean 'topk'?"),
    ("replay --candidate tpk=a.c T", "--candidate: 'tpk'", "did you mean 'topk'?"),
    ("replay --counters hots T", "--counters: 'hots'", "did you mean 'host'?"),
    ("tune --stage topk --implementation referense", "--implementation: ", "did you mean 'reference'?"),
    ("tune --stage topk --counters ful", "--counters: ", "did you mean 'full'?"),
    ("profile --timestamps softwar --timeline --dry-run", "--timestamps: 'softwar'", "did you mean 'software'?"),
    ("history --series pased", "--series: 'pased'", "did you mean 'passed'?"),
    ("kernel sass nofile", "nofile", "No such file"), ("kernel sass .", ".: ", "is not a regular file"),
    ("kernel sass --stage tokp", "--stage: 'tokp'", "did you mean 'topk'?"),
    ("check -- repaly T", "'repaly'", "did you mean 'replay'?"), ("words policis", "'policis'", "did you mean 'policies'?"),
    ("simulate --model llama-3.1-8b --generate rate=1,duration=1,input_tokens=9,output_tokens=9,pattern=poison", "'poison'",
     "did you mean 'poisson'?"),
    ("profile --trace T --thresholds foo --dry-run", "--thresholds: thresholds 'foo'", "calibrated"),
]


@pytest.mark.parametrize("typed, names, says", TYPED, ids=[typed for typed, _, _ in TYPED])
def test_a_mistyped_command_is_answered(adamas, tmp_path, typed, names, says):
    result = adamas(*[str(BUNDLED) if word == "T" else word for word in typed.split()])
    assert (result.code, result.out) == (2, "") and result.err.startswith("adamas"), result
    assert names in result.err and says in result.err, result.err
    assert list(tmp_path.iterdir()) == [], "it left something behind"


def test_the_words_are_written_in_one_place():
    sources = [path for room in ("core", "kernels", "probes", "traces", "analysis")
               for path in sorted((ROOT / room).rglob("*")) if path.suffix in (".c", ".cu", ".cuh")]
    found = [path.name for path in sources if "did you mean" in path.read_text()]
    assert found == ["suggest.c"]


def test_a_metric_of_no_set_is_answered_with_the_nearest(adamas):
    result = adamas("counters", "explain", "dram__bytesread")
    assert result.code in (2, 77) and "did you mean 'dram__bytes_read.sum'?" in result.err, result


def test_sixty_commands_are_tried():
    assert len(TYPED) >= 60 and len({typed for typed, _, _ in TYPED}) == len(TYPED)


def test_the_program_alone_says_what_to_try(adamas):
    result = adamas()
    assert (result.code, result.out) == (2, "")
    assert all(f"  adamas {command}" in result.err for command in ("doctor", "replay", "profile"))


@pytest.mark.parametrize("command", [["replay"], ["trace"], ["trace", "gen"], ["db", "merge"], ["doctor"]], ids=" ".join)
def test_every_way_to_ask_for_help(adamas, command):
    whole = adamas(*command, "--help")
    assert whole.code == 0 and whole.out.startswith("Usage: adamas " + " ".join(command))
    assert adamas(*command, "-h") == adamas(*command, "-?") == adamas("help", *command) == whole


def test_sizes_as_people_type_them(adamas):
    def lengths(*arguments):
        plan = adamas("profile", "--dry-run", "--heads", "8", "--kv-heads", "8", "--budgets", "64", *arguments)
        assert plan.code == 0, plan.err
        return sorted({int(found) for found in re.findall(r"F16, (\d+) tokens", plan.out)})
    assert lengths("--seq-lens", "8K-32K:x2") == [8192, 16384, 32768]
    assert lengths("--seq-lens", "1e3,0.5K,512-1024:+256") == [512, 768, 1000, 1024]


# ---- what is installed -----------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that `install` wrote to, as PREFIX."""
    folder = tmp_path_factory.mktemp("installed")
    run_install("install", folder)
    return folder / "prefix"


def run_install(what, folder):
    environment = {**os.environ, "DESTDIR": str(folder), "PREFIX": "/prefix"}
    done = subprocess.run([sys.executable, INSTALL, what, PROGRAM.parent, "1.2.3"], cwd=ROOT, env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs(tool):
    return shutil.which(tool) or pytest.skip(f"no {tool} on this machine")


def test_install_and_uninstall(tmp_path):
    run_install("install", tmp_path)
    assert subprocess.run([tmp_path / "prefix/bin/adamas", "--version"], capture_output=True).returncode == 0
    listed = (tmp_path / "prefix/share/adamas/installed").read_text().split()
    there = sorted(str(path.relative_to(tmp_path / "prefix")) for path in tmp_path.rglob("*") if path.is_file())
    assert there == sorted(listed) and len(listed) > 20
    run_install("install", tmp_path)  # over itself
    mine = tmp_path / "prefix/share/adamas/sets/mine.metrics"
    mine.write_text("")
    run_install("uninstall", tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_a_program_is_built_from_what_is_installed(installed, tmp_path):
    source = tmp_path / "use.c"
    source.write_text('#include <adamas.h>\n#include <stdio.h>\n'
                      'int main(void) { printf("%d %d\\n", adm_sparse_looks_back("h2o"), adm_sparse_looks_back("quest")); }\n')
    flags = [f"-I{installed}/include", f"-L{installed}/lib", "-ladamas"]
    if shutil.which("pkg-config"):
        environment = {**os.environ, "PKG_CONFIG_PATH": str(installed / "lib/pkgconfig")}
        asked = subprocess.run(["pkg-config", "--cflags", "--libs", "adamas"], env=environment, capture_output=True, text=True)
        assert asked.returncode == 0, asked.stderr
        flags = asked.stdout.split()
        assert [os.path.normpath(flag) for flag in flags] == [f"-I{installed}/include", f"-L{installed}/lib", "-ladamas"]
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run([*compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", source, "-o", tmp_path / "use", *flags], check=True)
    ran = subprocess.run([tmp_path / "use"], env={"LD_LIBRARY_PATH": str(installed / "lib")}, capture_output=True, text=True)
    assert ran.stdout == "1 0\n", ran.stderr


def test_man_pages_cover_every_option(installed):
    pages = {path.name for path in (installed / "share/man/man1").iterdir()}
    assert {"adamas.1", "adamas-replay.1", "adamas-trace-gen.1", "adamas-db-merge.1"} <= pages
    page = (installed / "share/man/man1/adamas-replay.1").read_text().replace("\\-", "-")
    listed = subprocess.run([PROGRAM, "replay", "--list-options"], capture_output=True, text=True, check=True).stdout
    options = [line.split("\t")[1] for line in listed.splitlines() if line.startswith("option")]
    assert len(options) > 20 and all(f"\\fB{option}\\fR" in page for option in options)


def test_man_pages_are_sound(installed):
    groff = needs("groff")
    for page in sorted((installed / "share/man/man1").iterdir()):
        checked = subprocess.run([groff, "-man", "-ww", "-z", "-Tutf8", page], capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, ""), page


COMPLETIONS = [("adamas repl", "replay"), ("adamas trace ver", "verify"), ("adamas db imp", "import"),
               ("adamas replay --pol", "--policies"), ("adamas replay --policies que", "quest"),
               ("adamas profile --stages dist", "distance"), ("adamas profile --dtype bf", "bf16"),
               ("adamas counters exp", "explain"), ("adamas report --db one", "one.db"), ("adamas replay one", "one.db"),
               ("adamas profile --counters mem", "memory"), ("adamas history --metric time_", "time_ns")]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    subprocess.run([PROGRAM, "replay", BUNDLED, "--budgets", "64", "--seq-lens", "1024", "--quiet"], cwd=folder, check=True)
    (folder / "one.db").write_text("")
    return folder


@pytest.fixture(scope="module")
def complete_in(installed, database):
    def complete(*command):
        path = f"{installed}/bin:{os.environ['PATH']}"
        done = subprocess.run(command, cwd=database, env={**os.environ, "PATH": path}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n")[:-1]
    return complete


@pytest.mark.parametrize("line, word", [*COMPLETIONS, ("adamas replay --policies dense,que", "dense,quest")])
def test_bash_completes(installed, complete_in, line, word):
    script = f"""source {installed}/share/bash-completion/completions/adamas
        COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _adamas; printf '%s\\n' "${{COMPREPLY[@]}}" """
    assert complete_in(needs("bash"), "--norc", "-c", script) == [word]


@pytest.mark.parametrize("line, word", COMPLETIONS)
def test_fish_completes(installed, complete_in, line, word):
    script = f"source {installed}/share/fish/vendor_completions.d/adamas.fish; complete -C {json.dumps(line)}"
    assert [found.split("\t")[0] for found in complete_in(needs("fish"), "--no-config", "-c", script)] == [word]


@pytest.mark.parametrize("line, word", COMPLETIONS)
def test_zsh_completes(installed, complete_in, line, word):
    """zsh completes in a terminal alone: one of its own, in which the line is typed and the tabulator pressed."""
    script = f"""zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell 'fpath=({installed}/share/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u -D'
        zpty -w shell 'PS1=; finish() {{ print -r -- "<$BUFFER>"; exit }}; zle -N finish; bindkey "^X" finish; print ready'
        zpty -r shell line '*ready*ready*'
        zpty -n -w shell {json.dumps(line)}$'\\t\\x18'
        zpty -r shell line '*<adamas*>*'
        print -r -- $line"""
    out = "".join(complete_in(needs("zsh"), "-f", "-c", script))
    found = re.findall(r"<(adamas [^>]*)>", out)
    assert found and found[-1].split()[-1].rstrip("=") == word, out


def packed(kind):
    made = subprocess.run([sys.executable, INSTALL, kind, PROGRAM.parent, "1.2.3"], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return ROOT / made.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="dpkg wants root, and this is another user")
def test_a_debian_package_is_installed_and_removed(tmp_path):
    needs("dpkg-deb")
    package = packed("deb")
    root = tmp_path / "root"
    (root / "var/lib/dpkg/updates").mkdir(parents=True)
    (root / "var/lib/dpkg/info").mkdir()
    (root / "var/lib/dpkg/status").touch()
    dpkg = ["dpkg", f"--root={root}", "--force-depends", "--force-script-chrootless", f"--log={tmp_path}/log"]
    subprocess.run([*dpkg, "--install", package], check=True, capture_output=True)
    assert subprocess.run([root / "usr/bin/adamas", "--version"], capture_output=True).returncode == 0
    assert (root / "usr/share/man/man1/adamas.1.gz").exists()
    subprocess.run([*dpkg, "--purge", "adamas"], check=True, capture_output=True)
    assert not (root / "usr/bin/adamas").exists()
    package.unlink()


def test_a_tarball_runs_where_it_is_unpacked(tmp_path):
    archive = packed("tarball")
    subprocess.run(["tar", "xf", archive, "-C", tmp_path], check=True)
    program = next(tmp_path.glob("adamas-1.2.3-*/bin/adamas"))
    assert subprocess.run([program, "doctor", "--quiet"], capture_output=True, cwd=tmp_path).returncode == 0
    needed = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    assert not re.search("sqlite|jansson|xxhash|cuda", needed), needed
    archive.unlink()
