/*
 * Files the program carries inside itself, so that one executable is all a machine needs.
 *
 *     .rodata                bytes of the file ... | 0        a closing NUL, so that the data is also a C string
 *     adm_embedded_table     path, name, data, n_bytes        a row per file: adm_embedded_file of embedded.h
 *     adm_embedded_table_end
 *
 * Which files: configure.py's EMBEDDED, as lines `embed "PATH", "NAME"` that ninja writes into build/gen/embedded.inc. Paths
 * are relative to the top level, where ninja runs. Works for ELF on x86-64 and AArch64.
 */
.macro embed file, name
    .pushsection .rodata.embedded, "a", %progbits
    .balign 16
.Ldata\@:
    .incbin "\file"
.Lend\@:
    .byte 0
.Lpath\@:
    .asciz "\file"
.Lname\@:
    .asciz "\name"
    .popsection
    .quad .Lpath\@, .Lname\@, .Ldata\@, .Lend\@ - .Ldata\@
.endm

    .section .data.rel.ro.embedded, "aw", %progbits
    .balign 8
    .globl  adm_embedded_table
    .hidden adm_embedded_table
    .type   adm_embedded_table, %object
adm_embedded_table:
#include "build/gen/embedded.inc"
    .size   adm_embedded_table, . - adm_embedded_table
    .globl  adm_embedded_table_end
    .hidden adm_embedded_table_end
adm_embedded_table_end:

    .section .note.GNU-stack, "", %progbits
