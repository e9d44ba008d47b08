//! How long a run took, where only the pause after the line of its start tells. A hole in the log looks
//! the same.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{JobHistory, MOST_STARTS, runtime, whole_second};
use crate::due;

/// A doubted pause is forgotten unless it comes again within this time: a monthly job's does.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(40 * 24);

/// A pause in the log after the line with which a run began, longer than from the run before to
/// this one. Who is due every five minutes seldom takes an hour: the log may have a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// When the run began, to the second.
    #[serde(with = "due::second")]
    pub start: Timestamp,
    /// How long the loop would have waited for it.
    pub seconds: i64,
}

impl JobHistory {
    /// After the line of its start, the next one came so much later. What would be odd for a run of
    /// this job is believed when it happens again.
    pub(in crate::history) fn paused(&mut self, start: Timestamp, took: SignedDuration) {
        let start = whole_second(start);
        // It was read before, and what came before it is forgotten.
        if self.starts.len() == MOST_STARTS && self.starts.first() >= Some(&start) {
            return;
        }
        // Lines that came late have filled a part of it, perhaps.
        let known = self
            .doubted
            .take()
            .filter(|known| known.start != start && start.duration_since(known.start) < REMEMBERED);
        let before = self.starts.iter().rfind(|known| **known < start);
        if before.is_none_or(|before| took <= start.duration_since(*before)) {
            self.took(took);
            self.doubted = known;
            return;
        }
        let pause = Pause {
            start,
            seconds: took.as_secs(),
        };
        if let Some(known) = known.filter(|known| known.is_apart(&pause)) {
            self.took(SignedDuration::from_secs(known.seconds.min(pause.seconds)));
        }
        self.doubted = (known.into_iter().chain([pause]))
            .max_by_key(|pause| pause.seconds)
            .filter(|longer| Some(longer.seconds) > self.longest_seconds);
    }

    /// How long a run may take although only one pause in the log, of late, speaks for it.
    pub fn may_take(&self, now: Timestamp) -> Option<SignedDuration> {
        (self.doubted)
            .filter(|pause| now.duration_since(pause.start) < REMEMBERED)
            .map(|pause| runtime(pause.seconds))
    }
}

impl Pause {
    /// Whether the two cannot be one hole, seen in the streams of two replicas.
    fn is_apart(&self, other: &Self) -> bool {
        let between = self.start.duration_since(other.start).abs();
        between.as_secs() > self.seconds.max(other.seconds)
    }
}

#[cfg(test)]
mod tests;
