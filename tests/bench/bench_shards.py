#!/usr/bin/env python3
"""How much sooner two shards of a replay end on two cores than the whole on one.

    bench_shards.py [--rounds 3] [--tokens 65536] [--layers 4] [--lengths 8] [--timed-steps N] [--folder FOLDER]

Each round: the whole on one thread; its two shards at once, a thread each; the whole twice at once, which is what the machine's
two processors give to programs that share nothing; and the shards one after the other, whose processor seconds beyond the
whole's are what both repeat. --timed-steps 0 leaves out stage times: while they are taken a process waits for a core that it
has alone, so that two at once on the two threads of one core wait for each other. --folder keeps the session, and uses one that
is there.

A length of a session is the smallest part of a replay, since its figures are over all layers. Eight lengths of 1/8 to 8/8 of
the tokens divide evenly into two; nine no better than 23 to 22, which makes their shards at most 1.96 times as fast. What the
plan says of that is printed, too.
"""
import argparse
import json
import statistics
import subprocess
import tempfile
import time
from os import wait4
from pathlib import Path

ADAMAS = Path(__file__).resolve().parents[2] / "build/release/adamas"


def lengths_of(tokens, n):
    return ",".join(str(tokens * k // n - 40) for k in range(1, n + 1))


def make_session(path, tokens, layers, lengths):
    numbers = ",".join(str(2 + 3 * k) for k in range(layers))
    subprocess.run([ADAMAS, "trace", "gen", "--tokens", str(tokens), "--steps-at", lengths, "--n-steps", "16",
                    "--layers", numbers, "--head-dim", "128", "-o", path], check=True, stdout=subprocess.DEVNULL)


def at_once(commands):
    """Wall seconds until all have ended, and processor seconds of all."""
    start, processor = time.monotonic(), 0.0
    for process in [subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL) for command in commands]:
        _, status, usage = wait4(process.pid, 0)
        process.returncode = status
        if status != 0:
            raise SystemExit(f"bench_shards.py: {process.args} ended with {status}")
        processor += usage.ru_utime + usage.ru_stime
    return time.monotonic() - start, processor


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=65536)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--lengths", type=int, default=8)
    parser.add_argument("--timed-steps")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        session = folder / "session.safetensors"
        lengths = lengths_of(options.tokens, options.lengths)
        if not session.exists():
            make_session(session, options.tokens, options.layers, lengths)

        def command(db, *more):
            (folder / db).unlink(missing_ok=True)
            timed = [] if options.timed_steps is None else ["--timed-steps", options.timed_steps]
            return [ADAMAS, "replay", session, "--policies", "oracle,adamas", "--thresholds", "calibrated", "--threads", "1",
                    "--seq-lens", lengths, "--quiet", *timed, *more, "--db", folder / db]

        def shard(i):
            return command(f"{i}.db", "--shard", f"{i}/2")

        plan = json.loads(subprocess.run([str(word) for word in [*shard(1), "--dry-run", "--json"]], check=True,
                                         capture_output=True, text=True).stdout)
        print(f"by the plan the larger shard takes {plan['largest_over_mean']:.3f} times the mean: the two can be "
              f"{2 / plan['largest_over_mean']:.2f} times as fast as the whole")
        seen = {"whole": [], "two shards at once": [], "two wholes at once": [], "shards in turn": []}
        for _ in range(options.rounds):
            seen["whole"].append(at_once([command("whole.db")]))
            seen["two shards at once"].append(at_once([shard(1), shard(2)]))
            seen["two wholes at once"].append(at_once([command("a.db"), command("b.db")]))
            first, second = at_once([shard(1)]), at_once([shard(2)])
            seen["shards in turn"].append((first[0] + second[0], first[1] + second[1]))
        wall, processor = ({name: statistics.median(row[k] for row in rows) for name, rows in seen.items()} for k in (0, 1))
        for name in seen:
            print(f"{name}: {wall[name]:.2f} s wall, {processor[name]:.2f} s processor; median of {options.rounds}")
        print(f"two shards against the whole: {wall['whole'] / wall['two shards at once']:.2f} times as fast   goal 1.9x; "
              f"the machine gives {2 * wall['whole'] / wall['two wholes at once']:.2f}x to two programs")
        repeated = processor["shards in turn"] / processor["whole"] - 1
        print(f"repeated by the second shard: {100 * repeated:.1f}% of the whole's processor seconds")


if __name__ == "__main__":
    main()
