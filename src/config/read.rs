//! The document's tables → [`Config`], with every mistake and its place.

mod across;
mod jobs;
mod value;

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use toml_span::de_helpers::TableHelper;
use toml_span::{DeserError, Deserialize, Error, ErrorKind, Span, Value};

use super::{
    Alerts, Config, Cure, Ecs, EcsTarget, Endpoint, ErrorRules, Language, Limits, Mistake,
    Mistakes, Remediation, ReplicaCure, Scheduler, StaleAfter,
};
use crate::line::{PatternKind, PatternSpec, Preset};
use jobs::{JobTable, SilenceTable};
use value::{FromText, LogGroup, Name, NonEmpty, Number, Text, TopicArn};

/// Log groups that one Insights query may name (StartQuery's own limit).
const MOST_LOG_GROUPS: usize = 50;

/// Jobs of one scheduler: each takes up some of the bounded state.
const MOST_JOBS: usize = 150;

/// Reads a document. `place` turns a line and column, both from 1, into words.
pub fn document(text: &str, place: &dyn Fn(usize, usize) -> String) -> Result<Config, Mistakes> {
    let read = toml_span::parse(text)
        .map_err(DeserError::from)
        .and_then(|mut document| {
            let across = across::mistakes(&document);
            match Config::deserialize(&mut document) {
                Ok(config) if across.is_empty() => Ok(config),
                Ok(_) => Err(DeserError { errors: across }),
                Err(mut within) => {
                    within.errors.extend(across);
                    Err(within)
                }
            }
        });
    read.map_err(|errors| mistakes(text, place, errors))
}

/// `; nearest valid name: …` where one is close enough to be what was meant.
pub fn nearest(given: &str, known: &[&str]) -> String {
    match closest(given, known) {
        Some(name) => format!("; nearest valid name: `{name}`"),
        None if known.is_empty() => String::new(),
        None => format!("; valid names: {}", known.join(", ")),
    }
}

/// The name that is close enough to be what was meant.
pub fn closest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    (known.iter())
        .map(|name| (strsim::damerau_levenshtein(given, name), *name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= given.chars().count().max(3) / 2)
        .map(|(_, name)| name)
}

fn mistakes(text: &str, place: &dyn Fn(usize, usize) -> String, errors: DeserError) -> Mistakes {
    let mut found: Vec<(Span, String)> = Vec::new();
    for error in errors.errors {
        match error.kind {
            ErrorKind::UnexpectedKeys { keys, expected } => {
                let known: Vec<&str> = expected.iter().map(String::as_str).collect();
                for (key, span) in keys {
                    found.push((
                        span,
                        format!("unknown key `{key}`{}", nearest(&key, &known)),
                    ));
                }
            }
            ErrorKind::MissingField(name) => {
                found.push((error.span, format!("`{name}` is missing")));
            }
            ErrorKind::Wanted {
                expected: "an array",
                found: "table",
            } => {
                let message = "expected an array, found a table: a table that can stand there \
                     several times has double brackets, [[…]]";
                found.push((error.span, message.to_owned()));
            }
            ErrorKind::Wanted {
                expected,
                found: got,
            } => {
                found.push((error.span, format!("expected {expected}, found {got}")));
            }
            ErrorKind::OutOfRange(kind) => {
                found.push((error.span, format!("the number does not fit ({kind})")));
            }
            _ => found.push((error.span, error.to_string())),
        }
    }
    found.sort_by_key(|(span, _)| span.start);
    Mistakes(
        found
            .into_iter()
            .map(|(span, message)| {
                let (line, column) = line_and_column(text, span.start);
                Mistake {
                    place: place(line, column),
                    message,
                }
            })
            .collect(),
    )
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before: String =
        String::from_utf8_lossy(text.as_bytes().get(..offset).unwrap_or(text.as_bytes()))
            .into_owned();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}

fn custom(span: Span, message: impl Into<String>) -> Error {
    Error {
        kind: ErrorKind::Custom(message.into().into()),
        span,
        line_info: None,
    }
}

/// A table with its keys taken one by one, and the mistakes so far.
struct Reader<'de> {
    table: TableHelper<'de>,
    span: Span,
}

impl<'de> Reader<'de> {
    fn new(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let span = value.span;
        Ok(Self {
            table: TableHelper::new(value)?,
            span,
        })
    }

    fn text<T: FromText>(&mut self, key: &'static str) -> Option<T> {
        self.named(key, |table| table.optional::<Text<T>>(key))
            .map(|text| text.0)
    }

    fn required_text<T: FromText>(&mut self, key: &'static str) -> Option<T> {
        self.named(key, |table| table.required::<Text<T>>(key))
            .ok()
            .map(|text| text.0)
    }

    fn get<T: Deserialize<'de>>(&mut self, key: &'static str) -> Option<T> {
        self.table.optional(key)
    }

    /// Reads a single value, and names its key where it is of the wrong type.
    fn named<T>(&mut self, key: &str, read: impl FnOnce(&mut TableHelper<'de>) -> T) -> T {
        let before = self.table.errors.len();
        let value = read(&mut self.table);
        for error in self.table.errors.iter_mut().skip(before) {
            if let ErrorKind::Wanted { expected, found } = &error.kind {
                let expected = match *expected {
                    "u32" => "a whole number",
                    other => other,
                };
                let message = format!("`{key}`: expected {expected}, found {found}");
                error.kind = ErrorKind::Custom(message.into());
            }
        }
        value
    }

    /// A duration within bounds, both included.
    fn duration(
        &mut self,
        key: &'static str,
        least: SignedDuration,
        most: SignedDuration,
    ) -> Option<SignedDuration> {
        let value = self.named(key, |table| table.optional_s::<Text<SignedDuration>>(key))?;
        if value.value.0 < least || value.value.0 > most {
            self.mistake(
                value.span,
                format!("`{key}` must lie between {least:#} and {most:#}"),
            );
            return None;
        }
        Some(value.value.0)
    }

    /// A whole number within bounds, both included.
    fn number(&mut self, key: &'static str, least: u32, most: u32) -> Option<u32> {
        let value = self.named(key, |table| table.optional_s::<u32>(key))?;
        if value.value < least || value.value > most {
            self.mistake(
                value.span,
                format!("`{key}` must lie between {least} and {most}"),
            );
            return None;
        }
        Some(value.value)
    }

    /// A URL that is asked, and whether it may lead into a private network.
    fn endpoint(&mut self, url: &'static str, allow_private: &'static str) -> Option<Endpoint> {
        let is_given = self.table.contains(url);
        let endpoint = self.text::<Endpoint>(url);
        let allowed = self.table.optional_s::<bool>(allow_private);
        let allowed = allowed.filter(|allowed| allowed.value);
        if let Some(allowed) = &allowed
            && !is_given
        {
            self.mistake(allowed.span, format!("`{allow_private}` needs `{url}`"));
        }
        let mut endpoint = endpoint?;
        endpoint.allow_private = allowed.is_some();
        Some(endpoint)
    }

    fn mistake(&mut self, span: Span, message: impl Into<String>) {
        self.table.errors.push(custom(span, message));
    }

    /// Ends the table: unknown keys are mistakes, and `build` gives the result if there are none.
    fn finish<T>(self, build: Option<T>) -> Result<T, DeserError> {
        let span = self.span;
        self.table.finalize(None)?;
        // Reached only when nothing was recorded, so every required part is there.
        build.ok_or_else(|| DeserError::from(custom(span, "incomplete table")))
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let mut reader = Reader::new(value)?;
        let alerts: Alerts = reader.get("alerts").unwrap_or_default();
        let limits = reader.get::<GivenLimits>("limits").unwrap_or_default();
        let metrics: GivenMetrics = reader.get("metrics").unwrap_or_default();
        let mut schedulers: Vec<Scheduler> = match reader.table.take("scheduler") {
            None => {
                let span = Span::new(0, 0);
                reader.mistake(span, "there is no [[scheduler]]: nothing to watch");
                Vec::new()
            }
            Some((key, mut value)) => {
                if let Some(many) = value.as_array()
                    && many.is_empty()
                {
                    reader.mistake(key.span, "`scheduler` is empty: nothing to watch");
                }
                Vec::deserialize(&mut value).unwrap_or_else(|errors| {
                    reader.table.errors.extend(errors.errors);
                    Vec::new()
                })
            }
        };
        for scheduler in &mut schedulers {
            scheduler.remind_after = alerts.remind_after;
        }
        reader.finish(Some(Self {
            alerts,
            limits: limits.for_schedulers(schedulers.len()),
            scheduler_metrics: metrics.schedulers.unwrap_or(true),
            schedulers,
        }))
    }
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            topic_arn: None,
            language: Language::default(),
            // Who needs an address finds it in the log; mail and chat keep it for ever.
            hide_emails: true,
            remind_after: SignedDuration::from_hours(1),
            ping: None,
        }
    }
}

impl<'de> Deserialize<'de> for Alerts {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let mut reader = Reader::new(value)?;
        let default = Self::default();
        let alerts = Self {
            topic_arn: reader.text::<TopicArn>("topic_arn").map(|arn| arn.0),
            language: reader.text("language").unwrap_or(default.language),
            hide_emails: reader.get("hide_emails").unwrap_or(default.hide_emails),
            remind_after: reader
                .duration("remind_after", minutes(5), hours(24))
                .unwrap_or(default.remind_after),
            ping: reader.endpoint("ping_url", "ping_allow_private"),
        };
        reader.finish(Some(alerts))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            running_queries: 20,
            start_queries_per_second: 5,
        }
    }
}

/// `[limits]` as it stands there; what is left out depends on the number of schedulers.
#[derive(Default)]
struct GivenLimits {
    running_queries: Option<u32>,
    start_queries_per_second: Option<u32>,
}

impl GivenLimits {
    fn for_schedulers(&self, count: usize) -> Limits {
        let usual = Limits::for_schedulers(count);
        Limits {
            running_queries: (self.running_queries).map_or(usual.running_queries, |n| n as usize),
            start_queries_per_second: (self.start_queries_per_second)
                .unwrap_or(usual.start_queries_per_second),
        }
    }
}

impl<'de> Deserialize<'de> for GivenLimits {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let mut reader = Reader::new(value)?;
        let limits = Self {
            running_queries: reader.number("running_queries", 1, 100),
            start_queries_per_second: reader.number("start_queries_per_second", 1, 10),
        };
        reader.finish(Some(limits))
    }
}

/// `[metrics]`.
#[derive(Default)]
struct GivenMetrics {
    schedulers: Option<bool>,
}

impl<'de> Deserialize<'de> for GivenMetrics {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let mut reader = Reader::new(value)?;
        let metrics = Self {
            schedulers: reader.get("schedulers"),
        };
        reader.finish(Some(metrics))
    }
}

/// The preset `generic` alone.
const NO_HEARTBEAT: &str = "nothing in the log would count as a heartbeat: the preset `generic` \
    knows no such line; add a `[[scheduler.pattern]]` with kind = \"heartbeat\", \"started\" or \
    \"ended\" for a line that the scheduler prints regularly";

impl<'de> Deserialize<'de> for Scheduler {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let mut reader = Reader::new(value)?;
        let span = reader.span;
        let name = reader.required_text::<Name>("name");
        let log_groups = reader
            .table
            .required_s::<Vec<Text<LogGroup>>>("log_groups")
            .ok();
        if let Some(groups) = &log_groups
            && (groups.value.is_empty() || groups.value.len() > MOST_LOG_GROUPS)
        {
            let message = format!("`log_groups` needs 1 to {MOST_LOG_GROUPS} log groups");
            reader.mistake(groups.span, message);
        }
        let prefix = reader
            .get::<String>("log_stream_prefix")
            .unwrap_or_default();
        let (preset, preset_span) = match reader.table.optional_s::<Text<Preset>>("preset") {
            Some(preset) => (Some(preset.value.0), preset.span),
            None => (Preset::named("laravel"), span),
        };
        let has_own = reader.table.contains("pattern");
        let patterns = reader.table.optional_s::<Vec<Pattern>>("pattern");
        let preset = match (preset, patterns) {
            // Whether there would be a heartbeat among them is not known.
            (_, None) if has_own => None,
            (Some(preset), Some(patterns)) => {
                let own: Vec<PatternSpec> = patterns.value.into_iter().map(|p| p.0).collect();
                match preset.with_patterns(&own) {
                    Ok(preset) => Some(preset),
                    Err(error) => {
                        reader.mistake(patterns.span, error.to_string());
                        None
                    }
                }
            }
            (preset, _) => preset,
        };
        if preset
            .as_ref()
            .is_some_and(|preset| !preset.has_heartbeat())
        {
            reader.mistake(preset_span, NO_HEARTBEAT);
        }
        let stale_after = reader.text("stale_after").unwrap_or(StaleAfter::Auto);
        let timezone = reader.text("timezone").unwrap_or(TimeZone::UTC);
        let startup_grace = reader
            .duration("startup_grace", SignedDuration::ZERO, hours(1))
            .unwrap_or(minutes(3));
        let ecs: Option<Ecs> = reader.get("ecs");
        let health = reader.endpoint("health_url", "health_allow_private");
        let errors = reader.get("errors").unwrap_or_default();
        let environment = reader.text::<NonEmpty>("environment").map(|name| name.0);
        let by_preset = preset.as_ref().is_some_and(Preset::done_means_success);
        let done_means_success = reader.get("done_means_success").unwrap_or(by_preset);
        let raw_jobs: Vec<JobTable> = reader.get("job").unwrap_or_default();
        let raw_silences: Vec<SilenceTable> = reader.get("silence").unwrap_or_default();
        let remediation: Remediation = reader.get("remediation").unwrap_or_default();

        let jobs = raw_jobs
            .into_iter()
            .map(|job| job.of(&timezone, environment.as_deref()))
            .collect();
        let silences = raw_silences
            .into_iter()
            .map(|silence| silence.in_zone(&timezone))
            .collect();
        let built = (|| {
            Some(Self {
                name: name?.0,
                log_groups: log_groups?
                    .value
                    .into_iter()
                    .map(|group| group.0.0)
                    .collect(),
                log_stream_prefix: prefix,
                preset: preset?,
                stale_after,
                timezone,
                startup_grace,
                ecs,
                health,
                errors,
                environment,
                done_means_success,
                jobs,
                silences,
                remediation,
                remind_after: Alerts::default().remind_after,
            })
        })();
        reader.finish(built)
    }
}

impl<'de> Deserialize<'de> for Ecs {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let mut reader = Reader::new(value)?;
        let span = reader.span;
        let cluster = reader.required_text::<NonEmpty>("cluster");
        let service = reader.text::<NonEmpty>("service");
        let definition = reader.text::<NonEmpty>("task_definition");
        let container = reader.text::<NonEmpty>("container").map(|name| name.0);
        let subnets = reader.get("subnets").unwrap_or_default();
        let security_groups = reader.get("security_groups").unwrap_or_default();
        let assign_public_ip = reader.get("assign_public_ip").unwrap_or(false);
        let target = match (service, definition) {
            (Some(service), None) => Some(EcsTarget::Service(service.0)),
            (None, Some(definition)) => Some(EcsTarget::TaskDefinition {
                definition: definition.0,
                subnets,
                security_groups,
                assign_public_ip,
            }),
            _ => {
                reader.mistake(
                    span,
                    "exactly one of `service` and `task_definition` is needed",
                );
                None
            }
        };
        let built = cluster.zip(target).map(|(cluster, target)| Self {
            cluster: cluster.0,
            target,
            container,
        });
        reader.finish(built)
    }
}

impl Default for ErrorRules {
    fn default() -> Self {
        Self {
            threshold: 5,
            window: minutes(5),
            baseline_factor: 3.0,
            ignore: Vec::new(),
        }
    }
}

impl<'de> Deserialize<'de> for ErrorRules {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let mut reader = Reader::new(value)?;
        let default = Self::default();
        let key = "baseline_factor";
        let factor = match reader.named(key, |table| table.optional_s::<Number>(key)) {
            Some(factor) if !(0.0..=1000.0).contains(&factor.value.0) => {
                reader.mistake(factor.span, format!("`{key}` must lie between 0 and 1000"));
                None
            }
            factor => factor.map(|factor| factor.value.0),
        };
        let rules = Self {
            threshold: reader
                .number("threshold", 0, 1_000_000)
                .unwrap_or(default.threshold),
            window: reader
                .duration("window", minutes(1), hours(1))
                .unwrap_or(default.window),
            baseline_factor: factor.unwrap_or(default.baseline_factor),
            ignore: reader.get("ignore").unwrap_or_default(),
        };
        reader.finish(Some(rules))
    }
}

impl Default for Remediation {
    fn default() -> Self {
        Self {
            action: Cure::None,
            replica_action: ReplicaCure::None,
            after: minutes(5),
            cooldown: minutes(30),
            attempts_per_incident: 2,
            attempts_per_day: 3,
            prove_within: minutes(15),
            allow_mutable_image_tag: false,
            command: ["php", "artisan", "schedule:run"]
                .map(str::to_owned)
                .to_vec(),
        }
    }
}

impl<'de> Deserialize<'de> for Remediation {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let mut reader = Reader::new(value)?;
        let default = Self::default();
        let remediation = Self {
            action: reader.text("action").unwrap_or_default(),
            replica_action: reader.text("replica_action").unwrap_or_default(),
            after: reader
                .duration("after", SignedDuration::ZERO, hours(24))
                .unwrap_or(default.after),
            cooldown: reader
                .duration("cooldown", minutes(5), hours(24))
                .unwrap_or(default.cooldown),
            attempts_per_incident: reader
                .number("attempts_per_incident", 1, 10)
                .unwrap_or(default.attempts_per_incident),
            attempts_per_day: reader
                .number("attempts_per_day", 1, 10)
                .unwrap_or(default.attempts_per_day),
            prove_within: reader
                .duration("prove_within", minutes(3), hours(2))
                .unwrap_or(default.prove_within),
            allow_mutable_image_tag: reader.get("allow_mutable_image_tag").unwrap_or(false),
            command: reader.get("command").unwrap_or(default.command),
        };
        reader.finish(Some(remediation))
    }
}

/// `[[scheduler.pattern]]`.
struct Pattern(PatternSpec);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let mut reader = Reader::new(value)?;
        let kind = reader.required_text::<PatternKind>("kind");
        let pattern = (reader.table.required_s::<Text<NonEmpty>>("pattern")).ok();
        let aborts = reader.get("aborts").unwrap_or(false);
        let spec = pattern.map(|pattern| {
            // Where the kind is wrong, the expression can be wrong all the same.
            let kind = kind.unwrap_or(PatternKind::Error);
            let spec = PatternSpec {
                aborts,
                ..PatternSpec::new(kind, pattern.value.0.0)
            };
            if let Err(error) = spec.check() {
                reader.mistake(pattern.span, error.to_string());
            }
            Self(spec)
        });
        reader.finish(spec)
    }
}

const fn minutes(n: i64) -> SignedDuration {
    SignedDuration::from_mins(n)
}

const fn hours(n: i64) -> SignedDuration {
    SignedDuration::from_hours(n)
}
