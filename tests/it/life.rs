//! The life of incidents: what holds them open, what ends them, and what is forgotten.

use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::condition::{Condition, Fact};
use scheduler_watchdog::config::StaleAfter;
use scheduler_watchdog::line::{JobEvent, Kind, Pulse};
use scheduler_watchdog::plan::{Occasion, Plan, Reason, Verdict};
use scheduler_watchdog::snapshot::{LogWindow, Observed, Obstacle};
use scheduler_watchdog::state::Phase;

use crate::stage::{
    DEPLOYMENT, SECOND_TASK, Stage, TASK, deployment, falls_silent, minutes, replica_falls_silent,
    told, unknown,
};

fn occasions(plans: &[Plan]) -> Vec<(Condition, Occasion)> {
    (told(plans).into_iter())
        .map(|n| (n.condition, n.occasion))
        .collect()
}

fn beat(stage: &mut Stage, task: &str, after: i64) {
    stage.push(task, minutes(after), Kind::Heartbeat(Pulse::Idle), "idle");
}

/// Nothing is printed from now on.
fn falls_silent_now(stage: &mut Stage) {
    let now = stage.now;
    stage.lines.retain(|line| line.at <= now);
}

/// A replica of which it was told that it is silent, and that nothing is done about it.
fn silent_replica() -> Stage {
    let mut stage = replica_falls_silent("");
    stage.scheduler.remediation = Default::default();
    let opened = occasions(&stage.passes(1));
    assert_eq!(opened, [(Condition::ReplicaSilent, Occasion::Opened)]);
    stage
}

#[test]
fn a_silence_is_over_with_the_second_heartbeat_and_not_with_the_second_look() {
    let mut stage = falls_silent("");
    stage.scheduler.remediation = Default::default();
    stage.scheduler.stale_after = StaleAfter::Fixed(minutes(30));
    assert_eq!(occasions(&stage.passes(6)).len(), 1);
    beat(&mut stage, TASK, 1);
    assert_eq!(occasions(&stage.passes(4)), []);
    beat(&mut stage, TASK, 1);
    let over = [(Condition::SchedulerSilent, Occasion::Resolved)];
    assert_eq!(occasions(&stage.passes(1)), over);
}

#[test]
fn a_replicas_silence_is_over_with_its_own_second_heartbeat() {
    let mut stage = silent_replica();
    stage.scheduler.stale_after = StaleAfter::Fixed(minutes(30));
    beat(&mut stage, SECOND_TASK, 1);
    assert_eq!(occasions(&stage.passes(4)), []);
    beat(&mut stage, SECOND_TASK, 1);
    let over = [(Condition::ReplicaSilent, Occasion::Resolved)];
    assert_eq!(occasions(&stage.passes(1)), over);
}

#[test]
fn the_silence_of_a_replica_that_is_gone_is_over() {
    let mut stage = silent_replica();
    stage.ecs(|facts| {
        facts.tasks.truncate(1);
        facts.desired = 1;
    });
    let over = [(Condition::ReplicaSilent, Occasion::Resolved)];
    assert_eq!(occasions(&stage.passes(2)), over);
}

/// What cannot be judged in a look stays as it is.
#[test]
fn a_silent_replica_is_not_over_while_nobody_can_tell() {
    type Hide = fn(&mut Stage);
    let hidden: [Hide; 4] = [
        // A deployment may be replacing it.
        |stage| {
            let now = stage.now;
            stage.beats(SECOND_TASK, 60);
            stage.ecs(|f| (f.deployments).insert(0, deployment("ecs-svc/2", "IN_PROGRESS", now)));
        },
        // ECS does not say whether it runs.
        |stage| {
            stage.beats(SECOND_TASK, 60);
            stage.service = Observed::Unknown(unknown(Obstacle::Throttled));
        },
        // The log cannot be read.
        |stage| {
            stage.beats(SECOND_TASK, 60);
            stage.log_error = Some(unknown(Obstacle::Throttled));
        },
        // All others have fallen silent as well, and a task has just started.
        |stage| {
            falls_silent_now(stage);
            let young = stage.now + minutes(9);
            stage.ecs(|facts| facts.tasks[0].started_at = Some(young));
            stage.scheduler.startup_grace = minutes(30);
        },
    ];
    for (case, hide) in hidden.into_iter().enumerate() {
        let mut stage = silent_replica();
        hide(&mut stage);
        let plans = stage.passes(2);
        assert_eq!(occasions(&plans), [], "{case}: {}", plans[1]);
        let phase = stage.state.incidents[0].phase;
        assert_eq!(phase, Phase::Firing, "{case}");
    }
}

#[test]
fn a_silent_replica_is_not_over_when_the_others_fall_silent_too() {
    let mut stage = silent_replica();
    falls_silent_now(&mut stage);
    let plans = stage.passes(4);
    let opened = [(Condition::SchedulerSilent, Occasion::Opened)];
    assert_eq!(occasions(&plans), opened);
    let replica = (stage.state.incidents.iter())
        .find(|incident| incident.condition == Condition::ReplicaSilent)
        .unwrap();
    assert_eq!(replica.phase, Phase::Firing);
}

/// A deployment that hangs, and is then done.
#[test]
fn a_stuck_deployment_is_over_when_it_is_done() {
    let mut stage = silent_replica();
    let now = stage.now;
    stage.beats(SECOND_TASK, 120);
    stage.ecs(|f| (f.deployments).insert(0, deployment("ecs-svc/2", "IN_PROGRESS", now)));
    let stuck = (Condition::DeploymentStuck, Occasion::Opened);
    assert_eq!(occasions(&stage.passes(6)), [stuck]);
    stage.ecs(|facts| facts.deployments.retain(|d| d.id == DEPLOYMENT));
    let mut over = occasions(&stage.passes(2));
    over.sort_by_key(|(condition, _)| condition.to_string());
    assert_eq!(
        over,
        [
            (Condition::DeploymentStuck, Occasion::Resolved),
            (Condition::ReplicaSilent, Occasion::Resolved)
        ]
    );
}

/// More errors than the threshold, told; the loop lives on.
fn error_spike() -> Stage {
    let mut stage = falls_silent("");
    stage.scheduler.remediation = Default::default();
    stage.beats(TASK, 240);
    for n in 0..10 {
        stage.error(jiff::SignedDuration::from_secs(n * 20), "SQLSTATE[42S02]");
    }
    let opened = [(Condition::ErrorSpike, Occasion::Opened)];
    assert_eq!(occasions(&stage.passes(1)), opened);
    stage
}

#[test]
fn a_spike_is_over_after_two_looks_that_can_tell() {
    let over = [(Condition::ErrorSpike, Occasion::Resolved)];
    // The first look still sees the window of the last one.
    let mut stage = error_spike();
    assert_eq!(occasions(&stage.passes(3)), over);

    let mut stage = error_spike();
    stage.log_error = Some(unknown(Obstacle::Throttled));
    assert_eq!(occasions(&stage.passes(2)), []);
    stage.log_error = None;
    assert_eq!(occasions(&stage.passes(3)), over);

    let mut stage = error_spike();
    falls_silent_now(&mut stage);
    let opened = [(Condition::SchedulerSilent, Occasion::Opened)];
    assert_eq!(occasions(&stage.passes(6)), opened);
}

const JOB: &str = r#"
    [[scheduler.job]]
    name = "redis:monitor"
    cron = "*/5 * * * *"
"#;

fn runs(stage: &mut Stage, from: i64, until: i64) {
    for minute in (from..until).step_by(5) {
        stage.job_ended(
            "redis:monitor",
            minutes(minute) + jiff::SignedDuration::from_secs(1),
            jiff::SignedDuration::from_millis(20),
        );
    }
}

#[test]
fn a_missing_job_is_not_over_while_the_log_cannot_be_read() {
    let mut stage = Stage::new(JOB);
    stage.beats(TASK, 240);
    runs(&mut stage, 0, 30);
    let mut plans = stage.passes(14);
    let opened = [(Condition::JobOverdue, Occasion::Opened)];
    assert_eq!(occasions(&plans), opened);
    stage.log_error = Some(unknown(Obstacle::Throttled));
    assert_eq!(occasions(&stage.passes(2)), []);
    stage.log_error = None;
    assert_eq!(occasions(&stage.passes(1)), []);
    runs(&mut stage, 0, 60);
    plans = stage.passes(4);
    let over = [(Condition::JobOverdue, Occasion::Resolved)];
    assert_eq!(occasions(&plans), over);
}

/// That ECS answers again is known from ECS, whatever the log says.
#[test]
fn blindness_of_ecs_is_over_when_ecs_answers_although_the_log_does_not() {
    let mut stage = falls_silent("");
    stage.service = Observed::Unknown(unknown(Obstacle::Denied));
    let opened = occasions(&stage.passes(3));
    assert!(opened.contains(&(Condition::WatchdogBlind, Occasion::Opened)));
    stage.log_error = Some(unknown(Obstacle::Throttled));
    let since = stage.now - minutes(60 * 48);
    stage.service = Observed::Known(crate::stage::facts(&[TASK], since));
    let over = [(Condition::WatchdogBlind, Occasion::Resolved)];
    assert_eq!(occasions(&stage.passes(2)), over);
}

/// Nothing else may ask for ECS by then: what was told asks until its all-clear.
#[test]
fn blindness_of_ecs_is_over_although_the_loop_has_been_well_for_long() {
    let mut stage = falls_silent("");
    stage.service = Observed::Unknown(unknown(Obstacle::Denied));
    stage.passes(3);
    stage.beats(TASK, 60);
    let over = [(Condition::SchedulerSilent, Occasion::Resolved)];
    assert_eq!(occasions(&stage.passes(5)), over);
    let since = stage.now - minutes(60 * 48);
    stage.service = Observed::Known(crate::stage::facts(&[TASK], since));
    let over = [(Condition::WatchdogBlind, Occasion::Resolved)];
    assert_eq!(occasions(&stage.passes(2)), over);
    stage.wait(5);
    assert!(
        stage.snapshot().service.is_none(),
        "a healthy pass is cheap"
    );
}

#[test]
fn what_waits_for_a_second_look_is_forgotten_when_that_look_is_good() {
    let mut stage = falls_silent("");
    stage.service = Observed::Unknown(unknown(Obstacle::Throttled));
    assert_eq!(stage.wait(5).pass().verdict, Verdict::Pending);
    stage.beats(TASK, 30);
    let plan = stage.wait(5).pass();
    assert_eq!(plan.verdict, Verdict::Healthy);
    assert_eq!(stage.state.incidents, []);
}

#[test]
fn what_waits_for_a_second_look_goes_on_waiting_while_the_log_cannot_be_read() {
    let mut stage = falls_silent("");
    stage.service = Observed::Unknown(unknown(Obstacle::Throttled));
    assert_eq!(stage.wait(5).pass().verdict, Verdict::Pending);
    let since = stage.state.incidents[0].found_at;
    stage.log_error = Some(unknown(Obstacle::Throttled));
    stage.wait(5).look();
    assert_eq!(stage.state.incidents[0].found_at, since);
    stage.log_error = None;
    let opened = (Condition::SchedulerSilent, Occasion::Opened);
    assert!(occasions(&stage.passes(1)).contains(&opened));
}

/// Nobody wanted to hear of the first outage; the second one's all-clear tells its own cost only.
#[test]
fn the_runs_that_a_silenced_outage_cost_are_not_told_with_the_next_one() {
    let silenced = format!(
        "{JOB}[[scheduler.silence]]\ncron = \"30 0 * * *\"\nduration = \"90m\"\nreason = \"move\"\n"
    );
    let mut stage = Stage::new(&silenced);
    stage.scheduler.remediation = Default::default();
    stage.other_lines();
    stage.beats(TASK, 30);
    runs(&mut stage, 0, 30);
    assert_eq!(occasions(&stage.passes(6)), []);
    // Minutes from 00:30 on: silent until 01:00, then two hours of health.
    stage.wait(30).beats(TASK, 120);
    runs(&mut stage, 0, 120);
    stage.wait(-30);
    assert_eq!(occasions(&stage.passes(30)), []);
    // Silent from 03:00 to 03:32.
    stage.wait(32).beats(TASK, 60);
    runs(&mut stage, 3, 60);
    stage.wait(-32);
    let plans = stage.passes(12);
    let resolved = (told(&plans).into_iter())
        .find(|n| n.occasion == Occasion::Resolved)
        .expect("the all-clear of the second outage");
    let missed: Vec<u32> = (resolved.proof.iter())
        .filter_map(|fact| match fact {
            Fact::MissedRuns { count, .. } => Some(*count),
            _ => None,
        })
        .collect();
    assert_eq!(missed, [7], "03:00 to 03:30: {:?}", resolved.proof);
}

/// Only what happened in the last two hours tells whether something comes and goes.
#[test]
fn a_long_outage_long_ago_does_not_make_the_next_ones_flap() {
    use Occasion::{Flapping, Opened, Reminder, Resolved};
    // The first alert is 130 minutes older than the third, or two hours, or less.
    for (first, third) in [(70, Opened), (60, Opened), (55, Flapping)] {
        let mut stage = falls_silent("");
        stage.scheduler.remediation = Default::default();
        let mut times = Vec::new();
        // Silent at first, well for 30 minutes, silent for 15, well for 15, and silent again.
        for (silent, well) in [(first, 30), (15, 15), (15, 50)] {
            times.extend(stage.passes(silent / 5));
            stage.beats(TASK, well);
            times.extend(stage.passes(well as usize / 5));
        }
        let told: Vec<Occasion> = occasions(&times).into_iter().map(|(_, o)| o).collect();
        let ups_and_downs: Vec<Occasion> = (told.into_iter()).filter(|o| *o != Reminder).collect();
        assert_eq!(
            ups_and_downs,
            [Opened, Resolved, Opened, Resolved, third, Resolved],
            "silent for {first} min at first"
        );
    }
}

/// Whatever its causes do, an incident is told anew a bounded number of times.
#[test]
fn a_dozen_faces_of_one_incident_are_told() {
    for (told_before, expected) in [(11, vec![Occasion::Changed]), (12, vec![])] {
        let mut stage = falls_silent("");
        stage.scheduler.remediation = Default::default();
        stage.look();
        stage.passes(1);
        stage.state.incidents[0].told = (0..told_before).map(|n| format!("face/{n}")).collect();
        stage.ecs(|facts| facts.tasks.clear());
        let told: Vec<Occasion> = (occasions(&stage.passes(1)).into_iter())
            .map(|(_, occasion)| occasion)
            .collect();
        assert_eq!(told, expected, "{told_before}");
    }
}

/// What is over is remembered for as long as it tells whether something comes and goes.
#[test]
fn an_incident_that_is_over_is_forgotten_after_two_hours() {
    let mut stage = falls_silent("");
    stage.scheduler.remediation = Default::default();
    stage.passes(1);
    stage.beats(TASK, 180);
    let plans = stage.passes(2);
    assert_eq!(told(&plans)[0].occasion, Occasion::Resolved);
    stage.wait(119).look();
    assert_eq!(stage.state.incidents.len(), 1);
    stage.wait(1).look();
    assert_eq!(stage.state.incidents.len(), 0);
}

// Excuses

/// Scaled to zero for an hour, and up again from now on.
fn scaled_up_again(more: &str) -> Stage {
    let mut stage = falls_silent(more);
    stage.scheduler.remediation = Default::default();
    let up = stage.service.clone();
    stage.ecs(|facts| (facts.desired, facts.tasks) = (0, Vec::new()));
    let plans = stage.passes(12);
    assert!(plans.iter().all(|plan| plan.verdict == Verdict::Suspended));
    stage.service = up;
    let now = stage.now;
    stage.ecs(|facts| facts.tasks[0].started_at = Some(now));
    stage
}

/// Nobody expects heartbeats before the service was seen to run again.
#[test]
fn the_silence_of_a_service_that_was_scaled_up_counts_from_the_first_look_at_it() {
    let mut stage = scaled_up_again("");
    let verdicts: Vec<Verdict> = stage.passes(3).iter().map(|plan| plan.verdict).collect();
    use Verdict::{Firing, Healthy};
    assert_eq!(verdicts, [Healthy, Healthy, Firing]);
}

#[test]
fn a_service_that_was_scaled_up_and_lives_needs_no_further_evidence() {
    // Heartbeats of the very moments of the looks, or between them.
    for seconds in [0, 2] {
        let mut stage = scaled_up_again("");
        for minute in 0..60 {
            let after = minutes(minute) + jiff::SignedDuration::from_secs(seconds);
            stage.push(TASK, after, Kind::Heartbeat(Pulse::Idle), "idle");
        }
        for plan in stage.passes(2) {
            assert_eq!(plan.verdict, Verdict::Healthy, "{plan}");
        }
        let snapshot = stage.wait(5).snapshot();
        assert!(snapshot.probe.is_none() && snapshot.service.is_none());
    }
}

/// That it is off was true until ECS said that it is meant to run.
#[test]
fn a_service_that_was_seen_to_run_again_is_expected_to_although_ecs_answers_no_more() {
    let mut stage = scaled_up_again("");
    stage.passes(1);
    stage.service = Observed::Unknown(unknown(Obstacle::Throttled));
    let verdicts: Vec<Verdict> = stage.passes(2).iter().map(|plan| plan.verdict).collect();
    assert_eq!(verdicts, [Verdict::Healthy, Verdict::Firing]);
}

#[test]
fn no_job_misses_a_run_while_the_service_is_scaled_to_zero() {
    let mut stage = Stage::new(JOB);
    stage.beats(TASK, 30);
    runs(&mut stage, 0, 30);
    stage.passes(6);
    let up = stage.service.clone();
    stage.ecs(|facts| (facts.desired, facts.tasks) = (0, Vec::new()));
    stage.passes(12);
    stage.service = up;
    let now = stage.now;
    stage.ecs(|facts| facts.tasks[0].started_at = Some(now));
    stage.beats(TASK, 120);
    runs(&mut stage, 5, 60);
    let plans = stage.passes(11);
    assert_eq!(occasions(&plans), []);
    assert!(plans.iter().all(|plan| plan.conditions.is_empty()));
    // From then on they are expected as ever.
    let opened = [(Condition::JobOverdue, Occasion::Opened)];
    assert_eq!(occasions(&stage.passes(6)), opened);
}

/// A silence that is excused by a deployment, for twenty minutes.
fn excused(stage: &mut Stage) {
    let now = stage.now;
    stage.ecs(|f| (f.deployments).insert(0, deployment("ecs-svc/2", "IN_PROGRESS", now)));
    for plan in stage.passes(4) {
        assert_eq!(plan.verdict, Verdict::Suspended, "{plan}");
    }
    stage.ecs(|facts| {
        facts.deployments.remove(0);
    });
}

#[test]
fn each_silence_has_excuses_of_its_own() {
    let mut stage = falls_silent("");
    excused(&mut stage);
    stage.beats(TASK, 30);
    stage.passes(6);
    excused(&mut stage);
}

#[test]
fn a_spent_excuse_stays_spent_while_the_silence_lasts() {
    let mut stage = falls_silent("");
    stage.scheduler.remediation = Default::default();
    let mut verdicts = Vec::new();
    for _ in 0..16 {
        stage.wait(5);
        let young = stage.now - minutes(1);
        stage.ecs(|facts| facts.tasks[0].started_at = Some(young));
        verdicts.push(stage.pass().verdict);
    }
    verdicts.dedup();
    assert_eq!(verdicts, [Verdict::Suspended, Verdict::Firing]);
}

#[test]
fn a_repeated_invocation_is_no_further_blind_pass() {
    let mut stage = falls_silent("");
    stage.log_error = Some(unknown(Obstacle::Denied));
    stage.passes(2);
    stage.now += jiff::SignedDuration::from_secs(3);
    let repeated = stage.pass();
    assert_eq!(occasions(&[repeated]), []);
    let opened = [(Condition::WatchdogBlind, Occasion::Opened)];
    assert_eq!(occasions(&stage.passes(1)), opened);
}

// What waits to be sent

/// While nothing can be delivered, the newest reminder of each incident waits, and everything else.
#[test]
fn a_newer_reminder_takes_the_place_of_one_that_could_not_be_delivered() {
    let mut stage = falls_silent("");
    stage.scheduler.remediation = Default::default();
    stage.passes(12 * 5);
    stage.log_error = Some(unknown(Obstacle::Denied));
    stage.passes(12 * 5);
    stage.log_error = None;
    stage.passes(12 * 5);
    let waiting: Vec<(Condition, Occasion)> = (stage.state.outbox.iter())
        .map(|n| (n.condition, n.occasion))
        .collect();
    use Condition::{SchedulerSilent, WatchdogBlind};
    use Occasion::{Opened, Reminder, Resolved};
    assert_eq!(
        waiting,
        [
            (SchedulerSilent, Opened),
            (WatchdogBlind, Opened),
            (WatchdogBlind, Reminder),
            (WatchdogBlind, Resolved),
            (SchedulerSilent, Reminder),
        ]
    );
    let newest = &stage.state.outbox[4];
    assert!(stage.now.duration_since(newest.at) < minutes(4 * 60));
}

// What an outage cost

#[test]
fn an_all_clear_names_eight_jobs_and_counts_the_others() {
    let cost = |jobs: usize| {
        let tables: String = (0..jobs)
            .map(|n| format!("[[scheduler.job]]\nname = \"job:{n}\"\ncron = \"40 * * * *\"\n"))
            .collect();
        let mut stage = falls_silent(&tables);
        stage.scheduler.remediation = Default::default();
        let mut plans = stage.passes(4);
        stage.beats(TASK, 60);
        plans.extend(stage.passes(3));
        let over = told(&plans)
            .into_iter()
            .find(|n| n.occasion == Occasion::Resolved);
        let over = over.expect("an all-clear");
        let named = (over.proof.iter())
            .filter(|fact| matches!(fact, Fact::MissedRuns { .. }))
            .count();
        let more = over.proof.iter().find_map(|fact| match fact {
            Fact::MoreMissed { jobs } => Some(*jobs),
            _ => None,
        });
        (named, more)
    };
    assert_eq!(cost(8), (8, None));
    assert_eq!(cost(10), (8, Some(2)));
}

/// The log was not read for an hour: whether jobs ran in it is not known.
#[test]
fn runs_that_fell_into_a_part_of_the_log_that_was_not_read_are_not_missed() {
    let mut stage = Stage::new(JOB);
    stage.beats(TASK, 240);
    runs(&mut stage, 0, 30);
    stage.passes(6);
    stage.wait(60);
    runs(&mut stage, -5, 60);
    let mut snapshot = stage.snapshot();
    if let Observed::Known(window) = &mut snapshot.log {
        window.from = stage.now - minutes(10);
        window.lines.retain(|line| line.at >= window.from);
    }
    let (plan, state) =
        scheduler_watchdog::decide::decide(&stage.scheduler, &snapshot, &stage.state, stage.now);
    assert_eq!(plan.conditions, []);
    stage.state = state;
    let plans = stage.passes(10);
    assert!(plans.iter().all(|plan| plan.conditions.is_empty()));
}

/// Nor is a single run of a rare job; one that was due just when the log was read again is.
#[test]
fn a_run_of_a_rare_job_that_was_not_seen_is_not_missed() {
    type Hide = fn(&mut LogWindow, Timestamp);
    let between: Hide = |window, seen_from| {
        window.from = seen_from;
        window.lines.retain(|line| line.at >= seen_from);
    };
    let cut_off: Hide = |window, seen_from| {
        window.truncated = true;
        window.lines.retain(|line| line.at >= seen_from);
    };
    let hourly = JOB.replace("*/5 *", "45 *");
    for hide in [between, cut_off] {
        for (seen_from, expected) in [
            (minutes(45), &[Condition::JobOverdue][..]),
            (minutes(46), &[]),
            (minutes(80), &[]),
        ] {
            let mut stage = Stage::new(&hourly);
            let midnight = stage.now;
            stage.beats(TASK, 240);
            stage.passes(6);
            stage.wait(60);
            let mut snapshot = stage.snapshot();
            if let Observed::Known(window) = &mut snapshot.log {
                hide(window, midnight + seen_from);
            }
            let (plan, _) = scheduler_watchdog::decide::decide(
                &stage.scheduler,
                &snapshot,
                &stage.state,
                stage.now,
            );
            assert_eq!(plan.conditions, expected, "{seen_from}");
        }
    }
}

/// The query's answer was cut off: it holds the newest lines only.
#[test]
fn runs_that_were_cut_off_a_long_answer_are_not_missed() {
    let mut stage = Stage::new(JOB);
    stage.beats(TASK, 240);
    runs(&mut stage, 0, 30);
    stage.passes(6);
    stage.wait(30);
    runs(&mut stage, -5, 60);
    let mut snapshot = stage.snapshot();
    if let Observed::Known(window) = &mut snapshot.log {
        window.truncated = true;
        let cut = stage.now - minutes(8);
        window.lines.retain(|line| line.at >= cut);
    }
    let (plan, state) =
        scheduler_watchdog::decide::decide(&stage.scheduler, &snapshot, &stage.state, stage.now);
    assert_eq!(plan.conditions, []);
    stage.state = state;
    let plans = stage.passes(10);
    assert!(plans.iter().all(|plan| plan.conditions.is_empty()));
}

/// The loop came back and failed at once: it was never well in between.
#[test]
fn another_trouble_of_the_loop_is_no_break() {
    let mut stage = falls_silent("");
    assert_eq!(
        stage.wait(5).pass().conditions,
        [Condition::SchedulerSilent]
    );
    for minute in 4..16 {
        stage.abort(minutes(minute), "PHP Fatal error:  boom");
    }
    assert_eq!(stage.wait(5).pass().reason, Reason::Recovering);
    let plans = stage.passes(2);
    let failing = plans.last().unwrap();
    assert_eq!(
        failing.conditions,
        [Condition::SchedulerFailing],
        "{failing}"
    );
    assert_eq!(stage.state.incidents[0].again_since, None);
}

/// Of a job it is not known when its trouble came back: it is there again as of the look that finds it.
#[test]
fn a_jobs_trouble_comes_back_with_a_look() {
    let mut stage = Stage::new(
        "[[scheduler.job]]\nname = \"orders:sync\"\ncron = \"*/5 * * * *\"\nfailure_tolerance = 1",
    );
    stage.beats(TASK, 60);
    for run in 0..12 {
        let took = Some(SignedDuration::ZERO);
        let event = match run {
            2 | 4 => JobEvent::Failed {
                took,
                exit_code: None,
            },
            _ => JobEvent::Ended { took },
        };
        let kind = Kind::Job {
            name: "orders:sync".to_owned(),
            event,
            background: false,
        };
        stage.push(TASK, minutes(run * 5), kind, "orders:sync");
    }
    stage.lines.sort_by_key(|line| line.at);
    let mut back = None;
    for _ in 0..8 {
        let now = stage.wait(5).pass().at;
        let incident = stage.state.incidents.first();
        if back.is_none() && incident.is_some_and(|incident| incident.again_since.is_some()) {
            back = Some(now);
        }
    }
    let incident = &stage.state.incidents[0];
    assert_eq!(incident.condition, Condition::JobFailing);
    assert!(
        back.is_some() && incident.again_since == back,
        "{incident:?}"
    );
}
