//! The words of messages: one file per language, all of them templates.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use serde_json::{Map, Value as Json};

use super::safe;
use crate::config::Language;
use crate::data::data;

/// The words of one language.
pub(super) struct Words {
    /// The language's code, by which causes and steps keep their texts.
    pub code: &'static str,
    table: Map<String, Json>,
    /// The same for templates.
    value: Value,
}

static EN: LazyLock<Words> = LazyLock::new(|| Words::new(Language::En, data!("message/en")));
static JA: LazyLock<Words> = LazyLock::new(|| Words::new(Language::Ja, data!("message/ja")));

impl Words {
    /// The words of a language.
    pub fn of(language: Language) -> &'static Self {
        match language {
            Language::En => &EN,
            Language::Ja => &JA,
        }
    }

    fn new(language: Language, table: Map<String, Json>) -> Self {
        Self {
            code: language.code(),
            value: Value::from(Serde(&table)),
            table,
        }
    }

    /// The template at a path such as `["fact", "tasks"]`.
    fn template(&self, path: &[&str]) -> Option<&str> {
        let (last, tables) = path.split_last()?;
        let table =
            (tables.iter()).try_fold(&self.table, |table, key| table.get(*key)?.as_object());
        table?.get(*last)?.as_str()
    }

    /// All of them, for templates.
    pub fn value(&self) -> Value {
        self.value.clone()
    }
}

/// Says phrases of one language about one notification.
pub(super) struct Speaker {
    words: &'static Words,
    env: Environment<'static>,
    known: Value,
}

impl Speaker {
    /// `known` is what every phrase may use; times are said in `zone`.
    pub fn new(words: &'static Words, zone: &TimeZone, known: Value) -> Self {
        let mut env = environment();
        let zone = zone.clone();
        env.add_filter("time", move |at: String| time(&at, &zone));
        env.add_filter("span", |seconds: i64| {
            span(seconds, words, Precision::Exact)
        });
        env.add_filter("about", |seconds: i64| {
            span(seconds, words, Precision::Rounded)
        });
        env.add_filter("during", |span: String| during(span, words));
        let known = context! { t => words.value(), ..known };
        Self { words, env, known }
    }

    /// The phrase at a path, with fields of its own, which go before those that are known
    /// anyway. A phrase that is missing or broken is its own path: a message with a hole is
    /// better than none.
    pub fn say(&self, path: &[&str], own: Value) -> String {
        let spoken = (self.words.template(path)).map(|template| {
            self.env
                .render_str(template, context! { ..own, ..self.known.clone() })
        });
        match spoken {
            Some(Ok(text)) => text.trim().to_owned(),
            Some(Err(_)) | None => path.join("."),
        }
    }

    /// A text that causes and steps keep in every language.
    pub fn pick<'a>(&self, texts: &'a crate::cause::Texts) -> &'a str {
        texts.get(self.words.code).map_or("", String::as_str)
    }
}

/// Templates that fail on unknown names, so that the tests find them.
pub(super) fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    // It fails only for delimiters, and these are the usual ones.
    env.set_syntax(syntax.build().unwrap_or_default());
    env.add_filter("sh", |word: String| safe::shell(&word));
    env
}

/// An instant as people read it: `2026-11-24 12:40:09 (UTC+09:00)`.
fn time(at: &str, zone: &TimeZone) -> String {
    let Ok(at) = at.parse::<Timestamp>() else {
        return at.to_owned();
    };
    let at = at.to_zoned_datetime(zone.clone());
    let offset = if at.offset().is_zero() { "" } else { "%:z" };
    at.strftime(&format!("%Y-%m-%d %H:%M:%S (UTC{offset})"))
        .to_string()
}

#[derive(Clone, Copy, PartialEq)]
enum Precision {
    /// Two units: `4 min 12 s`.
    Exact,
    /// No seconds once there are minutes: `10 min`.
    Rounded,
}

/// A length of time in the two largest units that it has.
fn span(seconds: i64, words: &Words, precision: Precision) -> String {
    const UNITS: [(&str, i64); 4] = [
        ("day", 86_400),
        ("hour", 3_600),
        ("minute", 60),
        ("second", 1),
    ];
    let word = |key| words.template(&["span", key]).unwrap_or_default();
    let mut rest = seconds.max(0);
    let mut parts = Vec::new();
    for (unit, size) in UNITS {
        let count = rest / size;
        rest %= size;
        let noise = unit == "second" && !parts.is_empty() && precision == Precision::Rounded;
        if count > 0 && !noise {
            parts.push(format!("{count}{}", word(unit)));
        }
        // The second unit is the one after the first, even if there is none of it.
        if parts.len() == 2 || (count == 0 && !parts.is_empty()) {
            break;
        }
    }
    if parts.is_empty() {
        return format!("0{}", word("second"));
    }
    parts.join(word("gap"))
}

/// The length of time that something lasts. What ends so already, such as 時間, is not given the
/// ending again.
fn during(span: String, words: &Words) -> String {
    let ending = words.template(&["span", "during"]).unwrap_or_default();
    if span.ends_with(ending) {
        span
    } else {
        span + ending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (seconds, exact, rounded, japanese) in [
            (-5, "0 s", "0 s", "0 秒"),
            (45, "45 s", "45 s", "45 秒"),
            (252, "4 min 12 s", "4 min", "4 分 12 秒"),
            (600, "10 min", "10 min", "10 分"),
            (3_600, "1 h", "1 h", "1 時間"),
            (3_630, "1 h", "1 h", "1 時間"),
            (5_400, "1 h 30 min", "1 h 30 min", "1 時間 30 分"),
            (90_000, "1 d 1 h", "1 d 1 h", "1 日 1 時間"),
        ] {
            assert_eq!(span(seconds, &EN, Precision::Exact), exact);
            assert_eq!(span(seconds, &EN, Precision::Rounded), rounded);
            assert_eq!(span(seconds, &JA, Precision::Exact), japanese);
        }
    }

    #[test]
    fn lasting_spans() {
        for (seconds, japanese) in [
            (45, "45 秒間"),
            (600, "10 分間"),
            (3_600, "1 時間"),
            (5_400, "1 時間 30 分間"),
            (86_400, "1 日間"),
            (97_200, "1 日 3 時間"),
        ] {
            assert_eq!(
                during(span(seconds, &JA, Precision::Rounded), &JA),
                japanese
            );
            let english = span(seconds, &EN, Precision::Rounded);
            assert_eq!(during(english.clone(), &EN), english);
        }
    }

    #[test]
    fn times_name_their_offset() {
        let at = "2026-11-24T03:40:09Z";
        assert_eq!(time(at, &TimeZone::UTC), "2026-11-24 03:40:09 (UTC)");
        let tokyo = TimeZone::get("Asia/Tokyo").unwrap();
        assert_eq!(time(at, &tokyo), "2026-11-24 12:40:09 (UTC+09:00)");
    }

    #[test]
    fn languages_say_the_same_things() {
        fn paths(table: &Map<String, Json>, at: &str, out: &mut Vec<String>) {
            for (key, value) in table {
                let path = format!("{at}.{key}");
                match value.as_object() {
                    Some(table) => paths(table, &path, out),
                    // Subjects are ASCII, and so English in every language.
                    None if key == "subject" => {}
                    None => out.push(path),
                }
            }
        }
        let all = |words: &Words| {
            let mut out = Vec::new();
            paths(&words.table, "", &mut out);
            out.sort();
            out
        };
        assert_eq!(all(&EN), all(&JA));
    }
}
