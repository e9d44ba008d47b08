//! One job of a schedule: when it should run, which lines are its own, and what is tolerated.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use regex::Regex;

use crate::cron::{Change, Cron};
use crate::hash::short_hash;

/// A day; jobs that run less often are judged more strictly.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The grace of jobs that run up to hourly, and the least that a job is given by default.
const LEAST_GRACE: SignedDuration = SignedDuration::from_mins(5);

/// The grace of jobs that run daily or less often, and the most that a job is given by default.
const MOST_GRACE: SignedDuration = SignedDuration::from_mins(60);

/// Times of an expression that are tried for one in a window: two weeks of each minute.
const MOST_TRIES: usize = 14 * 24 * 60;

/// Days of the year fall on the same weekdays again after at most so many years.
const WEEKDAYS_REPEAT: i16 = 40;

/// Failures in a row that are too many for a job that runs more often than daily.
const FREQUENT_TOLERANCE: u32 = 3;

/// `[[scheduler.job]]`: one job of the schedule.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its normalised name, as the line reader gives it: `redis:monitor`.
    pub name: String,
    /// When it runs; at least one. A run is due when any of them matches.
    pub cron: Vec<Cron>,
    /// It repeats at this pace within each minute in which it is due (Laravel's sub-minute
    /// tasks); a divisor of a minute.
    pub every: Option<SignedDuration>,
    /// The zone of the expressions and windows.
    pub timezone: TimeZone,
    /// How late its line may be; see [`Job::grace`].
    pub grace: Option<SignedDuration>,
    /// When the job exists at all; always, if empty. Any one is enough.
    pub active: Vec<Window>,
    /// The environments in which it runs; all, if empty.
    pub environments: Vec<String>,
    /// It does not run in the scheduler's own environment.
    pub elsewhere: bool,
    /// How long one run may take.
    pub max_runtime: Option<SignedDuration>,
    /// Failures in a row that are reported; see [`Job::failure_tolerance`].
    pub failure_tolerance: Option<u32>,
    /// Which lines are its own, where its name does not tell.
    pub matcher: Option<Matcher>,
    /// Only one replica may run it at a time (Laravel's `onOneServer`).
    pub on_one_server: bool,
    /// A hash of all that decides when it is due; see [`Job::planned`].
    pub plan: u32,
}

/// Tells a job's lines from others where its name is not enough.
#[derive(Clone, Debug)]
pub enum Matcher {
    /// The line's job name, or the line, contains this text.
    Text(String),
    /// The line's job name, or the line, matches this expression.
    Pattern(Regex),
}

impl Matcher {
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Text(part) => text.contains(part.as_str()),
            Self::Pattern(pattern) => pattern.is_match(text),
        }
    }
}

/// A span in which a job exists. What is not given does not restrict; what is given must all
/// hold. Times are wall clock times in the job's zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The first day.
    pub from: Option<Date>,
    /// The last day.
    pub until: Option<Date>,
    /// From the first time of day until before the second; over midnight, if the second is
    /// earlier. Laravel's `between` compares seconds, so the run of the very minute in which it
    /// ends comes some seconds too late.
    pub between: Option<(Time, Time)>,
    /// The days of the week; all, if empty.
    pub weekdays: Vec<Weekday>,
}

fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

impl Window {
    /// All of it as a text that outlives versions of this program and of its libraries.
    fn text(&self) -> String {
        let (begin, end) = self.between.unzip();
        let days = self.weekdays.iter();
        let days: String = days
            .map(|day| day.to_monday_one_offset().to_string())
            .collect();
        [
            text(self.from),
            text(self.until),
            text(begin),
            text(end),
            days,
        ]
        .join(" ")
    }

    fn holds_on(&self, date: Date) -> bool {
        self.from.is_none_or(|from| from <= date) && self.until.is_none_or(|until| date <= until)
    }

    fn holds_at(&self, time: Time, weekday: Weekday) -> bool {
        self.between.is_none_or(|between| is_within(between, time))
            && (self.weekdays.is_empty() || self.weekdays.contains(&weekday))
    }

    /// Whether some time of an expression lies in it; else no run would ever be due in it.
    pub fn holds_any(&self, cron: &Cron) -> bool {
        let any_year = Date::constant(2000, 1, 1);
        let first = self.from.or(self.until.map(|until| until.min(any_year)));
        let first = first.unwrap_or(any_year).saturating_sub(1.day());
        cron.walls(first.at(23, 59, 59, 0))
            .take(MOST_TRIES)
            .take_while(|at| at.year() - first.year() <= WEEKDAYS_REPEAT)
            .take_while(|at| self.until.is_none_or(|until| at.date() <= until))
            .any(|at| self.holds_at(at.time(), at.weekday()))
    }

    /// Whether some moment lies in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let from = self.from.max(other.from);
        let until = earlier(self.until, other.until);
        // Without an end on one side, any week will do.
        let first = from.or(until).unwrap_or(Date::constant(2000, 1, 1));
        let week = first.series(1.day()).take(7);
        let mut days = week.filter(|day| from.is_none() || until.is_none_or(|until| *day <= until));
        let days = days.any(|day| {
            [self, other].iter().all(|window| {
                window.weekdays.is_empty() || window.weekdays.contains(&day.weekday())
            })
        });
        let hours = match (self.between, other.between) {
            // Two spans of a circle overlap where one of them holds the other's beginning.
            (Some(a), Some(b)) => is_within(a, b.0) || is_within(b, a.0),
            _ => true,
        };
        days && hours
    }
}

/// The earlier of two ends, of which none is no end.
fn earlier(a: Option<Date>, b: Option<Date>) -> Option<Date> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn is_within((from, until): (Time, Time), time: Time) -> bool {
    if from <= until {
        from <= time && time < until
    } else {
        from <= time || time < until
    }
}

impl Job {
    /// A job that runs by one expression, with every other setting at its default.
    pub fn new(name: impl Into<String>, cron: Cron, timezone: TimeZone) -> Self {
        Self {
            name: name.into(),
            cron: vec![cron],
            every: None,
            timezone,
            grace: None,
            active: Vec::new(),
            environments: Vec::new(),
            elsewhere: false,
            max_runtime: None,
            failure_tolerance: None,
            matcher: None,
            on_one_server: true,
            plan: 0,
        }
        .planned()
    }

    /// The job with the hash of when it is due, by which the state notices another schedule.
    pub fn planned(mut self) -> Self {
        let times = self.cron.iter().map(|cron| cron.expression().to_owned());
        let zone = self.timezone.iana_name().unwrap_or_default().to_owned();
        let windows = self.active.iter().map(Window::text);
        let when: Vec<String> = times.chain([zone]).chain(windows).collect();
        self.plan = short_hash(&format!("{}\n{}", when.join("\n"), self.elsewhere));
        self
    }

    /// Whether a job line is about this job. `name` is the line's normalised job name.
    pub fn owns(&self, name: &str, line: &str) -> bool {
        match &self.matcher {
            None => self.name == name,
            Some(matcher) => matcher.fits(name) || matcher.fits(line),
        }
    }

    /// The expected runs in `(after, until]`, oldest first, to the minute: repeats within a
    /// minute are one.
    pub fn runs(&self, after: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        let mut after = after;
        std::iter::from_fn(move || {
            let next = self.next_run(after, until)?;
            after = next;
            Some(next)
        })
    }

    /// The first expected run in `(after, until]`.
    pub fn next_run(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        self.next(Change::Expected, after, until)
    }

    /// The first time in `(after, until]` at which it may be started: in an hour that the clock
    /// repeats, that can be a second time.
    pub fn next_start(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        self.next(Change::Possible, after, until)
    }

    fn next(&self, change: Change, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        if self.elsewhere {
            return None;
        }
        let mut after = after;
        loop {
            let run = self.next_match(change, after, until)?;
            let at = self.timezone.to_datetime(run);
            let date = at.date();
            let held = |window: &Window| {
                window.holds_on(date) && window.holds_at(at.time(), date.weekday())
            };
            if self.active.is_empty() || self.active.iter().any(held) {
                return Some(run);
            }
            after = if self.active.iter().any(|window| window.holds_on(date)) {
                run
            } else {
                // The next window's first day may be years ahead.
                let first = (self.active.iter())
                    .filter_map(|window| window.from)
                    .filter(|from| *from > date)
                    .min()?;
                let midnight = self.timezone.to_timestamp(first.into()).ok()?;
                run.max(midnight - SignedDuration::from_nanos(1))
            };
        }
    }

    fn next_match(&self, change: Change, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        (self.cron.iter())
            .filter_map(|cron| cron.runs(&self.timezone, change, after, until).next())
            .min()
    }

    /// The last day of its last window; none if it goes on for ever.
    pub fn ends_on(&self) -> Option<Date> {
        (self.active.iter())
            .map(|window| window.until)
            .try_fold(Date::MIN, |last, until| Some(last.max(until?)))
            .filter(|_| !self.active.is_empty())
    }

    /// Whether its last window is over at `now`.
    pub fn is_over(&self, now: Timestamp) -> bool {
        let today = self.timezone.to_datetime(now).date();
        self.ends_on().is_some_and(|last| last < today)
    }

    /// The shortest time between two runs of the expressions, windows left aside.
    pub fn period(&self) -> SignedDuration {
        (self.cron.iter())
            .map(Cron::period)
            .min()
            .unwrap_or(SignedDuration::MAX)
    }

    /// How late its line may be: what is configured, else a 24th of its period between 5 and
    /// 60 minutes, which is 5 minutes up to hourly and 60 from daily on.
    pub fn grace(&self) -> SignedDuration {
        (self.grace).unwrap_or_else(|| (self.period() / 24).clamp(LEAST_GRACE, MOST_GRACE))
    }

    /// Failures in a row that are reported: what is configured, else 1 for jobs that run daily
    /// or less often, and 3 for the others.
    pub fn failure_tolerance(&self) -> u32 {
        let is_rare = self.period() >= DAY;
        (self.failure_tolerance).unwrap_or(if is_rare { 1 } else { FREQUENT_TOLERANCE })
    }

    /// How many runs each due minute stands for.
    pub fn runs_a_minute(&self) -> u32 {
        let repeats = self.every.map(|every| 60 / every.as_secs().clamp(1, 60));
        repeats.and_then(|n| u32::try_from(n).ok()).unwrap_or(1)
    }
}
