#!/usr/bin/env python3
"""Makes of one kernel source a C++ file that the host compiles and tests/support/emulate/emulate.cpp runs.

    emulate.py kernels/NAME.cu OUT.cpp        and OUT.cpp.d, for ninja: what it was made from

The .cuh files are put in place, each once, so that OUT.cpp holds all CUDA there is. Four things are changed, on as many lines
as before, and #line says where they came from:

    a function with machine instructions    taken out: emulate.h has one of the same name
    __shared__ T a[N], b;                   auto &a = emu_static<T[N], 0>(); auto &b = emu_static<T, 1>();
    extern __shared__ T a[];                T *const a = (T *)emu_dynamic();
    __global__ void k(const S s, T t) {     void k(const S, T) { const S s = emu_argument<const S>(0); ...
                                            so that one call fits every kernel; its table of kernels still fits its type

Whatever is not as expected is an error: a function that is listed here and not there, machine instructions anywhere else.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# The functions with machine instructions, by file.
REPLACED = {
    "kernels/gpu/common.cuh": [
        "adm_exp2", "adm_lane", "adm_count", "adm_start_dependents", "adm_wait_for_predecessors", "adm_copy16",
        "adm_copy16_if", "adm_copy_commit", "adm_copy_wait",
        "adm_cluster_rank", "adm_cluster_peer", "adm_cluster_arrive", "adm_cluster_wait", "adm_cluster_arrive_relaxed",
        "adm_cluster_arrive_shared", "adm_prefetch", "adm_barrier_init", "adm_barrier_fence", "adm_barrier_expect", "adm_push",
        "adm_bulk_copy", "adm_copy_policy", "adm_bulk_copy_expected", "adm_barrier_wait", "adm_barrier_wait_pushed"],
    "kernels/attention/attention_dev.cuh": ["adm_load_stream", "adm_mma"],
    "kernels/attention/attention_one.cuh": ["adm_load_word"],
    "kernels/distance/products.cuh": ["adm_load_rows", "adm_bit_product", "adm_transposed"],
    "kernels/topk/held.cuh": ["held_signs"],
}

SKIPPED = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\''  # comments and literals
FUNCTION = (r"(?:template <[^>]*>\s*)?(?:static )?__device__ (?:__forceinline__|__noinline__) "
            r"[\w\s*]+?\b(\w+)(?:<\w+>)?\([^)]*\)\s*{")
DYNAMIC = r"extern __shared__ (?:__align__\(\d+\) )?([\w ]+?) (\w+)\[\];"
STATIC = r"__shared__ ([\w ]+?) (\w+(?:\[[^;]*?\])?(?:, ?\w+(?:\[[^;]*?\])?)*);"


class Unexpected(Exception):
    pass


def closing(text, start, pair):
    """The index behind the bracket that closes the one at `start`."""
    depth = 0
    for token in re.compile(f"{SKIPPED}|[{re.escape(pair)}]", re.S).finditer(text, start):
        depth += {pair[0]: 1, pair[1]: -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    raise Unexpected(f"no {pair[1]} for {text[start:start + 60]!r}")


def code_of(text):
    return re.sub(SKIPPED, " ", text, flags=re.S)


def blank(text):
    return "\n" * text.count("\n")


def without_instructions(text, name):
    """The text without the functions that hold machine instructions."""
    out, at, found = [], 0, []
    for function in re.finditer(FUNCTION, text):
        end = closing(text, function.end() - 1, "{}")
        if function.start() < at or not re.search(r"\basm\b", code_of(text[function.start():end])):
            continue
        if function[1] not in REPLACED.get(name, ()):
            raise Unexpected(f"{function[1]}() holds machine instructions: give emulate.h one, and list it in emulate.py")
        found.append(function[1])
        out += [text[at:function.start()], blank(text[function.start():end])]
        at = end
    for wanted in REPLACED.get(name, ()):
        if wanted not in found:
            raise Unexpected(f"{wanted}() is not there, or holds no machine instructions: take it out of emulate.py's list")
    return "".join(out) + text[at:]


def split_arguments(text):
    return [part.strip() for part in text.split(",")] if text.strip() else []


def kernels_read_arguments(text):
    """Every kernel takes its arguments from where the launch left them."""
    out, at = [], 0
    for kernel in re.finditer(r"__global__\s+void\s+", text):
        begin = kernel.end()
        if text.startswith("__launch_bounds__", begin):
            begin = closing(text, text.index("(", begin), "()")
        head = re.compile(r"\s*\w+").match(text, begin)
        if not head or text[head.end()] != "(":
            raise Unexpected(f"what kernel is this? {text[kernel.start():kernel.start() + 80]!r}")
        end = closing(text, head.end(), "()")
        body = re.compile(r"\s*{").match(text, end)
        if not body:
            raise Unexpected(f"{head[0].strip()} has no body")
        types, locals_ = [], []
        for i, parameter in enumerate(split_arguments(text[head.end() + 1:end - 1])):
            declared = re.fullmatch(r"(.*\W)(\w+)", " ".join(parameter.split()))
            types.append(declared[1].strip())
            locals_.append(f" {declared[1].strip()} {declared[2]} = emu_argument<{declared[1].strip()}>({i});")
        space = " + ".join(f"sizeof({t})" for t in types)
        out += [text[at:head.end()], f"({', '.join(types)})", blank(text[head.end():end]), body[0],
                f' static_assert({space} <= EMU_UNREAD_BYTES, "arguments");', *locals_]
        at = body.end()
    return "".join(out) + text[at:]


class Source:
    """One kernel source on its way; `files` are those it was made from."""

    def __init__(self):
        self.files, self.n_slots = [], 0

    def static_shared(self, declaration):
        lines = []
        for declarator in split_arguments(declaration[2]):
            name, dimensions = re.fullmatch(r"(\w+)((?:\[.*\])?)", declarator).groups()
            lines.append(f"auto &{name} = emu_static<{declaration[1]}{dimensions}, {self.n_slots}>();")
            self.n_slots += 1
        return " ".join(lines) + blank(declaration[0])

    def text_of(self, name):
        """A file's text, changed, with the .cuh files it includes in place of their #includes."""
        self.files.append(name)
        try:
            text = without_instructions((ROOT / name).read_text(), name)
            text = re.sub(DYNAMIC, r"\1 *const \2 = (\1 *)emu_dynamic();", text)
            text = re.sub(STATIC, self.static_shared, text)
            text = kernels_read_arguments(text)
            for left in ("asm", "__shared__"):
                if re.search(rf"\b{left}\b", code_of(text)):
                    raise Unexpected(f"{left} is left in it, where emulate.py does not know what to do with it")
        except Unexpected as error:
            raise Unexpected(f"{name}: {error}") from None
        lines = [f'#line 1 "{name}"']
        for number, line in enumerate(text.split("\n"), 1):
            header = re.match(r'#include "(.*\.cuh)"', line)
            if not header:
                lines.append(line)
            elif header[1] not in self.files:
                lines += [self.text_of(header[1]), f'#line {number + 1} "{name}"']
            else:
                lines.append("")
        return "\n".join(lines)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, out = Source(), Path(sys.argv[2])
    try:
        text = source.text_of(sys.argv[1])
    except Unexpected as error:
        sys.exit(f"emulate.py: {error}")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f'/* Made by tests/support/emulate/emulate.py. */\n#include "tests/support/emulate/emulate.h"\n{text}')
    Path(f"{out}.d").write_text(f"{out}: {' '.join(source.files)}\n")


if __name__ == "__main__":
    main()
