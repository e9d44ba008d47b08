//! What the log has shown of each job.

mod pause;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::pause::Pause;
use super::{DAY, ONE_BEAT, PAUSE, Waited};
use crate::cause;
use crate::config::Scheduler;
use crate::due::{self, Missed};
use crate::hash::short_hash;
use crate::job::Job;
use crate::line::{JobEvent, Kind, Line};
use crate::message::safe;
use crate::state::State;

/// Starts of a job that are remembered; two give its period.
const MOST_STARTS: usize = 3;

/// The pause of the usual loop; a line that ends a run is followed by the next run's after it.
pub(super) const LOOP_PAUSE: SignedDuration = SignedDuration::from_secs(61);

/// Jobs that take this long are remembered even when they are not configured.
pub(super) const LONG_JOB: SignedDuration = SignedDuration::from_secs(60);

/// A failure's report and the line of its run lie this close together, in times of whole
/// seconds.
const SAME_RUN: SignedDuration = SignedDuration::from_secs(2);

/// Runs on two streams that begin further apart than this are no duplicates: by then somebody
/// may have started one by hand.
const TWICE_WITHIN: SignedDuration = SignedDuration::from_mins(15);

/// The longest line of a run that was cut off, in bytes.
const LONGEST_CUT: usize = 160;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// No run takes longer than this; a document that says so is wrong.
const LONGEST_RUNTIME: SignedDuration = SignedDuration::from_hours(40 * 24);

/// A runtime as it is kept, in seconds.
fn runtime(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds.clamp(0, LONGEST_RUNTIME.as_secs()))
}

/// What is known of one job. Times are of whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobHistory {
    /// The newest starts, oldest first.
    #[serde(with = "due::list_of_seconds")]
    pub starts: Vec<Timestamp>,
    /// The newest end.
    #[serde(skip_serializing_if = "Option::is_none", with = "due::seconds")]
    pub ended_at: Option<Timestamp>,
    /// The newest end that a line called a success.
    #[serde(skip_serializing_if = "Option::is_none", with = "due::seconds")]
    pub succeeded_at: Option<Timestamp>,
    /// The newest failure.
    #[serde(skip_serializing_if = "Option::is_none", with = "due::seconds")]
    pub failed_at: Option<Timestamp>,
    /// The longest foreground run that the log has shown, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_seconds: Option<i64>,
    /// The longest pause that may have been a run, or a hole in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubted: Option<Pause>,
    /// The newest run whose lines have settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
    /// The start of the newest run of which an all-clear of the loop told how long it took.
    #[serde(skip_serializing_if = "Option::is_none", with = "due::seconds")]
    pub told_run: Option<Timestamp>,
    /// The newest run of which a line told the start, and none the end yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenRun>,
    /// Lines of their own tell of its starts.
    #[serde(skip_serializing_if = "is_false")]
    pub starts_told: bool,
    /// Lines of their own tell of its ends, and only of them.
    #[serde(skip_serializing_if = "is_false")]
    pub ends_told: bool,
    /// The newest run that was cut off, if one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<CutRun>,
    /// Failures in a row.
    #[serde(skip_serializing_if = "Failures::is_none")]
    pub failures: Failures,
    /// The newest due times that ran on two streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twice: Option<Twice>,
    /// Which times it is expected at, as a hash: what was expected by another expression is
    /// expected no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<u32>,
    /// The first expected run that nothing is known of yet; see [`crate::due`].
    #[serde(skip_serializing_if = "Option::is_none", with = "due::seconds")]
    pub due: Option<Timestamp>,
    /// Runs that were missed while the loop lived.
    #[serde(skip_serializing_if = "Missed::is_none")]
    pub missed: Missed,
    /// Runs that were missed in the loop's present trouble.
    #[serde(skip_serializing_if = "Missed::is_none")]
    pub lost: Missed,
    /// Fields of a version that this program does not know; kept as they are.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// A run whose lines have settled. Times are of whole seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// When it began.
    #[serde(with = "due::second")]
    pub start: Timestamp,
    /// When it ended, as far as the log tells.
    #[serde(with = "due::second")]
    pub end: Timestamp,
    /// The first run of the same due time began then.
    #[serde(with = "due::second")]
    pub first: Timestamp,
    /// Its stream, as a hash.
    pub on: u32,
    /// How long it took, or how long the loop waited for it, in seconds, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
    /// Only the report of a failure told of it, so far.
    #[serde(default, skip_serializing_if = "is_false")]
    pub only_report: bool,
}

/// A run that began, and whose end was not told. Times are of whole seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRun {
    /// When it began.
    #[serde(with = "due::second")]
    pub start: Timestamp,
    /// Its stream, as a hash.
    pub on: u32,
}

/// A run that was cut off: its line breaks off, or its process was killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutRun {
    /// When it began, to the second.
    #[serde(with = "due::second")]
    pub start: Timestamp,
    /// Its stream, as a hash.
    pub on: u32,
    /// The next line told of a kill.
    #[serde(default, skip_serializing_if = "is_false")]
    pub killed: bool,
    /// Its line.
    pub line: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Failures in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failures {
    /// How many.
    pub count: u32,
    /// How many there were before the newest run: its failure may be told after its end.
    pub before: u32,
    /// The first of them.
    #[serde(skip_serializing_if = "Option::is_none", with = "due::seconds")]
    pub since: Option<Timestamp>,
    /// The first of those before the newest run.
    #[serde(skip_serializing_if = "Option::is_none", with = "due::seconds")]
    pub before_since: Option<Timestamp>,
    /// The newest of them: one that was seen later may not be counted yet.
    #[serde(skip_serializing_if = "Option::is_none", with = "due::seconds")]
    pub at: Option<Timestamp>,
    /// The newest exit code, where one was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

impl Failures {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// One more run, failed or not.
    fn ran(&mut self, failed: bool, at: Timestamp) {
        (self.before, self.before_since) = (self.count, self.since);
        (self.count, self.since, self.at) = (0, None, None);
        self.exit_code = self.exit_code.filter(|_| failed);
        if failed {
            self.also_failed(at);
        }
    }

    /// One more run was handed to the background: what came before stands until it is known how
    /// this one ends.
    fn handed_over(&mut self) {
        (self.before, self.before_since) = (self.count, self.since);
    }

    /// The newest run failed, as is told now.
    fn also_failed(&mut self, at: Timestamp) {
        self.count = self.before.saturating_add(1);
        self.since = self.before_since.or(Some(at));
        self.at = Some(at);
    }
}

/// Due times in a row that ran on two streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twice {
    /// The first second run.
    #[serde(with = "due::second")]
    pub since: Timestamp,
    /// The newest second run.
    #[serde(with = "due::second")]
    pub at: Timestamp,
    /// How many due times.
    pub count: u32,
    /// The two streams of the newest, as hashes.
    pub on: [u32; 2],
}

impl JobHistory {
    /// When the log mentioned it last.
    pub fn last_seen(&self) -> Option<Timestamp> {
        self.starts
            .last()
            .copied()
            .max(self.ended_at)
            .max(self.failed_at)
    }

    /// Forgets what the next runs tell anew; what is expected of the job stays. False if there is
    /// nothing of the kind.
    pub(crate) fn thin(&mut self) -> bool {
        let is_full = self.last_run.is_some()
            || self.cut.is_some()
            || self.twice.is_some()
            || self.starts.len() > 1;
        (self.last_run, self.cut, self.twice) = (None, None, None);
        self.starts.drain(..self.starts.len().saturating_sub(1));
        is_full
    }

    /// The longest foreground run that the log has shown.
    pub fn longest(&self) -> Option<SignedDuration> {
        self.longest_seconds.map(runtime)
    }

    /// The row of due times that ran twice, while it goes on: the newest one did, or may still.
    pub fn runs_twice(&self, now: Timestamp) -> Option<&Twice> {
        let once = |twice: &Twice| {
            (self.last_run.as_ref()).is_some_and(|last| {
                last.first > twice.at && now.duration_since(last.start) >= TWICE_WITHIN
            })
        };
        self.twice.as_ref().filter(|twice| !once(twice))
    }

    fn started(&mut self, at: Timestamp) {
        let at = whole_second(at);
        // Two lines may tell of one start with slightly different times.
        let known = (self.starts.iter()).any(|known| known.duration_since(at).abs() < ONE_BEAT);
        if !known {
            self.starts.push(at);
            self.starts.sort_unstable();
            let surplus = self.starts.len().saturating_sub(MOST_STARTS);
            self.starts.drain(..surplus);
        }
    }

    /// A run took so long, as a line says.
    fn took(&mut self, took: SignedDuration) {
        self.longest_seconds = self.longest_seconds.max(Some(took.as_secs()));
    }

    /// Whether it was probably due in `[from, until]`, judged by its earlier starts: a whole
    /// number of its periods, or of days, after the last one.
    pub fn was_due(&self, from: Timestamp, until: Timestamp) -> bool {
        let Some(last) = self.starts.last() else {
            return false;
        };
        // One start alone may be of an hourly job.
        let periods = match self.starts.as_slice() {
            [.., before, last] => [DAY, last.duration_since(*before)],
            _ => [DAY, HOUR],
        };
        periods.into_iter().any(|period| {
            let (period, ahead) = (period.as_secs(), until.duration_since(*last).as_secs());
            if period <= 0 || ahead <= 0 {
                return false;
            }
            // The last whole number of periods up to `until`; at least one.
            let due = (ahead / period) * period;
            due > 0 && *last + SignedDuration::from_secs(due) >= from
        })
    }

    /// How a settled run of the loop itself ended, as far as its line tells.
    fn settle_end(&mut self, run: &Run<'_>) {
        let ended = matches!(
            run.event,
            JobEvent::Ended { .. } | JobEvent::Succeeded { .. } | JobEvent::Failed { .. }
        );
        if ended && (self.cut.as_ref()).is_some_and(|cut| cut.start <= run.start) {
            self.cut = None;
        }
        let report = self.last_run.as_ref().filter(|last| last.only_report);
        match run.event {
            // That this run failed is told already: the report came before this line, and not long
            // before the run.
            _ if report.is_some_and(|last| run.start - SAME_RUN <= last.end) => {}
            // A start tells nothing of how it will end. Nor does the line of a job that runs in
            // the background; but where no report follows, the next one is the end of failures.
            JobEvent::Started | JobEvent::CutOff | JobEvent::Skipped => {}
            JobEvent::Ended { .. } if run.background && report.is_some() => {
                self.failures.handed_over();
            }
            JobEvent::Ended { .. } | JobEvent::Succeeded { .. } => {
                self.failures.ran(false, run.at);
            }
            JobEvent::Failed { .. } => self.failures.ran(true, run.at),
        }
        if let JobEvent::Failed { exit_code, .. } = run.event {
            self.failures.exit_code = exit_code.or(self.failures.exit_code);
        }
    }

    /// A settled run of the loop itself; runs come in the order of their starts.
    fn settle_run(&mut self, job: &Job, run: &Run<'_>) {
        self.settle_end(run);
        if run.cut_off || run.killed {
            self.cut = Some(CutRun {
                start: run.start,
                on: short_hash(run.stream),
                killed: run.killed,
                line: safe::cut(&safe::evidence(run.text), LONGEST_CUT),
            });
        }
        let on = short_hash(run.stream);
        let same_due = (self.last_run.as_ref()).filter(|last| {
            !last.only_report
                && run.start.duration_since(last.start) <= TWICE_WITHIN
                && due::is_same(job, last.first, run.start)
        });
        let first = same_due.map_or(run.start, |last| last.first);
        match same_due {
            Some(last) if last.on != on && job.on_one_server => {
                let on = [last.on, on];
                match &mut self.twice {
                    Some(twice) if twice.at >= last.first => (twice.at, twice.on) = (run.start, on),
                    Some(twice) => {
                        (twice.at, twice.on) = (run.start, on);
                        twice.count = twice.count.saturating_add(1);
                    }
                    none => {
                        *none = Some(Twice {
                            since: run.start,
                            at: run.start,
                            count: 1,
                            on,
                        });
                    }
                }
            }
            Some(_) => {}
            // The due time before this one ran once only: the row is broken.
            None => {
                let once = (self.last_run.as_ref())
                    .is_some_and(|last| self.twice.as_ref().is_some_and(|t| t.at < last.first));
                if once {
                    self.twice = None;
                }
            }
        }
        let took = run.took.map(|took| took.as_secs());
        // Until its end is told, what the run before took stands.
        let before = (self.last_run.as_ref()).and_then(|last| last.seconds);
        let began = matches!(run.event, JobEvent::Started);
        self.last_run = Some(LastRun {
            start: run.start,
            end: run.at.max(run.start),
            first,
            on,
            seconds: if began && self.ends_told {
                before
            } else {
                took
            },
            only_report: false,
        });
    }

    /// A settled report that a run failed.
    fn settle_report(&mut self, at: Timestamp, exit_code: Option<i32>, stream: &str) {
        let last = (self.last_run.as_ref()).filter(|last| last.contains(at));
        match last {
            // Its own line said so already, or this is the second report.
            Some(_) if self.failures.count > self.failures.before => {}
            Some(_) => self.failures.also_failed(at),
            None => {
                self.failures.ran(true, at);
                self.last_run = Some(LastRun {
                    start: at,
                    end: at,
                    first: at,
                    on: short_hash(stream),
                    seconds: None,
                    only_report: true,
                });
            }
        }
        self.failures.exit_code = exit_code.or(self.failures.exit_code);
    }
}

impl LastRun {
    fn contains(&self, at: Timestamp) -> bool {
        self.start - SAME_RUN <= at && at <= self.end + SAME_RUN
    }
}

/// Nobody reads more of a job's times, and the state is bounded.
fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// What one line tells of one run of a job.
#[derive(Clone)]
pub(super) struct Run<'a> {
    job: &'a str,
    text: &'a str,
    stream: &'a str,
    event: &'a JobEvent,
    /// The loop itself printed it; else a log record only mentions it.
    own: bool,
    /// When the line was written, exactly; the other times are of whole seconds.
    written: Timestamp,
    at: Timestamp,
    start: Timestamp,
    /// How long the loop waited for it: not at all, for one in the background.
    took: Option<SignedDuration>,
    /// Its line breaks off.
    cut_off: bool,
    /// The next line tells that its process was killed.
    killed: bool,
    background: bool,
}

impl<'a> Run<'a> {
    pub fn of(line: &'a Line, next: Option<&Line>) -> Option<Self> {
        let Kind::Job {
            name,
            event,
            background,
        } = &line.kind
        else {
            return None;
        };
        let at = whole_second(line.at);
        let (start, took) = match event {
            JobEvent::Skipped => (at, None),
            // Up to Laravel 9.20 a line marks the start, and the next line shows that it ended.
            JobEvent::Started | JobEvent::CutOff => {
                let pause = next.map(|next| next.at.duration_since(line.at));
                (
                    at,
                    pause.map(|pause| (pause - LOOP_PAUSE).max(SignedDuration::ZERO)),
                )
            }
            JobEvent::Ended { .. } | JobEvent::Succeeded { .. } | JobEvent::Failed { .. } => {
                let took = event.took();
                (whole_second(line.at - took.unwrap_or_default()), took)
            }
        };
        let begins = matches!(event, JobEvent::Started | JobEvent::CutOff);
        let killed = begins
            && next.is_some_and(|next| {
                matches!(next.kind, Kind::Error { aborts: true, .. })
                    && cause::tells_of_a_kill(&next.text)
            });
        Some(Self {
            cut_off: *event == JobEvent::CutOff,
            killed,
            job: name,
            text: &line.text,
            stream: &line.stream,
            event,
            own: line.is_heartbeat(),
            written: line.at,
            at,
            start,
            took: if *background {
                Some(SignedDuration::ZERO)
            } else {
                took
            },
            background: *background,
        })
    }

    /// The line tells of a start; how long the run took, only the next one does.
    fn begins(&self) -> bool {
        matches!(self.event, JobEvent::Started | JobEvent::CutOff)
    }

    /// The line tells of an end, and not how long ago the run began.
    fn is_bare_end(&self) -> bool {
        let is_bare = matches!(
            self.event,
            JobEvent::Ended { took: None } | JobEvent::Failed { took: None, .. }
        );
        self.own && is_bare
    }

    /// Its line, printed when it ended, tells that the loop waited for it longer than for a pause of
    /// its own.
    fn kept_waiting(&self) -> bool {
        self.own && !self.begins() && self.took.is_some_and(|took| took > PAUSE)
    }

    fn is_skip(&self) -> bool {
        matches!(self.event, JobEvent::Skipped)
    }
}

/// Folds what the lines of a window tell of jobs. What counts, such as failures in a row, waits
/// until no line can come any more: lines after `before` up to `settled` count now.
pub(super) fn fold(
    state: &mut State,
    scheduler: &Scheduler,
    runs: &mut [Run<'_>],
    before: Option<Timestamp>,
    settled: Timestamp,
) {
    runs.sort_by_key(|run| run.start);
    let long: BTreeSet<&str> = (runs.iter())
        .filter(|run| run.took.is_some_and(|took| took >= LONG_JOB))
        .map(|run| run.job)
        .collect();
    let queues = scheduler.preset.is_laravel() && !scheduler.runs_as_tasks();
    for run in runs.iter() {
        let (mut configured, mut name) = (false, run.job);
        for job in (scheduler.jobs.iter()).filter(|job| job.owns(run.job, run.text)) {
            (configured, name) = (true, &job.name);
            let is_settled =
                run.written <= settled && before.is_none_or(|before| run.written > before);
            fold_run(state, &job.name, run);
            if is_settled {
                settle(state, job, run);
            }
        }
        let known = long.contains(run.job) || state.jobs.contains_key(run.job);
        if !configured && known && !run.is_skip() {
            fold_run(state, run.job, run);
        }
        if queues && run.kept_waiting() {
            state.heartbeats.waited_for(Waited {
                job: name.to_owned(),
                start: run.start,
                end: run.at,
            });
        }
    }
}

fn fold_run(state: &mut State, name: &str, run: &Run<'_>) {
    let history = match state.jobs.get_mut(name) {
        Some(known) => known,
        None => state.jobs.entry(name.to_owned()).or_default(),
    };
    history.starts_told |= matches!(run.event, JobEvent::Started);
    history.ends_told |= run.is_bare_end();
    // Where starts are told, an end is none; where ends are told, what is skipped is none either,
    // because its run before may go on.
    let no_start =
        (history.starts_told && run.is_bare_end()) || (history.ends_told && run.is_skip());
    if run.own && !no_start {
        history.started(run.start);
    }
    if let (Some(took), true) = (run.took, run.own) {
        if run.begins() {
            history.paused(run.start, took);
        } else {
            history.took(took);
        }
    }
    match run.event {
        JobEvent::Ended { .. } => history.ended_at = history.ended_at.max(Some(run.at)),
        JobEvent::Succeeded { .. } => {
            history.ended_at = history.ended_at.max(Some(run.at));
            history.succeeded_at = history.succeeded_at.max(Some(run.at));
        }
        JobEvent::Failed { .. } => history.failed_at = history.failed_at.max(Some(run.at)),
        JobEvent::Started | JobEvent::CutOff | JobEvent::Skipped => {}
    }
}

fn settle(state: &mut State, job: &Job, run: &Run<'_>) {
    let State {
        jobs,
        heartbeats,
        incidents,
        ..
    } = state;
    let Some(history) = jobs.get_mut(&job.name) else {
        return;
    };
    match run.event {
        JobEvent::Failed { exit_code, .. } if !run.own => {
            history.settle_report(run.at, *exit_code, run.stream);
        }
        // The run itself has, or will have, its own line.
        JobEvent::Succeeded { .. } if !run.own => history.failures.ran(false, run.at),
        _ => {
            let on = short_hash(run.stream);
            let open = (history.open.clone()).filter(|open| open.on == on && open.start <= run.at);
            match open {
                // Its run before goes on: this one does not happen.
                Some(_) if run.is_skip() && history.ends_told => return,
                Some(open) if run.is_bare_end() => {
                    history.open = None;
                    let whole = Run {
                        start: open.start,
                        took: Some(run.at.duration_since(open.start)),
                        ..run.clone()
                    };
                    return history.settle_run(job, &whole);
                }
                _ => {}
            }
            // One that is skipped here runs on another server.
            due::answered(history, job, run.start, incidents, heartbeats);
            if run.is_skip() {
                // The lock holds.
                history.twice = None;
            } else if history.starts_told && run.is_bare_end() {
                // Of an older run, or of one whose start was not seen: no run of its own.
                history.settle_end(run);
            } else {
                history.settle_run(job, run);
            }
            if matches!(run.event, JobEvent::Started) {
                let start = run.start;
                history.open = Some(OpenRun { start, on });
            }
        }
    }
}

#[cfg(test)]
mod tests;
