//! A scheduler without a service and without a loop: a schedule starts a task each minute, or every
//! five, that runs the scheduler once and ends. Long ones overlap, and keep no other waiting.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::{MINUTE, STARTUP_GRACE, STOPPED_FOR, Site, Task};
use crate::scenario::What;

/// Who starts the tasks.
const SCHEDULE: &str = "chronos-schedule/run-the-scheduler";

/// One minute in so many the schedule starts two tasks: it promises to start at least one.
const TWO_IN_ONE_OF: u64 = 500;

/// From the end of a process to the end of its task.
const ENDS: SignedDuration = SignedDuration::from_secs(3);

impl Task {
    pub(super) fn is_of_schedule(&self) -> bool {
        self.started_by == SCHEDULE
    }

    /// It ran well, as far as is known at a moment.
    fn came_up(&self, now: Timestamp) -> bool {
        self.runs(now) || (self.started_at <= now && self.exit == Some(0))
    }
}

impl Site {
    /// What the schedule does in a minute.
    pub(super) fn keep_schedule(&mut self, minute: Timestamp, every: i64) {
        self.tasks.retain(|task| {
            task.stopped_at
                .is_none_or(|at| minute.duration_since(at) < STOPPED_FOR)
        });
        let is_time = (minute.as_second() / 60) % every == 0;
        if !is_time || self.is_on(minute, |what| what == What::ScheduleOff) {
            return;
        }
        self.begin_task(minute, SCHEDULE.to_owned(), 0);
        let question = minute.as_second() as u64;
        let twice = self.is_on(minute, |what| what == What::Twice)
            || self.dice.about(21).below(question, TWO_IN_ONE_OF) == 0;
        if twice {
            self.begin_task(minute, SCHEDULE.to_owned(), 1);
        }
    }

    /// Starts a task by hand, and returns its id. ECS answers a token that it knows with its task.
    pub fn run_task(&mut self, token: &str, now: Timestamp) -> String {
        let known = self.tasks.iter().find(|task| task.started_by == token);
        if let Some(task) = known {
            return task.id.clone();
        }
        // What is to happen in this minute has happened.
        self.begin_task(now.max(self.minute), token.to_owned(), 2)
    }

    /// `which` of those that are started at the same time.
    fn begin_task(&mut self, at: Timestamp, started_by: String, which: u64) -> String {
        // The scheduler begins in the minute in which its task was started, or always in the next:
        // else a minute would have two runs, and another none. Of every fifth minute only the
        // jobs would run that are due one later.
        let place = self.dice.about(20);
        let in_the_next = self.setup.task_every == Some(1) && place.below(1, 4) == 0;
        let usual = 18 + place.below(0, 24) as i64 + 60 * i64::from(in_the_next);
        let dice = self.dice.about(22 + which);
        let question = at.as_second() as u64;
        let started_at = at + SignedDuration::from_secs(usual + dice.below(question, 8) as i64);
        let id = format!("{:016x}{which:016x}", at.as_millisecond());
        let mut task = Task {
            stream: format!("scheduler/app/{id}").into(),
            id: id.clone(),
            started_by,
            started_at,
            stopped_at: None,
            exit: None,
            reason: "Essential container in task exited",
            next_turn: started_at + SignedDuration::from_secs(4),
            dead: false,
            hung: false,
            wait: None,
            beats: [None; 2],
            pending: VecDeque::new(),
        };
        if self.is_on(at, |what| what == What::TasksFail { pull: true }) {
            task.stopped_at = Some(started_at);
            task.reason =
                "CannotPullContainerError: pull image manifest has been retried 5 time(s)";
        } else if self.is_on(at, |what| what == What::TasksFail { pull: false }) {
            task.stopped_at = Some(started_at + ENDS);
            task.exit = Some(1);
        }
        self.tasks.push(task);
        id
    }

    /// The only turn of a task, if it begins in a minute.
    pub(super) fn run_once(&mut self, index: usize, minute: Timestamp) {
        let at = self.tasks[index].next_turn;
        if self.tasks[index].is_gone() || at >= minute + MINUTE {
            return;
        }
        self.tasks[index].next_turn = Timestamp::MAX;
        if self.is_on(at, |what| what == What::TasksMute { hang: true }) {
            self.tasks[index].hung = true;
            return;
        }
        let is_mute = self.is_on(at, |what| what == What::TasksMute { hang: false });
        let end = if is_mute { at } else { self.turn(index, at) };
        let aborts = !is_mute && self.is_on(at, |what| what == What::Failing);
        let task = &mut self.tasks[index];
        if !task.hung {
            let last_words = task.pending.back().map(|line| line.at);
            task.stopped_at = Some(end.max(last_words.unwrap_or(end)) + ENDS);
            task.exit = Some(i32::from(aborts));
        }
    }

    /// A person stops what hangs.
    pub(super) fn stop_hung(&mut self, at: Timestamp) {
        for index in 0..self.tasks.len() {
            if self.tasks[index].hung {
                self.stop(index, at, "Task stopped by a person");
                self.tasks[index].exit.get_or_insert(137);
            }
        }
    }

    /// Whether a run that hangs holds the lock of its job.
    pub(super) fn is_locked(&self) -> bool {
        let is_held = |task: &Task| task.hung && !task.is_gone();
        self.setup.task_every.is_some() && self.tasks.iter().any(is_held)
    }

    /// Whether a task was started that has not ended, by whomever.
    pub fn is_busy(&self, now: Timestamp) -> bool {
        (self.tasks.iter()).any(|task| task.stopped_at.is_none_or(|at| at > now))
    }

    /// Whether the schedule started a task after a moment that ran well, or runs.
    pub fn came_up(&self, after: Timestamp, now: Timestamp) -> bool {
        (self.tasks.iter())
            .any(|task| task.is_of_schedule() && task.started_at > after && task.came_up(now))
    }

    /// Whether the schedule started a task after a moment.
    pub fn is_started(&self, after: Timestamp, now: Timestamp) -> bool {
        (self.tasks.iter())
            .any(|task| task.is_of_schedule() && task.started_at > after && task.started_at <= now)
    }

    /// Whether a line of such a time is of a task that the schedule started.
    pub fn is_beat(&self, at: Timestamp) -> bool {
        self.beats.contains(&at)
    }

    /// Whether no task since the last heartbeat had the time to speak.
    pub(super) fn all_begin(&self, now: Timestamp) -> bool {
        let Some(last) = self.last_beat(now) else {
            return false;
        };
        self.is_started(last, now) && !self.is_started(last, now - STARTUP_GRACE)
    }
}
