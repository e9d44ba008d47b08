//! What a restart needs.

use jiff::Timestamp;
use scheduler_watchdog::health::Health;
use scheduler_watchdog::plan::{CureKind, Remediation};

use super::{ATTEMPTS_PER_DAY, ATTEMPTS_PER_INCIDENT, BLURRED_FOR, DAY, Inspector, SLACK};
use crate::scenario::What;
use crate::truth::Site;
use crate::world::Seen;

impl Inspector<'_> {
    /// A restart is made, or its call fails before.
    pub fn restarted(
        &mut self,
        site: usize,
        truth: &Site,
        seen: &Seen,
        remediation: &Remediation,
        done: bool,
        now: Timestamp,
    ) {
        let cure = remediation.cure;
        let incident = remediation.incident.clone();
        self.tell(now, || {
            let done = if done { "made" } else { "failed" };
            format!("s{site}: RESTART {} for {incident}: {done}", cure.id())
        });
        let claim = (remediation.incident.clone(), seen.now);
        match self.watched[site].claims.get_mut(&claim) {
            Some(calls) => {
                *calls += 1;
                if *calls > 1 {
                    self.violated(
                        "2 claim",
                        now,
                        format!("{calls:?} twice for one claim", calls = claim),
                    );
                }
            }
            None => self.violated("2 claim", now, format!("{claim:?} was not claimed")),
        }
        // Tasks without a service are never off, and never deployed.
        let calm = seen.facts.as_ref().is_some_and(|facts| {
            let settled = facts.deployments.len() == 1 && facts.deploying().is_none();
            cure == CureKind::RunTask || (facts.desired > 0 && settled)
        });
        if !seen.log_known || !calm {
            let text = format!("{incident}: unknown, off or deploying");
            self.violated("2 unknown", now, text);
        }
        if self.is_silenced(site, seen.now) {
            self.violated(
                "2 silence",
                now,
                format!("{incident}: restarted in a silence"),
            );
        }
        if seen.fleet.watched >= 3 && seen.fleet.firing * 2 > seen.fleet.watched {
            self.violated("2 storm", now, format!("{:?}", seen.fleet));
        }
        let lives = |health: &Health| {
            let age = health.last_run.map(|at| seen.now.duration_since(at));
            health.healthy && age.is_some_and(|age| age <= SLACK)
        };
        if cure != CureKind::StopTask && seen.health.as_ref().is_some_and(lives) {
            let text = format!("{incident}: its endpoint has just told that it runs");
            self.violated("2 health", now, text);
        }
        if !done {
            return;
        }
        // Of a log that is cut it is known which lines are missing.
        let blurred = self.happened(site, now - BLURRED_FOR, now, |what| {
            what.blurs_the_log() && !matches!(what, What::Cut(_))
        });
        // What ECS shows is never blurred. A task can begin or end between the look and the call.
        let is_so = |holds: &dyn Fn(Timestamp) -> bool| holds(seen.now) && holds(now);
        let stale = self.stale_after(site);
        let (needless, busy) = match cure {
            CureKind::StopTask => (None, None),
            CureKind::ForceNewDeployment => (
                (truth.silent_for(now) < stale).then_some("the loop lives"),
                (!blurred && truth.waits_for(now).is_some()).then_some("a run was killed"),
            ),
            // The last task may have spoken just now: if nothing was started after it, one more helps.
            CureKind::RunTask => (
                is_so(&|at| truth.is_started(at - stale, at))
                    .then_some("the schedule starts tasks"),
                is_so(&|at| truth.is_busy(at)).then_some("a task has not ended"),
            ),
        };
        if let Some(why) = needless {
            let seed = self.scenario.seed;
            self.figures.needless_restarts.push(seed);
            if !blurred || cure == CureKind::RunTask {
                self.violated("2 needless", now, format!("{incident}: {why}"));
            }
        }
        if let Some(why) = busy {
            self.violated("2 busy", now, format!("{incident}: {why}"));
        }
        let restarts = &mut self.watched[site].restarts;
        restarts.push((now, incident.clone()));
        let today = restarts
            .iter()
            .filter(|(at, _)| now.duration_since(*at) < DAY)
            .count();
        let of_it = restarts.iter().filter(|(_, of)| *of == incident).count();
        if today > ATTEMPTS_PER_DAY || of_it > ATTEMPTS_PER_INCIDENT {
            let text = format!("{incident}: {of_it} for it, {today} in a day");
            self.violated("2 caps", now, text);
        }
        if let Some(told) = self.watched[site].told.get_mut(&incident) {
            told.restarts += 1;
        }
    }
}
