//! What can be wrong with a scheduler, and what was found of it in one look.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::config::nearest;
use crate::health::Sign;
use crate::snapshot::Obstacle;

/// What can be wrong. The names are part of every message and of the replay contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Tasks run, other lines are fresh, no heartbeat.
    SchedulerSilent,
    /// One of several tasks gives no heartbeat while others do.
    ReplicaSilent,
    /// The loop lives, but every run aborts.
    SchedulerFailing,
    /// The loop lives, and a job's expected run is missing.
    JobOverdue,
    /// A job failed several times in a row.
    JobFailing,
    /// A job's run takes longer than it may.
    JobOverrun,
    /// Two replicas run the same job for the same due time.
    DuplicateRuns,
    /// Errors exceed the threshold and the baseline.
    ErrorSpike,
    /// ECS runs no task although it should.
    ServiceDown,
    /// Tasks run, but no line of any kind arrives.
    LogsSilent,
    /// Not one heartbeat since the watchdog was installed.
    NeverSeen,
    /// A deployment does not come to its end.
    DeploymentStuck,
    /// The watchdog itself cannot see.
    WatchdogBlind,
    /// The watchdog's own configuration is wrong.
    Misconfigured,
    /// Nothing is wrong: what a test alert is about. No look finds it.
    TestAlert,
}

impl Condition {
    /// Every condition that can be found, for tables and tests.
    pub const ALL: [Self; 14] = [
        Self::SchedulerSilent,
        Self::ReplicaSilent,
        Self::SchedulerFailing,
        Self::JobOverdue,
        Self::JobFailing,
        Self::JobOverrun,
        Self::DuplicateRuns,
        Self::ErrorSpike,
        Self::ServiceDown,
        Self::LogsSilent,
        Self::NeverSeen,
        Self::DeploymentStuck,
        Self::WatchdogBlind,
        Self::Misconfigured,
    ];

    /// Its name in messages, reports and metrics.
    pub fn id(self) -> &'static str {
        match self {
            Self::SchedulerSilent => "scheduler-silent",
            Self::ReplicaSilent => "replica-silent",
            Self::SchedulerFailing => "scheduler-failing",
            Self::JobOverdue => "job-overdue",
            Self::JobFailing => "job-failing",
            Self::JobOverrun => "job-overrun",
            Self::DuplicateRuns => "duplicate-runs",
            Self::ErrorSpike => "error-spike",
            Self::ServiceDown => "service-down",
            Self::LogsSilent => "logs-silent",
            Self::NeverSeen => "never-seen",
            Self::DeploymentStuck => "deployment-stuck",
            Self::WatchdogBlind => "watchdog-blind",
            Self::Misconfigured => "misconfigured",
            Self::TestAlert => "test-alert",
        }
    }

    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::SchedulerSilent
            | Self::SchedulerFailing
            | Self::ServiceDown
            | Self::LogsSilent
            | Self::WatchdogBlind
            | Self::Misconfigured => Severity::Critical,
            Self::ReplicaSilent
            | Self::JobOverdue
            | Self::JobFailing
            | Self::JobOverrun
            | Self::DuplicateRuns
            | Self::ErrorSpike
            | Self::NeverSeen
            | Self::DeploymentStuck
            | Self::TestAlert => Severity::Warning,
        }
    }

    /// Whether a restart can help.
    pub fn restart(self) -> RestartHelps {
        match self {
            Self::SchedulerSilent => RestartHelps::Yes,
            Self::ReplicaSilent => RestartHelps::OneTask,
            Self::SchedulerFailing => RestartHelps::ByCause,
            Self::JobOverdue
            | Self::JobFailing
            | Self::JobOverrun
            | Self::DuplicateRuns
            | Self::ErrorSpike
            | Self::ServiceDown
            | Self::LogsSilent
            | Self::NeverSeen
            | Self::DeploymentStuck
            | Self::WatchdogBlind
            | Self::Misconfigured
            | Self::TestAlert => RestartHelps::No,
        }
    }

    /// The slot that its incidents take. One outage is one incident, even when its face changes.
    pub fn slot(self) -> Slot {
        match self {
            Self::SchedulerSilent
            | Self::SchedulerFailing
            | Self::ServiceDown
            | Self::LogsSilent
            | Self::NeverSeen => Slot::Loop,
            Self::ReplicaSilent => Slot::Replica,
            Self::JobOverdue => Slot::JobRuns,
            Self::JobFailing => Slot::JobFailures,
            Self::JobOverrun => Slot::JobRuntime,
            Self::DuplicateRuns => Slot::Duplicates,
            Self::ErrorSpike => Slot::Errors,
            Self::DeploymentStuck => Slot::Deployment,
            Self::WatchdogBlind | Self::TestAlert => Slot::Watchdog,
            Self::Misconfigured => Slot::Configuration,
        }
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.map(Self::id);
        (Self::ALL.into_iter())
            .find(|condition| condition.id() == text)
            .ok_or_else(|| format!("unknown condition `{text}`{}", nearest(text, &known)))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// What an incident is about. Of each slot (and subject) at most one incident is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slot {
    /// The scheduler's loop.
    Loop,
    /// One replica; the subject is its task.
    Replica,
    /// The runs of one job; the subject is its name, none for several jobs at once.
    JobRuns,
    /// The failures of one job, likewise.
    JobFailures,
    /// The runtime of one job, likewise.
    JobRuntime,
    /// The second runs of one job, likewise.
    Duplicates,
    /// The errors in the log.
    Errors,
    /// The service's deployment.
    Deployment,
    /// The watchdog's own sight; the subject is what it cannot see.
    Watchdog,
    /// The watchdog's configuration.
    Configuration,
}

impl Slot {
    /// Whether it is about jobs.
    pub fn is_of_jobs(self) -> bool {
        matches!(
            self,
            Self::JobRuns | Self::JobFailures | Self::JobRuntime | Self::Duplicates
        )
    }
}

/// Whether a restart can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartHelps {
    /// A new deployment can.
    Yes,
    /// Stopping the one task can.
    OneTask,
    /// It depends on the cause.
    ByCause,
    /// It cannot.
    No,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

impl Severity {
    /// Its name in messages and reports.
    pub fn id(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One thing that one look found wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What is wrong.
    pub condition: Condition,
    /// Which replica, which job, or which of the watchdog's own senses; none for the scheduler
    /// as a whole.
    pub subject: Option<String>,
    /// When the trouble began, as far as the evidence tells.
    pub since: Timestamp,
    /// Every signal agrees, so that no second look is needed.
    pub corroborated: bool,
    /// Why, root cause first; empty where nothing proves any cause.
    pub causes: Vec<Cause>,
    /// What was told as the cause before is not, as is known by now.
    pub refuted: bool,
    /// The numbers that prove the condition, as a sentence for people who read the report.
    pub proof: Vec<Fact>,
    /// How often people are reminded of it, where it has a pace of its own.
    pub pace: Option<Pace>,
}

/// The pauses between reminders: the first, and the longest. In between, each is twice as long
/// as the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// To the first reminder, if that is later than configured.
    pub first: SignedDuration,
    /// The longest.
    pub longest: SignedDuration,
}

/// A fact that proves a condition or a cause. Messages say it in the reader's language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub enum Fact {
    /// The last heartbeat of the scheduler, or of the replica.
    LastHeartbeat {
        /// When it was printed; none if there never was one.
        at: Option<Timestamp>,
    },
    /// The silence that is allowed at present, in seconds.
    Allowed {
        /// Seconds.
        seconds: i64,
    },
    /// Lines of other kinds that arrived meanwhile.
    OtherLines {
        /// The newest; none if no line of any kind arrived.
        newest: Option<Timestamp>,
    },
    /// Tasks by ECS's word.
    Tasks {
        /// Running now.
        running: u32,
        /// Wanted.
        desired: u32,
        /// The id of the newest one that runs, for commands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        newest: Option<String>,
    },
    /// Tasks, where each run of the scheduler is one of its own.
    Runs {
        /// Counted from here on.
        since: Timestamp,
        /// Started since then, or to be started.
        started: u32,
        /// Of these, failed.
        failed: u32,
        /// Not ended yet, whenever they were started.
        running: u32,
        /// When the newest one that ECS knows was started.
        newest: Option<Timestamp>,
        /// Who started it, in ECS's words.
        by: Option<String>,
        /// There are more tasks than were looked at.
        #[serde(default)]
        at_least: bool,
    },
    /// ECS could not be asked, or is not configured.
    EcsUnknown {
        /// Why.
        why: String,
        /// The kind of obstacle.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        obstacle: Option<Obstacle>,
    },
    /// What the application's health endpoint says.
    Health {
        /// Its own judgement.
        healthy: bool,
        /// The last run that it knows of, where it names one that can be read.
        last_run: Option<Timestamp>,
        /// What that is worth.
        sign: Sign,
    },
    /// The health endpoint was asked, and gave no answer of use.
    HealthUnknown {
        /// Why.
        why: String,
    },
    /// Jobs that may be running and keep the loop waiting.
    MayBeRunning {
        /// Their names.
        jobs: Vec<String>,
    },
    /// A run that the loop waited for, and that is over.
    WaitedFor {
        /// The job.
        job: String,
        /// When the run began.
        from: Timestamp,
        /// When it ended.
        until: Timestamp,
    },
    /// Runs that aborted since the last one that came to its end.
    Aborts {
        /// How many were seen.
        count: u32,
    },
    /// The newest errors, where none of them proves a cause.
    LastErrors {
        /// Their texts, newest first.
        lines: Vec<String>,
    },
    /// Errors within the window.
    Errors {
        /// How many; a lower bound if the result was truncated.
        count: u32,
        /// The window in seconds.
        seconds: i64,
        /// More than this is a spike.
        threshold: u32,
        /// The usual number in such a window, once enough is known.
        usual: Option<u32>,
        /// The result was cut at the limit.
        at_least: bool,
    },
    /// Tasks that stopped, newest first.
    Stopped {
        /// ECS's sentences with exit codes.
        reasons: Vec<String>,
    },
    /// A deployment that is in progress.
    Deployment {
        /// Its id.
        id: String,
        /// When it was asked for.
        since: Timestamp,
        /// Tasks that failed to start.
        failed_tasks: u32,
    },
    /// What the watchdog cannot see.
    Blind {
        /// Why, naming the action or the thing.
        why: String,
        /// The kind of obstacle.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        obstacle: Option<Obstacle>,
        /// Passes in a row.
        passes: u32,
    },
    /// The watchdog looks since then.
    WatchedSince {
        /// The first pass.
        at: Timestamp,
    },
    /// Runs of a job that did not happen.
    MissedRuns {
        /// The job.
        job: String,
        /// How many.
        count: u32,
        /// The due time of the first.
        first: Timestamp,
        /// The due time of the last.
        last: Timestamp,
    },
    /// Jobs that have not run since, although it is over.
    NotSince {
        /// Their names, the rarest first.
        jobs: Vec<String>,
        /// How many more.
        more: u32,
        /// When the first of them is due next, if any is.
        next: Option<Timestamp>,
    },
    /// Further jobs of which runs did not happen.
    MoreMissed {
        /// How many jobs.
        jobs: u32,
    },
    /// The newest run of a job.
    LastRun {
        /// When it began; none if none has been seen.
        at: Option<Timestamp>,
    },
    /// A pause of the loop into which a due time fell.
    Paused {
        /// The heartbeat before it.
        from: Timestamp,
        /// The heartbeat that ended it.
        until: Timestamp,
    },
    /// The next expected run of a job.
    NextRun {
        /// When it is due.
        at: Timestamp,
    },
    /// Failures of a job in a row.
    Failures {
        /// How many.
        count: u32,
        /// This many are reported.
        tolerance: u32,
        /// The newest exit code, where one was told.
        exit_code: Option<i32>,
        /// The newest.
        at: Timestamp,
    },
    /// A run that takes longer than it may.
    Runtime {
        /// How long it took, or has been running, in seconds.
        seconds: i64,
        /// How long it may take, in seconds.
        allowed: i64,
        /// It has not ended yet.
        running: bool,
    },
    /// Due times of a job in a row that ran on two streams.
    Twice {
        /// How many.
        count: u32,
        /// The newest second run.
        at: Timestamp,
        /// The streams of the newest.
        streams: Vec<String>,
    },
    /// Jobs that are in the same trouble.
    Jobs {
        /// Their names, the first of them.
        names: Vec<String>,
        /// How many more.
        more: u32,
    },
    /// Mistakes in the configuration.
    Mistakes {
        /// Each with its place.
        list: Vec<String>,
    },
    /// How a task or one of its containers ended, by ECS's word.
    TaskEnded {
        /// The task.
        task: String,
        /// The container; none for the task as a whole.
        container: Option<String>,
        /// ECS's sentence; empty where it gives none.
        reason: String,
        /// How the container's process ended.
        exit_code: Option<i32>,
    },
    /// A running task that fails its health check.
    Unhealthy {
        /// The task.
        task: String,
    },
    /// The newest task has not said that it started the scheduler, as others did.
    NotStarted {
        /// The task.
        task: String,
        /// It runs since then.
        running_since: Timestamp,
        /// The newest line that says the scheduler was started.
        booted_at: Timestamp,
    },
    /// The scheduler was started, and not one line of its output followed.
    NothingSinceStart {
        /// When it was started.
        booted_at: Timestamp,
    },
    /// The newest run of a job began and was cut off.
    CutOff {
        /// The job.
        job: String,
        /// When the run began.
        start: Timestamp,
        /// Its process was killed; else its task ended.
        killed: bool,
        /// The line that was cut off.
        line: String,
    },
    /// All jobs stopped at once, while the same task went on looking for due ones.
    AllStopped {
        /// The newest line of any job.
        last: Timestamp,
        /// The first run that was missed.
        since: Timestamp,
        /// How many jobs should have run since then.
        jobs: u32,
    },
    /// A job stopped at a date's edge, while the same task went on running others.
    StoppedAtEdge {
        /// The job.
        job: String,
        /// Its last run.
        last: Timestamp,
        /// The edge: a midnight, or an hour near the end of the job's configured window.
        edge: Timestamp,
    },
    /// What the watchdog watches.
    Watched {
        /// The schedulers' names, the first of them.
        names: Vec<String>,
        /// How many more.
        more: u32,
    },
    /// Subscriptions to the alerts.
    Readers {
        /// The SNS topic.
        topic: String,
        /// Those that get every message.
        confirmed: u32,
        /// Those that get none until somebody confirms them.
        pending: u32,
    },
    /// The subscriptions to the alerts could not be counted.
    ReadersUnknown {
        /// Why, naming the action or the thing.
        why: String,
    },
    /// The next test alert.
    NextTest {
        /// When it comes, where that can be told.
        at: Option<Timestamp>,
        /// The schedule as EventBridge writes it; none if this one was asked for by hand.
        schedule: Option<String>,
        /// The IANA name of the time zone in which the message says times.
        timezone: String,
    },
}

/// Of how many jobs a proof says that runs did not happen.
pub fn missed_jobs(proof: &[Fact]) -> u32 {
    (proof.iter())
        .map(|fact| match fact {
            Fact::MissedRuns { .. } => 1,
            Fact::MoreMissed { jobs } => *jobs,
            _ => 0,
        })
        .sum()
}

impl Fact {
    /// Whether it tells of runs that did not happen.
    pub fn is_of_missed_runs(&self) -> bool {
        matches!(
            self,
            Self::MissedRuns { .. } | Self::NotSince { .. } | Self::MoreMissed { .. }
        )
    }
}
