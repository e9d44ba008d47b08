//! What keeps many jobs from running at once: all of them held back, or the loop busy with one.

use std::ops::Range;

use jiff::SignedDuration;
use scheduler_watchdog::condition::{Condition, Fact};
use scheduler_watchdog::config::Cure;
use scheduler_watchdog::line::{Kind, Pulse};
use scheduler_watchdog::plan::{Notification, Occasion, Plan};

use crate::stage::{Stage, TASK, at, minutes, told};

fn jobs(list: &[(&str, &str)]) -> String {
    (list.iter())
        .map(|(name, cron)| format!("[[scheduler.job]]\nname = \"{name}\"\ncron = \"{cron}\"\n"))
        .collect()
}

/// Heartbeats two seconds after these minutes.
fn idle(stage: &mut Stage, span: Range<i64>) {
    for minute in span {
        let after = minutes(minute) + SignedDuration::from_secs(2);
        stage.push(TASK, after, Kind::Heartbeat(Pulse::Idle), "idle");
    }
}

fn ran(stage: &mut Stage, name: &str, minute: i64) {
    let after = minutes(minute) + SignedDuration::from_secs(2);
    stage.job_ended(name, after, SignedDuration::ZERO);
}

fn occasions(plans: &[Plan]) -> Vec<(Condition, Option<&str>, Occasion)> {
    (told(plans).into_iter())
        .map(|n| (n.condition, n.job(), n.occasion))
        .collect()
}

/// The jobs that an all-clear says missed runs, with how many, and those that have not run since.
fn cost(all_clear: &Notification) -> (Vec<(&str, u32)>, Vec<&str>) {
    let (mut missed, mut not_since) = (Vec::new(), Vec::new());
    for fact in &all_clear.proof {
        match fact {
            Fact::MissedRuns { job, count, .. } => missed.push((job.as_str(), *count)),
            Fact::NotSince { job, .. } => not_since.push(job.as_str()),
            _ => {}
        }
    }
    (missed, not_since)
}

/// Three hours, in which all jobs are held back from 01:02 to 02:40. Each has another grace; the grace of
/// `mails` is not over when jobs run again.
#[test]
fn all_jobs_that_are_held_back_are_one_incident_however_few_are_overdue() {
    let mut stage = Stage::new(&jobs(&[
        ("redis:monitor", "*/5 * * * *"),
        ("orders:sync", "*/10 * * * *"),
        ("hourly", "7 * * * *"),
        ("reports", "10 1 * * *"),
        ("mails", "0 2 * * *"),
    ]));
    stage.other_lines();
    idle(&mut stage, 0..420);
    for minute in (0..420).filter(|minute| !(62..160).contains(minute)) {
        for (name, every, offset) in [
            ("redis:monitor", 5, 0),
            ("orders:sync", 10, 0),
            ("hourly", 60, 7),
        ] {
            if minute % every == offset {
                ran(&mut stage, name, minute);
            }
        }
    }
    stage.lines.sort_by_key(|line| line.at);
    let plans = stage.passes(84);
    let overdue = |occasion| (Condition::JobOverdue, None, occasion);
    assert_eq!(
        occasions(&plans),
        [
            overdue(Occasion::Opened),
            overdue(Occasion::Reminder),
            overdue(Occasion::Resolved)
        ]
    );
    let [opened, _, all_clear] = told(&plans)[..] else {
        panic!()
    };
    assert_eq!(opened.cause_id(), "maintenance-or-pause");
    assert_eq!(all_clear.until, Some(at("2025-12-02T02:40:02Z")));
    let (missed, not_since) = cost(all_clear);
    assert_eq!(
        missed,
        [
            ("reports", 1),
            ("mails", 1),
            ("hourly", 2),
            ("orders:sync", 9),
            ("redis:monitor", 19)
        ]
    );
    assert_eq!(not_since, ["reports", "mails", "hourly"]);
    let next = Fact::NotSince {
        job: "mails".to_owned(),
        next: Some(at("2025-12-03T02:00:00Z")),
    };
    assert!(all_clear.proof.contains(&next));
}

/// What held it back before is not what holds all back.
#[test]
fn a_job_that_was_overdue_before_all_were_held_back_keeps_its_incident() {
    let mut stage = Stage::new(&jobs(&[
        ("tidy:up", "*/5 * * * *"),
        ("orders:sync", "*/5 * * * *"),
        ("redis:monitor", "*/5 * * * *"),
    ]));
    stage.other_lines();
    idle(&mut stage, 0..240);
    for minute in (0..240).step_by(5) {
        if !(20..200).contains(&minute) {
            ran(&mut stage, "tidy:up", minute);
        }
        if !(62..160).contains(&minute) {
            ran(&mut stage, "orders:sync", minute);
            ran(&mut stage, "redis:monitor", minute);
        }
    }
    stage.lines.sort_by_key(|line| line.at);
    let plans = stage.passes(47);
    let of = |job| {
        let told = occasions(&plans).into_iter();
        told.filter(move |(_, about, _)| *about == job)
            .map(|(_, _, occasion)| occasion)
            .filter(|occasion| *occasion != Occasion::Reminder)
            .collect::<Vec<_>>()
    };
    let [opened, resolved] = [Occasion::Opened, Occasion::Resolved];
    assert_eq!(of(Some("tidy:up")), [opened, resolved]);
    assert_eq!(of(None), [opened, resolved]);
    assert_eq!(of(Some("orders:sync")), []);
    let all_clears = told(&plans).into_iter().filter(|n| n.is_over());
    let missed: Vec<_> = all_clears.flat_map(|n| cost(n).0).collect();
    let once = [("orders:sync", 19), ("redis:monitor", 19), ("tidy:up", 36)];
    assert_eq!(missed, once);
}

/// A run of 50 minutes from 01:00 on, whose line comes with its end; the silence that it causes is told.
fn busy_for_50_minutes() -> Stage {
    let mut stage = Stage::new(&jobs(&[
        ("reports", "0 * * * *"),
        ("redis:monitor", "*/5 * * * *"),
    ]));
    stage.scheduler.remediation.action = Cure::None;
    stage.scheduler.jobs[0].max_runtime = Some(minutes(10));
    stage.other_lines();
    for span in [0..60, 111..240, 253..420] {
        for minute in span.clone().filter(|minute| minute % 5 == 0) {
            ran(&mut stage, "redis:monitor", minute);
        }
        idle(&mut stage, span);
    }
    for (due, took) in [
        (0, 0),
        (60, 50),
        (120, 1),
        (180, 1),
        (240, 12),
        (300, 1),
        (360, 1),
    ] {
        let end = minutes(due + took) + SignedDuration::from_secs(2);
        stage.job_ended("reports", end, minutes(took));
    }
    stage.lines.sort_by_key(|line| line.at);
    stage
}

/// Its length is told with the all-clear of the silence, and not again; that of the next one is.
#[test]
fn the_run_that_the_loop_waited_for_is_in_the_all_clear() {
    let plans = busy_for_50_minutes().passes(83);
    let silent = |occasion| (Condition::SchedulerSilent, None, occasion);
    let overrun = |occasion| (Condition::JobOverrun, Some("reports"), occasion);
    assert_eq!(
        occasions(&plans),
        [
            silent(Occasion::Opened),
            silent(Occasion::Resolved),
            overrun(Occasion::Opened),
            overrun(Occasion::Resolved)
        ]
    );
    let all_clear = told(&plans)[1];
    let waited = Fact::WaitedFor {
        job: "reports".to_owned(),
        from: at("2025-12-02T01:00:02Z"),
        until: at("2025-12-02T01:50:02Z"),
    };
    assert!(all_clear.proof.contains(&waited), "{:?}", all_clear.proof);
    let is_named = |fact: &Fact| matches!(fact, Fact::WaitedFor { .. });
    assert_eq!(
        all_clear.proof.iter().filter(|fact| is_named(fact)).count(),
        1
    );
}
