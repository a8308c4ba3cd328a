"""A firmware of 208 bytes for boards with a CMSDK UART at 0x40004000: polled, no interrupts, no compiler needed.

At its start it sends a byte of RAM that it increments (it survives a reset). Then: ``c`` measures a loop of
250 rounds with DWT CYCCNT and sends the 16-bit difference, low byte first; ``r`` requests a system reset;
``u`` executes an undefined instruction; ``w`` reads from an address where nothing is; else it sends the byte back.

    reset:  ldr r4, =0x40004000; movs r0, #16; str r0, [r4, #16]; movs r0, #3; str r0, [r4, #8]; ldr r0, [r4]
            ldr r0, =0xE000EDFC; movs r1, #1; lsls r1, r1, #24; str r1, [r0]           @ DEMCR.TRCENA
            ldr r5, =0xE0001000; movs r1, #1; str r1, [r5]                             @ DWT_CTRL.CYCCNTENA
            ldr r6, =0x20002000; ldr r0, [r6]; adds r0, #1; str r0, [r6]; bl send
    next:   ldr r0, [r4, #4]; lsls r0, r0, #30; bpl next; ldr r0, [r4]
            cmp r0, #'c'; beq count; cmp r0, #'r'; beq restart; cmp r0, #'u'; beq undefined
            cmp r0, #'w'; beq wild; bl send; b next
    count:  ldr r7, [r5, #4]; movs r1, #250; 1: subs r1, #1; bne 1b; ldr r0, [r5, #4]; subs r7, r0, r7
            mov r0, r7; bl send; lsrs r0, r7, #8; bl send; b next
    restart: ldr r0, =0xE000ED0C; ldr r1, =0x05FA0004; str r1, [r0]; b .
    undefined: udf #0
    wild:   ldr r0, =0x10000000; ldr r0, [r0]; b next
    send:   ldr r1, [r4, #4]; lsls r1, r1, #31; bmi send; str r0, [r4]; bx lr
"""

BOARD = "mps2-an386"

COUNTED = 502
"""Instructions that ``c`` counts: movs, 250 x (subs, bne), ldr."""

VECTORS = bytes.fromhex("0010002041000000") + bytes(56)

CODE = bytes.fromhex(
    "4ff04024102020610320a06020681c480121090601601b4d012129604ff0202630680130306000f025f860688007fcd5"
    "2068632808d0722813d0752815d0772814d000f017f8f0e76f68fa210139fdd16868c71b384600f00df8380a00f00af8"
    "e3e7094809490160fee700de4ff080500068dae76168c907fcd4206070470000fced00e0001000e00ced00e00400fa05"
)

IMAGE = VECTORS + CODE
