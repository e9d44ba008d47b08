//! What the log has shown so far, folded into a few numbers. Folding the same lines in again,
//! or in another order, changes nothing: every update takes a maximum, replaces a count, or
//! waits until its lines have settled.

mod errors;
mod gaps;
mod job;
mod waited;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::{Scheduler, StaleAfter};
use crate::due;
use crate::hash::short_hash;
use crate::line::{JobEvent, Kind, Line, Pulse};
use crate::message::safe;
use crate::snapshot::LogWindow;
use crate::state::State;

pub use errors::ErrorHistory;
pub use gaps::Gaps;
pub use job::{CutRun, Failures, JobHistory, LastRun, OpenRun, Twice};
use job::{LONG_JOB, Run};
pub use waited::{Waited, tell_waited_for};

/// Heartbeats closer together than this are one: a run prints several lines.
const ONE_BEAT: SignedDuration = SignedDuration::from_secs(30);

/// A pause between heartbeats that is worth remembering the end of.
const PAUSE: SignedDuration = SignedDuration::from_mins(3);

/// The same job's lines this far apart are of two runs; closer ones can be of a job that
/// repeats within a minute.
const NEXT_RUN: SignedDuration = SignedDuration::from_secs(45);

/// The jobs of one turn of the loop follow each other more closely than this.
const BETWEEN_TURNS: SignedDuration = SignedDuration::from_secs(5);

/// An abort comes this long after its run's last job at most, mostly.
const LAST_WORDS: SignedDuration = SignedDuration::from_mins(1);

/// The longest pause of a loop between two turns, for scheduler output that does not tell when
/// jobs end.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(2);

/// Jobs of a stream that are watched for their next run.
const MOST_RUNNING: usize = 64;

/// Bytes that are kept of the name of a job whose first run a loop waits for.
const LONGEST_FIRST: usize = 60;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Streams that are remembered; a service of more tasks than this is judged by the newest.
const MOST_STREAMS: usize = 64;

/// Jobs that are remembered.
const MOST_JOBS: usize = 150;

/// Streams that are remembered although they have given no heartbeat, and for how long: by then it
/// has been told that such a replica is silent.
const MOST_UNHEARD: usize = 16;
const UNHEARD_FOR: SignedDuration = SignedDuration::from_hours(2);

/// Aborts and errors that are remembered, newest last.
const MOST_NOTES: usize = 12;

/// The loop's signs of life.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heartbeats {
    /// The newest heartbeat of any stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// The first line of the newest beat of any stream. Where each run has a stream of its own,
    /// gaps are measured between these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beat: Option<Timestamp>,
    /// The heartbeat that ended the newest pause of more than three minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<Timestamp>,
    /// The heartbeat before that pause, and before those that it followed at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Timestamp>,
    /// The newest run that is known to have come to its end without aborting. An idle line says
    /// so at once; after a job's line the run may still abort, so it is known only once the job
    /// runs again without an abort in between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_clean: Option<Timestamp>,
    /// Up to here lines are complete and in order, because none arrives later than the overlap;
    /// runs are judged up to here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_until: Option<Timestamp>,
    /// The newest line that says the scheduler was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub booted_at: Option<Timestamp>,
    /// The newest line of any job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_job: Option<Timestamp>,
    /// When the newest run of any job began, as far as its line tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_start: Option<Timestamp>,
    /// Runs that the loop waited for longer than for a pause of its own; the newest three, of a day.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waited: Vec<Waited>,
    /// The newest line that says jobs are held back on purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// The newest line that says they are not any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_at: Option<Timestamp>,
    /// The newest runs that aborted since `last_clean`, oldest first; at most a dozen.
    pub aborts: Vec<Timestamp>,
    /// The first of the row of aborts that goes on, as old as it may be: the dozen covers only
    /// minutes of several replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aborting_since: Option<Timestamp>,
    /// By stream name.
    pub streams: BTreeMap<String, StreamBeats>,
    /// Streams in which the scheduler was started, or aborts, and that have given no heartbeat yet, with
    /// the first line that says so; at most 16, for two hours.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unheard: BTreeMap<String, Timestamp>,
    /// How far apart the loop's heartbeats were in the last day.
    pub gaps: Gaps,
    /// Fields of a version that this program does not know; kept as they are.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Jobs are held back on purpose: a pause, or maintenance mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Since then.
    pub at: Timestamp,
    /// The line that says so.
    pub line: String,
}

/// One stream's signs of life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamBeats {
    /// The first heartbeat.
    pub first: Timestamp,
    /// The newest heartbeat.
    pub last: Timestamp,
    /// The first line of the newest beat; gaps are measured between these.
    pub beat: Timestamp,
    /// The newest abort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aborted_at: Option<Timestamp>,
    /// The newest turn of the scheduler whose lines have settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Turn>,
    /// The newest line of each job since the last abort, by the hash of its name; at most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ran: BTreeMap<u32, Timestamp>,
}

/// One turn of the scheduler's loop: it looks at the clock once, and then runs all jobs that are
/// due, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// When it began, as far as its first line tells.
    pub began: Timestamp,
    /// Its newest line.
    pub ended: Timestamp,
    /// That line told of the start of a job that the loop waits for.
    #[serde(default)]
    pub open: bool,
    /// That job, where its stream had not shown a run of it before: nothing tells how long it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
}

impl StreamBeats {
    fn begin(at: Timestamp) -> Self {
        Self {
            first: at,
            last: at,
            beat: at,
            aborted_at: None,
            turn: None,
            ran: BTreeMap::new(),
        }
    }

    /// Notes a settled heartbeat: it belongs to the turn before, or begins one. Jobs of one turn
    /// follow each other at once; between turns the loop pauses. `queues` tells whether jobs of
    /// this scheduler wait for each other at all.
    fn take_turn(&mut self, line: &Line, queues: bool) {
        // What it waited for took long; the next time is no better known.
        if let Some(turn) = self.turn.as_ref().filter(|turn| turn.first.is_some())
            && line.at.duration_since(turn.ended) > LONGEST_PAUSE
        {
            let began = turn.ended;
            self.ran.retain(|_, at| *at != began);
        }
        let (began, again, open, first) = match &line.kind {
            Kind::Job {
                name,
                event,
                background,
            } => {
                let began = line.at - event.took().unwrap_or_default();
                // A turn comes to a job once; what repeats within a minute does so at its end.
                let turn = self.turn.as_ref();
                let before = self.ran.get(&short_hash(name));
                let again = turn.zip(before).is_some_and(|(turn, at)| *at >= turn.began);
                let begins = matches!(event, JobEvent::Started | JobEvent::CutOff);
                let open = begins && !background;
                let first =
                    (open && before.is_none()).then(|| safe::cut(&safe::job(name), LONGEST_FIRST));
                (began, again, open, first)
            }
            // Nothing to do, or words around the work: a turn of its own.
            _ => (line.at, true, false, None),
        };
        let follows = self.turn.as_ref().is_some_and(|turn| {
            let pause = began.duration_since(turn.ended);
            // After a start the pause may be the job's own runtime.
            pause < BETWEEN_TURNS || (turn.open && pause > LONGEST_PAUSE)
        });
        let same = self.turn.take().filter(|_| queues && follows && !again);
        self.turn = Some(Turn {
            began: same.map_or(began, |turn| turn.began),
            ended: line.at,
            open,
            first,
        });
    }

    /// Whether its newest line tells that this job began, and the loop waits for it.
    pub(crate) fn waits_for(&self, job: &str) -> bool {
        let open = self.turn.as_ref().filter(|turn| turn.open);
        open.is_some_and(|turn| self.ran.get(&short_hash(job)) == Some(&turn.ended))
    }

    /// The job that its newest line says began, if none before it shows how long such a run takes.
    pub(crate) fn waits_for_first(&self) -> Option<&str> {
        let turn = self.turn.as_ref()?;
        let is_newest = turn.ended.as_second() >= self.last.as_second();
        turn.first.as_deref().filter(|_| is_newest)
    }

    /// A job's line. Returns the run before, if it is known by this to have ended well.
    fn job_ran(&mut self, job: &str, at: Timestamp) -> Option<Timestamp> {
        let job = short_hash(job);
        let before = self.ran.get(&job).copied();
        if before.is_some_and(|before| at.duration_since(before) < NEXT_RUN) {
            return None;
        }
        if before.is_none() && self.ran.len() >= MOST_RUNNING {
            let oldest = (self.ran.iter())
                .min_by_key(|(_, at)| **at)
                .map(|(job, _)| *job);
            oldest.map(|job| self.ran.remove(&job));
        }
        self.ran.insert(job, at);
        before
    }
}

impl Heartbeats {
    /// Folds in a heartbeat of any stream; all streams together, oldest first.
    fn hear(&mut self, at: Timestamp) {
        if (self.last).is_some_and(|last| at.duration_since(last) > PAUSE) {
            // A pause right after another is the same one: a loop that is busy with long jobs.
            let again = (self.resumed_at.zip(self.last))
                .is_some_and(|(resumed, last)| last.duration_since(resumed) <= PAUSE);
            if !again || self.paused_at.is_none() {
                self.paused_at = self.last;
            }
            self.resumed_at = Some(at);
        }
        self.last = self.last.max(Some(at));
    }

    /// Folds in a heartbeat of runs that have a stream each, before [`Self::hear`] does: a gap lies
    /// between them. Gaps longer than `longest` are not counted.
    fn hear_gap(&mut self, at: Timestamp, longest: Option<SignedDuration>) {
        if self.last.is_some_and(|last| at <= last) {
            return;
        }
        let gap = self.beat.map(|beat| at.duration_since(beat));
        if gap.is_none_or(|gap| gap >= ONE_BEAT) {
            self.beat = Some(at);
            self.count_gap(gap, at, longest);
        }
    }

    /// Folds in a stream's heartbeats, oldest first. Returns the gap that a new beat ends.
    fn fold(&mut self, stream: &str, at: Timestamp) -> Option<SignedDuration> {
        let Some(known) = self.streams.get_mut(stream) else {
            (self.streams).insert(stream.to_owned(), StreamBeats::begin(at));
            return None;
        };
        known.first = known.first.min(at);
        if at <= known.last {
            return None;
        }
        known.last = at;
        let gap = at.duration_since(known.beat);
        if gap < ONE_BEAT {
            return None;
        }
        known.beat = at;
        Some(gap)
    }

    /// Counts a gap that ended then, unless it is longer than `longest`.
    fn count_gap(
        &mut self,
        gap: Option<SignedDuration>,
        at: Timestamp,
        longest: Option<SignedDuration>,
    ) {
        if let Some(gap) = gap.filter(|gap| longest.is_none_or(|longest| *gap <= longest)) {
            self.gaps.count(gap, at);
        }
    }

    /// Runs that have a stream each and did not abort have come to their end; a run's last words
    /// may come a moment after its last job's.
    fn end_runs(&mut self, settled: Timestamp) {
        let whole = (self.streams.values())
            .filter(|run| run.last + LAST_WORDS <= settled && run.aborted_at.is_none())
            .map(|run| run.last);
        self.last_clean = self.last_clean.max(whole.max());
    }

    /// The line by which jobs are held back on purpose at present, if any.
    pub fn held(&self) -> Option<&Held> {
        self.held
            .as_ref()
            .filter(|held| Some(held.at) > self.released_at)
    }

    /// Finds the beginning of the row of aborts, and keeps the newest. Aborts that lie further
    /// apart than `together` are of different rows.
    fn follow_aborts(&mut self, together: SignedDuration) {
        let mut first = self.aborts.last().copied();
        for abort in self.aborts.iter().rev() {
            if first.is_some_and(|first| first.duration_since(*abort) <= together) {
                first = Some(*abort);
            } else {
                break;
            }
        }
        // A row that reaches back as far as is known began when it was seen to begin.
        let whole = first == self.aborts.first().copied();
        let clean = self.last_clean;
        let before =
            (self.aborting_since).filter(|since| whole && clean.is_none_or(|at| *since > at));
        self.aborting_since = first.map(|first| before.map_or(first, |before| before.min(first)));
        let surplus = self.aborts.len().saturating_sub(MOST_NOTES);
        self.aborts.drain(..surplus);
    }

    /// The usual time between two heartbeats; a minute, until it is known.
    pub fn rhythm(&self) -> SignedDuration {
        let minute = SignedDuration::from_mins(1);
        self.usual_gap().unwrap_or(minute).max(minute)
    }

    /// Forgets what is older than a day, and the streams that have been quiet for longest.
    fn age(&mut self, now: Timestamp) {
        self.gaps.age(now);
        self.waited.retain(|run| now.duration_since(run.end) < DAY);
        self.streams
            .retain(|_, beats| now.duration_since(beats.last) < DAY);
        let streams = &self.streams;
        (self.unheard).retain(|stream, since| {
            !streams.contains_key(stream) && now.duration_since(*since) < UNHEARD_FOR
        });
        while self.streams.len() > MOST_STREAMS && self.drop_oldest_stream() {}
    }

    /// Forgets which jobs a stream ran, of the stream that ran most. False if none ran any.
    pub(crate) fn drop_runs(&mut self) -> bool {
        let most = self
            .streams
            .values_mut()
            .max_by_key(|beats| beats.ran.len());
        most.is_some_and(|beats| !std::mem::take(&mut beats.ran).is_empty())
    }

    /// Forgets the stream that has been quiet for longest. False if there is none.
    pub(crate) fn drop_oldest_stream(&mut self) -> bool {
        let oldest = (self.streams.iter())
            .min_by_key(|(_, beats)| beats.last)
            .map(|(name, _)| name.clone());
        oldest.is_some_and(|name| self.streams.remove(&name).is_some())
    }

    /// The newest turn of any stream whose lines have settled.
    pub fn newest_turn(&self) -> Option<&Turn> {
        let turns = self
            .streams
            .values()
            .filter_map(|beats| beats.turn.as_ref());
        turns.max_by_key(|turn| turn.began)
    }

    /// The newest heartbeat of a task's stream (`prefix/container/task-id`).
    pub fn of_task(&self, task: &str) -> Option<Timestamp> {
        self.streams_of(task).map(|beats| beats.last).max()
    }

    /// A task's stream; the one that was heard last, if there are several.
    pub fn newest_of_task(&self, task: &str) -> Option<&StreamBeats> {
        self.streams_of(task).max_by_key(|beats| beats.last)
    }

    /// The first heartbeat of a task's stream.
    pub fn first_of_task(&self, task: &str) -> Option<Timestamp> {
        self.streams_of(task).map(|beats| beats.first).min()
    }

    fn streams_of(&self, task: &str) -> impl Iterator<Item = &StreamBeats> {
        (self.streams.iter())
            .filter(move |(stream, _)| task_of(stream) == task)
            .map(|(_, beats)| beats)
    }

    /// The 95th percentile of the gaps of the last day; none until ten are known.
    pub fn usual_gap(&self) -> Option<SignedDuration> {
        self.gaps.usual()
    }

    /// After how long a silence counts: the configured figure, or twice the usual gap between
    /// 5 and 60 minutes, and never less than ten minutes more than the usual gap itself. Until
    /// enough gaps are known it is 10 minutes, or twice the shortest gap where already that one
    /// is long.
    pub fn stale_after(&self, configured: StaleAfter) -> SignedDuration {
        let most = SignedDuration::from_mins(60);
        if let StaleAfter::Fixed(fixed) = configured {
            return fixed;
        }
        match self.usual_gap() {
            Some(gap) => {
                let twice = (gap * 2).clamp(SignedDuration::from_mins(5), most);
                // A rhythm of an hour drifts, and its lines come late.
                let slack = if gap * 2 > most {
                    SignedDuration::from_mins(10)
                } else {
                    SignedDuration::ZERO
                };
                twice.max(gap + slack)
            }
            None => {
                let shortest = self.gaps.shortest().unwrap_or(0);
                // Twice so many half minutes.
                SignedDuration::from_mins(i64::from(shortest))
                    .clamp(SignedDuration::from_mins(10), most)
            }
        }
    }
}

/// The task id at the end of a stream's name.
pub fn task_of(stream: &str) -> &str {
    stream.rsplit('/').next().unwrap_or(stream)
}

/// Folds a window of the log into what is known.
pub fn fold(state: &mut State, scheduler: &Scheduler, window: &LogWindow, now: Timestamp) {
    // The gap that an outage leaves is not usual; while nothing is known to be usual, all count.
    let usual = state.heartbeats.usual_gap();
    let longest = usual.filter(|_| state.is_down()).map(|usual| usual * 2);
    let settled = now - state.overlap();
    due::expect(state, scheduler, now);
    due::skip_unseen(state, scheduler, window);
    let once = scheduler.runs_as_tasks();
    let mut streams: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    let mut heard = Vec::new();
    for line in &window.lines {
        streams.entry(&line.stream).or_default().push(line);
        // A run that the watchdog made by hand does not show that anything else makes one.
        if line.is_heartbeat() && !state.restarts.started(task_of(&line.stream)) {
            heard.push(line.at);
        }
    }
    heard.sort_unstable();
    for at in heard {
        if once {
            state.heartbeats.hear_gap(at, longest);
        }
        state.heartbeats.hear(at);
    }
    let mut runs = Vec::new();
    for (stream, lines) in &streams {
        fold_stream(state, stream, lines, longest, once);
        let queues = scheduler.preset.is_laravel();
        for run in settle_runs(&mut state.heartbeats, stream, lines, settled, queues) {
            let its = |name: &&String| short_hash(name) == run.job;
            let name = state.jobs.keys().find(its).cloned();
            // What began in this window is judged with the other runs that it shows.
            if let Some(history) = name.and_then(|name| state.jobs.get_mut(&name))
                && history.starts.iter().any(|start| *start <= run.start)
            {
                history.paused(run.start, run.took);
            }
        }
        runs.extend(
            (lines.iter().enumerate())
                .filter_map(|(index, line)| Run::of(line, lines.get(index + 1).copied())),
        );
    }
    let before = state.heartbeats.settled_until;
    job::fold(state, scheduler, &mut runs, before, settled);
    state.heartbeats.settled_until = before.max(Some(settled));
    if once {
        state.heartbeats.end_runs(settled);
    }
    let clean = state.heartbeats.last_clean;
    let aborts = &mut state.heartbeats.aborts;
    aborts.retain(|at| clean.is_none_or(|clean| *at > clean));
    aborts.sort_unstable();
    aborts.dedup();
    if !aborts.is_empty() || state.heartbeats.aborting_since.is_some() {
        let together = state.pace() + state.heartbeats.rhythm();
        state.heartbeats.follow_aborts(together);
    }

    (state.errors).fold(&scheduler.errors.ignore, window);
    state.heartbeats.age(now);
    state.errors.age(now);
    let configured = |name: &str| scheduler.jobs.iter().any(|job| job.name == name);
    while state.jobs.len() > MOST_JOBS.max(scheduler.jobs.len()) {
        let oldest = (state.jobs.iter())
            .filter(|(name, _)| !configured(name))
            .min_by_key(|(_, job)| job.last_seen())
            .map(|(name, _)| name.clone());
        match oldest {
            Some(name) => state.jobs.remove(&name),
            None => break,
        };
    }
    if let Some(lag) = window.lag {
        state
            .lags_ms
            .push(i64::try_from(lag.as_millis()).unwrap_or(i64::MAX));
        let surplus = state.lags_ms.len().saturating_sub(MOST_NOTES);
        state.lags_ms.drain(..surplus);
    }
}

/// `once`: the stream is that of one run, and gaps lie between streams.
fn fold_stream(
    state: &mut State,
    stream: &str,
    lines: &[&Line],
    longest: Option<SignedDuration>,
    once: bool,
) {
    let beats = &mut state.heartbeats;
    for line in lines {
        match line.kind {
            Kind::Boot => beats.booted_at = beats.booted_at.max(Some(line.at)),
            Kind::Held if beats.held.as_ref().is_none_or(|held| held.at < line.at) => {
                beats.held = Some(Held {
                    at: line.at,
                    line: safe::evidence(&line.text),
                });
            }
            Kind::Released => beats.released_at = beats.released_at.max(Some(line.at)),
            Kind::Job { ref event, .. } if line.is_heartbeat() => {
                let began = line.at - event.took().unwrap_or_default();
                beats.last_start = beats.last_start.max(Some(began));
                beats.last_job = beats.last_job.max(Some(line.at));
            }
            Kind::Error { aborts: true, .. } => beats.aborts.push(line.at),
            // Nothing being due ends a run.
            Kind::Heartbeat(Pulse::Idle) => beats.last_clean = beats.last_clean.max(Some(line.at)),
            _ => {}
        }
        if line.is_heartbeat() {
            let gap = beats.fold(stream, line.at);
            beats.count_gap(gap.filter(|_| !once), line.at, longest);
        }
    }
    let is_abort = |line: &&&Line| matches!(line.kind, Kind::Error { aborts: true, .. });
    let aborted_at = lines.iter().filter(is_abort).map(|line| line.at).max();
    if let Some(known) = beats.streams.get_mut(stream) {
        known.aborted_at = known.aborted_at.max(aborted_at);
        return;
    }
    let speaks = |line: &&&Line| is_abort(line) || matches!(line.kind, Kind::Boot);
    if let Some(first) = lines.iter().find(speaks)
        && (beats.unheard.len() < MOST_UNHEARD || beats.unheard.contains_key(stream))
    {
        let since = beats.unheard.entry(stream.to_owned()).or_insert(first.at);
        *since = first.at.min(*since);
    }
}

/// A run of which a line told the start, and the next line that it has ended.
struct LongStart {
    /// The job, by the hash of its name.
    job: u32,
    start: Timestamp,
    took: SignedDuration,
}

/// Judges the runs of a stream by the lines that have settled since the last time. Returns the
/// long ones of which a line told the start: it and the next line lie in different windows.
fn settle_runs(
    beats: &mut Heartbeats,
    stream: &str,
    lines: &[&Line],
    settled: Timestamp,
    queues: bool,
) -> Vec<LongStart> {
    let (before, booted_at) = (beats.settled_until, beats.booted_at);
    let mut over = Vec::new();
    let Some(known) = beats.streams.get_mut(stream) else {
        return over;
    };
    for line in lines {
        if line.at > settled || before.is_some_and(|before| line.at <= before) {
            continue;
        }
        if line.is_heartbeat() {
            // One that was started again did not end the run.
            let waited = (known.turn.as_ref())
                .filter(|turn| turn.open && booted_at.is_none_or(|boot| boot < turn.ended));
            if let Some(start) = waited.map(|turn| turn.ended) {
                let took = line.at.duration_since(start) - job::LOOP_PAUSE;
                let jobs = known.ran.iter().filter(|(_, at)| **at == start);
                if took >= LONG_JOB {
                    over.extend(jobs.map(|(job, _)| LongStart {
                        job: *job,
                        start,
                        took,
                    }));
                }
            }
            known.take_turn(line, queues);
        }
        match &line.kind {
            Kind::Error { aborts: true, .. } => known.ran.clear(),
            Kind::Job { name, .. } if line.is_heartbeat() => {
                let clean = known.job_ran(name, line.at);
                beats.last_clean = beats.last_clean.max(clean);
            }
            _ => {}
        }
    }
    over
}
