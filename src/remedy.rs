//! Restarts: the gates before one, and the proof after it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Map;

use crate::condition::{Condition, Fact, RestartHelps, Slot, missed_jobs};
use crate::config::{Cure, EcsTarget, ReplicaCure, Scheduler};
use crate::hash::short_hash;
use crate::health::Sign;
use crate::judge::Look;
use crate::plan::{CureKind, Gate, Handling, Occasion, Remediation, Verdict};
use crate::silence::Quiet;
use crate::snapshot::{CallError, Observed, ServiceFacts, Snapshot};
use crate::state::{Attempt, Incident, Outcome, Phase, State};

/// Calls for one restart that may fail before a person must look.
const MOST_FAILED_CALLS: u32 = 3;

/// A claim without a known outcome is looked into after this time: as long as a pass may take by the
/// template. So the one that made it has ended, one way or another.
const CLAIM_SETTLES: SignedDuration = SignedDuration::from_secs(290);

/// Clocks here and in ECS may differ by this much.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(5);

/// Restarts that are remembered.
const MOST_ATTEMPTS: usize = 16;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A lock-out ends after this time of health.
const HEALTHY_FOR: SignedDuration = SignedDuration::from_hours(6);

/// What became of an earlier restart.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcomes {
    /// The incident that it was made for.
    pub incident: String,
    /// What is to be said of it.
    pub occasion: Occasion,
}

/// Looks after the restarts that were made: proves them, gives them up, locks out. Whether anybody is to
/// be told of it depends on whether the incident is open then.
pub fn follow_up(
    state: &mut State,
    scheduler: &Scheduler,
    service: Option<&ServiceFacts>,
    quiet: &BTreeMap<Condition, Quiet>,
    now: Timestamp,
) -> Vec<Outcomes> {
    let mut outcomes = Vec::new();
    let rules = &scheduler.remediation;
    for index in 0..state.restarts.attempts.len() {
        let attempt = &state.restarts.attempts[index];
        let incident = attempt.incident.clone();
        let waited = now.duration_since(attempt.claimed_at);
        let mut next = attempt.outcome.clone();
        let mut failed_calls = attempt.failed_calls;
        if let (Outcome::Claimed, Some(facts)) = (&next, service)
            && waited >= CLAIM_SETTLES
        {
            next = trace(attempt, facts);
            failed_calls += u32::from(matches!(next, Outcome::CallFailed { .. }));
        }
        if let (Outcome::Made { started }, Some(facts)) = (&next, service)
            && let Some(at) = proof(attempt, started.as_deref(), state, facts)
        {
            next = Outcome::Proven { at };
        }
        if matches!(next, Outcome::Claimed | Outcome::Made { .. }) && waited >= rules.prove_within {
            next = Outcome::Failed { at: now };
        }
        let attempt = &mut state.restarts.attempts[index];
        (attempt.outcome, attempt.failed_calls) = (next, failed_calls);
        attempt.note_task();
        let told = match &attempt.outcome {
            Outcome::Proven { .. } => Some(Occasion::Remediated),
            Outcome::Failed { .. } => Some(Occasion::RemediationFailed),
            Outcome::CallFailed { .. } if is_given_up(attempt) => Some(Occasion::RemediationFailed),
            _ => None,
        };
        // What became of it in a silence is told when the silence ends.
        let silenced =
            (state.incidents.iter()).any(|i| i.id == incident && quiet.contains_key(&i.condition));
        if attempt.told || told.is_none() || silenced {
            continue;
        }
        attempt.told = true;
        let gave_up = matches!(attempt.outcome, Outcome::Failed { .. });
        let Some(mut occasion) = told else {
            continue;
        };
        if gave_up && is_exhausted(state, scheduler, &incident, now) {
            state.restarts.locked_out_at.get_or_insert(now);
            occasion = Occasion::LockedOut;
        }
        outcomes.push(Outcomes { incident, occasion });
    }
    let surplus = state.restarts.attempts.len().saturating_sub(MOST_ATTEMPTS);
    state.restarts.attempts.drain(..surplus);
    outcomes
}

/// What became of a restart whose call was not answered: the pass died before, or the answer was
/// lost.
fn trace(attempt: &Attempt, facts: &ServiceFacts) -> Outcome {
    let after = attempt.claimed_at - CLOCK_SLACK;
    let started = match attempt.cure {
        CureKind::ForceNewDeployment => (facts.newest_deployment())
            .filter(|deployment| deployment.created_at >= after)
            .map(|deployment| Some(deployment.id.clone())),
        CureKind::StopTask => {
            let runs = (facts.running()).any(|task| Some(&task.id) == attempt.task.as_ref());
            (!runs && !facts.truncated).then_some(None)
        }
        CureKind::RunTask => (facts.tasks.iter())
            .find(|task| task.started_by == attempt.token)
            .map(|task| Some(task.id.clone())),
    };
    match started {
        Some(started) => Outcome::Made { started },
        // It may be about one of the tasks that were not looked at.
        None if facts.truncated && attempt.cure != CureKind::ForceNewDeployment => Outcome::Claimed,
        None => Outcome::CallFailed {
            error: "the call was not answered, and ECS shows nothing of it".to_owned(),
        },
    }
}

/// The heartbeat that proves a restart: a fresh one of a task that the restart started.
fn proof(
    attempt: &Attempt,
    started: Option<&str>,
    state: &State,
    facts: &ServiceFacts,
) -> Option<Timestamp> {
    let after = attempt.claimed_at - CLOCK_SLACK;
    let deployment = started.or_else(|| {
        (facts.newest_deployment())
            .filter(|deployment| deployment.created_at >= after)
            .map(|deployment| deployment.id.as_str())
    });
    (facts.tasks.iter())
        .filter(|task| match attempt.cure {
            CureKind::ForceNewDeployment => deployment.is_some_and(|id| task.started_by == id),
            CureKind::StopTask => task.started_at.is_some_and(|at| at >= after),
            CureKind::RunTask => Some(task.id.as_str()) == started,
        })
        .filter_map(|task| state.heartbeats.first_of_task(&task.id))
        .filter(|beat| *beat > attempt.claimed_at)
        .min()
}

/// Plans the cure of what fires, or says why it is withheld.
pub fn plan(
    state: &State,
    scheduler: &Scheduler,
    snapshot: &Snapshot,
    look: &Look,
    quiet: &BTreeMap<Condition, Quiet>,
    now: Timestamp,
) -> Option<Remediation> {
    let firing =
        |slot: Slot| (state.incidents.iter()).find(|i| i.slot == slot && i.phase == Phase::Firing);
    let rules = &scheduler.remediation;
    let (incident, cure) = match (firing(Slot::Loop), firing(Slot::Replica)) {
        (Some(incident), _) => (
            incident,
            match rules.action {
                Cure::None => return None,
                Cure::ForceNewDeployment => CureKind::ForceNewDeployment,
                Cure::RunTask => CureKind::RunTask,
            },
        ),
        (None, Some(incident)) => match rules.replica_action {
            ReplicaCure::None => return None,
            ReplicaCure::StopTask => (incident, CureKind::StopTask),
        },
        (None, None) => return None,
    };
    let attempt = attempts_of(state, &incident.id).count() as u32 + 1;
    let mut blocked_by = gates(state, scheduler, snapshot, look, incident, cure, now);
    blocked_by.extend((quiet.contains_key(&incident.condition)).then_some(Gate::Silenced));
    Some(Remediation {
        incident: incident.id.clone(),
        cure,
        task: (cure == CureKind::StopTask)
            .then(|| incident.subject.clone())
            .flatten(),
        attempt,
        token: new_token(&scheduler.name, incident, attempt),
        blocked_by,
    })
}

/// Every gate that is closed, in the order in which a person would ask.
fn gates(
    state: &State,
    scheduler: &Scheduler,
    snapshot: &Snapshot,
    look: &Look,
    incident: &Incident,
    cure: CureKind,
    now: Timestamp,
) -> Vec<Gate> {
    let rules = &scheduler.remediation;
    let since = |at: Timestamp| now.duration_since(at);
    let mut closed = Vec::new();
    let mut close = |gate: Gate, is_closed: bool| {
        if is_closed {
            closed.push(gate);
        }
    };

    // It fires for that long without a break, and for this reason.
    let firing_since = (incident.fired_at)
        .max(incident.steady_since)
        .max(incident.condition_since);
    close(
        Gate::TooEarly,
        firing_since.is_none_or(|at| since(at) < rules.after),
    );
    // What stays open because a look could not judge it is no reason for a restart.
    close(
        Gate::NotFoundNow,
        !(look.findings.iter()).any(|finding| incident.is_of(finding)),
    );
    let busy = match (cure, &incident.subject) {
        (CureKind::RunTask, _) => !look.busy_tasks.is_empty(),
        (CureKind::StopTask, Some(task)) => look.busy_tasks.contains(task),
        _ => !look.silence.running.is_empty(),
    };
    close(Gate::JobMayBeRunning, busy);
    close(
        Gate::ConditionNotRestartable,
        !condition_allows(incident.condition, cure, look),
    );
    close(Gate::CauseNotRestartable, !cause_allows(incident));
    close(Gate::LogUnknown, snapshot.log.known().is_none());
    let lines_needed = incident.condition == Condition::SchedulerSilent;
    close(Gate::LogsNotProvenAlive, lines_needed && !look.logs_alive);
    close(
        Gate::HealthSaysAlive,
        incident.slot == Slot::Loop && look.health == Some(Sign::Alive),
    );

    match snapshot.service.as_ref().and_then(Observed::known) {
        None => close(Gate::EcsUnknown, true),
        Some(facts) => {
            close(Gate::ServiceNotActive, facts.status != "ACTIVE");
            close(Gate::DesiredCountZero, facts.desired == 0);
            let is_service = (scheduler.ecs.as_ref())
                .is_some_and(|ecs| matches!(ecs.target, EcsTarget::Service(_)));
            if is_service {
                close(Gate::DeploymentController, facts.controller != "ECS");
                let settled = facts.deployments.len() == 1
                    && facts.deployments.iter().all(|d| d.rollout == "COMPLETED");
                close(Gate::DeploymentInProgress, !settled);
            }
            let gone = |task: &String| !facts.running().any(|running| running.id == *task);
            close(
                Gate::TaskGone,
                cure == CureKind::StopTask && incident.subject.as_ref().is_none_or(gone),
            );
            let pinned = rules.allow_mutable_image_tag || images_pinned(scheduler, facts);
            close(Gate::MutableImageTag, !pinned);
        }
    }

    let deployed = (snapshot.service.as_ref().and_then(Observed::known))
        .and_then(ServiceFacts::newest_deployment)
        .is_some_and(|deployment| since(deployment.created_at) < rules.cooldown);
    let restarted = (state.restarts.attempts.iter())
        .any(|attempt| attempt.counts() && since(attempt.claimed_at) < rules.cooldown);
    close(Gate::Cooldown, deployed || restarted);
    close(
        Gate::ProofPending,
        state.restarts.attempts.iter().any(Attempt::is_open),
    );
    close(
        Gate::AttemptsPerIncident,
        spent(state, &incident.id).count() >= rules.attempts_per_incident as usize,
    );
    close(
        Gate::AttemptsPerDay,
        attempts_today(state, now) >= rules.attempts_per_day as usize,
    );
    close(Gate::LockedOut, state.restarts.locked_out_at.is_some());
    close(Gate::Storm, snapshot.fleet.is_storm());
    let calls_failed = (state.restarts.attempts.iter())
        .any(|a| a.incident == incident.id && is_given_up(a) && !is_forgiven(state, a));
    close(Gate::CallsFailed, calls_failed);
    closed
}

fn condition_allows(condition: Condition, cure: CureKind, look: &Look) -> bool {
    // Where tasks are started and fail, or say nothing, one more would fare the same.
    if cure == CureKind::RunTask {
        return condition == Condition::ServiceDown && look.none_started;
    }
    match condition.restart() {
        RestartHelps::Yes => cure != CureKind::StopTask,
        RestartHelps::OneTask => cure == CureKind::StopTask,
        RestartHelps::ByCause => cure == CureKind::ForceNewDeployment,
        RestartHelps::No => false,
    }
}

/// The root cause decides. Where the condition leaves it to the cause, one must be proven.
fn cause_allows(incident: &Incident) -> bool {
    let helps = (incident.causes.first()).and_then(|cause| cause.restart_helps(incident.condition));
    match incident.condition.restart() {
        RestartHelps::ByCause => helps == Some(true),
        RestartHelps::Yes | RestartHelps::OneTask | RestartHelps::No => helps != Some(false),
    }
}

/// Whether the scheduler's containers run images that a tag cannot move under. Of tasks that run
/// once the newest tells, though it has ended.
fn images_pinned(scheduler: &Scheduler, facts: &ServiceFacts) -> bool {
    let newest = (facts.tasks.iter())
        .filter(|_| scheduler.runs_as_tasks())
        .max_by_key(|task| task.started_at);
    let name = scheduler
        .ecs
        .as_ref()
        .and_then(|ecs| ecs.container.as_ref());
    let mut images = (facts.running().filter(|_| newest.is_none()))
        .chain(newest)
        .flat_map(|task| &task.containers)
        .filter(|container| name.is_none_or(|name| container.name == *name))
        .map(|container| container.image.contains("@sha256:"))
        .peekable();
    images.peek().is_some() && images.all(|pinned| pinned)
}

fn attempts_of<'a>(state: &'a State, incident: &'a str) -> impl Iterator<Item = &'a Attempt> {
    (state.restarts.attempts.iter()).filter(move |a| a.incident == incident && a.counts())
}

/// Those of an incident's attempts that use up what it is allowed.
fn spent<'a>(state: &'a State, incident: &'a str) -> impl Iterator<Item = &'a Attempt> {
    attempts_of(state, incident).filter(|attempt| !is_forgiven(state, attempt))
}

fn is_forgiven(state: &State, attempt: &Attempt) -> bool {
    (state.restarts.cleared_at).is_some_and(|at| attempt.claimed_at < at)
}

fn attempts_today(state: &State, now: Timestamp) -> usize {
    (state.restarts.attempts.iter())
        .filter(|a| a.counts() && now.duration_since(a.claimed_at) < DAY)
        .count()
}

fn is_exhausted(state: &State, scheduler: &Scheduler, incident: &str, now: Timestamp) -> bool {
    let rules = &scheduler.remediation;
    spent(state, incident).count() >= rules.attempts_per_incident as usize
        || attempts_today(state, now) >= rules.attempts_per_day as usize
}

/// The same for the same attempt of the same incident, and another one for every other. ECS
/// takes up to 64 characters as `clientToken`, and letters, digits, `-`, `_`, `/` as `startedBy`.
fn new_token(scheduler: &str, incident: &Incident, attempt: u32) -> String {
    let fired = incident.fired_at.unwrap_or(incident.found_at).as_second();
    let name: String = scheduler.replace('.', "_").chars().take(31).collect();
    // Two names can begin alike.
    format!("{name}-{:08x}/{fired}/{attempt}", short_hash(scheduler))
}

/// Writes the claim of a restart into the state, before it is made.
pub fn claim(state: &mut State, remediation: &Remediation, now: Timestamp) {
    let attempts = &mut state.restarts.attempts;
    let again = (attempts.iter_mut().rev()).find(|attempt| {
        attempt.incident == remediation.incident
            && matches!(attempt.outcome, Outcome::CallFailed { .. })
    });
    match again {
        Some(attempt) => {
            // Given up, told, and allowed anew by a person: what becomes of it is told again.
            if is_given_up(attempt) {
                (attempt.failed_calls, attempt.told) = (0, false);
            }
            attempt.claimed_at = now;
            attempt.outcome = Outcome::Claimed;
        }
        None => attempts.push(Attempt {
            incident: remediation.incident.clone(),
            cure: remediation.cure,
            task: remediation.task.clone(),
            token: remediation.token.clone(),
            claimed_at: now,
            failed_calls: 0,
            outcome: Outcome::Claimed,
            told: false,
            unknown: Map::new(),
        }),
    }
}

/// Writes the answer to a restart's call into the state.
pub fn settle(state: &mut State, answer: &Result<Option<String>, CallError>) {
    let claimed = (state.restarts.attempts.iter_mut().rev())
        .find(|attempt| attempt.outcome == Outcome::Claimed);
    let Some(attempt) = claimed else {
        return;
    };
    match answer {
        Ok(started) => {
            attempt.outcome = Outcome::Made {
                started: started.clone(),
            };
            attempt.note_task();
        }
        // Whether it was made shows at ECS; until then the claim stands.
        Err(error) if error.may_have_been_done() => {}
        Err(error) => {
            // What no retry can mend is not tried again.
            attempt.failed_calls += if error.retry_helps() {
                1
            } else {
                MOST_FAILED_CALLS
            };
            attempt.outcome = Outcome::CallFailed {
                error: error.to_string(),
            };
        }
    }
}

/// Its calls failed too often, or in a way that no retry mends.
fn is_given_up(attempt: &Attempt) -> bool {
    matches!(attempt.outcome, Outcome::CallFailed { .. })
        && attempt.failed_calls >= MOST_FAILED_CALLS
}

/// Ends a lock-out after six good hours or a day, and keeps account of the health.
pub fn mind_lockout(state: &mut State, verdict: Verdict, now: Timestamp) {
    let restarts = &mut state.restarts;
    match verdict {
        Verdict::Healthy => {
            restarts.healthy_since.get_or_insert(now);
        }
        // What cannot be seen, or is not meant to run, is not healthy either.
        _ => restarts.healthy_since = None,
    }
    let healthy = restarts
        .healthy_since
        .is_some_and(|at| now.duration_since(at) >= HEALTHY_FOR);
    let long_ago = restarts
        .locked_out_at
        .is_some_and(|at| now.duration_since(at) >= DAY);
    if healthy || long_ago {
        restarts.locked_out_at = None;
    }
}

/// What the watchdog does, or did, about an incident: for its messages.
pub fn handling(
    state: &State,
    incident: &Incident,
    occasion: Occasion,
    remediation: Option<&Remediation>,
    scaled_to_zero: bool,
) -> Handling {
    let last = (state.restarts.attempts.iter().rev()).find(|a| a.incident == incident.id);
    let planned = remediation.filter(|remediation| remediation.incident == incident.id);
    if occasion == Occasion::Resolved && scaled_to_zero {
        return Handling::ScaledToZero;
    }
    match (last, planned) {
        (_, Some(remediation)) if remediation.allowed() => Handling::Restarting {
            cure: remediation.cure,
            attempt: remediation.attempt,
        },
        (Some(attempt), planned) => match (&attempt.outcome, planned) {
            // It was proven, and the trouble goes on: that cure is over.
            (Outcome::Proven { .. }, planned)
                if incident.phase == Phase::Firing && occasion != Occasion::Remediated =>
            {
                planned.map_or(Handling::Watching, withheld)
            }
            // A run by hand brings no schedule back.
            (Outcome::Proven { .. }, _)
                if attempt.cure == CureKind::RunTask && occasion == Occasion::Resolved =>
            {
                Handling::CameBack
            }
            (Outcome::Proven { at }, _) => Handling::Cured {
                cure: attempt.cure,
                at: attempt.claimed_at,
                seconds: at.duration_since(attempt.claimed_at).as_secs(),
            },
            (Outcome::Made { .. } | Outcome::Claimed, _) if occasion != Occasion::Resolved => {
                Handling::Proving {
                    cure: attempt.cure,
                    at: attempt.claimed_at,
                }
            }
            (Outcome::Failed { .. }, _) if occasion != Occasion::Resolved => Handling::CureFailed {
                cure: attempt.cure,
                at: attempt.claimed_at,
                error: None,
            },
            (Outcome::CallFailed { error }, _) if occasion != Occasion::Resolved => {
                Handling::CureFailed {
                    cure: attempt.cure,
                    at: attempt.claimed_at,
                    error: Some(error.clone()),
                }
            }
            _ => Handling::CameBack,
        },
        (None, Some(remediation)) => withheld(remediation),
        (None, None) if occasion == Occasion::Resolved && never_ran(incident) => {
            Handling::NotDueAnyMore
        }
        (None, None) if occasion == Occasion::Resolved => Handling::CameBack,
        (None, None) => Handling::Watching,
    }
}

/// Whether jobs are waited for no more although they have not run: a run would be in the all-clear.
fn never_ran(incident: &Incident) -> bool {
    let proof = &incident.proof;
    incident.slot == Slot::JobRuns
        && match &incident.subject {
            Some(_) => !(proof.iter()).any(|fact| matches!(fact, Fact::LastRun { at: Some(_) })),
            None => proof.iter().any(|fact| match fact {
                Fact::NotSince { jobs, more, next } => {
                    let all = missed_jobs(proof).saturating_sub(*more) as usize == jobs.len();
                    all && next.is_none()
                }
                _ => false,
            }),
        }
}

fn withheld(remediation: &Remediation) -> Handling {
    Handling::Withheld {
        cure: remediation.cure,
        blocked_by: remediation.blocked_by.clone(),
    }
}
