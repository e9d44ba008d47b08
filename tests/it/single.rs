//! What is said of single jobs, and how often: missing, late, too long, twice.

use scheduler_watchdog::condition::{Condition, Fact};
use scheduler_watchdog::config::StaleAfter;
use scheduler_watchdog::line::{JobEvent, Kind, Pulse};
use scheduler_watchdog::plan::{Notification, Occasion, Plan, Verdict};

use crate::stage::{SECOND_TASK, Stage, TASK, minutes, seconds, stream, told};

fn job(name: &str, cron: &str, more: &str) -> String {
    format!("[[scheduler.job]]\nname = \"{name}\"\ncron = \"{cron}\"\n{more}\n")
}

fn occasions(plans: &[Plan]) -> Vec<(Condition, Occasion)> {
    (told(plans).into_iter())
        .map(|n| (n.condition, n.occasion))
        .collect()
}

fn ran(stage: &mut Stage, name: &str, minute: i64) {
    stage.job_ended(name, minutes(minute) + seconds(1), seconds(0));
}

fn only(plans: &[Plan], condition: Condition) -> &Notification {
    let found = told(plans);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].condition, condition);
    found[0]
}

/// A line can get lost on its way: where the next run is due soon, it decides.
#[test]
fn a_missing_run_of_a_frequent_job_waits_for_the_next_one() {
    let mut stage = Stage::new(&job("often", "*/5 * * * *", ""));
    stage.beats(TASK, 120);
    for minute in (0..120).step_by(5).filter(|m| ![60, 65].contains(m)) {
        ran(&mut stage, "often", minute);
    }
    let plans = stage.passes(22);
    assert_eq!(occasions(&plans), []);
    // At 01:10 the run of 01:00 is known to be missing, and that of 01:05 not yet.
    let pending: Vec<i64> = (plans.iter())
        .filter(|plan| plan.verdict == Verdict::Pending)
        .map(|plan| plan.at.duration_since(plans[0].at).as_mins() + 5)
        .collect();
    assert_eq!(pending, [70]);
}

#[test]
fn two_missing_runs_of_a_frequent_job_are_news_at_the_first_look() {
    let mut stage = Stage::new(&job("often", "*/5 * * * *", ""));
    stage.beats(TASK, 120);
    for minute in (0..60).step_by(5) {
        ran(&mut stage, "often", minute);
    }
    for _ in 0..6 {
        stage.wait(10).look();
    }
    // The runs of 01:00 and 01:05 are missing by now, and neither was at the last look.
    let plans = [stage.wait(13).pass()];
    let missing = only(&plans, Condition::JobOverdue);
    assert!(
        matches!(missing.proof[0], Fact::MissedRuns { count: 2, .. }),
        "{:?}",
        missing.proof
    );
}

/// Whoever knows that a daily job is missing need not hear it every four hours.
#[test]
fn reminders_of_a_missing_job_keep_to_its_period() {
    let reminders = |cron: &str| -> Vec<i64> {
        let mut stage = Stage::new(&job("rare", cron, ""));
        stage.beats(TASK, 60 * 24 * 3);
        let plans = stage.passes(12 * 24 * 3 - 24);
        let times: Vec<_> = told(&plans).iter().map(|n| n.at).collect();
        (times.iter())
            .map(|at| at.duration_since(times[0]).as_hours())
            .collect()
    };
    assert_eq!(reminders("0 1 * * *"), [0, 1, 3, 7, 15, 27, 39, 51, 63]);
    let monthly = reminders("0 1 2 * *");
    assert_eq!(monthly, [0, 24], "and the next after two days");
}

/// The loop was busy with something else when the job was due.
#[test]
fn a_missing_run_that_fell_into_a_pause_is_told_with_the_pause() {
    let missing = |minute: i64| -> Vec<Fact> {
        let mut stage = Stage::new(&job("hourly", &format!("{minute} * * * *"), ""));
        stage.scheduler.stale_after = StaleAfter::Fixed(minutes(30));
        stage.beats(TASK, 25);
        stage.wait(40).beats(TASK, 60);
        stage.wait(-40);
        let plans = stage.passes(16);
        let missing = only(&plans, Condition::JobOverdue);
        let pauses = missing.proof.iter().filter_map(|fact| match fact {
            Fact::Paused { .. } => Some(fact.clone()),
            _ => None,
        });
        pauses.collect()
    };
    let start = Stage::new("").now;
    let pause = Fact::Paused {
        from: start + minutes(24),
        until: start + minutes(40),
    };
    assert_eq!(missing(30), [pause]);
    assert_eq!(missing(20), [], "before the pause");
    assert_eq!(missing(50), [], "after the pause");
    assert_eq!(missing(40), [], "the loop could run it");
}

/// It is over; the next run tells whether it was the only one.
#[test]
fn a_run_that_took_too_long_is_told_once() {
    let mut stage = Stage::new(&job("nightly", "0 1 * * *", "max_runtime = \"5m\""));
    stage.beats(TASK, 70);
    stage.job_ended("nightly", minutes(70), minutes(10));
    stage.wait(70).beats(TASK, 60 * 20);
    stage.wait(-70);
    let plans = stage.passes(12 * 20);
    only(&plans, Condition::JobOverrun);
}

#[test]
fn a_run_may_take_as_long_as_it_may() {
    for (took, told) in [(300, false), (301, true)] {
        let mut stage = Stage::new(&job("nightly", "0 1 * * *", "max_runtime = \"5m\""));
        stage.beats(TASK, 65);
        stage.job_ended("nightly", minutes(65) + seconds(1), seconds(took));
        stage.wait(65).beats(TASK, 60);
        stage.wait(-65);
        let overrun = (stage.passes(16).iter()).any(|p| !p.conditions.is_empty());
        assert_eq!(overrun, told, "{took} s");
    }
}

/// A replica that starts the same job at the same minute, again and again.
#[test]
fn runs_on_two_streams_are_told_with_both_streams() {
    let mut stage = Stage::new(&job("hourly", "0 * * * *", ""));
    stage.beats(TASK, 60 * 5);
    stage.beats(SECOND_TASK, 60 * 5);
    // Neither of them, although it is the first by name.
    stage.beats("00000000", 60 * 5);
    let kind = Kind::Job {
        name: "hourly".to_owned(),
        event: JobEvent::Ended { took: None },
        background: false,
    };
    for hour in 1..4 {
        for task in [TASK, SECOND_TASK] {
            stage.push(
                task,
                minutes(60 * hour) + seconds(2),
                kind.clone(),
                "hourly",
            );
        }
    }
    let plans = stage.passes(14);
    let twice = only(&plans, Condition::DuplicateRuns);
    let Fact::Twice { streams, .. } = &twice.proof[0] else {
        panic!("{:?}", twice.proof);
    };
    let mut streams = streams.clone();
    streams.sort();
    assert_eq!(streams, [stream(TASK), stream(SECOND_TASK)]);
}

#[test]
fn three_jobs_are_told_one_by_one_and_four_as_one() {
    let messages = |jobs: i64| -> Vec<Option<String>> {
        let tables: String = (0..jobs)
            .map(|n| job(&format!("job:{n}"), "0 1 * * *", ""))
            .collect();
        let mut stage = Stage::new(&tables);
        stage.beats(TASK, 60 * 4);
        let plans = stage.passes(12 * 3);
        let opened = told(&plans).into_iter();
        opened
            .filter(|n| n.occasion == Occasion::Opened)
            .map(|n| n.subject.clone())
            .collect()
    };
    let names =
        |n: i64| -> Vec<Option<String>> { (0..n).map(|n| Some(format!("job:{n}"))).collect() };
    assert_eq!(messages(3), names(3));
    assert_eq!(messages(4), [None]);
}

#[test]
fn the_lines_of_a_job_are_those_that_its_matcher_fits() {
    for (matcher, name, line, expected) in [
        ("", "often", "x", true),
        ("", "other", "often", false),
        ("match = \"Callback\"", "Callback 7", "x", true),
        ("match = \"Callback\"", "x", "Running Callback 7", true),
        ("match = \"Callback\"", "often", "x", false),
        ("match = { regex = \"^a.*z$\" }", "abcz", "x", true),
        ("match = { regex = \"^a.*z$\" }", "x", "abcz", true),
        ("match = { regex = \"^a.*z$\" }", "often", "x", false),
    ] {
        let stage = Stage::new(&job("often", "0 * * * *", matcher));
        let owns = stage.scheduler.jobs[0].owns(name, line);
        assert_eq!(owns, expected, "{matcher} {name} {line}");
    }
}

#[test]
fn a_minute_of_a_job_that_repeats_within_it_stands_for_all_its_runs() {
    for (every, runs) in [("10s", 6), ("30s", 2)] {
        let repeats = format!("every = \"{every}\"");
        let mut stage = Stage::new(&job("poll", "0 1 * * *", &repeats));
        stage.beats(TASK, 60 * 3);
        let plans = stage.passes(12 * 3 - 1);
        let overdue = only(&plans, Condition::JobOverdue);
        let Fact::MissedRuns { count, .. } = &overdue.proof[0] else {
            panic!("{:?}", overdue.proof);
        };
        assert_eq!(*count, runs, "{every}");
    }
}

/// Many are told as one. Once some of them run again and three are left, that is over.
#[test]
fn many_jobs_are_over_when_three_of_them_are_left() {
    for (left, over) in [(4, false), (3, true)] {
        let tables: String = (0..6)
            .map(|n| job(&format!("job:{n}"), "*/5 * * * *", ""))
            .collect();
        let mut stage = Stage::new(&tables);
        stage.beats(TASK, 120);
        for n in left..6 {
            for minute in (60..120).step_by(5) {
                ran(&mut stage, &format!("job:{n}"), minute);
            }
        }
        stage.lines.sort_by_key(|line| line.at);
        let mut expected = vec![(Condition::JobOverdue, Occasion::Opened)];
        expected.extend(over.then_some((Condition::JobOverdue, Occasion::Resolved)));
        let plans = stage.passes(15);
        assert_eq!(occasions(&plans), expected, "{left}");
    }
}

/// By then somebody may have started it by hand.
#[test]
fn a_second_run_after_a_quarter_of_an_hour_is_no_duplicate() {
    for (later, expected) in [(15 * 60, true), (15 * 60 + 1, false)] {
        let mut stage = Stage::new(&job("hourly", "0 * * * *", ""));
        stage.beats(TASK, 120);
        stage.beats(SECOND_TASK, 120);
        for (task, second) in [(TASK, 0), (SECOND_TASK, later)] {
            let kind = Kind::Job {
                name: "hourly".to_owned(),
                event: JobEvent::Ended {
                    took: Some(seconds(0)),
                },
                background: false,
            };
            stage.push(task, minutes(60) + seconds(2 + second), kind, "hourly");
        }
        stage.lines.sort_by_key(|line| line.at);
        let twice = |plan: &Plan| plan.conditions.contains(&Condition::DuplicateRuns);
        assert_eq!(stage.passes(18).iter().any(twice), expected, "{later} s");
    }
}

/// The loop of a task that was replaced waits for nothing any more; a deployment may let both live
/// for half an hour.
#[test]
fn a_run_whose_task_was_replaced_does_not_go_on() {
    let start = 60 * 60 + 2;
    for (began, goes_on) in [(start - 30 * 60, true), (start - 30 * 60 + 1, false)] {
        let mut stage = Stage::new(&job("hourly", "0 * * * *", "max_runtime = \"10m\""));
        stage.scheduler.stale_after = StaleAfter::Fixed(minutes(40));
        stage.beats(TASK, 60);
        let kind = Kind::Job {
            name: "hourly".to_owned(),
            event: JobEvent::Started,
            background: false,
        };
        stage.push(TASK, seconds(start), kind, "hourly");
        for minute in 0..60 {
            let idle = Kind::Heartbeat(Pulse::Idle);
            let after = seconds(began) + minutes(minute);
            stage.push(SECOND_TASK, after, idle, "idle");
        }
        stage.lines.sort_by_key(|line| line.at);
        let overrun = |plan: &Plan| plan.conditions.contains(&Condition::JobOverrun);
        assert_eq!(stage.passes(16).iter().any(overrun), goes_on, "{began} s");
    }
}
