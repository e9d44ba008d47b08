//! The watchdog through months that never were: seeded worlds drive the real pass and the real
//! decision, and the truth is their judge.
//!
//! `cargo test --test sim -- --seeds 1000` runs the seeds from `--first` on: so many worlds of
//! loops, and a tenth as many of scheduled tasks. A seed that fails is made small and told as a
//! story; `--seed N` tells it again, `--kind tasks --seed N` one of scheduled tasks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a simulation fails as tests do"
)]

mod drive;
mod invariants;
mod report;
mod scenario;
mod story;
mod truth;
mod world;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Parser;
use mimalloc::MiMalloc;
use report::Figures;
use scenario::{Kind, Scenario, Seed};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Worlds that a plain `cargo test` runs.
const FEW: u64 = 40;

/// Worlds of loops for one of scheduled tasks.
const LOOPS_PER_TASKS: u64 = 10;

#[derive(Parser)]
#[command(
    about = "Runs the watchdog through seeded worlds, and checks what must hold at every step"
)]
struct Arguments {
    /// How many worlds of loops; a tenth as many of scheduled tasks are added.
    #[arg(long, default_value_t = FEW)]
    seeds: u64,
    /// Only worlds of this kind, `--seeds` of them.
    #[arg(long)]
    kind: Option<Kind>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// The days of each world.
    #[arg(long, default_value_t = 30)]
    days: i64,
    /// Only this seed; its story is told.
    #[arg(long)]
    seed: Option<u64>,
    /// Of the seed's events, only these numbers (`1,4,7`; `none`).
    #[arg(long)]
    keep: Option<String>,
    /// Of so many seeds that fail the stories are told.
    #[arg(long, default_value_t = 3)]
    stories: usize,
    /// The whole story of the seed, passes included.
    #[arg(long)]
    all: bool,
    /// Filters of the test harness; this target has one test, `simulation`.
    #[arg(allow_hyphen_values = true, trailing_var_arg = true, hide = true)]
    filter: Vec<String>,
}

impl Arguments {
    fn worlds(&self) -> Vec<Seed> {
        let of = |kind: Kind, count: u64| {
            (self.first..self.first + count).map(move |number| Seed { kind, number })
        };
        match self.kind {
            Some(kind) => of(kind, self.seeds).collect(),
            None => of(Kind::Loops, self.seeds)
                .chain(of(Kind::Tasks, self.seeds.div_ceil(LOOPS_PER_TASKS)))
                .collect(),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let wanted =
        |filter: &String| filter.starts_with('-') || "simulation".contains(filter.as_str());
    if !arguments.filter.is_empty() && !arguments.filter.iter().any(wanted) {
        return ExitCode::SUCCESS;
    }
    match arguments.seed {
        Some(number) => story::tell(
            Seed {
                kind: arguments.kind.unwrap_or(Kind::Loops),
                number,
            },
            arguments.days,
            arguments.keep.as_deref(),
            arguments.all,
        ),
        None => simulate(&arguments),
    }
}

fn simulate(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let worlds = arguments.worlds();
    let next = AtomicUsize::new(0);
    let all = Mutex::new((Figures::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&seed) = worlds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let scenario = Scenario::new(seed, arguments.days);
                    let outcome = drive::run(&scenario, false);
                    let (figures, failed) = &mut *all.lock().unwrap();
                    figures.add(outcome.figures);
                    failed.extend(outcome.violation.map(|violation| (seed, violation)));
                }
            });
        }
    });
    let (figures, mut failed) = all.into_inner().unwrap();
    println!(
        "\n{figures}{:.0} s on {threads} threads",
        began.elapsed().as_secs_f64()
    );
    failed.sort_by_key(|(seed, _)| *seed);
    for (seed, violation) in &failed {
        println!("seed {seed}: {violation}");
    }
    for (seed, violation) in failed.iter().take(arguments.stories) {
        story::shrink(*seed, arguments.days, violation);
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        println!("{} of {} worlds failed", failed.len(), worlds.len());
        ExitCode::FAILURE
    }
}
