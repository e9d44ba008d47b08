//! The stand-ins: a store, a topic, a log service and ECS in memory, which fail as the scenario
//! says. Each call waits before and after it takes effect, so a pass can be killed in between.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::config::{Config, Ecs, EcsTarget, Endpoint, Scheduler};
use scheduler_watchdog::health::Health;
use scheduler_watchdog::line;
use scheduler_watchdog::message::Message;
use scheduler_watchdog::plan::{CureKind, Remediation};
use scheduler_watchdog::silence::OneOff;
use scheduler_watchdog::snapshot::{
    CallError, Fleet, LogWindow, Observed, Obstacle, Probe, Readers, ServiceFacts,
};
use scheduler_watchdog::state::State;
use scheduler_watchdog::world::{StoreError, Version, World};

use crate::invariants::Inspector;
use crate::scenario::{Dice, Scenario, What};
use crate::truth::Site;

/// Everything outside the watchdog.
pub struct Town<'a> {
    pub scenario: &'a Scenario,
    pub config: Config,
    pub now: Cell<Timestamp>,
    pub sites: Vec<RefCell<Site>>,
    pub inspector: RefCell<Inspector<'a>>,
    store: RefCell<Vec<(State, Version)>>,
    /// What goes wrong at present.
    trouble: RefCell<Vec<What>>,
    dice: Dice,
    calls: Cell<u64>,
}

impl<'a> Town<'a> {
    pub fn new(scenario: &'a Scenario, tell: bool) -> Self {
        let config = scenario.config();
        let sites = (0..scenario.sites.len()).map(|index| Site::new(scenario, index));
        Self {
            scenario,
            now: Cell::new(scenario.begin),
            sites: sites.map(RefCell::new).collect(),
            inspector: RefCell::new(Inspector::new(scenario, &config, tell)),
            store: RefCell::new(vec![Default::default(); scenario.sites.len()]),
            trouble: RefCell::default(),
            dice: scenario.dice().about(1000),
            calls: Cell::new(0),
            config,
        }
    }

    /// Sets the clock, and what goes wrong from now on.
    pub fn set_now(&self, now: Timestamp) {
        self.now.set(now);
        let events = self.scenario.events.iter();
        let on = events.filter(|event| event.is_on(now) && !event.what.is_of_the_scheduler());
        self.trouble.replace(on.map(|event| event.what).collect());
    }

    /// Whether something goes wrong now, by the odds that `pick` takes from what can.
    pub fn strikes(&self, pick: impl Fn(What) -> Option<u64>) -> bool {
        let trouble = self.trouble.borrow();
        trouble
            .iter()
            .filter_map(|what| pick(*what))
            .any(|odds| self.roll(1000) < odds)
    }

    pub fn roll(&self, n: u64) -> u64 {
        self.calls.set(self.calls.get() + 1);
        self.dice.below(self.calls.get(), n)
    }

    fn obstacle(&self, pick: impl Fn(What) -> Option<(Obstacle, u64)>) -> Option<CallError> {
        let trouble = self.trouble.borrow();
        let found = trouble.iter().filter_map(|what| pick(*what));
        let mut struck = found.filter(|(_, odds)| self.roll(1000) < *odds);
        struck
            .next()
            .map(|(kind, _)| CallError::new(kind, "as the scenario wants it"))
    }

    /// Somebody asks to hear nothing of a scheduler, from a terminal.
    pub fn silence(&self, site: usize, until: Timestamp) {
        let (state, version) = &mut self.store.borrow_mut()[site];
        let now = self.now.get();
        let asked = OneOff::new(now, until, "work on the database", "ops", None);
        if *version > 0 && asked.is_ok_and(|silence| silence.add_to(state).is_ok()) {
            *version += 1;
            self.inspector.borrow_mut().silenced(site, now, until);
        }
    }

    pub fn state(&self, site: usize) -> State {
        self.store.borrow()[site].0.clone()
    }

    fn site_of(&self, name: &str) -> usize {
        (self.scenario.sites.iter())
            .position(|setup| setup.name == name)
            .unwrap()
    }
}

/// What one invocation saw of one scheduler.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub now: Timestamp,
    pub log_known: bool,
    /// Lines are missing from the log that was seen: the oldest.
    pub log_cut: bool,
    pub facts: Option<ServiceFacts>,
    pub health: Option<Health>,
    pub fleet: Fleet,
    pub claimed: bool,
    /// Everything that it decided from, where the decision is to be made again.
    pub sample: Option<Box<Sample>>,
}

#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub before: State,
    pub log: Option<Observed<LogWindow>>,
    pub probe: Option<Observed<Probe>>,
    pub service: Option<Observed<ServiceFacts>>,
    pub health: Option<Observed<Health>>,
}

/// The world of one invocation.
pub struct Invocation<'a, 'w> {
    town: &'a Town<'w>,
    deadline: Timestamp,
    /// Who is down, as loaded, and as it was judged since.
    down: RefCell<BTreeMap<usize, bool>>,
    seen: RefCell<BTreeMap<usize, Seen>>,
}

impl<'a, 'w> Invocation<'a, 'w> {
    pub fn new(town: &'a Town<'w>) -> Self {
        let hurried = town.strikes(|what| match what {
            What::Hurried(odds) => Some(odds),
            _ => None,
        });
        let seconds = if hurried { 8 + town.roll(4) as i64 } else { 60 };
        Self {
            town,
            deadline: town.now.get() + SignedDuration::from_secs(seconds),
            down: RefCell::default(),
            seen: RefCell::default(),
        }
    }

    /// A part of a call: it waits once, and time passes.
    async fn part(&self) {
        let now = self.town.now.get();
        let millis = 10 + self.town.roll(150) as i64;
        self.town.now.set(now + SignedDuration::from_millis(millis));
        Yield(false).await;
    }

    fn with_seen<R>(&self, site: usize, act: impl FnOnce(&mut Seen) -> R) -> R {
        act(self.seen.borrow_mut().entry(site).or_default())
    }
}

/// Waits once.
struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn failed() -> CallError {
    CallError::new(Obstacle::Failed, "as the scenario wants it")
}

impl World for Invocation<'_, '_> {
    fn now(&self) -> Timestamp {
        self.town.now.get()
    }

    fn deadline(&self) -> Option<Timestamp> {
        Some(self.deadline)
    }

    fn region(&self) -> &str {
        "eu-central-1"
    }

    async fn load(&self, scheduler: &str) -> Result<(State, Version), StoreError> {
        self.part().await;
        let strikes = self.town.strikes(|what| match what {
            What::NoLoad(odds) => Some(odds),
            _ => None,
        });
        if strikes {
            return Err(failed().into());
        }
        let site = self.town.site_of(scheduler);
        let (state, version) = self.town.store.borrow()[site].clone();
        self.down.borrow_mut().insert(site, state.is_down());
        let odds = if self.town.scenario.as_text { 100 } else { 15 };
        let sampled = self.town.roll(1000) < odds;
        self.with_seen(site, |seen| {
            if !seen.claimed {
                seen.sample = sampled.then(|| {
                    Box::new(Sample {
                        before: state.clone(),
                        ..Sample::default()
                    })
                });
            }
        });
        self.part().await;
        Ok((state, version))
    }

    async fn save(
        &self,
        scheduler: &str,
        state: &State,
        version: Version,
    ) -> Result<Version, StoreError> {
        self.part().await;
        let fails = |after: bool| {
            self.town.strikes(|what| match what {
                What::NoSave { done, odds } if done == after => Some(odds),
                _ => None,
            })
        };
        if fails(false) {
            return Err(failed().into());
        }
        let site = self.town.site_of(scheduler);
        let fleet = {
            let mut down = self.down.borrow_mut();
            down.insert(site, state.is_down());
            Fleet {
                watched: down.len(),
                firing: down.values().filter(|down| **down).count(),
            }
        };
        {
            let mut store = self.town.store.borrow_mut();
            if store[site].1 != version {
                return Err(StoreError::Conflict);
            }
            let kept = self
                .town
                .inspector
                .borrow_mut()
                .stored(site, state, self.now());
            store[site] = (kept, version + 1);
        }
        let seen = self.with_seen(site, |seen| {
            let first = !std::mem::replace(&mut seen.claimed, true);
            seen.fleet = fleet;
            first
                .then(|| std::mem::take(&mut seen.sample))
                .map(|sample| Seen {
                    sample,
                    ..seen.clone()
                })
        });
        if let Some(seen) = seen {
            let truth = self.town.sites[site].borrow();
            let scheduler = &self.town.config.schedulers[site];
            let mut inspector = self.town.inspector.borrow_mut();
            inspector.claimed(site, scheduler, &truth, &seen, state, self.now());
        }
        self.part().await;
        if fails(true) {
            return Err(failed().into());
        }
        Ok(version + 1)
    }

    async fn log(
        &self,
        scheduler: &Scheduler,
        from: Timestamp,
        until: Timestamp,
    ) -> Observed<LogWindow> {
        let site = self.town.site_of(&scheduler.name);
        self.with_seen(site, |seen| seen.now = until);
        self.part().await;
        let now = self.now();
        self.town.sites[site].borrow_mut().advance(now);
        let no_answer = self.town.obstacle(|what| match what {
            What::NoLog(obstacle, odds) => Some((obstacle, odds)),
            _ => None,
        });
        let answer = match no_answer {
            Some(error) => Observed::Unknown(error),
            None => Observed::Known(self.window(site, scheduler, from, until)),
        };
        self.with_seen(site, |seen| {
            seen.log_known = answer.known().is_some();
            seen.log_cut = answer.known().is_some_and(|window| window.truncated);
            if let Some(sample) = &mut seen.sample {
                sample.log = Some(answer.clone());
            }
        });
        self.part().await;
        answer
    }

    async fn probe(
        &self,
        scheduler: &Scheduler,
        from: Timestamp,
        until: Timestamp,
    ) -> Observed<Probe> {
        self.part().await;
        let site = self.town.site_of(&scheduler.name);
        let strikes = self.town.strikes(|what| match what {
            What::NoProbe(odds) => Some(odds),
            _ => None,
        });
        let answer = if strikes {
            Observed::Unknown(failed())
        } else {
            let newest = self.town.sites[site].borrow().other_lines(from, until);
            Observed::Known(Probe {
                newest: newest.into_iter().collect(),
            })
        };
        self.with_seen(site, |seen| {
            if let Some(sample) = &mut seen.sample {
                sample.probe = Some(answer.clone());
            }
        });
        answer
    }

    async fn service(&self, ecs: &Ecs) -> Option<Observed<ServiceFacts>> {
        self.part().await;
        let (EcsTarget::Service(name)
        | EcsTarget::TaskDefinition {
            definition: name, ..
        }) = &ecs.target;
        let site = self.town.site_of(name);
        let no_answer = self.town.obstacle(|what| match what {
            What::NoEcs(obstacle, odds) => Some((obstacle, odds)),
            _ => None,
        });
        let answer = match no_answer {
            Some(error) => Observed::Unknown(error),
            None => Observed::Known(self.town.sites[site].borrow().facts(self.now())),
        };
        self.with_seen(site, |seen| {
            seen.facts = answer.known().cloned();
            if let Some(sample) = &mut seen.sample {
                sample.service = Some(answer.clone());
            }
        });
        Some(answer)
    }

    async fn health(&self, scheduler: &Scheduler) -> Option<Observed<Health>> {
        self.part().await;
        scheduler.health.as_ref()?;
        let site = self.town.site_of(&scheduler.name);
        let strikes = self.town.strikes(|what| match what {
            What::NoHealth(odds) => Some(odds),
            _ => None,
        });
        let said = self.town.sites[site].borrow().health(self.now());
        let answer = match said.filter(|_| !strikes) {
            Some(health) => Observed::Known(health),
            None => Observed::Unknown(failed()),
        };
        self.with_seen(site, |seen| {
            seen.health = answer.known().cloned();
            if let Some(sample) = &mut seen.sample {
                sample.health = Some(answer.clone());
            }
        });
        Some(answer)
    }

    async fn readers(&self) -> Option<Observed<Readers>> {
        None
    }

    /// No scheduler of these worlds has a dead man's switch.
    async fn ping(&self, _: &Endpoint) -> Result<(), CallError> {
        Ok(())
    }

    async fn publish(&self, message: &Message) -> Result<(), CallError> {
        self.part().await;
        let fails = |after: bool| {
            self.town.strikes(|what| match what {
                What::NoTopic { done, odds } if done == after => Some(odds),
                _ => None,
            })
        };
        if fails(false) {
            return Err(failed());
        }
        let site = self.town.site_of(&message.notification.scheduler);
        self.town
            .inspector
            .borrow_mut()
            .accepted(site, message, self.now());
        self.part().await;
        if fails(true) {
            return Err(CallError::new(
                Obstacle::TimedOut,
                "as the scenario wants it",
            ));
        }
        Ok(())
    }

    async fn restart(
        &self,
        scheduler: &Scheduler,
        remediation: &Remediation,
    ) -> Result<Option<String>, CallError> {
        self.part().await;
        let fails = |after: bool| {
            self.town.strikes(|what| match what {
                What::NoRestart { done, odds } if done == after => Some(odds),
                _ => None,
            })
        };
        let site = self.town.site_of(&scheduler.name);
        let now = self.now();
        let done = !fails(false);
        {
            let truth = self.town.sites[site].borrow();
            let seen = self.seen.borrow()[&site].clone();
            let mut inspector = self.town.inspector.borrow_mut();
            inspector.restarted(site, &truth, &seen, remediation, done, now);
        }
        if !done {
            return Err(CallError::new(
                Obstacle::Throttled,
                "as the scenario wants it",
            ));
        }
        let started = {
            let mut truth = self.town.sites[site].borrow_mut();
            match remediation.cure {
                CureKind::StopTask => {
                    truth.stop_task(remediation.task.as_deref().unwrap_or_default(), now);
                    None
                }
                CureKind::ForceNewDeployment => Some(truth.deploy(now)),
                CureKind::RunTask => Some(truth.run_task(&remediation.token, now)),
            }
        };
        self.part().await;
        if fails(true) {
            return Err(CallError::new(
                Obstacle::TimedOut,
                "as the scenario wants it",
            ));
        }
        Ok(started)
    }
}

impl Invocation<'_, '_> {
    fn window(
        &self,
        site: usize,
        scheduler: &Scheduler,
        from: Timestamp,
        until: Timestamp,
    ) -> LogWindow {
        let truth = self.town.sites[site].borrow();
        let cut = (self.town.trouble.borrow().iter()).find_map(|what| match what {
            What::Cut(most) => Some(*most),
            _ => None,
        });
        let found = truth.lines(from, until, self.now());
        let mut lags: Vec<SignedDuration> = Vec::new();
        let mut window = LogWindow {
            from,
            until,
            ..LogWindow::default()
        };
        // As the query sorts: newest first, so that a cut leaves out the oldest.
        let mut printed: Vec<_> = found
            .rev()
            .take(cut.map_or(usize::MAX, |most| most + 1))
            .collect();
        if let Some(most) = cut
            && printed.len() > most
        {
            printed.truncate(most);
            window.truncated = true;
        }
        lags.extend(printed.iter().map(|line| line.seen.duration_since(line.at)));
        let rank = (lags.len() * 99).div_ceil(100).checked_sub(1);
        window.lag = rank.map(|rank| *lags.select_nth_unstable(rank).1);
        window.lines = if self.town.scenario.as_text {
            let zone = truth.setup.zone();
            let mut events: Vec<_> = printed.iter().map(|line| line.event(&zone)).collect();
            // Out of order, and some of them twice.
            let copies: Vec<_> = (events.iter())
                .filter(|_| self.town.roll(10) == 0)
                .cloned()
                .collect();
            events.extend(copies);
            let half = self.town.roll(events.len() as u64 + 1) as usize;
            events.rotate_left(half);
            let mut lines = line::read(&scheduler.preset, &events);
            lines.retain(|line| line.kind != line::Kind::Other);
            lines
        } else {
            printed.iter().rev().map(|line| line.line()).collect()
        };
        window
    }
}
