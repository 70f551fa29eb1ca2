"""The two ways in which the tools of this folder end early, and files that are not what their name says."""
import sys


class BadInput(Exception):
    """What the user has to change, in one sentence: exit 2."""


class CheckFailed(Exception):
    """The result is wrong: exit 4, and no file is left behind."""


def exit_code(tool, run, argv):
    """Runs a tool of this folder; its exit code. What ended it early is said on stderr, in one sentence."""
    try:
        run(argv)
    except BadInput as e:
        print(f"{tool}: {e}", file=sys.stderr)
        return 2
    except CheckFailed as e:
        print(f"{tool}: check failed: {e}", file=sys.stderr)
        return 4
    except (ImportError, OSError) as e:
        hint = "; `pip install -r traces/model/requirements.txt` brings it" if isinstance(e, ImportError) else ""
        print(f"{tool}: {e}{hint}", file=sys.stderr)
        return 4
    return 0


def refuse_lfs_pointer(path):
    """BadInput if path is a Git LFS pointer, which a clone without git-lfs leaves in place of a large file."""
    with open(path, "rb") as f:
        if f.read(64).startswith(b"version https://git-lfs."):
            raise BadInput(f"{path}: is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`")
