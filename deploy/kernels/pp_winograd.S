/* The inner functions of Winograd convolutions, for Cortex-M4, M7 and M33. The contract is in pp_winograd.h. */
#if defined(__ARM_FEATURE_DSP)

    .syntax unified
    .thumb

/* Transformed inputs: r0 window, r1 bytes of a pixel, r2 of three, r3 row, r4-r11 pixels of two rows, r12 scratch, lr
 * target. A row of a tile is four words of 16 bytes; a pair of channels takes 256 bytes. */
    .equ INPUT_GROUPS, 0
    .equ INPUT_ROW_1, 4
    .equ INPUT_ROW_2, 8
    .equ INPUT_ROW_3, 12
    .equ INPUT_SECOND, 16            /* bytes from the end of the first pass to the second; 0 when that is done */
    .equ INPUT_COUNT, 20
    .equ INPUT_BYTES, 28

/* Four pixels of a row, two channels each. */
.macro pixels row, a, b, c, d
    ldr     \a, [\row]
    ldr     \b, [\row, r1]
    ldr     \c, [\row, r1, lsl #1]
    ldr     \d, [\row, r2]
    sxtb16  \a, \a
    sxtb16  \b, \b
    sxtb16  \c, \c
    sxtb16  \d, \d
.endm

.macro row offset
    ldr     r3, [sp, #\offset]
    add     r3, r3, r0
.endm

.macro subtract_rows
    ssub16  r4, r4, r8
    ssub16  r5, r5, r9
    ssub16  r6, r6, r10
    ssub16  r7, r7, r11
.endm

/* (a - c, b + c, c - b, b - d) of a row that is transformed from above to the row \index of the tile. */
.macro across index, a, b, c, d
    ssub16  r12, \a, \c
    str     r12, [lr, #(64 * \index)]
    sadd16  r12, \b, \c
    str     r12, [lr, #(64 * \index + 16)]
    ssub16  r12, \c, \b
    str     r12, [lr, #(64 * \index + 32)]
    ssub16  r12, \b, \d
    str     r12, [lr, #(64 * \index + 48)]
.endm

/* \a and \b become \a + \b and \b - \a. */
.macro both a, b
    sadd16  r12, \a, \b
    ssub16  \b, \b, \a
    mov     \a, r12
.endm

    .section .text.pp_winograd_input, "ax", %progbits
    .balign 4
    .global pp_winograd_input
    .type   pp_winograd_input, %function
    .thumb_func
pp_winograd_input:
    push    {r4-r11, lr}
    sub     sp, sp, #INPUT_BYTES
    mov     lr, r1
    mov     r1, r2
    lsr     r4, r2, #2
    rsb     r5, r2, #1                      /* the second pass begins one byte further */
    add     r2, r2, r2, lsl #1
    lsl     r6, r3, #1
    add     r7, r6, r3
    str     r4, [sp, #INPUT_GROUPS]
    str     r3, [sp, #INPUT_ROW_1]
    strd    r6, r7, [sp, #INPUT_ROW_2]
    strd    r5, r4, [sp, #INPUT_SECOND]
1:
    pixels  r0, r4, r5, r6, r7
    row     INPUT_ROW_2
    pixels  r3, r8, r9, r10, r11
    subtract_rows
    across  0, r4, r5, r6, r7
    row     INPUT_ROW_1
    pixels  r3, r4, r5, r6, r7
    both    r4, r8
    both    r5, r9
    both    r6, r10
    both    r7, r11
    across  1, r4, r5, r6, r7
    across  2, r8, r9, r10, r11
    pixels  r3, r4, r5, r6, r7
    row     INPUT_ROW_3
    pixels  r3, r8, r9, r10, r11
    subtract_rows
    across  3, r4, r5, r6, r7
    ldrd    r4, r5, [sp, #INPUT_SECOND]
    add     r0, r0, #4
    add     lr, lr, #256
    subs    r5, r5, #1
    str     r5, [sp, #INPUT_COUNT]
    bne     1b
    ldr     r5, [sp, #INPUT_GROUPS]
    add     r0, r0, r4
    movs    r6, #0
    strd    r6, r5, [sp, #INPUT_SECOND]
    cmp     r4, #0
    bne     1b
    add     sp, sp, #INPUT_BYTES
    pop     {r4-r11, pc}
    .size   pp_winograd_input, . - pp_winograd_input

/* Products: r0 weights, r1 inputs, r2-r5 sums of the first output channel for four tiles, r6-r9 of the second, r10 r11
 * weights, r12 lr inputs. */
    .equ FRAME_END, 0                /* of the inputs at this place in the tile */
    .equ FRAME_PRODUCTS, 4
    .equ FRAME_SPAN, 8
    .equ FRAME_LAST_END, 12
    .equ FRAME_INPUTS, 16
    .equ FRAME_FIRST_PRODUCTS, 20
    .equ FRAME_WEIGHTS, 24
    .equ FRAME_PAIRS, 28
    .equ FRAME_TILES, 32
    .equ FRAME_TILES_END, 36
    .equ FRAME_BIAS, 40              /* of two channels, then their multipliers */
    .equ FRAME_MULTIPLIER, 48
    .equ FRAME_NOW_BIAS, 56          /* of the channel that is being finished */
    .equ FRAME_NOW_MULTIPLIER, 60
    .equ FRAME_ZERO_POINT, 64
    .equ FRAME_SHIFT, 68
    .equ FRAME_BYTES, 76

.macro step index
    ldrd    r10, r11, [r0], #8
    ldrd    r12, lr, [r1, #(256 * \index)]
    smlad   r2, r10, r12, r2
    smlad   r6, r11, r12, r6
    smlad   r3, r10, lr, r3
    smlad   r7, r11, lr, r7
    ldrd    r12, lr, [r1, #(256 * \index + 8)]
    smlad   r4, r10, r12, r4
    smlad   r8, r11, r12, r8
    smlad   r5, r10, lr, r5
    smlad   r9, r11, lr, r9
.endm

/* The same, the sums beginning here. */
.macro first_step
    ldrd    r10, r11, [r0], #8
    ldrd    r12, lr, [r1]
    smuad   r2, r10, r12
    smuad   r6, r11, r12
    smuad   r3, r10, lr
    smuad   r7, r11, lr
    ldrd    r12, lr, [r1, #8]
    smuad   r4, r10, r12
    smuad   r8, r11, r12
    smuad   r5, r10, lr
    smuad   r9, r11, lr
.endm

/* Column \column of the products: \a becomes m0 + m1 + m2, \b becomes m1 - m2 - m3. */
.macro down column, a, b
    ldr     \a, [r0, #(32 * \column)]
    ldr     r9, [r0, #(32 * (4 + \column))]
    ldr     r10, [r0, #(32 * (8 + \column))]
    ldr     r12, [r0, #(32 * (12 + \column))]
.if \column == 1
    ldr     lr, [sp, #FRAME_NOW_BIAS]
    add     r9, r9, lr
.endif
    add     \a, \a, r9
    add     \a, \a, r10
    sub     \b, r9, r10
    sub     \b, \b, r12
.endm

.macro kernel name, shifted
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type   \name, %function
    .thumb_func
\name:
    push    {r4-r11, lr}
    sub     sp, sp, #FRAME_BYTES
    ldmia   r0, {r0, r1, r2, r3, r4, r5, r6, r7}    /* as in pp_winograd_work_t */
    add     r8, r1, r3
    add     r8, r8, #240                    /* the end of the last place's inputs */
    strd    r3, r8, [sp, #FRAME_SPAN]
    strd    r1, r2, [sp, #FRAME_INPUTS]
    strd    r4, r6, [sp, #FRAME_ZERO_POINT]
    str     r5, [sp, #FRAME_PAIRS]
    add     r8, r7, #48
    strd    r7, r8, [sp, #FRAME_TILES]
0:  /* two output channels */
    ldmia   r0!, {r2-r5}
    strd    r2, r3, [sp, #FRAME_BIAS]
    strd    r4, r5, [sp, #FRAME_MULTIPLIER]
    ldrd    r1, r2, [sp, #FRAME_INPUTS]
    ldr     r3, [sp, #FRAME_SPAN]
    add     r3, r3, r1
    strd    r3, r2, [sp, #FRAME_END]
1:  /* a place in the tile */
    first_step
    b       3f
2:
    step    0
3:
    step    1
    step    2
    step    3
    add     r1, r1, #1024
    ldrd    r10, r11, [sp, #FRAME_END]
    cmp     r1, r10
    bne     2b
    stmia   r11!, {r2-r9}
    ldrd    r2, r3, [sp, #FRAME_SPAN]
    sub     r1, r1, r2
    add     r1, r1, #16
    add     r4, r10, #16
    strd    r4, r11, [sp, #FRAME_END]
    cmp     r10, r3
    bne     1b
    str     r0, [sp, #FRAME_WEIGHTS]
    ldr     r0, [sp, #FRAME_FIRST_PRODUCTS]
    ldr     r1, [sp, #FRAME_BIAS]
    ldr     r2, [sp, #FRAME_MULTIPLIER]
4:  /* an output channel */
    strd    r1, r2, [sp, #FRAME_NOW_BIAS]
    ldr     r11, [sp, #FRAME_TILES]
5:  /* a tile */
    down    0, r1, r5
    down    1, r2, r6
    down    2, r3, r7
    down    3, r4, r8
    add     r1, r1, r2
    add     r1, r1, r3
    sub     r2, r2, r3
    sub     r2, r2, r4
    add     r5, r5, r6
    add     r5, r5, r7
    sub     r6, r6, r7
    sub     r6, r6, r8
    ldrd    r9, r10, [sp, #FRAME_NOW_MULTIPLIER]
    asr     r1, r1, #2
    asr     r2, r2, #2
    asr     r5, r5, #2
    asr     r6, r6, #2
.if \shifted
    ldr     r12, [sp, #FRAME_SHIFT]
    lsl     r1, r1, r12
    lsl     r2, r2, r12
    lsl     r5, r5, r12
    lsl     r6, r6, r12
.endif
    smmlar  r1, r1, r9, r10
    smmlar  r2, r2, r9, r10
    smmlar  r5, r5, r9, r10
    smmlar  r6, r6, r9, r10
    ldmia   r11, {r3, r4, r7}               /* output, right, down */
    ssat    r1, #8, r1
    ssat    r2, #8, r2
    ssat    r5, #8, r5
    ssat    r6, #8, r6
    add     r7, r7, r3
    strb    r6, [r7, r4]
    strb    r5, [r7]
    strb    r2, [r3, r4]
    strb    r1, [r3], #1
    str     r3, [r11], #12
    adds    r0, r0, #4
    ldr     r12, [sp, #FRAME_TILES_END]
    cmp     r11, r12
    bne     5b
    ldr     r1, [sp, #(FRAME_BIAS + 4)]
    ldr     r2, [sp, #(FRAME_MULTIPLIER + 4)]
    ldr     r3, [sp, #FRAME_FIRST_PRODUCTS]
    add     r3, r3, #16                     /* the first channel's products are done, or the second's */
    cmp     r0, r3
    beq     4b
    ldrd    r0, r3, [sp, #FRAME_WEIGHTS]
    subs    r3, r3, #1
    str     r3, [sp, #FRAME_PAIRS]
    bne     0b
    add     sp, sp, #FRAME_BYTES
    pop     {r4-r11, pc}
    .size   \name, . - \name
.endm

    kernel  pp_winograd_tiles, 0
    kernel  pp_winograd_tiles_shifted, 1

#endif
