//! Expected runs of a job against those that its lines tell of.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Axis, Bins, Chapter};
use crate::condition::Slot;
use crate::cron::{Cron, horizon};
use crate::job::Job;
use crate::line::{JobEvent, Kind, Line};

/// A run may begin this much before its due time, by another clock.
const EARLY: SignedDuration = SignedDuration::from_secs(5);

/// Lines that tell of the same moment of a run lie this close together.
const SAME: SignedDuration = SignedDuration::from_secs(2);

/// Runs are judged this much later than they were due, at least: the line of a long one comes
/// when it ends, and tells when it began.
const PATIENCE: SignedDuration = SignedDuration::from_hours(6);

/// What became of an expected run, or of one that was not expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::replay) enum Fate {
    /// It ran in time.
    Ran,
    /// It ran, expected or not, and failed.
    Failed,
    /// It did not run within its grace although the loop lived.
    Missed,
    /// It did not run because of an outage that people were told of.
    Lost,
    /// A run for which nothing was due: late, by hand, or twice.
    Unexpected,
}

impl Fate {
    pub const ALL: [Self; 5] = [
        Self::Ran,
        Self::Failed,
        Self::Missed,
        Self::Lost,
        Self::Unexpected,
    ];
}

/// What the page tells of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::replay) struct Lane {
    pub job: String,
    pub schedule: String,
    /// Runs by fate, in the order of [`Fate::ALL`].
    pub runs: [Bins; 5],
    /// The sums, which also hold repeats within a column.
    pub counts: [u64; 5],
}

impl Lane {
    pub fn bins(&self, fate: Fate) -> &Bins {
        &self.runs[fate as usize]
    }

    pub fn count(&self, fate: Fate) -> u64 {
        self.counts[fate as usize]
    }
}

#[derive(Debug)]
struct Run {
    start: Timestamp,
    end: Option<Timestamp>,
    failed: bool,
    stream: Arc<str>,
    /// Only its end is known: it may have begun long before.
    only_end: bool,
    /// It was handed to the background: its failure can be told long after.
    background: bool,
}

/// Follows one job over the span.
pub(super) struct Tracker<'a> {
    pub job: &'a Job,
    axis: &'a Axis,
    lane: Lane,
    /// Runs that are not judged yet, by their starts.
    runs: VecDeque<Run>,
    /// The first expected run that is not judged yet.
    due: Option<Timestamp>,
    outages: Vec<(Timestamp, Timestamp)>,
    off: Vec<(Timestamp, Timestamp)>,
}

impl<'a> Tracker<'a> {
    pub fn new(job: &'a Job, chapter: &Chapter, axis: &'a Axis, heard_from: Timestamp) -> Self {
        let before = axis.from.max(minute(heard_from)) - SignedDuration::from_nanos(1);
        let outages = (chapter.incidents.iter())
            .filter(|incident| incident.slot == Slot::Loop)
            .map(|incident| (minute(incident.since), incident.until.unwrap_or(axis.until)))
            .collect();
        let off = (chapter.standing.iter().filter(|standing| standing.off))
            .map(|standing| (standing.span.from, standing.span.until))
            .collect();
        let times: Vec<&str> = job.cron.iter().map(Cron::expression).collect();
        Self {
            job,
            axis,
            lane: Lane {
                job: job.name.clone(),
                schedule: times.join(", "),
                runs: Default::default(),
                counts: [0; 5],
            },
            runs: VecDeque::new(),
            due: job.next_run(before, axis.until),
            outages,
            off,
        }
    }

    /// A line of the job.
    pub fn hear(&mut self, line: &Line, event: &JobEvent) {
        let (took, failed) = match event {
            JobEvent::Skipped => return,
            JobEvent::Started | JobEvent::CutOff => {
                self.begin(line.at, line, false);
                return;
            }
            // The run itself has its own line.
            JobEvent::Succeeded { .. } if !line.is_heartbeat() => return,
            JobEvent::Ended { took } | JobEvent::Succeeded { took } => (*took, false),
            JobEvent::Failed { took, .. } => (*took, true),
        };
        let start = took.map_or(line.at, |took| line.at - took);
        let near = |a: Timestamp, b: Timestamp| a.duration_since(b).abs() <= SAME;
        let known = self.runs.iter_mut().rev().find(|run| {
            run.stream == line.stream
                && match run.end {
                    // A report of the failure, before or after the line of the run.
                    Some(end) => {
                        (run.failed || failed) && near(end, line.at)
                            || run.background && failed && run.start <= line.at
                    }
                    None => run.start <= line.at,
                }
        });
        match known {
            Some(run) => {
                run.failed |= failed;
                run.background &= !failed;
                run.end = run.end.max(Some(line.at));
                if run.only_end && took.is_some() {
                    (run.start, run.only_end) = (start, false);
                }
            }
            None => {
                let run = self.begin(start, line, took.is_none());
                run.end = Some(line.at);
                run.failed = failed;
                run.background = !failed
                    && matches!(
                        line.kind,
                        Kind::Job {
                            background: true,
                            ..
                        }
                    );
            }
        }
    }

    fn begin(&mut self, start: Timestamp, line: &Line, only_end: bool) -> &mut Run {
        let place = self.runs.partition_point(|run| run.start <= start);
        self.runs.insert(
            place,
            Run {
                start,
                end: None,
                failed: false,
                stream: line.stream.clone(),
                only_end,
                background: false,
            },
        );
        &mut self.runs[place]
    }

    /// Judges what can be judged once everything before `until` was heard.
    pub fn settle(&mut self, until: Timestamp) {
        let grace = self.job.grace();
        let longest = self.job.max_runtime.unwrap_or_default();
        let patience = grace + longest.max(PATIENCE);
        while let Some(due) = self.due.filter(|due| *due + patience < until) {
            self.judge(due, grace, longest, false);
        }
    }

    /// Judges one due time: which run answers it, and which ones before it answer nothing.
    fn judge(
        &mut self,
        due: Timestamp,
        grace: SignedDuration,
        longest: SignedDuration,
        last: bool,
    ) {
        let next = self.job.next_run(due, horizon(due));
        self.unexpected_before(due - EARLY);
        let mut answered = false;
        while let Some(run) = self.runs.front() {
            let late = grace
                + if run.only_end {
                    longest
                } else {
                    SignedDuration::ZERO
                };
            let own = run.start <= due + late && next.is_none_or(|next| run.start < next - EARLY);
            if !own {
                break;
            }
            let may_repeat = self.job.runs_a_minute() > 1 || !self.job.on_one_server;
            let fate = match (run.failed, answered && !may_repeat) {
                (true, _) => Fate::Failed,
                (false, true) => Fate::Unexpected,
                (false, false) => Fate::Ran,
            };
            let at = run.start;
            self.runs.pop_front();
            self.record(fate, at);
            answered = true;
        }
        let within =
            |spans: &[(Timestamp, Timestamp)]| spans.iter().any(|(a, b)| *a <= due && due < *b);
        let too_early = last && due + grace > self.axis.until;
        if !answered && !too_early && !within(&self.off) {
            let fate = match within(&self.outages) {
                true => Fate::Lost,
                false => Fate::Missed,
            };
            self.record(fate, due);
        }
        self.due = next.filter(|next| *next <= self.axis.until);
    }

    fn unexpected_before(&mut self, reach: Timestamp) {
        while let Some(run) = self.runs.front().filter(|run| run.start < reach) {
            let fate = match run.failed {
                true => Fate::Failed,
                false => Fate::Unexpected,
            };
            let at = run.start;
            self.runs.pop_front();
            self.record(fate, at);
        }
    }

    fn record(&mut self, fate: Fate, at: Timestamp) {
        if self.axis.from - EARLY <= at && at <= self.axis.until {
            self.lane.runs[fate as usize].add(self.axis, at.max(self.axis.from));
            self.lane.counts[fate as usize] += 1;
        }
    }

    /// Judges the rest.
    pub fn end(mut self) -> Lane {
        let grace = self.job.grace();
        let longest = self.job.max_runtime.unwrap_or_default();
        while let Some(due) = self.due {
            self.judge(due, grace, longest, true);
        }
        self.unexpected_before(Timestamp::MAX);
        self.lane
    }
}

/// The beginning of the minute.
fn minute(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second().div_euclid(60) * 60).unwrap_or(at)
}
