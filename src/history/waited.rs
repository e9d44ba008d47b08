//! What the loop waited for while it gave no heartbeat.

use jiff::Timestamp;

use super::{ONE_BEAT, PAUSE};
use crate::condition::Fact;
use crate::state::State;

/// The runs that the loop waited for in an outage that is over, as far as their lines tell: each
/// began within it, took longer than a pause that is worth remembering, and printed its line when
/// it ended. Where lines tell of starts, how long a run took is a guess; those are left out.
///
/// That they took long is told with this, so it is no news of its own any more.
pub fn tell_waited_for(state: &mut State, since: Timestamp) -> Vec<Fact> {
    let Some(until) = (state.heartbeats.resumed_at).filter(|until| *until > since) else {
        return Vec::new();
    };
    let mut waited = Vec::new();
    for (name, history) in &mut state.jobs {
        let end = history.ended_at.max(history.failed_at);
        let Some(end) = end.filter(|end| *end <= until && !history.starts_told) else {
            continue;
        };
        let start = history.starts.iter().rfind(|start| **start <= end);
        let within =
            |start: &&Timestamp| **start >= since - ONE_BEAT && end.duration_since(**start) > PAUSE;
        if let Some(start) = start.copied().filter(|start| within(&start)) {
            history.told_run = Some(start);
            waited.push(Fact::WaitedFor {
                job: name.clone(),
                from: start,
                until: end,
            });
        }
    }
    waited
}
