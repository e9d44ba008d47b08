//! A year of a scheduler with a hundred jobs through `replay`: how long it takes, and how much
//! memory. Run it with `cargo bench --bench replay`; it prints one line, and people judge.

mod table;

use std::error::Error;
use std::fmt::Write as _;
use std::time::Instant;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::config::Config;
use scheduler_watchdog::local::{Builder, LocalWorld};
use scheduler_watchdog::replay::{self, Format, Options, Schedule, Watcher};

const DAYS: i64 = 365;

/// Ten jobs every five minutes, thirty hourly, fifty daily, ten monthly.
fn cron(job: usize) -> String {
    match job {
        0..10 => "*/5 * * * *".to_owned(),
        10..40 => format!("{job} * * * *"),
        40..90 => format!("{} {} * * *", job % 60, job % 24),
        _ => format!("{} 3 {} * *", job % 60, job % 28 + 1),
    }
}

fn config() -> Result<Config, Box<dyn Error>> {
    let mut text = "[[scheduler]]\nname = \"year\"\nlog_groups = [\"/ecs/year\"]\n".to_owned();
    for job in 0..100 {
        writeln!(
            text,
            "[[scheduler.job]]\nname = \"job:{job}\"\ncron = \"{}\"",
            cron(job)
        )?;
    }
    Ok(Config::parse(&text, "bench")?)
}

/// What Laravel prints in the year, one line a heartbeat or job, as plain text.
fn log(config: &Config, from: Timestamp, until: Timestamp) -> Result<String, Box<dyn Error>> {
    let mut due: Vec<(Timestamp, &str)> = (config.schedulers.iter())
        .flat_map(|scheduler| &scheduler.jobs)
        .flat_map(|job| job.runs(from, until).map(|at| (at, job.name.as_str())))
        .collect();
    due.sort_unstable();
    let mut log = String::new();
    let mut due = due.into_iter().peekable();
    let mut minute = from;
    while minute < until {
        let mut at = minute + SignedDuration::from_secs(2);
        let mut idle = true;
        while let Some((_, job)) = due.next_if(|(due, _)| *due <= minute) {
            idle = false;
            at += SignedDuration::from_millis(120);
            let stamp = minute.strftime("%Y-%m-%d %H:%M:%S");
            writeln!(
                log,
                "{at:.3}   {stamp} Running ['artisan' {job}] ........ 120ms DONE"
            )?;
        }
        if idle {
            writeln!(
                log,
                "{at:.3}    INFO  No scheduled commands are ready to run.  "
            )?;
        }
        minute += SignedDuration::from_mins(1);
    }
    Ok(log)
}

/// The most memory that this process has held, in MiB (Linux only).
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes / 1024.0)
}

struct Silent;

impl Watcher for Silent {
    fn progress(&mut self, _passes: u64) {}
    fn note(&mut self, _note: String) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let from: Timestamp = "2025-01-01T00:00:00Z".parse()?;
    let until = from + SignedDuration::from_hours(24 * DAYS);
    let config = config()?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("year.log");
    let text = log(&config, from, until)?;
    let (bytes, lines) = (text.len(), text.lines().count());
    std::fs::write(&file, text)?;

    let began = Instant::now();
    let mut builder = Builder::new(&config.schedulers);
    builder.read_file(&file, &TimeZone::UTC)?;
    let world = LocalWorld::new(builder.build(), None);
    let read = began.elapsed();
    let options = Options {
        from: None,
        until: Some(until),
        every: SignedDuration::from_mins(5),
        format: Format::Json,
        all: false,
    };
    let schedule = Schedule::new(&world, &options)?;
    let mut out = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let summary = runtime.block_on(replay::run(
        &config,
        &world,
        &schedule,
        &options,
        &mut out,
        &mut Silent,
    ))?;
    println!(
        "replay of a year: 100 jobs, {lines} lines ({:.0} MB), {} passes, {} messages: \
         {:.1} s to read, {:.1} s to replay, {:.0} MiB at most",
        bytes as f64 / 1e6,
        summary.passes,
        summary.messages,
        read.as_secs_f64(),
        (began.elapsed() - read).as_secs_f64(),
        peak_memory().unwrap_or(f64::NAN),
    );
    let took = began.elapsed().as_secs_f64();
    table::row(
        "replay of a year with 100 jobs",
        &format!("{took:.1} s"),
        "",
        None,
        "seconds",
    );
    Ok(())
}
