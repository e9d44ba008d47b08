//! The errors of the last day: how many, when, and the newest of them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{DAY, MOST_NOTES};
use crate::cause::ErrorNote;
use crate::line::{Kind, Line};
use crate::snapshot::LogWindow;

const MINUTE_SECONDS: i64 = 60;

/// Minutes of error counts that are kept one by one: the longest window, plus the longest overlap.
const RECENT_MINUTES: i64 = 75;

/// The grain of the day's error history, in minutes.
const SLOT_MINUTES: i64 = 5;

/// The longest name of a stream that is remembered with an error, in characters.
const LONGEST_STREAM: usize = 200;

/// The errors of the last day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorHistory {
    /// Errors are counted since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Minute (seconds since the epoch / 60) → errors; the newest only.
    pub minutes: BTreeMap<i64, u32>,
    /// Slot of five minutes (seconds since the epoch / 300) → errors, for a day. Slots without
    /// errors are left out.
    pub slots: BTreeMap<i64, u32>,
    /// The newest errors, for causes and evidence; oldest first.
    pub notes: Vec<ErrorNote>,
    /// Fields of a version that this program does not know; kept as they are.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl ErrorHistory {
    /// Folds a window in, without the errors that hold one of the texts to ignore.
    pub(super) fn fold(&mut self, ignore: &[String], window: &LogWindow) {
        let mut counts: BTreeMap<i64, u32> = BTreeMap::new();
        // The same words again are one note, with the newest time.
        let mut newest: BTreeMap<(&str, &str), &Line> = BTreeMap::new();
        for line in &window.lines {
            let ignored = || ignore.iter().any(|text| line.text.contains(text.as_str()));
            if !matches!(line.kind, Kind::Error { .. }) || ignored() {
                continue;
            }
            *counts.entry(minute_of(line.at)).or_default() += 1;
            let known = newest.entry((&line.stream, &line.text)).or_insert(line);
            if known.at < line.at {
                *known = line;
            }
        }
        // Of one moment in one order, whichever window they came with.
        let mut newest: Vec<&Line> = newest.into_values().collect();
        newest.sort_by_key(|line| (line.at, &line.stream, &line.text));
        let surplus = newest.len().saturating_sub(MOST_NOTES);
        for line in newest.into_iter().skip(surplus) {
            let Kind::Error {
                aborts,
                context,
                trace,
            } = &line.kind
            else {
                continue;
            };
            let note = ErrorNote {
                stream: line.stream.chars().take(LONGEST_STREAM).collect(),
                ..ErrorNote::new(line.at, &line.text, context.as_deref(), trace, *aborts)
            };
            let same =
                |known: &&mut ErrorNote| known.text == note.text && known.stream == note.stream;
            let notes = &mut self.notes;
            match notes.iter_mut().find(same) {
                Some(known) if known.at < note.at => *known = note,
                Some(_) => {}
                None => notes.push(note),
            }
        }
        self.notes
            .sort_by(|a, b| (a.at, &a.stream, &a.text).cmp(&(b.at, &b.stream, &b.text)));
        self.count(window, &counts);
    }

    /// Replaces the counts of the minutes that the window covers. A count never falls: what
    /// was seen once was there.
    fn count(&mut self, window: &LogWindow, counts: &BTreeMap<i64, u32>) {
        self.since = Some(
            self.since
                .map_or(window.from, |since| since.min(window.from)),
        );
        for (minute, count) in counts {
            let known = self.minutes.entry(*minute).or_default();
            *known = (*known).max(*count);
        }
        for slot in counts.keys().map(|minute| minute.div_euclid(SLOT_MINUTES)) {
            let first = slot * SLOT_MINUTES;
            let sum = (self.minutes.range(first..first + SLOT_MINUTES))
                .fold(0u32, |sum, (_, count)| sum.saturating_add(*count));
            let known = self.slots.entry(slot).or_default();
            *known = (*known).max(sum);
        }
    }

    pub(super) fn age(&mut self, now: Timestamp) {
        let minute = minute_of(now);
        self.minutes
            .retain(|known, _| minute - known < RECENT_MINUTES);
        let oldest = minute_of(now - DAY).div_euclid(SLOT_MINUTES);
        self.slots.retain(|slot, _| *slot > oldest);
        self.notes.retain(|note| now.duration_since(note.at) < DAY);
        let surplus = self.notes.len().saturating_sub(MOST_NOTES);
        self.notes.drain(..surplus);
    }

    /// Forgets the oldest slot. False if there is none.
    pub(crate) fn drop_oldest(&mut self) -> bool {
        self.slots.pop_first().is_some()
    }

    /// Errors in the window that ends with the minute of `at`.
    pub fn within(&self, window: SignedDuration, at: Timestamp) -> u32 {
        let last = minute_of(at);
        let first = last - window.as_secs().div_euclid(MINUTE_SECONDS).max(1);
        (self.minutes.range(first + 1..=last)).fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The most errors in any such window that ends in `[after, until]`, and that window's
    /// beginning.
    pub fn most_within(
        &self,
        window: SignedDuration,
        after: Timestamp,
        until: Timestamp,
    ) -> (u32, Timestamp) {
        let first = minute_of(after).max(minute_of(until) - RECENT_MINUTES);
        (first..=minute_of(until))
            .filter_map(|minute| Timestamp::from_second(minute * MINUTE_SECONDS).ok())
            .map(|at| {
                (
                    self.within(window, at),
                    at + SignedDuration::from_mins(1) - window,
                )
            })
            .max_by_key(|(count, _)| *count)
            .unwrap_or((0, until))
    }

    /// The usual number of errors in such a window: the median over the last 24 hours, none
    /// until six hours are known.
    pub fn usual(&self, window: SignedDuration, now: Timestamp) -> Option<f64> {
        let since = self.since?.max(now - DAY);
        let known = now.duration_since(since);
        if known < SignedDuration::from_hours(6) {
            return None;
        }
        let slots = usize::try_from(known.as_secs() / (SLOT_MINUTES * MINUTE_SECONDS)).ok()?;
        let mut counts: Vec<u32> = self.slots.values().copied().collect();
        counts.resize(slots.max(counts.len()), 0);
        counts.sort_unstable();
        let median = f64::from(*counts.get(counts.len() / 2)?);
        let scale = window.as_secs_f64() / (SLOT_MINUTES * MINUTE_SECONDS) as f64;
        Some(median * scale)
    }
}

fn minute_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(MINUTE_SECONDS)
}
