"""What pyproject.toml cannot say: the version stands in configure.py, and libadamas.so goes along, built if it is not yet."""
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
LIBRARY = "build/release/libadamas.so"


def build_library():
    """Builds libadamas.so, with GPU kernels where configure.py finds a CUDA toolkit. Databases can be read without it."""
    if not (ROOT / "build.ninja").exists():
        subprocess.run([sys.executable, "configure.py"], cwd=ROOT, check=True)
    subprocess.run(["ninja", LIBRARY], cwd=ROOT, check=True)


class WithLibrary(build_py):
    def run(self):
        super().run()
        if not (ROOT / LIBRARY).exists():
            try:
                build_library()
            except (OSError, subprocess.CalledProcessError) as e:
                print(f"note: {LIBRARY} was not built ({e}); `./configure.py --no-install` lists what it needs",
                      file=sys.stderr)
                return
        shutil.copy(ROOT / LIBRARY, Path(self.build_lib, "adamas", "libadamas.so"))


VERSION = re.search(r'^VERSION = "(.+)"$', (ROOT / "configure.py").read_text(), re.M)[1]
setup(version=VERSION, cmdclass={"build_py": WithLibrary})
