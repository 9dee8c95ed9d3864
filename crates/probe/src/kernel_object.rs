//! The embedded kernel object, and the programs in it.

use std::{
    collections::{HashMap, HashSet},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use anyhow::{Context, Result, bail};
use aya::{Ebpf, maps::Map};
use aya_obj::{
    Object,
    generated::{bpf_func_info, bpf_insn},
};

use crate::sys::bpf;

/// The kernel object that `cargo xtask build-ebpf` has built; empty in a build without it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("OVERLAY_TRACE_EBPF_OBJECT"));

/// A program that can be copied.
#[derive(Clone)]
pub struct Code {
    pub instructions: Vec<bpf_insn>,
    /// The types of its functions; empty for a program that has only one.
    pub functions: Vec<bpf_func_info>,
}

/// The programs of the object.
pub struct Programs {
    pub by_name: HashMap<String, Code>,
    /// The types that [`Code::functions`] refers to. With them the verifier knows the global functions, which it follows
    /// once for a program; without, it follows each call of them from each state.
    pub types: Option<OwnedFd>,
}

/// The object's programs, with references to these maps and calls of functions relocated.
///
/// # Errors
///
/// The object is damaged, or has a map of an unexpected type.
pub fn programs(maps: &Ebpf) -> Result<Programs> {
    let mut object = Object::parse(OBJECT).context("the embedded kernel object is damaged")?;
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let descriptions: HashMap<String, aya_obj::Map> =
        object.maps.iter().map(|(name, map)| (name.clone(), map.clone())).collect();
    let mut descriptors = Vec::new();
    for (name, map) in maps.maps() {
        if let Some(description) = descriptions.get(name) {
            descriptors.push((name, descriptor(map)?, description));
        }
    }
    object.relocate_maps(descriptors.into_iter(), &text).context("cannot relocate the maps")?;
    object.relocate_calls(&text).context("cannot relocate the calls")?;
    let by_name = object
        .programs
        .iter()
        .filter_map(|(name, program)| {
            let function = object.functions.get(&program.function_key())?;
            let functions = function.func_info.func_info.clone();
            Some((name.clone(), Code { instructions: function.instructions.clone(), functions }))
        })
        .collect();
    Ok(Programs { by_name, types: types(&mut object) })
}

/// The object's types, as far as the running kernel knows such types; `None` if it refuses them.
fn types(object: &mut Object) -> Option<OwnedFd> {
    let types = object.fixup_and_sanitize_btf(aya::features().btf()?);
    let loaded = types.map_err(anyhow::Error::from).and_then(|types| match types {
        Some(types) => Ok(Some(bpf::load_btf(&types.to_bytes())?)),
        None => Ok(None),
    });
    loaded.inspect_err(|error| tracing::debug!("the programs' types cannot be loaded: {error:#}")).ok()?
}

fn descriptor(map: &Map) -> Result<i32> {
    let data = match map {
        Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::HashMap(data)
        | Map::RingBuf(data)
        | Map::ProgramArray(data) => data,
        other => bail!("the kernel side has a map of an unexpected type: {other:?}"),
    };
    Ok(data.fd().as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use aya_obj::generated::bpf_func_id::BPF_FUNC_redirect_peer;

    use super::*;
    use crate::patch::{CALL, EXIT, LOAD_IMMEDIATE, instruction};

    /// Opcodes: atomic operations on 32 and on 64 bits.
    const ATOMIC: [u8; 2] = [0xc3, 0xdb];
    /// The last helper that 5.10 has.
    const LAST_HELPER: i32 = BPF_FUNC_redirect_peer as i32;

    /// A log is for developers: programs that tell nothing have no instruction for it, and no map.
    #[test]
    #[cfg_attr(not(kernel_programs), ignore = "the kernel programs are not built: `cargo xtask build-ebpf`")]
    fn the_programs_have_no_log_unless_they_were_built_with_it() {
        let object = Object::parse(OBJECT).unwrap();
        assert!(
            !object.maps.contains_key("AYA_LOGS"),
            "built by `cargo xtask build-ebpf --kernel-log`: build again without that"
        );
    }

    /// The verifier refuses an instruction that it does not know even in code that is never reached.
    #[test]
    #[cfg_attr(not(kernel_programs), ignore = "the kernel programs are not built: `cargo xtask build-ebpf`")]
    fn no_program_has_an_instruction_that_5_10_does_not_know() {
        let object = Object::parse(OBJECT).unwrap();
        assert!(!object.functions.is_empty());
        for ((_, at), function) in &object.functions {
            for instruction in &function.instructions {
                let is_young = match instruction.code {
                    // Anything but an addition that does not fetch the old value.
                    code if ATOMIC.contains(&code) => instruction.imm != 0,
                    CALL if instruction.src_reg() == 0 => instruction.imm > LAST_HELPER,
                    _ => false,
                };
                assert!(!is_young, "{} at {at}: {instruction:?}", function.name);
            }
        }
    }

    /// Opcodes, and the bits of an opcode that make it a jump.
    const JUMP: u8 = 0x05;
    const CLASS: u8 = 0x07;
    const JUMPS: [u8; 2] = [0x05, 0x06];

    /// The indices of the instructions that may come after one, and whether a jump leads there.
    fn successors(instructions: &[bpf_insn], at: usize) -> Vec<(usize, bool)> {
        let target = (at + 1).wrapping_add_signed(instructions[at].off.into());
        match instructions[at].code {
            EXIT => vec![],
            CALL => vec![(at + 1, false)],
            JUMP => vec![(target, true)],
            code if JUMPS.contains(&(code & CLASS)) => vec![(at + 1, true), (target, true)],
            LOAD_IMMEDIATE => vec![(at + 2, false)],
            _ => vec![(at + 1, false)],
        }
    }

    /// The instruction that closes a loop without being a jump, as `check_cfg` of the verifier finds it.
    fn falls_into_its_loop(instructions: &[bpf_insn]) -> Option<usize> {
        let mut taken = vec![0; instructions.len()];
        let (mut is_seen, mut is_open) = (vec![false; instructions.len()], vec![false; instructions.len()]);
        let mut path = vec![0];
        while let Some(&at) = path.last() {
            (is_seen[at], is_open[at]) = (true, true);
            let Some(&(to, by_jump)) = successors(instructions, at).get(taken[at]) else {
                is_open[at] = false;
                path.pop();
                continue;
            };
            taken[at] += 1;
            if is_open[to] && !by_jump {
                return Some(at);
            }
            if !is_seen[to] {
                path.push(to);
            }
        }
        None
    }

    #[test]
    fn a_loop_that_no_jump_closes_is_found() {
        const IF_EQUAL: u8 = 0x15;
        let jump = |code, off| bpf_insn { off, ..instruction(code, 0, 0) };
        let add = instruction(0x07, 0, 1);
        let exit = instruction(EXIT, 0, 0);
        assert_eq!(falls_into_its_loop(&[add, jump(IF_EQUAL, 1), jump(JUMP, -3), exit]), None);
        // Over the loop's last instruction into its first one, which is behind that.
        assert_eq!(falls_into_its_loop(&[jump(JUMP, 1), add, jump(IF_EQUAL, -2), exit]), Some(1));
    }

    /// The verifiers of 5.10 and 6.1 refuse any other loop ("back-edge").
    #[test]
    #[cfg_attr(not(kernel_programs), ignore = "the kernel programs are not built: `cargo xtask build-ebpf`")]
    fn jumps_close_all_loops() {
        let object = Object::parse(OBJECT).unwrap();
        for function in object.functions.values() {
            assert_eq!(falls_into_its_loop(&function.instructions), None, "{}", function.name);
        }
    }
}
