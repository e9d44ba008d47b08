//! The decision for one scheduler: pure, and the same for every shell.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::condition::{Condition, Fact, Finding, Slot};
use crate::config::{Mistakes, Scheduler};
use crate::due::{self, Loop, Lost};
use crate::history;
use crate::incident::{self, Advance, Moment, News};
use crate::judge::{self, Look};
use crate::plan::{Notification, Occasion, Plan, Reason, Remediation, Verdict};
use crate::remedy;
use crate::silence::{self, Quiet};
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
    (next.silences).retain(|silence| silence.until > now);
    let quiet = quiet(scheduler, &next, now);

    notice_start(&mut next, snapshot, now);
    let mut look = judge::look(scheduler, snapshot, &next, state.checked_until, now);
    remember_excuse(&mut next, &look, now);
    remember_off(&mut next, &look, now);
    let seeing = snapshot.log.known().is_some();
    let standing = standing(&next, &look, seeing);
    due::account(&mut next, scheduler, standing, now);
    if standing == Loop::Lives {
        look.findings.extend(judge::jobs(scheduler, &next, now));
    }
    let service = snapshot.service.as_ref().and_then(Observed::known);
    let moment = Moment {
        scheduler: &scheduler.name,
        now,
        counts,
        seeing,
        service,
        remind_after: scheduler.remind_after,
        quiet: &quiet,
    };

    let outcomes = remedy::follow_up(&mut next, scheduler, service, &quiet, now);
    let Advance {
        mut news,
        withheld,
        unheard,
    } = incident::advance(&mut next, &look, &moment);
    tell_runs(&mut next, scheduler, &news);
    if let Some(since) = unheard {
        // What an outage cost that nobody wanted to hear of is old news, too.
        let end = next.heartbeats.resumed_at.filter(|at| *at > since);
        let _ = due::close(&mut next, scheduler, since, end.unwrap_or(now));
    }
    due::forget_told(&mut next);
    for outcome in outcomes {
        let incident = (next.incidents.iter_mut()).find(|i| i.id == outcome.incident);
        // An incident that ends in this very pass says in its last message what ended it.
        if let Some(incident) = incident
            && incident.is_open()
        {
            news.push(incident::say(incident, outcome.occasion, now));
        }
    }
    let remediation = remedy::plan(&next, scheduler, snapshot, &look, &quiet, now);

    let verdict = verdict(&next, &look, &moment);
    remedy::mind_lockout(&mut next, verdict, now);
    let reason = reason(&next, &look, verdict, &quiet);
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
        withheld,
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
        pace: None,
    }));
    let moment = Moment {
        scheduler: name,
        now,
        counts: true,
        seeing: true,
        service: None,
        remind_after: CONFIGURATION_REMINDER,
        quiet: &BTreeMap::new(),
    };
    for news in incident::advance(&mut next, &look, &moment).news {
        if let Some(incident) = next.incidents.iter().find(|i| i.id == news.incident) {
            let notification = notification(name, &next, incident, &news, None, &look);
            put_in_outbox(&mut next.outbox, &notification);
        }
    }
    next
}

/// What somebody wants to hear nothing of at present.
fn quiet(scheduler: &Scheduler, state: &State, now: Timestamp) -> BTreeMap<Condition, Quiet> {
    if scheduler.silences.is_empty() && state.silences.is_empty() {
        return BTreeMap::new();
    }
    (Condition::ALL.into_iter())
        .filter_map(|condition| {
            let quiet = silence::quiet(scheduler, state, condition, now)?;
            Some((condition, quiet))
        })
        .collect()
}

/// What the loop's standing means for the jobs.
fn standing(state: &State, look: &Look, seeing: bool) -> Loop {
    let open = (state.incidents.iter()).any(|i| i.slot == Slot::Loop && i.goes_on());
    match look.excuse {
        Some(Reason::DesiredCountZero) => Loop::Off,
        Some(_) => Loop::Unclear,
        None if !seeing || open || look.has(Slot::Loop) => Loop::Unclear,
        None => Loop::Lives,
    }
}

/// Runs of jobs that a message names one by one; of the others it tells how many there are.
const MOST_TOLD: usize = 8;

/// What runs were lost: the rarest jobs by name, and how many more there are.
fn told_of(lost: &[Lost]) -> Vec<Fact> {
    let named = lost.iter().filter_map(|lost| lost.missed.fact(&lost.job));
    let mut told: Vec<Fact> = named.take(MOST_TOLD).collect();
    let more = lost.len().saturating_sub(told.len());
    told.extend((more > 0).then(|| Fact::MoreMissed {
        jobs: u32::try_from(more).unwrap_or(u32::MAX),
    }));
    told
}

/// Adds to incidents that are over which runs they cost.
fn tell_runs(state: &mut State, scheduler: &Scheduler, news: &[News]) {
    for news in news
        .iter()
        .filter(|news| news.occasion == Occasion::Resolved)
    {
        let about = (state.incidents.iter()).position(|i| i.id == news.incident);
        let Some(index) = about else { continue };
        let incident = &state.incidents[index];
        match (incident.slot, incident.subject.clone()) {
            (Slot::Loop, _) => {
                let (since, end) = (incident.since, incident.ended_at.unwrap_or(news.at));
                let lost = due::close(state, scheduler, since, end);
                state.incidents[index].proof.extend(told_of(&lost));
            }
            (Slot::JobRuns, None) => {
                let lost = due::close_many(state, scheduler, news.at);
                state.incidents[index].proof = told_of(&lost);
            }
            (Slot::JobRuns, Some(job)) => {
                let missed = state.jobs.get(&job).map(|history| history.missed.clone());
                let missed = missed.unwrap_or_default();
                let incident = &mut state.incidents[index];
                incident.ended_at = missed.back.or(incident.ended_at);
                // What was known before it ran again is of no use any more.
                incident.proof = Vec::from_iter(missed.fact(&job));
                (incident.proof).extend(missed.back.map(|at| Fact::LastRun { at: Some(at) }));
            }
            _ => {}
        }
    }
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

/// The first look at a service that is meant to run again: from now on heartbeats are expected.
fn notice_start(state: &mut State, snapshot: &Snapshot, now: Timestamp) {
    let facts = snapshot.service.as_ref().and_then(Observed::known);
    let runs = facts.is_some_and(|facts| facts.desired > 0);
    if state.off_at.is_some() && runs && !state.on_again {
        (state.off_at, state.on_again) = (Some(now), true);
    }
}

/// While the service is meant to run no task, nobody expects a heartbeat.
fn remember_off(state: &mut State, look: &Look, now: Timestamp) {
    if look.excuse == Some(Reason::DesiredCountZero) {
        (state.off_at, state.on_again) = (Some(now), false);
    } else if state.heartbeats.last > state.off_at {
        state.off_at = None;
    }
}

fn verdict(state: &State, look: &Look, moment: &Moment<'_>) -> Verdict {
    let any = |phase: Phase| state.incidents.iter().any(|i| i.phase == phase);
    if !moment.seeing {
        Verdict::Unknown
    } else if look.excuse.is_some() || all_silenced(state, moment.quiet) {
        Verdict::Suspended
    } else if any(Phase::Firing) || any(Phase::Recovering) {
        Verdict::Firing
    } else if any(Phase::Pending) {
        Verdict::Pending
    } else {
        Verdict::Healthy
    }
}

/// Whether something is wrong, and nobody wants to hear of any of it.
fn all_silenced(state: &State, quiet: &BTreeMap<Condition, Quiet>) -> bool {
    let mut wrong = (state.incidents.iter())
        .filter(|incident| incident.phase != Phase::Resolved)
        .map(|incident| quiet.contains_key(&incident.condition))
        .peekable();
    wrong.peek().is_some() && wrong.all(|silenced| silenced)
}

fn reason(
    state: &State,
    look: &Look,
    verdict: Verdict,
    quiet: &BTreeMap<Condition, Quiet>,
) -> Reason {
    let silence = || quiet.values().max_by_key(|quiet| quiet.until).cloned();
    match verdict {
        Verdict::Suspended => (look.excuse.clone())
            .or_else(|| silence().map(Reason::Silenced))
            .unwrap_or_else(|| look.calm.clone()),
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
    (incident.ended_at)
        .or_else(|| due::came_back(incident, &state.heartbeats))
        .or(incident.steady_since)
        .unwrap_or(now)
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
