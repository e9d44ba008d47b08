//! What ECS says about the end of tasks and containers, where that can be a cause.

use jiff::Timestamp;

use super::{AROUND_THE_LAST_HEARTBEAT, Clues, Evidence};
use crate::condition::{Condition, Fact};
use crate::message::safe;
use crate::snapshot::{ServiceFacts, Task};

/// Stop codes of tasks that ECS or a person ends on purpose. Their processes are asked to end,
/// and killed after 30 seconds (exit code 137): that code says nothing of how they fared.
const ON_PURPOSE: [&str; 4] = [
    "ServiceSchedulerInitiated",
    "UserInitiated",
    "SpotInterruption",
    "TerminationNotice",
];

/// Events after which the service was well; what is older is another story.
const WELL: [&str; 2] = ["has reached a steady state", "has completed a deployment"];

/// Something that ended, or does not come to life.
pub(super) struct Stop {
    /// Codes and sentences, for the patterns of causes.
    pub text: String,
    /// How the process ended, where that tells something.
    pub exit_code: Option<i32>,
    /// What is shown.
    pub evidence: Evidence,
}

/// What can have to do with the trouble, newest first.
pub(super) fn relevant(clues: &Clues<'_>) -> Vec<Stop> {
    let Some(service) = clues.service else {
        return Vec::new();
    };
    match clues.condition {
        Condition::SchedulerSilent | Condition::ReplicaSilent | Condition::NeverSeen => {
            let since = begin(clues);
            of_tasks(&service.tasks, |task| {
                // A running task can hold a container that is gone; a stopped one counts if it
                // stopped when the heartbeats did.
                clues.task.is_none_or(|only| task.id == only)
                    && (task.is_running() || since.is_some_and(|since| ended_after(task, since)))
            })
        }
        Condition::ServiceDown => {
            // The last that ended are why nothing runs; where that is not known, all are.
            let since = begin(clues);
            let newest = of_tasks(&service.tasks, |task| {
                since.is_some_and(|since| ended_after(task, since))
            });
            let mut stops = match newest.is_empty() {
                false => newest,
                true => of_tasks(&service.tasks, |_| true),
            };
            stops.extend(events(service));
            stops
        }
        Condition::DeploymentStuck => {
            let deployment = service.deploying().map(|deployment| &deployment.id);
            let is_new = |task: &Task| deployment == Some(&task.started_by);
            let mut stops = of_tasks(&service.tasks, is_new);
            stops.extend(
                (service.running())
                    .filter(|task| is_new(task) && task.health == "UNHEALTHY")
                    .map(unhealthy),
            );
            stops.extend(events(service));
            stops
        }
        _ => Vec::new(),
    }
}

fn begin(clues: &Clues<'_>) -> Option<Timestamp> {
    (clues.last_heartbeat).map(|at| at - AROUND_THE_LAST_HEARTBEAT)
}

fn ended_after(task: &Task, since: Timestamp) -> bool {
    task.stopped_at.is_some_and(|at| at >= since)
}

/// The ends of such tasks and of their containers.
fn of_tasks(tasks: &[Task], such: impl Fn(&Task) -> bool) -> Vec<Stop> {
    let mut tasks: Vec<&Task> = tasks.iter().filter(|task| such(task)).collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.stopped_at));
    tasks.into_iter().flat_map(of_task).collect()
}

fn of_task(task: &Task) -> Vec<Stop> {
    let on_purpose = ON_PURPOSE.contains(&task.stop_code.as_str());
    let ended = |container: Option<String>, reason: &str, exit_code| {
        Evidence::Fact(Fact::TaskEnded {
            task: task.id.clone(),
            container,
            reason: safe::evidence(reason),
            exit_code,
        })
    };
    let of_containers = (task.containers.iter())
        .filter(|container| {
            !container.reason.is_empty() || container.exit_code.is_some_and(|code| code != 0)
        })
        .map(|container| Stop {
            text: container.reason.clone(),
            exit_code: container.exit_code.filter(|_| !on_purpose),
            evidence: ended(
                Some(container.name.clone()),
                &container.reason,
                container.exit_code,
            ),
        });
    let reason = match task.stopped_reason.as_str() {
        "" => task.stop_code.as_str(),
        reason => reason,
    };
    let of_task = (!reason.is_empty()).then(|| Stop {
        text: format!("{} {}", task.stop_code, task.stopped_reason),
        exit_code: None,
        evidence: ended(None, reason, None),
    });
    of_containers.chain(of_task).collect()
}

fn unhealthy(task: &Task) -> Stop {
    Stop {
        text: task.health.clone(),
        exit_code: None,
        evidence: Evidence::Fact(Fact::Unhealthy {
            task: task.id.clone(),
        }),
    }
}

/// What the service said since it was well.
fn events(service: &ServiceFacts) -> impl Iterator<Item = Stop> {
    (service.events.iter())
        .take_while(|event| !WELL.iter().any(|well| event.contains(well)))
        .map(|event| Stop {
            text: event.clone(),
            exit_code: None,
            evidence: Evidence::line(event),
        })
}
