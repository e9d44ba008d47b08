//! What is wrong with single jobs, while the loop itself lives.

mod absence;

use jiff::{SignedDuration, Timestamp};

use crate::cause::{self, Cause, Clues, ErrorNote, Evidence};
use crate::condition::{Condition, Fact, Finding, Pace, Slot};
use crate::config::Scheduler;
use crate::cron::horizon;
use crate::due;
use crate::hash::short_hash;
use crate::history::JobHistory;
use crate::job::Job;
use crate::state::{Incident, Phase, State};

/// Jobs in the same trouble that are told one by one; what more there are is one incident of
/// several jobs, because something that they share is wrong.
const MOST_SINGLE: usize = 3;

/// Jobs that a message about several names.
const MOST_NAMED: usize = 10;

/// A job that runs more often than this has a next run to be judged by, soon.
const RARE: SignedDuration = SignedDuration::from_hours(1);

/// Due times in a row that ran twice before it is told of a frequent job: while a deployment
/// replaces its task, two loops may live for a moment.
const OFTEN_TWICE: u32 = 2;

/// An error this near to a due time or a failure can be its cause. (Of an error that repeats
/// itself, only the newest time is known.)
const NEAR: SignedDuration = SignedDuration::from_mins(15);

/// How long a deployment lets old and new tasks run side by side, at most.
const ROLLOUT: SignedDuration = SignedDuration::from_mins(30);

/// A job whose dates are over comes no more: a missed run is told for this long after the time
/// at which it could be known first.
const LAST_WORD: SignedDuration = SignedDuration::from_mins(30);

/// No reminder at all.
const NEVER: Pace = Pace {
    first: SignedDuration::from_hours(24 * 366),
    longest: SignedDuration::from_hours(24 * 366),
};

/// The longest pause before the first reminder about a job.
const LONGEST_FIRST_PAUSE: SignedDuration = SignedDuration::from_hours(24);

/// The longest pause between reminders about a job lies between these.
const LONGEST_PAUSE: [SignedDuration; 2] = [
    SignedDuration::from_hours(4),
    SignedDuration::from_hours(7 * 24),
];

/// The conditions of all jobs. `state` has the look's log folded in and the due times accounted.
pub fn jobs(scheduler: &Scheduler, state: &State, now: Timestamp) -> Vec<Finding> {
    let all_stopped = absence::all_stopped(scheduler, state);
    let cases: Vec<Case<'_>> = (scheduler.jobs.iter())
        .filter_map(|job| {
            let history = state.jobs.get(&job.name)?;
            Some(Case {
                scheduler,
                job,
                history,
                state,
                all_stopped: all_stopped.as_ref(),
                now,
            })
        })
        .collect();
    let judges = [overdue, failing, overrun, twice];
    judges
        .into_iter()
        .flat_map(|judge| grouped(state, now, cases.iter().filter_map(judge).collect()))
        .collect()
}

/// One job, with what is known of it.
struct Case<'a> {
    scheduler: &'a Scheduler,
    job: &'a Job,
    history: &'a JobHistory,
    state: &'a State,
    /// Why all jobs stopped at once, if they did.
    all_stopped: Option<&'a Cause>,
    now: Timestamp,
}

impl Case<'_> {
    fn finding(&self, condition: Condition, since: Timestamp, proof: Vec<Fact>) -> Finding {
        // Whoever knows that a monthly job failed need not hear it every four hours.
        let period = self.job.period();
        let [least, most] = LONGEST_PAUSE;
        let pace = Pace {
            first: (period / 24).min(LONGEST_FIRST_PAUSE),
            longest: (period / 2).clamp(least, most),
        };
        Finding {
            condition,
            subject: Some(self.job.name.clone()),
            since,
            corroborated: true,
            causes: Vec::new(),
            refuted: false,
            proof,
            pace: Some(pace),
        }
    }

    /// Why something happened around that time, where aborted runs of the scheduler prove it.
    fn causes(&self, condition: Condition, around: Timestamp) -> Vec<Cause> {
        let notes = self.state.errors.notes.iter();
        let errors: Vec<ErrorNote> = notes
            .filter(|note| note.at.duration_since(around).abs() <= NEAR)
            .cloned()
            .collect();
        cause::find(&Clues {
            condition,
            task: None,
            errors: &errors,
            service: None,
            booted_at: None,
            last_heartbeat: self.state.heartbeats.last,
            heard: &[],
            settled_tasks: self.now,
        })
    }
}

/// An expected run is missing past its grace.
fn overdue(case: &Case<'_>) -> Option<Finding> {
    let missed = case.history.missing()?;
    let known = missed.last? + case.job.grace() + case.state.overlap();
    if case.job.is_over(case.now) && case.now >= known + LAST_WORD {
        return None;
    }
    let mut proof = Vec::from_iter(missed.fact(&case.job.name));
    proof.push(Fact::LastRun {
        at: case.history.starts.last().copied(),
    });
    proof.push(Fact::LastHeartbeat {
        at: case.state.heartbeats.last,
    });
    proof.extend(paused(case, missed.last?));
    let next = case.job.next_run(case.now, horizon(case.now));
    proof.extend(next.map(|at| Fact::NextRun { at }));
    // The line of a single run can get lost; where the next one is due soon, it decides.
    let next_is_soon = case.job.period() <= case.job.grace() + case.state.overlap();
    // The kill that left a lock is an error of its own, but the lock is what must be mended.
    let mut causes = Vec::from_iter(absence::stuck_lock(case, missed));
    if causes.is_empty() {
        causes = case.causes(Condition::JobOverdue, missed.last?);
    }
    if causes.is_empty() {
        causes.extend(absence::cause(case, missed, case.all_stopped));
    }
    Some(Finding {
        corroborated: missed.count > case.job.runs_a_minute() || !next_is_soon,
        causes,
        ..case.finding(Condition::JobOverdue, missed.first?, proof)
    })
}

/// The pause of the loop, a long job perhaps, that a due time fell into.
fn paused(case: &Case<'_>, due: Timestamp) -> Option<Fact> {
    let beats = &case.state.heartbeats;
    let (from, until) = beats.paused_at.zip(beats.resumed_at)?;
    (from <= due && due < until).then_some(Fact::Paused { from, until })
}

/// It failed as often in a row as is told.
fn failing(case: &Case<'_>) -> Option<Finding> {
    let failures = &case.history.failures;
    let tolerance = case.job.failure_tolerance();
    let since = failures.since.filter(|_| failures.count >= tolerance)?;
    let newest = case.history.failed_at.unwrap_or(since);
    let fact = Fact::Failures {
        count: failures.count,
        tolerance,
        exit_code: failures.exit_code,
        // Where an earlier version counted them, it is not known which was the last.
        at: failures.at.unwrap_or(newest),
    };
    let mut causes = case.causes(Condition::JobFailing, newest);
    if causes.is_empty() {
        let by_code = |code| cause::of_exit_code(code, &fact);
        causes.extend(failures.exit_code.and_then(by_code));
    }
    Some(Finding {
        causes,
        ..case.finding(Condition::JobFailing, since, vec![fact])
    })
}

/// Its newest run took longer than it may, or is doing so.
fn overrun(case: &Case<'_>) -> Option<Finding> {
    let allowed = case.job.max_runtime?;
    let proof = |runtime: SignedDuration, running| {
        vec![Fact::Runtime {
            seconds: runtime.as_secs(),
            allowed: allowed.as_secs(),
            running,
        }]
    };
    let too_long = |runtime: &SignedDuration| *runtime > allowed;
    if let Some((start, runtime)) = running(case).filter(|(_, runtime)| too_long(runtime)) {
        return Some(case.finding(Condition::JobOverrun, start, proof(runtime, true)));
    }
    // An all-clear of the loop told it, unless it goes on with what is told of the run before.
    let is_open = (case.state.incident(Slot::JobRuntime, Some(&case.job.name)))
        .is_some_and(|incident| incident.phase != Phase::Resolved);
    let run = (case.history.last_run.as_ref())
        .filter(|run| is_open || case.history.told_run != Some(run.start))?;
    let runtime = (run.seconds.map(SignedDuration::from_secs)).filter(too_long)?;
    Some(Finding {
        // It is over; the next run tells whether it was the only one.
        pace: Some(NEVER),
        ..case.finding(Condition::JobOverrun, run.start, proof(runtime, false))
    })
}

/// The run that is in progress: its start was told and not its end, as those of its other runs
/// are; or its line is its stream's last, and no run of the scheduler aborted after it: the loop
/// waits for a job. The last line of a task that runs once tells nothing: it has ended since, for
/// all that is known.
fn running(case: &Case<'_>) -> Option<(Timestamp, SignedDuration)> {
    let beats = &case.state.heartbeats;
    let so_far = |start: Timestamp| case.now.duration_since(start) - case.state.overlap();
    if let Some(open) = (case.history.open.as_ref()).filter(|_| case.history.ends_told) {
        // It ended with its task.
        let stale_after = beats.stale_after(case.scheduler.stale_after);
        let lives = (beats.streams.iter()).any(|(name, stream)| {
            short_hash(name) == open.on && case.now.duration_since(stream.last) <= stale_after
        });
        return lives.then(|| (open.start, so_far(open.start)));
    }
    let start = *(case.history.starts.last()).filter(|_| !case.scheduler.runs_as_tasks())?;
    let ended = case.history.ended_at.max(case.history.failed_at);
    let is_last = (beats.streams.values()).any(|stream| {
        let same_or_later = |abort: Timestamp| abort.as_second() >= start.as_second();
        stream.last.as_second() == start.as_second()
            && !stream.aborted_at.is_some_and(same_or_later)
    });
    // A task that came later has most likely taken the place of the one that ran it.
    let is_replaced = (beats.streams.values()).any(|stream| stream.first > start - ROLLOUT);
    (is_last && !is_replaced && ended < Some(start)).then(|| (start, so_far(start)))
}

/// Two streams run it for the same due time.
fn twice(case: &Case<'_>) -> Option<Finding> {
    let twice = case
        .history
        .runs_twice(case.now)
        .filter(|_| case.job.on_one_server)?;
    let enough = twice.count >= OFTEN_TWICE || case.job.period() >= RARE;
    let streams = (twice.on.iter())
        .filter_map(|hash| {
            let mut names = case.state.heartbeats.streams.keys();
            names.find(|name| short_hash(name) == *hash).cloned()
        })
        .collect();
    let fact = Fact::Twice {
        count: twice.count,
        at: twice.at,
        streams,
    };
    enough.then(|| {
        let mut finding = case.finding(Condition::DuplicateRuns, twice.since, vec![fact.clone()]);
        // The second run is the proof: with one lock for all, it would have been skipped.
        if case.scheduler.preset.is_laravel() {
            finding.causes = vec![Cause::new("one-server-conflict", Evidence::Fact(fact))];
        }
        let first = finding.pace.map_or(SignedDuration::ZERO, |pace| pace.first);
        // A lock that does not hold goes on not holding; but once may have been a deployment.
        let longest = SignedDuration::from_hours(24);
        Finding {
            pace: Some(match twice.count {
                1 => NEVER,
                _ => Pace { first, longest },
            }),
            ..finding
        }
    })
}

/// Findings of one condition: one by one, or together where they are many, or where all jobs are
/// held back. A job that was told alone stays alone. Once jobs run again, the few that are left of
/// many are told with the all-clear of the many. Of those that were held back, they are those that
/// have not been due since; who was, and is missing still, has a reason of its own, and is told alone,
/// or as one of many again.
fn grouped(state: &State, now: Timestamp, found: Vec<Finding>) -> Vec<Finding> {
    let known = |finding: &Finding, subject: Option<&str>| {
        (state.incident(finding.condition.slot(), subject))
            .filter(|incident| incident.phase != Phase::Resolved)
    };
    let is_told = |finding: &Finding| {
        known(finding, finding.subject.as_deref())
            .is_some_and(|incident| incident.phase != Phase::Pending)
    };
    let (mut told, rest): (Vec<_>, Vec<_>) = found.into_iter().partition(is_told);
    let Some(first) = rest.first() else {
        return told;
    };
    if let Some(many) = known(first, None) {
        let (stuck, many) = still_together(state, now, many, rest);
        told.extend(stuck);
        told.extend(many);
    } else {
        let is_many = told.len() + rest.len() > MOST_SINGLE;
        let (many, single): (Vec<_>, Vec<_>) =
            (rest.into_iter()).partition(|finding| is_many || is_shared(&finding.causes));
        told.extend(single);
        told.extend(together_as_one(many));
    }
    told
}

/// What is left of an open incident of several jobs: who is told alone from now on, and the others
/// together, if any are left.
fn still_together(
    state: &State,
    now: Timestamp,
    incident: &Incident,
    found: Vec<Finding>,
) -> (Vec<Finding>, Option<Finding>) {
    let Some(returned) = due::newest_return(state) else {
        return (Vec::new(), together_as_one(found));
    };
    if !is_shared(&incident.causes) {
        let is_many = found.len() > MOST_SINGLE;
        let many = is_many.then(|| together_as_one(found)).flatten();
        return (Vec::new(), many);
    }
    let history = |finding: &Finding| state.jobs.get(finding.subject.as_ref()?);
    let is_stuck = |finding: &Finding| {
        let missed = history(finding).is_some_and(|job| job.missed_since(returned));
        missed && !is_shared(&finding.causes)
    };
    let (stuck, mut left): (Vec<_>, Vec<_>) = found.into_iter().partition(is_stuck);
    if stuck.len() > MOST_SINGLE {
        left.extend(stuck);
        let many = together_as_one(left);
        let refuted = many.map(|many| Finding {
            refuted: true,
            ..many
        });
        return (Vec::new(), refuted);
    }
    left.retain(|finding| {
        !history(finding).is_some_and(|job| job.had_no_chance_since(returned, now))
    });
    (stuck, together_as_one(left))
}

/// Whether what is told as their cause holds all jobs back alike.
fn is_shared(causes: &[Cause]) -> bool {
    causes.first().is_some_and(Cause::is_shared)
}

fn together_as_one(mut findings: Vec<Finding>) -> Option<Finding> {
    findings.sort_by_key(|finding| finding.since);
    let jobs: Vec<String> = (findings.iter())
        .filter_map(|finding| finding.subject.clone())
        .collect();
    let more = jobs.len().saturating_sub(MOST_NAMED);
    let names = jobs.into_iter().take(MOST_NAMED).collect();
    let corroborated = findings.iter().any(|finding| finding.corroborated);
    let pace = (findings.iter())
        .filter_map(|finding| finding.pace)
        .min_by_key(|pace| pace.longest);
    // Of a single one more is known; of many, what they share.
    let is_one = findings.len() == 1;
    let shared: Vec<Cause> = (findings.first()?.causes.iter())
        .filter(|cause| {
            (findings.iter()).all(|finding| finding.causes.iter().any(|other| other.id == cause.id))
        })
        .cloned()
        .collect();
    let first = findings.into_iter().next()?;
    let mut proof = vec![Fact::Jobs {
        names,
        more: u32::try_from(more).unwrap_or(u32::MAX),
    }];
    proof.extend(first.proof.iter().filter(|_| is_one).cloned());
    Some(Finding {
        subject: None,
        corroborated,
        causes: shared,
        proof,
        pace,
        ..first
    })
}
