//! The page of a replay, opened in a browser.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::cli::{CONFIG, Desk};
use crate::e2e::tools;
use crate::month::{Job, Loop, at, example_config, five_jobs, span, steady_service};

/// Markup that a page must show and not be: it would end what it stands in, and then run, load
/// and complain.
const PLANTED: &str = "</title></text></svg></pre></style><script>console.error('planted ran')</script>\
                       <img src=http://planted.test/x.png onerror=console.error(1)>";

/// What a browser made of a page.
struct Seen {
    dom: String,
    console: Vec<String>,
    /// What was asked of the network, without what the browser asks for itself.
    requests: Vec<String>,
}

/// Whether a request is the browser's own, which no switch stops: its clock, its updates.
fn is_own(request: &str) -> bool {
    let place = request.split(' ').nth(1).unwrap_or_default();
    let host = place.trim_start_matches("http://").split(['/', ':']).next();
    let host = host.unwrap_or_default();
    let own = [".google.com", ".googleapis.com", ".gvt1.com"];
    !host.starts_with("fonts.") && own.iter().any(|domain| host.ends_with(domain))
}

/// Opens a page in a browser whose only way out is a listener that notes who knocks, and lets
/// nobody through.
fn open(chromium: &Path, page: &Path) -> Seen {
    const LAST: &str = "LAST";
    let profile = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let knocks = thread::spawn(move || {
        let mut requests = Vec::new();
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let patience = Some(Duration::from_secs(5));
            stream.set_read_timeout(patience).unwrap();
            let mut request = String::new();
            // Who says nothing has knocked, too.
            let _ = BufReader::new(stream).read_line(&mut request);
            if request == LAST {
                break;
            }
            requests.push(request.trim_end().to_owned());
        }
        requests
    });
    let output = Command::new(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            "--v=0",
            "--virtual-time-budget=3000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--proxy-server=127.0.0.1:{port}"))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut knock = TcpStream::connect(("127.0.0.1", port)).unwrap();
    knock.write_all(LAST.as_bytes()).unwrap();
    drop(knock);
    let mut requests = knocks.join().unwrap();
    requests.retain(|request| !is_own(request));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    Seen {
        dom: String::from_utf8(output.stdout).unwrap(),
        console: (stderr.lines())
            .filter(|line| line.contains("CONSOLE"))
            .map(str::to_owned)
            .collect(),
        requests,
    }
}

/// Three days with an outage, a job that was held back and one that failed, and markup in a
/// job's name, a silence's reason, a line and an error.
fn three_days() -> Desk {
    let mut jobs = five_jobs();
    jobs[0].held = vec![span(
        "2025-12-02T10:01:00+09:00",
        "2025-12-02T13:01:00+09:00",
    )];
    jobs[2].fails = vec![span(
        "2025-12-03T00:00:00+09:00",
        "2025-12-03T00:01:00+09:00",
    )];
    jobs.push(Job::new(PLANTED, |at| at.minute() == 30));
    jobs[5].held = vec![span(
        "2025-12-03T10:01:00+09:00",
        "2025-12-03T15:01:00+09:00",
    )];
    let mut scheduler = Loop::new("Asia/Tokyo", jobs);
    scheduler.dead = vec![span(
        "2025-12-01T20:00:30+09:00",
        "2025-12-01T21:00:00+09:00",
    )];
    let (from, until) = (
        at("2025-12-01T00:00:00+09:00"),
        at("2025-12-04T00:00:00+09:00"),
    );
    let config = format!(
        "{}\n[[scheduler.silence]]\ncron = \"0 12 2 * *\"\nduration = \"30m\"\nreason = \"{PLANTED}\"\n",
        example_config().replace(
            "[scheduler.remediation]",
            &format!(
                "[[scheduler.job]]\nname = \"{PLANTED}\"\ncron = \"30 * * * *\"\n\n[scheduler.remediation]"
            )
        )
    );
    let mut log = scheduler.log(from, until);
    for second in 10..40 {
        log.push_str(&format!(
            "{{\"logStreamName\": \"app/app/0a1b2c3d4e5f60718293a4b5c6d7e8f9\", \"timestamp\": {}, \
             \"message\": \"[2025-12-02 05:00:{second}] production.ERROR: {PLANTED} {second}\"}}\n",
            at(&format!("2025-12-02T05:00:{second}+09:00")).as_millisecond()
        ));
    }
    let desk = Desk::new();
    let deployed = steady_service("2025-11-30T00:00:00Z")
        + &steady_service("2025-12-03T03:00:00Z")
            .replace("2025-11-20T00:00:00Z", "2025-12-03T02:50:00Z")
            .replace("ecs-svc/1", PLANTED);
    desk.file("watchdog.toml", &config)
        .file("service.jsonl", &deployed)
        .file("log.jsonl", &log);
    desk
}

const REPLAY: [&str; 9] = [
    "replay",
    "--config",
    "watchdog.toml",
    "--logs",
    "log.jsonl",
    "--service",
    "service.jsonl",
    "--format",
    "html",
];

fn count(dom: &str, part: &str) -> usize {
    dom.matches(part).count()
}

#[test]
fn a_page_shows_what_happened_and_nothing_in_it_runs() {
    let Some(chromium) = tools::chromium("html") else {
        return;
    };
    let desk = three_days();
    let written = desk.watchdog(&[&REPLAY[..], &["--output", "report.html"]].concat());
    assert_eq!(written.ok(), "");
    let page = std::fs::read_to_string(desk.path("report.html")).unwrap();
    assert!(page.len() < 150_000, "{} bytes", page.len());
    let seen = open(&chromium, &desk.path("report.html"));

    assert_eq!(seen.console, Vec::<String>::new());
    assert_eq!(seen.requests, Vec::<String>::new());
    let dom = &seen.dom;
    for element in ["<script", "<img", "<link", "<iframe", "onerror=\""] {
        assert_eq!(count(dom, element), 0, "{element}");
    }
    // It is shown where it was planted: the lane, its counts, the shade, the deployment, mails.
    assert!(
        count(dom, "&lt;/svg&gt;") >= 5,
        "{}",
        count(dom, "&lt;/svg&gt;")
    );

    assert_eq!(count(dom, "class=\"row job\""), 6);
    assert_eq!(count(dom, "class=\"silence\""), 1);
    assert_eq!(count(dom, "class=\"deployment\""), 1);
    assert_eq!(count(dom, "class=\"gap\""), 1 + 1, "one, and the legend's");
    for condition in [
        "scheduler-silent",
        "job-overdue",
        "job-failing",
        "error-spike",
    ] {
        let bar = format!("<title>{condition}");
        assert!(count(dom, &bar) >= 1, "{condition}");
    }
    for (class, least) in [
        ("ran", 6),
        ("missed", 2),
        ("lost", 3),
        ("failed", 1),
        ("incident critical", 1),
        ("message bad", 4),
        ("message good", 3),
        ("restart held", 2),
    ] {
        let found = count(dom, &format!("class=\"{class}\""));
        assert!(found >= least, "{class}: {found}");
    }
    // Every link leads somewhere.
    for target in dom.split("href=\"#").skip(1) {
        let target = target.split('"').next().unwrap();
        assert_eq!(count(dom, &format!("id=\"{target}\"")), 1, "{target}");
    }
}

/// A page that is broken is noticed: otherwise the test above would prove nothing.
#[test]
fn a_browser_tells_of_scripts_and_of_what_they_load() {
    let Some(chromium) = tools::chromium("html") else {
        return;
    };
    let desk = Desk::new();
    desk.file("broken.html", &format!("<!doctype html><pre>{PLANTED}"));
    let seen = open(&chromium, &desk.path("broken.html"));
    let complaint = "planted ran";
    assert!(
        seen.console.iter().any(|line| line.contains(complaint)),
        "{:?}",
        seen.console
    );
    assert_eq!(seen.requests, ["GET http://planted.test/x.png HTTP/1.1"]);
    assert_eq!(count(&seen.dom, "<script"), 1);
}

#[test]
fn output_goes_to_a_file_that_is_whole_or_as_it_was() {
    let desk = Desk::new();
    let log = "2026-11-24T03:00:02Z app/app/1    INFO  No scheduled commands are ready to run.  \n";
    desk.file("watchdog.toml", CONFIG)
        .file("some.log", log)
        .file("broken.json", "[{\"timestamp\": 1")
        .file("kept", "before");
    let replay = ["replay", "--config", "watchdog.toml", "--logs", "some.log"];
    for format in ["text", "json", "html"] {
        let format = ["--format", format, "--all"];
        let printed = desk.watchdog(&[&replay[..], &format].concat()).ok();
        assert!(!printed.is_empty());
        let to_file = desk.watchdog(&[&replay[..], &format, &["--output", "kept"]].concat());
        assert_eq!(to_file.ok(), "");
        assert_eq!(std::fs::read_to_string(desk.path("kept")).unwrap(), printed);
    }
    desk.file("kept", "before");
    let broken = [
        "replay",
        "--config",
        "watchdog.toml",
        "--logs",
        "broken.json",
    ];
    desk.watchdog(&[&broken[..], &["--output", "kept"]].concat())
        .refused();
    assert_eq!(
        std::fs::read_to_string(desk.path("kept")).unwrap(),
        "before"
    );
    let nowhere = desk.watchdog(&[&replay[..], &["--output", "no/such/place"]].concat());
    assert!(nowhere.refused().starts_with("no/such/place: "));
    let names = std::fs::read_dir(desk.path(".")).unwrap();
    let drafts = names.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().contains(".new")
    });
    assert_eq!(drafts.count(), 0);
    let missing = std::fs::metadata(desk.path("no")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}
