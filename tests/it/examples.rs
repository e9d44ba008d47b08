//! The application side that people copy: run for real, and what it prints read by the line reader.
//!
//! Each process stands in for a container's PID 1, with pipes as its output. `php` is a script that
//! prints what Laravel really printed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::{Timestamp, ToSpan as _};
use rustix::process::geteuid;
use scheduler_watchdog::config::Config;
use scheduler_watchdog::line::{JobEvent, Kind, Line, LogEvent, Preset, read};
use serde_json::Value;
use tempfile::TempDir;

use crate::e2e::emulator::clean;
use crate::e2e::process::{Process, kill, wait_for};
use crate::e2e::tools;

/// Far more than it takes, on a busy machine, too.
const PATIENCE: Duration = Duration::from_secs(60);

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/laravel-ecs")
        .join(name)
}

fn on_path(program: &str) -> Option<PathBuf> {
    (["/usr/bin", "/bin", "/usr/local/bin"].iter())
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.exists())
}

/// The shells that there are, by the name of their program.
fn shells() -> Vec<&'static str> {
    let known = ["dash", "busybox", "bash"];
    let found: Vec<_> = (known.into_iter())
        .filter(|name| on_path(name).is_some())
        .collect();
    assert!(!found.is_empty(), "none of {known:?}");
    found
}

/// A container of a kind: a directory with its programs, which everybody may read.
struct Container {
    directory: TempDir,
}

impl Container {
    /// `shell` is what `sh` is there. `php` prints a sample, and then does what `script` says.
    fn new(shell: &str, script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), readable).unwrap();
        let container = Self { directory };
        fs::create_dir(container.path("bin")).unwrap();
        let sample = "tests/samples/laravel-12.67.0/15_subminute_everyTwentySeconds.stdout";
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join(sample);
        fs::copy(sample, container.path("output")).unwrap();
        symlink(on_path(shell).unwrap(), container.path("bin/sh")).unwrap();
        let output = container.path("output");
        container.program("php", &format!("cat {}\n{script}", output.display()));
        // A web server: it ends when it is asked to, with a code of its own.
        container.program(
            "server",
            "trap 'echo server ends >&2; kill $! 2> /dev/null; exit 3' TERM\necho server ready\n\
             tail -f /dev/null & wait",
        );
        container
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn program(&self, name: &str, script: &str) -> &Self {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// A pipe with a name: who reads from it waits until somebody writes.
    fn gate(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        path
    }

    /// A command in it, where a minute takes a second. Whoever runs the tests as root has the
    /// scheduler run by nobody.
    fn command(&self, program: &Path) -> Command {
        let mut command = clean(program, self.directory.path());
        let path = format!(
            "{}:/usr/local/bin:/usr/bin:/bin",
            self.path("bin").display()
        );
        command
            .env("PATH", path)
            .env("SCHEDULER_INTERVAL", "1")
            .env("SCHEDULER_USER", "nobody");
        command
    }

    fn start(&self, change: impl FnOnce(&mut Command)) -> Process {
        let mut command = self.command(&self.path("bin/sh"));
        command.arg(example("entrypoint.sh"));
        change(&mut command);
        Process::start("entrypoint.sh", &mut command)
    }
}

/// Who runs the scheduler.
fn user() -> &'static str {
    if geteuid().is_root() { "nobody" } else { "" }
}

fn lines(preset: &str, process: &Process) -> Vec<Line> {
    let events: Vec<LogEvent> = (process.lines().into_iter().zip(0_i64..))
        .map(|(message, at)| LogEvent {
            at: Timestamp::UNIX_EPOCH + at.milliseconds(),
            ingested: None,
            stream: "app/app/1".into(),
            id: None,
            message,
        })
        .collect();
    read(&Preset::named(preset).unwrap(), &events)
}

fn count(preset: &str, process: &Process, is: impl Fn(&Line) -> bool) -> usize {
    lines(preset, process)
        .iter()
        .filter(|line| is(line))
        .count()
}

/// Waits until the process has printed that many lines of a kind.
fn wait_for_lines(preset: &str, process: &Process, what: &str, n: usize, is: fn(&Line) -> bool) {
    wait_for(&format!("{n} × {what}"), PATIENCE, || {
        (count(preset, process, is) >= n).then_some(())
    });
}

/// Waits until it has printed a line, the `n`th that begins so; the rest of that line.
fn wait_for_text(process: &Process, begins: &str, n: usize) -> String {
    wait_for(&format!("{n} × {begins}"), PATIENCE, || {
        (process.lines().iter())
            .filter_map(|line| Some(line.strip_prefix(begins)?.to_owned()))
            .nth(n - 1)
    })
}

fn is_boot(line: &Line) -> bool {
    line.kind == Kind::Boot
}

fn is_error(line: &Line) -> bool {
    matches!(line.kind, Kind::Error { .. })
}

/// The process id that the loop printed, the `n`th time that it was started.
fn loop_id(process: &Process, n: usize) -> u32 {
    wait_for_text(process, "[INFO] Scheduler PID: ", n)
        .parse()
        .unwrap()
}

#[test]
fn a_loop_that_dies_is_started_again_and_all_of_it_is_read() {
    for shell in shells() {
        let container = Container::new(shell, "echo \"run by $(id -un)\"");
        let server = container.path("bin/server");
        let mut process = container.start(|command| {
            command.arg(server);
        });
        wait_for_text(&process, "server ready", 1);
        wait_for_lines("laravel", &process, "heartbeat", 4, Line::is_heartbeat);
        wait_for_text(&process, &format!("run by {}", user()), 2);
        assert_eq!(count("laravel", &process, is_boot), 1);
        assert_eq!(count("laravel", &process, is_error), 0);

        kill(loop_id(&process, 1));
        let told = wait_for_text(&process, "[ERROR] Scheduler loop ended with exit code ", 1);
        assert!(told.starts_with("137; it starts again in 1 s"), "{told}");
        assert!(count("laravel", &process, is_error) >= 1);
        wait_for_lines("laravel", &process, "boot", 2, is_boot);
        let before = count("laravel", &process, Line::is_heartbeat);
        let more = before + 4;
        wait_for_lines("laravel", &process, "heartbeat", more, Line::is_heartbeat);

        process.terminate();
        let status = process.wait_for_end(PATIENCE);
        assert_eq!(status.code(), Some(3), "{shell}: the server's own code");
        wait_for_text(&process, "server ends", 1);
    }
}

/// The server ends at once, the loop with the run that is under way, and what that prints at last
/// still arrives.
#[test]
fn a_stop_waits_for_the_run_that_is_under_way() {
    for shell in shells() {
        let container = Container::new(shell, "");
        let gate = container.gate("gate");
        container.program(
            "php",
            &format!(
                "printf \"  2026-11-24 03:35:13 Running ['artisan' slow:one 3] \"\n\
                 echo under way >&2\nread -r _ < {}\n\
                 echo '.................... 3s DONE'",
                gate.display()
            ),
        );
        for beside in [true, false] {
            let server = container.path("bin/server");
            let mut process = container.start(|command| {
                if beside {
                    command.arg(server);
                }
            });
            wait_for_text(&process, "under way", 1);
            process.terminate();
            if beside {
                wait_for_text(&process, "server ends", 1);
            }
            fs::write(&gate, "go on\n").unwrap();
            let status = process.wait_for_end(PATIENCE);
            assert_eq!(status.code(), Some(if beside { 3 } else { 0 }), "{shell}");
            let job = |line: &Line| {
                let ended = matches!(&line.kind, Kind::Job { name, event: JobEvent::Ended { .. }, .. } if name == "slow:one 3");
                ended && line.is_heartbeat()
            };
            wait_for("the job's line", PATIENCE, || {
                (count("laravel", &process, job) == 1).then_some(())
            });
            assert_eq!(count("laravel", &process, is_error), 0, "{shell}");
        }
    }
}

#[test]
fn a_run_that_does_not_end_is_cut_off_and_that_is_told() {
    for shell in shells() {
        let container = Container::new(shell, "");
        let gate = container.gate("gate");
        let wait = format!("echo under way\nread -r _ < {}", gate.display());
        container.program("php", &wait);
        let mut process = container.start(|command| {
            command.env("SCHEDULER_STOP_TIMEOUT", "1");
        });
        wait_for_text(&process, "under way", 1);
        process.terminate();
        assert_eq!(process.wait_for_end(PATIENCE).code(), Some(1), "{shell}");
        wait_for_text(&process, "[ERROR] Scheduler run is cut off: ", 1);
        assert_eq!(count("laravel", &process, is_error), 1);
        // Nobody kills what is left over, as the end of a container does.
        fs::write(&gate, "go on\n").unwrap();
    }
}

#[test]
fn a_run_that_fails_is_told_with_its_code_and_the_loop_goes_on() {
    let container = Container::new(shells()[0], "exit 255");
    let process = container.start(|_| {});
    wait_for_text(
        &process,
        "[ERROR] Scheduler run ended with exit code 255",
        2,
    );
    assert_eq!(count("laravel", &process, is_boot), 1);
    assert!(count("laravel", &process, is_error) >= 2);
}

/// A clock of the test's own: `date` tells it, `sleep` and the runs move it on.
fn clock(container: &Container, runs: &str) {
    let clock = container.path("clock");
    fs::write(&clock, "1010").unwrap();
    fs::set_permissions(&clock, fs::Permissions::from_mode(0o666)).unwrap();
    let clock = clock.display();
    let advance =
        format!("echo $(($(cat {clock}) + $1)) > {clock}.new && cat {clock}.new > {clock}");
    container
        .program("date", &format!("cat {clock}"))
        .program("sleep", &advance)
        .program("php", &format!("echo \"run at $(cat {clock})\"\n{runs}"));
}

/// Once in every minute, as soon as it can be: without drift, never twice in one, and at once
/// after a run that took longer.
#[test]
fn runs_begin_with_the_minute() {
    for shell in shells() {
        let container = Container::new(shell, "");
        let count = container.path("count");
        clock(
            &container,
            &format!(
                "echo run >> {0}\ncase $(grep -c . {0}) in\n\
                 2) sleep 61 ;;\n3) sleep 130 ;;\n4) sleep 59 ;;\n*) sleep 3 ;;\nesac",
                count.display()
            ),
        );
        let mut process = container.start(|command| {
            // As the one who runs the tests: the clock is a file of his.
            command
                .env("SCHEDULER_INTERVAL", "60")
                .env("SCHEDULER_USER", "");
        });
        wait_for_text(&process, "run at ", 7);
        let runs: Vec<String> = (1..=7)
            .map(|n| wait_for_text(&process, "run at ", n))
            .collect();
        // The minute of the start, 1010, is left out: it may have had its run.
        let expected = ["1020", "1080", "1141", "1271", "1330", "1380", "1440"];
        assert_eq!(runs, expected, "{shell}");
        process.stop();
    }
}

#[test]
fn a_loop_that_dies_at_once_is_started_again_more_and_more_slowly() {
    let container = Container::new(shells()[0], "");
    clock(&container, "");
    let shell = container.path("bin/sh").canonicalize().unwrap();
    fs::remove_file(container.path("bin/sh")).unwrap();
    container.program("sh", "exit 7");
    let mut command = container.command(&shell);
    command
        .arg(example("entrypoint.sh"))
        .args(["tail", "-f", "/dev/null"]);
    let mut process = Process::start("entrypoint.sh", &mut command);
    let told = "[ERROR] Scheduler loop ended with exit code 7; it starts again in ";
    let delays: Vec<String> = (1..=8).map(|n| wait_for_text(&process, told, n)).collect();
    let expected = ["1 s", "2 s", "4 s", "8 s", "16 s", "32 s", "60 s", "60 s"];
    assert_eq!(delays, expected);
    process.stop();
}

/// What `schedule:finish` prints is thrown away with the rest of a job in the background; through
/// the descriptor that SCHEDULER_LOG names it arrives, and tells how the job ended.
#[test]
fn a_job_in_the_background_reaches_the_log() {
    let script = "[ \"$SCHEDULER_LOG\" = php://fd/9 ] || exit 1\n\
                  (\n\
                  echo \"[scheduler] ended '/usr/local/bin/php' 'artisan' redis:monitor\" >&9\n\
                  echo \"[scheduler] failed '/usr/local/bin/php' 'artisan' orders:sync: exit code 3\" >&9\n\
                  ) > /dev/null 2>&1 &";
    for shell in shells() {
        let container = Container::new(shell, script);
        let process = container.start(|_| {});
        let told = |line: &Line| {
            let Kind::Job { name, event, .. } = &line.kind else {
                return None;
            };
            let exit_code = match event {
                JobEvent::Succeeded { .. } => Some(0),
                JobEvent::Failed { exit_code, .. } => *exit_code,
                _ => None,
            };
            exit_code.map(|code| (name.clone(), code, line.is_heartbeat()))
        };
        let told = wait_for("two jobs' ends", PATIENCE, || {
            let told: Vec<_> = lines("laravel", &process).iter().filter_map(told).collect();
            (told.len() >= 2).then_some(told)
        });
        let expected = [
            ("redis:monitor".to_owned(), 0, false),
            ("orders:sync".to_owned(), 3, false),
        ];
        assert_eq!(told[..2], expected, "{shell}");
        assert_eq!(count("laravel", &process, is_error), 0, "{shell}");
    }
}

/// A copy of supervisord.conf for the test's container.
fn supervisord_conf(container: &Container) -> PathBuf {
    let mut conf = fs::read_to_string(example("supervisord.conf")).unwrap();
    let own = |name: &str| container.path(name).display().to_string();
    let entrypoint = format!("{} {}", own("bin/sh"), example("entrypoint.sh").display());
    let mut replace = |old: &str, new: &str| {
        assert_eq!(conf.matches(old).count(), 1, "{old}");
        conf = conf.replace(old, new);
    };
    replace("= /usr/local/bin/entrypoint.sh", &format!("= {entrypoint}"));
    replace("= /var/www/html", &format!("= {}", own("")));
    replace(
        "= /run/supervisord.pid",
        &format!("= {}", own("supervisord.pid")),
    );
    replace(
        "= php-fpm --nodaemonize",
        &format!("= {}", own("bin/server")),
    );
    // The server of the test knows no other signal.
    replace("stopsignal = QUIT", "stopsignal = TERM");
    if !geteuid().is_root() {
        replace("user = root\n", "");
    }
    let path = container.path("supervisord.conf");
    fs::write(&path, conf).unwrap();
    path
}

#[test]
fn supervisord_starts_the_loop_again_and_stops_it_after_the_run() {
    let Some(programs) = tools::examples("supervisord") else {
        return;
    };
    let container = Container::new(shells()[0], "");
    let gate = container.gate("gate");
    let script = format!(
        "cat {}\n[ ! -e {} ] || {{ echo under way; read -r _ < {}; echo 'the last line'; }}",
        container.path("output").display(),
        container.path("slow").display(),
        gate.display()
    );
    container.program("php", &script);
    let mut command = container.command(&programs.join("supervisord"));
    command.arg("-c").arg(supervisord_conf(&container));
    let mut process = Process::start("supervisord", &mut command);
    wait_for_text(&process, "server ready", 1);
    wait_for_lines("supervisord", &process, "heartbeat", 4, Line::is_heartbeat);
    assert_eq!(count("supervisord", &process, is_error), 0);

    kill(loop_id(&process, 1));
    let died = |line: &Line| {
        matches!(line.kind, Kind::Error { aborts: true, .. })
            && line.text == "exited: scheduler (terminated by SIGKILL; not expected)"
    };
    wait_for("its death is told", PATIENCE, || {
        (count("supervisord", &process, died) == 1).then_some(())
    });
    loop_id(&process, 2);
    let more = count("supervisord", &process, Line::is_heartbeat) + 4;
    wait_for_lines(
        "supervisord",
        &process,
        "heartbeat",
        more,
        Line::is_heartbeat,
    );

    fs::write(container.path("slow"), "").unwrap();
    wait_for_text(&process, "under way", 1);
    fs::remove_file(container.path("slow")).unwrap();
    process.terminate();
    wait_for("it stops", PATIENCE, || {
        let stops = |line: &String| line.ends_with("waiting for php-fpm, scheduler to die");
        process.lines().iter().any(stops).then_some(())
    });
    fs::write(&gate, "go on\n").unwrap();
    assert!(process.wait_for_end(PATIENCE).success());
    wait_for_text(&process, "the last line", 1);
    let stopped = "stopped: scheduler (exit status 0)";
    let printed = process.lines();
    assert!(
        printed.iter().any(|line| line.ends_with(stopped)),
        "{printed:?}"
    );
}

/// Terraform itself is not at hand: that the file is well-formed, and says what matters.
#[test]
fn the_terraform_module_is_well_formed() {
    let Some(programs) = tools::examples("terraform") else {
        return;
    };
    let output = Command::new(programs.join("hcl2tojson"))
        .arg(example("scheduled-task/main.tf"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let module: Value = serde_json::from_slice(&output.stdout).unwrap();
    let named = |kind: &str, names: &[&str]| {
        let of = |value: &Value| {
            let mut value = value;
            for name in names {
                value = value.get(format!("\"{name}\""))?;
            }
            Some(value.clone())
        };
        (module[kind].as_array().unwrap().iter())
            .find_map(of)
            .unwrap_or_else(|| panic!("{kind} {names:?}"))
    };
    let target = &named("resource", &["aws_scheduler_schedule", "every_minute"])["target"][0];
    for part in ["ecs_parameters", "retry_policy", "dead_letter_config"] {
        assert!(target[part].is_array(), "{part}");
    }
    assert_eq!(named("variable", &["assign_public_ip"])["default"], false);
    assert_eq!(named("variable", &["log_retention_days"])["default"], 30);
}

/// In both languages only what knows no resources is allowed on all of them.
#[test]
fn the_scheduled_task_has_narrow_permissions() {
    for (file, anything) in [("main.tf", "[\"*\"]"), ("template.yaml", "Resource: \"*\"")] {
        let text = fs::read_to_string(example("scheduled-task").join(file)).unwrap();
        let wide: Vec<&str> = text
            .lines()
            .filter(|line| line.contains(anything))
            .collect();
        assert_eq!(wide.len(), 1, "{file}: {wide:?}");
        assert!(wide[0].contains("# knows no resources"), "{file}");
    }
}

#[test]
fn the_configurations_in_the_readme_are_valid() {
    let readme = fs::read_to_string(example("README.md")).unwrap();
    let snippets: Vec<&str> = (readme.split("```toml\n").skip(1))
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert_eq!(snippets.len(), 4);
    for snippet in snippets {
        Config::parse(snippet, "README.md").unwrap_or_else(|error| panic!("{error}\n{snippet}"));
    }
}
