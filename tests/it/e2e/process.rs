//! Processes that end with the test, free ports, and waiting.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};

/// How many lines of a process's output a failing test shows.
const SHOWN_LINES: usize = 60;

/// Asks until there is an answer.
///
/// # Panics
/// None came before the deadline.
pub fn wait_for<T>(what: &str, deadline: Duration, ask: impl FnMut() -> Option<T>) -> T {
    poll(deadline, ask).unwrap_or_else(|| panic!("{what}: not within {deadline:?}"))
}

/// Asks until there is an answer or the deadline has come.
#[expect(
    clippy::disallowed_methods,
    reason = "the pause between two questions, and the only sleep of all tests"
)]
fn poll<T>(deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let answer = ask();
        if answer.is_some() || start.elapsed() >= deadline {
            return answer;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The time. The product's clock is the real one here, and so is the tests'.
#[expect(
    clippy::disallowed_methods,
    reason = "the function that is tested reads the real clock"
)]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A port that nobody listens on and nobody else is given: each test process takes its own
/// range, below the one from which the kernel serves outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let range = std::process::id() % 100 * 100;
    loop {
        let offset = range + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        let port = u16::try_from(20_000 + offset).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Whether a process runs: it is there, and not a zombie that waits for its parent.
pub fn is_running(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    (status.lines().find_map(|line| line.strip_prefix("State:")))
        .is_some_and(|state| !state.trim_start().starts_with(['Z', 'X']))
}

/// Ends a process without asking it.
pub fn kill(id: u32) {
    signal(id, Signal::KILL);
}

fn signal(id: u32, signal: Signal) {
    if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(id, signal);
    }
}

/// A child process that lives as long as this value.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts a command with nothing but what it is given: no inherited environment, no input.
    /// What it prints is kept.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = (command.stdin(Stdio::null()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let output = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().unwrap(), &output);
        collect(child.stderr.take().unwrap(), &output);
        Self {
            name: name.to_owned(),
            child,
            output,
        }
    }

    /// All that it has printed so far, by line.
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().unwrap().clone()
    }

    /// The ids of its own child processes, as Linux tells them.
    pub fn children(&self) -> Vec<u32> {
        let threads = format!("/proc/{}/task", self.child.id());
        (fs::read_dir(threads).unwrap().flatten())
            .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
            .flat_map(|ids| {
                ids.split_whitespace()
                    .map(|id| id.parse().unwrap())
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Waits until it is ready to be used.
    ///
    /// # Panics
    /// It is not ready in time, or has ended.
    pub fn wait_until_ready(&mut self, ready: impl Fn() -> bool) {
        let name = self.name.clone();
        wait_for(&format!("{name} is ready"), Duration::from_secs(60), || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{name} ended: {status}");
            }
            ready().then_some(())
        });
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// It does not end in time.
    pub fn wait_for_end(&mut self, deadline: Duration) -> ExitStatus {
        let name = self.name.clone();
        wait_for(&format!("{name} ends"), deadline, || {
            self.child.try_wait().unwrap()
        })
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    /// It does not end in time.
    pub fn stop(&mut self) {
        self.terminate();
        self.wait_for_end(Duration::from_secs(10));
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        signal(self.child.id(), Signal::TERM);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            let lines = self.lines();
            let from = lines.len().saturating_sub(SHOWN_LINES);
            eprintln!("--- {} printed, at last:", self.name);
            for line in &lines[from..] {
                eprintln!("{line}");
            }
        }
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Politely first: both emulators end their own children then.
        self.terminate();
        let ended = poll(Duration::from_secs(5), || {
            self.child.try_wait().ok().flatten()
        });
        if ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn collect(stream: impl Read + Send + 'static, output: &Arc<Mutex<Vec<String>>>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']).to_owned();
            if let Ok(mut output) = output.lock() {
                output.push(text);
            }
            line.clear();
        }
    });
}
