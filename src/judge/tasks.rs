//! Set-ups without a service: each run of the scheduler is a task of its own, which something
//! outside starts, an EventBridge schedule mostly. Between two runs no task need run, a task that
//! has ended is no trouble, and no run waits for another.

use jiff::{SignedDuration, Timestamp};

use crate::condition::Fact;
use crate::config::Scheduler;
use crate::plan::CureKind;
use crate::snapshot::{Container, ServiceFacts, Task};
use crate::state::State;

/// The tasks around a silence, as far as they are not the watchdog's own.
pub(super) struct Runs<'a> {
    /// Those that were started after it began, or were to be.
    begun: Vec<&'a Task>,
    /// Those of them that failed: the scheduler's container did not end well, or never began.
    failed: Vec<&'a Task>,
    /// Those of them that were started so lately that something starts tasks at present.
    recent: Vec<&'a Task>,
    /// Lately is after this.
    recent_from: Timestamp,
    /// Those that have not ended, whenever they were started.
    going: Vec<&'a Task>,
    /// The newest one that ECS knows; it forgets them after about an hour.
    newest: Option<&'a Task>,
    /// There are others, of which nothing is known.
    truncated: bool,
}

impl<'a> Runs<'a> {
    /// The runs since a moment, the last heartbeat mostly, and those since a later one.
    pub fn since(
        scheduler: &Scheduler,
        state: &State,
        facts: &'a ServiceFacts,
        since: Timestamp,
        recent_from: Timestamp,
    ) -> Self {
        let ecs = scheduler.ecs.as_ref();
        let container = ecs.and_then(|ecs| ecs.container.as_deref());
        let by_hand = |task: &Task| {
            (state.restarts.attempts.iter())
                .any(|a| a.cure == CureKind::RunTask && a.token == task.started_by)
        };
        let tasks = || facts.tasks.iter().filter(|task| !by_hand(task));
        // One whose containers never ran was to begin before it was given up.
        let began_after = |task: &Task, from: Timestamp| {
            (task.started_at.or(task.stopped_at)).is_none_or(|at| at > from)
        };
        let begun: Vec<&Task> = tasks().filter(|task| began_after(task, since)).collect();
        let of_begun = |such: &dyn Fn(&Task) -> bool| -> Vec<&Task> {
            begun.iter().copied().filter(|task| such(task)).collect()
        };
        Self {
            failed: of_begun(&|task| task.is_stopped() && !ended_well(task, container)),
            recent: of_begun(&|task| began_after(task, recent_from)),
            recent_from,
            going: tasks().filter(|task| !task.is_stopped()).collect(),
            newest: tasks().max_by_key(|task| task.started_at),
            truncated: facts.truncated,
            begun,
        }
    }

    /// Whether nothing is started: the schedule is off, gone, or its calls are refused.
    pub fn is_none_started(&self) -> bool {
        self.recent.is_empty() && !self.truncated
    }

    /// Whether no run comes about: none is started, or all that were failed or hang before their
    /// containers run. One before them may have run well without a word, where nothing was due.
    pub fn is_none_alive(&self) -> bool {
        let came_up = |task: &&Task| task.started_at.is_some() && !self.has_failed(task);
        !self.recent.iter().any(came_up) && !self.truncated
    }

    fn has_failed(&self, task: &Task) -> bool {
        self.failed.iter().any(|failed| failed.id == task.id)
    }

    /// The task that excuses the silence, where no run before it had the time to speak.
    pub fn starting(&self, grace: SignedDuration, now: Timestamp) -> Option<&'a Task> {
        let is_young = |task: &&Task| {
            (task.started_at).is_none_or(|started| now.duration_since(started) < grace)
        };
        let all_young = self.failed.is_empty() && self.begun.iter().all(is_young);
        (self.begun.iter().copied())
            .filter(|_| all_young && !self.truncated)
            .max_by_key(|task| task.started_at)
    }

    /// What ECS says, without the runs that ended well: those prove no cause.
    pub fn facts(&self, facts: &ServiceFacts) -> ServiceFacts {
        let told = self.going.iter().chain(&self.failed);
        ServiceFacts {
            tasks: told.map(|task| (*task).clone()).collect(),
            ..facts.clone()
        }
    }

    /// The runs as a fact.
    pub fn fact(&self) -> Fact {
        let count = |tasks: usize| u32::try_from(tasks).unwrap_or(u32::MAX);
        let failed = self.recent.iter().filter(|task| self.has_failed(task));
        Fact::Runs {
            since: self.recent_from,
            started: count(self.recent.len()),
            failed: count(failed.count()),
            running: count(self.going.len()),
            newest: self.newest.and_then(|task| task.started_at),
            by: (self.newest.map(|task| task.started_by.clone())).filter(|by| !by.is_empty()),
            at_least: self.truncated,
        }
    }
}

/// Whether a stopped task's scheduler ended with 0. Where its container is not named, one that
/// did is enough: what stands beside it is killed with it.
fn ended_well(task: &Task, container: Option<&str>) -> bool {
    let is_it = |known: &&Container| container.is_none_or(|name| known.name == name);
    let mut schedulers = task.containers.iter().filter(is_it);
    schedulers.any(|container| container.exit_code == Some(0))
}
