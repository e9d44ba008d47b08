//! How long nothing was heard of a loop or of one task, and what may explain it: a job that it
//! waits for. (What somebody wants to hear nothing of is [`crate::silence`].)

use jiff::{SignedDuration, Timestamp};

use super::DUE_SLACK;
use crate::config::Scheduler;
use crate::history::{JobHistory, StreamBeats};
use crate::job::Job;
use crate::state::State;

/// The longest that a silence is excused by a job that may be running.
const LONGEST_RUN: SignedDuration = SignedDuration::from_hours(6);

/// How far before a turn's first line its jobs may have been due: the clock is looked at up to a
/// minute late, and the application takes some seconds to start.
const BEFORE_A_TURN: SignedDuration = SignedDuration::from_secs(65);

/// A loop that is usually heard less often says nothing of itself: its jobs' lines are all there is.
const SPEAKS_BY_ITS_JOBS: SignedDuration = SignedDuration::from_mins(2);

/// How long nothing was heard, and how long that may last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Silence {
    /// The newest heartbeat.
    pub last: Option<Timestamp>,
    /// The figure in force.
    pub stale_after: SignedDuration,
    /// `stale_after` plus the runtime of a job that was due when the silence began.
    pub allowed: SignedDuration,
    /// Jobs that may be running and keep the loop waiting.
    pub running: Vec<PossibleRun>,
}

/// A job that was due when the silence began, or just now, and was not seen to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PossibleRun {
    /// Its name.
    pub job: String,
    /// Until then a restart could kill it.
    pub until: Timestamp,
}

impl Silence {
    /// The silence of a scheduler at `now`.
    pub fn of(scheduler: &Scheduler, state: &State, now: Timestamp) -> Self {
        let beats = &state.heartbeats;
        let newest = (beats.streams.values()).max_by_key(|stream| stream.last);
        // Nobody expected a heartbeat while the service was meant to run no task.
        let last = beats
            .last
            .max(state.off_at.filter(|_| beats.last.is_some()));
        Self::since(scheduler, state, last, newest, now)
    }

    /// The silence of one task at `now`.
    pub(super) fn of_task(
        scheduler: &Scheduler,
        state: &State,
        task: &str,
        now: Timestamp,
    ) -> Self {
        let beats = &state.heartbeats;
        let newest = beats.newest_of_task(task);
        let last = newest.map(|stream| stream.last);
        Self::since(scheduler, state, last, newest, now)
    }

    /// The silence since a heartbeat, which was in that stream.
    fn since(
        scheduler: &Scheduler,
        state: &State,
        last: Option<Timestamp>,
        newest: Option<&StreamBeats>,
        now: Timestamp,
    ) -> Self {
        let stale_after = state.heartbeats.stale_after(scheduler.stale_after);
        let mut silence = Self {
            last,
            stale_after,
            allowed: stale_after,
            running: Vec::new(),
        };
        let Some(last) = silence.last else {
            return silence;
        };
        // Within a fresh silence no run needs to be looked for; nor where each run is a task of its
        // own, because a long one keeps no other waiting.
        if now.duration_since(last) <= stale_after || scheduler.runs_as_tasks() {
            return silence;
        }
        let until = last + state.heartbeats.rhythm() + DUE_SLACK;
        // What was due when the turn began may still wait for its own turn.
        let turn = (newest.and_then(|stream| stream.turn.as_ref()))
            .filter(|turn| turn.ended >= last - DUE_SLACK);
        let from = turn.map_or(last, |turn| turn.began.min(last)) - BEFORE_A_TURN;
        for job in due_jobs(scheduler, state, newest, last, from, until) {
            if let Some(known) = job.known {
                silence.allowed = silence.allowed.max((stale_after + known).min(LONGEST_RUN));
            }
            let feared = (state.jobs.get(&job.name)).and_then(|history| history.may_take(now));
            let patience = job.patience.max(feared.unwrap_or_default());
            let until = last + (stale_after + patience).min(LONGEST_RUN);
            if until > now {
                let job = job.name;
                silence.running.push(PossibleRun { job, until });
            }
        }
        silence.allowed = silence.allowed.max(stale_after);
        if state.heartbeats.rhythm() >= SPEAKS_BY_ITS_JOBS {
            due_of_late(scheduler, state, until, now).for_each(|run| silence.fear(run));
        }
        silence
    }

    /// How long nothing was heard.
    pub fn lasts(&self, now: Timestamp) -> Option<SignedDuration> {
        self.last
            .map(|last| now.duration_since(last).max(SignedDuration::ZERO))
    }

    /// Whether it is longer than allowed. A scheduler that was never heard is not silent.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.lasts(now).is_some_and(|lasts| lasts > self.allowed)
    }

    /// Takes note of one more job that may be running.
    pub(super) fn fear(&mut self, run: PossibleRun) {
        match self.running.iter_mut().find(|known| known.job == run.job) {
            Some(known) => known.until = known.until.max(run.until),
            None => self.running.push(run),
        }
    }

    pub(super) fn running_jobs(&self) -> Vec<String> {
        self.running.iter().map(|run| run.job.clone()).collect()
    }
}

/// The jobs that may just be running although the silence began before they were due. A loop that is
/// heard by its jobs alone is silent, too, while the frequent one of them is held back, and lives.
/// It concerns the first run in the silence only: had that one run, it would have been heard.
fn due_of_late(
    scheduler: &Scheduler,
    state: &State,
    silent_from: Timestamp,
    now: Timestamp,
) -> impl Iterator<Item = PossibleRun> {
    scheduler.jobs.iter().filter_map(move |job| {
        let due = job.next_start(silent_from, now)?;
        let until = due + known_runtime(job, state)?.min(LONGEST_RUN) * 2;
        (until > now).then(|| PossibleRun {
            job: job.name.clone(),
            until,
        })
    })
}

/// What a run of a job takes at most: what is configured, else the longest that the log has shown.
fn known_runtime(job: &Job, state: &State) -> Option<SignedDuration> {
    let learned = || (state.jobs.get(&job.name)).and_then(JobHistory::longest);
    job.max_runtime.or_else(learned)
}

/// A job that was due and was not seen to end.
struct DueJob {
    name: String,
    /// What a run of it takes at most, if that is known.
    known: Option<SignedDuration>,
    /// How long it may go on before a restart.
    patience: SignedDuration,
}

impl DueJob {
    /// A job, what is known of it, and the time to its next run.
    fn new(name: &str, known: Option<SignedDuration>, next: SignedDuration) -> Self {
        Self {
            name: name.to_owned(),
            known,
            // A run may take longer than any before it; killing it is worse than waiting.
            patience: known.map_or(next, |known| known.min(LONGEST_RUN) * 2),
        }
    }
}

/// The jobs that were due between `from` and `until` and were not seen to end.
fn due_jobs(
    scheduler: &Scheduler,
    state: &State,
    newest: Option<&StreamBeats>,
    last: Timestamp,
    from: Timestamp,
    until: Timestamp,
) -> Vec<DueJob> {
    let ended = |name: &str, due: Timestamp| {
        state.jobs.get(name).is_some_and(|job| {
            let over = job.ended_at.max(job.failed_at).is_some_and(|at| at >= due);
            // Starts are known to the second. Another replica's start of the same run is no other work.
            let moved_on = (job.starts.last())
                .is_some_and(|start| *start >= due && last.as_second() > start.as_second())
                && !newest.is_some_and(|stream| stream.waits_for(name));
            over || moved_on
        })
    };
    let mut jobs = Vec::new();
    for job in &scheduler.jobs {
        let around = last - BEFORE_A_TURN;
        let dues = [
            job.next_start(from, until),
            job.next_start(around.max(from), until),
        ];
        let Some(due) = (dues.into_iter().flatten()).find(|due| !ended(&job.name, *due)) else {
            continue;
        };
        let known = known_runtime(job, state);
        // Nothing known: at most until it is due again.
        let next = job.next_start(due, due + LONGEST_RUN);
        let longest = next.map_or(LONGEST_RUN, |next| next.duration_since(due));
        jobs.push(DueJob::new(&job.name, known, longest));
    }
    let own = |name: &str| scheduler.jobs.iter().any(|job| job.owns(name, name));
    let unheard_of = |name: &&str| !own(name) && !state.jobs.contains_key(*name);
    if let Some(name) = newest
        .and_then(StreamBeats::waits_for_first)
        .filter(unheard_of)
    {
        jobs.push(DueJob::new(name, None, LONGEST_RUN));
    }
    for (name, history) in &state.jobs {
        let configured = scheduler.jobs.iter().any(|job| job.name == *name);
        if !configured && history.was_due(from, until) && !ended(name, from) {
            jobs.push(DueJob::new(name, history.longest(), SignedDuration::ZERO));
        }
    }
    jobs
}
