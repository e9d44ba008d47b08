//! A pass's [`Report`] as JSON, which is also what the Lambda function answers, and as text.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::pass::{Report, SchedulerReport};
use crate::plan::Plan;
use crate::snapshot::{Observed, Readers};

/// The report for machines.
///
/// `at` and `completed` tell of the pass, `schedulers` has one object each. `readers` counts the
/// subscriptions to the alerts in a pass that asked, else it is null; so are `shard` and `of` in a
/// pass over all schedulers. `ingested_bytes` is an estimate: what came since the last looks. What rests on the
/// decision (`verdict`, `reason`, `silent_seconds`, `remediation`, …) is null where none could
/// be made; `problems` says why.
pub fn json(report: &Report) -> Value {
    let schedulers: Vec<Value> = report.schedulers.iter().map(scheduler).collect();
    json!({
        "at": report.at.to_string(),
        "completed": report.is_complete(),
        "dry_run": report.dry_run,
        "shard": report.shard.map(|shard| shard.index()),
        "of": report.shard.map(|shard| shard.of()),
        "problems": report.problems,
        "readers": report.readers.as_ref().map(readers),
        "delivered": report.delivered,
        "scanned_bytes": report.scanned_bytes(),
        "ingested_bytes": report.ingested_bytes,
        "scanned_per_ingested": report.scanned_per_ingested().map(|n| (n * 100.0).round() / 100.0),
        "schedulers": schedulers,
    })
}

fn readers(readers: &Observed<Readers>) -> Value {
    match readers {
        Observed::Known(readers) => json!({
            "topic": readers.topic,
            "confirmed": readers.confirmed,
            "pending": readers.pending,
        }),
        Observed::Unknown(error) => json!({ "unseen": error.to_string() }),
    }
}

fn scheduler(report: &SchedulerReport) -> Value {
    let plan = report.plan.as_ref();
    let conditions: Vec<&str> = (plan.iter().flat_map(|plan| &plan.conditions))
        .map(|condition| condition.id())
        .collect();
    // What another pass decided in the same moment, that pass reports.
    let own = plan.filter(|_| !report.superseded);
    let notifications: Vec<Value> = (own.iter().flat_map(|plan| &plan.notifications))
        .map(|notification| {
            json!({
                "id": notification.id,
                "reason": notification.occasion.id(),
                "condition": notification.condition.id(),
            })
        })
        .collect();
    let withheld: Vec<Value> = (own.iter().flat_map(|plan| &plan.withheld))
        .map(|withheld| {
            json!({
                "condition": withheld.condition.id(),
                "subject": withheld.subject,
                "why": withheld.why.to_string(),
            })
        })
        .collect();
    json!({
        "scheduler": report.name,
        "verdict": plan.map(|plan| plan.verdict.id()),
        "reason": plan.map(|plan| plan.reason.to_string()),
        "conditions": conditions,
        "silent_seconds": plan.and_then(|plan| plan.silent_for).map(|silent| silent.as_secs()),
        "allowed_silence_seconds": plan.map(|plan| plan.allowed_silence.as_secs()),
        "errors": plan.map(|plan| plan.errors),
        "notifications": notifications,
        "withheld": withheld,
        "remediation": own.and_then(remediation),
        "scanned_bytes": report.scanned_bytes,
        "truncated": report.truncated,
        "delivered": report.delivered,
        "undelivered": report.undelivered,
        "open_incidents": report.open_incidents,
        "restarted": report.restarted,
        "skipped": report.skipped,
        "superseded": report.superseded,
        "unseen": report.unseen,
        "problems": report.problems,
    })
}

fn remediation(plan: &Plan) -> Option<Value> {
    let remediation = plan.remediation.as_ref()?;
    let gates: Vec<&str> = (remediation.blocked_by.iter())
        .map(|gate| gate.id())
        .collect();
    Some(json!({
        "action": remediation.cure.id(),
        "attempt": remediation.attempt,
        "allowed": remediation.allowed(),
        "blocked_by": gates,
    }))
}

/// The report for people: the plans, and what was or was not done.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for scheduler in &report.schedulers {
        match &scheduler.plan {
            Some(plan) => {
                let _ = write!(text, "{plan}");
            }
            None if scheduler.skipped => {
                let _ = writeln!(text, "{}: skipped, the time ran out", scheduler.name);
            }
            None => {
                let _ = writeln!(text, "{}: could not be judged", scheduler.name);
            }
        }
        // The decision may rest on what was not seen, and says so then.
        let unseen: Vec<&String> = (scheduler.unseen.iter())
            .filter(|why| !text.contains(why.as_str()))
            .collect();
        let mut say = |line: String| {
            let _ = writeln!(text, "  {line}");
        };
        if scheduler.superseded {
            say("another pass decided first, and acts".to_owned());
        }
        if scheduler.truncated {
            say("the log was cut at the query's limit; counts are lower bounds".to_owned());
        }
        if scheduler.restarted {
            say("a restart was made".to_owned());
        }
        if scheduler.delivered > 0 {
            say(format!("messages delivered: {}", scheduler.delivered));
        }
        if scheduler.undelivered > 0 {
            say(format!(
                "messages still to be delivered: {}",
                scheduler.undelivered
            ));
        }
        for why in unseen {
            say(format!("not seen: {why}"));
        }
        for problem in &scheduler.problems {
            say(format!("problem: {problem}"));
        }
    }
    match &report.readers {
        Some(Observed::Known(readers)) => {
            let Readers {
                confirmed, pending, ..
            } = readers;
            let _ = writeln!(
                text,
                "subscriptions to the alerts: {confirmed} confirmed, {pending} not confirmed"
            );
        }
        Some(Observed::Unknown(error)) => {
            let error = error.to_string();
            let why = if text.contains(&error) {
                ", for the same reason".to_owned()
            } else {
                format!(": {error}")
            };
            let _ = writeln!(text, "subscriptions to the alerts not seen{why}");
        }
        None => {}
    }
    for problem in &report.problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    if report.schedulers.is_empty() && report.problems.is_empty() {
        text.push_str("no scheduler was asked for\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::condition::{Condition, Severity};
    use crate::config::Shard;
    use crate::plan::{
        CureKind, Gate, Handling, Notification, Occasion, Reason, Remediation, Verdict, Withheld,
        Withholding,
    };

    fn at() -> Timestamp {
        "2026-11-24T04:00:00Z".parse().unwrap()
    }

    fn notification() -> Notification {
        Notification {
            id: "web/scheduler-silent/1/1".to_owned(),
            incident: "web/scheduler-silent/1".to_owned(),
            at: at(),
            scheduler: "web".to_owned(),
            occasion: Occasion::Opened,
            condition: Condition::SchedulerSilent,
            subject: None,
            severity: Severity::Critical,
            since: at(),
            again_since: None,
            until: None,
            causes: Vec::new(),
            proof: Vec::new(),
            handling: Handling::Watching,
        }
    }

    fn report() -> Report {
        let plan = Plan {
            scheduler: "web".to_owned(),
            at: at(),
            verdict: Verdict::Firing,
            reason: Reason::Found,
            conditions: vec![Condition::SchedulerSilent],
            silent_for: Some(SignedDuration::from_secs(620)),
            allowed_silence: SignedDuration::from_mins(5),
            errors: 2,
            notifications: vec![notification()],
            withheld: vec![Withheld {
                condition: Condition::JobOverdue,
                subject: Some("redis:monitor".to_owned()),
                why: Withholding::Explained,
            }],
            remediation: Some(Remediation {
                incident: "web/scheduler-silent/1".to_owned(),
                cure: CureKind::ForceNewDeployment,
                task: None,
                attempt: 1,
                token: "t".to_owned(),
                blocked_by: vec![Gate::EcsUnknown, Gate::TooEarly],
            }),
        };
        let looked_at = SchedulerReport {
            name: "web".to_owned(),
            plan: Some(plan),
            skipped: false,
            superseded: false,
            scanned_bytes: 4096,
            new_bytes: 2926,
            truncated: true,
            delivered: 1,
            undelivered: 0,
            undelivered_since: None,
            open_incidents: 1,
            restarted: false,
            unseen: vec!["missing: service `web` does not exist".to_owned()],
            problems: Vec::new(),
        };
        let unreadable = SchedulerReport {
            name: "batch".to_owned(),
            plan: None,
            scanned_bytes: 0,
            new_bytes: 0,
            truncated: false,
            delivered: 0,
            open_incidents: 0,
            unseen: Vec::new(),
            problems: vec!["the state cannot be read".to_owned()],
            ..looked_at.clone()
        };
        let skipped = SchedulerReport {
            name: "late".to_owned(),
            skipped: true,
            problems: Vec::new(),
            ..unreadable.clone()
        };
        Report {
            at: at(),
            dry_run: false,
            shard: Shard::new(1, 3),
            by_name: false,
            readers: Some(Observed::Known(Readers {
                topic: "arn:aws:sns:ap-northeast-1:123456789012:alerts".to_owned(),
                confirmed: 2,
                pending: 1,
            })),
            all_clear: true,
            delivered: 0,
            ingested_bytes: 2926,
            problems: Vec::new(),
            schedulers: vec![looked_at, unreadable, skipped],
        }
    }

    #[test]
    fn for_machines() {
        insta::assert_json_snapshot!(json(&report()));
    }

    #[test]
    fn for_people() {
        insta::assert_snapshot!(text(&report()));
    }

    #[test]
    fn a_pass_is_complete_when_everything_was_judged() {
        let mut report = report();
        assert!(!report.is_complete());
        report.schedulers.truncate(1);
        assert!(report.is_complete());
    }
}
