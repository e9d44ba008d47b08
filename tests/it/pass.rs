//! One pass in a world that fails on demand: what is claimed, sent again, left alone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::check::{self, Status};
use scheduler_watchdog::config::{Config, Ecs, Endpoint, Mistakes, Scheduler, Shard};
use scheduler_watchdog::decide::TestAlert;
use scheduler_watchdog::health::Health;
use scheduler_watchdog::lambda::{self, Failure, Memory};
use scheduler_watchdog::message::Message;
use scheduler_watchdog::pass::{self, Request};
use scheduler_watchdog::plan::{Gate, Remediation, Verdict};
use scheduler_watchdog::snapshot::{
    CallError, LogWindow, Observed, Obstacle, Probe, Readers, ServiceFacts,
};
use scheduler_watchdog::state::{State, Unreadable};
use scheduler_watchdog::world::{Look, StoreError, Version, World};

use crate::stage::{TASK, at, facts, minutes, stream, unknown};

/// A scheduler over which the watchdog breaks off.
const DEFECT: &str = "defect";

/// What comes into each log group.
const BYTES_A_MINUTE: u64 = 1_000;

/// A world in memory with a log that fell silent long ago, and other lines that go on.
struct Fake {
    now: Cell<Timestamp>,
    deadline: Cell<Option<Timestamp>>,
    store: RefCell<BTreeMap<String, (String, Version)>>,
    /// Scheduler names whose state cannot be read.
    unreadable: Vec<&'static str>,
    /// Saves to come that meet another pass's write, counted from the next one.
    conflicts: RefCell<Vec<bool>>,
    publish_fails: Cell<bool>,
    restart_fails: Cell<bool>,
    published: RefCell<Vec<String>>,
    restarts: RefCell<Vec<Remediation>>,
    ping_fails: Cell<bool>,
    pings: RefCell<Vec<String>>,
    looked_at: RefCell<Vec<String>>,
    health: Observed<Health>,
    /// Health endpoints that were asked.
    asked: RefCell<Vec<String>>,
    /// Confirmed and pending subscriptions.
    readers: Cell<(u32, u32)>,
    readers_asked: Cell<u32>,
    /// Looks that fit into a pass; all if none.
    room: Cell<Option<usize>>,
    /// Schedulers whose log cannot be read.
    unseen: RefCell<Vec<String>>,
}

impl Fake {
    fn new() -> Self {
        Self {
            now: Cell::new(at("2025-12-02T00:00:00Z")),
            deadline: Cell::new(None),
            store: RefCell::default(),
            unreadable: Vec::new(),
            conflicts: RefCell::default(),
            publish_fails: Cell::new(false),
            restart_fails: Cell::new(false),
            published: RefCell::default(),
            restarts: RefCell::default(),
            ping_fails: Cell::new(false),
            pings: RefCell::default(),
            looked_at: RefCell::default(),
            health: Observed::Unknown(unknown(Obstacle::TimedOut)),
            asked: RefCell::default(),
            readers: Cell::new((1, 0)),
            readers_asked: Cell::default(),
            room: Cell::new(None),
            unseen: RefCell::default(),
        }
    }

    fn wait(&self, n: i64) {
        self.now.set(self.now.get() + minutes(n));
    }

    fn told_of_its_configuration(&self) -> usize {
        let ids = self.published.borrow();
        ids.iter().filter(|id| id.contains("misconfigured")).count()
    }

    fn state(&self, name: &str) -> State {
        State::from_json(&self.store.borrow()[name].0).unwrap()
    }
}

impl World for Fake {
    fn now(&self) -> Timestamp {
        self.now.get()
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.deadline.get()
    }

    fn region(&self) -> &str {
        "ap-northeast-1"
    }

    async fn load(&self, scheduler: &str) -> Result<(State, Version), StoreError> {
        if self.unreadable.contains(&scheduler) {
            return Err(Unreadable::Newer { found: 9 }.into());
        }
        match self.store.borrow().get(scheduler) {
            Some((text, version)) => Ok((State::from_json(text)?, *version)),
            None => Ok((State::default(), 0)),
        }
    }

    async fn save(
        &self,
        scheduler: &str,
        state: &State,
        version: Version,
    ) -> Result<Version, StoreError> {
        let mut conflicts = self.conflicts.borrow_mut();
        let conflict = !conflicts.is_empty() && conflicts.remove(0);
        let mut store = self.store.borrow_mut();
        let stored = store.get(scheduler).map_or(0, |(_, version)| *version);
        if conflict {
            // Another pass wrote the same document a moment before.
            let text = store
                .get(scheduler)
                .map_or_else(|| state.to_json(), |(text, _)| text.clone());
            store.insert(scheduler.to_owned(), (text, stored + 1));
        }
        let stored = store.get(scheduler).map_or(0, |(_, version)| *version);
        if stored != version {
            return Err(StoreError::Conflict);
        }
        store.insert(scheduler.to_owned(), (state.to_json(), version + 1));
        Ok(version + 1)
    }

    async fn logs(&self, looks: &[Look<'_>]) -> Vec<Option<Observed<LogWindow>>> {
        let mut seen = Vec::new();
        for look in looks {
            let room = self.room.get();
            seen.push(match room {
                Some(0) => None,
                _ => Some(self.log(look.scheduler, look.from, look.until).await),
            });
            self.room.set(room.map(|room| room.saturating_sub(1)));
        }
        seen
    }

    async fn log(
        &self,
        scheduler: &Scheduler,
        from: Timestamp,
        until: Timestamp,
    ) -> Observed<LogWindow> {
        self.looked_at.borrow_mut().push(scheduler.name.clone());
        assert_ne!(scheduler.name, DEFECT, "as the test wants it");
        if self.unseen.borrow().contains(&scheduler.name) {
            return Observed::Unknown(unknown(Obstacle::TimedOut));
        }
        let events: Vec<_> = (1..=3)
            .map(|minute| scheduler_watchdog::line::LogEvent {
                at: at("2025-12-01T23:40:00Z") + minutes(minute),
                ingested: None,
                stream: stream(TASK).into(),
                id: None,
                message: "   INFO  No scheduled commands are ready to run.  ".to_owned(),
            })
            .filter(|event| event.at >= from && event.at <= until)
            .collect();
        Observed::Known(LogWindow {
            from,
            until,
            lines: scheduler_watchdog::line::read(&scheduler.preset, &events),
            scanned_bytes: u64::try_from(until.duration_since(from).as_mins())
                .ok()
                .map(|minutes| minutes * BYTES_A_MINUTE),
            ..LogWindow::default()
        })
    }

    async fn probe(&self, _: &Scheduler, _: Timestamp, until: Timestamp) -> Observed<Probe> {
        Observed::Known(Probe {
            newest: [(stream(TASK), until)].into(),
        })
    }

    async fn service(&self, _: &Ecs) -> Option<Observed<ServiceFacts>> {
        let since = at("2025-11-30T00:00:00Z");
        Some(Observed::Known(facts(&[TASK], since)))
    }

    async fn health(&self, scheduler: &Scheduler) -> Option<Observed<Health>> {
        let endpoint = scheduler.health.as_ref()?;
        self.asked.borrow_mut().push(endpoint.url().to_string());
        Some(self.health.clone())
    }

    async fn readers(&self) -> Option<Observed<Readers>> {
        self.readers_asked.set(self.readers_asked.get() + 1);
        let (confirmed, pending) = self.readers.get();
        Some(Observed::Known(Readers {
            topic: "arn:aws:sns:ap-northeast-1:123456789012:alerts".to_owned(),
            confirmed,
            pending,
        }))
    }

    async fn publish(&self, message: &Message) -> Result<(), CallError> {
        if self.publish_fails.get() {
            return Err(unknown(Obstacle::Denied));
        }
        self.published
            .borrow_mut()
            .push(message.notification.id.clone());
        Ok(())
    }

    async fn restart(
        &self,
        _: &Scheduler,
        remediation: &Remediation,
    ) -> Result<Option<String>, CallError> {
        if self.restart_fails.get() {
            return Err(unknown(Obstacle::Throttled));
        }
        self.restarts.borrow_mut().push(remediation.clone());
        Ok(Some("ecs-svc/2".to_owned()))
    }

    async fn ping(&self, endpoint: &Endpoint) -> Result<(), CallError> {
        self.pings.borrow_mut().push(endpoint.url().to_string());
        if self.ping_fails.get() {
            return Err(unknown(Obstacle::TimedOut));
        }
        Ok(())
    }
}

fn config(names: &[&str]) -> Config {
    let text: String = (names.iter())
        .map(|name| {
            format!(
                "[[scheduler]]\nname = \"{name}\"\nlog_groups = [\"/ecs/a\"]\nstale_after = \"5m\"\n\
                 [scheduler.ecs]\ncluster = \"c\"\nservice = \"{name}\"\n\
                 [scheduler.remediation]\naction = \"force-new-deployment\"\n"
            )
        })
        .collect();
    Config::parse(&text, "test").unwrap()
}

#[tokio::test]
async fn a_message_that_was_not_delivered_is_sent_by_the_next_pass_under_the_same_id() {
    let (world, config) = (Fake::new(), config(&["a"]));
    world.publish_fails.set(true);
    let report = pass::run(&world, &config, &Request::default()).await;
    assert!(!report.is_complete());
    assert_eq!(report.schedulers[0].undelivered, 1);
    let waiting = world.state("a").outbox[0].id.clone();
    world.publish_fails.set(false);
    world.wait(5);
    let report = pass::run(&world, &config, &Request::default()).await;
    assert_eq!(report.schedulers[0].delivered, 1);
    assert_eq!(*world.published.borrow(), [waiting]);
    assert!(world.state("a").outbox.is_empty());
}

#[tokio::test]
async fn a_defect_that_one_scheduler_brings_to_light_leaves_the_others_watched() {
    let (world, config) = (Fake::new(), config(&["a", DEFECT, "b"]));
    let report = pass::run(&world, &config, &Request::default()).await;
    assert!(!report.is_complete());
    let [a, defect, b] = report.schedulers.as_slice() else {
        panic!("{report:?}");
    };
    assert!(defect.plan.is_none() && defect.problems[0].contains("defect of the watchdog"));
    for other in [a, b] {
        assert!(other.plan.is_some() && other.problems.is_empty());
        assert_eq!(other.delivered, 1, "it is silent, and that is told");
    }
}

#[tokio::test]
async fn who_loses_the_claim_does_nothing() {
    let (world, config) = (Fake::new(), config(&["a"]));
    world.conflicts.borrow_mut().push(true);
    let report = pass::run(&world, &config, &Request::default()).await;
    assert!(report.schedulers[0].superseded);
    assert!(world.published.borrow().is_empty() && world.restarts.borrow().is_empty());
}

#[tokio::test]
async fn what_was_done_is_written_into_the_state_of_a_pass_that_came_between() {
    let (world, config) = (Fake::new(), config(&["a"]));
    // The claim succeeds; the settling meets another write twice.
    world.conflicts.borrow_mut().extend([false, true, true]);
    let report = pass::run(&world, &config, &Request::default()).await;
    assert!(report.is_complete(), "{:?}", report.schedulers[0].problems);
    assert_eq!(world.published.borrow().len(), 1);
    assert!(world.state("a").outbox.is_empty());
}

#[tokio::test]
async fn a_restart_is_made_once_however_often_the_watchdog_is_woken() {
    let (world, config) = (Fake::new(), config(&["a"]));
    for _ in 0..8 {
        let _ = pass::run(&world, &config, &Request::default()).await;
        world.wait(1);
    }
    assert_eq!(world.restarts.borrow().len(), 1);
    assert_eq!(world.published.borrow().len(), 1);
}

#[tokio::test]
async fn a_restart_whose_call_failed_is_a_problem_of_the_pass_and_tried_again() {
    let (world, config) = (Fake::new(), config(&["a"]));
    let _ = pass::run(&world, &config, &Request::default()).await;
    world.wait(5);
    world.restart_fails.set(true);
    let report = pass::run(&world, &config, &Request::default()).await;
    assert!(report.schedulers[0].problems[0].starts_with("force-new-deployment failed"));
    world.restart_fails.set(false);
    world.wait(5);
    assert!(
        pass::run(&world, &config, &Request::default())
            .await
            .schedulers[0]
            .restarted
    );
}

#[tokio::test]
async fn a_dry_run_writes_says_and_restarts_nothing() {
    let (world, config) = (Fake::new(), config(&["a"]));
    let dry = Request {
        dry_run: true,
        ..Request::default()
    };
    let report = pass::run(&world, &config, &dry).await;
    let plan = report.schedulers[0].plan.as_ref().unwrap();
    assert_eq!(
        (plan.verdict, plan.notifications.len()),
        (Verdict::Firing, 1)
    );
    assert!(world.store.borrow().is_empty() && world.published.borrow().is_empty());
}

#[tokio::test]
async fn an_unreadable_state_is_reported_left_alone_and_hides_no_other_scheduler() {
    let mut world = Fake::new();
    world.unreadable.push("a");
    let config = config(&["a", "b"]);
    let report = pass::run(&world, &config, &Request::default()).await;
    assert_eq!(report.schedulers[0].name, "a");
    assert!(report.schedulers[0].problems[0].contains("schema 9"));
    assert!(report.schedulers[1].plan.is_some());
    assert!(!world.store.borrow().contains_key("a"));
}

#[tokio::test]
async fn who_is_skipped_for_lack_of_time_is_reported_and_comes_first_next_time() {
    let (world, config) = (Fake::new(), config(&["a", "b"]));
    let only = |name: &str| Request {
        schedulers: vec![name.to_owned()],
        ..Request::default()
    };
    let _ = pass::run(&world, &config, &only("a")).await;
    world.wait(5);
    world
        .deadline
        .set(Some(world.now.get() + SignedDuration::from_secs(1)));
    let report = pass::run(&world, &config, &Request::default()).await;
    assert!(report.schedulers.iter().all(|s| s.skipped) && !report.is_complete());
    world.deadline.set(None);
    world.looked_at.borrow_mut().clear();
    let _ = pass::run(&world, &config, &Request::default()).await;
    assert_eq!(
        *world.looked_at.borrow(),
        ["b", "a"],
        "the one that was never looked at is first"
    );
}

/// Windows of five minutes overlap by two.
#[tokio::test]
async fn each_byte_is_scanned_one_and_a_half_times_at_most() {
    let (world, mut config) = (Fake::new(), config(&["a", "b", "c"]));
    config.schedulers[2].log_groups = vec!["/ecs/c".to_owned()];
    for pass in 0..4 {
        let report = pass::run(&world, &config, &Request::default()).await;
        let minutes = if pass == 0 { 30 } else { 5 };
        let ingested = 2 * minutes * BYTES_A_MINUTE;
        // Two of them ask for the same log group, and it holds no more for that.
        assert_eq!(report.ingested_bytes, ingested, "{pass}");
        let ratio = report.scanned_bytes() as f64 / ingested as f64;
        assert_eq!(report.scanned_per_ingested(), Some(ratio));
        let alone = report.schedulers[2].scanned_bytes as f64 / (ingested / 2) as f64;
        assert_eq!(alone, if pass == 0 { 1.0 } else { 1.4 });
        world.wait(5);
    }
}

/// Every scheduler belongs to one part, and no part looks at another's.
#[tokio::test]
async fn shards_look_at_each_scheduler_once() {
    let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (world, config) = (Fake::new(), with_switch(&names));
    let mut seen = Vec::new();
    for index in 0..3 {
        let request = Request {
            shard: Shard::new(index, 3),
            ..Request::default()
        };
        let report = pass::run(&world, &config, &request).await;
        assert!(report.is_complete() && !report.schedulers.is_empty());
        seen.extend(
            report
                .schedulers
                .into_iter()
                .map(|scheduler| scheduler.name),
        );
    }
    let mut looked_at = world.looked_at.borrow().clone();
    for list in [&mut seen, &mut looked_at] {
        list.sort_by_key(|name| names.iter().position(|known| known == name));
    }
    assert_eq!(
        (seen, looked_at),
        (
            names.iter().map(ToString::to_string).collect(),
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        )
    );
    // One alarm each, from one pass each, and no part is the whole that the switch waits for.
    assert_eq!(
        (world.published.borrow().len(), world.pings.borrow().len()),
        (20, 0)
    );
}

/// With any overload each is looked at in every ⌈n/c⌉th pass, also beside others whose looks fail
/// each time.
#[tokio::test]
async fn however_few_fit_into_a_pass_nobody_is_left_out_for_longer_than_the_bound() {
    for (n, c) in [(2, 1), (7, 3), (10, 9), (16, 5), (40, 1), (40, 13)] {
        for failing in [0, n / 2, n - 1] {
            let names: Vec<String> = (0..n).map(|n| format!("s{n}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut config = config(&names);
            // Each is a query of its own.
            for scheduler in &mut config.schedulers {
                scheduler.log_groups = vec![format!("/ecs/{}", scheduler.name)];
            }
            let world = Fake::new();
            let unseen = names.iter().take(failing).map(|&name| name.to_owned());
            *world.unseen.borrow_mut() = unseen.collect();
            let bound = n.div_ceil(c);
            let mut waited = vec![0; n];
            for _ in 0..3 * bound {
                world.room.set(Some(c));
                let report = pass::run(&world, &config, &Request::default()).await;
                let skipped = report.schedulers.iter().filter(|s| s.skipped).count();
                assert_eq!((skipped, report.is_complete()), (n - c, n == c));
                for (waited, scheduler) in waited.iter_mut().zip(&report.schedulers) {
                    *waited = if scheduler.skipped { *waited + 1 } else { 0 };
                    assert!(*waited < bound, "{n}, {c}: {} waits", scheduler.name);
                }
                world.wait(5);
            }
        }
    }
}

#[tokio::test]
async fn a_name_that_is_not_configured_is_told_with_the_nearest_one() {
    let (world, config) = (Fake::new(), config(&["production"]));
    let request = Request {
        schedulers: vec!["prodution".to_owned()],
        ..Request::default()
    };
    let report = pass::run(&world, &config, &request).await;
    assert!(
        report.problems[0].contains("nearest valid name: `production`"),
        "{:?}",
        report.problems
    );
}

#[tokio::test]
async fn a_lock_out_is_lifted_by_name() {
    let (world, config) = (Fake::new(), config(&["a"]));
    let state = State {
        schema: 1,
        restarts: scheduler_watchdog::state::Restarts {
            locked_out_at: Some(world.now.get()),
            ..Default::default()
        },
        ..State::default()
    };
    world
        .store
        .borrow_mut()
        .insert("a".to_owned(), (state.to_json(), 1));
    let request = Request {
        schedulers: vec!["a".to_owned()],
        clear_lockout: true,
        ..Request::default()
    };
    // Another pass wrote first: whoever asked must know that nothing came of it.
    world.conflicts.borrow_mut().push(true);
    let report = pass::run(&world, &config, &request).await;
    assert!(world.state("a").restarts.locked_out_at.is_some());
    let problems = &report.schedulers[0].problems;
    assert_eq!(problems, &["the lock-out was not lifted: call again"]);
    let report = pass::run(&world, &config, &request).await;
    assert!(report.schedulers[0].problems.is_empty());
    assert_eq!(world.state("a").restarts.locked_out_at, None);
}

/// Three of four are down, so something is that they share. It stays so for who looks at one of them only,
/// and where the state of one cannot be read.
#[tokio::test]
async fn a_storm_is_one_whichever_schedulers_are_looked_at() {
    for (names, asked, unreadable, storm) in [
        (&["a", "b", "c", "d"][..], Some("a"), None, true),
        (&["a"], Some("a"), None, false),
        (&["a", "b", "c"], None, Some("c"), true),
        (&["a", "b"], None, Some("b"), false),
    ] {
        let (mut world, config) = (Fake::new(), config(names));
        for _ in 0..2 {
            let _ = pass::run(&world, &config, &Request::default()).await;
            world.wait(5);
        }
        world.unreadable.extend(unreadable);
        let request = Request {
            schedulers: asked.into_iter().map(str::to_owned).collect(),
            dry_run: true,
            ..Request::default()
        };
        let report = pass::run(&world, &config, &request).await;
        let plan = report.schedulers[0].plan.as_ref().unwrap();
        let gates = &plan.remediation.as_ref().unwrap().blocked_by;
        assert_eq!(gates.contains(&Gate::Storm), storm, "{names:?} {gates:?}");
    }
}

/// What they share goes down, and all fall silent in the same moment: when the pass begins nobody is down
/// yet. Who is not judged, whatever the reason, is not waited for, and counts as it fared before.
#[tokio::test]
async fn a_storm_that_has_just_begun_is_one() {
    for (names, unseen, restarts) in [
        (&["a", "b", "c"][..], &[][..], 0),
        (&["a", "b", "c"], &["c"], 0),
        (&["a", "b", "c"], &["b", "c"], 1),
        (&["a", "b", DEFECT, "d"], &["d"], 2),
        (&["a", "b"], &[], 2),
    ] {
        let (world, mut config) = (Fake::new(), config(names));
        for scheduler in &mut config.schedulers {
            scheduler.remediation.after = SignedDuration::ZERO;
        }
        world
            .unseen
            .replace(unseen.iter().map(ToString::to_string).collect());
        let report = pass::run(&world, &config, &Request::default()).await;
        assert_eq!(
            world.restarts.borrow().len(),
            restarts,
            "{names:?} {unseen:?}"
        );
        let plans = report.schedulers.iter().filter_map(|s| s.plan.as_ref());
        let gates = plans.filter_map(|plan| Some(&plan.remediation.as_ref()?.blocked_by));
        for gates in gates {
            assert_eq!(
                gates.as_slice() == [Gate::Storm],
                restarts == 0,
                "{gates:?}"
            );
        }
    }
}

/// However often it goes wrong: nothing about a configuration wavers, and each end is told.
#[tokio::test]
async fn a_configuration_that_goes_wrong_again_and_again_gets_each_all_clear() {
    let (world, memory) = (Fake::new(), Memory::default());
    let mistakes = Mistakes::at("watchdog.toml:1:1", "nothing to watch");
    let told = || world.told_of_its_configuration();
    for round in 1..=6 {
        let _ = pass::configuration(&world, Some(&mistakes)).await;
        world.wait(10);
        let _ = answer(&world, &Memory::default(), "{}").await;
        world.wait(10);
        assert_eq!(told(), 2 * round);
    }
    // Another pass wrote first: whether it told the end is not known, and is asked again.
    let _ = pass::configuration(&world, Some(&mistakes)).await;
    world.conflicts.replace(vec![false, false, true]);
    for _ in 0..2 {
        world.wait(5);
        let _ = answer(&world, &memory, "{}").await;
    }
    assert_eq!(told(), 14);
}

#[tokio::test]
async fn a_wrong_configuration_is_told_once_and_then_every_four_hours() {
    let world = Fake::new();
    let mistakes = Mistakes::at("watchdog.toml:1:1", "nothing to watch");
    for _ in 0..(9 * 12) {
        let report = pass::configuration(&world, Some(&mistakes)).await;
        assert!(!report.is_complete());
        world.wait(5);
    }
    assert_eq!(world.published.borrow().len(), 3);
}

#[tokio::test]
async fn a_wrong_configuration_is_told_even_if_the_first_try_fails() {
    let world = Fake::new();
    let mistakes = Mistakes::at("watchdog.toml:1:1", "nothing to watch");
    world.publish_fails.set(true);
    let report = pass::configuration(&world, Some(&mistakes)).await;
    assert_eq!(report.problems.len(), 2);
    world.publish_fails.set(false);
    world.wait(5);
    let _ = pass::configuration(&world, Some(&mistakes)).await;
    assert_eq!(world.published.borrow().len(), 1);
}

/// What the function answers to an event, and the metrics that it writes.
async fn answer(
    world: &Fake,
    memory: &Memory,
    event: &str,
) -> (Result<serde_json::Value, Failure>, Vec<serde_json::Value>) {
    let config = config(&["a", "b"]);
    let event = serde_json::from_str(event).unwrap();
    let mut lines = Vec::new();
    let metric = |line: &serde_json::Value| lines.push(line.clone());
    let answer = lambda::handle(world, Ok(&config), memory, &event, "watchdog", metric).await;
    (answer, lines)
}

#[tokio::test]
async fn a_configuration_that_was_mended_gets_its_all_clear_once_and_for_certain() {
    let (world, memory) = (Fake::new(), Memory::default());
    let mistakes = Mistakes::at("watchdog.toml:1:1", "nothing to watch");
    let told = || world.told_of_its_configuration();
    let _ = pass::configuration(&world, Some(&mistakes)).await;
    assert_eq!(told(), 1);
    let _ = answer(&world, &memory, r#"{"dry_run":true}"#).await;
    assert_eq!(told(), 1, "a dry run tells nothing");
    world.publish_fails.set(true);
    let (report, _) = answer(&world, &memory, "{}").await;
    assert_eq!(report.unwrap()["completed"], false);
    world.publish_fails.set(false);
    for _ in 0..3 {
        world.wait(5);
        let _ = answer(&world, &memory, "{}").await;
        assert_eq!(told(), 2);
    }
    // What another process says of its configuration meanwhile is that one's affair.
    let _ = pass::configuration(&world, Some(&mistakes)).await;
    world.wait(5);
    let _ = answer(&world, &memory, "{}").await;
    assert_eq!(told(), 3);
}

#[tokio::test]
async fn a_pass_with_nobody_to_tell_is_not_complete_until_there_is_somebody() {
    let (world, memory) = (Fake::new(), Memory::default());
    world.readers.set((0, 1));
    for _ in 0..2 {
        let (report, lines) = answer(&world, &memory, "{}").await;
        let report = report.unwrap();
        assert_eq!(report["completed"], false, "{report}");
        let problem = report["problems"][0].as_str().unwrap();
        assert!(
            problem.contains("no confirmed subscription (1 not"),
            "{problem}"
        );
        assert_eq!(lines.last().unwrap()["PassCompleted"], 0);
        world.wait(5);
    }
    world.readers.set((1, 1));
    for asked in [3, 3] {
        let (report, lines) = answer(&world, &memory, "{}").await;
        assert_eq!(report.unwrap()["completed"], true);
        assert_eq!(lines.last().unwrap()["PassCompleted"], 1);
        assert_eq!(world.readers_asked.get(), asked, "once is enough");
        world.wait(5);
    }
}

#[tokio::test]
async fn a_check_warns_if_nobody_would_be_told() {
    let (world, config) = (Fake::new(), config(&["a"]));
    // Before the log fell silent.
    world.now.set(at("2025-12-01T23:43:30Z"));
    let look = check::live(&config, &world, &[]).await;
    assert_eq!(Status::of(&look.report), Status::Ok, "{}", look.text());
    world.readers.set((0, 0));
    let look = check::live(&config, &world, &[]).await;
    assert_eq!(Status::of(&look.report), Status::Warning);
    assert!(
        look.text().contains("nobody is told of anything"),
        "{}",
        look.text()
    );
}

#[tokio::test]
async fn a_test_alert_is_sent_once_however_often_it_is_asked_for_at_a_time() {
    let (world, config) = (Fake::new(), config(&["a", "b"]));
    let asked = TestAlert::default();
    for _ in 0..3 {
        let report = pass::test_alert(&world, &config, &asked).await;
        assert!(report.is_complete(), "{:?}", report.problems);
        world.wait(3);
    }
    assert_eq!(
        *world.published.borrow(),
        ["test-alert/2025-12-02T00:00:00Z/1"]
    );
    // Ten minutes after the first call it is another one; a month later it comes again.
    for (wait, published) in [(1, 2), (31 * 24 * 60, 3)] {
        world.wait(wait);
        let report = pass::test_alert(&world, &config, &asked).await;
        let sent = world.published.borrow().len();
        assert_eq!((report.delivered, sent), (1, published));
    }
}

#[tokio::test]
async fn a_test_alert_that_was_not_delivered_is_sent_by_the_next_try_under_the_same_id() {
    let (world, config) = (Fake::new(), config(&["a"]));
    world.publish_fails.set(true);
    let report = pass::test_alert(&world, &config, &TestAlert::default()).await;
    assert!(!report.is_complete());
    world.publish_fails.set(false);
    world.wait(1);
    let report = pass::test_alert(&world, &config, &TestAlert::default()).await;
    assert!(report.is_complete(), "{:?}", report.problems);
    assert_eq!(
        *world.published.borrow(),
        ["test-alert/2025-12-02T00:00:00Z/1"]
    );
}

#[tokio::test]
async fn of_two_calls_for_a_test_alert_at_once_one_sends_it() {
    let (world, config) = (Fake::new(), config(&["a"]));
    world.conflicts.borrow_mut().push(true);
    let _ = pass::test_alert(&world, &config, &TestAlert::default()).await;
    assert!(
        world.published.borrow().is_empty(),
        "the other one sends it"
    );
}

#[tokio::test]
async fn a_test_alert_that_reaches_nobody_fails_and_is_no_pass() {
    let (world, memory) = (Fake::new(), Memory::default());
    let event = r#"{"test_alert":true}"#;
    let (report, lines) = answer(&world, &memory, event).await;
    assert_eq!(report.unwrap()["delivered"], 1);
    // The alarm on passes that do not come must not take it for one.
    assert!(lines.is_empty() && world.looked_at.borrow().is_empty());
    world.readers.set((0, 2));
    world.wait(60);
    let (answer, _) = answer(&world, &memory, event).await;
    let failure = answer.unwrap_err();
    assert_eq!(failure.kind(), "TestAlertFailed");
    assert!(failure.to_string().contains("nobody is told"), "{failure}");
}

/// A configuration with a dead man's switch.
fn with_switch(names: &[&str]) -> Config {
    let mut config = config(names);
    config.alerts.ping = Endpoint::parse("https://switch.example/t0ken", false).ok();
    config
}

#[tokio::test]
async fn the_switch_is_told_once_of_each_complete_pass() {
    let (world, config) = (Fake::new(), with_switch(&["a", "b"]));
    for passes in 1..=3 {
        let report = pass::run(&world, &config, &Request::default()).await;
        assert!(report.is_complete());
        let pings = world.pings.borrow().clone();
        assert_eq!(pings, vec!["https://switch.example/t0ken"; passes]);
        world.wait(5);
    }
}

#[tokio::test]
async fn the_switch_is_told_of_nothing_less_than_a_complete_pass() {
    let (world, config) = (Fake::new(), with_switch(&["a", "b"]));
    let run = async |request: Request| {
        let report = pass::run(&world, &config, &request).await;
        world.wait(5);
        report
    };
    // A part of it, and a pass that only decides.
    let part = Request {
        schedulers: vec!["a".to_owned()],
        ..Request::default()
    };
    assert!(run(part).await.is_complete());
    let dry = Request {
        dry_run: true,
        ..Request::default()
    };
    assert!(run(dry).await.is_complete());
    // A message that is not delivered, and no time.
    world.publish_fails.set(true);
    assert!(!run(Request::default()).await.is_complete());
    world.publish_fails.set(false);
    world.deadline.set(Some(world.now.get()));
    assert!(!run(Request::default()).await.is_complete());
    world.deadline.set(None);
    // Other passes were first with all that there is.
    world.conflicts.borrow_mut().extend([true, true]);
    let report = run(Request::default()).await;
    assert!(report.is_complete() && report.schedulers.iter().all(|s| s.superseded));
    assert_eq!(*world.pings.borrow(), [""; 0]);
    // With some of it only.
    world.conflicts.borrow_mut().extend([true, false]);
    let report = run(Request::default()).await;
    assert!(report.is_complete() && report.schedulers.iter().any(|s| s.superseded));
    assert_eq!(world.pings.borrow().len(), 1);
}

#[tokio::test]
async fn the_switch_is_not_told_while_the_configuration_is_wrong() {
    let world = Fake::new();
    let mistakes = Mistakes::at("watchdog.toml:1:1", "nothing to watch");
    let event = serde_json::json!({});
    let (config, memory) = (Err(&mistakes), Memory::default());
    let answer = lambda::handle(&world, config, &memory, &event, "f", |_| ()).await;
    assert!(answer.is_err());
    assert_eq!(*world.pings.borrow(), [""; 0]);
}

#[tokio::test]
async fn a_switch_that_cannot_be_told_fails_no_pass() {
    let (world, config) = (Fake::new(), with_switch(&["a"]));
    world.ping_fails.set(true);
    let report = pass::run(&world, &config, &Request::default()).await;
    assert!(report.is_complete());
    assert_eq!(world.pings.borrow().len(), 1);
    let shown = scheduler_watchdog::report::json(&report).to_string();
    assert!(!shown.contains("switch.example"), "{shown}");
}

#[tokio::test]
async fn a_health_endpoint_is_asked_on_suspicion_and_what_it_does_not_say_is_reported() {
    let (world, mut config) = (Fake::new(), config(&["a"]));
    config.schedulers[0].health = Endpoint::parse("https://app.example/health", false).ok();
    // The log's last heartbeat is of 23:43.
    world.now.set(at("2025-12-01T23:44:00Z"));
    let report = pass::run(&world, &config, &Request::default()).await;
    assert_eq!(*world.asked.borrow(), [""; 0]);
    assert!(report.schedulers[0].unseen.is_empty());
    world.wait(5);
    let report = pass::run(&world, &config, &Request::default()).await;
    assert_eq!(*world.asked.borrow(), ["https://app.example/health"]);
    let unseen = unknown(Obstacle::TimedOut).to_string();
    assert_eq!(report.schedulers[0].unseen, [unseen]);
    assert!(report.is_complete(), "it is no problem of the pass");
}
