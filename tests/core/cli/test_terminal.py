"""What a terminal, a pipe and a log meet: progress, width, documents on standard output, readers that go away, interrupts."""
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time

import pytest

from conftest import BUNDLED, PROGRAM

REPLAY = [PROGRAM, "replay", BUNDLED, "--budgets", "64", "--policies", "adamas"]


def on_terminal(command, folder, columns=100, **environment):
    """(exit code, everything that the terminal was sent)."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    child = subprocess.Popen(list(map(str, command)), cwd=folder, stdin=slave, stdout=slave, stderr=slave,
                             env={**os.environ, **environment}, start_new_session=True)
    os.close(slave)
    sent = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while chunk := os.read(master, 65536):
            sent += chunk
    os.close(master)
    return child.wait(60), sent.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}], ids=["plain", "NO_COLOR"])
def test_progress_says_what_and_how_far_and_leaves_nothing(tmp_path, environment):
    code, sent = on_terminal([*REPLAY, "--threads", "1"], tmp_path, **environment)
    drawn = re.findall(rf"\r\x1b\[K{re.escape(BUNDLED.name)} +(\d+)%(?:, (\d+ s|\d+ min) left)?", sent)
    shares = [int(share) for share, _ in drawn]
    assert code == 0 and len(shares) >= 2 and shares == sorted(shares) and shares[-1] <= 100
    assert "\x1b[3" not in sent and "\x1b[1m" not in sent, "there is no colour in it"
    visible = [line.rsplit("\r\x1b[K", 1)[-1] for line in sent.split("\n")]
    assert not any(re.search(r"\d+%(, .* left)?$", line) for line in visible), "the line is wiped at the end"


DRAWN = r"\r\x1b\[K{} +(\d+)%"

@pytest.mark.parametrize("command, what", [
    ("report --db {db} -o r.html", ["report"]), ("db merge {folder} --db new.db", ["merging"]),
    ("tune --stage bucket --db n.db --cap-ms 300", ["judging on the host"])])
def test_other_commands_say_how_far_they_are(database, tmp_path, command, what):
    words = command.format(db=database, folder=database.parent).split()
    code, sent = on_terminal([PROGRAM, *words], tmp_path)
    for name in what:
        shares = [int(share) for share in re.findall(DRAWN.format(re.escape(name)), sent)]
        assert code == 0 and len(shares) >= 2 and shares == sorted(shares) and shares[-1] <= 100, sent
    visible = [line.rsplit("\r\x1b[K", 1)[-1] for line in sent.split("\n")]
    left = [line for name in what for line in visible if re.search(rf"{re.escape(name)} +\d+%", line)]
    assert left == [], "the line is wiped at the end"
    code, sent = on_terminal([PROGRAM, *words, "--quiet"], tmp_path)
    assert code == 0 and "%" not in sent


def test_no_progress_when_quiet_and_none_in_a_log(tmp_path):
    code, sent = on_terminal([*REPLAY, "--quiet"], tmp_path)
    assert (code, sent) == (0, "")
    done = subprocess.run(REPLAY, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and (done.stderr == "" or re.fullmatch(r"adamas: \S+: \d+ (s|min)\n", done.stderr))


@pytest.mark.parametrize("columns", [64, 100, 130])
def test_help_honours_the_width(tmp_path, columns):
    def broken(text):  # an unbreakable word may stick out
        return [line for line in text.splitlines() if len(line) >= columns and " " in line.strip()]
    code, sent = on_terminal([PROGRAM, "profile", "--help"], tmp_path, columns=columns)
    piped = subprocess.run([PROGRAM, "profile", "--help"], capture_output=True, text=True,
                           env={**os.environ, "COLUMNS": str(columns)}).stdout
    assert code == 0 and broken(sent) == broken(piped) == []
    assert max(map(len, sent.splitlines())) > columns - 20


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    folder = tmp_path_factory.mktemp("terminal")
    for _ in range(2):
        subprocess.run([*REPLAY, "--seq-lens", "1024", "--timeline", "--quiet", "--db", "t.db"], cwd=folder, check=True)
    return folder / "t.db"


@pytest.mark.parametrize("command, begins", [
    ("report --db {db} -o -", "<!doctype html>"), ("db export --db {db} --run 1 -o -", "{"),
    ("db export --db {db} --timeline 1 -o -", "{"), ("compare 1 2 --db {db} --markdown -", "#"),
    ("calibrate {trace} -o - --layers 14 --db {db} --quiet", "{"), ("trace gen -o - --tokens 256 --quiet", None)])
def test_a_document_goes_to_standard_output(database, tmp_path, command, begins):
    words = command.format(db=database, trace=BUNDLED).split()
    done = subprocess.run([PROGRAM, *words], cwd=tmp_path, capture_output=True)
    assert done.returncode in (0, 3), done.stderr
    assert not (tmp_path / "-").exists() and list(tmp_path.iterdir()) == []
    if begins is None:  # safetensors: the header's length, then JSON
        length = int.from_bytes(done.stdout[:8], "little")
        assert json.loads(done.stdout[8:8 + length])["__metadata__"]["format"] == "adamas-trace/1"
    elif begins == "{":
        json.loads(done.stdout)
    else:
        assert done.stdout.decode().lower().startswith(begins)


@pytest.mark.parametrize("command", ["--help", "db list --db {db}", "db show 1 --json --db {db}", "report -o - --db {db}",
                                     "db export --run 1 --db {db}", "words metrics"])
def test_a_reader_that_goes_away_ends_it_quietly(database, command):
    child = subprocess.Popen([PROGRAM, *command.format(db=database).split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    assert child.wait(60) in (0, 4)
    assert child.stderr.read() == b""


def test_an_interrupt_names_the_run_to_resume(tmp_path):
    command = [PROGRAM, "replay", BUNDLED, "--threads", "1", "--budgets", "64-1K:x2"]
    child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "adamas.db").exists():
        assert child.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130 and re.search(r"--resume (last|\d+) ", said), said
    resumed = subprocess.run([*command, "--resume", "last"], cwd=tmp_path, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr


JSON = ["doctor", "db list --db {db}", "db show 1 --db {db}", "db diff 1 2 --db {db}", "compare 1 2 --db {db}",
        "history --db {db}", "report --db {db}", "counters list", "trace info {trace}",
        "trace verify {trace}", "profile --dry-run --seq-lens 8K", "profile --static", "kernel resources",
        "db export --timeline 1 --db {db} -o x.json", "replay {trace} --budgets 64 --seq-lens 1024 --policies dense --db x.db",
        "trace gen --tokens 256 -o x.safetensors", "db gc --keep 9 --db {db}"]


@pytest.mark.parametrize("command", JSON)
def test_json_is_one_document(database, tmp_path, command):
    words = command.format(db=database, trace=BUNDLED).split()
    done = subprocess.run([PROGRAM, *words, "--json"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode in (0, 1, 3, 77), done.stderr
    if done.returncode != 77:
        json.loads(done.stdout)


def test_labels_of_a_database_are_words_for_a_shell(adamas, small_run):
    for label in ("first", "second"):
        assert adamas("replay", small_run[0], "--label", label, "--budgets", "16", "--quiet", "--db", "x.db").code == 0
    assert adamas("words", "labels", "--db", "x.db").out.split() == ["second", "first"]
    assert adamas("words", "labels", "--db", "none.db").out == ""
