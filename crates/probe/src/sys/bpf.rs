//! The parts of the `bpf` system call that aya 0.14 does not offer: programs for fentry and fexit on
//! functions of modules (`attach_btf_obj_fd`), and many copies of one program that differ in an
//! immediate.

use std::{
    borrow::Cow,
    ffi::{CString, c_void},
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use aya_obj::generated::{
    bpf_attach_type, bpf_attr, bpf_btf_info, bpf_cmd, bpf_func_info, bpf_insn, bpf_prog_info, bpf_prog_type,
};

/// What a program is loaded as.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    Kprobe,
    /// A classifier of tc.
    Classifier,
    /// fentry, fexit or tp_btf: the attach type, the BTF type that it is attached to, and the BTF of the
    /// module that the type is in, if it is not the kernel's own.
    Tracing {
        attach: bpf_attach_type,
        type_id: u32,
        module: Option<BorrowedFd<'a>>,
    },
}

fn zeroed() -> bpf_attr {
    // SAFETY: bpf_attr is a union of plain integers, for which zero is valid; the kernel wants unused fields to be zero.
    unsafe { std::mem::zeroed() }
}

fn call(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: the pointers in `attributes` outlive the call, which is synchronous.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as i64, attributes as *mut bpf_attr, size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn call_for_fd(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    // SAFETY: the kernel has just created this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// What the verifier writes to its log (`BPF_LOG_LEVEL1`, `BPF_LOG_STATS`).
#[derive(Clone, Copy)]
enum LogLevel {
    Branches = 1,
    Statistics = 4,
}

/// Enough for the verifier's two lines of statistics.
const STATISTICS_BYTES: usize = 4096;

/// What a log says.
fn text_of(log: &[u8]) -> Cow<'_, str> {
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    String::from_utf8_lossy(log[..end].trim_ascii_end())
}

/// A program: its instructions, and what the verifier may know of its functions.
#[derive(Clone, Copy)]
pub struct Code<'a> {
    pub instructions: &'a [bpf_insn],
    /// Types that were loaded by [`load_btf`], and which of them each function has.
    pub functions: Option<(BorrowedFd<'a>, &'a [bpf_func_info])>,
}

impl<'a> From<&'a [bpf_insn]> for Code<'a> {
    fn from(instructions: &'a [bpf_insn]) -> Self {
        Code { instructions, functions: None }
    }
}

/// Loads types; see `bpf(2)`, BPF_BTF_LOAD.
///
/// # Errors
///
/// The kernel's error.
pub fn load_btf(types: &[u8]) -> io::Result<OwnedFd> {
    let mut attributes = zeroed();
    // SAFETY: the whole union is initialized; this is the member for BPF_BTF_LOAD.
    let load = unsafe { &mut attributes.__bindgen_anon_7 };
    load.btf = types.as_ptr() as u64;
    load.btf_size = types.len() as u32;
    call_for_fd(bpf_cmd::BPF_BTF_LOAD, &mut attributes)
}

/// What the verifier has to say of a large program.
const LOG_BYTES: usize = 16 << 20;

static EXPLAINS: AtomicBool = AtomicBool::new(false);

/// From now on [`load`] says why the verifier refuses a program, for which it is loaded twice.
pub fn explain_refusals() {
    EXPLAINS.store(true, Ordering::Relaxed);
}

/// Loads a program; see `bpf(2)`, BPF_PROG_LOAD.
///
/// # Errors
///
/// The kernel's error; after [`explain_refusals`] with the last lines of the verifier's log.
pub fn load(name: &str, license: &str, code: Code, kind: Kind) -> anyhow::Result<OwnedFd> {
    let mut statistics = vec![0; if tracing::enabled!(tracing::Level::DEBUG) { STATISTICS_BYTES } else { 0 }];
    match load_with_log(name, license, code, kind, (LogLevel::Statistics, &mut statistics)) {
        Ok(fd) => {
            if !statistics.is_empty() {
                tracing::debug!("{name}: {} instructions; {}", code.instructions.len(), text_of(&statistics));
            }
            Ok(fd)
        }
        Err(first) => {
            if !EXPLAINS.load(Ordering::Relaxed) && !tracing::enabled!(tracing::Level::DEBUG) {
                return Err(anyhow::Error::from(first).context("the kernel refuses the program"));
            }
            let mut log = vec![0; LOG_BYTES];
            match load_with_log(name, license, code, kind, (LogLevel::Branches, &mut log)) {
                Ok(fd) => Ok(fd),
                Err(_) => {
                    let text = text_of(&log);
                    tracing::debug!("verifier's log of {name}:\n{text}");
                    let last: Vec<&str> = text.lines().rev().take(3).collect();
                    let last: Vec<&str> = last.into_iter().rev().collect();
                    let reason =
                        if text.is_empty() { String::new() } else { format!(": {}", last.join(" | ")) };
                    anyhow::bail!("the kernel refuses the program ({first}){reason}")
                }
            }
        }
    }
}

fn load_with_log(
    name: &str,
    license: &str,
    code: Code,
    kind: Kind,
    (log_level, log): (LogLevel, &mut [u8]),
) -> io::Result<OwnedFd> {
    let license = CString::new(license)?;
    let mut attributes = zeroed();
    // SAFETY: the whole union is initialized; this is the member for BPF_PROG_LOAD.
    let load = unsafe { &mut attributes.__bindgen_anon_3 };
    load.insns = code.instructions.as_ptr() as u64;
    load.insn_cnt = code.instructions.len() as u32;
    if let Some((types, functions)) = code.functions {
        load.prog_btf_fd = types.as_raw_fd() as u32;
        load.func_info = functions.as_ptr() as u64;
        load.func_info_cnt = functions.len() as u32;
        load.func_info_rec_size = size_of::<bpf_func_info>() as u32;
    }
    load.license = license.as_ptr() as u64;
    for (to, from) in load.prog_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from as _;
    }
    if !log.is_empty() {
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = log.len() as u32;
        load.log_level = log_level as u32;
    }
    match kind {
        Kind::Kprobe => load.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32,
        Kind::Classifier => load.prog_type = bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS as u32,
        Kind::Tracing { attach, type_id, module } => {
            load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
            load.expected_attach_type = attach as u32;
            load.attach_btf_id = type_id;
            if let Some(module) = module {
                load.__bindgen_anon_1.attach_btf_obj_fd = module.as_raw_fd() as u32;
            }
        }
    }
    call_for_fd(bpf_cmd::BPF_PROG_LOAD, &mut attributes)
}

/// Attaches a tracing program to what it was loaded for; it is detached when the descriptor is closed.
///
/// # Errors
///
/// The kernel's error.
pub fn attach_tracing(program: BorrowedFd) -> io::Result<OwnedFd> {
    let mut attributes = zeroed();
    // SAFETY: the whole union is initialized; this is the member for BPF_RAW_TRACEPOINT_OPEN.
    unsafe { &mut attributes.raw_tracepoint }.prog_fd = program.as_raw_fd() as u32;
    call_for_fd(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attributes)
}

/// Attaches a kprobe program to the entry of a kernel function, through `perf_event_open(2)`; it is
/// detached when the descriptor is closed.
///
/// # Errors
///
/// The kernel's error.
pub fn attach_kprobe(program: BorrowedFd, module: Option<&str>, function: &str) -> io::Result<OwnedFd> {
    // With its module the name is unique, but not every kernel takes it so.
    let qualified = module.map(|module| open_kprobe(program, &format!("{module}:{function}")));
    match qualified {
        Some(Ok(event)) => Ok(event),
        _ => open_kprobe(program, function),
    }
}

fn open_kprobe(program: BorrowedFd, function: &str) -> io::Result<OwnedFd> {
    const PMU: &str = "/sys/bus/event_source/devices/kprobe/type";
    const PERF_EVENT_IOC_SET_BPF: u64 = 0x4004_2408;
    const PERF_EVENT_IOC_ENABLE: u64 = 0x2400;
    const PERF_FLAG_FD_CLOEXEC: i64 = 8;
    let pmu: u32 = std::fs::read_to_string(PMU)?
        .trim()
        .parse()
        .map_err(|_| io::Error::other(format!("{PMU} does not hold a number")))?;
    let function = CString::new(function)?;
    let mut attributes: aya_obj::generated::perf_event_attr =
        // SAFETY: a struct of plain integers, for which zero is valid.
        unsafe { std::mem::zeroed() };
    attributes.size = size_of_val(&attributes) as u32;
    attributes.type_ = pmu;
    attributes.__bindgen_anon_3.config1 = function.as_ptr() as u64;
    // SAFETY: `attributes` and `function` outlive the calls, and a new descriptor is owned by nobody else.
    unsafe {
        let fd = libc::syscall(
            libc::SYS_perf_event_open,
            &raw mut attributes as *mut c_void,
            -1,
            0,
            -1,
            PERF_FLAG_FD_CLOEXEC,
        );
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let event = OwnedFd::from_raw_fd(fd as i32);
        if libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()) < 0
            || libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0) < 0
        {
            return Err(io::Error::last_os_error());
        }
        Ok(event)
    }
}

/// The time in ns that one run of a classifier takes on a synthetic packet with these contents: the least of several
/// measurements, each over several runs, since what disturbs a measurement only lengthens it.
///
/// # Errors
///
/// The kernel's error; it may not allow test runs.
pub fn run_ns(program: BorrowedFd, packet: &[u8], measurements: u32, runs: u32) -> io::Result<u32> {
    (0..measurements).try_fold(u32::MAX, |least, _| Ok(least.min(test_run(program, packet, runs)?)))
}

fn test_run(program: BorrowedFd, packet: &[u8], times: u32) -> io::Result<u32> {
    let mut attributes = zeroed();
    // SAFETY: the whole union is initialized; this is the member for BPF_PROG_TEST_RUN.
    let test = unsafe { &mut attributes.test };
    test.prog_fd = program.as_raw_fd() as u32;
    test.data_in = packet.as_ptr() as u64;
    test.data_size_in = packet.len() as u32;
    test.repeat = times;
    call(bpf_cmd::BPF_PROG_TEST_RUN, &mut attributes)?;
    // SAFETY: as above; the kernel has written to it.
    Ok(unsafe { attributes.test.duration })
}

/// How often the kernel skipped the program because one was running on the CPU already (counted since 5.12, for kprobes
/// since 6.7).
///
/// # Errors
///
/// The kernel's error.
pub fn recursion_misses(program: BorrowedFd) -> io::Result<u64> {
    // SAFETY: a struct of plain integers, for which zero is valid.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    object_info(program, &mut info)?;
    Ok(info.recursion_misses)
}

fn object_info<T>(object: BorrowedFd, info: &mut T) -> io::Result<()> {
    let mut attributes = zeroed();
    // SAFETY: the whole union is initialized; this is the member for BPF_OBJ_GET_INFO_BY_FD.
    let request = unsafe { &mut attributes.info };
    request.bpf_fd = object.as_raw_fd() as u32;
    request.info_len = size_of::<T>() as u32;
    request.info = info as *mut T as u64;
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attributes).map(drop)
}

/// The BTF of each loaded module: its name and a descriptor.
///
/// # Errors
///
/// The kernel's error.
pub fn module_btfs() -> io::Result<Vec<(String, OwnedFd)>> {
    let mut found = Vec::new();
    let mut id = 0;
    loop {
        let mut attributes = zeroed();
        // SAFETY: the whole union is initialized; this is the member for BPF_BTF_GET_NEXT_ID.
        unsafe { &mut attributes.__bindgen_anon_6.__bindgen_anon_1 }.start_id = id;
        match call(bpf_cmd::BPF_BTF_GET_NEXT_ID, &mut attributes) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(found),
            Err(error) => return Err(error),
        }
        // SAFETY: as above; the kernel has written to it.
        id = unsafe { attributes.__bindgen_anon_6.next_id };
        let Ok(fd) = btf_by_id(id) else { continue };
        if let Some(name) = kernel_btf_name(&fd) {
            found.push((name, fd));
        }
    }
}

fn btf_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attributes = zeroed();
    // SAFETY: the whole union is initialized; this is the member for BPF_BTF_GET_FD_BY_ID.
    unsafe { &mut attributes.__bindgen_anon_6.__bindgen_anon_1 }.btf_id = id;
    call_for_fd(bpf_cmd::BPF_BTF_GET_FD_BY_ID, &mut attributes)
}

/// The name of a BTF if it is the kernel's or a module's.
fn kernel_btf_name(fd: &OwnedFd) -> Option<String> {
    use std::os::fd::AsFd;
    let mut name = [0u8; 64];
    // SAFETY: a struct of plain integers, for which zero is valid.
    let mut info: bpf_btf_info = unsafe { std::mem::zeroed() };
    info.name = name.as_mut_ptr() as u64;
    info.name_len = name.len() as u32;
    object_info(fd.as_fd(), &mut info).ok()?;
    let end = name.iter().position(|byte| *byte == 0)?;
    (info.kernel_btf != 0).then(|| String::from_utf8_lossy(&name[..end]).into_owned())
}

/// Whether the kernel's BTF can be read, which tp_btf probes need.
pub fn has_vmlinux_btf() -> bool {
    File::open("/sys/kernel/btf/vmlinux").is_ok()
}
