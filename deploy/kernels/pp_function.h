/* For assembler: a function in a section of its own, so the linker keeps only what a program calls. */
    .syntax unified
    .thumb

.macro function name
    .section .text.\name, "ax", %progbits
    .global \name
    .type   \name, %function
    .thumb_func
\name:
.endm
