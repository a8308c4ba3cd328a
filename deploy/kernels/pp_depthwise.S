/* The inner function of depthwise convolutions, for Cortex-M4, M7 and M33. The contract is in pp_depthwise.h.
 *
 * Registers of a row:  r0 bytes to the next pixel of the output, r1 ring, r2 output, r3 r4 sums of two neighbouring
 * pixels, r5-r10 weights (w0, w1) and (w1, w2) of the rows at ring index 0, 1, 2, r11 lr inputs, r12 rounds left.
 * A round is four pairs of pixels, the first entered in the middle where their number is no multiple of four. */
#if defined(__ARM_FEATURE_DSP)

    .syntax unified
    .thumb

    .equ FRAME_STEP, 0               /* the first five are loaded at once: r0 r1 r2 r12 pc */
    .equ FRAME_RING, 4
    .equ FRAME_OUTPUT, 8
    .equ FRAME_ROUNDS, 12
    .equ FRAME_ENTRY, 16
    .equ FRAME_BIAS, 20
    .equ FRAME_MULTIPLIER, 24
    .equ FRAME_ZERO_POINT, 28
    .equ FRAME_WEIGHTS, 32
    .equ FRAME_WEIGHTS_END, 36
    .equ FRAME_ROTATION, 40
    .equ FRAME_ODD, 44
    .equ FRAME_SHIFT, 48
    .equ FRAME_WORK, 52
    .equ FRAME_SOURCE, 56            /* of the next row to gather, and its number */
    .equ FRAME_ROW, 60
    .equ FRAME_SLOT, 64              /* where it goes */
    .equ FRAME_SLOT_END, 68
    .equ FRAME_FIRST_ROTATION, 72
    .equ FRAME_FIRST_RING, 76
    .equ FRAME_ROWS, 80              /* of the output, left */
    .equ FRAME_LINK, 84
    .equ FRAME_BYTES, 92

    .equ WORK_SOURCE, 24             /* fields of pp_depthwise_work_t */
    .equ WORK_FIRST, 32
    .equ WORK_ROWS, 36
    .equ WORK_SKIP, 40
    .equ WORK_HEIGHT, 44
    .equ WORK_PLANE, 52
    .equ WORK_PAIRS, 60
    .equ WORK_TRAIL, 68
    .equ WORK_PADDING, 72
    .equ WORK_INPUT_PIXEL, 76

    .equ ROTATION_BYTES, 16
    .equ PAIR_BYTES_s1, 96           /* every instruction of a pair takes four */
    .equ PAIR_BYTES_s2, 108
    .equ SHIFT_BYTES, 12

/* Stride 1: the inputs of a pair are a word (x0, x1) and the next (x2, x3), in each of three rows. */
.macro sums_s1
    ldr.w   r3, [sp, #FRAME_BIAS]
    ldrd    r11, lr, [r1], #12
    smlatb  r4, r11, r5, r3
    smlad   r3, r11, r5, r3
    smlatb  r4, lr, r7, r4
    smlad   r3, lr, r7, r3
    ldrd    r11, lr, [r1, #-4]
    smlatb  r4, r11, r9, r4
    smlad   r3, r11, r9, r3
    smlad   r4, lr, r6, r4
    smlabt  r3, lr, r6, r3
    ldrd    r11, lr, [r1, #4]
    smlad   r4, r11, r8, r4
    smlabt  r3, r11, r8, r3
    smlad   r4, lr, r10, r4
    smlabt  r3, lr, r10, r3
.endm

/* Stride 2: the inputs are (x0, x1), (x2, x3) and (x4, x5). */
.macro sums_s2
    ldr.w   r3, [sp, #FRAME_BIAS]
    mov.w   r4, r3
    ldrd    r11, lr, [r1], #24
    smlad   r3, r11, r5, r3
    smlad   r3, lr, r7, r3
    ldrd    r11, lr, [r1, #-16]
    smlad   r3, r11, r9, r3
    smlabt  r3, lr, r6, r3
    smlad   r4, lr, r5, r4
    ldrd    r11, lr, [r1, #-8]
    smlabt  r3, r11, r8, r3
    smlad   r4, r11, r7, r4
    smlabt  r3, lr, r10, r3
    smlad   r4, lr, r9, r4
    ldrd    r11, lr, [r1]
    smlabt  r4, r11, r6, r4
    smlabt  r4, lr, r8, r4
    ldr     r11, [r1, #8]
    smlabt  r4, r11, r10, r4
.endm

/* The second pixel is stored first: where there is none, r0 is 0 and the first one overwrites it. */
.macro pair stride, shifted
    sums_\stride
.if \shifted
    ldr     r11, [sp, #FRAME_SHIFT]
    lsl     r3, r3, r11
    lsl     r4, r4, r11
.endif
    ldrd    r11, lr, [sp, #FRAME_MULTIPLIER]
    smmlar  r3, r3, r11, lr
    smmlar  r4, r4, r11, lr
    ssat    r3, #8, r3
    ssat    r4, #8, r4
    strb.w  r4, [r2, r0]
    strb.w  r3, [r2]
    add     r2, r2, r0, lsl #1
.endm

/* Weights of the first row to ring index \index, and off to the pairs. */
.macro rotation first, second:vararg
    .balign ROTATION_BYTES
    ldmia   r0!, {\first}
.ifnb \second
    ldmia   r0!, {\second}
.endif
    str     r0, [sp, #FRAME_WEIGHTS]
    ldmia   sp, {r0, r1, r2, r12, pc}
.endm

.macro kernel name, stride, shifted, new_rows
    .section .text.\name, "ax", %progbits
    .balign 16
    .global \name
    .type   \name, %function
    .thumb_func
\name:
    push    {r4-r11, lr}
    sub     sp, sp, #FRAME_BYTES
    str     r0, [sp, #FRAME_WORK]
    ldrd    r3, r4, [r0, #WORK_SOURCE]
    strd    r3, r4, [sp, #FRAME_SOURCE]
    ldrd    r3, r4, [r0, #WORK_FIRST]       /* bytes to the first word that holds a pixel, rows */
    add     r3, r3, r1
    add     r5, r3, #12
    strd    r3, r5, [sp, #FRAME_SLOT]
    strd    r1, r4, [sp, #FRAME_FIRST_RING]
    ldmia   r0, {r4-r9}                     /* weights, zero point, step, pairs, odd, shift */
    add     r10, r4, #128                   /* four channels of eight words */
    strd    r6, r1, [sp, #FRAME_STEP]
    strd    r5, r4, [sp, #FRAME_ZERO_POINT]
    strd    r8, r9, [sp, #FRAME_ODD]
    str     r10, [sp, #FRAME_WEIGHTS_END]
    adr     r5, 3f
    orr     r5, r5, #1                      /* Thumb */
    str     r5, [sp, #FRAME_FIRST_ROTATION]
    add     r9, r7, #3
    lsr     r9, r9, #2                      /* rounds */
    strd    r2, r9, [sp, #FRAME_OUTPUT]
    rsb     r7, r7, #0
    and     r7, r7, #3                      /* pairs to skip in the first */
    mov     r4, #(PAIR_BYTES_\stride + \shifted * SHIFT_BYTES)
    adr     r5, 1f
    mla     r5, r7, r4, r5
    cmp     r9, #0
    it      eq
    adreq   r5, 4f
    orr     r5, r5, #1
    str     r5, [sp, #FRAME_ENTRY]
.rept 3 - \new_rows
    bl      pp_depthwise_gather
.endr
6:  /* a row */
.rept \new_rows
    bl      pp_depthwise_gather
.endr
    /* The slot to be filled next holds the oldest row. */
    ldrd    r0, r1, [sp, #FRAME_SLOT]
    ldrd    r2, r3, [sp, #FRAME_FIRST_ROTATION]
    sub     r1, r1, r0
    rsb     r1, r1, #12
    add     r2, r2, r1, lsl #2
    str     r2, [sp, #FRAME_ROTATION]
    str     r3, [sp, #FRAME_RING]
    ldr     r0, [sp, #FRAME_WEIGHTS_END]
    sub     r0, r0, #128
    b       7f
0:  /* a channel */
    ldr     r0, [sp, #FRAME_WEIGHTS]
7:
    ldmia   r0!, {r3, r4}
    strd    r3, r4, [sp, #FRAME_BIAS]
    ldr     pc, [sp, #FRAME_ROTATION]
    .balign ROTATION_BYTES
3:
    rotation r5-r10
    rotation r7-r10, r5, r6
    rotation r9-r10, r5-r8
    .balign 4
1:
.rept 3
    pair    \stride, \shifted
.endr
2:
    pair    \stride, \shifted
    subs    r12, r12, #1
    bne     1b
    .balign 4
4:
    ldr     r3, [sp, #FRAME_ODD]
    cbz     r3, 5f
    cbz     r0, 5f
    movs    r0, #0
    mov     r12, #1
    b       2b
5:
    ldr     r2, [sp, #FRAME_OUTPUT]
    adds    r1, r1, #12
    adds    r2, r2, #1
    strd    r1, r2, [sp, #FRAME_RING]
    ldrd    r3, r4, [sp, #FRAME_WEIGHTS]
    cmp     r3, r4
    bne     0b
    ldr     r0, [sp, #FRAME_WORK]
    ldr     r0, [r0, #WORK_SKIP]
    add     r2, r2, r0
    str     r2, [sp, #FRAME_OUTPUT]
    ldr     r3, [sp, #FRAME_ROWS]
    subs    r3, r3, #1
    str     r3, [sp, #FRAME_ROWS]
    bne.w   6b
    add     sp, sp, #FRAME_BYTES
    pop     {r4-r11, pc}
    .size   \name, . - \name
.endm

    kernel  pp_depthwise_group_s1, s1, 0, 1
    kernel  pp_depthwise_group_s1_shifted, s1, 1, 1
    kernel  pp_depthwise_group_s2, s2, 0, 2
    kernel  pp_depthwise_group_s2_shifted, s2, 1, 2

/* A pixel's four bytes: channels (0, 2) to \even, (1, 3) to \odd. */
.macro widen even, odd
    sxtb16  \odd, \even, ror #8
    sxtb16  \even, \even
.endm

/* Two pixels to a word of each channel: r10 r11 and r12 lr, scratch r2. */
.macro store
    pkhbt   r2, r11, lr, lsl #16
    pkhtb   r11, lr, r11, asr #16
    str     r2, [r1, r4]
    str     r11, [r1, r9]
    pkhbt   r2, r10, r12, lsl #16
    pkhtb   r10, r12, r10, asr #16
    str     r10, [r1, r8]
    str     r2, [r1], #12
.endm

.macro two_pixels
    ldr     r10, [r0]
    ldr     r12, [r0, r3]
    add     r0, r0, r3, lsl #1
    widen   r10, r11
    widen   r12, lr
    store
.endm

/* The next row of four channels to the ring, the frame being the caller's; all registers are lost.
 * r0 source, r1 ring, r3 step, r4 r8 r9 one, two, three planes, r5 padding, r6 pairs left. */
    .section .text.pp_depthwise_gather, "ax", %progbits
    .balign 4
    .type   pp_depthwise_gather, %function
    .thumb_func
pp_depthwise_gather:
    str     lr, [sp, #FRAME_LINK]
    ldr     r7, [sp, #FRAME_WORK]
    ldrd    r0, r2, [sp, #FRAME_SOURCE]
    ldr     r3, [r7, #WORK_INPUT_PIXEL]
    ldrd    r5, r6, [r7, #WORK_HEIGHT]      /* rows of the input, bytes in a row */
    add     r8, r0, r6
    add     r9, r2, #1
    strd    r8, r9, [sp, #FRAME_SOURCE]
    cmp     r2, r5
    itt     hs                              /* outside: every pixel reads the same four bytes of padding */
    addhs   r0, r7, #WORK_PADDING
    movhs   r3, #0
    ldrd    r1, r2, [sp, #FRAME_SLOT]
    add     r5, r1, #4
    cmp     r5, r2
    it      eq
    subeq   r5, r5, #12
    str     r5, [sp, #FRAME_SLOT]
    ldrd    r4, r5, [r7, #WORK_PLANE]       /* and two halfwords of padding */
    ldrd    r6, r7, [r7, #WORK_PAIRS]       /* and the lead */
    lsl     r8, r4, #1
    add     r9, r8, r4
    cbz     r7, 1f
    mov     r10, r5
    mov     r11, r5
    ldr     r12, [r0]
    add     r0, r0, r3
    widen   r12, lr
    store
1:
    lsrs    r6, r6, #1
    bcc     2f
    two_pixels
2:
    cbz     r6, 4f
3:
    two_pixels
    two_pixels
    subs    r6, r6, #1
    bne     3b
4:
    ldr     r2, [sp, #FRAME_WORK]
    ldr     r2, [r2, #WORK_TRAIL]
    cbz     r2, 5f
    ldr     r10, [r0]
    mov     r12, r5
    mov     lr, r5
    widen   r10, r11
    store
5:
    ldr     pc, [sp, #FRAME_LINK]
    .size   pp_depthwise_gather, . - pp_depthwise_gather

#endif
