/* What the TCG plugins use of QEMU's interface.
 *
 * QEMU's header is not installed where QEMU is, so it is declared here, after include/qemu/qemu-plugin.h of QEMU 7.2: names
 * and types that no later version of the interface changes. */
#ifndef TCG_INTERFACE_H
#define TCG_INTERFACE_H

#include <stddef.h>
#include <stdint.h>

#ifndef PLUGIN_INTERFACE
#define PLUGIN_INTERFACE 1 /* the version that QEMU is told; hil/tcg_plugin.py finds out which one it takes */
#endif

typedef uint64_t plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct qemu_info qemu_info_t;
typedef void (*translated_t)(plugin_id_t id, struct qemu_plugin_tb *block);
typedef void (*executed_t)(unsigned int cpu, void *data);
typedef void (*called_t)(plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                         uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);
enum { NO_REGISTERS = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id_t id, translated_t callback);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, executed_t callback, int registers, void *data);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id_t id, called_t callback);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *instruction, executed_t callback, int registers,
                                            void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *instruction);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *instruction);

#define EXPORTED __attribute__((visibility("default")))

EXPORTED extern int qemu_plugin_version;
int qemu_plugin_version = PLUGIN_INTERFACE;

EXPORTED int qemu_plugin_install(plugin_id_t id, const qemu_info_t *info, int count, char **arguments);

#endif
