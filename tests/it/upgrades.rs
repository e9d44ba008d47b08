//! State documents that earlier versions wrote are read by this one, and nothing in them is lost:
//! incidents go on, restarts count, what waits is sent under the same id.
//!
//! Each file in `fixtures/state` was written by the version that its name tells, as
//! `watchdog check --state` keeps it; one scheduler for each of the [stories](stories). This
//! version's own is written with `STATE_FIXTURE=FILE cargo test --test it upgrades`, to be kept
//! with a release.

mod stories;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use scheduler_watchdog::aws::PassContext;
use scheduler_watchdog::config::{Config, Limits, Mistakes};
use scheduler_watchdog::local::{Files, LocalWorld};
use scheduler_watchdog::message::Message;
use scheduler_watchdog::pass::{self, Request};
use scheduler_watchdog::plan::{Occasion, Remediation};
use scheduler_watchdog::silence::OneOff;
use scheduler_watchdog::snapshot::{CallError, Obstacle};
use scheduler_watchdog::state::{Incident, Outcome, SCHEMA, State};
use scheduler_watchdog::world::World;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::faulty::{Faults, Faulty};
use crate::server::Server;
use stories::{FIRST_PASS, STORIES, Story, time};

/// The time between passes, in minutes.
const INTERVAL: i64 = 5;

/// The state of the watchdog's own configuration.
const CONFIGURATION: &str = "watchdog configuration";

/// The files of a story, in which calls fail as it tells.
struct Stage {
    world: LocalWorld,
    config: Config,
    undelivered_from: i64,
    blind_from: i64,
    published: RefCell<Vec<(String, Occasion)>>,
    /// A copy of the state file is kept here when something is about to be done.
    claimed: Option<PathBuf>,
    restarts: Cell<u32>,
    state: PathBuf,
    _directory: TempDir,
}

impl Stage {
    fn of(story: &Story, state: &Path) -> Faulty<Self> {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let config = Config::parse(&story.config(), "watchdog.toml").unwrap();
        let files = Files {
            logs: vec![write("log.jsonl", story.log())],
            service: Some(write("service.jsonl", story.service())),
            state: Some(state.to_owned()),
        };
        Faulty(Self {
            world: LocalWorld::read(&config, &files, &mut |note| panic!("{note}")).unwrap(),
            config,
            undelivered_from: story.undelivered_from,
            blind_from: story.blind_from,
            published: RefCell::default(),
            claimed: None,
            restarts: Cell::new(0),
            state: state.to_owned(),
            _directory: directory,
        })
    }

    async fn state(&self, name: &str) -> State {
        self.world.load(name).await.unwrap().0
    }

    fn is_after(&self, minute: i64) -> bool {
        minute < i64::MAX && self.world.now() >= time(minute)
    }

    fn acts(&self) {
        if let Some(path) = &self.claimed {
            fs::copy(&self.state, path).unwrap();
        }
    }
}

impl Faulty<Stage> {
    async fn pass(&self, minute: i64) -> pass::Report {
        self.world.set_now(time(minute));
        pass::run(self, &self.config, &Request::default()).await
    }
}

impl Faults for Stage {
    fn files(&self) -> &LocalWorld {
        &self.world
    }

    fn log(&self) -> Result<(), CallError> {
        match self.is_after(self.blind_from) {
            true => Err(failure("logs:StartQuery on log group `/ecs/app` is denied")),
            false => Ok(()),
        }
    }

    fn publish(&self, message: &Message) -> Result<(), CallError> {
        if self.is_after(self.undelivered_from) {
            return Err(failure("sns:Publish is denied"));
        }
        let notification = &message.notification;
        (self.published.borrow_mut()).push((notification.id.clone(), notification.occasion));
        Ok(())
    }

    fn restart(&self, remediation: &Remediation) -> Result<Option<String>, CallError> {
        self.acts();
        self.restarts.set(self.restarts.get() + 1);
        Ok(remediation.task.is_none().then(|| "ecs-svc/2".to_owned()))
    }
}

fn failure(detail: &str) -> CallError {
    CallError::new(Obstacle::Denied, detail)
}

fn mistakes() -> Mistakes {
    Mistakes::at("watchdog.toml:1:1", "nothing to watch")
}

/// Plays all stories, and leaves their documents in one file.
async fn write(path: &Path) {
    for story in &STORIES {
        let mut stage = Stage::of(story, path);
        let copy = path.with_extension("claimed");
        let mut minute = FIRST_PASS;
        while minute <= story.last_pass {
            if story.silenced_at == Some(minute) {
                silence(&stage, story.name).await;
            }
            let is_last = minute + INTERVAL > story.last_pass;
            stage.claimed = (story.dies && is_last).then(|| copy.clone());
            let _ = stage.pass(minute).await;
            minute += INTERVAL;
        }
        if story.dies {
            fs::rename(&copy, path).unwrap();
        }
    }
    // Its first message was delivered, the reminder was not.
    let mut stage = Stage::of(&STORIES[0], path);
    (stage.undelivered_from, stage.blind_from) = (300, i64::MAX);
    for minute in [60, 300] {
        stage.world.set_now(time(minute));
        let _ = pass::configuration(&stage, Some(&mistakes())).await;
    }
}

async fn silence(stage: &Faulty<Stage>, scheduler: &str) {
    stage.world.set_now(time(39));
    let (mut state, version) = stage.load(scheduler).await.unwrap();
    let silence = OneOff {
        id: "20261124T003900Z".to_owned(),
        from: time(39),
        until: time(39 + 180),
        reason: "database migration".to_owned(),
        author: "operations".to_owned(),
        condition: None,
    };
    silence.add_to(&mut state).unwrap();
    stage.save(scheduler, &state, version).await.unwrap();
}

/// What a document holds, and what the passes over it said and did: one line each.
fn row(name: &str, state: &State, said: &[(String, Occasion)], restarts: u32) -> String {
    let mut row = format!("{name}\n");
    for incident in &state.incidents {
        let Incident {
            condition,
            phase,
            subject,
            causes,
            messages,
            ..
        } = incident;
        let flapping = if incident.flapping { " (flapping)" } else { "" };
        let _ = write!(row, "  {phase:?} {condition}{flapping}");
        if let Some(subject) = subject {
            let _ = write!(row, " of {subject}");
        }
        let causes: Vec<&str> = causes.iter().map(|cause| cause.id.as_str()).collect();
        if !causes.is_empty() {
            let _ = write!(row, " by {}", causes.join(", "));
        }
        let _ = writeln!(row, ", told {messages} times");
    }
    for attempt in &state.restarts.attempts {
        let outcome = serde_json::to_value(&attempt.outcome).unwrap();
        let cure = attempt.cure.id();
        let _ = writeln!(row, "  {cure}: {}", outcome["is"].as_str().unwrap());
    }
    if state.restarts.locked_out_at.is_some() {
        let _ = writeln!(row, "  locked out");
    }
    for silence in &state.silences {
        let _ = writeln!(row, "  silenced: {}", silence.reason);
    }
    if !state.jobs.is_empty() {
        let names: Vec<&str> = state.jobs.keys().map(String::as_str).collect();
        let _ = writeln!(row, "  knows of jobs: {}", names.join(", "));
    }
    let occasions: Vec<&str> = state.outbox.iter().map(|n| n.occasion.id()).collect();
    if !occasions.is_empty() {
        let _ = writeln!(row, "  waiting: {}", occasions.join(", "));
    }
    let said: Vec<String> = (said.iter())
        .map(
            |(id, occasion)| match state.outbox.iter().any(|n| n.id == *id) {
                true => format!("{} (had waited)", occasion.id()),
                false => occasion.id().to_owned(),
            },
        )
        .collect();
    if !said.is_empty() {
        let _ = writeln!(row, "  → {}", said.join(", "));
    }
    if restarts > 0 {
        let _ = writeln!(row, "  → {restarts} restarts");
    }
    row
}

/// Passes that go on from a document.
const PASSES_AFTER: i64 = 2;

/// Lets this version go on from a file that another wrote, and tells what the file held and what
/// was said.
async fn go_on(fixture: &Path) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    let document: Value = serde_json::from_slice(&fs::read(fixture).unwrap()).unwrap();
    let document = with_field_of_a_later_version(document);
    fs::write(&path, document.to_string()).unwrap();
    let mut rows = String::new();
    let held = document["schedulers"].as_object().unwrap();
    for story in STORIES.iter().filter(|story| held.contains_key(story.name)) {
        let mut stage = Stage::of(story, &path);
        (stage.undelivered_from, stage.blind_from) = match story.blind_from {
            i64::MAX => (i64::MAX, i64::MAX),
            // It stays blind.
            from => (i64::MAX, from),
        };
        let before = stage.state(story.name).await;
        // Nothing that the document says is lost on the way through this version.
        let known = &held[story.name]["state"];
        assert_kept(story.name, known, &written(&before));
        for pass in 1..=PASSES_AFTER {
            let report = stage.pass(story.last_pass + pass * INTERVAL).await;
            assert!(report.is_complete(), "{}: {report:?}", story.name);
        }
        let (after, said) = (stage.state(story.name).await, stage.published.take());
        assert_goes_on(story, &before, &after, &said);
        rows.push_str(&row(story.name, &before, &said, stage.restarts.get()));
    }
    if held.contains_key(CONFIGURATION) {
        let mut stage = Stage::of(&STORIES[0], &path);
        stage.undelivered_from = i64::MAX;
        let before = stage.state(CONFIGURATION).await;
        stage.world.set_now(time(305));
        let _ = pass::configuration(&stage, Some(&mistakes())).await;
        stage.world.set_now(time(310));
        let _ = pass::configuration(&stage, None).await;
        let said = stage.published.take();
        assert_waiting_first(&before, &said);
        rows.push_str(&row(CONFIGURATION, &before, &said, 0));
    }
    // What no pass of this version knows stands there as it stood.
    let text = fs::read(&path).unwrap();
    let after: Value = serde_json::from_slice(&text).unwrap();
    for name in held.keys() {
        let kept = &after["schedulers"][name];
        assert_eq!(kept["state"]["added_later"], later(), "{name}");
        let version = |item: &Value| item["version"].as_u64().unwrap();
        assert!(version(kept) > version(&held[name]), "{name} was written");
    }
    rows
}

/// What a later version of the same schema may have added.
fn later() -> Value {
    json!({"since": "2027-01-01T00:00:00Z", "list": [1, {"deep": null}]})
}

fn with_field_of_a_later_version(mut document: Value) -> Value {
    for item in document["schedulers"].as_object_mut().unwrap().values_mut() {
        item["state"]["added_later"] = later();
    }
    document
}

fn written(state: &State) -> Value {
    serde_json::from_str(&state.to_json()).unwrap()
}

/// Every value of a document is still there, at the same place. Times of jobs may be written in
/// another way; what they say is compared where they are read.
fn assert_kept(place: &str, before: &Value, after: &Value) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let place = format!("{place}.{key}");
                match after.get(key) {
                    Some(now) => assert_kept(&place, value, now),
                    // What says nothing is left out today.
                    None => assert!(is_nothing(value), "{place} is lost: {value}"),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len(), "{place}");
            for (index, (value, now)) in before.iter().zip(after).enumerate() {
                assert_kept(&format!("{place}[{index}]"), value, now);
            }
        }
        (Value::String(text), Value::Number(second)) => {
            let at: Timestamp = text.parse().unwrap();
            assert_eq!(Some(at.as_second()), second.as_i64(), "{place}");
        }
        _ => assert_eq!(before, after, "{place}"),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// What waited is sent first, once, and under the same ids.
fn assert_waiting_first(before: &State, said: &[(String, Occasion)]) {
    let ids: Vec<&String> = said.iter().map(|(id, _)| id).collect();
    let waited: Vec<&String> = before.outbox.iter().map(|n| &n.id).collect();
    assert_eq!(&ids[..waited.len()], waited);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
}

fn assert_goes_on(story: &Story, before: &State, after: &State, said: &[(String, Occasion)]) {
    let name = story.name;
    assert_waiting_first(before, said);
    // What is open is the same incident: nobody hears a second time that it began.
    for (id, occasion) in said {
        let waited = before.outbox.iter().any(|n| n.id == *id);
        assert!(waited || *occasion != Occasion::Opened, "{name}: {id}");
    }
    for incident in before.incidents.iter().filter(|i| i.is_open()) {
        let now = after.incidents.iter().find(|now| now.id == incident.id);
        let now = now.unwrap_or_else(|| panic!("{name}: {} is gone", incident.id));
        // What came and went is quiet for long enough at last.
        let may_end = incident.flapping;
        assert!(now.is_open() || may_end, "{name}: {} ended", incident.id);
        assert_eq!(now.fired_at, incident.fired_at, "{name}: {}", incident.id);
        assert!(now.messages >= incident.messages, "{name}: {}", incident.id);
    }
    // Restarts are counted on, and the one that may have been made is not made again.
    assert!(
        after.restarts.attempts.len() >= before.restarts.attempts.len(),
        "{name}"
    );
    for (then, now) in (before.restarts.attempts.iter()).zip(&after.restarts.attempts) {
        assert_eq!(
            (&then.incident, then.cure, &then.token),
            (&now.incident, now.cure, &now.token),
            "{name}"
        );
        // A call of which ECS shows nothing is made again, as the same attempt.
        let again = then.outcome == Outcome::Claimed;
        assert!(again || now.claimed_at == then.claimed_at, "{name}");
    }
    assert_eq!(
        before.restarts.locked_out_at, after.restarts.locked_out_at,
        "{name}"
    );
    assert_eq!(before.silences, after.silences, "{name}");
    assert_eq!(before.installed_at, after.installed_at, "{name}");
    assert!(before.checked_until <= after.checked_until, "{name}");
    for (job, history) in &before.jobs {
        let now = after.jobs.get(job);
        let longest = now.and_then(|now| now.longest_seconds);
        assert!(history.longest_seconds <= longest, "{name}: {job}");
    }
}

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/state");
    let mut files: Vec<PathBuf> = (fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn documents_of_earlier_versions_are_read_and_gone_on_from() {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 4, "{fixtures:?}");
    for path in fixtures {
        let name = path.file_stem().unwrap().to_str().unwrap();
        insta::assert_snapshot!(name, go_on(&path).await);
    }
}

/// The next version's fixture holds up before it is one.
#[tokio::test]
async fn documents_of_this_version_are_read_and_gone_on_from() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    write(&path).await;
    insta::assert_snapshot!("this-version", go_on(&path).await);
    #[expect(clippy::disallowed_methods, reason = "said by whoever makes a release")]
    if let Some(fixture) = std::env::var_os("STATE_FIXTURE") {
        fs::copy(&path, fixture).unwrap();
    }
}

/// Every document of a fixture, by scheduler.
fn documents(path: &Path) -> serde_json::Map<String, Value> {
    let mut file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let Value::Object(items) = file["schedulers"].take() else {
        panic!("{path:?} holds no schedulers");
    };
    (items.into_iter())
        .map(|(name, mut item)| (name, item["state"].take()))
        .collect()
}

/// The table of states, of which this document is the only item.
fn table(document: &Value) -> Server {
    let item = json!({
        "scheduler": {"S": "app"}, "version": {"N": "7"}, "state": {"S": document.to_string()},
    });
    Server::start(move |target, _| match target.rsplit('.').next() {
        Some("GetItem") => (200, None, json!({"Item": item}).to_string()),
        _ => (200, None, "{}".to_owned()),
    })
}

const CONTEXT: PassContext<'static> = PassContext {
    topic: None,
    table: Some("state"),
    deadline: None,
    limits: Limits {
        running_queries: 20,
        start_queries_per_second: 5,
    },
};

#[tokio::test]
async fn the_table_of_states_gives_and_keeps_documents_of_earlier_versions() {
    for fixture in fixtures() {
        for (name, mut document) in documents(&fixture) {
            document["added_later"] = later();
            let server = table(&document);
            let aws = server.aws();
            let world = aws.world(CONTEXT);
            let (state, version) = world.load("app").await.unwrap();
            assert_eq!(world.save("app", &state, version).await, Ok(8), "{name}");
            let (target, put) = server.heard().pop().unwrap();
            assert_eq!(target, "DynamoDB_20120810.PutItem");
            let put: Value = serde_json::from_str(&put).unwrap();
            let kept = put["Item"]["state"]["S"].as_str().unwrap();
            assert_kept(&name, &document, &serde_json::from_str(kept).unwrap());
        }
    }
}

/// What a version with another document wrote, which is deployed again soon.
#[tokio::test]
async fn a_newer_document_is_refused_in_clear_words_and_stays_as_it_is() {
    let newer = SCHEMA + 1;
    let refusal =
        format!("state not loaded: the state has schema {newer}, this program knows {SCHEMA}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    let fixture = fixtures().pop().unwrap();
    let mut file: Value = serde_json::from_slice(&fs::read(fixture).unwrap()).unwrap();
    for item in file["schedulers"].as_object_mut().unwrap().values_mut() {
        item["state"]["schema"] = newer.into();
        item["state"]["heartbeats"] = "of another shape".into();
    }
    let text = file.to_string();
    fs::write(&path, &text).unwrap();
    for story in &STORIES {
        let mut stage = Stage::of(story, &path);
        (stage.undelivered_from, stage.blind_from) = (i64::MAX, i64::MAX);
        let report = stage.pass(story.last_pass + INTERVAL).await;
        let problem = &report.schedulers[0].problems[0];
        assert!(problem.starts_with(&refusal), "{problem}");
        assert!(
            problem.contains("deploy the newer version again"),
            "{problem}"
        );
        assert_eq!((stage.restarts.get(), stage.published.take().len()), (0, 0));
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "{}", story.name);

        let server = table(&file["schedulers"][story.name]["state"]);
        let aws = server.aws();
        let world = aws.world(CONTEXT);
        let report = pass::run(&world, &stage.config, &Request::default()).await;
        let problem = &report.schedulers[0].problems[0];
        assert!(problem.starts_with(&refusal), "{problem}");
        let calls: Vec<String> = server
            .heard()
            .into_iter()
            .map(|(target, _)| target)
            .collect();
        assert_eq!(
            calls,
            ["DynamoDB_20120810.GetItem"],
            "nothing is written, said or done"
        );
    }
}
