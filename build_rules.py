"""How what configure.py lists is compiled, linked and tested: flags, profiles, and the edges of build.ninja.

configure.py has the lists and the command line; build_ninja() here is what it calls.
"""
import os
import platform
import shlex
import shutil
import sys
from pathlib import Path

import install_deps as deps
from configure import (
    BENCHES,
    COMMANDS,
    CUDA,
    CUDA_TESTS,
    CUPTI,
    CUPTI_TOOLS,
    EMBED,
    EMBEDDED,
    EMULATED,
    EMULATED_80,
    EMULATOR,
    FAKE_GPU,
    FUZZ_SECONDS,
    FUZZERS,
    MAIN,
    NO_CUDA,
    NO_CUPTI,
    NO_NVTX,
    NVTX,
    NVTX_TOOLS,
    PLAIN_TOOLS,
    PLANT,
    PLANTED_KERNEL,
    ROOMS,
    SCHEMA,
    SCHEMA_NOW,
    VERSION,
    WEB,
    sources_of,
    test_sources,
)

WARNINGS = ("-Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith "
            "-Wvla")

# Of the few C++ files.
CXXFLAGS = "-std=c++17 -Wall -Wextra -Wshadow -fPIC -fvisibility=hidden -pthread -I."

# Of kernels that the host runs: of our warnings those that nvcc gives for them too. A kernel reads memory as what type it
# likes.
EMULATED_FLAGS = ("-Wno-extra -Wno-shadow -Wno-unknown-pragmas -Wno-parentheses -Wno-sign-compare "
                  "-fno-strict-aliasing -ffp-contract=off")

# No contraction to fused multiply-add: the host's numbers must not depend on the machine.
# Position-independent and hidden throughout, so that program and library share their objects.
CFLAGS = f"-std=gnu11 -D_GNU_SOURCE {WARNINGS} -ffp-contract=off -fPIC -fvisibility=hidden -pthread -I."

# Our constants are enumerators, in sums of doubles too; and "" as a format prints nothing, as it should.
CLANG_FLAGS = "-Wno-enum-float-conversion -Wno-format-zero-length"

SANITIZE = "-fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined"
PROFILES = {  # name: compiler flags, linker flags, with CUDA
    "release": ("-O3 -g", "", True),
    "debug": ("-O0 -g", "", True),
    # Without CUDA: ASan takes addresses that the CUDA driver wants.
    "asan": (f"-O1 -g {SANITIZE} -Wno-conversion -Wno-sign-conversion -Wno-format-truncation", SANITIZE, False),
    # What `ninja tsan` runs: a replay at 1 to 8 threads.
    "tsan": ("-O1 -g -fsanitize=thread -fno-omit-frame-pointer -Wno-conversion -Wno-sign-conversion", "-fsanitize=thread",
             False),
    # Counted without atomic updates, which take five times as long: the tests run on one processor each (tests/run.py).
    "coverage": ("-O1 -g --coverage -fprofile-update=single", "--coverage", False),
}

# Variables of the environment that change the build; `ninja` configures again with those that it was configured with.
ENVIRONMENT = ["CC", "CXX", "CPPFLAGS", "CFLAGS", "CXXFLAGS", "LDFLAGS"]

# Suites that `ninja asan` runs: tests whose names contain one of these.
SANITIZED = ["c/", "python/core/cli/test_cli", "python/analysis/",
             "python/kernels/profile/test_profile", "python/probes/test_counters"]

# Static, so that the program runs where none of these packages is installed; libc, libm and libdl stay dynamic.
LIBS = "-l:libjansson.a -l:libsqlite3.a -l:libxxhash.a -lm -ldl"


def as_path(path):
    """A path as build.ninja spells it."""
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def as_word(path):
    """A program or folder as one word of a command: relative where it is in this checkout, whatever that one's name is."""
    path = str(path)
    if path.startswith(f"{deps.ROOT}/"):
        path = os.path.relpath(path, deps.ROOT)
    return shlex.quote(path).replace("$", "$$")


class Ninja:
    """The text of a build.ninja in the making. Paths of build() are escaped here; a command is Ninja's own language, in which
    $ begins a variable, so that what a caller puts there goes through as_word()."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines += ["", f"# {text}"]

    def variable(self, name, value):
        self.lines.append(f"{name} = {value}")

    def rule(self, name, command, **settings):
        self.lines += [f"rule {name}", f"  command = {command}"]
        self.lines += [f"  {key} = {value}" for key, value in settings.items()]

    def build(self, output, rule, inputs=(), implicit=(), order_only=(), also=(), **variables):
        """An edge from inputs to output, and to what the command makes also."""
        def listed(mark, paths):
            return "".join([mark, *(" " + as_path(path) for path in paths)]) if paths else ""
        line = f"build {as_path(output)}{listed(' |', also)}: {rule}"
        line += listed("", inputs) + listed(" |", implicit) + listed(" ||", order_only)
        self.lines += [line] + [f"  {key} = {value}" for key, value in variables.items()]
        return output


VERSION_COMMAND = r"""commit=; made=; if [ -e .git ]; then $
      if commit=$$(git describe --always --dirty --abbrev=40 --exclude='*' 2> $out.said); $
      then made=$$(TZ=UTC0 git show -s --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd HEAD); $
      else commit=; echo "this build does not know its commit: $$(head -n 1 $out.said)"; fi; rm -f $out.said; fi; $
      clean=$${commit%-dirty}; [ "$$commit" = "$$clean" ]; dirty=$$?; $
      printf '#define %s\n' 'ADM_VERSION "$version"' "ADM_GIT_COMMIT \"$$clean\"" "ADM_GIT_DIRTY $$dirty" $
          "ADM_GIT_COMMIT_UTC \"$$made\"" $configured > $out.new; $
      if cmp -s $out.new $out; then rm $out.new; else mv $out.new $out; fi"""


def configured(options, cuda):
    """Lines of the version header, as words of a shell: the options with which another commit is built like this one."""
    def define(name, value):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return shlex.quote(f'{name} "{escaped}"').replace("$", "$$")
    return " ".join([define("ADM_CONFIGURED_CUDA", f"--cuda={options.cuda}" if cuda else "--cuda=off"),
                     define("ADM_CONFIGURED_ARCH", f"--arch={','.join(options.arch)}")])


def generated_files(ninja, options, cuda, node):
    """Edges for what is made before compiling: the version header, npm's packages, the report's template."""
    ninja.note("The commit changes under our feet, so the header is made each time; only a new text counts as new.")
    ninja.build("always", "phony")
    ninja.rule("version", VERSION_COMMAND, restat=1, description="VERSION $out")
    ninja.build("build/gen/version.h", "version", implicit=["always"], version=VERSION,
                configured=configured(options, cuda))

    ninja.note("The files that the program carries, as lines for embed.S.")
    lines = " ".join(shlex.quote(f'embed "{path}", "{Path(path).stem}"') for path in EMBEDDED)
    ninja.rule("embedded", f"printf '%s\\n' {lines} > $out", description="LIST $out")
    ninja.build("build/gen/embedded.inc", "embedded")

    ninja.note("The whole schema of today, for readers; it is also in the repository, and only a new text is written.")
    ninja.rule("schema_now", "$python core/store/schema/write_now.py $out $in", restat=1, description="SCHEMA $out")
    ninja.build(SCHEMA_NOW, "schema_now", SCHEMA, implicit=["core/store/schema/write_now.py"])

    ninja.note("The report's page. node_modules stays out of the source tree.")
    ninja.rule("npm", "$python install_deps.py", description="NPM ci: JavaScript packages into build/deps/web")
    ninja.build("build/deps/web/installed", "npm", ["web-report/package.json", "web-report/package-lock.json"])
    ninja.rule("template", f"NODE_PATH=build/deps/web/node_modules {as_word(node)} web-report/build.mjs $out",
               description="BUNDLE $out")
    ninja.build("build/gen/report_template.html", "template", implicit=[*WEB, "build/deps/web/installed"])


def cuda_rule(ninja, cuda, architectures):
    targets = [f"-gencode arch={a.replace('sm_', 'compute_')},code={a}" for a in architectures]
    newest = architectures[-1].replace("sm_", "compute_")
    targets.append(f"-gencode arch={newest},code={newest}")  # intermediate code for chips to come
    ninja.variable("nvcc", as_word(cuda.nvcc))
    ninja.variable("gencode", " ".join(targets))
    ninja.rule("nvcc", "$nvcc -ccbin $cxx -std=c++17 $opt -lineinfo $gencode -Xcompiler=-fPIC,-fvisibility=hidden,"
               "-Wall,-Wextra,-ffp-contract=off -Xptxas -v -I. -MD -MF $object.d -c $in -o $object > $object.ptxas 2>&1 || "
               "{ cat $object.ptxas; exit 1; }; grep -vE '^ptxas info|bytes stack frame' $object.ptxas || true",
               depfile="$object.d", deps="gcc", description="NVCC $object")


def cuda_objects(ninja, folder, flags):
    """Edges for every .cu file; returns the objects. What the assembler says of each goes to OBJECT.ptxas."""
    objects = [f"{folder}/obj/{source}.o" for source in CUDA if source.endswith(".cu")]
    for source, out in zip((source for source in CUDA if source.endswith(".cu")), objects):
        ninja.build(out, "nvcc", [source], also=[f"{out}.ptxas"], opt=flags, object=out)
    return objects


def profile_edges(ninja, profile, cuda, plants):
    """Objects, program and tests of one profile; returns (program, test programs). plants: percent, on the host and a GPU."""
    flags, link_flags, with_cuda = PROFILES[profile]
    nvtx, cupti = bool(cuda and cuda.nvtx), bool(cuda and cuda.cupti)
    headers = f"-isystem {as_word(cuda.top + '/include')}" if cuda else ""
    cuda = cuda if with_cuda else None
    folder = f"build/{profile}"
    werror = "$werror" if profile in ("release", "debug") else ""  # GCC's instruments have it see what is not there
    ninja.note(f"{profile}: {'with' if cuda else 'without'} CUDA")
    ninja.rule(f"cc_{profile}",
               f"$cc {CFLAGS} $dialect {flags} {werror} $more $cppflags $cflags -MMD -MF $out.d -c $in -o $out",
               depfile="$out.d", deps="gcc", description="CC $out")
    ninja.rule(f"cxx_{profile}", f"$cxx {CXXFLAGS} {flags} {werror} $more $cppflags $cxxflags -MMD -MF $out.d -c $in -o $out",
               depfile="$out.d", deps="gcc", description="CXX $out")
    # What nvcc emits for a kernel wants a little of the C++ runtime; static, like everything else.
    driver = "$cxx -static-libstdc++ -static-libgcc" if cuda or cupti else "$cc"
    libs = f"{LIBS} -L{as_word(cuda.library)} -lcudart_static -lrt" if cuda else LIBS
    ninja.rule(f"link_{profile}", f"{driver} -pthread {link_flags} $ldflags -o $out $in $more {libs}", description="LINK $out")

    def compile_c(source, **variables):
        rule = f"cxx_{profile}" if source.endswith(".cpp") else f"cc_{profile}"
        return ninja.build(f"{folder}/obj/{Path(source).with_suffix('.o')}", rule, [source],
                           implicit=[*EMBEDDED, "build/gen/embedded.inc"] if source == EMBED else (),
                           order_only=["build/gen/version.h"], **variables)

    plain = [compile_c(source) for source in sources_of(ROOMS)]
    plain.append(compile_c(EMBED))
    plain += [compile_c(source, more=headers) for source in NVTX] if nvtx else [compile_c(s) for s in NO_NVTX]
    plain += [compile_c(source, more=headers) for source in CUPTI] if cupti else [compile_c(s) for s in NO_CUPTI]
    if cuda:
        objects = plain + cuda_objects(ninja, folder, flags)
        objects += [compile_c(source) for source in CUDA if source.endswith(".c")]
    else:
        objects = plain + [compile_c(source) for source in NO_CUDA]
    commands = [compile_c(source) for source in sources_of(COMMANDS)]

    main = compile_c(MAIN)
    ninja.build(f"{profile}-objects", "phony", [main, *commands, *plain])
    program = ninja.build(f"{folder}/adamas", f"link_{profile}", [main, *commands, *objects])
    if profile == "release":
        # Only what public functions reach: Debian's static jansson is not position-independent, and they need none.
        ninja.build("build/release/libadamas.so", f"link_{profile}", objects,
                    more="-shared -Wl,--gc-sections -Wl,--exclude-libs,ALL -Wl,-z,defs")
    # The tests find cmocka beside themselves, so that they too run on a machine without it.
    ninja.build(f"{folder}/tests/libcmocka.so.0", "copy", [deps.library_path("libcmocka.so.0")])
    programs = {name: compile_c(source) for name, source in test_sources().items()}
    programs |= {name: compile_c(f"tests/bench/{name}.c") for name in BENCHES}
    programs |= {name: compile_c(f"tests/kernels/gpu/{name}.c") for name in CUDA_TESTS if cuda}
    absent = [] if cuda else CUDA_TESTS
    if not emulates(profile, cuda):
        absent = [*absent, *(f"{name}_emulated" for name in CUDA_TESTS)]
    if absent:
        programs |= dict.fromkeys(absent, compile_c("tests/support/without_cuda.c"))
    tests = [ninja.build(f"{folder}/tests/{name}", f"link_{profile}", [test, *commands, *objects],
                         implicit=[f"{folder}/tests/libcmocka.so.0"], more=linked_to_cmocka(folder))
             for name, test in programs.items()]
    tests += [ninja.build(f"{folder}/tests/{name}.so", f"link_{profile}",
                          [compile_c(f"tests/support/{name}.c", more=headers)],
                          more=f"-shared{' -Wl,-soname,libnvperf_host.so' if name == 'fake_nvperf' else ''}")
              for name in [*PLAIN_TOOLS, *(NVTX_TOOLS if nvtx else []), *(CUPTI_TOOLS if cupti else [])]]
    tests.append(ninja.build(f"{folder}/tests/adamas-fake-gpu", f"link_{profile}",
                             [main, *commands, *plain, *(compile_c(source) for source in FAKE_GPU)]))
    host_plant, kernel_plant = (f"-DADM_PLANT_PERCENT={percent}" for percent in plants)
    right, slow = (f"{folder}/obj/{PLANTED_KERNEL}.o", f"{folder}/obj/{PLANTED_KERNEL}.planted.o")
    if cuda:
        ninja.build(slow, "nvcc", [PLANTED_KERNEL], also=[f"{slow}.ptxas"], opt=f"{flags} {kernel_plant}", object=slow)
    tests.append(ninja.build(f"{folder}/tests/adamas-planted", f"link_{profile}",
                             [main, *commands, *(slow if name == right else name for name in objects),
                              compile_c(PLANT, more=host_plant)], more="-Wl,--wrap=adm_host_pipeline_default"))
    return program, tests


def linked_to_cmocka(folder):
    return f"-L{folder}/tests -l:libcmocka.so.0 -Wl,-rpath,'$$ORIGIN'"


def emulates(profile, cuda):
    """Whether the tests of CUDA code are also built with kernels that the host runs."""
    return profile == "release" and bool(cuda) and platform.machine() == "x86_64"


def emulated_edges(ninja, cuda):
    """`ninja emulated`: kernels as host code, and the tests linked to them; after the edges of the release profile."""
    ninja.note("CUDA kernels run by the host")
    ninja.rule("emulate", "$python tests/support/emulate/emulate.py $in $out", depfile="$out.d", deps="gcc",
               description="EMULATE $out")
    include = as_word(cuda.top + "/include")
    ninja.rule("cxx_emulated", f"$cxx {CXXFLAGS} -fno-PIC -fPIE -O2 -g $more -isystem {include} -isystem {include}/cccl "
               "-MMD -MF $out.d -c $in -o $out", depfile="$out.d", deps="gcc", description="CXX $out")
    objects = [ninja.build(f"build/emulated/{Path(source).stem}.o", "cxx_emulated", [source]) for source in EMULATOR]
    for kernel in EMULATED:
        made = ninja.build(f"build/emulated/{Path(kernel).stem}.cpp", "emulate", [kernel],
                           implicit=["tests/support/emulate/emulate.py"])
        objects.append(ninja.build(f"build/emulated/{Path(kernel).stem}.o", "cxx_emulated", [made], more=EMULATED_FLAGS))
        if kernel in EMULATED_80:
            names = " ".join(f"-D{name}={name}_80" for name in EMULATED_80[kernel])
            objects.append(ninja.build(f"build/emulated/{Path(kernel).stem}_80.o", "cxx_emulated", [made],
                                       more=f"{EMULATED_FLAGS} -DEMULATED_ARCH=800 {names}"))
    ninja.rule("archive", "rm -f $out && ar rcs $out $in", description="ARCHIVE $out")
    host = ninja.build("build/emulated/host.a", "archive",
                       [f"build/release/obj/{Path(source).with_suffix('.o')}"
                        for source in [*sources_of(ROOMS), *(name for name in CUDA if name.endswith(".c"))]])
    return [ninja.build(f"build/release/tests/{name}_emulated", "link_release",
                        [f"build/release/obj/tests/kernels/gpu/{name}.o", *objects, host],
                        implicit=["build/release/tests/libcmocka.so.0"], more=linked_to_cmocka("build/release"))
            for name in CUDA_TESTS]


def find_fuzzing_clang():
    """A clang that has libFuzzer's runtime, or None."""
    for name in ("clang", *(f"clang-{version}" for version in range(30, 13, -1))):
        resources = deps.output_of(name, "--print-resource-dir") if shutil.which(name) else None
        if resources and list(Path(resources.strip()).glob("lib/*/libclang_rt.fuzzer*.a")):
            return name
    return None


def fuzz_edges(ninja):
    """`ninja fuzz`: a minute for each fuzzer; what it finds stays in build/fuzz."""
    clang = find_fuzzing_clang()
    ninja.note(f"libFuzzer: {clang or 'no clang that has it'}")
    if not clang:
        ninja.build("fuzz", "run", title="FUZZ", command="echo 'ninja fuzz needs clang with libFuzzer (Debian: clang, "
                    "libclang-rt-dev), then ./configure.py again; tests/test_fuzz needs neither' && exit 1")
        return
    flags = f"{CFLAGS} {CLANG_FLAGS} -O2 -g {SANITIZE} -w"
    ninja.rule("cc_fuzz", f"{clang} {flags} -fsanitize=fuzzer-no-link -MMD -MF $out.d -c $in -o $out", depfile="$out.d",
               deps="gcc", description="CC $out")
    ninja.rule("link_fuzz", f"{clang} -pthread {SANITIZE} -fsanitize=fuzzer -static-libgcc -static-libstdc++ -o $out $in "
               f"{LIBS}",
               description="FUZZER $out")
    ninja.rule("ar_fuzz", "rm -f $out && ar rcs $out $in", description="AR $out")

    def compile_c(source):
        return ninja.build(f"build/fuzz/obj/{Path(source).with_suffix('.o')}", "cc_fuzz", [source],
                           implicit=[*EMBEDDED, "build/gen/embedded.inc"] if source == EMBED else (),
                           order_only=["build/gen/version.h"])
    fuzz_options = compile_c("tests/fuzz/fuzz_options.c")
    # An archive: libFuzzer looks at the counters of all code after each input, so a reader is linked with what it calls alone.
    library = ninja.build("build/fuzz/library.a", "ar_fuzz",
                          [compile_c(source) for source in [*sources_of(ROOMS), "core/cli/command_json.c",
                                                            "kernels/decode/weights.c", EMBED, *NO_CUDA, *NO_NVTX, *NO_CUPTI]])
    programs = [ninja.build(f"build/fuzz/{name}", "link_fuzz",
                            [compile_c(f"tests/fuzz/fuzz_{name}.c"), fuzz_options, library])
                for name in FUZZERS]
    ninja.build("fuzzers", "phony", programs)
    ninja.build("fuzz", "run", implicit=programs, title=f"FUZZ, {FUZZ_SECONDS} s each; a crash is kept in build/fuzz",
                command="$python tests/fuzz/long_run.py --seconds " + str(FUZZ_SECONDS))


def build_ninja(options, cuda, node):
    """The whole build.ninja, as text."""
    ninja = Ninja()
    ninja.lines.append("# Written by configure.py; run that again rather than edit this.")
    ninja.variable("ninja_required_version", "1.8")
    ninja.variable("builddir", "build")
    given = {name: os.environ[name] for name in ENVIRONMENT if os.environ.get(name)}
    for name, otherwise in {"CC": "gcc", "CXX": "g++"}.items():
        ninja.variable(name.lower(), given.get(name, otherwise).replace("$", "$$"))
    for name in ENVIRONMENT[2:]:
        ninja.variable(name.lower(), given.get(name, "").replace("$", "$$"))
    is_clang = "clang" in deps.output_of(deps.compiler(), "--version")
    ninja.variable("dialect", CLANG_FLAGS if is_clang else "")
    ninja.variable("werror", "-Werror" if options.werror else "")
    ninja.variable("python", as_word(sys.executable))
    keep = "".join(f"{name}={as_word(value)} " for name, value in given.items())
    version = f"--cuda-version={options.cuda_version} " if options.cuda_version else ""
    ninja.rule("configure", f"{keep}$python configure.py --cuda={as_word(options.cuda)} {version}"
               f"--arch={','.join(options.arch)} --plant-slowdown={options.plant_slowdown} "
               f"--plant-kernel={options.plant_kernel}"
               + " --werror" * options.werror, generator=1, description="CONFIGURE build.ninja")
    ninja.build("build.ninja", "configure", implicit=["configure.py", "build_rules.py", "install_deps.py", "wheels.txt"])
    ninja.rule("copy", "cp -L $in $out", description="COPY $out")
    ninja.rule("run", "$command", pool="console", description="$title")
    generated_files(ninja, options, cuda, node)
    if cuda:
        cuda_rule(ninja, cuda, options.arch)

    plants = options.plant_slowdown, options.plant_kernel
    made = {profile: profile_edges(ninja, profile, cuda, plants) for profile in PROFILES}
    ninja.build("emulated", "phony", emulated_edges(ninja, cuda) if emulates("release", cuda) else [])
    ninja.note("Registers, shared memory and spills of every kernel, for `adamas profile --static`.")
    ninja.rule("resources", "$python kernels/sass/resources.py $out $in", description="RESOURCES $out")
    logs = [f"build/release/obj/{source}.o.ptxas" for source in CUDA if source.endswith(".cu")] if cuda else []
    ninja.build("build/gen/kernel_resources.tsv", "resources", logs, implicit=["kernels/sass/resources.py"])
    ninja.note("What one asks for")
    for name, profile in (("all", "release"), ("debug", "debug")):
        program, tests = made[profile]
        library = ["build/release/libadamas.so"] if profile == "release" else []
        ninja.build(name, "phony", [program, *library, *tests, SCHEMA_NOW])
    ninja.build("test", "run", implicit=["all", "emulated"], command="$python tests/run.py", title="TEST")
    ninja.build("lint", "run", command="$python tests/lint.py", title="LINT")
    ninja.build("format", "run", command="$python tests/lint.py --format", title="FORMAT")
    ninja.build("check", "run", implicit=["all"], title="CHECK: lint, unit tests, layering",
                command="$python tests/lint.py && $python tests/run.py --fast")
    program, tests = made["asan"]
    ninja.build("asan-programs", "phony", [program, *tests])
    ninja.build("asan", "run", implicit=["asan-programs", "build/release/libadamas.so"],
                title="TEST with address and undefined-behaviour checks",
                command="$python tests/run.py --profile asan " + " ".join(f"--only {name}" for name in SANITIZED))
    program, tests = made["tsan"]
    ninja.build("tsan", "run", implicit=[program, "build/tsan/tests/test_threads"], title="TSAN: data races at 1 to 8 threads",
                command="$python tests/fuzz/thread_campaign.py build/tsan/adamas build/tsan/tests/test_threads")
    program, tests = made["coverage"]
    ninja.build("coverage", "run", implicit=[program, *tests, "build/release/libadamas.so"], title="COVERAGE",
                command="$python tests/coverage.py")
    ninja.build("demo", "run", implicit=["build/release/adamas"], command="$python demo.py", title="DEMO")
    ninja.build("pictures", "run", implicit=["build/release/adamas"], command=f"{as_word(node)} web-report/tests/pictures.mjs",
                title="PICTURES web-report/pictures: README's")
    ninja.build("bench", "run", implicit=["all"], title="BENCH",
                command="$python demo.py --bench && "
                "$python tests/bench/bench_stages.py && $python tests/bench/bench_replay.py && "
                "build/release/tests/bench_probes && $python tests/bench/bench_regression.py && "
                "$python tests/bench/bench_serving.py")
    if cuda:
        kit = ["build/release/adamas", *(f"build/release/tests/{name}" for name in [*CUDA_TESTS, *BENCHES, "adamas-planted"])]
        ninja.build("gpu-kit", "run", implicit=kit, title="GPU-KIT build/gpu-kit: programs for tests/bench/gpu_session.sh",
                    command=f"mkdir -p build/gpu-kit && for f in {' '.join(kit)}; do "
                    "strip -o build/gpu-kit/$$(basename $$f) $$f; done && "
                    "cp build/release/tests/libcmocka.so.0 build/gpu-kit")
    for name, title in (("install", "below PREFIX"), ("uninstall", "what install wrote"), ("deb", "build/adamas_*.deb"),
                        ("tarball", "build/adamas-*.tar.gz")):
        ninja.build(name, "run", implicit=["build/release/adamas", "build/release/libadamas.so"] if name != "uninstall" else [],
                    title=f"{name.upper()}: {title}",
                    command=f"$python core/cli/install/install.py {name} build/release {VERSION}")
    ninja.build("cupti-matrix", "run", implicit=["build/release/adamas"], command="$python tests/probes/cupti_matrix.py",
                title="CUPTI-MATRIX: the real releases, 48 MB of wheels")
    fuzz_edges(ninja)
    ninja.build("compdb", "run", title="COMPDB compile_commands.json",
                command="ninja -t compdb cc_release cxx_release nvcc > compile_commands.json")
    ninja.lines += ["", "default all", ""]
    return "\n".join(ninja.lines)
