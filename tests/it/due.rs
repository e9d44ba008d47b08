//! What became of the runs that were due: never told too early, and each missed one told once.

use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use scheduler_watchdog::condition::{Condition, Fact};
use scheduler_watchdog::due::{Loop, Missed, account, skip_unseen};
use scheduler_watchdog::history::{JobHistory, StreamBeats, Turn};
use scheduler_watchdog::line::{JobEvent, Kind, Pulse};
use scheduler_watchdog::plan::{Gate, Handling, Occasion, Plan, Reason, Verdict, Withholding};
use scheduler_watchdog::silence::OneOff;
use scheduler_watchdog::snapshot::LogWindow;
use scheduler_watchdog::state::{MOST_BYTES, State};

use crate::stage::{Stage, TASK, at, minutes};

const SECOND_TASK: &str = "9f8e7d6c";

fn job(cron: &str, more: &str) -> String {
    format!("[[scheduler.job]]\nname = \"tidy:up\"\ncron = \"{cron}\"\n{more}\n")
}

/// A run of the job, two seconds after the present plus `after`.
fn runs(stage: &mut Stage, after: SignedDuration) {
    let took = SignedDuration::from_millis(120);
    stage.job_ended("tidy:up", after + SignedDuration::from_secs(2), took);
}

fn fails(stage: &mut Stage, after: SignedDuration) {
    let event = JobEvent::Failed {
        took: Some(SignedDuration::from_millis(120)),
        exit_code: Some(1),
    };
    let kind = Kind::Job {
        name: "tidy:up".to_owned(),
        event,
        background: false,
    };
    let at = after + SignedDuration::from_secs(2);
    stage.push(TASK, at, kind, "tidy:up");
}

/// What was told, restarts left aside.
fn told(plans: &[Plan]) -> Vec<(Condition, Occasion)> {
    let of_restarts = [Occasion::Remediated, Occasion::RemediationFailed];
    (plans.iter())
        .flat_map(|plan| &plan.notifications)
        .filter(|n| !of_restarts.contains(&n.occasion))
        .map(|n| (n.condition, n.occasion))
        .collect()
}

/// How many missed runs of the job a plan's all-clears tell of.
fn missed(plan: &Plan) -> u32 {
    (plan.notifications.iter())
        .filter(|n| n.occasion == Occasion::Resolved)
        .flat_map(|n| &n.proof)
        .map(|fact| match fact {
            Fact::MissedRuns { job, count, .. } if job == "tidy:up" => *count,
            _ => 0,
        })
        .sum()
}

/// Spans of minutes within a number of days.
fn spans(days: i64, longest: i64) -> impl Strategy<Value = Vec<Range<i64>>> {
    let span = (30..days * 1440, 1..longest).prop_map(|(start, length)| start..start + length);
    prop::collection::vec(span, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_missed_run_is_told_once_and_never_too_early(
        (cron, period) in prop::sample::select(&[
            ("*/5 * * * *", 5), ("20 * * * *", 60), ("40 */6 * * *", 360), ("10 3 * * *", 1440),
        ][..]),
        held in spans(3, 2000),
        dead in spans(3, 600),
        every in 1..=10i64,
    ) {
        let mut stage = Stage::new(&job(cron, "grace = \"5m\""));
        stage.other_lines();
        let start = stage.now;
        let offset = match period { 5 => 0, 60 => 20, 360 => 40, _ => 190 };
        // After three wild days the job runs again, for long enough to be told.
        let end = 3 * 1440 + 2000 + 2 * period.max(60);
        let mut due: Vec<i64> = Vec::new();
        let mut ran: Vec<i64> = Vec::new();
        for minute in 0..end {
            let is_due = minute % period == offset % period;
            if is_due {
                due.push(minute);
            }
            if dead.iter().any(|span| span.contains(&minute)) {
                continue;
            }
            if is_due && !held.iter().any(|span| span.contains(&minute)) {
                ran.push(minute);
                runs(&mut stage, minutes(minute));
            } else {
                let beat = minutes(minute) + SignedDuration::from_secs(2);
                stage.push(TASK, beat, Kind::Heartbeat(Pulse::Idle), "idle");
            }
        }
        let lines = std::mem::take(&mut stage.lines);
        let (mut next_line, mut told) = (0, 0);
        for pass in 1..end / every {
            stage.wait(every);
            // Only what a window can hold, so that the test is quick.
            while lines.get(next_line).is_some_and(|line| line.at <= stage.now) {
                stage.lines.push(lines[next_line].clone());
                next_line += 1;
            }
            let old = stage.now - minutes(40);
            stage.lines.retain(|line| line.at >= old);
            let plan = stage.pass();
            told += missed(&plan);
            if plan.conditions.contains(&Condition::JobOverdue) {
                let now = pass * every;
                let last = ran.iter().rfind(|run| **run < now).copied().unwrap_or(-1);
                let first = due.iter().find(|due| **due > last && **due > 0).copied();
                let over = first.map(|due| start + minutes(due + 5 + 2));
                prop_assert!(over.is_some_and(|over| over <= stage.now), "too early: {plan}");
            }
        }
        let truth = u32::try_from(due.iter().filter(|due| **due > every && !ran.contains(due)).count()).unwrap();
        let open = stage.state.incidents.iter().any(|incident| incident.is_open());
        prop_assert!(!open, "{:?}", stage.state.incidents);
        if period > 10 + 7 {
            prop_assert_eq!(told, truth);
        } else {
            // Single runs of a job that runs again at once are not worth a message.
            prop_assert!(told <= truth, "{} of {}", told, truth);
        }
    }
}

/// Somebody changes the configuration of a job whose run is missing. If the run that it waits for is
/// the next by the new times, too, nothing is over; else nobody expects it any more.
#[test]
fn another_expression_ends_what_nobody_expects_any_more() {
    for (expression, goes_on) in [
        ("0 3 * * 1-5", true),
        ("0 4 * * *", false),
        ("0 * * * *", false),
        ("0 3 3 * *", true),
        ("0 3 4 * *", false),
    ] {
        let mut stage = Stage::new(&job("0 3 * * *", ""));
        stage.beats(TASK, 6 * 60);
        stage.other_lines();
        let opened = (Condition::JobOverdue, Occasion::Opened);
        assert_eq!(told(&stage.passes(12 * 4 + 1)), [opened]);
        stage.scheduler = Stage::new(&job(expression, "")).scheduler;
        let over = (Condition::JobOverdue, Occasion::Resolved);
        let expected = if goes_on { vec![] } else { vec![over] };
        assert_eq!(told(&stage.passes(3)), expected, "{expression}");
        let (job, known) = (&stage.scheduler.jobs[0], &stage.state.jobs["tidy:up"]);
        assert_eq!(known.plan, Some(job.plan));
        let month = SignedDuration::from_hours(31 * 24);
        assert_eq!(
            known.due,
            job.next_run(stage.now, stage.now + month),
            "{expression}"
        );
    }
}

/// A run is due, and may still come within its grace, when somebody changes the configuration.
#[test]
fn a_run_that_is_just_due_stays_awaited_by_another_expression() {
    for (expression, expected) in [
        (
            "0 3 * * 1-5",
            vec![(Condition::JobOverdue, Occasion::Opened)],
        ),
        ("0 4 * * *", vec![]),
    ] {
        let mut stage = Stage::new(&job("0 3 * * *", ""));
        stage.beats(TASK, 6 * 60);
        stage.other_lines();
        assert_eq!(told(&stage.passes(12 * 3 + 1)), []);
        stage.scheduler = Stage::new(&job(expression, "")).scheduler;
        assert_eq!(told(&stage.passes(12)), expected, "{expression}");
    }
}

#[test]
fn a_job_that_is_new_is_not_overdue() {
    let mut stage = Stage::new(&job("0 23 * * *", ""));
    stage.beats(TASK, 22 * 60);
    stage.other_lines();
    assert_eq!(told(&stage.passes(12 * 20)), []);
    assert!(stage.state.jobs["tidy:up"].due.is_some());
}

#[test]
fn a_rare_job_is_told_after_its_grace_with_what_is_known_of_it() {
    let mut stage = Stage::new(&job("0 3 * * *", ""));
    stage.beats(TASK, 6 * 60);
    stage.other_lines();
    let before = stage.passes(12 * 4);
    assert_eq!(told(&before), []);
    let plan = stage.wait(5).pass();
    assert_eq!(
        stage.now,
        at("2025-12-02T04:05:00Z"),
        "an hour of grace, and the log's delay"
    );
    assert_eq!(
        told(std::slice::from_ref(&plan)),
        [(Condition::JobOverdue, Occasion::Opened)]
    );
    let told = &plan.notifications[0];
    assert_eq!(told.job(), Some("tidy:up"));
    assert_eq!(told.since, at("2025-12-02T03:00:00Z"));
    let first = Fact::MissedRuns {
        job: "tidy:up".to_owned(),
        count: 1,
        first: told.since,
        last: told.since,
    };
    assert_eq!(told.proof[..2], [first, Fact::LastRun { at: None }]);
}

#[test]
fn a_lost_line_of_a_frequent_job_is_no_alarm() {
    let mut stage = Stage::new(&job("*/5 * * * *", ""));
    stage.beats(TASK, 120);
    stage.other_lines();
    for run in (0..24).filter(|run| *run != 10) {
        runs(&mut stage, minutes(run * 5));
    }
    assert_eq!(told(&stage.passes(23)), []);
}

/// The usual loop sleeps a minute after each run, so that now and then a minute has none.
#[test]
fn a_loop_that_drifts_skips_a_run_now_and_then_and_that_is_no_alarm() {
    let mut stage = Stage::new(&job("*/5 * * * *", ""));
    stage.other_lines();
    let start = stage.now;
    let mut now = SignedDuration::ZERO;
    let mut skipped = 0;
    for _ in 0..24 * 60 {
        let minute = now.as_mins();
        if minute % 5 == 0 {
            stage.job_ended("tidy:up", now, SignedDuration::from_millis(100));
        } else {
            stage.push(TASK, now, Kind::Heartbeat(Pulse::Idle), "idle");
        }
        now += SignedDuration::from_millis(61_300);
        skipped += i32::from(minute % 5 == 4 && now.as_mins() % 5 == 1);
    }
    assert!(skipped > 0, "the test must drift: {start}");
    assert_eq!(told(&stage.passes(12 * 24)), []);
}

#[test]
fn many_jobs_at_once_are_one_message() {
    let jobs: String = (0..30)
        .map(|n| format!("[[scheduler.job]]\nname = \"job:{n}\"\ncron = \"*/5 * * * *\"\n"))
        .collect();
    let mut stage = Stage::new(&jobs);
    stage.beats(TASK, 120);
    stage.other_lines();
    let plans = stage.passes(6);
    assert_eq!(told(&plans), [(Condition::JobOverdue, Occasion::Opened)]);
    let several = plans
        .iter()
        .flat_map(|plan| &plan.notifications)
        .next()
        .unwrap();
    assert_eq!(several.job(), None);
    let Fact::Jobs { names, more } = &several.proof[0] else {
        panic!("{:?}", several.proof);
    };
    assert_eq!((names.len(), *more), (10, 20));
    assert_eq!(several.proof.len(), 1, "what is known of all of them");
}

#[test]
fn failures_in_a_row_are_told_once_there_are_enough() {
    let mut stage = Stage::new(&job("*/5 * * * *", ""));
    stage.beats(TASK, 120);
    stage.other_lines();
    for run in 0..24 {
        match run {
            // Two failures, a run that went well, then three: only these are enough.
            3 | 4 | 10..=12 => fails(&mut stage, minutes(run * 5)),
            _ => runs(&mut stage, minutes(run * 5)),
        }
    }
    let plans = stage.passes(23);
    assert_eq!(
        told(&plans),
        [
            (Condition::JobFailing, Occasion::Opened),
            (Condition::JobFailing, Occasion::Resolved)
        ]
    );
    let opened = plans.iter().position(|plan| !plan.notifications.is_empty());
    // The third is of minute 60, and counts once no older line can come any more.
    assert_eq!(opened, Some(12));
}

/// That the log paused for a while, and went on, ends no trouble of a job.
#[test]
fn failures_are_over_with_the_look_that_finds_none() {
    let mut stage = Stage::new(&job("*/5 * * * *", ""));
    stage.other_lines();
    idle(&mut stage, 0..61);
    idle(&mut stage, 66..120);
    for run in 0..24 {
        match run {
            10..=12 => fails(&mut stage, minutes(run * 5)),
            _ => runs(&mut stage, minutes(run * 5)),
        }
    }
    let plans = stage.passes(23);
    let over = (plans.iter().flat_map(|plan| &plan.notifications))
        .find(|n| n.occasion == Occasion::Resolved)
        .unwrap();
    assert_eq!(over.until, Some(at("2025-12-02T01:10:00Z")));
    assert_eq!(over.handling, Handling::CameBack);
}

/// A run may begin five seconds early, by another clock; earlier it is the one before, too late.
#[test]
fn a_run_just_before_its_time_is_not_late() {
    for (second, expected) in [(54, 0), (55, 1)] {
        let mut stage = Stage::new(&job("0 * * * *", ""));
        stage.other_lines();
        idle(&mut stage, 0..140);
        let ran = minutes(119) + SignedDuration::from_secs(second);
        stage.job_ended("tidy:up", ran, SignedDuration::ZERO);
        stage.lines.sort_by_key(|line| line.at);
        let plans = stage.passes(26);
        assert_eq!(told(&plans)[0], (Condition::JobOverdue, Occasion::Opened));
        assert_eq!(told(&plans)[1], (Condition::JobOverdue, Occasion::Resolved));
        assert_eq!(
            plans.iter().map(missed).sum::<u32>(),
            expected,
            "{second} s"
        );
    }
}

/// Nobody is told of a silence that a second look does not confirm; what did not run in it is told.
#[test]
fn a_silence_that_was_none_explains_no_missing_run() {
    // The look that finds the loop alive again is of minute 40: it judges the first, and not the
    // second, whose lines may be late.
    for minute in [32, 34] {
        let mut stage = Stage::new(&job(&format!("{minute} * * * *"), ""));
        stage.other_lines();
        stage.service = scheduler_watchdog::snapshot::Observed::Unknown(crate::stage::unknown(
            scheduler_watchdog::snapshot::Obstacle::Throttled,
        ));
        idle(&mut stage, 0..29);
        idle(&mut stage, 36..70);
        let plans = stage.passes(12);
        assert_eq!(plans[6].verdict, Verdict::Pending);
        let overdue = (Condition::JobOverdue, Occasion::Opened);
        assert!(told(&plans).contains(&overdue), "minute {minute}");
    }
}

/// Only a silence of the loop takes the runs with it that it cost.
#[test]
fn a_silenced_spike_that_passes_hides_no_missing_run() {
    let mut stage = Stage::new(&job("39 * * * *", ""));
    stage.other_lines();
    idle(&mut stage, 0..70);
    for n in 0..10 {
        let after = minutes(31) + SignedDuration::from_secs(n * 10);
        stage.error(after, "SQLSTATE[42S02]");
    }
    stage.lines.sort_by_key(|line| line.at);
    let spikes = Some(Condition::ErrorSpike);
    (stage.state.silences).push(one_off(stage.now, 120, spikes));
    let plans = stage.passes(12);
    let spiked = |plan: &Plan| plan.conditions.contains(&Condition::ErrorSpike);
    assert!(spiked(&plans[6]) && !spiked(&plans[8]), "{}", plans[8]);
    assert_eq!(told(&plans), [(Condition::JobOverdue, Occasion::Opened)]);
}

/// From Laravel 12.18 on the line says DONE, and a record tells of the failure, before it or
/// after it, and in another look.
#[test]
fn a_failure_that_only_a_record_tells_counts_once() {
    for (name, record_at) in [("before", 1_990), ("after", 2_200)] {
        for every in [1, 5] {
            let mut stage = Stage::new(&job("*/5 * * * *", "failure_tolerance = 4"));
            stage.beats(TASK, 60);
            stage.other_lines();
            for run in 0..3 {
                runs(&mut stage, minutes(run * 5));
                let event = JobEvent::Failed {
                    took: None,
                    exit_code: Some(137),
                };
                let kind = Kind::Job {
                    name: "tidy:up".to_owned(),
                    event,
                    background: false,
                };
                let after = minutes(run * 5) + SignedDuration::from_millis(record_at);
                stage.push(TASK, after, kind, "failed with exit code [137]");
                stage.lines.last_mut().unwrap().heartbeat = false;
            }
            stage.lines.sort_by_key(|line| line.at);
            for _ in 0..20 / every {
                stage.wait(every).look();
            }
            let failures = &stage.state.jobs["tidy:up"].failures;
            let since = failures
                .since
                .unwrap()
                .duration_since(at("2025-12-02T00:00:00Z"));
            assert!(
                since < SignedDuration::from_secs(4),
                "the first: {name} {since}"
            );
            assert_eq!(
                (failures.count, failures.exit_code),
                (3, Some(137)),
                "{name} {every}"
            );
        }
    }
}

/// What the application says of the job's end, two seconds after the present plus `after`.
fn says(stage: &mut Stage, task: &str, after: SignedDuration, event: JobEvent, background: bool) {
    let kind = Kind::Job {
        name: "tidy:up".to_owned(),
        event,
        background,
    };
    stage.push(task, after + SignedDuration::from_secs(2), kind, "tidy:up");
}

fn reports(stage: &mut Stage, task: &str, after: SignedDuration, event: JobEvent) {
    says(stage, task, after, event, false);
    stage.lines.last_mut().unwrap().heartbeat = false;
}

const SUCCESS: JobEvent = JobEvent::Succeeded { took: None };
const FAILURE: JobEvent = JobEvent::Failed {
    took: None,
    exit_code: Some(3),
};
const SPAWNED: JobEvent = JobEvent::Ended {
    took: Some(SignedDuration::from_millis(3)),
};

/// From Laravel 12.4 on DONE says nothing, and of a job in the background it never did; the
/// application's own lines do, at once or long after.
#[test]
fn what_the_application_says_of_a_job_counts() {
    for (background, later) in [
        (false, SignedDuration::ZERO),
        (true, SignedDuration::from_secs(1)),
        (true, SignedDuration::from_secs(90)),
    ] {
        let mut stage = Stage::new(&job("*/5 * * * *", "failure_tolerance = 4"));
        stage.beats(TASK, 80);
        stage.other_lines();
        let fails = |run: i64| (2..6).contains(&run);
        for run in 0..16 {
            let at = minutes(run * 5);
            let event = if fails(run) { FAILURE } else { SUCCESS };
            // In the foreground the callback comes before the task's own line.
            let (first, then) = if background {
                (SPAWNED, event)
            } else {
                (event, SPAWNED)
            };
            for (event, after) in [(first, at), (then, at + later)] {
                match event {
                    SPAWNED => says(&mut stage, TASK, after, event, background),
                    report => reports(&mut stage, TASK, after, report),
                }
            }
        }
        stage.lines.sort_by_key(|line| line.at);
        let plans = stage.passes(15);
        assert_eq!(
            told(&plans),
            [
                (Condition::JobFailing, Occasion::Opened),
                (Condition::JobFailing, Occasion::Resolved)
            ],
            "{background} {later}"
        );
        let exit_code = (plans.iter().flat_map(|plan| &plan.notifications))
            .flat_map(|n| &n.proof)
            .find_map(|fact| match fact {
                Fact::Failures { exit_code, .. } => *exit_code,
                _ => None,
            });
        assert_eq!(exit_code, Some(3));
    }
}

/// The newest run may still be told anew, and does not count yet: it is not named as the last that
/// does.
#[test]
fn the_last_failure_is_the_last_that_counts() {
    let mut stage = Stage::new(&job("*/5 * * * *", "failure_tolerance = 3"));
    stage.beats(TASK, 80);
    stage.other_lines();
    for run in 0..16 {
        let event = if (2..6).contains(&run) {
            FAILURE
        } else {
            SUCCESS
        };
        says(&mut stage, TASK, minutes(run * 5), event, false);
    }
    stage.lines.sort_by_key(|line| line.at);
    let start = stage.lines[0].at;
    let plans = stage.passes(15);
    let counted: Vec<(u32, SignedDuration)> = (plans.iter())
        .flat_map(|plan| &plan.notifications)
        .flat_map(|n| &n.proof)
        .filter_map(|fact| match fact {
            Fact::Failures { count, at, .. } => Some((*count, at.duration_since(start))),
            _ => None,
        })
        .collect();
    let seconds = SignedDuration::from_secs(2);
    assert_eq!(
        counted,
        [(3, minutes(20) + seconds), (4, minutes(25) + seconds)]
    );
}

/// Where the application tells of failures only, the end of them is a run without a report.
#[test]
fn failures_in_the_background_end_without_a_word() {
    let mut stage = Stage::new(&job("*/5 * * * *", "failure_tolerance = 3"));
    stage.beats(TASK, 80);
    stage.other_lines();
    for run in 0..16 {
        says(&mut stage, TASK, minutes(run * 5), SPAWNED, true);
        if (2..6).contains(&run) {
            let after = minutes(run * 5) + SignedDuration::from_secs(90);
            reports(&mut stage, TASK, after, FAILURE);
        }
    }
    stage.lines.sort_by_key(|line| line.at);
    assert_eq!(
        told(&stage.passes(15)),
        [
            (Condition::JobFailing, Occasion::Opened),
            (Condition::JobFailing, Occasion::Resolved)
        ]
    );
}

#[test]
fn a_success_beside_each_run_hides_no_duplicate() {
    let mut stage = Stage::new(&job("*/5 * * * *", ""));
    stage.beats(TASK, 120);
    stage.beats(SECOND_TASK, 120);
    stage.other_lines();
    for run in 0..24 {
        let at = minutes(run * 5);
        for (task, after) in [
            (TASK, at),
            (SECOND_TASK, at + SignedDuration::from_secs(20)),
        ] {
            if task == TASK || (6..9).contains(&run) {
                reports(&mut stage, task, after, SUCCESS);
                says(&mut stage, task, after, SPAWNED, false);
            }
        }
    }
    assert_eq!(
        told(&stage.passes(20)),
        [
            (Condition::DuplicateRuns, Occasion::Opened),
            (Condition::DuplicateRuns, Occasion::Resolved),
        ]
    );
}

/// However its line calls the end, and whatever the application adds.
#[test]
fn a_run_that_takes_too_long_is_told() {
    let took = Some(SignedDuration::from_secs(90));
    let exit_code = Some(1);
    for event in [
        JobEvent::Ended { took },
        JobEvent::Succeeded { took },
        JobEvent::Failed { took, exit_code },
    ] {
        for report in [None, Some(SUCCESS), Some(FAILURE)] {
            let mut stage = Stage::new(&job("*/5 * * * *", "max_runtime = \"1m\""));
            stage.beats(TASK, 60);
            stage.other_lines();
            says(&mut stage, TASK, minutes(10), event.clone(), false);
            if let Some(report) = report.clone() {
                reports(&mut stage, TASK, minutes(10), report);
            }
            runs(&mut stage, minutes(15));
            runs(&mut stage, minutes(20));
            assert_eq!(
                told(&stage.passes(6)),
                [
                    (Condition::JobOverrun, Occasion::Opened),
                    (Condition::JobOverrun, Occasion::Resolved)
                ],
                "{event:?} {report:?}"
            );
        }
    }
}

/// Up to Laravel 9.20 every line tells of a start: the next one is no end of the run before.
#[test]
fn a_start_ends_no_run() {
    let mut stage = Stage::new(&job("*/5 * * * *", "max_runtime = \"1m\""));
    stage.beats(TASK, 60);
    stage.other_lines();
    for run in 0..12 {
        says(&mut stage, TASK, minutes(run * 5), JobEvent::Started, false);
    }
    stage.lines.sort_by_key(|line| line.at);
    assert_eq!(told(&stage.passes(12)), []);
}

/// The report of a failure comes up to two seconds before the run that it is about, by the times of
/// their lines; an earlier one is about a run whose own line was lost, and this one went well.
#[test]
fn a_report_of_a_failure_is_about_the_run_beside_it() {
    for (second, failures) in [(-3, 0), (-2, 1), (0, 1), (9, 1), (10, 1), (12, 1)] {
        let mut stage = Stage::new(&job("*/5 * * * *", "failure_tolerance = 4"));
        stage.beats(TASK, 30);
        let start = minutes(5) + SignedDuration::from_secs(20);
        let took = SignedDuration::from_secs(10);
        reports(
            &mut stage,
            TASK,
            start + SignedDuration::from_secs(second - 2),
            FAILURE,
        );
        stage.job_ended("tidy:up", start + took, took);
        stage.lines.sort_by_key(|line| line.at);
        stage.passes(3);
        let count = stage.state.jobs["tidy:up"].failures.count;
        assert_eq!(count, failures, "{second} s");
    }
}

/// One fails after a while, and the next at once.
#[test]
fn failures_in_the_background_count_however_long_they_take() {
    let mut stage = Stage::new(&job("*/5 * * * *", "failure_tolerance = 4"));
    stage.beats(TASK, 20);
    for (minute, seconds) in [(5, 90), (10, 1)] {
        says(&mut stage, TASK, minutes(minute), SPAWNED, true);
        let after = minutes(minute) + SignedDuration::from_secs(seconds);
        reports(&mut stage, TASK, after, FAILURE);
    }
    stage.lines.sort_by_key(|line| line.at);
    stage.passes(3);
    assert_eq!(stage.state.jobs["tidy:up"].failures.count, 2);
}

/// Up to Laravel 9.20 the line tells of the start, and nothing of the end.
#[test]
fn a_run_that_began_and_does_not_end_is_told_before_the_loop_counts_as_silent() {
    let mut stage = Stage::new(&job("*/5 * * * *", "max_runtime = \"10m\""));
    stage.beats(TASK, 30);
    stage.other_lines();
    for run in 0..=6 {
        let kind = Kind::Job {
            name: "tidy:up".to_owned(),
            event: JobEvent::Started,
            background: false,
        };
        let after = minutes(run * 5) + SignedDuration::from_millis(1_400);
        stage.push(TASK, after, kind, "tidy:up");
    }
    stage.lines.sort_by_key(|line| line.at);
    let plans = stage.passes(9);
    // It began at 00:30, may take ten minutes, and its end may come two minutes late.
    assert_eq!(told(&plans[..8]), []);
    assert_eq!(
        told(&plans[..9]),
        [(Condition::JobOverrun, Occasion::Opened)]
    );
    assert_eq!(plans[8].reason, Reason::Found);
}

/// A run of the scheduler that aborted in the same second or later shows that the loop does not
/// wait; one that aborted before shows nothing.
#[test]
fn a_run_that_began_before_an_abort_does_not_go_on() {
    for (abort, goes_on) in [(-1, true), (0, false), (1, false)] {
        let mut stage = Stage::new(&job("0 * * * *", "max_runtime = \"10m\""));
        stage.scheduler.stale_after = scheduler_watchdog::config::StaleAfter::Fixed(minutes(40));
        stage.other_lines();
        stage.beats(TASK, 60);
        let kind = Kind::Job {
            name: "tidy:up".to_owned(),
            event: JobEvent::Started,
            background: false,
        };
        let start = minutes(60) + SignedDuration::from_secs(2);
        stage.push(TASK, start, kind, "tidy:up");
        stage.abort(start + SignedDuration::from_secs(abort), "boom");
        stage.lines.sort_by_key(|line| line.at);
        let overrun = |plan: &Plan| plan.conditions.contains(&Condition::JobOverrun);
        assert_eq!(stage.passes(16).iter().any(overrun), goes_on, "{abort} s");
    }
}

/// A run that was over within its second is over, although its line is the last one.
#[test]
fn a_run_that_has_ended_does_not_go_on() {
    let mut stage = Stage::new(&job("*/5 * * * *", "max_runtime = \"10m\""));
    stage.beats(TASK, 30);
    stage.other_lines();
    for run in 0..=6 {
        stage.job_ended(
            "tidy:up",
            minutes(run * 5) + SignedDuration::from_secs(2),
            SignedDuration::ZERO,
        );
    }
    stage.lines.sort_by_key(|line| line.at);
    // The loop itself may be silent for longer.
    stage.scheduler.stale_after = scheduler_watchdog::config::StaleAfter::Fixed(minutes(40));
    assert_eq!(told(&stage.passes(12)), []);
}

/// A scheduler that starts jobs side by side, and tells of their starts and ends in lines of
/// their own: `tidy:up` once an hour, for so many minutes each time, and another each minute.
fn side_by_side(stage: &mut Stage, hours: &[Option<i64>]) {
    let line = |name: &str, event| Kind::Job {
        name: name.to_owned(),
        event,
        background: true,
    };
    let end = || JobEvent::Ended { took: None };
    let mut hangs = false;
    for (hour, took) in (0..).zip(hours) {
        for minute in (0..60).map(|minute| hour * 60 + minute) {
            let after = minutes(minute) + SignedDuration::from_millis(900);
            stage.push(TASK, after, line("other", JobEvent::Started), "other");
            stage.push(TASK, after, line("other", end()), "other");
        }
        let start = minutes(hour * 60) + SignedDuration::from_secs(1);
        let event = match (hangs, took) {
            (true, None) => JobEvent::Skipped,
            _ => JobEvent::Started,
        };
        stage.push(TASK, start, line("tidy:up", event), "tidy:up");
        match took {
            Some(took) => stage.push(TASK, start + minutes(*took), line("tidy:up", end()), "end"),
            // It hangs, and the scheduler says so when the next one would be due.
            None => hangs = true,
        }
    }
    stage.lines.sort_by_key(|line| line.at);
    stage.other_lines();
}

#[test]
fn how_long_a_run_took_is_told_by_its_two_lines() {
    let mut stage = Stage::new(&job("0 * * * *", "max_runtime = \"30m\""));
    // Two in a row are one incident, although each of them began well.
    let hours = [Some(20), Some(50), Some(50), Some(20), Some(20)];
    side_by_side(&mut stage, &hours);
    let plans = stage.passes(58);
    assert_eq!(
        told(&plans),
        [
            (Condition::JobOverrun, Occasion::Opened),
            (Condition::JobOverrun, Occasion::Reminder),
            (Condition::JobOverrun, Occasion::Resolved)
        ]
    );
    let opened = plans.iter().flat_map(|plan| &plan.notifications).next();
    let opened = opened.unwrap();
    assert_eq!(opened.since, at("2025-12-02T01:00:01Z"));
    assert!(opened.at <= opened.since + minutes(40), "while it runs");
    // Its ends are no starts.
    let starts = ["02", "03", "04"].map(|hour| at(&format!("2025-12-02T{hour}:00:01Z")));
    assert_eq!(stage.state.jobs["tidy:up"].starts, starts);
}

#[test]
fn a_run_that_took_too_long_between_two_looks_is_told_with_its_start() {
    let mut stage = Stage::new(&job("0 * * * *", "max_runtime = \"1m\""));
    side_by_side(&mut stage, &[Some(2)]);
    let plans = stage.passes(3);
    let opened = plans.iter().flat_map(|plan| &plan.notifications).next();
    assert_eq!(opened.unwrap().since, at("2025-12-02T00:00:01Z"));
}

/// A run ends with its task, though another one lives.
#[test]
fn a_run_whose_task_is_gone_does_not_go_on() {
    let mut stage = Stage::new(&job("*/5 * * * *", "max_runtime = \"10m\""));
    stage.other_lines();
    stage.beats(TASK, 6);
    stage.beats(SECOND_TASK, 60);
    let line = |event| Kind::Job {
        name: "tidy:up".to_owned(),
        event,
        background: true,
    };
    for (second, event) in [
        (1, JobEvent::Started),
        (30, JobEvent::Ended { took: None }),
        (301, JobEvent::Started),
    ] {
        let after = SignedDuration::from_secs(second);
        stage.push(TASK, after, line(event), "tidy:up");
    }
    stage.lines.sort_by_key(|line| line.at);
    let overrun = |plan: &Plan| plan.conditions.contains(&Condition::JobOverrun);
    assert!(!stage.passes(10).iter().any(overrun));
}

/// Both replicas may run it, and the other one's ends.
#[test]
fn an_end_on_another_stream_ends_no_run() {
    let mut stage = Stage::new(&job(
        "0 * * * *",
        "max_runtime = \"30m\"\non_one_server = false",
    ));
    stage.beats(TASK, 60);
    stage.beats(SECOND_TASK, 60);
    stage.other_lines();
    let second = SignedDuration::from_secs(1);
    let line = |event| Kind::Job {
        name: "tidy:up".to_owned(),
        event,
        background: true,
    };
    stage.push(TASK, second, line(JobEvent::Started), "tidy:up");
    stage.push(SECOND_TASK, second * 2, line(JobEvent::Started), "tidy:up");
    let ended = line(JobEvent::Ended { took: None });
    stage.push(TASK, minutes(10), ended, "end");
    stage.lines.sort_by_key(|line| line.at);
    assert_eq!(
        told(&stage.passes(8)),
        [(Condition::JobOverrun, Occasion::Opened)]
    );
}

#[test]
fn a_run_that_hangs_beside_others_is_overdue() {
    let mut stage = Stage::new(&job("0 * * * *", ""));
    side_by_side(
        &mut stage,
        &[Some(20), None, None, None, Some(20), Some(20)],
    );
    let plans = stage.passes(70);
    let said = told(&plans);
    assert_eq!(said[0], (Condition::JobOverdue, Occasion::Opened));
    assert_eq!(
        said.last(),
        Some(&(Condition::JobOverdue, Occasion::Resolved))
    );
    assert_eq!(plans.iter().map(missed).sum::<u32>(), 2);
}

fn runs_on(stage: &mut Stage, task: &str, after: SignedDuration) {
    let kind = Kind::Job {
        name: "tidy:up".to_owned(),
        event: JobEvent::Ended {
            took: Some(SignedDuration::from_millis(100)),
        },
        background: false,
    };
    stage.push(task, after, kind, "tidy:up");
}

/// A daily job that ran twice once may have met a deployment; nobody is reminded of it all day. One that
/// does so each day is.
#[test]
fn a_single_second_run_is_told_once() {
    for (days, reminders) in [(1, 0), (3, 1)] {
        let mut stage = Stage::new(&job("0 1 * * *", ""));
        for task in [TASK, SECOND_TASK] {
            stage.beats(task, 80 * 60);
            (0..days).for_each(|day| runs_on(&mut stage, task, minutes(day * 24 * 60 + 60)));
        }
        stage.other_lines();
        stage.lines.sort_by_key(|line| line.at);
        let plans = stage.passes(12 * 23 + (days as usize - 1) * 12 * 24);
        let told = told(&plans);
        let count = |occasion| {
            let wanted = (Condition::DuplicateRuns, occasion);
            told.iter().filter(|told| **told == wanted).count()
        };
        assert_eq!(count(Occasion::Opened), 1, "{told:?}");
        assert_eq!(count(Occasion::Reminder).min(1), reminders, "{told:?}");
    }
}

#[test]
fn the_same_due_time_on_two_streams_is_told() {
    for (more, expected) in [
        (
            "",
            &[
                (Condition::DuplicateRuns, Occasion::Opened),
                (Condition::DuplicateRuns, Occasion::Resolved),
            ][..],
        ),
        ("on_one_server = false", &[]),
    ] {
        let mut stage = Stage::new(&job("*/5 * * * *", more));
        stage.beats(TASK, 120);
        stage.beats(SECOND_TASK, 120);
        stage.other_lines();
        for run in 0..24 {
            let at = minutes(run * 5) + SignedDuration::from_secs(2);
            runs_on(&mut stage, TASK, at);
            if (6..9).contains(&run) {
                runs_on(&mut stage, SECOND_TASK, at + SignedDuration::from_secs(20));
            }
        }
        assert_eq!(told(&stage.passes(20)), expected);
    }
}

/// A run that takes longer than its period: the next one begins elsewhere before this one ends. Of
/// one run the start was lost, so that its end belongs to no run that is known.
#[test]
fn an_end_that_comes_after_the_next_start_is_no_second_run() {
    for lost in [None, Some(4)] {
        let mut stage = Stage::new(&job("*/5 * * * *", "grace = \"15m\""));
        stage.beats(TASK, 120);
        stage.beats(SECOND_TASK, 120);
        for run in 0..20 {
            let task = [TASK, SECOND_TASK][usize::try_from(run % 2).unwrap()];
            let start = minutes(run * 5) + SignedDuration::from_secs(2);
            for (event, after) in [
                (JobEvent::Started, start),
                (JobEvent::Ended { took: None }, start + minutes(6)),
            ] {
                if lost != Some(run) || event != JobEvent::Started {
                    let kind = Kind::Job {
                        name: "tidy:up".to_owned(),
                        event,
                        background: true,
                    };
                    stage.push(task, after, kind, "tidy:up");
                }
            }
        }
        stage.lines.sort_by_key(|line| line.at);
        assert_eq!(told(&stage.passes(20)), []);
    }
}

/// Two replicas take turns, and the clock of one is a little ahead.
#[test]
fn a_clock_that_is_ahead_makes_no_duplicate() {
    let mut stage = Stage::new(&job("*/5 * * * *", ""));
    stage.beats(TASK, 60);
    stage.beats(SECOND_TASK, 60);
    for run in 0..12 {
        let (task, second) = [(TASK, 2), (SECOND_TASK, -2)][usize::try_from(run % 2).unwrap()];
        let at = minutes(run * 5) + SignedDuration::from_secs(second);
        runs_on(&mut stage, task, at);
    }
    assert_eq!(told(&stage.passes(12)), []);
}

#[test]
fn a_lock_that_holds_is_no_duplicate_and_one_overlap_of_two_tasks_is_none_either() {
    let mut stage = Stage::new(&job("*/5 * * * *", ""));
    stage.beats(TASK, 120);
    stage.beats(SECOND_TASK, 120);
    stage.other_lines();
    for run in 0..24 {
        let at = minutes(run * 5) + SignedDuration::from_secs(2);
        runs_on(&mut stage, TASK, at);
        let kind = Kind::Job {
            name: "tidy:up".to_owned(),
            event: JobEvent::Skipped,
            background: false,
        };
        stage.push(
            SECOND_TASK,
            at + SignedDuration::from_secs(1),
            kind,
            "skipped",
        );
        if run == 12 {
            runs_on(&mut stage, SECOND_TASK, at + SignedDuration::from_secs(30));
        }
    }
    assert_eq!(told(&stage.passes(20)), []);
}

/// Three replicas ran it for one due time, at the same second.
#[test]
fn three_runs_of_one_due_time_count_once() {
    let mut stage = Stage::new(&job("*/5 * * * *", ""));
    stage.other_lines();
    for task in [TASK, SECOND_TASK, "third"] {
        stage.beats(task, 120);
    }
    for run in 0..24 {
        let at = minutes(run * 5) + SignedDuration::from_secs(2);
        runs_on(&mut stage, TASK, at);
        if run == 12 {
            runs_on(&mut stage, SECOND_TASK, at);
            runs_on(&mut stage, "third", at);
        }
    }
    stage.lines.sort_by_key(|line| line.at);
    assert_eq!(told(&stage.passes(20)), []);
}

/// A silent scheduler explains its jobs; when it is back, its all-clear names what they missed.
#[test]
fn jobs_are_inside_the_incident_of_a_silent_scheduler() {
    let mut stage = Stage::new(&job("*/5 * * * *", ""));
    stage.other_lines();
    for minute in (0..180).filter(|minute| !(60..120).contains(minute)) {
        if minute % 5 == 0 {
            runs(&mut stage, minutes(minute));
        } else {
            let beat = minutes(minute) + SignedDuration::from_secs(2);
            stage.push(TASK, beat, Kind::Heartbeat(Pulse::Idle), "idle");
        }
    }
    let plans = stage.passes(35);
    assert_eq!(
        told(&plans),
        [
            (Condition::SchedulerSilent, Occasion::Opened),
            (Condition::SchedulerSilent, Occasion::Resolved)
        ]
    );
    assert_eq!(plans.iter().map(missed).sum::<u32>(), 12);
}

/// Another replica had begun it in time, and its line comes just before the all-clear.
#[test]
fn a_run_that_ends_just_before_the_all_clear_is_not_lost() {
    let mut stage = dies(&job("20 * * * *", ""), 60);
    runs(&mut stage, minutes(20));
    let end = minutes(98) + SignedDuration::from_secs(30);
    let kind = Kind::Job {
        name: "tidy:up".to_owned(),
        event: JobEvent::Ended {
            took: Some(end - minutes(80)),
        },
        background: false,
    };
    stage.push(SECOND_TASK, end, kind, "tidy:up");
    stage.lines.sort_by_key(|line| line.at);
    let plans = stage.passes(20);
    assert_eq!(
        told(&plans).last(),
        Some(&(Condition::SchedulerSilent, Occasion::Resolved))
    );
    assert_eq!(plans.iter().map(missed).sum::<u32>(), 0);
}

/// In the very minute in which the loop comes back it can still run what is due then.
#[test]
fn the_minute_of_the_first_heartbeat_is_not_lost_in_the_outage() {
    let mut stage = dies(&job("30 * * * *", ""), 60);
    let plans = stage.passes(24);
    assert_eq!(
        told(&plans),
        [
            (Condition::SchedulerSilent, Occasion::Opened),
            (Condition::SchedulerSilent, Occasion::Resolved),
            (Condition::JobOverdue, Occasion::Opened),
        ]
    );
    assert_eq!(plans.iter().map(missed).sum::<u32>(), 1);
    let missing = plans
        .iter()
        .flat_map(|plan| &plan.notifications)
        .last()
        .unwrap();
    assert_eq!(missing.since, at("2025-12-02T01:30:00Z"));
}

#[test]
fn a_job_whose_time_has_ended_is_not_overdue_any_more() {
    let window = "active = [{ from = \"2025-12-01\", until = \"2025-12-02\" }]";
    let mut stage = Stage::new(&job("*/5 * * * *", window));
    stage.beats(TASK, 26 * 60);
    stage.other_lines();
    let plans = stage.passes(12 * 26 - 1);
    let said = told(&plans);
    assert_eq!(
        said.first(),
        Some(&(Condition::JobOverdue, Occasion::Opened))
    );
    assert_eq!(
        said.last(),
        Some(&(Condition::JobOverdue, Occasion::Resolved))
    );
    assert_eq!(stage.pass().verdict, Verdict::Healthy);
}

/// Once its last day is over nobody waits for another run, but it is told for half an hour after its
/// grace and the log's delay. The second good look ends it.
#[test]
fn the_last_run_of_all_is_told_when_it_is_missing() {
    let window = "active = [{ from = \"2025-12-01\", until = \"2025-12-02\" }]";
    for (cron, over) in [
        ("0 12 * * *", "2025-12-03T00:05:00Z"),
        ("0 23 * * *", "2025-12-03T00:40:00Z"),
    ] {
        let mut stage = Stage::new(&job(cron, window));
        stage.beats(TASK, 30 * 60);
        stage.other_lines();
        let plans = stage.passes(12 * 30 - 1);
        let said = told(&plans);
        assert_eq!(said[0], (Condition::JobOverdue, Occasion::Opened));
        assert_eq!(plans.iter().map(missed).sum::<u32>(), 1);
        let all_clear = plans.iter().flat_map(|plan| &plan.notifications).last();
        let all_clear = all_clear.unwrap();
        assert_eq!(all_clear.occasion, Occasion::Resolved);
        assert_eq!(all_clear.handling, Handling::NotDueAnyMore);
        assert_eq!(all_clear.at, at(over), "{cron}");
    }
}

/// Laravel compares seconds: at 00:30:02 a `between('0:00', '0:30')` is over.
#[test]
fn the_minute_in_which_a_window_ends_is_not_expected() {
    let window = "active = [{ between = \"00:00-00:30\" }]";
    let mut stage = Stage::new(&job("*/5 * * * *", window));
    stage.beats(TASK, 120);
    for minute in [5, 10, 15, 20, 25] {
        runs(&mut stage, minutes(minute));
    }
    assert_eq!(told(&stage.passes(20)), []);
}

fn one_off(from: Timestamp, minutes: i64, condition: Option<Condition>) -> OneOff {
    OneOff {
        id: "1202-0000".to_owned(),
        from,
        until: from + SignedDuration::from_mins(minutes),
        reason: "moving house".to_owned(),
        author: "ops".to_owned(),
        condition,
    }
}

/// A loop that dies after half an hour and comes back after `minutes`.
fn dies(more: &str, dead_for: i64) -> Stage {
    let mut stage = Stage::new(more);
    stage.other_lines();
    for minute in (0..300).filter(|minute| !(30..30 + dead_for).contains(minute)) {
        let beat = minutes(minute) + SignedDuration::from_secs(2);
        stage.push(TASK, beat, Kind::Heartbeat(Pulse::Idle), "idle");
    }
    stage
}

#[test]
fn a_silence_withholds_messages_and_restarts_and_says_so() {
    let mut stage = dies("after = \"0s\"", 90);
    stage.passes(6);
    stage.state.silences.push(one_off(stage.now, 60, None));
    let plans = stage.passes(10);
    assert_eq!(told(&plans), []);
    let plan = plans.last().unwrap();
    assert_eq!(plan.verdict, Verdict::Suspended, "{plan}");
    assert!(matches!(plan.reason, Reason::Silenced(_)), "{plan}");
    assert_eq!(plan.conditions, [Condition::SchedulerSilent]);
    assert!(matches!(plan.withheld[0].why, Withholding::Silenced(_)));
    assert!(plan.to_string().contains("moving house (ops)"), "{plan}");
    // It ends while the trouble goes on: told then, and only then restarted.
    let mut after = stage.passes(2);
    assert!(stage.state.silences.is_empty(), "what is over is forgotten");
    after.extend(stage.passes(1));
    assert_eq!(
        told(&after),
        [(Condition::SchedulerSilent, Occasion::Opened)]
    );
}

#[test]
fn what_began_and_ended_in_a_silence_is_never_told() {
    let mut stage = dies("", 60);
    stage.state.silences.push(one_off(stage.now, 180, None));
    assert_eq!(told(&stage.passes(50)), []);
}

#[test]
fn what_was_told_before_a_silence_is_resolved_after_it() {
    let mut stage = dies("", 60);
    stage.passes(7);
    assert!(stage.state.incidents[0].is_open());
    stage.state.silences.push(one_off(stage.now, 120, None));
    assert_eq!(told(&stage.passes(23)), [], "no reminder, no all-clear");
    assert_eq!(
        told(&stage.passes(2)),
        [(Condition::SchedulerSilent, Occasion::Resolved)]
    );
}

#[test]
fn no_restart_is_made_in_a_silence() {
    let mut stage = dies("", 90);
    stage.passes(7);
    stage.state.silences.push(one_off(stage.now, 60, None));
    for plan in stage.passes(8) {
        let remediation = plan.remediation.unwrap();
        assert!(remediation.blocked_by.contains(&Gate::Silenced));
    }
}

/// It was missed just before the outage; the look that ends the outage leaves it to the next.
#[test]
fn a_run_that_was_missed_before_an_outage_is_told_after_its_all_clear() {
    let mut stage = dies(&job("25 * * * *", ""), 60);
    let told: Vec<_> = (stage.passes(24).iter())
        .flat_map(|plan| &plan.notifications)
        .filter(|n| matches!(n.occasion, Occasion::Opened | Occasion::Resolved))
        .map(|n| {
            (
                n.at.duration_since(at("2025-12-02T00:00:00Z")).as_mins(),
                n.condition,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (35, Condition::SchedulerSilent),
            (100, Condition::SchedulerSilent),
            (105, Condition::JobOverdue),
        ]
    );
}

/// Nobody hears of the outage; what goes wrong after it is told.
#[test]
fn what_is_due_after_a_silenced_outage_is_no_part_of_it() {
    let mut stage = dies(&job("31 * * * *", ""), 60);
    stage.state.silences.push(one_off(stage.now, 94, None));
    let plans = stage.passes(24);
    assert_eq!(told(&plans), [(Condition::JobOverdue, Occasion::Opened)]);
    let overdue = plans.iter().flat_map(|plan| &plan.notifications).next();
    assert_eq!(overdue.unwrap().since, at("2025-12-02T01:31:00Z"));
}

#[test]
fn a_silence_of_one_condition_leaves_the_others_alone() {
    let mut stage = dies("", 60);
    stage
        .state
        .silences
        .push(one_off(stage.now, 600, Some(Condition::JobOverdue)));
    let plans = stage.passes(30);
    assert_eq!(told(&plans).len(), 2, "opened and resolved");
}

/// The loop is back, and only a silence keeps its all-clear: the jobs are judged again.
#[test]
fn an_all_clear_that_waits_for_a_silence_hides_no_job() {
    let mut stage = dies(&job("0 * * * *", ""), 60);
    let silent = Some(Condition::SchedulerSilent);
    stage.passes(7);
    (stage.state.silences).push(one_off(stage.now, 200, silent));
    let plans = stage.passes(46);
    assert_eq!(
        told(&plans),
        [
            (Condition::JobOverdue, Occasion::Opened),
            (Condition::JobOverdue, Occasion::Reminder),
            (Condition::SchedulerSilent, Occasion::Resolved),
        ]
    );
    // In the outage, from 00:30 to 01:30, the job missed the run of 01:00 only.
    assert_eq!(plans.iter().map(missed).sum::<u32>(), 1);
}

#[test]
fn a_maintenance_window_comes_again() {
    let silence = "[[scheduler.silence]]\ncron = \"20 0 * * *\"\nduration = \"90m\"\n";
    let mut stage = dies(silence, 60);
    assert_eq!(told(&stage.passes(50)), []);
}

/// As many jobs as there may be, with long names and a missed run each, fit into the state, and none is forgotten.
#[test]
fn every_configured_job_is_remembered() {
    let jobs: String = (0..150)
        .map(|n| {
            let name = format!("reports:generate-the-{n:03} --for=everyone --since=yesterday");
            format!(
                "[[scheduler.job]]\nname = \"{name}\"\ncron = \"{} * * * *\"\n",
                n % 60
            )
        })
        .collect();
    let mut stage = Stage::new(&jobs);
    stage.other_lines();
    stage.beats(TASK, 300);
    for replica in 0..8 {
        stage.beats(&format!("{SECOND_TASK}{replica:024}"), 300);
    }
    let names: Vec<String> = stage
        .scheduler
        .jobs
        .iter()
        .map(|job| job.name.clone())
        .collect();
    for (index, name) in names.iter().enumerate() {
        for hour in 0..4 {
            let minute = i64::try_from(index).unwrap() % 60 + hour * 60;
            let after = minutes(minute) + SignedDuration::from_millis(2_345);
            stage.job_ended(name, after, SignedDuration::from_millis(1_234));
        }
    }
    stage.passes(55);
    let text = stage.state.to_json();
    assert!(text.len() <= MOST_BYTES, "{}", text.len());
    let read = State::from_json(&text).unwrap();
    for name in names {
        assert_eq!(read.jobs.get(&name), stage.state.jobs.get(&name), "{name}");
    }
}

/// The worst hour: each job fails on several replicas for each due time. What is expected of
/// every one is still remembered.
#[test]
fn no_configured_job_is_forgotten_however_much_there_is_to_say() {
    let name = |n: usize| {
        format!(
            "App\\Jobs\\Tenant{n:03}\\SynchroniseCustomerInvoicesWithAccounting --tenant={n:03}"
        )
    };
    let jobs: String = (0..150)
        .map(|n| {
            format!(
                "[[scheduler.job]]\nname = '{}'\ncron = \"*/5 * * * *\"\n",
                name(n)
            )
        })
        .collect();
    let mut stage = Stage::new(&jobs);
    stage.other_lines();
    for replica in 0..3 {
        let task = format!("{SECOND_TASK}{replica:024}");
        stage.beats(&task, 60);
        for (run, n) in (0..8).flat_map(|run| (0..150).map(move |n| (run, n))) {
            let event = JobEvent::Failed {
                took: Some(SignedDuration::from_millis(120)),
                exit_code: Some(255),
            };
            let kind = Kind::Job {
                name: name(n),
                event,
                background: false,
            };
            let at = minutes(run * 5) + SignedDuration::from_secs(2 + replica);
            stage.push(&task, at, kind, "failed");
        }
    }
    // For the last quarter of an hour all jobs are missing, too.
    for _ in 0..11 {
        stage.wait(5).look();
        stage.state = State::from_json(&stage.state.to_json()).unwrap();
    }
    let text = stage.state.to_json();
    assert!(text.len() <= MOST_BYTES, "{}", text.len());
    for n in 0..150 {
        let history = stage.state.jobs.get(&name(n));
        let history = history.unwrap_or_else(|| panic!("{} is forgotten", name(n)));
        assert_eq!(
            (history.failures.count >= 8, history.missed.count),
            (true, 2)
        );
    }
}

/// A run of the loop: jobs one after the other from a minute on, each with its runtime in
/// seconds; the loop waits for all of them. Returns the minute in which it goes on.
fn turn(stage: &mut Stage, minute: i64, jobs: &[(&str, i64)]) -> i64 {
    let mut end = minutes(minute) + SignedDuration::from_secs(2);
    for (name, took) in jobs {
        let took = SignedDuration::from_secs(*took);
        end += took;
        stage.job_ended(name, end, took);
    }
    end.as_mins() + 1
}

fn idle(stage: &mut Stage, minutes_of: Range<i64>) {
    for minute in minutes_of {
        let beat = minutes(minute) + SignedDuration::from_secs(2);
        stage.push(TASK, beat, Kind::Heartbeat(Pulse::Idle), "idle");
    }
}

const QUEUE: &str = "
[[scheduler.job]]
name = \"first\"
cron = \"0 1 * * *\"
max_runtime = \"70m\"
[[scheduler.job]]
name = \"second\"
cron = \"0 1 * * *\"
max_runtime = \"25m\"
[[scheduler.job]]
name = \"third\"
cron = \"0 1 * * *\"
max_runtime = \"25m\"
[[scheduler.job]]
name = \"fourth\"
cron = \"0 1 * * *\"
[[scheduler.job]]
name = \"often\"
cron = \"*/5 * * * *\"
";

#[test]
fn what_waits_behind_another_job_is_neither_overdue_nor_silent() {
    let mut stage = Stage::new(QUEUE);
    stage.other_lines();
    for minute in 0..60 {
        match minute % 5 {
            0 => drop(turn(&mut stage, minute, &[("often", 0)])),
            _ => idle(&mut stage, minute..minute + 1),
        }
    }
    let night = [
        ("first", 65 * 60),
        ("second", 20 * 60),
        ("third", 20 * 60),
        ("fourth", 1),
        ("often", 0),
    ];
    let back = turn(&mut stage, 60, &night);
    for minute in back..back + 60 {
        match minute % 5 {
            0 => drop(turn(&mut stage, minute, &[("often", 0)])),
            _ => idle(&mut stage, minute..minute + 1),
        }
    }
    assert_eq!(told(&stage.passes(39)), []);
}

/// A job that ran at the beginning of a long turn is due again when that turn ends, and is what the
/// loop waits for next.
#[test]
fn what_is_due_again_when_a_long_turn_ends_excuses_a_silence() {
    let mut stage = Stage::new(
        "[[scheduler.job]]\nname = \"often\"\ncron = \"*/10 * * * *\"\nmax_runtime = \"30m\"\n\
         [[scheduler.job]]\nname = \"first\"\ncron = \"0 1 * * *\"\nmax_runtime = \"70m\"\n",
    );
    stage.other_lines();
    for minute in 0..60 {
        match minute % 10 {
            0 => drop(turn(&mut stage, minute, &[("often", 0)])),
            _ => idle(&mut stage, minute..minute + 1),
        }
    }
    // The last line is of 01:40.
    turn(&mut stage, 60, &[("often", 0), ("first", 40 * 60)]);
    assert_eq!(told(&stage.passes(26)), []);
    let opened = (Condition::SchedulerSilent, Occasion::Opened);
    assert_eq!(told(&stage.passes(2)), [opened]);
}

/// The same, told by lines of starts only, as up to Laravel 9.20.
#[test]
fn what_waits_behind_a_job_that_told_of_its_start_is_not_overdue() {
    let mut stage = Stage::new(QUEUE);
    stage.other_lines();
    let mut starts = |name: &str, minute: i64| {
        let kind = Kind::Job {
            name: name.to_owned(),
            event: JobEvent::Started,
            background: false,
        };
        let after = minutes(minute) + SignedDuration::from_secs(2);
        stage.push(TASK, after, kind, name);
    };
    for (name, minute) in [
        ("first", 60),
        ("second", 125),
        ("third", 145),
        ("fourth", 165),
    ] {
        starts(name, minute);
    }
    for minute in (0..60).chain(165..240).step_by(5) {
        starts("often", minute);
    }
    idle(&mut stage, 0..60);
    idle(&mut stage, 166..240);
    stage.lines.sort_by_key(|line| line.at);
    assert_eq!(told(&stage.passes(47)), []);
}

#[test]
fn a_replica_that_is_busy_with_a_long_job_is_not_silent_and_not_stopped() {
    let jobs = job("0 1 * * *", "max_runtime = \"3h\"\n") + "\n";
    let mut stage = Stage::new(&jobs);
    let started = stage.now - minutes(60);
    stage.service = scheduler_watchdog::snapshot::Observed::Known(crate::stage::facts(
        &[TASK, SECOND_TASK],
        started,
    ));
    stage.other_lines();
    stage.beats(SECOND_TASK, 300);
    idle(&mut stage, 0..60);
    let back = turn(&mut stage, 60, &[("tidy:up", 2 * 3600)]);
    idle(&mut stage, back..300);
    for plan in stage.passes(55) {
        assert_eq!(told(std::slice::from_ref(&plan)), [], "{plan}");
        assert!(plan.remediation.is_none(), "{plan}");
    }
}

/// It ended with its task perhaps: once no line of it can come any more, the run is missing.
#[test]
fn a_run_on_a_busy_replica_is_waited_for_as_long_as_it_may_take() {
    let mut stage = Stage::new(&job("0 1 * * *", "max_runtime = \"3h\""));
    stage.other_lines();
    stage.beats(SECOND_TASK, 360);
    idle(&mut stage, 0..60);
    let overdue = |plan: &Plan| plan.conditions.contains(&Condition::JobOverdue);
    assert!(!stage.passes(60).iter().any(overdue), "until 05:00");
    // An hour of grace, three hours that it may take, and the log's delay.
    assert!(!overdue(&stage.wait(1).pass()));
    assert!(overdue(&stage.wait(1).pass()));
}

#[test]
fn a_run_that_comes_too_late_closes_its_account() {
    let mut stage = Stage::new(&job("0 1 * * *", "grace = \"10m\""));
    stage.other_lines();
    idle(&mut stage, 0..90);
    // The first day 90 minutes late, the second day not at all.
    turn(&mut stage, 90, &[("tidy:up", 1)]);
    idle(&mut stage, 91..2 * 1440);
    let plans = stage.passes(2 * 288 - 1);
    let opened: Vec<Timestamp> = (plans.iter())
        .flat_map(|plan| &plan.notifications)
        .filter(|n| n.occasion == Occasion::Opened)
        .map(|n| n.since)
        .collect();
    assert_eq!(
        opened,
        [at("2025-12-02T01:00:00Z"), at("2025-12-03T01:00:00Z")]
    );
    assert_eq!(plans.iter().map(missed).sum::<u32>(), 0, "it came, late");
    assert_eq!(stage.state.jobs["tidy:up"].missed.count, 1);
}

/// A pause stops many jobs; one of them is monthly. When the others run again, all that was
/// missed is told, and what goes wrong later is told on its own.
#[test]
fn many_jobs_get_one_all_clear_and_hide_none_that_come_later() {
    let jobs: String = (0..6)
        .map(|n| {
            let cron = if n == 5 { "30 0 2 * *" } else { "*/5 * * * *" };
            format!("[[scheduler.job]]\nname = \"job:{n}\"\ncron = \"{cron}\"\n")
        })
        .collect();
    let mut stage = Stage::new(&jobs);
    stage.other_lines();
    let often = ["job:0", "job:1", "job:2", "job:3", "job:4"].map(|name| (name, 0));
    for minute in 0..600 {
        let paused = (20..120).contains(&minute);
        match minute % 5 {
            0 if paused => idle(&mut stage, minute..minute + 1),
            // Later one of them is held back alone.
            0 if (400..460).contains(&minute) => drop(turn(&mut stage, minute, &often[1..])),
            0 => drop(turn(&mut stage, minute, &often)),
            _ => idle(&mut stage, minute..minute + 1),
        }
    }
    let plans = stage.passes(119);
    let told: Vec<(Option<&str>, Occasion)> = (plans.iter())
        .flat_map(|plan| &plan.notifications)
        .map(|n| (n.job(), n.occasion))
        .filter(|(_, occasion)| *occasion != Occasion::Reminder)
        .collect();
    assert_eq!(
        told,
        [
            (None, Occasion::Opened),
            (None, Occasion::Resolved),
            (Some("job:0"), Occasion::Opened),
            (Some("job:0"), Occasion::Resolved),
        ]
    );
    let all_clear = (plans.iter().flat_map(|plan| &plan.notifications))
        .find(|n| n.occasion == Occasion::Resolved)
        .unwrap();
    assert_eq!(all_clear.handling, Handling::CameBack);
    let named: Vec<(&str, u32)> = (all_clear.proof.iter())
        .filter_map(|fact| match fact {
            Fact::MissedRuns { job, count, .. } => Some((job.as_str(), *count)),
            _ => None,
        })
        .collect();
    assert_eq!(named[0], ("job:5", 1), "the rarest first");
    assert_eq!(named[1..], often.map(|(name, _)| (name, 20)));
}

/// A job that was told alone stays alone: the all-clear of the others does not count its runs.
#[test]
fn the_all_clear_of_many_jobs_leaves_out_the_one_that_was_told_alone() {
    let jobs: String = (0..6)
        .map(|n| format!("[[scheduler.job]]\nname = \"job:{n}\"\ncron = \"*/5 * * * *\"\n"))
        .collect();
    let mut stage = Stage::new(&jobs);
    stage.other_lines();
    idle(&mut stage, 0..180);
    for minute in (0..180).step_by(5) {
        for n in 0..6 {
            let stops = if n == 0 { 10..180 } else { 60..120 };
            if !stops.contains(&minute) {
                let after = minutes(minute) + SignedDuration::from_secs(2);
                stage.job_ended(&format!("job:{n}"), after, SignedDuration::ZERO);
            }
        }
    }
    stage.lines.sort_by_key(|line| line.at);
    let plans = stage.passes(35);
    let all_clear = (plans.iter().flat_map(|plan| &plan.notifications))
        .find(|n| n.occasion == Occasion::Resolved)
        .unwrap();
    assert_eq!(all_clear.job(), None);
    let named: Vec<&str> = (all_clear.proof.iter())
        .filter_map(|fact| match fact {
            Fact::MissedRuns { job, .. } => Some(job.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(named, ["job:1", "job:2", "job:3", "job:4", "job:5"]);
}

/// But a job that is not due again soon is overdue until it runs: that is no old news.
#[test]
fn a_rare_run_that_an_outage_cost_in_a_silence_is_overdue_after_it() {
    for (cron, lost) in [
        ("45 0 * * *", 1),
        ("40,50 0 * * *", 2),
        ("40 0,4 * * *", 1),
        ("30 0-1 * * *", 2),
    ] {
        let long = if lost == 2 { 70 } else { 60 };
        let mut stage = dies(&job(cron, ""), long);
        stage.state.silences.push(one_off(stage.now, 115, None));
        let plans = stage.passes(28);
        let expected = [(Condition::JobOverdue, Occasion::Opened)];
        assert_eq!(told(&plans), expected, "{cron}");
        let opened = plans.iter().flat_map(|plan| &plan.notifications).next();
        let proof = &opened.unwrap().proof;
        let missed = |fact: &Fact| matches!(fact, Fact::MissedRuns { count, .. } if *count == lost);
        let paused = |fact: &Fact| matches!(fact, Fact::Paused { .. });
        assert!(proof.iter().any(missed), "{cron} {proof:?}");
        assert!(proof.iter().any(paused), "{cron} {proof:?}");
    }
}

/// It waits in the same turn for the job that kept the loop busy, and its grace is not over.
#[test]
fn a_run_that_is_late_after_a_silence_is_waited_for() {
    let mut stage = dies(&job("30 0 * * *", "grace = \"3h\""), 50);
    stage.job_ended(
        "tidy:up",
        minutes(100) + SignedDuration::from_secs(2),
        minutes(20),
    );
    stage.lines.sort_by_key(|line| line.at);
    stage.state.silences.push(one_off(stage.now, 85, None));
    assert_eq!(told(&stage.passes(58)), []);
}

#[test]
fn what_an_outage_cost_in_a_silence_is_old_news() {
    for (cron, every) in [("*/5 * * * *", 5), ("40 * * * *", 60)] {
        let mut stage = dies(&job(cron, ""), 60);
        for minute in (40 % every..300).step_by(every) {
            if !(30..90).contains(&minute) {
                let after = minutes(minute.try_into().unwrap());
                runs(&mut stage, after + SignedDuration::from_millis(10));
            }
        }
        stage.lines.sort_by_key(|line| line.at);
        stage.state.silences.push(one_off(stage.now, 95, None));
        assert_eq!(told(&stage.passes(58)), [], "{cron}");
    }
}

/// The second outage follows a single heartbeat, and a deployment excuses it: what was due until then
/// is old news, too.
#[test]
fn what_an_outage_cost_in_a_silence_is_old_news_when_a_deployment_excuses_it() {
    let mut stage = Stage::new(&job("41 * * * *", ""));
    stage.other_lines();
    idle(&mut stage, 0..30);
    idle(&mut stage, 40..41);
    idle(&mut stage, 56..100);
    stage.state.silences.push(one_off(stage.now, 58, None));
    let plans = stage.passes(10);
    assert_eq!(plans[9].conditions, [Condition::SchedulerSilent]);
    let now = stage.now;
    let deployment = crate::stage::deployment("ecs-svc/2", "IN_PROGRESS", now);
    stage.ecs(|facts| facts.deployments.insert(0, deployment));
    let excused = stage.wait(5).pass();
    assert!(excused.conditions.is_empty(), "{excused}");
    stage.ecs(|facts| drop(facts.deployments.remove(0)));
    assert_eq!(told(&stage.passes(8)), []);
}

/// A job of every five minutes, whose loop lives for five hours, but for a part of them.
fn runs_but(dead: Range<i64>) -> Stage {
    let mut stage = Stage::new(&job("*/5 * * * *", ""));
    stage.other_lines();
    for minute in (0..300).filter(|minute| !dead.contains(minute)) {
        match minute % 5 {
            0 => runs(&mut stage, minutes(minute)),
            _ => idle(&mut stage, minute..minute + 1),
        }
    }
    stage
}

/// The loop is dead all the time: what it cost is counted from its beginning, when it is told at last.
#[test]
fn an_outage_in_a_silence_goes_on_while_a_deployment_excuses_it() {
    let mut stage = runs_but(30..150);
    stage.state.silences.push(one_off(stage.now, 95, None));
    let mut plans = stage.passes(12);
    assert_eq!(plans[11].conditions, [Condition::SchedulerSilent]);
    let now = stage.now;
    let deployment = crate::stage::deployment("ecs-svc/2", "IN_PROGRESS", now);
    stage.ecs(|facts| facts.deployments.insert(0, deployment));
    let excused = stage.wait(5).pass();
    assert!(excused.conditions.is_empty(), "{excused}");
    stage.ecs(|facts| drop(facts.deployments.remove(0)));
    plans.extend(stage.passes(30));
    let silent = |occasion| (Condition::SchedulerSilent, occasion);
    let expected = [silent(Occasion::Opened), silent(Occasion::Resolved)];
    assert_eq!(told(&plans), expected);
    let lost: u32 = plans.iter().map(missed).sum();
    assert_eq!(lost, 24);
}

#[test]
fn hours_at_zero_tasks_are_no_outage() {
    let mut stage = runs_but(60..186);
    let mut plans = stage.passes(12);
    stage.ecs(|facts| (facts.desired, facts.tasks) = (0, Vec::new()));
    plans.extend(stage.passes(24));
    assert_eq!(plans.last().unwrap().verdict, Verdict::Suspended);
    // Scaled up a moment before the look: no task runs yet.
    stage.ecs(|facts| facts.desired = 1);
    plans.extend(stage.passes(1));
    let now = stage.now;
    stage.ecs(|facts| facts.tasks = vec![crate::stage::task(TASK, "ecs-svc/1", now)]);
    plans.extend(stage.passes(20));
    assert_eq!(told(&plans), []);
}

#[test]
fn an_abort_that_keeps_a_job_from_running_is_its_cause() {
    let mut stage = Stage::new(&job("*/5 * * * *", ""));
    stage.other_lines();
    for minute in 0..120 {
        match (minute % 5, minute) {
            (0, ..30) => runs(&mut stage, minutes(minute)),
            (0, _) => stage.abort(
                minutes(minute) + SignedDuration::from_secs(2),
                "SQLSTATE[HY000] [2002] Connection refused",
            ),
            _ => idle(&mut stage, minute..minute + 1),
        }
    }
    let plans = stage.passes(14);
    let told = plans
        .iter()
        .flat_map(|plan| &plan.notifications)
        .next()
        .unwrap();
    assert_eq!(told.condition, Condition::JobOverdue);
    assert_eq!(told.cause_id(), "database-unreachable");
}

/// Logs without a single idle line: a job every few seconds, a loop that is busy from minute to
/// minute, lines that tell only of starts. A job that stands still is told all the same.
#[test]
fn a_stuck_job_is_told_in_logs_that_never_rest() {
    let often = job("*/5 * * * *", "");
    for name in [
        "every two seconds",
        "fifty-nine seconds a minute",
        "starts only",
    ] {
        let mut stage = Stage::new(&often);
        stage.other_lines();
        for second in (0..60 * 60).step_by(2) {
            let (after, minute) = (SignedDuration::from_secs(second), second / 60);
            if second % 300 == 0 && minute < 20 {
                runs(&mut stage, after);
            }
            let took = SignedDuration::from_secs(match name {
                "fifty-nine seconds a minute" => 59,
                _ => 0,
            });
            match name {
                "every two seconds" => stage.job_ended("fast", after, took),
                _ if second % 60 != 0 => {}
                "starts only" => {
                    let kind = Kind::Job {
                        name: "busy".to_owned(),
                        event: JobEvent::Started,
                        background: false,
                    };
                    stage.push(TASK, after, kind, "busy");
                }
                _ => stage.job_ended("busy", after + took, took),
            }
        }
        stage.lines.sort_by_key(|line| line.at);
        let plans = stage.passes(11);
        let expected = [(Condition::JobOverdue, Occasion::Opened)];
        assert_eq!(told(&plans), expected, "{name}");
    }
}

/// A loop that dies while a long job runs is told once the job's time is over, not never.
#[test]
fn a_loop_that_dies_in_a_long_job_is_told_when_its_time_is_over() {
    let mut stage = Stage::new(&job("0 1 * * *", "max_runtime = \"1h\""));
    stage.other_lines();
    idle(&mut stage, 0..60);
    let plans = stage.passes(30);
    let opened = plans.iter().position(|plan| !plan.notifications.is_empty());
    // The last heartbeat is of 00:59, and an hour and five minutes are allowed.
    assert_eq!(opened, Some(25 - 1), "{:?}", told(&plans));
    assert_eq!(
        told(&plans)[0],
        (Condition::SchedulerSilent, Occasion::Opened)
    );
}

/// A time of the first night.
fn night(time: &str) -> Timestamp {
    at(&format!("2025-12-02T{time}Z"))
}

/// A job whose run of that time is not known of yet.
fn waits_for(cron: &str, more: &str, due: &str) -> Stage {
    let mut stage = Stage::new(&job(cron, more));
    let history = JobHistory {
        due: Some(night(due)),
        ..JobHistory::default()
    };
    stage.state.jobs.insert("tidy:up".to_owned(), history);
    stage
}

/// A stream that was heard until then, and whose newest settled turn began then.
fn heard(stage: &mut Stage, task: &str, last: &str, turn: &str) {
    let [last, began] = [last, turn].map(night);
    let beats = StreamBeats {
        first: night("00:00:00"),
        last,
        beat: last,
        aborted_at: None,
        turn: Some(Turn {
            began,
            ended: began,
            open: false,
            first: None,
        }),
        ran: std::collections::BTreeMap::new(),
    };
    let streams = &mut stage.state.heartbeats.streams;
    streams.insert(crate::stage::stream(task), beats);
}

/// What the job has missed, as far as is known then.
fn missed_at(stage: &mut Stage, now: &str) -> Missed {
    account(&mut stage.state, &stage.scheduler, Loop::Lives, night(now));
    stage.state.jobs["tidy:up"].missed.clone()
}

/// Its grace and the log's delay have to be over, and the loop to have gone on after its grace.
#[test]
fn a_due_time_is_judged_once_no_line_of_its_run_can_come() {
    for (turn, delay_ms, now, count) in [
        ("04:00:00", 0, "04:01:59", 0),
        ("04:00:00", 0, "04:02:00", 1),
        ("03:59:59", 0, "04:30:00", 0),
        // A longer delay has been measured just now.
        ("04:00:00", 240_000, "04:07:59", 0),
        ("04:00:00", 240_000, "04:08:00", 1),
    ] {
        let mut stage = waits_for("0 3 * * *", "", "03:00:00");
        stage.state.lags_ms = vec![delay_ms];
        heard(&mut stage, TASK, turn, turn);
        assert_eq!(missed_at(&mut stage, now).count, count, "{turn} {now}");
    }
}

/// What a loop that was busy missed meanwhile is not a frequent job's trouble; from the minute on
/// in which it goes on, it is.
#[test]
fn a_frequent_job_had_no_chance_while_the_loop_paused() {
    for (cron, due, count, last) in [
        // Of 00:20 to 00:55 all but 00:25, 00:30 and 00:35.
        ("*/5 * * * *", "00:20:00", 5, "00:55:00"),
        // Of a rare one each run counts.
        ("30 * * * *", "00:30:00", 1, "00:30:00"),
    ] {
        let mut stage = waits_for(cron, "", due);
        heard(&mut stage, TASK, "01:00:00", "01:00:00");
        let beats = &mut stage.state.heartbeats;
        beats.paused_at = Some(night("00:25:30"));
        beats.resumed_at = Some(night("00:40:10"));
        let missed = missed_at(&mut stage, "01:02:00");
        let span = (missed.first, missed.last);
        assert_eq!(missed.count, count, "{cron}");
        assert_eq!(span, (Some(night(due)), Some(night(last))), "{cron}");
    }
}

/// It has not settled yet. Five seconds before a due time it is early; before that, the one before
/// is late.
#[test]
fn a_run_that_was_seen_answers_one_due_time() {
    for (start, count) in [
        ("00:19:54", 1),
        ("00:19:55", 0),
        ("00:24:00", 0),
        ("00:29:54", 0),
        ("00:29:55", 1),
        ("00:30:02", 1),
    ] {
        let mut stage = waits_for("*/10 * * * *", "", "00:20:00");
        heard(&mut stage, TASK, "00:26:00", "00:26:00");
        if let Some(history) = stage.state.jobs.get_mut("tidy:up") {
            history.starts = vec![night(start)];
        }
        assert_eq!(missed_at(&mut stage, "00:31:00").count, count, "{start}");
    }
}

/// Its line comes when it ends, and the replica says nothing until then. A single loop that is busy
/// is silent itself.
#[test]
fn a_run_is_waited_for_if_a_replica_fell_silent_when_it_was_due() {
    for (streams, count) in [
        (&["01:00:00", "02:02:00"][..], 0),
        (&["00:58:00", "02:02:00"], 0),
        (&["00:57:59", "02:02:00"], 1),
        (&["01:02:00", "02:02:00"], 0),
        (&["01:02:01", "02:02:00"], 1),
        (&["02:02:00", "02:02:00"], 1),
        (&["01:00:00"], 1),
        (&["02:02:00"], 1),
    ] {
        let mut stage = waits_for("0 1 * * *", "max_runtime = \"3h\"", "01:00:00");
        for (task, last) in [TASK, SECOND_TASK].iter().zip(streams) {
            heard(&mut stage, task, last, "02:00:00");
        }
        let missed = missed_at(&mut stage, "02:02:00");
        assert_eq!(missed.count, count, "{streams:?}");
    }
}

/// Between two windows, or cut off at the query's limit.
#[test]
fn what_was_due_in_a_part_of_the_log_that_was_not_seen_is_left_out() {
    for (from, first_line, expected) in [
        ("00:58:00", None, "00:50:00"),
        // The window begins just where the one before it ended.
        ("01:00:00", None, "00:50:00"),
        ("01:05:00", None, "01:05:00"),
        ("01:05:01", None, "01:10:00"),
        ("00:58:00", Some("01:10:00"), "01:10:00"),
        ("00:58:00", Some("01:10:01"), "01:15:00"),
    ] {
        let mut stage = waits_for("*/5 * * * *", "", "00:50:00");
        stage.state.checked_until = Some(night("01:00:00"));
        if let Some(time) = first_line {
            let after = night(time).duration_since(stage.now);
            stage.push(TASK, after, Kind::Heartbeat(Pulse::Idle), "idle");
        }
        let window = LogWindow {
            from: night(from),
            until: night("01:20:00"),
            truncated: first_line.is_some(),
            lines: stage.lines.clone(),
            ..LogWindow::default()
        };
        skip_unseen(&mut stage.state, &stage.scheduler, &window);
        let due = stage.state.jobs["tidy:up"].due;
        assert_eq!(due, Some(night(expected)), "{from} {first_line:?}");
    }
}

/// The one that came last was late, and none is missing any more.
#[test]
fn nothing_is_told_of_missed_runs_that_all_came() {
    let missed = |count| Missed {
        count,
        first: Some(night("01:00:00")),
        last: Some(night("01:00:00")),
        back: Some(night("01:30:00")),
    };
    assert_eq!(missed(0).fact("tidy:up"), None);
    assert!(missed(1).fact("tidy:up").is_some());
}

/// One of them fails whenever it runs, which is told on its own; another was not due at all.
#[test]
fn the_all_clear_of_many_jobs_names_each_that_missed_runs() {
    let mut jobs = "[[scheduler.job]]\nname = \"nightly\"\ncron = \"0 3 * * *\"\n".to_owned();
    for n in 0..6 {
        jobs += &format!("[[scheduler.job]]\nname = \"job:{n}\"\ncron = \"*/5 * * * *\"\n");
    }
    let mut stage = Stage::new(&jobs);
    stage.other_lines();
    idle(&mut stage, 0..170);
    let took = Some(SignedDuration::ZERO);
    for minute in (0..170).step_by(5).filter(|m| !(60..120).contains(m)) {
        for n in 0..6 {
            let event = match n {
                0 => JobEvent::Failed {
                    took,
                    exit_code: Some(1),
                },
                _ => JobEvent::Ended { took },
            };
            let name = format!("job:{n}");
            let kind = Kind::Job {
                name: name.clone(),
                event,
                background: false,
            };
            let after = minutes(minute) + SignedDuration::from_secs(2);
            stage.push(TASK, after, kind, &name);
        }
    }
    stage.lines.sort_by_key(|line| line.at);
    let plans = stage.passes(34);
    let all_clear = (plans.iter().flat_map(|plan| &plan.notifications))
        .find(|n| n.occasion == Occasion::Resolved)
        .unwrap();
    assert_eq!(
        (all_clear.condition, all_clear.job()),
        (Condition::JobOverdue, None)
    );
    let expected = (0..6).map(|n| Fact::MissedRuns {
        job: format!("job:{n}"),
        count: 12,
        first: night("01:00:00"),
        last: night("01:55:00"),
    });
    assert_eq!(all_clear.proof, Vec::from_iter(expected));
}
