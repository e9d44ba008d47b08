//! A world that fails, made small and told: what happened, and what the watchdog said and did.

use std::process::ExitCode;

use jiff::SignedDuration;

use crate::drive::{self, Outcome};
use crate::invariants::Violation;
use crate::scenario::{CALM_END, Scenario, Seed};

/// Lines of the story before the violation that are shown.
const MOST_LINES: usize = 40;

/// Leaves out what the violation does not need: days, events, jobs; then tells the story and
/// how to see it again.
pub fn shrink(seed: Seed, days: i64, violation: &Violation) {
    let fails = |scenario: &Scenario| {
        let found = drive::run(scenario, false).violation;
        found.filter(|found| found.check == violation.check)
    };
    let mut scenario = Scenario::new(seed, days);
    // What comes after the violation has no part in it, except for the end itself.
    let at = violation.at;
    let try_events = |scenario: &mut Scenario, keep: &dyn Fn(usize) -> bool| {
        let mut smaller = scenario.clone();
        smaller.events.retain(|event| keep(event.number));
        if smaller.events.len() < scenario.events.len() && fails(&smaller).is_some() {
            *scenario = smaller;
        }
    };
    let late: Vec<usize> = (scenario.events.iter())
        .filter(|event| event.from > at)
        .map(|event| event.number)
        .collect();
    try_events(&mut scenario, &|number| !late.contains(&number));
    let numbers: Vec<usize> = scenario.events.iter().map(|event| event.number).collect();
    // Halves first, then one by one.
    let mut size = numbers.len() / 2;
    while size > 0 {
        for part in numbers.chunks(size) {
            try_events(&mut scenario, &|number| !part.contains(&number));
        }
        size /= 2;
    }
    let kept: Vec<String> = (scenario.events.iter())
        .map(|event| event.number.to_string())
        .collect();
    println!("\n--- seed {seed}: {violation}");
    show(&scenario, false);
    let kept = if kept.is_empty() {
        "none".to_owned()
    } else {
        kept.join(",")
    };
    let world = seed.arguments();
    println!("again: cargo test --test sim -- {world} --days {days} --keep {kept} --all");
}

/// Tells a seed's story.
pub fn tell(seed: Seed, days: i64, keep: Option<&str>, all: bool) -> ExitCode {
    let mut scenario = Scenario::new(seed, days);
    if let Some(keep) = keep {
        let numbers: Vec<usize> = keep
            .split(',')
            .filter_map(|n| n.trim().parse().ok())
            .collect();
        scenario
            .events
            .retain(|event| numbers.contains(&event.number));
    }
    let outcome = show(&scenario, all);
    match outcome.violation {
        Some(_) => ExitCode::FAILURE,
        None => {
            println!("{}", outcome.figures);
            ExitCode::SUCCESS
        }
    }
}

fn show(scenario: &Scenario, all: bool) -> Outcome {
    let mut outcome = drive::run(scenario, true);
    let end = scenario.end() - CALM_END;
    println!(
        "from {:.0}, {} days, calm from {end:.0}, every {:#}{}",
        scenario.begin,
        scenario.days,
        scenario.every,
        if scenario.as_text { ", as text" } else { "" }
    );
    for setup in &scenario.sites {
        println!("{setup:?}");
    }
    let violation = outcome.violation.clone();
    let until = violation
        .as_ref()
        .map_or(scenario.end(), |violation| violation.at);
    let mut story = std::mem::take(&mut outcome.story);
    for event in scenario.events.iter().filter(|event| event.from <= until) {
        story.push((event.from, format!("BEGINS {event}")));
        if event.until <= until {
            story.push((event.until, format!("ends {event}")));
        }
    }
    story.sort_by_key(|(at, _)| *at);
    // Passes matter near the end; what was said and done matters always.
    let near = until - SignedDuration::from_mins(90);
    let told: Vec<_> = (story.into_iter())
        .filter(|(at, text)| all || *at >= near || !text.contains(": pass "))
        .collect();
    let first = if all {
        0
    } else {
        told.len().saturating_sub(MOST_LINES)
    };
    let (long_ago, lately) = told.split_at(first);
    let happened = (long_ago.iter())
        .filter(|(_, text)| text.starts_with("BEGINS") || text.starts_with("ends"));
    for (at, text) in happened.chain(lately) {
        println!("{at:.0} {text}");
    }
    outcome
}
