//! What the watchdog has to say of itself: about its configuration, and test alerts.

use jiff::Timestamp;
use tracing::{info, warn};

use super::settle::{Done, deliver, settle};
use super::{Report, count};
use crate::config::{Alerts, Config, Mistakes};
use crate::decide::{self, TestAlert};
use crate::state::{Incident, State};
use crate::world::{StoreError, World};

/// The state of the watchdog's own configuration; no scheduler can have this name.
const CONFIGURATION: &str = "watchdog configuration";

/// Tells people that the configuration cannot be used, or, with no mistakes, that it can be
/// used again. A function with a wrong configuration does this instead of a pass; one with a good
/// configuration does it in its first pass, and again until it has worked.
pub async fn configuration<W: World>(world: &W, mistakes: Option<&Mistakes>) -> Report {
    let now = world.now();
    let mut report = Report::at(now);
    report.problems = (mistakes.iter().flat_map(|mistakes| &mistakes.0))
        .map(ToString::to_string)
        .collect();
    let decide = |state: &State| decide::configuration(CONFIGURATION, mistakes, state, now);
    tell(world, &Alerts::default(), report, decide).await
}

/// Sends a message that only shows that messages arrive, and says who is subscribed.
///
/// It takes the same way as all others. Its state is that of the watchdog's own configuration.
pub async fn test_alert<W: World>(world: &W, config: &Config, asked: &TestAlert) -> Report {
    let now = world.now();
    let mut report = Report::at(now);
    report.note_readers(world.readers().await);
    let readers = report.readers.clone();
    let decide = |state: &State| {
        decide::test_alert(config, asked, readers.as_ref(), state, now).unwrap_or_else(|| {
            info!("a test alert was sent a moment ago; this call repeats it");
            state.clone()
        })
    };
    tell(world, &config.alerts, report, decide).await
}

/// Tells what the watchdog has to say of itself: what stands in the outbox of its own state
/// after a decision.
async fn tell<W: World>(
    world: &W,
    alerts: &Alerts,
    mut report: Report,
    decide: impl FnOnce(&State) -> State,
) -> Report {
    let (state, version) = match world.load(CONFIGURATION).await {
        Ok(loaded) => loaded,
        Err(error) => {
            trouble(&mut report, format!("state not loaded: {error}"));
            return report;
        }
    };
    let mut next = decide(&state);
    let is_over = !next.incidents.iter().any(Incident::is_open);
    if next.outbox.is_empty() {
        report.all_clear = is_over;
        return report;
    }
    let version = match world.save(CONFIGURATION, &next, version).await {
        Ok(version) => version,
        Err(StoreError::Conflict) => return report,
        Err(error) => {
            trouble(&mut report, format!("state not written: {error}"));
            return report;
        }
    };
    let mut done = Done::default();
    for notification in &next.outbox {
        match deliver(world, alerts, None, notification).await {
            Ok(()) => done.delivered.push(notification.id.clone()),
            Err(error) => trouble(&mut report, format!("message not delivered: {error}")),
        }
    }
    report.delivered = count(done.delivered.len());
    if let Err(error) = settle(world, CONFIGURATION, &mut next, version, &done).await {
        trouble(&mut report, format!("state not settled: {error}"));
    }
    report.all_clear = is_over && report.problems.is_empty();
    report
}

/// What is left of it where that broke off.
pub(super) fn broken_off(now: Timestamp) -> Report {
    let mut report = Report::at(now);
    let problem = "it broke off, which is a defect of the watchdog: see the panic above";
    trouble(&mut report, problem.to_owned());
    report
}

/// Notes what kept the watchdog from telling something of itself. The report of such a pass may reach
/// nobody, so that it stands in the log as well.
fn trouble(report: &mut Report, problem: String) {
    warn!(problem, "the watchdog could not tell of itself");
    report.problems.push(problem);
}
