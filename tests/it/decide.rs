//! The decision: every condition, every gate, the life of incidents.

use jiff::SignedDuration;
use scheduler_watchdog::condition::{Condition, Fact};
use scheduler_watchdog::config::Endpoint;
use scheduler_watchdog::health::{Health, Sign};
use scheduler_watchdog::line::{JobEvent, Kind, Pulse};
use scheduler_watchdog::plan::{
    CureKind, Gate, Handling, Occasion, Plan, Reason, Verdict, Withholding,
};
use scheduler_watchdog::remedy;
use scheduler_watchdog::snapshot::{Fleet, Observed, Obstacle, ServiceFacts};
use scheduler_watchdog::state::Phase;

use crate::stage::{
    SECOND_TASK, Stage, TASK, deployment, facts, falls_silent, minutes, task, unknown,
};

fn occasions(plans: &[Plan]) -> Vec<(Condition, Occasion)> {
    (plans.iter())
        .flat_map(|plan| &plan.notifications)
        .map(|n| (n.condition, n.occasion))
        .collect()
}

fn only_condition(plan: &Plan) -> Condition {
    assert_eq!(plan.conditions.len(), 1, "{plan}");
    plan.conditions[0]
}

// Conditions

#[test]
fn a_living_scheduler_is_healthy_and_needs_no_further_evidence() {
    let stage = falls_silent("");
    let snapshot = stage.snapshot();
    assert!(snapshot.probe.is_none() && snapshot.service.is_none());
}

#[test]
fn a_corroborated_silence_fires_at_once() {
    let mut stage = falls_silent("");
    let plan = stage.wait(5).pass();
    assert_eq!(plan.verdict, Verdict::Firing);
    assert_eq!(only_condition(&plan), Condition::SchedulerSilent);
    assert_eq!(
        occasions(&[plan]),
        [(Condition::SchedulerSilent, Occasion::Opened)]
    );
}

#[test]
fn a_silence_within_what_is_allowed_is_healthy() {
    let mut stage = falls_silent("");
    // The last heartbeat is of minute 29.
    let plan = stage.wait(4).pass();
    assert_eq!(
        (plan.verdict, &plan.reason),
        (Verdict::Healthy, &Reason::NotDueYet)
    );
    assert!(plan.is_empty());
}

#[test]
fn a_silence_without_corroboration_waits_for_a_second_look() {
    let mut stage = falls_silent("");
    stage.service = Observed::Unknown(unknown(Obstacle::Throttled));
    let first = stage.wait(5).pass();
    assert_eq!(
        (first.verdict, &first.reason),
        (Verdict::Pending, &Reason::SecondLookNeeded)
    );
    assert!(first.is_empty());
    let second = stage.wait(5).pass();
    assert_eq!(
        occasions(&[second]),
        [(Condition::SchedulerSilent, Occasion::Opened)]
    );
}

#[test]
fn a_silence_that_no_late_line_explains_needs_no_second_look() {
    let mut stage = falls_silent("");
    stage.service = Observed::Unknown(unknown(Obstacle::Throttled));
    // Seven minutes: what is allowed, and the overlap of the log windows.
    assert_eq!(stage.wait(6).pass().verdict, Verdict::Firing);
}

#[test]
fn a_repeated_invocation_is_no_second_look() {
    let mut stage = falls_silent("");
    stage.service = Observed::Unknown(unknown(Obstacle::Throttled));
    stage.wait(5).look();
    stage.now += SignedDuration::from_secs(3);
    assert_eq!(stage.pass().verdict, Verdict::Pending);
}

#[test]
fn a_silent_service_without_tasks_is_down() {
    let mut stage = falls_silent("");
    stage.ecs(|facts| facts.tasks.clear());
    assert_eq!(
        only_condition(&stage.wait(5).pass()),
        Condition::ServiceDown
    );
}

#[test]
fn a_service_that_is_scaled_to_zero_is_suspended() {
    let mut stage = falls_silent("");
    stage.ecs(|facts| (facts.desired, facts.tasks) = (0, Vec::new()));
    let plan = stage.wait(5).pass();
    assert_eq!(
        (plan.verdict, &plan.reason),
        (Verdict::Suspended, &Reason::DesiredCountZero)
    );
    assert!(plan.is_empty());
}

#[test]
fn scaling_to_zero_ends_an_incident() {
    let mut stage = falls_silent("");
    stage.wait(5).look();
    stage.ecs(|facts| (facts.desired, facts.tasks) = (0, Vec::new()));
    let plan = stage.wait(55).pass();
    assert_eq!(plan.notifications[0].occasion, Occasion::Resolved);
    assert_eq!(plan.notifications[0].handling, Handling::ScaledToZero);
    assert_eq!(
        plan.notifications[0].until,
        Some(stage.now),
        "not when it was found"
    );
}

/// Nor with the heartbeat that ended a pause just before it.
#[test]
fn scaling_to_zero_ends_an_incident_that_began_with_a_single_heartbeat() {
    let mut stage = falls_silent("");
    stage.push(TASK, minutes(3), Kind::Heartbeat(Pulse::Idle), "idle");
    assert_eq!(stage.wait(10).pass().verdict, Verdict::Firing);
    stage.ecs(|facts| (facts.desired, facts.tasks) = (0, Vec::new()));
    let plan = stage.wait(5).pass();
    assert_eq!(plan.notifications[0].until, Some(stage.now));
}

#[test]
fn a_deployment_excuses_a_silence_until_it_is_stuck() {
    let mut stage = falls_silent("");
    let now = stage.now;
    stage.ecs(|facts| {
        facts
            .deployments
            .insert(0, deployment("ecs-svc/2", "IN_PROGRESS", now))
    });
    let excused = stage.passes(5);
    assert!(
        excused
            .iter()
            .all(|plan| plan.verdict == Verdict::Suspended && plan.is_empty())
    );
    let plans = stage.passes(2);
    assert_eq!(
        occasions(&plans),
        [(Condition::SchedulerSilent, Occasion::Opened)]
    );
    assert!(
        plans[0].conditions.contains(&Condition::DeploymentStuck),
        "{}",
        plans[0]
    );
}

#[test]
fn a_task_that_has_just_started_excuses_a_silence() {
    let mut stage = falls_silent("");
    let now = stage.now;
    stage.ecs(|facts| facts.tasks[0].started_at = Some(now + minutes(4)));
    let plan = stage.wait(5).pass();
    assert_eq!(
        plan.reason,
        Reason::TaskStarting {
            task: TASK.to_owned()
        }
    );
    assert_eq!(stage.wait(5).pass().verdict, Verdict::Firing);
}

#[test]
fn tasks_that_start_over_and_over_excuse_nothing_for_ever() {
    let mut stage = falls_silent("after = \"24h\"");
    stage.push(TASK, minutes(-1), Kind::Boot, "Starting Laravel Scheduler");
    let mut told = Vec::new();
    for minute in (0..60).step_by(5) {
        stage.wait(5);
        let young = stage.now - minutes(1);
        stage.ecs(|facts| facts.tasks[0].started_at = Some(young));
        let said = stage.pass().notifications;
        told.extend((said.iter()).map(|n| (minute, n.occasion, n.cause_id().to_owned())));
    }
    // For half an hour. That such a young task has not said yet that it starts proves nothing.
    assert_eq!(told, [(30, Occasion::Opened, "unknown".to_owned())]);
}

#[test]
fn no_line_of_any_kind_is_the_silence_of_the_logs() {
    let mut stage = falls_silent("");
    stage.probe = None;
    assert_eq!(only_condition(&stage.wait(5).pass()), Condition::LogsSilent);
}

#[test]
fn a_scheduler_that_was_never_heard_is_reported_after_half_an_hour() {
    let mut stage = Stage::new("");
    stage.other_lines();
    let first = stage.pass();
    assert_eq!(
        (first.verdict, &first.reason),
        (Verdict::Unknown, &Reason::NotSeenYet)
    );
    let plans = stage.passes(6);
    assert_eq!(
        occasions(&plans),
        [(Condition::NeverSeen, Occasion::Opened)]
    );
    assert!(plans[5].conditions.contains(&Condition::NeverSeen));
}

#[test]
fn runs_that_all_abort_are_a_failing_scheduler_not_a_silent_one() {
    let mut stage = falls_silent("");
    for minute in 0..20 {
        stage.abort(minutes(minute), "Connection refused");
    }
    let plans = stage.passes(3);
    assert_eq!(
        occasions(&plans),
        [(Condition::SchedulerFailing, Occasion::Opened)]
    );
}

#[test]
fn jobs_that_end_before_the_abort_do_not_hide_it() {
    let mut stage = falls_silent("");
    for minute in 0..20 {
        stage.job_ended(
            "redis:monitor",
            minutes(minute),
            SignedDuration::from_millis(120),
        );
        stage.abort(
            minutes(minute) + SignedDuration::from_secs(1),
            "Connection refused",
        );
    }
    let plans = stage.passes(3);
    assert_eq!(
        occasions(&plans),
        [(Condition::SchedulerFailing, Occasion::Opened)]
    );
}

#[test]
fn an_abort_long_after_the_last_job_is_still_the_end_of_its_run() {
    // A connection that is dropped by a firewall times out after a minute.
    for seconds in [1, 25, 60] {
        let mut stage = falls_silent("");
        for run in 0..30 {
            let start = minutes(run * 2);
            stage.job_ended("purge", start, SignedDuration::from_millis(3));
            stage.abort(
                start + SignedDuration::from_secs(seconds),
                "Connection timed out",
            );
        }
        let plans = stage.passes(11);
        let told = occasions(&plans);
        assert_eq!(
            told,
            [(Condition::SchedulerFailing, Occasion::Opened)],
            "{seconds} s"
        );
    }
}

#[test]
fn an_abort_that_is_read_before_its_runs_jobs_is_one_all_the_same() {
    let mut stage = falls_silent("");
    for run in 0..30 {
        stage.abort(minutes(run), "Connection refused");
        let after = minutes(run) + SignedDuration::from_millis(2);
        stage.job_ended("purge", after, SignedDuration::from_millis(3));
    }
    let told = occasions(&stage.passes(5));
    assert_eq!(told, [(Condition::SchedulerFailing, Occasion::Opened)]);
}

#[test]
fn jobs_that_run_again_without_an_abort_end_the_failing() {
    let mut stage = falls_silent("");
    for run in 0..10 {
        stage.abort(minutes(run), "Connection refused");
    }
    for run in 10..60 {
        stage.job_ended("purge", minutes(run), SignedDuration::from_millis(3));
    }
    let told: Vec<_> = occasions(&stage.passes(8))
        .into_iter()
        .map(|(_, told)| told)
        .collect();
    assert_eq!(told, [Occasion::Opened, Occasion::Resolved]);
}

#[test]
fn aborts_hours_apart_are_not_one_failing() {
    let mut stage = falls_silent("");
    for run in 0..240 {
        for job in 0..20 {
            let after = minutes(run) + SignedDuration::from_millis(job);
            stage.job_ended(&format!("job:{job}"), after, SignedDuration::from_millis(3));
        }
    }
    for run in [10, 200] {
        let after = minutes(run) + SignedDuration::from_secs(1);
        stage.abort(after, "Connection refused");
    }
    assert_eq!(occasions(&stage.passes(47)), []);
}

#[test]
fn a_replica_that_aborts_does_not_make_the_scheduler_fail() {
    let mut stage = falls_silent("");
    for run in 0..24 {
        let event = JobEvent::Ended { took: None };
        let name = "five:minutes".to_owned();
        let kind = Kind::Job {
            name,
            event,
            background: false,
        };
        stage.push(SECOND_TASK, minutes(run * 5), kind, "job");
        let kind = Kind::Error {
            aborts: true,
            context: None,
            trace: Vec::new(),
        };
        stage.push(TASK, minutes(run * 5), kind, "Connection refused");
    }
    let told = occasions(&stage.passes(22));
    assert!(
        told.iter()
            .all(|(condition, _)| *condition != Condition::SchedulerFailing),
        "{told:?}"
    );
}

#[test]
fn an_abort_is_no_silence() {
    // Every run aborts before its first job, so that there are no heartbeats at all.
    let mut stage = falls_silent("");
    for run in 0..40 {
        stage.abort(minutes(run), "Connection refused");
    }
    let plans = stage.passes(7);
    let told: Vec<_> = occasions(&plans)
        .into_iter()
        .map(|(condition, _)| condition)
        .collect();
    assert_eq!(told, [Condition::SchedulerFailing]);
}

#[test]
fn two_aborts_and_then_a_living_scheduler_are_no_incident() {
    let mut stage = falls_silent("");
    stage.abort(minutes(0), "Connection refused");
    stage.abort(minutes(1), "Connection refused");
    for run in 2..60 {
        stage.job_ended("purge", minutes(run), SignedDuration::from_millis(3));
    }
    assert_eq!(occasions(&stage.passes(8)), []);
}

#[test]
fn a_slow_rhythm_is_learned_although_it_began_as_a_false_alarm() {
    let mut stage = Stage::new("");
    stage.scheduler.stale_after = scheduler_watchdog::config::StaleAfter::Auto;
    stage.other_lines();
    for beat in 0..200 {
        stage.push(
            TASK,
            minutes(20 * beat),
            Kind::Heartbeat(Pulse::Banner),
            "beat",
        );
    }
    let plans = stage.passes(12 * 24);
    let told: Vec<_> = occasions(&plans)
        .into_iter()
        .map(|(_, told)| told)
        .collect();
    assert_eq!(told, [Occasion::Opened, Occasion::Resolved]);
    assert_eq!(plans.last().unwrap().allowed_silence, minutes(40));
}

#[test]
fn the_gap_that_an_outage_leaves_is_not_usual_and_that_of_a_slower_rhythm_is() {
    let mut stage = Stage::new("");
    stage.scheduler.stale_after = scheduler_watchdog::config::StaleAfter::Auto;
    stage.other_lines();
    stage.beats(TASK, 60);
    stage.passes(18);
    assert_eq!(stage.state.incidents[0].phase, Phase::Firing);
    stage.beats(TASK, 60);
    stage.passes(12);
    // By half minutes; the first of each hour of heartbeats ends no such gap.
    assert_eq!(stage.state.heartbeats.gaps.by_length(), [(2, 2 * 59)]);
    for beat in 0..400 {
        let idle = Kind::Heartbeat(Pulse::Idle);
        stage.push(TASK, minutes(4 * beat), idle, "idle");
    }
    assert_eq!(occasions(&stage.passes(12 * 26)), []);
    assert_eq!(stage.state.heartbeats.usual_gap(), Some(minutes(4)));
}

#[test]
fn a_replica_that_fails_for_a_proven_cause_is_not_stopped() {
    let mut stage = Stage::new("");
    stage.other_lines();
    let since = stage.now - SignedDuration::from_hours(48);
    stage.service = Observed::Known(facts(&[TASK, SECOND_TASK], since));
    stage.beats(TASK, 120);
    stage.beats(SECOND_TASK, 20);
    for minute in 20..120 {
        let text = "sh: 1: cannot create /var/log/scheduler.log: Permission denied";
        let kind = Kind::Error {
            aborts: true,
            context: None,
            trace: Vec::new(),
        };
        stage.push(SECOND_TASK, minutes(minute), kind, text);
    }
    let plans = stage.passes(12);
    let told = plans
        .iter()
        .flat_map(|plan| &plan.notifications)
        .next()
        .unwrap();
    assert_eq!(
        (told.condition, told.cause_id()),
        (Condition::ReplicaSilent, "permission-denied")
    );
    let remediation = plans[11].remediation.as_ref().unwrap();
    assert_eq!(remediation.blocked_by, [Gate::CauseNotRestartable]);
}

#[test]
fn the_errors_of_an_outage_are_no_news_after_it() {
    let mut stage = falls_silent("after = \"24h\"");
    for n in 0..120 {
        stage.error(SignedDuration::from_secs(n * 30), "boom");
    }
    let mut plans = stage.passes(12);
    stage.beats(TASK, 60);
    plans.extend(stage.passes(8));
    let told: Vec<_> = occasions(&plans)
        .into_iter()
        .map(|(condition, _)| condition)
        .collect();
    assert!(
        told.iter()
            .all(|condition| *condition == Condition::SchedulerSilent),
        "{told:?}"
    );
}

#[test]
fn an_unknown_cause_shows_the_newest_error() {
    let mut stage = falls_silent("");
    for minute in 0..20 {
        stage.abort(minutes(minute), "something nobody knows");
    }
    let plans = stage.passes(2);
    let told = plans
        .iter()
        .flat_map(|plan| &plan.notifications)
        .next()
        .unwrap();
    let shown = Fact::LastErrors {
        lines: vec!["something nobody knows".to_owned()],
    };
    assert!(told.proof.contains(&shown), "{:?}", told.proof);
}

#[test]
fn a_replica_is_not_judged_while_a_deployment_replaces_it() {
    let mut stage = Stage::new("");
    let since = stage.now - SignedDuration::from_hours(48);
    stage.service = Observed::Known(facts(&[TASK, SECOND_TASK], since));
    stage.beats(TASK, 120);
    stage.beats(SECOND_TASK, 30);
    let now = stage.now + minutes(30);
    stage.ecs(|facts| {
        facts
            .deployments
            .insert(0, deployment("ecs-svc/2", "IN_PROGRESS", now))
    });
    assert_eq!(occasions(&stage.passes(11)), []);
}

#[test]
fn silent_logs_wait_for_a_second_look() {
    let mut stage = falls_silent("");
    stage.probe = None;
    assert_eq!(stage.wait(5).pass().verdict, Verdict::Pending);
    assert_eq!(
        occasions(&stage.passes(1)),
        [(Condition::LogsSilent, Occasion::Opened)]
    );
}

#[test]
fn a_single_aborted_run_is_no_incident() {
    let mut stage = falls_silent("");
    stage.abort(minutes(0), "Connection refused");
    stage.wait(1).beats(TASK, 20);
    let plans = stage.passes(3);
    assert!(occasions(&plans).is_empty());
}

#[test]
fn one_silent_task_among_several_is_a_silent_replica() {
    let mut stage = Stage::new("");
    stage.other_lines();
    let since = stage.now - SignedDuration::from_hours(48);
    stage.service = Observed::Known(facts(&[TASK, SECOND_TASK], since));
    stage.beats(TASK, 60);
    stage.beats(SECOND_TASK, 30);
    let plans = stage.passes(8);
    assert_eq!(
        occasions(&plans),
        [(Condition::ReplicaSilent, Occasion::Opened)]
    );
    let told = plans
        .iter()
        .flat_map(|plan| &plan.notifications)
        .next()
        .unwrap();
    assert_eq!(told.subject.as_deref(), Some(SECOND_TASK));
}

#[test]
fn a_task_that_was_replaced_is_no_silent_replica() {
    let mut stage = Stage::new("");
    stage.beats(TASK, 30);
    stage.passes(5);
    stage.beats(SECOND_TASK, 60);
    let since = stage.now;
    stage.service = Observed::Known(facts(&[SECOND_TASK], since));
    assert!(occasions(&stage.passes(6)).is_empty());
}

#[test]
fn more_errors_than_the_threshold_are_a_spike() {
    for (errors, spike) in [(5, false), (6, true)] {
        let mut stage = falls_silent("");
        stage.beats(TASK, 30);
        for n in 0..errors {
            stage.error(SignedDuration::from_secs(100 + n * 20), "SQLSTATE[42S02]");
        }
        let plan = stage.wait(5).pass();
        assert_eq!(
            plan.conditions.contains(&Condition::ErrorSpike),
            spike,
            "{errors}: {plan}"
        );
    }
}

#[test]
fn a_spike_that_straddles_two_passes_is_seen() {
    let mut stage = falls_silent("");
    stage.beats(TASK, 30);
    for n in 0..8 {
        stage.error(
            minutes(3) + SignedDuration::from_secs(n * 30),
            "SQLSTATE[42S02]",
        );
    }
    let began = stage.now + minutes(3);
    let plans = stage.passes(2);
    assert_eq!(
        occasions(&plans),
        [(Condition::ErrorSpike, Occasion::Opened)]
    );
    assert_eq!(plans[1].notifications[0].since, began);
}

#[test]
fn as_many_errors_as_usual_are_no_spike() {
    let mut stage = Stage::new("");
    stage.beats(TASK, 8 * 60);
    for n in 0..(7 * 60 * 2) {
        stage.error(SignedDuration::from_secs(n * 30), "the usual noise");
    }
    let plans = stage.passes(7 * 12);
    let early: Vec<_> = plans[..12]
        .iter()
        .filter(|p| !p.notifications.is_empty())
        .collect();
    assert_eq!(early.len(), 1, "a spike until the usual number is known");
    assert_eq!(plans[83].conditions, []);
    for n in 0..60 {
        stage.error(SignedDuration::from_secs(n * 4), "a storm");
    }
    assert!(
        stage
            .wait(5)
            .pass()
            .conditions
            .contains(&Condition::ErrorSpike)
    );
}

#[test]
fn ignored_errors_do_not_count() {
    let mut stage = Stage::new("[scheduler.errors]\nignore = [\"Pruned 0 failed jobs\"]");
    stage.beats(TASK, 30);
    for n in 0..20 {
        stage.error(SignedDuration::from_secs(n), "Pruned 0 failed jobs.");
    }
    assert_eq!(stage.wait(5).pass().errors, 0);
}

#[test]
fn a_silent_scheduler_explains_its_errors() {
    let mut stage = falls_silent("");
    for n in 0..20 {
        stage.error(SignedDuration::from_secs(n), "boom");
    }
    let plan = stage.wait(5).pass();
    assert_eq!(
        occasions(&[plan]),
        [(Condition::SchedulerSilent, Occasion::Opened)]
    );
}

#[test]
fn three_blind_passes_are_reported_and_never_lead_to_a_restart() {
    let mut stage = falls_silent("");
    stage.log_error = Some(unknown(Obstacle::Denied));
    let plans = stage.passes(4);
    assert!(plans.iter().all(|plan| plan.verdict == Verdict::Unknown));
    assert_eq!(
        occasions(&plans),
        [(Condition::WatchdogBlind, Occasion::Opened)]
    );
    assert!(plans[2].notifications.len() == 1, "with the third pass");
    assert!(plans.iter().all(|plan| plan.remediation.is_none()));
    stage.log_error = None;
    stage.beats(TASK, 30);
    assert_eq!(
        occasions(&stage.passes(3)),
        [(Condition::WatchdogBlind, Occasion::Resolved)]
    );
}

// Long foreground runs

/// A job that nobody configured: hourly, twenty minutes long, and the loop waits for it. Nothing is
/// printed from that minute on.
fn hourly_reports(until: i64) -> Stage {
    let another = "[[scheduler.job]]\nname = \"another\"\ncron = \"0 5 1 1 *\"\n";
    let mut stage = Stage::new(another);
    stage.other_lines();
    for hour in 0..4 {
        let start = minutes(60 * hour);
        stage.job_ended("reports:generate", start + minutes(20), minutes(20));
        for minute in 21..60 {
            stage.push(
                TASK,
                start + minutes(minute),
                Kind::Heartbeat(Pulse::Idle),
                "idle",
            );
        }
    }
    let end = stage.now + minutes(until);
    stage.lines.retain(|line| line.at < end);
    stage
}

#[test]
fn a_job_that_has_taken_long_before_excuses_a_silence() {
    let plans = hourly_reports(4 * 60).passes(4 * 12 - 1);
    let opened: Vec<_> = plans.iter().flat_map(|plan| &plan.notifications).collect();
    assert!(opened.is_empty(), "{opened:?}");
    // Not one that begins when the job is not due.
    let plans = hourly_reports(3 * 60 + 30).passes(3 * 12 + 7);
    assert_eq!(
        occasions(&plans),
        [(Condition::SchedulerSilent, Occasion::Opened)]
    );
}

#[test]
fn a_configured_runtime_excuses_a_silence_and_keeps_a_restart_from_killing_the_job() {
    let job = r#"
        [[scheduler.job]]
        name = "reports:generate"
        cron = "30 0 * * *"
        max_runtime = "20m"
    "#;
    let mut stage = falls_silent(job);
    let excused = stage.passes(4);
    assert!(
        excused.iter().all(|plan| plan.verdict == Verdict::Healthy),
        "{}",
        excused[3]
    );
    assert_eq!(
        excused[0].reason,
        Reason::JobMayBeRunning {
            jobs: vec!["reports:generate".to_owned()]
        }
    );
    let plans = stage.passes(3);
    assert_eq!(
        occasions(&plans),
        [(Condition::SchedulerSilent, Occasion::Opened)]
    );
    let withheld = plans[2].remediation.as_ref().unwrap();
    assert!(withheld.blocked_by.contains(&Gate::JobMayBeRunning));
}

// The health endpoint

/// The endpoint says from now on that the scheduler ran so many minutes ago.
fn health(stage: &mut Stage, healthy: bool, last_run: Option<i64>) {
    stage.scheduler.health = Endpoint::parse("https://app.example/health", false).ok();
    stage.health = Some(Observed::Known(Health {
        healthy,
        last_run: last_run.map(|ago| stage.now - minutes(ago)),
    }));
}

/// A silence of the log alone: no ECS to ask.
fn falls_silent_without_ecs() -> Stage {
    let mut stage = falls_silent("");
    stage.scheduler.ecs = None;
    stage.scheduler.remediation = Default::default();
    stage
}

#[test]
fn a_healthy_pass_asks_no_health_endpoint() {
    let mut stage = falls_silent("");
    health(&mut stage, false, None);
    assert!(stage.snapshot().health.is_none());
    assert_eq!(stage.pass().verdict, Verdict::Healthy, "nor heeds it");
    stage.wait(5);
    assert!(stage.snapshot().health.is_some());
}

/// What the first look at a silence finds, with one answer of the endpoint or another.
#[test]
fn a_health_endpoint_is_a_second_witness_and_never_the_only_one() {
    type Say = fn(&mut Stage);
    let cases: [(Say, Verdict); 6] = [
        (|_| (), Verdict::Pending),
        (|s| health(s, false, Some(6)), Verdict::Firing),
        (|s| health(s, true, Some(6)), Verdict::Firing),
        (|s| health(s, true, Some(0)), Verdict::Pending),
        (|s| health(s, true, None), Verdict::Pending),
        (
            |s| {
                health(s, false, None);
                s.health = Some(Observed::Unknown(unknown(Obstacle::TimedOut)));
            },
            Verdict::Pending,
        ),
    ];
    for (say, expected) in cases {
        let mut stage = falls_silent_without_ecs();
        say(stage.wait(5));
        let first = stage.pass();
        assert_eq!(first.verdict, expected, "{:?}: {first}", stage.health);
        // Whatever it says, the second look fires.
        let said = match &stage.health {
            Some(Observed::Known(said)) => Some(said.clone()),
            _ => None,
        };
        stage.wait(5);
        if let Some(Health {
            healthy,
            last_run: Some(at),
        }) = said
        {
            let ago = (stage.now - minutes(5)).duration_since(at).as_mins();
            health(&mut stage, healthy, Some(ago));
        }
        assert_eq!(stage.pass().verdict, Verdict::Firing, "{:?}", stage.health);
        assert_eq!(stage.state.incidents.len(), 1);
    }
}

#[test]
fn a_health_endpoint_that_contradicts_holds_a_corroborated_silence_for_one_look() {
    let mut stage = falls_silent("");
    health(stage.wait(5), true, Some(1));
    let first = stage.pass();
    assert_eq!(
        (first.verdict, &first.reason),
        (Verdict::Pending, &Reason::SecondLookNeeded)
    );
    health(stage.wait(5), true, Some(1));
    let told = stage.pass();
    assert_eq!(only_condition(&told), Condition::SchedulerSilent);
    assert!(told.notifications[0].proof.contains(&Fact::Health {
        healthy: true,
        last_run: Some(stage.now - minutes(1)),
        sign: Sign::Alive,
    }));
    // And it keeps the watchdog from ending a loop that lives, for as long as it says so.
    health(stage.wait(5), true, Some(1));
    let plan = stage.pass();
    let withheld = plan.remediation.unwrap().blocked_by;
    assert_eq!(withheld, [Gate::HealthSaysAlive]);
    health(stage.wait(5), true, Some(6));
    assert!(stage.pass().remediation.unwrap().allowed());
}

#[test]
fn a_long_silence_is_told_at_the_second_look_although_the_endpoint_contradicts() {
    let mut stage = falls_silent("");
    health(stage.wait(20), true, Some(0));
    assert_eq!(stage.pass().verdict, Verdict::Pending);
    health(stage.wait(5), true, Some(0));
    assert_eq!(stage.pass().verdict, Verdict::Firing);
}

#[test]
fn a_health_endpoint_excuses_and_accuses_nobody() {
    // A service that is meant to be down, a deployment, and one without tasks.
    let mut stage = falls_silent("");
    stage.ecs(|facts| (facts.desired, facts.tasks) = (0, Vec::new()));
    health(stage.wait(5), false, None);
    assert_eq!(stage.pass().reason, Reason::DesiredCountZero);
    let mut stage = falls_silent("");
    let now = stage.now;
    stage.ecs(|f| (f.deployments).insert(0, deployment("ecs-svc/2", "IN_PROGRESS", now)));
    health(stage.wait(5), false, None);
    assert_eq!(stage.pass().verdict, Verdict::Suspended);
    let mut stage = falls_silent("");
    stage.ecs(|facts| facts.tasks.clear());
    health(stage.wait(5), true, Some(0));
    let down = stage.pass();
    assert_eq!(only_condition(&down), Condition::ServiceDown);
    // ECS could not be asked: a deployment may excuse the silence.
    let mut stage = falls_silent("");
    stage.service = Observed::Unknown(unknown(Obstacle::Throttled));
    health(stage.wait(5), false, None);
    assert_eq!(stage.pass().verdict, Verdict::Pending);
}

#[test]
fn a_scheduler_that_was_never_heard_is_told_whatever_its_endpoint_says() {
    let mut stage = Stage::new("");
    stage.other_lines();
    stage.look();
    health(stage.wait(30), true, Some(0));
    let plan = stage.pass();
    assert_eq!(
        occasions(&[plan]),
        [(Condition::NeverSeen, Occasion::Opened)]
    );
}

// Gates

/// A silence that fires for long enough; `change` is what closes a gate, if anything.
fn gates_after(more: &str, change: impl FnOnce(&mut Stage)) -> Vec<Gate> {
    let mut stage = falls_silent(more);
    stage.wait(5).look();
    change(&mut stage);
    let plan = stage.wait(5).pass();
    plan.remediation.expect("something to remedy").blocked_by
}

#[test]
fn all_gates_open_for_a_dead_loop() {
    assert_eq!(gates_after("", |_| ()), []);
}

#[test]
fn each_gate_closes_by_itself() {
    let ecs = |change: fn(&mut ServiceFacts)| move |stage: &mut Stage| stage.ecs(change);
    assert_eq!(gates_after("after = \"20m\"", |_| ()), [Gate::TooEarly]);
    assert_eq!(
        gates_after("", |s| s.service =
            Observed::Unknown(unknown(Obstacle::Denied))),
        [Gate::EcsUnknown]
    );
    assert_eq!(
        gates_after("", ecs(|f| f.status = "DRAINING".into())),
        [Gate::ServiceNotActive]
    );
    assert_eq!(
        gates_after("", ecs(|f| f.controller = "CODE_DEPLOY".into())),
        [Gate::DeploymentController]
    );
    assert_eq!(
        gates_after("", ecs(|f| f.deployments[0].rollout = "FAILED".into())),
        [Gate::DeploymentInProgress]
    );
    assert_eq!(
        gates_after("", |s| {
            let recent = s.now - minutes(20);
            s.ecs(|f| f.deployments[0].created_at = recent);
        }),
        [Gate::Cooldown]
    );
    assert_eq!(
        gates_after(
            "",
            ecs(|f| f.tasks[0].containers[0].image = "app:latest".into())
        ),
        [Gate::MutableImageTag]
    );
    assert_eq!(
        gates_after("allow_mutable_image_tag = true", |s| {
            s.ecs(|f| f.tasks[0].containers[0].image = "app:latest".into());
        }),
        []
    );
    assert_eq!(
        gates_after("", |s| health(s, true, Some(-4))),
        [Gate::HealthSaysAlive]
    );
    assert_eq!(gates_after("", |s| health(s, false, Some(-4))), []);
    assert_eq!(
        gates_after("", |s| s.fleet = Fleet {
            watched: 4,
            firing: 3
        }),
        [Gate::Storm]
    );
    assert_eq!(
        gates_after("", |s| s.fleet = Fleet {
            watched: 4,
            firing: 2
        }),
        []
    );
    assert_eq!(
        gates_after("", |s| s.state.restarts.locked_out_at = Some(s.now)),
        [Gate::LockedOut]
    );
    assert_eq!(
        gates_after("", |s| s.probe = None),
        [Gate::TooEarly, Gate::ConditionNotRestartable],
        "silent logs are another condition"
    );
    assert_eq!(
        gates_after("", ecs(|f| f.tasks.clear())),
        [
            Gate::TooEarly,
            Gate::ConditionNotRestartable,
            Gate::MutableImageTag
        ],
        "and so is a service without tasks"
    );
}

#[test]
fn more_than_half_of_at_least_three_schedulers_are_a_storm() {
    for (watched, firing, expected) in [
        (2, 2, false),
        (3, 1, false),
        (3, 2, true),
        (4, 2, false),
        (5, 2, false),
        (5, 3, true),
    ] {
        let fleet = Fleet { watched, firing };
        assert_eq!(fleet.is_storm(), expected, "{fleet:?}");
    }
}

#[test]
fn only_a_loop_that_is_down_counts_towards_a_storm() {
    let mut stage = falls_silent("");
    assert!(!stage.state.is_down(), "it has just fallen silent");
    stage.wait(5).look();
    assert!(stage.state.is_down());
    stage.beats(TASK, 60);
    stage.wait(5).look();
    assert!(!stage.state.is_down(), "it recovers");
    // More errors than usual are the scheduler's own.
    let mut stage = falls_silent("");
    stage.beats(TASK, 60);
    for n in 0..10 {
        stage.error(SignedDuration::from_secs(n * 20), "SQLSTATE[42S02]");
    }
    let plan = stage.wait(5).pass();
    assert_eq!(
        occasions(&[plan]),
        [(Condition::ErrorSpike, Occasion::Opened)]
    );
    assert!(!stage.state.is_down());
}

/// When a log comes back, other lines arrive before the next heartbeat does.
#[test]
fn a_log_that_has_just_come_back_leads_to_no_restart() {
    let mut stage = falls_silent("");
    stage.probe = None;
    let plans = stage.passes(6);
    assert_eq!(only_condition(&plans[5]), Condition::LogsSilent);
    stage.other_lines();
    let plans = stage.passes(2);
    let blocked: Vec<_> = (plans.iter())
        .map(|plan| plan.remediation.as_ref().unwrap().blocked_by.clone())
        .collect();
    assert_eq!(blocked, [vec![Gate::TooEarly], vec![]]);
}

/// Where single heartbeats get lost, an incident stays open while the loop lives.
#[test]
fn a_silence_that_comes_again_is_given_its_time_again() {
    let mut stage = falls_silent("");
    let plans = stage.passes(1);
    assert_eq!(plans[0].verdict, Verdict::Firing);
    stage.beats(TASK, 5);
    let blocked: Vec<_> = (stage.passes(3).into_iter())
        .map(|plan| plan.remediation.map(|remediation| remediation.blocked_by))
        .collect();
    assert_eq!(
        blocked,
        [None, Some(vec![Gate::TooEarly]), Some(vec![])],
        "good once, silent again, and still silent"
    );
}

#[test]
fn a_silence_whose_log_cannot_be_read_leads_to_no_restart() {
    let mut stage = falls_silent("");
    stage.wait(5).look();
    stage.log_error = Some(unknown(Obstacle::Throttled));
    let plan = stage.wait(5).pass();
    assert_eq!(plan.verdict, Verdict::Unknown);
    assert!(
        plan.remediation
            .unwrap()
            .blocked_by
            .contains(&Gate::LogUnknown)
    );
}

#[test]
fn a_failing_scheduler_without_a_proven_cause_is_not_restarted() {
    let mut stage = falls_silent("");
    for minute in 0..20 {
        stage.abort(minutes(minute), "something nobody knows");
    }
    let plans = stage.passes(4);
    let remediation = plans[3].remediation.as_ref().unwrap();
    assert_eq!(remediation.blocked_by, [Gate::CauseNotRestartable]);
}

// Restarts

/// A dead loop that was restarted; the stage stands at the pass that made the restart.
fn restarted() -> Stage {
    let mut stage = falls_silent("");
    stage.wait(5).look();
    let plan = stage.wait(5).pass();
    assert!(plan.remediation.as_ref().unwrap().allowed(), "{plan}");
    remedy::settle(&mut stage.state, &Ok(Some("ecs-svc/2".to_owned())));
    stage
}

/// The restart's deployment has come to its end, and runs a new task.
fn deployed(stage: &mut Stage, new_task: &str) {
    let now = stage.now;
    stage.service = Observed::Known(ServiceFacts {
        deployments: vec![deployment("ecs-svc/2", "COMPLETED", now)],
        tasks: vec![task(new_task, "ecs-svc/2", now + minutes(1))],
        ..facts(&[new_task], now)
    });
}

#[test]
fn a_restart_is_made_once_and_proven_by_the_new_tasks_heartbeat() {
    let mut stage = restarted();
    deployed(&mut stage, "new");
    stage.wait(2).beats("new", 30);
    let plans = stage.passes(4);
    assert_eq!(
        occasions(&plans),
        [
            (Condition::SchedulerSilent, Occasion::Remediated),
            (Condition::SchedulerSilent, Occasion::Resolved),
        ]
    );
    let resolved = &plans.iter().flat_map(|p| &p.notifications).last().unwrap();
    assert!(
        matches!(
            resolved.handling,
            Handling::Cured {
                cure: CureKind::ForceNewDeployment,
                seconds: 120,
                ..
            }
        ),
        "{:?}",
        resolved.handling
    );
    assert!(
        plans
            .iter()
            .all(|p| !p.remediation.as_ref().is_some_and(|r| r.allowed()))
    );
}

#[test]
fn heartbeats_of_an_old_task_prove_nothing() {
    let mut stage = restarted();
    stage.wait(1).beats(TASK, 30);
    assert_eq!(
        occasions(&stage.passes(2)),
        [(Condition::SchedulerSilent, Occasion::Resolved)]
    );
}

#[test]
fn two_restarts_without_proof_end_in_a_lock_out() {
    let mut stage = restarted();
    let mut told = Vec::new();
    let mut made = 1;
    for _ in 0..30 {
        deployed(&mut stage, "new");
        let deployed_at = stage.state.restarts.attempts.last().unwrap().claimed_at;
        stage.ecs(|f| f.deployments[0].created_at = deployed_at);
        let plan = stage.wait(5).pass();
        if plan.remediation.as_ref().is_some_and(|r| r.allowed()) {
            made += 1;
            remedy::settle(&mut stage.state, &Ok(Some("ecs-svc/2".to_owned())));
        }
        told.extend(occasions(&[plan]));
    }
    assert_eq!(made, 2);
    let told: Vec<Occasion> = told.into_iter().map(|(_, occasion)| occasion).collect();
    assert_eq!(
        told.iter()
            .filter(|o| **o == Occasion::RemediationFailed)
            .count(),
        1
    );
    assert_eq!(
        told.iter().filter(|o| **o == Occasion::LockedOut).count(),
        1
    );
}

#[test]
fn a_lock_out_ends_after_six_healthy_hours() {
    let mut stage = falls_silent("");
    stage.state.restarts.locked_out_at = Some(stage.now);
    stage.state.restarts.healthy_since = None;
    stage.beats(TASK, 7 * 60);
    stage.passes(6 * 12 - 2);
    assert!(stage.state.restarts.locked_out_at.is_some());
    stage.passes(6);
    assert!(stage.state.restarts.locked_out_at.is_none());
}

#[test]
fn a_failed_call_is_tried_again_and_uses_up_no_attempt() {
    let mut stage = falls_silent("");
    stage.wait(5).look();
    stage.wait(5).look();
    remedy::settle(&mut stage.state, &Err(unknown(Obstacle::Throttled)));
    let again = stage.wait(5).pass();
    let remediation = again.remediation.unwrap();
    assert!(remediation.allowed());
    assert_eq!(remediation.attempt, 1);
}

#[test]
fn a_denied_call_is_told_once_and_not_tried_again() {
    let mut stage = falls_silent("");
    stage.wait(5).look();
    stage.wait(5).look();
    remedy::settle(&mut stage.state, &Err(unknown(Obstacle::Denied)));
    let plans = stage.passes(3);
    assert_eq!(
        occasions(&plans),
        [(Condition::SchedulerSilent, Occasion::RemediationFailed)]
    );
    assert!(
        plans[2]
            .remediation
            .as_ref()
            .unwrap()
            .blocked_by
            .contains(&Gate::CallsFailed)
    );
}

#[test]
fn a_claim_whose_pass_died_is_traced_in_ecs() {
    // The call was made: the deployment is there.
    let mut stage = falls_silent("");
    stage.wait(5).look();
    stage.wait(5).look();
    deployed(&mut stage, "new");
    let plan = stage.wait(5).pass();
    assert!(
        !plan.remediation.as_ref().is_some_and(|r| r.allowed()),
        "{plan}"
    );
    // The call was not made: it is made now, as the same attempt.
    let mut stage = falls_silent("");
    stage.wait(5).look();
    stage.wait(5).look();
    let plan = stage.wait(5).pass();
    let remediation = plan.remediation.unwrap();
    assert!(remediation.allowed(), "{:?}", remediation.blocked_by);
    assert_eq!(remediation.attempt, 1);
}

/// An answer that is lost is no refusal: the restart it stands for was made, counts, and is proven.
#[test]
fn a_restart_whose_answer_is_lost_is_traced_in_ecs() {
    for obstacle in [Obstacle::TimedOut, Obstacle::Failed] {
        let mut stage = falls_silent("");
        stage.wait(5).look();
        stage.wait(5).look();
        remedy::settle(&mut stage.state, &Err(unknown(obstacle)));
        deployed(&mut stage, "new");
        stage.wait(5).look();
        stage.beats("new", 5);
        let plans = stage.passes(2);
        let told: Vec<_> = (occasions(&plans).into_iter())
            .map(|(_, occasion)| occasion)
            .collect();
        assert_eq!(told, [Occasion::Remediated], "{obstacle}");
    }
}

#[test]
fn a_silent_replica_is_cured_by_stopping_its_task() {
    let mut stage = Stage::new("");
    stage.other_lines();
    let since = stage.now - SignedDuration::from_hours(48);
    stage.service = Observed::Known(facts(&[TASK, SECOND_TASK], since));
    stage.beats(TASK, 120);
    stage.beats(SECOND_TASK, 30);
    let mut made = Vec::new();
    for _ in 0..9 {
        if let Some(remediation) = stage.wait(5).pass().remediation.filter(|r| r.allowed()) {
            remedy::settle(&mut stage.state, &Ok(None));
            made.push(remediation);
        }
    }
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].cure, CureKind::StopTask);
    assert_eq!(made[0].task.as_deref(), Some(SECOND_TASK));
}

// The life of incidents

#[test]
fn an_outage_is_one_opened_and_one_resolved() {
    let mut stage = falls_silent("after = \"24h\"");
    let mut plans = stage.passes(2);
    stage.beats(TASK, 30);
    plans.extend(stage.passes(6));
    let told: Vec<_> = occasions(&plans)
        .into_iter()
        .map(|(_, occasion)| occasion)
        .collect();
    assert_eq!(told, [Occasion::Opened, Occasion::Resolved]);
}

#[test]
fn one_good_look_is_not_enough() {
    // Nor does the first look that sees a heartbeat count if it only repeats the one before.
    for seconds in [300, 10] {
        let mut stage = falls_silent("");
        stage.wait(5).look();
        stage.beats(TASK, 5);
        stage.now += SignedDuration::from_secs(seconds);
        let plan = stage.pass();
        assert_eq!(
            (plan.verdict, &plan.reason),
            (Verdict::Firing, &Reason::Recovering),
            "{seconds} s"
        );
        assert!(plan.notifications.is_empty() && plan.conditions.is_empty());
    }
}

/// One job has just run well again, and of another one run is missing, which may yet be told.
#[test]
fn what_waits_for_a_second_look_does_not_hide_a_recovery() {
    let job = |name: &str| {
        format!(
            "[[scheduler.job]]\nname = \"{name}\"\ncron = \"*/5 * * * *\"\nfailure_tolerance = 1\n"
        )
    };
    let mut stage = Stage::new(&(job("fails") + &job("stops")));
    stage.beats(TASK, 30);
    let second = SignedDuration::from_secs(2);
    for minute in [0, 5, 15] {
        stage.job_ended("fails", minutes(minute) + second, SignedDuration::ZERO);
    }
    stage.job_ended("stops", minutes(5) + second, SignedDuration::ZERO);
    let event = JobEvent::Failed {
        took: Some(SignedDuration::ZERO),
        exit_code: Some(1),
    };
    let kind = Kind::Job {
        name: "fails".to_owned(),
        event,
        background: false,
    };
    stage.push(TASK, minutes(10) + second, kind, "fails");
    let plans = stage.passes(4);
    assert_eq!(
        occasions(&plans),
        [(Condition::JobFailing, Occasion::Opened)]
    );
    let last = &plans[3];
    assert_eq!(only_condition(last), Condition::JobOverdue);
    assert_eq!(
        (last.verdict, &last.reason),
        (Verdict::Firing, &Reason::Recovering)
    );
}

#[test]
fn reminders_come_after_an_hour_then_two_then_four() {
    let mut stage = falls_silent("after = \"24h\"");
    let plans = stage.passes(12 * 12);
    let times: Vec<i64> = (plans.iter())
        .filter(|plan| !plan.notifications.is_empty())
        .map(|plan| plan.at.duration_since(plans[0].at).as_mins())
        .collect();
    assert_eq!(times, [0, 60, 180, 420, 660]);
}

#[test]
fn another_face_of_the_same_outage_is_a_change_and_no_new_incident() {
    let mut stage = falls_silent("");
    stage.wait(5).look();
    stage.ecs(|facts| facts.tasks.clear());
    let plan = stage.wait(5).pass();
    assert_eq!(
        occasions(&[plan]),
        [(Condition::ServiceDown, Occasion::Changed)]
    );
    let since = stage.now - SignedDuration::from_hours(48);
    stage.service = Observed::Known(facts(&[TASK], since));
    assert!(
        stage.wait(5).pass().notifications.is_empty(),
        "a flip back is no news"
    );
}

#[test]
fn an_outage_that_comes_and_goes_is_told_as_flapping() {
    let mut stage = falls_silent("after = \"24h\"");
    let mut told = Vec::new();
    for _ in 0..4 {
        told.extend(occasions(&stage.passes(2)));
        stage.beats(TASK, 15);
        told.extend(occasions(&stage.passes(3)));
    }
    let told: Vec<Occasion> = told.into_iter().map(|(_, occasion)| occasion).collect();
    use Occasion::{Flapping, Opened, Reminder, Resolved};
    assert_eq!(told, [Opened, Resolved, Opened, Resolved, Flapping]);
    let withheld = |plan: &Plan| plan.withheld.iter().any(|w| w.why == Withholding::Flapping);
    let held = stage.passes(2);
    assert!(held.iter().any(withheld));
    // No message speaks of one silence from the first to the last heartbeat.
    let last_beat = held[1].silent_for.map(|silent| held[1].at - silent);
    let again = |plans: &[Plan]| {
        plans
            .iter()
            .find_map(|p| Some(p.notifications.first()?.again_since))
    };
    let later = stage.passes(12);
    assert_eq!(occasions(&later), [(Condition::SchedulerSilent, Reminder)]);
    assert_eq!(again(&later), Some(last_beat));
    stage.beats(TASK, 60);
    let quiet = stage.passes(9);
    assert_eq!(occasions(&quiet), [(Condition::SchedulerSilent, Resolved)]);
    assert_eq!(again(&quiet), Some(last_beat));
}

/// Nothing is held back of it: there is nothing to tell.
#[test]
fn an_outage_that_was_better_for_a_moment_is_not_called_flapping() {
    let mut stage = falls_silent("after = \"24h\"");
    assert_eq!(
        occasions(&stage.passes(1)),
        [(Condition::SchedulerSilent, Occasion::Opened)]
    );
    stage.push(TASK, minutes(4), Kind::Heartbeat(Pulse::Idle), "idle");
    assert_eq!(stage.wait(5).pass().reason, Reason::Recovering);
    let back = stage.wait(5).pass();
    assert_eq!(back.conditions, [Condition::SchedulerSilent], "{back}");
    assert_eq!((back.withheld, back.notifications), (vec![], vec![]));
}

/// It was better for a moment, just when it was time for a reminder: that is told at once, so that
/// there is nothing left to tell when the same is decided again.
#[test]
fn a_reminder_that_is_due_when_the_trouble_is_back_is_told_then() {
    let mut stage = Stage::of(
        "[[scheduler]]\nname = \"shop\"\nlog_groups = [\"/ecs/shop\"]\nstale_after = \"5m\"",
    );
    stage.beats(TASK, 30);
    // Told at 00:40, with the second look.
    let plans = stage.passes(18);
    assert_eq!(
        occasions(&plans),
        [(Condition::SchedulerSilent, Occasion::Opened)]
    );
    stage.push(TASK, minutes(1), Kind::Heartbeat(Pulse::Idle), "idle");
    let good = stage.wait(5).pass();
    assert_eq!(good.reason, Reason::Recovering, "{good}");
    let back = stage.wait(5).pass();
    assert_eq!(
        occasions(std::slice::from_ref(&back)),
        [(Condition::SchedulerSilent, Occasion::Reminder)]
    );
    let (again, _) = stage.decide();
    assert!(again.is_empty(), "{again}");
}

#[test]
fn deciding_twice_plans_nothing_new() {
    let mut stage = falls_silent("");
    for _ in 0..40 {
        stage.wait(5).look();
        let (again, state) = stage.decide();
        assert!(again.is_empty(), "{again}");
        assert_eq!(state.outbox, stage.state.outbox);
        if stage.now > stage.lines.last().unwrap().at + minutes(40) {
            stage.beats(TASK, 20);
        }
    }
}

#[test]
fn a_silence_during_blindness_is_neither_opened_nor_resolved() {
    let mut stage = falls_silent("");
    stage.wait(5).look();
    stage.log_error = Some(unknown(Obstacle::TimedOut));
    stage.wait(5).look();
    let incident = &stage.state.incidents[0];
    assert_eq!(
        (incident.condition, incident.phase),
        (Condition::SchedulerSilent, Phase::Firing)
    );
}
