//! What the simulation of months found, each in the small.

use jiff::SignedDuration;
use scheduler_watchdog::condition::{Condition, Slot};
use scheduler_watchdog::line::{JobEvent, Kind, Pulse};
use scheduler_watchdog::plan::{Occasion, Plan, Verdict};
use scheduler_watchdog::snapshot::{Observed, Obstacle};

use crate::stage::{DEPLOYMENT, Stage, TASK, facts, minutes, task, unknown};

const SECOND_TASK: &str = "9f8e7d6c";

const IDLE: Kind = Kind::Heartbeat(Pulse::Idle);

fn nightly(more: &str) -> String {
    format!("[[scheduler.job]]\nname = \"backup:run\"\ncron = \"10 4 * * *\"\n{more}\n")
}

/// A line that tells of the start of the backup, as Laravel up to 9.20 prints it.
fn backup_starts(stage: &mut Stage, after: SignedDuration) {
    let kind = Kind::Job {
        name: "backup:run".to_owned(),
        event: JobEvent::Started,
        background: false,
    };
    stage.push(TASK, after, kind, "backup:run");
}

fn found(plans: &[Plan], condition: Condition) -> bool {
    plans
        .iter()
        .any(|plan| plan.conditions.contains(&condition))
}

/// Two replicas fill the list of aborts twice as fast as one; what it no longer held was taken
/// for an abort of long ago, and the outage was never told.
#[test]
fn several_replicas_that_abort_are_a_failing_scheduler() {
    let mut stage = Stage::new("");
    stage.scheduler.stale_after = scheduler_watchdog::config::StaleAfter::Fixed(minutes(20));
    stage.other_lines();
    stage.ecs(|facts| {
        let second = task(SECOND_TASK, DEPLOYMENT, facts.tasks[0].started_at.unwrap());
        facts.tasks.push(second);
        facts.desired = 2;
    });
    stage.beats(TASK, 30);
    stage.beats(SECOND_TASK, 30);
    let _ = stage.passes(5);
    let abort = || Kind::Error {
        aborts: true,
        context: None,
        trace: Vec::new(),
    };
    for minute in 5..60 {
        stage.push(TASK, minutes(minute), abort(), "Connection refused");
        let later = minutes(minute) + SignedDuration::from_secs(20);
        stage.push(SECOND_TASK, later, abort(), "Connection refused");
    }
    let plans = stage.passes(11);
    let told: Vec<_> = (plans.iter())
        .flat_map(|plan| &plan.notifications)
        .filter(|n| n.condition.slot() == Slot::Loop)
        .map(|n| (n.condition, n.occasion))
        .collect();
    assert_eq!(told, [(Condition::SchedulerFailing, Occasion::Opened)]);
}

/// The look that ends an outage leaves the jobs to the next look; its repetition is not one.
#[test]
fn a_repeated_look_says_nothing_that_the_first_left_open() {
    let mut stage = Stage::new(
        "[[scheduler.job]]\nname = \"tidy:up\"\ncron = \"*/5 * * * *\"\ngrace = \"1m\"\n",
    );
    stage.other_lines();
    stage.service = Observed::Unknown(crate::stage::unknown(
        scheduler_watchdog::snapshot::Obstacle::Throttled,
    ));
    stage.beats(TASK, 11);
    // Silent for half an hour, and then alive without its job.
    for minute in 40..90 {
        stage.push(TASK, minutes(minute), IDLE, "idle");
    }
    let mut resolved = false;
    for _ in 0..17 {
        let plan = stage.wait(5).pass();
        resolved |= (plan.notifications.iter()).any(|n| n.occasion == Occasion::Resolved);
        let again = stage.pass();
        assert!(again.is_empty(), "{again}");
    }
    assert!(resolved);
}

/// Until it was, every night a long job of an old Laravel was told as a silence.
#[test]
fn how_long_a_job_takes_is_learned_from_lines_of_different_windows() {
    let mut stage = Stage::new(&nightly(""));
    let nights = long_nights(&mut stage, None);
    assert_eq!(
        nights,
        [true, false],
        "the first one cannot be told from a silence"
    );
    // That it was started before its line does not matter; one that is started after it has not
    // waited for the job's end.
    assert_eq!(long_nights(&mut Stage::new(&nightly("")), Some(5)), nights);
    let restarted = long_nights(&mut Stage::new(&nightly("")), Some(20));
    assert_eq!(restarted, [true, true]);
}

/// Two nights in which the backup takes 25 minutes, and whether they are told as a silence. In a
/// minute of each the scheduler is started.
fn long_nights(stage: &mut Stage, boot: Option<i64>) -> Vec<bool> {
    stage.other_lines();
    stage.wait(4 * 60);
    let mut nights = Vec::new();
    for _ in 0..2 {
        if let Some(minute) = boot {
            stage.push(
                TASK,
                minutes(minute),
                Kind::Boot,
                "Starting Laravel Scheduler",
            );
        }
        for minute in 0..60 {
            let at = minutes(minute) + SignedDuration::from_secs(3);
            match minute {
                10 => backup_starts(stage, at),
                11..35 => {}
                _ => stage.push(TASK, at, IDLE, "idle"),
            }
        }
        nights.push(found(&stage.passes(12), Condition::SchedulerSilent));
        stage.lines.clear();
        stage.beats(TASK, 23 * 60);
        for _ in 0..23 {
            let _ = stage.passes(12);
        }
        stage.lines.clear();
    }
    nights
}

/// Both replicas begin a job that is meant for one of them. The second start was taken for other
/// work of a loop that waits no more, and the silence was told while both were busy.
#[test]
fn a_long_job_that_two_replicas_begin_may_be_running() {
    let mut stage = Stage::new(&nightly("max_runtime = \"25m\""));
    stage.other_lines();
    let since = stage.now - SignedDuration::from_hours(48);
    stage.service = Observed::Known(facts(&[TASK, SECOND_TASK], since));
    stage.wait(4 * 60);
    for (task, second) in [(TASK, 2), (SECOND_TASK, 10)] {
        stage.beats(task, 10);
        let started = Kind::Job {
            name: "backup:run".to_owned(),
            event: JobEvent::Started,
            background: false,
        };
        let after = minutes(10) + SignedDuration::from_secs(second);
        stage.push(task, after, started, "backup:run");
    }
    assert!(!found(&stage.passes(8), Condition::SchedulerSilent));
    // It took no longer than that, and nothing followed.
    assert!(found(&stage.passes(4), Condition::SchedulerSilent));
}

/// The service was scaled to zero on purpose; when ECS could not be seen after that, a silence was
/// told of it. That ECS cannot be seen is told instead.
#[test]
fn a_service_that_was_scaled_to_zero_is_not_told_as_silent_when_ecs_cannot_be_seen() {
    let mut stage = Stage::new("");
    stage.other_lines();
    stage.beats(TASK, 30);
    let _ = stage.passes(6);
    stage.ecs(|facts| (facts.desired, facts.tasks) = (0, Vec::new()));
    let off = stage.service.clone();
    let plans = stage.passes(3);
    assert_eq!(plans[2].verdict, Verdict::Suspended, "{}", plans[2]);

    stage.service = Observed::Unknown(unknown(Obstacle::TimedOut));
    let plans = stage.passes(6);
    assert!(!found(&plans, Condition::SchedulerSilent));
    assert!(found(&plans, Condition::WatchdogBlind));

    // It is meant to run again, and nothing does.
    stage.service = off;
    stage.ecs(|facts| facts.desired = 1);
    let plans = stage.passes(6);
    assert!(found(&plans, Condition::ServiceDown));
}

/// A loop that drifts looks at the clock in the last second of the minute; the first line of its
/// turn is then more than a minute after the due time.
#[test]
fn a_job_that_was_due_a_minute_before_its_turn_may_be_running() {
    let mut stage = Stage::new(&nightly("max_runtime = \"50m\""));
    stage.other_lines();
    stage.wait(4 * 60 - 30);
    stage.beats(TASK, 40);
    // The clock said 04:10:59.8.
    let late = minutes(41) + SignedDuration::from_millis(400);
    stage.job_ended("redis:monitor", late, SignedDuration::from_millis(200));
    let plans = stage.passes(14);
    assert!(!found(&plans, Condition::SchedulerSilent));
}

/// A task that was replaced in the middle of a run leaves a start without an end.
#[test]
fn a_run_whose_task_was_replaced_does_not_take_too_long() {
    let mut stage = Stage::new(&nightly("max_runtime = \"10m\""));
    stage.other_lines();
    stage.wait(4 * 60);
    stage.beats(TASK, 10);
    backup_starts(&mut stage, minutes(10) + SignedDuration::from_secs(3));
    let began = minutes(11);
    for minute in 0..60 {
        stage.push(SECOND_TASK, began + minutes(minute), IDLE, "idle");
    }
    let plans = stage.passes(12);
    assert!(!found(&plans, Condition::JobOverrun));
    assert_eq!(
        plans.last().map(|plan| plan.verdict),
        Some(Verdict::Healthy)
    );
}

/// Up to Laravel 9.20 a line tells only that a run began. A run of the scheduler that aborts
/// afterwards shows that the loop does not wait for it any more.
#[test]
fn a_run_before_an_abort_does_not_go_on() {
    let mut stage = Stage::new(&nightly("max_runtime = \"10m\""));
    stage.other_lines();
    stage.wait(4 * 60);
    stage.beats(TASK, 10);
    backup_starts(&mut stage, minutes(10) + SignedDuration::from_secs(3));
    for minute in 11..40 {
        stage.abort(minutes(minute), "Connection refused [tcp://redis:6379]");
    }
    let plans = stage.passes(8);
    assert!(!found(&plans, Condition::JobOverrun));
    assert!(found(&plans, Condition::SchedulerFailing));
}
