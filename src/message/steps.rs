//! What a person can do next: sentences, and commands with the real names filled in.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::SignedDuration;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Context, safe, words};
use crate::cause::{self, SetUp, Step};
use crate::condition::{Condition, Fact, RestartHelps};
use crate::config::{Cure, EcsTarget, Scheduler};
use crate::data::data;
use crate::health::Sign;
use crate::plan::{Gate, Handling, Notification};

/// The most steps of a message: more are not read at 3 a.m.
const MOST: usize = 8;

/// How long before the trouble the log is read.
const BEFORE: SignedDuration = SignedDuration::from_mins(10);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Steps {
    no_exec: Vec<Condition>,
    condition: BTreeMap<Condition, Vec<Step>>,
    over: Vec<Step>,
    occasion: BTreeMap<String, Vec<Step>>,
    gate: BTreeMap<String, GateRule>,
}

/// What follows from a closed gate.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct GateRule {
    /// It opens by itself.
    waits: bool,
    /// A person may restart all the same.
    by_hand: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    /// What must be known for it.
    #[serde(default)]
    needs: Vec<String>,
    /// The template.
    run: String,
}

static STEPS: LazyLock<Steps> = LazyLock::new(|| data!("message/steps"));

static COMMANDS: LazyLock<BTreeMap<String, Command>> = LazyLock::new(|| data!("message/commands"));

/// What Laravel's commands, and the search for them, hold.
const OF_LARAVEL: [&str; 2] = ["artisan", "[s]chedule"];

/// What the commands begin with that need ECS Exec.
const EXEC: &str = "aws ecs execute-command ";

/// A step as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Shown {
    pub say: String,
    pub command: Option<String>,
}

impl Shown {
    /// Whether its command is run in the container by ECS Exec.
    pub fn needs_exec(&self) -> bool {
        (self.command.as_deref()).is_some_and(|command| command.starts_with(EXEC))
    }
}

/// Whether all closed gates open by themselves.
pub(super) fn waits(blocked_by: &[Gate]) -> bool {
    !blocked_by.is_empty() && blocked_by.iter().all(|gate| rule(*gate).waits)
}

fn rule(gate: Gate) -> GateRule {
    const CLOSED: GateRule = GateRule {
        waits: false,
        by_hand: false,
    };
    STEPS.gate.get(gate.id()).copied().unwrap_or(CLOSED)
}

/// The steps that fit the condition, the causes and what is being done already.
pub(super) fn next(
    notification: &Notification,
    context: &Context<'_>,
    ended: bool,
    speaker: &words::Speaker,
    in_container: &str,
) -> Vec<Shown> {
    let shell = Shell::new(notification, context, ended);
    let condition = notification.condition;
    let of_causes = (notification.causes.iter())
        .filter(|_| !ended || matches!(notification.handling, Handling::Cured { .. }))
        .filter_map(|cause| cause::named(&cause.id))
        .flat_map(|entry| &entry.steps);
    let of_condition = if ended {
        Some(&STEPS.over)
    } else {
        STEPS.condition.get(&condition)
    };
    let of_condition = || of_condition.into_iter().flatten();
    let of_occasion = STEPS.occasion.get(notification.occasion.id());
    let of_occasion = of_occasion.map_or(&[][..], Vec::as_slice);
    // Where a restart can help it comes first: the log can be read while it is under way.
    let first = of_condition().filter(|step| step.restart);
    let rest = of_condition().filter(|step| !step.restart);
    // What the occasion adds is last, and is not crowded out.
    let room = MOST.saturating_sub(of_occasion.len());
    let steps = (first.chain(of_causes).chain(rest).map(|step| (step, room)))
        .chain(of_occasion.iter().map(|step| (step, MOST)));
    let restart = may_restart_by_hand(notification);
    let mut shown: Vec<Shown> = Vec::new();
    for (step, most) in steps {
        let wanted = (restart || !step.restart)
            && step.only.is_none_or(|only| only == shell.set_up)
            && (step.conditions.is_empty()
                || step.conditions.iter().any(|id| id == condition.id()));
        let Some(mut command) = shell.command(step).filter(|_| wanted) else {
            continue;
        };
        let mut say = speaker.pick(&step.say).to_owned();
        if command.inside {
            say = format!("{say} ({in_container})");
        }
        let repeated =
            command.text.is_some() && shown.iter().any(|earlier| earlier.command == command.text);
        if !repeated && shown.len() < most {
            shown.push(Shown {
                say,
                command: command.text.take(),
            });
        }
    }
    shown
}

/// Whether a restart can help. Where each run is a task of its own, one more helps where none was
/// started, and only there.
pub(super) fn restart_of(notification: &Notification) -> RestartHelps {
    let runs = (notification.proof.iter()).find_map(|fact| match fact {
        Fact::Runs { started, .. } => Some(*started),
        _ => None,
    });
    match (notification.condition, runs) {
        (Condition::ServiceDown, Some(0)) => RestartHelps::Yes,
        (_, Some(_)) => RestartHelps::No,
        (condition, None) => condition.restart(),
    }
}

/// Whether a restart by a person can help, and nothing speaks against it.
fn may_restart_by_hand(notification: &Notification) -> bool {
    let helps = |wanted| {
        (notification.causes.iter())
            .any(|cause| cause.restart_helps(notification.condition) == Some(wanted))
    };
    let by_cause = match restart_of(notification) {
        RestartHelps::Yes | RestartHelps::OneTask => !helps(false),
        RestartHelps::ByCause => helps(true) && !helps(false),
        RestartHelps::No => false,
    };
    let busy = (notification.proof.iter()).any(|fact| match fact {
        Fact::MayBeRunning { jobs } => !jobs.is_empty(),
        Fact::Runs { running, .. } => *running > 0,
        Fact::Health { sign, .. } => *sign == Sign::Alive,
        // Another one would only wait behind it.
        Fact::Deployment { .. } => true,
        _ => false,
    });
    let free = match &notification.handling {
        Handling::Watching | Handling::CureFailed { error: Some(_), .. } => true,
        // It was made, and did not help: another one is no first aid.
        Handling::CureFailed { error: None, .. } => false,
        Handling::Withheld { blocked_by, .. } => blocked_by.iter().all(|gate| rule(*gate).by_hand),
        Handling::Restarting { .. }
        | Handling::Proving { .. }
        | Handling::Cured { .. }
        | Handling::CameBack
        | Handling::ScaledToZero
        | Handling::NotDueAnyMore => false,
    };
    by_cause && free && !busy
}

/// Whether the tasks that the facts name have been replaced since, or are about to be.
fn is_replaced(notification: &Notification, ended: bool) -> bool {
    ended
        || matches!(
            notification.handling,
            Handling::Restarting { .. } | Handling::Proving { .. } | Handling::CureFailed { .. }
        )
}

/// The jobs that commands may be about: that of the message, and those that the trouble cost runs
/// of; at the end of missing runs those of which none has come since.
fn jobs(notification: &Notification, ended: bool) -> impl Iterator<Item = &str> {
    let came = ended && notification.condition == Condition::JobOverdue;
    let missed = (notification.proof.iter()).flat_map(move |fact| match fact {
        Fact::NotSince { jobs, .. } if came => jobs.as_slice(),
        Fact::MissedRuns { job, .. } if !came => std::slice::from_ref(job),
        _ => &[],
    });
    (notification.job().into_iter())
        .filter(move |_| !came)
        .chain(missed.map(String::as_str))
}

/// A step's command, where it has one.
struct Rendered {
    text: Option<String>,
    /// It is to be run in the container by means that are not known here.
    inside: bool,
}

/// Fills in commands.
struct Shell {
    env: Environment<'static>,
    known: BTreeMap<&'static str, String>,
    set_up: SetUp,
    can_exec: bool,
    is_laravel: bool,
}

impl Shell {
    fn new(notification: &Notification, context: &Context<'_>, ended: bool) -> Self {
        let mut known = BTreeMap::new();
        let began = notification.began();
        let from = began.checked_sub(BEFORE).unwrap_or(began);
        known.insert("tail_from", format!("{from:.0}"));
        if let Some(scheduler) = context.scheduler {
            names(scheduler, &mut known);
        }
        let replica = (notification.subject.as_deref())
            .filter(|_| notification.condition == Condition::ReplicaSilent)
            .map(|task| safe::name(crate::history::task_of(task)));
        let newest = (notification.proof.iter()).find_map(|fact| match fact {
            Fact::Tasks { newest, .. } => newest.as_deref().map(safe::name),
            _ => None,
        });
        let running = replica.clone().or(newest);
        let replaced = is_replaced(notification, ended);
        // In another task there is nothing to see of this one.
        let is_gone = replaced && replica.is_some();
        if let Some(task) = running.filter(|_| !replaced) {
            known.insert("running", task);
        }
        let started = |fact: &Fact| matches!(fact, Fact::Runs { started, .. } if *started > 0);
        if !notification.proof.iter().any(started) {
            known.insert("idle", "yes".to_owned());
        }
        let topic = (notification.proof.iter()).find_map(|fact| match fact {
            Fact::Readers { topic, .. } => Some(topic),
            _ => None,
        });
        if let Some(topic) = topic {
            known.insert("topic", safe::name(topic));
        }
        if let Some(task) = replica {
            known.insert("task", task);
        }
        if let Some(job) = jobs(notification, ended).find(|job| is_artisan_command(job)) {
            known.insert("job", safe::name(job));
        }
        if let Some(scheduler) = context.scheduler {
            let unlock = json!({ "schedulers": [scheduler.name], "clear_lockout": true });
            known.insert("unlock", unlock.to_string());
            known.insert("scheduler", safe::name(&scheduler.name));
        }
        known.insert("condition", notification.condition.id().to_owned());
        Self {
            env: {
                let mut env = words::environment();
                let region = match context.region {
                    "" => String::new(),
                    region => format!(" --region {}", safe::shell(region)),
                };
                env.add_global("region", region);
                env
            },
            known,
            set_up: if context.scheduler.is_some_and(Scheduler::runs_as_tasks) {
                SetUp::Tasks
            } else {
                SetUp::Container
            },
            is_laravel: context.scheduler.is_none_or(|s| s.preset.is_laravel()),
            can_exec: !STEPS.no_exec.contains(&notification.condition) && !is_gone,
        }
    }

    /// None for a step whose command cannot be given.
    fn command(&self, step: &Step) -> Option<Rendered> {
        let given = |text| Rendered {
            text: Some(text),
            inside: false,
        };
        match (&step.command, &step.exec) {
            (Some(name), _) => self.render(name, None).map(given),
            (None, Some(_)) if !self.can_exec => None,
            (None, Some(inner)) => {
                let inner = self.inner(inner)?;
                // A task that runs once is gone before anybody is in it; another one is not.
                let outer = match self.set_up {
                    SetUp::Container => self.render("exec", Some(&inner)),
                    SetUp::Tasks => self.render("exec-once", Some(&inner)),
                };
                Some(outer.map_or(
                    Rendered {
                        text: Some(inner),
                        inside: true,
                    },
                    given,
                ))
            }
            (None, None) => Some(Rendered {
                text: None,
                inside: false,
            }),
        }
    }

    /// What is run in the container, with the job filled in. None where it names one and none
    /// can be named, and for Laravel's commands where the application is another.
    fn inner(&self, template: &str) -> Option<String> {
        if OF_LARAVEL.iter().any(|word| template.contains(word)) && !self.is_laravel {
            return None;
        }
        if !template.contains("{{ job }}") {
            return Some(template.to_owned());
        }
        Some(template.replace("{{ job }}", self.known.get("job")?))
    }

    fn render(&self, name: &str, inner: Option<&str>) -> Option<String> {
        let command = COMMANDS.get(name)?;
        if !(command.needs.iter()).all(|need| self.known.contains_key(need.as_str())) {
            return None;
        }
        let all = [
            "group",
            "prefix",
            "cluster",
            "service",
            "definition",
            "container",
            "network",
            "selector",
            "task",
            "topic",
            "running",
            "tail_from",
            "scheduler",
            "condition",
            "unlock",
        ];
        let overrides = match (self.known.get("container"), inner) {
            (Some(container), Some(inner)) => overrides(container, &["sh", "-c", inner]),
            _ => self.known.get("overrides").cloned().unwrap_or_default(),
        };
        let values: BTreeMap<&str, &str> = (all.into_iter())
            .map(|key| (key, self.known.get(key).map_or("", String::as_str)))
            .chain([
                ("inner", inner.unwrap_or_default()),
                ("overrides", overrides.as_str()),
            ])
            .collect();
        let values = context! { ..Value::from(Serde(&values)) };
        self.env.render_str(&command.run, values).ok()
    }
}

/// The names that commands need, as the configuration has them.
fn names(scheduler: &Scheduler, known: &mut BTreeMap<&'static str, String>) {
    let mut put = |key, value: &str| {
        let value = safe::name(value);
        if !value.is_empty() {
            known.insert(key, value);
        }
    };
    if let Some(group) = scheduler.log_groups.first() {
        put("group", group_name(group));
    }
    put("prefix", &scheduler.log_stream_prefix);
    let Some(ecs) = &scheduler.ecs else { return };
    put("cluster", &ecs.cluster);
    put("container", ecs.container.as_deref().unwrap_or_default());
    match &ecs.target {
        EcsTarget::Service(service) => {
            put("service", service);
            put(
                "selector",
                &format!("--service-name {}", safe::shell(service)),
            );
        }
        EcsTarget::TaskDefinition {
            definition,
            subnets,
            security_groups,
            assign_public_ip,
        } => {
            let family = definition.rsplit('/').next().unwrap_or(definition);
            let family = family.split(':').next().unwrap_or(family);
            put("definition", definition);
            let command: Vec<&str> = (scheduler.remediation.command.iter())
                .map(String::as_str)
                .collect();
            let is_its_own =
                scheduler.preset.is_laravel() || scheduler.remediation.action == Cure::RunTask;
            if let (Some(container), false, true) = (&ecs.container, command.is_empty(), is_its_own)
            {
                put("overrides", &overrides(container, &command));
            }
            put("selector", &format!("--family {}", safe::shell(family)));
            if !subnets.is_empty() {
                let public = if *assign_public_ip {
                    "ENABLED"
                } else {
                    "DISABLED"
                };
                let groups = security_groups.join(",");
                put(
                    "network",
                    &format!(
                        "awsvpcConfiguration={{subnets=[{}],securityGroups=[{groups}],assignPublicIp={public}}}",
                        subnets.join(",")
                    ),
                );
            }
        }
    }
}

/// What RunTask runs in a container in place of its own command.
fn overrides(container: &str, command: &[&str]) -> String {
    json!({"containerOverrides": [{"name": container, "command": command}]}).to_string()
}

/// Whether a job's name is an artisan command that can be pasted: closures and classes have names
/// of their own, and what a shell would take for more than words is left out.
fn is_artisan_command(job: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || " :_-.,=/".contains(c);
    let command = job.split(' ').next().unwrap_or_default();
    command.contains(':') && !command.starts_with('-') && job.chars().all(plain)
}

/// The name within the ARN of a log group; a name as it is.
fn group_name(group: &str) -> &str {
    match group.split_once(":log-group:") {
        Some((_, name)) => name.trim_end_matches(":*"),
        None => group,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Occasion;

    #[test]
    fn the_data_is_complete() {
        for condition in (Condition::ALL.into_iter()).chain([Condition::TestAlert]) {
            assert!(STEPS.condition.contains_key(&condition), "{condition}");
        }
        for gate in Gate::ALL {
            assert!(STEPS.gate.contains_key(gate.id()), "{gate:?}");
        }
        let of_causes = cause::all().iter().flat_map(|entry| &entry.steps);
        let of_conditions = STEPS.condition.values().flatten();
        let of_occasions = STEPS.occasion.values().flatten();
        for id in STEPS.occasion.keys() {
            assert!(
                Occasion::ALL.iter().any(|occasion| occasion.id() == id),
                "{id}"
            );
        }
        for step in of_causes
            .chain(of_conditions)
            .chain(&STEPS.over)
            .chain(of_occasions)
        {
            let languages: Vec<&str> = step.say.keys().map(String::as_str).collect();
            assert_eq!(languages, ["en", "ja"], "{step:?}");
            if let Some(name) = &step.command {
                assert!(COMMANDS.contains_key(name), "{name}");
            }
        }
    }
}
