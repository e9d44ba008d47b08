//! What becomes of the richest pass there is, one that tells people and restarts, when a call of it
//! goes wrong, or the function dies in it.
//!
//! Each fault has an application, a function and a way to AWS of its own; all share one emulator.
//! By default the first call of each action goes wrong in each way; with `E2E_FAULTS=all` every
//! call does, the polls and the settling write included.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use scheduler_watchdog::state::State;
use serde_json::{Value, json};

use super::aws::SSM;
use super::bench::Bench;
use super::emulator::Emulator;
use super::process::wait_for;
use super::proxy::{Fate, Proxy, Spot};
use super::rie::Rie;
use super::site::Site;
use super::tools::{Tools, all_faults};

/// Functions that run side by side. Most of them wait for an answer that does not come.
const SIDE_BY_SIDE: usize = 12;

/// Passes after the fault in which everything must come right.
const PASSES: usize = 4;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A call, with all its attempts.
    Call(Fate),
    /// The function dies before a call arrives.
    DiesBefore,
    /// The function dies after a call was carried out, and before it is answered.
    DiesAfter,
}

const FAULTS: [(&str, Fault); 12] = [
    ("throttled", Fault::Call(Fate::Throttled)),
    ("500", Fault::Call(Fate::ServerError)),
    ("403", Fault::Call(Fate::Denied)),
    ("malformed", Fault::Call(Fate::Malformed)),
    ("truncated", Fault::Call(Fate::Truncated)),
    ("reset", Fault::Call(Fate::Reset)),
    ("answer reset", Fault::Call(Fate::AnswerReset)),
    ("hangs", Fault::Call(Fate::Lost)),
    ("answer hangs", Fault::Call(Fate::AnswerLost)),
    ("drips", Fault::Call(Fate::Dripped)),
    ("dies before", Fault::DiesBefore),
    ("dies after", Fault::DiesAfter),
];

impl Fault {
    fn fate(self) -> Fate {
        match self {
            Self::Call(fate) => fate,
            Self::DiesBefore => Fate::Lost,
            Self::DiesAfter => Fate::AnswerLost,
        }
    }
}

/// One application that falls silent, and its watchdog.
struct World<'a> {
    bench: &'a Bench<'a>,
    proxy: Proxy,
    name: String,
}

/// What became of a fault.
#[derive(Debug, Default)]
struct Outcome {
    /// The pass in which people were told, from 0; none if never.
    told: Option<usize>,
    /// The pass in which the service was restarted, likewise.
    restarted: Option<usize>,
    /// Restarts that the emulator carried out.
    restarts: usize,
    /// What the last pass says is wrong.
    problems: Vec<String>,
}

impl<'a> World<'a> {
    fn new(bench: &'a Bench<'a>, name: String) -> Self {
        let site = Site::create(bench.aws, &name);
        let task = site.task();
        site.schedule_runs(&task, 40, 8);
        site.web_requests(&task);
        let config = format!(
            "[[scheduler]]\nname = \"{name}\"\nlog_groups = [\"{}\"]\nlog_stream_prefix = \"app/\"\n\
             [scheduler.ecs]\ncluster = \"{}\"\nservice = \"{}\"\ncontainer = \"app\"\n\
             [scheduler.remediation]\naction = \"force-new-deployment\"\nafter = \"0s\"\n",
            site.group, site.cluster, site.service
        );
        let parameter = json!({"Name": parameter(&name), "Type": "String", "Value": config});
        bench.aws.json(&SSM, "PutParameter", &parameter);
        let proxy = Proxy::start(bench.aws);
        Self { bench, proxy, name }
    }

    fn function(&self) -> Rie {
        let config = format!("ssm:{}", parameter(&self.name));
        let variables = [("WATCHDOG_CONFIG", config.as_str())];
        self.bench.function_with(&self.proxy.endpoint, &variables)
    }

    /// The calls of a pass in which nothing goes wrong, from the start of the function on.
    fn undisturbed(&self) -> Vec<Spot> {
        let function = self.function();
        let report = function.invoke(&wake_up());
        assert_eq!(report["schedulers"][0]["restarted"], true, "{report}");
        function.stop();
        self.proxy.spots()
    }

    /// A pass with the fault, and passes without until all has come right.
    fn suffer(&self, spot: &Spot, fault: Fault) -> Outcome {
        let what = format!("{}: {spot:?} {fault:?}", self.name);
        self.proxy.trouble(spot.clone(), fault.fate());
        let mut function = self.function();
        let dies = !matches!(fault, Fault::Call(_));
        thread::scope(|scope| {
            let call = scope.spawn(|| function.try_invoke(&wake_up()));
            if dies {
                wait_for(&what, Duration::from_secs(30), || {
                    self.proxy.had_trouble().then_some(())
                });
                function.kill();
            }
            // An answer, good or bad. The dead give none.
            assert!(call.join().unwrap().is_ok() || dies, "{what}");
        });
        assert!(self.proxy.had_trouble(), "{what}: the call was not made");
        self.proxy.end_trouble();
        if dies {
            function = self.function();
        }
        let mut outcome = Outcome::default();
        self.note(&mut outcome, 0);
        for pass in 1..=PASSES {
            if self.bench.table.item(&self.name).is_some() {
                self.bench.table.pass_minutes(&self.name, 3);
            }
            let report = function.invoke(&wake_up());
            let problems = &report["schedulers"][0]["problems"];
            outcome.problems = match problems.as_array() {
                Some(problems) => problems.iter().map(Value::to_string).collect(),
                None => vec![report.to_string()],
            };
            self.note(&mut outcome, pass);
        }
        function.stop();
        outcome
    }

    /// What has been carried out so far.
    fn note(&self, outcome: &mut Outcome, pass: usize) {
        let done = |action: &str| {
            let attempts = self.proxy.attempts();
            (attempts.iter())
                .filter(|call| call.action == action && call.done)
                .count()
        };
        if done("Publish") > 0 {
            outcome.told.get_or_insert(pass);
        }
        outcome.restarts = done("UpdateService");
        if outcome.restarts > 0 {
            outcome.restarted.get_or_insert(pass);
        }
    }
}

fn wake_up() -> Value {
    json!({"source": "scheduler-watchdog.schedule"})
}

fn parameter(name: &str) -> String {
    format!("/watchdog/{name}")
}

/// Whatever call goes wrong in whatever way, and wherever the function dies: people are told, with
/// one id, the service is restarted once, and the state can be read and has nothing left to send.
#[test]
fn no_fault_costs_a_message_or_a_second_restart() {
    let Some(tools) = Tools::find("no_fault_costs_a_message_or_a_second_restart") else {
        return;
    };
    let emulator = Emulator::start(&tools, 60);
    let bench = Bench::set_up(&tools, &emulator);
    let mut spots = World::new(&bench, "undisturbed".to_owned()).undisturbed();
    for action in [
        "GetParameter",
        "GetItem",
        "GetTopicAttributes",
        "StartQuery",
        "GetQueryResults",
        "DescribeServices",
        "ListTasks",
        "DescribeTasks",
        "PutItem",
        "UpdateService",
        "Publish",
    ] {
        assert!(spots.iter().any(|spot| spot.action == action), "{action}");
    }
    if !all_faults() {
        // One GetItem reads the scheduler's state, the other that of the configuration.
        spots.retain(|spot| spot.nth == 0 || spot.action == "GetItem");
    }
    spots.sort();

    let mut waiting: Vec<(Spot, &str, Fault)> = Vec::new();
    for spot in &spots {
        waiting.extend(FAULTS.map(|(name, fault)| (spot.clone(), name, fault)));
    }
    // What hangs takes longest, and comes first.
    waiting.sort_by_key(|(_, name, _)| name.contains("hang") || name.contains("drip"));
    let waiting = Mutex::new(waiting);
    let outcomes: Mutex<BTreeMap<(Spot, &str), Outcome>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let Some((spot, fault_name, fault)) = waiting.lock().unwrap().pop() else {
                        return;
                    };
                    let name = scheduler(&spot, fault_name);
                    let outcome = World::new(&bench, name).suffer(&spot, fault);
                    outcomes.lock().unwrap().insert((spot, fault_name), outcome);
                }
            });
        }
    });

    let alerts = bench.inbox.alerts();
    let outcomes = outcomes.into_inner().unwrap();
    println!("{}", table(&spots, &outcomes));
    for ((spot, fault), outcome) in &outcomes {
        let name = scheduler(spot, fault);
        let what = format!("{} {}, {fault}: {outcome:?}", spot.action, spot.nth);
        let mut told: Vec<String> = (alerts.iter())
            .filter(|alert| alert.attribute("scheduler") == name)
            .map(|alert| format!("{} {}", alert.gist(), alert.machine()["id"]))
            .filter(|gist| gist.starts_with("opened "))
            .collect();
        told.dedup();
        assert_eq!(told.len(), 1, "{what}: {told:?}");
        assert!(told[0].contains("scheduler-silent"), "{what}: {told:?}");
        // A refusal that no retry mends is told, and not tried again.
        let refused = spot.action == "UpdateService" && *fault == "403";
        assert_eq!(outcome.restarts, usize::from(!refused), "{what}");
        assert_eq!(outcome.problems, [""; 0], "{what}");
        let item = bench.table.item(&name).unwrap();
        let state = State::from_json(item["state"]["S"].as_str().unwrap());
        assert_eq!(state.unwrap().outbox, [], "{what}");
    }
}

fn scheduler(spot: &Spot, fault: &str) -> String {
    format!("{}-{}-{}", spot.action, spot.nth, fault.replace(' ', "-"))
}

/// Operation × fault: in which pass after the fault people were told, and the service restarted.
fn table(spots: &[Spot], outcomes: &BTreeMap<(Spot, &str), Outcome>) -> String {
    let pass = |pass: Option<usize>| pass.map_or("-".to_owned(), |pass| pass.to_string());
    let mut text = "told / restarted: 0 in the pass with the fault, 1 in the next, …\n".to_owned();
    let _ = write!(text, "{:18}", "");
    for (fault, _) in FAULTS {
        let _ = write!(text, "{fault:>13}");
    }
    for spot in spots {
        let _ = write!(text, "\n{:18}", format!("{} {}", spot.action, spot.nth + 1));
        for (fault, _) in FAULTS {
            let cell = match outcomes.get(&(spot.clone(), fault)) {
                Some(outcome) => format!("{} / {}", pass(outcome.told), pass(outcome.restarted)),
                None => String::new(),
            };
            let _ = write!(text, "{cell:>13}");
        }
    }
    text
}
