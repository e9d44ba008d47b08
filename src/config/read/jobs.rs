//! `[[scheduler.job]]` and `[[scheduler.silence]]`.

use jiff::SignedDuration;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use regex::Regex;
use toml_span::{DeserError, Deserialize, Spanned, Value};

use super::value::{FromText, NonEmpty, Text, word};
use super::{Reader, custom, hours, minutes};
use crate::condition::Condition;
use crate::cron::Cron;
use crate::job::{Job, Matcher, Window};
use crate::silence::{self, Recurring};

/// The most memory that one compiled expression may take, in bytes.
const MAX_COMPILED: usize = 1 << 20;

struct Between((Time, Time));

/// A job's table; its zone may still be the scheduler's.
pub(super) struct JobTable {
    name: String,
    cron: Vec<Cron>,
    every: Option<SignedDuration>,
    timezone: Option<TimeZone>,
    grace: Option<SignedDuration>,
    active: Vec<Window>,
    environments: Vec<String>,
    max_runtime: Option<SignedDuration>,
    failure_tolerance: Option<u32>,
    matcher: Option<Matcher>,
    on_one_server: bool,
}

impl JobTable {
    pub fn of(self, zone: &TimeZone, environment: Option<&str>) -> Job {
        let here = |name: &String| environment == Some(name.as_str());
        let elsewhere = !self.environments.is_empty() && !self.environments.iter().any(here);
        Job {
            name: self.name,
            cron: self.cron,
            every: self.every,
            timezone: self.timezone.unwrap_or_else(|| zone.clone()),
            grace: self.grace,
            active: self.active,
            environments: self.environments,
            elsewhere,
            max_runtime: self.max_runtime,
            failure_tolerance: self.failure_tolerance,
            matcher: self.matcher,
            on_one_server: self.on_one_server,
            plan: 0,
        }
        .planned()
    }
}

impl<'de> Deserialize<'de> for JobTable {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let mut reader = Reader::new(value)?;
        let name = reader.required_text::<NonEmpty>("name");
        let cron: Option<OneOrMore<Cron>> = reader.table.required("cron").ok();
        let every = reader.named("every", |table| {
            table.optional_s::<Text<SignedDuration>>("every")
        });
        if let Some(every) = &every
            && !divides_a_minute(every.value.0)
        {
            let message = "`every` must divide a minute: 1s, 2s, 5s, 10s, 15s, 20s or 30s";
            reader.mistake(every.span, message);
        }
        let timezone = reader.text("timezone");
        let grace = reader.duration("grace", SignedDuration::ZERO, hours(24 * 7));
        let active: Vec<Spanned<Window>> = reader.get("active").unwrap_or_default();
        for (index, window) in active.iter().enumerate() {
            if (active[..index].iter()).any(|other| other.value.overlaps(&window.value)) {
                reader.mistake(window.span, "the window overlaps one before it");
            }
            let never =
                |cron: &OneOrMore<Cron>| !cron.0.iter().any(|cron| window.value.holds_any(cron));
            if cron.as_ref().is_some_and(never) {
                let message = "no time of `cron` lies in the window: no run would be due in it";
                reader.mistake(window.span, message);
            }
        }
        let environments = reader.get("environments").unwrap_or_default();
        let max_runtime = reader.duration("max_runtime", SignedDuration::from_secs(1), hours(24));
        let failure_tolerance = reader.number("failure_tolerance", 1, 100);
        let matcher = reader.get("match");
        let on_one_server = reader.get("on_one_server").unwrap_or(true);
        let built = name.zip(cron).map(|(name, cron)| Self {
            // Config may name the job as the log or as `schedule:list` does.
            name: crate::line::job_name(&name.0),
            cron: cron.0,
            every: every.map(|every| every.value.0),
            timezone,
            grace,
            active: active.into_iter().map(|window| window.value).collect(),
            environments,
            max_runtime,
            failure_tolerance,
            matcher,
            on_one_server,
        });
        reader.finish(built)
    }
}

fn divides_a_minute(every: SignedDuration) -> bool {
    let (seconds, rest) = (every.as_secs(), every.subsec_nanos());
    rest == 0 && (1..60).contains(&seconds) && 60 % seconds == 0
}

/// One text, or an array of some.
struct OneOrMore<T>(Vec<T>);

impl<'de, T: FromText> Deserialize<'de> for OneOrMore<T> {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let span = value.span;
        if value.as_array().is_none() {
            return Ok(Self(vec![Text::<T>::deserialize(value)?.0]));
        }
        let some = Vec::<Text<T>>::deserialize(value)?;
        if some.is_empty() {
            return Err(DeserError::from(custom(span, "must not be empty")));
        }
        Ok(Self(some.into_iter().map(|text| text.0).collect()))
    }
}

/// A text that a job's line contains, or `{ regex = "…" }`.
impl<'de> Deserialize<'de> for Matcher {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        if value.as_table().is_none() {
            return Ok(Self::Text(Text::<NonEmpty>::deserialize(value)?.0.0));
        }
        let mut reader = Reader::new(value)?;
        let pattern = reader.required_text::<Regex>("regex");
        reader.finish(pattern.map(Self::Pattern))
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let mut reader = Reader::new(value)?;
        let span = reader.span;
        let from: Option<Date> = reader.text("from");
        let until: Option<Date> = reader.text("until");
        if from.zip(until).is_some_and(|(from, until)| until < from) {
            reader.mistake(span, "the window ends before it begins");
        }
        let between = reader.text::<Between>("between").map(|between| between.0);
        let weekdays: Vec<Text<Weekday>> = reader.get("weekdays").unwrap_or_default();
        let window = Self {
            from,
            until,
            between,
            weekdays: weekdays.into_iter().map(|day| day.0).collect(),
        };
        if window == Self::default() && reader.table.errors.is_empty() {
            reader.mistake(
                span,
                "an empty window: give `from`, `until`, `between` or `weekdays`",
            );
        }
        reader.finish(Some(window))
    }
}

/// A maintenance window's table; its zone may still be the scheduler's.
pub(super) struct SilenceTable {
    cron: Cron,
    duration: SignedDuration,
    timezone: Option<TimeZone>,
    reason: String,
    conditions: Vec<Condition>,
}

impl SilenceTable {
    pub fn in_zone(self, zone: &TimeZone) -> Recurring {
        Recurring {
            cron: self.cron,
            duration: self.duration,
            timezone: self.timezone.unwrap_or_else(|| zone.clone()),
            reason: self.reason,
            conditions: self.conditions,
        }
    }
}

impl<'de> Deserialize<'de> for SilenceTable {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let mut reader = Reader::new(value)?;
        let span = reader.span;
        let cron = reader.required_text::<Cron>("cron");
        let duration = reader.duration("duration", minutes(1), silence::LONGEST);
        if duration.is_none() && reader.table.errors.is_empty() {
            reader.mistake(span, "`duration` is missing: a silence always has an end");
        }
        if let (Some(cron), Some(duration)) = (&cron, duration)
            && duration >= cron.period()
        {
            let message = "the window is not over when it begins again: it would never end";
            reader.mistake(span, message);
        }
        let timezone = reader.text("timezone");
        let reason = (reader.text::<NonEmpty>("reason"))
            .map_or_else(|| "maintenance".to_owned(), |reason| reason.0);
        let conditions: Vec<Text<Condition>> = reader.get("conditions").unwrap_or_default();
        let built = cron.zip(duration).map(|(cron, duration)| Self {
            cron,
            duration,
            timezone,
            reason: silence::shown(&reason),
            conditions: conditions.into_iter().map(|text| text.0).collect(),
        });
        reader.finish(built)
    }
}

impl FromText for Regex {
    fn from_text(text: &str) -> Result<Self, String> {
        regex::RegexBuilder::new(text)
            .size_limit(MAX_COMPILED)
            .build()
            .map_err(|error| {
                // The last line says what, the others draw where.
                let error = error.to_string();
                let what = error.lines().last().unwrap_or_default();
                let what = what.trim().trim_start_matches("error: ");
                format!("`{text}` is no regular expression: {what}")
            })
    }
}

impl FromText for Between {
    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no span of the day (HH:MM-HH:MM)");
        let (from, until) = text.split_once('-').ok_or_else(wrong)?;
        let time = |text: &str| Time::strptime("%H:%M", text.trim()).map_err(|_| wrong());
        let (from, until) = (time(from)?, time(until)?);
        if from == until {
            return Err(format!("`{text}` begins when it ends"));
        }
        Ok(Self((from, until)))
    }
}

impl FromText for Weekday {
    fn from_text(text: &str) -> Result<Self, String> {
        let words = [
            ("mon", Self::Monday),
            ("tue", Self::Tuesday),
            ("wed", Self::Wednesday),
            ("thu", Self::Thursday),
            ("fri", Self::Friday),
            ("sat", Self::Saturday),
            ("sun", Self::Sunday),
        ];
        word("weekday", &text.to_lowercase(), &words)
    }
}

impl FromText for Condition {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
    }
}
