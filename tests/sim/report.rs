//! What many worlds have in common, as distributions.

use std::collections::BTreeMap;
use std::fmt;

use jiff::SignedDuration;
use scheduler_watchdog::condition::Slot;

use crate::scenario::Seed;

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub worlds: u64,
    /// Of them those of scheduled tasks.
    pub of_tasks: u64,
    pub scheduler_days: i64,
    pub passes: u64,
    pub looks: u64,
    pub messages: u64,
    /// Messages that were sent again under the same id.
    pub repeated: u64,
    /// Restarts of a loop that lived, by the seeds of their worlds.
    pub needless_restarts: Vec<Seed>,
    pub largest_state: usize,
    /// Seconds from the last heartbeat to the alert, with the seed of the world: in a clear view
    /// and at the defaults, in a clear view, and over all.
    to_alert: [Vec<(i64, Seed)>; 3],
    messages_per_incident: Vec<i64>,
    restarts_per_incident: Vec<i64>,
    /// By condition, and whether lost or late lines, or a first long run, explain them.
    pub false_alarms: BTreeMap<(&'static str, bool), u64>,
}

impl Figures {
    /// An outage was told in the world of a seed. `clear`: nothing but the one outage happened;
    /// `usual`: the silence of a scheduler in ECS with a heartbeat every minute, passes every five,
    /// `stale_after` learned, and no job that may be running.
    pub fn alerted(&mut self, took: SignedDuration, seed: Seed, clear: bool, usual: bool) {
        let rows = [clear && usual, clear, true];
        for (row, _) in self
            .to_alert
            .iter_mut()
            .zip(rows)
            .filter(|(_, counts)| *counts)
        {
            row.push((took.as_secs(), seed));
        }
    }

    pub fn incident(&mut self, slot: Slot, messages: u32, restarts: usize) {
        self.messages_per_incident.push(messages.into());
        if slot == Slot::Loop {
            self.restarts_per_incident.push(restarts as i64);
        }
    }

    pub fn add(&mut self, other: Self) {
        self.worlds += other.worlds;
        self.of_tasks += other.of_tasks;
        self.scheduler_days += other.scheduler_days;
        self.passes += other.passes;
        self.looks += other.looks;
        self.messages += other.messages;
        self.repeated += other.repeated;
        self.needless_restarts.extend(other.needless_restarts);
        self.largest_state = self.largest_state.max(other.largest_state);
        for (own, others) in self.to_alert.iter_mut().zip(other.to_alert) {
            own.extend(others);
        }
        self.messages_per_incident
            .extend(other.messages_per_incident);
        self.restarts_per_incident
            .extend(other.restarts_per_incident);
        for (what, count) in other.false_alarms {
            *self.false_alarms.entry(what).or_default() += count;
        }
    }
}

/// A row of the table: how many, and the 50th, 90th and 99th percentile and the most.
fn row(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    values: &[i64],
    show: impl Fn(i64) -> String,
) -> fmt::Result {
    let mut values = values.to_vec();
    values.sort_unstable();
    let at = |percent: usize| {
        let rank = (values.len() * percent).div_ceil(100).max(1);
        values
            .get(rank - 1)
            .map_or("-".to_owned(), |value| show(*value))
    };
    let cells = [at(50), at(90), at(99), at(100)];
    let [p50, p90, p99, most] = cells;
    writeln!(
        f,
        "{name:<46} {:>7} {p50:>8} {p90:>8} {p99:>8} {most:>8}",
        values.len()
    )
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |seconds: i64| format!("{}:{:02}", seconds / 60, seconds % 60);
        let plain = |n: i64| n.to_string();
        writeln!(
            f,
            "{} worlds ({} of scheduled tasks), {} scheduler-days, {} passes, {} looks",
            self.worlds, self.of_tasks, self.scheduler_days, self.passes, self.looks
        )?;
        writeln!(
            f,
            "{:<46} {:>7} {:>8} {:>8} {:>8} {:>8}",
            "", "n", "p50", "p90", "p99", "max"
        )?;
        let names = [
            "last heartbeat to alert of a silence, defaults",
            "last heartbeat to alert, all clear views",
            "last heartbeat to alert, with faults too",
        ];
        for (name, told) in names.iter().zip(&self.to_alert) {
            let values: Vec<i64> = told.iter().map(|(seconds, _)| *seconds).collect();
            row(f, name, &values, time)?;
        }
        row(
            f,
            "messages per incident",
            &self.messages_per_incident,
            plain,
        )?;
        row(
            f,
            "restarts per incident of the loop",
            &self.restarts_per_incident,
            plain,
        )?;
        let total: u64 = self.false_alarms.values().sum();
        let per_thousand = total as f64 * 1000.0 / self.scheduler_days.max(1) as f64;
        writeln!(
            f,
            "false alarms: {total}, {per_thousand:.2} per 1,000 scheduler-days"
        )?;
        for ((condition, explained), count) in &self.false_alarms {
            let why = if *explained {
                "lines lost or late, a first long run, or a run cut short"
            } else {
                "unexplained"
            };
            writeln!(f, "  {condition}: {count} ({why})")?;
        }
        writeln!(
            f,
            "messages: {}, sent again under the same id: {}; largest state: {} bytes",
            self.messages, self.repeated, self.largest_state
        )?;
        let seeds = |seeds: &[Seed]| {
            let seeds: Vec<String> = seeds.iter().map(Seed::to_string).collect();
            seeds.join(", ")
        };
        let slowest: Vec<Seed> = (self.to_alert.iter())
            .filter_map(|told| told.iter().max())
            .map(|(_, seed)| *seed)
            .collect();
        writeln!(
            f,
            "slowest alerts: seeds {}; needless restarts: {} (seeds {})",
            seeds(&slowest),
            self.needless_restarts.len(),
            seeds(&self.needless_restarts)
        )
    }
}
