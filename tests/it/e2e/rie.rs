//! The bootstrap under AWS's runtime interface emulator, which gives it the same API as Lambda.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::aws::{Answer, REGION, agent, answer};
use super::emulator::clean;
use super::process::{Process, free_port, is_running, kill, wait_for};
use super::tools::Tools;

/// The name that the function is given.
pub const FUNCTION: &str = "watchdog";

/// A function that answers one event at a time.
pub struct Rie {
    process: Process,
    port: u16,
    answered: AtomicUsize,
    _home: TempDir,
}

impl Rie {
    /// Starts the function with these variables; it finds AWS at `endpoint`, as root.
    pub fn start(tools: &Tools, endpoint: &str, variables: &[(&str, &str)]) -> Self {
        let home = TempDir::new().unwrap();
        let (port, api) = (free_port(), free_port());
        let mut command = clean(&tools.rie, home.path());
        command
            .args([
                "--runtime-interface-emulator-address",
                &format!("127.0.0.1:{port}"),
            ])
            .args(["--runtime-api-address", &format!("127.0.0.1:{api}")])
            .arg(&tools.bootstrap)
            .env("AWS_LAMBDA_FUNCTION_NAME", FUNCTION)
            .env("AWS_LAMBDA_FUNCTION_TIMEOUT", "120")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_ENDPOINT_URL", endpoint)
            .env("LAMBDA_TASK_ROOT", home.path())
            .envs(variables.iter().copied());
        let mut process = Process::start("the runtime interface emulator", &mut command);
        process.wait_until_ready(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self {
            process,
            port,
            answered: AtomicUsize::new(0),
            _home: home,
        }
    }

    /// Sends an event, and returns the handler's answer, or its error.
    pub fn invoke(&self, event: &Value) -> Value {
        let answer = self.try_invoke(event).unwrap().json();
        self.answered.fetch_add(1, Ordering::Relaxed);
        answer
    }

    /// Sends an event to a function that may not live to answer it.
    pub fn try_invoke(&self, event: &Value) -> Result<Answer, ureq::Error> {
        let path = "2015-03-31/functions/function/invocations";
        let request = ureq::http::Request::post(format!("http://127.0.0.1:{}/{path}", self.port))
            .body(event.to_string().into_bytes())
            .unwrap();
        answer(&agent(), request)
    }

    /// What the function printed as JSON, oldest first: its log and its metrics.
    pub fn json_lines(&self) -> Vec<Value> {
        // Output takes another way than answers do; each call's ends with this line.
        let lines = wait_for("all output has come", Duration::from_secs(10), || {
            let lines = self.process.lines();
            let ends = lines.iter().filter(|line| line.starts_with("REPORT "));
            (ends.count() >= self.answered.load(Ordering::Relaxed)).then_some(lines)
        });
        (lines.iter())
            .filter(|line| line.starts_with('{'))
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// Ends it in the middle of what it does.
    pub fn kill(&self) {
        self.process.children().into_iter().for_each(kill);
    }

    /// Ends it, and checks that the function's own process has ended, too.
    pub fn stop(mut self) {
        let function = self.process.children();
        assert!(!function.is_empty(), "the function does not run");
        self.process.stop();
        wait_for("the function ends", Duration::from_secs(5), || {
            (function.iter().all(|id| !is_running(*id))).then_some(())
        });
    }
}
