//! Edges at which a promise is easily broken, each in the small.

use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::condition::{Condition, Fact};
use scheduler_watchdog::config::{ReplicaCure, StaleAfter};
use scheduler_watchdog::line::{JobEvent, Kind};
use scheduler_watchdog::plan::{Gate, Occasion, Plan, Reason, Verdict, Withheld, Withholding};
use scheduler_watchdog::remedy;
use scheduler_watchdog::silence::OneOff;
use scheduler_watchdog::snapshot::{Observed, Obstacle};
use scheduler_watchdog::state::Outcome;

use crate::stage::{
    SECOND_TASK, Stage, TASK, at, deployment, facts, falls_silent, minutes, seconds, told, unknown,
};

fn occasions(plans: &[Plan]) -> Vec<(Condition, Occasion)> {
    told(plans)
        .iter()
        .map(|n| (n.condition, n.occasion))
        .collect()
}

/// More lines than one query returns, each second, up to the end of the pass that follows.
fn flood(stage: &mut Stage, of: SignedDuration) {
    stage.truncated = true;
    stage.lines.clear();
    for n in 1..=of.as_secs() {
        let after = minutes(5) - seconds(n);
        stage.error(after, "the payment provider does not answer");
    }
}

/// The newest lines are of the application, and the loop's are cut off: nobody knows whether it lives. It
/// is not restarted, and that it cannot be seen is told.
#[test]
fn a_heartbeat_may_be_among_the_lines_that_were_cut_off() {
    let mut stage = falls_silent("");
    let mut plans = Vec::new();
    for _ in 0..6 {
        flood(&mut stage, seconds(13));
        plans.push(stage.wait(5).pass());
    }
    let silent = |plan: &Plan| plan.conditions.contains(&Condition::SchedulerSilent);
    assert!(!plans.iter().any(silent));
    assert!(plans.iter().all(|plan| plan.remediation.is_none()));
    assert_eq!(plans[3].verdict, Verdict::Unknown);
    let told = occasions(&plans);
    assert!(told.contains(&(Condition::ErrorSpike, Occasion::Opened)));
    assert!(told.contains(&(Condition::WatchdogBlind, Occasion::Opened)));
    let blind = (plans.iter().flat_map(|plan| &plan.notifications))
        .find(|n| n.condition == Condition::WatchdogBlind)
        .unwrap();
    assert!(
        matches!(&blind.proof[0], Fact::Blind { why, .. } if why.contains("it shows those since")),
        "{:?}",
        blind.proof
    );
    // The flood ends, and the loop is heard.
    stage.truncated = false;
    stage.beats(TASK, 20);
    let over = occasions(&stage.passes(4));
    assert!(over.contains(&(Condition::WatchdogBlind, Occasion::Resolved)));
}

/// It fired before; what a cut log hides is no reason for a restart.
#[test]
fn nothing_is_restarted_while_a_heartbeat_may_be_cut_off() {
    let mut stage = falls_silent("");
    let opened = stage.wait(5).pass();
    assert_eq!(opened.conditions, [Condition::SchedulerSilent]);
    flood(&mut stage, seconds(13));
    let plan = stage.wait(5).pass();
    assert_eq!(plan.verdict, Verdict::Unknown, "{plan}");
    let gates = plan.remediation.map(|remediation| remediation.blocked_by);
    assert!(gates.is_some_and(|gates| gates.contains(&Gate::NotFoundNow)));
}

/// All that is left are lines that mean nothing.
#[test]
fn a_log_that_was_cut_and_holds_nothing_shows_no_silence() {
    let mut stage = falls_silent("");
    stage.lines.clear();
    stage.truncated = true;
    let told = occasions(&stage.passes(4));
    assert_eq!(told, [(Condition::WatchdogBlind, Occasion::Opened)]);
}

/// What is left of the log goes back further than a silence may last, and no heartbeat is in it.
#[test]
fn a_silence_within_what_is_left_of_a_log_is_one() {
    let mut stage = falls_silent("");
    for n in 0..15 * 60 {
        stage.error(seconds(n), "the payment provider does not answer");
    }
    stage.truncated = true;
    assert!(occasions(&stage.passes(3)).contains(&(Condition::SchedulerSilent, Occasion::Opened)));
}

#[test]
fn a_replica_is_not_silent_where_its_lines_may_be_cut_off() {
    let silent = |cut: bool| {
        let mut stage = crate::stage::replica_falls_silent("");
        stage.truncated = cut;
        // All that is left of each window is the other replica's newest heartbeat.
        stage.lines.retain(|line| !cut || line.at >= stage.now);
        let seen: Vec<_> = (0..4)
            .map(|_| {
                let later = stage.now + minutes(5);
                let all = stage.lines.clone();
                let fresh = |at: Timestamp| later.duration_since(at) < minutes(2);
                stage.lines.retain(|line| !cut || fresh(line.at));
                let plan = stage.wait(5).pass();
                stage.lines = all;
                plan.conditions.contains(&Condition::ReplicaSilent)
            })
            .collect();
        seen.contains(&true)
    };
    assert_eq!((silent(false), silent(true)), (true, false));
}

/// A forced deployment replaces all tasks: also the one whose loop waits for its job, and fell silent
/// before the other.
#[test]
fn a_job_in_another_replica_holds_a_restart() {
    let gates = |job: &str| {
        let mut stage = Stage::new(job);
        stage.scheduler.remediation.replica_action = ReplicaCure::None;
        stage.other_lines();
        let since = stage.now - SignedDuration::from_hours(48);
        stage.service = Observed::Known(facts(&[TASK, SECOND_TASK], since));
        stage.beats(TASK, 120);
        stage.beats(SECOND_TASK, 150);
        let plan = stage.passes(32).pop().unwrap();
        assert_eq!(plan.conditions, [Condition::SchedulerSilent], "{plan}");
        plan.remediation.unwrap().blocked_by
    };
    assert_eq!(gates(""), []);
    let nightly =
        "[[scheduler.job]]\nname = \"backup:run\"\ncron = \"0 2 * * *\"\nmax_runtime = \"3h\"\n";
    assert_eq!(gates(nightly), [Gate::JobMayBeRunning]);
}

/// Lines came late for an hour, so windows overlapped by ten minutes; then no more. What was read, and
/// not yet settled, is read again.
#[test]
fn nothing_falls_between_two_windows_when_the_overlap_shrinks() {
    let job = "[[scheduler.job]]\nname = \"backup:run\"\ncron = \"22 0 * * *\"\n";
    let mut stage = Stage::new(job);
    stage.beats(TASK, 60);
    let failed = Kind::Job {
        name: "backup:run".to_owned(),
        event: JobEvent::Failed {
            took: Some(seconds(4)),
            exit_code: None,
        },
        background: false,
    };
    stage.push(TASK, minutes(22) + seconds(9), failed, "backup:run");
    stage.wait(5).look();
    stage.state.lags_ms = vec![300_000];
    assert_eq!(stage.state.overlap(), minutes(10));
    assert_eq!(occasions(&stage.passes(5)), []);
    stage.state.lags_ms.clear();
    assert_eq!(
        occasions(&stage.passes(4)),
        [(Condition::JobFailing, Occasion::Opened)]
    );
}

/// A burst at the end of a window, within the overlap, of which the log service did not know at the time.
#[test]
fn errors_that_come_late_are_a_spike() {
    let mut stage = falls_silent("[scheduler.errors]\nwindow = \"1m\"\n");
    stage.beats(TASK, 30);
    stage.wait(5).look();
    for n in 0..20 {
        stage.error(
            seconds(n) - seconds(50),
            "the payment provider does not answer",
        );
    }
    assert_eq!(
        occasions(&stage.passes(3)),
        [
            (Condition::ErrorSpike, Occasion::Opened),
            (Condition::ErrorSpike, Occasion::Resolved)
        ]
    );
}

/// A worker in the same container dies every eight minutes; its errors are no runs of the loop.
#[test]
fn rare_aborts_of_another_process_do_not_hide_that_the_loop_is_dead() {
    let mut stage = falls_silent("");
    stage.scheduler.stale_after = StaleAfter::Fixed(minutes(15));
    for n in 0..10 {
        stage.abort(
            minutes(3 + 8 * n),
            "Allowed memory size of 134217728 bytes exhausted",
        );
    }
    let told = occasions(&stage.passes(8));
    assert_eq!(told, [(Condition::SchedulerSilent, Occasion::Opened)]);
}

/// ECS could not be seen, and is not to be asked any more.
#[test]
fn what_nobody_asks_ecs_any_more_is_over() {
    let mut stage = falls_silent("");
    stage.service = Observed::Unknown(unknown(Obstacle::Denied));
    let plans = stage.passes(4);
    let blind = (Condition::WatchdogBlind, Occasion::Opened);
    assert!(occasions(&plans).contains(&blind));
    stage.scheduler.ecs = None;
    stage.beats(TASK, 30);
    let over = occasions(&stage.passes(5));
    assert!(
        over.contains(&(Condition::WatchdogBlind, Occasion::Resolved)),
        "{over:?}"
    );
    assert!(stage.state.blind.is_empty());
}

/// Errors began in a silence; before it ended every run aborted, and that explains them.
#[test]
fn what_the_loops_trouble_explains_is_not_told_after_a_silence_either() {
    let silence = "[[scheduler.silence]]\ncron = \"30 0 * * *\"\nduration = \"30m\"\n";
    let mut stage = falls_silent(silence);
    stage.beats(TASK, 10);
    for n in 0..100 {
        stage.error(seconds(20 * n), "Connection refused");
    }
    let plans = stage.passes(8);
    let spike =
        |w: &Withheld| w.condition == Condition::ErrorSpike && w.why == Withholding::Explained;
    assert!(plans.iter().any(|plan| plan.withheld.iter().any(spike)));
    assert_eq!(
        occasions(&plans),
        [(Condition::SchedulerSilent, Occasion::Opened)]
    );
}

/// Hours in which nothing could be seen are not healthy ones.
#[test]
fn a_lock_out_does_not_end_while_nothing_is_seen() {
    let mut stage = falls_silent("");
    stage.state.restarts.locked_out_at = Some(stage.now);
    stage.state.restarts.healthy_since = None;
    stage.beats(TASK, 20);
    stage.passes(3);
    stage.log_error = Some(unknown(Obstacle::Denied));
    stage.passes(7 * 12);
    assert!(stage.state.restarts.locked_out_at.is_some());
}

/// After two restarts that did not help a person mends the cause, and allows restarts anew: the incident
/// may have them, and a day no more than before.
#[test]
fn a_cleared_lock_out_allows_restarts_in_the_same_incident() {
    let mut stage = falls_silent("");
    let mut restarts = 0;
    let mut pass = |stage: &mut Stage| {
        let plan = stage.wait(5).pass();
        let remediation = plan.remediation.unwrap();
        if remediation.allowed() {
            restarts += 1;
            let made = Ok(Some(format!("ecs-svc/{restarts}")));
            remedy::settle(&mut stage.state, &made);
        }
        (restarts, remediation)
    };
    stage.wait(5).look();
    for _ in 0..24 {
        pass(&mut stage);
    }
    let (made, plan) = pass(&mut stage);
    assert_eq!(made, 2);
    let spent = [Gate::AttemptsPerIncident, Gate::LockedOut];
    assert_eq!(plan.blocked_by, spent);
    let tokens = |stage: &Stage| {
        let attempts = stage.state.restarts.attempts.iter();
        attempts.map(|a| a.token.clone()).collect::<Vec<_>>()
    };
    let now = stage.now;
    stage.state.restarts.clear(now);
    let (made, plan) = pass(&mut stage);
    assert_eq!((made, plan.attempt), (3, 3));
    let mut known = tokens(&stage);
    known.dedup();
    assert_eq!(
        known.len(),
        3,
        "ECS would answer a known token with the old task"
    );
    for _ in 0..24 {
        pass(&mut stage);
    }
    let (made, plan) = pass(&mut stage);
    assert_eq!(made, 3);
    assert!(plan.blocked_by.contains(&Gate::AttemptsPerDay));
}

/// What is tried in the very pass that allows restarts again counts from then on.
#[test]
fn a_restart_of_the_pass_that_cleared_a_lock_out_counts() {
    let mut stage = falls_silent("");
    stage.wait(5).look();
    stage.wait(5);
    let now = stage.now;
    stage.state.restarts.clear(now);
    for n in 0..24 {
        if stage.pass().remediation.unwrap().allowed() {
            remedy::settle(&mut stage.state, &Ok(Some(format!("ecs-svc/{n}"))));
        }
        stage.wait(5);
    }
    assert_eq!(stage.state.restarts.attempts[0].claimed_at, now);
    assert_eq!(stage.state.restarts.attempts.len(), 2);
}

/// A call that was refused for a permission is made again once a person says that it was given.
#[test]
fn a_cleared_lock_out_lets_a_refused_call_be_made_again() {
    let mut stage = falls_silent("");
    stage.wait(5).look();
    stage.wait(5).look();
    let denied = Err(unknown(Obstacle::Denied));
    remedy::settle(&mut stage.state, &denied);
    let gates = |stage: &mut Stage| stage.wait(5).pass().remediation.unwrap().blocked_by;
    assert_eq!(gates(&mut stage), [Gate::CallsFailed]);
    let now = stage.now;
    stage.state.restarts.clear(now);
    assert_eq!(gates(&mut stage), []);
    let newest = stage.state.restarts.attempts.last().unwrap();
    assert_eq!(newest.outcome, Outcome::Claimed);
    assert_eq!(newest.claimed_at, at("2025-12-02T00:50:00Z"));
    // What comes of it is told, as what came of the first call was.
    remedy::settle(&mut stage.state, &Ok(Some("ecs-svc/2".to_owned())));
    let told = occasions(&stage.passes(3));
    assert_eq!(
        told,
        [(Condition::SchedulerSilent, Occasion::RemediationFailed)]
    );
}

/// All lines stop within seconds of the last heartbeat. Minutes later that still looks like a log with
/// fresh lines; but none of them came after the heartbeat that is missing.
#[test]
fn lines_that_ended_with_the_heartbeats_prove_no_living_log() {
    for (after, first) in [
        (seconds(20), Verdict::Pending),
        (seconds(120), Verdict::Pending),
        (seconds(121), Verdict::Firing),
    ] {
        let mut stage = falls_silent("");
        let last = stage.state.heartbeats.last.unwrap();
        stage.probe = Some(last + after);
        let plans = [stage.wait(5).pass(), stage.wait(5).pass()];
        let allowed = |plan: &Plan| plan.remediation.as_ref().is_some_and(|r| r.allowed());
        assert_eq!(plans[0].verdict, first, "{after:?}: {}", plans[0]);
        assert_eq!(plans[1].conditions[0], Condition::LogsSilent);
        assert!(!plans.iter().any(allowed), "{after:?}");
        let opened = match first {
            Verdict::Firing => Condition::SchedulerSilent,
            _ => Condition::LogsSilent,
        };
        assert_eq!(
            occasions(&plans)[0],
            (opened, Occasion::Opened),
            "{after:?}"
        );
    }
}

/// A long job explains a silence of hours, and no line that is hours old.
#[test]
fn lines_from_the_time_of_a_long_job_prove_no_living_log_after_it() {
    let mut stage = falls_silent(
        r#"
        [[scheduler.job]]
        name = "reports:generate"
        cron = "30 0 * * *"
        max_runtime = "2h"
        "#,
    );
    let last = stage.state.heartbeats.last.unwrap();
    stage.probe = Some(last + minutes(110));
    let plans = stage.passes(28);
    assert_eq!(
        occasions(&plans),
        [(Condition::LogsSilent, Occasion::Opened)]
    );
}

/// While the service is meant to run no task nobody expects a heartbeat; but none is made up either.
#[test]
fn the_last_heartbeat_that_is_told_is_one() {
    let mut stage = falls_silent("");
    let last = stage.state.heartbeats.last;
    stage.ecs(|facts| (facts.desired, facts.tasks) = (0, Vec::new()));
    let off = stage.passes(12);
    let silent_for = off[11].silent_for.unwrap();
    assert_eq!(silent_for, stage.now.duration_since(last.unwrap()));
    let now = stage.now;
    stage.service = Observed::Known(facts(&[SECOND_TASK], now - minutes(4)));
    let on = stage.passes(4);
    assert_eq!(on[0].reason, Reason::NotDueYet, "{}", on[0]);
    let opened = told(&on)[0];
    assert_eq!(opened.condition, Condition::SchedulerSilent);
    assert_eq!(opened.proof[0], Fact::LastHeartbeat { at: last });
    assert!(
        opened.since > now,
        "its time began when it was meant to run"
    );
}

/// A replica is added whose scheduler aborts each time, or dies right after it was started. It never
/// gave a heartbeat, so none is missed.
#[test]
fn a_replica_that_never_spoke_is_silent() {
    let abort = || Kind::Error {
        aborts: true,
        context: None,
        trace: Vec::new(),
    };
    for (kind, every) in [(abort(), 1), (Kind::Boot, 60)] {
        let mut stage = Stage::new("");
        stage.scheduler.remediation = Default::default();
        stage.other_lines();
        let since = stage.now - minutes(48 * 60);
        stage.service = Observed::Known(facts(&[TASK, SECOND_TASK], since));
        let now = stage.now;
        stage.ecs(|facts| facts.tasks[1].started_at = Some(now));
        stage.beats(TASK, 240);
        for minute in (0..60).step_by(every) {
            stage.push(
                SECOND_TASK,
                minutes(minute),
                kind.clone(),
                "sh: 1: cannot create x",
            );
        }
        let plans = stage.passes(6);
        assert_eq!(
            occasions(&plans),
            [(Condition::ReplicaSilent, Occasion::Opened)],
            "{kind:?}"
        );
        assert_eq!(told(&plans)[0].subject.as_deref(), Some(SECOND_TASK));
        // It begins to speak: that is over, and nobody need ask ECS any more.
        stage.lines.retain(|line| line.stream.ends_with(TASK));
        stage.beats(SECOND_TASK, 200);
        let plans = stage.passes(24);
        assert_eq!(
            occasions(&plans),
            [(Condition::ReplicaSilent, Occasion::Resolved)],
            "{kind:?}"
        );
        assert!(stage.state.heartbeats.unheard.is_empty());
        assert!(stage.snapshot().service.is_none());
    }
}

/// Whether it is the cause or not: another restart would only wait behind it.
#[test]
fn a_deployment_that_is_stuck_is_in_the_message_about_the_silence() {
    let mut stage = falls_silent("");
    let now = stage.now;
    stage.ecs(|facts| {
        let stuck = deployment("ecs-svc/2", "IN_PROGRESS", now);
        facts.deployments.insert(0, stuck);
    });
    let plans = stage.passes(10);
    let opened = told(&plans)[0];
    assert_eq!(opened.condition, Condition::SchedulerSilent);
    let fact = Fact::Deployment {
        id: "ecs-svc/2".to_owned(),
        since: now,
        failed_tasks: 0,
    };
    assert!(opened.proof.contains(&fact), "{:?}", opened.proof);
}

/// A restart did not help while nobody wanted to hear of it, and meanwhile a reminder is due.
#[test]
fn a_restart_that_did_not_help_is_told_by_the_reminder() {
    let mut stage = falls_silent("after = \"0s\"");
    let opened = stage.wait(5).pass();
    assert!(opened.remediation.unwrap().allowed());
    remedy::settle(&mut stage.state, &Ok(Some("ecs-svc/2".to_owned())));
    let (now, until) = (stage.now, stage.now + minutes(120));
    let silence = OneOff::new(now, until, "moving", "ops", None).unwrap();
    silence.add_to(&mut stage.state).unwrap();
    let plans = stage.passes(30);
    assert_eq!(
        occasions(&plans)[0],
        (Condition::SchedulerSilent, Occasion::RemediationFailed)
    );
    let first = plans.iter().find(|plan| !plan.notifications.is_empty());
    assert_eq!(first.unwrap().notifications.len(), 1);
}
