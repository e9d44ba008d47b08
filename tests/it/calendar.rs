//! The calendar against an oracle that knows nothing of cron libraries: it looks at each minute.

use std::collections::BTreeSet;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;
use scheduler_watchdog::cron::Cron;
use scheduler_watchdog::job::{Job, Window};

/// One field of an expression: its text, and the values that it stands for.
#[derive(Clone, Debug)]
struct Field {
    text: String,
    values: BTreeSet<i8>,
}

impl Field {
    fn is_free(&self) -> bool {
        self.text == "*"
    }
}

/// `*`, a step, or a list of values, ranges and ranges with steps between `least` and `most`.
fn field(least: i8, most: i8) -> impl Strategy<Value = Field> {
    let any = Just(Field {
        text: "*".to_owned(),
        values: (least..=most).collect(),
    });
    let step = (1..=most).prop_map(move |step| Field {
        text: format!("*/{step}"),
        values: (least..=most).step_by(step as usize).collect(),
    });
    let part = (least..=most, least..=most, 1..=7i8).prop_map(|(a, b, step)| {
        let (from, to) = (a.min(b), a.max(b));
        match (from == to, step) {
            (true, _) => (from.to_string(), vec![from]),
            (false, 1) => (format!("{from}-{to}"), (from..=to).collect()),
            (false, step) => (
                format!("{from}-{to}/{step}"),
                (from..=to).step_by(step as usize).collect(),
            ),
        }
    });
    let list = prop::collection::vec(part, 1..4).prop_map(|parts| Field {
        text: (parts
            .iter()
            .map(|(text, _)| text.as_str())
            .collect::<Vec<_>>())
        .join(","),
        values: parts.into_iter().flat_map(|(_, values)| values).collect(),
    });
    prop_oneof![3 => any, 1 => step, 2 => list]
}

/// Months and weekdays can also be written as names.
fn named(names: &'static [&'static str], least: i8) -> impl Strategy<Value = Field> {
    let most = names.len() as i8 - 1;
    (0..=most, 0..=most).prop_map(move |(a, b)| {
        let (from, to) = (a.min(b), a.max(b));
        let text = if from == to {
            names[from as usize].to_owned()
        } else {
            format!("{}-{}", names[from as usize], names[to as usize])
        };
        Field {
            text,
            values: (from + least..=to + least).collect(),
        }
    })
}

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// Minute, hour, day of the month, month, weekday.
type Fields = [Field; 5];

fn fields() -> impl Strategy<Value = Fields> {
    (
        field(0, 59),
        field(0, 23),
        field(1, 31),
        prop_oneof![field(1, 12), named(&MONTHS, 1)],
        prop_oneof![field(0, 7), named(&WEEKDAYS, 0)],
    )
        .prop_map(|(minute, hour, day, month, weekday)| [minute, hour, day, month, weekday])
}

/// Whether the wall clock matches, as Laravel's cron library has it: the two day fields are
/// alternatives when both are restricted.
fn matches([minute, hour, day, month, weekday]: &Fields, at: DateTime) -> bool {
    let today = at.weekday().to_sunday_zero_offset();
    let on_weekday = weekday.values.contains(&today) || (today == 0 && weekday.values.contains(&7));
    let on_day = day.values.contains(&at.day());
    let day_fits = match (day.is_free(), weekday.is_free()) {
        (false, false) => on_day || on_weekday,
        _ => on_day && on_weekday,
    };
    minute.values.contains(&at.minute())
        && hour.values.contains(&at.hour())
        && month.values.contains(&at.month())
        && day_fits
}

const ZONES: [&str; 6] = [
    "UTC",
    "Asia/Tokyo",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
];

/// A moment of twenty years, often right at a clock change of the zone.
fn moment(zone: &TimeZone, minutes: i64, at_change: bool) -> Timestamp {
    let start: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
    let at = start + SignedDuration::from_mins(minutes);
    let change = zone.following(at).next().filter(|_| at_change);
    change.map_or(at, |change| {
        change.timestamp() - SignedDuration::from_hours(20)
    })
}

/// A window around a date: its first day, how many more it has, and its hours.
type Span = (i32, i32, Option<(i8, i8)>);

fn window() -> impl Strategy<Value = Span> {
    (-3..3, 0..4, prop::option::of((0..24i8, 0..24i8)))
}

fn made(windows: &[Span], around: Date) -> Vec<Window> {
    (windows.iter())
        .map(|(from, length, hours)| Window {
            from: Some(around + from.days()),
            until: Some(around + (from + length).days()),
            between: hours.map(|(a, b)| (Time::constant(a, 30, 0, 0), Time::constant(b, 0, 0, 0))),
            weekdays: Vec::new(),
        })
        .collect()
}

/// Whether a window holds at a time, said another way than the program says it.
fn holds(window: &Window, at: DateTime) -> bool {
    let (from, until) = (window.from.unwrap(), window.until.unwrap());
    let minute = |time: Time| i32::from(time.hour()) * 60 + i32::from(time.minute());
    let in_hours = window.between.is_none_or(|(first, last)| {
        let (first, last, now) = (minute(first), minute(last), minute(at.time()));
        (first..first + 24 * 60)
            .take_while(|minute| minute % (24 * 60) != last)
            .any(|minute| minute % (24 * 60) == now)
    });
    (from..=until).contains(&at.date()) && in_hours
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn expected_runs_are_the_minutes_that_match(
        crons in prop::collection::vec(fields(), 1..3),
        windows in prop::collection::vec(window(), 0..3),
        zone in prop::sample::select(&ZONES[..]),
        minutes in 0..20 * 366 * 24 * 60i64,
        at_change in any::<bool>(),
    ) {
        let zone = TimeZone::get(zone).unwrap();
        let from = moment(&zone, minutes, at_change);
        let until = from + SignedDuration::from_hours(48);
        let texts: Vec<String> = (crons.iter())
            .map(|fields| fields.each_ref().map(|field| field.text.as_str()).join(" "))
            .collect();
        let parsed: Vec<Cron> = texts.iter().filter_map(|text| Cron::parse(text).ok()).collect();
        // 31 February and the like never come, which another test is about.
        prop_assume!(parsed.len() == crons.len());
        let around = zone.to_datetime(from).date();
        let active = made(&windows, around);
        let job = Job {
            cron: parsed,
            active: active.clone(),
            ..Job::new("job", Cron::parse("* * * * *").unwrap(), zone.clone())
        };
        let runs: Vec<Timestamp> = job.runs(from, until).collect();

        let mut starts = Vec::new();
        let mut after = from;
        while let Some(start) = job.next_start(after, until) {
            starts.push(start);
            after = start;
        }

        let first = from.as_second().div_euclid(60) * 60;
        let minutes = |is_possible: bool| -> Vec<Timestamp> {
            (first..=until.as_second())
                .step_by(60)
                .filter_map(|second| Timestamp::from_second(second).ok())
                .filter(|at| *at > from && *at <= until)
                .filter(|at| {
                    let wall = zone.to_datetime(*at);
                    // A time that comes twice is expected the first time, unless it is of each hour.
                    let again = zone.to_ambiguous_timestamp(wall).earlier().unwrap() != *at;
                    let active = active.is_empty() || active.iter().any(|window| holds(window, wall));
                    let counts = |fields: &Fields| is_possible || !again || fields[1].values.len() == 24;
                    active && crons.iter().any(|fields| counts(fields) && matches(fields, wall))
                })
                .collect()
        };
        prop_assert_eq!(runs, minutes(false), "{:?} {:?}", texts, active);
        prop_assert_eq!(starts, minutes(true), "{:?} {:?}", texts, active);
    }

    #[test]
    fn overlapping_windows_are_those_that_share_a_minute(
        windows in prop::collection::vec(window(), 2),
    ) {
        let around = Date::constant(2025, 12, 10);
        let windows = made(&windows, around);
        let share = (0..12 * 24 * 60).any(|minute: i64| {
            let at = Date::constant(2025, 12, 5).to_datetime(Time::midnight())
                + SignedDuration::from_mins(minute);
            windows.iter().all(|window| holds(window, at))
        });
        // Spans over midnight count with the day that they are tested on, on either side.
        prop_assert_eq!(windows[0].overlaps(&windows[1]), share);
    }
}

/// Years may lie between two windows.
#[test]
fn the_next_window_is_found_however_far_it_is() {
    let day = |year| Date::constant(year, 3, 1);
    let window = |from: Option<i16>, until: Option<i16>| Window {
        from: from.map(day),
        until: until.map(day),
        ..Window::default()
    };
    for (active, expected) in [
        (vec![window(Some(2035), None)], Some("2035-03-01T06:00:00Z")),
        (
            vec![window(Some(2020), Some(2021)), window(Some(2035), None)],
            Some("2035-03-01T06:00:00Z"),
        ),
        (
            vec![window(Some(2037), None), window(Some(2035), Some(2036))],
            Some("2035-03-01T06:00:00Z"),
        ),
        (vec![window(Some(2020), None)], Some("2025-12-03T06:00:00Z")),
        (vec![window(Some(2020), Some(2021))], None),
        (vec![window(None, Some(2021))], None),
    ] {
        let job = Job {
            active: active.clone(),
            ..Job::new("job", Cron::parse("0 6 * * *").unwrap(), TimeZone::UTC)
        };
        let [after, until] = ["2025-12-02T06:00:00Z", "2040-01-01T00:00:00Z"]
            .map(|time| time.parse::<Timestamp>().unwrap());
        let next = job.next_run(after, until).map(|at| at.to_string());
        assert_eq!(next.as_deref(), expected, "{active:?}");
    }
}

/// A Tuesday is no Sunday.
#[test]
fn days_overlap_where_a_day_is_in_both() {
    use Weekday::{Monday, Sunday, Tuesday};
    let window = |from: Option<i8>, until: Option<i8>, weekdays: &[Weekday]| Window {
        from: from.map(|day| Date::constant(2026, 10, day)),
        until: until.map(|day| Date::constant(2026, 10, day)),
        weekdays: weekdays.to_vec(),
        ..Window::default()
    };
    let tuesday = window(Some(6), Some(6), &[]);
    for (other, expected) in [
        (window(None, None, &[Sunday]), false),
        (window(None, None, &[Sunday, Tuesday]), true),
        (window(Some(7), None, &[]), false),
        (window(None, Some(5), &[]), false),
        (window(Some(1), Some(6), &[Monday]), false),
        (window(Some(1), Some(6), &[Tuesday]), true),
    ] {
        for overlaps in [tuesday.overlaps(&other), other.overlaps(&tuesday)] {
            assert_eq!(overlaps, expected, "{other:?}");
        }
    }
    let sundays = window(Some(1), None, &[Sunday]);
    assert!(sundays.overlaps(&window(None, None, &[])));
    assert!(
        !sundays.overlaps(&window(None, Some(3), &[Sunday])),
        "the first is the 4th"
    );
    assert!(!sundays.overlaps(&window(None, None, &[Monday])));
    assert!(window(None, Some(3), &[Monday]).overlaps(&window(None, Some(1), &[Monday])));
}

#[test]
fn spans_of_hours_overlap_if_one_begins_in_the_other() {
    for (one, other, expected) in [
        ((8, 12), (10, 14), true),
        ((8, 14), (10, 12), true),
        ((8, 12), (12, 14), false),
        ((22, 2), (1, 3), true),
        ((22, 2), (23, 1), true),
        ((22, 2), (2, 22), false),
    ] {
        let [first, second] = [one, other].map(|(from, until)| Window {
            between: Some((
                Time::constant(from, 0, 0, 0),
                Time::constant(until, 0, 0, 0),
            )),
            ..Window::default()
        });
        for overlaps in [first.overlaps(&second), second.overlaps(&first)] {
            assert_eq!(overlaps, expected, "{one:?} {other:?}");
        }
    }
}

/// All that decides when a job is due is in the number by which the state notices another schedule. The
/// number itself stands in states: another one would make each job a new one.
#[test]
fn another_schedule_has_another_number() {
    let day = |day| Some(Date::constant(2025, 12, day));
    let hours = |until| Some((Time::constant(8, 0, 0, 0), Time::constant(until, 30, 0, 0)));
    let window = |from, until, between, weekdays: &[Weekday]| Window {
        from,
        until,
        between,
        weekdays: weekdays.to_vec(),
    };
    let job = |cron: &str, zone: &str, active: Vec<Window>| {
        let zone = TimeZone::get(zone).unwrap();
        let job = Job::new("job", Cron::parse(cron).unwrap(), zone);
        Job { active, ..job }.planned()
    };
    use Weekday::{Friday, Monday};
    let whole = window(day(1), day(14), hours(17), &[Monday, Friday]);
    let jobs = [
        job("0 6 * * *", "Asia/Tokyo", vec![whole.clone()]),
        job("1 6 * * *", "Asia/Tokyo", vec![whole.clone()]),
        job("0 6 * * *", "UTC", vec![whole.clone()]),
        Job {
            elsewhere: true,
            ..job("0 6 * * *", "Asia/Tokyo", vec![whole.clone()])
        }
        .planned(),
        job("0 6 * * *", "Asia/Tokyo", vec![]),
        job("0 6 * * *", "Asia/Tokyo", vec![whole.clone(), whole]),
        job(
            "0 6 * * *",
            "Asia/Tokyo",
            vec![window(day(2), day(14), hours(17), &[Monday, Friday])],
        ),
        job(
            "0 6 * * *",
            "Asia/Tokyo",
            vec![window(day(1), day(15), hours(17), &[Monday, Friday])],
        ),
        job(
            "0 6 * * *",
            "Asia/Tokyo",
            vec![window(day(1), day(14), hours(18), &[Monday, Friday])],
        ),
        job(
            "0 6 * * *",
            "Asia/Tokyo",
            vec![window(day(1), day(14), hours(17), &[Monday])],
        ),
        job(
            "0 6 * * *",
            "Asia/Tokyo",
            vec![window(day(1), None, None, &[])],
        ),
        job(
            "0 6 * * *",
            "Asia/Tokyo",
            vec![window(None, day(1), None, &[])],
        ),
    ];
    let plans: BTreeSet<u32> = jobs.iter().map(|job| job.plan).collect();
    assert_eq!(plans.len(), jobs.len());
    assert_eq!(jobs[0].plan, 2_501_523_986);
}
