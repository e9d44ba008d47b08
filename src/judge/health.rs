//! What the health endpoint's answer is worth: a second witness, never the only one.

use jiff::{SignedDuration, Timestamp};

use super::Silence;
use crate::condition::Fact;
use crate::health::{Health, Sign};
use crate::snapshot::{Observed, Snapshot};

/// The endpoint's clock may be ahead by this much. A time farther in the future is of a clock,
/// or of a time zone, that cannot be trusted.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(1);

/// The callback that the endpoint tells of and the last line of the same run lie no farther
/// apart than this, clocks included.
const SAME_RUN: SignedDuration = SignedDuration::from_mins(1);

/// Weighs an answer against the silence of the log.
pub(super) fn sign(health: &Health, silence: &Silence, now: Timestamp) -> Sign {
    let last_run = (health.last_run).filter(|at| at.duration_since(now) <= CLOCK_SLACK);
    let age = last_run.map(|at| now.duration_since(at));
    let is_fresh = age.is_some_and(|age| age <= silence.stale_after);
    let is_stale = age.is_some_and(|age| age > silence.allowed);
    // What ran together with the last line that arrived contradicts no silence since then.
    let after_the_log = last_run
        .is_some_and(|at| (silence.last).is_none_or(|beat| at.duration_since(beat) > SAME_RUN));
    match (is_fresh && after_the_log, health.healthy) {
        (true, true) => Sign::Alive,
        // It contradicts itself.
        (true, false) => Sign::Unclear,
        (false, healthy) if is_stale || !healthy => Sign::Dead,
        (false, _) => Sign::Unclear,
    }
}

/// What the endpoint says in this look, if it was asked and answered.
pub(super) fn sign_of(snapshot: &Snapshot, silence: &Silence, now: Timestamp) -> Option<Sign> {
    let health = snapshot.health.as_ref().and_then(Observed::known)?;
    Some(sign(health, silence, now))
}

/// The same for people, or why nothing is known.
pub(super) fn fact(snapshot: &Snapshot, silence: &Silence, now: Timestamp) -> Option<Fact> {
    Some(match snapshot.health.as_ref()? {
        Observed::Known(health) => Fact::Health {
            healthy: health.healthy,
            last_run: health.last_run,
            sign: sign(health, silence, now),
        },
        Observed::Unknown(error) => Fact::HealthUnknown {
            why: error.to_string(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_weighed_against_the_silence() {
        let now: Timestamp = "2026-11-24T04:00:00Z".parse().unwrap();
        let minutes = SignedDuration::from_mins;
        let ago = |n: Option<i64>| n.map(|n| now - minutes(n));
        // Status, last run and last heartbeat in minutes ago.
        for (healthy, last_run, last, expected) in [
            (true, Some(1), Some(8), Sign::Alive),
            (true, Some(5), Some(8), Sign::Alive),
            (true, Some(0), None, Sign::Alive),
            (false, Some(1), Some(8), Sign::Unclear),
            // Of the same run as the last heartbeat.
            (true, Some(5), Some(6), Sign::Unclear),
            (false, Some(5), Some(6), Sign::Dead),
            // Later than the log, but not of late: lines were lost, and then the loop died.
            (true, Some(7), Some(30), Sign::Unclear),
            (true, Some(10), Some(30), Sign::Unclear),
            (true, Some(11), Some(30), Sign::Dead),
            (true, Some(8), Some(8), Sign::Unclear),
            (false, Some(8), Some(8), Sign::Dead),
            (false, Some(11), Some(8), Sign::Dead),
            (true, None, Some(8), Sign::Unclear),
            (false, None, Some(8), Sign::Dead),
            (false, None, None, Sign::Dead),
            // Another zone than was thought: no time at all.
            (true, Some(-540), Some(8), Sign::Unclear),
            (false, Some(-540), Some(8), Sign::Dead),
        ] {
            let health = Health {
                healthy,
                last_run: ago(last_run),
            };
            let silence = Silence {
                last: ago(last),
                stale_after: minutes(5),
                allowed: minutes(10),
                running: Vec::new(),
            };
            let found = sign(&health, &silence, now);
            assert_eq!(
                found, expected,
                "{health:?}, last heartbeat {last:?} min ago"
            );
        }
    }
}
