//! `watchdog jobs` and `watchdog silence` as a user meets them.

use std::fmt::Write as _;

use proptest::prelude::*;
use scheduler_watchdog::config::Config;
use scheduler_watchdog::jobs::import;

use crate::cli::{CONFIG, Desk};

const JSON: &str = include_str!("../samples/schedule-list/laravel-12.json");
const PLAIN: &str = include_str!("../samples/schedule-list/laravel-12.txt");
const EMPTY: &str = include_str!("../samples/schedule-list/empty.txt");

/// What `schedule:list --json` prints for the jobs of the example, and some odd ones.
const FULL: &str = r#"[
 {"expression":"*/5 * * * *","command":"php artisan redis:monitor","description":null,"timezone":"Asia/Tokyo","has_mutex":true,"repeat_seconds":null,"environments":[]},
 {"expression":"0 0 * * *","command":"php artisan notifications:delete-expired","description":"Old ones only","timezone":"UTC","has_mutex":false,"repeat_seconds":null,"environments":["production","staging"]},
 {"expression":"0 9 * * 1-5","command":"php artisan report \"daily\" --to='ops'","description":null,"timezone":"Asia/Tokyo","has_mutex":false,"repeat_seconds":null,"environments":["production"]},
 {"expression":"0 12 * * 6","command":"php artisan report \"daily\" --to='ops'","description":null,"timezone":"Asia/Tokyo","has_mutex":false,"repeat_seconds":null,"environments":["production"]},
 {"expression":"* * * * *","command":"php artisan pulse:check","description":null,"timezone":"Asia/Tokyo","has_mutex":false,"repeat_seconds":15,"environments":[]},
 {"expression":"* * * * *","command":"Closure at: routes/console.php:27","description":null,"timezone":"Asia/Tokyo","has_mutex":false,"repeat_seconds":null,"environments":[]},
 {"expression":"30 1 * * *","command":"App\\Jobs\\PruneStale","description":"App\\Jobs\\PruneStale","timezone":"Asia/Tokyo","has_mutex":false,"repeat_seconds":null,"environments":[]}
]"#;

/// Laravel 8, with a bar in a command, and a named closure.
const LARAVEL_8: &str = "\
+----------------------------------------------------------------+-------------+-------------+----------------------------+
| Command                                                        | Interval    | Description | Next Due                   |
+----------------------------------------------------------------+-------------+-------------+----------------------------+
| '/usr/local/bin/php' 'artisan' redis:monitor > '/dev/null' 2>&1 | */5 * * * * |             | 2021-11-24 03:40:00 +00:00 |
|                                                                | 0 0 * * *   | purge-files | 2021-11-25 00:00:00 +00:00 |
+----------------------------------------------------------------+-------------+-------------+----------------------------+
";

fn tokyo() -> String {
    CONFIG.replace(
        "stale_after",
        "timezone = \"Asia/Tokyo\"\nenvironment = \"production\"\nstale_after",
    )
}

fn desk() -> Desk {
    let desk = Desk::new();
    desk.file("watchdog.toml", &tokyo())
        .file("list.json", JSON)
        .file("list.txt", PLAIN)
        .file("empty.txt", EMPTY)
        .file("full.json", FULL)
        .file("laravel-8.txt", LARAVEL_8);
    desk
}

fn import_of(desk: &Desk, file: &str, more: &[&str]) -> String {
    let mut arguments = vec!["jobs", "import", file];
    arguments.extend(more);
    desk.watchdog(&arguments).ok()
}

#[test]
fn lists_of_many_versions_become_tables() {
    let desk = desk();
    // The border of the Laravel 8 table is one column narrower than its longest row.
    let laravel_8 = LARAVEL_8.replace("2>&1 |", "2>&1|");
    desk.file("laravel-8.txt", &laravel_8);
    for (name, file, more) in [
        ("json", "list.json", &[][..]),
        ("plain", "list.txt", &[]),
        ("empty", "empty.txt", &[]),
        ("laravel-8", "laravel-8.txt", &[]),
        ("full", "full.json", &["--config", "watchdog.toml"]),
    ] {
        insta::assert_snapshot!(format!("import-{name}"), import_of(&desk, file, more));
    }
}

#[test]
fn colours_and_mutexes_do_not_disturb_the_plain_list() {
    let desk = desk();
    desk.file(
        "colours.txt",
        "\n  \u{1b}[33m*/5 *   * * *\u{1b}[39m  php artisan redis:monitor \u{1b}[90m..... Has Mutex › Next Due: 4 minutes from now\u{1b}[39m\r\n  \
         0   0   1 * *  php artisan payment:clean  Next Due: 1 week from now\n                 ⇁ Monthly clean-up\n",
    );
    let tables = import_of(&desk, "colours.txt", &[]);
    let jobs = Config::parse(&format!("{}{tables}", tokyo()), "test").unwrap();
    let jobs: Vec<(&str, &str)> = (jobs.schedulers[0].jobs.iter())
        .map(|job| (job.name.as_str(), job.cron[0].expression()))
        .collect();
    assert_eq!(
        jobs,
        [
            ("redis:monitor", "*/5 * * * *"),
            ("payment:clean", "0 0 1 * *")
        ]
    );
}

#[test]
fn what_was_imported_is_what_is_configured() {
    let desk = desk();
    let tables = import_of(&desk, "full.json", &["--config", "watchdog.toml"]);
    desk.file("watchdog.toml", &format!("{}{tables}", tokyo()));
    let said = desk
        .watchdog(&["jobs", "import", "full.json", "--check"])
        .ok();
    assert_eq!(said, "web: the configuration and the list agree\n");
}

#[test]
fn drift_is_told() {
    let desk = desk();
    let jobs = r#"
[[scheduler.job]]
name = "redis:monitor"
cron = "*/10 * * * *"

[[scheduler.job]]
name = "pulse:check"
cron = "* * * * *"

[[scheduler.job]]
name = "forgotten:job"
cron = "0 3 * * *"

[[scheduler.job]]
name = "auth:monitor-dual-auth --alert"
cron = "*/5 * * * *"
active = [{ from = "2025-12-01", until = "2025-12-14" }]

[[scheduler.job]]
name = "notifications:delete-expired"
cron = "0 0 * * *"
environments = ["production"]
"#;
    desk.file("watchdog.toml", &format!("{}{jobs}", tokyo()));
    let run = desk.watchdog(&["jobs", "import", "full.json", "--check"]);
    assert_eq!((run.code, run.stderr.as_str()), (1, ""));
    insta::assert_snapshot!(run.stdout);
}

/// A closure's entry names its line in a file, which moves; `match` tells what its lines say.
#[test]
fn a_job_that_is_told_by_match_has_not_drifted() {
    let desk = desk();
    let jobs = r#"
[[scheduler.job]]
name = "heartbeat"
cron = "* * * * *"
match = "Callback"

[[scheduler.job]]
name = "weekly report"
cron = "0 6 * * MON"
match = { regex = "^report:send .*--weekly" }
"#;
    let list = r#"[
 {"expression":"* * * * *","command":"Closure at: routes/console.php:31"},
 {"expression":"0 6 * * 1","command":"php artisan report:send --weekly"}
]"#;
    desk.file("watchdog.toml", &format!("{CONFIG}{jobs}"))
        .file("list.json", list);
    let check = ["jobs", "import", "list.json", "--check"];
    let said = desk.watchdog(&check).ok();
    assert_eq!(said, "web: the configuration and the list agree\n");
    desk.file("list.json", &list.replace("0 6", "0 7"));
    assert_eq!(
        desk.watchdog(&check).stdout,
        "weekly report: cron: the configuration says 0 6 * * MON, the list 0 7 * * 1\n"
    );
}

#[test]
fn a_closure_that_is_not_configured_has_drifted() {
    let desk = desk();
    let closure = r#"{"expression":"* * * * *","command":"Closure at: routes/console.php:31"}"#;
    let check = |list: &str, jobs: &str| {
        desk.file("watchdog.toml", &format!("{CONFIG}{jobs}"))
            .file("list.json", list);
        desk.watchdog(&["jobs", "import", "list.json", "--check"])
    };
    let one = check(&format!("[{closure}]"), "");
    assert_eq!(
        (one.code, one.stdout.as_str()),
        (
            1,
            "Closure at: routes/console.php:31: is in the list (* * * * *), not in the configuration; \
             its lines say Callback (->name('…') gives it a name of its own)\n"
        )
    );
    let other = closure.replace(":31", ":40");
    let list = format!("[{closure},{other}]");
    assert_eq!(
        check(&list, "").stdout,
        "Callback: 2 closures without a name are in the list, not in the configuration, and cannot be \
         told apart in the log: give each ->name('…')\n"
    );
    let jobs = "[[scheduler.job]]\nname = \"Callback\"\ncron = \"* * * * *\"\n";
    assert_eq!(check(&list, jobs).code, 0);
}

#[test]
fn what_is_no_list_is_refused_and_nothing_is_written() {
    let desk = desk();
    let cases = [
        ("nothing", ""),
        ("an object", r#"{"jobs": []}"#),
        ("other objects", r#"[{"name": "redis:monitor"}]"#),
        ("cut short", r#"[{"expression":"* * * * *","#),
        (
            "a log",
            "   INFO  No scheduled commands are ready to run.  \n",
        ),
        ("a web page", "<html><body>Sign in</body></html>"),
        (
            "an impossible time",
            r#"[{"expression":"* * * * *","command":"a"},{"expression":"0 0 31 2 *","command":"php artisan b"}]"#,
        ),
    ];
    let told = cases.iter().fold(String::new(), |mut told, (name, text)| {
        desk.file("file", text);
        let said = desk.watchdog(&["jobs", "import", "file"]).refused();
        let _ = writeln!(told, "{name}: {}", said.trim_end());
        told
    });
    insta::assert_snapshot!(told);
    let said = desk.watchdog(&["jobs", "import", "missing"]).refused();
    assert!(said.starts_with("missing: cannot be read"), "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever an application calls its jobs, the tables can be read back, and are the jobs.
    #[test]
    fn tables_are_valid_whatever_a_list_holds(
        entries in prop::collection::vec(
            ("[ -~é\u{202e}\n]{1,40}", "(?s).{0,30}", any::<bool>()),
            1..6,
        ),
    ) {
        let entries: Vec<_> = (entries.iter())
            .map(|(command, description, often)| serde_json::json!({
                "expression": if *often { "*/5 * * * *" } else { "0 1 1 * *" },
                "command": command,
                "description": description,
                "timezone": "Europe/Berlin",
            }))
            .collect();
        let text = serde_json::to_string(&entries).unwrap();
        let list = import::read(&text).unwrap();
        prop_assume!(list.jobs.iter().all(|job| !job.name.is_empty() && !job.is_cut));
        let tables = import::tables(&list, None);
        let config = Config::parse(&format!("{CONFIG}{tables}"), "test");
        let config = config.map_err(|mistakes| TestCaseError::fail(format!("{mistakes}\n{tables}")))?;
        for job in &config.schedulers[0].jobs {
            let listed = list.jobs.iter().find(|listed| listed.name == job.name);
            prop_assert!(listed.is_some(), "{} in {tables}", job.name);
            prop_assert_eq!(job.timezone.iana_name(), Some("Europe/Berlin"));
        }
    }
}

/// Two days of a loop with an hourly and a daily job; the daily one is late by a day at the end.
fn log() -> String {
    let mut log = String::new();
    for minute in 0..2 * 1440 {
        let (day, hour, minute) = (24 + minute / 1440, minute / 60 % 24, minute % 60);
        let time = format!("2026-11-{day}T{hour:02}:{minute:02}:02.000Z");
        let shown = format!("2026-11-{day} {hour:02}:{minute:02}:02");
        let line = match (hour, minute) {
            // The line tells when the job began, and is written when it ends.
            (3, 10) if day == 24 => continue,
            (3, 11) if day == 24 => {
                "  2026-11-24 03:10:02 Running ['artisan' tidy:up] ....... 1m DONE".to_owned()
            }
            (_, 20) => format!("  {shown} Running ['artisan' mail:send] ..... 120ms DONE"),
            _ => "   INFO  No scheduled commands are ready to run.  ".to_owned(),
        };
        let _ = writeln!(log, "{time} {line}");
    }
    log
}

const JOBS: &str = r#"
[[scheduler.job]]
name = "mail:send"
cron = "20 * * * *"

[[scheduler.job]]
name = "tidy:up"
cron = "10 3 * * *"

[[scheduler.job]]
name = "year:end"
cron = "0 0 31 12 *"

[[scheduler.job]]
name = "advent:door"
cron = "0 6 * * *"
active = [{ from = "2025-12-01", until = "2025-12-24" }]

[[scheduler.job]]
name = "beta:test"
cron = "* * * * *"
environments = ["staging"]
"#;

#[test]
fn jobs_are_listed_as_people_like_to_read_them() {
    let desk = Desk::new();
    desk.file(
        "watchdog.toml",
        &format!("{}{JOBS}", tokyo().replace("Asia/Tokyo", "UTC")),
    )
    .file("app.log", &log());
    let list = ["jobs", "list", "--log-file", "app.log"];
    insta::assert_snapshot!(desk.watchdog(&list).ok());
    // Up to Laravel 12.3 a job that is done has succeeded, which the configuration can say.
    let trusted = tokyo().replace("Asia/Tokyo", "UTC") + "done_means_success = true\n" + JOBS;
    desk.file("watchdog.toml", &trusted);
    let json = desk
        .watchdog(&["jobs", "list", "--log-file", "app.log", "--format", "json"])
        .ok();
    insta::assert_snapshot!("jobs-as-json", json);
}

/// A run of the last five minutes is part of what the log shows, even where it shows no more.
#[test]
fn the_newest_run_is_listed() {
    let desk = Desk::new();
    let log = "\
2026-11-24T03:20:02.000Z   2026-11-24 03:20:02 Running ['artisan' mail:send] ..... 120ms DONE
2026-11-24T03:21:02.000Z    INFO  No scheduled commands are ready to run.
";
    let config = format!("{}{JOBS}", tokyo().replace("Asia/Tokyo", "UTC"));
    desk.file("watchdog.toml", &config).file("app.log", log);
    let text = desk
        .watchdog(&["jobs", "list", "--log-file", "app.log"])
        .ok();
    let row = text.lines().find(|line| line.starts_with("mail:send"));
    assert!(
        row.is_some_and(|row| row.contains("Tue 2026-11-24 03:20 (")),
        "{text}"
    );
}

#[test]
fn a_job_of_which_the_application_says_so_has_succeeded() {
    let desk = Desk::new();
    let mut told = String::new();
    for line in log().lines() {
        told += &format!("{line}\n");
        let time = line.split(' ').next().unwrap();
        if line.contains("mail:send") {
            told += &format!("{time} [scheduler] ended '/usr/bin/php' 'artisan' mail:send\n");
        }
    }
    let config = format!("{}{JOBS}", tokyo().replace("Asia/Tokyo", "UTC"));
    desk.file("watchdog.toml", &config).file("app.log", &told);
    let list = desk
        .watchdog(&["jobs", "list", "--log-file", "app.log"])
        .ok();
    let states: Vec<bool> = ["mail:send", "tidy:up"]
        .iter()
        .map(|job| {
            let row = list.lines().find(|line| line.contains(job)).unwrap();
            row.contains("ok, succeeded")
        })
        .collect();
    assert_eq!(states, [true, false], "{list}");
}

#[test]
fn jobs_are_suggested_from_a_log() {
    let desk = Desk::new();
    desk.file("app.log", &log());
    insta::assert_snapshot!(
        desk.watchdog(&["jobs", "suggest", "--logs", "app.log"])
            .ok()
    );
    let wrong = [
        "jobs",
        "suggest",
        "--logs",
        "app.log",
        "--timezone",
        "Asia/Tokio",
    ];
    let said = desk.watchdog(&wrong).refused();
    assert!(said.contains("nearest valid name: `Asia/Tokyo`"), "{said}");
}

const STORE: [&str; 2] = ["--state", "state.json"];

fn silence(desk: &Desk, arguments: &[&str]) -> crate::cli::Run {
    let all: Vec<&str> = ["silence"]
        .iter()
        .chain(arguments)
        .chain(&STORE)
        .copied()
        .collect();
    desk.watchdog(&all)
}

#[test]
fn a_silence_is_added_listed_and_removed() {
    let desk = desk();
    assert_eq!(silence(&desk, &["list"]).ok(), "no silences\n");
    let said = silence(
        &desk,
        &[
            "add",
            "--for",
            "2h",
            "--reason",
            "moving \u{1b}[31mhouse",
            "--author",
            "ops",
        ],
    )
    .ok();
    let id = said.split(' ').nth(1).unwrap().to_owned();
    assert!(said.ends_with(": everything of web\n"), "{said}");
    let listed = silence(&desk, &["list"]).ok();
    for part in [
        id.as_str(),
        "web",
        "everything",
        "moving house",
        "ops",
        "1 h 59 min left",
    ] {
        assert!(listed.contains(part), "{part} in {listed}");
    }
    let unknown = silence(&desk, &["remove", "1"]).refused();
    assert_eq!(
        unknown,
        format!("there is no silence `1`; there are: {id}\n")
    );
    assert_eq!(
        silence(&desk, &["remove", &id]).ok(),
        format!("silence {id} removed: web\n")
    );
    assert_eq!(silence(&desk, &["list"]).ok(), "no silences\n");
}

#[test]
fn an_end_without_an_offset_is_refused() {
    let desk = desk();
    let text = "2026-11-30 09:00:00";
    let arguments = ["add", "--reason", "x", "--until", text];
    let refused = format!("--until `{text}` has no offset; write ");
    assert_eq!(
        silence(&desk, &arguments).refused(),
        format!("{refused}`2026-11-30T09:00:00+09:00` or `2026-11-30T09:00:00Z`\n")
    );
    assert!(!desk.path("state.json").exists(), "nothing was written");
    // The end is told by the scheduler's clock.
    let said = silence(&desk, &["add", "--reason", "x"]).ok();
    assert!(said.contains(" JST: everything of web"), "{said}");

    desk.file("watchdog.toml", CONFIG);
    assert_eq!(
        silence(&desk, &arguments).refused(),
        format!("{refused}`2026-11-30T09:00:00Z`\n")
    );
}

#[test]
fn the_next_look_honours_a_silence_of_the_same_store() {
    let desk = desk();
    desk.file("watchdog.toml", CONFIG);
    let mut log = String::new();
    for minute in 0..30 {
        let _ = writeln!(
            log,
            "2026-11-24T03:{minute:02}:02Z    INFO  No scheduled commands are ready to run.  "
        );
    }
    desk.file("app.log", &log);
    let look = |at: &str| {
        let mut arguments = vec!["check", "--log-file", "app.log", "--now", at];
        arguments.extend(STORE);
        desk.watchdog(&arguments)
    };
    assert_eq!(look("2026-11-24T03:30:00Z").code, 0);
    silence(&desk, &["add", "--reason", "moving house"]).ok();
    // The silence that was added now has not begun in the log's own time; so move it there.
    let state = std::fs::read_to_string(desk.path("state.json")).unwrap();
    let from = state.find("\"from\": \"").unwrap() + 9;
    let until = state.find("\"until\": \"").unwrap() + 10;
    let mut moved = state.clone();
    moved.replace_range(
        until..until + state[until..].find('"').unwrap(),
        "2026-11-24T09:00:00Z",
    );
    moved.replace_range(
        from..from + state[from..].find('"').unwrap(),
        "2026-11-24T03:00:00Z",
    );
    desk.file("state.json", &moved);
    let run = look("2026-11-24T04:00:00Z");
    assert_eq!(run.code, 0, "suspended is no alarm: {}", run.stdout);
    assert!(
        run.stdout
            .contains("silenced until 2026-11-24T09:00:00Z: moving house"),
        "{}",
        run.stdout
    );
    assert!(!run.stdout.contains("Subject:"), "{}", run.stdout);
}

#[test]
fn a_silence_always_has_an_end_and_a_reason() {
    let desk = desk();
    let cases: [&[&str]; 10] = [
        &["add"],
        &["add", "--reason", " "],
        &["add", "--reason", "x", "--for", "25h"],
        &["add", "--reason", "x", "--for", "0s"],
        &["add", "--reason", "x", "--for", "-1h"],
        &["add", "--reason", "x", "--for", "ever"],
        &["add", "--reason", "x", "--for", "1d"],
        &["add", "--reason", "x", "--until", "2020-01-01T00:00:00Z"],
        &["add", "--reason", "x", "--condition", "job-overdeu"],
        &["add", "--reason", "x", "--scheduler", "wep"],
    ];
    let now = regex::Regex::new(
        r"20[0-9]{2}-[0-9-]+T[0-9:]+Z, but|at 20(?:2[1-9]|[3-9][0-9])-[0-9-]+T[0-9:]+Z",
    )
    .unwrap();
    let told = cases.iter().fold(String::new(), |mut told, arguments| {
        let said = silence(&desk, arguments).refused();
        let said = now
            .replace_all(said.lines().next().unwrap_or_default(), "(a time)")
            .into_owned();
        let _ = writeln!(told, "{}\n  => {said}", arguments.join(" "));
        told
    });
    insta::assert_snapshot!(told);
    assert!(!desk.path("state.json").exists(), "nothing was written");
    let said = desk.watchdog(&["silence", "list"]).refused();
    assert!(said.contains("WATCHDOG_TABLE"), "{said}");
}
