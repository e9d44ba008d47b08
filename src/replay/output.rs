//! What a replay writes: a timeline for people, or one JSON object a line.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use super::story::Story;
use super::{Schedule, Summary, html};
use crate::cause::Evidence;
use crate::message::Message;
use crate::pass::SchedulerReport;
use crate::plan::{Remediation, Verdict};

/// Who reads the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// People.
    #[default]
    Text,
    /// Programs.
    Json,
    /// People with a browser: one page, written at the end.
    Html,
}

/// Writes to its sink as things happen; nothing of a page, which [`Output::page`] writes.
pub(super) struct Output<'o> {
    format: Format,
    out: &'o mut dyn Write,
}

/// The fields are a contract: names and order stay.
#[derive(Serialize)]
struct CheckLine<'a> {
    at: Timestamp,
    scheduler: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    verdict: &'static str,
    conditions: Vec<&'static str>,
    silent_seconds: Option<i64>,
    errors: u32,
}

/// The fields are a contract: names and order stay.
#[derive(Serialize)]
struct NotificationLine<'a> {
    at: Timestamp,
    scheduler: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    reason: &'static str,
    condition: &'static str,
    job: Option<&'a str>,
    severity: &'static str,
    cause: &'a str,
    evidence: Vec<&'a str>,
    id: &'a str,
    subject: &'a str,
    text: &'a str,
}

/// The fields are a contract: names and order stay.
#[derive(Serialize)]
struct RemediationLine<'a> {
    at: Timestamp,
    scheduler: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    action: &'static str,
    attempt: u32,
    allowed: bool,
    blocked_by: Vec<&'static str>,
}

impl<'o> Output<'o> {
    pub fn new(format: Format, out: &'o mut dyn Write) -> Self {
        Self { format, out }
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut *self.out, line)?;
        writeln!(self.out)
    }

    /// How a scheduler stood.
    pub fn check(&mut self, at: Timestamp, report: &SchedulerReport) -> io::Result<()> {
        let plan = report.plan.as_ref();
        let verdict = plan.map_or(Verdict::Unknown, |plan| plan.verdict);
        let silent = plan.and_then(|plan| plan.silent_for);
        let errors = plan.map_or(0, |plan| plan.errors);
        let conditions: Vec<&'static str> = (plan.iter().flat_map(|plan| &plan.conditions))
            .map(|condition| condition.id())
            .collect();
        match self.format {
            Format::Html => Ok(()),
            Format::Json => self.line(&CheckLine {
                at,
                scheduler: &report.name,
                kind: "check",
                verdict: verdict.id(),
                conditions,
                silent_seconds: silent.map(|silent| silent.as_secs()),
                errors,
            }),
            Format::Text => {
                write!(self.out, "{at} {}: {}", report.name, verdict.id())?;
                if !conditions.is_empty() {
                    write!(self.out, " [{}]", conditions.join(", "))?;
                }
                match plan {
                    Some(plan) => write!(self.out, " ({})", plan.reason)?,
                    None => write!(self.out, " (could not be judged)")?,
                }
                match silent {
                    Some(silent) => write!(self.out, "; last heartbeat {silent:#} ago")?,
                    None => write!(self.out, "; no heartbeat known")?,
                }
                writeln!(self.out, "; {errors} errors")
            }
        }
    }

    /// A message as it would have been sent.
    pub fn notification(&mut self, at: Timestamp, message: &Message) -> io::Result<()> {
        let notification = &message.notification;
        match self.format {
            Format::Html => Ok(()),
            Format::Json => self.line(&NotificationLine {
                at,
                scheduler: &notification.scheduler,
                kind: "notification",
                reason: notification.occasion.id(),
                condition: notification.condition.id(),
                job: notification.job(),
                severity: notification.severity.id(),
                cause: notification.cause_id(),
                evidence: evidence(message),
                id: &notification.id,
                subject: &message.subject,
                text: &message.text,
            }),
            Format::Text => {
                writeln!(
                    self.out,
                    "{at} {}: {} {} ({})",
                    notification.scheduler,
                    notification.occasion.id(),
                    notification.condition,
                    notification.severity.id(),
                )?;
                writeln!(self.out, "    Subject: {}", message.subject)?;
                writeln!(self.out)?;
                for line in message.text.lines() {
                    if line.is_empty() {
                        writeln!(self.out)?;
                    } else {
                        writeln!(self.out, "    {line}")?;
                    }
                }
                writeln!(self.out)
            }
        }
    }

    /// A decision about a restart.
    pub fn remediation(
        &mut self,
        at: Timestamp,
        scheduler: &str,
        remediation: &Remediation,
    ) -> io::Result<()> {
        let blocked_by: Vec<&'static str> = (remediation.blocked_by.iter())
            .map(|gate| gate.id())
            .collect();
        match self.format {
            Format::Html => Ok(()),
            Format::Json => self.line(&RemediationLine {
                at,
                scheduler,
                kind: "remediation",
                action: remediation.cure.id(),
                attempt: remediation.attempt,
                allowed: remediation.allowed(),
                blocked_by,
            }),
            Format::Text => {
                let (action, attempt) = (remediation.cure.id(), remediation.attempt);
                write!(self.out, "{at} {scheduler}: ")?;
                if remediation.allowed() {
                    writeln!(self.out, "restart: {action}, attempt {attempt}")
                } else {
                    let gates = blocked_by.join(", ");
                    writeln!(
                        self.out,
                        "restart withheld: {action}, attempt {attempt} ({gates})"
                    )
                }
            }
        }
    }

    /// The whole page.
    pub fn page(&mut self, story: &Story) -> io::Result<()> {
        let page = html::render(story).map_err(io::Error::other)?;
        self.out.write_all(page.as_bytes())
    }

    /// The end of it all; programs count for themselves.
    pub fn end(&mut self, schedule: &Schedule, summary: &Summary) -> io::Result<()> {
        if self.format == Format::Text {
            let count = |number: u64, one: &str, many: &str| {
                format!("{number} {}", if number == 1 { one } else { many })
            };
            writeln!(
                self.out,
                "{} from {} to {}: {}, {} opened, {} resolved, {}",
                count(summary.passes, "pass", "passes"),
                schedule.from,
                schedule.last,
                count(summary.messages, "message", "messages"),
                count(summary.opened, "incident", "incidents"),
                summary.resolved,
                count(summary.restarts, "restart", "restarts"),
            )?;
            if let Some(end) = schedule.log_ends {
                writeln!(
                    self.out,
                    "the log ends at {end:.0}: whether the scheduler went on after that is not known \
                     without --until"
                )?;
            }
        }
        self.out.flush()
    }
}

/// The lines that prove the causes, as the message shows them to machines: cut, cleaned and
/// redacted.
fn evidence(message: &Message) -> Vec<&str> {
    let shown = (message.machine.get("evidence")).and_then(|shown| shown.as_array());
    match shown {
        Some(shown) => shown.iter().filter_map(|line| line.as_str()).collect(),
        None => (message.notification.causes.iter())
            .flat_map(|cause| &cause.evidence)
            .filter_map(|evidence| match evidence {
                Evidence::Line(line) => Some(line.as_str()),
                Evidence::Fact(_) => None,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
