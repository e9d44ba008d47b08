//! What one pass decided: plain data. A dry run is the plan, printed.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::condition::{Condition, Fact, Severity};
use crate::silence::Quiet;

/// The decision for one scheduler.
#[must_use]
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The scheduler's name.
    pub scheduler: String,
    /// The pass's time.
    pub at: Timestamp,
    /// How it stands.
    pub verdict: Verdict,
    /// Why the verdict is what it is.
    pub reason: Reason,
    /// The conditions that were found in this look, confirmed or not.
    pub conditions: Vec<Condition>,
    /// Time since the last heartbeat; none if there never was one, or it cannot be known.
    pub silent_for: Option<SignedDuration>,
    /// The silence that is allowed at present: `stale_after` in force plus the runtime of a job
    /// that may be running.
    pub allowed_silence: SignedDuration,
    /// Errors in the newest error window; a lower bound if the log was cut at the limit.
    pub errors: u32,
    /// What is to be said, in order.
    pub notifications: Vec<Notification>,
    /// What was found and is not told, each with the reason.
    pub withheld: Vec<Withheld>,
    /// What is to be done, or why nothing is; none where nothing is broken that a cure is for.
    pub remediation: Option<Remediation>,
}

impl Plan {
    /// Whether there is nothing to do but to remember what was seen.
    pub fn is_empty(&self) -> bool {
        self.notifications.is_empty() && !self.remediation.as_ref().is_some_and(|r| r.allowed())
    }
}

/// Something wrong that people are not told of in this pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// What is wrong.
    pub condition: Condition,
    /// Which replica, job or sense; none for the scheduler as a whole.
    pub subject: Option<String>,
    /// Why it is not told.
    pub why: Withholding,
}

/// Why something wrong is not told. What was told already and has not changed is not withheld.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withholding {
    /// It was found for the first time, without full corroboration.
    SecondLook,
    /// A trouble of the loop explains it.
    Explained,
    /// It comes and goes, which was told once.
    Flapping,
    /// Somebody wants to hear nothing of it for now.
    Silenced(Quiet),
}

impl fmt::Display for Withholding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecondLook => f.write_str("the next look decides"),
            Self::Explained => f.write_str("explained by the loop's trouble"),
            Self::Flapping => f.write_str("it comes and goes"),
            Self::Silenced(quiet) => {
                write!(f, "silenced until {:.0}: {}", quiet.until, quiet.reason)
            }
        }
    }
}

/// How a scheduler stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It lives, and nothing is wrong.
    Healthy,
    /// Something may be wrong; the next look decides.
    Pending,
    /// Something is wrong.
    Firing,
    /// It is not judged at present, for a stated reason.
    Suspended,
    /// Nothing can be said.
    Unknown,
}

impl Verdict {
    /// Its name in reports.
    pub fn id(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Suspended => "suspended",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a verdict is what it is. Silence has a reason, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Heartbeats are fresh and nothing else was found.
    HeartbeatFresh,
    /// Silent, but within what is allowed.
    NotDueYet,
    /// Silent for longer than usual, because a job may be running.
    JobMayBeRunning {
        /// The jobs.
        jobs: Vec<String>,
    },
    /// No heartbeat yet, and too early to worry.
    NotSeenYet,
    /// Found for the first time without full corroboration.
    SecondLookNeeded,
    /// Something was found; see the conditions.
    Found,
    /// It is good again, but not yet for long enough to say so.
    Recovering,
    /// The service is meant to run no task.
    DesiredCountZero,
    /// A deployment is in progress.
    DeploymentInProgress {
        /// Its id.
        deployment: String,
    },
    /// A task has just started.
    TaskStarting {
        /// Its id.
        task: String,
    },
    /// Something is wrong, and somebody wants to hear nothing of it for now.
    Silenced(Quiet),
    /// The log could not be read.
    Blind {
        /// Why.
        why: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeartbeatFresh => f.write_str("heartbeats are fresh"),
            Self::NotDueYet => f.write_str("silent, but not for longer than allowed"),
            Self::JobMayBeRunning { jobs } => {
                write!(
                    f,
                    "silent, but a long job may be running: {}",
                    jobs.join(", ")
                )
            }
            Self::NotSeenYet => f.write_str("no heartbeat yet; too early to worry"),
            Self::SecondLookNeeded => f.write_str("not corroborated; the next look decides"),
            Self::Found => f.write_str("found, see the conditions"),
            Self::Recovering => f.write_str("good again, not yet for long enough"),
            Self::DesiredCountZero => f.write_str("the service's desiredCount is 0"),
            Self::DeploymentInProgress { deployment } => {
                write!(f, "deployment {deployment} is in progress")
            }
            Self::TaskStarting { task } => write!(f, "task {task} has just started"),
            Self::Silenced(quiet) => {
                write!(f, "silenced until {:.0}: {}", quiet.until, quiet.reason)
            }
            Self::Blind { why } => write!(f, "cannot see: {why}"),
        }
    }
}

/// Why a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// An incident began.
    Opened,
    /// Its condition, cause or severity is another one now.
    Changed,
    /// It goes on.
    Reminder,
    /// A restart was made and proven to have helped.
    Remediated,
    /// A restart was made and did not help, or could not be made.
    RemediationFailed,
    /// No further restart will be made.
    LockedOut,
    /// It comes and goes; held open until it is quiet.
    Flapping,
    /// It is over.
    Resolved,
    /// Nothing happened: it only shows that messages arrive.
    Test,
}

impl Occasion {
    /// Every occasion of an incident, for tables and tests; a test alert is of none.
    pub const ALL: [Self; 8] = [
        Self::Opened,
        Self::Changed,
        Self::Reminder,
        Self::Remediated,
        Self::RemediationFailed,
        Self::LockedOut,
        Self::Flapping,
        Self::Resolved,
    ];

    /// Its name in messages and in the replay contract.
    pub fn id(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Changed => "changed",
            Self::Reminder => "reminder",
            Self::Remediated => "remediated",
            Self::RemediationFailed => "remediation-failed",
            Self::LockedOut => "locked-out",
            Self::Flapping => "flapping",
            Self::Resolved => "resolved",
            Self::Test => "test",
        }
    }
}

/// One message, as data: every reader's text is rendered from it, and it waits in the outbox
/// until it was delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Stable: a message that is sent twice carries the same one.
    pub id: String,
    /// The incident's id; the thread in chat.
    pub incident: String,
    /// When it was decided.
    pub at: Timestamp,
    /// The scheduler's name.
    pub scheduler: String,
    /// Why it is sent.
    pub occasion: Occasion,
    /// What is or was wrong.
    pub condition: Condition,
    /// Which replica, which job, or which of the watchdog's senses.
    pub subject: Option<String>,
    /// How bad.
    pub severity: Severity,
    /// When the trouble began.
    pub since: Timestamp,
    /// Since when it is there again, where it was gone in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_since: Option<Timestamp>,
    /// When it ended, once it did: with the heartbeat that broke a silence.
    pub until: Option<Timestamp>,
    /// Why, root cause first; empty where no cause is proven.
    pub causes: Vec<Cause>,
    /// The facts that prove the condition.
    pub proof: Vec<Fact>,
    /// What the watchdog does about it.
    pub handling: Handling,
}

/// Facts that a message keeps where there is no room: its own come first.
const LEAST_FACTS: usize = 3;

impl Notification {
    /// Leaves one piece of evidence for each cause. False if there is no other.
    pub(crate) fn thin(&mut self) -> bool {
        let surplus = self.causes.iter().any(|cause| cause.evidence.len() > 1);
        (self.causes.iter_mut()).for_each(|cause| cause.evidence.truncate(1));
        surplus
    }

    /// Leaves the root cause and the first facts. False if there is nothing else.
    pub(crate) fn shorten(&mut self) -> bool {
        let surplus = self.causes.len() > 1 || self.proof.len() > LEAST_FACTS;
        self.causes.truncate(1);
        self.proof.truncate(LEAST_FACTS);
        surplus
    }

    /// The job that it is about, if it is about one.
    pub fn job(&self) -> Option<&str> {
        (self.subject.as_deref()).filter(|_| self.condition.slot().is_of_jobs())
    }

    /// Whether it says that the trouble is over. A run by hand that went well is no end: what
    /// should start the next one is still broken.
    pub fn is_over(&self) -> bool {
        let by_hand = matches!(
            self.handling,
            Handling::Cured {
                cure: CureKind::RunTask,
                ..
            }
        );
        match self.occasion {
            Occasion::Resolved => true,
            Occasion::Remediated => !by_hand,
            _ => false,
        }
    }

    /// When what it tells of began: while it goes on, since when it is there without a break.
    pub fn began(&self) -> Timestamp {
        let again = self.again_since.filter(|_| !self.is_over());
        again.unwrap_or(self.since)
    }

    /// The name of the root cause; `unknown` without proof.
    pub fn cause_id(&self) -> &str {
        self.causes
            .first()
            .map_or("unknown", |cause| cause.id.as_str())
    }
}

/// What the watchdog does, or did, about an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "handling", rename_all = "kebab-case")]
pub enum Handling {
    /// It only tells; no cure is configured or fits.
    Watching,
    /// A restart is being made now.
    Restarting {
        /// The cure.
        cure: CureKind,
        /// Which attempt for this incident, from 1.
        attempt: u32,
    },
    /// A restart would fit, but these gates are closed.
    Withheld {
        /// The cure.
        cure: CureKind,
        /// Why not now.
        blocked_by: Vec<Gate>,
    },
    /// A restart was made; the proof that it helped is awaited.
    Proving {
        /// The cure.
        cure: CureKind,
        /// When it was made.
        at: Timestamp,
    },
    /// A restart was made, and a new task's fresh heartbeat proves that it helped.
    Cured {
        /// The cure.
        cure: CureKind,
        /// When it was made.
        at: Timestamp,
        /// From the restart to the first heartbeat of the new task, in seconds.
        seconds: i64,
    },
    /// A restart did not help, or could not be made.
    CureFailed {
        /// The cure.
        cure: CureKind,
        /// When it was made or tried.
        at: Timestamp,
        /// What the call answered; none if the call was fine but no heartbeat came.
        error: Option<String>,
    },
    /// It came back by itself, or by another's hand.
    CameBack,
    /// The service was scaled to zero.
    ScaledToZero,
    /// No run of the job is due any more: its dates are over, or other times are configured.
    NotDueAnyMore,
}

/// A cure, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CureKind {
    /// UpdateService with forceNewDeployment.
    ForceNewDeployment,
    /// StopTask of one silent replica.
    StopTask,
    /// RunTask with a command override.
    RunTask,
}

impl CureKind {
    /// Its name in configuration, messages and the replay contract.
    pub fn id(self) -> &'static str {
        match self {
            Self::ForceNewDeployment => "force-new-deployment",
            Self::StopTask => "stop-task",
            Self::RunTask => "run-task",
        }
    }
}

/// A restart that is to be made, or is withheld.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remediation {
    /// The incident's id.
    pub incident: String,
    /// The cure.
    pub cure: CureKind,
    /// The task to stop, for [`CureKind::StopTask`].
    pub task: Option<String>,
    /// Which attempt for this incident, from 1.
    pub attempt: u32,
    /// Makes a repeated RunTask harmless; stable for the attempt.
    pub token: String,
    /// Every closed gate. Empty means: do it.
    pub blocked_by: Vec<Gate>,
}

impl Remediation {
    /// Whether every gate is open.
    pub fn allowed(&self) -> bool {
        self.blocked_by.is_empty()
    }
}

/// A condition for a restart. All must be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// The incident has not been firing for `after` yet.
    TooEarly,
    /// This look did not find it: it is excused, it cannot be seen, or it looks better.
    NotFoundNow,
    /// A job that was due when the silence began may still be running.
    JobMayBeRunning,
    /// A restart cannot help against this condition.
    ConditionNotRestartable,
    /// A restart cannot help against this cause, or no cause is proven where one is needed.
    CauseNotRestartable,
    /// No line of another kind proves that the logs themselves are alive.
    LogsNotProvenAlive,
    /// The application's health endpoint says that the scheduler runs although its lines are
    /// missing.
    HealthSaysAlive,
    /// The log could not be read in this pass.
    LogUnknown,
    /// ECS could not be asked in this pass.
    EcsUnknown,
    /// The service is not ACTIVE.
    ServiceNotActive,
    /// Another controller than ECS deploys the service.
    DeploymentController,
    /// The service is meant to run no task.
    DesiredCountZero,
    /// A deployment is in progress, or the newest has not completed.
    DeploymentInProgress,
    /// The newest deployment, or the last restart, is younger than `cooldown`.
    Cooldown,
    /// The last restart has not been proven or given up yet.
    ProofPending,
    /// Enough restarts for this incident.
    AttemptsPerIncident,
    /// Enough restarts for 24 hours.
    AttemptsPerDay,
    /// No restarts until healthy for long enough, or cleared by a person.
    LockedOut,
    /// Somebody wants no restart for now.
    Silenced,
    /// More than half of the schedulers are in trouble at once: something shared is down.
    Storm,
    /// The image is not pinned by digest, and a restart could bring a newer one.
    MutableImageTag,
    /// The replica's task is gone already.
    TaskGone,
    /// The call failed too often; a person must look at its error.
    CallsFailed,
}

impl Gate {
    /// Every gate, for tables and tests.
    pub const ALL: [Self; 23] = [
        Self::TooEarly,
        Self::NotFoundNow,
        Self::JobMayBeRunning,
        Self::ConditionNotRestartable,
        Self::CauseNotRestartable,
        Self::LogsNotProvenAlive,
        Self::HealthSaysAlive,
        Self::LogUnknown,
        Self::EcsUnknown,
        Self::ServiceNotActive,
        Self::DeploymentController,
        Self::DesiredCountZero,
        Self::DeploymentInProgress,
        Self::Cooldown,
        Self::ProofPending,
        Self::AttemptsPerIncident,
        Self::AttemptsPerDay,
        Self::LockedOut,
        Self::Silenced,
        Self::Storm,
        Self::MutableImageTag,
        Self::TaskGone,
        Self::CallsFailed,
    ];

    /// Its name in plans, reports, messages and the replay contract.
    pub fn id(self) -> &'static str {
        match self {
            Self::TooEarly => "too-early",
            Self::NotFoundNow => "not-found-now",
            Self::JobMayBeRunning => "job-may-be-running",
            Self::ConditionNotRestartable => "condition-not-restartable",
            Self::CauseNotRestartable => "cause-not-restartable",
            Self::LogsNotProvenAlive => "logs-not-proven-alive",
            Self::HealthSaysAlive => "health-says-alive",
            Self::LogUnknown => "log-unknown",
            Self::EcsUnknown => "ecs-unknown",
            Self::ServiceNotActive => "service-not-active",
            Self::DeploymentController => "deployment-controller",
            Self::DesiredCountZero => "desired-count-zero",
            Self::DeploymentInProgress => "deployment-in-progress",
            Self::Cooldown => "cooldown",
            Self::ProofPending => "proof-pending",
            Self::AttemptsPerIncident => "attempts-per-incident",
            Self::AttemptsPerDay => "attempts-per-day",
            Self::LockedOut => "locked-out",
            Self::Silenced => "silenced",
            Self::Storm => "storm",
            Self::MutableImageTag => "mutable-image-tag",
            Self::TaskGone => "task-gone",
            Self::CallsFailed => "calls-failed",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.scheduler, self.verdict.id())?;
        if !self.conditions.is_empty() {
            let names: Vec<&str> = self.conditions.iter().map(|c| c.id()).collect();
            write!(f, " [{}]", names.join(", "))?;
        }
        writeln!(f, " ({})", self.reason)?;
        match self.silent_for {
            Some(silent) => writeln!(
                f,
                "  last heartbeat {silent:#} ago, allowed {:#}; {} errors",
                self.allowed_silence, self.errors
            )?,
            None => writeln!(f, "  no heartbeat known; {} errors", self.errors)?,
        }
        for notification in &self.notifications {
            writeln!(
                f,
                "  notify: {} {} ({}), cause {}",
                notification.occasion.id(),
                notification.condition,
                notification.severity.id(),
                notification.cause_id(),
            )?;
        }
        for withheld in &self.withheld {
            let subject = withheld
                .subject
                .as_deref()
                .map(|subject| format!(" {subject}"));
            writeln!(
                f,
                "  not told: {}{} ({})",
                withheld.condition,
                subject.unwrap_or_default(),
                withheld.why
            )?;
        }
        match &self.remediation {
            Some(remediation) if remediation.allowed() => writeln!(
                f,
                "  restart: {}, attempt {}",
                remediation.cure.id(),
                remediation.attempt
            )?,
            Some(remediation) => {
                let gates: Vec<&str> = remediation.blocked_by.iter().map(|g| g.id()).collect();
                writeln!(
                    f,
                    "  restart withheld: {} ({})",
                    remediation.cure.id(),
                    gates.join(", ")
                )?;
            }
            None => {}
        }
        if self.is_empty() {
            writeln!(f, "  nothing new to say or do")?;
        }
        Ok(())
    }
}
