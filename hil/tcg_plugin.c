/* A TCG plugin for QEMU: records which branches were taken while the firmware measured something.
 *
 *     qemu-system-arm ... -plugin tcg_plugin.so,markers=FILE,regions=FILE
 *
 * A region begins where pp_counter_begin returns to its caller and ends where pp_counter_now is entered: exactly what
 * the firmware's own counter spans. For each region it writes how many instructions were executed, where it began and
 * ended, and every step from one instruction to another that does not lie right behind it, with how often it was made.
 * All counts of all instructions follow from that. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tcg_interface.h"

_Static_assert(sizeof(void *) == 8, "an instruction's address and size travel in one pointer");

enum { JUMPS = 1 << 16, IGNORED = 8 };

typedef struct {
    uint32_t from;
    uint32_t to;
    uint64_t count; /* 0: free */
} jump_t;

typedef struct {
    uint32_t low;
    uint32_t high; /* first address behind it */
} range_t;

typedef enum { OUTSIDE, BEGINNING, INSIDE } state_t;

static jump_t jumps[JUMPS]; /* open addressing, linear probing */
static uint32_t used;
static range_t ignored[IGNORED]; /* what an interrupt does in the middle of a measurement */
static size_t ignored_count;
static uint32_t begin_entry;
static uint32_t end_entry;
static FILE *regions;

static state_t state = OUTSIDE;
static uint32_t return_address; /* while BEGINNING: where pp_counter_begin will return to */
static uint32_t first;
static uint32_t last;
static uint32_t behind_last; /* the address right behind the instruction at last */
static uint64_t executed;

static void count_jump(uint32_t from, uint32_t to) {
    uint32_t at = (from * 2654435761u ^ to * 2246822519u) >> 8 & (JUMPS - 1);
    while (jumps[at].count != 0 && (jumps[at].from != from || jumps[at].to != to)) {
        at = (at + 1) & (JUMPS - 1);
    }
    if (jumps[at].count == 0) {
        if (used == JUMPS - 1) {
            return; /* the reader sees that the counts do not add up */
        }
        used++;
        jumps[at].from = from;
        jumps[at].to = to;
    }
    jumps[at].count++;
}

static void write_region(void) {
    (void)fprintf(regions, "region %" PRIu64 " %" PRIx32 " %" PRIx32 "\n", executed, first, last);
    for (size_t i = 0; i < JUMPS; i++) {
        if (jumps[i].count != 0) {
            (void)fprintf(regions, "%" PRIx32 " %" PRIx32 " %" PRIu64 "\n", jumps[i].from, jumps[i].to, jumps[i].count);
        }
    }
    (void)fprintf(regions, "end\n");
    (void)fflush(regions); /* the host reads it as soon as the firmware has answered */
}

static void open_region(uint32_t address) {
    (void)memset(jumps, 0, sizeof jumps);
    used = 0;
    executed = 0;
    first = address;
    behind_last = address;
    state = INSIDE;
}

/* One instruction is about to be executed: its address in the low half of data, its size in the high half. */
static void on_instruction(unsigned int cpu, void *data) {
    const uint32_t address = (uint32_t)(uintptr_t)data;
    const uint32_t size = (uint32_t)((uintptr_t)data >> 32);
    (void)cpu;
    if (address == begin_entry) {
        state = BEGINNING;
        return_address = behind_last;
    } else if (state == BEGINNING && address == return_address) {
        open_region(address);
    } else if (state == INSIDE && address == end_entry) {
        state = OUTSIDE;
        write_region();
    }
    if (state == INSIDE) {
        if (address != behind_last) {
            count_jump(last, address);
        }
        executed++;
    }
    last = address;
    behind_last = address + size;
}

static bool is_ignored(uint32_t address) {
    for (size_t i = 0; i < ignored_count; i++) {
        if (ignored[i].low <= address && address < ignored[i].high) {
            return true;
        }
    }
    return false;
}

static void on_translation(plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        const uint32_t address = (uint32_t)qemu_plugin_insn_vaddr(instruction);
        const uint64_t data = (uint64_t)qemu_plugin_insn_size(instruction) << 32 | address;
        if (!is_ignored(address)) {
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_instruction, NO_REGISTERS, (void *)(uintptr_t)data);
        }
    }
}

/* Lines of NAME LOW HIGH, hexadecimal: begin and end give a function's entry as LOW, ignore a range. */
static bool read_markers(const char *path) {
    char name[16];
    range_t range;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return false;
    }
    while (fscanf(file, "%15s %" SCNx32 " %" SCNx32, name, &range.low, &range.high) == 3) {
        if (strcmp(name, "begin") == 0) {
            begin_entry = range.low;
        } else if (strcmp(name, "end") == 0) {
            end_entry = range.low;
        } else if (ignored_count < IGNORED) {
            ignored[ignored_count++] = range;
        }
    }
    (void)fclose(file);
    return true;
}

int qemu_plugin_install(plugin_id_t id, const qemu_info_t *info, int count, char **arguments) {
    const char *markers_path = NULL;
    const char *regions_path = NULL;
    (void)info;
    for (int i = 0; i < count; i++) {
        if (strncmp(arguments[i], "markers=", 8) == 0) {
            markers_path = arguments[i] + 8;
        } else if (strncmp(arguments[i], "regions=", 8) == 0) {
            regions_path = arguments[i] + 8;
        }
    }
    if (markers_path == NULL || regions_path == NULL || !read_markers(markers_path)) {
        (void)fprintf(stderr, "tcg_plugin: no markers\n"); /* also how it is found out whether QEMU takes the plugin */
        return -1;
    }
    regions = fopen(regions_path, "w");
    if (regions == NULL) {
        (void)fprintf(stderr, "tcg_plugin: cannot write %s\n", regions_path);
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    return 0;
}
