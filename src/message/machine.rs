//! For machines: every fact by name; what stands as a sentence is English.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::words::Words;
use super::{Context, safe, view};
use crate::condition::Fact;
use crate::config::{EcsTarget, Language};
use crate::plan::Notification;

/// The version of this shape. A change that a reader can trip over gives it the next number.
const VERSION: u32 = 1;

/// The notification as `schema/notification.schema.json` describes it.
pub(super) fn render(notification: &Notification, context: &Context<'_>, title: &str) -> Value {
    let speaker = view::speaker_of(
        notification,
        context,
        Words::of(Language::En),
        &TimeZone::UTC,
    );
    let shown: Vec<(&str, Vec<String>)> = (notification.causes.iter().take(safe::MAX_LIST))
        .map(|cause| {
            let say = |evidence| view::say_evidence(evidence, &speaker);
            (cause.id.as_str(), cause.evidence.iter().map(say).collect())
        })
        .collect();
    let causes: Vec<Value> = (shown.iter())
        .map(|(id, evidence)| json!({ "id": id, "evidence": evidence }))
        .collect();
    // Where no cause is proven, the newest errors are all the evidence there is.
    let errors = (notification.proof.iter()).filter_map(|fact| match fact {
        Fact::LastErrors { lines } => Some(lines),
        _ => None,
    });
    let evidence: Vec<&String> = (shown.iter())
        .map(|(_, evidence)| evidence)
        .chain(errors)
        .flatten()
        .collect();
    json!({
        "version": VERSION,
        "id": notification.id,
        "incident": notification.incident,
        "at": notification.at,
        "scheduler": notification.scheduler,
        "reason": notification.occasion,
        "condition": notification.condition,
        "subject": notification.subject.as_deref().map(safe::job),
        "severity": notification.severity,
        "title": title,
        "since": notification.since,
        "again_since": notification.again_since,
        "until": notification.until,
        "cause": notification.cause_id(),
        "causes": safe::json(json!(causes)),
        "evidence": safe::json(json!(evidence)),
        "facts": safe::json(json!(notification.proof)),
        "handling": safe::json(json!(notification.handling)),
        "where": place(context),
    })
}

fn place(context: &Context<'_>) -> Value {
    let scheduler = context.scheduler;
    let ecs = scheduler.and_then(|scheduler| scheduler.ecs.as_ref());
    let (service, definition) = match ecs.map(|ecs| &ecs.target) {
        Some(EcsTarget::Service(service)) => (Some(service), None),
        Some(EcsTarget::TaskDefinition { definition, .. }) => (None, Some(definition)),
        None => (None, None),
    };
    let groups = scheduler.map_or(&[][..], |scheduler| &scheduler.log_groups);
    json!({
        "region": Some(context.region).filter(|region| !region.is_empty()),
        "cluster": ecs.map(|ecs| &ecs.cluster),
        "service": service,
        "task_definition": definition,
        "log_groups": groups,
    })
}
