//! The decision for one scheduler: pure, and the same for every shell.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::condition::{Condition, Fact, Finding, Slot};
use crate::config::{Config, Mistakes, Scheduler};
use crate::cron;
use crate::due::{self, Loop, Lost};
use crate::history;
use crate::incident::{self, Advance, Moment, News};
use crate::judge::{self, Look};
use crate::plan::{Handling, Notification, Occasion, Plan, Reason, Remediation, Verdict};
use crate::remedy;
use crate::silence::{self, Quiet};
use crate::snapshot::{LogWindow, Observed, Readers, Snapshot};
use crate::state::{Incident, Phase, SCHEMA, State};

/// Passes closer together than this are one look: EventBridge delivers at least once, and a
/// repeated invocation must not stand for a second opinion.
const LOOKS_APART: SignedDuration = SignedDuration::from_mins(1);

/// Time between two reminders that the configuration is wrong.
const CONFIGURATION_REMINDER: SignedDuration = SignedDuration::from_hours(4);

/// Two calls for a test alert within this are one: EventBridge delivers at least once, and Lambda
/// tries again what failed, for as long as the template lets them (5 minutes each).
const TEST_ALERTS_APART: SignedDuration = SignedDuration::from_mins(10);

/// Schedulers that a test alert names.
const MOST_WATCHED: usize = 5;

/// A state with a look at the log folded in.
#[derive(Clone, Debug)]
pub struct Folded {
    /// What is remembered now.
    pub state: State,
    /// How far the log had been read before.
    pub checked_until: Option<Timestamp>,
    /// The look is one of its own, and no repeated invocation.
    counts: bool,
}

impl Folded {
    /// Folds a look at the log into what was remembered before.
    pub fn new(
        scheduler: &Scheduler,
        log: &Observed<LogWindow>,
        mut state: State,
        now: Timestamp,
    ) -> Folded {
        let checked_until = state.checked_until;
        let counts = (state.looked_at).is_none_or(|at| now.duration_since(at) >= LOOKS_APART);
        state.schema = SCHEMA;
        state.installed_at.get_or_insert(now);
        if counts {
            state.looked_at = Some(now);
        }
        if let Observed::Known(window) = log {
            history::fold(&mut state, scheduler, window, now);
            state.checked_until = checked_until.max(Some(window.until));
        }
        Folded {
            state,
            checked_until,
            counts,
        }
    }
}

/// Decides. No I/O, no clock, no randomness: the same input gives the same output, and deciding
/// twice on unchanged input plans nothing new.
pub fn decide(
    scheduler: &Scheduler,
    snapshot: &Snapshot,
    state: &State,
    now: Timestamp,
) -> (Plan, State) {
    let folded = Folded::new(scheduler, &snapshot.log, state.clone(), now);
    decide_on(scheduler, snapshot, folded, now)
}

/// What [`decide`] does, for those who have folded the snapshot's log in already.
pub fn decide_on(
    scheduler: &Scheduler,
    snapshot: &Snapshot,
    folded: Folded,
    now: Timestamp,
) -> (Plan, State) {
    let Folded {
        state: mut next,
        checked_until,
        counts,
    } = folded;
    judge::count_blindness(&mut next, scheduler, snapshot, now, counts);
    (next.silences).retain(|silence| silence.until > now);
    let quiet = silence::quiet(scheduler, &next, now);

    notice_start(&mut next, snapshot, now);
    let mut look = judge::look(scheduler, snapshot, &next, checked_until, now);
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
        asks_ecs: scheduler.ecs.is_some(),
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
        let end = next.heartbeats.resumed_at.filter(|at| *at > since);
        due::close_untold(&mut next, scheduler, since, end.unwrap_or(now));
    }
    due::forget_told(&mut next);
    for outcome in outcomes {
        let incident = (next.incidents.iter_mut()).find(|i| i.id == outcome.incident);
        // An incident that ends in this very pass says in its last message what ended it.
        let reminder = (news.iter_mut())
            .find(|n| n.incident == outcome.incident && n.occasion == Occasion::Reminder);
        match (incident, reminder) {
            // One message says both.
            (_, Some(reminder)) => reminder.occasion = outcome.occasion,
            (Some(incident), None) if incident.is_open() => {
                news.push(incident::say(incident, outcome.occasion, now));
            }
            // Nobody is told of it any more, and it came back: what it locked is free.
            (_, None) if outcome.occasion == Occasion::LockedOut => {
                next.restarts.locked_out_at.take_if(|at| *at == now);
            }
            (_, None) => {}
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
        silent_for: (next.heartbeats.last.filter(|_| moment.seeing))
            .map(|last| SignedDuration::from_secs(now.duration_since(last).as_secs().max(0))),
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
        refuted: false,
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
        asks_ecs: false,
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

/// Who asks for a test alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestAlert {
    /// The schedule, as EventBridge writes it; none if a person asks.
    pub schedule: Option<String>,
    /// The schedule's time zone; by default the first scheduler's.
    pub timezone: Option<String>,
}

/// Decides on a test alert, which then stands in the outbox of the returned state; none if the
/// call repeats one.
pub fn test_alert(
    config: &Config,
    asked: &TestAlert,
    readers: Option<&Observed<Readers>>,
    state: &State,
    now: Timestamp,
) -> Option<State> {
    if (state.test_alert_at).is_some_and(|at| now.duration_since(at) < TEST_ALERTS_APART) {
        return None;
    }
    let zone = (asked.timezone.as_deref())
        .and_then(|name| TimeZone::get(name).ok())
        .or_else(|| Some(config.schedulers.first()?.timezone.clone()))
        .unwrap_or(TimeZone::UTC);
    let names: Vec<String> = config.schedulers.iter().map(|s| s.name.clone()).collect();
    let next = (asked.schedule.as_deref())
        .and_then(|schedule| cron::next_of_schedule(schedule, &zone, now));
    let watched = Fact::Watched {
        more: u32::try_from(names.len().saturating_sub(MOST_WATCHED)).unwrap_or(u32::MAX),
        names: names.iter().take(MOST_WATCHED).cloned().collect(),
    };
    let readers = readers.map(|readers| match readers {
        Observed::Known(readers) => Fact::Readers {
            topic: readers.topic.clone(),
            confirmed: readers.confirmed,
            pending: readers.pending,
        },
        Observed::Unknown(error) => Fact::ReadersUnknown {
            why: error.to_string(),
        },
    });
    let next_test = Fact::NextTest {
        at: next,
        schedule: asked.schedule.clone(),
        timezone: zone.iana_name().unwrap_or("UTC").to_owned(),
    };
    let incident = format!("test-alert/{now:.0}");
    let notification = Notification {
        id: format!("{incident}/1"),
        incident,
        at: now,
        scheduler: names.join(", "),
        occasion: Occasion::Test,
        condition: Condition::TestAlert,
        subject: None,
        severity: Condition::TestAlert.severity(),
        since: now,
        again_since: None,
        until: None,
        causes: Vec::new(),
        proof: [Some(watched), readers, Some(next_test)]
            .into_iter()
            .flatten()
            .collect(),
        handling: Handling::Watching,
    };
    let mut next = state.clone();
    next.schema = SCHEMA;
    next.test_alert_at = Some(now);
    put_in_outbox(&mut next.outbox, &notification);
    Some(next)
}

/// What the loop's standing means for the jobs.
fn standing(state: &State, look: &Look, seeing: bool) -> Loop {
    let open = state.loop_is_settling();
    match look.excuse {
        Some(Reason::DesiredCountZero) => Loop::Off,
        Some(_) => Loop::Unclear,
        None if !seeing || open || look.has(Slot::Loop) => Loop::Unclear,
        None => Loop::Lives,
    }
}

/// Runs of jobs that a message names one by one; of the others it tells how many there are.
const MOST_TOLD: usize = 8;

/// Jobs that a message names because they have not run since, and the bytes that their names may take
/// together: a fact in a message has room for little more, and is cut at its end.
const MOST_NOT_SINCE: usize = 20;
const ROOM_FOR_NOT_SINCE: usize = 600;

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

/// Jobs that have not run since, by name as far as a message has room.
fn not_since(jobs: &[String], next: Option<Timestamp>) -> Option<Fact> {
    let mut bytes = 0;
    let fits = |job: &&String| {
        bytes += job.len() + ", ".len();
        bytes <= ROOM_FOR_NOT_SINCE
    };
    let named: Vec<String> = (jobs.iter().take(MOST_NOT_SINCE))
        .take_while(fits)
        .cloned()
        .collect();
    let more = jobs.len() - named.len();
    (!jobs.is_empty()).then(|| Fact::NotSince {
        jobs: named,
        more: u32::try_from(more).unwrap_or(u32::MAX),
        next,
    })
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
                let waited = history::tell_waited_for(state, since);
                let lost = due::close(state, scheduler, since, end);
                let proof = &mut state.incidents[index].proof;
                proof.extend(waited.into_iter().chain(told_of(&lost)));
            }
            (Slot::JobRuns, None) => {
                let incident = incident.clone();
                let many = due::close_many(state, scheduler, &incident, news.at);
                let incident = &mut state.incidents[index];
                incident.ended_at = many.until.or(incident.ended_at);
                incident.proof = told_of(&many.lost);
                (incident.proof).extend(not_since(&many.not_since, many.next));
            }
            (Slot::JobRuns, Some(job)) => {
                let missed = due::close_one(state, &job);
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
    let runs = facts.is_some_and(|facts| facts.desired != 0);
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
    if !moment.seeing || matches!(look.excuse, Some(Reason::Blind { .. })) {
        Verdict::Unknown
    } else if look.excuse.is_some() || all_silenced(state, moment.quiet) {
        Verdict::Suspended
    } else if any(Phase::Firing) || any(Phase::Recovering) {
        Verdict::Firing
    } else if any(Phase::Pending) {
        Verdict::Pending
    } else if look.calm == Reason::NotSeenYet {
        // It may be well, or dead for longer than the first look goes back.
        Verdict::Unknown
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
    let mut notification = Notification {
        id: format!("{}/{}", incident.id, news.number),
        incident: incident.id.clone(),
        at: news.at,
        scheduler: scheduler.to_owned(),
        occasion,
        condition: incident.condition,
        subject: incident.subject.clone(),
        severity: incident.severity,
        since: incident.since,
        again_since: incident.again_since,
        until: None,
        causes: incident.causes.clone(),
        proof: incident.proof.clone(),
        handling: remedy::handling(state, incident, occasion, remediation, scaled_to_zero),
    };
    notification.until = (notification.is_over()).then(|| ended(state, incident, news.at));
    notification
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
