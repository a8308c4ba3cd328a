/* Rows of 3- and 2-bit weights with SMLAD, for Cortex-M4, M7 and M33. The contract is in pp_digits.h.
 *
 * Registers inside a block:  r0 weights, r1 input, r2-r6 (octals) or r2-r9 (crumbs) sums, r10 r11 weights, r12 lr
 * input. A round of four steps, of four inputs each, ends by looking at the input's end; the first is entered in
 * the middle where the number of steps is no multiple of four. */
#if defined(__ARM_FEATURE_DSP)

    .syntax unified
    .thumb

    .equ FRAME_INPUT, 0
    .equ FRAME_ENTRY, 4
    .equ FRAME_INPUT_END, 8
    .equ FRAME_ZERO_POINT, 12
    .equ FRAME_SHIFT, 16
    .equ FRAME_OUTPUT, 20
    .equ FRAME_LAST_OUTPUT, 24
    .equ FRAME_SUMS, 28              /* of the inputs, times what every sum has too much */
    .equ FRAME_BYTES, 60

    .equ ROWS_octals, 5
    .equ ROWS_crumbs, 8
    .equ STEP_BYTES_octals, 80
    .equ STEP_BYTES_crumbs, 128

/* A word of weights, highest digit first, each sum still holding the digits below. */
.macro digits_octals w, x
    smlad   r6, \w, \x, r6
    bic     \w, \w, #0xF000F000
    smlad   r5, \w, \x, r5
    bic     \w, \w, #0xFE00FE00
    smlad   r4, \w, \x, r4
    and     \w, \w, #0x003F003F
    smlad   r3, \w, \x, r3
    and     \w, \w, #0x00070007
    smlad   r2, \w, \x, r2
.endm

.macro digits_crumbs w, x
    smlad   r9, \w, \x, r9
    bic     \w, \w, #0xC000C000
    smlad   r8, \w, \x, r8
    bic     \w, \w, #0xF000F000
    smlad   r7, \w, \x, r7
    bic     \w, \w, #0xFC00FC00
    smlad   r6, \w, \x, r6
    uxtb16  \w, \w
    smlad   r5, \w, \x, r5
    and     \w, \w, #0x003F003F
    smlad   r4, \w, \x, r4
    and     \w, \w, #0x000F000F
    smlad   r3, \w, \x, r3
    and     \w, \w, #0x00030003
    smlad   r2, \w, \x, r2
.endm

/* The sum of the inputs in r3 times \factor, to place \index of the frame. */
.macro sum_times factor, index
    movw    r4, #\factor
    mul     r4, r3, r4
    str     r4, [sp, #(FRAME_SUMS + 4 * \index)]
.endm

.macro sums_octals
    sum_times 4, 0
    sum_times 36, 1
    sum_times 292, 2
    sum_times 2340, 3
    sum_times 2340, 4
.endm

.macro sums_crumbs
    sum_times 2, 0
    sum_times 10, 1
    sum_times 42, 2
    sum_times 170, 3
    sum_times 682, 4
    sum_times 2730, 5
    sum_times 10922, 6
    sum_times 10922, 7
.endm

/* \high loses the digits below it and moves to its place. */
.macro separate index, bits, high, low
    sub     \high, \high, \low
    asr     \high, \high, #(\index * \bits)
.endm

/* An operation on the number of every sum's register. */
.macro each_octals operation:vararg
    \operation 2
    \operation 3
    \operation 4
    \operation 5
    \operation 6
.endm

.macro each_crumbs operation:vararg
    each_octals \operation
    \operation 7
    \operation 8
    \operation 9
.endm

.macro take_off number
    ldr     r10, [sp, #(FRAME_SUMS + 4 * (\number - 2))]
    sub     r\number, r\number, r10
.endm

.macro shift_left number
    lsl     r\number, r\number, r10
.endm

.macro saturate8 number
    ssat    r\number, #8, r\number
.endm

.macro saturate16 number
    ssat    r\number, #16, r\number
.endm

.macro load_octals
    ldmia   r0!, {r2-r6}
.endm

.macro load_crumbs
    ldmia   r0!, {r2-r9}
.endm

.macro separate_octals
    separate 4, 3, r6, r5
    separate 3, 3, r5, r4
    separate 2, 3, r4, r3
    separate 1, 3, r3, r2
.endm

.macro separate_crumbs
    separate 7, 2, r9, r8
    separate 6, 2, r8, r7
    separate 5, 2, r7, r6
    separate 4, 2, r6, r5
    separate 3, 2, r5, r4
    separate 2, 2, r4, r3
    separate 1, 2, r3, r2
.endm

.macro multiply_four a, b, c, d
    ldmia   r0!, {r10-r12, lr}
    smmlar  \a, \a, r10, r1
    smmlar  \b, \b, r11, r1
    smmlar  \c, \c, r12, r1
    smmlar  \d, \d, lr, r1
.endm

.macro multiply_octals
    multiply_four r2, r3, r4, r5
    ldr     r10, [r0], #4
    smmlar  r6, r6, r10, r1
.endm

.macro multiply_crumbs
    multiply_four r2, r3, r4, r5
    multiply_four r6, r7, r8, r9
.endm

.macro store_octals
    strh    r2, [r10]
    strh    r3, [r10, #2]
    strh    r4, [r10, #4]
    strh    r5, [r10, #6]
    strh    r6, [r10, #8]
.endm

.macro store_pair a, b, offset
    pkhbt   \a, \a, \b, lsl #16
    str     \a, [r10, #\offset]
.endm

.macro store_crumbs
    store_pair r2, r3, 0
    store_pair r4, r5, 4
    store_pair r6, r7, 8
    store_pair r8, r9, 12
.endm

.macro kernel name, layout, width, shifted
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
    add     r7, r2, r7, lsl #1
    sub     r7, r7, #(2 * ROWS_\layout)     /* output of the last block */
    add     r8, r1, r3, lsl #3              /* end of the input */
    rsb     r3, r3, #0
    and     r3, r3, #3                      /* steps to skip in the first round */
    mov     r4, #STEP_BYTES_\layout
    adr     r5, 1f
    mla     r5, r3, r4, r5
    orr     r5, r5, #1                      /* Thumb */
    strd    r1, r5, [sp, #FRAME_INPUT]
    strd    r8, r6, [sp, #FRAME_INPUT_END]
    strd    r9, r2, [sp, #FRAME_SHIFT]
    str     r7, [sp, #FRAME_LAST_OUTPUT]
    mov     r3, #0
    mov     r4, #0x00010001
2:
    ldrd    r10, r11, [r1], #8
    smlad   r3, r10, r4, r3
    smlad   r3, r11, r4, r3
    cmp     r1, r8
    bne     2b
    sums_\layout
0:  /* a block */
    load_\layout
    each_\layout take_off
    ldmia   sp, {r1, pc}
    .balign 4
1:
.rept 4
    ldrd    r10, r11, [r0], #8
    ldrd    r12, lr, [r1], #8
    digits_\layout r10, r12
    digits_\layout r11, lr
.endr
    ldrd    r10, r11, [sp, #FRAME_INPUT_END]
    cmp     r1, r10
    bne     1b
    mov     r1, r11                         /* zero point */
    separate_\layout
.if \shifted
    ldr     r10, [sp, #FRAME_SHIFT]
    each_\layout shift_left
.endif
    multiply_\layout
    each_\layout saturate\width
    ldrd    r10, r11, [sp, #FRAME_OUTPUT]
    store_\layout
    cmp     r10, r11
    beq     3f
    add     r10, r10, #(2 * ROWS_\layout)
    cmp     r10, r11
    it      hi
    movhi   r10, r11
    str     r10, [sp, #FRAME_OUTPUT]
    b       0b
3:
    add     sp, sp, #FRAME_BYTES
    pop     {r4-r11, pc}
    .size   \name, . - \name
.endm

.irp layout, octals, crumbs
    kernel  pp_digits_\layout\()_s8, \layout, 8, 0
    kernel  pp_digits_\layout\()_s8_shifted, \layout, 8, 1
    kernel  pp_digits_\layout\()_s16, \layout, 16, 0
    kernel  pp_digits_\layout\()_s16_shifted, \layout, 16, 1
.endr

#endif
