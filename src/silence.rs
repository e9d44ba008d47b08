//! Silences: spans of time in which messages and restarts are withheld, never the looking.
//!
//! Recurring ones (maintenance windows) stand in the configuration, one-off ones in the state,
//! always with an end. When a silence ends, what is wrong then is judged afresh.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::config::Scheduler;
use crate::cron::{Change, Cron, horizon};
use crate::message::safe;
use crate::state::State;

/// How long a one-off silence lasts unless it is said.
pub const DEFAULT: SignedDuration = SignedDuration::from_hours(1);

/// The longest silence, recurring or not.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// One-off silences of a scheduler at the same time; the state is bounded.
pub const MOST: usize = 20;

/// The longest reason and author that are kept, in characters.
pub const LONGEST_TEXT: usize = 200;

/// `[[scheduler.silence]]`: a maintenance window that comes again.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurring {
    /// When it begins.
    pub cron: Cron,
    /// How long it lasts; at most a day, and less than to its next beginning.
    pub duration: SignedDuration,
    /// The zone of the expression.
    pub timezone: TimeZone,
    /// Why; shown wherever something is withheld.
    pub reason: String,
    /// What is withheld; everything, if empty.
    pub conditions: Vec<Condition>,
}

/// A silence that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneOff {
    /// Its name, for taking it back.
    pub id: String,
    /// When it was asked for, and began.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub author: String,
    /// What is withheld; everything, if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
}

/// Why something is withheld at a moment, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// When the silence ends.
    pub until: Timestamp,
    /// Its reason, with the author where there is one.
    pub reason: String,
}

/// A silence that cannot be had. A retry does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    /// It would be over already, or never begin.
    #[error("a silence must end after {now:.0}, but this one would end at {until:.0}")]
    Past {
        /// The present.
        now: Timestamp,
        /// Its end.
        until: Timestamp,
    },
    /// It would last too long.
    #[error("a silence lasts at most 24 hours; silence again when this one ends")]
    TooLong,
    /// Nobody would know why.
    #[error("a silence needs a reason")]
    NoReason,
    /// There are as many as the state can hold.
    #[error("{MOST} silences are open already; remove one")]
    TooMany,
}

impl OneOff {
    /// A silence from `now` on, named after its beginning.
    ///
    /// # Errors
    /// It has no end in the next 24 hours, or no reason.
    pub fn new(
        now: Timestamp,
        until: Timestamp,
        reason: &str,
        author: &str,
        condition: Option<Condition>,
    ) -> Result<Self, SilenceError> {
        let reason = shown(reason);
        if until <= now {
            return Err(SilenceError::Past { now, until });
        }
        if until.duration_since(now) > LONGEST {
            return Err(SilenceError::TooLong);
        }
        if reason.is_empty() {
            return Err(SilenceError::NoReason);
        }
        Ok(Self {
            id: short_id(now),
            from: now,
            until,
            reason,
            author: shown(author),
            condition,
        })
    }

    /// Writes it into a scheduler's state; those that are over are forgotten.
    ///
    /// # Errors
    /// The state holds as many as it can.
    pub fn add_to(&self, state: &mut State) -> Result<(), SilenceError> {
        state.silences.retain(|silence| silence.until > self.from);
        if state.silences.len() >= MOST {
            return Err(SilenceError::TooMany);
        }
        state.silences.push(self.clone());
        Ok(())
    }
}

/// What a person wrote of a silence: one line without secrets, at most [`LONGEST_TEXT`] long.
pub fn shown(text: &str) -> String {
    (safe::redact(&safe::line(text)).chars())
        .take(LONGEST_TEXT)
        .collect()
}

/// A name that can be typed, and that no other silence has: the time in milliseconds, in
/// letters and digits.
fn short_id(at: Timestamp) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut rest = at.as_millisecond().unsigned_abs();
    let mut id = Vec::new();
    while rest > 0 {
        // The remainder is less than 36.
        id.push(char::from(DIGITS[(rest % 36) as usize]));
        rest /= 36;
    }
    id.into_iter().rev().collect()
}

impl Recurring {
    /// The window that is open at `now`, or the next one: its beginning and end.
    pub fn next(&self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let until = horizon(now);
        let began = (self.cron)
            .runs(&self.timezone, Change::Shifted, now - self.duration, until)
            .next()?;
        Some((began, began + self.duration))
    }

    /// The end of the window that holds `now`, if one does.
    fn ends(&self, now: Timestamp) -> Option<Timestamp> {
        let began = self.cron.runs(
            &self.timezone,
            // A window that would begin in a skipped hour begins after it.
            Change::Shifted,
            now - self.duration,
            now,
        );
        began.last().map(|began| began + self.duration)
    }

    /// The windows that lie in `[from, until]` at least in part, each with its end.
    pub fn spans(
        &self,
        from: Timestamp,
        until: Timestamp,
    ) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        (self.cron)
            .runs(&self.timezone, Change::Shifted, from - self.duration, until)
            .map(|began| (began, began + self.duration))
    }
}

/// What somebody wants to hear nothing of at `now`: by condition, the silence that withholds it and
/// lasts longest.
pub fn quiet(scheduler: &Scheduler, state: &State, now: Timestamp) -> BTreeMap<Condition, Quiet> {
    let recurring = scheduler.silences.iter().filter_map(|silence| {
        let quiet = Quiet {
            until: silence.ends(now)?,
            reason: silence.reason.clone(),
        };
        Some((quiet, silence.conditions.as_slice()))
    });
    let one_off = (state.silences.iter())
        .filter(|silence| silence.from <= now && now < silence.until)
        .map(|silence| {
            let quiet = Quiet {
                until: silence.until,
                reason: format!("{} ({})", silence.reason, silence.author),
            };
            (quiet, silence.condition.as_slice())
        });
    let mut withheld: BTreeMap<Condition, Quiet> = BTreeMap::new();
    for (quiet, only) in recurring.chain(one_off) {
        let conditions = if only.is_empty() {
            &Condition::ALL
        } else {
            only
        };
        for condition in conditions {
            let known = withheld.get(condition);
            if known.is_none_or(|known| known.until <= quiet.until) {
                withheld.insert(*condition, quiet.clone());
            }
        }
    }
    withheld
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler() -> Scheduler {
        let config = "[[scheduler]]\nname = \"x\"\nlog_groups = [\"/ecs/x\"]";
        let config = crate::config::Config::parse(config, "test").unwrap();
        config.schedulers[0].clone()
    }

    fn nightly(zone: &str) -> Recurring {
        Recurring {
            cron: Cron::parse("30 2 * * *").unwrap(),
            duration: SignedDuration::from_hours(1),
            timezone: TimeZone::get(zone).unwrap(),
            reason: "backup".to_owned(),
            conditions: Vec::new(),
        }
    }

    #[test]
    fn a_window_holds_from_its_beginning_to_its_end() {
        let silence = nightly("Asia/Tokyo");
        let ends = |at: &str| silence.ends(at.parse().unwrap()).map(|end| end.to_string());
        let end = Some("2026-03-28T18:30:00Z".to_owned());
        assert_eq!(ends("2026-03-28T17:29:59Z"), None);
        assert_eq!(ends("2026-03-28T17:30:00Z"), end);
        assert_eq!(ends("2026-03-28T18:29:59Z"), end);
        assert_eq!(ends("2026-03-28T18:30:00Z"), None);
    }

    /// Maintenance goes on whatever the clock says; a job at that time would not run.
    #[test]
    fn a_window_in_the_skipped_hour_opens_after_it() {
        let silence = nightly("Europe/Berlin");
        let next = silence.next("2026-03-29T00:00:00Z".parse().unwrap());
        let next = next.map(|(from, until)| format!("{from} {until}"));
        assert_eq!(
            next.as_deref(),
            Some("2026-03-29T01:30:00Z 2026-03-29T02:30:00Z")
        );
    }

    #[test]
    fn the_window_that_is_open_is_the_next_one_and_is_among_the_spans() {
        let silence = nightly("UTC");
        let within: Timestamp = "2026-03-28T03:00:00Z".parse().unwrap();
        let began: Timestamp = "2026-03-28T02:30:00Z".parse().unwrap();
        let open = (began, began + SignedDuration::from_hours(1));
        assert_eq!(silence.next(within), Some(open));
        let spans: Vec<_> = silence.spans(within, within).collect();
        assert_eq!(spans, [open]);
    }

    #[test]
    fn a_one_off_silence_holds_from_its_beginning_to_its_end() {
        let scheduler = &scheduler();
        let now: Timestamp = "2026-03-29T00:00:00Z".parse().unwrap();
        let mut state = State::default();
        let only = Some(Condition::SchedulerSilent);
        let silence = OneOff::new(now, now + DEFAULT, "move", "ops", only).unwrap();
        silence.add_to(&mut state).unwrap();
        let second = SignedDuration::from_secs(1);
        let holds = |condition: Condition, at: Timestamp| {
            let quiet = quiet(scheduler, &state, at).remove(&condition)?;
            Some((quiet.until, quiet.reason))
        };
        let held = Some((now + DEFAULT, "move (ops)".to_owned()));
        assert_eq!(holds(Condition::SchedulerSilent, now), held);
        assert_eq!(
            holds(Condition::SchedulerSilent, now + DEFAULT - second),
            held
        );
        assert_eq!(holds(Condition::SchedulerSilent, now + DEFAULT), None);
        assert_eq!(holds(Condition::SchedulerSilent, now - second), None);
        assert_eq!(holds(Condition::ErrorSpike, now), None);
    }

    #[test]
    fn of_two_silences_the_longer_one_is_told() {
        let scheduler = &scheduler();
        let now: Timestamp = "2026-03-29T00:00:00Z".parse().unwrap();
        for hours in [[1, 2], [2, 1]] {
            let mut state = State::default();
            for hours in hours {
                let until = now + SignedDuration::from_hours(hours);
                let silence = OneOff::new(now, until, &hours.to_string(), "ops", None).unwrap();
                silence.add_to(&mut state).unwrap();
            }
            let quiet = quiet(scheduler, &state, now);
            assert_eq!(quiet[&Condition::ErrorSpike].reason, "2 (ops)");
        }
    }

    #[test]
    fn a_state_holds_only_so_many_silences() {
        let now: Timestamp = "2026-03-29T00:00:00Z".parse().unwrap();
        let until = now + DEFAULT;
        let silence = OneOff::new(now, until, " moving\n\u{1b}[1mhouse ", "ops", None).unwrap();
        assert_eq!(silence.reason, "moving house");
        assert_eq!(silence.id, "mnazsw00");
        let mut state = State::default();
        for _ in 0..MOST {
            assert_eq!(silence.add_to(&mut state), Ok(()));
        }
        assert_eq!(silence.add_to(&mut state), Err(SilenceError::TooMany));
        // Those that are over make room.
        let later = OneOff::new(until, until + DEFAULT, "x", "ops", None).unwrap();
        assert_eq!(later.add_to(&mut state), Ok(()));
        assert_eq!(state.silences.len(), 1);
        let wrong = OneOff::new(now, now + LONGEST * 2, "x", "ops", None);
        assert_eq!(wrong, Err(SilenceError::TooLong));
    }
}
