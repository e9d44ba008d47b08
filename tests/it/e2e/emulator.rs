//! The emulator of AWS.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::aws::{ACCOUNT, Aws, REGION, agent};
use super::process::{Process, free_port};
use super::tools::Tools;

/// A running emulator with IAM enforced, for one test.
pub struct Emulator {
    pub aws: Aws,
    _process: Process,
    _home: TempDir,
}

impl Emulator {
    /// Starts one in which a schedule's minutes take so many seconds.
    pub fn start(tools: &Tools, seconds_per_minute: u32) -> Self {
        let home = TempDir::new().unwrap();
        let endpoint = format!("http://127.0.0.1:{}", free_port());
        let port = endpoint.rsplit(':').next().unwrap();
        let mut command = clean(&tools.emulator_python, home.path());
        command
            .arg(&tools.emulator)
            .env("AUTH", "true")
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port)
            // Functions find AWS by this address; the emulator hands it down to them.
            .env("AWS_ENDPOINT_URL", &endpoint)
            .env("MINISTACK_ACCOUNT_ID", ACCOUNT)
            .env("MINISTACK_REGION", REGION)
            .env(
                "EMULATOR_SECONDS_PER_MINUTE",
                seconds_per_minute.to_string(),
            )
            // A restart must not follow a deployment too closely.
            .env("EMULATOR_SERVICE_AGE_MINUTES", "120");
        let mut process = Process::start("the emulator of AWS", &mut command);
        let health = format!("{endpoint}/_ministack/health");
        process.wait_until_ready(|| {
            (agent().get(&health).call()).is_ok_and(|answer| answer.status().is_success())
        });
        Self {
            aws: Aws::new(&endpoint),
            _process: process,
            _home: home,
        }
    }
}

/// A command without the test's own environment.
pub fn clean(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(home)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home)
        .env("TMPDIR", home);
    command
}
