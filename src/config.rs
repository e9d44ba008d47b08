//! Configuration: one TOML file, or environment variables for the case of one scheduler.
//!
//! This is the only reader of the environment. Everything is checked here, at start, and all
//! mistakes are reported together; the rest of the program can rely on what it is given.

mod endpoint;
mod environment;
mod read;
mod shard;

use std::fmt;
use std::path::Path;

use jiff::SignedDuration;
use jiff::tz::TimeZone;

pub use endpoint::Endpoint;
pub use environment::{Environment, Origin, load, origin};
pub(crate) use read::nearest;
pub use shard::Shard;

use crate::encoding;
use crate::job::Job;
use crate::line::Preset;
use crate::silence::Recurring;

/// Everything that is configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who is told, and how.
    pub alerts: Alerts,
    /// How hard the watchdog may lean on AWS.
    pub limits: Limits,
    /// `[metrics] schedulers`: whether each scheduler has metrics of its own. They cost most of what a
    /// large fleet costs.
    pub scheduler_metrics: bool,
    /// What is watched; at least one, each name once.
    pub schedulers: Vec<Scheduler>,
}

/// `[alerts]`: who is told, and how.
#[derive(Clone, Debug)]
pub struct Alerts {
    /// The SNS topic. Only the Lambda function needs it.
    pub topic_arn: Option<String>,
    /// The language of messages for people.
    pub language: Language,
    /// Whether e-mail addresses in log lines are hidden in messages, as secrets always are.
    pub hide_emails: bool,
    /// Time to the first reminder of an unchanged incident; each further one waits twice as
    /// long, up to four hours.
    pub remind_after: SignedDuration,
    /// A dead man's switch, told of every complete pass: whoever runs it raises the alarm when
    /// it is told nothing.
    pub ping: Option<Endpoint>,
}

/// The language of messages for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Japanese.
    Ja,
}

impl Language {
    /// Its code, as the configuration and BCP 47 have it.
    pub fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Ja => "ja",
        }
    }
}

/// `[limits]`: how hard the watchdog may lean on AWS.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Insights queries in flight at once. The account's limit of 100 is shared with
    /// dashboards and people.
    pub running_queries: usize,
    /// StartQuery calls a second, and as many GetQueryResults. AWS allows 10 of each for the whole
    /// account.
    pub start_queries_per_second: u32,
}

impl Limits {
    /// Schedulers with the same log groups that share a query, at most: many lines together reach a
    /// query's limit sooner than each scheduler's own would.
    pub const SHARE_A_QUERY: usize = 32;

    /// What one of so many shards may use, which are all looked at at the same time.
    pub fn of_one_among(self, shards: u32) -> Self {
        let running = self.running_queries / usize::try_from(shards).unwrap_or(1).max(1);
        Self {
            running_queries: running.max(1),
            start_queries_per_second: (self.start_queries_per_second / shards.max(1)).max(1),
        }
    }

    /// What suits so many schedulers, where nothing is configured: a large fleet needs nearly all
    /// that AWS allows, and a small one leaves most of it to dashboards and people.
    pub fn for_schedulers(count: usize) -> Self {
        match count {
            0..=LARGE_FLEET => Self::default(),
            _ => Self {
                running_queries: 90,
                start_queries_per_second: 10,
            },
        }
    }
}

/// More schedulers than this are a large fleet: at the usual limits a pass over so many takes 40 s.
const LARGE_FLEET: usize = 200;

/// `[[scheduler]]`: one scheduler and what is known about it.
#[derive(Clone, Debug)]
pub struct Scheduler {
    /// Its name, unique; the key of its state.
    pub name: String,
    /// The CloudWatch log groups that hold its output: names, or ARNs across accounts.
    pub log_groups: Vec<String>,
    /// Only streams whose name starts so are read; empty for all.
    pub log_stream_prefix: String,
    /// How its lines are read, own patterns included.
    pub preset: Preset,
    /// After how long without a heartbeat it counts as silent.
    pub stale_after: StaleAfter,
    /// The zone of its jobs, unless a job says otherwise.
    pub timezone: TimeZone,
    /// How long a new task may take to its first heartbeat.
    pub startup_grace: SignedDuration,
    /// Where it runs; without it, the verdict rests on the logs alone.
    pub ecs: Option<Ecs>,
    /// The application's own health endpoint: a second witness of a silence.
    pub health: Option<Endpoint>,
    /// When errors are too many.
    pub errors: ErrorRules,
    /// Its environment, as Laravel's `APP_ENV` names it; tells which jobs run here.
    pub environment: Option<String>,
    /// A job that is said to have ended has succeeded; not so on Laravel 12.4 and later. By
    /// default what the preset knows.
    pub done_means_success: bool,
    /// The jobs that it should run; each name once.
    pub jobs: Vec<Job>,
    /// Maintenance windows.
    pub silences: Vec<Recurring>,
    /// What may be done to bring it back.
    pub remediation: Remediation,
    /// Time to the first reminder; `[alerts] remind_after`.
    pub remind_after: SignedDuration,
}

/// When silence counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleAfter {
    /// Learned from the gaps between heartbeats of the last day.
    Auto,
    /// Fixed.
    Fixed(SignedDuration),
}

/// `[scheduler.ecs]`: where a scheduler runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ecs {
    /// The cluster's name.
    pub cluster: String,
    /// A service that keeps it running, or a task that is started from outside.
    pub target: EcsTarget,
    /// The container that prints the scheduler's output.
    pub container: Option<String>,
}

impl Scheduler {
    /// Whether each run is a task of its own that something outside starts, an EventBridge
    /// schedule mostly: there is no service, no loop, and no run waits for another.
    pub fn runs_as_tasks(&self) -> bool {
        (self.ecs.as_ref())
            .is_some_and(|ecs| matches!(ecs.target, EcsTarget::TaskDefinition { .. }))
    }
}

/// What runs the scheduler in ECS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EcsTarget {
    /// An ECS service, by name.
    Service(String),
    /// Tasks of a definition (family, `family:revision` or ARN) without a service, each of which
    /// runs the scheduler once.
    TaskDefinition {
        /// The definition.
        definition: String,
        /// Subnets for `run-task` with the awsvpc network mode.
        subnets: Vec<String>,
        /// Security groups for `run-task`.
        security_groups: Vec<String>,
        /// Whether the task gets a public address.
        assign_public_ip: bool,
    },
}

/// `[scheduler.errors]`: when errors are too many.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorRules {
    /// More errors than this within the window are a spike.
    pub threshold: u32,
    /// The window; at most an hour.
    pub window: SignedDuration,
    /// How many times the usual number a spike must also exceed, once enough is known.
    pub baseline_factor: f64,
    /// Errors that contain one of these texts are not counted.
    pub ignore: Vec<String>,
}

/// `[scheduler.remediation]`: what may be done to bring a scheduler back.
#[derive(Clone, Debug, PartialEq)]
pub struct Remediation {
    /// The cure for a silent scheduler.
    pub action: Cure,
    /// The cure for one silent replica among several.
    pub replica_action: ReplicaCure,
    /// How long an incident must be firing before the first restart.
    pub after: SignedDuration,
    /// The least age of the newest deployment.
    pub cooldown: SignedDuration,
    /// Restarts for one incident, at most.
    pub attempts_per_incident: u32,
    /// Restarts in 24 hours, at most.
    pub attempts_per_day: u32,
    /// How long a restart may take to a fresh heartbeat of a new task before it has failed.
    pub prove_within: SignedDuration,
    /// Whether a restart is allowed although the image's tag may point to a newer image by now.
    pub allow_mutable_image_tag: bool,
    /// The command that `run-task` runs in the container.
    pub command: Vec<String>,
}

impl Remediation {
    /// Whether anything may be done at all.
    pub fn is_on(&self) -> bool {
        self.action != Cure::None || self.replica_action != ReplicaCure::None
    }
}

/// The cure for a silent scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cure {
    /// Tell people; touch nothing.
    #[default]
    None,
    /// UpdateService with forceNewDeployment.
    ForceNewDeployment,
    /// RunTask with a command override.
    RunTask,
}

/// The cure for one silent replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplicaCure {
    /// Tell people; touch nothing.
    #[default]
    None,
    /// StopTask; ECS starts another.
    StopTask,
}

impl Config {
    /// Reads a TOML document. `file` names it in mistakes.
    ///
    /// # Errors
    /// All mistakes in it, with their places.
    pub fn parse(text: &str, file: &str) -> Result<Self, Mistakes> {
        read::document(text, &|line, column| format!("{file}:{line}:{column}"))
    }

    /// The region of the alert topic; empty without one. Commands and links in messages name it
    /// where nothing else tells the region.
    pub fn region(&self) -> &str {
        let arn = self.alerts.topic_arn.as_deref().unwrap_or_default();
        arn.split(':').nth(3).unwrap_or_default()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or all mistakes in it with their places.
    pub fn read(file: &Path) -> Result<Self, Mistakes> {
        let name = file.display().to_string();
        let bytes = std::fs::read(file)
            .map_err(|error| Mistakes::at(&name, format!("cannot be read: {error}")))?;
        if encoding::is_utf_16(&bytes) {
            return Err(Mistakes::at(name, encoding::UTF_16));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(&text, &name),
            Err(error) => Err(Mistakes::at(name, format!("cannot be read: {error}"))),
        }
    }

    /// Keeps only the named schedulers, in their order here; all if `names` is empty.
    ///
    /// # Errors
    /// Every name that is not configured, with the nearest one that is.
    pub fn select(&self, names: &[String]) -> Result<Vec<&Scheduler>, Mistakes> {
        let known: Vec<&str> = self.schedulers.iter().map(|s| s.name.as_str()).collect();
        let unknown: Vec<Mistake> = (names.iter())
            .filter(|name| !known.contains(&name.as_str()))
            .map(|name| Mistake {
                place: "schedulers".to_owned(),
                message: format!("no scheduler is named `{name}`{}", nearest(name, &known)),
            })
            .collect();
        if !unknown.is_empty() {
            return Err(Mistakes(unknown));
        }
        Ok((self.schedulers.iter())
            .filter(|s| names.is_empty() || names.contains(&s.name))
            .collect())
    }
}

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where: `watchdog.toml:12:5`, or the name of an environment variable.
    pub place: String,
    /// What is wrong, and the nearest valid name where one was mistyped.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// All mistakes in the configuration; never empty. A retry does not help: a person must
/// mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl Mistakes {
    /// A single mistake.
    pub fn at(place: impl Into<String>, message: impl ToString) -> Self {
        Self(vec![Mistake {
            place: place.into(),
            message: message.to_string(),
        }])
    }
}
