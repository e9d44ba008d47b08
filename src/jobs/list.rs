//! How each job stands, in a table for people.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::config::Scheduler;
use crate::cron::{Cron, horizon};
use crate::history::JobHistory;
use crate::job::Job;
use crate::message::safe;
use crate::state::State;
use crate::table::Table;

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its runs came when they were due.
    Fine {
        /// The newest is known to have succeeded, not only to have ended.
        succeeded: bool,
    },
    /// It has not had its first chance yet.
    NotYetKnown,
    /// Runs are missing.
    Overdue {
        /// How many.
        missed: u32,
    },
    /// Its newest runs failed.
    Failing {
        /// How many in a row.
        failures: u32,
        /// The newest exit code, where one was told.
        exit_code: Option<i32>,
    },
    /// Two replicas run it.
    RunsTwice,
    /// Its dates are over.
    Over,
    /// It runs in other environments.
    Elsewhere,
}

impl Standing {
    fn of(scheduler: &Scheduler, job: &Job, history: Option<&JobHistory>, now: Timestamp) -> Self {
        let Some(history) = history.filter(|history| history.plan == Some(job.plan)) else {
            return if job.elsewhere {
                Self::Elsewhere
            } else {
                Self::NotYetKnown
            };
        };
        if job.elsewhere {
            Self::Elsewhere
        } else if job.is_over(now) {
            Self::Over
        } else if let Some(missed) = history.missing() {
            Self::Overdue {
                missed: missed.count,
            }
        } else if history.failures.count > 0 {
            Self::Failing {
                failures: history.failures.count,
                exit_code: history.failures.exit_code,
            }
        } else if job.on_one_server && history.runs_twice(now).is_some() {
            Self::RunsTwice
        } else if history.starts.is_empty() {
            Self::NotYetKnown
        } else {
            let begun = history.starts.last().copied();
            let ended = history.ended_at >= begun && scheduler.done_means_success;
            Self::Fine {
                succeeded: ended || history.succeeded_at >= begun,
            }
        }
    }

    fn id(&self) -> &'static str {
        match self {
            Self::Fine { .. } => "ok",
            Self::NotYetKnown => "not yet known",
            Self::Overdue { .. } => "overdue",
            Self::Failing { .. } => "failing",
            Self::RunsTwice => "runs twice",
            Self::Over => "over",
            Self::Elsewhere => "elsewhere",
        }
    }

    fn say(&self, job: &Job) -> String {
        let runs = |n: u32| format!("{n} run{}", if n == 1 { "" } else { "s" });
        match self {
            Self::Overdue { missed } => format!("overdue: {} missed", runs(*missed)),
            Self::Failing {
                failures,
                exit_code,
            } => {
                let code = exit_code.map_or(String::new(), |code| format!(", exit code {code}"));
                format!("failed: {} in a row{code}", runs(*failures))
            }
            Self::Fine { succeeded: true } => "ok, succeeded".to_owned(),
            Self::Over => match job.ends_on() {
                Some(last) => format!("over since {last}"),
                None => "over".to_owned(),
            },
            Self::Elsewhere => format!("only in {}", job.environments.join(", ")),
            plain => plain.id().to_owned(),
        }
    }
}

/// One job of a scheduler.
struct Row<'a> {
    job: &'a Job,
    next: Option<Timestamp>,
    last: Option<Timestamp>,
    standing: Standing,
}

fn rows<'a>(scheduler: &'a Scheduler, state: &State, now: Timestamp) -> Vec<Row<'a>> {
    (scheduler.jobs.iter())
        .map(|job| {
            let history = state.jobs.get(&job.name);
            Row {
                job,
                next: job.next_run(now, horizon(now)),
                last: history.and_then(|history| history.starts.last().copied()),
                standing: Standing::of(scheduler, job, history, now),
            }
        })
        .collect()
}

/// The jobs of a scheduler as a table, with its name above.
pub fn text(scheduler: &Scheduler, state: &State, now: Timestamp) -> String {
    if scheduler.jobs.is_empty() {
        return format!("{}: no jobs are configured\n", scheduler.name);
    }
    let mut table = Table::new(["JOB", "CRON", "NEXT DUE", "LAST RUN", "STATE"]);
    for row in rows(scheduler, state, now) {
        let crons: Vec<&str> = row.job.cron.iter().map(Cron::expression).collect();
        let every = (row.job.every).map_or(String::new(), |every| format!(" {}s", every.as_secs()));
        let moment =
            |at: Option<Timestamp>| at.map_or("-".to_owned(), |at| moment(at, row.job, now));
        table.row([
            safe::line(&row.job.name),
            format!("{}{every}", crons.join(", ")),
            moment(row.next),
            moment(row.last),
            row.standing.say(row.job),
        ]);
    }
    format!("{}\n{}", scheduler.name, table.print())
}

/// The same for programs.
pub fn json(scheduler: &Scheduler, state: &State, now: Timestamp) -> Value {
    let jobs: Vec<Value> = (rows(scheduler, state, now).into_iter())
        .map(|row| {
            let (missed, failures) = match row.standing {
                Standing::Overdue { missed } => (missed, 0),
                Standing::Failing { failures, .. } => (0, failures),
                _ => (0, 0),
            };
            // What nobody knows is null.
            let succeeded = match row.standing {
                Standing::Fine { succeeded: true } => Some(true),
                Standing::Failing { .. } => Some(false),
                _ => None,
            };
            json!({
                "job": row.job.name,
                "cron": row.job.cron.iter().map(Cron::expression).collect::<Vec<_>>(),
                "timezone": row.job.timezone.iana_name(),
                "next_due": row.next,
                "last_run": row.last,
                "state": row.standing.id(),
                "succeeded": succeeded,
                "missed": missed,
                "failures": failures,
            })
        })
        .collect();
    json!({ "scheduler": scheduler.name, "jobs": jobs })
}

/// A time in the job's zone, and how far it is.
fn moment(at: Timestamp, job: &Job, now: Timestamp) -> String {
    let wall = at.to_zoned_datetime(job.timezone.clone());
    let far = distance(at, now);
    format!("{} ({far})", wall.strftime("%a %Y-%m-%d %H:%M"))
}

/// `in 3 h`, `5 min ago`.
fn distance(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.duration_since(now).as_secs();
    let length = match seconds.abs() {
        0..60 => "less than a minute".to_owned(),
        n @ 60..3_600 => format!("{} min", n / 60),
        n @ 3_600..172_800 => format!("{} h", n / 3_600),
        n => format!("{} d", n / 86_400),
    };
    if seconds < 0 {
        format!("{length} ago")
    } else {
        format!("in {length}")
    }
}
