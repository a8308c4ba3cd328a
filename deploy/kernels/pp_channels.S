/* The sums of depthwise convolutions, for Cortex-M4, M7 and M33. The contract is in pp_channels.h.
 *
 * Registers:  r0 weights, r1 window, r2 places, r3 pairs of taps left, r4-r7 sums, r8 r9 the taps, r10 r12 a channel's two
 * taps in a word, r11 lr weights. */
#if defined(__ARM_FEATURE_DSP)

    .syntax unified
    .thumb

/* Two channels: their taps are the low halves of \one and \two, and the high ones. */
.macro two_channels one, two, low_sum, high_sum
    pkhbt   r10, \one, \two, lsl #16
    pkhtb   r12, \two, \one, asr #16
    ldrd    r11, lr, [r0], #8
    smlad   \low_sum, r10, r11, \low_sum
    smlad   \high_sum, r12, lr, \high_sum
.endm

.macro two_taps_s8
    ldr     r8, [r1, r8]
    ldr     r9, [r1, r9]
    sxtb16  r12, r8
    sxtb16  lr, r9
    two_channels r12, lr, r4, r6
    sxtb16  r8, r8, ror #8
    sxtb16  r9, r9, ror #8
    two_channels r8, r9, r5, r7
.endm

.macro two_taps_s16
    add     r8, r1, r8, lsl #1
    add     r9, r1, r9, lsl #1
    ldr     r12, [r8]
    ldr     lr, [r9]
    two_channels r12, lr, r4, r5
    ldr     r12, [r8, #4]
    ldr     lr, [r9, #4]
    two_channels r12, lr, r6, r7
.endm

.macro kernel name, taps
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type   \name, %function
    .thumb_func
\name:
    push    {r4-r11, lr}
    ldmia   r0!, {r4-r7}
    add     r0, r0, #16                     /* multipliers */
1:
    ldrd    r8, r9, [r2], #8
    \taps
    subs    r3, r3, #1
    bne     1b
    ldr     r3, [sp, #36]
    stmia   r3, {r4-r7}
    pop     {r4-r11, pc}
    .size   \name, . - \name
.endm

    kernel  pp_channels_sums_s8, two_taps_s8
    kernel  pp_channels_sums_s16, two_taps_s16

#endif
