//! The command line as a user meets it: arguments, exit codes, what is printed where.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A directory to work in, and the program.
pub struct Desk {
    directory: TempDir,
}

impl Desk {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn file(&self, name: &str, text: &str) -> &Self {
        fs::write(self.path(name), text).unwrap();
        self
    }

    /// Runs the program here, without variables that could configure it.
    pub fn watchdog(&self, arguments: &[&str]) -> Run {
        self.watchdog_with(&[], arguments)
    }

    /// The same with a few variables.
    pub fn watchdog_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchdog"));
        command
            .args(arguments)
            .current_dir(&self.directory)
            .env_clear()
            .envs(variables.iter().copied());
        Run::from(command.output().unwrap())
    }
}

/// What a run left.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    /// The output of a run that went well.
    pub fn ok(self) -> String {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (0, ""),
            "{}",
            self.stdout
        );
        self.stdout
    }

    /// The complaint of a run that could not work with its input.
    pub fn refused(self) -> String {
        assert_eq!(
            (self.code, self.stdout.as_str()),
            (3, ""),
            "{}",
            self.stderr
        );
        self.stderr
    }
}

pub const CONFIG: &str = r#"
[[scheduler]]
name = "web"
log_groups = ["/ecs/web"]
log_stream_prefix = "app/"
stale_after = "5m"
"#;

/// A minute's lines as `aws logs tail` prints them: a request, and a heartbeat.
fn minutes(range: std::ops::Range<u32>, alive: bool) -> String {
    let mut text = String::new();
    for minute in range {
        let time = format!("2026-11-24T{:02}:{:02}", 3 + minute / 60, minute % 60);
        if alive {
            text.push_str(&format!(
                "{time}:02.000000+00:00 app/app/0123    INFO  No scheduled commands are ready to run.  \n"
            ));
        }
        text.push_str(&format!(
            "{time}:07.000000+00:00 app/app/0123 10.0.0.7 \"GET /health HTTP/1.1\" 200\n"
        ));
    }
    text
}

fn desk() -> Desk {
    let desk = Desk::new();
    desk.file("watchdog.toml", CONFIG)
        .file("healthy.log", &minutes(0..40, true))
        .file(
            "dead.log",
            &(minutes(0..40, true) + &minutes(40..80, false)),
        );
    desk
}

#[test]
fn wrong_arguments_are_unknown_to_monitoring_not_critical() {
    let desk = Desk::new();
    for arguments in [
        &["--no-such"][..],
        &["check", "--no-such"],
        &["replay"],
        &["replay", "--logs", "x", "--from", "yesterday"],
        &["check", "--log-file", "x", "--now", "25:00"],
        &["check", "--now", "2026-11-24T03:00:00Z"],
    ] {
        let complaint = desk.watchdog(arguments).refused();
        assert!(complaint.starts_with("error: "), "{complaint}");
    }
    for arguments in [&["--help"][..], &["--version"], &["replay", "--help"]] {
        assert_eq!(desk.watchdog(arguments).code, 0);
    }
}

#[test]
fn a_configuration_is_checked() {
    let desk = desk();
    assert_eq!(
        desk.watchdog(&["config", "check", "watchdog.toml"]).ok(),
        "ok: 1 scheduler, 0 jobs (watchdog.toml)\n"
    );
    // The file in the working directory is the one that the other commands use.
    let found = desk.watchdog(&["config", "check"]).ok();
    assert!(found.starts_with("ok: 1 scheduler, 0 jobs"), "{found}");

    desk.file("wrong.toml", &CONFIG.replace("stale_after", "stail_after"));
    let complaint = desk.watchdog(&["config", "check", "wrong.toml"]).refused();
    assert!(complaint.contains("wrong.toml:6:1: "), "{complaint}");
    assert!(complaint.contains("`stale_after`"), "{complaint}");
    let complaint = desk.watchdog(&["config", "check", "none.toml"]).refused();
    assert!(complaint.contains("none.toml"), "{complaint}");
}

#[test]
fn input_that_cannot_be_used_is_named() {
    let desk = desk();
    desk.file("page.log", "<html>\n")
        .file("broken.json", "{\"events\": [\n{\"message\": \"x\"}\n")
        .file("empty.log", "")
        .file("ecs.jsonl", "{\"at\": 1}\n{}\n");
    for (arguments, place) in [
        (&["--logs", "page.log"][..], "page.log:1: "),
        (&["--logs", "broken.json"], "broken.json:2: "),
        (&["--logs", "healthy.log", "no-such.log"], "no-such.log: "),
        (&["--logs", "empty.log"], "the logs hold no event"),
        (
            &["--logs", "healthy.log", "--service", "ecs.jsonl"],
            "ecs.jsonl:2: missing field `at`",
        ),
        (&["--logs", "healthy.log", "--every", "0s"], "--every"),
        (
            &["--logs", "healthy.log", "--until", "2026-11-01"],
            "--until 2026-11-01",
        ),
        (
            &["--logs", "healthy.log", "--config", "none.toml"],
            "none.toml",
        ),
    ] {
        let mut all = vec!["replay"];
        all.extend(arguments);
        let complaint = desk.watchdog(&all).refused();
        assert!(complaint.contains(place), "{complaint}");
    }
    let complaint = desk
        .watchdog(&["check", "--log-file", "healthy.log", "--scheduler", "wep"])
        .refused();
    assert!(complaint.contains("`web`"), "{complaint}");
}

/// As PowerShell's `>` writes them.
#[test]
fn files_in_utf_16_are_called_so() {
    let desk = desk();
    std::fs::write(desk.path("wide"), b"\xff\xfe[\x00\r\x00\n\x00").unwrap();
    for arguments in [
        &["config", "check", "wide"][..],
        &["jobs", "import", "wide"],
        &["check", "--log-file", "wide"],
    ] {
        let complaint = desk.watchdog(arguments).refused();
        assert!(
            complaint.contains(": it is encoded in UTF-16, not UTF-8"),
            "{complaint}"
        );
    }
}

#[test]
fn a_living_scheduler_is_ok() {
    let run = desk().watchdog(&["check", "--log-file", "healthy.log"]);
    insta::assert_snapshot!(run.ok());
}

#[test]
fn a_dead_scheduler_is_critical_and_the_alert_is_shown() {
    let run = desk().watchdog(&["check", "--log-file", "dead.log"]);
    assert_eq!(run.code, 2, "{}", run.stdout);
    insta::assert_snapshot!(run.stdout);
}

#[test]
fn time_goes_on_after_the_last_line_only_if_it_is_said() {
    let desk = desk();
    let look = |now: &str| {
        let arguments = ["check", "--log-file", "healthy.log", "--now", now];
        desk.watchdog(&arguments).code
    };
    assert_eq!(look("2026-11-24T03:41:00Z"), 0);
    assert_eq!(look("2026-11-24T04:30:00Z"), 2);
    // Without an offset it is UTC, as scripts expect, and that is said.
    let arguments = [
        "replay",
        "--logs",
        "healthy.log",
        "--until",
        "2026-11-24 03:45:00",
    ];
    let run = desk.watchdog(&arguments);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (0, "`2026-11-24 03:45:00` has no offset: taken as UTC\n")
    );
}

#[test]
fn a_look_for_machines_holds_report_and_messages() {
    let desk = desk();
    let arguments = ["check", "--log-file", "dead.log", "--format", "json"];
    let run = desk.watchdog(&arguments);
    let look: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(look["schedulers"][0]["verdict"], "firing");
    assert_eq!(look["schedulers"][0]["conditions"][0], "scheduler-silent");
    assert_eq!(look["messages"][0]["condition"], "scheduler-silent");
    assert_eq!(run.code, 2);
}

#[test]
fn looks_that_are_remembered_make_one_alert() {
    let desk = desk();
    let look = |now: &str| {
        let run = desk.watchdog(&[
            "check",
            "--log-file",
            "dead.log",
            "--state",
            "state.json",
            "--now",
            now,
            "--format",
            "json",
        ]);
        let look: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        (run.code, look["messages"].as_array().unwrap().len())
    };
    let looks: Vec<(i32, usize)> = (["03:35", "03:40", "03:45", "03:50", "03:55", "04:00"].iter())
        .map(|time| look(&format!("2026-11-24T{time}:00Z")))
        .collect();
    let messages: usize = looks.iter().map(|(_, messages)| messages).sum();
    assert_eq!((looks[0].0, looks[5].0, messages), (0, 2, 1), "{looks:?}");

    let before = fs::read_to_string(desk.path("state.json")).unwrap();
    desk.file("state.json", "my diary");
    let arguments = ["check", "--log-file", "dead.log", "--state", "state.json"];
    let run = desk.watchdog(&arguments);
    assert_eq!(run.code, 3, "{}", run.stdout);
    assert!(run.stdout.contains("state.json"), "{}", run.stdout);
    assert_eq!(
        fs::read_to_string(desk.path("state.json")).unwrap(),
        "my diary"
    );
    assert!(before.contains("\"web\""));
}

#[test]
fn a_look_that_cannot_be_remembered_is_refused() {
    let desk = desk();
    desk.file("file", "");
    for state in ["no/such/state.json", "file/state.json"] {
        let arguments = ["check", "--log-file", "dead.log", "--state", state];
        let complaint = desk.watchdog(&arguments).refused();
        let begin = format!("--state {state} cannot be written: ");
        assert!(complaint.starts_with(&begin), "{complaint}");
    }
}

#[test]
fn a_look_writes_nothing_unless_it_is_asked_to() {
    let desk = desk();
    let names = |path: &Path| {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names(&desk.path(""));
    desk.watchdog(&["check", "--log-file", "dead.log"]);
    desk.watchdog(&["replay", "--logs", "dead.log"]).ok();
    assert_eq!(names(&desk.path("")), before);
}

#[test]
fn a_month_is_estimated_without_aws() {
    let desk = Desk::new();
    let scheduler =
        |name: &str| format!("[[scheduler]]\nname = \"{name}\"\nlog_groups = [\"/ecs/app\"]\n");
    desk.file("watchdog.toml", &(scheduler("web") + &scheduler("batch")));
    let text = desk.watchdog(&["cost", "--gigabytes", "100"]).ok();
    insta::assert_snapshot!(text);
    let json = desk
        .watchdog(&["cost", "--gigabytes", "100", "--format", "json"])
        .ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["schedulers"], &json["log_gigabytes"]),
        (&2.into(), &100.0.into())
    );
    let refused = desk.watchdog(&["cost", "--gigabytes", "lots"]);
    assert!(refused.refused().contains("such as 12.5"));
}
