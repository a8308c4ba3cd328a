/* The inner functions of convolutions, for Cortex-M4, M7 and M33. The contract is in pp_conv.h.
 *
 * Registers inside a block:  r0 weights, r1 columns, r2-r5 sums of the first pixel, r6-r9 of the second, r10 r11
 * weights, r12 lr inputs. No register is left for a count: a round ends by looking at the columns' end. The
 * rounds are unrolled, and the first is entered in the middle where the number of steps is no multiple of them. */
#if defined(__ARM_FEATURE_DSP)

    .syntax unified
    .thumb

    .equ FRAME_COLUMNS, 0
    .equ FRAME_ENTRY, 4
    .equ FRAME_COLUMNS_END, 8
    .equ FRAME_ZERO_POINT, 12
    .equ FRAME_SHIFT, 16
    .equ FRAME_OUTPUT, 20
    .equ FRAME_DISTANCE, 24
    .equ FRAME_END, 28
    .equ FRAME_SUM_8, 32             /* of each pixel's inputs, times 8, 136 and 2184 */
    .equ FRAME_SUM_136, 40
    .equ FRAME_SUM_2184, 48
    .equ FRAME_BYTES, 60

/* Words of a column in one unrolled part, and its bytes of code. */
    .equ PART_STEPS_pairs, 1
    .equ PART_BYTES_pairs, 48
    .equ PARTS_pairs, 8
    .equ PART_STEPS_nibbles, 2
    .equ PART_BYTES_nibbles, 100
    .equ PARTS_nibbles, 4

/* Channels (a, b): \a becomes 256 * A + B, \b becomes B, of both pixels. */
.macro both_pairs w, a1, b1, a2, b2
    smlad   \a1, \w, r12, \a1
    smlad   \a2, \w, lr, \a2
    sxtb16  \w, \w
    smlad   \b1, \w, r12, \b1
    smlad   \b2, \w, lr, \b2
.endm

.macro part_pairs
    ldrd    r10, r11, [r0], #8
    ldrd    r12, lr, [r1], #8
    both_pairs r10, r2, r3, r6, r7
    both_pairs r11, r4, r5, r8, r9
.endm

/* All four channels, highest digit first, each sum still holding the digits below. */
.macro both_nibbles w
    smlad   r5, \w, r12, r5
    smlad   r9, \w, lr, r9
    bic     \w, \w, #0xF000F000
    smlad   r4, \w, r12, r4
    smlad   r8, \w, lr, r8
    uxtb16  \w, \w
    smlad   r3, \w, r12, r3
    smlad   r7, \w, lr, r7
    and     \w, \w, #0x000F000F
    smlad   r2, \w, r12, r2
    smlad   r6, \w, lr, r6
.endm

.macro part_nibbles
    ldrd    r10, r11, [r0], #8
    ldrd    r12, lr, [r1], #8
    both_nibbles r10
    ldrd    r12, lr, [r1], #8
    both_nibbles r11
.endm

.macro prepare_pairs
.endm

/* The sums of both columns; r4 columns, r9 their end. */
.macro prepare_nibbles
    mov     r5, #0
    mov     r7, #0
    movw    r6, #1
    movt    r6, #1
2:
    ldmia   r4!, {r8, r10, r11, r12}
    smlad   r5, r8, r6, r5
    smlad   r7, r10, r6, r7
    smlad   r5, r11, r6, r5
    smlad   r7, r12, r6, r7
    cmp     r4, r9
    bne     2b
    mov     r6, #136
    movw    r8, #2184
    mul     r10, r5, r6
    mul     r11, r7, r6
    strd    r10, r11, [sp, #FRAME_SUM_136]
    mul     r10, r5, r8
    mul     r11, r7, r8
    strd    r10, r11, [sp, #FRAME_SUM_2184]
    lsl     r5, r5, #3
    lsl     r7, r7, #3
    strd    r5, r7, [sp, #FRAME_SUM_8]
.endm

.macro start_pairs
    mov     r6, r2
    mov     r7, r3
    mov     r8, r4
    mov     r9, r5
.endm

.macro start_nibbles
    ldrd    r10, r11, [sp, #FRAME_SUM_8]
    sub     r6, r2, r11
    sub     r2, r2, r10
    ldrd    r10, r11, [sp, #FRAME_SUM_136]
    sub     r7, r3, r11
    sub     r3, r3, r10
    ldrd    r10, r11, [sp, #FRAME_SUM_2184]
    sub     r8, r4, r11
    sub     r4, r4, r10
    sub     r9, r5, r11
    sub     r5, r5, r10
.endm

.macro finish_pairs a, b
    sub     \a, \a, \b
    asr     \a, \a, #8
.endm

.macro separate layout
.ifc \layout, pairs
    finish_pairs r2, r3
    finish_pairs r4, r5
    finish_pairs r6, r7
    finish_pairs r8, r9
.else
    finish_nibbles r2, r3, r4, r5
    finish_nibbles r6, r7, r8, r9
.endif
.endm

.macro finish_nibbles a, b, c, d
    sub     \d, \d, \c
    sub     \c, \c, \b
    sub     \b, \b, \a
    asr     \d, \d, #12
    asr     \c, \c, #8
    asr     \b, \b, #4
.endm

/* Four results in one word: \a. */
.macro join a, b, c, d
    bfi     \a, \b, #8, #8
    bfi     \a, \c, #16, #8
    bfi     \a, \d, #24, #8
.endm

.macro kernel name, layout, shifted
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type   \name, %function
    .thumb_func
\name:
    push    {r4-r11, lr}
    sub     sp, sp, #FRAME_BYTES
    ldmia   r0, {r0, r4, r5, r6}            /* blocks, columns, zero point, shift:steps */
    uxth    r7, r6
    lsr     r8, r6, #16
    add     r9, r4, r7, lsl #3              /* end of the columns */
    rsb     r7, r7, #0                      /* steps to skip in the first round */
    and     r7, r7, #(PARTS_\layout * PART_STEPS_\layout - 1)
    mov     r10, #(PART_BYTES_\layout / PART_STEPS_\layout)
    adr     r6, 1f
    mla     r6, r7, r10, r6
    orr     r6, r6, #1                      /* Thumb */
    strd    r4, r6, [sp, #FRAME_COLUMNS]
    strd    r9, r5, [sp, #FRAME_COLUMNS_END]
    strd    r8, r1, [sp, #FRAME_SHIFT]
    strd    r3, r2, [sp, #FRAME_DISTANCE]
    prepare_\layout
0:  /* a block of four channels */
    ldmia   r0!, {r2-r5}
    start_\layout
    ldmia   sp, {r1, pc}
    .balign 4
1:
.rept PARTS_\layout
    part_\layout
.endr
    ldr     r10, [sp, #FRAME_COLUMNS_END]
    cmp     r1, r10
    bne     1b
    separate \layout
.if \shifted
    ldr     r10, [sp, #FRAME_SHIFT]
.irp sum, 2, 3, 4, 5, 6, 7, 8, 9
    lsl     r\sum, r\sum, r10
.endr
.endif
    ldmia   r0!, {r10-r12, lr}              /* multipliers */
    ldr     r1, [sp, #FRAME_ZERO_POINT]
    smmlar  r2, r2, r10, r1
    smmlar  r3, r3, r11, r1
    smmlar  r4, r4, r12, r1
    smmlar  r5, r5, lr, r1
    smmlar  r6, r6, r10, r1
    smmlar  r7, r7, r11, r1
    smmlar  r8, r8, r12, r1
    smmlar  r9, r9, lr, r1
.irp sum, 2, 3, 4, 5, 6, 7, 8, 9
    ssat    r\sum, #8, r\sum
.endr
    join    r2, r3, r4, r5
    join    r6, r7, r8, r9
    ldr     r10, [sp, #FRAME_OUTPUT]
    ldrd    r11, r12, [sp, #FRAME_DISTANCE]
    str     r6, [r10, r11]
    str     r2, [r10], #4
    str     r10, [sp, #FRAME_OUTPUT]
    cmp     r10, r12
    bne     0b
    add     sp, sp, #FRAME_BYTES
    pop     {r4-r11, pc}
    .size   \name, . - \name
.endm

.irp layout, pairs, nibbles
    kernel  pp_columns_\layout, \layout, 0
    kernel  pp_columns_\layout\()_shifted, \layout, 1
.endr

/* r0 r1 windows, r2 columns, r3 rows left, r4 skip, r5 r6 bytes, r7-r10 words, r11 entry, r12 rounds, lr left. */
    .equ WIDEN_BYTES, 28

    .section .text.pp_widen_windows, "ax", %progbits
    .balign 4
    .global pp_widen_windows
    .type   pp_widen_windows, %function
    .thumb_func
pp_widen_windows:
    push    {r4-r11, lr}
    ldrh    r12, [r3, #2]
    ldr     r4, [r3, #4]
    ldrh    r3, [r3]
    rsb     r5, r12, #0
    and     r5, r5, #3                      /* groups to skip in the first round of four */
    mov     r6, #WIDEN_BYTES
    adr     r11, 2f
    mla     r11, r5, r6, r11
    orr     r11, r11, #1
    add     r12, r12, #3
    lsr     r12, r12, #2
1:
    mov     lr, r12
    bx      r11
    .balign 4
2:
.rept 4
    ldr     r5, [r0], #4
    ldr     r6, [r1], #4
    sxtb16  r7, r5
    sxtb16  r8, r6
    sxtb16  r9, r5, ror #8
    sxtb16  r10, r6, ror #8
    stmia   r2!, {r7-r10}
.endr
    subs    lr, lr, #1
    bne     2b
    add     r0, r0, r4
    add     r1, r1, r4
    subs    r3, r3, #1
    bne     1b
    mov     r0, r2
    pop     {r4-r11, pc}
    .size   pp_widen_windows, . - pp_widen_windows

#endif
