//! What the loop waited for while it gave no heartbeat.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Heartbeats, ONE_BEAT};
use crate::condition::Fact;
use crate::due;
use crate::state::State;

/// Runs that are remembered.
const MOST: usize = 3;

/// A run in the foreground, as its own line told when it ended. Times are of whole seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// The job's name.
    pub job: String,
    /// When it began.
    #[serde(with = "due::second")]
    pub start: Timestamp,
    /// When it ended.
    #[serde(with = "due::second")]
    pub end: Timestamp,
}

impl Heartbeats {
    /// Notes a run that the loop waited for.
    pub(super) fn waited_for(&mut self, run: Waited) {
        if !self.waited.contains(&run) {
            self.waited.push(run);
            self.waited.sort_by_key(|run| run.end);
            let surplus = self.waited.len().saturating_sub(MOST);
            self.waited.drain(..surplus);
        }
    }
}

/// The runs that the loop waited for in an outage that is over. That they took long is told with
/// this, so it is no news of its own any more.
pub fn tell_waited_for(state: &mut State, since: Timestamp) -> Vec<Fact> {
    let within = |run: &&Waited| run.start >= since - ONE_BEAT;
    let mut told = Vec::new();
    for run in state.heartbeats.waited.iter().filter(within) {
        if let Some(history) = state.jobs.get_mut(&run.job) {
            history.told_run = Some(run.start);
        }
        told.push(Fact::WaitedFor {
            job: run.job.clone(),
            from: run.start,
            until: run.end,
        });
    }
    told
}
