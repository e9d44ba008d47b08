//! One pass; the only file that knows the order: load, collect, decide, claim, act, settle.

mod own;
mod settle;
mod tally;

pub use own::{configuration, test_alert};

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::pin;

use futures::future::{self, Either, join_all};
use futures::stream::{self, Stream};
use futures::{FutureExt as _, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

use self::settle::{Done, deliver, settle};
use self::tally::Tally;
use crate::config::{Config, Limits, Scheduler, Shard, StaleAfter};
use crate::decide::{Folded, decide_on};
use crate::judge::{self, Silence};
use crate::plan::{Notification, Plan};
use crate::snapshot::{Fleet, LogWindow, Observed, Readers, Snapshot};
use crate::state::State;
use crate::world::{Look, StoreError, Version, World};

/// Log queries side by side. They have limits of their own; this one bounds memory.
const SIDE_BY_SIDE: usize = 64;

/// The longest window that is shared. A longer one follows a pause or a first look, and the others
/// would have to wade through its lines.
const LONGEST_SHARED: SignedDuration = SignedDuration::from_mins(20);

/// How far the first look at a scheduler goes back, at least.
const FIRST_LOOK: SignedDuration = SignedDuration::from_mins(30);

/// How far the first look goes back where a job runs less often than [`FIRST_LOOK`] shows: a day
/// and a little, so that the last run of a daily job is known at once.
const FIRST_LOOK_FOR_JOBS: SignedDuration = SignedDuration::from_hours(25);

/// How far any look goes back: after a longer pause the older lines are not worth their scan.
const LONGEST_LOOK: SignedDuration = SignedDuration::from_hours(25);

/// No scheduler is begun with less time than this left: a query, its polls and the messages
/// take some seconds.
const LEAST_TIME: SignedDuration = SignedDuration::from_secs(8);

/// What a pass is asked to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Only these schedulers; all if empty.
    pub schedulers: Vec<String>,
    /// Of these, only those of one part. What a part shares with the others, such as a storm, it does
    /// not see.
    pub shard: Option<Shard>,
    /// Decide and report; write, say and restart nothing.
    pub dry_run: bool,
    /// Lift the lock-out of the named schedulers.
    pub clear_lockout: bool,
    /// Count the subscriptions to the alerts, too: one call more, which not each pass needs.
    pub readers: bool,
    /// Tell those who were told that the configuration cannot be used that it can be used again: one
    /// read more, which not each pass needs.
    pub all_clear: bool,
}

/// What a pass saw, decided and did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// When the pass began.
    pub at: Timestamp,
    /// It only decided.
    pub dry_run: bool,
    /// The part of the schedulers that it looked at.
    pub shard: Option<Shard>,
    /// It was asked for some schedulers by name, and says nothing of the others.
    pub by_name: bool,
    /// One entry for each scheduler that was asked for, in the configuration's order.
    pub schedulers: Vec<SchedulerReport>,
    /// An estimate of the bytes that came into all log groups since the last looks at them, by which
    /// what was scanned can be judged.
    pub ingested_bytes: u64,
    /// Who is subscribed to the alerts, where that was asked.
    pub readers: Option<Observed<Readers>>,
    /// Nobody waits for the all-clear after a wrong configuration any more.
    pub all_clear: bool,
    /// Messages of the watchdog's own that were delivered: about its configuration, and test
    /// alerts.
    pub delivered: u32,
    /// What went wrong with the pass as a whole.
    pub problems: Vec<String>,
}

impl Report {
    /// One that begins.
    fn at(now: Timestamp) -> Self {
        Self {
            at: now,
            ..Self::default()
        }
    }

    /// Notes who is subscribed to the alerts. That nobody is, is a problem of the pass: whatever
    /// it decides, nobody will hear of it.
    fn note_readers(&mut self, readers: Option<Observed<Readers>>) {
        match &readers {
            Some(Observed::Known(known)) if known.confirmed == 0 => {
                warn!(topic = known.topic, "nobody is subscribed to the alerts");
                self.problems.push(format!(
                    "nobody is told of anything: {} has no confirmed subscription ({} not confirmed): \
                     confirm it by the link in the mail from AWS, or subscribe somebody",
                    known.topic, known.pending
                ));
            }
            Some(Observed::Known(known)) if known.pending > 0 => {
                let pending = known.pending;
                warn!(
                    topic = known.topic,
                    pending, "subscriptions are not confirmed"
                );
            }
            Some(Observed::Unknown(error)) => {
                warn!(%error, "the subscriptions could not be counted");
            }
            Some(Observed::Known(_)) | None => {}
        }
        self.readers = readers;
    }

    /// Since when the oldest message waits that this pass left undelivered.
    pub fn undelivered_since(&self) -> Option<Timestamp> {
        let own = self.schedulers.iter().filter(|s| !s.superseded);
        own.filter_map(|s| s.undelivered_since).min()
    }

    /// Bytes that all log queries scanned. AWS bills these.
    pub fn scanned_bytes(&self) -> u64 {
        self.schedulers.iter().map(|s| s.scanned_bytes).sum()
    }

    /// How often each byte that was ingested is scanned; none if nothing was.
    pub fn scanned_per_ingested(&self) -> Option<f64> {
        let ingested = self.ingested_bytes;
        (ingested > 0).then(|| self.scanned_bytes() as f64 / ingested as f64)
    }

    /// Whether every scheduler was looked at, and all that was decided was done.
    pub fn is_complete(&self) -> bool {
        let fine = |s: &SchedulerReport| !s.skipped && s.problems.is_empty();
        self.problems.is_empty() && self.schedulers.iter().all(fine)
    }
}

/// What a pass saw, decided and did for one scheduler.
#[derive(Clone, Debug, Default)]
pub struct SchedulerReport {
    /// Its name.
    pub name: String,
    /// The decision; none if it could not be made, see `problems`.
    pub plan: Option<Plan>,
    /// The time ran out before it was looked at; it comes first in the next pass.
    pub skipped: bool,
    /// Another pass at the same time decided first, and acts.
    pub superseded: bool,
    /// Bytes that the log query scanned; those of a query that several share are counted once.
    pub scanned_bytes: u64,
    /// An estimate of how many of them no earlier pass had scanned: all that was ingested since.
    pub new_bytes: u64,
    /// The log was cut at the query's limit: counts are lower bounds.
    pub truncated: bool,
    /// Messages delivered.
    pub delivered: u32,
    /// Messages that still wait in the outbox.
    pub undelivered: u32,
    /// When the oldest of them was decided.
    pub undelivered_since: Option<Timestamp>,
    /// Incidents open after the pass.
    pub open_incidents: u32,
    /// A restart was made.
    pub restarted: bool,
    /// What could not be seen, each as a sentence that names the thing and the remedy. The plan
    /// takes it into account; if it lasts, people are told.
    pub unseen: Vec<String>,
    /// What went wrong, each as a sentence that names the thing and the remedy.
    pub problems: Vec<String>,
}

impl SchedulerReport {
    /// One that begins.
    fn of(scheduler: &Scheduler) -> Self {
        Self {
            name: scheduler.name.clone(),
            ..Self::default()
        }
    }

    /// Notes what waits in the outbox, without what was delivered.
    fn note_outbox(&mut self, outbox: &[Notification], delivered: &[String]) {
        let waiting = || {
            outbox
                .iter()
                .filter(|waiting| !delivered.contains(&waiting.id))
        };
        self.delivered = count(delivered.len());
        self.undelivered = count(waiting().count());
        self.undelivered_since = waiting().map(|waiting| waiting.at).min();
    }
}

/// A scheduler with its state as loaded.
struct Loaded<'a> {
    scheduler: &'a Scheduler,
    state: State,
    version: Version,
}

/// Runs one pass over the schedulers that are asked for.
pub async fn run<W: World>(world: &W, config: &Config, request: &Request) -> Report {
    let mut report = Report {
        dry_run: request.dry_run,
        shard: request.shard,
        by_name: !request.schedulers.is_empty(),
        ..Report::at(world.now())
    };
    let mut selected = match config.select(&request.schedulers) {
        Ok(selected) => selected,
        Err(mistakes) => {
            report.problems = mistakes.0.into_iter().map(|m| m.message).collect();
            return report;
        }
    };
    // A look at some only must not take a storm for their own trouble. A part of many does without.
    let is_beside = |one: &&Scheduler| !request.schedulers.contains(&one.name);
    let beside: Vec<&Scheduler> = match request.schedulers.is_empty() {
        true => Vec::new(),
        false => config.schedulers.iter().filter(is_beside).collect(),
    };
    if let Some(shard) = request.shard {
        selected.retain(|scheduler| shard.holds(&scheduler.name));
    }
    // Side by side: a count that gets no answer must not keep the looks waiting.
    let readers = async {
        match request.readers {
            true => world.readers().await,
            false => None,
        }
    };
    // It is handed on from one future to the next, and most passes do without.
    let all_clear = Box::pin(async {
        match request.all_clear && !request.dry_run {
            true => Some(apart(configuration(world, None)).await),
            false => None,
        }
    });
    // A function that has just started reads certificates meanwhile, and whoever calls AWS waits for them.
    for scheduler in &selected {
        scheduler.preset.prepare();
    }
    let ((mut reports, all_clear), readers) = futures::join!(
        attend_all(world, config, request, &selected, &beside, all_clear),
        readers,
    );
    let order: HashMap<&str, usize> = (selected.iter().enumerate())
        .map(|(index, scheduler)| (scheduler.name.as_str(), index))
        .collect();
    reports.sort_by_key(|report| order.get(report.name.as_str()));
    report.ingested_bytes = ingested(&selected, &reports);
    report.schedulers = reports;
    report.note_readers(readers);
    if let Some(own) = all_clear {
        let own = own.unwrap_or_else(|| own::broken_off(report.at));
        report.delivered += own.delivered;
        report.all_clear = own.all_clear;
        report.problems.extend(own.problems);
    }
    ping(world, config, &report).await;
    report
}

/// What came into all log groups. Of several queries on the same groups each estimates the same.
fn ingested(selected: &[&Scheduler], reports: &[SchedulerReport]) -> u64 {
    let mut by_groups: HashMap<&[String], u64> = HashMap::new();
    for (scheduler, report) in selected.iter().zip(reports) {
        let most = by_groups.entry(&scheduler.log_groups).or_default();
        *most = report.new_bytes.max(*most);
    }
    by_groups.values().sum()
}

/// The part of a window's bytes that no earlier look has scanned, as if they came evenly.
fn new_bytes(window: &LogWindow, checked_until: Option<Timestamp>) -> u64 {
    let scanned = window.scanned_bytes.unwrap_or(0);
    let span = window.until.duration_since(window.from).as_millis();
    let new = checked_until.map_or(span, |at| window.until.duration_since(at).as_millis());
    match span {
        ..=0 => scanned,
        _ => (i128::from(scanned) * new.clamp(0, span) / span)
            .try_into()
            .unwrap_or(0),
    }
}

/// All schedulers, in no particular order; and what else wants the store, which has time while the logs
/// are looked at. Those beside them are not looked at, but may share what is down.
async fn attend_all<W: World, T>(
    world: &W,
    config: &Config,
    request: &Request,
    selected: &[&Scheduler],
    beside: &[&Scheduler],
    meanwhile: impl Future<Output = T>,
) -> (Vec<SchedulerReport>, T) {
    let is_down = |loaded: &Loaded<'_>| loaded.state.is_down();
    let down_beside = load(world, beside)
        .filter(|answer| future::ready(answer.as_ref().map_or(true, is_down)))
        .count();
    let down_beside = down_beside.await;
    let mut states = pin!(load(world, selected));
    let (mut loaded, mut reports) = (Vec::new(), Vec::new());
    loop {
        let is_first = loaded.is_empty() && reports.is_empty();
        let late = pin!(async {
            match is_first {
                // Whoever comes first, there is nothing to go on with before.
                true => future::pending().await,
                false => world.states_are_late().await,
            }
        });
        match future::select(states.next(), late).await {
            Either::Left((Some(Ok(one)), _)) => loaded.push(one),
            Either::Left((Some(Err(report)), _)) => reports.push(report),
            Either::Left((None, _)) | Either::Right(_) => break,
        }
    }
    // Of those that are late or cannot be had nobody knows how they fare. No restart may rest on that.
    let unknown = selected.len() - loaded.len();
    let standings = loaded
        .iter()
        .map(|l| (l.scheduler.name.as_str(), is_down(l)));
    let tally = Tally::new(standings, unknown + beside.len(), unknown + down_beside);
    let attend = |group| attend_group(world, config, request, group, &tally);
    let now = world.now();
    let in_time = stream::iter(in_turn(loaded, now))
        .map(attend)
        .buffer_unordered(SIDE_BY_SIDE)
        .collect::<Vec<_>>();
    // Who is late is looked at once it is there, and keeps nobody waiting.
    let late = states
        .map(|answer| async {
            match answer {
                Ok(loaded) => attend(vec![loaded]).await,
                Err(report) => vec![report],
            }
        })
        .buffer_unordered(SIDE_BY_SIDE)
        .collect::<Vec<_>>();
    let (in_time, late, meanwhile) = futures::join!(in_time, late, meanwhile);
    reports.extend(in_time.into_iter().chain(late).flatten());
    (reports, meanwhile)
}

/// The schedulers in the order in which they are looked at, those together that can share a query.
///
/// Whoever was looked at longest ago comes first, whatever came of that look. So if only `c` of `n`
/// groups fit into each pass, each is looked at in every ⌈n/c⌉th pass at least.
fn in_turn(mut loaded: Vec<Loaded<'_>>, now: Timestamp) -> Vec<Vec<Loaded<'_>>> {
    loaded.sort_by_key(|loaded| loaded.state.looked_at.max(loaded.state.checked_until));
    let mut groups: Vec<Vec<Loaded<'_>>> = Vec::new();
    // Where the group is that others with the same log groups can still join.
    let mut open: HashMap<&[String], usize> = HashMap::new();
    for one in loaded {
        let scheduler = one.scheduler;
        let is_short = one.state.checked_until.is_some()
            && now.duration_since(window_start(scheduler, &one.state, now)) <= LONGEST_SHARED;
        if !is_short {
            groups.push(vec![one]);
            continue;
        }
        match open.get(scheduler.log_groups.as_slice()) {
            Some(index) if groups[*index].len() < Limits::SHARE_A_QUERY => groups[*index].push(one),
            _ => {
                open.insert(&scheduler.log_groups, groups.len());
                groups.push(vec![one]);
            }
        }
    }
    groups
}

/// Tells the dead man's switch of a whole pass that is complete. That it could not be told is no
/// failure of the pass: whoever runs the switch will notice.
async fn ping<W: World>(world: &W, config: &Config, report: &Report) {
    let Some(endpoint) = &config.alerts.ping else {
        return;
    };
    // What another pass did, that pass tells.
    let is_own = (report.schedulers.iter()).any(|scheduler| !scheduler.superseded);
    let is_whole = !report.by_name && report.shard.is_none() && !report.dry_run;
    if !(is_whole && is_own && report.is_complete()) {
        return;
    }
    if let Err(error) = world.ping(endpoint).await {
        warn!(%error, "the dead man's switch was not told of this pass");
    }
}

/// Loads all states. Whose state cannot be had is not judged: its trouble hides no other's.
fn load<'a, W: World>(
    world: &W,
    selected: &[&'a Scheduler],
) -> impl Stream<Item = Result<Loaded<'a>, SchedulerReport>> {
    stream::iter(selected.iter().copied())
        .map(move |scheduler| async move {
            let (state, version) = world.load(&scheduler.name).await.map_err(|error| {
                warn!(scheduler = scheduler.name, %error, "the state could not be loaded");
                SchedulerReport {
                    problems: vec![format!("state not loaded: {error}")],
                    ..SchedulerReport::of(scheduler)
                }
            })?;
            Ok(Loaded {
                scheduler,
                state,
                version,
            })
        })
        .buffer_unordered(SIDE_BY_SIDE)
}

/// A part of a pass, apart from the others: a defect that one scheduler's log or state brings to light
/// must not leave the others unwatched. None if it broke off; what it left half done stands in the
/// store, from which the next pass begins.
async fn apart<T>(part: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(part).catch_unwind().await.ok()
}

fn broken_off(scheduler: &Scheduler) -> SchedulerReport {
    let name = scheduler.name.as_str();
    warn!(
        scheduler = name,
        "the pass broke off: a defect, see the panic above"
    );
    let problem = "the pass broke off, which is a defect of the watchdog: report it with the panic that \
                   its log shows";
    SchedulerReport {
        problems: vec![problem.to_owned()],
        ..SchedulerReport::of(scheduler)
    }
}

/// Schedulers whose logs are looked at together; after that each goes its own way.
async fn attend_group<W: World>(
    world: &W,
    config: &Config,
    request: &Request,
    group: Vec<Loaded<'_>>,
    tally: &Tally<'_>,
) -> Vec<SchedulerReport> {
    let now = world.now();
    let is_late = (world.deadline()).is_some_and(|end| end.duration_since(now) < LEAST_TIME);
    let logs: Vec<Option<Option<Observed<LogWindow>>>> = if is_late {
        group.iter().map(|_| Some(None)).collect()
    } else {
        let looks: Vec<Look<'_>> = (group.iter())
            .map(|one| Look {
                scheduler: one.scheduler,
                from: window_start(one.scheduler, &one.state, now),
                until: now,
            })
            .collect();
        match apart(world.logs(&looks)).await {
            Some(logs) => logs.into_iter().map(Some).collect(),
            // Looked at alone, whose lines they are harms nobody else.
            None => {
                let alone = looks.chunks(1).map(|look| apart(world.logs(look)));
                let logs = join_all(alone).await.into_iter();
                logs.map(|logs| logs.map(|mut logs| logs.pop().flatten()))
                    .collect()
            }
        }
    };
    let each = group.into_iter().zip(logs).map(|(loaded, log)| async move {
        let scheduler = loaded.scheduler;
        let report = match log {
            Some(Some(log)) => {
                let attended = attend(world, config, request, loaded, log, tally, now);
                apart(attended)
                    .await
                    .unwrap_or_else(|| broken_off(scheduler))
            }
            Some(None) => SchedulerReport {
                skipped: true,
                ..SchedulerReport::of(scheduler)
            },
            None => broken_off(scheduler),
        };
        tally.done(&scheduler.name);
        report
    });
    join_all(each).await
}

/// One scheduler, from what its log showed to the settled state.
async fn attend<W: World>(
    world: &W,
    config: &Config,
    request: &Request,
    loaded: Loaded<'_>,
    log: Observed<LogWindow>,
    tally: &Tally<'_>,
    now: Timestamp,
) -> SchedulerReport {
    let Loaded {
        scheduler,
        mut state,
        version,
    } = loaded;
    let mut report = SchedulerReport::of(scheduler);
    if request.clear_lockout && !request.schedulers.is_empty() {
        state.restarts.clear(now);
    }

    let folded = Folded::new(scheduler, &log, state, now);
    let mut snapshot = collect(world, scheduler, &folded.state, log, now).await;
    if let Observed::Known(window) = &snapshot.log {
        report.scanned_bytes = window.scanned_bytes.unwrap_or(0);
        report.new_bytes = new_bytes(window, folded.checked_until);
        report.truncated = window.truncated;
    }
    report.unseen = unseen(&snapshot);
    let restarts = |plan: &Plan| plan.remediation.clone().filter(|r| r.allowed());
    snapshot.fleet = tally.fleet_of(&scheduler.name);
    let again = scheduler.remediation.is_on().then(|| folded.clone());
    let (mut plan, mut next) = decide_on(scheduler, &snapshot, folded, now);
    tally.judged(&scheduler.name, next.is_down());
    if let Some(folded) = again
        && restarts(&plan).is_some()
    {
        future::select(pin!(tally.all_judged()), pin!(world.looks_are_late())).await;
        snapshot.fleet = tally.fleet_of(&scheduler.name);
        (plan, next) = decide_on(scheduler, &snapshot, folded, now);
    }
    let restart = restarts(&plan);
    report.open_incidents = count(next.incidents.iter().filter(|i| i.is_open()).count());
    report.note_outbox(&next.outbox, &[]);
    report.plan = Some(plan);
    if request.dry_run {
        return report;
    }

    // The claim: what is to be done stands in the store before it is done.
    let version = match world.save(&scheduler.name, &next, version).await {
        Ok(version) => version,
        Err(StoreError::Conflict) => {
            info!(scheduler = scheduler.name, "another pass was first");
            report.superseded = true;
            if request.clear_lockout {
                (report.problems).push("the lock-out was not lifted: call again".to_owned());
            }
            return report;
        }
        Err(error) => {
            warn!(scheduler = scheduler.name, %error, "the state could not be written");
            report.problems.push(format!("state not written: {error}"));
            return report;
        }
    };

    let mut done = Done::default();
    if let Some(remediation) = &restart {
        let answer = world.restart(scheduler, remediation).await;
        match &answer {
            Ok(_) => {
                info!(
                    scheduler = scheduler.name,
                    cure = remediation.cure.id(),
                    "restarted"
                );
                report.restarted = true;
            }
            Err(error) => {
                let cure = remediation.cure.id();
                warn!(scheduler = scheduler.name, cure, %error, "the restart failed");
                report.problems.push(format!("{cure} failed: {error}"));
            }
        }
        done.restart = Some(answer);
    }
    for notification in &next.outbox {
        match deliver(world, &config.alerts, Some(scheduler), notification).await {
            Ok(()) => done.delivered.push(notification.id.clone()),
            Err(error) => {
                warn!(scheduler = scheduler.name, id = notification.id, %error, "not delivered");
                report
                    .problems
                    .push(format!("message not delivered: {error}"));
                // The next one would most likely fare the same, and time is short.
                break;
            }
        }
    }
    report.note_outbox(&next.outbox, &done.delivered);
    if done != Done::default()
        && let Err(error) = settle(world, &scheduler.name, &mut next, version, &done).await
    {
        warn!(scheduler = scheduler.name, %error, "what was done could not be written down");
        report.problems.push(format!("state not settled: {error}"));
    }
    report
}

/// Looks at the rest, where the log makes it suspicious. `state` has it folded in.
async fn collect<W: World>(
    world: &W,
    scheduler: &Scheduler,
    state: &State,
    log: Observed<LogWindow>,
    now: Timestamp,
) -> Snapshot {
    let wanted = judge::wanted(scheduler, &log, state, now);
    let probe = async {
        if !wanted.probe {
            return None;
        }
        // Only lines within the allowed silence prove that the logs live.
        let from = now - Silence::of(scheduler, state, now).allowed;
        Some(world.probe(scheduler, from, now).await)
    };
    let service = async {
        match &scheduler.ecs {
            Some(ecs) if wanted.service => world.service(ecs).await,
            _ => None,
        }
    };
    let health = async {
        if wanted.health {
            world.health(scheduler).await
        } else {
            None
        }
    };
    let (probe, service, health) = futures::join!(probe, service, health);
    Snapshot {
        log,
        probe,
        service,
        health,
        fleet: Fleet::default(),
    }
}

/// What a look was to show and did not.
fn unseen(snapshot: &Snapshot) -> Vec<String> {
    let log = snapshot.log.unknown();
    let probe = snapshot.probe.as_ref().and_then(Observed::unknown);
    let service = snapshot.service.as_ref().and_then(Observed::unknown);
    let health = snapshot.health.as_ref().and_then(Observed::unknown);
    let mut unseen: Vec<String> = ([log, probe, service, health].into_iter().flatten())
        .map(ToString::to_string)
        .collect();
    unseen.dedup();
    unseen
}

/// Where the log window begins: where the last one left off, or the first look back.
fn window_start(scheduler: &Scheduler, state: &State, now: Timestamp) -> Timestamp {
    let from = match state.unread_from() {
        Some(from) => from,
        None => {
            let stale_after = match scheduler.stale_after {
                StaleAfter::Auto => FIRST_LOOK,
                StaleAfter::Fixed(fixed) => fixed,
            };
            let rare = scheduler.jobs.iter().any(|job| job.period() > FIRST_LOOK);
            let least = if rare {
                FIRST_LOOK_FOR_JOBS
            } else {
                FIRST_LOOK
            };
            now - least.max(stale_after)
        }
    };
    from.max(now - LONGEST_LOOK)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
