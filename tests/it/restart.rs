//! Restarts: the gates at their bounds, what becomes of calls and claims, and what people hear.

use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::condition::{Condition, Fact};
use scheduler_watchdog::line::{Kind, Pulse};
use scheduler_watchdog::plan::{CureKind, Gate, Handling, Occasion, Plan, Remediation};
use scheduler_watchdog::remedy;
use scheduler_watchdog::silence::OneOff;
use scheduler_watchdog::snapshot::{Observed, Obstacle, ServiceFacts};
use scheduler_watchdog::state::{Attempt, Outcome};
use serde_json::Map;

use crate::stage::{
    SECOND_TASK, Stage, TASK, deployment, facts, falls_silent, minutes, replica_falls_silent,
    seconds, task, told, unknown,
};

const RESTARTED: &str = "ecs-svc/2";

/// The first pass that plans a restart with all gates open; it is claimed, and not yet made.
fn claimed(stage: &mut Stage) -> Remediation {
    for _ in 0..12 {
        let plan = stage.wait(5).pass();
        if let Some(remediation) = plan.remediation.filter(|r| r.allowed()) {
            return remediation;
        }
    }
    panic!("no restart within an hour");
}

fn allowed(plan: &Plan) -> bool {
    plan.remediation.as_ref().is_some_and(|r| r.allowed())
}

fn made(stage: &mut Stage) {
    remedy::settle(&mut stage.state, &Ok(Some(RESTARTED.to_owned())));
}

/// The restart's deployment, which ECS dates so, is complete and runs a task that was started then.
fn deployed(stage: &mut Stage, new_task: &str, at: Timestamp) {
    stage.service = Observed::Known(ServiceFacts {
        deployments: vec![deployment(RESTARTED, "COMPLETED", at)],
        tasks: vec![task(new_task, RESTARTED, at)],
        ..facts(&[new_task], at)
    });
}

fn occasions(plans: &[Plan]) -> Vec<Occasion> {
    told(plans).iter().map(|n| n.occasion).collect()
}

/// The gates at the second look at a silence.
fn gates_after(more: &str, change: impl FnOnce(&mut Stage)) -> Vec<Gate> {
    let mut stage = falls_silent(more);
    stage.wait(5).look();
    change(&mut stage);
    let plan = stage.wait(5).pass();
    plan.remediation.expect("something to remedy").blocked_by
}

/// An earlier restart, for another incident.
fn earlier(stage: &mut Stage, ago: SignedDuration, outcome: Outcome) {
    stage.state.restarts.attempts.push(Attempt {
        incident: "another".to_owned(),
        cure: CureKind::ForceNewDeployment,
        task: None,
        token: "another/1/1".to_owned(),
        claimed_at: stage.now + minutes(5) - ago,
        failed_calls: 0,
        outcome,
        told: true,
        unknown: Map::new(),
    });
}

#[test]
fn three_restarts_in_24_hours_are_enough_whatever_they_were_for() {
    let hours = SignedDuration::from_hours;
    let proven = |stage: &Stage| Outcome::Proven { at: stage.now };
    let after = |count: usize, newest: SignedDuration| {
        gates_after("", |stage| {
            for n in (0..count as i64).rev() {
                let outcome = proven(stage);
                earlier(stage, newest + hours(n), outcome);
            }
        })
    };
    assert_eq!(after(2, hours(2)), []);
    assert_eq!(after(3, hours(2)), [Gate::AttemptsPerDay]);
    // The oldest of them was made just 24 hours ago, or a moment later.
    assert_eq!(after(3, hours(22)), []);
    assert_eq!(after(3, hours(22) - seconds(1)), [Gate::AttemptsPerDay]);
    // What was never made does not count.
    let refused = gates_after("", |stage| {
        for n in 1..4 {
            let error = "denied".to_owned();
            earlier(stage, hours(n), Outcome::CallFailed { error });
        }
    });
    assert_eq!(refused, []);
}

#[test]
fn the_cooldown_ends_when_it_says() {
    let aged = |age: SignedDuration| {
        gates_after("", |stage| {
            let at = stage.now + minutes(5) - age;
            stage.ecs(|facts| facts.deployments[0].created_at = at);
        })
    };
    assert_eq!(aged(minutes(30) - seconds(1)), [Gate::Cooldown]);
    assert_eq!(aged(minutes(30)), []);
    let restarted = |age: SignedDuration| {
        gates_after("", |stage| {
            let at = stage.now;
            earlier(stage, age, Outcome::Proven { at });
        })
    };
    assert_eq!(restarted(minutes(30) - seconds(1)), [Gate::Cooldown]);
    assert_eq!(restarted(minutes(30)), []);
}

/// However short the cooldown is, one restart is proven or given up before the next.
#[test]
fn no_restart_is_made_while_another_waits_for_its_proof() {
    let mut stage = falls_silent("cooldown = \"5m\"\nprove_within = \"20m\"");
    claimed(&mut stage);
    made(&mut stage);
    let now = stage.now;
    deployed(&mut stage, "new", now);
    for plan in stage.passes(3) {
        let withheld = plan.remediation.unwrap();
        assert_eq!(withheld.blocked_by, [Gate::ProofPending]);
    }
    assert!(allowed(&stage.wait(5).pass()), "it is given up");
}

#[test]
fn a_restart_is_made_as_soon_as_the_incident_has_fired_for_long_enough() {
    // It fires in the first of the two passes, five minutes before the second.
    assert_eq!(gates_after("after = \"301s\"", |_| ()), [Gate::TooEarly]);
    assert_eq!(gates_after("after = \"300s\"", |_| ()), []);
}

#[test]
fn a_job_in_the_silent_replica_holds_its_stop_and_a_job_elsewhere_does_not() {
    let job = |minute: i64| {
        format!(
            "[[scheduler.job]]\nname = \"reports\"\ncron = \"{minute} 0 * * *\"\nmax_runtime = \"1h\"\n"
        )
    };
    // Due when the second replica fell silent: it may be running there.
    let shows = |plans: &[Plan]| {
        let proof = &told(plans)[0].proof;
        (proof.iter()).any(|fact| matches!(fact, Fact::MayBeRunning { .. }))
    };
    let mut stage = replica_falls_silent(&job(30));
    let plans = stage.passes(18);
    assert!(shows(&plans), "its message names the job");
    assert!(!plans.iter().any(allowed), "{}", plans[17]);
    let withheld = plans[17].remediation.as_ref().unwrap();
    assert_eq!(withheld.blocked_by, [Gate::JobMayBeRunning]);
    // Due hours later: nothing of it can be running there.
    let mut stage = replica_falls_silent(&job(10));
    let plans = stage.passes(6);
    assert!(plans.iter().any(allowed));
    assert!(!shows(&plans));
}

/// The pass that claimed it may still be at work, for as long as the template lets it.
#[test]
fn a_claim_is_not_traced_while_its_pass_may_live() {
    let mut stage = falls_silent("");
    claimed(&mut stage);
    assert!(!allowed(&stage.wait(4).pass()));
    let attempt = stage.state.restarts.attempts.last().unwrap();
    assert_eq!(attempt.outcome, Outcome::Claimed);
}

/// Nobody answers for a call whose pass died. If ECS shows nothing of it, it is made again, but
/// not for ever.
#[test]
fn claims_that_leave_no_trace_are_given_up_after_three_calls() {
    let mut stage = falls_silent("");
    claimed(&mut stage);
    let plans = stage.passes(5);
    assert_eq!(plans.iter().filter(|plan| allowed(plan)).count(), 2);
    assert_eq!(occasions(&plans), [Occasion::RemediationFailed]);
    let withheld = plans[4].remediation.as_ref().unwrap();
    assert_eq!(withheld.blocked_by, [Gate::CallsFailed]);
}

#[test]
fn a_denied_call_is_told_in_the_next_pass_and_a_throttled_one_is_made_again_without_a_word() {
    let mut stage = falls_silent("");
    claimed(&mut stage);
    remedy::settle(&mut stage.state, &Err(unknown(Obstacle::Denied)));
    let next = stage.wait(5).pass();
    assert!(!allowed(&next));
    assert_eq!(
        next.remediation.as_ref().unwrap().blocked_by,
        [Gate::CallsFailed]
    );
    assert_eq!(occasions(&[next]), [Occasion::RemediationFailed]);

    let mut stage = falls_silent("");
    claimed(&mut stage);
    remedy::settle(&mut stage.state, &Err(unknown(Obstacle::Throttled)));
    let next = stage.wait(5).pass();
    assert!(allowed(&next));
    assert_eq!(occasions(&[next]), []);
}

#[test]
fn a_failed_call_of_one_incident_is_no_claim_of_the_next() {
    let mut stage = falls_silent("");
    claimed(&mut stage);
    remedy::settle(&mut stage.state, &Err(unknown(Obstacle::Throttled)));
    stage.beats(TASK, 30);
    stage.passes(6);
    let second = claimed(&mut stage);
    let of: Vec<&str> = (stage.state.restarts.attempts.iter())
        .map(|attempt| attempt.incident.as_str())
        .collect();
    assert_eq!(of.len(), 2, "each incident has its own account");
    assert_eq!(of[1], second.incident);
    assert_ne!(of[0], of[1]);
}

/// Whether the replica is still silent cannot be told, but there is nothing left to stop.
#[test]
fn a_replica_that_is_gone_is_not_stopped() {
    let mut stage = replica_falls_silent("");
    stage.wait(5).look();
    stage.log_error = Some(unknown(Obstacle::Throttled));
    let blocked = |stage: &mut Stage| stage.wait(5).pass().remediation.unwrap().blocked_by;
    let unseen = [Gate::NotFoundNow, Gate::LogUnknown];
    assert_eq!(blocked(&mut stage), unseen);
    stage.ecs(|facts| drop(facts.tasks.pop()));
    assert_eq!(blocked(&mut stage)[2..], [Gate::TaskGone]);
}

/// A task is stopped at most once: if it is gone, the call was made.
#[test]
fn a_stop_whose_pass_died_is_traced_by_the_task() {
    let mut stage = replica_falls_silent("");
    claimed(&mut stage);
    let again = stage.wait(5).pass();
    assert!(allowed(&again), "the task still runs: {again}");
    stage.ecs(|facts| facts.tasks[1].id = "new".to_owned());
    let now = stage.now;
    stage.ecs(|facts| facts.tasks[1].started_at = Some(now));
    stage.wait(5).look();
    let attempt = stage.state.restarts.attempts.last().unwrap();
    assert_eq!(attempt.outcome, Outcome::Made { started: None });
}

/// ECS's clock may be a little behind; a task that ran before the stop proves nothing.
#[test]
fn a_stop_is_proven_by_a_task_that_was_started_after_it() {
    for (started, expected) in [(-6, false), (-5, true), (-3, true), (60, true)] {
        let mut stage = replica_falls_silent("");
        claimed(&mut stage);
        remedy::settle(&mut stage.state, &Ok(None));
        let at = stage.now + seconds(started);
        stage.ecs(|facts| {
            facts.tasks[1].id = "new".to_owned();
            facts.tasks[1].started_at = Some(at);
            // The other replica was not started by anything of this.
            facts.tasks[0].started_at = Some(at - SignedDuration::from_hours(1));
        });
        stage.wait(2).beats("new", 30);
        let plans = stage.passes(2);
        let proven = occasions(&plans).contains(&Occasion::Remediated);
        assert_eq!(proven, expected, "started {started} s after the claim");
    }
}

/// The claim is written before the call, by another clock than that of ECS.
#[test]
fn a_lost_answer_is_traced_although_the_clocks_differ_by_seconds() {
    for (created, expected) in [(-6, false), (-5, true), (-3, true), (3, true)] {
        let mut stage = falls_silent("");
        claimed(&mut stage);
        let at = stage.now + seconds(created);
        deployed(&mut stage, "new", at);
        stage.wait(5).look();
        let outcome = &stage.state.restarts.attempts[0].outcome;
        let traced = matches!(outcome, Outcome::Made { started: Some(id) } if id == RESTARTED);
        assert_eq!(traced, expected, "created {created} s after the claim");
    }
}

/// A call that was answered without the deployment's id is proven by the deployment that followed.
#[test]
fn a_restart_is_proven_by_the_deployment_that_followed_it() {
    for (created, expected) in [(-6, false), (-5, true), (3, true)] {
        let mut stage = falls_silent("");
        claimed(&mut stage);
        remedy::settle(&mut stage.state, &Ok(None));
        let at = stage.now + seconds(created);
        deployed(&mut stage, "new", at);
        stage.wait(1).beats("new", 30);
        let proven = occasions(&stage.passes(1)).contains(&Occasion::Remediated);
        assert_eq!(proven, expected, "created {created} s after the claim");
    }
}

#[test]
fn a_heartbeat_of_the_moment_of_the_restart_proves_nothing() {
    for (second, expected) in [(0, false), (1, true)] {
        let mut stage = falls_silent("");
        claimed(&mut stage);
        made(&mut stage);
        let now = stage.now;
        deployed(&mut stage, "new", now);
        let idle = Kind::Heartbeat(Pulse::Idle);
        stage.push("new", seconds(second), idle, "idle");
        let proven = occasions(&stage.passes(1)).contains(&Occasion::Remediated);
        assert_eq!(proven, expected, "{second} s after the claim");
    }
}

#[test]
fn what_comes_of_a_restart_is_told_although_something_else_is_silenced() {
    let silence = r#"
        [[scheduler.silence]]
        cron = "0 0 * * *"
        duration = "23h"
        reason = "noise is known"
        conditions = ["error-spike"]
    "#;
    let mut stage = falls_silent("");
    stage.scheduler.silences = Stage::new(silence).scheduler.silences;
    stage.beats(TASK, 10);
    for n in 0..300 {
        stage.error(seconds(n * 10), "SQLSTATE[42S02]");
    }
    stage.passes(2);
    assert_eq!(stage.state.incidents[0].condition, Condition::ErrorSpike);
    claimed(&mut stage);
    made(&mut stage);
    let now = stage.now;
    deployed(&mut stage, "new", now);
    stage.wait(1).beats("new", 30);
    let told = occasions(&stage.passes(4));
    assert_eq!(told, [Occasion::Remediated, Occasion::Resolved]);
}

/// Restarts are told, as all else is, when nobody minds any more.
#[test]
fn what_comes_of_a_restart_in_a_silence_is_told_when_the_silence_ends() {
    let mut stage = falls_silent("");
    claimed(&mut stage);
    made(&mut stage);
    stage.state.silences.push(OneOff {
        id: "1202-0000".to_owned(),
        from: stage.now,
        until: stage.now + minutes(24),
        reason: "moving house".to_owned(),
        author: "ops".to_owned(),
        condition: None,
    });
    let now = stage.now;
    deployed(&mut stage, "new", now);
    stage.wait(1).beats("new", 60);
    assert_eq!(occasions(&stage.passes(4)), []);
    let plans = stage.passes(2);
    assert_eq!(occasions(&plans), [Occasion::Resolved]);
    assert!(matches!(told(&plans)[0].handling, Handling::Cured { .. }));
}

/// The loop came back by itself: that the restart stays unproven is no news, and locks nothing.
#[test]
fn an_unproven_restart_of_an_incident_that_is_over_is_forgotten() {
    let mut stage = falls_silent("attempts_per_incident = 1");
    claimed(&mut stage);
    made(&mut stage);
    stage.beats(TASK, 60);
    let plans = stage.passes(8);
    assert_eq!(occasions(&plans), [Occasion::Resolved]);
    assert_eq!(told(&plans)[0].handling, Handling::CameBack);
    assert!(matches!(
        stage.state.restarts.attempts[0].outcome,
        Outcome::Failed { .. }
    ));
    assert_eq!(stage.state.restarts.locked_out_at, None);
}

// What people hear of it

#[test]
fn without_a_restart_the_messages_say_that_it_only_tells_and_that_the_loop_came_back() {
    let mut stage = falls_silent("");
    stage.scheduler.remediation = Default::default();
    let mut plans = stage.passes(2);
    stage.beats(TASK, 30);
    plans.extend(stage.passes(3));
    let handled: Vec<&Handling> = told(&plans).iter().map(|n| &n.handling).collect();
    assert_eq!(handled, [&Handling::Watching, &Handling::CameBack]);
}

#[test]
fn a_restart_that_is_made_at_once_stands_in_the_first_message() {
    let mut stage = falls_silent("after = \"0s\"");
    let plans = stage.passes(1);
    let handling = &told(&plans)[0].handling;
    assert_eq!(
        *handling,
        Handling::Restarting {
            cure: CureKind::ForceNewDeployment,
            attempt: 1
        }
    );
    let plan = plans[0].to_string();
    assert!(
        plan.contains("restart: force-new-deployment, attempt 1\n"),
        "{plan}"
    );
}

#[test]
fn a_restart_that_is_withheld_is_told_with_its_gates() {
    let mut stage = falls_silent("");
    let plans = stage.passes(1);
    assert_eq!(
        told(&plans)[0].handling,
        Handling::Withheld {
            cure: CureKind::ForceNewDeployment,
            blocked_by: vec![Gate::TooEarly],
        }
    );
    let plan = plans[0].to_string();
    assert!(
        plan.contains("restart withheld: force-new-deployment (too-early)\n"),
        "{plan}"
    );
}

/// The face of the trouble changes while a restart is in the making.
#[test]
fn a_change_says_how_the_restart_stands() {
    let mut stage = falls_silent("");
    claimed(&mut stage);
    made(&mut stage);
    let at = stage.now;
    stage.ecs(|facts| facts.tasks.clear());
    let plans = stage.passes(1);
    let change = told(&plans)[0];
    assert_eq!(
        (change.occasion, change.condition),
        (Occasion::Changed, Condition::ServiceDown)
    );
    let cure = CureKind::ForceNewDeployment;
    assert_eq!(change.handling, Handling::Proving { cure, at });
}

#[test]
fn a_restart_that_did_not_help_is_told_and_not_praised_in_the_end() {
    let mut stage = falls_silent("attempts_per_incident = 1");
    claimed(&mut stage);
    made(&mut stage);
    let at = stage.now;
    let cure = CureKind::ForceNewDeployment;
    let mut plans = stage.passes(3);
    assert_eq!(occasions(&plans), [Occasion::LockedOut]);
    let failed = Handling::CureFailed {
        cure,
        at,
        error: None,
    };
    assert_eq!(told(&plans)[0].handling, failed);
    stage.beats(TASK, 30);
    plans = stage.passes(3);
    assert_eq!(occasions(&plans), [Occasion::Resolved]);
    assert_eq!(told(&plans)[0].handling, Handling::CameBack);
}

#[test]
fn a_refused_call_is_told_with_its_answer_and_not_praised_in_the_end() {
    let mut stage = falls_silent("");
    claimed(&mut stage);
    let at = stage.now;
    let denied = unknown(Obstacle::Denied);
    let error = Some(denied.to_string());
    remedy::settle(&mut stage.state, &Err(denied));
    let mut plans = stage.passes(1);
    let cure = CureKind::ForceNewDeployment;
    assert_eq!(
        told(&plans)[0].handling,
        Handling::CureFailed { cure, at, error }
    );
    stage.beats(TASK, 30);
    plans = stage.passes(3);
    assert_eq!(occasions(&plans), [Occasion::Resolved]);
    assert_eq!(told(&plans)[0].handling, Handling::CameBack);
}

/// It was proven, and the loop died again before the incident was over: a reminder must not say
/// that it is cured.
#[test]
fn a_trouble_that_goes_on_after_a_proof_is_not_told_as_cured() {
    let mut stage = falls_silent("attempts_per_incident = 1");
    claimed(&mut stage);
    made(&mut stage);
    let now = stage.now;
    deployed(&mut stage, "new", now);
    stage.wait(1).beats("new", 2);
    let plans = stage.passes(16);
    let told = told(&plans);
    assert_eq!(
        occasions(&plans),
        [Occasion::Remediated, Occasion::Reminder]
    );
    assert!(matches!(told[0].handling, Handling::Cured { .. }));
    assert_eq!(
        told[1].handling,
        Handling::Withheld {
            cure: CureKind::ForceNewDeployment,
            blocked_by: vec![Gate::AttemptsPerIncident],
        }
    );
}

/// Somebody replaced the task; what fired before cannot be judged yet, and the new one is left alone.
#[test]
fn what_a_look_does_not_find_is_no_reason_for_a_restart() {
    let young = |stage: &mut Stage| {
        let started = stage.now + minutes(4);
        stage.ecs(|facts| facts.tasks[0].started_at = Some(started));
    };
    assert_eq!(gates_after("", young), [Gate::NotFoundNow]);
    // The same call once more, within a minute: the replica has spoken meanwhile.
    let mut stage = replica_falls_silent("");
    stage.passes(2);
    stage.push(
        SECOND_TASK,
        minutes(0),
        Kind::Heartbeat(Pulse::Idle),
        "idle",
    );
    stage.now += SignedDuration::from_secs(30);
    let plan = stage.pass();
    assert!(plan.conditions.is_empty(), "{plan}");
    let remediation = plan.remediation.expect("the incident is still open");
    assert!(
        remediation.blocked_by.contains(&Gate::NotFoundNow),
        "{remediation:?}"
    );
}

/// ECS would take the second call for a repetition of the first.
#[test]
fn schedulers_whose_names_begin_alike_have_tokens_of_their_own() {
    let token = |name: &str| {
        let mut stage = falls_silent("");
        stage.scheduler.name = format!("company-platform-production-ap-northeast-1-{name}");
        stage.wait(5).pass().remediation.unwrap().token
    };
    let [mail, billing] = [token("mail"), token("billing")];
    assert_ne!(mail, billing);
    assert!(mail.len() <= 64, "{mail}");
}

/// The second good look and the end of the proof's time come in one pass.
#[test]
fn a_lock_out_that_nobody_is_told_of_is_none() {
    let mut stage = falls_silent("attempts_per_incident = 1\nprove_within = \"15m\"");
    stage.wait(5).look();
    let made = stage.wait(5).pass().remediation.unwrap();
    assert!(made.allowed(), "{made:?}");
    remedy::settle(&mut stage.state, &Ok(Some("ecs-svc/2".to_owned())));
    stage.wait(5).look();
    stage.beats(TASK, 11);
    let plans = stage.passes(2);
    let told: Vec<Occasion> = told(&plans).iter().map(|told| told.occasion).collect();
    assert_eq!(told, [Occasion::Resolved]);
    assert_eq!(stage.state.restarts.locked_out_at, None);
}

/// The same where a lock-out is there already, whether the restart was the last or not: it stays.
#[test]
fn an_outcome_that_nobody_is_told_of_lifts_no_earlier_lock_out() {
    for attempts in [1, 2] {
        let rules = format!("attempts_per_incident = {attempts}\nprove_within = \"15m\"");
        let mut stage = falls_silent(&rules);
        stage.wait(5).look();
        assert!(stage.wait(5).pass().remediation.unwrap().allowed());
        remedy::settle(&mut stage.state, &Ok(Some("ecs-svc/2".to_owned())));
        stage.wait(5).look();
        stage.beats(TASK, 11);
        let locked = Some(stage.now);
        stage.state.restarts.locked_out_at = locked;
        let plans = stage.passes(2);
        let told: Vec<Occasion> = told(&plans).iter().map(|told| told.occasion).collect();
        assert_eq!(told, [Occasion::Resolved], "{attempts}");
        assert_eq!(stage.state.restarts.locked_out_at, locked, "{attempts}");
    }
}
