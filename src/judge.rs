//! What one look found: conditions, in the order in which they explain each other.

mod health;
mod jobs;
mod sight;
mod silence;
mod tasks;

pub use jobs::jobs;
pub use sight::{ECS, count_blindness};
use sight::{blindness, hidden, seen_from};
pub use silence::{PossibleRun, Silence};
use tasks::Runs;

use jiff::{SignedDuration, Timestamp};

use crate::cause::{self, Clues, ErrorNote};
use crate::condition::{Condition, Fact, Finding, Slot};
use crate::config::Scheduler;
use crate::health::Sign;
use crate::history::task_of;
use crate::message::safe;
use crate::plan::Reason;
use crate::snapshot::{Deployment, LogWindow, Observed, Probe, ServiceFacts, Snapshot};
use crate::state::{Attempt, Incident, State};

/// A scheduler that gave no heartbeat for this long after the watchdog's first look has never
/// been seen.
const NEVER_SEEN_AFTER: SignedDuration = SignedDuration::from_mins(30);

/// A deployment in progress for longer than this is stuck, and excuses no silence any more.
const STUCK_AFTER: SignedDuration = SignedDuration::from_mins(30);

/// Aborted runs that it takes to say that every run aborts.
const FAILING_RUNS: usize = 2;

/// How far from the beginning of a silence a job's due time may lie, beyond the usual gap
/// between heartbeats: the loop's pause drifts by up to a minute.
const DUE_SLACK: SignedDuration = SignedDuration::from_mins(1);

/// Replicas that are reported one by one; more than this many at once is the scheduler's trouble.
const MOST_REPLICAS: usize = 5;

/// Errors that a message shows when none of them proves a cause.
const MOST_ERRORS: usize = 2;

/// Sentences about stopped tasks that a message shows.
const MOST_STOPPED: usize = 5;

/// What one look found.
#[derive(Clone, Debug)]
pub struct Look {
    /// What is wrong, the loop's trouble first.
    pub findings: Vec<Finding>,
    /// Why the loop is not judged although it is silent.
    pub excuse: Option<Reason>,
    /// Why the look found nothing; for the report.
    pub calm: Reason,
    /// The silence, as far as it can be known.
    pub silence: Silence,
    /// Errors in the worst error window since the last look.
    pub errors: u32,
    /// Lines of another kind went on after the heartbeat that is missing, and are fresh: the logs
    /// themselves are alive.
    pub logs_alive: bool,
    /// What the application's health endpoint says; none if it was not asked or gave no answer
    /// of use.
    pub health: Option<Sign>,
    /// Tasks, several of which run, in which a job may be running. Of tasks without a service:
    /// all that have not ended.
    pub busy_tasks: Vec<String>,
    /// Of tasks without a service: none was started since the last heartbeat, so that one that is
    /// started by hand helps.
    pub none_started: bool,
}

/// Which further evidence a pass needs before it can decide. A healthy scheduler needs none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Any line from the same streams.
    pub probe: bool,
    /// What ECS says.
    pub service: bool,
    /// What the application's health endpoint says.
    pub health: bool,
}

/// Decides which further evidence is needed, from the log alone. `state` has it folded in.
pub fn wanted(
    scheduler: &Scheduler,
    log: &Observed<LogWindow>,
    state: &State,
    now: Timestamp,
) -> Wanted {
    let silence = Silence::of(scheduler, state, now);
    let seeing = log.known().is_some();
    let unheard = seeing && (silence.is_over(now) || never_seen(state, now));
    let silent = unheard || (seeing && state.off_at.is_some());
    let failing = seeing && failing_since(state, silence.stale_after, now).is_some();
    // A task that ran once is silent ever after.
    let quiet = |at: Timestamp| now.duration_since(at) > silence.stale_after;
    let beats = &state.heartbeats;
    let replica = !scheduler.runs_as_tasks()
        && ((beats.streams.len() > 1 && beats.streams.values().any(|beats| quiet(beats.last)))
            || beats.unheard.values().any(|since| quiet(*since)));
    let open = |slot: Slot| {
        state
            .incidents
            .iter()
            .any(|i| i.slot == slot && i.is_open())
    };
    let needs_ecs = open(Slot::Loop) || open(Slot::Replica) || open(Slot::Deployment);
    // Until it is told that ECS can be seen again, one look after the other must show it.
    let blind_ecs = state.blind.contains_key(ECS)
        || (state.incident(Slot::Watchdog, Some(ECS))).is_some_and(Incident::is_open);
    let unproven = state.restarts.attempts.iter().any(Attempt::is_open);
    Wanted {
        probe: silent,
        service: scheduler.ecs.is_some()
            && (silent || failing || replica || needs_ecs || blind_ecs || unproven),
        health: scheduler.health.is_some() && (unheard || failing),
    }
}

/// Judges a snapshot. `state` has the snapshot's log folded in and its blind passes counted;
/// `checked_until` is how far the log had been read before.
pub fn look(
    scheduler: &Scheduler,
    snapshot: &Snapshot,
    state: &State,
    checked_until: Option<Timestamp>,
    now: Timestamp,
) -> Look {
    let silence = Silence::of(scheduler, state, now);
    let mut look = Look {
        findings: Vec::new(),
        excuse: None,
        calm: Reason::HeartbeatFresh,
        logs_alive: false,
        health: None,
        errors: 0,
        silence,
        busy_tasks: Vec::new(),
        none_started: false,
    };
    let hidden = hidden(scheduler, snapshot, state, now);
    look.findings
        .extend(blindness(snapshot, hidden.as_deref(), state));
    let window = match &snapshot.log {
        Observed::Known(window) => window,
        Observed::Unknown(error) => {
            look.calm = Reason::Blind {
                why: error.to_string(),
            };
            return look;
        }
    };
    look.logs_alive = logs_alive(snapshot, &look.silence, state, now);
    look.health = health::sign_of(snapshot, &look.silence, now);
    let facts = snapshot.service.as_ref().and_then(Observed::known);
    if let Some(facts) = facts.filter(|_| look.silence.is_over(now)) {
        // A restart would end what runs in any of them.
        let tasks = facts.running();
        let silences = tasks.map(|task| Silence::of_task(scheduler, state, &task.id, now));
        (silences.flat_map(|silence| silence.running)).for_each(|run| look.silence.fear(run));
    }
    let scene = Scene {
        scheduler,
        state,
        service: facts,
        now,
    };
    if let Some(why) = hidden {
        look.calm = Reason::Blind { why };
        look.excuse = Some(look.calm.clone());
    } else {
        match loop_trouble(&scene, snapshot, &look) {
            Standing::Calm(reason) => look.calm = reason,
            Standing::Excused(reason) => look.excuse = Some(reason),
            Standing::Bad(finding) => look.findings.insert(0, finding),
        }
    }
    if let Some(facts) = facts.filter(|_| scheduler.runs_as_tasks()) {
        let going = facts.tasks.iter().filter(|task| !task.is_stopped());
        look.busy_tasks = going.map(|task| task.id.clone()).collect();
        // One that was never heard may not be a scheduler at all.
        look.none_started = (look.silence.last).is_some()
            && scene.runs(now).is_some_and(|runs| runs.is_none_started());
    } else if let Some(facts) = facts {
        look.findings.extend(stuck_deployment(&scene, facts));
        // A deployment replaces tasks, and excuses those that do not speak yet.
        let deploying = facts.deploying().is_some_and(|d| is_young(d, now));
        if !look.has(Slot::Loop) && look.excuse.is_none() && !deploying {
            let (replicas, busy) = silent_replicas(&scene, facts, seen_from(window));
            look.findings.extend(replicas);
            look.busy_tasks = busy;
        }
    }
    let (errors, spike) = error_spike(&scene, window, checked_until);
    look.errors = errors;
    look.findings.extend(spike);
    look
}

impl Look {
    /// A look that judged one thing only: what was found of it, if anything.
    pub fn of(finding: Option<Finding>) -> Self {
        Self {
            findings: finding.into_iter().collect(),
            excuse: None,
            calm: Reason::HeartbeatFresh,
            silence: Silence::default(),
            errors: 0,
            logs_alive: false,
            health: None,
            busy_tasks: Vec::new(),
            none_started: false,
        }
    }

    /// Whether something of that slot was found.
    pub fn has(&self, slot: Slot) -> bool {
        self.findings.iter().any(|f| f.condition.slot() == slot)
    }
}

/// How the loop stands.
enum Standing {
    Calm(Reason),
    Excused(Reason),
    Bad(Finding),
}

fn loop_trouble(scene: &Scene<'_>, snapshot: &Snapshot, look: &Look) -> Standing {
    let silence = &look.silence;
    let facts = scene.service;
    let Scene {
        scheduler,
        state,
        now,
        ..
    } = *scene;
    if let Some(since) = failing_since(state, silence.stale_after, now) {
        let aborts = u32::try_from(state.heartbeats.aborts.len()).unwrap_or(u32::MAX);
        let mut proof = vec![Fact::Aborts { count: aborts }];
        // Told are the runs of late only, whenever the first of them aborted.
        let runs = scene.runs(now);
        proof.extend(ecs_fact(scheduler, snapshot, runs.as_ref()));
        proof.extend(health::fact(snapshot, silence, now));
        return Standing::Bad(scene.finding(Condition::SchedulerFailing, None, since, proof));
    }
    // Where ECS cannot be seen, it is off until it is heard or seen again. That one is blind is told.
    let is_off = match facts {
        Some(facts) => facts.desired == 0,
        None => snapshot.service.is_some() && !state.on_again,
    };
    if state.off_at.is_some() && is_off {
        return Standing::Excused(Reason::DesiredCountZero);
    }
    let since = match silence.last {
        // A run that aborted shows that the loop lives; whether all do is told by those to come. If none
        // comes at the pace of a loop, something else printed it.
        _ if newest_abort(state)
            .is_some_and(|at| now.duration_since(at) <= silence.stale_after.min(state.pace())) =>
        {
            return Standing::Calm(Reason::NotDueYet);
        }
        Some(last) if silence.is_over(now) => last,
        Some(last)
            if Some(last) == state.heartbeats.last
                && now.duration_since(last) <= state.heartbeats.rhythm() + DUE_SLACK =>
        {
            return Standing::Calm(Reason::HeartbeatFresh);
        }
        Some(last) if now.duration_since(last) <= silence.stale_after => {
            return Standing::Calm(Reason::NotDueYet);
        }
        Some(_) => {
            return Standing::Calm(Reason::JobMayBeRunning {
                jobs: silence.running_jobs(),
            });
        }
        None if never_seen(state, now) => state.installed_at.unwrap_or(now),
        None => return Standing::Calm(Reason::NotSeenYet),
    };

    let mut proof = vec![match state.heartbeats.last {
        Some(last) => Fact::LastHeartbeat { at: Some(last) },
        None => Fact::WatchedSince { at: since },
    }];
    proof.push(Fact::Allowed {
        seconds: silence.allowed.as_secs(),
    });
    if !silence.running.is_empty() {
        proof.push(Fact::MayBeRunning {
            jobs: silence.running_jobs(),
        });
    }
    let runs = scene.runs(since);
    proof.extend(ecs_fact(scheduler, snapshot, runs.as_ref()));
    let of_runs = runs
        .as_ref()
        .zip(facts)
        .map(|(runs, facts)| runs.facts(facts));
    let facts = of_runs.as_ref().or(facts);
    let scene = Scene {
        service: facts,
        ..*scene
    };
    if let Some(facts) = facts {
        if facts.desired == 0 {
            return Standing::Excused(Reason::DesiredCountZero);
        }
        let is_down = match &runs {
            Some(runs) => runs.is_none_alive(),
            None => facts.running().next().is_none(),
        };
        if is_down {
            proof.extend(stopped(facts));
            return Standing::Bad(scene.finding(Condition::ServiceDown, None, since, proof));
        }
        // Crash loops and stuck deployments would excuse a silence for ever.
        let patient =
            (state.excused_since).is_none_or(|since| now.duration_since(since) < STUCK_AFTER);
        if let Some(excuse) = excuse(scheduler, facts, runs.as_ref(), now)
            && patient
        {
            return Standing::Excused(excuse);
        }
        proof.extend(stuck(facts, now));
        proof.extend(stopped(facts));
    }
    let newest = probe(snapshot).and_then(Probe::newest_line);
    if probe(snapshot).is_some() {
        proof.push(Fact::OtherLines { newest });
    }
    proof.extend(health::fact(snapshot, silence, now));
    let dead_logs = probe(snapshot).is_some() && !are_fresh(newest, silence, now);
    let condition = match (dead_logs && facts.is_some(), silence.last) {
        (true, _) => Condition::LogsSilent,
        (false, Some(_)) => Condition::SchedulerSilent,
        (false, None) => Condition::NeverSeen,
    };
    // Half an hour without any heartbeat needs no second look; nor does a silence for which
    // the log is complete, its other lines are fresh and ECS runs tasks without deploying; nor
    // one of which the health endpoint knows, if ECS need not be asked or answered; nor one
    // that is longer than a late heartbeat could explain.
    let late = silence.allowed + state.overlap();
    let is_silent = condition == Condition::SchedulerSilent;
    let witnessed = match look.health {
        // Lines that are lost look the same, however long they are missing.
        Some(Sign::Alive) if is_silent => Some(false),
        Some(Sign::Dead) if facts.is_some() || scheduler.ecs.is_none() => Some(true),
        _ => None,
    };
    let corroborated = witnessed.unwrap_or_else(|| {
        condition == Condition::NeverSeen
            || (is_silent && facts.is_some() && look.logs_alive)
            || silence.lasts(now).is_some_and(|lasts| lasts >= late)
    });
    Standing::Bad(Finding {
        corroborated,
        ..scene.finding(condition, None, since, proof)
    })
}

fn probe(snapshot: &Snapshot) -> Option<&Probe> {
    snapshot.probe.as_ref().and_then(Observed::known)
}

/// Lines that ended with the heartbeats prove nothing: all of them may have stopped to arrive.
fn logs_alive(snapshot: &Snapshot, silence: &Silence, state: &State, now: Timestamp) -> bool {
    let newest = probe(snapshot).and_then(Probe::newest_line);
    let missing = (silence.last)
        .map(|last| last + (state.heartbeats.rhythm() + DUE_SLACK).min(silence.stale_after));
    are_fresh(newest, silence, now) && newest > missing
}

fn are_fresh(newest: Option<Timestamp>, silence: &Silence, now: Timestamp) -> bool {
    newest.is_some_and(|newest| now.duration_since(newest) <= silence.stale_after)
}

fn never_seen(state: &State, now: Timestamp) -> bool {
    state.heartbeats.last.is_none()
        && (state.installed_at).is_some_and(|at| now.duration_since(at) >= NEVER_SEEN_AFTER)
}

fn newest_abort(state: &State) -> Option<Timestamp> {
    state.heartbeats.aborts.last().copied()
}

/// Since when every run aborts, if so: aborts follow each other for almost `stale_after` at the
/// pace of the loop, no run in between is known to have ended well, and no stream gives
/// heartbeats without aborting.
fn failing_since(state: &State, stale_after: SignedDuration, now: Timestamp) -> Option<Timestamp> {
    let beats = &state.heartbeats;
    let pace = state.pace();
    let newest = *beats.aborts.last()?;
    let first = beats.aborting_since?;
    let runs = beats.aborts.iter().filter(|abort| **abort >= first).count();
    let long = newest.duration_since(first) >= stale_after - beats.rhythm() - DUE_SLACK / 2;
    let lives = now.duration_since(newest) <= stale_after;
    let mut living = (beats.streams.values()).filter(|b| now.duration_since(b.last) <= stale_after);
    let all_abort = living.all(|beats| {
        (beats.aborted_at).is_some_and(|abort| beats.last.duration_since(abort) <= pace)
    });
    (runs >= FAILING_RUNS && long && lives && all_abort).then_some(first)
}

fn excuse(
    scheduler: &Scheduler,
    facts: &ServiceFacts,
    runs: Option<&Runs<'_>>,
    now: Timestamp,
) -> Option<Reason> {
    if let Some(runs) = runs {
        let task = runs.starting(scheduler.startup_grace, now)?.id.clone();
        return Some(Reason::TaskStarting { task });
    }
    if let Some(deployment) = facts.deploying()
        && is_young(deployment, now)
    {
        return Some(Reason::DeploymentInProgress {
            deployment: deployment.id.clone(),
        });
    }
    (facts.running())
        .find(|task| {
            (task.started_at).is_some_and(|at| now.duration_since(at) < scheduler.startup_grace)
        })
        .map(|task| Reason::TaskStarting {
            task: task.id.clone(),
        })
}

/// Whether a deployment in progress may still come to its end.
fn is_young(deployment: &Deployment, now: Timestamp) -> bool {
    now.duration_since(deployment.created_at) < STUCK_AFTER
}

fn stuck_deployment(scene: &Scene<'_>, facts: &ServiceFacts) -> Option<Finding> {
    let since = facts.deploying()?.created_at;
    let proof = vec![stuck(facts, scene.now)?];
    Some(scene.finding(Condition::DeploymentStuck, None, since, proof))
}

/// A deployment that does not come to its end.
fn stuck(facts: &ServiceFacts, now: Timestamp) -> Option<Fact> {
    let deployment = (facts.deploying()).filter(|deployment| !is_young(deployment, now))?;
    Some(Fact::Deployment {
        id: deployment.id.clone(),
        since: deployment.created_at,
        failed_tasks: deployment.failed_tasks,
    })
}

/// Running tasks that give no heartbeat while others do, and those whose silence a job explains
/// that may be running in them.
/// What was said before `seen_from` cannot be known.
fn silent_replicas(
    scene: &Scene<'_>,
    facts: &ServiceFacts,
    seen_from: Option<Timestamp>,
) -> (Vec<Finding>, Vec<String>) {
    let Scene {
        scheduler,
        state,
        now,
        ..
    } = *scene;
    let (mut silent, mut busy) = (Vec::new(), Vec::new());
    if facts.running().count() < 2 {
        return (silent, busy);
    }
    for task in facts.running() {
        let silence = Silence::of_task(scheduler, state, &task.id, now);
        // A task that never spoke has had its time from its start on.
        let started = task.started_at.map(|at| at + scheduler.startup_grace);
        let Some(since) = silence.last.or(started) else {
            continue;
        };
        if !silence.running.is_empty() {
            busy.push(task.id.clone());
        }
        let silent_since = seen_from.map_or(since, |seen_from| seen_from.max(since));
        if now.duration_since(silent_since) <= silence.allowed || silent.len() >= MOST_REPLICAS {
            continue;
        }
        let mut proof = vec![
            Fact::LastHeartbeat { at: silence.last },
            Fact::Allowed {
                seconds: silence.allowed.as_secs(),
            },
        ];
        if !silence.running.is_empty() {
            proof.push(Fact::MayBeRunning {
                jobs: silence.running_jobs(),
            });
        }
        proof.push(tasks_fact(facts));
        silent.push(scene.finding(Condition::ReplicaSilent, Some(&task.id), since, proof));
    }
    (silent, busy)
}

fn error_spike(
    scene: &Scene<'_>,
    window: &LogWindow,
    checked_until: Option<Timestamp>,
) -> (u32, Option<Finding>) {
    let Scene {
        scheduler,
        state,
        now,
        ..
    } = *scene;
    let rules = &scheduler.errors;
    // What is older than one window before the last look is old news, but for lines that came late.
    let after = checked_until.map_or(now, |until| (until - state.overlap()).min(now));
    let (count, since) = state.errors.most_within(rules.window, after, now);
    let usual = state.errors.usual(rules.window, now);
    let unusual = usual.is_none_or(|usual| f64::from(count) > usual * rules.baseline_factor);
    if count <= rules.threshold || !unusual {
        return (count, None);
    }
    let proof = vec![Fact::Errors {
        count,
        seconds: rules.window.as_secs(),
        threshold: rules.threshold,
        usual: usual.map(|usual| usual.round() as u32),
        at_least: window.truncated,
    }];
    (
        count,
        Some(scene.finding(Condition::ErrorSpike, None, since, proof)),
    )
}

/// What findings are made from.
#[derive(Clone, Copy)]
struct Scene<'a> {
    scheduler: &'a Scheduler,
    state: &'a State,
    service: Option<&'a ServiceFacts>,
    now: Timestamp,
}

impl<'a> Scene<'a> {
    /// The tasks since a moment, where each run is one and ECS could be asked. Lately is within
    /// the allowed silence.
    fn runs(&self, since: Timestamp) -> Option<Runs<'a>> {
        let facts = (self.service).filter(|_| self.scheduler.runs_as_tasks())?;
        let allowed = (self.state.heartbeats).stale_after(self.scheduler.stale_after);
        let lately = self.now - allowed;
        Some(Runs::since(
            self.scheduler,
            self.state,
            facts,
            since.min(lately),
            lately,
        ))
    }

    /// A finding with the causes that can be proven; without any, it shows the newest errors.
    /// `task` is the replica that it is about.
    fn finding(
        &self,
        condition: Condition,
        task: Option<&str>,
        since: Timestamp,
        mut proof: Vec<Fact>,
    ) -> Finding {
        let beats = &self.state.heartbeats;
        // What led to the trouble may have been printed just before it began.
        let from = since - SignedDuration::from_mins(2);
        let errors: Vec<ErrorNote> = (self.state.errors.notes.iter())
            .filter(|note| note.at >= from)
            .filter(|note| task.is_none_or(|task| task_of(&note.stream) == task))
            .cloned()
            .collect();
        let heard: Vec<&str> = beats.streams.keys().map(|stream| task_of(stream)).collect();
        let causes = cause::find(&Clues {
            condition,
            task,
            errors: &errors,
            service: self.service,
            booted_at: beats.booted_at,
            last_heartbeat: task.map_or(beats.last, |task| beats.of_task(task)),
            heard: &heard,
            // A task that runs once need not say that it starts a scheduler: it is one.
            settled_tasks: if self.scheduler.runs_as_tasks() {
                Timestamp::MIN
            } else {
                self.now - self.scheduler.startup_grace
            },
        });
        if causes.is_empty() {
            let lines: Vec<String> = (errors.iter().rev())
                .filter(|note| note.aborts || condition == Condition::ErrorSpike)
                .take(MOST_ERRORS)
                .map(ErrorNote::evidence)
                .collect();
            proof.extend((!lines.is_empty()).then_some(Fact::LastErrors { lines }));
        }
        Finding {
            condition,
            subject: task.map(str::to_owned),
            since,
            corroborated: true,
            causes,
            refuted: false,
            proof,
            pace: None,
        }
    }
}

fn tasks_fact(facts: &ServiceFacts) -> Fact {
    let newest = facts.running().max_by_key(|task| task.started_at);
    Fact::Tasks {
        running: u32::try_from(facts.running().count()).unwrap_or(u32::MAX),
        desired: facts.desired,
        newest: newest.map(|task| task.id.clone()),
    }
}

/// What is known of the tasks, or why nothing is.
fn ecs_fact(scheduler: &Scheduler, snapshot: &Snapshot, runs: Option<&Runs<'_>>) -> Option<Fact> {
    scheduler.ecs.as_ref()?;
    match &snapshot.service {
        Some(Observed::Known(facts)) => Some(runs.map_or_else(|| tasks_fact(facts), Runs::fact)),
        Some(Observed::Unknown(error)) => Some(Fact::EcsUnknown {
            why: error.to_string(),
            obstacle: Some(error.kind),
        }),
        None => None,
    }
}

fn stopped(facts: &ServiceFacts) -> Option<Fact> {
    let mut stopped: Vec<_> = facts
        .tasks
        .iter()
        .filter(|t| t.stopped_at.is_some())
        .collect();
    stopped.sort_by_key(|task| std::cmp::Reverse(task.stopped_at));
    let reasons: Vec<String> = (stopped.into_iter().take(MOST_STOPPED))
        .map(|task| {
            let mut sentence = format!("{}: {}", task.id, task.stopped_reason);
            for container in &task.containers {
                if let Some(code) = container.exit_code {
                    sentence.push_str(&format!("; {} exit code {code}", container.name));
                }
                if !container.reason.is_empty() {
                    sentence.push_str(&format!("; {}", container.reason));
                }
            }
            safe::evidence(&sentence)
        })
        .collect();
    (!reasons.is_empty()).then_some(Fact::Stopped { reasons })
}
