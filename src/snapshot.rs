//! What one look at a scheduler showed: plain data, collected at the rim, judged inside.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::health::Health;
use crate::line::Line;
use crate::message::safe;

/// A signal: known, or unknown for a stated reason. Never guessed.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed<T> {
    /// What was seen.
    Known(T),
    /// Why nothing was seen.
    Unknown(CallError),
}

impl<T> Observed<T> {
    /// The value, where it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// Why it is not known, where it is not.
    pub fn unknown(&self) -> Option<&CallError> {
        match self {
            Self::Known(_) => None,
            Self::Unknown(error) => Some(error),
        }
    }
}

/// Why a call gave no answer, and so why a signal is unknown or an act undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct CallError {
    /// The kind of obstacle.
    pub kind: Obstacle,
    /// A sentence that names the thing and the remedy.
    pub detail: String,
}

impl CallError {
    /// Whether the same call may succeed later without anybody's help.
    pub fn retry_helps(&self) -> bool {
        self.kind.passes_by_itself()
    }

    /// Whether what was asked for may have been done all the same: the answer was lost, or is no
    /// refusal.
    pub fn may_have_been_done(&self) -> bool {
        match self.kind {
            Obstacle::TimedOut | Obstacle::Failed => true,
            Obstacle::Throttled | Obstacle::Denied | Obstacle::Missing | Obstacle::Refused => false,
        }
    }

    /// An obstacle with its sentence, which may quote what others said: secrets are hidden.
    pub fn new(kind: Obstacle, detail: impl AsRef<str>) -> Self {
        Self {
            kind,
            detail: safe::redact_marked(&safe::line(detail.as_ref())),
        }
    }
}

/// What stood in the way of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// AWS asked to slow down; a later pass may succeed.
    Throttled,
    /// A permission is missing; a person must grant it.
    Denied,
    /// The thing does not exist; a person must mend the configuration.
    Missing,
    /// No answer in time; a later pass may succeed.
    TimedOut,
    /// The call failed for another reason; a later pass may succeed.
    Failed,
    /// The request itself was refused as wrong; a person must mend the configuration.
    Refused,
}

impl Obstacle {
    /// Whether it may be gone later without anybody's help.
    pub fn passes_by_itself(self) -> bool {
        match self {
            Self::Throttled | Self::TimedOut | Self::Failed => true,
            Self::Denied | Self::Missing | Self::Refused => false,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Throttled => "throttled",
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::TimedOut => "timed out",
            Self::Failed => "failed",
            Self::Refused => "refused",
        })
    }
}

/// Who is subscribed to the alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readers {
    /// The topic, as commands name it.
    pub topic: String,
    /// Subscriptions that get every message.
    pub confirmed: u32,
    /// Subscriptions that get none until somebody confirms them.
    pub pending: u32,
}

/// Everything that one pass saw of one scheduler.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The scheduler's own lines.
    pub log: Observed<LogWindow>,
    /// Any line at all from the same streams; asked only on suspicion.
    pub probe: Option<Observed<Probe>>,
    /// What ECS says; asked only on suspicion and where it is configured.
    pub service: Option<Observed<ServiceFacts>>,
    /// What the application's health endpoint says; asked only on suspicion and where it is
    /// configured.
    pub health: Option<Observed<Health>>,
    /// The other schedulers that the same function watches.
    pub fleet: Fleet,
}

/// The scheduler's lines in a span of time, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogWindow {
    /// The first instant that the query covered.
    pub from: Timestamp,
    /// The last instant that the query covered.
    pub until: Timestamp,
    /// What was recognised, per stream in time order.
    pub lines: Vec<Line>,
    /// The query's limit cut the result: the oldest lines are missing and counts are lower bounds.
    pub truncated: bool,
    /// Bytes that the query scanned, where the backend says so.
    pub scanned_bytes: Option<u64>,
    /// The 99th percentile of ingestion time minus event time, where the backend gives both.
    pub lag: Option<SignedDuration>,
}

/// The newest line of any kind, per stream. Lines that are no scheduler output prove that the
/// logs themselves are alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Stream name → time of its newest line in the span that was asked for.
    pub newest: BTreeMap<String, Timestamp>,
}

impl Probe {
    /// The newest line of all streams.
    pub fn newest_line(&self) -> Option<Timestamp> {
        self.newest.values().max().copied()
    }
}

/// What ECS says of the service, or of the tasks of a definition without a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceFacts {
    /// `ACTIVE`, `DRAINING` or `INACTIVE`; `ACTIVE` for tasks without a service.
    pub status: String,
    /// `ECS` for rolling deployments, else `CODE_DEPLOY` or `EXTERNAL`.
    pub controller: String,
    /// Tasks that should run. For tasks without a service: 1.
    pub desired: u32,
    /// Newest first.
    pub deployments: Vec<Deployment>,
    /// Running ones and those that stopped within about an hour.
    pub tasks: Vec<Task>,
    /// There are more tasks than these: that one is not among them proves nothing.
    pub truncated: bool,
    /// The newest service events, newest first.
    pub events: Vec<String>,
}

/// One deployment of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// `ecs-svc/…`
    pub id: String,
    /// `PRIMARY` for the newest, `ACTIVE` for those that drain.
    pub status: String,
    /// `COMPLETED`, `IN_PROGRESS` or `FAILED`; empty where the controller gives none.
    pub rollout: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Tasks that failed to start.
    pub failed_tasks: u32,
}

/// One task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The last part of its ARN; also the last part of its log stream's name.
    pub id: String,
    /// For a service's task the deployment's id; `events-rule/…` or `chronos-schedule/…` for one
    /// that EventBridge started.
    pub started_by: String,
    /// `PROVISIONING`, `PENDING`, `RUNNING`, `STOPPED`, …
    pub last_status: String,
    /// When its containers ran, if they did.
    pub started_at: Option<Timestamp>,
    /// When it stopped, if it did.
    pub stopped_at: Option<Timestamp>,
    /// Why it stopped: the code.
    pub stop_code: String,
    /// Why it stopped: the sentence.
    pub stopped_reason: String,
    /// `HEALTHY`, `UNHEALTHY` or `UNKNOWN`.
    pub health: String,
    /// Its containers.
    pub containers: Vec<Container>,
}

impl Task {
    /// Whether its containers run now.
    pub fn is_running(&self) -> bool {
        self.last_status == "RUNNING"
    }

    /// Whether it has come to its end.
    pub fn is_stopped(&self) -> bool {
        self.last_status == "STOPPED" || self.stopped_at.is_some()
    }

    /// Whether a service keeps it: those tasks carry the id of its deployment.
    pub fn is_of_service(&self) -> bool {
        self.started_by.starts_with("ecs-svc/")
    }
}

/// One container of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name in the task definition.
    pub name: String,
    /// The image reference; pinned if it holds `@sha256:`.
    pub image: String,
    /// How its process ended; 137 for a kill.
    pub exit_code: Option<i32>,
    /// Why it stopped, such as `OutOfMemoryError: Container killed due to memory usage`.
    pub reason: String,
}

impl ServiceFacts {
    /// The tasks that run now.
    pub fn running(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| task.is_running())
    }

    /// The newest deployment.
    pub fn newest_deployment(&self) -> Option<&Deployment> {
        self.deployments.iter().max_by_key(|d| d.created_at)
    }

    /// A deployment that has not come to its end.
    pub fn deploying(&self) -> Option<&Deployment> {
        let newest = self.newest_deployment()?;
        let several = self.deployments.len() > 1;
        (newest.rollout == "IN_PROGRESS" || (several && newest.rollout != "FAILED"))
            .then_some(newest)
    }
}

/// How the schedulers of one function fare: as they were judged in this pass, else as they fared when it
/// began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// How many are watched.
    pub watched: usize,
    /// How many have an incident firing that a restart is made for.
    pub firing: usize,
}

impl Fleet {
    /// Half of at least three at once: something that they share is down.
    pub fn is_storm(&self) -> bool {
        self.watched >= 3 && self.firing * 2 > self.watched
    }
}
