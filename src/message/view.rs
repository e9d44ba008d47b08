//! What a message says, in the reader's language, before it is laid out for mail or chat.
//! Plain text throughout: markup is the layouts' business.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

use super::words::{Speaker, Words};
use super::{Context, console, safe, steps};
use crate::cause::{self, Evidence};
use crate::condition::{Condition, Fact, RestartHelps, Slot, missed_jobs};
use crate::config::{Cure, EcsTarget, Language, ReplicaCure, Scheduler};
use crate::health::Sign;
use crate::plan::{Handling, Notification};
use crate::snapshot::Obstacle;

/// The longest name in a headline, in bytes; the whole name stands below and in commands.
const MAX_NAME: usize = 40;

/// The longest subject in a headline, in bytes, likewise.
const MAX_SHORT: usize = 48;

/// The most causes that a message shows.
const MAX_CAUSES: usize = 3;

/// The longest fact, in bytes.
const MAX_FACT: usize = 900;

/// How much of the log before and after the trouble the link shows.
const MARGIN: SignedDuration = SignedDuration::from_mins(15);

/// What a message says.
#[derive(Debug, Serialize)]
pub(super) struct View {
    /// For mail; in English, because it must be ASCII.
    pub subject: String,
    /// What, where, since when, and whether it is handled: at most 200 characters.
    pub head: Head,
    /// Why this message is sent.
    note: String,
    /// What is wrong, in whole sentences; empty once it is over.
    what: String,
    /// The names of the service and the log.
    place: String,
    causes: Vec<ShownCause>,
    /// What to say where no cause is proven.
    unknown: String,
    proof: Vec<String>,
    /// The heading of the proof.
    proof_label: String,
    /// The runs that the trouble cost, once it is over.
    missed: Vec<String>,
    handling: String,
    gates: Vec<String>,
    pub steps: Vec<steps::Shown>,
    /// What the commands among the steps need; empty where none needs anything.
    needed: String,
    links: Vec<Link>,
    /// The service and the log groups, for chat.
    pub resources: Vec<String>,
    /// Section headings and other labels.
    label: Value,
    pub ended: bool,
    pub incident: String,
    pub id: String,
}

/// The first three lines.
#[derive(Debug, Serialize)]
pub(super) struct Head {
    pub what: String,
    pub since: String,
    pub handled: String,
}

#[derive(Debug, Serialize)]
struct ShownCause {
    id: String,
    meaning: String,
    evidence: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Link {
    label: String,
    url: String,
}

impl View {
    pub fn new(notification: &Notification, context: &Context<'_>) -> Self {
        let zone = zone(notification, context);
        let words = Words::of(context.language);
        let speaker = speaker_of(notification, context, words, &zone);
        let english = speaker_of(notification, context, Words::of(Language::En), &zone);
        let none = || context! {};
        let occasion = notification.occasion.id();
        let condition = notification.condition.id();
        let ended = notification.is_over();
        let handling = handling(notification);
        let say_handling = |part| {
            let id = handling.get_attr("handling").unwrap_or_default();
            speaker.say(
                &["handling", id.as_str().unwrap_or_default(), part],
                handling.clone(),
            )
        };
        let label = |key: &str| speaker.say(&["label", key], none());
        let (missed, proof): (Vec<&Fact>, Vec<&Fact>) = (notification.proof.iter())
            .filter(|fact| !is_evidence(fact, notification))
            .partition(|fact| ended && fact.is_of_missed_runs());
        let steps = steps::next(notification, context, ended, &speaker, &label("container"));
        let needed = match steps.iter().any(steps::Shown::needs_exec) {
            true => label("exec"),
            false => String::new(),
        };
        Self {
            subject: english.say(&["occasion", occasion, "subject"], none()),
            head: Head {
                what: speaker.say(&["occasion", occasion, "head"], none()),
                since: speaker.say(&["head", "since"], none()),
                handled: say_handling("short"),
            },
            note: speaker.say(&["occasion", occasion, "note"], none()),
            what: if ended {
                String::new()
            } else {
                speaker.say(&["condition", condition, "what"], none())
            },
            place: speaker.say(&["place", "line"], none()),
            causes: causes(notification, &speaker),
            unknown: if ended {
                String::new()
            } else {
                speaker.say(&["condition", condition, "unknown"], none())
            },
            proof: say_facts(&proof, &speaker),
            proof_label: label("proof"),
            missed: say_facts(&missed, &speaker),
            handling: say_handling("long"),
            gates: match &notification.handling {
                Handling::Withheld { blocked_by, .. } => (blocked_by.iter())
                    .map(|gate| speaker.say(&["gate", gate.id()], none()))
                    .collect(),
                _ => Vec::new(),
            },
            steps,
            needed,
            links: links(notification, context, &label("logs"), &label("tasks")),
            resources: context.scheduler.map(resources).unwrap_or_default(),
            label: words.value().get_attr("label").unwrap_or_default(),
            ended,
            incident: safe::cut(&safe::line(&notification.incident), 200),
            id: safe::cut(&safe::line(&notification.id), 200),
        }
    }
}

/// The zone in which times are said.
fn zone(notification: &Notification, context: &Context<'_>) -> TimeZone {
    let named = (notification.proof.iter()).find_map(|fact| match fact {
        Fact::NextTest { timezone, .. } => TimeZone::get(timezone).ok(),
        _ => None,
    });
    let scheduler = context
        .scheduler
        .map(|scheduler| scheduler.timezone.clone());
    scheduler.or(named).unwrap_or(TimeZone::UTC)
}

/// A speaker that knows the notification, `now` and `over` included.
pub(super) fn speaker_of(
    notification: &Notification,
    context: &Context<'_>,
    words: &'static Words,
    zone: &TimeZone,
) -> Speaker {
    let known = known(notification, context);
    let condition = notification.condition.id();
    let plain = Speaker::new(words, zone, known.clone());
    let now = plain.say(&["condition", condition, "now"], context! {});
    let over = plain.say(&["condition", condition, "over"], context! {});
    Speaker::new(words, zone, context! { now, over, ..known })
}

/// What every phrase may use; see the head of `en.toml`.
fn known(notification: &Notification, context: &Context<'_>) -> Value {
    let ended = notification.is_over();
    let end = notification.until.unwrap_or(notification.at);
    let place = context.scheduler.map(place);
    let handling = handling(notification);
    let of_handling = |key| handling.get_attr(key).unwrap_or_default();
    let facts = || notification.proof.iter();
    let is_one =
        notification.condition == Condition::JobOverdue && missed_jobs(&notification.proof) == 1;
    // Several jobs may be one by now.
    let one = (notification.subject.as_deref()).or_else(|| {
        facts().find_map(|fact| match fact {
            Fact::Jobs { names, more: 0 } if names.len() == 1 => Some(names[0].as_str()),
            Fact::MissedRuns { job, .. } if is_one => Some(job),
            _ => None,
        })
    });
    let obstacle = facts().find_map(|fact| match fact {
        Fact::Blind { obstacle, .. } => *obstacle,
        _ => None,
    });
    let mistakes = facts().find_map(|fact| match fact {
        Fact::Mistakes { list } => Some(list.len()),
        _ => None,
    });
    let of_loop = notification.condition.slot() == Slot::Loop;
    context! {
        region => safe::line(context.region),
        obstacle => obstacle.map(Serde),
        passes_by_itself => obstacle.is_some_and(Obstacle::passes_by_itself),
        mistakes => mistakes.unwrap_or_default(),
        of_loop,
        costs => facts().any(Fact::is_of_missed_runs),
        jobs_known => context.scheduler.is_some_and(|s| !s.jobs.is_empty()),
        restart_helps => steps::restart_of(notification) != RestartHelps::No,
        restart_configured => context.scheduler.is_some_and(|s| is_restart_configured(s, notification)),
        name => safe::cut(&safe::line(&notification.scheduler), MAX_NAME),
        condition => notification.condition.id(),
        occasion => notification.occasion.id(),
        severity => notification.severity.id(),
        subject => one.map(safe::job),
        paused => facts().any(|fact| matches!(fact, Fact::Paused { .. })),
        alive => facts().any(|fact| matches!(fact, Fact::Health { sign: Sign::Alive, .. })),
        waits => facts().any(|fact| matches!(fact, Fact::MayBeRunning { jobs } if !jobs.is_empty())),
        runs_on => facts().any(|fact| matches!(fact, Fact::Runtime { running: true, .. })),
        short => one.map(|one| safe::cut(&safe::job(one), MAX_SHORT)),
        since => notification.since.to_string(),
        until => notification.until.map(|until| until.to_string()),
        at => notification.at.to_string(),
        again => notification.again_since.map(|again| again.to_string()),
        lasted => end.duration_since(notification.began()).as_secs(),
        ended,
        laravel => context.scheduler.is_none_or(|s| s.preset.is_laravel()),
        handling => of_handling("handling"),
        cure => of_handling("cure").as_str().unwrap_or_default().to_owned(),
        started => (notification.proof.iter()).find_map(|fact| match fact {
            Fact::Runs { started, .. } => Some(*started),
            _ => None,
        }),
        ..place.unwrap_or_default()
    }
}

/// Whether a cure is configured for such a condition.
fn is_restart_configured(scheduler: &Scheduler, notification: &Notification) -> bool {
    let rules = &scheduler.remediation;
    match steps::restart_of(notification) {
        RestartHelps::Yes | RestartHelps::ByCause => rules.action != Cure::None,
        RestartHelps::OneTask => rules.replica_action != ReplicaCure::None,
        RestartHelps::No => false,
    }
}

fn place(scheduler: &Scheduler) -> Value {
    let shown = |text: &str| safe::cut(&safe::line(text), 255);
    let groups: Vec<String> = scheduler
        .log_groups
        .iter()
        .take(5)
        .map(|group| shown(group))
        .collect();
    let (cluster, service, definition) = match &scheduler.ecs {
        None => (None, None, None),
        Some(ecs) => match &ecs.target {
            EcsTarget::Service(service) => (Some(shown(&ecs.cluster)), Some(shown(service)), None),
            EcsTarget::TaskDefinition { definition, .. } => {
                (Some(shown(&ecs.cluster)), None, Some(shown(definition)))
            }
        },
    };
    context! { groups, cluster, service, definition }
}

fn resources(scheduler: &Scheduler) -> Vec<String> {
    let ecs = scheduler.ecs.as_ref().map(|ecs| {
        let (EcsTarget::Service(name)
        | EcsTarget::TaskDefinition {
            definition: name, ..
        }) = &ecs.target;
        format!("{}/{name}", ecs.cluster)
    });
    (ecs.iter().chain(&scheduler.log_groups).take(5))
        .map(|name| safe::cut(&safe::line(name), 255))
        .collect()
}

/// The handling's fields, made safe, and whether a withheld restart waits.
fn handling(notification: &Notification) -> Value {
    let waits = match &notification.handling {
        Handling::Withheld { blocked_by, .. } => steps::waits(blocked_by),
        _ => false,
    };
    let fields = serde_json::to_value(&notification.handling).unwrap_or_default();
    context! { waits, ..Value::from(Serde(safe::json(fields))) }
}

fn causes(notification: &Notification, speaker: &Speaker) -> Vec<ShownCause> {
    (notification.causes.iter().take(MAX_CAUSES))
        .map(|cause| ShownCause {
            id: safe::cut(&safe::line(&cause.id), 60),
            meaning: cause::named(&cause.id).map_or(String::new(), |entry| {
                speaker.pick(&entry.meaning).to_owned()
            }),
            evidence: (cause.evidence.iter().take(2))
                .map(|evidence| say_evidence(evidence, speaker))
                .collect(),
        })
        .collect()
}

/// What proves a cause, on one line.
pub(super) fn say_evidence(evidence: &Evidence, speaker: &Speaker) -> String {
    match evidence {
        Evidence::Line(line) => safe::evidence(line),
        Evidence::Fact(fact) => safe::evidence(&say_fact(fact, speaker)),
    }
}

fn say_facts(facts: &[&Fact], speaker: &Speaker) -> Vec<String> {
    (facts.iter().take(safe::MAX_LIST))
        .map(|fact| say_fact(fact, speaker))
        .flat_map(|said| said.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|said| !said.is_empty())
        .collect()
}

fn say_fact(fact: &Fact, speaker: &Speaker) -> String {
    let fields = serde_json::to_value(fact).unwrap_or_default();
    let id = fields["fact"].as_str().unwrap_or_default().to_owned();
    let said = speaker.say(&["fact", &id], Value::from(Serde(safe::json(fields))));
    safe::cut(&said, MAX_FACT)
}

/// Whether a cause's evidence says it already.
fn is_evidence(fact: &Fact, notification: &Notification) -> bool {
    let shown = notification.causes.iter().take(MAX_CAUSES);
    shown
        .flat_map(|cause| &cause.evidence)
        .any(|evidence| matches!(evidence, Evidence::Fact(known) if known == fact))
}

fn links(notification: &Notification, context: &Context<'_>, logs: &str, tasks: &str) -> Vec<Link> {
    let (Some(scheduler), false) = (context.scheduler, context.region.is_empty()) else {
        return Vec::new();
    };
    let link = |label: &str, url| Link {
        label: label.to_owned(),
        url,
    };
    let shift = |at: Timestamp, by: SignedDuration| at.checked_add(by).unwrap_or(at);
    let from = shift(notification.since, -MARGIN);
    // While it goes on, there is nothing to see after the message.
    let until = (notification.until).map_or(notification.at, |until| shift(until, MARGIN));
    let logs = link(logs, console::logs(context.region, scheduler, from, until));
    let tasks =
        (scheduler.ecs.as_ref()).map(|ecs| link(tasks, console::tasks(context.region, ecs)));
    std::iter::once(logs).chain(tasks).collect()
}
