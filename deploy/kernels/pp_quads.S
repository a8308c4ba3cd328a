/* Sums of eight rows, or four, for Cortex-M0, M0+ and M3. The contract is in pp_quads.h.
 *
 * Cortex-M3 multiplies and adds in one instruction. Cortex-M0 and M0+ have eight registers for almost everything; the
 * others hold sums, which ADD reaches, and addresses. */
#if defined(__thumb__)

#include "pp_function.h"

/* One input times the weights of four rows from `at` on. */
.macro four at, a, b, c, d
    byte    \at, \a
    byte    \at+1, \b
    byte    \at+2, \c
    byte    \at+3, \d
.endm

#if __ARM_ARCH_ISA_THUMB >= 2

/* r0 weights, r1 input, r2 its end, r3 an input, r12 a weight, sums in r4-r11; their address waits on the stack. */
.macro byte at, sum
    ldrb    r12, [r0, #\at]
    mla     \sum, r3, r12, \sum
.endm

function pp_quads_sum8_bytes
    push    {r3-r11, lr}
    ldmia   r3, {r4-r11}
1:
    .irp at, 0, 1, 2, 3, 4, 5, 6, 7
    ldrb    r3, [r1, #\at]
    four    8*\at, r4, r5, r6, r7
    four    8*\at+4, r8, r9, r10, r11
    .endr
    adds    r0, #64
    adds    r1, #8
    cmp     r1, r2
    bne     1b
    ldr     r3, [sp]
    stmia   r3, {r4-r11}
    pop     {r3-r11, pc}
    .size   pp_quads_sum8_bytes, . - pp_quads_sum8_bytes

function pp_quads_sum4_bytes
    push    {r3-r7, lr}
    ldmia   r3, {r4-r7}
1:
    .irp at, 0, 1, 2, 3, 4, 5, 6, 7
    ldrb    r3, [r1, #\at]
    four    4*\at, r4, r5, r6, r7
    .endr
    adds    r0, #32
    adds    r1, #8
    cmp     r1, r2
    bne     1b
    ldr     r3, [sp]
    stmia   r3, {r4-r7}
    pop     {r3-r7, pc}
    .size   pp_quads_sum4_bytes, . - pp_quads_sum4_bytes

/* r3 an input, r4-r7 sums of rows 0 and 4, 1 and 5, ...; r8 mask, r9 weights, r10 of two rows, r11 rounds, r12 address. */
.macro input_nibbles at
    ldrb    r3, [r1, #\at]
    ldr     r9, [r0, #4*\at]
    and     r10, r8, r9
    mla     r4, r3, r10, r4
    and     r10, r8, r9, lsr #4
    mla     r5, r3, r10, r5
    and     r10, r8, r9, lsr #8
    mla     r6, r3, r10, r6
    and     r10, r8, r9, lsr #12
    mla     r7, r3, r10, r7
.endm

.macro part row, pair
    ldr     r9, [r12, #4*\row]
    uxth    r10, \pair
    add     r9, r9, r10
    str     r9, [r12, #4*\row]
    ldr     r9, [r12, #4*\row+16]
    add     r9, r9, \pair, lsr #16
    str     r9, [r12, #4*\row+16]
.endm

function pp_quads_sum8_nibbles
    push    {r4-r11, lr}
    mov     r12, r3
    mov     r8, #0x000F000F
1:  movs    r4, #0
    movs    r5, #0
    movs    r6, #0
    movs    r7, #0
    mov     r11, #2
2:
    .irp at, 0, 1, 2, 3, 4, 5, 6, 7
    input_nibbles \at
    .endr
    adds    r0, #32
    adds    r1, #8
    subs    r11, r11, #1
    bne     2b
    part    0, r4
    part    1, r5
    part    2, r6
    part    3, r7
    cmp     r1, r2
    bne     1b
    pop     {r4-r11, pc}
    .size   pp_quads_sum8_nibbles, . - pp_quads_sum8_nibbles

/* r11 the input at which the halves of the sums are full, else as above. */
.macro four_crumbs at
    and     r10, r8, r9, lsr #\at
    mla     r4, r3, r10, r4
    and     r10, r8, r9, lsr #\at+2
    mla     r5, r3, r10, r5
    and     r10, r8, r9, lsr #\at+4
    mla     r6, r3, r10, r6
    and     r10, r8, r9, lsr #\at+6
    mla     r7, r3, r10, r7
.endm

function pp_quads_sum8_crumbs
    push    {r4-r11, lr}
    mov     r12, r3
    mov     r8, #0x00030003
1:  movs    r4, #0
    movs    r5, #0
    movs    r6, #0
    movs    r7, #0
    add     r11, r1, #64
2:
    .irp at, 0, 1, 2, 3
    ldr     r9, [r0, #4*\at]
    ldrb    r3, [r1, #2*\at]
    four_crumbs 0
    ldrb    r3, [r1, #2*\at+1]
    four_crumbs 8
    .endr
    adds    r0, #16
    adds    r1, #8
    cmp     r1, r2
    beq     3f
    cmp     r1, r11
    bne     2b
3:  part    0, r4
    part    1, r5
    part    2, r6
    part    3, r7
    cmp     r1, r2
    bne     1b
    pop     {r4-r11, pc}
    .size   pp_quads_sum8_crumbs, . - pp_quads_sum8_crumbs

#else

/* r0 weights, r1 input, r2 an input, r3 a weight, r12 end of the input, sums in r8-r11 and r4-r7; their address waits on
 * the stack. */
.macro byte at, sum
    ldrb    r3, [r0, #\at]
    muls    r3, r2, r3
    add     \sum, r3
.endm

.macro eight input, at
    ldrb    r2, [r1, #\input]
    four    \at, r8, r9, r10, r11
    four    \at+4, r4, r5, r6, r7
.endm

.macro save
    push    {r3-r7, lr}
    mov     r4, r8
    mov     r5, r9
    mov     r6, r10
    mov     r7, r11
    push    {r4-r7}
.endm

.macro restore
    pop     {r4-r7}
    mov     r8, r4
    mov     r9, r5
    mov     r10, r6
    mov     r11, r7
    pop     {r3-r7, pc}
.endm

function pp_quads_sum8_bytes
    save
    mov     r12, r2
    ldmia   r3!, {r4-r7}
    mov     r8, r4
    mov     r9, r5
    mov     r10, r6
    mov     r11, r7
    ldmia   r3!, {r4-r7}
1:
    .irp at, 0, 1, 2, 3
    eight   \at, 8*\at
    .endr
    adds    r0, #32
    .irp at, 0, 1, 2, 3
    eight   4+\at, 8*\at
    .endr
    adds    r0, #32
    adds    r1, #8
    cmp     r1, r12
    beq     2f
    b       1b
2:  ldr     r3, [sp, #16]
    mov     r1, r8
    mov     r2, r9
    stmia   r3!, {r1, r2}
    mov     r1, r10
    mov     r2, r11
    stmia   r3!, {r1, r2}
    stmia   r3!, {r4-r7}
    restore
    .size   pp_quads_sum8_bytes, . - pp_quads_sum8_bytes

function pp_quads_sum4_bytes
    push    {r3-r7, lr}
    mov     r12, r2
    ldmia   r3!, {r4-r7}
1:
    .irp at, 0, 1, 2, 3, 4, 5, 6, 7
    ldrb    r2, [r1, #\at]
    four    4*\at, r4, r5, r6, r7
    .endr
    adds    r0, #32
    adds    r1, #8
    cmp     r1, r12
    bne     1b
    ldr     r3, [sp]
    stmia   r3!, {r4-r7}
    pop     {r3-r7, pc}
    .size   pp_quads_sum4_bytes, . - pp_quads_sum4_bytes

/* r3 weights, r4 of two rows, r5 mask, r6-r9 sums of rows 0 and 4, 1 and 5, ...; r10 end, r11 address, r12 rounds. */
.macro pair sum
    mov     r4, r5
    ands    r4, r4, r3
    muls    r4, r2, r4
    add     \sum, r4
.endm

.macro input_nibbles at
    ldrb    r2, [r1, #\at]
    ldmia   r0!, {r3}
    pair    r6
    lsrs    r3, r3, #4
    pair    r7
    lsrs    r3, r3, #4
    pair    r8
    lsrs    r3, r3, #4
    pair    r9
.endm

/* r2 address of the sums. */
.macro part row, pair
    mov     r4, \pair
    ldr     r3, [r2, #4*\row+16]
    lsrs    r5, r4, #16
    adds    r3, r3, r5
    str     r3, [r2, #4*\row+16]
    ldr     r3, [r2, #4*\row]
    uxth    r4, r4
    adds    r3, r3, r4
    str     r3, [r2, #4*\row]
.endm

/* All pairs; r11 address of the sums. */
.macro parts
    mov     r2, r11
    part    0, r6
    part    1, r7
    part    2, r8
    part    3, r9
.endm

function pp_quads_sum8_nibbles
    save
    mov     r10, r2
    mov     r11, r3
1:  ldr     r5, =0x000F000F
    movs    r6, #0
    movs    r7, #0
    mov     r8, r6
    mov     r9, r6
    movs    r4, #2
    mov     r12, r4
2:
    .irp at, 0, 1, 2, 3, 4, 5, 6, 7
    input_nibbles \at
    .endr
    adds    r1, #8
    mov     r4, r12
    subs    r4, r4, #1
    mov     r12, r4
    beq     3f
    b       2b
3:  parts
    cmp     r1, r10
    beq     4f
    b       1b
4:  restore
    .pool
    .size   pp_quads_sum8_nibbles, . - pp_quads_sum8_nibbles

/* r12 the input at which the halves of the sums are full, else as above. */
.macro four_crumbs input
    ldrb    r2, [r1, #\input]
    pair    r6
    lsrs    r3, r3, #2
    pair    r7
    lsrs    r3, r3, #2
    pair    r8
    lsrs    r3, r3, #2
    pair    r9
.endm

function pp_quads_sum8_crumbs
    save
    mov     r10, r2
    mov     r11, r3
1:  ldr     r5, =0x00030003
    movs    r6, #0
    movs    r7, #0
    mov     r8, r6
    mov     r9, r6
    mov     r4, r1
    adds    r4, #64
    mov     r12, r4
2:
    .irp at, 0, 1, 2, 3
    ldmia   r0!, {r3}
    four_crumbs 2*\at
    lsrs    r3, r3, #2
    four_crumbs 2*\at+1
    .endr
    adds    r1, #8
    cmp     r1, r10
    beq     3f
    cmp     r1, r12
    beq     3f
    b       2b
3:  parts
    cmp     r1, r10
    beq     4f
    b       1b
4:  restore
    .pool
    .size   pp_quads_sum8_crumbs, . - pp_quads_sum8_crumbs

#endif

#endif
