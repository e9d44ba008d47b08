//! Set-ups without a service: each run of the scheduler is a task of its own, which something
//! outside starts, an EventBridge schedule mostly. Between two runs no task need run, a task that
//! has ended is no trouble, and no run waits for another.

use jiff::{SignedDuration, Timestamp};

use crate::condition::Fact;
use crate::config::Scheduler;
use crate::snapshot::{Container, ServiceFacts, Task};
use crate::state::State;

/// The tasks around a silence, as far as they are not the watchdog's own.
pub(super) struct Runs<'a> {
    /// Those that were started after it began, or were to be.
    begun: Vec<&'a Task>,
    /// Those of them that failed: the scheduler's container did not end well, or never began.
    failed: Vec<&'a Task>,
    /// Those that have not ended, whenever they were started.
    going: Vec<&'a Task>,
    /// The newest one that ECS knows; it forgets them after about an hour.
    newest: Option<&'a Task>,
}

impl<'a> Runs<'a> {
    /// The runs since a moment: the last heartbeat, or the first look.
    pub fn since(
        scheduler: &Scheduler,
        state: &State,
        facts: &'a ServiceFacts,
        since: Timestamp,
    ) -> Self {
        let container = scheduler
            .ecs
            .as_ref()
            .and_then(|ecs| ecs.container.as_deref());
        let by_hand = |task: &Task| {
            (state.restarts.attempts.iter())
                .any(|a| !a.token.is_empty() && a.token == task.started_by)
        };
        let tasks = || facts.tasks.iter().filter(|task| !by_hand(task));
        // One whose containers never ran was to begin before it was given up.
        let began = |task: &Task| match task.started_at.or(task.stopped_at) {
            Some(at) => at > since,
            None => true,
        };
        let begun: Vec<&Task> = tasks().filter(|task| began(task)).collect();
        Self {
            failed: (begun.iter().copied())
                .filter(|task| task.is_stopped() && !ended_well(task, container))
                .collect(),
            begun,
            going: tasks().filter(|task| !task.is_stopped()).collect(),
            newest: tasks().max_by_key(|task| task.started_at),
        }
    }

    /// Whether nothing was started: the schedule is off, gone, or its calls are refused.
    pub fn is_none_started(&self) -> bool {
        self.begun.is_empty()
    }

    /// Whether no run came about: none was started, or all that were failed or hang before their
    /// containers run.
    pub fn is_none_alive(&self) -> bool {
        (self.begun.iter())
            .all(|task| task.started_at.is_none() || self.failed.iter().any(|f| f.id == task.id))
    }

    /// The task that excuses the silence, where no run before it had the time to speak.
    pub fn starting(&self, grace: SignedDuration, now: Timestamp) -> Option<&'a Task> {
        let is_young = |task: &&Task| {
            (task.started_at).is_none_or(|started| now.duration_since(started) < grace)
        };
        let all_young = self.failed.is_empty() && self.begun.iter().all(is_young);
        (self.begun.iter().copied())
            .filter(|_| all_young)
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
        let count = |tasks: &[&Task]| u32::try_from(tasks.len()).unwrap_or(u32::MAX);
        Fact::Runs {
            started: count(&self.begun),
            failed: count(&self.failed),
            running: count(&self.going),
            newest: self.newest.and_then(|task| task.started_at),
            by: (self.newest.map(|task| task.started_by.clone())).filter(|by| !by.is_empty()),
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
