"""The cycle model's rules, each on a few assembled instructions."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import ProtocolError, ToolError
from policyport.deploy.board import board_names, load_board
from policyport.deploy.toolchain import find_toolchain
from policyport.hil.cycle_model import block_cycles, estimate_cycles
from policyport.hil.cycle_rules import RULES, rules_of
from policyport.hil.execution_profile import Code, Jump, Region, instruction_counts
from policyport.hil.profiler import Trace
from policyport.hil.thumb import KINDS, Kind, decode

pytest.importorskip("capstone", reason="the package capstone is not installed")

Assemble = Callable[[str], Code]


@pytest.fixture(scope="module")
def assemble(tmp_path_factory: pytest.TempPathFactory) -> Assemble:
    """Assembles instructions, separated by semicolons, to code at address 0."""
    folder = tmp_path_factory.mktemp("assembled")
    try:
        toolchain = find_toolchain()
    except ToolError as error:
        pytest.skip(str(error))
    done: dict[str, Code] = {}

    def assemble(source: str) -> Code:
        if source not in done:
            text = ".syntax unified\n.thumb\n.text\n" + source.replace(";", "\n") + "\n"
            (folder / "snippet.S").write_text(text)
            flags = toolchain.target_flags(load_board("mps2-an386"))
            command = [*toolchain.command, *flags, "-mthumb", "-c", "snippet.S", "-o", "snippet.o"]
            subprocess.run(command, cwd=folder, check=True)
            done[source] = code_of(folder / "snippet.o")
        return done[source]

    return assemble


def code_of(path: Path) -> Code:
    from elftools.elf.elffile import ELFFile

    text = ELFFile(io.BytesIO(path.read_bytes())).get_section_by_name(".text").data()
    return Code({0: text}, {"snippet": range(len(text))})


def cycles(code: Code, core: str, jumps: dict[Jump, int] | None = None, last: int | None = None) -> int:
    """Cycles of code that is entered at address 0 and left behind ``last``, or where it ends."""
    addresses = [0]
    try:
        while True:
            addresses.append(addresses[-1] + code.size(addresses[-1]))
    except ProtocolError:  # behind the last
        addresses.pop()
    jumps, last = jumps or {}, addresses[-1] if last is None else last
    region = Region(0, 0, last, jumps)
    counts = {address: 1 for address in addresses if address <= last}
    if jumps:
        total = len(counts)
        (((source, target), times),) = jumps.items()
        inside = [address for address in counts if target <= address <= source] if target <= source else []
        skipped = [address for address in counts if source < address < target]
        region = Region(total + times * len(inside) - times * len(skipped), 0, last, jumps)
        counts = instruction_counts(region, code)
    return sum(estimate_cycles(Trace(region, counts), code, RULES[core]).values())


SINGLE = [
    # loads and stores of Armv7-M, with the examples of Arm DDI 0439, 3.3.2
    ("cortex-m4", "ldr r0,[r1]", 2),
    ("cortex-m4", "ldr r0,[r1]; ldr r2,[r3]", 3),
    ("cortex-m4", "ldr r1,[r0]; ldr r2,[r1]", 4),
    ("cortex-m4", "ldr r0,[r1,r5]; ldr r1,[r2]; ldr r2,[r3,#4]", 4),
    ("cortex-m4", "ldr r0,[r1,r2]; str r0,[r3,#20]", 3),
    ("cortex-m4", "ldr r0,[r1,r2]; str r1,[r3,r2]", 3),
    ("cortex-m4", "str r0,[r1,#4]", 1),
    ("cortex-m4", "str r0,[r1,r2]", 2),
    ("cortex-m4", "str r0,[r1,#4]; ldr r2,[r3]", 3),
    ("cortex-m4", "add r1,r1,#4; ldr r0,[r1]", 4),
    ("cortex-m4", "add r1,r1,#4; ldr r0,[r2]", 3),
    ("cortex-m4", "ldrd r0,r1,[r2]; strd r0,r1,[r3]", 6),
    ("cortex-m4", "ldm r0!,{r1-r4}", 5),
    ("cortex-m4", "push {r4-r7,lr}", 6),
    ("cortex-m3", "ldr r0,[r1]; ldrsb r2,[r3,#1]", 3),
    # arithmetic
    ("cortex-m4", "smlad r0,r1,r2,r0; smlad r0,r1,r2,r0", 2),
    ("cortex-m4", "smmulr r0,r1,r2; ssat r0,#8,r0; sxtb16 r0,r1", 3),
    ("cortex-m4", "smull r0,r1,r2,r3; mla r0,r1,r2,r3", 2),
    ("cortex-m3", "smull r0,r1,r2,r3; mla r0,r1,r2,r3", 6),
    ("cortex-m3", "smlal r0,r1,r2,r3", 5),
    ("cortex-m4", "sdiv r0,r1,r2", 7),
    ("cortex-m4", "it eq; moveq r0,#1", 1),
    ("cortex-m4", "vmla.f32 s0,s1,s2; vdiv.f32 s0,s1,s2; vadd.f32 s0,s1,s2", 18),
    ("cortex-m33", "smlad r0,r1,r2,r0; ldr r0,[r1]; ldr r2,[r3]", 4),
    # Armv6-M: nothing overlaps
    ("cortex-m0", "ldr r0,[r1]; ldr r2,[r3]; str r2,[r1]; muls r0,r1,r0", 7),
    ("cortex-m0", "ldm r0!,{r1-r3}; stm r4!,{r5-r7}", 8),
    ("cortex-m0plus", "push {r4-r7,lr}; ldrb r0,[r1,r2]", 8),
]


@pytest.mark.parametrize(("core", "source", "expected"), SINGLE)
def test_instructions_in_a_row(assemble: Assemble, core: str, source: str, expected: int) -> None:
    assert cycles(assemble(source), core) == expected


LOOPS = [
    ("cortex-m4", 10 * 2 + 9 * 2),
    ("cortex-m3", 10 * 2 + 9 * 2),
    ("cortex-m0", 10 * 2 + 9 * 2),  # a branch takes 3 where it is taken, 1 where not
    ("cortex-m0plus", 10 * 2 + 9 * 1),
    ("cortex-m33", 10 * 2 + 9 * 2),
]


@pytest.mark.parametrize(("core", "expected"), LOOPS)
def test_a_loop_of_ten(assemble: Assemble, core: str, expected: int) -> None:
    assert cycles(assemble("1: subs r0,#1; bne 1b"), core, {(2, 0): 9}) == expected


JUMPS = [
    # at address 0 a jump over one nop (or two) to a nop
    ("cortex-m4", "b 1f; nop; 1: nop", 1 + 2 + 1),
    ("cortex-m0", "b 1f; nop; 1: nop", 3 + 1),
    ("cortex-m0plus", "b 1f; nop; 1: nop", 2 + 1),
    ("cortex-m0", "bl 1f; nop; 1: nop", 4 + 1),
    ("cortex-m0plus", "bl 1f; nop; 1: nop", 3 + 1),
    ("cortex-m4", "bl 1f; nop; 1: nop", 3 + 1),
    ("cortex-m4", "pop {r4,pc}; nop; 1: nop", 1 + 2 + 2 + 1),
    ("cortex-m0", "pop {r4,pc}; nop; 1: nop", 4 + 2 + 1),
    ("cortex-m0plus", "pop {r4,pc}; nop; 1: nop", 3 + 2 + 1),
    ("cortex-m4", "tbb [pc,r0]; nop; 1: nop", 2 + 2 + 1),
]


@pytest.mark.parametrize(("core", "source", "expected"), JUMPS)
def test_a_jump(assemble: Assemble, core: str, source: str, expected: int) -> None:
    code = assemble(source)
    behind = code.size(0)
    assert cycles(code, core, {(0, behind + 2): 1}) == expected


DUAL = [
    ("add r0,r1,r2; add r3,r4,r5", 1),
    ("add r0,r1,r2; add r3,r0,r5", 2),
    ("add r0,r1,r2; add r3,r4,r5; add r6,r1,r2", 2),
    ("ldr r0,[r1]; ldr r2,[r3]", 2),
    ("ldr r0,[r1]; add r2,r3,r4", 1),
    ("ldr r0,[r1]; add r2,r0,r4", 3),
    ("smlad r0,r1,r2,r0; smlad r0,r3,r4,r0; smlad r0,r5,r6,r0", 3),
    ("smlad r0,r1,r2,r0; ldr r5,[r6]; smlad r0,r3,r4,r0; ldr r7,[r6,#4]", 2),
    ("smmul r0,r1,r2; add r3,r0,r4", 3),
    ("ldm r0!,{r1-r4}; nop; nop", 3),
]


@pytest.mark.parametrize(("source", "expected"), DUAL)
def test_two_at_a_time(assemble: Assemble, source: str, expected: int) -> None:
    assert cycles(assemble(source), "cortex-m7") == expected


SNIPPETS = ["add r0,r1,r2", "ldr r0,[r1]", "str r3,[r4]", "smlad r5,r6,r7,r5", "ldm r0!,{r1-r3}", "uxtb16 r1,r2", "nop"]


@given(st.lists(st.sampled_from(SNIPPETS), min_size=1, max_size=20))
def test_no_core_is_faster_than_it_can_issue(assemble: Assemble, snippets: list[str]) -> None:
    block = [decode(code.read(0, code.size(0)), 0) for code in map(assemble, snippets)]
    assert block_cycles(block, RULES["cortex-m7"]) >= (len(block) + 1) // 2
    longer = block_cycles([*block, block[0]], RULES["cortex-m7"])
    assert block_cycles(block, RULES["cortex-m7"]) <= longer


@given(st.integers(1, 1000))
def test_cycles_grow_with_the_count(assemble: Assemble, times: int) -> None:
    code = assemble("1: ldr r1,[r2]; subs r0,#1; bne 1b")
    for core in RULES:
        once, again = cycles(code, core, {(4, 0): times}), cycles(code, core, {(4, 0): times + 1})
        assert again - once == cycles(code, core, {(4, 0): 2}) - cycles(code, core, {(4, 0): 1}) > 0


def test_every_emulated_core_has_rules_but_the_one_that_the_page_names() -> None:
    boards = [load_board(name) for name in board_names()]
    without = {board.core for board in boards if rules_of(board) is None}
    assert without == {"cortex-m55f"} | {board.core for board in boards if board.linux}


def test_an_instruction_has_one_kind() -> None:
    names = " ".join(KINDS.values()).split()
    assert len(names) == len(set(names)) and set(KINDS) == set(Kind)


def test_what_is_not_known_is_refused() -> None:
    for code, why in (("ffff", "does not know"), ("00be", "no cycle model")):
        with pytest.raises(ToolError, match=why):
            decode(bytes.fromhex(code), 0x40)
