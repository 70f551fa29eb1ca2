/* sass_mix.c: instructions by kind; see sass_mix.h.
 *
 *   Function : _Z12topk_cluster...
 *   an offset as a comment, then                       LDC R1, c[0x0][0x28] ;     and its encoding as a comment
 *   an offset as a comment, then a predicate           @P0 BRA 0x120 ; */
#include "kernels/sass/sass_mix.h"

#include <ctype.h>
#include <string.h>

/* The start of an opcode; the first kind that has it counts, and the last has all. */
static const struct {
    const char *name, *words, *starts[20];
} kinds[ADM_SASS_KINDS] = {
    {"global", "loads, stores and atomics of device memory", {"LDG", "STG", "LD.", "ST.", "ATOMG", "ATOM.", "REDG", "RED."}},
    {"copy", "asynchronous and bulk copies", {"LDGSTS", "UBLKCP", "UTMA", "UBLKRED", "LDGDEPBAR", "DEPBAR"}},
    {"shared", "loads, stores and atomics of shared memory", {"LDS", "STS", "ATOMS", "LDSM", "STSM", "STAS", "REDAS"}},
    {"local", "local memory: spills, arrays indexed at run time", {"LDL", "STL"}},
    {"constant", "constants", {"LDC", "ULDC"}},
    {"matrix", "matrix products", {"HMMA", "IMMA", "BMMA", "DMMA", "QMMA", "HGMMA", "IGMMA", "QGMMA", "BGMMA", "WARPGROUP"}},
    {"float",
     "floating point",
     {"FADD", "FMUL", "FFMA", "FMNMX", "FSETP", "FSEL", "FSET", "HADD", "HMUL", "HFMA", "HSET", "HMNMX", "DADD", "DMUL", "DFMA",
      "DSETP"}},
    {"special",
     "transcendentals, conversions, population counts",
     {"MUFU", "F2F", "F2I", "I2F", "I2I", "FRND", "POPC", "FLO", "BREV", "F2FP", "UPOPC", "UFLO"}},
    {"warp", "shuffles, votes, reductions of a warp", {"SHFL", "VOTE", "REDUX", "MATCH", "R2UR", "CREDUX"}},
    {"barrier",
     "barriers and fences",
     {"BAR", "WARPSYNC", "MEMBAR", "FENCE", "ERRBAR", "CCTL", "SYNCS", "UCGABAR", "ACQBULK", "NANOSLEEP"}},
    {"control",
     "branches and their bookkeeping",
     {"BRA", "BRX", "JMP", "JMX", "CALL", "RET", "EXIT", "BSSY", "BSYNC", "BREAK", "YIELD", "KILL", "BPT", "NOP", "PREEXIT",
      "ELECT"}},
    {"move",
     "moves and selections",
     {"MOV", "UMOV", "SEL", "USEL", "PRMT", "UPRMT", "S2R", "S2UR", "CS2R", "P2R", "R2P", "PLOP3", "UPLOP3"}},
    {"integer", "integer and logic, addresses among them", {""}},
};

const char *adm_sass_kind_name(int kind) { return kinds[kind].name; }
const char *adm_sass_kind_words(int kind) { return kinds[kind].words; }

static bool is_start(const char *opcode, const char *start) { return strncmp(opcode, start, strlen(start)) == 0; }

static int kind_of(const char *opcode) {
    if (is_start(opcode, "LDGSTS") || is_start(opcode, "LDGDEPBAR")) return 1; /* copies that begin as loads do */
    for (int k = 0; k < ADM_SASS_KINDS; k++)
        for (size_t i = 0; i < sizeof kinds[k].starts / sizeof *kinds[k].starts && kinds[k].starts[i] != NULL; i++)
            if (is_start(opcode, kinds[k].starts[i])) return k;
    return ADM_SASS_KINDS - 1;
}

static void begin_kernel(adm_sass_reader *r, const char *name) {
    const bool takes = r->takes == NULL || r->takes(r->user, name);
    for (int i = 0; i < 2; i++) {
        r->counts[i] = takes && (r->kernel[i] != NULL ? strstr(name, r->kernel[i]) != NULL : i == 0);
        r->mix[i].n_kernels += r->counts[i];
    }
}

void adm_sass_read(adm_sass_reader *r, const char *line) {
    const char *name = strstr(line, "Function : "), *at = line + strspn(line, " \t");
    if (name != NULL) begin_kernel(r, name);
    if (name != NULL || strncmp(at, "/*", 2) != 0 || !isxdigit((unsigned char)at[2])) return;
    at = strstr(at, "*/");
    if (at == NULL) return;
    at += 2 + strspn(at + 2, " \t");
    if (*at == '@') { /* a predicate */
        at += strcspn(at, " ");
        at += strspn(at, " ");
    }
    if (!isupper((unsigned char)*at)) return; /* the second half of an encoding */
    for (int i = 0; i < 2; i++)
        if (r->counts[i]) {
            r->mix[i].n++;
            r->mix[i].count[kind_of(at)]++;
        }
}
