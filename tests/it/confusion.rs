//! The confusion table: what was really printed, the cause that a person sees in it, and the
//! cause that is found. A row that finds another cause than the person's fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use scheduler_watchdog::cause::{Cause, ErrorNote, find};
use scheduler_watchdog::condition::Condition;

use crate::cause::{clues, errors, ids};

/// Samples of faults: their file (without its ending, where standard output and standard error
/// are two), and the causes that they prove. No cause means `unknown`: something else, or
/// nothing of the scheduler's own. Read from the files' names and contents, not from the finder.
const FAULTS: &[(&str, &[&str])] = &[
    (
        "errors-startup-permissions/artisan_not_found.txt",
        &["code-missing"],
    ),
    (
        "errors-startup-permissions/bootstrap_cache_not_writable.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/file_cache_not_writable_onOneServer.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/file_cache_not_writable_withoutOverlapping.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/parse_error_in_routes_console.txt",
        &["php-fatal"],
    ),
    (
        "errors-startup-permissions/php_fatal_display_vs_log_errors.txt",
        &["php-fatal"],
    ),
    (
        "errors-startup-permissions/sigkill_of_schedule_run.txt",
        &["process-killed"],
    ),
    ("errors-startup-permissions/sigterm_during_run.txt", &[]),
    (
        "errors-startup-permissions/storage_logs_not_writable_closure_exception.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/su_as_non_root_user.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/su_www-data_dev_stdout.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/su_www-data_nologin_shell.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/su_www-data_sh_log_file_absent.txt",
        &["permission-denied"],
    ),
    (
        "errors-startup-permissions/su_www-data_sh_redirect_to_root_owned_file.txt",
        &["permission-denied"],
    ),
    ("laravel-5.8.38/02_closure_exception_then_ok", &[]),
    (
        "laravel-5.8.38/07_fatal_memory_exhausted_in_closure",
        &["php-memory"],
    ),
    ("laravel-8.83.29/02_closure_exception_then_ok", &[]),
    (
        "laravel-8.83.29/07_fatal_memory_exhausted_in_closure",
        &["php-memory"],
    ),
    (
        "laravel-8.83.29/14_real_tty_skip_and_error_with_ANSI.raw",
        &["code-missing"],
    ),
    ("laravel-9.52.22/02_closure_exception_then_ok", &[]),
    (
        "laravel-9.52.22/07_fatal_memory_exhausted_in_closure",
        &["php-memory"],
    ),
    ("laravel-11.56.0/02_closure_exception_then_ok", &[]),
    (
        "laravel-11.56.0/07_fatal_memory_exhausted_in_closure",
        &["php-memory"],
    ),
    (
        "laravel-11.56.0/12_child_command_redis_down_LOG_stderr",
        &[],
    ),
    (
        "laravel-11.56.0/14_real_tty_skip_and_error_with_ANSI.raw",
        &["code-missing"],
    ),
    ("laravel-11.56.0/21_child_SIGKILLed", &[]),
    ("laravel-11.56.0/21_memory_limit_in_child", &[]),
    (
        "laravel-11.56.0/25_LOG_stderr_merged_2to1_SPLICED_LINES.txt",
        &[],
    ),
    ("laravel-12.10.0/02_closure_exception", &[]),
    ("laravel-12.67.0/02_closure_exception_then_ok", &[]),
    (
        "laravel-12.67.0/07_fatal_memory_exhausted_in_closure",
        &["php-memory"],
    ),
    (
        "laravel-12.67.0/10_redis_phpredis_close__onOneServer_cache_redis",
        &["redis-unreachable"],
    ),
    (
        "laravel-12.67.0/10_redis_phpredis_noauth__onOneServer_cache_redis",
        &["redis-auth"],
    ),
    (
        "laravel-12.67.0/10_redis_phpredis_refused__onOneServer_cache_redis",
        &["redis-unreachable"],
    ),
    (
        "laravel-12.67.0/10_redis_predis_close__onOneServer_cache_redis",
        &["redis-unreachable"],
    ),
    (
        "laravel-12.67.0/10_redis_predis_noauth__onOneServer_cache_redis",
        &["redis-auth"],
    ),
    (
        "laravel-12.67.0/10_redis_predis_refused__onOneServer_cache_redis",
        &["redis-unreachable"],
    ),
    (
        "laravel-12.67.0/10_redis_predis_wrongpass__onOneServer_cache_redis",
        &["redis-auth"],
    ),
    (
        "laravel-12.67.0/11_redis_refused__overlap_filter",
        &["redis-unreachable"],
    ),
    (
        "laravel-12.67.0/11_redis_refused__plain_tasks_unaffected",
        &[],
    ),
    (
        "laravel-12.67.0/12_child_command_redis_down_LOG_single",
        &[],
    ),
    (
        "laravel-12.67.0/12_child_command_redis_down_LOG_single.laravel.log",
        &["redis-unreachable"],
    ),
    (
        "laravel-12.67.0/12_child_command_redis_down_LOG_stderr",
        &[],
    ),
    (
        "laravel-12.67.0/13_cache_database_mysql_badpassword",
        &["database-auth"],
    ),
    (
        "laravel-12.67.0/13_cache_database_mysql_nohost",
        &["database-unreachable"],
    ),
    (
        "laravel-12.67.0/13_cache_database_mysql_refused",
        &["database-unreachable"],
    ),
    (
        "laravel-12.67.0/13_cache_database_pgsql_badpassword",
        &["database-auth"],
    ),
    (
        "laravel-12.67.0/13_cache_database_pgsql_missing_table",
        &["database-schema"],
    ),
    (
        "laravel-12.67.0/13_cache_database_pgsql_nodb",
        &["database-schema"],
    ),
    (
        "laravel-12.67.0/13_cache_database_pgsql_refused",
        &["database-unreachable"],
    ),
    (
        "laravel-12.67.0/14_real_tty_skip_and_error_with_ANSI.raw",
        &["code-missing"],
    ),
    (
        "laravel-12.67.0/26_noCollision_command_not_found",
        &["code-missing"],
    ),
    ("laravel-12.67.0/26_noCollision_command_throws", &[]),
    ("laravel-12.67.0/26_noCollision_command_throws_verbose", &[]),
];

/// How a message reaches the log.
#[derive(Clone, Copy, Debug)]
enum As {
    /// Symfony's box on standard output, below the name of a file.
    Box(&'static str),
    /// The same behind another exception.
    Behind(&'static str),
    /// Collision's form, with a class and the file below.
    Collision(&'static str, &'static str),
    /// A record of the logger, with a class and the file.
    Record(&'static str, &'static str),
    /// The same by the JSON formatter.
    Json(&'static str, &'static str),
    /// The same record as the exception behind another one.
    JsonBehind(&'static str, &'static str),
    /// The line as it is.
    Line,
    /// The same in a log router's envelope.
    Envelope,
}

impl As {
    fn print(self, text: &str) -> String {
        let boxed = |file: &str, text: &str| {
            let chunks: Vec<char> = text.chars().collect();
            let lines: String = (chunks.chunks(75))
                .map(|chunk| format!("  {:<75}  \n", chunk.iter().collect::<String>()))
                .collect();
            let edge = " ".repeat(79);
            format!("\nIn {file} line 7:\n{edge}\n{lines}{edge}\n\n")
        };
        let json = |exception: serde_json::Value, text: &str| {
            serde_json::json!({
                "message": text,
                "context": { "exception": exception },
                "level": 400,
                "level_name": "ERROR",
                "channel": "production",
                "datetime": "2026-11-24T03:39:09.531210+00:00",
                "extra": {},
            })
            .to_string()
        };
        let exception = |class: &str, file: &str, text: &str| serde_json::json!({ "class": class, "message": text, "code": 0, "file": format!("/var/www/html/{file}:7") });
        match self {
            Self::Box(file) => boxed(file, text),
            Self::Behind(file) => boxed("Kernel.php", "boom") + &boxed(file, text),
            Self::Collision(class, file) => {
                format!("\n   {class} \n\n  {text}\n\n  at vendor/{file}:7\n")
            }
            Self::Record(class, file) => format!(
                "[2026-11-24 03:39:09] production.ERROR: {text} {{\"exception\":\"[object] ({class}(code: 0): {text} at /var/www/html/{file}:7)\n[stacktrace]\n#0 {{main}}\n\"}}"
            ),
            Self::Json(class, file) => json(exception(class, file, text), text),
            Self::JsonBehind(class, file) => {
                let mut outer = exception("RuntimeException", "app/Sync.php", "boom");
                outer["previous"] = exception(class, file, text);
                json(outer, "boom")
            }
            Self::Line => text.to_owned(),
            Self::Envelope => serde_json::json!({
                "source": "stdout", "log": text, "container_id": "0a1b2c", "container_name": "app",
            })
            .to_string(),
        }
    }
}

const CONNECTOR: &str = "PhpRedisConnector.php";
const CONNECTION: &str = "PhpRedisConnection.php";
const PREDIS: &str = "AbstractConnection.php";
const PDO: &str = "Connector.php";
const QUERY: &str = "Connection.php";
const STREAM: &str = "StreamHandler.php";

/// What Redis, databases, shells, su, PHP and the logger say: known messages in their usual
/// forms, and their like that prove nothing.
const MESSAGES: &[(As, &str, &[&str])] = &[
    // Redis.
    (
        As::Box(CONNECTOR),
        "Connection refused",
        &["redis-unreachable"],
    ),
    (
        As::Box(PREDIS),
        "Connection refused [tcp://redis:6379]",
        &["redis-unreachable"],
    ),
    (
        As::Box(CONNECTOR),
        "php_network_getaddresses: getaddrinfo for redis failed: Name or service not known",
        &["redis-unreachable"],
    ),
    (
        As::Box(PREDIS),
        "php_network_getaddresses: getaddrinfo for redis failed: Name or service not known [tcp://redis:6379]",
        &["redis-unreachable"],
    ),
    (
        As::Box(CONNECTOR),
        "read error on connection to redis:6379",
        &["redis-unreachable"],
    ),
    (
        As::Box(PREDIS),
        "Error while reading line from the server. [tcp://redis:6379]",
        &["redis-unreachable"],
    ),
    (
        As::Box(CONNECTION),
        "Redis server redis:6379 went away",
        &["redis-unreachable"],
    ),
    (
        As::Box(CONNECTION),
        "LOADING Redis is loading the dataset in memory",
        &["redis-unreachable"],
    ),
    (
        As::Box(CONNECTOR),
        "NOAUTH Authentication required.",
        &["redis-auth"],
    ),
    (
        As::Box(CONNECTOR),
        "WRONGPASS invalid username-password pair or user is disabled.",
        &["redis-auth"],
    ),
    (
        As::Box(PREDIS),
        "`AUTH` failed: WRONGPASS invalid username-password pair or user is disabled. [tcp://redis:6379]",
        &["redis-auth"],
    ),
    (
        As::Box(CONNECTION),
        "READONLY You can't write against a read only replica.",
        &["redis-readonly"],
    ),
    (
        As::Box(CONNECTION),
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        &["redis-readonly"],
    ),
    (
        As::Box(CONNECTION),
        "OOM command not allowed when used memory > 'maxmemory'.",
        &["redis-memory"],
    ),
    (
        As::Box(CONNECTOR),
        "ERR max number of clients reached",
        &["too-many-connections"],
    ),
    // The same text of others.
    (As::Box("StreamSocketClient.php"), "Connection refused", &[]),
    (As::Line, "Connection refused", &[]),
    (
        As::Box("CurlFactory.php"),
        "cURL error 7: Failed to connect to api.example.com port 443: Connection refused (see https://curl.haxx.se/libcurl/c/libcurl-errors.html)",
        &[],
    ),
    (
        As::Box("SocketStream.php"),
        "php_network_getaddresses: getaddrinfo for smtp failed: Name or service not known",
        &[],
    ),
    // PostgreSQL.
    (
        As::Box(QUERY),
        "SQLSTATE[08006] [7] connection to server at \"10.0.0.1\", port 5432 failed: Connection refused",
        &["database-unreachable"],
    ),
    (
        As::Box(QUERY),
        "SQLSTATE[08006] [7] could not translate host name \"db\" to address: Name or service not known",
        &["database-unreachable"],
    ),
    (
        As::Box(QUERY),
        "SQLSTATE[08006] [7] connection to server at \"10.0.0.1\", port 5432 failed: FATAL:  password authentication failed for user \"laravel\"",
        &["database-auth"],
    ),
    (
        As::Box(QUERY),
        "SQLSTATE[08006] [7] connection to server at \"10.0.0.1\", port 5432 failed: FATAL:  database \"nope\" does not exist",
        &["database-schema"],
    ),
    (
        As::Box(QUERY),
        "SQLSTATE[08006] [7] connection to server at \"10.0.0.1\", port 5432 failed: FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
        &["too-many-connections"],
    ),
    (
        As::Box(QUERY),
        "SQLSTATE[42P01]: Undefined table: 7 ERROR:  relation \"cache_locks\" does not exist",
        &["database-schema"],
    ),
    (
        As::Box(QUERY),
        "SQLSTATE[57P01]: Admin shutdown: 7 FATAL:  terminating connection due to administrator command",
        &["database-unreachable"],
    ),
    // MySQL and MariaDB.
    (
        As::Box(QUERY),
        "SQLSTATE[HY000] [2002] Connection refused (Connection: mysql, Host: db, Port: 3306, SQL: select * from `cache`)",
        &["database-unreachable"],
    ),
    (
        As::Box(QUERY),
        "SQLSTATE[HY000] [2002] php_network_getaddresses: getaddrinfo for db failed: Name or service not known",
        &["database-unreachable"],
    ),
    (
        As::Box(QUERY),
        "SQLSTATE[HY000] [1045] Access denied for user 'laravel'@'10.0.0.7' (using password: YES)",
        &["database-auth"],
    ),
    (
        As::Box(QUERY),
        "SQLSTATE[HY000] [1044] Access denied for user 'laravel'@'%' to database 'app'",
        &["database-auth"],
    ),
    (
        As::Box(QUERY),
        "SQLSTATE[HY000] [1049] Unknown database 'nope'",
        &["database-schema"],
    ),
    (
        As::Box(QUERY),
        "SQLSTATE[HY000] [1040] Too many connections",
        &["too-many-connections"],
    ),
    (
        As::Box(QUERY),
        "SQLSTATE[42S02]: Base table or view not found: 1146 Table 'app.cache_locks' doesn't exist",
        &["database-schema"],
    ),
    (
        As::Box(QUERY),
        "SQLSTATE[HY000]: General error: 2006 MySQL server has gone away",
        &["database-unreachable"],
    ),
    (
        As::Box(PDO),
        "Connection refused",
        &["database-unreachable"],
    ),
    // A statement's own words prove nothing.
    (
        As::Box(QUERY),
        "SQLSTATE[23000]: Integrity constraint violation: 1062 Duplicate entry (Connection: mysql, SQL: insert into `errors` values ('NOAUTH Authentication required.'))",
        &[],
    ),
    (
        As::Box(QUERY),
        "SQLSTATE[40001]: Serialization failure: 1213 Deadlock found when trying to get lock",
        &[],
    ),
    // Permissions, shells, su.
    (
        As::Line,
        "sh: 1: cannot create /var/log/scheduler.log: Permission denied",
        &["permission-denied"],
    ),
    (
        As::Line,
        "bash: line 1: /var/log/scheduler.log: Permission denied",
        &["permission-denied"],
    ),
    (
        As::Line,
        "This account is currently not available.",
        &["permission-denied"],
    ),
    (
        As::Line,
        "su: user www-data does not exist or the user entry does not contain all the required fields",
        &["permission-denied"],
    ),
    (
        As::Line,
        "Password: su: Authentication failure",
        &["permission-denied"],
    ),
    (
        As::Box(STREAM),
        "The stream or file \"/var/www/html/storage/logs/laravel.log\" could not be opened in append mode: Failed to open stream: Permission denied",
        &["permission-denied"],
    ),
    (
        As::Box(STREAM),
        "The stream or file \"/var/www/html/storage/logs/laravel.log\" could not be opened in append mode: Failed to open stream: Permission denied The exception occurred while attempting to log: SQLSTATE[HY000] [2002] Connection refused",
        &["database-unreachable", "permission-denied"],
    ),
    (As::Line, "Permission denied (publickey).", &[]),
    // Code.
    (
        As::Line,
        "Could not open input file: artisan",
        &["code-missing"],
    ),
    (As::Line, "sh: 1: php: not found", &["code-missing"]),
    (
        As::Line,
        "/usr/local/bin/entrypoint.sh: line 12: php: command not found",
        &["code-missing"],
    ),
    (
        As::Line,
        "/usr/local/bin/entrypoint.sh: line 12: redis-cli: command not found",
        &[],
    ),
    (
        As::Box("console.php"),
        "Class \"App\\Jobs\\Prune\" not found",
        &["code-missing"],
    ),
    (
        As::Line,
        "PHP Fatal error:  Uncaught Error: Failed opening required '/var/www/html/vendor/autoload.php' (include_path='.') in /var/www/html/artisan:9",
        &["code-missing"],
    ),
    (
        As::Line,
        "PHP Fatal error:  Allowed memory size of 134217728 bytes exhausted (tried to allocate 2097152 bytes) in /var/www/html/routes/console.php on line 32",
        &["php-memory"],
    ),
    (
        As::Line,
        "PHP Parse error:  Unclosed '(' in /var/www/html/routes/console.php on line 1",
        &["php-fatal"],
    ),
    // Killed.
    (As::Line, "Killed", &["process-killed"]),
    // Other forms of the same.
    (
        As::Record("RedisException", CONNECTOR),
        "Connection refused",
        &["redis-unreachable"],
    ),
    (
        As::Json("RedisException", CONNECTOR),
        "Connection refused",
        &["redis-unreachable"],
    ),
    (
        As::JsonBehind("RedisException", CONNECTOR),
        "Connection refused",
        &["redis-unreachable"],
    ),
    (
        As::JsonBehind("PDOException", PDO),
        "SQLSTATE[HY000] [1045] Access denied for user 'laravel'@'10.0.0.7' (using password: YES)",
        &["database-auth"],
    ),
    (
        As::JsonBehind("GuzzleHttp\\Exception\\ConnectException", "CurlFactory.php"),
        "Connection refused",
        &[],
    ),
    (
        As::Behind(CONNECTOR),
        "Connection refused",
        &["redis-unreachable"],
    ),
    (As::Behind("CurlFactory.php"), "Connection refused", &[]),
    (
        As::Collision("RedisException", CONNECTOR),
        "Connection refused",
        &["redis-unreachable"],
    ),
    (
        As::Collision("Illuminate\\Database\\QueryException", QUERY),
        "SQLSTATE[HY000] [2002] Connection refused",
        &["database-unreachable"],
    ),
    (
        As::Collision("RuntimeException", "Sync.php"),
        "Report template not found",
        &[],
    ),
    (
        As::Envelope,
        "sh: 1: cannot create /var/log/scheduler.log: Permission denied",
        &["permission-denied"],
    ),
    (
        As::Envelope,
        "Could not open input file: artisan",
        &["code-missing"],
    ),
    // The lines that the hand-written entrypoints print.
    (
        As::Line,
        "[ERROR] Scheduler failed: SQLSTATE[HY000] [2002] Connection refused",
        &["database-unreachable"],
    ),
    (
        As::Line,
        "[ERROR] Scheduler exited with code 137",
        &["process-killed"],
    ),
    (
        As::Line,
        "[ERROR] Scheduler exited with code 255",
        &["php-fatal"],
    ),
    (
        As::Line,
        "[ERROR] Scheduler log is not writable: /var/log/scheduler.log: Permission denied",
        &["permission-denied"],
    ),
    (
        As::Line,
        "[ERROR] Scheduler failed to start",
        &["not-started"],
    ),
    (As::Line, "[ERROR] Scheduler stopped unexpectedly", &[]),
];

/// What the errors prove: that every run aborts, or, where none ended a run, that there are many.
fn judged(errors: &[ErrorNote]) -> (&'static str, Vec<Cause>) {
    let aborts = errors.iter().any(|error| error.aborts);
    let (name, condition) = match aborts {
        true => ("failing", Condition::SchedulerFailing),
        false => ("spike", Condition::ErrorSpike),
    };
    (name, find(&clues(errors, condition)))
}

/// The table, its account, and whether a row is wrong.
#[derive(Default)]
struct Table {
    text: String,
    pairs: BTreeMap<(String, String), usize>,
    wrong: Vec<String>,
}

impl Table {
    fn row(&mut self, name: &str, judged_as: &str, expected: &[&str], causes: &[Cause]) {
        let names = |ids: &[&str]| match ids {
            [] => "unknown".to_owned(),
            ids => ids.join(", "),
        };
        let (expected, found) = (names(expected), names(&ids(causes)));
        let mark = if expected == found { " " } else { "✗" };
        let _ = writeln!(self.text, "{mark} {name} ({judged_as})");
        let _ = writeln!(self.text, "    expected {expected}, found {found}");
        for evidence in causes.iter().flat_map(|cause| &cause.evidence) {
            let _ = writeln!(self.text, "    | {evidence}");
        }
        if expected != found {
            self.wrong
                .push(format!("{name}: expected {expected}, found {found}"));
        }
        *self.pairs.entry((expected, found)).or_default() += 1;
    }

    /// Expected against found, with the number of rows.
    fn account(&self) -> String {
        let mut account = format!("{:<42}{:<42}rows\n", "expected", "found");
        for ((expected, found), count) in &self.pairs {
            let _ = writeln!(account, "{expected:<42}{found:<42}{count}");
        }
        account
    }

    fn settle(self, name: &str) {
        let table = format!("{}\n{}", self.account(), self.text);
        println!("{table}");
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
        insta::assert_snapshot!(name, table);
    }
}

/// Every sample of Laravel, by the name that is used in [`FAULTS`], with its texts.
fn samples() -> BTreeMap<String, Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let mut samples: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let directory = entry.unwrap().path();
        let of = directory
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        if !(of.starts_with("laravel-") || of == "errors-startup-permissions") {
            continue;
        }
        for file in std::fs::read_dir(&directory).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let stem = (name.strip_suffix(".stdout"))
                .or_else(|| name.strip_suffix(".stderr"))
                .unwrap_or(&name);
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            samples
                .entry(format!("{of}/{stem}"))
                .or_default()
                .push(text);
        }
    }
    samples
}

fn errors_of(texts: &[String]) -> Vec<ErrorNote> {
    texts.iter().flat_map(|text| errors(text)).collect()
}

#[test]
fn every_sample_of_a_fault_has_its_cause_or_none() {
    let samples = samples();
    let mut table = Table::default();
    for (name, expected) in FAULTS {
        let texts = samples
            .get(*name)
            .unwrap_or_else(|| panic!("there is no {name}"));
        let errors = errors_of(texts);
        assert!(
            !errors.is_empty() || expected.is_empty(),
            "nothing was read from {name}"
        );
        let (judged_as, causes) = judged(&errors);
        table.row(name, judged_as, expected, &causes);
    }
    table.settle("samples");
}

#[test]
fn every_fault_that_was_captured_has_a_row() {
    let fault = |name: &str| {
        let file = name.rsplit('/').next().unwrap_or(name);
        name.starts_with("errors-")
            || ["10_", "11_", "12_", "13_", "26_"]
                .iter()
                .any(|number| file.starts_with(number))
    };
    let listed = |name: &str| FAULTS.iter().any(|(row, _)| *row == name);
    let samples = samples();
    let forgotten: Vec<&String> = (samples.keys())
        .filter(|name| fault(name) && !listed(name))
        .collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}

#[test]
fn a_healthy_sample_has_no_cause() {
    let listed = |name: &str| FAULTS.iter().any(|(row, _)| *row == name);
    let mut healthy = 0;
    for (name, texts) in samples().iter().filter(|(name, _)| !listed(name)) {
        let errors = errors_of(texts);
        for condition in [
            Condition::SchedulerFailing,
            Condition::SchedulerSilent,
            Condition::ErrorSpike,
            Condition::JobOverdue,
        ] {
            let causes = find(&clues(&errors, condition));
            assert!(causes.is_empty(), "{name}, {condition}: {causes:?}");
        }
        healthy += 1;
    }
    assert!(healthy > 60, "{healthy}");
}

#[test]
fn every_known_message_has_its_cause_and_its_like_has_none() {
    let mut table = Table::default();
    for (form, text, expected) in MESSAGES {
        let errors = errors(&form.print(text));
        let (judged_as, causes) = judged(&errors);
        table.row(&format!("{form:?} {text}"), judged_as, expected, &causes);
    }
    table.settle("messages");
}
