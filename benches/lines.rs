//! The line reader on hostile logs of a quarter to two MiB: processor time per MiB, which must not
//! grow with the size. Run it with `make bench-lines`; it prints one table, and people judge.

mod table;

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use scheduler_watchdog::line::{self, LogEvent, Preset};

const KIB: usize = 1024;

const SIZES: [usize; 4] = [256 * KIB, 512 * KIB, 1024 * KIB, 2048 * KIB];

/// The awslogs driver splits lines here.
const LONGEST: usize = 16 * KIB;

/// The best of so many is what the code takes; the rest is the machine.
const TRIES: usize = 10;

/// A log of about so many bytes, as the messages of its events.
type Shape = fn(usize) -> Vec<String>;

const SHAPES: [(&str, Shape); 19] = [
    ("a usual log", |size| {
        lines(size, |n| match n % 3 {
            0 => "   INFO  No scheduled commands are ready to run.  ".to_owned(),
            1 => format!(
                "  2026-11-24 03:41:16 Running ['artisan' job:{n}] {} 12ms DONE",
                ".".repeat(40)
            ),
            _ => format!("10.0.0.7 - - \"GET /{n} HTTP/1.1\" 200 512"),
        })
    }),
    ("one line", |size| vec!["x".repeat(size)]),
    ("lines of 16 KiB", |size| {
        lines(size, |_| "x".repeat(LONGEST))
    }),
    ("dots that lead nowhere", |size| {
        lines(size, |_| {
            format!(
                "  2026-11-24 03:41:16 Running ['artisan' a] {}",
                ".".repeat(LONGEST)
            )
        })
    }),
    ("Running [ again and again", |size| {
        lines(size, |_| repeat("Running [", LONGEST))
    }),
    ("tasks within tasks", |size| {
        lines(size, |_| {
            repeat("  2026-11-24 03:41:16 Running ['artisan' a] ", LONGEST)
        })
    }),
    ("colours", |size| {
        lines(size, |_| repeat("\x1b[90m.\x1b[39m", LONGEST))
    }),
    ("escapes without an end", |size| {
        lines(size, |_| repeat("\x1b]\x1bP\x1b[[", LONGEST))
    }),
    ("nothing but spaces", |size| {
        lines(size, |_| repeat(" ", LONGEST))
    }),
    ("blank lines", |size| vec!["\n".repeat(size)]),
    ("blank events", |size| vec![String::new(); size / 8]),
    ("one event of short lines", |size| vec![repeat("a\n", size)]),
    ("brackets", |size| {
        lines(size, |_| {
            format!("Running {} DONE", "[".repeat(4000) + &"]".repeat(4000))
        })
    }),
    ("commands that are wrapped", |size| {
        lines(size, |_| {
            format!("Running [{}] 1s DONE", repeat("(a > b 2>&1 ; ", LONGEST))
        })
    }),
    ("JSON within JSON", |size| {
        lines(size, |_| {
            format!("{{\"log\":{}1", "{\"level_name\":".repeat(1200))
        })
    }),
    ("exceptions behind exceptions", |size| {
        let behind = "{\"class\":\"A\",\"previous\":".repeat(100) + "{}" + &"}".repeat(100);
        lines(size, |n| {
            format!(
                "{{\"message\":\"{n}\",\"level_name\":\"ERROR\",\"channel\":\"a\",\"datetime\":\"2026-11-24\",\
                 \"context\":{{\"exception\":{behind}}}}}"
            )
        })
    }),
    ("a box of 10,000 lines", |size| {
        let mut lines = vec!["In Connector.php line 1:".to_owned(), String::new()];
        lines.extend((0..10_000).map(|_| format!("  {}", "x".repeat(size / 10_000))));
        lines
    }),
    ("errors, each another", |size| {
        lines(size, |n| {
            format!(
                "[2026-11-24 03:39:09] production.ERROR: {n} is lost {{\"exception\":\"[object]"
            )
        })
    }),
    ("traces", |size| {
        lines(size, |n| match n % 50 {
            0 => format!(
                "[2026-11-24 03:39:09] production.ERROR: {n} {{\"exception\":\"[object] (A(code: 0): b)"
            ),
            _ => format!("#{n} /app/a.php({n}): b()"),
        })
    }),
];

/// Lines of so many bytes in all.
fn lines(size: usize, line: impl Fn(usize) -> String) -> Vec<String> {
    let mut lines = Vec::new();
    let mut bytes = 0;
    while bytes < size {
        let line = line(lines.len());
        bytes += line.len() + 1;
        lines.push(line);
    }
    lines
}

fn repeat(text: &str, size: usize) -> String {
    text.repeat(size / text.len())
}

/// All within seconds, so that nothing is forgotten in between.
fn events(messages: Vec<String>) -> Vec<LogEvent> {
    let start = Timestamp::UNIX_EPOCH;
    let stream = std::sync::Arc::<str>::from("app/app/1");
    (0i64..)
        .zip(messages)
        .map(|(n, message)| LogEvent {
            at: start + SignedDuration::from_micros(n * 100),
            ingested: None,
            stream: stream.clone(),
            id: None,
            message,
        })
        .collect()
}

/// The processor time of one reading, whatever else the machine does.
fn time(preset: &Preset, events: &[LogEvent]) -> Duration {
    let used = || {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(used).unwrap_or_default()
    };
    let before = used();
    black_box(line::read(preset, black_box(events)));
    used() - before
}

/// The least time that reading each of some logs takes. They are read in turn: a machine can be slower for
/// seconds, which must not hit one of them alone.
fn least<const N: usize>(preset: &Preset, logs: &[Vec<LogEvent>; N]) -> [Duration; N] {
    let mut least = [Duration::MAX; N];
    for _ in 0..TRIES {
        for (least, log) in least.iter_mut().zip(logs) {
            *least = time(preset, log).min(*least);
        }
    }
    least
}

fn main() {
    let presets: Vec<(&str, Preset)> = (Preset::names().iter())
        .filter_map(|name| Some((*name, Preset::named(name)?)))
        .collect();
    println!(
        "{:<30}{:<15}{:>10}{:>10}{:>10}{:>10}   2 MiB to 1/4 MiB",
        "ms per MiB of", "slowest preset", "1/4 MiB", "1/2 MiB", "1 MiB", "2 MiB"
    );
    let mut worst: f64 = 0.0;
    for (name, shape) in SHAPES {
        let small = [events(shape(SIZES[0]))];
        let slowest = presets
            .iter()
            .max_by_key(|(_, preset)| least(preset, &small));
        let Some((preset_name, preset)) = slowest else {
            continue;
        };
        let took = least(preset, &SIZES.map(|size| events(shape(size))));
        let per_mib: [f64; SIZES.len()] = std::array::from_fn(|at| {
            took[at].as_secs_f64() * 1e3 * (1024 * KIB) as f64 / SIZES[at] as f64
        });
        let mut row = format!("{name:<30}{preset_name:<15}");
        for milliseconds in per_mib {
            // Writing to a string cannot fail.
            let _ = write!(row, "{milliseconds:>10.2}");
        }
        let grows = per_mib[3] / per_mib[0];
        println!("{row}   {grows:>5.2}");
        worst = worst.max(grows);
    }
    table::row(
        "the worst log a MiB, of 2 MiB against 1/4 MiB",
        "",
        "",
        Some(worst),
        "1: linear",
    );
}
