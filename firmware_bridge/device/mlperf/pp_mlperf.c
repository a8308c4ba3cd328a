#include "pp_mlperf.h"

#include "policy.h"
#include "pp_build.h"
#include "pp_counter.h"
#include "pp_frame.h"
#include "pp_mlperf_model.h"

#define COMMAND_MAX 80u
#define COMMAND_END '%'
#define PRINTED_IN_A_LINE 8u
#define WARM_UPS 10u /* where infer names no number */
#define NO_NUMBER UINT32_MAX
#define TICKS_PER_US (PP_CLOCK_HZ / 1000000u)
#define FIRMWARE_VERSION "ULPMark for tinyML Firmware V0.0.1" /* of the protocol: runners look for it */

_Static_assert(TICKS_PER_US * 1000000u == PP_CLOCK_HZ, "a clock that is no whole number of MHz has no whole ticks per us");

static pp_input_t input[PP_INPUT_SIZE] __attribute__((aligned(4)));
static pp_output_t output[PP_OUTPUT_SIZE] __attribute__((aligned(4)));

#if PP_MLPERF_FLOAT
static float features[PP_INPUT_SIZE]; /* little-endian float32, as the runner sends them */
#define STORE features
#define FLIP 0u
#else
#define STORE input
#define FLIP PP_MLPERF_FLIP /* 0x80: a pixel of 0 to 255 is kept as the integer 128 below it */
#endif
#define STORE_BYTES ((uint32_t)sizeof STORE)

static struct {
    uint32_t announced; /* bytes of the input that `db load` said would come; 0: none */
    uint32_t count;     /* that have come */
} loaded;

static char command[COMMAND_MAX + 1u];
static uint32_t command_bytes;
static bool broken; /* it is too long, or has bytes that are no text: it is not carried out */
static const char *cursor; /* behind the last word of the command that was taken */

/* The clock runs while a command is carried out. */
static struct {
    uint32_t last;  /* what the counter said at the last look */
    uint64_t ticks; /* until then, since the start */
} clock;

/* value / by, which is below 2^31 as the quotient is below 2^32; and what is left over. Small cores do not divide. */
static uint32_t divided(uint64_t value, uint32_t by, uint32_t *rest) {
    uint32_t quotient = 0;
    uint32_t left = 0;
    for (uint32_t i = 0; i < 64u; i++) {
        left = left << 1 | (uint32_t)(value >> 63);
        value <<= 1;
        quotient <<= 1;
        if (left >= by) {
            left -= by;
            quotient |= 1u;
        }
    }
    *rest = left;
    return quotient;
}

static void clock_look(void) {
    const uint32_t now = pp_counter_now();
    clock.ticks += now - clock.last;
    clock.last = now;
}

static void put(const char *text) {
    while (*text != '\0') {
        pp_platform_write((uint8_t)*text++);
    }
}

static void put_number(uint32_t value) {
    static const uint32_t powers[] = {1000000000u, 100000000u, 10000000u, 1000000u, 100000u,
                                      10000u,      1000u,      100u,      10u,      1u};
    bool begun = false;
    for (uint32_t i = 0; i < sizeof powers / sizeof powers[0]; i++) {
        uint8_t digit = '0';
        for (; value >= powers[i]; value -= powers[i]) {
            digit++;
        }
        begun = begun || digit != '0' || powers[i] == 1u;
        if (begun) {
            pp_platform_write(digit);
        }
    }
}

static void put_hex(uint8_t byte) {
    static const char digits[] = "0123456789abcdef";
    const char text[3] = {digits[byte >> 4], digits[byte & 15u], '\0'};
    put(text);
}

static void put_thousandths(int32_t value) {
    uint32_t behind;
    const uint32_t whole = divided(value < 0 ? 0u - (uint32_t)value : (uint32_t)value, 1000u, &behind);
    put(value < 0 ? "-" : "");
    put_number(whole);
    put(behind < 10u ? ".00" : behind < 100u ? ".0" : ".");
    put_number(behind);
}

static void put_named(const char *before, uint32_t value) {
    put(before);
    put_number(value);
    put("\r\n");
}

static void stamp(void) {
    uint32_t rest;
    clock_look();
    put_named("m-lap-us-", divided(clock.ticks, TICKS_PER_US, &rest));
}

/* The next word of the command; NULL where there is none. */
static const char *word(void) {
    static char taken[COMMAND_MAX + 1u];
    uint32_t count = 0;
    while (*cursor == ' ') {
        cursor++;
    }
    while (*cursor != '\0' && *cursor != ' ') {
        taken[count++] = *cursor++;
    }
    taken[count] = '\0';
    return count == 0u ? NULL : taken;
}

static bool same(const char *one, const char *other) {
    while (*one != '\0' && *one == *other) {
        one++;
        other++;
    }
    return *one == *other;
}

/* A decimal number below 10^9; NO_NUMBER where the text is none. */
static uint32_t number(const char *text) {
    uint32_t value = 0;
    uint32_t digits = 0;
    for (; *text >= '0' && *text <= '9' && digits < 9u; digits++) {
        value = value * 10u + (uint32_t)(*text++ - '0');
    }
    return digits == 0u || *text != '\0' ? NO_NUMBER : value;
}

/* The value of a hexadecimal digit; 16 where it is none. */
static uint32_t hex_digit(char digit) {
    if (digit >= '0' && digit <= '9') {
        return (uint32_t)(digit - '0');
    }
    const char lower = (char)(digit | 0x20);
    return lower >= 'a' && lower <= 'f' ? (uint32_t)(lower - 'a' + 10) : 16u;
}

static void name(void) { put("m-name-dut-[" PP_BOARD_NAME "]\r\n"); }

static void profile(void) {
    put("m-profile-[" FIRMWARE_VERSION "]\r\n");
    put("m-model-[" PP_MLPERF_MODEL "]\r\n");
}

static void help(void) {
    put(FIRMWARE_VERSION "\r\n\r\n"
        "name           the board\r\n"
        "profile        the firmware's protocol, and the model\r\n"
        "timestamp      microseconds that commands have taken\r\n"
        "db load N      N bytes of input will come\r\n"
        "db HEX         the next of them\r\n"
        "db print       those that have come\r\n"
        "infer [N [W]]  N inferences after W that warm up\r\n"
        "results        the output\r\n");
}

static void announce_load(void) {
    const char *bytes = word();
    const uint32_t count = bytes == NULL ? NO_NUMBER : number(bytes);
    if (count == 0u || count > STORE_BYTES) {
        put("e-[db load takes 1 to ");
        put_number(STORE_BYTES);
        put(" bytes]\r\n");
        return;
    }
    loaded.announced = count;
    loaded.count = 0u;
    put("m-[Expecting ");
    put_number(count);
    put(" bytes]\r\n");
}

static void print_loaded(void) {
    const uint8_t *bytes = (const uint8_t *)STORE;
    for (uint32_t i = 0; i < loaded.count; i++) {
        const bool ends = i + 1u == loaded.count || (i + 1u) % PRINTED_IN_A_LINE == 0u;
        put(i % PRINTED_IN_A_LINE == 0u ? "m-buffer-" : "");
        put_hex((uint8_t)(bytes[i] ^ FLIP));
        put(ends ? "\r\n" : "-");
    }
}

static const char *wrong_hex(const char *digits) {
    uint32_t count = 0;
    while (digits[count] != '\0') {
        if (hex_digit(digits[count++]) > 15u) {
            return "e-[not a hexadecimal digit]\r\n";
        }
    }
    if (count % 2u != 0u) {
        return "e-[odd number of hexadecimal digits]\r\n";
    }
    return loaded.count + count / 2u > loaded.announced ? "e-[more bytes than db load announced]\r\n" : NULL;
}

/* All digits are looked at before the first is kept: a line that lost a byte changes nothing. */
static void take_hex(const char *digits) {
    uint8_t *bytes = (uint8_t *)STORE;
    const char *wrong = wrong_hex(digits);
    if (wrong != NULL) {
        put(wrong);
        return;
    }
    for (; *digits != '\0'; digits += 2) {
        bytes[loaded.count++] = (uint8_t)((hex_digit(digits[0]) << 4 | hex_digit(digits[1])) ^ FLIP);
    }
    if (loaded.count == loaded.announced) {
        put("m-load-done\r\n");
    }
}

static void db(void) {
    const char *what = word();
    if (what == NULL) {
        put("e-[db takes load, print or bytes]\r\n");
    } else if (same(what, "load")) {
        announce_load();
    } else if (same(what, "print")) {
        print_loaded();
    } else {
        take_hex(what);
    }
}

#if PP_MLPERF_FLOAT
/* QuantizeLinear: to the nearest integer, of two the even one. */
static int32_t quantized(float value) {
    const float scaled = value / PP_MLPERF_INPUT_SCALE;
    const float low = (float)(PP_MLPERF_INPUT_LOW - PP_MLPERF_INPUT_ZERO_POINT);
    const float high = (float)(PP_MLPERF_INPUT_HIGH - PP_MLPERF_INPUT_ZERO_POINT);
    const float kept = scaled > low ? scaled < high ? scaled : high : low; /* NaN: low */
    int32_t whole = (int32_t)kept;
    whole -= (float)whole > kept; /* down, also below zero */
    const float rest = kept - (float)whole;
    whole += rest > 0.5f || (rest == 0.5f && (whole & 1) != 0);
    return whole + PP_MLPERF_INPUT_ZERO_POINT;
}

static void prepare(void) {
    for (uint32_t i = 0; i < PP_INPUT_SIZE; i++) {
        input[i] = (pp_input_t)quantized(features[i]);
    }
}

/* How far the output is from the input, the mean of the squares: the anomaly score. */
static void put_results(void) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < PP_OUTPUT_SIZE; i++) {
        const float apart = (float)(output[i] - PP_MLPERF_OUTPUT_ZERO_POINT) * PP_MLPERF_OUTPUT_SCALE - features[i];
        sum += apart * apart;
    }
    const float score = sum / (float)PP_OUTPUT_SIZE;
    put_thousandths(score < 2e6f ? (int32_t)(score * 1000.0f + 0.5f) : INT32_MAX);
}
#else
static void prepare(void) {}

/* An integer of at most 17 bits in thousandths, rounded. The product is made of two, as small cores have no long one. */
static int32_t in_thousandths(int32_t value) {
    const uint32_t size = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
    const uint32_t low = size * (PP_MLPERF_THOUSANDTHS & 0x7FFFu);
    const uint32_t high = size * (PP_MLPERF_THOUSANDTHS >> 15);
    const uint64_t exact = ((uint64_t)high << 15) + low;
    const int32_t rounded = (int32_t)((exact + ((uint64_t)1 << (PP_MLPERF_SHIFT - 1))) >> PP_MLPERF_SHIFT);
    return value < 0 ? -rounded : rounded;
}

static void put_results(void) {
    for (uint32_t i = 0; i < PP_OUTPUT_SIZE; i++) {
        put(i == 0u ? "" : ",");
        put_thousandths(in_thousandths(output[i] - PP_MLPERF_OUTPUT_ZERO_POINT));
    }
}
#endif

static void results(void) {
    put("m-results-[");
    put_results();
    put("]\r\n");
}

/* The clock is looked at after each, as the counter has 32 bits; and each has the watchdog's whole time. */
static void run(uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        pp_infer(input, output);
        clock_look();
        pp_platform_request(true);
    }
}

static void infer(void) {
    const char *text = word();
    const uint32_t count = text == NULL ? 1u : number(text);
    text = text == NULL ? NULL : word();
    const uint32_t warm_ups = text == NULL ? WARM_UPS : number(text);
    if (count == 0u || count == NO_NUMBER || warm_ups == NO_NUMBER) {
        put("e-[infer takes a number of inferences, and one of warm-ups]\r\n");
        return;
    }
    if (loaded.count != STORE_BYTES) {
        put("e-[the input has ");
        put_number(loaded.count);
        put(" bytes of ");
        put_number(STORE_BYTES);
        put("]\r\n");
        return;
    }
    prepare();
    put_named("m-warmup-start-", warm_ups);
    run(warm_ups);
    put("m-warmup-done\r\n");
    put_named("m-infer-start-", count);
    stamp();
    run(count);
    stamp();
    put("m-infer-done\r\n");
    results();
}

static const struct {
    const char *name;
    void (*carry_out)(void);
} commands[] = {
    {"name", name}, {"profile", profile}, {"timestamp", stamp}, {"help", help},
    {"db", db},     {"infer", infer},     {"results", results},
};

static void carry_out(void) {
    cursor = command;
    const char *wanted = word();
    uint32_t at = 0;
    while (wanted != NULL && at < sizeof commands / sizeof commands[0] && !same(commands[at].name, wanted)) {
        at++;
    }
    pp_platform_request(true);
    clock.last = pp_counter_begin();
    if (wanted == NULL) {
        put("e-[no command]\r\n");
    } else if (at < sizeof commands / sizeof commands[0]) {
        commands[at].carry_out();
    } else {
        put("e-[Unknown command: ");
        put(wanted);
        put("]\r\n");
    }
    clock_look();
    put("m-ready\r\n");
    pp_platform_request(false);
}

static void take_text(uint8_t byte) {
    if (byte == COMMAND_END) {
        command[command_bytes] = '\0';
        if (broken) {
            put("e-[a command of more than 80 characters, or with bytes that are no text]\r\nm-ready\r\n");
        } else {
            carry_out();
        }
        command_bytes = 0u;
        broken = false;
    } else if (byte >= 0x20u && byte < 0x7Fu) {
        broken = broken || command_bytes == COMMAND_MAX;
        if (!broken) {
            command[command_bytes++] = (char)byte;
        }
    } else if (byte != '\r' && byte != '\n') {
        broken = true;
    }
}

void pp_mlperf_byte(uint8_t byte) {
    static enum { TEXT, OPENED, HELD, FRAME } state;
    static uint8_t held; /* the first byte behind a delimiter: the second says whose it is */
    if (byte == 0u) {
        command_bytes = 0u;
        broken = false;
        state = OPENED;
        pp_bridge_byte(byte);
    } else if (state == OPENED) {
        held = byte;
        state = HELD;
    } else if (state == HELD && byte == PP_PROTOCOL_VERSION) {
        state = FRAME;
        pp_bridge_byte(held);
        pp_bridge_byte(byte);
    } else if (state == FRAME) {
        pp_bridge_byte(byte);
    } else {
        if (state == HELD) {
            take_text(held);
        }
        state = TEXT;
        take_text(byte);
    }
}
