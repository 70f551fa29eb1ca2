"""Installs what `ninja` built, takes it away again, and packs it.

    install.py install|uninstall|deb|tarball BUILD VERSION

`install` writes under $DESTDIR$PREFIX (PREFIX defaults to /usr/local); BUILD holds adamas and libadamas.so; run at the top
level. What was installed stands in PREFIX/share/adamas/installed, one path per line, and `uninstall` removes just that. `deb`
and `tarball` leave their file in build/.
"""
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import manual

PREFIX = Path(os.environ.get("PREFIX") or "/usr/local")
DESTDIR = os.environ.get("DESTDIR", "")
LISTING = "share/adamas/installed"
HEADER = "core/contract/adamas.h"


def at(name):
    """Where PREFIX/name is on this machine."""
    return Path(DESTDIR + str(PREFIX / name))


def one_header(name, seen):
    """A header with the project's own headers that it includes put in their places."""
    text = []
    for line in Path(name).read_text().splitlines():
        included = re.match(r'#include "(.+)"', line)
        if not included:
            text.append(line)
        elif included[1] not in seen:
            seen.add(included[1])
            text += [f"/* {included[1]} */", *one_header(included[1], seen)]
    return text


def package(version):
    return f"""prefix=${{pcfiledir}}/../..
Name: adamas
Description: Adamas sparse attention: selection policies and the stages' host implementations
Version: {version}
Libs: -L${{prefix}}/lib -ladamas
Cflags: -I${{prefix}}/include
"""


def install(build, version):
    build, done = Path(build), []

    def put(name, source=None, text=None, mode=0o644):
        path = at(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() or path.is_symlink():
            path.unlink()  # a running program keeps its file
        if source:
            shutil.copyfile(source, path)
        else:
            path.write_text(text)
        path.chmod(mode)
        done.append(name)

    put("bin/adamas", build / "adamas", mode=0o755)
    put("lib/libadamas.so", build / "libadamas.so")
    put("include/adamas.h", text="\n".join(one_header(HEADER, {HEADER})) + "\n")
    put("lib/pkgconfig/adamas.pc", text=package(version))
    with tempfile.TemporaryDirectory() as folder:
        manual.main(build / "adamas", folder)
        for source in sorted(Path(folder).rglob("*")):
            if source.is_file():
                put(f"share/{source.relative_to(folder)}", source)
    for source in sorted(Path("analysis/recorded").glob("*.json")):
        put(f"share/adamas/recorded/{source.name}", source)
    for source in sorted(Path("probes/sets").glob("*.metrics")):
        put(f"share/adamas/sets/{source.name}", source)
    put(LISTING, text="\n".join([*done, LISTING]) + "\n")
    return done


def uninstall():
    listing = at(LISTING)
    if not listing.is_file():
        sys.exit(f"{listing} is not there: nothing was installed below {at('.')}")
    names = listing.read_text().split("\n")[:-1]
    for name in names:
        at(name).unlink(missing_ok=True)
    for folder in ("share/adamas/recorded", "share/adamas/sets", "share/adamas"):
        if at(folder).is_dir() and not any(at(folder).iterdir()):
            at(folder).rmdir()
    print(f"{len(names)} files removed")


def staged(build, version, prefix, folder):
    """Installs below a folder of its own, with a prefix that is not the environment's."""
    global PREFIX, DESTDIR
    PREFIX, DESTDIR = Path(prefix), str(folder)
    install(build, version)
    for name in ("bin/adamas", "lib/libadamas.so"):
        subprocess.run(["strip", "--strip-unneeded", at(name)], check=True)


def deb(build, version):
    machine = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
    output = f"build/adamas_{version}_{machine}.deb"
    with tempfile.TemporaryDirectory() as folder:
        staged(build, version, "/usr", folder)
        for page in at("share/man/man1").iterdir():
            subprocess.run(["gzip", "-9n", page], check=True)
        at(LISTING).unlink()  # dpkg keeps a listing of its own
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) // 1024
        control = Path(folder, "DEBIAN/control")
        control.parent.mkdir()
        control.write_text(f"""Package: adamas
Version: {version}
Architecture: {machine}
Maintainer: Adamas Lab <adamas@localhost>
Installed-Size: {size}
Depends: libc6
Section: science
Priority: optional
Description: profiler and simulator for Adamas sparse attention
 Measures what sparse attention for long-context decoding costs and loses, stage by stage.
""")
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", folder, output], check=True,
                       stdout=subprocess.DEVNULL)
    print(output)


def tarball(build, version):
    name = f"adamas-{version}-{os.uname().machine}"
    with tempfile.TemporaryDirectory() as folder:
        staged(build, version, f"/{name}", folder)
        with tarfile.open(f"build/{name}.tar.gz", "w:gz") as archive:
            archive.add(Path(folder, name), name)
    print(f"build/{name}.tar.gz")


if __name__ == "__main__":
    if sys.argv[1] == "uninstall":
        uninstall()
    elif sys.argv[1] == "install":
        n_files = len(install(*sys.argv[2:]))
        print(f"{n_files} files below {at('.')}; `ninja uninstall` with the same PREFIX and DESTDIR removes them")
    else:
        {"deb": deb, "tarball": tarball}[sys.argv[1]](*sys.argv[2:])
