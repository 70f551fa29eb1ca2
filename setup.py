"""What pyproject.toml cannot say: the version stands in configure.py, and libadamas.so goes along if `ninja` has built it."""
import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class WithLibrary(build_py):
    def run(self):
        super().run()
        library = ROOT / "build/release/libadamas.so"
        if library.exists():
            shutil.copy(library, Path(self.build_lib, "adamas", library.name))


VERSION = re.search(r'^VERSION = "(.+)"$', (ROOT / "configure.py").read_text(), re.M)[1]
setup(version=VERSION, cmdclass={"build_py": WithLibrary})
