use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::cause::Cause;
use crate::condition::{Condition, Severity};
use crate::plan::{CureKind, Gate, Handling, Notification, Occasion, Plan, Reason};

fn at() -> Timestamp {
    "2026-11-24T04:00:00Z".parse().unwrap()
}

fn message() -> Message {
    Message {
        notification: Notification {
            id: "web/1/1".to_owned(),
            incident: "web/1".to_owned(),
            at: at(),
            scheduler: "web".to_owned(),
            occasion: Occasion::Opened,
            condition: Condition::SchedulerFailing,
            subject: None,
            severity: Severity::Critical,
            since: at(),
            again_since: None,
            until: None,
            causes: vec![Cause {
                id: "redis-unreachable".to_owned(),
                evidence: vec!["Connection refused".into()],
            }],
            proof: Vec::new(),
            handling: Handling::Watching,
        },
        subject: "[web] scheduler failing".to_owned(),
        text: "What: it fails.\n\nWhy: Redis.\n".to_owned(),
        chat: json!({}),
        machine: json!({}),
    }
}

fn remediation(blocked_by: &[Gate]) -> Remediation {
    Remediation {
        incident: "web/1".to_owned(),
        cure: CureKind::ForceNewDeployment,
        task: None,
        attempt: 1,
        token: String::new(),
        blocked_by: blocked_by.to_vec(),
    }
}

fn report(plan: Option<Plan>) -> SchedulerReport {
    SchedulerReport {
        name: "web".to_owned(),
        plan,
        ..SchedulerReport::default()
    }
}

fn plan() -> Plan {
    Plan {
        scheduler: "web".to_owned(),
        at: at(),
        verdict: Verdict::Firing,
        reason: Reason::Found,
        conditions: vec![Condition::SchedulerFailing],
        silent_for: Some(SignedDuration::from_secs(75)),
        allowed_silence: SignedDuration::from_mins(5),
        errors: 3,
        notifications: Vec::new(),
        withheld: Vec::new(),
        remediation: None,
    }
}

fn written(format: Format) -> String {
    let mut text = Vec::new();
    let mut output = Output::new(format, &mut text);
    output.check(at(), &report(Some(plan()))).unwrap();
    output.check(at(), &report(None)).unwrap();
    output.notification(at(), &message()).unwrap();
    let withheld = remediation(&[Gate::TooEarly, Gate::EcsUnknown]);
    output.remediation(at(), "web", &withheld).unwrap();
    output.remediation(at(), "web", &remediation(&[])).unwrap();
    let schedule = Schedule {
        from: at(),
        last: at() + SignedDuration::from_mins(10),
        log_ends: Some(at() + SignedDuration::from_secs(367)),
        every: SignedDuration::from_mins(5),
    };
    let summary = Summary {
        passes: 3,
        messages: 1,
        opened: 1,
        resolved: 0,
        restarts: 1,
    };
    output.end(&schedule, &summary).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn for_people() {
    insta::assert_snapshot!(written(Format::Text));
}

#[test]
fn for_programs() {
    insta::assert_snapshot!(written(Format::Json));
}

#[test]
fn evidence_is_what_the_message_shows() {
    let mut message = message();
    assert_eq!(evidence(&message), ["Connection refused"]);
    message.machine = json!({"evidence": ["redacted"]});
    assert_eq!(evidence(&message), ["redacted"]);
}
