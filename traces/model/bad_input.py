"""The two ways in which the tools of this folder end early, and files that are not what their name says."""


class BadInput(Exception):
    """What the user has to change, in one sentence: exit 2."""


class CheckFailed(Exception):
    """The result is wrong: exit 4, and no file is left behind."""


def refuse_lfs_pointer(path):
    """BadInput if path is a Git LFS pointer, which a clone without git-lfs leaves in place of a large file."""
    with open(path, "rb") as f:
        if f.read(64).startswith(b"version https://git-lfs."):
            raise BadInput(f"{path}: is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`")
