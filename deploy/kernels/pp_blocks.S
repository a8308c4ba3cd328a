/* Four rows at a time with SMLAD, for Cortex-M4, M7 and M33. The contract is in pp_blocks.h.
 *
 * One macro makes every kernel: a layout for the sums, an end for the results. Each lies in a section of its
 * own, so the linker keeps only those that a program calls.
 *
 * Registers inside a block:  r0 weights, r1 input, r2-r5 sums, r6-r9 weights, r10 r11 input, r12 rounds left,
 * lr output (layout bytes: scratch). The eight steps of a round are unrolled; the first round is entered in
 * the middle where the number of steps is no multiple of eight: LDM loads input, rounds and pc at once. */
#if defined(__ARM_FEATURE_DSP)

    .syntax unified
    .thumb

    .equ FRAME_INPUT, 0
    .equ FRAME_ROUNDS, 4
    .equ FRAME_ENTRY, 8
    .equ FRAME_ZERO_POINT, 12
    .equ FRAME_END, 16
    .equ FRAME_TABLE, 20
    .equ FRAME_SHIFT, 24
    .equ FRAME_OUTPUT, 28
    .equ FRAME_SUMS, 32              /* of the inputs, times 8, 136, 2184 and 2184: layout nibbles */
    .equ FRAME_BYTES, 52

    .equ STEP_BYTES_pairs, 56
    .equ STEP_BYTES_bytes, 72
    .equ STEP_BYTES_halfwords, 44
    .equ STEP_BYTES_nibbles, 64

/* Sums of rows (a, b) for two inputs in \x: one word of pairs. */
.macro pair w, x, a, b
    smlad   \a, \w, \x, \a
    sxtb16  \w, \w
    smlad   \b, \w, \x, \b
.endm

.macro step_pairs
    ldmia   r0!, {r6-r9}
    ldrd    r10, r11, [r1], #8
    pair    r6, r10, r2, r3
    pair    r7, r10, r4, r5
    pair    r8, r11, r2, r3
    pair    r9, r11, r4, r5
.endm

/* Sum of one row for four inputs: one word of bytes. */
.macro row_bytes w, sum
    sxtb16  lr, \w
    smlad   \sum, lr, r10, \sum
    sxtb16  \w, \w, ror #8
    smlad   \sum, \w, r11, \sum
.endm

.macro step_bytes
    ldmia   r0!, {r6-r9}
    ldrd    r10, r11, [r1], #8
    row_bytes r6, r2
    row_bytes r7, r3
    row_bytes r8, r4
    row_bytes r9, r5
.endm

.macro rows_halfwords x
    smlad   r2, r6, \x, r2
    smlad   r3, r7, \x, r3
    smlad   r4, r8, \x, r4
    smlad   r5, r9, \x, r5
.endm

.macro step_halfwords
    ldmia   r0!, {r6-r9}
    ldrd    r10, r11, [r1], #8
    rows_halfwords r10
    ldmia   r0!, {r6-r9}
    rows_halfwords r11
.endm

/* All four rows, highest digit first, each sum still holding the digits below: one word of nibbles. */
.macro rows_nibbles w, x
    smlad   r5, \w, \x, r5
    bic     \w, \w, #0xF000F000
    smlad   r4, \w, \x, r4
    uxtb16  \w, \w
    smlad   r3, \w, \x, r3
    and     \w, \w, #0x000F000F
    smlad   r2, \w, \x, r2
.endm

.macro step_nibbles
    ldrd    r6, r7, [r0], #8
    ldrd    r10, r11, [r1], #8
    rows_nibbles r6, r10
    rows_nibbles r7, r11
.endm

.macro prepare_pairs
.endm

.macro prepare_bytes
.endm

.macro prepare_halfwords
.endm

/* The sum of the inputs; r3 steps to skip, r4 rounds. */
.macro prepare_nibbles
    rsb     r3, r3, r4, lsl #3
    mov     r4, #0
    mov     r5, #0x00010001
    lsrs    r3, r3, #1                      /* two steps at a time, behind the first where they are odd */
    bcc     2f
    ldrd    r10, r11, [r1], #8
    smlad   r4, r10, r5, r4
    smlad   r4, r11, r5, r4
    cbz     r3, 3f
2:
    ldmia   r1!, {r6-r9}
    smlad   r4, r6, r5, r4
    smlad   r4, r7, r5, r4
    smlad   r4, r8, r5, r4
    smlad   r4, r9, r5, r4
    subs    r3, r3, #1
    bne     2b
3:
    mov     r5, #136
    movw    r6, #2184
    mul     r5, r4, r5
    mul     r6, r4, r6
    lsl     r4, r4, #3
    strd    r4, r5, [sp, #FRAME_SUMS]
    strd    r6, r6, [sp, #FRAME_SUMS + 8]
.endm

.macro start_pairs
.endm

.macro start_bytes
.endm

.macro start_halfwords
.endm

/* The stored digits are the weights plus eight, but for the highest. */
.macro start_nibbles
    ldrd    r6, r7, [sp, #FRAME_SUMS]
    ldrd    r8, r9, [sp, #FRAME_SUMS + 8]
    sub     r2, r2, r6
    sub     r3, r3, r7
    sub     r4, r4, r8
    sub     r5, r5, r9
.endm

/* pairs: 256 * A + B and B become A and B. */
.macro separate_pairs
    sub     r2, r2, r3
    sub     r4, r4, r5
    asr     r2, r2, #8
    asr     r4, r4, #8
.endm

.macro separate_bytes
.endm

.macro separate_halfwords
.endm

/* nibbles: each sum loses the one below it, then moves to its place. */
.macro separate_nibbles
    sub     r5, r5, r4
    sub     r4, r4, r3
    sub     r3, r3, r2
    asr     r5, r5, #12
    asr     r4, r4, #8
    asr     r3, r3, #4
.endm

/* bytes needs lr as scratch and keeps the output pointer in the frame. */
.macro output_to_lr layout
.ifc \layout, bytes
    ldr     lr, [sp, #FRAME_OUTPUT]
.endif
.endm

.macro output_from_lr layout
.ifc \layout, bytes
    str     lr, [sp, #FRAME_OUTPUT]
.endif
.endm

.macro saturate8
    ssat    r2, #8, r2
    ssat    r3, #8, r3
    ssat    r4, #8, r4
    ssat    r5, #8, r5
.endm

.macro saturate16
    ssat    r2, #16, r2
    ssat    r3, #16, r3
    ssat    r4, #16, r4
    ssat    r5, #16, r5
.endm

.macro pack
    pkhbt   r2, r2, r3, lsl #16
    pkhbt   r3, r4, r5, lsl #16
.endm

.macro end_s8
    saturate8
    pack
.endm

.macro end_s8_table
    saturate8
    ldr     r6, [sp, #FRAME_TABLE]
    ldrsb   r2, [r6, r2]
    ldrsb   r3, [r6, r3]
    ldrsb   r4, [r6, r4]
    ldrsb   r5, [r6, r5]
    pack
.endm

.macro end_s16
    saturate16
    pack
.endm

.macro end_s16_relu
    usat    r2, #15, r2
    usat    r3, #15, r3
    usat    r4, #15, r4
    usat    r5, #15, r5
    pack
.endm

/* q to 256 times its table value, rounded: r6 table, r7 65535, r8 256, r9 128.
 * One unaligned load takes both neighbours; fraction * 65535 + 256 is (fraction, 256 - fraction) as halves. */
.macro interpolate q, neighbours
    asr     \neighbours, \q, #8
    ldr     \neighbours, [r6, \neighbours, lsl #1]
    uxtb    \q, \q
    mla     \q, \q, r7, r8
    smlad   \q, \neighbours, \q, r9
.endm

.macro end_s16_table
    saturate16
    ldr     r6, [sp, #FRAME_TABLE]
    movw    r7, #65535
    mov     r8, #256
    mov     r9, #128
    interpolate r2, r10
    interpolate r3, r12
    interpolate r4, r10
    interpolate r5, r12
    lsl     r3, r3, #8
    lsl     r5, r5, #8
    pkhtb   r2, r3, r2, asr #8
    pkhtb   r3, r5, r4, asr #8
.endm

.macro kernel name, layout, end, shifted
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type   \name, %function
    .thumb_func
\name:
    push    {r4-r11, lr}
    sub     sp, sp, #FRAME_BYTES
    ldmia   r0, {r0, r6, r7, r8, r9}        /* blocks, zero point, rows:steps, table, shift */
    uxth    r3, r7
    lsr     r7, r7, #16
    add     r7, r2, r7, lsl #1              /* end of the output */
    add     r4, r3, #7
    lsr     r4, r4, #3                      /* rounds of eight steps */
    rsb     r3, r3, r4, lsl #3              /* steps to skip in the first */
    mov     r10, #STEP_BYTES_\layout
    adr     r5, 1f
    mla     r5, r3, r10, r5
    orr     r5, r5, #1                      /* Thumb */
    stmia   sp, {r1, r4-r9}
    mov     lr, r2
    output_from_lr \layout
    prepare_\layout
0:  /* a block of four rows */
    ldmia   r0!, {r2-r5}
    start_\layout
    ldmia   sp, {r1, r12, pc}
1:
.rept 8
    step_\layout
.endr
    subs    r12, r12, #1
    bne     1b
    ldmia   r0!, {r6-r9}                    /* multipliers */
    separate_\layout
.if \shifted
    ldr     r10, [sp, #FRAME_SHIFT]
    lsl     r2, r2, r10
    lsl     r3, r3, r10
    lsl     r4, r4, r10
    lsl     r5, r5, r10
.endif
    ldrd    r10, r11, [sp, #FRAME_ZERO_POINT]
    output_to_lr \layout
    smmlar  r2, r2, r6, r10
    smmlar  r3, r3, r7, r10
    smmlar  r4, r4, r8, r10
    smmlar  r5, r5, r9, r10
    end_\end
    strd    r2, r3, [lr], #8
    output_from_lr \layout
    cmp     lr, r11
    bne     0b
    add     sp, sp, #FRAME_BYTES
    pop     {r4-r11, pc}
    .size   \name, . - \name
.endm

.macro kernels layout, end
    kernel  pp_blocks_\layout\()_\end, \layout, \end, 0
    kernel  pp_blocks_\layout\()_\end\()_shifted, \layout, \end, 1
.endm

.irp layout, pairs, bytes, halfwords, nibbles
    kernels \layout, s8
    kernels \layout, s8_table
    kernels \layout, s16
    kernels \layout, s16_relu
    kernels \layout, s16_table
.endr

#endif
