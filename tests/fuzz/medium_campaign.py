#!/usr/bin/env python3
"""Runs every command where it cannot write: on a database file without write permission, in a folder without it, on a medium
that is mounted read-only, and on one that is full after so many pages:

    tests/fuzz/medium_campaign.py ADAMAS [--only NAME]

A command that only reads ends as ever. One that writes ends with 2 or 4 and a sentence; what was there is there byte by byte,
or on the full medium a whole database without the batch in flight; nothing is left behind. Needs root, to mount; prints a line
per command; ends with 1 if anything was wrong, and with 77 where nothing can be mounted.
"""
import argparse
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import fault_campaign

NOBODY, CLONE_NEWNS = 65534, 0x20000
PAGES = [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597]
# They touch no file of ours, or load one as code, which a read-only medium does not change.
ELSEWHERE = ("kernel header", "kernel resources", "doctor", "counters list", "counters plan", "counters explain",
             "profile --dry-run", "decode --dry-run", "tune mine.so")


def own_mounts():
    """Mounts of this process and its children are its own from here on; a reason if that cannot be had."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0:
        return "not root"
    if libc.unshare(CLONE_NEWNS) != 0:
        return f"no mounts of its own: {os.strerror(ctypes.get_errno())}"
    result = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, text=True)
    return result.stderr.strip()


class Medium(fault_campaign.Campaign):
    def __init__(self, adamas, folder):
        super().__init__(adamas, "/dev/null", folder, 0)
        self.temporary = Path(folder) / "tmp"
        self.temporary.mkdir()
        self.temporary.chmod(0o777)
        Path(folder).chmod(0o755)
        self.at.mkdir()
        self.program = Path(folder) / "adamas"  # where nobody may read it
        shutil.copy(self.adamas, self.program)
        self.fake_gpu = Path(folder) / "adamas-fake-gpu"
        shutil.copy(self.adamas.parent / "tests/adamas-fake-gpu", self.fake_gpu)

    def mount(self, *options):
        subprocess.run(["mount", "-t", "tmpfs", *options, "none", self.at], check=True)

    def prepare(self):
        shutil.copytree(self.made, self.at, symlinks=True, dirs_exist_ok=True)
        (self.at / "adamas").unlink()
        (self.at / "adamas").symlink_to(self.program)
        (self.at / "out").write_bytes(b"old")

    def run_here(self, words, user=0):
        program = self.fake_gpu if fault_campaign.on_fake_gpu(words) else self.program
        try:
            result = subprocess.run([program, *words], cwd=self.at, stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                                    user=user, env={**os.environ, "TMPDIR": str(self.temporary), "HOME": str(self.temporary)})
        except subprocess.TimeoutExpired as late:
            return -99, "", f"a hang: {late}", True
        return result.returncode, result.stdout.decode(errors="replace"), result.stderr.decode(errors="replace"), True

    def content(self):
        return {path.name: path.read_bytes() for path in self.files()}

    def files(self):
        return [path for path in self.at.iterdir() if path.is_file() and not path.is_symlink()]

    def locked(self, name, how, writes):
        """File, folder or medium cannot be written."""
        self.mount("-o", "size=64m,mode=0777")
        try:
            self.prepare()
            for path in self.files():
                path.chmod(0o444 if how != "folder" else 0o666)
            self.at.chmod(0o555 if how == "folder" else 0o777)
            if how == "medium":
                subprocess.run(["mount", "-o", "remount,ro", self.at], check=True)
            before = self.content()
            code, out, err, _ = self.run_here(fault_campaign.COMMANDS[name], 0 if how == "medium" else NOBODY)
            after, whole = self.content(), self.wholes[name]
            def claim(true, what):
                if not true:
                    self.wrong.append(f"{name}, read-only {how}: {what}: exit {code}: {err.strip()[:200]}")
            claim(code >= 0, "a signal or a hang")
            allowed = (2, 4) if writes is True else (whole[0],) if writes is False else (whole[0], 2)
            claim(code in allowed, "an exit code")
            if code != whole[0]:
                claim(err.startswith("adamas: ") and err.count("\n") <= 2, "not a sentence")
            if code != whole[0] or how == "medium":
                changed = {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)}
                claim(not {n for n in changed if not n.endswith(("-shm", "-wal"))}, f"changed {changed}")
            claim(not any(".part-" in n for n in after), "a part of a file")
        finally:
            subprocess.run(["umount", self.at], check=True)

    def full(self, name):
        """A medium that is full after so many pages more."""
        n_tried = 0
        for pages in PAGES:
            self.mount("-o", "size=64m")
            try:
                self.prepare()
                used = sum((path.stat().st_size + 4095) // 4096 for path in self.files())
                subprocess.run(["mount", "-o", f"remount,size={(used + 2 + pages) * 4096}", self.at], check=True)
                result = self.run_here(fault_campaign.COMMANDS[name])
                subprocess.run(["mount", "-o", "remount,size=64m", self.at], check=True)  # whoever looks needs room
                n_tried += 1
                self.left = self.lefts[name]
                self.judge(name, f"write with {pages} pages free", self.wholes[name], result)
            finally:
                subprocess.run(["umount", self.at], check=True)
            if result[0] == self.wholes[name][0]:
                break
        return n_tried

    def all_of(self, name):
        n_wrong = len(self.wrong)
        self.by_time = fault_campaign.BY_TIME.get(name, ())
        self.mount("-o", "size=64m")
        self.prepare()
        before = self.content()
        self.wholes[name], self.lefts[name] = self.run_here(fault_campaign.COMMANDS[name]), self.state()
        changed = {n for n in self.content() if self.content()[n] != before.get(n)}
        subprocess.run(["umount", self.at], check=True)
        makes = bool(changed)
        # An output file is replaced by a new one of that name, which asks the folder alone; a command may refuse that.
        self.locked(name, "file", None if changed == {"out"} else bool(changed & before.keys()))
        self.locked(name, "folder", makes)
        self.locked(name, "medium", makes)
        n_full = self.full(name) if makes else 0
        print(f"{name:<24}{'writes ' + ', '.join(sorted(changed)) if makes else 'reads':<28}{n_full:>3} full media"
              f"{len(self.wrong) - n_wrong:>4} wrong", flush=True)
        for line in self.wrong[n_wrong:]:
            print(f"    {line}", flush=True)

    wholes, lefts = {}, {}


def main():
    names = [name for name in fault_campaign.COMMANDS if name not in ELSEWHERE]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adamas")
    parser.add_argument("--only", action="append", choices=names)
    options = parser.parse_args()
    reason = own_mounts()
    if reason:
        print(f"medium_campaign.py: skipped: {reason}", file=sys.stderr)
        return 77
    with tempfile.TemporaryDirectory(prefix="adamas-media-", dir="/tmp") as folder:  # where nobody may come
        campaign = Medium(options.adamas, folder)
        for name in options.only or names:
            campaign.all_of(name)
    print(f"{len(campaign.wrong)} wrong" if campaign.wrong else "nothing wrong")
    return 1 if campaign.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
