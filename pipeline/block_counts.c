/* A TCG plugin for QEMU's user mode: counts how often each block of a program is executed while the program measures.
 *
 *     qemu-aarch64 ... -plugin block_counts.so,counts=FILE program
 *
 * The program says when: closing the file descriptor -7001 begins a region, closing -7002 ends it. Both fail, as no such
 * file is open, and do nothing else. For each region it writes a line for every block that was executed in it: address of
 * the first instruction, number of instructions, number of executions. A block ends at the first branch, so the product of
 * the two is what was executed. */
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tcg_interface.h"

enum { CLOSE = 57, BEGIN = -7001, END = -7002, CHUNK = 4096 }; /* CLOSE: the system call's number on AArch64 */

typedef struct {
    uint64_t address;
    uint64_t instructions;
    uint64_t executions;
} block_t;

typedef struct chunk {
    struct chunk *next;
    size_t used;
    block_t blocks[CHUNK]; /* QEMU keeps their addresses */
} chunk_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over the list of chunks */
static chunk_t *chunks;
static bool inside;
static FILE *counts;

/* Threads that execute the same block at once may lose a count: one thread runs what is measured. */
static void on_execution(unsigned int cpu, void *data) {
    (void)cpu;
    if (inside) {
        ((block_t *)data)->executions++;
    }
}

static block_t *add_block(void) {
    if (chunks == NULL || chunks->used == CHUNK) {
        chunk_t *chunk = calloc(1, sizeof *chunk);
        if (chunk == NULL) {
            (void)fprintf(stderr, "block_counts: out of memory\n");
            exit(1);
        }
        chunk->next = chunks;
        chunks = chunk;
    }
    return &chunks->blocks[chunks->used++];
}

static void on_translation(plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    (void)pthread_mutex_lock(&lock);
    block_t *counted = add_block();
    (void)pthread_mutex_unlock(&lock);
    counted->address = qemu_plugin_tb_vaddr(block);
    counted->instructions = qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_cb(block, on_execution, NO_REGISTERS, counted);
}

static void write_region(void) {
    (void)fprintf(counts, "region\n");
    for (chunk_t *chunk = chunks; chunk != NULL; chunk = chunk->next) {
        for (size_t i = 0; i < chunk->used; i++) {
            block_t *block = &chunk->blocks[i];
            if (block->executions != 0) {
                (void)fprintf(counts, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n", block->address, block->instructions,
                              block->executions);
                block->executions = 0;
            }
        }
    }
    (void)fprintf(counts, "end\n");
    (void)fflush(counts);
}

static void on_call(plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                    uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
    const int32_t file = (int32_t)(uint32_t)a1;
    (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != CLOSE || (file != BEGIN && file != END)) {
        return;
    }
    (void)pthread_mutex_lock(&lock);
    inside = file == BEGIN;
    if (file == END) {
        write_region();
    }
    (void)pthread_mutex_unlock(&lock);
}

int qemu_plugin_install(plugin_id_t id, const qemu_info_t *info, int count, char **arguments) {
    (void)info;
    if (count != 1 || strncmp(arguments[0], "counts=", 7) != 0) {
        (void)fprintf(stderr, "block_counts: no file\n"); /* also how it is found out whether QEMU takes the plugin */
        return -1;
    }
    counts = fopen(arguments[0] + 7, "w");
    if (counts == NULL) {
        (void)fprintf(stderr, "block_counts: cannot write %s\n", arguments[0] + 7);
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_call);
    return 0;
}
