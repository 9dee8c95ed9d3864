//! How fast records are analysed, and in how much memory: `cargo xtask bench analysis`.
//!
//! The records are made on the fly from those of a real recording: their times vary, some ways are
//! interrupted at any place, some packets are cut into segments, and some records are lost.

#[path = "analysis/generator.rs"]
mod generator;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use nix::time::{ClockId, clock_gettime};
use overlay_trace_analysis::breakdown::{Analysis, By, Collector};
use overlay_trace_format::{Checkpoint, RecordView, Recording, Writer, encode_record};

use generator::Generator;

#[derive(Parser)]
struct Options {
    /// How many records to analyse
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// How many threads analyse records
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
    /// Write the records to this file first, and report that
    #[arg(long)]
    through: Option<PathBuf>,
    /// Make the records from those of this recording
    #[arg(long, value_name = "FILE")]
    source: Option<PathBuf>,
    /// Of a thousand packets, so many are interrupted, each at another place
    #[arg(long, default_value_t = 100)]
    interrupted: u64,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// In how many parts the memory is looked at.
const PARTS: u64 = 10;
/// So many records are made before they are written.
const BATCH: u64 = 1000;
/// So much memory a collector may take, in bytes: records that wait for their lineage are kept up to a bound.
/// Measured: 71 MB after 5 million records, 92 MB at most in 30 million.
const PER_THREAD: u64 = 128 << 20;
/// After so many records of each collector most of that memory is taken.
const SETTLED: u64 = 3_000_000;
/// By how many bytes a collector may grow after that, however many records follow: tables double, and the allocator
/// does not use every gap again. Measured: 30 MB in 27 million records.
const GROWTH: u64 = 48 << 20;

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/recordings/flannel-vxlan-6.12.otr");
    let source = Recording::open(options.source.as_deref().unwrap_or(Path::new(own)))?;
    match &options.through {
        Some(file) => through_file(&options, &source, file),
        None => streamed(&options, &source),
    }
}

/// Threads with a collector each, joined at the end.
fn streamed(options: &Options, source: &Recording) -> Result<ExitCode> {
    let begin = Instant::now();
    let mut collectors: Vec<(Collector, Generator)> = (0..options.threads)
        .map(|number| {
            let collector = Collector::new(&source.header, &source.hops, By::Stage);
            Ok((collector, Generator::new(source, number, options.interrupted)?))
        })
        .collect::<Result<_>>()?;
    let mut memory = Memory { begin: resident()?, settled: None };
    println!("{:>13}  {:>11}  {:>8}", "records", "records/s", "memory");
    for part in 1..=PARTS {
        let each = options.records / PARTS / options.threads;
        let part_begin = Instant::now();
        thread::scope(|scope| {
            for (collector, generator) in &mut collectors {
                scope.spawn(move || generator.generate(each, |record| collector.add(&record)));
            }
        });
        let resident = resident()?;
        let rate = (each * options.threads) as f64 / part_begin.elapsed().as_secs_f64();
        println!("{:>13}  {rate:>11.0}  {:>5} MB", each * options.threads * part, resident >> 20);
        memory.check(resident, each * part, options.threads)?;
    }
    let mut all = Collector::new(&source.header, &source.hops, By::Stage);
    let expected: u128 = collectors.iter().map(|(_, generator)| generator.ns).sum();
    collectors.into_iter().for_each(|(collector, _)| all.append(collector));
    finish(&all.finish(&source.names), expected, begin)
}

/// The memory of this process, in bytes.
struct Memory {
    /// Before the first record.
    begin: u64,
    /// When all collectors had reached their bound.
    settled: Option<u64>,
}

impl Memory {
    /// Whether the memory is what so many threads may take that have had `each` records each.
    fn check(&mut self, resident: u64, each: u64, threads: u64) -> Result<()> {
        let taken = resident.saturating_sub(self.begin);
        ensure!(taken <= threads * PER_THREAD, "{} MB are more than the collectors may take", taken >> 20);
        if each >= SETTLED {
            let settled = *self.settled.get_or_insert(resident);
            ensure!(
                resident <= settled + threads * GROWTH,
                "the memory grows with the number of records: from {} to {} MB",
                settled >> 20,
                resident >> 20
            );
        }
        Ok(())
    }
}

/// Through a file, as `overlay-trace report` does it.
fn through_file(options: &Options, source: &Recording, file: &PathBuf) -> Result<ExitCode> {
    let mut generator = Generator::new(source, 0, options.interrupted)?;
    let mut writer = Writer::create(file, true, &source.header)?;
    let hops: Vec<_> = source.hops.iter().map(|(&number, name)| (number, name.clone())).collect();
    writer.hops(&hops)?;
    let (mut bytes, mut result, mut writing, mut recorded) = (Vec::new(), Ok(()), Duration::ZERO, 0);
    for _ in 0..options.records.div_ceil(BATCH) {
        bytes.clear();
        let mut ends = vec![0];
        generator.generate(BATCH, |RecordView { header, path: way }| {
            encode_record(&header, way, &mut bytes);
            ends.push(bytes.len());
        });
        let begin = cpu_time()?;
        for record in ends.windows(2) {
            result = result.and_then(|()| writer.records(&bytes[record[0]..record[1]]));
        }
        writing += cpu_time()? - begin;
        recorded += bytes.len() as u64;
    }
    result?;
    let (seconds, stored) = (writing.as_secs_f64(), writer.bytes());
    println!(
        "{} MB of records written to {} as {} MB: {:.0} MB and {:.0} records a second of one processor's time",
        recorded >> 20,
        file.display(),
        stored >> 20,
        recorded as f64 / seconds / 1e6,
        options.records as f64 / seconds,
    );
    writer.finish(&Checkpoint::default())?;
    let begin = Instant::now();
    let analysis = Analysis::of(&Recording::open(file)?, By::Stage)?;
    let (seconds, memory) = (begin.elapsed().as_secs_f64(), resident()? >> 20);
    println!("{} records in {seconds:.2} s, {memory} MB", analysis.records);
    finish(&analysis, generator.ns, begin)
}

/// The processor's time that this thread has had: what others do on the machine is not in it.
fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Every nanosecond that was made must be found.
fn finish(analysis: &Analysis, expected: u128, begin: Instant) -> Result<ExitCode> {
    let rows: u128 = analysis.rows.iter().map(|row| row.raw.sum()).sum();
    let same = rows == analysis.end_to_end.sum() && rows == expected;
    println!(
        "{} records in {:.1} s, {} rows, {} orphans, {} incomplete, sums {}, at most {} MB",
        analysis.records,
        begin.elapsed().as_secs_f64(),
        analysis.rows.len(),
        analysis.orphans,
        analysis.incomplete,
        if same { "exact" } else { "WRONG" },
        status("VmHWM:")? >> 20,
    );
    std::io::stdout().flush()?;
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The memory of this process, in bytes.
fn resident() -> Result<u64> {
    status("VmRSS:")
}

fn status(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no memory in it")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes << 10)
}
