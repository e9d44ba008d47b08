//! Whether an alarm is true.

use jiff::SignedDuration;
use scheduler_watchdog::condition::{Condition, Fact};
use scheduler_watchdog::plan::Notification;

use super::{DAY, Inspector, SLACK, STEADY};
use crate::scenario::What;
use crate::truth::{Site, Wait, floor};
use crate::world::Seen;

impl Inspector<'_> {
    /// Whether what an incident is opened with is really so; else why not.
    pub(super) fn is_true(
        &self,
        site: usize,
        truth: &Site,
        n: &Notification,
        seen: &Seen,
    ) -> Result<(), &'static str> {
        let now = n.at;
        let setup = &self.scenario.sites[site];
        let stale = self.stale_after(site);
        let job = n
            .subject
            .as_ref()
            .and_then(|name| (setup.jobs.iter()).position(|job| job.name == name));
        let dues = |such: &dyn Fn(usize, &crate::truth::Due) -> bool| {
            (truth.dues.iter().enumerate())
                .filter(|(index, _)| job.is_none_or(|only| only == *index))
                .any(|(index, dues)| dues.iter().rev().any(|due| such(index, due)))
        };
        let ok = |is_true: bool, why| if is_true { Ok(()) } else { Err(why) };
        match n.condition {
            Condition::ServiceDown if setup.task_every.is_some() => {
                let silent = truth.silent_for(now) > stale;
                ok(
                    silent && !truth.came_up(now - stale, now),
                    "runs come about",
                )
            }
            Condition::ServiceDown => {
                let down = !truth.has_task(now) || !truth.has_task(seen.now);
                ok(down, "a task runs")
            }
            Condition::SchedulerFailing => {
                // Runs that abort for almost as long as a silence may last.
                let silent = truth.silent_for(now) > stale - SignedDuration::from_mins(2);
                // Or did so until a moment ago: the first run after them may still abort.
                let just_now = self.happened(site, now - stale, now, |what| what == What::Failing);
                ok(silent || just_now, "the loop lives")
            }
            Condition::SchedulerSilent | Condition::LogsSilent | Condition::NeverSeen => {
                let silent = truth.silent_for(now) > stale;
                // With ECS in sight, what does not run is told as what it is. A task can begin
                // between the look at the clock and the one at ECS.
                let comes_up = |lately: SignedDuration| {
                    let from = seen.now - lately;
                    truth.came_up(from, seen.now) || truth.came_up(from, now + SLACK)
                };
                let is_down = setup.task_every.is_some()
                    && seen.facts.as_ref().is_some_and(|facts| !facts.truncated)
                    && allowed_by(n).is_some_and(|lately| !comes_up(lately));
                if silent && is_down {
                    return Err("no run comes about");
                }
                // A loop that prints its jobs' lines only is silent without them.
                let nothing_to_say = !setup.idle_lines
                    && self.happened(site, n.since, now, |what| matches!(what, What::JobStuck(_)));
                if silent && nothing_to_say {
                    return Ok(());
                }
                // A run explains a silence that began with it, and not what was before.
                let explains = |wait: &Wait| {
                    (truth.last_beat(now))
                        .is_none_or(|last| wait.since.duration_since(last) <= stale)
                };
                match truth.waits_for(now).filter(explains) {
                    Some(Wait { job, .. }) if silent => {
                        let known = setup.jobs[job].max_runtime.is_some() || truth.ended[job] > 1;
                        Err(if known {
                            "a run of a known length"
                        } else {
                            LONG_RUN
                        })
                    }
                    _ => ok(silent, "the loop lives"),
                }
            }
            Condition::ReplicaSilent if setup.task_every.is_some() => Err("there are no replicas"),
            Condition::ReplicaSilent => ok(truth.has_silent_task(now, stale), "all tasks beat"),
            Condition::JobOverdue => ok(
                dues(&|index, due| {
                    let grace = self.config.schedulers[site].jobs[index].grace();
                    let missing = due.line_at.is_none_or(|at| at > due.at + grace);
                    due.at >= floor(n.since) - SLACK && due.at <= now && missing
                }),
                "no run is missing",
            ),
            Condition::JobFailing => ok(
                dues(&|_, due| {
                    let at = due.line_at.unwrap_or(due.at);
                    due.failed && at <= now && due.at >= n.since - DAY * 40
                }),
                "no run failed",
            ),
            Condition::JobOverrun => {
                let since =
                    |what: fn(What) -> bool| self.happened(site, n.since - SLACK, now, what);
                // A run that hangs, and one that the loop's death ended, have not come to an end.
                let lasts = since(|what| {
                    matches!(
                        what,
                        What::JobHangs(_) | What::LoopDies { .. } | What::ReplicaDies | What::Down
                    )
                });
                let cut = since(|what| {
                    matches!(
                        what,
                        What::ScaledToZero | What::Deployment | What::StuckDeployment
                    )
                });
                match (lasts, cut) {
                    (true, _) => Ok(()),
                    (false, true) => Err(CUT_SHORT),
                    (false, false) => Err("no run takes too long"),
                }
            }
            Condition::DuplicateRuns => {
                let twice = self.happened(site, n.since - DAY, now, |what| what == What::Twice);
                ok(twice, "no run is a second one")
            }
            Condition::ErrorSpike => {
                let from = now - SignedDuration::from_mins(40);
                let errors = truth.errors.iter().filter(|at| **at >= from).count();
                ok(errors > 5, "few errors")
            }
            Condition::DeploymentStuck => {
                let since = truth.deploying_since();
                let stuck = since.is_some_and(|at| now.duration_since(at) >= STEADY);
                ok(stuck, "no deployment is stuck")
            }
            Condition::WatchdogBlind => {
                let blind = self.happened(site, n.since - SLACK, now, |what| {
                    matches!(what, What::NoLog(..) | What::NoEcs(..))
                });
                ok(blind, "it can see")
            }
            Condition::Misconfigured => Err("the configuration is good"),
            Condition::TestAlert => Err("nobody asked for a test"),
        }
    }
}

/// The silence that was allowed, by a message's own proof.
pub(super) fn allowed_by(n: &Notification) -> Option<SignedDuration> {
    (n.proof.iter()).find_map(|fact| match fact {
        Fact::Allowed { seconds } => Some(SignedDuration::from_secs(*seconds)),
        _ => None,
    })
}

/// A run whose task was stopped on purpose leaves a start without an end.
pub(super) const CUT_SHORT: &str = "a run that was cut short";

/// A first long run cannot be told from a silence.
pub(super) const LONG_RUN: &str = "a run that is longer than any before";
