use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::scale::ticks;
use super::*;
use crate::config::Config;
use crate::line::LogEvent;
use crate::local::log::Entry;
use crate::local::{Builder, LocalWorld};
use crate::pass::{self, Request};
use crate::replay::{Format, Options, Schedule, read_on};

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn event(at: Timestamp, message: &str) -> Entry {
    Entry {
        event: LogEvent {
            at,
            ingested: None,
            stream: "app/app/0123".into(),
            id: None,
            message: message.to_owned(),
        },
        named: true,
        copies: true,
    }
}

/// Three hours with an outage of half an hour, and a job that is held back for an hour.
async fn story() -> Story {
    let config = r#"
[[scheduler]]
name = "web"
log_groups = ["/ecs/web"]
stale_after = "5m"
timezone = "Asia/Tokyo"

[[scheduler.job]]
name = "report:send"
cron = "*/10 * * * *"

[[scheduler.silence]]
cron = "30 14 * * *"
duration = "20m"
reason = "backup"
conditions = ["job-overdue"]
"#;
    let config = Config::parse(config, "watchdog.toml").unwrap();
    let mut builder = Builder::new(&config.schedulers);
    let from = time("2026-11-24T03:00:00Z");
    for minute in 0..180 {
        let at = from + SignedDuration::from_mins(minute);
        builder.add(event(at + SignedDuration::from_secs(31), "10.0.0.7 GET /"));
        if (40..70).contains(&minute) {
            continue;
        }
        let run = "  2026-11-24 12:00:00 Running ['artisan' report:send] ... 120ms DONE";
        let idle = "   INFO  No scheduled commands are ready to run.  ";
        let is_due = minute % 10 == 0 && !(120..170).contains(&minute);
        let message = if is_due { run } else { idle };
        builder.add(event(at + SignedDuration::from_secs(2), message));
    }
    let world = LocalWorld::new(builder.build(), None);
    let options = Options {
        from: None,
        until: None,
        every: SignedDuration::from_mins(5),
        format: Format::Html,
        all: false,
    };
    let schedule = Schedule::new(&world, &options).unwrap();
    let mut story = Story::new(&config, &schedule);
    for at in schedule.times() {
        world.set_now(at);
        let report = pass::run(&world, &config, &Request::default()).await;
        story.pass(&report, &world.take_published());
    }
    read_on(&mut story, &config, &world);
    story
}

#[tokio::test]
async fn a_small_replay_in_tables() {
    let story = story().await;
    let summary = Draft::new(&story.chapters[0], story.axis, 0, Share::of(1)).summary();
    insta::assert_json_snapshot!(summary);
}

#[tokio::test]
async fn a_page_is_of_a_bounded_size() {
    let mut story = story().await;
    let small = render(&story).unwrap();
    let chapter = &mut story.chapters[0];
    for _ in 0..10 {
        let (incidents, messages) = (chapter.incidents.clone(), chapter.messages.clone());
        chapter.incidents.extend(incidents);
        chapter.messages.extend(messages);
        let lanes = chapter.lanes.iter().take(100).cloned().collect::<Vec<_>>();
        chapter.lanes.extend(lanes);
    }
    assert!(chapter.messages.len() > 4_000);
    let chapter = story.chapters[0].clone();
    let large = render(&story).unwrap();
    story.chapters = vec![chapter; 45];
    let many = render(&story).unwrap();
    assert!(many.len() < 12_000_000, "{}", many.len());
    assert!(many.contains("5 of them are not drawn below"));
    assert!(large.len() < 4_000_000, "{}", large.len());
    assert!(small.len() < 40_000, "{}", small.len());
    for honest in ["shorter ones are not drawn", "more incidents", "more jobs"] {
        assert!(large.contains(honest), "{honest}");
    }
}

#[test]
fn lengths_of_time_have_two_units() {
    for (seconds, expected) in [
        (-1, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_605, "1 h"),
        (90_061, "1 d 1 h"),
    ] {
        assert_eq!(lasted(SignedDuration::from_secs(seconds)), expected);
    }
    assert_eq!(count(1, "pass"), "1 pass");
    assert_eq!(count(1_234_567, "pass"), "1,234,567 passes");
}

#[test]
fn ticks_are_round_times_of_the_wall_clock() {
    let labels = |from: &str, until: &str, zone: &str| {
        let axis = Axis {
            from: time(from),
            until: time(until),
        };
        let ticks = ticks(&axis, &TimeZone::get(zone).unwrap());
        let labels: Vec<String> = ticks.into_iter().map(|tick| tick.label).collect();
        labels.join(", ")
    };
    assert_eq!(
        labels("2026-11-24T03:02:00Z", "2026-11-24T03:40:00Z", "Asia/Tokyo"),
        "12:05, 12:10, 12:15, 12:20, 12:25, 12:30, 12:35, 12:40"
    );
    assert_eq!(
        labels("2025-11-30T15:00:00Z", "2025-12-31T15:00:00Z", "Asia/Tokyo"),
        "Dec 1, Dec 8, Dec 15, Dec 22, Dec 29"
    );
    assert_eq!(
        labels("2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "UTC"),
        "Jan 2025, Feb 2025, Mar 2025, Apr 2025, May 2025, Jun 2025, Jul 2025, Aug 2025, \
         Sep 2025, Oct 2025, Nov 2025, Dec 2025, Jan 2026"
    );
    // The clock is put back on the 25th.
    assert_eq!(
        labels(
            "2026-10-23T22:00:00Z",
            "2026-10-26T23:00:00Z",
            "Europe/Berlin"
        ),
        "Oct 24 00:00, Oct 24 06:00, Oct 24 12:00, Oct 24 18:00, Oct 25 00:00, Oct 25 06:00, \
         Oct 25 12:00, Oct 25 18:00, Oct 26 00:00, Oct 26 06:00, Oct 26 12:00, Oct 26 18:00, \
         Oct 27 00:00"
    );
    assert_eq!(
        labels("0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "UTC"),
        "",
        "no step is long enough"
    );
    assert_eq!(
        labels("2026-11-24T03:00:00Z", "2026-11-24T03:00:00Z", "UTC"),
        "03:00"
    );
}
