//! The programs of trunks: which tag leads where, and which tag is put on. They are a few instructions of eBPF, put together
//! here and given to the kernel, which checks them before it runs them.
//!
//! Refused: VLAN devices, VLAN filtering of bridges and the action `vlan` of traffic control (many kernels are built without
//! them); a crate that loads object files (it brings a format and a compiler for thirty instructions); a table beside the
//! program (where each port leads is part of the program, so it is replaced as a whole, and compared by its name).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// The target's number, and the source's in the upper half.
    registers: u8,
    offset: i16,
    value: i32,
}

/// Operation codes, with the names that the kernel's documentation has for what they do.
mod code {
    pub const LOAD_WORD: u8 = 0x61;
    pub const SET: u8 = 0xb7;
    pub const COPY: u8 = 0xbf;
    pub const AND: u8 = 0x57;
    pub const CALL: u8 = 0x85;
    pub const EXIT: u8 = 0x95;
    pub const JUMP: u8 = 0x05;
    pub const JUMP_IF_EQUAL: u8 = 0x15;
    pub const JUMP_IF_OTHER: u8 = 0x55;
    pub const JUMP_IF_GREATER: u8 = 0x25;
}

/// Offsets in `struct __sk_buff`.
mod frame {
    pub const VLAN_PRESENT: i16 = 20;
    pub const VLAN_TCI: i16 = 24;
    pub const VLAN_PROTO: i16 = 28;
}

/// Functions of the kernel's that programs call, by number.
mod call {
    pub const VLAN_PUSH: i32 = 18;
    pub const VLAN_POP: i32 = 19;
    pub const REDIRECT: i32 = 23;
}

/// What a program says of a frame.
mod verdict {
    /// Others look at it next.
    pub const NEXT: i32 = -1;
    pub const DROP: i32 = 2;
}

/// The protocol of a tag as it stands in a frame: IEEE 802.1Q.
const TAGGED: i32 = 0x8100_u16.to_be() as i32;
const VLAN_MASK: i32 = 0xfff;
const LOAD: libc::c_int = 5;
const CLASSIFIER: u32 = 3;
/// The kernel wants to know; none of the functions above depends on it.
const LICENSE: &std::ffi::CStr = c"Apache-2.0";

// Registers: the first argument and the next ones, the result, and those that calls leave alone.
const RESULT: u8 = 0;
const FRAME: u8 = 1;
const SECOND: u8 = 2;
const THIRD: u8 = 3;
const KEPT_FRAME: u8 = 6;
const TAG: u8 = 7;
const DEVICE: u8 = 8;

/// Where a jump leads that is written before its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Drop,
    Send,
}

/// A program that looks at the frames that come from a device.
#[derive(Debug, PartialEq, Eq)]
pub struct Program(Vec<Instruction>);

#[derive(Default)]
struct Writer {
    code: Vec<Instruction>,
    jumps: Vec<(usize, Place)>,
}

impl Writer {
    fn put(&mut self, code: u8, target: u8, source: u8, offset: i16, value: i32) {
        self.code.push(Instruction { code, registers: target | source << 4, offset, value });
    }

    fn set(&mut self, target: u8, value: i32) {
        self.put(code::SET, target, 0, 0, value);
    }

    fn end(&mut self, verdict: i32) {
        self.set(RESULT, verdict);
        self.put(code::EXIT, 0, 0, 0, 0);
    }

    fn jump(&mut self, code: u8, register: u8, value: i32, to: Place) {
        self.jumps.push((self.code.len(), to));
        self.put(code, register, 0, 0, value);
    }

    /// Lets a jump lead to what comes next.
    fn land(&mut self, jump: usize) {
        let distance = self.code.len() - jump - 1;
        // 4094 tags take 16,400 instructions.
        self.code[jump].offset = i16::try_from(distance).unwrap_or(i16::MAX);
    }

    fn arrive(&mut self, place: Place) {
        for (jump, _) in self.jumps.iter().filter(|(_, to)| *to == place).copied().collect::<Vec<_>>() {
            self.land(jump);
        }
    }

    /// Looks for the tag in a table that is sorted by tags, by halves.
    fn find(&mut self, table: &[(u16, u32)]) {
        match table {
            [] => self.jump(code::JUMP, 0, 0, Place::Drop),
            [(vlan, device)] => {
                self.jump(code::JUMP_IF_OTHER, TAG, i32::from(*vlan), Place::Drop);
                self.set(DEVICE, *device as i32);
                self.jump(code::JUMP, 0, 0, Place::Send);
            }
            _ => {
                let (low, high) = table.split_at(table.len() / 2);
                let last = low.last().map_or(0, |entry| i32::from(entry.0));
                let jump = self.code.len();
                self.put(code::JUMP_IF_GREATER, TAG, 0, 0, last);
                self.find(low);
                self.land(jump);
                self.find(high);
            }
        }
    }

    /// Sends the frame out of the device.
    fn send(&mut self) {
        self.put(code::COPY, FRAME, DEVICE, 0, 0);
        self.set(SECOND, 0);
        self.put(code::CALL, 0, 0, 0, call::REDIRECT);
        self.put(code::EXIT, 0, 0, 0, 0);
    }
}

impl Program {
    /// Takes the tag off frames that have one of these and sends them out of its device; drops those that have another;
    /// leaves those that have none.
    pub fn part(devices: &BTreeMap<u16, u32>) -> Program {
        let table: Vec<(u16, u32)> = devices.iter().map(|(vlan, device)| (*vlan, *device)).collect();
        let mut out = Writer::default();
        out.put(code::COPY, KEPT_FRAME, FRAME, 0, 0);
        out.put(code::LOAD_WORD, TAG, FRAME, frame::VLAN_PRESENT, 0);
        let tagged = out.code.len();
        out.put(code::JUMP_IF_OTHER, TAG, 0, 0, 0);
        out.end(verdict::NEXT);
        out.land(tagged);
        // A provider's tag (802.1ad) is no tag of a trunk.
        out.put(code::LOAD_WORD, TAG, FRAME, frame::VLAN_PROTO, 0);
        let known = out.code.len();
        out.put(code::JUMP_IF_EQUAL, TAG, 0, 0, TAGGED);
        out.jump(code::JUMP, 0, 0, Place::Drop);
        out.land(known);
        out.put(code::LOAD_WORD, TAG, FRAME, frame::VLAN_TCI, 0);
        out.put(code::AND, TAG, 0, 0, VLAN_MASK);
        out.find(&table);
        // The kernel takes no program with a part that nothing leads to.
        if !table.is_empty() {
            out.arrive(Place::Send);
            out.put(code::COPY, FRAME, KEPT_FRAME, 0, 0);
            out.put(code::CALL, 0, 0, 0, call::VLAN_POP);
            out.jump(code::JUMP_IF_OTHER, RESULT, 0, Place::Drop);
            out.send();
        }
        out.arrive(Place::Drop);
        out.end(verdict::DROP);
        Program(out.code)
    }

    /// Puts a tag on every frame and sends it out of a device.
    pub fn tag(vlan: u16, device: u32) -> Program {
        let mut out = Writer::default();
        out.set(SECOND, TAGGED);
        out.set(THIRD, i32::from(vlan));
        out.put(code::CALL, 0, 0, 0, call::VLAN_PUSH);
        out.jump(code::JUMP_IF_OTHER, RESULT, 0, Place::Drop);
        out.set(DEVICE, device as i32);
        out.send();
        out.arrive(Place::Drop);
        out.end(verdict::DROP);
        Program(out.code)
    }

    /// A name that another program does not have: by it one that runs is known again.
    pub fn name(&self) -> String {
        // FNV-1a: names must not change with a release of the compiler.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for one in &self.0 {
            let bytes = [one.code, one.registers].into_iter().chain(one.offset.to_le_bytes());
            for byte in bytes.chain(one.value.to_le_bytes()) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        format!("trunk-{hash:016x}")
    }

    /// Gives the program to the kernel; it is there as long as somebody holds it.
    #[allow(unsafe_code)]
    pub fn load(&self) -> io::Result<OwnedFd> {
        let request = Request {
            kind: CLASSIFIER,
            count: u32::try_from(self.0.len()).map_err(io::Error::other)?,
            instructions: self.0.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            ..Request::default()
        };
        // SAFETY: the request has the size and layout that the kernel reads, and what it points to outlives the call. No safe
        // wrapper of the call exists.
        let made = unsafe { libc::syscall(libc::SYS_bpf, LOAD, &raw const request, size_of::<Request>()) };
        let fd = i32::try_from(made).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel has just given us the descriptor, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// The part of `union bpf_attr` that is about loading a program.
#[repr(C)]
#[derive(Default)]
struct Request {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program on a tag, as far as it asks for it: the device out of which the frame is sent.
    fn run(program: &Program, present: bool, protocol: u16, tci: u16) -> Result<u32, i32> {
        let (mut at, mut registers, mut calls) = (0_usize, [0_i64; 11], Vec::new());
        loop {
            let one = program.0[at];
            let (target, source) = (usize::from(one.registers & 15), usize::from(one.registers >> 4));
            at += 1;
            let value = i64::from(one.value);
            let jumps = match one.code {
                code::LOAD_WORD => {
                    registers[target] = match one.offset {
                        frame::VLAN_PRESENT => i64::from(present),
                        frame::VLAN_TCI => i64::from(tci),
                        _ => i64::from(protocol.to_be()),
                    };
                    false
                }
                code::SET => {
                    registers[target] = value;
                    false
                }
                code::COPY => {
                    registers[target] = registers[source];
                    false
                }
                code::AND => {
                    registers[target] &= value;
                    false
                }
                code::CALL => {
                    calls.push(one.value);
                    registers[0] = if one.value == call::REDIRECT { registers[1] } else { 0 };
                    false
                }
                code::EXIT if calls.last() == Some(&call::REDIRECT) => return Ok(registers[0] as u32),
                code::EXIT => return Err(registers[0] as i32),
                code::JUMP => true,
                code::JUMP_IF_EQUAL => registers[target] == value,
                code::JUMP_IF_OTHER => registers[target] != value,
                code::JUMP_IF_GREATER => registers[target] > value,
                other => panic!("{other:#x}"),
            };
            if jumps {
                at = at.strict_add_signed(one.offset.into());
            }
        }
    }

    #[test]
    fn each_tag_leads_to_its_device() {
        for count in [0, 1, 2, 3, 7, 4094] {
            let devices: BTreeMap<u16, u32> = (1..=count).map(|vlan| (vlan, 10_000 + u32::from(vlan))).collect();
            let program = Program::part(&devices);
            for vlan in 0..=4095_u16 {
                let expected = devices.get(&vlan).copied().ok_or(verdict::DROP);
                // The priority of the frame is none of the tag's number.
                for tci in [vlan, vlan | 0xe000] {
                    assert_eq!(run(&program, true, 0x8100, tci), expected, "{vlan} of {count}");
                }
                assert_eq!(run(&program, true, 0x88a8, vlan), Err(verdict::DROP));
            }
            assert_eq!(run(&program, false, 0, 0), Err(verdict::NEXT));
        }
        assert_eq!(run(&Program::tag(5, 77), false, 0, 0), Ok(77));
    }

    #[test]
    fn programs_have_names_of_their_own() {
        let one = Program::part(&[(1, 2)].into());
        assert_eq!(one.name(), Program::part(&[(1, 2)].into()).name());
        let names = [one.name(), Program::part(&[(2, 1)].into()).name(), Program::tag(1, 2).name()];
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    }

    #[test]
    fn the_kernel_takes_the_largest() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let all = model::VLANS.map(|vlan| (vlan, u32::from(vlan))).collect();
        for program in [Program::part(&all), Program::part(&BTreeMap::new()), Program::tag(4094, 1)] {
            program.load().unwrap();
        }
    }
}
