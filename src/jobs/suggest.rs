//! Past logs → job tables, as guesses: when each job seems to run, and what speaks for it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Table, duration};
use crate::cron::{Change, Cron};
use crate::line::{JobEvent, Kind, Line};

/// A run counts for a due time if it begins this long after it, unless the next one is sooner.
const LATE: SignedDuration = SignedDuration::from_mins(15);

/// The loop was alive at a due time if it was heard within this time after it.
const ALIVE: SignedDuration = SignedDuration::from_mins(3);

/// Two lines of one run, of its start and of its end, tell of starts closer together than this.
const ONE_RUN: SignedDuration = SignedDuration::from_secs(2);

/// A start that is worked out from a rounded duration can lie a little before the minute that
/// the run was due in.
const ROUNDING: SignedDuration = SignedDuration::from_secs(1);

/// At least this share of the expected runs must have come, and of those that came must have
/// been expected.
const CAME: f64 = 0.9;
const EXPECTED: f64 = 0.95;

/// Fewer runs than this prove no rhythm.
const LEAST_RUNS: usize = 3;

/// A rhythm of days needs fewer, because they lie far apart.
const LEAST_RARE_RUNS: usize = 2;

/// Runtimes shorter than this are not worth a `max_runtime`.
const LONG: SignedDuration = SignedDuration::from_secs(60);

/// What the lines of a log show, collected bit by bit.
#[derive(Debug, Default)]
pub struct Observed {
    jobs: BTreeMap<String, Runs>,
    /// Minutes (since the epoch) in which the loop was heard.
    heard: BTreeSet<i64>,
}

#[derive(Debug, Default)]
struct Runs {
    starts: Vec<Timestamp>,
    longest: SignedDuration,
}

impl Observed {
    /// Takes lines, in the order of time.
    pub fn take(&mut self, lines: &[Line]) {
        for line in lines {
            if line.is_heartbeat() {
                self.heard.insert(minute_of(line.at));
            }
            let Kind::Job {
                name,
                event,
                background,
            } = &line.kind
            else {
                continue;
            };
            let took = match event {
                JobEvent::Ended { took }
                | JobEvent::Succeeded { took }
                | JobEvent::Failed { took, .. } => took.unwrap_or_default(),
                JobEvent::Started | JobEvent::CutOff | JobEvent::Skipped => SignedDuration::ZERO,
            };
            if !line.is_heartbeat() {
                continue;
            }
            let runs = self.jobs.entry(name.clone()).or_default();
            let start = line.at - took + ROUNDING;
            let again = |known: &Timestamp| start.duration_since(*known).abs() < ONE_RUN;
            if !runs.starts.last().is_some_and(again) {
                runs.starts.push(start);
            }
            if !background {
                runs.longest = runs.longest.max(took);
            }
        }
    }

    fn is_alive(&self, at: Timestamp) -> bool {
        let minute = minute_of(at);
        (self.heard.range(minute..=minute + ALIVE.as_mins()))
            .next()
            .is_some()
    }
}

fn minute_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}

/// A guess, and what speaks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// When the job seems to run.
    pub cron: Cron,
    /// Expected runs, while the loop lived.
    pub expected: usize,
    /// Expected runs that came.
    pub came: usize,
    /// Runs that came and were not expected.
    pub others: usize,
}

/// The simplest expression that explains the runs; none if none does.
pub fn guess(observed: &Observed, job: &str, zone: &TimeZone) -> Option<Guess> {
    let runs = observed.jobs.get(job)?;
    (candidates(&runs.starts, zone).into_iter())
        .filter_map(|expression| Cron::parse(&expression).ok())
        .filter_map(|cron| weigh(observed, &runs.starts, cron, zone))
        .find(|guess| {
            let all = guess.came + guess.others;
            let rare = guess.cron.period() >= SignedDuration::from_hours(24 * 7);
            let least = if rare { LEAST_RARE_RUNS } else { LEAST_RUNS };
            guess.came >= least
                && guess.came as f64 >= CAME * guess.expected as f64
                && guess.came as f64 >= EXPECTED * all as f64
        })
}

/// Expressions that the runs suggest, the simplest first.
fn candidates(starts: &[Timestamp], zone: &TimeZone) -> Vec<String> {
    let walls: Vec<_> = starts
        .iter()
        .map(|start| zone.to_datetime(*start))
        .collect();
    let most = |counts: BTreeMap<i8, usize>| -> Vec<i8> {
        let mut values: Vec<(i8, usize)> = counts.into_iter().collect();
        values.sort_by_key(|(value, count)| (std::cmp::Reverse(*count), *value));
        // What is seen much more seldom than the most frequent is an accident.
        let enough = values.first().map_or(0, |(_, count)| count.div_ceil(4));
        let mut values: Vec<i8> = (values.into_iter())
            .filter(|(_, count)| *count >= enough)
            .map(|(value, _)| value)
            .collect();
        values.truncate(6);
        values
    };
    let counted = |value: fn(&jiff::civil::DateTime) -> i8| {
        let mut counts: BTreeMap<i8, usize> = BTreeMap::new();
        for wall in &walls {
            *counts.entry(value(wall)).or_default() += 1;
        }
        counts
    };
    let minutes = most(counted(|wall| wall.minute()));
    let hours = most(counted(|wall| wall.hour()));
    let days = most(counted(|wall| wall.day()));
    let weekdays = most(counted(|wall| wall.weekday().to_sunday_zero_offset()));
    let list = |values: &[i8]| {
        let mut values = values.to_vec();
        values.sort_unstable();
        values
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let Some(minute) = minutes.first() else {
        return Vec::new();
    };

    let mut found = vec!["* * * * *".to_owned()];
    found.extend([2, 3, 4, 5, 6, 10, 12, 15, 20, 30].map(|n| format!("*/{n} * * * *")));
    found.push(format!("{minute} * * * *"));
    found.push(format!("{} * * * *", list(&minutes)));
    found.extend([2, 3, 4, 6, 8, 12].map(|n| format!("{minute} */{n} * * *")));
    if let Some(hour) = hours.first() {
        found.push(format!("{minute} {hour} * * *"));
        found.push(format!("{minute} {hour} * * 1-5"));
        found.push(format!("{minute} {} * * *", list(&hours)));
        found.push(format!("{minute} {} * * 1-5", list(&hours)));
        found.extend(
            weekdays
                .iter()
                .map(|day| format!("{minute} {hour} * * {day}")),
        );
        found.push(format!("{minute} {hour} * * {}", list(&weekdays)));
        found.extend(days.iter().map(|day| format!("{minute} {hour} {day} * *")));
        found.push(format!("{minute} {hour} {} * *", list(&days)));
    }
    found
}

/// What speaks for and against an expression: between the first and the last run, and where the
/// loop lived.
fn weigh(observed: &Observed, starts: &[Timestamp], cron: Cron, zone: &TimeZone) -> Option<Guess> {
    let (first, last) = (*starts.first()?, *starts.last()?);
    let due: Vec<Timestamp> = cron
        .runs(zone, Change::Expected, first - LATE, last)
        .collect();
    let mut starts = starts.iter().peekable();
    let (mut expected, mut came, mut others) = (0, 0, 0);
    for (index, at) in due.iter().enumerate() {
        let end = (due.get(index + 1).copied())
            .unwrap_or(*at + LATE)
            .min(*at + LATE);
        while starts.next_if(|start| **start < *at).is_some() {
            others += 1;
        }
        let ran = starts.next_if(|start| **start < end).is_some();
        came += usize::from(ran);
        // Before its first run it may not have existed.
        expected += usize::from(ran || (*at >= first && observed.is_alive(*at)));
    }
    others += starts.count();
    Some(Guess {
        cron,
        expected,
        came,
        others,
    })
}

/// Tables for all jobs that a log shows, as guesses. `zone` is the scheduler's.
pub fn tables(observed: &Observed, zone: &TimeZone) -> String {
    let count = match observed.jobs.len() {
        1 => "1 job".to_owned(),
        n => format!("{n} jobs"),
    };
    let mut text = format!(
        "# {count} seen in the log. The times are guesses from past runs: look each one through\n\
         # before you use it. `watchdog jobs import` knows them from the application itself.\n"
    );
    for (name, runs) in &observed.jobs {
        text.push('\n');
        text.push_str(&table(observed, name, runs, zone).print());
    }
    text
}

fn table(observed: &Observed, name: &str, runs: &Runs, zone: &TimeZone) -> Table {
    let mut table = Table::default();
    let wall = |at: Timestamp| zone.to_datetime(at).strftime("%Y-%m-%d %H:%M").to_string();
    let (first, last) = (runs.starts.first(), runs.starts.last());
    let seen = match (runs.starts.len(), first.zip(last)) {
        (1, Some((first, _))) => format!("seen once, at {}", wall(*first)),
        (n, Some((first, last))) => {
            format!("{n} runs between {} and {}", wall(*first), wall(*last))
        }
        (_, None) => "never seen".to_owned(),
    };
    let guess = guess(observed, name, zone);
    match &guess {
        Some(guess) => {
            table.comment(format!(
                "guess from {seen}: {} of {} expected runs came, {} others",
                guess.came, guess.expected, guess.others
            ));
        }
        None => {
            table.comment(format!("no guess: {seen}; write its times yourself"));
            table.commented_out = true;
        }
    }
    table.text("name", name);
    table.text(
        "cron",
        guess
            .as_ref()
            .map_or("? ? ? ? ?", |guess| guess.cron.expression()),
    );
    if runs.longest >= LONG {
        let minutes = runs.longest.as_secs() * 3 / 60 + 1;
        let allowed = SignedDuration::from_mins(minutes).min(SignedDuration::from_hours(24));
        table.text("max_runtime", &duration(allowed));
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::line::Pulse;

    const STREAM: &str = "app/app/1";

    fn line(at: Timestamp, job: Option<&str>) -> Line {
        let kind = match job {
            None => Kind::Heartbeat(Pulse::Idle),
            Some(name) => Kind::Job {
                name: name.to_owned(),
                event: JobEvent::Ended {
                    took: Some(SignedDuration::from_millis(200)),
                },
                background: false,
            },
        };
        Line::new(at, STREAM.into(), kind, "")
    }

    /// A log of days with one job; runs are late by so many seconds, every `missing`-th one is
    /// missing, and the loop was down for a while.
    fn log(
        cron: &Cron,
        zone: &TimeZone,
        days: i64,
        late: &[i64],
        missing: Option<usize>,
        down: i64,
    ) -> Observed {
        let from: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
        let until = from + SignedDuration::from_hours(24 * days);
        let mut lines = Vec::new();
        for (index, due) in cron.runs(zone, Change::Expected, from, until).enumerate() {
            if missing.is_none_or(|missing| index % missing != missing / 2) {
                let at = due + SignedDuration::from_secs(late[index % late.len()]);
                lines.push(line(at, Some("job")));
            }
        }
        lines.extend(
            (0..days * 720).map(|pair| line(from + SignedDuration::from_mins(2 * pair), None)),
        );
        let outage = from + SignedDuration::from_hours(down);
        lines.retain(|line| line.at < outage || line.at > outage + SignedDuration::from_hours(30));
        lines.sort_by_key(|line| line.at);
        let mut observed = Observed::default();
        observed.take(&lines);
        observed
    }

    fn expressions() -> impl Strategy<Value = (String, i64)> {
        prop_oneof![
            Just(("* * * * *".to_owned(), 3)),
            prop::sample::select(vec![2, 5, 10, 15, 20, 30])
                .prop_map(|n| (format!("*/{n} * * * *"), 5)),
            (1..60).prop_map(|m| (format!("{m} * * * *"), 7)),
            (0..60, prop::sample::select(vec![2, 3, 4, 6, 12]))
                .prop_map(|(m, n)| (format!("{m} */{n} * * *"), 12)),
            (0..60, 0..24).prop_map(|(m, h)| (format!("{m} {h} * * *"), 30)),
            (0..60, 0..24).prop_map(|(m, h)| (format!("{m} {h} * * 1-5"), 40)),
            (0..60, 0..24, 0..7).prop_map(|(m, h, d)| (format!("{m} {h} * * {d}"), 70)),
            (0..60, 0..24, 1..29).prop_map(|(m, h, d)| (format!("{m} {h} {d} * *"), 150)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_schedule_is_found_again(
            (expression, days) in expressions(),
            late in prop::collection::vec(0..58i64, 40..60),
            // Fewer than a tenth: more would speak against the expression.
            missing in 12..40usize,
            zone in prop::sample::select(vec!["UTC", "Asia/Tokyo", "Europe/Berlin"]),
            down in 24..48i64,
        ) {
            let zone = TimeZone::get(zone).unwrap();
            let cron = Cron::parse(&expression).unwrap();
            // Of rare runs, each one counts.
            let missing = (days <= 20).then_some(missing);
            let observed = log(&cron, &zone, days, &late, missing, down);
            let guess = guess(&observed, "job", &zone);
            let found = guess.as_ref().map(|guess| guess.cron.expression().to_owned());
            prop_assert_eq!(found, Some(expression));
        }
    }

    #[test]
    fn what_is_no_rhythm_is_not_guessed() {
        let from: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
        let mut observed = Observed::default();
        let mut lines: Vec<Line> = (0..3 * 1440)
            .map(|minute| line(from + SignedDuration::from_mins(minute), None))
            .collect();
        for minute in [17, 400, 433, 1009, 1500, 2222, 3011, 3900] {
            lines.push(line(from + SignedDuration::from_mins(minute), Some("odd")));
        }
        lines.push(line(from + SignedDuration::from_mins(77), Some("once")));
        lines.sort_by_key(|line| line.at);
        observed.take(&lines);
        assert_eq!(guess(&observed, "odd", &TimeZone::UTC), None);
        insta::assert_snapshot!(tables(&observed, &TimeZone::UTC));
    }
}
