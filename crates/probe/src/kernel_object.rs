//! The embedded kernel object, and the programs in it.

use std::{
    collections::{HashMap, HashSet},
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Context, Result, bail};
use aya::{Ebpf, maps::Map};
use aya_obj::{Object, generated::bpf_insn};

/// The kernel object that `cargo xtask build-ebpf` has built; empty in a build without it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("OVERLAY_TRACE_EBPF_OBJECT"));

/// The object's programs by name, with references to these maps and calls of functions relocated.
///
/// # Errors
///
/// The object is damaged, or has a map of an unexpected type.
pub fn programs(maps: &Ebpf) -> Result<HashMap<String, Vec<bpf_insn>>> {
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
    Ok(object
        .programs
        .iter()
        .filter_map(|(name, program)| {
            let function = object.functions.get(&program.function_key())?;
            Some((name.clone(), function.instructions.clone()))
        })
        .collect())
}

fn descriptor(map: &Map) -> Result<i32> {
    let data = match map {
        Map::Array(data) | Map::PerCpuArray(data) | Map::HashMap(data) | Map::RingBuf(data) => data,
        other => bail!("the kernel side has a map of an unexpected type: {other:?}"),
    };
    Ok(data.fd().as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use aya_obj::generated::bpf_func_id::BPF_FUNC_redirect_peer;

    use super::*;
    use crate::patch::CALL;

    /// Opcodes: atomic operations on 32 and on 64 bits.
    const ATOMIC: [u8; 2] = [0xc3, 0xdb];
    /// The last helper that 5.10 has.
    const LAST_HELPER: i32 = BPF_FUNC_redirect_peer as i32;

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
}
