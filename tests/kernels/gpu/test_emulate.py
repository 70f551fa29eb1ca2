"""What tests/support/emulate/emulate.py makes of a kernel source, and that it refuses what it does not know.

Refusals are tried on a copy of kernels/ with one thing changed in it.
"""
import re
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))
from configure import CUDA, EMULATED

sys.path.insert(0, str(ROOT / "tests/support/emulate"))
import emulate


def made_of(name, root=ROOT):
    emulate.ROOT = root
    return emulate.Source().text_of(name)


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "kernels", tmp_path / "kernels")
    return tmp_path


def test_every_source_that_the_registry_launches_from_is_emulated():
    launching = {name for name in CUDA if name.endswith(".cu") and "adm_gpu_launch(" in (ROOT / name).read_text()}
    assert launching == set(EMULATED)


@pytest.mark.parametrize("name", EMULATED)
def test_lines_stay_where_they_were(name):
    """#line would otherwise point beside what it means."""
    where, n = None, 0
    for line in made_of(name).splitlines():
        moved = re.fullmatch(r'#line (\d+) "(.*)"', line)
        if moved:
            where, n = (ROOT / moved[2]).read_text().splitlines(), int(moved[1])
            continue
        if re.match(r"(template|static|#define|typedef|enum)\b", line):
            assert where[n - 1].split("(")[0].split("{")[0] == line.split("(")[0].split("{")[0]
        n += 1


def test_a_kernel_reads_its_arguments_where_the_launch_left_them():
    text = emulate.kernels_read_arguments("__global__ void __launch_bounds__(f<D>() * 32, 1)\n"
                                          "    k(const S s,\n      T *t) {\n")
    assert text.count("\n") == 3 and "k(const S, T *)" in text
    assert "const S s = emu_argument<const S>(0); T * t = emu_argument<T *>(1);" in text


def test_static_shared_memory_is_one_slot_a_variable():
    source = emulate.Source()
    shared = re.compile(emulate.STATIC)
    assert shared.sub(source.static_shared, "__shared__ T a[N][M];") == "auto &a = emu_static<T[N][M], 0>();"
    assert shared.sub(source.static_shared, "__shared__ T b, c[2 * N];") == \
        "auto &b = emu_static<T, 1>(); auto &c = emu_static<T[2 * N], 2>();"


@pytest.mark.parametrize("name, old, new, complaint", [
    ("gpu/common.cuh", "void adm_copy_commit(", "void adm_copy_over(", r"adm_copy_over\(\) holds machine instructions"),
    ("gpu/common.cuh", 'asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));', "y = exp2f(x);",
     r"adm_exp2\(\) is not there"),
    ("topk/select.cuh", "#define ADM_KERNELS_TOPK_SELECT_CUH", 'asm("nop;");', "select.cuh: asm is left"),
    ("topk/topk.cu", "__shared__ adm_row_cut cut;", "__shared__ adm_row_cut *(*cut)();", "topk.cu: __shared__ is left"),
])
def test_what_is_not_known_is_refused(copy, name, old, new, complaint):
    path = copy / "kernels" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(emulate.Unexpected, match=complaint):
        made_of("kernels/topk/topk.cu", copy)
