//! Silences: spans of time in which messages and restarts are withheld, never the looking.
//!
//! Recurring ones (maintenance windows) stand in the configuration, one-off ones in the state,
//! always with an end. When a silence ends, what is wrong then is judged afresh.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::config::Scheduler;
use crate::cron::{Cron, Gap};
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

impl Recurring {
    /// The end of the window that holds `now`, if one does.
    fn ends(&self, now: Timestamp) -> Option<Timestamp> {
        let began = self.cron.runs(
            &self.timezone,
            // A window that would begin in a skipped hour begins after it.
            Gap::Shift,
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
            .runs(&self.timezone, Gap::Shift, from - self.duration, until)
            .map(|began| (began, began + self.duration))
    }
}

/// The silence that withholds this condition at `now`; the one that lasts longest.
pub fn quiet(
    scheduler: &Scheduler,
    state: &State,
    condition: Condition,
    now: Timestamp,
) -> Option<Quiet> {
    let recurring = (scheduler.silences.iter())
        .filter(|silence| silence.conditions.is_empty() || silence.conditions.contains(&condition))
        .filter_map(|silence| {
            Some(Quiet {
                until: silence.ends(now)?,
                reason: silence.reason.clone(),
            })
        });
    let one_off = (state.silences.iter())
        .filter(|silence| silence.from <= now && now < silence.until)
        .filter(|silence| silence.condition.is_none_or(|only| only == condition))
        .map(|silence| Quiet {
            until: silence.until,
            reason: format!("{} ({})", silence.reason, silence.author),
        });
    recurring.chain(one_off).max_by_key(|quiet| quiet.until)
}
