/* Four rows at a time with vectors of 16 inputs, for Cortex-M55. The contract is in pp_mve.h.
 *
 * Registers inside a block:  r1 first input, r5 input, r3 blocks, r2 output, r4 r6 r8 r10 sums, r7 inputs or rounds,
 * r9 zero point, r11 shift, r12 rows left, lr the loop's count; nibbles: r0 what the eights add. */
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

/* Requantize the four sums, clamp, store as many as there are rows left; flags say whether more are. */
.macro finish low, high
    vmov    q0[2], q0[0], r4, r8
    vmov    q0[3], q0[1], r6, r10
    vldrw.u32 q1, [r3], #16
    vshl.s32 q0, r11
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
    finish  q2, q3
    bhi     1b
    pop     {r4-r11, pc}
    .size   pp_mve_rows_bytes, . - pp_mve_rows_bytes

.macro row_nibbles sum
    vldrb.8 q2, [r3], #16
    vshr.s8 q3, q2, #4
    vmladava.s8 \sum, q1, q3
    vand    q2, q2, q6
    vmladava.s8 \sum, q0, q2
.endm

function pp_mve_rows_nibbles
    push    {r4-r11, lr}
    vpush   {d8-d13}
    fields  q4, q5
    vmov.i8 q6, #15
    adds    r7, r7, #31
    lsrs    r7, r7, #5
    movs    r0, #0
    mov     r5, r1
    dls     lr, r7
1:  vldrb.8 q0, [r5], #32
    vaddva.s8 r0, q0
    le      lr, 1b
    lsls    r0, r0, #3
2:  ldm     r3!, {r4, r6, r8, r10}
    subs    r4, r4, r0
    subs    r6, r6, r0
    sub     r8, r8, r0
    sub     r10, r10, r0
    mov     r5, r1
    dls     lr, r7
3:  vldrb.8 q0, [r5], #16
    vldrb.8 q1, [r5], #16
    row_nibbles r4
    row_nibbles r6
    row_nibbles r8
    row_nibbles r10
    le      lr, 3b
    finish  q4, q5
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
