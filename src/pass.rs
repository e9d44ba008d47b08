//! One pass; the only file that knows the order.

use jiff::Timestamp;

use crate::config::Config;
use crate::plan::Plan;
use crate::world::World;

/// What a pass is asked to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Only these schedulers; all if empty.
    pub schedulers: Vec<String>,
    /// Decide and report; write, say and restart nothing.
    pub dry_run: bool,
    /// Lift the lock-out of the named schedulers.
    pub clear_lockout: bool,
}

/// What a pass saw, decided and did.
#[derive(Clone, Debug)]
pub struct Report {
    /// When the pass began.
    pub at: Timestamp,
    /// One entry for each scheduler that was asked for, in the configuration's order.
    pub schedulers: Vec<SchedulerReport>,
}

/// What a pass saw, decided and did for one scheduler.
#[derive(Clone, Debug)]
pub struct SchedulerReport {
    /// Its name.
    pub name: String,
    /// The decision; none if it could not be made, see `problems`.
    pub plan: Option<Plan>,
    /// The time ran out before it was looked at.
    pub skipped: bool,
    /// Bytes that the log query scanned.
    pub scanned_bytes: u64,
    /// The log was cut at the query's limit.
    pub truncated: bool,
    /// Messages delivered.
    pub delivered: u32,
    /// Messages that still wait in the outbox.
    pub undelivered: u32,
    /// Incidents open after the pass.
    pub open_incidents: u32,
    /// A restart was made.
    pub restarted: bool,
    /// What went wrong, each as a sentence that names the thing and the remedy.
    pub problems: Vec<String>,
}

/// Runs one pass.
pub async fn run<W: World>(world: &W, config: &Config, request: &Request) -> Report {
    let _ = (config, request);
    Report {
        at: world.now(),
        schedulers: Vec::new(),
    }
}
