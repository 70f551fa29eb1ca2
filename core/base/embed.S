/*
 * Files the program carries inside itself, so that one executable is all a machine needs.
 *
 *     adm_embed_NAME  ->  | bytes of the file ... | 0 |
 *                                                  ^ adm_embed_NAME_end
 *
 * The end symbol stands on the closing NUL: end - start is the file's size, and the start is also a C string.
 * C declares both as `extern const char adm_embed_NAME[], adm_embed_NAME_end[];`.
 *
 * Paths are relative to the top level, where ninja runs; configure.py names the same files as dependencies.
 * Works for ELF on x86-64 and AArch64.
 */
.macro embed name, file
    .balign 16
    .globl  \name
    .hidden \name
    .type   \name, %object
\name:
    .incbin "\file"
    .globl  \name\()_end
    .hidden \name\()_end
    .type   \name\()_end, %object
\name\()_end:
    .byte   0
    .size   \name, . - \name
.endm

    .section .rodata
    embed adm_embed_schema_sql, core/store/schema/1.sql
    embed adm_embed_schema_2_sql, core/store/schema/2.sql
    embed adm_embed_schema_3_sql, core/store/schema/3.sql
    embed adm_embed_schema_4_sql, core/store/schema/4.sql
    embed adm_embed_schema_5_sql, core/store/schema/5.sql
    embed adm_embed_report_template, build/gen/report_template.html
    embed adm_embed_set_basic, probes/sets/basic.metrics
    embed adm_embed_set_memory, probes/sets/memory.metrics
    embed adm_embed_set_full, probes/sets/full.metrics
    embed adm_embed_set_mix, probes/sets/mix.metrics
    embed adm_embed_kernel_resources, build/gen/kernel_resources.tsv

    .section .note.GNU-stack, "", %progbits
