//! Wakes the watchdog through a whole world: in time, late, twice, and not to the end.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use jiff::SignedDuration;
use scheduler_watchdog::pass::{self, Report, Request};

use crate::invariants::Violation;
use crate::report::Figures;
use crate::scenario::{Kind, Scenario, What};
use crate::world::{Invocation, Town};

/// The await points of a pass over a few schedulers; a pass is killed at one of so many.
const MOST_POLLS: u64 = 40;

/// What became of a world.
pub struct Outcome {
    pub violation: Option<Violation>,
    pub figures: Figures,
    pub story: Vec<(jiff::Timestamp, String)>,
}

type Pass<'a> = Pin<Box<dyn Future<Output = Report> + 'a>>;

/// Runs a world to its end, or to the first violation.
pub fn run(scenario: &Scenario, tell: bool) -> Outcome {
    let town = Town::new(scenario, tell);
    let mut wake = scenario.begin + SignedDuration::from_mins(1);
    let mut silences: Vec<_> = (scenario.events.iter())
        .filter(|event| event.what == What::Silenced)
        .collect();
    silences.sort_by_key(|event| event.from);
    let mut silences = silences.into_iter().peekable();
    let mut passes = 0;
    while wake < scenario.end() && town.inspector.borrow().violation.is_none() {
        let now = wake + SignedDuration::from_secs(town.roll(20) as i64);
        wake += scenario.every;
        if now > town.now.get() {
            town.set_now(now);
        }
        while let Some(event) = silences.next_if(|event| event.from <= now) {
            town.silence(event.site.unwrap_or_default(), event.until);
        }
        let asleep = |what| match what {
            What::Asleep(odds) => Some(odds),
            _ => None,
        };
        if town.strikes(asleep) {
            continue;
        }
        passes += 1;
        wake_up(&town);
    }
    let now = town.now.get();
    for site in 0..scenario.sites.len() {
        let state = town.state(site);
        let truth = town.sites[site].borrow();
        let mut inspector = town.inspector.borrow_mut();
        if inspector.violation.is_none() {
            inspector.ended(site, &truth, &state, now);
        }
    }
    let mut inspector = town.inspector.into_inner();
    inspector.figures.worlds = 1;
    inspector.figures.of_tasks = u64::from(scenario.seed.kind == Kind::Tasks);
    inspector.figures.passes = passes;
    inspector.figures.scheduler_days = scenario.days * scenario.sites.len() as i64;
    Outcome {
        violation: inspector.violation,
        figures: inspector.figures,
        story: inspector.story.unwrap_or_default(),
    }
}

/// One wake-up.
fn wake_up(town: &Town<'_>) {
    let killed = town.strikes(|what| match what {
        What::Killed(odds) => Some(odds),
        _ => None,
    });
    let concurrent = town.strikes(|what| match what {
        What::Concurrent(odds) => Some(odds),
        _ => None,
    });
    let again = town.strikes(|what| match what {
        What::Again(odds) => Some(odds),
        _ => None,
    });
    let (one, other) = (Invocation::new(town), Invocation::new(town));
    let request = Request::default();
    let mut passes: Vec<(Pass<'_>, u64)> = Vec::new();
    let limit = |killed: bool| {
        if killed {
            1 + town.roll(MOST_POLLS)
        } else {
            u64::MAX
        }
    };
    passes.push((
        Box::pin(pass::run(&one, &town.config, &request)),
        limit(killed),
    ));
    if concurrent {
        let limit = limit(killed && town.roll(2) == 0);
        passes.push((Box::pin(pass::run(&other, &town.config, &request)), limit));
    }
    interleave(town, passes);
    if again {
        let now = town.now.get() + SignedDuration::from_secs(1 + town.roll(90) as i64);
        town.set_now(now);
        let third = Invocation::new(town);
        let pass: Pass<'_> = Box::pin(pass::run(&third, &town.config, &request));
        interleave(town, vec![(pass, u64::MAX)]);
    }
}

/// Polls passes in turn, as the dice fall, each until it ends or is killed.
fn interleave(town: &Town<'_>, mut passes: Vec<(Pass<'_>, u64)>) {
    let mut context = Context::from_waker(Waker::noop());
    while !passes.is_empty() {
        let index = if passes.len() > 1 {
            town.roll(passes.len() as u64) as usize
        } else {
            0
        };
        let (pass, left) = &mut passes[index];
        let over = pass.as_mut().poll(&mut context);
        *left -= 1;
        if let Poll::Ready(report) = over {
            tell(town, &report);
            drop(passes.swap_remove(index));
        } else if *left == 0 {
            let now = town.now.get();
            town.inspector
                .borrow_mut()
                .tell(now, || "the pass is killed".to_owned());
            drop(passes.swap_remove(index));
        }
    }
}

/// A line of the story for each pass that says more than that all is well.
fn tell(town: &Town<'_>, report: &Report) {
    let now = town.now.get();
    for scheduler in &report.schedulers {
        let broke_off = |problem: &String| problem.contains("defect");
        assert!(
            !scheduler.problems.iter().any(broke_off),
            "a pass broke off"
        );
        let mut inspector = town.inspector.borrow_mut();
        inspector.tell(now, || {
            let name = &scheduler.name;
            let verdict = scheduler.plan.as_ref().map_or("-".to_owned(), |plan| {
                let gates = (plan.remediation.iter().flat_map(|r| &r.blocked_by))
                    .map(|gate| gate.id())
                    .collect::<Vec<_>>()
                    .join(" ");
                let conditions: Vec<&str> = plan.conditions.iter().map(|c| c.id()).collect();
                format!(
                    "{} ({}) {conditions:?} silent {:?}/{:?} {gates}",
                    plan.verdict.id(),
                    plan.reason,
                    plan.silent_for,
                    plan.allowed_silence
                )
            });
            let problems = scheduler.problems.join("; ");
            format!("{name}: pass {verdict} {problems}")
        });
    }
}
