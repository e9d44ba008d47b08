//! Closing an account: what a trouble that is over cost each job, told once.

use jiff::{SignedDuration, Timestamp};

use super::{Missed, miss, settle_by_starts, whole_minute};
use crate::cause::{Cause, Evidence};
use crate::condition::{Fact, Slot};
use crate::config::Scheduler;
use crate::cron::horizon;
use crate::history::{Heartbeats, JobHistory};
use crate::job::Job;
use crate::state::{Incident, Phase, State};

/// Who is due again this soon has run again when a silence ends, or will before long.
const SOON: SignedDuration = SignedDuration::from_hours(1);

/// Runs of one job that did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The job's name.
    pub job: String,
    /// Which runs.
    pub missed: Missed,
}

/// What several jobs lost together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManyLost {
    /// Every job's runs, the rarest jobs first.
    pub lost: Vec<Lost>,
    /// Those of them that have not run since, likewise.
    pub not_since: Vec<String>,
    /// When the first of these is due next, if any is.
    pub next: Option<Timestamp>,
    /// When jobs ran again, where all were held back.
    pub until: Option<Timestamp>,
}

/// Closes the account of an outage that is over: what every job lost in it, the rarest jobs
/// first. Asked again, it has nothing more to tell.
pub fn close(
    state: &mut State,
    scheduler: &Scheduler,
    since: Timestamp,
    end: Timestamp,
) -> Vec<Lost> {
    let (since, end) = (whole_minute(since), whole_minute(end));
    let mut lost: Vec<(SignedDuration, Lost)> = Vec::new();
    for job in &scheduler.jobs {
        let Some(history) = state.jobs.get_mut(&job.name) else {
            continue;
        };
        let missed = close_job(history, job, since, end);
        if !missed.is_none() {
            let job_lost = Lost {
                job: job.name.clone(),
                missed,
            };
            lost.push((job.period(), job_lost));
        }
    }
    rarest_first(lost)
}

/// The same of one job.
fn close_job(history: &mut JobHistory, job: &Job, since: Timestamp, end: Timestamp) -> Missed {
    while let Some(due) = history.due.filter(|due| *due < end) {
        let next = job.next_run(due, horizon(due));
        if !settle_by_starts(history, due, next) {
            miss(history, job, due, since <= due);
        }
        history.due = next;
    }
    std::mem::take(&mut history.lost)
}

/// Closes the account of an outage that a silence kept untold. What it cost is old news, but for jobs
/// that are not due again soon: what these did not run is overdue still. What of it is not accounted
/// for yet, [`super::account`] judges as if the loop had lived.
pub fn close_untold(state: &mut State, scheduler: &Scheduler, since: Timestamp, end: Timestamp) {
    let (since, end) = (whole_minute(since), whole_minute(end));
    for job in &scheduler.jobs {
        let Some(history) = state.jobs.get_mut(&job.name) else {
            continue;
        };
        if is_seldom(job, end) {
            let lost = std::mem::take(&mut history.lost);
            if !lost.is_none() {
                history.missed.take_over(lost);
                history.missed.back = history.back();
            }
        } else {
            close_job(history, job, since, end);
        }
    }
}

/// Whether a job is not due again soon after a moment. Of one that runs every few minutes it does not
/// matter: see `had_no_chance`.
fn is_seldom(job: &Job, end: Timestamp) -> bool {
    let next = job.next_run(end - SignedDuration::from_nanos(1), horizon(end));
    job.period() > job.grace() && next.is_none_or(|next| next.duration_since(end) > SOON)
}

/// Closes the account of a job that was told of alone: what it missed.
pub fn close_one(state: &mut State, job: &str) -> Missed {
    let history = state.jobs.get_mut(job);
    history.map_or_else(Missed::default, |history| {
        std::mem::take(&mut history.missed)
    })
}

/// Closes the account of several jobs that were told of together, those that have not run yet
/// included: what each of them missed. Where all jobs were held back, what was due until they ran
/// again was missed, however long its grace.
pub fn close_many(
    state: &mut State,
    scheduler: &Scheduler,
    incident: &Incident,
    now: Timestamp,
) -> ManyLost {
    let State {
        jobs,
        incidents,
        heartbeats,
        ..
    } = state;
    let mut many: Vec<(&Job, &mut JobHistory)> = Vec::new();
    for (name, history) in jobs.iter_mut() {
        let job = scheduler.jobs.iter().find(|job| job.name == *name);
        let job = job.filter(|_| !is_alone(incidents, name));
        many.extend(job.map(|job| (job, history)));
    }
    let held = held_since(incident, heartbeats).zip(ran_again(&many));
    let mut lost = Vec::new();
    let mut not_since = Vec::new();
    let mut next: Option<Timestamp> = None;
    for (job, history) in many {
        if let Some((since, until)) = held {
            miss_between(history, job, since, whole_minute(until));
        }
        history.missed.back = history.back();
        let missed = history.missed.clone();
        history.missed.answered(now);
        if missed.count == 0 {
            continue;
        }
        // Else a run of it is under way, or late.
        if missed.back.is_none() && history.due.is_none_or(|due| due > now) {
            not_since.push((job.period(), job.name.clone()));
            next = next.into_iter().chain(history.due).min();
        }
        let job_lost = Lost {
            job: job.name.clone(),
            missed,
        };
        lost.push((job.period(), job_lost));
    }
    ManyLost {
        lost: rarest_first(lost),
        not_since: rarest_first(not_since),
        next,
        until: held.map(|(_, until)| until),
    }
}

/// When a job last came back, of those that no incident of their own tells of.
pub fn newest_return(state: &State) -> Option<Timestamp> {
    (state.jobs.iter())
        .filter(|(name, _)| !is_alone(&state.incidents, name))
        .filter_map(|(_, history)| history.missed.back)
        .max()
}

/// Whether an incident of its own tells of a job's missing runs.
fn is_alone(incidents: &[Incident], job: &str) -> bool {
    (incidents.iter()).any(|incident| {
        incident.slot == Slot::JobRuns
            && !matches!(incident.phase, Phase::Pending | Phase::Resolved)
            && incident.subject.as_deref() == Some(job)
    })
}

/// Since when all jobs were held back, if that is what an incident is about.
fn held_since(incident: &Incident, beats: &Heartbeats) -> Option<Timestamp> {
    let cause = (incident.causes.first()).filter(|cause: &&Cause| cause.is_shared())?;
    let began = (cause.evidence.iter()).find_map(|evidence| match evidence {
        Evidence::Fact(Fact::AllStopped { last, .. }) => Some(*last),
        Evidence::Line(line) => {
            let held = beats.held.as_ref().filter(|held| held.line == *line)?;
            Some(held.at)
        }
        Evidence::Fact(_) => None,
    });
    Some(began.map_or(incident.since, |began| began.min(incident.since)))
}

/// When the first of several jobs ran again: after the last run that any of those that ran again had
/// missed.
fn ran_again(many: &[(&Job, &mut JobHistory)]) -> Option<Timestamp> {
    let back =
        || (many.iter()).filter_map(|(_, history)| Some((history.back()?, history.missed.last?)));
    let last = back().map(|(_, last)| last).max()?;
    back()
        .map(|(back, _)| back)
        .filter(|back| *back > last)
        .min()
}

/// The due times after a moment and before another one that nothing is known of, and that no run
/// answers, were missed.
fn miss_between(history: &mut JobHistory, job: &Job, after: Timestamp, until: Timestamp) {
    while let Some(due) = history.due.filter(|due| after < *due && *due < until) {
        let next = job.next_run(due, horizon(due));
        if !settle_by_starts(history, due, next) {
            miss(history, job, due, false);
        }
        history.due = next;
    }
}

fn rarest_first<T>(mut list: Vec<(SignedDuration, T)>) -> Vec<T> {
    list.sort_by_key(|(period, _)| std::cmp::Reverse(*period));
    list.into_iter().map(|(_, item)| item).collect()
}
