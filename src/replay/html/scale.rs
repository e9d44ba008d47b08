//! Places on the time axis: percentages, ticks, and the area of the heartbeats.

use std::fmt::Write as _;

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span as Step, Timestamp};
use serde::Serialize;

use crate::replay::story::Axis;

/// A place on the axis with words.
#[derive(Serialize)]
pub(super) struct Tick {
    pub x: String,
    pub label: String,
}

pub(super) fn percent(part: f64) -> String {
    let text = format!("{:.2}", part * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The density of heartbeats as an area of 600 by 100. What nine of ten columns do not exceed
/// fills it.
pub(super) fn area(bins: &[u32]) -> String {
    let mut sorted: Vec<u32> = bins.iter().copied().filter(|n| *n > 0).collect();
    sorted.sort_unstable();
    let Some(usual) = sorted.get(sorted.len() * 9 / 10) else {
        return String::new();
    };
    let level =
        |count: u32| (100.0 - (f64::from(count) / f64::from(*usual)).min(1.15) * 82.0).round();
    let mut path = "M0 100".to_owned();
    let mut before = None;
    for (column, count) in bins.iter().enumerate() {
        let level = if *count == 0 { 100.0 } else { level(*count) };
        if before != Some(level) {
            let _ = write!(path, "H{column}V{level}");
            before = Some(level);
        }
    }
    let _ = write!(path, "H{}V100Z", bins.len());
    path
}

/// Both ends of a year of months, and no more.
const MOST_TICKS: usize = 13;

/// Steps between ticks, each with the format of its labels.
const STEPS: [(i64, Unit, &str); 13] = [
    (1, Unit::Minutes, "%H:%M"),
    (5, Unit::Minutes, "%H:%M"),
    (15, Unit::Minutes, "%H:%M"),
    (60, Unit::Minutes, "%H:%M"),
    (180, Unit::Minutes, "%b %-d %H:%M"),
    (360, Unit::Minutes, "%b %-d %H:%M"),
    (1, Unit::Days, "%b %-d"),
    (2, Unit::Days, "%b %-d"),
    (7, Unit::Days, "%b %-d"),
    (1, Unit::Months, "%b %Y"),
    (3, Unit::Months, "%b %Y"),
    (12, Unit::Months, "%Y"),
    (120, Unit::Months, "%Y"),
];

#[derive(Clone, Copy)]
enum Unit {
    Minutes,
    Days,
    Months,
}

/// Round times of the wall clock, at most [`MOST_TICKS`].
pub(super) fn ticks(axis: &Axis, zone: &TimeZone) -> Vec<Tick> {
    for (step, unit, format) in STEPS {
        if let Some(times) = round_times(axis, zone, step, unit) {
            return (times.into_iter())
                .map(|at| Tick {
                    x: percent(axis.place(at)),
                    label: at
                        .to_zoned_datetime(zone.clone())
                        .strftime(format)
                        .to_string(),
                })
                .collect();
        }
    }
    Vec::new()
}

/// None if there are too many.
fn round_times(axis: &Axis, zone: &TimeZone, step: i64, unit: Unit) -> Option<Vec<Timestamp>> {
    let from = zone.to_datetime(axis.from);
    let day = from.date();
    let (begin, step) = match unit {
        Unit::Minutes => (day, Step::new().try_minutes(step).ok()?),
        Unit::Days if step == 7 => {
            let back = day.weekday().since(Weekday::Monday);
            (
                day.checked_sub(Step::new().days(back)).ok()?,
                Step::new().days(7),
            )
        }
        Unit::Days => (day.first_of_month(), Step::new().try_days(step).ok()?),
        Unit::Months => (day.first_of_year(), Step::new().try_months(step).ok()?),
    };
    let mut at = begin.to_datetime(Time::midnight());
    let mut times = Vec::new();
    let length = axis.until.duration_since(axis.from);
    // They would be too many; not even counted.
    if matches!(unit, Unit::Minutes) && length > SignedDuration::from_hours(24 * 7) {
        return None;
    }
    loop {
        let moment = zone.to_timestamp(at).ok()?;
        if moment > axis.until {
            return Some(times);
        }
        if moment >= axis.from {
            times.push(moment);
        }
        if times.len() > MOST_TICKS {
            return None;
        }
        at = at.checked_add(step).ok()?;
    }
}
