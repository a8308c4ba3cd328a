"""Thumb instructions by what they cost: decoded by capstone, sorted into the kinds that timing tables name."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from policyport.core.errors import ToolError
from policyport.core.install import pip_install


class Kind(Enum):
    """A row of a timing table."""

    ALU = auto()
    MULTIPLY = auto()
    MULTIPLY_ACCUMULATE = auto()
    LONG_MULTIPLY = auto()
    LONG_MULTIPLY_ACCUMULATE = auto()
    DIVIDE = auto()
    LOAD = auto()
    STORE = auto()
    LOAD_PAIR = auto()
    STORE_PAIR = auto()
    LOAD_MULTIPLE = auto()
    STORE_MULTIPLE = auto()
    BRANCH = auto()
    CALL = auto()
    """BL, and BLX by register."""

    TABLE_BRANCH = auto()
    IF_THEN = auto()
    SYSTEM = auto()
    """Special registers and barriers."""

    FLOAT = auto()
    FLOAT_ACCUMULATE = auto()
    FLOAT_DIVIDE = auto()


@dataclass(frozen=True)
class Instruction:
    """One instruction."""

    address: int
    size: int
    """Bytes: 2 or 4."""

    name: str
    """Without condition and width: ``smlad``, ``ldrsb``."""

    kind: Kind
    registers: int
    """Length of the register list; 0 where there is none."""

    reads: frozenset[str]
    """Registers, the flags not among them."""

    writes: frozenset[str]
    address_registers: frozenset[str]
    """Those that a load or store computes its address from."""

    register_offset: bool
    """Whether the address has an index register."""

    @property
    def is_load(self) -> bool:
        """A load of one register."""
        return self.kind is Kind.LOAD

    @property
    def writes_pc(self) -> bool:
        """Whether it is a branch by writing the program counter: ``pop {pc}``, ``ldr pc``, ``mov pc``."""
        return "pc" in self.writes and self.kind not in (Kind.BRANCH, Kind.CALL, Kind.TABLE_BRANCH)


def decode(code: bytes, address: int) -> Instruction:
    """One instruction.

    :param code: its 2 or 4 bytes
    :raises ToolError: capstone is not installed, or does not know the instruction
    """
    found = next(_disassembler().disasm(code, address), None)
    if found is None or found.size != len(code):
        raise ToolError("an instruction that the disassembler does not know", where=f"0x{address:08x}", got=code.hex())
    name, kind = found.insn_name(), _kind(found.insn_name())
    reads, writes = ({found.reg_name(number) for number in numbers} - FLAGS for numbers in found.regs_access())
    base, index = _address(found)
    return Instruction(
        address,
        found.size,
        name,
        kind,
        _list_length(found, kind),
        frozenset(reads | _unreported_reads(found, kind, writes)),
        frozenset(writes),
        frozenset({base, index} - {""}),
        bool(index),
    )


FLAGS = {"cpsr", "itstate", "fpscr", "apsr", "apsr_nzcv", "fpscr_nzcv"}

KINDS = {
    Kind.MULTIPLY: (
        "mul smulbb smulbt smultb smultt smulwb smulwt smuad smuadx smusd smusdx smmul smmulr"
        " smlad smladx smlsd smlsdx smlabb smlabt smlatb smlatt smlawb smlawt smmla smmlar smmls smmlsr"
    ),
    Kind.MULTIPLY_ACCUMULATE: "mla mls",
    Kind.LONG_MULTIPLY: "smull umull",
    Kind.LONG_MULTIPLY_ACCUMULATE: "smlal umlal umaal smlalbb smlalbt smlaltb smlaltt smlald smlaldx smlsld smlsldx",
    Kind.DIVIDE: "sdiv udiv",
    Kind.LOAD: "ldr ldrb ldrh ldrsb ldrsh vldr",
    Kind.STORE: "str strb strh vstr",
    Kind.LOAD_PAIR: "ldrd",
    Kind.STORE_PAIR: "strd",
    Kind.LOAD_MULTIPLE: "ldm ldmdb ldmia pop vldmia vldmdb vpop",
    Kind.STORE_MULTIPLE: "stm stmdb stmia push vstmia vstmdb vpush",
    Kind.BRANCH: "b bx cbz cbnz",
    Kind.CALL: "bl blx",
    Kind.TABLE_BRANCH: "tbb tbh",
    Kind.IF_THEN: "it",
    Kind.SYSTEM: "mrs msr cps dmb dsb isb",
    Kind.FLOAT: "vmov vadd vsub vmul vnmul vneg vabs vcvt vcvtr vcmp vcmpe vmrs vmsr",
    Kind.FLOAT_ACCUMULATE: "vmla vmls vnmla vnmls vfma vfms vfnma vfnms",
    Kind.FLOAT_DIVIDE: "vdiv vsqrt",
    Kind.ALU: (
        "mov movw movt movs mvn add adds addw sub subs subw rsb adc sbc and orr orn eor bic cmp cmn tst teq adr"
        " lsl lsr asr ror rrx clz rbit rev rev16 revsh sxtb sxth uxtb uxth sxtb16 uxtb16 sxtab sxtah uxtab uxtah"
        " sxtab16 uxtab16 pkhbt pkhtb ssat usat ssat16 usat16 bfi bfc sbfx ubfx sel hint nop"
        " sadd16 sadd8 ssub16 ssub8 uadd16 uadd8 usub16 usub8 qadd qadd16 qadd8 qsub qsub16 qsub8 qdadd qdsub"
        " shadd16 shadd8 shsub16 shsub8 uhadd16 uhadd8 uhsub16 uhsub8 uqadd16 uqadd8 uqsub16 uqsub8"
        " sasx ssax uasx usax qasx qsax shasx shsax uhasx uhsax uqasx uqsax usad8 usada8"
    ),
}
"""Every instruction that generated code and compilers use on Armv6-M, Armv7E-M and Armv8-M without MVE."""

_KIND_OF = {name: kind for kind, names in KINDS.items() for name in names.split()}


def _kind(name: str) -> Kind:
    if name not in _KIND_OF:
        raise ToolError("an instruction that no cycle model knows", got=name)
    return _KIND_OF[name]


def _unreported_reads(found: Any, kind: Kind, writes: set[str]) -> set[str]:
    """Registers that capstone 5 does not report as read: operands of saturations, accumulators of long multiplies."""
    if kind.name.startswith("LOAD"):
        return set()
    operands = {found.reg_name(operand.reg) for operand in found.operands[1:] if operand.type == _REGISTER}
    if kind is Kind.LONG_MULTIPLY:
        return operands - writes
    return operands | (writes if kind is Kind.LONG_MULTIPLY_ACCUMULATE else set())


def _address(found: Any) -> tuple[str, str]:
    """Names of the base and the index register of a load or store; empty where there is none."""
    for operand in found.operands:
        if operand.type == _MEMORY:
            base, index = operand.mem.base, operand.mem.index
            return (found.reg_name(base) if base else ""), (found.reg_name(index) if index else "")
    if "{" in found.op_str and found.operands and not found.op_str.startswith("{"):
        return found.reg_name(found.operands[0].reg), ""
    return ("sp" if "{" in found.op_str else ""), ""


def _list_length(found: Any, kind: Kind) -> int:
    if not kind.name.endswith("_MULTIPLE"):
        return 0
    return len(found.operands) - (not found.op_str.startswith("{"))


_REGISTER, _MEMORY = 1, 3
"""CS_OP_REG and CS_OP_MEM: numbers of capstone's interface that hold for every processor."""


@functools.cache
def _disassembler() -> Any:
    try:
        import capstone
    except ImportError as error:
        raise ToolError(
            "no disassembler for the cycle estimate",
            expected="the Python package capstone",
            cure=pip_install("[rig]"),
        ) from error
    machine = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    machine.detail = True
    return machine
