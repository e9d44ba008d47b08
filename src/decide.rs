//! The decision for one scheduler: pure, and the same for every shell.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::condition::{Condition, Fact, Finding, Slot};
use crate::config::{Mistakes, Scheduler};
use crate::history;
use crate::incident::{self, Moment, News};
use crate::judge::{self, Look};
use crate::plan::{Notification, Occasion, Plan, Reason, Remediation, Verdict};
use crate::remedy;
use crate::snapshot::{Observed, Snapshot};
use crate::state::{Blind, Incident, Phase, SCHEMA, State};

/// Passes closer together than this are one look: EventBridge delivers at least once, and a
/// repeated invocation must not stand for a second opinion.
const LOOKS_APART: SignedDuration = SignedDuration::from_mins(1);

/// Time between two reminders that the configuration is wrong.
const CONFIGURATION_REMINDER: SignedDuration = SignedDuration::from_hours(4);

/// Decides. No I/O, no clock, no randomness: the same input gives the same output, and deciding
/// twice on unchanged input plans nothing new.
pub fn decide(
    scheduler: &Scheduler,
    snapshot: &Snapshot,
    state: &State,
    now: Timestamp,
) -> (Plan, State) {
    let mut next = state.clone();
    next.schema = SCHEMA;
    next.installed_at.get_or_insert(now);
    let counts = (state.looked_at).is_none_or(|at| now.duration_since(at) >= LOOKS_APART);
    if counts {
        next.looked_at = Some(now);
    }
    if let Observed::Known(window) = &snapshot.log {
        history::fold(&mut next, scheduler, window, now);
        next.checked_until = next.checked_until.max(Some(window.until));
    }
    count_blindness(&mut next, snapshot, now, counts);

    let look = judge::look(scheduler, snapshot, &next, state.checked_until, now);
    remember_excuse(&mut next, &look, now);
    let service = snapshot.service.as_ref().and_then(Observed::known);
    let moment = Moment {
        scheduler: &scheduler.name,
        now,
        counts,
        seeing: snapshot.log.known().is_some(),
        service,
        remind_after: scheduler.remind_after,
    };

    let outcomes = remedy::follow_up(&mut next, scheduler, service, now);
    let mut news = incident::advance(&mut next, &look, &moment);
    for outcome in outcomes {
        let incident = (next.incidents.iter_mut()).find(|i| i.id == outcome.incident);
        // An incident that ends in this very pass says in its last message what ended it.
        if let Some(incident) = incident
            && incident.is_open()
        {
            news.push(incident::say(incident, outcome.occasion, now));
        }
    }
    let remediation = remedy::plan(&next, scheduler, snapshot, &look, now);

    let verdict = verdict(&next, &look, &moment);
    remedy::mind_lockout(&mut next, verdict, now);
    let reason = reason(&next, &look, verdict);
    let notifications: Vec<Notification> = (news.iter())
        .filter_map(|news| {
            let incident = next.incidents.iter().find(|i| i.id == news.incident)?;
            let planned = remediation.as_ref();
            Some(notification(
                &scheduler.name,
                &next,
                incident,
                news,
                planned,
                &look,
            ))
        })
        .collect();
    if let Some(remediation) = &remediation
        && remediation.allowed()
    {
        remedy::claim(&mut next, remediation, now);
    }
    for notification in &notifications {
        put_in_outbox(&mut next.outbox, notification);
    }
    let plan = Plan {
        scheduler: scheduler.name.clone(),
        at: now,
        verdict,
        reason,
        conditions: conditions(&look),
        // Whole seconds: nobody reads more, and the log is no more exact.
        silent_for: (look.silence.lasts(now).filter(|_| moment.seeing))
            .map(|lasts| SignedDuration::from_secs(lasts.as_secs())),
        allowed_silence: look.silence.allowed,
        errors: look.errors,
        notifications,
        withheld: Vec::new(),
        remediation,
    };
    (plan, next)
}

/// Decides what is said of the configuration: one alert while it cannot be used, reminders every
/// four hours, and an all-clear. What is to be said stands in the outbox of the returned state.
pub fn configuration(
    name: &str,
    mistakes: Option<&Mistakes>,
    state: &State,
    now: Timestamp,
) -> State {
    let mut next = state.clone();
    next.schema = SCHEMA;
    let look = Look::of(mistakes.map(|mistakes| Finding {
        condition: Condition::Misconfigured,
        subject: None,
        since: now,
        corroborated: true,
        causes: Vec::new(),
        proof: vec![Fact::Mistakes {
            list: mistakes.0.iter().map(ToString::to_string).collect(),
        }],
    }));
    let moment = Moment {
        scheduler: name,
        now,
        counts: true,
        seeing: true,
        service: None,
        remind_after: CONFIGURATION_REMINDER,
    };
    for news in incident::advance(&mut next, &look, &moment) {
        if let Some(incident) = next.incidents.iter().find(|i| i.id == news.incident) {
            let notification = notification(name, &next, incident, &news, None, &look);
            put_in_outbox(&mut next.outbox, &notification);
        }
    }
    next
}

fn count_blindness(state: &mut State, snapshot: &Snapshot, now: Timestamp, counts: bool) {
    let log_blind = snapshot.log.unknown().is_some();
    see(&mut state.blind, judge::LOGS, log_blind, now, counts);
    if let Some(service) = &snapshot.service {
        let ecs_blind = service.unknown().is_some();
        see(&mut state.blind, judge::ECS, ecs_blind, now, counts);
    }
}

fn see(
    senses: &mut BTreeMap<String, Blind>,
    sense: &str,
    blind: bool,
    now: Timestamp,
    counts: bool,
) {
    if !blind {
        senses.remove(sense);
        return;
    }
    let known = senses.entry(sense.to_owned()).or_insert(Blind {
        passes: 0,
        since: now,
    });
    if counts || known.passes == 0 {
        known.passes += 1;
    }
}

/// How long a silence has been excused: excuses that never end are none.
fn remember_excuse(state: &mut State, look: &Look, now: Timestamp) {
    match look.excuse {
        Some(Reason::DeploymentInProgress { .. } | Reason::TaskStarting { .. }) => {
            state.excused_since.get_or_insert(now);
        }
        // While the silence lasts, a spent excuse stays spent.
        _ if look.has(Slot::Loop) => {}
        _ => state.excused_since = None,
    }
}

fn verdict(state: &State, look: &Look, moment: &Moment<'_>) -> Verdict {
    let any = |phase: Phase| state.incidents.iter().any(|i| i.phase == phase);
    if !moment.seeing {
        Verdict::Unknown
    } else if look.excuse.is_some() {
        Verdict::Suspended
    } else if any(Phase::Firing) || any(Phase::Recovering) {
        Verdict::Firing
    } else if any(Phase::Pending) {
        Verdict::Pending
    } else {
        Verdict::Healthy
    }
}

fn reason(state: &State, look: &Look, verdict: Verdict) -> Reason {
    match verdict {
        Verdict::Suspended => look.excuse.clone().unwrap_or_else(|| look.calm.clone()),
        Verdict::Pending => Reason::SecondLookNeeded,
        Verdict::Firing if look.findings.is_empty() => Reason::Recovering,
        Verdict::Firing if state.incidents.iter().any(|i| i.phase == Phase::Firing) => {
            Reason::Found
        }
        Verdict::Firing => Reason::Recovering,
        Verdict::Healthy | Verdict::Unknown => look.calm.clone(),
    }
}

/// What was found, without what something else explains.
fn conditions(look: &Look) -> Vec<Condition> {
    let mut conditions: Vec<Condition> = look.findings.iter().map(|f| f.condition).collect();
    conditions.dedup();
    conditions
}

fn notification(
    scheduler: &str,
    state: &State,
    incident: &Incident,
    news: &News,
    remediation: Option<&Remediation>,
    look: &Look,
) -> Notification {
    let occasion = news.occasion;
    let scaled_to_zero = look.excuse == Some(Reason::DesiredCountZero);
    Notification {
        id: format!("{}/{}", incident.id, news.number),
        incident: incident.id.clone(),
        at: news.at,
        scheduler: scheduler.to_owned(),
        occasion,
        condition: incident.condition,
        subject: incident.subject.clone(),
        severity: incident.severity,
        since: incident.since,
        until: matches!(occasion, Occasion::Resolved | Occasion::Remediated)
            .then(|| ended(state, incident, news.at)),
        causes: incident.causes.clone(),
        proof: incident.proof.clone(),
        handling: remedy::handling(state, incident, occasion, remediation, scaled_to_zero),
    }
}

/// When the trouble ended: with the heartbeat that broke the silence, else with the first look
/// that was good again.
fn ended(state: &State, incident: &Incident, now: Timestamp) -> Timestamp {
    let resumed = (state.heartbeats.resumed_at)
        .filter(|at| incident.slot == Slot::Loop && *at > incident.since);
    resumed.or(incident.steady_since).unwrap_or(now)
}

/// Adds a message to those that wait. A newer reminder of an incident takes the place of one
/// that could not be delivered.
fn put_in_outbox(outbox: &mut Vec<Notification>, notification: &Notification) {
    if notification.occasion == Occasion::Reminder {
        outbox.retain(|waiting| {
            waiting.incident != notification.incident || waiting.occasion != Occasion::Reminder
        });
    }
    outbox.push(notification.clone());
}
