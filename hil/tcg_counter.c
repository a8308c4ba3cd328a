/* A TCG plugin for QEMU's user mode: counts executed instructions where the program itself can read the count.
 *
 *     qemu-aarch64 -plugin tcg_counter.so,count=FILE PROGRAM --count FILE
 *
 * FILE holds the count, 64 bits in this machine's byte order; both map it. A block's instructions are added as it is entered,
 * so the difference of two readings by the same instruction is exact. A fork of the program goes on with the same count. */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tcg_interface.h"

static volatile uint64_t *executed;

static void on_block(unsigned int cpu, void *instructions) {
    (void)cpu;
    *executed += (uintptr_t)instructions;
}

static void on_translation(plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, on_block, NO_REGISTERS, (void *)qemu_plugin_tb_n_insns(block));
}

int qemu_plugin_install(plugin_id_t id, const qemu_info_t *info, int count, char **arguments) {
    const int file =
        count == 1 && strncmp(arguments[0], "count=", 6) == 0 ? open(arguments[0] + 6, O_RDWR | O_CLOEXEC) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *executed, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    (void)info;
    if (mapped == MAP_FAILED) {
        (void)fprintf(stderr, "tcg_counter: no file\n"); /* also how it is found out whether QEMU takes the plugin */
        return -1;
    }
    (void)close(file);
    executed = mapped;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    return 0;
}
