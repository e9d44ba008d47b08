//! Many schedulers in one pass, against a stand-in for AWS that enforces the limits of Logs Insights
//! (tests/it/limits.rs) over HTTP, on the real clock: how long a pass takes beside what the limits
//! themselves force, how many calls it makes, and how much memory it needs.
//!
//! Run it with `cargo bench --bench fleet`; it takes some minutes, prints tables, and people judge. Each
//! measurement has a process of its own, and so has the stand-in.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use futures::stream::{FuturesUnordered, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::aws::{Aws, PassContext};
use scheduler_watchdog::config::{Config, Limits};
use scheduler_watchdog::pass;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[allow(dead_code, missing_docs, reason = "the tests use the rest of it")]
#[path = "../tests/it/limits.rs"]
mod limits;
mod table;

use limits::{Account, Quotas, Reply};

/// What one measurement is of.
#[derive(Clone, Copy)]
struct Case {
    schedulers: usize,
    /// How long a query takes, in milliseconds.
    takes: u64,
    /// All have the same log group, and else each its own.
    shared: bool,
    /// The query of one of them never ends.
    hangs: bool,
}

impl Case {
    fn arguments(self) -> [String; 4] {
        [
            self.schedulers.to_string(),
            self.takes.to_string(),
            self.shared.to_string(),
            self.hangs.to_string(),
        ]
    }

    fn of(arguments: &[String]) -> Result<Self, Box<dyn Error>> {
        let [schedulers, takes, shared, hangs, ..] = arguments else {
            return Err("a case has four arguments".into());
        };
        Ok(Self {
            schedulers: schedulers.parse()?,
            takes: takes.parse()?,
            shared: shared.parse()?,
            hangs: hangs.parse()?,
        })
    }

    fn group(self, n: usize) -> String {
        match self.shared {
            true => "/ecs/apps".to_owned(),
            false => format!("/ecs/app-{n:04}"),
        }
    }

    /// The time that the limits themselves force: so many queries, of which ten begin a second, and
    /// the last one's own time.
    fn forced(self, queries: u64) -> f64 {
        let takes = self.takes as f64 / 1e3;
        queries.saturating_sub(1) as f64 / 10.0 + takes
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((what, rest)) if what == "serve" => serve(Case::of(rest)?),
        Some((what, rest)) if what == "look" => {
            look(Case::of(rest)?, rest.last().map_or("", String::as_str))
        }
        _ => tables(),
    }
}

fn tables() -> Result<(), Box<dyn Error>> {
    let case = Case {
        schedulers: 1,
        takes: 2_000,
        shared: false,
        hangs: false,
    };
    println!("one scheduler: how soon the end of its query is seen");
    println!("query s | pass s | later | polls");
    for takes in [100, 1_000, 2_000, 5_000] {
        let case = Case { takes, ..case };
        for pass in measure(case)?.passes {
            let query = takes as f64 / 1e3;
            let later = pass.seconds - query;
            let (seconds, polls) = (pass.seconds, pass.polls);
            println!(
                "{query:7.1} | {seconds:6.2} | {later:3.2} s, {:.0}% | {polls}",
                100.0 * later / query
            );
        }
    }
    println!("\nmany schedulers; a query takes 2 s; first pass, then the next");
    println!(
        "schedulers | log groups | queries | pass s | forced s | ratio | polls | refused | memory MiB"
    );
    let mut alone: BTreeMap<usize, Measured> = BTreeMap::new();
    let mut rows = Vec::new();
    for (schedulers, shared) in [
        (1, false),
        (10, false),
        (100, false),
        (1_000, false),
        (1_000, true),
    ] {
        let case = Case {
            schedulers,
            shared,
            ..case
        };
        let measured = measure(case)?;
        let groups = if shared { 1 } else { schedulers };
        for pass in &measured.passes {
            let forced = case.forced(pass.queries);
            println!(
                "{schedulers:10} | {groups:10} | {:7} | {:6.2} | {forced:8.1} | {:5.2} | {:5} | {:7} | {:10.1}",
                pass.queries,
                pass.seconds,
                pass.seconds / forced,
                pass.polls,
                pass.refused,
                measured.peak_kib / 1024.0,
            );
        }
        let slowest = (measured.passes.iter()).max_by(|a, b| a.seconds.total_cmp(&b.seconds));
        if let Some(pass) = slowest
            && !shared
        {
            let forced = case.forced(pass.queries);
            let what = match schedulers {
                1 => "1 scheduler, against what the limits force".to_owned(),
                n => format!("{n} schedulers, against what the limits force"),
            };
            let (own, other) = (format!("{:.1} s", pass.seconds), format!("{forced:.1} s"));
            rows.push((what, own, other, pass.seconds / forced));
        }
        if !shared {
            alone.insert(schedulers, measured);
        }
    }
    if let (Some(few), Some(many)) = (alone.get(&1), alone.get(&1_000)) {
        println!(
            "a scheduler more: {:.1} KiB of memory, {:.1} ms of a processor a pass, {:.1} KB of state",
            (many.peak_kib - few.peak_kib) / 999.0,
            (many.cpu_seconds - few.cpu_seconds) * 1e3 / 999.0 / 2.0,
            many.state_bytes as f64 / 1e3 / 1e3,
        );
    }
    println!("\na hundred schedulers, of which the query of one never ends");
    for hangs in [false, true] {
        let measured = measure(Case {
            schedulers: 100,
            hangs,
            ..case
        })?;
        let last = measured.passes.first().map_or(f64::NAN, |pass| pass.others);
        println!("hangs: {hangs}; the others' last state is written after {last:.2} s");
    }
    for (what, own, other, ratio) in rows {
        table::row(&what, &own, &other, Some(ratio), "1.2 at most");
    }
    if let (Some(few), Some(many)) = (alone.get(&1), alone.get(&1_000)) {
        let more = format!("{:.1} KiB", (many.peak_kib - few.peak_kib) / 999.0);
        table::row(
            "memory of a scheduler more",
            &more,
            "",
            None,
            "64 KiB at most",
        );
    }
    Ok(())
}

struct Measured {
    passes: Vec<Pass>,
    peak_kib: f64,
    cpu_seconds: f64,
    state_bytes: u64,
}

struct Pass {
    seconds: f64,
    queries: u64,
    polls: u64,
    refused: u64,
    /// When the last state was written but for the one that hangs.
    others: f64,
}

/// Starts a stand-in and a process that looks at it, and waits for what that one has measured.
fn measure(case: Case) -> Result<Measured, Box<dyn Error>> {
    let own = std::env::current_exe()?;
    let mut server = Started(
        Command::new(&own)
            .arg("serve")
            .args(case.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut endpoint = String::new();
    let out = server.0.stdout.take().ok_or("no output")?;
    BufReader::new(out).read_line(&mut endpoint)?;
    let looked = Command::new(&own)
        .arg("look")
        .args(case.arguments())
        .arg(endpoint.trim())
        .stderr(Stdio::inherit())
        .output()?;
    let told: Value = serde_json::from_slice(&looked.stdout)?;
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let passes = (told["passes"].as_array().into_iter().flatten())
        .map(|pass| Pass {
            seconds: pass["seconds"].as_f64().unwrap_or(f64::NAN),
            queries: number(&pass["queries"]),
            polls: number(&pass["polls"]),
            refused: number(&pass["refused"]),
            others: pass["others"].as_f64().unwrap_or(f64::NAN),
        })
        .collect();
    Ok(Measured {
        passes,
        peak_kib: told["peak_kib"].as_f64().unwrap_or(f64::NAN),
        cpu_seconds: told["cpu_seconds"].as_f64().unwrap_or(f64::NAN),
        state_bytes: number(&told["passes"][1]["state_bytes"]),
    })
}

/// A process that ends with this.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The stand-in behind HTTP. `GET /` tells what was asked for since the last time.
fn serve(case: Case) -> Result<(), Box<dyn Error>> {
    let mut account = Account::new(Quotas::default(), Duration::from_millis(case.takes));
    for n in 0..case.schedulers {
        account.print(&case.group(n), &format!("app-{n:04}/app/0123"));
    }
    if case.hangs {
        let never = Duration::from_secs(3_600);
        account.slow.insert(case.group(3), never);
    }
    let (account, began) = (Mutex::new(account), Instant::now());
    let answer = async |request: Request<Incoming>| {
        let is_told = request.method() == Method::GET;
        let target = (request.headers().get("x-amz-target"))
            .and_then(|target| Some(target.to_str().ok()?.to_owned()));
        let body = request.into_body().collect().await?.to_bytes();
        let body = String::from_utf8_lossy(&body);
        let reply = {
            let mut account = account.lock().unwrap_or_else(PoisonError::into_inner);
            if is_told {
                let body = told(&account).to_string();
                account.calls.clear();
                Some(Reply { status: 200, body })
            } else {
                account.answer(began.elapsed(), target.as_deref(), &body)
            }
        };
        let Some(reply) = reply else {
            return std::future::pending().await;
        };
        let response = Response::builder().status(reply.status);
        Ok::<_, Box<dyn Error + Send + Sync>>(response.body(Full::<Bytes>::from(reply.body))?)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("http://{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted?;
                    let service = service_fn(&answer);
                    let connection = http1::Builder::new();
                    connections.push(connection.serve_connection(TokioIo::new(stream), service));
                }
                Some(_) = connections.next() => {}
            }
        }
    })
}

fn told(account: &Account) -> Value {
    let first = account.calls.first().map_or(Duration::ZERO, |call| call.at);
    let others = (account.calls.iter())
        .filter(|call| call.action == "PutItem" && call.of != "app-0003")
        .map(|call| call.at.saturating_sub(first).as_secs_f64())
        .fold(0.0, f64::max);
    json!({
        "queries": account.count("StartQuery"),
        "polls": account.count("GetQueryResults"),
        "refused": account.throttled(),
        "others": others,
        "state_bytes": account.state_bytes(),
    })
}

/// Two passes, as the function would make them.
fn look(case: Case, endpoint: &str) -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    for n in 0..case.schedulers {
        let group = case.group(n);
        writeln!(
            text,
            "[[scheduler]]\nname = \"app-{n:04}\"\nlog_groups = [\"{group}\"]\n\
             log_stream_prefix = \"app-{n:04}/\"\n\
             [[scheduler.job]]\nname = \"redis:monitor\"\ncron = \"*/5 * * * *\""
        )?;
    }
    let config = Config::parse(&text, "bench")?;
    drop(text);
    let credentials = Credentials::new("id", "secret", None, None, "bench");
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    let aws = Aws::new(sdk)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut passes = Vec::new();
    for _ in 0..2 {
        let began = Instant::now();
        let world = aws.world(PassContext {
            topic: Some("arn:aws:sns:us-east-1:123456789012:alerts"),
            table: Some("state"),
            deadline: Some(now() + SignedDuration::from_secs(290)),
            limits: Limits {
                running_queries: 100,
                start_queries_per_second: 10,
            },
        });
        let report = runtime.block_on(pass::run(&world, &config, &pass::Request::default()));
        let seconds = began.elapsed().as_secs_f64();
        if !report.is_complete() {
            let problem = report.schedulers.iter().find(|s| !s.problems.is_empty());
            return Err(format!("the pass is not complete: {problem:?}").into());
        }
        let mut told: Value = serde_json::from_str(&get(endpoint)?)?;
        told["seconds"] = json!(seconds);
        passes.push(told);
    }
    let measured = json!({
        "passes": passes,
        "peak_kib": peak_kib(),
        "cpu_seconds": cpu_seconds(),
    });
    println!("{measured}");
    Ok(())
}

fn get(endpoint: &str) -> Result<String, Box<dyn Error>> {
    let mut answer = ureq::get(endpoint).call()?;
    Ok(answer.body_mut().read_to_string()?)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark is about the real clock"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

/// The processor time that this process has used (Linux only, whose clock ticks 100 times a second).
fn cpu_seconds() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name before it may hold spaces; user and system time are the 14th and 15th field.
    let (_, rest) = status.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

/// The most memory that this process has held (Linux only).
fn peak_kib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
