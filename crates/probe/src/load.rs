//! Loading and attaching: each probe gets a copy of a program, with its probe spec patched in.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, Map, MapData, MapError},
};
use aya_obj::generated::{bpf_attach_type, bpf_insn};
use overlay_trace_common::{
    abi::{BUCKET_SLOTS, BUCKETS, Offsets, Settings, TRANSMIT_KINDS, TransmitKind, words_of},
    probe_spec::KPROBE_ARGUMENTS,
    stage::{Kind as StageKind, LevelChange, Stage},
    stage_map::{STAGES, transmit_stages},
};

use crate::{
    attachment::Attachment,
    baseline_program::BaselineProgram,
    filter::FilterOptions,
    kernel_object::{Code, OBJECT, Programs, programs},
    patch::{Probe, patch},
    plan::Plan,
    probe_kind::ProbeKind,
    start_progress::StartProgress,
    sys::{
        bpf::{self, Kind},
        kernel::Kernel,
        limits,
    },
    tunnels,
    unprobed::Unprobed,
};

/// `Settings` for aya's typed interface.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Globals(Settings);
// SAFETY: a repr(C) struct of plain integers.
unsafe impl aya::Pod for Globals {}

/// Sizes of the kernel side's maps; small ones are for tests of overload.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Packets that can be in flight at once; a power of two, at least 4.
    pub states: u32,
    /// Bytes of the ring buffer; a power of two, at least a page.
    pub ring_bytes: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes { states: BUCKETS * BUCKET_SLOTS as u32, ring_bytes: 32 << 20 }
    }
}

/// How many packets one record stands for; 0: each has its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct SampleRates {
    /// Tail sampling: of the packets below the threshold.
    pub one_in: u32,
    /// Sampling by packet: of all.
    pub sample: u32,
}

/// The maps, and the programs to be copied.
pub struct Loader {
    pub maps: Ebpf,
    programs: Programs,
    offsets: Offsets,
}

/// An attached program. It is detached when its descriptors are closed, also when the process is killed.
pub struct Attached {
    pub attachment: Attachment,
    program: OwnedFd,
    _link: OwnedFd,
}

impl Attached {
    /// How often the kernel skipped this program; 0 also where it does not count that.
    pub fn misses(&self) -> u64 {
        bpf::recursion_misses(self.program.as_fd()).unwrap_or(0)
    }
}

impl Loader {
    /// Creates the maps of a recording in which every packet has its record.
    ///
    /// # Errors
    ///
    /// The kernel refuses them, or lacks a field that is read.
    pub fn new(kernel: &Kernel, filter: &FilterOptions, sizes: Sizes) -> Result<Loader> {
        Loader::sampling(kernel, filter, sizes, SampleRates::default())
    }

    /// Creates the maps of a recording in which not every packet has its record.
    ///
    /// # Errors
    ///
    /// As for [`new`](Loader::new).
    pub fn sampling(
        kernel: &Kernel,
        filter: &FilterOptions,
        sizes: Sizes,
        rates: SampleRates,
    ) -> Result<Loader> {
        if OBJECT.is_empty() {
            bail!("this build has no kernel programs: run `cargo xtask build-ebpf` and build again");
        }
        // Maps are open files too.
        limits::allow_probes(0)?;
        let SampleRates { one_in, sample } = rates;
        let settings = Settings { one_in, sample, ..settings(kernel, filter, sizes)? };
        let globals = Globals(settings);
        let buckets = sizes.states / BUCKET_SLOTS as u32;
        let maps = EbpfLoader::new()
            .override_global("SETTINGS", &globals, true)
            .map_max_entries("TAGS", buckets)
            .map_max_entries("STATES", sizes.states)
            .map_max_entries("RECORDS", sizes.ring_bytes)
            .load(OBJECT)
            .context("the kernel refuses the maps of the kernel side")?;
        let mut loader = Loader { programs: programs(&maps)?, maps, offsets: settings.offsets };
        tunnels::write_ports(&mut loader.maps)?;
        Ok(loader)
    }

    /// Takes a map out, as the type by which it is used.
    ///
    /// # Errors
    ///
    /// The kernel object has no such map, or it is of another type.
    pub fn take_map<M: TryFrom<Map, Error = MapError>>(&mut self, name: &str) -> Result<M> {
        let map = self.maps.take_map(name).with_context(|| format!("the kernel object has no map {name}"))?;
        M::try_from(map).with_context(|| format!("the map {name} is of another type"))
    }

    /// A second handle of an array, by which it can still be used when another part has taken it.
    ///
    /// # Errors
    ///
    /// The kernel object has no such array, or the kernel's error.
    pub fn share_array<V: Pod>(&self, name: &str) -> Result<Array<MapData, V>> {
        let map = self.maps.map(name);
        let Some(Map::Array(array)) = map else { bail!("the kernel object has no array {name}") };
        let data = MapData::from_fd(array.fd().as_fd().try_clone_to_owned()?)?;
        Ok(Array::try_from(Map::Array(data))?)
    }

    /// Attaches this program instead of any other from now on.
    pub fn replace_programs(&mut self, baseline: BaselineProgram) {
        let code = Code { instructions: baseline.instructions(), functions: Vec::new() };
        self.programs.by_name.values_mut().for_each(|program| *program = code.clone());
    }

    /// Loads and attaches one program.
    ///
    /// # Errors
    ///
    /// The kernel's reason.
    pub fn attach(&self, kernel: &Kernel, attachment: &Attachment) -> Result<Attached> {
        let program = self.program(attachment)?;
        let instructions = self.instructions(program, attachment);
        let types = self.programs.types.as_ref().filter(|_| !program.functions.is_empty());
        let functions = types.map(|types| (types.as_fd(), program.functions.as_slice()));
        let code = bpf::Code { instructions: &instructions, functions };
        let name = &attachment.target[..attachment.target.len().min(15)];
        let program = bpf::load(name, "Dual MIT/GPL", code, kind(kernel, attachment)?)?;
        let link = match attachment.kind {
            ProbeKind::Kprobe => {
                bpf::attach_kprobe(program.as_fd(), attachment.module.as_deref(), attachment.target)
            }
            _ => bpf::attach_tracing(program.as_fd()),
        }
        .with_context(|| format!("cannot attach {} to {}", attachment.kind.name(), attachment.target))?;
        Ok(Attached { attachment: attachment.clone(), program, _link: link })
    }

    /// The program for the class of the attachment's spec, or its own where there is none.
    fn program(&self, attachment: &Attachment) -> Result<&Code> {
        let of_class = attachment.program.for_class(attachment.spec);
        [of_class, Some(attachment.program)]
            .into_iter()
            .flatten()
            .find_map(|program| self.programs.by_name.get(&program.to_string()))
            .with_context(|| format!("the kernel object has no program {}", attachment.program))
    }

    /// A copy of the program for one attachment.
    fn instructions(&self, program: &Code, attachment: &Attachment) -> Vec<bpf_insn> {
        let argument = usize::from(attachment.argument);
        let offset = match attachment.kind {
            ProbeKind::Kprobe => KPROBE_ARGUMENTS[argument],
            _ => 8 * argument,
        };
        let Attachment { spec, arguments, .. } = *attachment;
        let probe = Probe { spec, argument: offset as i16, arguments, offsets: &self.offsets };
        patch(&program.instructions, &probe)
    }

    /// Attaches the whole plan: for each point the first alternative that the kernel accepts. What cannot
    /// be attached is moved to the plan's unseen stages.
    pub fn attach_plan(&self, kernel: &Kernel, plan: &mut Plan, progress: &StartProgress) -> Vec<Attached> {
        progress.begin(plan.points.len());
        plan.attach(|point| {
            let attached = self.attach_point(kernel, point).inspect_err(|reason| {
                tracing::debug!("stage {}: {reason}", STAGES[point[0].stage as usize].name);
            });
            progress.step();
            attached
        })
    }

    fn attach_point(&self, kernel: &Kernel, alternatives: &[Attachment]) -> Result<Vec<Attached>, Unprobed> {
        let mut reasons = Vec::new();
        for alternative in alternatives {
            match self.attach(kernel, alternative) {
                Ok(entry) => {
                    let mut programs = vec![entry];
                    if let Some(exit) = alternative.exit() {
                        match self.attach(kernel, &exit) {
                            Ok(exit) => programs.push(exit),
                            Err(error) => tracing::debug!("exit of {}: {error:#}", exit.target),
                        }
                    }
                    return Ok(programs);
                }
                Err(error) => {
                    reasons.push(format!("{} {}: {error:#}", alternative.kind.name(), alternative.target))
                }
            }
        }
        Err(Unprobed::Refused(reasons.join("; ")))
    }
}

fn kind<'a>(kernel: &'a Kernel, attachment: &Attachment) -> Result<Kind<'a>> {
    let attach = match attachment.kind {
        ProbeKind::Kprobe => return Ok(Kind::Kprobe),
        ProbeKind::Fentry => bpf_attach_type::BPF_TRACE_FENTRY,
        ProbeKind::Fexit => bpf_attach_type::BPF_TRACE_FEXIT,
        ProbeKind::TpBtf => bpf_attach_type::BPF_TRACE_RAW_TP,
    };
    let module = match &attachment.module {
        None => None,
        Some(name) => Some(
            kernel
                .module_fd(name)
                .with_context(|| format!("the module {name} has no type information"))?
                .as_fd(),
        ),
    };
    Ok(Kind::Tracing { attach, type_id: attachment.type_id, module })
}

fn settings(kernel: &Kernel, filter: &FilterOptions, sizes: Sizes) -> Result<Settings> {
    let mut settings = Settings {
        offsets: kernel.offsets()?,
        filter: filter.resolve()?,
        bucket_mask: sizes.states / BUCKET_SLOTS as u32 - 1,
        ..Settings::default()
    };
    if let Some(pages) = kernel.pages() {
        settings.page_struct_bytes = pages.struct_bytes;
        (settings.vmemmap_base, settings.page_offset_base) = (pages.vmemmap_base, pages.page_offset_base);
    }
    for (slot, (stage, kind)) in transmit_stages().enumerate() {
        if kind.is_empty() {
            settings.transmit_default = stage as u32;
        }
        if slot < TRANSMIT_KINDS {
            let Stage { level, kind: of_stage, .. } = &STAGES[stage as usize];
            settings.transmit[slot] = TransmitKind {
                kind: words_of(kind.as_bytes()),
                stage: stage as u32,
                up: (*level == LevelChange::Up) as u32,
                waits: (*of_stage == StageKind::Wait) as u32,
                ..TransmitKind::default()
            };
        }
    }
    Ok(settings)
}
