//! How far apart heartbeats usually are: the gaps of the last day.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::DAY;

/// Gaps that must be known before they tell what is usual.
const ENOUGH: u64 = 10;

const HOUR_SECONDS: i64 = 3600;

/// As they are written: by hour, then by length, both as in [`Count`].
type ByHour = BTreeMap<i64, BTreeMap<u32, u32>>;

/// Gaps between a loop's heartbeats, by the hour in which they ended and by their length; at most
/// 15 different ones fit into an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ByHour", into = "ByHour")]
pub struct Gaps(
    /// By hour, then by length. In one row, because every pass copies it.
    Vec<Count>,
);

/// So many gaps of one length ended in one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    /// Seconds since the epoch / 3600.
    hour: i64,
    /// The length, rounded up.
    half_minutes: u32,
    gaps: u32,
}

impl Gaps {
    /// Counts a gap that ended then.
    pub(super) fn count(&mut self, gap: SignedDuration, at: Timestamp) {
        let half_minutes = gap.as_secs().saturating_add(29) / 30;
        let half_minutes = u32::try_from(half_minutes).unwrap_or(u32::MAX);
        let hour = hour(at);
        let key = |count: &Count| (count.hour, count.half_minutes);
        match self.0.binary_search_by_key(&(hour, half_minutes), key) {
            Ok(place) => self.0[place].gaps += 1,
            Err(place) => self.0.insert(
                place,
                Count {
                    hour,
                    half_minutes,
                    gaps: 1,
                },
            ),
        }
    }

    /// Forgets what is older than a day.
    pub(super) fn age(&mut self, now: Timestamp) {
        let oldest = hour(now - DAY);
        self.0.retain(|count| count.hour > oldest);
    }

    /// The 95th percentile; none until ten are known.
    pub(super) fn usual(&self) -> Option<SignedDuration> {
        let known = self.by_length();
        let total: u64 = known.iter().map(|(_, gaps)| gaps).sum();
        if total < ENOUGH {
            return None;
        }
        let rank = (total * 95).div_ceil(100);
        let mut seen = 0;
        (known.into_iter())
            .find(|(_, gaps)| {
                seen += gaps;
                seen >= rank
            })
            .map(|(half_minutes, _)| SignedDuration::from_secs(i64::from(half_minutes) * 30))
    }

    /// The shortest, in half minutes.
    pub(super) fn shortest(&self) -> Option<u32> {
        self.0.iter().map(|count| count.half_minutes).min()
    }

    /// The length in half minutes, rounded up, and how many there were of it; the shortest first.
    pub fn by_length(&self) -> Vec<(u32, u64)> {
        // There are a few different ones only.
        let mut known: Vec<(u32, u64)> = Vec::new();
        for count in &self.0 {
            let gaps = u64::from(count.gaps);
            match known.binary_search_by_key(&count.half_minutes, |(length, _)| *length) {
                Ok(place) => known[place].1 += gaps,
                Err(place) => known.insert(place, (count.half_minutes, gaps)),
            }
        }
        known
    }
}

fn hour(at: Timestamp) -> i64 {
    at.as_second().div_euclid(HOUR_SECONDS)
}

impl From<ByHour> for Gaps {
    fn from(hours: ByHour) -> Self {
        let counts = hours.into_iter().flat_map(|(hour, lengths)| {
            lengths.into_iter().map(move |(half_minutes, gaps)| Count {
                hour,
                half_minutes,
                gaps,
            })
        });
        Self(counts.collect())
    }
}

impl From<Gaps> for ByHour {
    fn from(gaps: Gaps) -> Self {
        let mut hours = Self::new();
        for count in gaps.0 {
            let lengths = hours.entry(count.hour).or_default();
            lengths.insert(count.half_minutes, count.gaps);
        }
        hours
    }
}
