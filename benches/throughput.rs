//! The line reader beside ripgrep, which looks for the same words and does nothing else: a GiB of
//! mixed lines on one core. Run it with `cargo bench --bench throughput`; `THROUGHPUT_MIB` sets
//! another size. It prints one line, and people judge.

mod table;

use std::error::Error;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::line::{self, Kind, LogEvent, Preset};

/// As many events as one query returns at most.
const BATCH: usize = 10_000;

const ROUNDS: usize = 3;

const MIB: u64 = 1 << 20;

/// All lines of the samples: schedulers of many versions, their errors, and what else a container
/// prints.
fn samples() -> Result<Vec<String>, Box<dyn Error>> {
    let mut folders = vec![PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples"
    ))];
    let mut lines = Vec::new();
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_, std::io::Error>>()?;
        entries.sort();
        for path in entries {
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
                lines.extend(text.lines().map(str::to_owned));
            }
        }
    }
    Ok(lines)
}

/// Writes so many bytes of the samples, again and again, with other digits each time.
fn write(path: &Path, size: u64) -> Result<u64, Box<dyn Error>> {
    let samples = samples()?;
    let mut rng = fastrand::Rng::with_seed(1);
    let mut file = BufWriter::new(File::create(path)?);
    let (mut written, mut count) = (0, 0);
    while written < size {
        let line = &samples[rng.usize(..samples.len())];
        let varied: String = (line.chars())
            .map(|char| match char {
                '1'..='9' => char::from(b'1' + rng.u8(..9)),
                other => other,
            })
            .collect();
        writeln!(file, "{varied}")?;
        written += varied.len() as u64 + 1;
        count += 1;
    }
    file.flush()?;
    Ok(count)
}

/// Reads the file as the watchdog reads a query's answer; how many lines mean something.
fn read(path: &Path, preset: &Preset) -> Result<usize, Box<dyn Error>> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
    let stream: std::sync::Arc<str> = "app/app/0a1b2c3d".into();
    let mut at = Timestamp::UNIX_EPOCH;
    let mut meant = 0;
    let mut events = Vec::with_capacity(BATCH);
    let mut raw = Vec::new();
    loop {
        raw.clear();
        let more = reader.read_until(b'\n', &mut raw)? > 0;
        if more {
            at += SignedDuration::from_millis(1);
            let line = String::from_utf8_lossy(&raw);
            events.push(LogEvent {
                at,
                ingested: None,
                stream: stream.clone(),
                id: None,
                message: line.trim_end_matches('\n').to_owned(),
            });
        }
        if events.len() == BATCH || !more {
            let lines = line::read(preset, &events);
            meant += lines.iter().filter(|line| line.kind != Kind::Other).count();
            events.clear();
        }
        if !more {
            return Ok(meant);
        }
    }
}

/// How long ripgrep takes to count the lines that the filter lets through, and how many they are.
fn ripgrep(path: &Path, filter: &str) -> Result<(Duration, String), Box<dyn Error>> {
    let began = Instant::now();
    let output = Command::new("rg")
        .args([
            "--no-config",
            "--count",
            "--ignore-case",
            "--text",
            "--threads",
            "1",
            "--regexp",
        ])
        // There is one line to a line here.
        .arg(filter.replace(r"|\n", ""))
        .arg(path)
        .output()
        .map_err(|error| format!("rg (ripgrep) does not start: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let count = String::from_utf8(output.stdout)?.trim().to_owned();
    Ok((began.elapsed(), count))
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// The most memory that this process has held, in MiB (Linux only).
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes / 1024.0)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a variable of this measurement, which the product does not know"
)]
fn size() -> Option<String> {
    std::env::var("THROUGHPUT_MIB").ok()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mib: u64 = match size() {
        Some(text) => text.parse()?,
        None => 1024,
    };
    let preset = Preset::named("laravel").ok_or("the preset is gone")?;
    let filter = preset.coarse_filter().ok_or("the preset has no filter")?;
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let path = directory.path().join("mixed.log");
    let lines = write(&path, mib * MIB)?;
    let (mut own, mut others) = (Vec::new(), Vec::new());
    let (mut meant, mut let_through) = (0, String::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        meant = read(&path, &preset)?;
        own.push(began.elapsed());
        let (took, count) = ripgrep(&path, filter)?;
        others.push(took);
        let_through = count;
    }
    let (own, others) = (median(own), median(others));
    println!(
        "{mib} MiB of mixed lines, {lines} of them: read in {own:.2} s ({:.0} MiB/s, {meant} lines and errors, {:.0} MiB at most); \
         ripgrep counts {let_through} in {others:.2} s: {:.2} times its time",
        mib as f64 / own,
        peak_memory().unwrap_or(f64::NAN),
        own / others,
    );
    table::row(
        &format!("{mib} MiB of lines, against ripgrep -c"),
        &format!("{own:.2} s"),
        &format!("{others:.2} s"),
        Some(own / others),
        "3 at most",
    );
    Ok(())
}
