/* A TCG plugin for QEMU's user mode: counts executed instructions where the program itself can read the count.
 *
 *     qemu-aarch64 -plugin tcg_counter.so,count=FILE PROGRAM --count FILE
 *
 * FILE holds the count, 64 bits in this machine's byte order; both map it. A block's instructions are added as it is entered,
 * so the difference of two readings by the same instruction is exact. A fork of the program goes on with the same count.
 *
 * QEMU's header is not installed where QEMU is, so what is used of its interface is declared here, after
 * include/qemu/qemu-plugin.h of QEMU 7.2: names and types that no later version of the interface changes. */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef PLUGIN_INTERFACE
#define PLUGIN_INTERFACE 1 /* the version that QEMU is told; hil/tcg_plugin.py finds out which one it takes */
#endif

typedef uint64_t plugin_id_t;
struct qemu_plugin_tb;
typedef struct qemu_info qemu_info_t;
typedef void (*translated_t)(plugin_id_t id, struct qemu_plugin_tb *block);
typedef void (*executed_t)(unsigned int cpu, void *data);
enum { NO_REGISTERS = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id_t id, translated_t callback);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, executed_t callback, int registers, void *data);

#define EXPORTED __attribute__((visibility("default")))

EXPORTED extern int qemu_plugin_version;
int qemu_plugin_version = PLUGIN_INTERFACE;

EXPORTED int qemu_plugin_install(plugin_id_t id, const qemu_info_t *info, int count, char **arguments);

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
