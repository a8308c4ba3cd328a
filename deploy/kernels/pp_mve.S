/* Four rows at a time with vectors of 16 inputs, for Cortex-M55. The contract is in pp_mve.h.
 *
 * Registers inside a block:  r1 first input, r5 input, r3 blocks, r2 output, r4 r6 r8 r10 sums, r7 inputs,
 * r9 zero point, r11 shift, r12 rows left, lr the loop's count. Nibbles: r4 and r8 sum two rows each, q4 masks the low
 * halves, q5 is what the eights add to every second row, q6 the shifts, which take the 16 times off the others. */
#if defined(__ARM_FEATURE_MVE)

#include "pp_function.h"

    .equ BLOCKS, 0
    .equ INPUTS, 4
    .equ ROWS, 8
    .equ ZERO_POINT, 12
    .equ LOW, 16
    .equ SHIFT, 24

/* Fields into registers, the clamp into vectors. */
.macro fields low, high
    ldrd    r4, r5, [r0, #LOW]
    vdup.32 \low, r4
    vdup.32 \high, r5
    ldr     r3, [r0, #BLOCKS]
    ldr     r7, [r0, #INPUTS]
    ldr     r12, [r0, #ROWS]
    ldr     r9, [r0, #ZERO_POINT]
    ldr     r11, [r0, #SHIFT]
.endm

/* The four sums as lanes. */
.macro lanes
    vmov    q0[2], q0[0], r4, r8
    vmov    q0[3], q0[1], r6, r10
.endm

/* Requantize the shifted sums, clamp, store as many as there are rows left; flags say whether more are. */
.macro finish low, high
    vldrw.u32 q1, [r3], #16
    vrmulh.s32 q0, q0, q1
    vadd.i32 q0, q0, r9
    vmax.s32 q0, q0, \low
    vmin.s32 q0, q0, \high
    vctp.32 r12
    vpst
    vstrbt.32 q0, [r2], #4
    subs    r12, r12, #4
.endm

.macro row_bytes sum
    vldrb.8 q1, [r3], #16
    vmladava.s8 \sum, q0, q1
.endm

function pp_mve_rows_bytes
    push    {r4-r11, lr}
    fields  q2, q3
1:  ldm     r3!, {r4, r6, r8, r10}
    mov     r5, r1
    dlstp.8 lr, r7
2:  vldrb.8 q0, [r5], #16
    row_bytes r4
    row_bytes r6
    row_bytes r8
    row_bytes r10
    letp    lr, 2b
    lanes
    vshl.s32 q0, r11
    finish  q2, q3
    bhi     1b
    pop     {r4-r11, pc}
    .size   pp_mve_rows_bytes, . - pp_mve_rows_bytes

/* Two rows by one multiplication, and the row of the low halves alone. */
.macro two_rows both, second
    vldrb.8 q1, [r3], #16
    vmladava.s8 \both, q0, q1
    vand    q1, q1, q4
    vmladava.s8 \second, q0, q1
.endm

function pp_mve_rows_nibbles
    push    {r4-r11, lr}
    vpush   {d8-d13}
    fields  q2, q3
    vmov.i8 q4, #15
    vdup.32 q6, r11
    subs    r11, r11, #4
    vmov    q6[2], q6[0], r11, r11
    movs    r0, #0
    ldm     r3!, {r4, r6, r8, r10}
    mov     r5, r1
    dlstp.8 lr, r7
1:  vldrb.8 q0, [r5], #16
    vaddva.s8 r0, q0
    two_rows r4, r6
    two_rows r8, r10
    letp    lr, 1b
    lsls    r0, r0, #3
    movs    r5, #0
    vmov    q5[2], q5[0], r5, r5
    vmov    q5[3], q5[1], r0, r0
    b       4f
2:  ldm     r3!, {r4, r6, r8, r10}
    mov     r5, r1
    dlstp.8 lr, r7
3:  vldrb.8 q0, [r5], #16
    two_rows r4, r6
    two_rows r8, r10
    letp    lr, 3b
4:  subs    r4, r4, r6
    sub     r8, r8, r10
    lanes
    vsub.i32 q0, q0, q5
    vshl.s32 q0, q0, q6
    finish  q2, q3
    bhi     2b
    vpop    {d8-d13}
    pop     {r4-r11, pc}
    .size   pp_mve_rows_nibbles, . - pp_mve_rows_nibbles

function pp_mve_copy
    mov     r3, lr
    wlstp.8 lr, r2, 2f
1:  vldrb.8 q0, [r1], #16
    vstrb.8 q0, [r0], #16
    letp    lr, 1b
2:  bx      r3
    .size   pp_mve_copy, . - pp_mve_copy

#endif
