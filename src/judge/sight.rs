//! What could not be seen: calls without an answer, and a log that was cut before it shows enough.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::never_seen;
use super::silence::Silence;
use crate::condition::{Condition, Fact, Finding};
use crate::config::Scheduler;
use crate::snapshot::{CallError, LogWindow, Observed, Snapshot};
use crate::state::{Blind, State};

/// Passes in a row without sight that make the watchdog blind.
const BLIND_PASSES: u32 = 3;

/// The senses that can be blind.
pub const LOGS: &str = "logs";
/// The sense for ECS.
pub const ECS: &str = "ecs";

/// Counts the passes in a row that each sense has failed in. One that is not asked any more cannot fail.
pub fn count_blindness(
    state: &mut State,
    scheduler: &Scheduler,
    snapshot: &Snapshot,
    now: Timestamp,
    counts: bool,
) {
    let log_blind =
        snapshot.log.unknown().is_some() || hidden(scheduler, snapshot, state, now).is_some();
    see(&mut state.blind, LOGS, log_blind, now, counts);
    if let Some(service) = &snapshot.service {
        let ecs_blind = service.unknown().is_some();
        see(&mut state.blind, ECS, ecs_blind, now, counts);
    } else if scheduler.ecs.is_none() {
        state.blind.remove(ECS);
    }
}

fn see(
    senses: &mut BTreeMap<String, Blind>,
    sense: &str,
    blind: bool,
    now: Timestamp,
    counts: bool,
) {
    if !blind {
        senses.remove(sense);
        return;
    }
    let known = senses.entry(sense.to_owned()).or_insert(Blind {
        passes: 0,
        since: now,
    });
    if counts || known.passes == 0 {
        known.passes += 1;
    }
}

/// From when on the lines of a window are all there, if it was cut: the newest are kept.
pub(super) fn seen_from(window: &LogWindow) -> Option<Timestamp> {
    let oldest = window.lines.iter().map(|line| line.at).min();
    window.truncated.then(|| oldest.unwrap_or(window.until))
}

/// Why nobody can tell whether the loop is silent, where the log was cut: in what is left no heartbeat is
/// missing yet, and what is older may hold some.
pub(super) fn hidden(
    scheduler: &Scheduler,
    snapshot: &Snapshot,
    state: &State,
    now: Timestamp,
) -> Option<String> {
    let seen_from = seen_from(snapshot.log.known()?)?;
    let silence = Silence::of(scheduler, state, now);
    let unheard = silence.is_over(now) || never_seen(state, now);
    (unheard && now.duration_since(seen_from) <= silence.allowed).then(|| {
        format!(
            "more lines match than one query returns: it shows those since {seen_from:.0} only, and \
             the scheduler's own may be older; see what else is printed so often"
        )
    })
}

/// The senses that have failed too often in a row. `hidden`: see [`hidden`].
pub(super) fn blindness(snapshot: &Snapshot, hidden: Option<&str>, state: &State) -> Vec<Finding> {
    let failed = |error: &CallError| (error.to_string(), Some(error.kind));
    let error = |sense: &str| match sense {
        LOGS => (snapshot.log.unknown().map(failed))
            .or_else(|| hidden.map(|why| (why.to_owned(), None))),
        _ => (snapshot.service.as_ref())
            .and_then(Observed::unknown)
            .map(failed),
    };
    (state.blind.iter())
        .filter(|(_, blind)| blind.passes >= BLIND_PASSES)
        .filter_map(|(sense, blind)| {
            let (why, obstacle) = error(sense)?;
            Some(Finding {
                condition: Condition::WatchdogBlind,
                subject: Some(sense.clone()),
                since: blind.since,
                corroborated: true,
                causes: Vec::new(),
                refuted: false,
                proof: vec![Fact::Blind {
                    why,
                    obstacle,
                    passes: blind.passes,
                }],
                pace: None,
            })
        })
        .collect()
}
