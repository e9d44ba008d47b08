//! The life of an incident: pending, firing, recovering, resolved; and what is said of it when.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Map;

use crate::condition::{Condition, Finding, Pace, Slot};
use crate::due;
use crate::judge::Look;
use crate::plan::{Occasion, Reason, Withheld, Withholding};
use crate::silence::Quiet;
use crate::snapshot::ServiceFacts;
use crate::state::{Incident, Phase, State};

/// Good looks in a row that end an incident, each with a heartbeat of its own where the
/// incident is about heartbeats.
const GOOD_LOOKS: u32 = 2;

/// The longest pause between two reminders, unless the first is longer still.
const LONGEST_REMINDER: SignedDuration = SignedDuration::from_hours(4);

/// More than this many transitions within [`FLAPPING_SPAN`] are flapping.
const FLAPPING_TRANSITIONS: usize = 4;

/// The span in which transitions are counted, and for which a resolved incident is remembered.
const FLAPPING_SPAN: SignedDuration = SignedDuration::from_hours(2);

/// How long a flapping incident must be steady, good or bad, before it counts as such.
const STEADY: SignedDuration = SignedDuration::from_mins(30);

/// Faces of one incident that are remembered as told.
const MOST_FACES: usize = 12;

/// What is to be said of an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// The incident's id.
    pub incident: String,
    /// What happened to it.
    pub occasion: Occasion,
    /// When.
    pub at: Timestamp,
    /// The number of the message about it, from 1.
    pub number: u32,
}

/// What the life of incidents depends on, besides what was found.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The scheduler's name.
    pub scheduler: &'a str,
    /// The pass's time.
    pub now: Timestamp,
    /// This look counts: it is not a repetition of the one before.
    pub counts: bool,
    /// The log could be read.
    pub seeing: bool,
    /// What ECS says, where it was asked and answered.
    pub service: Option<&'a ServiceFacts>,
    /// ECS is asked, where there is a reason.
    pub asks_ecs: bool,
    /// Time to the first reminder.
    pub remind_after: SignedDuration,
    /// What somebody wants to hear nothing of.
    pub quiet: &'a BTreeMap<Condition, Quiet>,
}

/// What one look means for the incidents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advance {
    /// What is to be said.
    pub news: Vec<News>,
    /// What was found and is not said.
    pub withheld: Vec<Withheld>,
    /// Since when the loop was in a trouble that is over, and that a silence kept untold.
    pub unheard: Option<Timestamp>,
}

/// Carries all incidents over one look, and says what is new.
pub fn advance(state: &mut State, look: &Look, moment: &Moment<'_>) -> Advance {
    let mut advance = Advance::default();
    let down = state.loop_is_settling() || look.has(Slot::Loop);
    for finding in &look.findings {
        // A loop that is down explains the rest; what was told already goes on untold.
        let slot = finding.condition.slot();
        let explained = down
            && (slot.is_of_jobs()
                || matches!(slot, Slot::Replica | Slot::Errors | Slot::Deployment));
        let said = found(state, finding, explained, moment);
        let silence = moment.quiet.get(&finding.condition);
        let why = match said {
            Said::News(news) => {
                advance.news.push(news);
                continue;
            }
            Said::Nothing => continue,
            Said::Withheld(_) if silence.is_some() => silence.cloned().map(Withholding::Silenced),
            Said::Withheld(why) => why,
        };
        advance.withheld.extend(why.map(|why| Withheld {
            condition: finding.condition,
            subject: finding.subject.clone(),
            why,
        }));
    }
    let absent: Vec<usize> = (0..state.incidents.len())
        .filter(|index| {
            let incident = &state.incidents[*index];
            incident.phase != Phase::Resolved && !look.findings.iter().any(|f| incident.is_of(f))
        })
        .collect();
    for index in absent {
        let beat = newest_beat(state, &state.incidents[index], moment.service);
        if !is_over(&mut state.incidents[index], look, beat, down, moment) {
            continue;
        }
        let ended = due::came_back(&state.incidents[index], &state.heartbeats);
        let incident = &mut state.incidents[index];
        incident.ended_at.get_or_insert(ended.unwrap_or(moment.now));
        // What ends in a silence is told when the silence ends.
        if !moment.quiet.contains_key(&incident.condition) {
            advance.news.push(resolve(incident, moment.now));
        }
    }
    // An excuse brings no loop back: what a silence keeps untold goes on behind it.
    let is_excused = (look.excuse.as_ref()).is_some_and(|why| *why != Reason::DesiredCountZero);
    let last_beat = state.heartbeats.last;
    let is_dead_still = |incident: &Incident| {
        let is_untold = incident.slot == Slot::Loop && incident.silenced;
        is_untold && is_excused && last_beat.is_none_or(|last| last <= incident.since)
    };
    // Never told, and not there any more: forgotten.
    let is_gone = |incident: &Incident| {
        incident.phase == Phase::Pending
            && moment.seeing
            && !look.findings.iter().any(|finding| incident.is_of(finding))
            && !is_dead_still(incident)
    };
    advance.unheard = (state.incidents.iter())
        .find(|incident| incident.slot == Slot::Loop && incident.silenced && is_gone(incident))
        .map(|incident| incident.since);
    state.incidents.retain(|incident| match incident.phase {
        Phase::Pending => !is_gone(incident),
        Phase::Resolved => incident
            .transitions
            .last()
            .is_some_and(|at| moment.now.duration_since(*at) < FLAPPING_SPAN),
        Phase::Firing | Phase::Recovering => true,
    });
    advance
}

/// What comes of a finding.
enum Said {
    News(News),
    /// It was told already and has not changed.
    Nothing,
    /// It would be told, but for this reason, or for a silence where there is none.
    Withheld(Option<Withholding>),
}

/// Something was found: a new incident, or one more sign of a known one.
fn found(state: &mut State, finding: &Finding, explained: bool, moment: &Moment<'_>) -> Said {
    let now = moment.now;
    let silenced = moment.quiet.contains_key(&finding.condition);
    let known = (state.incidents.iter()).position(|incident| incident.is_of(finding));
    let known = match known {
        Some(index) if state.incidents[index].phase != Phase::Resolved => index,
        _ if explained => return Said::Withheld(Some(Withholding::Explained)),
        // A new incident of a slot inherits the transitions of the one before.
        earlier => {
            let transitions = earlier
                .map(|index| state.incidents.remove(index).transitions)
                .unwrap_or_default();
            state.incidents.push(begin(finding, transitions, moment));
            state.incidents.len() - 1
        }
    };
    let incident = &mut state.incidents[known];
    incident.ended_at = None;
    if incident.condition != finding.condition {
        incident.condition_since = Some(now);
    }
    incident.condition = finding.condition;
    incident.severity = finding.condition.severity();
    incident.proof.clone_from(&finding.proof);
    if finding.refuted || !finding.causes.is_empty() {
        incident.causes.clone_from(&finding.causes);
    }
    match incident.phase {
        Phase::Pending => {
            let second_look = moment.counts && now > incident.found_at;
            incident.silenced = silenced;
            if silenced {
                Said::Withheld(None)
            } else if explained {
                Said::Withheld(Some(Withholding::Explained))
            } else if finding.corroborated || second_look {
                Said::News(fire(incident, now))
            } else {
                Said::Withheld(Some(Withholding::SecondLook))
            }
        }
        Phase::Recovering | Phase::Firing => {
            let came_back = incident.phase == Phase::Recovering;
            if came_back {
                incident.phase = Phase::Firing;
                note_return(incident, finding, now);
                incident.good_looks = 0;
                incident.good_beats = 0;
                incident.steady_since = Some(now);
            } else if incident.flapping && is_steady(incident, now) {
                incident.flapping = false;
            }
            if silenced {
                return Said::Withheld(None);
            }
            if explained {
                return Said::Nothing;
            }
            // What is due is told although it has only just come back: deciding again would tell it.
            match still_firing(incident, finding.pace, moment) {
                Some(news) => Said::News(news),
                None if came_back && incident.flapping => {
                    Said::Withheld(Some(Withholding::Flapping))
                }
                None => Said::Nothing,
            }
        }
        Phase::Resolved => Said::Nothing,
    }
}

/// Notes since when something is there again. Another trouble of the loop in between was no break; and
/// only of heartbeats is it known when they ended.
fn note_return(incident: &mut Incident, finding: &Finding, now: Timestamp) {
    incident.again_since = match is_about_beats(incident) {
        true if incident.good_beats == 0 => incident.again_since,
        true => Some(finding.since),
        false => Some(now),
    };
}

/// Whether heartbeats end it.
fn is_about_beats(incident: &Incident) -> bool {
    matches!(incident.slot, Slot::Loop | Slot::Replica)
}

fn begin(finding: &Finding, transitions: Vec<Timestamp>, moment: &Moment<'_>) -> Incident {
    let subject = finding.subject.as_deref();
    let about = subject
        .map(|subject| format!("/{subject}"))
        .unwrap_or_default();
    Incident {
        id: format!(
            "{}/{}{about}/{:.0}",
            moment.scheduler, finding.condition, moment.now
        ),
        slot: finding.condition.slot(),
        subject: finding.subject.clone(),
        condition: finding.condition,
        condition_since: None,
        severity: finding.condition.severity(),
        phase: Phase::Pending,
        since: finding.since,
        again_since: None,
        found_at: moment.now,
        fired_at: None,
        ended_at: None,
        notified_at: None,
        messages: 0,
        reminders: 0,
        told: Vec::new(),
        causes: Vec::new(),
        proof: Vec::new(),
        good_looks: 0,
        good_beats: 0,
        good_beat_at: None,
        steady_since: Some(moment.now),
        silenced: false,
        flapping: false,
        transitions,
        unknown: Map::new(),
    }
}

/// An incident begins to fire.
fn fire(incident: &mut Incident, now: Timestamp) -> News {
    incident.phase = Phase::Firing;
    incident.fired_at = Some(now);
    incident.steady_since = Some(now);
    let told = face(incident);
    incident.told = vec![told];
    transition(incident, now);
    incident.flapping = wavers(incident) && incident.transitions.len() > FLAPPING_TRANSITIONS;
    let occasion = match incident.flapping {
        true => Occasion::Flapping,
        false => Occasion::Opened,
    };
    say(incident, occasion, now)
}

/// A firing incident goes on: news if it has a new face, a reminder if it is time for one.
fn still_firing(incident: &mut Incident, pace: Option<Pace>, moment: &Moment<'_>) -> Option<News> {
    let face = face(incident);
    if !incident.told.contains(&face) && incident.told.len() < MOST_FACES {
        incident.told.push(face);
        incident.reminders = 0;
        return Some(say(incident, Occasion::Changed, moment.now));
    }
    let doublings = incident.reminders.min(12);
    let first = pace.map_or(moment.remind_after, |pace| {
        pace.first.max(moment.remind_after)
    });
    let longest = pace.map_or(LONGEST_REMINDER, |pace| pace.longest);
    let pause = (first * (1 << doublings)).min(longest.max(first));
    let due = (incident.notified_at).is_none_or(|at| moment.now.duration_since(at) >= pause);
    due.then(|| {
        incident.reminders += 1;
        say(incident, Occasion::Reminder, moment.now)
    })
}

/// Nothing was found of an incident in this look: whether it is over by now. `beat` is the newest
/// heartbeat of what it is about, for incidents that are about heartbeats.
fn is_over(
    incident: &mut Incident,
    look: &Look,
    beat: Beat,
    down: bool,
    moment: &Moment<'_>,
) -> bool {
    if incident.phase == Phase::Pending {
        return false;
    }
    let about_loop = is_about_beats(incident);
    let silenced = moment.quiet.contains_key(&incident.condition);
    if about_loop && look.excuse == Some(Reason::DesiredCountZero) && !silenced {
        incident.steady_since = Some(moment.now);
        return true;
    }
    let deploying = moment
        .service
        .is_some_and(|facts| facts.deploying().is_some());
    // What cannot be judged in this look stays as it is; but what nobody asks for any more is over.
    let ecs_known = moment.service.is_some() || !moment.asks_ecs;
    let judged = match incident.slot {
        Slot::Loop => moment.seeing && look.excuse.is_none(),
        Slot::Replica => {
            moment.seeing
                && !deploying
                && look.excuse.is_none()
                && !look.has(Slot::Loop)
                && ecs_known
        }
        Slot::Errors => moment.seeing && !look.has(Slot::Loop),
        // While the loop is in trouble, its jobs are inside that incident.
        Slot::JobRuns | Slot::JobFailures | Slot::JobRuntime | Slot::Duplicates => {
            moment.seeing && look.excuse.is_none() && !down
        }
        Slot::Deployment => ecs_known,
        Slot::Watchdog => match incident.subject.as_deref() {
            Some(crate::judge::ECS) => ecs_known,
            _ => moment.seeing,
        },
        Slot::Configuration => true,
    };
    if !judged || !moment.counts {
        return false;
    }
    if incident.phase == Phase::Firing {
        incident.phase = Phase::Recovering;
        incident.steady_since = Some(moment.now);
        incident.good_beat_at = incident.fired_at;
    }
    incident.good_looks += 1;
    if let Beat::At(at) = beat
        && Some(at) > incident.good_beat_at
    {
        incident.good_beats += 1;
        incident.good_beat_at = Some(at);
    }
    let beating = match beat {
        Beat::NotNeeded => true,
        Beat::Never | Beat::At(_) => incident.good_beats >= GOOD_LOOKS,
    };
    let enough = if wavers(incident) { GOOD_LOOKS } else { 1 };
    let good = incident.good_looks >= enough && beating;
    // Documents of earlier versions can hold a configuration that flaps.
    let steady = !incident.flapping || !wavers(incident) || is_steady(incident, moment.now);
    good && steady
}

/// Whether one good look may be chance. A configuration is good or not.
fn wavers(incident: &Incident) -> bool {
    incident.slot != Slot::Configuration
}

/// The newest heartbeat of what an incident is about.
#[derive(Clone, Copy)]
enum Beat {
    NotNeeded,
    Never,
    At(Timestamp),
}

fn newest_beat(state: &State, incident: &Incident, service: Option<&ServiceFacts>) -> Beat {
    let beats = &state.heartbeats;
    let at = match (incident.slot, &incident.subject) {
        (Slot::Loop, _) => beats.last,
        // A task that is gone never beats again: its incident ends with it.
        (Slot::Replica, Some(task)) => {
            let runs = service.is_some_and(|facts| facts.running().any(|t| t.id == *task));
            if !runs {
                return Beat::NotNeeded;
            }
            beats.of_task(task)
        }
        _ => return Beat::NotNeeded,
    };
    at.map_or(Beat::Never, Beat::At)
}

fn resolve(incident: &mut Incident, now: Timestamp) -> News {
    incident.phase = Phase::Resolved;
    if incident.flapping {
        incident.flapping = false;
        incident.transitions.clear();
    }
    transition(incident, now);
    say(incident, Occasion::Resolved, now)
}

fn transition(incident: &mut Incident, now: Timestamp) {
    (incident.transitions).retain(|at| now.duration_since(*at) < FLAPPING_SPAN);
    incident.transitions.push(now);
}

fn is_steady(incident: &Incident, now: Timestamp) -> bool {
    (incident.steady_since).is_some_and(|since| now.duration_since(since) >= STEADY)
}

/// What an incident looks like to a reader: a change of it is news.
fn face(incident: &Incident) -> String {
    let cause = incident
        .causes
        .first()
        .map_or("unknown", |cause| cause.id.as_str());
    format!("{}/{cause}", incident.condition)
}

/// Notes that something is said of an incident.
pub fn say(incident: &mut Incident, occasion: Occasion, now: Timestamp) -> News {
    incident.messages += 1;
    incident.notified_at = Some(now);
    News {
        incident: incident.id.clone(),
        occasion,
        at: now,
        number: incident.messages,
    }
}
