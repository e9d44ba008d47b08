//! One look at a scheduler, read-only: through AWS, or through its log files.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::condition::Severity;
use crate::config::{Config, Cure, ReplicaCure, Scheduler};
use crate::local::LocalWorld;
use crate::message::{self, Context, Message};
use crate::pass::{self, Report, Request};
use crate::plan::Verdict;
use crate::report;
use crate::snapshot::{Observed, Readers};
use crate::world::World;

/// The time between the looks that come before the one that is asked for, as deployed.
const INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// A look, and the messages that go with it.
#[derive(Clone, Debug)]
pub struct Look {
    /// What the pass saw and decided.
    pub report: Report,
    /// What this look says, or has to say, and the newest message of every incident that is
    /// open.
    pub messages: Vec<Message>,
    /// It was made at the log's end for want of another time, and so knows nothing of the time since.
    pub ends_with_log: bool,
}

impl Look {
    /// For people: the report, then each message as a mail would show it.
    pub fn text(&self) -> String {
        let mut text = format!("as of {:.0}\n", self.report.at);
        if self.ends_with_log {
            text.push_str(
                "the log ends there; with --now now, a log that was just fetched tells whether the \
                 scheduler still runs\n",
            );
        }
        text.push_str(&report::text(&self.report));
        for message in &self.messages {
            let at = message.notification.at;
            if at < self.report.at {
                let _ = write!(text, "\nThe last message about it, of {at:.0}:");
            }
            let _ = write!(text, "\nSubject: {}\n\n{}", message.subject, message.text);
            if !text.ends_with('\n') {
                text.push('\n');
            }
        }
        text
    }

    /// For machines: the report, with the messages added.
    pub fn json(&self) -> Value {
        let messages: Vec<Value> = (self.messages.iter())
            .map(|message| {
                json!({
                    "id": message.notification.id,
                    "scheduler": message.notification.scheduler,
                    "reason": message.notification.occasion.id(),
                    "condition": message.notification.condition.id(),
                    "subject": message.subject,
                    "text": message.text,
                })
            })
            .collect();
        let mut report = report::json(&self.report);
        report["messages"] = Value::from(messages);
        report
    }
}

/// Looks once at `now` and changes nothing.
///
/// One look alone knows no past: neither when the last heartbeat was, if that is longer ago
/// than the log query reaches, nor whether it is the second look that confirms the first. So
/// the passes that a deployed watchdog would have made since the beginning of the logs are
/// made first, in memory. `progress` is told how many of how many are behind.
pub async fn once(
    config: &Config,
    world: &LocalWorld,
    schedulers: &[String],
    now: Timestamp,
    progress: &mut dyn FnMut(u64, u64),
) -> Look {
    let request = Request {
        schedulers: schedulers.to_vec(),
        ..Request::default()
    };
    let first = world.span().map_or(now, |span| span.first);
    let before = now.duration_since(first).as_secs().max(0) / INTERVAL.as_secs();
    let mut sent: Vec<Message> = Vec::new();
    for step in (1..=before).rev() {
        progress(
            u64::try_from(before - step).unwrap_or(0),
            u64::try_from(before).unwrap_or(0),
        );
        let ago = SignedDuration::from_secs(INTERVAL.as_secs() * step);
        world.set_now(now - ago);
        let _ = pass::run(world, config, &request).await;
        for message in world.take_published() {
            // The newest message of an incident stands for it.
            sent.retain(|older| older.notification.incident != message.notification.incident);
            sent.push(message);
        }
    }
    world.set_now(now);
    let dry = Request {
        dry_run: true,
        ..request
    };
    let report = pass::run(world, config, &dry).await;
    let mut messages = Vec::new();
    for scheduler in &report.schedulers {
        let open: Vec<String> = match world.load(&scheduler.name).await {
            Ok((state, _)) => (state.incidents.iter())
                .filter(|incident| incident.is_open())
                .map(|incident| incident.id.clone())
                .collect(),
            Err(_) => Vec::new(),
        };
        let planned = planned(config, world.region(), scheduler);
        let told_anew = |message: &Message| {
            (planned.iter()).any(|m| m.notification.incident == message.notification.incident)
        };
        messages.extend(
            (sent.iter())
                .filter(|m| open.contains(&m.notification.incident) && !told_anew(m))
                .cloned(),
        );
        messages.extend(planned);
    }
    Look {
        report,
        messages,
        ends_with_log: false,
    }
}

/// Looks once through a world that has its own clock, and changes nothing.
pub async fn live<W: World>(config: &Config, world: &W, schedulers: &[String]) -> Look {
    let request = Request {
        schedulers: schedulers.to_vec(),
        dry_run: true,
        readers: true,
        ..Request::default()
    };
    let report = pass::run(world, config, &request).await;
    let messages = (report.schedulers.iter())
        .flat_map(|scheduler| planned(config, world.region(), scheduler))
        .collect();
    Look {
        report,
        messages,
        ends_with_log: false,
    }
}

/// The messages that a dry run decided to send.
fn planned(config: &Config, region: &str, report: &pass::SchedulerReport) -> Vec<Message> {
    let scheduler: Option<&Scheduler> = (config.schedulers.iter()).find(|s| s.name == report.name);
    let context = Context {
        scheduler,
        language: config.alerts.language,
        hide_emails: config.alerts.hide_emails,
        region,
    };
    (report.plan.iter())
        .flat_map(|plan| &plan.notifications)
        .map(|notification| message::render(notification, &context))
        .collect()
}

/// Looks once at `now` and remembers it where the world keeps its state, so that looks that
/// are made one after the other watch a scheduler without AWS. Nothing is ever restarted.
pub async fn remembered(
    config: &Config,
    world: &LocalWorld,
    schedulers: &[String],
    now: Timestamp,
) -> Look {
    let mut config = config.clone();
    for scheduler in &mut config.schedulers {
        scheduler.remediation.action = Cure::None;
        scheduler.remediation.replica_action = ReplicaCure::None;
    }
    world.set_now(now);
    let request = Request {
        schedulers: schedulers.to_vec(),
        ..Request::default()
    };
    let report = pass::run(world, &config, &request).await;
    Look {
        report,
        messages: world.take_published(),
        ends_with_log: false,
    }
}

/// What monitoring systems want to know, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// All is well, or suspended for a reason.
    Ok,
    /// Look at it today: an incident that is not urgent, or one that is not confirmed yet.
    Warning,
    /// It cannot be told.
    Unknown,
    /// Look at it now.
    Critical,
}

impl Status {
    /// The exit code by the convention of monitoring plugins.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    /// The worst status in a report; unknown, if it is empty. At least a warning if nobody would
    /// be told.
    pub fn of(report: &Report) -> Self {
        let nobody = matches!(
            &report.readers,
            Some(Observed::Known(Readers { confirmed: 0, .. }))
        );
        (report.schedulers.iter())
            .map(|scheduler| match &scheduler.plan {
                None => Self::Unknown,
                Some(plan) => match plan.verdict {
                    Verdict::Healthy | Verdict::Suspended => Self::Ok,
                    Verdict::Unknown => Self::Unknown,
                    Verdict::Pending => Self::Warning,
                    Verdict::Firing => {
                        let worst = (plan.conditions.iter()).map(|c| c.severity()).max();
                        match worst {
                            Some(Severity::Critical) => Self::Critical,
                            Some(Severity::Warning) | None => Self::Warning,
                        }
                    }
                },
            })
            .max()
            .unwrap_or(Self::Unknown)
            .max(if nobody { Self::Warning } else { Self::Ok })
    }
}
